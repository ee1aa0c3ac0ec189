//! Structures whose edges depend on each other, against lists of all their edge sets.
//!
//! [`harness`] holds what each of them must do; a structure's own file says which edge sets it has.

mod chain;
mod each_query_picks_k;
mod harness;
mod matching;
mod monotone_alignment;
mod projective_arborescence;
mod scores;
mod semi_markov;
mod transport;
mod trees;
