//! Gradients of both inferences, at the windows that were found.

use std::ops::Range;

use ndarray::{Array3, Array4, ArrayView3, ArrayView4};

use super::mean_field::MeanField;
use super::problem::{Expansion, Problem};
use super::rho::{RhoMoment, RhoSlope};
use super::weights::{BetaGeometricWeights, Rates, entry};
use super::windows::{ExpandingPrior, Windows, runs};
use crate::format::in_format;
use crate::infer::collapsed::{AdjointReport, Exact, FixedPoint};
use crate::infer::finding::Finding;
use crate::infer::slopes::{Slopes, flat};
use crate::infer::statistic::{EdgeFunction, Request};
use crate::infer::streaming::{Run, TASKS};
use crate::special::{digamma_rise, trigamma, trigamma_fall};
use crate::{Error, ParameterGradient, Real, parallel};

/// Gradients of a loss in the answers of expanding attention, each of its answer's shape.
#[derive(Clone, Copy, Debug)]
pub struct ExpandingUpstream<'a, T> {
    /// Of the mean, [B, H, N, D_v].
    pub mean: Option<ArrayView4<'a, T>>,
    /// Of the log-evidence (exact) or its bound (mean field), [B, H, N].
    pub log_evidence: Option<ArrayView3<'a, T>>,
    /// Of E\[ρ\], [B, H, N].
    pub rho: Option<ArrayView3<'a, T>>,
}

impl<T> Default for ExpandingUpstream<'_, T> {
    fn default() -> Self {
        Self { mean: None, log_evidence: None, rho: None }
    }
}

/// Gradients of the loss in everything expanding attention depends on.
#[derive(Clone, Debug)]
pub struct ExpandingGradients<T> {
    /// Of the queries.
    pub q: Array4<T>,
    /// Of the keys; 0 outside the windows.
    pub k: Array4<T>,
    /// Of the values; 0 outside the windows.
    pub v: Array4<T>,
    /// Of α, of its shape.
    pub alpha: Array3<f64>,
    /// Of β, of its shape.
    pub beta: Array3<f64>,
    /// Of the potential's parameters.
    pub potential: Vec<ParameterGradient<T>>,
    /// How the linear solve of the mean field's implicit gradient went, where there was one.
    pub adjoint: Option<AdjointReport<f64>>,
}

/// Gradients from those in what was found.
pub(crate) fn backward<T: Real>(
    problem: &Problem<'_, T>,
    expansion: &Expansion<T>,
    ascent: Option<&FixedPoint>,
    upstream: &ExpandingUpstream<'_, T>,
) -> Result<ExpandingGradients<T>, Error> {
    type Backward<T> = fn(
        &Problem<'_, T>,
        &Expansion<T>,
        Option<&FixedPoint>,
        &ExpandingUpstream<'_, T>,
    ) -> Result<ExpandingGradients<T>, Error>;
    static SINGLE: Backward<f32> = of_either;
    static DOUBLE: Backward<f64> = of_either;
    in_format::<Backward<T>>(&SINGLE, &DOUBLE)(problem, expansion, ascent, upstream)
}

fn of_either<T: Real>(
    problem: &Problem<'_, T>,
    expansion: &Expansion<T>,
    ascent: Option<&FixedPoint>,
    upstream: &ExpandingUpstream<'_, T>,
) -> Result<ExpandingGradients<T>, Error> {
    match ascent {
        None => backward_exact(problem, expansion, upstream),
        Some(ascent) => backward_mean_field(problem, expansion, ascent, upstream),
    }
}

