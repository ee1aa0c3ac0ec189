//! The numbers of priors.

use ndarray::{Array2, Array3, Array4};

use super::recipe::{AnyPrior, Recipe};
use super::{DistanceKind, Flavour, PriorKind, Random};
use crate::reference::{Distance, FurtherPrior, Prior, alibi_slopes};

impl Recipe {
    /// A prior with its numbers.
    pub(super) fn any_prior(&self, kind: PriorKind, random: &mut Random) -> AnyPrior {
        AnyPrior::Further(match kind {
            PriorKind::Survival => FurtherPrior::Survival { log_gates: self.log_gates(random) },
            PriorKind::OverDistance(decay, distance) => {
                let prior = self.prior(decay.by_index(), random);
                let distance = match distance {
                    DistanceKind::Index => Distance::Index,
                    DistanceKind::Survival => {
                        Distance::Survival { log_gates: self.log_gates(random) }
                    }
                    DistanceKind::Contextual => Distance::Contextual {
                        scale: self.per_head(random, |r| r.between(0.2, 1.5)),
                    },
                };
                FurtherPrior::OverDistance { prior, distance }
            }
            kind => return AnyPrior::Plain(self.prior(kind, random)),
        })
    }

    /// log f of every key: a fifth of the gates are open, a tenth all but closed.
    fn log_gates(&self, random: &mut Random) -> Array3<f64> {
        let shape = (Self::axis(random, self.batch), Self::axis(random, self.heads()), self.keys);
        Array3::from_shape_fn(shape, |_| match random.integer(0, 9) {
            0 | 1 => 0.0,
            2 => -random.between(20.0, 1_000.0),
            _ if self.flavour == Flavour::Ties => -(random.integer(0, 2) as f64),
            // log σ of a normal number.
            _ => -(-2.0 * random.normal()).exp().ln_1p(),
        })
    }

    /// A full axis or one to broadcast.
    pub(super) fn axis(random: &mut Random, size: usize) -> usize {
        if random.chance(0.4) { 1 } else { size }
    }

    fn prior(&self, kind: PriorKind, random: &mut Random) -> Prior {
        let (b, h, n, m) = (self.batch, self.heads(), self.queries, self.keys);
        let reach = n.max(m) as i64;
        let ties = self.flavour == Flavour::Ties;
        match kind {
            PriorKind::Uniform => Prior::Uniform,
            PriorKind::Causal => Prior::Causal,
            PriorKind::Window => Prior::Window {
                left: random.integer(0, reach) as u64 / 2,
                right: random.integer(0, reach) as u64 / 2,
            },
            PriorKind::Segments => {
                // Sorted labels are packed documents; one in four is any labelling, with labels that
                // only one side has.
                let any = random.chance(0.25);
                let mut labels = |count: usize| {
                    let mut row: Vec<i64> = (0..count).map(|_| random.integer(0, 3)).collect();
                    if !any {
                        row.sort_unstable();
                    }
                    row
                };
                let queries: Vec<i64> = (0..b).flat_map(|_| labels(n)).collect();
                let keys: Vec<i64> = (0..b).flat_map(|_| labels(m)).collect();
                Prior::Segments {
                    queries: Array2::from_shape_vec((b, n), queries).expect("B rows of N"),
                    keys: Array2::from_shape_vec((b, m), keys).expect("B rows of M"),
                }
            }
            PriorKind::Adjacency | PriorKind::WeightedAdjacency => {
                let density = random.between(0.1, 0.9);
                let (mut indptr, mut indices) = (vec![0], Vec::new());
                for _ in 0..n {
                    let isolated = random.chance(0.1);
                    indices.extend((0..m).filter(|_| random.chance(density) && !isolated));
                    indptr.push(indices.len());
                }
                let log_weights = (kind == PriorKind::WeightedAdjacency)
                    .then(|| indices.iter().map(|_| self.flavour.number(random)).collect());
                Prior::Adjacency { indptr, indices, log_weights }
            }
            PriorKind::Bias => self.bias(random),
            PriorKind::RelativeBuckets => {
                let bidirectional = random.chance(0.5);
                let columns = Self::axis(random, h);
                let buckets = *random.pick(&[4, 8, 32]);
                let table =
                    Array2::from_shape_fn((buckets, columns), |_| self.flavour.number(random));
                let max_distance = *random.pick(&[buckets as u64, 128]);
                Prior::RelativeBuckets { table, max_distance, bidirectional }
            }
            PriorKind::Geometric => {
                Prior::Geometric { rho: self.per_head(random, |r| r.between(0.02, 0.9)) }
            }
            PriorKind::Alibi if random.chance(0.3) => Prior::Alibi { slopes: alibi_slopes(h) },
            PriorKind::Alibi => {
                let slope = |r: &mut Random| if ties { 0.5 } else { r.between(0.01, 1.0) };
                Prior::Alibi { slopes: self.per_head(random, slope) }
            }
            PriorKind::Laplace => {
                let scale = |r: &mut Random| if ties { 2.0 } else { r.between(0.5, 20.0) };
                Prior::Laplace { scale: self.per_head(random, scale) }
            }
            PriorKind::GeneralizedGaussian => Prior::GeneralizedGaussian {
                scale: self.per_head(random, |r| r.between(0.8, 20.0)),
                shape: self.per_head(random, |r| r.between(0.6, 2.5)),
            },
            PriorKind::KeyBias => {
                let shape = (Self::axis(random, b), Self::axis(random, h), m);
                Prior::KeyBias(Array3::from_shape_fn(shape, |_| {
                    if random.chance(0.1) { f64::NEG_INFINITY } else { self.flavour.number(random) }
                }))
            }
            PriorKind::BetaGeometric => Prior::BetaGeometric {
                alpha: self.per_head(random, |r| r.between(0.3, 5.0)),
                beta: self.per_head(random, |r| r.between(0.3, 10.0)),
            },
            PriorKind::Survival | PriorKind::OverDistance(..) => unreachable!("a further prior"),
        }
    }

    /// Any broadcast shape; half of them with −∞ entries, whole rows and whole columns.
    fn bias(&self, random: &mut Random) -> Prior {
        let shape = (
            Self::axis(random, self.batch),
            Self::axis(random, self.heads()),
            Self::axis(random, self.queries),
            Self::axis(random, self.keys),
        );
        let sparse = random.chance(0.5);
        let dead_row: Vec<bool> = (0..shape.2).map(|_| sparse && random.chance(0.15)).collect();
        let dead_column: Vec<bool> = (0..shape.3).map(|_| sparse && random.chance(0.1)).collect();
        Prior::Bias(Array4::from_shape_fn(shape, |(_, _, i, j)| {
            if dead_row[i] || dead_column[j] || (sparse && random.chance(0.2)) {
                f64::NEG_INFINITY
            } else {
                self.flavour.number(random)
            }
        }))
    }
}
