"""Tensors of other libraries as NumPy arrays, without a copy wherever the strides allow it.

What the extension reads: float32, float64, float16; uint16, which are the bits of bfloat16; int64; and uint8,
which are truth values.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

import numpy as np

from .errors import DeviceError, EntriesError

READ = frozenset(np.dtype(name) for name in ("float32", "float64", "float16"))
TRUTH = np.dtype("bool")
BYTE = np.dtype("uint8")
BITS = np.dtype("uint16")
WHOLE = np.dtype("int64")


def are_torch(tensors: Iterable[object]) -> bool:
    """Whether one of them is a tensor of PyTorch, which is not imported to find out.

    >>> are_torch([np.zeros(3)])
    False
    """
    torch = sys.modules.get("torch")
    if torch is None:
        return False
    tensor = torch.Tensor
    return any([isinstance(x, tensor) for x in tensors])


def is_compiling() -> bool:
    """Whether PyTorch is compiling the function that calls."""
    torch = sys.modules.get("torch")
    return torch is not None and torch.compiler.is_compiling()


def is_array(x: object) -> bool:
    """Whether ``x`` is an array of some library."""
    return isinstance(x, np.ndarray) or hasattr(x, "__dlpack__")


def readable(name: str, array: np.ndarray, is_bfloat16: bool = False) -> np.ndarray:
    """An array in one of the formats that the extension reads, the last axis contiguous; copied only where it
    is not so already. `is_bfloat16` says that its entries are the bits of such."""
    dtype = array.dtype
    if dtype in READ or is_bfloat16:
        flags = array.flags
        if flags.c_contiguous and flags.aligned:
            return array
        shape = array.shape
        is_readable = not shape or shape[-1] <= 1 or array.strides[-1] == dtype.itemsize
        return array if is_readable and flags.aligned else np.array(array, order="C")
    if dtype == TRUTH:
        return array.view(BYTE)
    if dtype.name == "bfloat16":
        return readable(name, array.view(BITS), is_bfloat16=True)
    if dtype.kind in "iu":
        is_wide = dtype.kind == "u" and dtype.itemsize == 8
        if is_wide and array.size and array.max() > np.iinfo(WHOLE).max:
            raise EntriesError(f"the tensor `{name}` holds whole numbers beyond int64", name)
        return array.astype(WHOLE)
    if dtype.newbyteorder("=") in READ:
        return array.astype(dtype.newbyteorder("="))
    raise EntriesError(
        f"the tensor `{name}` holds {dtype.name}, expected float32, float64, float16, bfloat16, whole "
        "numbers or truth values. Convert it",
        name,
    )


def foreign(name: str, x: Any) -> np.ndarray:
    """The tensor of another library through DLPack, or numbers as an array."""
    if isinstance(x, np.ndarray):
        return x
    if not hasattr(x, "__dlpack__"):
        try:
            array = np.asarray(x)
        except ValueError as error:
            raise EntriesError(f"`{name}` is no array: {error}", name) from None
        if array.dtype.kind not in "biuf":
            raise EntriesError(f"`{name}` is {type(x).__name__}, expected an array of numbers", name)
        return array
    # The processor is 1, and memory of its that a graphics card reads too is 3.
    kind, _ = x.__dlpack_device__()
    if int(kind) not in (1, 3):
        raise DeviceError(
            f"`{name}` lies on the device {kind!r} of DLPack, expected the processor's memory. Move it there",
            name,
        )
    try:
        return np.from_dlpack(x)
    except (BufferError, TypeError, RuntimeError) as error:
        raise EntriesError(f"`{name}` cannot be read through DLPack: {error}", name) from error
