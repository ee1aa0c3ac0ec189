//! The mean field q(φ) q(ρ), by coordinate ascent.

use std::ops::Range;
use std::sync::Mutex;

use marginals_kernels::{InstructionSet, TileMut};
use ndarray::Array3;
use rayon::prelude::*;

use super::certificate::{Tail, lost};
use super::frontier::{AIM, Frontier, log_seen, mean_distance};
use super::weights::{Rates, entry};
use super::windows::{ExpandingPrior, Windows, runs};
use super::{Outcome, Problem};
use crate::infer::collapsed::{
    Evaluation, Exact, FixedPoint, InputGradients, Latent, Maximise, Reason,
};
use crate::infer::exact::{self, Request, Run, Statistics, Summary, TASKS, Upstream};
use crate::question::EdgeFunctions;
use crate::special::{digamma_rise, ln_beta, trigamma, trigamma_fall};
use crate::{Block, Error, Real};

/// The mean field of expanding attention as a model for the fixed-point engine.
///
/// Every query that has a key is a problem of its own; z is its log β′, so that residuals are
/// relative errors of β′. F = −ELBO after the best q(φ), and the closed-form step is
/// β′ ← β + E_q\[d\]. Cost of a step: one streaming pass over the windows, without values.
#[derive(Debug)]
pub struct MeanField<'p, 'a, T: Real> {
    problem: &'p Problem<'a, T>,
    causal: &'p Windows,
    runs: Vec<AscentRun<'p, T>>,
    /// Into how many parts the keys of a run are cut.
    parts: usize,
    /// E[d] and Var[d] at the z they were last wanted at.
    moments: Mutex<Option<(Vec<f64>, Moments)>>,
}

type Moments = (Vec<f64>, Vec<f64>);

/// One run of queries and the keys it sees.
struct AscentRun<'p, T: Real> {
    place: (usize, usize),
    queries: Range<usize>,
    keys: Range<usize>,
    /// Its place in z.
    first: usize,
    /// Its keys, where they are kept from pass to pass.
    prepared: Option<Run<'p, T>>,
}

impl<T: Real> std::fmt::Debug for AscentRun<'_, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}: queries {:?}, keys {:?}", self.place, self.queries, self.keys)
    }
}

/// d − c and (d − c)² about a centre c of each query: what the variance keeps its digits by.
#[derive(Debug)]
struct Spread<'a> {
    centre: &'a [f64],
    first: usize,
}

impl<T: Real> EdgeFunctions<T> for Spread<'_> {
    fn count(&self) -> usize {
        2
    }
    fn fill(&self, index: usize, block: &Block, mut values: TileMut<'_, T>) {
        InstructionSet::detect().run(
            #[inline(always)]
            || {
                for (r, i) in block.queries.clone().enumerate() {
                    let farthest = block.distance(i, block.keys.start) as f64;
                    let farthest = T::of(farthest - self.centre[i - self.first]);
                    for (c, x) in values.row_mut(r).iter_mut().enumerate() {
                        let apart = farthest - T::of(c as f64);
                        *x = if index == 0 { apart } else { apart * apart };
                    }
                }
            },
        );
    }
}

impl<'p, 'a, T: Real> MeanField<'p, 'a, T> {
    /// Over given windows.
    pub(crate) fn new(problem: &'p Problem<'a, T>, causal: &'p Windows, windows: &Windows) -> Self {
        let shape = &problem.shape;
        let places = (0..shape.batch).flat_map(|b| (0..shape.heads).map(move |h| (b, h)));
        let mut first = 0;
        let mut all = Vec::new();
        for place in places {
            for queries in runs(shape) {
                let keys = windows.keys(place, queries.end - 1);
                if !keys.is_empty() {
                    let length = queries.len();
                    all.push(AscentRun { place, queries, keys, first, prepared: None });
                    first += length;
                }
            }
        }
        let parts = TASKS.div_ceil(all.len().max(1));
        Self { problem, causal, runs: all, parts, moments: Mutex::new(None) }
    }

    /// Places in z and flat places over [B, H, N], run by run.
    pub(crate) fn places(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        self.runs.iter().flat_map(|run| {
            let flat = self.problem.flat(run.place, run.queries.start);
            (0..run.queries.len()).map(move |r| (run.first + r, flat + r))
        })
    }

