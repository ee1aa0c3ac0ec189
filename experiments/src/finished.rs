//! Runs of an experiment that are kept as they end, for the command that goes on from them.

use std::error::Error;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use marginals_burn::train::run_all;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::{Outcome, write};

/// Finished runs; written after every run, so that a stop loses no more than the runs under way.
#[derive(Deserialize, Serialize)]
pub struct Finished<C, R> {
    pub config: C,
    pub runs: Vec<R>,
}

/// File beside the settings that holds them until all have ended.
pub const PARTIAL: &str = "partial.json";

fn partial(path: &Path) -> PathBuf {
    path.parent().unwrap_or(Path::new(".")).join(PARTIAL)
}

/// Runs of all jobs: those that were finished under the same settings, and then the others, in the order in which
/// they end, several beside each other. `is_of` tells the run of a job.
pub fn run_missing<C, R, J>(
    path: &Path,
    config: &C,
    threads: NonZeroUsize,
    jobs: impl Iterator<Item = J>,
    is_of: impl Fn(&R, &J) -> bool,
    work: impl Fn(&J) -> Result<R, String> + Sync,
) -> Outcome<Vec<R>>
where
    C: Serialize + DeserializeOwned + PartialEq + Clone + Send,
    R: Serialize + DeserializeOwned + Send,
    J: Sync,
{
    let before = std::fs::read(partial(path)).ok();
    let before: Option<Finished<C, R>> =
        before.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let before = before.filter(|finished| finished.config == *config);
    let runs = before.map_or_else(Vec::new, |finished| finished.runs);
    if !runs.is_empty() {
        println!("going on from {} finished runs in {}", runs.len(), partial(path).display());
    }
    let jobs: Vec<J> = jobs.filter(|job| !runs.iter().any(|run| is_of(run, job))).collect();
    let finished = Mutex::new(Finished { config: config.clone(), runs });
    let keep = |job: &J| -> Result<(), Box<dyn Error + Send + Sync>> {
        let run = work(job)?;
        let mut finished = finished.lock().expect("no run panics with it");
        finished.runs.push(run);
        let json = serde_json::to_string(&*finished)?;
        Ok(write(path, PARTIAL, &json).map_err(|e| e.to_string())?)
    };
    run_all(&jobs, threads, keep).map_err(|error| -> Box<dyn Error> { error })?;
    Ok(finished.into_inner().expect("no run panics with it").runs)
}

/// Removes what was kept, once the results of all are written.
pub fn forget(path: &Path) -> Outcome<()> {
    match std::fs::remove_file(partial(path)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(format!("{}: {error}", partial(path).display()).into())
        }
        _ => Ok(()),
    }
}
