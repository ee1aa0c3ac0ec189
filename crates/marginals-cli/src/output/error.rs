//! Why something could not be written.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// A file that could not be written; whatever stood there before still does.
#[derive(Debug, Error)]
pub enum WriteError {
    /// The system refuses.
    #[error("cannot write {}: {source}. Nothing was changed there; check that the folder exists, is writable and has room", path.display())]
    Refused {
        /// The file, or the folder of it.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A folder where a file is to be.
    #[error("cannot write {}: it is a folder. Name a file in it", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
    },
    /// A report of something else, which would be lost.
    #[error("cannot write {}: {reason}. Nothing was changed; name another place with `--out`", path.display())]
    NotOwn {
        /// The report.
        path: PathBuf,
        /// Whose it is, or why it is not this command's.
        reason: String,
    },
    /// A file that is read, where the result of reading it is to be.
    #[error(
        "cannot write {}: it is {kind} (`{}`), which is read here. Nothing was changed; name another place for the output",
        path.display(),
        input.display()
    )]
    IsInput {
        /// The output.
        path: PathBuf,
        /// Kind of input that it is.
        kind: &'static str,
        /// The name it was given as an input.
        input: PathBuf,
    },
}

/// Standard output did not take the result.
#[derive(Debug, Error)]
#[error("cannot write to standard output: {0}")]
pub struct PrintError(pub(super) io::Error);
