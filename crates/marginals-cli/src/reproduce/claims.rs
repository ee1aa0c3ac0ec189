//! Claims made before the runs, and verdicts of the runs.
//!
//! Each claim fixes the number that decides it. With the text goes the rule, in the code, so that
//! nothing can be fitted to the outcome.

use serde::Serialize;

use super::expanding::{self, Setting};
use super::multihop;
use super::spread::Spread;

/// Whose claim it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// The paper's.
    Published,
    /// Prediction of the framework beyond it.
    Predicted,
}

/// How it turned out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// As claimed.
    Agrees,
    /// Not so.
    Disagrees,
    /// There were no runs to tell, or they were too short to.
    Untested,
}

impl Outcome {
    /// Word in tables.
    pub fn word(self) -> &'static str {
        match self {
            Self::Agrees => "agrees",
            Self::Disagrees => "does not agree",
            Self::Untested => "not tested",
        }
    }
}

/// A claim and its outcome.
#[derive(Clone, Debug, Serialize)]
pub struct Claim {
    /// The problem it is about.
    pub problem: &'static str,
    /// Whose it is.
    pub source: Source,
    /// Claim, and its reason.
    pub claim: &'static str,
    /// Measure that decides.
    pub measure: &'static str,
    /// The decisive number.
    pub found: Option<f64>,
    /// How it turned out.
    pub outcome: Outcome,
}

