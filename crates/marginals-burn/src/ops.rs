//! Differentiable operations on Burn tensors that Burn does not have, or not without an N × M matrix.
//!
//! Each is one node on Burn's tape: its forward and its backward are written out, and nothing in
//! between is kept. They run on Burn's `flex` backend, with or without autodiff, in `f32` and `f64`;
//! [`Posterior`] falls back to plain tensor operations elsewhere.

mod answers;
mod attend;
mod expanding;
mod flex;
mod gated;
mod layer_norm;
mod parameters;
mod plain;
mod posterior;
mod tape;

pub use answers::{Answers, Question};
pub use attend::{Attention, FactoredModel};
pub use expanding::{Expanded, Expanding, ExpandingReport};
pub(crate) use gated::gated;
pub use layer_norm::layer_norm;
pub use parameters::Parameters;
pub use posterior::{Nodes, Posterior};
