//! The number formats of GGUF tensors, and their way back to `f32`.
//!
//! A quantised format stores runs of weights as a block: one or two scales and a few bits per
//! weight. Layouts, and the order in which scales are multiplied, follow the reference
//! implementation of the format (`ggml-quants.c`), so that values are the same to the last bit.
//! Within a block of 32 the low nibbles are the first half and the high nibbles the second.

mod k_quants;

use half::{bf16, f16};

/// How the values of a tensor are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockFormat {
    /// IEEE single precision.
    F32,
    /// IEEE double precision, rounded to single.
    F64,
    /// IEEE half precision.
    F16,
    /// The upper half of a single.
    Bf16,
    /// 32 weights `d (q − 8)`, 4 bits each.
    Q4_0,
    /// 32 weights `d q + m`, 4 bits each.
    Q4_1,
    /// 32 weights `d (q − 16)`, 5 bits each.
    Q5_0,
    /// 32 weights `d q + m`, 5 bits each.
    Q5_1,
    /// 32 weights `d q`, 8 bits each.
    Q8_0,
    /// 256 weights in 16 groups with 4-bit scales and minima, 2 bits each.
    Q2K,
    /// 256 weights in 16 groups with 6-bit scales, 3 bits each.
    Q3K,
    /// 256 weights in 8 groups with 6-bit scales and minima, 4 bits each.
    Q4K,
    /// 256 weights in 8 groups with 6-bit scales and minima, 5 bits each.
    Q5K,
    /// 256 weights in 16 groups with 8-bit scales, 6 bits each.
    Q6K,
    /// 32 weights `d v`, v one of sixteen unevenly spaced values.
    Iq4Nl,
    /// 256 weights in 8 groups with 6-bit scales, each weight one of the same sixteen values.
    Iq4Xs,
    /// 32 weights `2^e v`, v a 4-bit float (OCP Microscaling Formats, v1.0).
    Mxfp4,
}

/// Number of each format in a file, its name, the weights of a block and its bytes.
const FORMATS: [(BlockFormat, u32, &str, usize, usize); 17] = [
    (BlockFormat::F32, 0, "F32", 1, 4),
    (BlockFormat::F64, 28, "F64", 1, 8),
    (BlockFormat::F16, 1, "F16", 1, 2),
    (BlockFormat::Bf16, 30, "BF16", 1, 2),
    (BlockFormat::Q4_0, 2, "Q4_0", 32, 2 + 16),
    (BlockFormat::Q4_1, 3, "Q4_1", 32, 2 + 2 + 16),
    (BlockFormat::Q5_0, 6, "Q5_0", 32, 2 + 4 + 16),
    (BlockFormat::Q5_1, 7, "Q5_1", 32, 2 + 2 + 4 + 16),
    (BlockFormat::Q8_0, 8, "Q8_0", 32, 2 + 32),
    (BlockFormat::Q2K, 10, "Q2_K", 256, 16 + 64 + 2 + 2),
    (BlockFormat::Q3K, 11, "Q3_K", 256, 32 + 64 + 12 + 2),
    (BlockFormat::Q4K, 12, "Q4_K", 256, 2 + 2 + 12 + 128),
    (BlockFormat::Q5K, 13, "Q5_K", 256, 2 + 2 + 12 + 32 + 128),
    (BlockFormat::Q6K, 14, "Q6_K", 256, 128 + 64 + 16 + 2),
    (BlockFormat::Iq4Nl, 20, "IQ4_NL", 32, 2 + 16),
    (BlockFormat::Iq4Xs, 23, "IQ4_XS", 256, 2 + 2 + 4 + 128),
    (BlockFormat::Mxfp4, 39, "MXFP4", 32, 1 + 16),
];

/// Formats that are not read, for messages: some are for other processors or for arithmetic within a
/// program, some were taken out of the format again.
const UNREAD: [(u32, &str); 25] = [
    (4, "Q4_2"),
    (5, "Q4_3"),
    (9, "Q8_1"),
    (15, "Q8_K"),
    (16, "IQ2_XXS"),
    (17, "IQ2_XS"),
    (18, "IQ3_XXS"),
    (19, "IQ1_S"),
    (21, "IQ3_S"),
    (22, "IQ2_S"),
    (24, "I8"),
    (25, "I16"),
    (26, "I32"),
    (27, "I64"),
    (29, "IQ1_M"),
    (31, "Q4_0_4_4"),
    (32, "Q4_0_4_8"),
    (33, "Q4_0_8_8"),
    (34, "TQ1_0"),
    (35, "TQ2_0"),
    (36, "IQ4_NL_4_4"),
    (37, "IQ4_NL_4_8"),
    (38, "IQ4_NL_8_8"),
    (40, "NVFP4"),
    (41, "Q1_0"),
];

/// The values that four bits of [`BlockFormat::Iq4Nl`] and [`BlockFormat::Iq4Xs`] stand for.
const UNEVEN: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/// Twice the values that four bits of [`BlockFormat::Mxfp4`] stand for: sign, two bits of exponent, one of
/// fraction.
const FOUR_BIT_FLOATS: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

impl BlockFormat {
    /// The format with this number in a GGUF file, if it is one that is read.
    pub fn from_code(code: u32) -> Option<Self> {
        FORMATS.iter().find(|row| row.1 == code).map(|row| row.0)
    }

