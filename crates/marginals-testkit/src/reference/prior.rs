//! log w_ij of every prior.

use ndarray::{Array2, Array3, Array4};

use super::decay::Decay;
use super::{Place, Site, per_head};

/// What is known about edges before looking at the content. `d` is |position − j|.
#[derive(Clone, Debug)]
pub enum Prior {
    /// 0.
    Uniform,
    /// 0 if j ≤ position, else −∞.
    Causal,
    /// 0 if position − left ≤ j ≤ position + right, else −∞.
    Window {
        /// Reach towards smaller positions.
        left: u64,
        /// Reach towards larger positions.
        right: u64,
    },
    /// 0 if query and key carry the same label, else −∞.
    Segments {
        /// B × N.
        queries: Array2<i64>,
        /// B × M.
        keys: Array2<i64>,
    },
    /// The log-weight of the stored edge, −∞ where none is stored. Row i holds
    /// `indices[indptr[i]..indptr[i + 1]]`.
    Adjacency {
        /// N + 1 row starts.
        indptr: Vec<usize>,
        /// Keys, in order within a row.
        indices: Vec<usize>,
        /// One per stored edge; 0 without.
        log_weights: Option<Vec<f64>>,
    },
    /// A matrix of log-weights, each axis of B × H × N × M full or 1.
    Bias(Array4<f64>),
    /// `table[bucket(j − position), head]` (Raffel et al. 2020, arXiv 1910.10683, §2.1).
    RelativeBuckets {
        /// Buckets × (1 or H).
        table: Array2<f64>,
        /// Distances from here on share the last bucket.
        max_distance: u64,
        /// Whether keys ahead have buckets of their own.
        bidirectional: bool,
    },
    /// d · log(1 − ρ), ρ once or per head.
    Geometric {
        /// In \[0, 1\].
        rho: Vec<f64>,
    },
    /// −slope · d (Press et al. 2022, arXiv 2108.12409).
    Alibi {
        /// Once or per head.
        slopes: Vec<f64>,
    },
    /// −d / scale.
    Laplace {
        /// Once or per head.
        scale: Vec<f64>,
    },
    /// −(d / scale)^shape.
    GeneralizedGaussian {
        /// Once or per head.
        scale: Vec<f64>,
        /// Once or per head.
        shape: Vec<f64>,
    },
    /// One log-weight per key, each axis of B × H × M full or 1.
    KeyBias(Array3<f64>),
    /// log B(α + 1, β + d) − log B(α, β): a geometric whose ρ has a Beta(α, β) hyperprior.
    BetaGeometric {
        /// Once or per head.
        alpha: Vec<f64>,
        /// Once or per head.
        beta: Vec<f64>,
    },
}

impl Prior {
    /// log w of every edge as matrices, N × M, whose sum it is: a prior of distance gives what the
    /// nearest pair of nodes has, which is common to all, and by how much the others differ from it,
    /// so that neither rounds the other.
    pub(super) fn terms(&self, place: &Place) -> Vec<Array2<f64>> {
        let Some(decay) = self.decay(place.head) else {
            return vec![place.matrix(|site| self.log_weight(site))];
        };
        let relative = |site: &Site| site.key as f64 - site.position as f64;
        let nearest = place.sites().map(|site| relative(&site).abs()).fold(f64::INFINITY, f64::min);
        match decay.common(nearest) {
            Some(common) if nearest > 0.0 => vec![
                place.matrix(|_| common),
                place.matrix(|site| decay.gain(relative(site), nearest)),
            ],
            _ => vec![place.matrix(|site| decay.at(relative(site)))],
        }
    }

