//! Walks (multihop attention), against matrix powers, all paths written out and finite differences.

mod case;
mod degenerate;
mod gradients;
mod paths;
mod powers;
