"""scikit-learn's EM on its own digits, for the experiment `mixture` to be compared with.

Run from the root of the repository after the experiment has written its starts, in an environment
with scikit-learn 1.9.1:

    cargo run --release -p marginals-experiments -- mixture
    python tools/reference/digits_mixture.py
    cargo run --release -p marginals-experiments -- mixture

It reads experiments/mixture/results.json (which points each seed starts from, the regularisation,
the iterations to compare) and writes experiments/mixture/reference.json: per covariance and start,
the log-likelihood per point and the purity of the clusters after each of those iterations; and the
purity and inertia of KMeans from the same points.
"""

import json
import os
import tempfile
import warnings
from pathlib import Path

import numpy as np
import sklearn
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

FOLDER = Path("experiments/mixture")


def purity(labels, clusters):
    """Share of points whose cluster's commonest digit is theirs."""
    return sum(np.bincount(labels[clusters == k]).max() for k in np.unique(clusters)) / len(labels)


def main():
    warnings.simplefilter("ignore", ConvergenceWarning)
    results = json.loads((FOLDER / "results.json").read_text())
    config = results["config"]
    points, labels = load_digits(return_X_y=True)
    points = points / 16.0
    components, added = config["components"], config["regularisation"]
    reference = {"scikit-learn": sklearn.__version__}
    for covariance in ["spherical", "diagonal"]:
        runs = []
        for start in results["starts"]:
            if covariance == "spherical":
                precisions = np.full(components, 1.0 / (points.var(0).mean() + added))
            else:
                precisions = np.tile(1.0 / (points.var(0) + added), (components, 1))
            run = {"log_likelihood": [], "purity": []}
            for iterations in config["compared"]:
                model = GaussianMixture(
                    components, covariance_type={"diagonal": "diag"}.get(covariance, covariance),
                    tol=0.0, reg_covar=added, max_iter=iterations,
                    weights_init=np.full(components, 1.0 / components),
                    means_init=points[start], precisions_init=precisions,
                    init_params="random_from_data", random_state=0,
                ).fit(points)
                run["log_likelihood"].append(model.score(points))
                run["purity"].append(purity(labels, model.predict(points)))
            runs.append(run)
        reference[covariance] = runs
    runs = []
    for start in results["starts"]:
        model = KMeans(components, init=points[start], n_init=1, tol=0.0, max_iter=1000).fit(points)
        runs.append({"inertia": model.inertia_, "purity": purity(labels, model.labels_)})
    reference["k_means"] = runs

    # Beside the target and then renamed, so that an interrupted run leaves the old file whole.
    with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
        fresh = os.path.join(folder, "fresh")
        Path(fresh).write_text(json.dumps(reference, indent=1) + "\n")
        os.replace(fresh, FOLDER / "reference.json")
    print(f"wrote {FOLDER / 'reference.json'}")


if __name__ == "__main__":
    main()
