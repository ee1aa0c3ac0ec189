//! Attention as exact posterior inference over the edges of a latent graph.
//!
//! A [`Model`] names the graph (a [`structure`]), what is known about its edges (a structural
//! [`prior`]), how content makes them likely (a [`potential`]) and what they are used for (a
//! [`Value`]). Its [`Posterior`] over edges,
//!
//! ```text
//! p(φ | x) = exp(Σ_ij φ_ij θ_ij) / Z(θ),   θ_ij = log w_ij + log ψ(q_i, k_j),   φ ∈ Φ,
//! ```
//!
//! answers any set of [questions](question) in one pass over the keys, in memory that grows with
//! N and not with N², and differentiates the answers. The mean answer is attention (Singh &
//! Buckley, arXiv 2304.04556).
//!
//! Tensors are [batch, head, node, width]; key heads divide query heads. All information
//! quantities are in nats. Work is spread over rayon's current thread pool, and the results do not
//! depend on the number of threads.

pub mod ask;
pub mod engine;
mod error;
mod excerpt;
mod format;
mod gradient;
pub mod infer;
mod model;
mod parallel;
mod pass;
mod posterior;
pub mod question;
mod room;
pub mod spec;
pub mod special;
mod tensor;
pub mod words;
pub mod zoo;

pub use error::Error;
pub use excerpt::excerpt;
pub use gradient::{Accumulator, Layout, Parameter, ParameterGradient};
pub use infer::{Finding, Gradients};
pub use marginals_kernels::{Tile, TileMut};
pub use model::{Model, PerHead, Value, distance, part, potential, prior, structure};
/// Arrays of tensors, in the version that they are taken and given in.
pub use ndarray;
pub use pass::Pass;
pub use posterior::{Found, Posterior};
pub use room::{check_claim, check_room};
pub use tensor::{Block, Element, Positions, Real, Reference, Shape, Stored, refuse_nan};

/// README's example, so that it keeps compiling.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
