//! Differentiable operations on Burn tensors that Burn does not have, or not without an N × M matrix.
//!
//! Each is one node on Burn's tape: its forward and its backward are written out, and nothing in
//! between is kept. They run on Burn's `flex` backend, with or without autodiff, in `f32` and `f64`;
//! tensors on another backend are refused.

mod answers;
mod built;
mod call;
mod expanding;
mod flex;
mod gated;
mod layer_norm;
mod model;
mod parameters;
mod posterior;
mod tape;

pub use answers::Answers;
pub use expanding::{Expanded, Expanding, ExpandingReport};
pub(crate) use gated::gated;
pub use layer_norm::layer_norm;
pub use model::AnyModel;
pub use parameters::Parameters;
pub use posterior::{Nodes, Posterior};