    /// α, β and β′ of query number `r` of a run.
    fn at(&self, run: &AscentRun<'_, T>, z: &[f64], r: usize) -> (f64, f64, f64) {
        let own = self.problem.concentrations.of(run.place, run.queries.start + r);
        (own.0, own.1, z[run.first + r].exp())
    }

    fn rates(&self, run: &AscentRun<'_, T>, z: &[f64]) -> Vec<f64> {
        let rate = |r| {
            let (alpha, _, after) = self.at(run, z, r);
            digamma_rise(after, alpha + 1.0)
        };
        (0..run.queries.len()).map(rate).collect()
    }

    /// Statistics of one run under q(φ) at `z`, over the key ranges from number `from` on.
    fn pass(
        &self,
        run: &AscentRun<'_, T>,
        z: &[f64],
        request: &Request<'_, T>,
        from: usize,
    ) -> Statistics<T> {
        let first = self.problem.flat(run.place, run.queries.start);
        let weights = Rates { values: self.rates(run, z).into(), first, shape: self.problem.shape };
        let prior = ExpandingPrior { windows: self.causal, weights: &weights };
        let posterior = self.problem.posterior(&prior);
        if let Some(prepared) = &run.prepared {
            return prepared.statistics(&posterior, request, from);
        }
        let (k, v) = (self.problem.k.view(), request.values.as_ref().map(|v| v.view()));
        let mut own = Run::new(run.place, run.queries.clone(), self.parts);
        own.add_keys(&posterior, &k, v.as_ref(), run.keys.clone());
        own.statistics(&posterior, request, 0)
    }

    /// F and the z that follows.
    fn evaluate(&self, z: &[f64]) -> Evaluation<f64> {
        let request = distance_request();
        let of_run = |run: &AscentRun<'_, T>| {
            let statistics = self.pass(run, z, &request, 0);
            let rates = self.rates(run, z);
            let seen = log_seen(&statistics).into_iter().zip(mean_distance(&statistics));
            seen.enumerate()
                .map(|(r, (log_z, mean))| {
                    let (alpha, beta, after) = self.at(run, z, r);
                    (-elbo(alpha, beta, after, rates[r], log_z), (beta + mean).ln())
                })
                .collect::<Vec<_>>()
        };
        let all: Vec<_> = self.runs.par_iter().map(of_run).collect();
        let (free_energy, next) = all.into_iter().flatten().unzip();
        Evaluation { free_energy, next }
    }

    /// E[d] and Var[d] of every problem at `z`.
    fn moments(&self, z: &[f64]) -> Moments {
        let known = self.moments.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some((at, moments)) = &*known
            && at == z
        {
            return moments.clone();
        }
        drop(known);
        let all: Vec<_> = self.runs.par_iter().map(|run| self.moments_of(run, z)).collect();
        let moments: Moments = all.into_iter().flatten().unzip();
        let mut known = self.moments.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        *known = Some((z.to_vec(), moments.clone()));
        moments
    }

    fn moments_of(&self, run: &AscentRun<'_, T>, z: &[f64]) -> Vec<(f64, f64)> {
        // At a fixed point this is E[d], and near one it is near it.
        let centre: Vec<f64> = (0..run.queries.len())
            .map(|r| {
                let (_, beta, after) = self.at(run, z, r);
                after - beta
            })
            .collect();
        let spread = Spread { centre: &centre, first: run.queries.start };
        let mut request = distance_request();
        request.functions = Some(&spread);
        let statistics = self.pass(run, z, &request, 0);
        let sums = statistics.totals.functions.chunks_exact(2).zip(&statistics.factors.sum);
        sums.zip(&centre)
            .map(|((moments, &sum), centre)| {
                let (one, two) = (moments[0].f64() / sum.f64(), moments[1].f64() / sum.f64());
                (centre + one, if two < one * one { 0.0 } else { two - one * one })
            })
            .collect()
    }

    /// Normalised answers to `request` under q(φ) at `z`, over [B, H, N].
    pub(crate) fn summary(&self, z: &[f64], request: &Request<'_, T>) -> Summary<T> {
        let shape = &self.problem.shape;
        let mut own = self
            .runs
            .par_iter()
            .map(|run| self.pass(run, z, request, 0))
            .collect::<Vec<_>>()
            .into_iter();
        let mut runs_left = self.runs.iter().peekable();
        let weights = Rates { values: [][..].into(), first: 0, shape: *shape };
        let prior = ExpandingPrior { windows: self.causal, weights: &weights };
        let posterior = self.problem.posterior(&prior);
        let mut parts = Vec::new();
        for place in (0..shape.batch).flat_map(|b| (0..shape.heads).map(move |h| (b, h))) {
            for queries in runs(shape) {
                let is_next =
                    |run: &&AscentRun<'_, T>| run.place == place && run.queries == queries;
                parts.push(match runs_left.next_if(is_next) {
                    Some(_) => own.next().expect("one part per run"),
                    None => Run::new(place, queries, 1).statistics(&posterior, request, 0),
                });
            }
        }
        self.problem.summarise(parts)
    }

    /// Rates of every query over [B, H, N]; 0 where there is no problem.
    pub(crate) fn all_rates(&self, z: &[f64]) -> Vec<f64> {
        let mut rates = vec![0.0; self.problem.count()];
        for run in &self.runs {
            let flat = self.problem.flat(run.place, run.queries.start);
            rates[flat..flat + run.queries.len()].copy_from_slice(&self.rates(run, z));
        }
        rates
    }

    /// The windows of the runs.
    pub(crate) fn windows(&self) -> Windows {
        let mut windows = Windows::causal(self.problem.shape);
        for run in &self.runs {
            windows.set_start(run.place, run.queries.start, run.keys.start);
        }
        windows
    }
}

