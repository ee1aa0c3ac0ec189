//! Expanding attention: how far to look is inferred too.
//!
//! Let d_ij be how far key j lies behind query i (0, 1, 2 …; keys ahead are impossible). Given ρ_i
//! the weight of an edge is geometric, and ρ_i is unknown:
//!
//! ```text
//! w(d | ρ_i) = ρ_i (1 − ρ_i)^d,        ρ_i ~ Beta(α, β)
//! ```
//!
//! (Singh & Buckley, arXiv 2304.04556, expanding attention). Two inferences:
//!
//! - **exact**: ρ is summed out, w(d) = B(α + 1, β + d)/B(α, β), and the posterior of ρ is the
//!   mixture Σ_j p_ij Beta(α + 1, β + d_ij);
//! - **mean field**: q(φ) q(ρ) with q(ρ) = Beta(α + 1, β′), by coordinate ascent
//!
//! ```text
//! q(φ_ij = 1) ∝ ψ_ij e^{−λ d_ij},   λ = −E[log(1 − ρ)] = ψ₀(α + 1 + β′) − ψ₀(β′)
//! β′ ← β + E_q[d]
//! ELBO(β′) = log Σ_j ψ_ij e^{−λ d_ij} + log B(α + 1, β′) − log B(α, β) + (β′ − β) λ,
//! ```
//!
//! where the bound is that of the best q(φ) given q(ρ): every expectation of ρ is in it. Its slope is
//! λ′(β′) (β′ − β − E_q\[d\]), so it stands still exactly where the steps do, and never falls on the
//! way.
//!
//! # The growing window
//! Keys are read from near to far in ranges that double, for a block of queries at a time, until
//! the mass that the rest can have is below a tolerance; each range's statistics
//! merge into those of the ranges before. The answers are those of the posterior truncated to
//! the window. A block of 96 queries shares its first key. The bound on what was lost (module
//! `certificate`) needs a bound on log-potentials,
//! [`Potential::greatest`](crate::potential::Potential::greatest); a potential without one can only be read to the beginning (tolerance 0).
//!
//! For the mean field the mass beyond the window depends on β′, which the missing keys would have
//! changed. Let g(β′) = β + E_q\[d\] with every key and g_W with the window's. Both rise with β′ (a
//! larger β′ is a smaller rate, which favours distance), and g ≥ g_W, since the missing keys
//! are farther than all in the window. What they add to E_q\[d\] is at most
//!
//! ```text
//! ε(β′) = U(λ)/Z_W(λ) · (mean distance of the tail − E_W[d]).
//! ```
//!
//! If g_W(b) + ε(b) ≤ b at some b above the β′ found, then g maps the interval between them into
//! itself: coordinate ascent on all keys, from β′ or from the prior, stays below b for ever and has a
//! fixed point there. The lost mass rises with β′ too, so its bound at b covers every iterate of the
//! untruncated ascent, the last one included. That b is looked for, checked by a pass, and if there
//! is none the window grows.

mod backward;
mod certificate;
mod exact;
mod frontier;
mod mean_field;
mod problem;
mod rho;
mod weights;
mod windows;

use super::statistic::EdgeFunction;
use super::streaming::TASKS;
use crate::format::in_format;
use crate::{Error, Real, parallel};

pub use certificate::KeyNorms;
pub use mean_field::MeanField;
pub use problem::Expansion;
pub(crate) use problem::{Outcome, Problem};
pub use weights::Concentrations;
pub use windows::{ExpandingPrior, Windows};

pub(crate) use backward::backward;
pub use backward::{ExpandingGradients, ExpandingUpstream};
pub(crate) use certificate::{NormBounds, length};
pub(crate) use mean_field::elbo;
pub(crate) use rho::{beta_density, log_density};

use super::collapsed::FixedPoint;
use exact::grow_exact;
use mean_field::grow_mean_field;
use weights::{BetaGeometricWeights, Rates};

