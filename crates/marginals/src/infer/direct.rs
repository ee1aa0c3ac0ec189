//! Direct inference: spanning trees, whose sums do not fold, and searches for the best.
//!
//! A recursion over parts of a problem, as chains and projective trees have, does not reach trees
//! whose edges cross. Each question has an algorithm of its own instead:
//!
//! | question | algorithm |
//! |---|---|
//! | log Z, marginals, their derivatives | the matrix-tree theorem, by an [elimination] without subtractions |
//! | best trees | [edmonds]: Chu–Liu and Edmonds for one, [`k_best`] by partition for more, [kruskal] where edges have no direction |
//! | draws | [wilson]: loop-erased random walks |
//!
//! Matchings are summed over by a recursion, as long as they are small; the best ones are [searched
//! for](assignment) at any size.

pub(crate) mod assignment;
mod edmonds;
mod elimination;
mod gain;
pub(crate) mod graph;
pub(crate) mod k_best;
pub(crate) mod kruskal;
pub(crate) mod matrix_tree;
mod numbers;
mod partition;
mod wide;
pub(crate) mod wilson;
