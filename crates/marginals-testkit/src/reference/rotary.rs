//! Rotary positions (Su et al. 2021, arXiv 2104.09864): pairs of features turned by an angle
//! proportional to the position, before any potential.

use std::ops::Range;

/// Which features form a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Layout {
    /// (t, t + R/2): GPT-NeoX, Llama as Hugging Face stores it.
    HalfSplit,
    /// (2t, 2t + 1): the paper, Llama as GGUF stores it.
    Interleaved,
}

/// Pair t turns by position · base^(−2t/R), R the number of features turned.
#[derive(Clone, Debug)]
pub struct Rotary {
    /// Pairing.
    pub layout: Layout,
    /// 10000 in the paper.
    pub base: f64,
    /// R: the first so many features turn, the rest stay. Even.
    pub features: usize,
}

impl Rotary {
    /// The vector turned to `position`.
    pub fn turn(&self, x: &[f64], position: i64) -> Vec<f64> {
        let mut out = x.to_vec();
        let pairs: Range<usize> = 0..self.features / 2;
        for t in pairs {
            let (a, b) = match self.layout {
                Layout::HalfSplit => (t, t + self.features / 2),
                Layout::Interleaved => (2 * t, 2 * t + 1),
            };
            let angle = position as f64 * self.base.powf(-2.0 * t as f64 / self.features as f64);
            out[a] = x[a] * angle.cos() - x[b] * angle.sin();
            out[b] = x[a] * angle.sin() + x[b] * angle.cos();
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The property the construction exists for: inner products depend on the difference only.
    #[test]
    fn inner_products_depend_on_the_difference() {
        let (q, k) = ([0.3, -1.0, 0.7, 2.0, 5.0], [1.1, 0.2, -0.4, 0.9, 3.0]);
        let dot = |a: Vec<f64>, b: Vec<f64>| a.iter().zip(&b).map(|(a, b)| a * b).sum::<f64>();
        for layout in [Layout::HalfSplit, Layout::Interleaved] {
            let rotary = Rotary { layout, base: 100.0, features: 4 };
            let here = dot(rotary.turn(&q, 7), rotary.turn(&k, 3));
            let there = dot(rotary.turn(&q, 1004), rotary.turn(&k, 1000));
            assert!((here - there).abs() < 1e-10);
            assert!((here - dot(rotary.turn(&q, 4), k.to_vec())).abs() < 1e-12);
            assert_eq!(rotary.turn(&q, 0), q);
        }
    }

    /// One pair at one position, by hand: a quarter turn takes (1, 0) to (0, 1).
    #[test]
    fn a_quarter_turn() {
        let rotary = Rotary { layout: Layout::Interleaved, base: 1.0, features: 2 };
        let turned = rotary.turn(&[1.0, 0.0], 1);
        assert!((turned[0] - 1f64.cos()).abs() < 1e-15 && (turned[1] - 1f64.sin()).abs() < 1e-15);
    }
}