/// Runs every block of queries to its certified window. `ascent` is how the mean field is found;
/// `None` asks for exact inference.
///
/// How work is cut depends on sizes alone, so answers are the same at any number of threads.
pub(crate) fn expand<T: Real>(
    problem: &Problem<'_, T>,
    ascent: Option<&FixedPoint>,
) -> Result<Expansion<T>, Error> {
    type Expand<T> = fn(&Problem<'_, T>, Option<&FixedPoint>) -> Result<Expansion<T>, Error>;
    static SINGLE: Expand<f32> = grow;
    static DOUBLE: Expand<f64> = grow;
    in_format::<Expand<T>>(&SINGLE, &DOUBLE)(problem, ascent)
}

fn grow<T: Real>(
    problem: &Problem<'_, T>,
    ascent: Option<&FixedPoint>,
) -> Result<Expansion<T>, Error> {
    let shape = &problem.shape;
    let runs = windows::runs(shape);
    let tasks: Vec<_> = (0..shape.batch)
        .flat_map(|b| (0..shape.heads).map(move |h| (b, h)))
        .flat_map(|place| runs.iter().map(move |run| (place, run.clone())))
        .collect();
    let parts = TASKS.div_ceil(tasks.len().max(1));
    let causal = Windows::causal(*shape);
    let weights = BetaGeometricWeights::new(&problem.concentrations, shape);
    let outcomes: Result<Vec<Outcome<T>>, Error> = parallel::try_map(tasks.len(), &|task| {
        let (place, queries) = &tasks[task];
        match ascent {
            None => Ok(grow_exact(problem, &causal, &weights, *place, queries.clone(), parts)),
            Some(ascent) => {
                grow_mean_field(problem, &causal, ascent, *place, queries.clone(), parts)
            }
        }
    });
    let mut windows = causal.clone();
    let mut all = (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for ((place, queries), outcome) in tasks.iter().zip(outcomes?) {
        // A block's queries before the first key share it with those behind, which come last.
        windows.set_start(*place, queries.start, outcome.start);
        all.0.extend(queries.clone().map(|_| outcome.growths));
        all.1.extend(outcome.lost);
        all.2.extend(outcome.steps);
        all.3.extend(outcome.concentration);
        all.4.push(outcome.finding);
    }
    let (growths, lost, steps, concentration, findings) = all;
    let moments = rho::RhoMoment::both(&problem.concentrations);
    let functions = moments.each_ref().map(|m| m as &dyn EdgeFunction<T>);
    let functions = if ascent.is_none() { &functions[..] } else { &[] };
    let wanted = problem.wanted(true, functions);
    let finding = problem.concatenate(findings, &wanted.request);
    Ok(Expansion {
        windows,
        growths,
        lost,
        steps,
        concentration,
        finding,
        moments: wanted.functions,
        mean: wanted.mean.expect("values are averaged"),
        distance: wanted.distance.expect("distances are averaged"),
    })
}

/// Calls `f` with the prior of what was found.
pub(crate) fn with_prior<T: Real, R>(
    problem: &Problem<'_, T>,
    expansion: &Expansion<T>,
    f: impl FnOnce(ExpandingPrior<'_, T>) -> R,
) -> R {
    let windows = &expansion.windows;
    if expansion.concentration.is_empty() {
        let weights = BetaGeometricWeights::new(&problem.concentrations, &problem.shape);
        return f(ExpandingPrior { windows, weights: &weights });
    }
    let causal = Windows::causal(problem.shape);
    let model = MeanField::new(problem, &causal, windows);
    let mut z = vec![0.0; model.places().count()];
    model.places().for_each(|(at, flat)| z[at] = expansion.concentration[flat].ln());
    let rates = model.all_rates(&z).into();
    let weights = Rates { values: rates, first: 0, shape: problem.shape };
    f(ExpandingPrior { windows, weights: &weights })
}
