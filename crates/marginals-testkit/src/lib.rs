//! What the tests of this workspace check against: every answer from its definition, in f64.
//!
//! The crate knows the theory and nothing of the library. A [`Head`] is one posterior over the
//! edges between N queries and M keys, given as plain matrices; three independent routes lead from
//! it to the [`Answers`]:
//!
//! - [`enumerate::joint`] walks all 2^(N·M) edge sets and keeps those in Φ: the definition itself,
//!   for a handful of nodes;
//! - [`enumerate::answer`] uses that Φ factors and lists the states of one factor at a time;
//! - [`dense::answer`] uses the textbook formulas on the full N×M matrix, at any size and also in
//!   f32, where it serves as "plain f32 arithmetic done the standard way".
//!
//! [`mod@reference`] turns models (priors, potentials) and inputs (q, k, v) into heads, one scalar
//! formula per named part. [`finite_difference`] differentiates any of it, [`generate`] makes
//! inputs that reach the awkward cases, [`compare`] says where two answers differ most and
//! [`chi_square`] whether draws follow a distribution.
//!
//! # Conventions
//! Units are nats. "No edge" is index −1. A factor that nothing may serve has log-partition and
//! log-evidence −∞, and entropy, KL, marginals, mean and largest probability 0, and MAP −1. Where
//! the empty choice belongs to Φ (at-most-one with a finite null weight, independent edges) no
//! factor is degenerate: the definition applies as it stands, and a row of impossible independent
//! edges has log-partition log 1 = 0.

mod answers;
pub mod chi_square;
pub mod compare;
pub mod dense;
pub mod enumerate;
mod exact;
pub mod expanding;
pub mod finite_difference;
pub mod generate;
mod head;
mod problem;
pub mod reference;

pub use answers::Answers;
pub use head::{Head, Structure, ValueKind, distance};
pub use problem::{Arithmetic, Law, NullEdge, Posed, Problem};
