//! The contract every structure inherits: whatever the prior, the potential and the sizes, all answers
//! and gradients are those of the definition.
//!
//! Cases are recipes of the testkit, drawn from a fixed seed; a failure prints the smallest recipe
//! that still fails.

pub mod bridge;
mod covariance;
mod degenerate;
pub mod expected;
mod far_positions;
mod forward;
mod gradients;
mod instruction_sets;
mod invariance;
mod jvp;
mod layouts;
mod partials;
mod precision;
pub mod runner;
mod samples;
pub mod slopes;
mod values_per_head;
