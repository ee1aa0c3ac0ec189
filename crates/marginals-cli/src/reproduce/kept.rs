//! Runs that are finished, kept in a file for as long as others are not: a command that was stopped goes on
//! from there.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::document::Scale;
use super::job::{Finished, Job};
use crate::output::{self, WriteError};

/// Name of the file in the folder of the results.
pub const NAME: &str = "partial.json";

/// Why runs cannot be kept, or those that are there not be gone on from.
#[derive(Debug, thiserror::Error)]
pub enum KeptError {
    #[error("cannot read `{}`: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error(
        "`{}` should hold the finished runs of a `reproduce` that was stopped, and cannot be read ({reason}); \
         remove it, or name another place with `--out`",
        path.display()
    )]
    Unreadable { path: PathBuf, reason: serde_json::Error },
    #[error(
        "`{}` holds {runs} finished runs of another experiment ({difference}); the command that was stopped goes \
         on from them. Remove it, or name another place with `--out`",
        path.display()
    )]
    Other { path: PathBuf, runs: usize, difference: &'static str },
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error("the finished runs could not be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

/// The content of the file.
#[derive(Debug, Deserialize, Serialize)]
struct Content {
    /// Version and scale, which the runs depend on beside mechanism, setting and seed.
    version: String,
    scale: Value,
    runs: Vec<Finished>,
}

/// Runs that are finished.
#[derive(Debug)]
pub struct Kept {
    path: PathBuf,
    content: Mutex<Content>,
}

impl Kept {
    /// The runs that are kept in `folder`; none where there is no file.
    ///
    /// # Errors
    /// [`KeptError`], where the file is of another experiment or cannot be read.
    pub fn open(folder: &Path, scale: &Scale) -> Result<Self, KeptError> {
        let path = folder.join(NAME);
        let (version, scale) = (env!("CARGO_PKG_VERSION").to_owned(), serde_json::to_value(scale)?);
        let found = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let content = Mutex::new(Content { version, scale, runs: Vec::new() });
                return Ok(Self { path, content });
            }
            found => found.map_err(|source| KeptError::Read { path: path.clone(), source })?,
        };
        let content: Content = serde_json::from_slice(&found)
            .map_err(|reason| KeptError::Unreadable { path: path.clone(), reason })?;
        let difference = match (content.scale == scale, content.version == version) {
            (false, _) => "of another size: with `--quick`, or without",
            (true, false) => "of another version of this program",
            (true, true) => return Ok(Self { path, content: Mutex::new(content) }),
        };
        Err(KeptError::Other { path, runs: content.runs.len(), difference })
    }

    /// The run of a job, if it is finished.
    pub fn of(&self, job: &Job) -> Option<Finished> {
        let content = self.content.lock().unwrap_or_else(PoisonError::into_inner);
        content.runs.iter().find(|run| run.is_of(job)).cloned()
    }

    /// Keeps a run. One that JSON does not hold, because a number of it is none, is made again instead.
    ///
    /// # Errors
    /// [`KeptError::Write`].
    pub fn add(&self, run: &Finished) -> Result<(), KeptError> {
        let written = serde_json::to_vec(run)?;
        if serde_json::from_slice::<Finished>(&written).is_err() {
            return Ok(());
        }
        let mut content = self.content.lock().unwrap_or_else(PoisonError::into_inner);
        content.runs.push(run.clone());
        output::write_whole(&self.path, &serde_json::to_vec(&*content)?)?;
        Ok(())
    }

    /// Removes the file once there are results, unless it holds runs of other jobs.
    pub fn finish(self, jobs: &[Job]) {
        let content = self.content.into_inner().unwrap_or_else(PoisonError::into_inner);
        let is_used = |run: &Finished| jobs.iter().any(|job| run.is_of(job));
        if content.runs.iter().all(is_used) {
            // What stays is good for nothing and does no harm.
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::multihop::{Mechanism, Run};
    use super::*;

    fn run(seed: u64, variance: f64) -> Finished {
        Finished::Multihop(Run {
            mechanism: Mechanism::ALL[0],
            seed,
            diverged: false,
            squared_error: Some(0.1 + 0.2),
            squared_error_hard: None,
            variance,
            attention: Some([0.1, 0.2, 0.3, 0.4]),
            attention_by_hops: vec![[0.25; 4]],
            hops: Some(vec![1.0 / 3.0]),
        })
    }

    #[test]
    fn runs_are_found_again_to_the_last_digit() {
        let folder = tempfile::tempdir().unwrap();
        let (scale, path) = (Scale::quick(), folder.path().join(NAME));
        let job = |seed| Job::Multihop(Mechanism::ALL[0], seed);
        let kept = Kept::open(folder.path(), &scale).unwrap();
        assert!(!path.exists());
        kept.add(&run(3, 1.0 / 7.0)).unwrap();
        kept.add(&run(4, f64::NAN)).unwrap();

        let again = Kept::open(folder.path(), &scale).unwrap();
        let Some(Finished::Multihop(found)) = again.of(&job(3)) else { panic!("it was kept") };
        assert_eq!((found.squared_error, found.variance), (Some(0.1 + 0.2), 1.0 / 7.0));
        assert!(again.of(&job(4)).is_none() && again.of(&job(5)).is_none());
        assert!(again.of(&Job::Multihop(Mechanism::ALL[1], 3)).is_none());
        let other = Kept::open(folder.path(), &Scale::full()).unwrap_err();
        assert!(matches!(other, KeptError::Other { runs: 1, .. }), "{other}");

        again.finish(&[job(4)]);
        assert!(path.exists(), "a run that nobody has used is gone");
        Kept::open(folder.path(), &scale).unwrap().finish(&[job(3), job(4)]);
        assert!(!path.exists());

        fs::write(&path, "{}").unwrap();
        let error = Kept::open(folder.path(), &scale).unwrap_err();
        assert!(matches!(error, KeptError::Unreadable { .. }), "{error}");
    }
}
