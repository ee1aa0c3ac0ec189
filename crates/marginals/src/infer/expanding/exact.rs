//! Exact inference: ρ summed out.

use std::ops::Range;

use crate::Real;

use super::certificate::Tail;
use super::frontier::{AIM, Frontier, log_seen};
use super::rho::RhoMoments;
use super::weights::BetaGeometricWeights;
use super::windows::{ExpandingPrior, Windows};
use super::{Outcome, Problem};
use crate::infer::exact::Run;

/// Grows the window of one run of queries; every key is read once.
pub(super) fn grow_exact<T: Real>(
    problem: &Problem<'_, T>,
    causal: &Windows,
    weights: &BetaGeometricWeights<'_, T>,
    place: (usize, usize),
    queries: Range<usize>,
    parts: usize,
) -> Outcome<T> {
    let prior = ExpandingPrior { windows: causal, weights };
    let posterior = problem.posterior(&prior);
    let moments = RhoMoments(&problem.concentrations);
    let mut request = problem.mean_request();
    request.functions = Some(&moments);
    let (k, v) = (problem.k.view(), problem.v.as_ref().map(|v| v.view()));
    let mut run = Run::new(place, queries.clone(), parts);
    let mut frontier = Frontier::new(problem, place, queries.clone());
    if frontier.end == 0 {
        let statistics = run.statistics(&posterior, &request, 0);
        let lost = vec![0.0; queries.len()];
        return Outcome {
            start: 0,
            growths: 0,
            statistics,
            lost,
            steps: Vec::new(),
            concentration: Vec::new(),
        };
    }
    let tails = |r: usize| {
        let (alpha, beta) = problem.concentrations.of(place, queries.start + r);
        Tail::BetaGeometric { alpha, beta }
    };
    run.add_keys(&posterior, &k, v.as_ref(), frontier.start..frontier.end);
    let mut statistics = run.statistics(&posterior, &request, 0);
    loop {
        let seen = log_seen(&statistics);
        let lost = frontier.lost(&tails, &seen);
        if frontier.is_within(&lost) {
            return Outcome {
                start: frontier.start,
                growths: frontier.growths,
                statistics,
                lost,
                steps: Vec::new(),
                concentration: Vec::new(),
            };
        }
        // What has been read stays in the statistics and need not be kept.
        run = Run::new(place, queries.clone(), parts);
        run.add_keys(&posterior, &k, v.as_ref(), frontier.widen(&tails, &seen, &lost, AIM));
        statistics.merge_choices(&run.statistics(&posterior, &request, 0));
    }
}
