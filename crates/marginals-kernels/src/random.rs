//! Counter-based random numbers: a pure function of a key and a counter.
//!
//! Philox4x32-10 (Salmon, Moraes, Dror & Shaw, "Parallel random numbers: as easy as 1, 2, 3",
//! SC 2011). A draw for (seed, batch, head, query, key, sample) depends on nothing else, so it is
//! the same whatever the tiling or the number of threads, and a backward pass can repeat it.

/// Multipliers of a round.
pub(crate) const MULTIPLIER: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
/// Increments of the key by round.
pub(crate) const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];

/// Ten rounds of Philox4x32.
#[inline(always)]
pub fn philox(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for round in 0..10 {
        if round > 0 {
            key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
        }
        let a = u64::from(counter[0]) * u64::from(MULTIPLIER[0]);
        let b = u64::from(counter[2]) * u64::from(MULTIPLIER[1]);
        counter = [
            (b >> 32) as u32 ^ counter[1] ^ key[0],
            b as u32,
            (a >> 32) as u32 ^ counter[3] ^ key[1],
            a as u32,
        ];
    }
    counter
}

/// A uniform number in the open interval (0, 1) from 64 random bits: 52 of them, offset by half a
/// step, so that neither end is ever reached.
#[inline(always)]
pub fn uniform(high: u32, low: u32) -> f64 {
    let bits = (u64::from(high) << 32 | u64::from(low)) >> 12;
    (bits as f64 + 0.5) * (1.0 / (1u64 << 52) as f64)
}

/// A standard Gumbel number, −log(−log u): the argmax of scores plus independent Gumbel noise is
/// an exact draw from their softmax.
#[inline(always)]
pub fn gumbel(u: f64) -> f64 {
    -(-u.ln()).ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Known answers published with the reference implementation (Random123, kat_vectors).
    #[test]
    fn philox_matches_the_published_vectors() {
        assert_eq!(philox([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(
            philox([u32::MAX; 4], [u32::MAX; 2]),
            [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]
        );
        assert_eq!(
            philox(
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
                [0xa409_3822, 0x299f_31d0]
            ),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }

    #[test]
    fn uniform_is_open() {
        assert!(uniform(0, 0) > 0.0 && uniform(u32::MAX, u32::MAX) < 1.0);
        assert!(
            gumbel(uniform(0, 0)).is_finite() && gumbel(uniform(u32::MAX, u32::MAX)).is_finite()
        );
    }
}
