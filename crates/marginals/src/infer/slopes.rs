//! Slopes: the gradient of a loss in what a pass found out.
//!
//! A question turns the gradient in its answer into one in the statistics that the answer is a
//! function of, by the chain rule; the inference turns that into gradients of everything the
//! statistics depend on. With f_ij the sum of the statistics' functions, weighted by their slopes,
//!
//! ```text
//! ∂L/∂θ_ij = p_ij (f_ij − E_i[f])
//! ```
//!
//! where queries choose: one backward pass serves every question.

use std::borrow::Cow;

use ndarray::{ArrayView, Dimension};

use super::statistic::Handle;
use crate::Real;

/// Gradient of a loss in the statistics that a pass found: by factor or query, flat over [B, H, …].
/// Lists of what nobody differentiates are empty.
#[derive(Clone, Debug)]
pub struct Slopes<'g, T: Real> {
    /// In log Z.
    pub(crate) log_partition: Cow<'g, [T]>,
    /// In log Z(log w).
    pub(crate) prior_log_partition: Cow<'g, [T]>,
    /// In log P(no edge).
    pub(crate) log_none: Cow<'g, [T]>,
    /// In Σ_j p_ij of every query.
    pub(crate) mass: Cow<'g, [T]>,
    /// In each linear statistic.
    pub(crate) linear: Vec<Cow<'g, [T]>>,
    /// In Σ_i p_ij of every key, [B, H, M].
    pub(crate) column_mass: Cow<'g, [T]>,
    /// In p_ij itself, [B, H, N, M].
    pub(crate) marginals: Cow<'g, [T]>,
}

/// The entries in order, borrowed where they lie so.
pub(crate) fn flat<T: Real, D: Dimension>(array: ArrayView<'_, T, D>) -> Cow<'_, [T]> {
    match array.to_slice() {
        Some(slice) => Cow::Borrowed(slice),
        None => Cow::Owned(array.iter().copied().collect()),
    }
}

fn add<'g, T: Real>(into: &mut Cow<'g, [T]>, more: Cow<'g, [T]>) {
    if into.is_empty() {
        *into = more;
    } else {
        into.to_mut().iter_mut().zip(more.iter()).for_each(|(x, &g)| *x += g);
    }
}

impl<'g, T: Real> Slopes<'g, T> {
    pub(crate) fn new(statistics: usize) -> Self {
        let none = || Cow::Borrowed(&[][..]);
        Self {
            log_partition: none(),
            prior_log_partition: none(),
            log_none: none(),
            mass: none(),
            linear: (0..statistics).map(|_| none()).collect(),
            column_mass: none(),
            marginals: none(),
        }
    }

    /// Adds the gradient in log Z of every factor.
    pub fn add_log_partition<D: Dimension>(&mut self, gradient: ArrayView<'g, T, D>) {
        add(&mut self.log_partition, flat(gradient));
    }

    /// Adds the gradient in log Z(log w) of every factor.
    pub fn add_prior_log_partition(&mut self, gradient: Vec<T>) {
        add(&mut self.prior_log_partition, gradient.into());
    }

    /// Adds the gradient in log P(no edge) of every factor.
    pub fn add_log_none(&mut self, gradient: Vec<T>) {
        add(&mut self.log_none, gradient.into());
    }

    /// Adds the gradient in Σ_j p_ij of every query.
    pub fn add_mass(&mut self, gradient: Cow<'g, [T]>) {
        add(&mut self.mass, gradient);
    }

    /// Adds the gradient in an expectation.
    pub fn add_linear(&mut self, statistic: Handle, gradient: Cow<'g, [T]>) {
        add(&mut self.linear[statistic.0], gradient);
    }

    /// Adds the gradient in Σ_i p_ij of every key.
    pub fn add_column_mass<D: Dimension>(&mut self, gradient: ArrayView<'g, T, D>) {
        add(&mut self.column_mass, flat(gradient));
    }

    /// Adds the gradient in every p_ij.
    pub fn add_marginals<D: Dimension>(&mut self, gradient: ArrayView<'g, T, D>) {
        add(&mut self.marginals, flat(gradient));
    }
}
