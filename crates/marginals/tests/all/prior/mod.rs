//! Priors by themselves, apart from any posterior.

mod adjacency;
mod distance;
mod far;
mod impossible;
mod positions;
mod tails;
