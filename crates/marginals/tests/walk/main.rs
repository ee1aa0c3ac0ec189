//! Walks (multihop attention), against matrix powers, all paths written out and finite differences.

#[path = "../contract/bridge.rs"]
mod bridge;
mod case;
mod degenerate;
mod gradients;
mod paths;
mod powers;
#[path = "../contract/runner.rs"]
mod runner;