fn distance_request<'r, T: Real>() -> Request<'r, T> {
    Request { distance: true, ..Request::default() }
}

/// The bound of a query, in nats; see the module above.
pub(crate) fn elbo(alpha: f64, beta: f64, after: f64, rate: f64, log_z: f64) -> f64 {
    log_z + ln_beta(alpha + 1.0, after) - ln_beta(alpha, beta) + (after - beta) * rate
}

impl<T: Real> Latent<f64> for MeanField<'_, '_, T> {
    fn problems(&self) -> usize {
        self.runs.iter().map(|run| run.queries.len()).sum()
    }
    fn width(&self) -> usize {
        1
    }
    fn inputs(&self) -> InputGradients<f64> {
        let Problem { q, k, concentrations, potential, .. } = self.problem;
        let parameters = potential.parameters();
        let named = [
            ("q", q.shape()),
            ("k", k.shape()),
            ("alpha", concentrations.alpha.shape()),
            ("beta", concentrations.beta.shape()),
        ];
        let learned = parameters.iter().map(|p| (p.name.as_str(), &p.shape[..]));
        InputGradients::zeros(named.into_iter().chain(learned))
    }
    fn free_energy(&self, z: &[f64]) -> Result<Vec<f64>, Error> {
        Ok(self.evaluate(z).free_energy)
    }
}

impl<T: Real> Maximise<f64> for MeanField<'_, '_, T> {
    fn maximise(&self, z: &[f64]) -> Result<Evaluation<f64>, Error> {
        Ok(self.evaluate(z))
    }

