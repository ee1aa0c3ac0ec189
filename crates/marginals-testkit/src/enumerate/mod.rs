//! Every φ ∈ Φ, one by one, and the definition of each answer summed over the list.
//!
//! [`joint`] lists whole edge sets and tests membership in Φ with a predicate; [`answer`] lists the
//! states of one factor at a time. Neither uses an identity of exponential families: entropy is
//! −Σ p log p, KL is Σ p log(p/π), evidence is log Σ π ψ, a variance is a mean squared deviation.
//! Where keys accept one by one, the list is that of all sets of keys that accept, each of which
//! leads to one φ.

mod distribution;
mod joint;
mod listed;
mod state;
mod sums;

use ndarray::{Array1, Array2};

use crate::answers::ranked;
use crate::exact::Exact;
use crate::{Answers, Law, Posed, Problem, Structure};
use distribution::Distribution;
pub use joint::{Joint, joint};
use listed::Listed;
use state::State;
use sums::Sums;

/// Two log-odds closer than this are a tie: they come from sums of exponentials whose terms arrive in
/// different orders.
const TIE: f64 = 1e-13;

/// Every answer, by listing the states of each factor.
///
/// Cost: O(N·M) states, except O(N·2^M) for independent edges and keys that accept one by one, where
/// M is at most 16.
pub fn answer(of: &impl Posed<Number = f64>) -> Answers {
    let problem = of.problem();
    problem.check();
    let mut out = Answers::degenerate(&problem);
    let factors = Listed::all(&problem);
    for (factor, listed) in factors.iter().enumerate() {
        let (p, pi) = (&listed.posterior, &listed.prior);
        out.log_partition[factor] = p.log_z();
        out.log_evidence[factor] = listed::log_evidence(&listed.states, pi);
        out.ranking[factor] = ranking(&problem, factor, listed);
        if !p.alive() {
            continue;
        }
        out.entropy[factor] = p.entropy();
        out.kl[factor] = p.kl(pi);
        out.null_probability[factor] =
            p.expect(|s| f64::from(u8::from(listed.states[s].edges.is_empty())));
    }
    let sums = Sums::over(&problem, &factors);
    (out.marginals, out.expected_distance) = (sums.marginals, sums.expected_distance);
    (out.mean, out.value_variance) = (sums.mean, sums.variance);
    out.column_mass = out.marginals.sum_axis(ndarray::Axis(0));
    for i in 0..problem.queries() {
        let alone = |j: usize| State::of(&problem, vec![[i, j]]).log_posterior;
        out.note_scores(i, &(0..problem.keys()).map(alone).collect::<Vec<_>>());
    }
    out
}

/// Cov\[Σ_j φ_ij s_ij, v\] of every query, N × d_v, as a mean product of deviations. Scores are summed
/// over edges, whether values are gathered or averaged.
pub fn covariance(of: &impl Posed<Number = f64>, second: &Array2<f64>) -> Array2<f64> {
    let problem = of.problem();
    problem.check();
    sums::covariance(&problem, &Listed::all(&problem), second)
}

/// The possible choices of a factor, best first: single states, or single edges of a subset model.
fn ranking(problem: &Problem, factor: usize, listed: &Listed) -> Vec<(i64, f64)> {
    let p = &listed.posterior;
    if problem.structure == Structure::Independent {
        let of_edge = |j: usize| {
            let holds = |s: usize| listed.states[s].edges.contains(&[factor, j]);
            let (with, without) = (p.log_probability(holds), p.log_probability(|s| !holds(s)));
            let odds = if with.impossible() { with } else { with.less(&without) };
            (j as i64, odds, with.value().exp())
        };
        return ranked((0..problem.keys()).map(of_edge).collect(), TIE);
    }
    // Choices that exclude each other are ranked by their scores where they have scores of their own.
    let gated = problem.structure == Structure::EachQueryPicksAtMostOne
        && matches!(problem.null.get(factor), Some(crate::NullEdge::Gated { .. }));
    let by_probability = problem.law == Law::NearestAccepted || gated;
    let of_state = |(s, state): (usize, &State)| {
        let index = match (state.edges.first(), problem.structure) {
            (None, _) => -1,
            (Some(e), Structure::EachKeyPicksOne) => e[0] as i64,
            (Some(e), _) => e[1] as i64,
        };
        let order = if by_probability { p.exact_log_p(s) } else { state.log_posterior };
        (index, order, p.log_p()[s].exp())
    };
    let choices = listed.states.iter().enumerate().map(of_state);
    ranked(choices.collect(), if by_probability { TIE } else { 0.0 })
}

/// Cross-entropy −E_p[log p′(φ)] of two posteriors with the same structure, per factor; +∞ where p
/// allows what p′ excludes, 0 where p is degenerate.
pub fn cross_entropy<P: Posed<Number = f64>>(p: &P, other: &P) -> Array1<f64> {
    each_pair(p, other, Distribution::cross_entropy)
}

/// KL(p ‖ p′) of two posteriors with the same structure, per factor, from Σ p log(p/p′).
pub fn kl_to<P: Posed<Number = f64>>(p: &P, other: &P) -> Array1<f64> {
    each_pair(p, other, Distribution::kl)
}

fn each_pair<P: Posed<Number = f64>>(
    p: &P,
    other: &P,
    f: impl Fn(&Distribution, &Distribution) -> f64,
) -> Array1<f64> {
    let (p, other) = (p.problem(), other.problem());
    assert_eq!(p.structure, other.structure, "posteriors over different structures");
    assert_eq!(p.law, other.law, "posteriors of different laws");
    let (p, other) = (Listed::all(&p), Listed::all(&other));
    let of_factor = |(a, b): (&Listed, &Listed)| {
        // The same φ may be listed elsewhere, or not at all where it is not possible.
        let twin = |state: &State| b.states.iter().position(|s| s.edges == state.edges);
        let weights = a.states.iter().map(|state| match twin(state) {
            Some(s) => b.posterior.exact_log_p(s),
            None => Exact::of(f64::NEG_INFINITY),
        });
        f(&a.posterior, &Distribution::known(weights.collect()))
    };
    p.iter().zip(&other).map(of_factor).collect()
}
