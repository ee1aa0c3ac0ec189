//! `reproduce.json`: settings, every run, their spread over seeds, and what became of the claims.

use serde::Serialize;

use super::claims::{self, Claim};
use super::expanding::{self, Setting};
use super::multihop;
use super::spread::Spread;
use super::training::Schedule;

/// How large an experiment is.
#[derive(Clone, Debug, Serialize)]
pub struct Scale {
    /// Training on chains.
    pub multihop: Schedule,
    /// Training on lags, at a width of 10; the step size falls with the width.
    pub expanding: Schedule,
    /// Widths of the lags' problem; what is not published runs at the first.
    pub dimensions: Vec<usize>,
    /// p of the lags.
    pub p: Vec<f64>,
    /// Held-out chains; of the lags' problem, a quarter as many.
    pub held_out: usize,
}

impl Scale {
    /// The experiment.
    pub fn full() -> Self {
        Self {
            multihop: Schedule { steps: 1000, batch: 64, rate: 0.03 },
            expanding: Schedule { steps: 250, batch: 32, rate: 0.03 },
            dimensions: vec![10, 50, 75],
            p: vec![1.0 / 2.0, 1.0 / 5.0, 1.0 / 10.0, 1.0 / 25.0],
            held_out: 2048,
        }
    }

    /// Enough to see that everything works, and for no more.
    pub fn quick() -> Self {
        Self {
            multihop: Schedule { steps: 60, ..Self::full().multihop },
            expanding: Schedule { steps: 30, ..Self::full().expanding },
            dimensions: vec![10],
            p: vec![1.0 / 2.0, 1.0 / 10.0],
            held_out: 512,
        }
    }
}

/// All of it.
#[derive(Debug, Serialize)]
pub struct Document {
    /// Version of this program.
    pub version: &'static str,
    /// Whether it was a small run.
    pub quick: bool,
    /// Seeds 0..this.
    pub seeds: u64,
    /// Sizes.
    pub scale: Scale,
    /// Chains, by layer.
    pub multihop: Vec<WalkRow>,
    /// Lags, by setting and layer.
    pub expanding: Vec<ExpandingRow>,
    /// Claims.
    pub claims: Vec<Claim>,
    /// Every run of the chains.
    pub multihop_runs: Vec<multihop::Run>,
    /// Every run of the lags.
    pub expanding_runs: Vec<expanding::Run>,
}

/// One layer on chains, over the seeds. Errors are shares of the targets' variance.
#[derive(Debug, Serialize)]
pub struct WalkRow {
    /// The layer.
    pub mechanism: multihop::Mechanism,
    /// Runs.
    pub runs: usize,
    /// Runs that diverged. They are in no error below where they gave none.
    pub diverged: usize,
    /// Squared error, in the problem's own unit.
    pub squared_error: Option<Spread>,
    /// Error of the posterior.
    pub error: Option<Spread>,
    /// Error of the likeliest edges.
    pub error_hard: Option<Spread>,
    /// Attention to x₀, x₁, x₂ and the distractors.
    pub attention: [Option<Spread>; 4],
    /// Medians of the same by hops.
    pub attention_by_hops: Vec<[f64; 4]>,
    /// Medians of P(h) of a walk.
    pub hops: Option<Vec<f64>>,
}

/// One layer on lags, over the seeds. Errors are shares of the targets' variance.
#[derive(Debug, Serialize)]
pub struct ExpandingRow {
    /// The layer.
    pub mechanism: expanding::Mechanism,
    /// The problem.
    #[serde(flatten)]
    pub setting: Setting,
    /// Runs.
    pub runs: usize,
    /// Runs that diverged.
    pub diverged: usize,
    /// Error of the posterior.
    pub error: Option<Spread>,
    /// Error of the likeliest edge.
    pub error_hard: Option<Spread>,
    /// Error from the certified window.
    pub error_in_window: Option<Spread>,
    /// Attention to x₀.
    pub attention: Option<Spread>,
    /// Keys that hold all but the tolerance of the posterior.
    pub window_needed: Option<Spread>,
    /// Keys that the bound asks for.
    pub window_certified: Option<Spread>,
    /// Keys the engine read.
    pub window_read: Option<Spread>,
    /// Growths by a key, and steps.
    pub iterations: Option<Spread>,
    /// Steps of coordinate ascent.
    pub steps: Option<Spread>,
    /// Relative to full attention.
    pub cost: Option<Spread>,
}

