//! Spanning trees, directed and not, against all trees written out, closed forms and finite
//! differences.

mod best;
mod case;
mod degenerate;
mod draws;
mod questions;
mod sums;
