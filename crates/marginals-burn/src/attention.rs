//! The seam between a transformer and the engine: one layer's posterior, and who asks it.
//!
//! A transformer needs one thing of a layer's attention, the mean Σ_j p_ij v_j. Whoever audits it
//! wants more answers, and the engine gives them in the same pass. So the forward pass does not
//! compute attention: it hands each layer's queries, keys and values to an [`Attend`] and takes
//! the mean back. [`PosteriorMean`] asks for nothing else; an audit asks everything, keeps the
//! other answers and returns the same mean.

use ndarray::{Array4, ArrayView4};

/// Which keys a query may pick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visible {
    /// All of them (encoders).
    All,
    /// Those at its own position and before (decoders).
    Before,
}

/// One layer's attention, before anything has been computed.
#[derive(Clone, Debug)]
pub struct Layer<'pass> {
    /// Index of the layer, from 0.
    pub index: usize,
    /// Queries, `[1, H, N, D]`.
    pub queries: ArrayView4<'pass, f32>,
    /// Keys, `[1, Hk, N, D]`; Hk divides H, and key head h serves query heads h·H/Hk onwards.
    pub keys: ArrayView4<'pass, f32>,
    /// Values, `[1, Hk, N, D]`.
    pub values: ArrayView4<'pass, f32>,
    /// Which keys each query may pick.
    pub visible: Visible,
    /// Factor on the inner product of query and key.
    pub scale: f32,
}

/// Someone who asks each layer's posterior as the forward pass goes through.
pub trait Attend {
    /// Returns the posterior mean of the values, `[1, H, N, D]`.
    ///
    /// # Errors
    /// Any message; the forward pass stops and reports it with the layer's index.
    fn attend(&mut self, layer: &Layer<'_>) -> Result<Array4<f32>, String>;
}
