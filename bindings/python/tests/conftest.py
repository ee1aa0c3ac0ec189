"""What the tests share. Those on PyTorch are skipped loudly where it is not installed."""

from __future__ import annotations

import importlib.util
import os

import numpy as np
import pytest

HAS_TORCH = importlib.util.find_spec("torch") is not None
MISSING = (
    "PyTorch is not installed here: its tests ARE SKIPPED. `pip install torch` beside the package brings it"
)

collect_ignore_glob = [] if HAS_TORCH else ["test_torch_*.py"]


def pytest_configure(config: pytest.Config) -> None:
    if not HAS_TORCH and os.environ.get("MARGINALS_TESTS_NEED_TORCH"):
        raise pytest.UsageError(MISSING)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not HAS_TORCH:
        terminalreporter.write_line(f"WARNING: {MISSING}", red=True)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.fixture
def nodes(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Queries, keys and values in float64: two batch entries, four heads over two key heads."""
    q = rng.normal(size=(2, 4, 5, 3))
    k = rng.normal(size=(2, 2, 7, 3))
    v = rng.normal(size=(2, 2, 7, 6))
    return q, k, v
