//! log w_ij of every prior.

use ndarray::{Array2, Array3, Array4};

use super::{Site, per_head};

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

/// log w as a function of the edge, for one head.
pub type LogWeight<'a> = Box<dyn Fn(&Site) -> f64 + 'a>;

impl Prior {
    /// log w_ij of a head whose nodes are numbered up to `queries` and `keys`.
    pub fn evaluator(
        &self,
        head: usize,
        queries: usize,
        keys: usize,
        query_offset: i64,
    ) -> LogWeight<'_> {
        let allow = |possible: bool| if possible { 0.0 } else { f64::NEG_INFINITY };
        match self {
            Self::Uniform => Box::new(|_| 0.0),
            Self::Causal => Box::new(move |e| allow(e.key as i64 <= e.position)),
            Self::Window { left, right } => Box::new(move |e| {
                let ahead = e.key as i64 - e.position;
                allow(if ahead < 0 {
                    ahead.unsigned_abs() <= *left
                } else {
                    ahead as u64 <= *right
                })
            }),
            Self::Segments { queries, keys } => {
                Box::new(move |e| allow(queries[[e.batch, e.query]] == keys[[e.batch, e.key]]))
            }
            Self::Adjacency { indptr, indices, log_weights } => Box::new(move |e| {
                (indptr[e.query]..indptr[e.query + 1])
                    .find(|&edge| indices[edge] == e.key)
                    .map_or(f64::NEG_INFINITY, |edge| log_weights.as_ref().map_or(0.0, |w| w[edge]))
            }),
            Self::Bias(bias) => Box::new(move |e| {
                let (b, h, n, m) = bias.dim();
                let full = |size: usize, index: usize| if size == 1 { 0 } else { index };
                bias[[full(b, e.batch), full(h, e.head), full(n, e.query), full(m, e.key)]]
            }),
            Self::RelativeBuckets { table, max_distance, bidirectional } => Box::new(move |e| {
                let relative = e.key as i64 - e.position;
                let column = if table.ncols() == 1 { 0 } else { head };
                let bucket =
                    relative_bucket(relative, table.nrows(), *max_distance, *bidirectional);
                table[[bucket, column]]
            }),
            Self::Geometric { rho } => {
                let rho = per_head(rho, head);
                Box::new(move |e| log_power(1.0 - rho, e.distance()))
            }
            Self::Alibi { slopes } => {
                let slope = per_head(slopes, head);
                Box::new(move |e| -slope * e.distance() as f64)
            }
            Self::Laplace { scale } => {
                let scale = per_head(scale, head);
                Box::new(move |e| -(e.distance() as f64) / scale)
            }
            Self::GeneralizedGaussian { scale, shape } => {
                let (scale, shape) = (per_head(scale, head), per_head(shape, head));
                Box::new(move |e| -(e.distance() as f64 / scale).powf(shape))
            }
            Self::KeyBias(bias) => Box::new(move |e| {
                let (b, h, m) = bias.dim();
                let full = |size: usize, index: usize| if size == 1 { 0 } else { index };
                bias[[full(b, e.batch), full(h, e.head), full(m, e.key)]]
            }),
            Self::BetaGeometric { alpha, beta } => {
                let (alpha, beta) = (per_head(alpha, head), per_head(beta, head));
                let reach = queries as u64 + keys as u64 + query_offset.unsigned_abs();
                let table = log_beta_geometric(alpha, beta, reach as usize);
                Box::new(move |e| table[e.distance() as usize])
            }
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

/// d · log x with 0 · log 0 = 0: x⁰ is 1 whatever x.
fn log_power(x: f64, d: u64) -> f64 {
    if d == 0 { 0.0 } else { d as f64 * x.ln() }
}

/// log B(α + 1, β + d) − log B(α, β) for d = 0..=`reach`, as the log of the finite product
/// α/(α + β) · Π_{t<d} (β + t)/(α + β + 1 + t), which needs no gamma function.
pub fn log_beta_geometric(alpha: f64, beta: f64, reach: usize) -> Vec<f64> {
    let mut table = vec![alpha.ln() - (alpha + beta).ln()];
    for t in 0..reach {
        let t_next = t as f64;
        table.push(table[t] + ((beta + t_next) / (alpha + beta + 1.0 + t_next)).ln());
    }
    table
}

/// T5's bucket of a relative position (key − query): one bucket per distance up to half of them, then
/// logarithmically wider ones up to `max_distance`. Bidirectional splits the buckets in two, keys
/// ahead in the upper half; otherwise keys ahead share bucket 0 with the query's own position.
///
/// The logarithm is compared at bucket boundaries, where it is an integer up to rounding; the slack
/// puts a boundary distance into the upper bucket, as exact arithmetic does.
pub fn relative_bucket(
    relative: i64,
    buckets: usize,
    max_distance: u64,
    bidirectional: bool,
) -> usize {
    let (base, distance, buckets) = if bidirectional {
        let half = buckets / 2;
        (if relative > 0 { half } else { 0 }, relative.unsigned_abs(), half)
    } else {
        (0, (-relative).max(0) as u64, buckets)
    };
    let exact = (buckets / 2) as u64;
    if distance < exact {
        return base + distance as usize;
    }
    let share = (distance as f64 / exact as f64).ln() / (max_distance as f64 / exact as f64).ln();
    let wide = (share * (buckets as u64 - exact) as f64 + 1e-9).floor() as usize;
    base + (exact as usize + wide).min(buckets - 1)
}

/// The slopes of Press et al.: 2^(−8h/H), h = 1..H, for a power of two; otherwise those of the power
/// of two below H followed by every other one of the power of two above.
pub fn alibi_slopes(heads: usize) -> Vec<f64> {
    let power_of_two = |n: usize| (1..=n).map(move |h| 2f64.powf(-8.0 * h as f64 / n as f64));
    if heads.is_power_of_two() {
        return power_of_two(heads).collect();
    }
    let below = heads.next_power_of_two() / 2;
    power_of_two(below).chain(power_of_two(2 * below).step_by(2)).take(heads).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The closed form against the integral it comes from: ∫ ρ(1−ρ)^d Beta(ρ; α, β) dρ by the
    /// midpoint rule, for shapes without poles at the ends.
    #[test]
    fn beta_geometric_is_the_integral_over_rho() {
        for (alpha, beta) in [(1.0, 1.0), (2.0, 5.0), (3.5, 2.5)] {
            let table = log_beta_geometric(alpha, beta, 12);
            let steps = 400_000;
            // Σ ρᵃ (1−ρ)ᵇ over the midpoints.
            let integral = |a: f64, b: f64| {
                (0..steps)
                    .map(|s| (f64::from(s) + 0.5) / f64::from(steps))
                    .map(|rho| rho.powf(a) * (1.0 - rho).powf(b))
                    .sum::<f64>()
            };
            let normaliser = integral(alpha - 1.0, beta - 1.0);
            for d in [0, 1, 5, 12] {
                let expected = (integral(alpha, beta - 1.0 + f64::from(d)) / normaliser).ln();
                assert!(
                    (table[d as usize] - expected).abs() < 1e-6,
                    "{alpha} {beta} {d}: {} {expected}",
                    table[d as usize]
                );
            }
        }
    }

    /// Buckets printed by the implementation that accompanies the paper for 32 buckets, 128 apart.
    #[test]
    fn buckets_of_t5() {
        let both = |relative| relative_bucket(relative, 32, 128, true);
        let back = |relative| relative_bucket(relative, 32, 128, false);
        let got: Vec<_> =
            [0, -1, -7, -8, -11, -12, -16, -23, -32, -64, -127, -128, -9999].map(both).to_vec();
        assert_eq!(got, [0, 1, 7, 8, 8, 9, 10, 11, 12, 14, 15, 15, 15]);
        assert_eq!([1, 7, 8, 128].map(both), [17, 23, 24, 31]);
        assert_eq!(
            [5, 0, -1, -15, -16, -32, -64, -128, -500].map(back),
            [0, 0, 1, 15, 16, 21, 26, 31, 31]
        );
    }

    #[test]
    fn slopes_of_alibi() {
        assert_eq!(alibi_slopes(8)[0], 0.5);
        assert_eq!(alibi_slopes(8)[7], 1.0 / 256.0);
        let twelve = alibi_slopes(12);
        assert_eq!(twelve[..8], alibi_slopes(8)[..]);
        assert!((twelve[8] - 2f64.powf(-0.5)).abs() < 1e-15);
        assert!((twelve[11] - 2f64.powf(-3.5)).abs() < 1e-15);
        assert_eq!(alibi_slopes(3).len(), 3);
        assert_eq!(alibi_slopes(1), [1.0 / 256.0]);
    }
}
