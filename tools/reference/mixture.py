"""What scikit-learn's EM and k-means answer iteration by iteration, for the Rust test `mixture`.

Run from the root of the repository, in an environment with scikit-learn 1.9.1, numpy 2.x and
safetensors 0.8 (the answers do not depend on the versions beyond rounding):

    python tools/reference/mixture.py

It rewrites crates/marginals/tests/all/data/mixture.safetensors. Per case of a mixture the file holds the
`points` [N,D], the start `means.0` [K,D], `variances.0` [K,1] or [K,D], `weights.0` [K], what
GaussianMixture has after T iterations from it (`means.T`, `variances.T`, `weights.T`) and its
`log-density.T` of every point [N] there, for some T. Per case of k-means: `points`, the start `centres.0`, what
KMeans has after T iterations (`centres.T`), and `centres`, `labels` and `inertia` at convergence.
"""

import os
import tempfile
import warnings
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

OUTPUT = Path("crates/marginals/tests/all/data/mixture.safetensors")
ITERATIONS = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 20, 50]
DENSITIES = [0, 1, 10, 50]


def blobs(random, counts, width, spread):
    """Overlapping clusters of unequal sizes and widths."""
    parts = []
    for count in counts:
        centre = spread * random.normal(size=width)
        scale = np.exp(0.5 * random.normal(size=width))
        parts.append(centre + scale * random.normal(size=(count, width)))
    return np.concatenate(parts)


def mixture(name, points, covariance, components, random, reg_covar, offset=0.0):
    points = points + offset
    means = points[random.choice(len(points), components, replace=False)]
    shape = components if covariance == "spherical" else (components, points.shape[1])
    variances = points.var() * np.exp(0.3 * random.normal(size=shape))
    weights = random.dirichlet(np.full(components, 5.0))
    tensors = {"points": points}

    def record(iteration, means, variances, weights, density):
        tensors[f"means.{iteration}"] = means
        tensors[f"variances.{iteration}"] = variances.reshape(components, -1)
        tensors[f"weights.{iteration}"] = weights
        if iteration in DENSITIES:
            tensors[f"log-density.{iteration}"] = density

    for iteration in ITERATIONS:
        model = GaussianMixture(
            components, covariance_type=covariance, tol=0.0, reg_covar=reg_covar,
            max_iter=iteration, weights_init=weights, means_init=means,
            precisions_init=1.0 / variances, init_params="random_from_data", random_state=0,
        ).fit(points)
        # With a tolerance of 0 it stops early only where the likelihood stands still exactly.
        assert model.n_iter_ == iteration, (name, iteration, model.n_iter_)
        record(iteration, model.means_, model.covariances_, model.weights_,
               model.score_samples(points))
    # The start's own densities, from scikit-learn too.
    model.means_, model.weights_ = means, weights
    model.precisions_cholesky_ = 1.0 / np.sqrt(variances)
    record(0, means, variances, weights, model.score_samples(points))
    return {f"{name}.{tensor}": np.ascontiguousarray(x) for tensor, x in tensors.items()}


def k_means(name, points, components, random):
    start = points[random.choice(len(points), components, replace=False)]
    tensors = {"points": points, "centres.0": start}
    for iteration in [1, 2, 3, 300]:
        model = KMeans(
            components, init=start, n_init=1, max_iter=iteration, tol=0.0, algorithm="lloyd"
        ).fit(points)
        if iteration < 300:
            tensors[f"centres.{iteration}"] = model.cluster_centers_
    assert model.n_iter_ < 300
    tensors["centres"] = model.cluster_centers_
    tensors["labels"] = model.labels_.astype(np.int64)
    tensors["inertia"] = np.array([model.inertia_])
    return {f"{name}.{tensor}": np.ascontiguousarray(x) for tensor, x in tensors.items()}


def main():
    warnings.simplefilter("ignore", ConvergenceWarning)
    random = np.random.default_rng(20260102)
    tensors = {}
    points = blobs(random, [40, 25, 60], 3, 2.5)
    tensors |= mixture("spherical", points, "spherical", 3, random, 1e-6)
    tensors |= mixture("diagonal", points, "diag", 3, random, 1e-6)
    tensors |= mixture("regularised", points, "diag", 4, random, 0.1)
    tensors |= mixture("unregularised", points, "spherical", 4, random, 0.0)
    line = blobs(random, [30, 50], 1, 3.0)
    tensors |= mixture("line", line, "diag", 2, random, 1e-6)
    wide = blobs(random, [40, 25, 35, 30], 17, 1.0)
    tensors |= mixture("wide", wide, "diag", 5, random, 1e-3)
    tensors |= mixture("one", points, "spherical", 1, random, 1e-6)
    tensors |= k_means("k-means", points, 4, random)
    tensors |= k_means("k-means-wide", wide, 6, random)

    # Beside the target and then renamed, so that an interrupted run leaves the old file whole.
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=OUTPUT.parent) as folder:
        fresh = os.path.join(folder, "fresh")
        save_file(tensors, fresh)
        os.replace(fresh, OUTPUT)
    print(f"{OUTPUT}: {len(tensors)} tensors, {OUTPUT.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
