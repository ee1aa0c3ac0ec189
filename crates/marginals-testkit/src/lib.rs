//! What the tests of this workspace check against: every answer from its definition, in f64.
//!
//! The crate knows the theory and nothing of the library. A [`Problem`] is one posterior over the
//! edges between N queries and M keys, given as plain matrices, and a [`Head`] its short form; three
//! independent routes lead from either to the [`Answers`]:
//!
//! - [`enumerate::joint`] walks all 2^(N·M) edge sets and keeps those in Φ: the definition itself,
//!   for a handful of nodes;
//! - [`enumerate::answer`] uses that Φ factors and lists the states of one factor at a time;
//! - [`dense::answer`] uses the textbook formulas on the full N×M matrix, at any size and also in
//!   f32, where it serves as "plain f32 arithmetic done the standard way".
//!
//! A problem's sums are exact until they are read ([`Arithmetic::Exact`]): what scores have in common
//! cancels, be it 10⁹ steps of a decay or a mask of −3·10³⁸. A head's are those of its number type.
//!
//! [`mod@reference`] turns models (priors, potentials) and inputs (q, k, v) into problems, one scalar
//! formula per named part. [`finite_difference`] differentiates any of it, [`generate`] makes
//! inputs that reach the awkward cases, [`compare`] says where two answers differ most and
//! [`chi_square`] whether draws follow a distribution.
//!
//! # Conventions
//! Units are nats. "No edge" is index −1. A factor that nothing may serve has log-partition and
//! log-evidence −∞, and entropy, KL, marginals, mean and largest probability 0, MAP −1 and null
//! probability 1. Where the empty choice belongs to Φ (at-most-one with a finite null weight,
//! independent edges, keys that accept one by one) no factor is degenerate: the definition applies as
//! it stands, and a row of impossible independent edges has log-partition log 1 = 0.
//!
//! An edge of log-weight −∞ is impossible and contributes nothing, whatever its nodes and its
//! log-potential hold. The null edge is said in [`NullEdge`], the law of stick-breaking in [`Law`].
//!
//! # A case from seed to answers
//! ```
//! use marginals_testkit::generate::strategy::Pantry;
//! use marginals_testkit::generate::{Fault, NullKind, PotentialKind, PriorKind, Recipe, Scenario};
//! use marginals_testkit::{Structure, ValueKind, dense, enumerate};
//!
//! let scenario = Scenario {
//!     null: NullKind::Gate,
//!     faults: vec![Fault::Garbage, Fault::FarPositions],
//!     ..Scenario::from(Recipe {
//!         structure: Structure::EachQueryPicksAtMostOne,
//!         value_kind: ValueKind::Gather,
//!         priors: vec![PriorKind::Causal, PriorKind::Survival],
//!         potential: PotentialKind::Dot,
//!         flavour: marginals_testkit::generate::Flavour::Ordinary,
//!         batch: 1,
//!         key_heads: 1,
//!         group: 2,
//!         queries: 3,
//!         keys: 4,
//!         depth: 2,
//!         value_depth: 2,
//!         query_offset: 0,
//!         seed: 7,
//!     })
//! };
//! let case = scenario.build();
//! for (problem, touched) in case.problems().iter().zip(case.touched()) {
//!     let (by_formula, by_definition) = (dense::answer(problem), enumerate::answer(problem));
//!     for i in (0..3).filter(|&i| !touched.factors[i]) {
//!         assert!((by_formula.entropy[i] - by_definition.entropy[i]).abs() < 1e-12);
//!     }
//! }
//! // Families of cases, for proptest.
//! let scenarios = Pantry::tiny(Structure::EachKeyPicksOne).of_the_field().scenarios();
//! # let _ = scenarios;
//! ```

mod answers;
pub mod chi_square;
pub mod compare;
pub mod dense;
pub mod edge_sets;
pub mod enumerate;
mod exact;
pub mod expanding;
pub mod finite_difference;
pub mod generate;
mod head;
mod problem;
pub mod reference;
pub mod trees;

pub use answers::Answers;
pub use head::{Head, Structure, ValueKind, distance};
pub use problem::{Arithmetic, Law, NullEdge, Posed, Problem};