    /// The step moves E\[d\] by −Var\[d\] per unit of rate: its Jacobian is diagonal, and costs one
    /// forward pass per z. Gradients of the inputs take a backward pass more.
    fn maximise_backward(
        &self,
        z: &[f64],
        upstream: &[f64],
        inputs: &mut InputGradients<f64>,
    ) -> Result<Vec<f64>, Error> {
        let (means, variances) = self.moments(z);
        let mut pulled = vec![0.0; z.len()];
        // Gradient of E[d].
        let mut to_mean = vec![0.0; z.len()];
        for run in &self.runs {
            for r in 0..run.queries.len() {
                let (alpha, beta, after) = self.at(run, z, r);
                let at = run.first + r;
                to_mean[at] = upstream[at] / (beta + means[at]);
                pulled[at] =
                    to_mean[at] * variances[at] * trigamma_fall(after, alpha + 1.0) * after;
            }
        }
        if inputs.iter().len() == 0 {
            return Ok(pulled);
        }
        let problem = self.problem;
        let shape = problem.shape;
        let mut expected_distance = vec![T::zero(); problem.count()];
        self.places().for_each(|(at, flat)| expected_distance[flat] = T::of(to_mean[at]));
        let dimensions = (shape.batch, shape.heads, shape.queries);
        let expected_distance =
            Array3::from_shape_vec(dimensions, expected_distance).expect("one number per query");
        let request = distance_request();
        let summary = self.summary(z, &request);
        let windows = self.windows();
        let weights = Rates { values: self.all_rates(z).into(), first: 0, shape };
        let prior = ExpandingPrior { windows: &windows, weights: &weights };
        let upstream =
            Upstream { expected_distance: Some(expected_distance.view()), ..Upstream::default() };
        let gradients = exact::backward(&problem.posterior(&prior), &request, &summary, &upstream)?;
        inputs.add("q", &gradients.q.mapv(|x| x.f64()));
        inputs.add("k", &gradients.k.mapv(|x| x.f64()));
        let (rate, learned) =
            gradients.parameters.split_first().expect("the prior's rate comes first");
        for parameter in learned {
            inputs.add(&parameter.name, &parameter.gradient.mapv(|x| x.f64()));
        }
        let rate: Vec<f64> = rate.gradient.iter().map(|x| x.f64()).collect();
        let mut to_alpha = Array3::zeros(problem.concentrations.alpha.raw_dim());
        let mut to_beta = Array3::zeros(problem.concentrations.beta.raw_dim());
        for run in &self.runs {
            for (r, i) in run.queries.clone().enumerate() {
                let (alpha, _, after) = self.at(run, z, r);
                let to_rate = rate[problem.flat(run.place, i)];
                let own = entry(&to_alpha, run.place, i);
                to_alpha[own] += to_rate * trigamma(alpha + 1.0 + after);
                let own = entry(&to_beta, run.place, i);
                to_beta[own] += to_mean[run.first + r];
            }
        }
        inputs.add("alpha", &to_alpha);
        inputs.add("beta", &to_beta);
        Ok(pulled)
    }
}

/// The share of the tolerance aimed at where nothing above the β′ found could be certified.
const FAR_AIM: f64 = 0.01;

/// Grows the window of one run of queries until the mean field in it is certified.
pub(super) fn grow_mean_field<T: Real>(
    problem: &Problem<'_, T>,
    causal: &Windows,
    ascent: &FixedPoint,
    place: (usize, usize),
    queries: Range<usize>,
    parts: usize,
) -> Result<Outcome<T>, Error> {
    let mut frontier = Frontier::new(problem, place, queries.clone());
    let count = queries.len();
    let own = |r: usize| problem.concentrations.of(place, queries.start + r);
    let mut z: Vec<f64> = (0..count).map(|r| own(r).1.ln()).collect();
    let concentration = |z: &[f64]| z.iter().map(|z| z.exp()).collect();
    let mut steps = vec![(0, Reason::Converged); count];
    let unread = Rates { values: [][..].into(), first: 0, shape: problem.shape };
    let prior = ExpandingPrior { windows: causal, weights: &unread };
    // Preparing keys looks at the sizes and the potential alone.
    let posterior = problem.posterior(&prior);
    let (k, v) = (problem.k.view(), problem.v.as_ref().map(|v| v.view()));
    let mut prepared = Run::new(place, queries.clone(), parts);
    if frontier.end == 0 {
        let statistics = prepared.statistics(&posterior, &problem.mean_request(), 0);
        let lost = vec![0.0; count];
        let concentration = concentration(&z);
        return Ok(Outcome { start: 0, growths: 0, statistics, lost, steps, concentration });
    }
    let first = frontier.start..frontier.end;
    prepared.add_keys(&posterior, &k, v.as_ref(), first.clone());
    let run = AscentRun { place, queries: queries.clone(), keys: first, first: 0, prepared: None };
    let mut model = MeanField { problem, causal, runs: vec![run], parts, moments: None.into() };
    model.runs[0].prepared = Some(prepared);

    let request = distance_request();
    let mut seen = model.pass(&model.runs[0], &z, &request, 0);
    let mut settled = false;
    let lost = loop {
        let tail = |z: &[f64], r: usize| Tail::Geometric {
            rate: digamma_rise(z[r].exp(), own(r).0 + 1.0),
        };
        let log_z = log_seen(&seen);
        let bounds = frontier.lost(&|r| tail(&z, r), &log_z);
        let within = frontier.is_within(&bounds);
        if within && !settled {
            let solution = ascent.solve(&Exact(&model), &z)?;
            for (all, own) in steps.iter_mut().zip(solution.steps.iter().zip(&solution.reasons)) {
                *all = (all.0 + own.0, *own.1);
            }
            z = solution.z;
            seen = model.pass(&model.runs[0], &z, &request, 0);
            settled = true;
            continue;
        }
        let mut aim = AIM;
        if within {
            if frontier.at_the_beginning() {
                break bounds;
            }
            // How much farther than the bound here asks for.
            aim = match certified(&model, &frontier, &z, &seen) {
                Some(certified) if frontier.is_within(&certified) => break certified,
                Some(certified) => {
                    let grew = bounds.iter().zip(&certified).map(|(here, above)| here / above);
                    AIM * grew.fold(1.0, f64::min)
                }
                None => FAR_AIM,
            };
        }
        // What was seen at these rates stays; the keys that follow are merged in.
        let keys = frontier.widen(&|r| tail(&z, r), &log_z, &bounds, aim);
        let run = &mut model.runs[0];
        run.keys.start = keys.start;
        let prepared = run.prepared.as_mut().expect("a run that grows keeps its keys");
        let from = prepared.add_keys(&posterior, &k, v.as_ref(), keys);
        seen.merge_choices(&model.pass(&model.runs[0], &z, &request, from));
        settled = false;
    };
    let statistics = model.pass(&model.runs[0], &z, &problem.mean_request(), 0);
    let concentration = concentration(&z);
    let Frontier { start, growths, .. } = frontier;
    Ok(Outcome { start, growths, statistics, lost, steps, concentration })
}

