//! Runs to be made, and what came of them.

use serde::{Deserialize, Serialize};

use super::{expanding, multihop};

/// One model of one seed.
#[derive(Clone, Copy, Debug)]
pub enum Job {
    Multihop(multihop::Mechanism, u64),
    Expanding(expanding::Mechanism, expanding::Setting, u64),
}

/// Outcome of one.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Finished {
    Multihop(multihop::Run),
    Expanding(expanding::Run),
}

impl Finished {
    /// Whether it is the outcome of a job.
    pub fn is_of(&self, job: &Job) -> bool {
        match (self, *job) {
            (Self::Multihop(run), Job::Multihop(mechanism, seed)) => {
                (run.mechanism, run.seed) == (mechanism, seed)
            }
            (Self::Expanding(run), Job::Expanding(mechanism, setting, seed)) => {
                (run.mechanism, run.setting, run.seed) == (mechanism, setting, seed)
            }
            _ => false,
        }
    }
}