    /// The name of the format with this number, read or not.
    pub fn name_of(code: u32) -> Option<&'static str> {
        let read = FORMATS.iter().map(|row| (row.1, row.2));
        read.chain(UNREAD).find(|(number, _)| *number == code).map(|(_, name)| name)
    }

    /// The names of the formats that are read.
    pub fn names() -> impl Iterator<Item = &'static str> {
        FORMATS.iter().map(|row| row.2)
    }

    fn row(self) -> &'static (BlockFormat, u32, &'static str, usize, usize) {
        // Every format has a row; the test of this file counts them.
        FORMATS.iter().find(|row| row.0 == self).unwrap_or(&FORMATS[0])
    }

    /// Weights in one block.
    pub fn weights(self) -> usize {
        self.row().3
    }

    /// Bytes of one block.
    pub fn bytes(self) -> usize {
        self.row().4
    }

    /// The values of whole blocks. Bytes of an incomplete last block are ignored.
    pub fn decode(self, bytes: &[u8]) -> Vec<f32> {
        let size = self.bytes();
        let mut values = Vec::with_capacity(bytes.len() / size * self.weights());
        let blocks = bytes.chunks_exact(size);
        match self {
            Self::F32 => {
                values.extend(blocks.map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])))
            }
            Self::F64 => values.extend(blocks.map(|b| {
                f64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]) as f32
            })),
            Self::F16 => values.extend(blocks.map(|b| half_at(b, 0))),
            Self::Bf16 => {
                values.extend(blocks.map(|b| bf16::from_le_bytes([b[0], b[1]]).to_f32()));
            }
            Self::Q4_0 => blocks.for_each(|block| {
                let scale = half_at(block, 0);
                values.extend(nibbles(&block[2..]).map(|q| (f32::from(q) - 8.0) * scale));
            }),
            Self::Q4_1 => blocks.for_each(|block| {
                let (scale, minimum) = (half_at(block, 0), half_at(block, 2));
                values.extend(nibbles(&block[4..]).map(|q| f32::from(q) * scale + minimum));
            }),
            Self::Q5_0 => blocks.for_each(|block| {
                let scale = half_at(block, 0);
                let quants = five_bits(&block[2..6], &block[6..]);
                values.extend(quants.map(|q| (f32::from(q) - 16.0) * scale));
            }),
            Self::Q5_1 => blocks.for_each(|block| {
                let (scale, minimum) = (half_at(block, 0), half_at(block, 2));
                let quants = five_bits(&block[4..8], &block[8..]);
                values.extend(quants.map(|q| f32::from(q) * scale + minimum));
            }),
            Self::Q8_0 => blocks.for_each(|block| {
                let scale = half_at(block, 0);
                values.extend(block[2..].iter().map(|q| f32::from(q.cast_signed()) * scale));
            }),
            Self::Q2K => blocks.for_each(|block| k_quants::q2k(block, &mut values)),
            Self::Q3K => blocks.for_each(|block| k_quants::q3k(block, &mut values)),
            Self::Q4K => blocks.for_each(|block| k_quants::q4k(block, &mut values)),
            Self::Q5K => blocks.for_each(|block| k_quants::q5k(block, &mut values)),
            Self::Q6K => blocks.for_each(|block| k_quants::q6k(block, &mut values)),
            Self::Iq4Nl => blocks.for_each(|block| {
                let scale = half_at(block, 0);
                values.extend(nibbles(&block[2..]).map(|q| uneven(q) * scale));
            }),
            Self::Iq4Xs => blocks.for_each(|block| iq4_xs(block, &mut values)),
            Self::Mxfp4 => blocks.for_each(|block| {
                let scale = half_of_power_of_two(block[0]);
                let quants = nibbles(&block[1..]);
                values.extend(quants.map(|q| f32::from(FOUR_BIT_FLOATS[usize::from(q)]) * scale));
            }),
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

/// Nibbles with a fifth bit each, the lowest bit of `high` being the first weight's.
fn five_bits(high: &[u8], low: &[u8]) -> impl Iterator<Item = u8> {
    let high = u32::from_le_bytes([high[0], high[1], high[2], high[3]]);
    nibbles(low).enumerate().map(move |(at, four)| four | (u8::from(high >> at & 1 == 1) << 4))
}

fn uneven(quant: u8) -> f32 {
    f32::from(UNEVEN[usize::from(quant)])
}

/// 2^(e − 128), half of what a byte of exponent says, as the table of values is doubled.
fn half_of_power_of_two(exponent: u8) -> f32 {
    let exponent = u32::from(exponent);
    f32::from_bits(match exponent {
        // Below the normal numbers.
        0 | 1 => 0x0020_0000 << exponent,
        _ => (exponent - 1) << 23,
    })
}

fn iq4_xs(block: &[u8], values: &mut Vec<f32>) {
    let scale = half_at(block, 0);
    let high = u16::from_le_bytes([block[2], block[3]]);
    let low = &block[4..8];
    for (group, quants) in block[8..].chunks_exact(16).enumerate() {
        let four = low[group / 2] >> (4 * (group % 2)) & 0x0f;
        let two = (high >> (2 * group) & 3) as u8;
        let scale = scale * (f32::from(four | (two << 4)) - 32.0);
        values.extend(nibbles(quants).map(|q| scale * uneven(q)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_are_given_once() {
        let mut codes: Vec<u32> = FORMATS.iter().map(|row| row.1).collect();
        codes.extend(UNREAD.map(|(code, _)| code));
        codes.sort_unstable();
        assert_eq!(codes, Vec::from_iter(0..=41));
        for (format, code, name, ..) in FORMATS {
            assert_eq!(BlockFormat::from_code(code), Some(format));
            assert_eq!(BlockFormat::name_of(code), Some(name));
        }
        assert_eq!(BlockFormat::name_of(16), Some("IQ2_XXS"));
        assert_eq!(BlockFormat::name_of(77), None);
    }
}
