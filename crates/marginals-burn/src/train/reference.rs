//! References that a trained model should be better than: bits per byte of older ways to predict bytes.

use std::collections::HashMap;

/// Counts of the bytes that followed one context.
#[derive(Default)]
struct Followers {
    total: u32,
    counts: HashMap<u8, u32>,
}

/// Bits per byte of `held_out` under a model of the `order` bytes before each, its counts taken from
/// `train` and interpolated with those of shorter contexts (Witten & Bell, IEEE Trans. Inf. Theory
/// 37(4), 1991, method C):
///
/// ```text
/// p_n(x | c) = (count(c, x) + kinds(c) p_{n−1}(x | c')) / (count(c) + kinds(c)),   p_{−1} = 1/256
/// ```
///
/// kinds(c) counts the different bytes that followed c. The first bytes are predicted from what there
/// is of their context. 0 for an empty text.
pub fn context_model_bits(train: &[u8], held_out: &[u8], order: usize) -> f64 {
    let mut tables: Vec<HashMap<Vec<u8>, Followers>> = Vec::new();
    for length in 0..=order {
        let mut table: HashMap<Vec<u8>, Followers> = HashMap::new();
        for window in train.windows(length + 1) {
            let (context, byte) = window.split_at(length);
            // Most contexts are there already: they are not copied to look.
            if !table.contains_key(context) {
                table.insert(context.to_vec(), Followers::default());
            }
            if let Some(followers) = table.get_mut(context) {
                followers.total += 1;
                *followers.counts.entry(byte[0]).or_default() += 1;
            }
        }
        tables.push(table);
    }
    let mut bits = 0.0;
    for (at, byte) in held_out.iter().enumerate() {
        let mut p = 1.0 / 256.0;
        for (length, table) in tables.iter().enumerate().take(at + 1) {
            if let Some(followers) = table.get(&held_out[at - length..at]) {
                let kinds = followers.counts.len() as f64;
                let count = f64::from(followers.counts.get(byte).copied().unwrap_or(0));
                p = (count + kinds * p) / (f64::from(followers.total) + kinds);
            }
        }
        bits -= p.log2();
    }
    bits / held_out.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_always_follows_costs_little_and_what_never_came_eight_bits() {
        let train = b"abcabcabcabcabcabcabcabcabcabcabcabc".repeat(20);
        assert!(context_model_bits(&train, &b"abc".repeat(50), 3) < 0.2);
        // A byte that never came goes down to the uniform one, past every context that was seen.
        let (counted, kinds) = (train.len() as f64, 3.0);
        let expected = -(kinds / 256.0 / (counted + kinds)).log2();
        assert!((context_model_bits(&train, b"z", 3) - expected).abs() < 1e-12);
        assert_eq!(context_model_bits(b"", b"xyz", 3), 8.0);
        assert_eq!(context_model_bits(b"abc", b"", 3), 0.0);
    }

    /// Probabilities of all bytes add up to 1 after any context.
    #[test]
    fn it_is_a_distribution() {
        let train = b"to be or not to be, that is the question";
        for context in [&b"to"[..], b"xq", b" th"] {
            let bits = |text: &[u8]| context_model_bits(train, text, 2) * text.len() as f64;
            let total: f64 = (0..=255u8)
                .map(|byte| (bits(context) - bits(&[context, &[byte]].concat())).exp2())
                .sum();
            assert!((total - 1.0).abs() < 1e-9, "{total}");
        }
    }
}
