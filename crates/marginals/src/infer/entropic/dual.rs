//! The dual problem: key biases at which every key has its mass.
//!
//! A step of Sinkhorn's (Sinkhorn & Knopp 1967; Cuturi, arXiv 1306.0895) lets every query have its mass, and then
//! every key, which never raises the dual function. Its fixed point is gone to faster by Anderson's acceleration.
//! Where that raises the dual function, and the step after it does not make up for it, the plain step is taken.

use super::margins::Head;
use super::settings::Entropic;
use super::sweep::{Sums, Sweep};
use crate::Real;
use crate::infer::collapsed::{Anderson, Reason};

/// Steps that acceleration remembers.
const MEMORY: usize = 6;

/// The solution of one head.
#[derive(Clone, Debug)]
pub(super) struct Solved {
    /// Biases of the keys, −∞ for those without mass.
    pub biases: Vec<f64>,
    /// Sums under these.
    pub sums: Sums,
    /// The dual function there: the log-partition of the relaxation, and an upper bound of it.
    pub dual: f64,
    /// Σ |mass of a key − what it is to have|, over the total.
    pub error: f64,
    /// Steps taken.
    pub steps: usize,
    /// Why it ended.
    pub reason: Reason,
}

impl Solved {
    /// Whether there is a plan that could be one.
    pub fn is_possible(&self) -> bool {
        self.dual > f64::NEG_INFINITY
    }
}

/// Iteration of one head.
struct State {
    biases: Vec<f64>,
    /// Alternative to an accelerated step under trial.
    trial: Option<Trial>,
    history: Anderson<f64>,
    done: Option<Solved>,
}

/// An accelerated step that is not yet known to be one forward.
struct Trial {
    /// Where the plain step leads.
    plain: Vec<f64>,
    /// The dual function before both.
    before: f64,
    /// Whether the step after it has been taken too. What goes too far is put right by that, where a node is
    /// full on one side of the solution and has room on the other.
    is_followed: bool,
}

/// Solves the dual problem of every head.
pub(super) fn solve<T: Real>(sweep: &Sweep<'_, '_, T>, settings: &Entropic) -> Vec<Solved> {
    let start = |head: usize| State {
        biases: sweep.masses(head).start(),
        trial: None,
        history: Anderson::new(),
        done: None,
    };
    let mut states: Vec<State> = (0..sweep.heads()).map(start).collect();
    for step in 0..=settings.steps {
        let active: Vec<usize> =
            (0..states.len()).filter(|&head| states[head].done.is_none()).collect();
        if active.is_empty() {
            break;
        }
        let biases: Vec<Vec<f64>> = states.iter().map(|state| state.biases.clone()).collect();
        for (&head, sums) in active.iter().zip(sweep.sums(&active, &biases)) {
            advance(sweep, head, &mut states[head], sums, (step, settings));
        }
    }
    states.into_iter().map(|state| state.done.expect("the last step ends it")).collect()
}

/// One step of one head, from the sums under its biases.
fn advance<T: Real>(
    sweep: &Sweep<'_, '_, T>,
    head: usize,
    state: &mut State,
    sums: Sums,
    (step, settings): (usize, &Entropic),
) {
    let masses = sweep.masses(head);
    let impossible = |state: &State, dual: f64, sums: Sums, reason: Reason| Solved {
        biases: state.biases.clone(),
        sums,
        dual,
        error: 0.0,
        steps: step,
        reason,
    };
    if masses.total == 0.0 {
        state.done = Some(impossible(state, 0.0, sums, Reason::Converged));
        return;
    }
    let columns = masses.columns(&state.biases, &sums.log_columns);
    let dual = masses.dual(&sums.log_sums, &state.biases);
    if dual.is_nan() || columns.error.is_nan() {
        state.done = Some(impossible(state, f64::NAN, sums, Reason::NotFinite));
        return;
    }
    // A node that must have mass and may have no edge.
    if masses.must_but_cannot(&sums.log_sums, &sums.log_columns) {
        let none = f64::NEG_INFINITY;
        state.done = Some(impossible(state, none, sums, Reason::Converged));
        return;
    }
    let converged = columns.error <= settings.tolerance;
    if converged || step == settings.steps {
        let reason = if converged { Reason::Converged } else { Reason::StepsExhausted };
        let (biases, error) = (std::mem::take(&mut state.biases), columns.error);
        state.done = Some(Solved { biases, sums, dual, error, steps: step, reason });
        return;
    }
    // Sums of so many terms have rounding of this size.
    let rounding = 64.0 * T::epsilon().f64() * (1.0 + dual.abs() + masses.total);
    if let Some(trial) = state.trial.take()
        && dual > trial.before + rounding
    {
        if trial.is_followed {
            // The plain step, whatever it is, lies below.
            state.history.clear();
            state.biases = trial.plain;
        } else {
            state.biases = columns.biases;
            state.trial = Some(Trial { is_followed: true, ..trial });
        }
        return;
    }
    let present = |all: &[f64]| -> Vec<f64> {
        let own = all.iter().zip(masses.keys).filter(|(_, own)| **own > 0.0);
        own.map(|(&x, _)| x).collect()
    };
    let (from, to) = (present(&state.biases), present(&columns.biases));
    let proposed = match from.iter().chain(&to).all(|x| x.is_finite()) {
        true => state.history.propose(&from, &to, MEMORY),
        false => None,
    };
    state.biases = columns.biases.clone();
    if let Some(proposed) = proposed {
        let own = state.biases.iter_mut().zip(masses.keys).filter(|(_, own)| **own > 0.0);
        own.zip(proposed).for_each(|((bias, _), new)| *bias = new);
        masses.admit(&mut state.biases);
        state.trial = Some(Trial { plain: columns.biases, before: dual, is_followed: false });
    }
}

