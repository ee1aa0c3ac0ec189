"""The package as it is installed: imports, docs, stubs."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import marginals as mg

FOLDER = Path(__file__).resolve().parent.parent
MODULES = ["marginals", *(f"marginals.{found.name}" for found in pkgutil.iter_modules(mg.__path__))]


def python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def test_arrays_need_no_torch():
    code = (
        "import sys, numpy as np, marginals as mg; x = np.ones((1, 1, 2, 2));"
        "mg.Model('each-query-picks-one', potential='dot')(x, x).ask(mg.Mean(x));"
        "print([name for name in ('torch', 'jax', 'scipy') if name in sys.modules])"
    )
    assert python(code).strip() == "[]"


def test_it_is_imported_at_once():
    # A tenth of a second is for both, most of it NumPy's. Of the processor's time, and the best of some: others
    # use the machine too.
    code = (
        "import time, numpy; start = time.process_time(); import marginals;print(time.process_time() - start)"
    )
    assert min(float(python(code)) for _ in range(7)) < 0.03


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docs_run(name):
    if name in ("marginals._torch", "marginals._compiled"):
        pytest.importorskip("torch")
    module = importlib.import_module(name)
    found = doctest.DocTestFinder(exclude_empty=True).find(module)
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.FAIL_FAST)
    for test in found:
        runner.run(test)
    assert runner.summarize(verbose=False).failed == 0


def test_everything_public_is_documented():
    for name in mg.__all__:
        assert getattr(mg, name).__doc__, name
    for kind in ("structure", "prior", "potential", "distance"):
        module = getattr(mg, kind)
        assert all(getattr(module, name).__doc__ for name in module.__all__)


def test_stubs_are_up_to_date():
    check = [sys.executable, FOLDER / "tools" / "stubs.py", "--check"]
    done = subprocess.run(check, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_installed_package_is_typed():
    folder = Path(mg.__file__).parent
    for name in ("py.typed", "__init__.pyi", "_native.pyi", "prior.pyi"):
        assert (folder / name).is_file(), name


@pytest.mark.parametrize(
    "file",
    [FOLDER / "README.md", FOLDER.parent.parent / "README.md", FOLDER.parent.parent / "docs" / "python.md"],
    ids=["package", "repository", "guide"],
)
def test_examples_in_guides_run(file):
    blocks = re.findall(r"```python\n(.*?)```", file.read_text(encoding="utf-8"), re.DOTALL)
    assert blocks, "no example"
    if any("import torch" in block for block in blocks):
        pytest.importorskip("torch")
    names: dict[str, object] = {"np": np}
    for block in blocks:
        exec(compile(block, str(file), "exec"), names)
