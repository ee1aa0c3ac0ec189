//! Blocks of 256 weights whose groups have quantised scales of their own ("k-quants").

use super::half_at;

/// 16 bytes with a scale and a minimum of four bits each, 64 of quants, two halves.
pub(super) fn q2k(block: &[u8], values: &mut Vec<f32>) {
    let (groups, rest) = block.split_at(16);
    let (quants, rest) = rest.split_at(64);
    let (scale, minimum) = (half_at(rest, 0), half_at(rest, 2));
    for (group, packed) in groups.iter().enumerate() {
        let scale = scale * f32::from(packed & 0x0f);
        let minimum = minimum * f32::from(packed >> 4);
        let quants = two_bits(quants, group);
        values.extend(quants.map(|q| scale * f32::from(q) - minimum));
    }
}

/// 32 bytes of third bits, 64 of quants, 12 of scales, a half.
pub(super) fn q3k(block: &[u8], values: &mut Vec<f32>) {
    let (third_bits, rest) = block.split_at(32);
    let (quants, rest) = rest.split_at(64);
    let (packed, scale) = rest.split_at(12);
    let scale = half_at(scale, 0);
    for group in 0..16 {
        let four = packed[group % 8] >> (4 * (group / 8)) & 0x0f;
        let two = packed[8 + group % 4] >> (2 * (group / 4)) & 3;
        let scale = scale * (f32::from(four | (two << 4)) - 32.0);
        // Sixteen groups share 32 bytes of third bits: eight bits, and two groups beside each other.
        let third_bits = &third_bits[16 * (group % 2)..][..16];
        for (q, byte) in two_bits(quants, group).zip(third_bits) {
            // A weight whose bit is missing is four less.
            let less = if byte >> (group / 2) & 1 == 1 { 0.0 } else { 4.0 };
            values.push(scale * (f32::from(q) - less));
        }
    }
}

/// Two halves, 12 bytes of scales and minima, 128 of quants.
pub(super) fn q4k(block: &[u8], values: &mut Vec<f32>) {
    for (group, quants) in four_bits(&block[16..]).enumerate() {
        let (scale, minimum) = scale_and_minimum(block, group);
        values.extend(quants.map(|q| scale * f32::from(q) - minimum));
    }
}

/// Two halves, 12 bytes of scales and minima, 32 of fifth bits, 128 of quants.
pub(super) fn q5k(block: &[u8], values: &mut Vec<f32>) {
    let (fifth_bits, quants) = block[16..].split_at(32);
    for (group, quants) in four_bits(quants).enumerate() {
        let (scale, minimum) = scale_and_minimum(block, group);
        values.extend(quants.zip(fifth_bits).map(|(q, byte)| {
            let fifth = byte >> group & 1;
            scale * f32::from(q | (fifth << 4)) - minimum
        }));
    }
}

/// 128 bytes of low and 64 of high bits, 16 of scales, a half.
pub(super) fn q6k(block: &[u8], values: &mut Vec<f32>) {
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

/// The two-bit quants of a group of 16. Each half of the block is 32 bytes, and a group's quants lie in
/// 16 neighbouring ones, at one of four places within the byte.
fn two_bits(quants: &[u8], group: usize) -> impl Iterator<Item = u8> {
    let (half, place, side) = (group / 8, group % 8 / 2, group % 2);
    quants[32 * half + 16 * side..][..16].iter().map(move |byte| byte >> (2 * place) & 3)
}

/// The four-bit quants of each group of 32: the low nibbles of 32 bytes, then the high ones.
fn four_bits(quants: &[u8]) -> impl Iterator<Item = impl Iterator<Item = u8>> {
    fn nibbles(bytes: &[u8], shift: u32) -> impl Iterator<Item = u8> {
        bytes.iter().map(move |byte| byte >> shift & 0x0f)
    }
    quants.chunks_exact(32).flat_map(|bytes| [nibbles(bytes, 0), nibbles(bytes, 4)])
}

/// The scale and the minimum of a group of 32, of a block that begins with the factors of both and twelve
/// bytes in which eight 6-bit scales and eight 6-bit minima are packed: the first four of each take the low
/// six bits of a byte, and lend their top two bits to the last four.
fn scale_and_minimum(block: &[u8], group: usize) -> (f32, f32) {
    let packed = &block[4..16];
    let (scale, minimum) = if group < 4 {
        (packed[group] & 63, packed[group + 4] & 63)
    } else {
        (
            (packed[group + 4] & 0x0f) | ((packed[group - 4] >> 6) << 4),
            (packed[group + 4] >> 4) | ((packed[group] >> 6) << 4),
        )
    };
    (half_at(block, 0) * f32::from(scale), half_at(block, 2) * f32::from(minimum))
}
