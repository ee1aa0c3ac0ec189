"""Models as data, and by their parts."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import tomllib

import marginals as mg

TOML = """
structure = { each-query-picks-at-most-one = { null = 0.5 } }
prior     = ["causal", { geometric = { rho = [0.1, 0.01] } }]
potential = { dot = { scale = 0.125 } }
query-offset = 2
"""


def test_parts_tables_and_toml_are_one_model():
    read = mg.Model.from_toml(TOML)
    table = tomllib.loads(TOML)
    tables = mg.Model(
        table["structure"], table["prior"], table["potential"], query_offset=table["query-offset"]
    )
    parts = mg.Model(
        structure=mg.structure.EachQueryPicksAtMostOne(null=0.5),
        prior=mg.prior.Causal() * mg.prior.Geometric(rho=[0.1, 0.01]),
        potential=mg.potential.Dot(scale=0.125),
        query_offset=2,
    )
    names = mg.Model(
        mg.structure.EachQueryPicksAtMostOne(null=0.5),
        "causal" * mg.prior.Geometric(rho=[0.1, 0.01]),
        {"dot": {"scale": np.float32(0.125)}},
        query_offset=2,
    )
    assert read == tables == parts == names
    assert tomllib.loads(read.to_toml())["potential"] == {"dot": {"scale": 0.125}}
    assert mg.Model.from_toml(read.to_toml()) == mg.Model.from_json(read.to_json()) == read
    assert read != mg.Model("independent", potential="dot")


def test_models_are_copied_and_pickled():
    model = mg.Model.from_toml(TOML)
    assert pickle.loads(pickle.dumps(model)) == copy.deepcopy(model) == model
    assert eval(repr(model), {"Model": mg.Model}) == model


def test_every_part_of_the_library_is_a_class():
    for part in mg._native.parts():
        module = getattr(mg, part["kind"])
        made = getattr(module, "".join(word.capitalize() for word in part["name"].split("-")))
        assert made.name == part["name"] and part["meaning"] in made.__doc__
        example = tomllib.loads(f"entry = {part['example']}")["entry"]
        if isinstance(example, dict) and set(example) == {part["name"]}:
            settings = {name.replace("-", "_"): value for name, value in example[part["name"]].items()}
            assert made(**settings).entry() == example


def test_numbers_may_be_arrays(nodes):
    q, k, v = nodes
    rho = np.array([0.1, 0.2, 0.3, 0.4])
    held = mg.Model("each-query-picks-one", mg.prior.Geometric(rho=rho), "dot")
    plain = mg.Model("each-query-picks-one", mg.prior.Geometric(rho=rho.tolist()), "dot")
    named = mg.Model("each-query-picks-one", mg.prior.Geometric(rho=0.5), "dot")
    expected = plain(q, k).ask(mg.Mean(v))
    np.testing.assert_array_equal(held(q, k).ask(mg.Mean(v)), expected)
    np.testing.assert_array_equal(named(q, k, geometric_rho=rho).ask(mg.Mean(v)), expected)
    # It is read anew for every posterior.
    rho[:] = 0.0
    uniform = mg.Model("each-query-picks-one", potential="dot")(q, k).ask(mg.Mean(v))
    np.testing.assert_allclose(held(q, k).ask(mg.Mean(v)), uniform, rtol=1e-12)


def test_the_second_of_a_kind_is_told_from_the_first(nodes):
    q, k, v = nodes
    rates = np.array([0.3])
    prior = mg.prior.Geometric(rho=0.1) * mg.prior.Geometric(rho=rates)
    model = mg.Model("each-query-picks-one", prior, "dot")
    assert list(model(q, k).tensors) == ["geometric.rho.2", "q", "k"]
    both = mg.Model("each-query-picks-one", mg.prior.Geometric(rho=1 - 0.9 * 0.7), "dot")
    np.testing.assert_allclose(model(q, k).ask(mg.Mean(v)), both(q, k).ask(mg.Mean(v)), rtol=1e-12)


def test_tensors_are_given_by_name(nodes, rng):
    q, k, v = nodes
    bias = rng.normal(size=(7,))
    model = mg.Model("each-query-picks-one", "key-bias", "dot")
    once = model(q, k, key_bias=bias).ask(mg.Mean(v))
    np.testing.assert_array_equal(model(q, k, v=v, **{"key-bias": bias}).ask("mean"), once)


def test_a_memory_settles_where_its_equation_says(rng):
    states, patterns = rng.normal(size=(1, 1, 2, 4)), rng.normal(size=(1, 1, 6, 4))
    model = mg.Model(mechanism={"hopfield": {"beta": 2.0, "steps": 3, "tolerance": 0.0}})
    z = states[0, 0]
    for _ in range(3):
        weights = np.exp(2.0 * z @ patterns[0, 0].T)
        z = weights / weights.sum(-1, keepdims=True) @ patterns[0, 0]
    posterior = model(states=states, patterns=patterns)
    state, steps, probability = posterior.ask("state", "steps", mg.MaxProbability())
    np.testing.assert_allclose(state[0, 0], z, rtol=1e-10)
    assert (steps == 3).all() and probability.shape == (1, 1, 2)
    everything = posterior.ask()
    np.testing.assert_array_equal(everything["state"], state)
    assert everything.meanings["reason"].startswith("0 converged")
    with pytest.raises(mg.errors.UnknownNameError, match="no answer named `sate`.*state"):
        posterior.ask("sate")


def test_a_step_of_expectation_maximisation(rng):
    points, means = rng.normal(size=(1, 1, 30, 2)), rng.normal(size=(1, 1, 3, 2))
    variances, weights = np.ones((1, 1, 3, 1)), np.full((1, 1, 3), 1 / 3)
    mixture = {"components": 3, "steps": 1, "covariance": "spherical", "tolerance": 0.0}
    model = mg.Model(mechanism={"mixture": mixture})
    found = model(points=points, means=means, variances=variances, weights=weights).ask("means")
    distance = ((points[0, 0][:, None] - means[0, 0]) ** 2).sum(-1)
    r = np.exp(-distance / 2)
    r /= r.sum(-1, keepdims=True)
    np.testing.assert_allclose(found[0, 0], r.T @ points[0, 0] / r.sum(0)[:, None], rtol=1e-10)


def test_windows_expand(nodes):
    q, k, v = nodes
    model = mg.Model(mechanism={"expanding": {"alpha": 1.0, "beta": 4.0, "lost": 0.0}})
    mean, rho = model(q, k, v=v).ask("mean", "rho")
    from_beta = mg.Model(
        "each-query-picks-one", ["causal", {"beta-geometric": {"alpha": 1.0, "beta": 4.0}}], "dot"
    )
    np.testing.assert_allclose(mean, from_beta(q, k).ask(mg.Mean(v)), rtol=1e-9)
    assert ((rho > 0) & (rho < 1)).all()
