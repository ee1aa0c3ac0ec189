//! Ends of iterations, as tensors.

use ndarray::{Array1, ArrayD, IxDyn};

use super::Answers;
use crate::Real;
use crate::infer::collapsed::{AdjointReport, InputGradients, Reason, Solution};
use crate::infer::{Exactness, Report};

/// Meaning of the numbers of `reason`.
const REASONS: &str = "0 converged, 1 energy stands still, 2 steps exhausted, 3 not finite";

/// The number that stands for a reason.
pub(super) fn code(reason: Reason) -> i64 {
    match reason {
        Reason::Converged => 0,
        Reason::EnergyStandsStill => 1,
        Reason::StepsExhausted => 2,
        Reason::NotFinite => 3,
    }
}

/// Adds `reason`, with the meaning of its numbers.
pub(super) fn reasons<T>(reasons: ArrayD<i64>, answers: &mut Answers<T>) {
    answers.index("reason", reasons);
    answers.describe("reason", REASONS);
}

/// Adds steps, residual, free energy and reason of every problem, laid out in `shape`, and the
/// trace over steps.
pub(super) fn write<T: Real>(solution: &Solution<T>, shape: &[usize], answers: &mut Answers<T>) {
    let by_problem = |list: &[T]| {
        ArrayD::from_shape_vec(IxDyn(shape), list.to_vec()).expect("one number per problem")
    };
    let whole = |list: Vec<i64>| {
        ArrayD::from_shape_vec(IxDyn(shape), list).expect("one number per problem")
    };
    answers.real("residual", by_problem(&solution.residual));
    answers.index("steps", whole(solution.steps.iter().map(|&steps| steps as i64).collect()));
    reasons(whole(solution.reasons.iter().map(|&reason| code(reason)).collect()), answers);
    if !solution.free_energy.is_empty() {
        answers.real("free-energy", by_problem(&solution.free_energy));
        let trace: Array1<T> =
            solution.trace.iter().map(|entry| entry.free_energy.unwrap_or(T::nan())).collect();
        answers.real("trace.free-energy", trace.into_dyn());
    }
    let trace: Array1<T> = solution.trace.iter().map(|entry| entry.residual).collect();
    answers.real("trace.residual", trace.into_dyn());
}

/// Adds how a transport was solved: how far it can be from what it is to be, the worst of all heads.
pub(super) fn transport<T: Real>(report: &Report, answers: &mut Answers<T>) {
    let Exactness::Transport { gap, marginal_error, below } = report.exactness else { return };
    let one = |number: f64| ndarray::arr1(&[T::of(number)]).into_dyn();
    answers.real("transport.gap", one(gap));
    answers.real("transport.marginal-error", one(marginal_error));
    answers.real("transport.below", one(below));
    let whole = |number: i64| ndarray::arr1(&[number]).into_dyn();
    answers.index("steps", whole(report.steps as i64));
    if let Some(reason) = report.reason {
        reasons(whole(code(reason)), answers);
    }
}

/// Adds the gradients in the inputs of an update.
pub(super) fn gradients<T: Real>(inputs: InputGradients<T>, answers: &mut Answers<T>) {
    for input in inputs.into_vec() {
        answers.real(&format!("grad.{}", input.name), input.gradient);
    }
}

/// Adds how the linear solve of implicit gradients went.
pub(super) fn adjoint<T: Real, R: Real>(
    report: Option<AdjointReport<R>>,
    answers: &mut Answers<T>,
) {
    let Some(report) = report else { return };
    let one = |number: i64| ndarray::arr1(&[number]).into_dyn();
    answers.index("adjoint.iterations", one(report.iterations as i64));
    answers.index("adjoint.converged", one(report.converged.into()));
    answers.real("adjoint.residual", ndarray::arr1(&[T::of(report.residual.f64())]).into_dyn());
}
