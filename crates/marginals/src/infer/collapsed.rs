//! Latent nodes: collapsed variational inference.
//!
//! When some nodes z are unknown too, the edges are summed out and what is left is climbed in z.
//! With p(z) what is known about z and w, ψ the model of the edges, the free energy is
//!
//! ```text
//! F(z) = − log p(z) − log Σ_{φ ∈ Φ} w(φ) ψ(x, z, φ),      ∇F(z) = − ∇ log p(z) − E_{p(φ|x,z)}[∇ log ψ],
//! ```
//!
//! so that every step z ← g(z) is attention under the posterior at the current z (Singh & Buckley,
//! arXiv 2304.04556, §4). Modern Hopfield networks, mixtures, slots, block-slots and Perceivers
//! are choices of model and of step.
//!
//! - A **model** ([`Latent`]) knows F. It may know a closed-form step that never raises F
//!   ([`Maximise`]: EM, CCCP) and the gradient of F ([`Differentiable`]).
//! - An **update** ([`Update`]) is the step taken: [`Exact`], [`Newton`], [`Descent`] or [`Learned`].
//! - [`FixedPoint`] repeats it until z stands still, and says how the result is differentiated.
//!
//! One z may hold many independent problems side by side (a Hopfield state per query, a mixture
//! per batch entry). They share the passes and nothing else: each stops for its own reason, and
//! what becomes of one does not depend on which others there are.

mod adjoint;
mod anderson;
mod backward;
mod descent;
mod differentiation;
mod exact;
mod fixed_point;
mod learned;
mod newton;
#[cfg(test)]
mod tests;

use ndarray::{ArrayD, IxDyn};

use crate::{Error, ParameterGradient, Real};

pub(in crate::infer) use anderson::Anderson;
pub use backward::{AdjointReport, SolutionGradient};
pub use descent::{Backtracking, Descent};
pub use differentiation::Differentiation;
pub use exact::Exact;
pub use fixed_point::{Acceleration, FixedPoint, Reason, Solution, Trace};
pub use learned::Learned;
pub use newton::{Curvature, Curved, Newton};
pub(crate) use newton::{pulled, solve};

/// A model some of whose nodes z are unknown, its edges summed out.
///
/// z is [`problems`](Latent::problems) runs of [`width`](Latent::width) numbers.
pub trait Latent<T: Real> {
    /// Number of independent problems in one z.
    fn problems(&self) -> usize;
    /// Numbers in z per problem.
    fn width(&self) -> usize;
    /// Inputs that F depends on besides z, by name: gradients of zero, in the order of every backward.
    fn inputs(&self) -> InputGradients<T>;
    /// F(z) of each problem, in nats.
    fn free_energy(&self, z: &[T]) -> Result<Vec<T>, Error>;
}

/// A model with a closed-form step that never raises F: it minimises, over z, the bound on F that
/// the posterior at the current z gives (EM; the concave-convex procedure).
pub trait Maximise<T: Real>: Latent<T> {
    /// F(z), and the z that follows.
    fn maximise(&self, z: &[T]) -> Result<Evaluation<T>, Error>;
    /// With J the Jacobian of the step at `z`: returns Jᵀ `upstream` and adds its counterpart for
    /// the inputs to `inputs`.
    fn maximise_backward(
        &self,
        z: &[T],
        upstream: &[T],
        inputs: &mut InputGradients<T>,
    ) -> Result<Vec<T>, Error>;
}

/// A model that knows ∇F.
pub trait Differentiable<T: Real>: Latent<T> {
    /// F(z), and ∇F(z) in `next`.
    fn gradient(&self, z: &[T]) -> Result<Evaluation<T>, Error>;
    /// ∇²F(z) `upstream`; adds (∂∇F/∂input)ᵀ `upstream` to `inputs`.
    fn gradient_backward(
        &self,
        z: &[T],
        upstream: &[T],
        inputs: &mut InputGradients<T>,
    ) -> Result<Vec<T>, Error>;
}

/// Result of one pass at some z.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation<T> {
    /// F(z) of each problem; empty where there is no F.
    pub free_energy: Vec<T>,
    /// Successor of z, of its length.
    pub next: Vec<T>,
}

