//! Predictive coding against its definition, written out in loops.

mod attention;
mod energy;
mod gradients;
mod linear;
mod misuse;
mod networks;
