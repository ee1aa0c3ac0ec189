"""POT's answers about transports, and SciPy's about best assignments, for the Rust test `coupled::transport`.

Run from the root of the repository, in an environment with POT 0.9.7, SciPy 1.17, numpy 2.x and safetensors
0.8 (the answers do not depend on the versions beyond rounding):

    python tools/reference/matching.py

It rewrites crates/marginals/tests/all/data/matching.safetensors. Per transport: `scores` [N,M] (minus infinity is
impossible), the masses `queries` [N] and `keys` [M], the total `mass` [1], the `plan` [N,M], its `value` [1],
<P, scores> - sum P log P, and where all mass is matched the potentials `f` [N] and `g` [M], shifted so that g sums
to 0. Per assignment: `scores` [N,M], and `keys` [min(N,M)] and `queries` [min(N,M)], its edges in order of
the queries.
"""

import os
import tempfile
from pathlib import Path

import numpy as np
import ot
from safetensors.numpy import save_file
from scipy.optimize import linear_sum_assignment

OUTPUT = Path("crates/marginals/tests/all/data/matching.safetensors")


def transport(name, scores, queries, keys, mass=None):
    whole = mass is None and abs(queries.sum() - keys.sum()) < 1e-12
    tensors = {"scores": scores, "queries": queries, "keys": keys}
    if whole:
        plan, log = ot.bregman.sinkhorn_log(
            queries, keys, -scores, 1.0, numItermax=100_000, stopThr=1e-15, warn=False, log=True
        )
        mass = queries.sum()
        g = log["log_v"]
        shift = g.mean()
        tensors |= {"g": g - shift, "f": log["log_u"] + shift}
    else:
        mass = min(queries.sum(), keys.sum()) if mass is None else mass
        plan = ot.partial.entropic_partial_wasserstein(
            queries, keys, -scores, 1.0, m=mass, numItermax=200_000, stopThr=1e-16
        )
    possible = plan > 0
    value = np.sum(plan[possible] * (scores[possible] - np.log(plan[possible])))
    error = np.abs(plan.sum() - mass) + np.maximum(plan.sum(1) - queries, 0).sum() + np.maximum(plan.sum(0) - keys, 0).sum()
    print(f"{name}: value {value:.12f}, conditions missed by {error:.1e}")
    assert error < 1e-11
    tensors |= {"plan": plan, "value": np.array([value]), "mass": np.array([mass])}
    return {f"{name}.{key}": np.ascontiguousarray(tensor, np.float64) for key, tensor in tensors.items()}


def assignment(name, scores):
    queries, keys = linear_sum_assignment(scores, maximize=True)
    tensors = {"scores": scores, "queries": queries, "keys": keys}
    return {f"{name}.{key}": np.ascontiguousarray(tensor) for key, tensor in tensors.items()}


def main():
    random = np.random.default_rng(12)
    ones = np.ones
    tensors = {}
    tensors |= transport("square", random.normal(size=(9, 9)), ones(9), ones(9))
    tensors |= transport("sharp", 8 * random.normal(size=(12, 12)), ones(12), ones(12))
    masked = random.normal(size=(8, 8))
    masked[random.random((8, 8)) < 0.3] = -np.inf
    np.fill_diagonal(masked, 0.5)
    tensors |= transport("masked", masked, ones(8), ones(8))
    a, b = random.dirichlet(ones(7)), random.dirichlet(ones(11))
    tensors |= transport("masses", 2 * random.normal(size=(7, 11)), 3 * a, 3 * b)
    tensors |= transport("wide", 2 * random.normal(size=(5, 9)), ones(5), ones(9))
    tensors |= transport("tall", 2 * random.normal(size=(9, 5)), ones(9), ones(5))
    tensors |= transport("partial", 2 * random.normal(size=(7, 8)), ones(7), ones(8), 4.5)
    tensors |= transport("partial-masses", 2 * random.normal(size=(6, 8)), 2 * random.dirichlet(ones(6)), 3 * random.dirichlet(ones(8)), 1.25)
    for n, m in [(30, 30), (40, 25), (25, 40), (60, 60)]:
        scores = random.normal(size=(n, m))
        if n == 60:
            # Few edges, a way off the diagonal among them.
            scores[random.random((n, m)) < 0.9] = -np.inf
            np.fill_diagonal(scores, -4.0)
        tensors |= assignment(f"assignment-{n}-{m}", scores)
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    # Beside the file first, so that a run that fails leaves the old one.
    with tempfile.NamedTemporaryFile(dir=OUTPUT.parent, delete=False) as beside:
        save_file(tensors, beside.name)
    os.replace(beside.name, OUTPUT)
    print(f"{OUTPUT} ({OUTPUT.stat().st_size} bytes)")


if __name__ == "__main__":
    main()