/// One step z ← g(z).
pub trait Update<T: Real> {
    /// Number of independent problems in one z.
    fn problems(&self) -> usize;
    /// Numbers in z per problem.
    fn width(&self) -> usize;
    /// Gradients of zero, one for everything g depends on besides z.
    fn inputs(&self) -> InputGradients<T>;
    /// F(z) and g(z).
    fn evaluate(&self, z: &[T]) -> Result<Evaluation<T>, Error>;
    /// With J = ∂g/∂z at `z`: returns Jᵀ `upstream` and adds (∂g/∂input)ᵀ `upstream` to `inputs`.
    fn backward(
        &self,
        z: &[T],
        upstream: &[T],
        inputs: &mut InputGradients<T>,
    ) -> Result<Vec<T>, Error>;
}

/// Gradients of everything a model or update depends on besides z, by name.
///
/// Those of `default()` are of nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct InputGradients<T>(Option<Vec<ParameterGradient<T>>>);

impl<T> Default for InputGradients<T> {
    fn default() -> Self {
        Self(Some(Vec::new()))
    }
}

impl<T: Real> InputGradients<T> {
    /// Zeros of the named shapes.
    pub fn zeros<'a>(inputs: impl IntoIterator<Item = (&'a str, &'a [usize])>) -> Self {
        let zeros = |(name, shape): (&str, &[usize])| ParameterGradient {
            name: name.to_owned(),
            gradient: ArrayD::zeros(IxDyn(shape)),
        };
        Self(Some(inputs.into_iter().map(zeros).collect()))
    }

    /// Gradients that nobody wants, where that of z is asked for alone: whatever is added is dropped.
    pub fn unwanted() -> Self {
        Self(None)
    }

    /// Whether what is added is kept.
    pub fn are_wanted(&self) -> bool {
        self.0.is_some()
    }

    /// The gradient of the input called `name`.
    pub fn get(&self, name: &str) -> Option<&ArrayD<T>> {
        self.iter().find(|input| input.name == name).map(|input| &input.gradient)
    }

    /// Adds `amount` to the gradient of the input called `name`.
    ///
    /// # Errors
    /// [`Error::UnknownName`] where there is no such input, and [`Error::Shape`] where it is shaped
    /// otherwise.
    pub fn add<D: ndarray::Dimension>(
        &mut self,
        name: &str,
        amount: &ndarray::ArrayBase<impl ndarray::Data<Elem = T>, D>,
    ) -> Result<(), Error> {
        let Some(inputs) = &mut self.0 else { return Ok(()) };
        let Some(input) = inputs.iter_mut().find(|input| input.name == name) else {
            let known: Vec<&str> = inputs.iter().map(|input| input.name.as_str()).collect();
            return Err(Error::unknown("input with a gradient", name, &known));
        };
        if input.gradient.shape() != amount.shape() {
            return Err(Error::shape(
                format!("grad.{name}"),
                format!("{:?}, the shape of the input", input.gradient.shape()),
                amount.shape(),
                "A gradient has the shape of what it is the gradient of.",
            ));
        }
        input.gradient.iter_mut().zip(amount).for_each(|(sum, &g)| *sum += g);
        Ok(())
    }

    /// All of them.
    pub fn iter(&self) -> std::slice::Iter<'_, ParameterGradient<T>> {
        self.0.as_deref().unwrap_or_default().iter()
    }

    /// All of them, to keep.
    pub fn into_vec(self) -> Vec<ParameterGradient<T>> {
        self.0.unwrap_or_default()
    }
}

/// The largest |x| of each run of `width` numbers; NaN where one is NaN.
fn largest<T: Real>(list: impl Iterator<Item = T>, width: usize) -> Vec<T> {
    let mut of_run = Vec::new();
    for (index, x) in list.enumerate() {
        if index % width.max(1) == 0 {
            of_run.push(T::zero());
        }
        let largest = of_run.last_mut().expect("a run has started");
        if x.abs() > *largest || x.is_nan() {
            *largest = x.abs();
        }
    }
    of_run
}
