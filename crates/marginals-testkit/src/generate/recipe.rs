//! A case as words and numbers, and the model and tensors cooked from it.

use ndarray::{Array2, Array3, Array4};

use super::Random;
use crate::reference::{Inputs, Layout, Model, Null, Potential, Prior, Rotary, alibi_slopes};
use crate::{Law, Structure, ValueKind};

/// What the numbers are like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Flavour {
    /// Standard normal features: scores of a few nats.
    Ordinary,
    /// Small integers: many scores are exactly equal, and exact in every number type.
    Ties,
    /// Scores of ±10⁴: all the mass on one edge, exponentials overflow unless shifted.
    Huge,
    /// Scores of ±10⁻⁹: almost the prior.
    Tiny,
}

impl Flavour {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Ordinary, Self::Ties, Self::Huge, Self::Tiny];

    /// A number of order 1 of this flavour.
    pub(super) fn number(self, random: &mut Random) -> f64 {
        if self == Self::Ties { random.integer(-2, 2) as f64 } else { random.normal() }
    }

    /// The factor on features (q, k) that gives a bilinear score this flavour's size.
    fn feature_scale(self) -> f64 {
        match self {
            Self::Ordinary | Self::Ties => 1.0,
            Self::Huge => 100.0,
            Self::Tiny => 3e-5,
        }
    }

    /// The factor on the scale of a score that features do not set.
    fn score_scale(self) -> f64 {
        self.feature_scale() * self.feature_scale()
    }
}

/// A prior by name; the recipe's seed gives its numbers.
#[allow(missing_docs, reason = "the names are those of `Prior`")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PriorKind {
    Uniform,
    Causal,
    Window,
    Segments,
    Adjacency,
    WeightedAdjacency,
    /// With broadcast axes and −∞ entries, rows and columns.
    Bias,
    RelativeBuckets,
    Geometric,
    Alibi,
    Laplace,
    GeneralizedGaussian,
    KeyBias,
    BetaGeometric,
}

impl PriorKind {
    /// All of them, simplest first.
    pub const ALL: [Self; 14] = [
        Self::Uniform,
        Self::Causal,
        Self::Window,
        Self::Segments,
        Self::Adjacency,
        Self::WeightedAdjacency,
        Self::Bias,
        Self::RelativeBuckets,
        Self::Geometric,
        Self::Alibi,
        Self::Laplace,
        Self::GeneralizedGaussian,
        Self::KeyBias,
        Self::BetaGeometric,
    ];
}

/// A potential by name.
#[allow(missing_docs, reason = "the names are those of `Potential`")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PotentialKind {
    Dot,
    SoftcappedDot,
    Cosine,
    Gaussian,
    DiagonalGaussian,
    Gat,
    GatV2,
    Bahdanau,
    RotaryHalfSplit,
    RotaryInterleaved,
}

impl PotentialKind {
    /// All of them, simplest first.
    pub const ALL: [Self; 10] = [
        Self::Dot,
        Self::SoftcappedDot,
        Self::Cosine,
        Self::Gaussian,
        Self::DiagonalGaussian,
        Self::Gat,
        Self::GatV2,
        Self::Bahdanau,
        Self::RotaryHalfSplit,
        Self::RotaryInterleaved,
    ];
}

/// A case before it is cooked.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// Φ.
    pub structure: Structure,
    /// Gather or average.
    pub value_kind: ValueKind,
    /// Factors of the prior.
    pub priors: Vec<PriorKind>,
    /// ψ.
    pub potential: PotentialKind,
    /// Size and kind of numbers.
    pub flavour: Flavour,
    /// B.
    pub batch: usize,
    /// H_k.
    pub key_heads: usize,
    /// H / H_k.
    pub group: usize,
    /// N.
    pub queries: usize,
    /// M.
    pub keys: usize,
    /// D; even with rotary potentials, which turn all of it.
    pub depth: usize,
    /// d_v.
    pub value_depth: usize,
    /// Position of query 0.
    pub query_offset: i64,
    /// Of every number.
    pub seed: u64,
}

/// A model and its inputs.
#[derive(Clone, Debug)]
pub struct Case {
    /// Structure, priors, potential.
    pub model: Model,
    /// q, k, v.
    pub inputs: Inputs,
}

impl Recipe {
    /// H.
    pub fn heads(&self) -> usize {
        self.key_heads * self.group
    }

    /// The same case every time.
    pub fn build(&self) -> Case {
        let mut random = Random::new(self.seed);
        let priors = self.priors.iter().map(|&kind| self.prior(kind, &mut random)).collect();
        let potential = self.cook_potential(&mut random);
        let once = if random.chance(0.5) { 1 } else { self.heads() };
        let mut null: Vec<f64> = (0..once).map(|_| self.flavour.number(&mut random)).collect();
        if random.chance(0.1) {
            null[0] = f64::NEG_INFINITY;
        }
        let model = Model {
            structure: self.structure,
            law: Law::ExponentialFamily,
            null_log_weight: null,
            null: Null::LogWeight,
            priors,
            further_priors: Vec::new(),
            potential,
            value_kind: self.value_kind,
            query_offset: self.query_offset,
        };
        let scale = self.flavour.feature_scale();
        let features = |random: &mut Random, heads, nodes| {
            Array4::from_shape_fn((self.batch, heads, nodes, self.depth), |_| {
                self.flavour.number(random) * scale
            })
        };
        let q = features(&mut random, self.heads(), self.queries);
        let k = features(&mut random, self.key_heads, self.keys);
        let v = Array4::from_shape_fn(
            (self.batch, self.key_heads, self.keys, self.value_depth),
            |_| random.normal(),
        );
        Case { model, inputs: Inputs { q, k, v } }
    }

    /// A parameter once for all heads or per head.
    fn per_head(&self, random: &mut Random, mut draw: impl FnMut(&mut Random) -> f64) -> Vec<f64> {
        let count = if random.chance(0.5) { 1 } else { self.heads() };
        (0..count).map(|_| draw(random)).collect()
    }

    /// A full axis or one to broadcast.
    fn axis(random: &mut Random, size: usize) -> usize {
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

    fn cook_potential(&self, random: &mut Random) -> Potential {
        let (h, d) = (self.heads(), self.depth);
        let ties = self.flavour == Flavour::Ties;
        let root = if ties { 0.5 } else { 1.0 / (d as f64).sqrt() };
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