    /// The function of the distance that log w is, if it is one.
    pub(super) fn decay(&self, head: usize) -> Option<Decay<'_>> {
        Some(match self {
            Self::RelativeBuckets { table, max_distance, bidirectional } => Decay::Buckets {
                values: table.column(if table.ncols() == 1 { 0 } else { head }),
                max_distance: *max_distance,
                bidirectional: *bidirectional,
            },
            Self::Geometric { rho } => Decay::Linear { slope: -(-per_head(rho, head)).ln_1p() },
            Self::Alibi { slopes } => Decay::Linear { slope: per_head(slopes, head) },
            Self::Laplace { scale } => Decay::Linear { slope: 1.0 / per_head(scale, head) },
            Self::GeneralizedGaussian { scale, shape } => {
                Decay::Power { scale: per_head(scale, head), shape: per_head(shape, head) }
            }
            Self::BetaGeometric { alpha, beta } => {
                Decay::BetaGeometric { alpha: per_head(alpha, head), beta: per_head(beta, head) }
            }
            _ => return None,
        })
    }

    /// log w of an edge where it is no function of the distance.
    fn log_weight(&self, e: &Site) -> f64 {
        let allow = |possible: bool| if possible { 0.0 } else { f64::NEG_INFINITY };
        let full = |size: usize, index: usize| if size == 1 { 0 } else { index };
        match self {
            Self::Uniform => 0.0,
            Self::Causal => allow(e.key as i64 <= e.position),
            Self::Window { left, right } => {
                let ahead = e.key as i64 - e.position;
                allow(match ahead < 0 {
                    true => ahead.unsigned_abs() <= *left,
                    false => ahead as u64 <= *right,
                })
            }
            Self::Segments { queries, keys } => {
                allow(queries[[e.batch, e.query]] == keys[[e.batch, e.key]])
            }
            Self::Adjacency { indptr, indices, log_weights } => {
                let mut row = indptr[e.query]..indptr[e.query + 1];
                let weight = |edge: usize| log_weights.as_ref().map_or(0.0, |w| w[edge]);
                row.find(|&edge| indices[edge] == e.key).map_or(f64::NEG_INFINITY, weight)
            }
            Self::Bias(bias) => {
                let (b, h, n, m) = bias.dim();
                bias[[full(b, e.batch), full(h, e.head), full(n, e.query), full(m, e.key)]]
            }
            Self::KeyBias(bias) => {
                let (b, h, m) = bias.dim();
                bias[[full(b, e.batch), full(h, e.head), full(m, e.key)]]
            }
            _ => unreachable!("a prior of distance"),
        }
    }

    /// The learnable parameters by name.
    pub(super) fn parameters_mut(&mut self) -> Vec<(&'static str, &mut [f64])> {
        const CONTIGUOUS: &str = "parameters are owned and in standard layout";
        match self {
            Self::Uniform | Self::Causal | Self::Window { .. } | Self::Segments { .. } => vec![],
            Self::Adjacency { log_weights, .. } => {
                log_weights.iter_mut().map(|w| ("adjacency.log-weights", &mut w[..])).collect()
            }
            Self::Bias(bias) => vec![("bias", bias.as_slice_mut().expect(CONTIGUOUS))],
            Self::RelativeBuckets { table, .. } => {
                vec![("relative-bias", table.as_slice_mut().expect(CONTIGUOUS))]
            }
            Self::Geometric { rho } => vec![("geometric.rho", &mut rho[..])],
            Self::Alibi { slopes } => vec![("alibi.slopes", &mut slopes[..])],
            Self::Laplace { scale } => vec![("laplace.scale", &mut scale[..])],
            Self::GeneralizedGaussian { scale, shape } => {
                vec![
                    ("generalized-gaussian.scale", &mut scale[..]),
                    ("generalized-gaussian.shape", &mut shape[..]),
                ]
            }
            Self::KeyBias(bias) => vec![("key-bias", bias.as_slice_mut().expect(CONTIGUOUS))],
            Self::BetaGeometric { alpha, beta } => {
                vec![
                    ("beta-geometric.alpha", &mut alpha[..]),
                    ("beta-geometric.beta", &mut beta[..]),
                ]
            }
        }
    }
}
