//! Exact inference: ρ summed out.

use std::ops::Range;

use crate::Real;

use super::certificate::Tail;
use super::frontier::{AIM, Frontier, log_seen};
use super::problem::{Outcome, Problem};
use super::rho::RhoMoment;
use super::weights::BetaGeometricWeights;
use super::windows::{ExpandingPrior, Windows};
use crate::infer::statistic::EdgeFunction;
use crate::infer::streaming::Run;

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
    let inner = problem.under(&prior);
    let moments = RhoMoment::both(&problem.concentrations);
    let functions = moments.each_ref().map(|m| m as &dyn EdgeFunction<T>);
    let wanted = problem.wanted(true, &functions);
    let request = &wanted.request;
    let mut run = Run::new(place, queries.clone(), parts);
    let mut frontier = Frontier::new(problem, place, queries.clone());
    if frontier.end == 0 {
        let finding = run.find(&inner, request, 0);
        let lost = vec![0.0; queries.len()];
        return Outcome {
            start: 0,
            growths: 0,
            finding,
            lost,
            steps: Vec::new(),
            concentration: Vec::new(),
        };
    }
    let tails = |r: usize| {
        let (alpha, beta) = problem.concentrations.of(place, queries.start + r);
        Tail::BetaGeometric { alpha, beta }
    };
    run.add_keys(&inner, Some(request), frontier.start..frontier.end);
    let mut finding = run.find(&inner, request, 0);
    loop {
        let seen = log_seen(&finding);
        let lost = frontier.lost(&tails, &seen);
        if frontier.is_within(&lost) {
            return Outcome {
                start: frontier.start,
                growths: frontier.growths,
                finding,
                lost,
                steps: Vec::new(),
                concentration: Vec::new(),
            };
        }
        // What has been read stays in the finding and need not be kept.
        run = Run::new(place, queries.clone(), parts);
        run.add_keys(&inner, Some(request), frontier.widen(&tails, &seen, &lost, AIM));
        finding.mix(&run.find(&inner, request, 0));
    }
}
