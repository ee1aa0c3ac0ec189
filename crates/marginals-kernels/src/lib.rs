//! Tile kernels for attention posteriors: slices in, slices out.
//!
//! Everything the streaming pass of the `marginals` crate repeats per tile lives here: packing,
//! matrix products, exponentials and the row and column reductions between them, in plain code
//! and for AVX2 and AVX-512. The crate knows tiles, not models: no structure, prior or question
//! appears in it.
//!
//! A kernel is one body of plain vector arithmetic (`src/gemm.rs`, `src/online.rs`, …) over a token
//! that stands for an instruction set (`src/simd/`); entering it through the token compiles it with
//! those instructions. So f32 and f64 on every instruction set share one source, and each is tested
//! against the same naive twin.
//!
//! A **tile** is a block of the queries × keys score matrix, row-major, queries down the rows.
//! Every function takes the [`InstructionSet`] to run on as its first argument, so that each path
//! can be tested on one machine; callers pass [`InstructionSet::detect`].
//!
//! Memory matters as much as arithmetic: packed operands start at a cache line, and strips of scores
//! should too ([`Aligned`], with a row stride of a multiple of 64 bytes that is not one of 4096, or
//! rows evict each other). [`InstructionSet::strip_rows`] are so many that each packed panel is used
//! twice while it is near.
//!
//! Infinities follow one rule: a score of −∞ is an impossible edge, its exponential is exactly 0,
//! and 0 times anything is 0. NaN propagates within its own row (or column) only.

#![allow(clippy::needless_range_loop, reason = "indices are the symbols of the equations")]

mod aligned;
mod dispatch;
mod exponential;
mod fresh;
mod gemm;
mod instruction_set;
mod lanes;
mod linear;
mod log_weights;
mod math;
mod online;
mod pages;
mod panels;
pub mod random;
mod real;
mod sample;
mod select;
mod simd;
mod softmax;
mod stick_breaking;
mod tile;
mod unpacked;

pub use aligned::Aligned;
pub use exponential::{LogPartition, exp_columns, exp_rows, logistic_rows};
pub use fresh::{Fresh, Piece};
pub use gemm::{Store, Strided, gemm};
pub use instruction_set::InstructionSet;
pub use lanes::{
    ExponentialSum, LANES, Lanes, Term, shares, shares_of, sum_exponentials, sum_exponentials_of,
};
pub use linear::{Banded, Entries, Side, add_outer_products, add_product};
pub use log_weights::{add_log_weight, add_log_weights};
pub use online::{OnlineColumns, OnlineRows, online_columns, online_rows};
pub use pages::large_pages;
pub use panels::Panels;
pub use real::{Real, Stored};
pub use sample::{Draw, Winner, gumbel_argmax};
pub use select::each_contender;
pub use softmax::{dot_columns, dot_rows, scale_rows, softmax_backward};
pub use stick_breaking::{
    StickBreaking, StickBreakingBackward, stick_breaking_backward, stick_breaking_rows,
};
pub use tile::{Tile, TileMut};
pub use unpacked::{accumulate_unpacked, scores_unpacked};
