"""Answers against their formulas, written out in NumPy."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import marginals as mg

CLOSE = {"rtol": 1e-10, "atol": 1e-12}


def written_out(q, k, bias=0.0):
    """Scores and softmax of attention, with every key head for the heads that it serves."""
    k = np.repeat(k, q.shape[1] // k.shape[1], axis=1)
    scores = np.einsum("bhnd,bhmd->bhnm", q, k) / np.sqrt(q.shape[-1]) + bias
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return scores, weights / weights.sum(-1, keepdims=True)


def log_sum(scores):
    top = scores.max(-1, keepdims=True)
    return np.log(np.exp(scores - top).sum(-1)) + top[..., 0]


def test_every_answer_of_a_pass_is_its_formula(nodes):
    q, k, v = nodes
    model = mg.Model("each-query-picks-one", potential="dot")
    scores, p = written_out(q, k)
    mean, log_z, entropy, mass, variance, top, best, marginals, probability = model(q, k).ask(
        mg.Mean(v),
        mg.LogPartition(),
        mg.Entropy(),
        mg.ColumnMass(),
        mg.ValueVariance(v),
        mg.TopK(3),
        mg.Map(),
        mg.Marginals(),
        mg.MaxProbability(),
    )
    values = np.repeat(v, 2, axis=1)
    np.testing.assert_allclose(mean, p @ values, **CLOSE)
    np.testing.assert_allclose(log_z, log_sum(scores), **CLOSE)
    np.testing.assert_allclose(entropy, -(p * np.log(p)).sum(-1), **CLOSE)
    np.testing.assert_allclose(mass, p.sum(-2), **CLOSE)
    np.testing.assert_allclose(variance, p @ values**2 - (p @ values) ** 2, **CLOSE)
    np.testing.assert_allclose(marginals, p, **CLOSE)
    np.testing.assert_allclose(probability, p.max(-1), **CLOSE)
    np.testing.assert_array_equal(best, p.argmax(-1))
    order = np.argsort(-p, axis=-1)[..., :3]
    np.testing.assert_array_equal(top.index, order)
    np.testing.assert_allclose(top.probability, np.take_along_axis(p, order, -1), **CLOSE)


def test_priors_multiply(nodes):
    q, k, v = nodes
    i, j = np.arange(5)[:, None], np.arange(7)[None, :]
    log_weights = np.where(j <= i, 0.0, -np.inf) + abs(i - j) * np.log1p(-0.2)
    model = mg.Model(
        structure=mg.structure.EachQueryPicksOne(),
        prior=mg.prior.Causal() * mg.prior.Geometric(rho=0.2),
        potential=mg.potential.Dot(scale=3**-0.5),
    )
    mean, evidence, kl = model(q, k).ask(mg.Mean(v), mg.LogEvidence(), mg.Kl())
    scores, p = written_out(q, k, log_weights)
    np.testing.assert_allclose(mean, p @ np.repeat(v, 2, axis=1), **CLOSE)
    log_prior = log_weights - log_sum(log_weights)[:, None]
    np.testing.assert_allclose(evidence, log_sum(scores) - log_sum(log_weights), **CLOSE)
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(p > 0, p * (np.log(p) - log_prior), 0.0)
    np.testing.assert_allclose(kl, terms.sum(-1), **CLOSE)


@pytest.mark.parametrize("null", [0.0, 0.7])
def test_a_null_edge_takes_its_share(nodes, null):
    q, k, v = nodes
    model = mg.Model({"each-query-picks-at-most-one": {"null": null}}, potential="dot")
    mean, nothing = model(q, k).ask(mg.Mean(v), mg.NullProbability())
    scores, _ = written_out(q, k)
    z = np.exp(null) + np.exp(scores).sum(-1)
    np.testing.assert_allclose(nothing, np.exp(null) / z, **CLOSE)
    expected = np.exp(scores) / z[..., None] @ np.repeat(v, 2, axis=1)
    np.testing.assert_allclose(mean, expected, **CLOSE)


def test_independent_edges_are_logistic(nodes):
    q, k, _ = nodes
    marginals = mg.Model("independent", potential="dot")(q, k).ask(mg.Marginals())
    np.testing.assert_allclose(marginals, 1 / (1 + np.exp(-written_out(q, k)[0])), **CLOSE)


def test_keys_pick_queries(nodes):
    q, k, _ = nodes
    marginals = mg.Model("each-key-picks-one", potential="dot")(q, k).ask(mg.Marginals())
    weights = np.exp(written_out(q, k)[0])
    np.testing.assert_allclose(marginals, weights / weights.sum(-2, keepdims=True), **CLOSE)


def test_a_chain_sums_over_all_its_paths(rng):
    scores = rng.normal(size=(1, 1, 4, 3))
    transitions = rng.normal(size=(3, 3))
    posterior = mg.Model("chain", potential="scores")(scores=scores, transitions=transitions)
    log_z, marginals, entropy = posterior.ask(mg.LogPartition(), mg.Marginals(), mg.Entropy())
    paths = list(itertools.product(range(3), repeat=4))
    energies = np.array(
        [
            sum(scores[0, 0, i, j] for i, j in enumerate(path))
            + sum(transitions[a, b] for a, b in itertools.pairwise(path))
            for path in paths
        ]
    )
    expected = np.log(np.exp(energies).sum())
    p = np.exp(energies - expected)
    np.testing.assert_allclose(log_z, [[[expected]]], **CLOSE)
    np.testing.assert_allclose(entropy, [[[-(p * np.log(p)).sum()]]], **CLOSE)
    for i, j in itertools.product(range(4), range(3)):
        through = sum(own for own, path in zip(p, paths) if path[i] == j)
        np.testing.assert_allclose(marginals[0, 0, i, j], through, **CLOSE)


def test_draws_repeat_by_seed_and_follow_the_posterior(nodes):
    q, k, _ = nodes
    posterior = mg.Model("each-query-picks-one", potential="dot")(q, k)
    draws = posterior.ask(mg.Samples(4000), seed=3)
    np.testing.assert_array_equal(draws, posterior.ask(mg.Samples(4000), seed=3))
    assert (draws != posterior.ask(mg.Samples(4000), seed=4)).any()
    shares = (draws[..., None] == np.arange(7)).mean(0)
    p = written_out(q, k)[1]
    # Five standard deviations of each share.
    assert (abs(shares - p) < 5 * np.sqrt(p * (1 - p) / 4000) + 1e-9).all()


def test_forward_mode_is_the_derivative(nodes, rng):
    q, k, v = nodes
    tangents = [rng.normal(size=x.shape) for x in nodes]
    model = mg.Model("each-query-picks-one", potential="dot")
    names = ("tangent_q", "tangent_k", "tangent_v")
    got = model(q, k).ask(mg.Jvp(v, **dict(zip(names, tangents))))

    def moved(step):
        at = [x + step * t for x, t in zip(nodes, tangents)]
        return written_out(at[0], at[1])[1] @ np.repeat(at[2], 2, axis=1)

    np.testing.assert_allclose(got, (moved(1e-5) - moved(-1e-5)) / 2e-5, rtol=1e-6, atol=1e-8)


def test_every_question_of_the_library_can_be_asked_by_its_name(nodes):
    q, k, v = nodes
    model = mg.Model("each-query-picks-one", potential="dot")
    listed = {entry["name"] for entry in mg._native.questions()}
    assert {"mean", "entropy", "log-evidence", "samples"} <= listed
    for name in listed:
        made = getattr(mg, "".join(word.capitalize() for word in name.split("-")))
        assert made.name == name and made.definition in made.__doc__
        usage = f"{name}=2" if made.argument else name
        tensors = {name.replace(".", "_"): q[:1, :1] for name in made.reads if "tangent" not in name}
        tensors |= {"tangent_v": v} if name == "jvp" else {}
        tensors |= {"covariance_r": q} if name == "covariance" else {}
        tensors |= {"paths": [[0, 1]]} if name == "paths" else {}
        try:
            model(q, k, v=v, **tensors).ask(usage)
        except mg.errors.NotAnswerableError as refusal:
            assert refusal.argument == name
