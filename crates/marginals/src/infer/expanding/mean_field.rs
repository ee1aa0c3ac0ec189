//! The mean field q(φ) q(ρ), by coordinate ascent.

use std::ops::Range;
use std::sync::{Arc, Mutex};

use marginals_kernels::{InstructionSet, TileMut};
use ndarray::Array3;

use super::certificate::{Tail, lost};
use super::frontier::{AIM, Frontier, expected, log_seen};
use super::problem::{Outcome, Problem, Wanted};
use super::weights::{Rates, entry};
use super::windows::{ExpandingPrior, Windows, runs};
use crate::infer::collapsed::{
    Evaluation, Exact, FixedPoint, InputGradients, Latent, Maximise, Reason,
};
use crate::infer::finding::Finding;
use crate::infer::slopes::Slopes;
use crate::infer::statistic::{EdgeFunction, Request};
use crate::infer::streaming::{Run, TASKS};
use crate::special::{digamma_rise, ln_beta, trigamma, trigamma_fall};
use crate::{Block, Error, Real, parallel};

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

/// d − c, or (d − c)², about a centre c of each query: what the variance keeps its digits by.
#[derive(Debug)]
struct Spread<'a> {
    centre: &'a [f64],
    first: usize,
    squared: bool,
}

impl<T: Real> EdgeFunction<T> for Spread<'_> {
    fn fill(&self, block: &Block, mut values: TileMut<'_, T>) {
        InstructionSet::detect().run(
            #[inline(always)]
            || {
                for (r, i) in block.queries.clone().enumerate() {
                    let farthest = block.distance(i, block.keys.start) as f64;
                    let farthest = T::of(farthest - self.centre[i - self.first]);
                    for (c, x) in values.row_mut(r).iter_mut().enumerate() {
                        let apart = farthest - T::of(c as f64);
                        *x = if self.squared { apart * apart } else { apart };
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

    /// Finding of one run under q(φ) at `z`, over the key ranges from number `from` on.
    fn pass(
        &self,
        run: &AscentRun<'_, T>,
        z: &[f64],
        request: &Request<'_, T>,
        from: usize,
    ) -> Finding<T> {
        let first = self.problem.flat(run.place, run.queries.start);
        let weights = Rates { values: self.rates(run, z).into(), first, shape: self.problem.shape };
        let prior = ExpandingPrior { windows: self.causal, weights: &weights };
        let inner = self.problem.under(&prior);
        if let Some(prepared) = &run.prepared {
            return prepared.find(&inner, request, from);
        }
        let mut own = Run::new(run.place, run.queries.clone(), self.parts);
        own.add_keys(&inner, Some(request), run.keys.clone());
        own.find(&inner, request, 0)
    }

    /// F and the z that follows.
    fn evaluate(&self, z: &[f64]) -> Evaluation<f64> {
        let wanted = self.problem.wanted(false, &[]);
        let of_run = |run: &AscentRun<'_, T>| {
            let found = self.pass(run, z, &wanted.request, 0);
            let rates = self.rates(run, z);
            let seen = log_seen(&found).into_iter().zip(mean_distance(&found, &wanted));
            seen.enumerate()
                .map(|(r, (log_z, mean))| {
                    let (alpha, beta, after) = self.at(run, z, r);
                    (-elbo(alpha, beta, after, rates[r], log_z), (beta + mean).ln())
                })
                .collect::<Vec<_>>()
        };
        let all = parallel::map(self.runs.len(), &|run| of_run(&self.runs[run]));
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
        let all = parallel::map(self.runs.len(), &|run| self.moments_of(&self.runs[run], z));
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
        let first = run.queries.start;
        let spreads = [false, true].map(|squared| Spread { centre: &centre, first, squared });
        let functions = spreads.each_ref().map(|spread| spread as &dyn EdgeFunction<T>);
        let mut request = Request::new(&self.problem.shape);
        let moments = functions.map(|f| request.linear(crate::infer::Linear::Edge(Arc::new(f))));
        let found = self.pass(run, z, &request, 0);
        let [one, two] = moments.map(|moment| expected(&found, moment));
        one.into_iter()
            .zip(two)
            .zip(&centre)
            .map(|((one, two), centre)| {
                (centre + one, if two < one * one { 0.0 } else { two - one * one })
            })
            .collect()
    }

    /// Finding under q(φ) at `z`, over [B, H, N].
    pub(crate) fn finding(&self, z: &[f64], request: &Request<'_, T>) -> Finding<T> {
        let shape = &self.problem.shape;
        let passes =
            parallel::map(self.runs.len(), &|run| self.pass(&self.runs[run], z, request, 0));
        let mut own = passes.into_iter();
        let mut runs_left = self.runs.iter().peekable();
        let weights = Rates { values: [][..].into(), first: 0, shape: *shape };
        let prior = ExpandingPrior { windows: self.causal, weights: &weights };
        let inner = self.problem.under(&prior);
        let mut parts = Vec::new();
        for place in shape.all_heads() {
            for queries in runs(shape) {
                let is_next =
                    |run: &&AscentRun<'_, T>| run.place == place && run.queries == queries;
                parts.push(match runs_left.next_if(is_next) {
                    Some(_) => own.next().expect("one part per run"),
                    None => Run::new(place, queries, 1).find(&inner, request, 0),
                });
            }
        }
        self.problem.concatenate(parts, request)
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

/// E[d] of every query; 0 where it has no key.
fn mean_distance<T: Real>(finding: &Finding<T>, wanted: &Wanted<'_, T>) -> Vec<f64> {
    expected(finding, wanted.distance.expect("distances are averaged"))
}

fn sizes((a, b, c, d): (usize, usize, usize, usize)) -> [usize; 4] {
    [a, b, c, d]
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
            ("q", &sizes(q.dim())[..]),
            ("k", &sizes(k.dim())[..]),
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
        if !inputs.are_wanted() {
            return Ok(pulled);
        }
        let problem = self.problem;
        let shape = problem.shape;
        let mut expected_distance = vec![T::zero(); problem.count()];
        self.places().for_each(|(at, flat)| expected_distance[flat] = T::of(to_mean[at]));
        let wanted = problem.wanted(false, &[]);
        let found = self.finding(z, &wanted.request);
        let windows = self.windows();
        let weights = Rates { values: self.all_rates(z).into(), first: 0, shape };
        let prior = ExpandingPrior { windows: &windows, weights: &weights };
        let mut slopes = Slopes::new(wanted.request.linear.len());
        let distance = wanted.distance.expect("distances are averaged");
        slopes.add_linear(distance, expected_distance.into());
        let gradients = problem.differentiate(&prior, &wanted.request, &found, &slopes)?;
        inputs.add("q", &gradients.q.mapv(|x| x.f64()))?;
        inputs.add("k", &gradients.k.mapv(|x| x.f64()))?;
        let (rate, learned) =
            gradients.parameters.split_first().expect("the prior's rate comes first");
        for parameter in learned {
            inputs.add(&parameter.name, &parameter.gradient.mapv(|x| x.f64()))?;
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
        inputs.add("alpha", &to_alpha)?;
        inputs.add("beta", &to_beta)?;
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
    let inner = problem.under(&prior);
    let all = problem.wanted(true, &[]);
    let mut prepared = Run::new(place, queries.clone(), parts);
    if frontier.end == 0 {
        let finding = prepared.find(&inner, &all.request, 0);
        let lost = vec![0.0; count];
        let concentration = concentration(&z);
        return Ok(Outcome { start: 0, growths: 0, finding, lost, steps, concentration });
    }
    let first = frontier.start..frontier.end;
    prepared.add_keys(&inner, Some(&all.request), first.clone());
    let run = AscentRun { place, queries: queries.clone(), keys: first, first: 0, prepared: None };
    let mut model = MeanField { problem, causal, runs: vec![run], parts, moments: None.into() };
    model.runs[0].prepared = Some(prepared);

    let wanted = problem.wanted(false, &[]);
    let request = &wanted.request;
    let mut seen = model.pass(&model.runs[0], &z, request, 0);
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
            seen = model.pass(&model.runs[0], &z, request, 0);
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
        let from = prepared.add_keys(&inner, Some(&all.request), keys);
        seen.mix(&model.pass(&model.runs[0], &z, request, from));
        settled = false;
    };
    let finding = model.pass(&model.runs[0], &z, &all.request, 0);
    let concentration = concentration(&z);
    let Frontier { start, growths, .. } = frontier;
    Ok(Outcome { start, growths, finding, lost, steps, concentration })
}

/// Bounds on the lost mass that hold for every iterate of the untruncated ascent; `None` where no
/// β′ above the one found could be shown to be one that the ascent does not cross.
fn certified<T: Real>(
    model: &MeanField<'_, '_, T>,
    frontier: &Frontier<'_, '_, T>,
    z: &[f64],
    seen: &Finding<T>,
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
    let wanted = model.problem.wanted(false, &[]);
    let there = model.pass(run, &above, &wanted.request, 0);
    let (log_z, means) = (log_seen(&there), mean_distance(&there, &wanted));
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