impl Document {
    /// Sums the runs up.
    pub fn new(
        quick: bool,
        seeds: u64,
        scale: &Scale,
        multihop_runs: Vec<multihop::Run>,
        expanding_runs: Vec<expanding::Run>,
    ) -> Self {
        let mut claims = Vec::new();
        if !multihop_runs.is_empty() {
            claims.extend(claims::of_multihop(&multihop_runs));
        }
        if !expanding_runs.is_empty() {
            claims.extend(claims::of_expanding(&expanding_runs));
        }
        if quick {
            // Numbers of layers that have not learned anything decide nothing.
            claims = claims.into_iter().map(Claim::untested).collect();
        }
        let walks = multihop::Mechanism::ALL.into_iter().filter_map(|mechanism| {
            let runs: Vec<_> =
                multihop_runs.iter().filter(|run| run.mechanism == mechanism).collect();
            (!runs.is_empty()).then(|| WalkRow::new(mechanism, &runs))
        });
        let settings = scale
            .dimensions
            .iter()
            .flat_map(|&dimension| scale.p.iter().map(move |&p| Setting { dimension, p }));
        let expanding = settings.flat_map(|setting| {
            let expanding_runs = &expanding_runs;
            expanding::Mechanism::ALL.into_iter().filter_map(move |mechanism| {
                let own =
                    |run: &&expanding::Run| run.mechanism == mechanism && run.setting == setting;
                let runs: Vec<_> = expanding_runs.iter().filter(own).collect();
                (!runs.is_empty()).then(|| ExpandingRow::new(mechanism, setting, &runs))
            })
        });
        Self {
            version: env!("CARGO_PKG_VERSION"),
            quick,
            seeds,
            scale: scale.clone(),
            multihop: walks.collect(),
            expanding: expanding.collect(),
            claims,
            multihop_runs,
            expanding_runs,
        }
    }
}

impl WalkRow {
    fn new(mechanism: multihop::Mechanism, runs: &[&multihop::Run]) -> Self {
        let of = |f: &dyn Fn(&multihop::Run) -> Option<f64>| {
            Spread::of(runs.iter().filter_map(|run| f(run)))
        };
        let median =
            |f: &dyn Fn(&multihop::Run) -> Option<f64>| of(f).map_or(f64::NAN, |s| s.median);
        let layers = runs.iter().map(|run| run.attention_by_hops.len()).max().unwrap_or(0);
        let by_hops = (0..layers).map(|hop| {
            std::array::from_fn(|role| {
                median(&|run| run.attention_by_hops.get(hop).map(|attention| attention[role]))
            })
        });
        let hops = runs.iter().find_map(|run| run.hops.as_ref()).map(|hops| {
            (0..hops.len()).map(|h| median(&|run| run.hops.as_ref().map(|hops| hops[h]))).collect()
        });
        Self {
            mechanism,
            runs: runs.len(),
            diverged: runs.iter().filter(|run| run.diverged).count(),
            squared_error: of(&|run| run.squared_error),
            error: of(&|run| Some(run.squared_error? / run.variance)),
            error_hard: of(&|run| Some(run.squared_error_hard? / run.variance)),
            attention: std::array::from_fn(|role| {
                of(&|run| run.attention.map(|attention| attention[role]))
            }),
            attention_by_hops: by_hops.collect(),
            hops,
        }
    }
}

impl ExpandingRow {
    fn new(mechanism: expanding::Mechanism, setting: Setting, runs: &[&expanding::Run]) -> Self {
        let of = |f: &dyn Fn(&expanding::Run) -> Option<f64>| {
            Spread::of(runs.iter().filter_map(|run| f(run)))
        };
        let expansion =
            |f: &dyn Fn(&expanding::Expansion) -> f64| of(&|run| run.expansion.as_ref().map(f));
        Self {
            mechanism,
            setting,
            runs: runs.len(),
            diverged: runs.iter().filter(|run| run.diverged).count(),
            error: of(&|run| Some(run.squared_error? / run.variance)),
            error_hard: of(&|run| Some(run.squared_error_hard? / run.variance)),
            error_in_window: of(&|run| {
                Some(run.expansion.as_ref()?.squared_error_in_window / run.variance)
            }),
            attention: of(&|run| run.attention.map(|attention| attention[0])),
            window_needed: of(&|run| run.window_needed),
            window_certified: expansion(&|found| found.window_certified),
            window_read: expansion(&|found| found.window_read),
            iterations: expansion(&|found| found.iterations),
            steps: expansion(&|found| found.steps),
            cost: expansion(&|found| found.cost),
        }
    }
}
