//! Settings of the experiment.

use std::num::NonZeroUsize;

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub seeds: Vec<u64>,
    pub lengths: Vec<usize>,
    pub measured: usize,
    pub asked: usize,
    pub threads: NonZeroUsize,
    /// A run of training; what a way to say positions has of its own is laid over it.
    pub run: toml::Table,
    pub positions: Vec<Position>,
}

/// One way to say where a byte stands.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Position {
    pub name: String,
    #[serde(default)]
    pub model: toml::Table,
}