/// Bounds on the lost mass that hold for every iterate of the untruncated ascent; `None` where no
/// β′ above the one found could be shown to be one that the ascent does not cross.
fn certified<T: Real>(
    model: &MeanField<'_, '_, T>,
    frontier: &Frontier<'_, '_, T>,
    z: &[f64],
    seen: &Statistics<T>,
) -> Option<Vec<f64>> {
    let run = &model.runs[0];
    let epsilon = T::epsilon().f64();
    let own = |z: &[f64], r: usize| {
        let (alpha, beta, after) = model.at(run, z, r);
        let tail = Tail::Geometric { rate: digamma_rise(after, alpha + 1.0) };
        (alpha, beta, after, tail, frontier.log_unseen(r, tail, frontier.start))
    };
    // What the unseen can add to E[d], with what rounding can have hidden of it.
    let added = |r: usize, tail: Tail, log_unseen: f64, log_z: f64, mean: f64| {
        let (from, to) = frontier.unseen(r, frontier.start);
        let share = if log_unseen == f64::NEG_INFINITY { 0.0 } else { (log_unseen - log_z).exp() };
        share * tail.excess(from, to, mean).max(0.0) + 64.0 * epsilon * (1.0 + mean)
    };
    let moments = model.moments_of(run, z);
    let log_z = log_seen(seen);
    let mut above = z.to_vec();
    for r in 0..z.len() {
        let (alpha, beta, after, tail, log_unseen) = own(z, r);
        let (mean, variance) = moments[r];
        if log_z[r].is_nan() {
            continue;
        }
        // Near β′ the step rises with this slope: a gap of h grows to h/(1 − slope).
        let slope = variance * trigamma_fall(after, alpha + 1.0);
        let gap = (beta + mean - after).max(0.0) + added(r, tail, log_unseen, log_z[r], mean);
        if slope.is_nan() || slope >= 1.0 {
            return None;
        }
        above[r] = (after + 2.0 * gap / (1.0 - slope)).ln();
    }
    let there = model.pass(run, &above, &distance_request(), 0);
    let (log_z, means) = (log_seen(&there), mean_distance(&there));
    let mut bounds = Vec::with_capacity(z.len());
    for r in 0..z.len() {
        let (_, beta, after, tail, log_unseen) = own(&above, r);
        let reached = beta + means[r] + added(r, tail, log_unseen, log_z[r], means[r]);
        if reached > after {
            return None;
        }
        bounds.push(lost(log_z[r], log_unseen));
    }
    Some(bounds)
}
