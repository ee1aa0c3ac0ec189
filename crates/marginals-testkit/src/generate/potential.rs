//! The numbers of potentials.

use ndarray::{Array2, Array3};

use super::{Flavour, PotentialKind, Random, Recipe};
use crate::reference::{Layout, Potential, Rotary};

impl Recipe {
    pub(super) fn cook_potential(&self, random: &mut Random) -> Potential {
        let (h, d) = (self.heads(), self.depth);
        let ties = self.flavour == Flavour::Ties;
        let root = if ties { 0.5 } else { 1.0 / (d.max(1) as f64).sqrt() };
        let hidden = 1 + (self.seed % 4) as usize;
        let scores = self.flavour.score_scale();
        let weights = |random: &mut Random, heads: usize| {
            let heads = Self::axis(random, heads);
            Array3::from_shape_fn((heads, hidden, d), |_| self.flavour.number(random) * root)
        };
        let vector = |random: &mut Random, heads: usize, scale: f64| {
            let heads = Self::axis(random, heads);
            Array2::from_shape_fn((heads, hidden), |_| self.flavour.number(random) * scale)
        };
        let dot = |random: &mut Random| Potential::Dot {
            scale: self.per_head(random, |r| if ties { root } else { root * r.between(0.5, 1.5) }),
            softcap: None,
        };
        match self.potential {
            PotentialKind::Dot => dot(random),
            PotentialKind::SoftcappedDot => {
                let Potential::Dot { scale, .. } = dot(random) else { unreachable!() };
                Potential::Dot { scale, softcap: Some(random.between(1.0, 30.0)) }
            }
            PotentialKind::Cosine => {
                Potential::Cosine { scale: self.per_head(random, |r| scores * r.between(0.5, 4.0)) }
            }
            PotentialKind::Gaussian => Potential::Gaussian {
                precision: Array2::from_shape_fn((Self::axis(random, h), 1), |_| {
                    if ties { 0.5 } else { random.between(0.1, 2.0) }
                }),
            },
            PotentialKind::DiagonalGaussian => Potential::Gaussian {
                precision: Array2::from_shape_fn((Self::axis(random, h), d), |_| {
                    random.between(0.1, 2.0)
                }),
            },
            // Linear in the features: the vectors carry the other half of the size.
            PotentialKind::Gat => Potential::Gat {
                query_weight: weights(random, h),
                key_weight: weights(random, self.key_heads),
                query_vector: vector(random, h, self.flavour.feature_scale()),
                key_vector: vector(random, self.key_heads, self.flavour.feature_scale()),
                slope: 0.2,
            },
            PotentialKind::GatV2 => Potential::GatV2 {
                query_weight: weights(random, h),
                key_weight: weights(random, self.key_heads),
                vector: vector(random, h, self.flavour.feature_scale()),
                slope: 0.2,
            },
            // Bounded in the features: the vector carries all of it.
            PotentialKind::Bahdanau => Potential::Bahdanau {
                query_weight: weights(random, h),
                key_weight: weights(random, self.key_heads),
                vector: vector(random, h, if scores > 1.0 { scores } else { 1.0 }),
            },
            PotentialKind::RotaryHalfSplit | PotentialKind::RotaryInterleaved => {
                let layout = match self.potential {
                    PotentialKind::RotaryHalfSplit => Layout::HalfSplit,
                    _ => Layout::Interleaved,
                };
                let base = random.between(10.0, 10_000.0);
                let rotary = Rotary { layout, base, features: d };
                Potential::Rotated(rotary, Box::new(dot(random)))
            }
        }
    }
}
