//! Why there is no trained model.

use std::io;
use std::path::PathBuf;

use marginals_burn::train::TrainError;

use crate::output::{PrintError, WriteError};

/// Why there is no trained model.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read `{}`: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("`{}`: {source}", path.display())]
    Config { path: PathBuf, source: marginals::Error },
    #[error("`{}` is not UTF-8 text; save it in that encoding", path.display())]
    Encoding { path: PathBuf },
    #[error(
        "there is no text to train on; name one in `{}` (text = [\"FILE\"]) or with --text FILE",
        config.display()
    )]
    NoText { config: PathBuf },
    #[error("the text of {files}: {source}")]
    Text { files: String, source: marginals::Error },
    #[error(transparent)]
    Train(#[from] TrainError),
    #[error("`{}`: {source} (--fresh, or another --out)", path.display())]
    State { path: PathBuf, source: TrainError },
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error(transparent)]
    Print(#[from] PrintError),
    #[error("cannot start {threads} threads: {reason}; ask for fewer with `--threads`")]
    Threads { threads: usize, reason: String },
    #[error("the results could not be put together: {0}")]
    Report(String),
    #[error(
        "another `marginals train` writes to `{}`; wait for it, stop it, or name another place with --out",
        folder.display()
    )]
    Busy { folder: PathBuf },
}
