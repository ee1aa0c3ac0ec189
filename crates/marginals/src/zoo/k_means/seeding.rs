//! Where clusters start.

use crate::Real;
use marginals_kernels::Draw;
use ndarray::{Array4, ArrayView2, ArrayView4, s};
use serde::{Deserialize, Serialize};

use super::check;
use crate::Error;

/// How the centres of clusters are chosen among the points.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Seeding {
    /// One after the other, each with probability proportional to the squared distance to the
    /// nearest centre so far (k-means++; Arthur & Vassilvitskii, SODA 2007).
    #[default]
    PlusPlus,
    /// Distinct points, all equally likely.
    Points,
}

/// Starting centres [B, `heads`, K, D] among `points` [B, Hk, N, D], a function of the seed, the
/// batch entry and the head alone. O(N K D) per head.
pub fn centres<T: Real>(
    points: ArrayView4<'_, T>,
    components: usize,
    heads: usize,
    seeding: Seeding,
    seed: u64,
) -> Result<Array4<T>, Error> {
    check(&points, components, heads)?;
    let (batch, key_heads, _, width) = points.dim();
    let mut centres = Array4::zeros((batch, heads, components, width));
    for b in 0..batch {
        for h in 0..heads {
            let own = points.slice(s![b, h / (heads / key_heads), .., ..]);
            let uniform = |k: usize| {
                let (batch, head, query) = (b as u32, h as u32, k as u32);
                Draw { seed, batch, head, query, sample: 0 }.uniform(0)
            };
            let chosen = match seeding {
                Seeding::PlusPlus => plus_plus(own, components, uniform),
                Seeding::Points => distinct(own.nrows(), components, uniform),
            };
            for (k, j) in chosen.into_iter().enumerate() {
                centres.slice_mut(s![b, h, k, ..]).assign(&own.row(j));
            }
        }
    }
    Ok(centres)
}

/// One of n from a uniform number, which rounding may take to n itself.
fn pick(uniform: f64, n: usize) -> usize {
    ((uniform * n as f64) as usize).min(n - 1)
}

/// The first `count` of 0..n shuffled (Fisher & Yates).
fn distinct(n: usize, count: usize, uniform: impl Fn(usize) -> f64) -> Vec<usize> {
    let mut indices: Vec<usize> = (0..n).collect();
    for k in 0..count {
        indices.swap(k, k + pick(uniform(k), n - k));
    }
    indices.truncate(count);
    indices
}

fn plus_plus<T: Real>(
    points: ArrayView2<'_, T>,
    count: usize,
    uniform: impl Fn(usize) -> f64,
) -> Vec<usize> {
    let n = points.nrows();
    let mut chosen = vec![pick(uniform(0), n)];
    let mut nearest = vec![f64::INFINITY; n];
    for k in 1..count {
        let last = points.row(chosen[k - 1]);
        for (nearest, x) in nearest.iter_mut().zip(points.rows()) {
            let square = x.iter().zip(last).map(|(x, c)| (x.f64() - c.f64()).powi(2)).sum();
            *nearest = nearest.min(square);
        }
        let total: f64 = nearest.iter().sum();
        let goal = uniform(k) * total;
        let mut sum = 0.0;
        let found = nearest.iter().position(|d| {
            sum += d;
            sum > goal
        });
        // Where every point is a centre already, or the sum is not finite, any point will do.
        chosen.push(found.unwrap_or(pick(uniform(k), n)));
    }
    chosen
}
