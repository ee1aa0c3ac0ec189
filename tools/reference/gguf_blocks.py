"""Reference for the GGUF number formats: the `gguf` package's own dequantisation.

    pip install -r tools/reference/requirements.txt
    python tools/reference/gguf_blocks.py

Writes crates/marginals-burn/tests/data/gguf_blocks.json: for each format, two blocks of random
bytes (scales kept finite) in hexadecimal, and the values they stand for.
"""

import numpy as np
from gguf import GGMLQuantizationType as Format
from gguf.constants import GGML_QUANT_SIZES
from gguf.quants import dequantize

from common import write

# Byte offsets of the half-precision scales within each block.
SCALES = {
    Format.F32: [],
    Format.F16: [0],
    Format.BF16: [],
    Format.Q4_0: [0],
    Format.Q4_1: [0, 2],
    Format.Q8_0: [0],
    Format.Q4_K: [0, 2],
    Format.Q6_K: [208],
}


def main():
    random = np.random.default_rng(20)
    cases = []
    for format, scales in SCALES.items():
        weights, size = GGML_QUANT_SIZES[format]
        blocks = 2 if weights > 1 else 32
        if format in (Format.F32, Format.BF16):
            values = random.normal(size=blocks).astype(np.float32)
            stored = values.view(np.uint8) if format == Format.F32 else values.view(np.uint16)[1::2].copy().view(np.uint8)
            stored = stored.reshape(-1, size)
        else:
            stored = random.integers(0, 256, size=(blocks, size), dtype=np.uint8)
            for offset in scales:
                half = random.normal(size=blocks).astype(np.float16)
                stored[:, offset : offset + 2] = half.view(np.uint8).reshape(blocks, 2)
        values = dequantize(stored.reshape(-1), format).reshape(-1)
        cases.append(
            {
                "format": format.name,
                "code": int(format),
                "bytes": stored.tobytes().hex(),
                "values": [float(value) for value in values.astype(np.float32)],
            }
        )
    write("gguf_blocks.json", cases)


if __name__ == "__main__":
    main()
