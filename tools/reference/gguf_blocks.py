"""Reference for the GGUF number formats: the `gguf` package's own dequantisation.

    pip install -r tools/reference/requirements.txt
    python tools/reference/gguf_blocks.py

Writes crates/marginals-burn/tests/data/gguf_blocks.json: for each format, blocks of random bytes (scales
kept finite) and the single-precision values they stand for, both in hexadecimal as they lie in memory.
"""

import numpy as np
from gguf import GGMLQuantizationType as Format
from gguf.constants import GGML_QUANT_SIZES
from gguf.quants import dequantize

from common import write

# Byte offsets of the half-precision scales within each block.
SCALES = {
    Format.F32: [],
    Format.F64: [],
    Format.F16: [0],
    Format.BF16: [],
    Format.Q4_0: [0],
    Format.Q4_1: [0, 2],
    Format.Q5_0: [0],
    Format.Q5_1: [0, 2],
    Format.Q8_0: [0],
    Format.Q2_K: [80, 82],
    Format.Q3_K: [108],
    Format.Q4_K: [0, 2],
    Format.Q5_K: [0, 2],
    Format.Q6_K: [208],
    Format.IQ4_NL: [0],
    Format.IQ4_XS: [0],
    Format.MXFP4: [],
}


def blocks_of(format, random):
    weights, size = GGML_QUANT_SIZES[format]
    blocks = 2 if weights > 1 else 32
    if format == Format.F64:
        return random.normal(size=blocks).view(np.uint8).reshape(-1, size)
    if format in (Format.F32, Format.BF16):
        values = random.normal(size=blocks).astype(np.float32)
        halves = values.view(np.uint16)[1::2].copy()
        return (values if format == Format.F32 else halves).view(np.uint8).reshape(-1, size)
    stored = random.integers(0, 256, size=(blocks, size), dtype=np.uint8)
    for offset in SCALES[format]:
        half = random.normal(size=blocks).astype(np.float16)
        stored[:, offset : offset + 2] = half.view(np.uint8).reshape(blocks, 2)
    if format == Format.MXFP4:
        # The smallest exponents, whose halves are below the normal numbers, and usual ones.
        stored = np.concatenate([stored, stored, stored])
        stored[:, 0] = [0, 1, 2, 120, 127, 250]
    return stored


def values_of(stored, format):
    # The package leaves doubles to numpy.
    if format == Format.F64:
        return stored.reshape(-1).view(np.float64).astype(np.float32)
    return dequantize(stored.reshape(-1), format).reshape(-1).astype(np.float32)


def main():
    random = np.random.default_rng(20)
    cases = []
    for format in SCALES:
        stored = blocks_of(format, random)
        values = values_of(stored, format)
        assert np.isfinite(values).all()
        cases.append(
            {
                "format": format.name,
                "code": int(format),
                "bytes": stored.tobytes().hex(),
                "values": values.tobytes().hex(),
            }
        )
    write("gguf_blocks.json", cases)


if __name__ == "__main__":
    main()