/// Gradients under exact inference: the ordinary backward pass, and where E\[ρ\] is in the loss one
/// forward pass for what it depends on α and β by itself.
fn backward_exact<T: Real>(
    problem: &Problem<'_, T>,
    expansion: &Expansion<T>,
    upstream: &ExpandingUpstream<'_, T>,
) -> Result<ExpandingGradients<T>, Error> {
    let windows = &expansion.windows;
    let concentrations = &problem.concentrations;
    let weights = BetaGeometricWeights::new(concentrations, &problem.shape);
    let prior = ExpandingPrior { windows, weights: &weights };
    let moments = RhoMoment::both(concentrations);
    let functions = moments.each_ref().map(|m| m as &dyn EdgeFunction<T>);
    let wanted = problem.wanted(true, &functions);
    let mut slopes = Slopes::new(wanted.request.linear.len());
    if let (Some(mean), Some(gradient)) = (wanted.mean, upstream.mean) {
        slopes.add_linear(mean, flat(gradient));
    }
    if let Some(gradient) = upstream.log_evidence {
        slopes.add_log_partition(gradient);
    }
    if let Some(gradient) = upstream.rho {
        slopes.add_linear(wanted.functions[0], flat(gradient));
    }
    let mut gradients =
        problem.differentiate(&prior, &wanted.request, &expansion.finding, &slopes)?;
    let v = gradients.take_v().unwrap_or_default();
    let mut parameters = gradients.parameters.into_iter();
    let mut own = |like: &Array3<f64>| {
        let gradient = parameters.next().expect("α and β come first").gradient;
        let flat = gradient.iter().map(|x| x.f64()).collect();
        Array3::from_shape_vec(like.raw_dim(), flat).expect("one number per parameter")
    };
    let mut alpha = own(&concentrations.alpha);
    let mut beta = own(&concentrations.beta);
    if let Some(rho) = upstream.rho {
        let own = RhoSlope::both(concentrations);
        let functions = own.each_ref().map(|m| m as &dyn EdgeFunction<T>);
        let wanted = problem.wanted(false, &functions);
        let found = pass(problem, windows, &prior, &wanted.request);
        let [in_alpha, in_beta] = [0, 1].map(|f| &found.expectation(wanted.functions[f]).values);
        for (((b, h, i), &g), (x, y)) in rho.indexed_iter().zip(in_alpha.iter().zip(in_beta)) {
            let at = entry(&alpha, (b, h), i);
            alpha[at] += g.f64() * x.f64();
            let at = entry(&beta, (b, h), i);
            beta[at] += g.f64() * y.f64();
        }
        prior_mean_slopes(problem, windows, rho, &mut alpha, &mut beta);
    }
    Ok(ExpandingGradients {
        q: gradients.q,
        k: gradients.k,
        v,
        alpha,
        beta,
        potential: parameters.collect(),
        adjoint: None,
    })
}

/// Slopes of E\[ρ\] = α/(α + β) of the queries without keys: their ρ is as it was.
fn prior_mean_slopes<T: Real>(
    problem: &Problem<'_, T>,
    windows: &Windows,
    rho: ArrayView3<'_, T>,
    to_alpha: &mut Array3<f64>,
    to_beta: &mut Array3<f64>,
) {
    for ((b, h, i), g) in rho.indexed_iter() {
        if windows.keys((b, h), i).is_empty() {
            let (alpha, beta) = problem.concentrations.of((b, h), i);
            let squared = (alpha + beta).powi(2);
            let at = entry(to_alpha, (b, h), i);
            to_alpha[at] += g.f64() * beta / squared;
            let at = entry(to_beta, (b, h), i);
            to_beta[at] -= g.f64() * alpha / squared;
        }
    }
}

/// A pass over the windows, reading no key outside them.
fn pass<T: Real>(
    problem: &Problem<'_, T>,
    windows: &Windows,
    prior: &ExpandingPrior<'_, T>,
    request: &Request<'_, T>,
) -> Finding<T> {
    let shape = &problem.shape;
    let inner = problem.under(prior);
    let tasks: Vec<_> = shape
        .all_heads()
        .flat_map(|head| runs(shape).into_iter().map(move |run| (head, run)))
        .collect();
    let parts = TASKS.div_ceil(tasks.len().max(1));
    let findings = parallel::map_each(tasks, &|(head, queries): (_, Range<usize>)| {
        let keys = windows.keys(head, queries.end - 1);
        let mut run = Run::new(head, queries, parts);
        if !keys.is_empty() {
            run.add_keys(&inner, None, keys);
        }
        run.find(&inner, request, 0)
    });
    problem.concatenate(findings, request)
}

