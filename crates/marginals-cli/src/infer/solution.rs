//! What became of an iteration, as tensors.

use marginals::Real;
use marginals::infer::collapsed::{AdjointReport, Reason, Solution};
use ndarray::{Array1, ArrayD, IxDyn};

use super::tensors::Output;

/// What the numbers of `reason` mean.
const REASONS: &str = "0 converged, 1 energy stands still, 2 steps exhausted, 3 not finite";

/// The number that stands for a reason.
pub fn code(reason: Reason) -> i64 {
    match reason {
        Reason::Converged => 0,
        Reason::EnergyStandsStill => 1,
        Reason::StepsExhausted => 2,
        Reason::NotFinite => 3,
    }
}

/// Adds `reason`, with the meaning of its numbers.
pub fn reasons<T: Real>(reasons: ArrayD<i64>, output: &mut Output<T>) {
    output.integer("reason", reasons);
    output.describe("reason", REASONS);
}

/// Adds steps, residual, free energy and reason of every problem, laid out in `shape`, and the
/// trace over steps.
pub fn write<T: Real>(solution: &Solution<T>, shape: &[usize], output: &mut Output<T>) {
    let by_problem = |list: &[T]| {
        ArrayD::from_shape_vec(IxDyn(shape), list.to_vec()).expect("one number per problem")
    };
    let whole = |list: Vec<i64>| {
        ArrayD::from_shape_vec(IxDyn(shape), list).expect("one number per problem")
    };
    output.real("residual", by_problem(&solution.residual));
    output.integer("steps", whole(solution.steps.iter().map(|&steps| steps as i64).collect()));
    reasons(whole(solution.reasons.iter().map(|&reason| code(reason)).collect()), output);
    if !solution.free_energy.is_empty() {
        output.real("free-energy", by_problem(&solution.free_energy));
        let trace: Array1<T> =
            solution.trace.iter().map(|entry| entry.free_energy.unwrap_or(T::nan())).collect();
        output.real("trace.free-energy", trace.into_dyn());
    }
    let trace: Array1<T> = solution.trace.iter().map(|entry| entry.residual).collect();
    output.real("trace.residual", trace.into_dyn());
}

/// Adds how the linear solve of implicit gradients went.
pub fn adjoint<T: Real, R: Real>(report: Option<AdjointReport<R>>, output: &mut Output<T>) {
    let Some(report) = report else { return };
    let one = |number: i64| ndarray::arr1(&[number]).into_dyn();
    output.integer("adjoint.iterations", one(report.iterations as i64));
    output.integer("adjoint.converged", one(report.converged.into()));
    output.real("adjoint.residual", ndarray::arr1(&[T::of(report.residual.f64())]).into_dyn());
}
