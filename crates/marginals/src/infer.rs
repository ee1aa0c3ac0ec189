//! Inference: from a model and its nodes to what questions are answered from.
//!
//! An [`Inference`] takes a [`Problem`] (structure, prior, potential, value, nodes) and leaves a
//! [`Finding`] behind: plain data that merges, travels and resumes a backward pass. A structure names
//! the inference that is exact for it.
//!
//! | inference | what it is for |
//! |---|---|
//! | [`streaming`] | structures that fall apart into queries, keys or edges: one pass over tiles of scores |
//! | [`pairs`] | two keys of every query: a streaming pass for every distance of the first |
//! | [`coupled`] | edges that depend on each other: sums over edge sets, by a recursion or directly |
//! | [`fold`] | edge sets that a recursion builds: sums, best ones and draws by the same recursion |
//! | `direct` | spanning trees, whose sums do not fold: eliminations, Edmonds' algorithm, Wilson's |
//! | [`walk`] | paths of several picks: a streaming pass per hop |
//! | [`truncated`] | blocks of edges that provably weigh next to nothing are left out, and by how much is told |
//! | [`entropic`] | matchings too large to be summed over: the transport of mass that takes their place, and how far it is |
//! | [`expanding`] | windows that grow while it matters, with a bound on the mass left out |
//! | [`collapsed`] | nodes that are unknown too: the edges are summed out, and the evidence is climbed |

pub mod any;
pub mod collapsed;
pub mod contract;
pub mod coupled;
pub(crate) mod direct;
pub mod entropic;
pub mod expanding;
mod expectation;
mod extremes;
pub mod finding;
pub mod fold;
mod normalisers;
pub mod pairs;
pub mod problem;
pub mod slopes;
pub mod statistic;
pub mod streaming;
pub mod truncated;
pub mod walk;

pub use any::AnyInference;
pub use contract::{ChoiceQuestions, EdgeQuestions, Inference, SetQuestions, Steps};
pub use entropic::{Entropic, Margins};
pub use finding::{Exactness, Finding, Merge, Report};
pub use problem::{Engine, Gradients, Problem, Values};
pub use slopes::Slopes;
pub use statistic::{EdgeFunction, Extremal, Function, Handle, Linear, Request};
pub use truncated::{Certificate, Kept, Truncated};

pub use crate::posterior::Approximation;
