//! The number formats of GGUF tensors, and their way back to `f32`.
//!
//! A quantised format stores runs of weights as a block: one or two scales and a few bits per
//! weight. Layouts follow the reference implementation of the format (`ggml-quants.c`); within a
//! block of 32 the low nibbles are the first half and the high nibbles the second.

use half::{bf16, f16};

/// How the values of a tensor are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockFormat {
    /// IEEE single precision.
    F32,
    /// IEEE half precision.
    F16,
    /// The upper half of a single.
    Bf16,
    /// 32 weights `d (q − 8)`, 4 bits each.
    Q4_0,
    /// 32 weights `d q + m`, 4 bits each.
    Q4_1,
    /// 32 weights `d q`, 8 bits each.
    Q8_0,
    /// 256 weights in 8 groups with 6-bit scales and minima, 4 bits each.
    Q4K,
    /// 256 weights in 16 groups with 8-bit scales, 6 bits each.
    Q6K,
}

impl BlockFormat {
    /// The format with this number in a GGUF file, if it is one that is read.
    pub fn from_code(code: u32) -> Option<Self> {
        Some(match code {
            0 => BlockFormat::F32,
            1 => BlockFormat::F16,
            2 => BlockFormat::Q4_0,
            3 => BlockFormat::Q4_1,
            8 => BlockFormat::Q8_0,
            12 => BlockFormat::Q4K,
            14 => BlockFormat::Q6K,
            30 => BlockFormat::Bf16,
            _ => return None,
        })
    }

    /// Weights in one block.
    pub fn weights(self) -> usize {
        match self {
            BlockFormat::F32 | BlockFormat::F16 | BlockFormat::Bf16 => 1,
            BlockFormat::Q4_0 | BlockFormat::Q4_1 | BlockFormat::Q8_0 => 32,
            BlockFormat::Q4K | BlockFormat::Q6K => 256,
        }
    }

    /// Bytes of one block.
    pub fn bytes(self) -> usize {
        match self {
            BlockFormat::F32 => 4,
            BlockFormat::F16 | BlockFormat::Bf16 => 2,
            BlockFormat::Q4_0 => 2 + 16,
            BlockFormat::Q4_1 => 2 + 2 + 16,
            BlockFormat::Q8_0 => 2 + 32,
            BlockFormat::Q4K => 2 + 2 + 12 + 128,
            BlockFormat::Q6K => 128 + 64 + 16 + 2,
        }
    }

    /// The values of whole blocks. Bytes of an incomplete last block are ignored.
    pub fn decode(self, bytes: &[u8]) -> Vec<f32> {
        let mut values = Vec::with_capacity(bytes.len() / self.bytes() * self.weights());
        for block in bytes.chunks_exact(self.bytes()) {
            match self {
                BlockFormat::F32 => {
                    values.push(f32::from_le_bytes([block[0], block[1], block[2], block[3]]));
                }
                BlockFormat::F16 => values.push(half_at(block, 0)),
                BlockFormat::Bf16 => {
                    values.push(bf16::from_le_bytes([block[0], block[1]]).to_f32());
                }
                BlockFormat::Q4_0 => {
                    let scale = half_at(block, 0);
                    values.extend(nibbles(&block[2..]).map(|q| (f32::from(q) - 8.0) * scale));
                }
                BlockFormat::Q4_1 => {
                    let (scale, minimum) = (half_at(block, 0), half_at(block, 2));
                    values.extend(nibbles(&block[4..]).map(|q| f32::from(q) * scale + minimum));
                }
                BlockFormat::Q8_0 => {
                    let scale = half_at(block, 0);
                    values.extend(block[2..].iter().map(|q| f32::from(q.cast_signed()) * scale));
                }
                BlockFormat::Q4K => decode_q4k(block, &mut values),
                BlockFormat::Q6K => decode_q6k(block, &mut values),
            }
        }
        values
    }
}

fn half_at(block: &[u8], start: usize) -> f32 {
    f16::from_le_bytes([block[start], block[start + 1]]).to_f32()
}

/// All low nibbles, then all high ones.
fn nibbles(bytes: &[u8]) -> impl Iterator<Item = u8> {
    bytes.iter().map(|byte| byte & 0x0f).chain(bytes.iter().map(|byte| byte >> 4))
}

fn decode_q4k(block: &[u8], values: &mut Vec<f32>) {
    let (scale, minimum) = (half_at(block, 0), half_at(block, 2));
    let packed = &block[4..16];
    // Eight 6-bit scales and eight 6-bit minima in twelve bytes: the first four of each take the
    // low six bits of a byte, and lend their top two bits to the last four.
    let group = |index: usize| {
        let (six_bit_scale, six_bit_minimum) = if index < 4 {
            (packed[index] & 63, packed[index + 4] & 63)
        } else {
            (
                (packed[index + 4] & 0x0f) | ((packed[index - 4] >> 6) << 4),
                (packed[index + 4] >> 4) | ((packed[index] >> 6) << 4),
            )
        };
        (scale * f32::from(six_bit_scale), minimum * f32::from(six_bit_minimum))
    };
    for (pair, quants) in block[16..].chunks_exact(32).enumerate() {
        let (low_scale, low_minimum) = group(2 * pair);
        values.extend(quants.iter().map(|q| low_scale * f32::from(q & 0x0f) - low_minimum));
        let (high_scale, high_minimum) = group(2 * pair + 1);
        values.extend(quants.iter().map(|q| high_scale * f32::from(q >> 4) - high_minimum));
    }
}

fn decode_q6k(block: &[u8], values: &mut Vec<f32>) {
    let (low_bits, rest) = block.split_at(128);
    let (high_bits, rest) = rest.split_at(64);
    let (scales, scale) = rest.split_at(16);
    let scale = half_at(scale, 0);
    for half in 0..2 {
        let low = &low_bits[64 * half..];
        let high = &high_bits[32 * half..];
        for quarter in 0..4 {
            for position in 0..32 {
                let byte = low[position + 32 * (quarter % 2)];
                let four = if quarter < 2 { byte & 0x0f } else { byte >> 4 };
                let two = (high[position] >> (2 * quarter)) & 3;
                let quant = f32::from(four | (two << 4)) - 32.0;
                let group = scales[8 * half + 2 * quarter + position / 16].cast_signed();
                values.push(scale * f32::from(group) * quant);
            }
        }
    }
}