/// Gradients under the mean field: the ordinary backward pass at the rates found, whose gradient in
/// the rates goes back through the fixed point.
fn backward_mean_field<T: Real>(
    problem: &Problem<'_, T>,
    expansion: &Expansion<T>,
    ascent: &FixedPoint,
    upstream: &ExpandingUpstream<'_, T>,
) -> Result<ExpandingGradients<T>, Error> {
    let shape = problem.shape;
    let causal = Windows::causal(shape);
    let model = MeanField::new(problem, &causal, &expansion.windows);
    let mut z = vec![0.0; model.places().count()];
    model.places().for_each(|(at, flat)| z[at] = expansion.concentration[flat].ln());
    let weights = Rates { values: model.all_rates(&z).into(), first: 0, shape };
    let prior = ExpandingPrior { windows: &expansion.windows, weights: &weights };
    let wanted = problem.wanted(true, &[]);
    let mut slopes = Slopes::new(wanted.request.linear.len());
    if let (Some(mean), Some(gradient)) = (wanted.mean, upstream.mean) {
        slopes.add_linear(mean, flat(gradient));
    }
    if let Some(gradient) = upstream.log_evidence {
        slopes.add_log_partition(gradient);
    }
    let mut gradients =
        problem.differentiate(&prior, &wanted.request, &expansion.finding, &slopes)?;
    let v = gradients.take_v().unwrap_or_default();
    let (rate, learned) = gradients.parameters.split_first().expect("the prior's rate comes first");
    let rate: Vec<f64> = rate.gradient.iter().map(|x| x.f64()).collect();
    let mut to_alpha = Array3::zeros(problem.concentrations.alpha.raw_dim());
    let mut to_beta = Array3::zeros(problem.concentrations.beta.raw_dim());
    let mut to_z = vec![0.0; z.len()];
    let upstream_of = |list: Option<ArrayView3<'_, T>>, at| list.map_or(0.0, |g| g[at].f64());
    for (at, flat) in model.places() {
        let place = (flat / shape.queries / shape.heads, flat / shape.queries % shape.heads);
        let query = flat % shape.queries;
        let index = (place.0, place.1, query);
        let (alpha, beta) = problem.concentrations.of(place, query);
        let after = z[at].exp();
        let (evidence, rho) =
            (upstream_of(upstream.log_evidence, index), upstream_of(upstream.rho, index));
        let own = digamma_rise(after, alpha + 1.0);
        // The bound depends on the rate beyond log Z, and on α and β by itself; on β′ only through
        // the rate, the rest of it cancels.
        let to_rate = rate[flat] + evidence * (after - beta);
        let total = alpha + 1.0 + after;
        // ψ₀(α + 1) − ψ₀(α + 1 + β′) − ψ₀(α) + ψ₀(α + β)
        let constants = 1.0 / alpha - digamma_rise(alpha, 1.0 + after) + digamma_rise(alpha, beta);
        let entry_alpha = entry(&to_alpha, place, query);
        to_alpha[entry_alpha] +=
            to_rate * trigamma(total) + evidence * constants + rho * after / (total * total);
        let entry_beta = entry(&to_beta, place, query);
        to_beta[entry_beta] += evidence * (digamma_rise(beta, alpha) - own);
        let to_after =
            -to_rate * trigamma_fall(after, alpha + 1.0) - rho * (alpha + 1.0) / (total * total);
        // A query that is NaN has no fixed point to go through.
        to_z[at] = if to_after.is_nan() { 0.0 } else { to_after * after };
    }
    if let Some(rho) = upstream.rho {
        prior_mean_slopes(problem, &expansion.windows, rho, &mut to_alpha, &mut to_beta);
    }
    let stay = FixedPoint { max_steps: 0, ..ascent.clone() };
    let solution = stay.solve(&Exact(&model), &z)?;
    let implicit = ascent.backward(&Exact(&model), &solution, &to_z)?;
    let through = |name: &str| implicit.inputs.get(name).expect("an input of the model");
    let add = |direct: &Array4<T>, name: &str| {
        let mut sum = direct.clone();
        sum.iter_mut().zip(through(name)).for_each(|(x, &g)| *x += T::of(g));
        sum
    };
    for (direct, name) in [(&mut to_alpha, "alpha"), (&mut to_beta, "beta")] {
        direct.iter_mut().zip(through(name)).for_each(|(x, &g)| *x += g);
    }
    let mut potential = learned.to_vec();
    for parameter in &mut potential {
        let through = through(&parameter.name);
        parameter.gradient.iter_mut().zip(through).for_each(|(x, &g)| *x += T::of(g));
    }
    Ok(ExpandingGradients {
        q: add(&gradients.q, "q"),
        k: add(&gradients.k, "k"),
        v,
        alpha: to_alpha,
        beta: to_beta,
        potential,
        adjoint: implicit.adjoint,
    })
}