/// An upper bound of how far the dual function lies above the optimum: its distance from what a plan has that
/// satisfies all conditions, made of P.
///
/// Keys that have too much lose it, in proportion, and what is missing then is spread over queries and keys
/// that have room, in proportion to that (Altschuler, Weed & Rigollet, arXiv 1705.09634, algorithm 2). The
/// sum Σ P θ + H(P) of the two parts is bounded by concavity. Infinite where what is missing would have to
/// go over an impossible edge.
pub(super) fn gaps<T: Real>(sweep: &Sweep<'_, '_, T>, solved: &[Solved]) -> Vec<f64> {
    let all: Vec<usize> = (0..solved.len()).collect();
    let of_interest: Vec<usize> = all
        .iter()
        .copied()
        .filter(|&head| solved[head].is_possible() && sweep.masses(head).total > 0.0)
        .collect();
    let biases: Vec<Vec<f64>> = solved.iter().map(|own| own.biases.clone()).collect();
    // y: what a key keeps of its mass.
    let keeps: Vec<Vec<f64>> = (all.iter())
        .map(|&head| {
            let masses = sweep.masses(head);
            let columns = solved[head].sums.log_columns.iter().zip(masses.keys);
            let keep = |(&c, &own): (&f64, &f64)| match own > 0.0 {
                true => (own.ln() - c).exp().min(1.0),
                false => 0.0,
            };
            columns.map(keep).collect()
        })
        .collect();
    let kept = sweep.products(&of_interest, (&biases, &keeps), &|_, _, _, _| 0.0);
    let rounded: Vec<Rounded> = (of_interest.iter().zip(kept))
        .map(|(&head, (means, _))| {
            Rounded::new(&sweep.masses(head), &solved[head], &keeps[head], &means)
        })
        .collect();
    let weights: Vec<_> =
        rounded.iter().map(|own| (own.queries.clone(), own.keys.clone())).collect();
    let spread = sweep.bilinear(&of_interest, &biases, &weights);
    let mut gaps = vec![0.0; solved.len()];
    for ((&head, rounded), spread) in of_interest.iter().zip(&rounded).zip(spread) {
        let masses = sweep.masses(head);
        gaps[head] = rounded.gap(masses.total, &solved[head], spread);
    }
    gaps
}

/// A plan of one head without too much anywhere, and what is missing.
struct Rounded {
    /// Σ P' θ + H(P').
    kept: f64,
    /// Share of the total that is missing.
    missing: f64,
    /// Shares of what is missing, by query and key.
    queries: Vec<f64>,
    keys: Vec<f64>,
}

impl Rounded {
    fn new(masses: &Head<'_>, solved: &Solved, keeps: &[f64], means: &[f64]) -> Self {
        let Solved { biases, sums, .. } = solved;
        let rows: Vec<_> =
            sums.log_sums.iter().enumerate().map(|(i, &sum)| masses.row(i, sum)).collect();
        let has: Vec<f64> = rows.iter().zip(means).map(|(row, mean)| row.mass * mean).collect();
        let columns: Vec<f64> =
            sums.log_columns.iter().zip(keeps).map(|(c, keep)| c.exp() * keep).collect();
        let whole: f64 = has.iter().sum();
        // Where both sides have room, there may be too much in all.
        let scale = if whole > masses.total { masses.total / whole } else { 1.0 };
        // −Σ P' (f_i + x_j + log y_j + log of the scale).
        let of_rows = rows.iter().zip(&sums.log_sums).zip(&has).filter(|(_, has)| **has > 0.0);
        let mut kept: f64 = of_rows.map(|((row, sum), has)| has * (sum - row.log_mass)).sum();
        for ((&c, &keep), &bias) in columns.iter().zip(keeps).zip(biases) {
            if c > 0.0 {
                kept -= c * (bias + keep.ln());
            }
        }
        kept = scale * (kept - whole * scale.ln());
        let room = |own: &[f64], has: &[f64]| -> Vec<f64> {
            let each = own.iter().zip(has).map(|(own, has)| (own - scale * has).max(0.0));
            let all: Vec<f64> = each.collect();
            let sum: f64 = all.iter().sum();
            all.into_iter().map(|x| if sum > 0.0 { x / sum } else { 0.0 }).collect()
        };
        let missing = (1.0 - scale * whole / masses.total).max(0.0);
        let (queries, keys) = (room(masses.queries, &has), room(masses.keys, &columns));
        Self { kept, missing, queries, keys }
    }

    /// D − (Φ(P') + m' log(1 − ε) + ε Φ(R/ε)), `spread` being Σ u v (θ + x) of the missing shares.
    fn gap(&self, total: f64, solved: &Solved, spread: f64) -> f64 {
        let missing = self.missing;
        if missing <= f64::EPSILON {
            return (solved.dual - self.kept).max(0.0);
        }
        let kept = self.kept + total * (1.0 - missing) * (-missing).ln_1p();
        let biased = self.keys.iter().zip(&solved.biases).filter(|(v, _)| **v > 0.0);
        let biases: f64 = biased.map(|(v, x)| v * x).sum();
        let entropy = |shares: &[f64]| -> f64 {
            shares.iter().filter(|p| **p > 0.0).map(|p| p * p.ln()).sum()
        };
        let apart = entropy(&self.queries) + entropy(&self.keys);
        let of_missing = total * (spread - biases - total.ln() - apart);
        let gap = solved.dual - (kept + missing * of_missing);
        if gap.is_nan() { f64::INFINITY } else { gap.max(0.0) }
    }
}
