//! A run as a request to end finds it, and the folder that it has to itself.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use marginals_burn::TrainedByteLm;
use marginals_burn::checkpoint::weights::Storage;
use marginals_burn::train::{Step, TrainError, Training};

use super::error::Error;
use crate::interruption::STOPPED;
use crate::output::STATE;
use crate::{message, output, progress};

/// Folder of the model within it, and its files.
const MODEL: &str = "model";
const MODEL_FILES: [&str; 2] = ["config.json", "model.safetensors"];
/// File that is locked for as long as a run writes to the folder.
const LOCK: &str = ".train.lock";

/// A run that computes on one thread and can be saved from another.
pub struct Run {
    out: PathBuf,
    /// Whether it began without the state that there may have been.
    fresh: bool,
    training: RwLock<Training>,
    /// Whether the state is no good any more.
    has_failed: AtomicBool,
    /// Held while files are written. Whoever wants this and the state takes this first.
    saving: Mutex<()>,
}

impl Run {
    /// A run in `out`.
    pub fn new(out: &Path, fresh: bool, training: Training) -> Self {
        let (has_failed, saving) = Default::default();
        Self { out: out.to_owned(), fresh, training: RwLock::new(training), has_failed, saving }
    }

    /// The files that a run writes while it goes on.
    pub fn files(out: &Path) -> Vec<PathBuf> {
        let own = MODEL_FILES.map(|name| out.join(MODEL).join(name));
        own.into_iter().chain([out.join(STATE)]).collect()
    }

    /// State of the run, to be looked at.
    pub fn read(&self) -> RwLockReadGuard<'_, Training> {
        self.training.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// State of the run, to be moved.
    pub fn write(&self) -> RwLockWriteGuard<'_, Training> {
        self.training.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a step that was prepared.
    ///
    /// # Errors
    /// As [`Training::take`]; the state is not saved any more.
    pub fn take(&self, step: Step) -> Result<(), TrainError> {
        let mut training = self.write();
        let taken = training.take(step);
        // It may have moved a part of it.
        self.has_failed.store(taken.is_err(), Ordering::Relaxed);
        taken.map(drop)
    }

    /// Keeps a request to end waiting for as long as this is held.
    pub fn hold(&self) -> MutexGuard<'_, ()> {
        self.saving.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Saves the model as it is, and the state that goes on from here.
    ///
    /// # Errors
    /// [`Error::Write`], and those of the library's writers.
    pub fn save(&self) -> Result<(), Error> {
        let _whole = self.hold();
        save(&self.out, &self.read())
    }

    /// Ends the program between two steps, or in the midst of one, whose work is then lost.
    pub fn stop(&self) {
        let _whole = self.hold();
        let training = self.read();
        if self.has_failed.load(Ordering::Relaxed) {
            // It ends by itself, and says why.
            return;
        }
        progress::clear();
        if let Err(error) = save(&self.out, &training) {
            message::error(&error.to_string());
            std::process::exit(2);
        }
        let again =
            if self.fresh { "the same command without --fresh" } else { "the same command" };
        let (step, steps) = (training.losses().len(), training.config().batches.steps);
        message::say(&match training.is_done() {
            true => format!(
                "stopped after the last step, before the results were written. The state is saved: {again} \
                 writes them"
            ),
            false => {
                format!("stopped after step {step} of {steps}. The state is saved: {again} goes on")
            }
        });
        std::process::exit(STOPPED.into());
    }
}

fn save(out: &Path, training: &Training) -> Result<(), Error> {
    let model = TrainedByteLm::new(training.config().lm(), training.model());
    let (config, weights) = model.save(Storage::F16).map_err(Error::Report)?;
    let state = training.save()?;
    output::prepare_folder(&out.join(MODEL))?;
    for (path, bytes) in Run::files(out).iter().zip([config, weights, state]) {
        output::write_whole(path, &bytes)?;
    }
    Ok(())
}

/// A folder in which no other run begins for as long as this is held.
#[derive(Debug)]
pub struct Locked {
    /// The lock goes with it.
    _file: Option<File>,
}

impl Locked {
    /// Locks `folder`, where the system has locks.
    ///
    /// # Errors
    /// [`Error::Busy`] where another run has it, and [`Error::Write`].
    pub fn of(folder: &Path) -> Result<Self, Error> {
        let path = folder.join(LOCK);
        let file = File::options().create(true).truncate(false).write(true).open(&path);
        let refused = |source| output::WriteError::Refused { path: folder.to_owned(), source };
        let file = file.map_err(refused)?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: Some(file) }),
            Err(TryLockError::WouldBlock) => Err(Error::Busy { folder: folder.to_owned() }),
            Err(TryLockError::Error(_)) => Ok(Self { _file: None }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_locked_until_it_is_let_go() {
        let folder = tempfile::tempdir().unwrap();
        let held = Locked::of(folder.path()).unwrap();
        let error = Locked::of(folder.path()).unwrap_err();
        assert!(matches!(&error, Error::Busy { .. }), "{error}");
        assert!(error.to_string().contains("--out"), "{error}");
        drop(held);
        Locked::of(folder.path()).unwrap();
    }
}