impl Claim {
    fn decided(
        (problem, source): (&'static str, Source),
        [claim, measure]: [&'static str; 2],
        found: Option<f64>,
        holds: impl Fn(f64) -> bool,
    ) -> Self {
        let outcome = match found {
            None => Outcome::Untested,
            Some(found) if holds(found) => Outcome::Agrees,
            Some(_) => Outcome::Disagrees,
        };
        Self { problem, source, claim, measure, found, outcome }
    }

    /// The claim without a verdict.
    pub fn untested(self) -> Self {
        Self { found: None, outcome: Outcome::Untested, ..self }
    }
}

fn median(list: impl IntoIterator<Item = f64>) -> Option<f64> {
    Spread::of(list).map(|spread| spread.median)
}

/// Claims about walks, from the runs.
pub fn of_multihop(runs: &[multihop::Run]) -> Vec<Claim> {
    use multihop::{Mechanism, Run};
    // Median over seeds of one number over another, both of the same seed.
    let ratio = |above: Mechanism,
                 below: Mechanism,
                 of: &dyn Fn(&Run) -> Option<f64>,
                 over: &dyn Fn(&Run) -> Option<f64>| {
        let of_seed = |run: &Run| {
            let twin = runs.iter().find(|r| r.mechanism == below && r.seed == run.seed)?;
            Some(of(run)? / over(twin)?)
        };
        median(runs.iter().filter(|run| run.mechanism == above).filter_map(of_seed))
    };
    let error = |run: &Run| run.squared_error.map(|error| error / run.variance);
    let hard = |run: &Run| run.squared_error_hard.map(|error| error / run.variance);
    let on_x0 = |run: &Run| run.attention.map(|attention| attention[0]);
    let errors = |above, below| ratio(above, below, &error, &error);
    let published = ("multihop", Source::Published);
    let predicted = ("multihop", Source::Predicted);
    vec![
        Claim::decided(
            published,
            [
                "Two hops have a smaller error than one: x₂ points at x₁ and x₁ at x₀.",
                "error of two hops over that of one hop, below 1",
            ],
            errors(Mechanism::TwoHops, Mechanism::OneHop),
            |ratio| ratio < 1.0,
        ),
        Claim::decided(
            published,
            [
                "Two hops give x₀, which counts twice, more attention than one hop does.",
                "attention to x₀ of two hops over that of one hop, above 1",
            ],
            ratio(Mechanism::TwoHops, Mechanism::OneHop, &on_x0, &on_x0),
            |ratio| ratio > 1.0,
        ),
        Claim::decided(
            published,
            [
                "Two hops do about as well as two layers, with half the weights.",
                "error of two hops over that of two layers, at most 1.25",
            ],
            errors(Mechanism::TwoHops, Mechanism::Stacked),
            |ratio| ratio <= 1.25,
        ),
        Claim::decided(
            predicted,
            [
                "A sink changes little: the last vector always has something to look at, so that an edge to \
              nothing is of no use to it.",
                "error of one hop with a sink over that without, between 0.8 and 1.25",
            ],
            errors(Mechanism::OneHopSink, Mechanism::OneHop),
            |ratio| (0.8..=1.25).contains(&ratio),
        ),
        Claim::decided(
            predicted,
            [
                "Nor does it help a walk, which would get lost on the way.",
                "error of two hops with a sink over that without, between 0.8 and 1.25",
            ],
            errors(Mechanism::TwoHopsSink, Mechanism::TwoHops),
            |ratio| (0.8..=1.25).contains(&ratio),
        ),
        Claim::decided(
            predicted,
            [
                "Knowing the edges x₂ → x₁ → x₀ helps a walk beyond measure: all that is left to learn is how \
              many hops count how much, ¼, ¼ and ½.",
                "error of two hops with the true edges over that without, below 0.01",
            ],
            errors(Mechanism::TwoHopsGraph, Mechanism::TwoHops),
            |ratio| ratio < 0.01,
        ),
        Claim::decided(
            predicted,
            [
                "It hurts one hop, which then sees x₁ and nothing else.",
                "error of one hop with the true edges over that without, above 1",
            ],
            errors(Mechanism::OneHopGraph, Mechanism::OneHop),
            |ratio| ratio > 1.0,
        ),
        Claim::decided(
            predicted,
            [
                "Hard attention hurts one hop: three vectors are needed and one is picked.",
                "error of one hop's likeliest edge over that of its posterior, above 2",
            ],
            ratio(Mechanism::OneHop, Mechanism::OneHop, &hard, &error),
            |ratio| ratio > 2.0,
        ),
        Claim::decided(
            predicted,
            [
                "It hurts a walk less, whose hops need one edge each.",
                "the same ratio of two hops over that of one hop, below 1",
            ],
            ratio(
                Mechanism::TwoHops,
                Mechanism::OneHop,
                &|run| Some(hard(run)? / error(run)?),
                &|run| Some(hard(run)? / error(run)?),
            ),
            |ratio| ratio < 1.0,
        ),
    ]
}

/// Claims about expanding attention, from the runs.
pub fn of_expanding(runs: &[expanding::Run]) -> Vec<Claim> {
    use expanding::{Mechanism, Run};
    let error = |run: &Run| run.squared_error.map(|error| error / run.variance);
    let hard = |run: &Run| run.squared_error_hard.map(|error| error / run.variance);
    let twin = |run: &Run, of: Mechanism| {
        let same = |r: &&Run| (r.mechanism, r.seed, r.setting) == (of, run.seed, run.setting);
        runs.iter().find(same)
    };
    let ratio = |above: Mechanism, below: Mechanism, wanted: &dyn Fn(Setting) -> bool| {
        let own = runs.iter().filter(|run| run.mechanism == above && wanted(run.setting));
        median(own.filter_map(|run| Some(error(run)? / error(twin(run, below)?)?)))
    };
    let all = |_: Setting| true;
    let largest_p = runs.iter().map(|run| run.setting.p).fold(0.0, f64::max);
    let published = ("expanding", Source::Published);
    let predicted = ("expanding", Source::Predicted);
    let cost = |of: Mechanism| {
        let own = runs.iter().filter(|run| run.mechanism == of);
        median(own.filter_map(|run| run.expansion.as_ref().map(|found| found.cost)))
    };
    vec![
        Claim::decided(
            published,
            [
                "Expanding attention, ρ summed out, is as good as full attention.",
                "error of exact expanding over that of full attention, at most 1.25",
            ],
            ratio(Mechanism::Exact, Mechanism::Full, &all),
            |ratio| ratio <= 1.25,
        ),
        Claim::decided(
            published,
            [
                "So is the mean field.",
                "error of mean-field expanding over that of full attention, at most 1.25",
            ],
            ratio(Mechanism::MeanField, Mechanism::Full, &all),
            |ratio| ratio <= 1.25,
        ),
        Claim::decided(
            published,
            [
                "The window follows 1/p.",
                "rank correlation of the exact posterior's certified window with 1/p, over all runs, above 0.5",
            ],
            rank_correlation(runs.iter().filter(|run| run.mechanism == Mechanism::Exact)),
            |correlation| correlation > 0.5,
        ),
        Claim::decided(
            published,
            [
                "It costs less than full attention.",
                "cost of exact expanding relative to full attention, below 1",
            ],
            cost(Mechanism::Exact),
            |cost| cost < 1.0,
        ),
        Claim::decided(
            predicted,
            [
                "A sink changes little: there is always one informative vector.",
                "error of full attention with a sink over that without, between 0.8 and 1.25",
            ],
            ratio(Mechanism::Sink, Mechanism::Full, &all),
            |ratio| (0.8..=1.25).contains(&ratio),
        ),
        Claim::decided(
            predicted,
            [
                "A window that holds 99 of 100 lags helps where lags are short: it takes distractors away that \
              full attention must learn to pass over.",
                "error within the true window over that of full attention at the largest p, below 1",
            ],
            ratio(Mechanism::Window, Mechanism::Full, &|setting| setting.p == largest_p),
            |ratio| ratio < 1.0,
        ),
        Claim::decided(
            predicted,
            [
                "Hard attention hurts: what was learned is to read an average of x₀ and x₁, of which the \
              likeliest edge leaves one.",
                "error of full attention's likeliest edge over that of its posterior, above 1",
            ],
            median(
                runs.iter()
                    .filter(|run| run.mechanism == Mechanism::Full)
                    .filter_map(|run| Some(hard(run)? / error(run)?)),
            ),
            |ratio| ratio > 1.0,
        ),
    ]
}

/// Spearman's correlation of certified windows with 1/p; ties share their mean rank.
fn rank_correlation<'r>(runs: impl Iterator<Item = &'r expanding::Run>) -> Option<f64> {
    let pairs: Vec<(f64, f64)> = runs
        .filter_map(|run| Some((1.0 / run.setting.p, run.expansion.as_ref()?.window_certified)))
        .collect();
    let ranks = |list: Vec<f64>| -> Vec<f64> {
        let rank = |x: &f64| {
            let below = list.iter().filter(|y| *y < x).count();
            let same = list.iter().filter(|y| *y == x).count();
            below as f64 + 0.5 * (same as f64 - 1.0)
        };
        list.iter().map(rank).collect()
    };
    let across = ranks(pairs.iter().map(|pair| pair.0).collect());
    let up = ranks(pairs.iter().map(|pair| pair.1).collect());
    let middle = 0.5 * (pairs.len() as f64 - 1.0);
    let product = |a: &[f64], b: &[f64]| -> f64 {
        a.iter().zip(b).map(|(a, b)| (a - middle) * (b - middle)).sum()
    };
    let correlation =
        product(&across, &up) / (product(&across, &across) * product(&up, &up)).sqrt();
    correlation.is_finite().then_some(correlation)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(p: f64, window: f64, error: f64, mechanism: expanding::Mechanism) -> expanding::Run {
        expanding::Run {
            mechanism,
            setting: Setting { dimension: 10, p },
            seed: 0,
            diverged: false,
            squared_error: Some(error),
            squared_error_hard: Some(2.0 * error),
            variance: 2.0,
            attention: None,
            window_needed: None,
            expansion: Some(expanding::Expansion {
                window_read: 50.0,
                window_certified: window,
                iterations: 0.0,
                steps: 0.0,
                cost: window / 50.0,
                squared_error_in_window: error,
                concentrations: [1.0, 1.0],
            }),
        }
    }

    /// Perfect order either way, and NumPy's correlation of mean ranks where there are ties.
    #[test]
    fn ranks_are_correlated() {
        let of = |list: &[(f64, f64)]| {
            let runs: Vec<_> =
                list.iter().map(|&(p, w)| run(p, w, 1.0, expanding::Mechanism::Exact)).collect();
            rank_correlation(runs.iter())
        };
        assert_eq!(of(&[(0.5, 3.0), (0.25, 6.0), (0.1, 20.0)]), Some(1.0));
        assert_eq!(of(&[(0.5, 30.0), (0.25, 6.0), (0.1, 2.0)]), Some(-1.0));
        // Ranks 0.5, 0.5, 2, 3 and 0, 2, 1, 3: numpy.corrcoef gives 0.6324555320336759.
        let found = of(&[(0.5, 1.0), (0.5, 3.0), (0.25, 2.0), (0.1, 4.0)]).unwrap();
        assert!((found - 0.632_455_532_033_675_9).abs() < 1e-12, "{found}");
        assert_eq!(of(&[(0.5, 1.0), (0.5, 2.0)]), None);
    }

    #[test]
    fn outcomes_are_those_of_the_numbers() {
        let worse = [
            run(0.5, 50.0, 3.0, expanding::Mechanism::Exact),
            run(0.5, 50.0, 1.0, expanding::Mechanism::Full),
        ];
        let claims = of_expanding(&worse);
        assert_eq!(claims[0].found, Some(3.0));
        assert_eq!(claims[0].outcome, Outcome::Disagrees);
        assert_eq!(claims[1].outcome, Outcome::Untested);
        assert_eq!(claims[3].outcome, Outcome::Disagrees);
        assert_eq!(claims.last().unwrap().found, Some(2.0));
        assert_eq!(claims.last().unwrap().outcome, Outcome::Agrees);
        assert!(of_multihop(&[]).iter().all(|claim| claim.outcome == Outcome::Untested));
    }
}
