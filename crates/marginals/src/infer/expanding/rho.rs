//! The posterior of ρ.

use crate::Real;
use marginals_kernels::{InstructionSet, TileMut};

use super::problem::{Expansion, Problem};
use super::weights::{Concentrations, Rates};
use super::windows::{ExpandingPrior, runs};
use crate::infer::statistic::{EdgeFunction, Request};
use crate::infer::streaming::{Run, TASKS};
use crate::special::ln_beta;
use crate::{Block, parallel};

/// E[ρ | φ_ij = 1], or E[ρ² | φ_ij = 1], under Beta(α + 1, β + d), d the distance of the edge.
#[derive(Debug)]
pub(super) struct RhoMoment<'a> {
    concentrations: &'a Concentrations,
    power: Power,
}

#[derive(Clone, Copy, Debug)]
enum Power {
    One,
    Two,
}

impl<'a> RhoMoment<'a> {
    /// The first and the second.
    pub fn both(concentrations: &'a Concentrations) -> [Self; 2] {
        [Power::One, Power::Two].map(|power| Self { concentrations, power })
    }
}

/// ∂E[ρ | φ_ij = 1]/∂α or /∂β: (β + d)/s² and −(α + 1)/s², s = α + β + 1 + d.
#[derive(Debug)]
pub(super) struct RhoSlope<'a> {
    concentrations: &'a Concentrations,
    of: Concentration,
}

#[derive(Clone, Copy, Debug)]
enum Concentration {
    Alpha,
    Beta,
}

impl<'a> RhoSlope<'a> {
    /// That in α and that in β.
    pub fn both(concentrations: &'a Concentrations) -> [Self; 2] {
        [Concentration::Alpha, Concentration::Beta].map(|of| Self { concentrations, of })
    }
}

/// Writes f(α, β, d) over a block; keys ahead of the query are taken to be at distance 0.
fn fill<T: Real>(
    concentrations: &Concentrations,
    block: &Block,
    mut values: TileMut<'_, T>,
    f: impl Fn(T, T, T) -> T,
) {
    InstructionSet::detect().run(
        #[inline(always)]
        || {
            for (r, i) in block.queries.clone().enumerate() {
                let (alpha, beta) = concentrations.of((block.batch, block.head), i);
                let (alpha, beta) = (T::of(alpha), T::of(beta));
                let farthest = T::of(block.distance(i, block.keys.start) as f64);
                for (c, x) in values.row_mut(r).iter_mut().enumerate() {
                    let d = (farthest - T::of(c as f64)).max(T::zero());
                    *x = f(alpha, beta, d);
                }
            }
        },
    );
}

impl<T: Real> EdgeFunction<T> for RhoMoment<'_> {
    fn fill(&self, block: &Block, values: TileMut<'_, T>) {
        let (one, two) = (T::one(), T::of(2.0));
        match self.power {
            Power::One => {
                fill(self.concentrations, block, values, |a, b, d| (a + one) / (a + b + one + d));
            }
            Power::Two => fill(self.concentrations, block, values, |a, b, d| {
                let s = a + b + one + d;
                (a + one) / s * ((a + two) / (s + one))
            }),
        }
    }
}

impl<T: Real> EdgeFunction<T> for RhoSlope<'_> {
    fn fill(&self, block: &Block, values: TileMut<'_, T>) {
        let one = T::one();
        match self.of {
            Concentration::Alpha => fill(self.concentrations, block, values, |a, b, d| {
                let s = a + b + one + d;
                (b + d) / s / s
            }),
            Concentration::Beta => fill(self.concentrations, block, values, |a, b, d| {
                let s = a + b + one + d;
                -(a + one) / s / s
            }),
        }
    }
}

/// log of the density of Beta(a, b) at `rho` in (0, 1).
pub(crate) fn beta_density(a: f64, b: f64, rho: f64) -> f64 {
    (a - 1.0) * rho.ln() + (b - 1.0) * (-rho).ln_1p() - ln_beta(a, b)
}

/// log p(ρ_i = `rho` | x) of every query under exact inference, flat over [B, H, N]: one more pass
/// over the windows, since
///
/// ```text
/// p(ρ | x) = Beta(ρ; α, β) ρ Σ_j ψ_ij (1 − ρ)^d_ij / Z_i.
/// ```
///
/// A query without keys has learned nothing: its density is the prior's.
pub(crate) fn log_density<T: Real>(
    problem: &Problem<'_, T>,
    expansion: &Expansion<T>,
    rho: f64,
) -> Vec<f64> {
    let shape = problem.shape;
    let windows = &expansion.windows;
    let rate = -(-rho).ln_1p();
    let weights = Rates { values: vec![rate; problem.count()].into(), first: 0, shape };
    let prior = ExpandingPrior { windows, weights: &weights };
    let inner = problem.under(&prior);
    let request = Request::new(&shape);
    let places = (0..shape.batch).flat_map(|b| (0..shape.heads).map(move |h| (b, h)));
    let tasks: Vec<_> =
        places.flat_map(|place| runs(&shape).into_iter().map(move |run| (place, run))).collect();
    let parts = TASKS.div_ceil(tasks.len().max(1));
    let of_run = |(place, queries): ((usize, usize), std::ops::Range<usize>)| {
        let mut run = Run::new(place, queries.clone(), parts);
        let keys = windows.keys(place, queries.end - 1);
        if !keys.is_empty() {
            run.add_keys(&inner, None, keys);
        }
        let seen = super::frontier::log_seen(&run.find(&inner, &request, 0));
        let density = |(i, seen): (usize, f64)| {
            let (alpha, beta) = problem.concentrations.of(place, i);
            let before = beta_density(alpha, beta, rho);
            match windows.keys(place, i).is_empty() {
                true => before,
                false => {
                    let all = expansion.finding.normalisers.log_z(problem.flat(place, i)).f64();
                    before + rho.ln() + seen - all
                }
            }
        };
        queries.zip(seen).map(density).collect::<Vec<f64>>()
    };
    parallel::map_each(tasks, &of_run).concat()
}
