"""Posteriors of arrays: NumPy's, and any that DLPack reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from . import _native
from ._arrays import BYTE, TRUTH, foreign, readable
from ._asking import Asked


def answers(
    model: _native.Model,
    asked: Asked,
    tensors: Mapping[str, Any],
    seed: int,
    check_nan: bool,
) -> tuple[dict[str, Any], dict[str, str]]:
    """The answers by name, in the kind of array that came in, and meanings of codes among them."""
    arrays = {}
    namespace = half = None
    for name, x in tensors.items():
        array = foreign(name, x)
        if namespace is None and array is not x:
            namespace = getattr(x, "__array_namespace__", None)
        if half is None and array.dtype.itemsize == 2 and array.dtype.kind not in "iub":
            half = array.dtype
        arrays[name] = readable(name, array)
    arrays = in_one_format(arrays, tensors)
    found, meanings, _ = _native.ask(model, asked.native, arrays, seed, check_nan, False)
    for name, array in found.items():
        if array.dtype == BYTE:
            found[name] = array.view(TRUTH)
        elif half is not None and name in asked.averages:
            found[name] = array.astype(half)
    if namespace is not None:
        other = namespace()
        found = {name: other.from_dlpack(array) for name, array in found.items()}
    return found, meanings


def in_one_format(arrays: dict[str, np.ndarray], given: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The arrays, numbers of Python's own in the format of the others."""
    plain = [name for name, x in given.items() if isinstance(x, (int, float, list, tuple))]
    if plain:
        others = [array.dtype for name, array in arrays.items() if name not in plain]
        double = np.dtype("float64") in others
        for name in plain:
            if arrays[name].dtype.kind == "f":
                arrays[name] = arrays[name].astype(np.float64 if double else np.float32)
    return arrays
