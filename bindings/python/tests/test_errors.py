"""Bad input: an exception of the right class, which names the argument."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

import marginals as mg
from marginals import errors

DOT = mg.Model("each-query-picks-one", potential="dot")
Q, K, V = np.ones((1, 2, 3, 4)), np.ones((1, 2, 5, 4)), np.ones((1, 2, 5, 2))


@pytest.mark.parametrize(
    ("call", "error", "argument", "says"),
    [
        (lambda: mg.Model("each-query-picks-on", potential="dot"), "UnknownNameError", None, "did you mean `each-query-picks-one`"),
        (lambda: mg.Model("independent"), "RangeError", "potential", "no default"),
        (lambda: mg.Model("independent", {"geometric": {"rho": 0.1, "roh": 1}}, "dot"), "Error", None, "roh"),
        (lambda: mg.Model("independent", potential={"dot": {"scale": object()}}), "EntriesError", None, "model file"),
        (lambda: mg.Model("independent", potential={"dot": {"scale": float("nan")}}), "RangeError", "potential.dot.scale", "finite"),
        (lambda: mg.prior.Causal() * 3, "RangeError", "prior", "expected a prior"),
        (lambda: mg.Model.from_toml("structure ="), "SpecError", None, "TOML"),
        (lambda: DOT(Q, K[..., :3]).ask(mg.Entropy()), "ShapeError", "k", "expected"),
        (lambda: DOT(Q, K[:, :, :, None]).ask(mg.Entropy()), "ShapeError", "k", "4 axes"),
        (lambda: DOT(Q, K.reshape(K.shape + 40 * (1,))).ask(mg.Entropy()), "ShapeError", "k", "4 axes"),
        (lambda: DOT(Q, np.ones((1, 3, 5, 4))).ask(mg.Entropy()), "ShapeError", "k", "divisor"),
        (lambda: DOT(Q, K).ask(mg.Mean(V[:, :, 1:])), "ShapeError", "v", "expected"),
        (lambda: DOT(Q, K).ask(mg.Mean()), "MissingTensorError", "v", "values"),
        (lambda: DOT(Q).ask(mg.Entropy()), "MissingTensorError", "k", "keys"),
        (lambda: DOT(Q, K.astype(np.float32)).ask(mg.Entropy()), "EntriesError", "k", "float64"),
        (lambda: DOT(Q, K.astype(complex)).ask(mg.Entropy()), "EntriesError", "k", "complex128"),
        (lambda: DOT(Q, K.astype(int)).ask(mg.Entropy()), "EntriesError", "k", "whole numbers"),
        (lambda: DOT(Q, "keys").ask(mg.Entropy()), "EntriesError", "k", "array"),
        (lambda: DOT(Q, K).ask(mg.Entropy), "EntriesError", "questions", "Call it: `Entropy"),
        (lambda: DOT(Q, K).ask(3), "EntriesError", "questions", "3"),
        (lambda: DOT(Q, K).ask("entropie"), "UnknownNameError", "entropie", "did you mean `entropy`"),
        (lambda: DOT(Q, K).ask("top-k=0"), "RangeError", "top-k", "above 0"),
        (lambda: mg.TopK(2.5), "EntriesError", "K", "whole number"),
        (lambda: DOT(Q, K).ask("entropy", "entropy"), "RangeError", "questions", "once"),
        (lambda: DOT(Q, K).ask(mg.Mean(V), mg.ValueVariance(2 * V)), "RangeError", "v", "twice"),
        (lambda: DOT(Q, K).ask(mg.Hops()), "NotAnswerableError", "hops", "walk"),
        (lambda: DOT(Q, K, bais=V), "UnknownNameError", "bais", "did you mean `bias`"),
        (lambda: DOT(Q, np.full_like(K, np.nan)).ask(mg.Entropy(), check_nan=True), "NotANumberError", "k", "0, 0, 0, 0"),
        (lambda: mg.Model("independent", {"geometric": {"rho": 1.5}}, "dot")(Q, K).ask(mg.Entropy()), "RangeError", "geometric.rho", "1.5"),
        (lambda: mg.Model(mechanism={"hopfield": {"beta": np.ones(2)}}), "RangeError", "mechanism.hopfield.beta", "tensor"),
        (lambda: mg.Model(mechanism={"slots": {}})(inputs=Q[0]).ask(), "NotAnswerableError", None, "learned weights"),
    ],
)  # fmt: skip
def test_bad_input_is_refused_by_name(call, error, argument, says):
    with pytest.raises(getattr(errors, error), match=says) as caught:
        call()
    assert isinstance(caught.value, mg.Error) and isinstance(caught.value, ValueError)
    if argument is not None:
        assert caught.value.argument == argument
    again = pickle.loads(pickle.dumps(caught.value))
    assert (type(again), str(again), again.argument) == (
        type(caught.value),
        str(caught.value),
        caught.value.argument,
    )


def test_wrong_types_are_type_errors_too():
    with pytest.raises(TypeError, match="`k`"):
        DOT(Q, K.astype(np.float32)).ask(mg.Entropy())


def test_nan_reaches_its_own_rows_unless_it_is_refused():
    q = Q.copy()
    q[0, 1, 2, 0] = np.nan
    entropy = DOT(q, K).ask(mg.Entropy())
    assert np.isnan(entropy[0, 1, 2]) and np.isfinite(np.delete(entropy.ravel(), 5)).all()
    with pytest.raises(errors.NotANumberError, match=r"`q` holds NaN at \[0, 1, 2, 0\]"):
        DOT(q, K).ask(mg.Entropy(), check_nan=True)


def test_empty_rows_are_defined():
    mask = np.zeros((3, 5), bool)
    model = mg.Model("each-query-picks-one", "bias", "dot")
    mean, log_z, entropy, best = model(Q, K, bias=mask).ask(
        mg.Mean(V), mg.LogPartition(), mg.Entropy(), mg.Map()
    )
    assert (mean == 0).all() and (log_z == -np.inf).all() and (entropy == 0).all() and (best == -1).all()
