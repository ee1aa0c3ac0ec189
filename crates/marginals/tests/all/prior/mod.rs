//! Priors by themselves, apart from any posterior.

mod impossible;
mod positions;
