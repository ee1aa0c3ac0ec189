//! The model that a command is given: a path, or the name of the one that comes with the program.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use marginals_burn::{ModelError, Pretrained};

use crate::output::{Input, STATE};
use crate::{foreign, message};

/// Name of the model that comes with the program, trained by `experiments/default-model`.
pub const BUNDLED: &str = "shakespeare";
const BUNDLED_CONFIG: &str = include_str!("../data/default-model/config.json");
const BUNDLED_WEIGHTS: &[u8] = include_bytes!("../data/default-model/model.safetensors");

/// Folder of a run of `marginals train` in which its model lies.
const OF_A_RUN: &str = "model";

/// A model to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NamedModel {
    /// The one that comes with the program.
    Bundled,
    /// A folder or a file.
    At {
        /// Place of it.
        path: PathBuf,
        /// Name that it has, where that is not the place's.
        name: Option<String>,
    },
}

/// Why there is no model under a name.
#[derive(Debug, thiserror::Error)]
pub enum NoModel {
    /// Nothing is there.
    #[error(
        "there is nothing at `{}`; name a model folder or a GGUF file, `{BUNDLED}` for the model that comes \
         with this program, or bring one with `cargo xtask fetch minilm`",
        path.display()
    )]
    Nothing {
        /// The path.
        path: PathBuf,
    },
    /// A text where the model belongs.
    #[error(
        "{what} is a text, and the model comes first: `{}` reads it with the model that comes with this program",
        command
    )]
    Text {
        /// The text, quoted.
        what: String,
        /// Command that was meant, perhaps.
        command: String,
    },
    /// The text and the model, the wrong way round.
    #[error("`{}` is a text, and the model comes first: `{}`", path.display(), command)]
    WrongWayRound {
        /// The text.
        path: PathBuf,
        /// Command that was meant.
        command: String,
    },
    /// A file that no model is read from.
    #[error("`{}` is no model that is read: {reason}", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// Kind of file that it is, and what to do.
        reason: String,
    },
    /// A run that has not saved its model yet.
    #[error(
        "`{}` is a run of `marginals train` without a model; it has one as soon as its state is saved again: \
         the same `marginals train` goes on with it",
        path.display()
    )]
    Unsaved {
        /// The folder.
        path: PathBuf,
    },
}

impl NamedModel {
    /// The model called `name`, without one that which comes with the program. What lies at a path of that
    /// name goes before the name. `texts` are what is to be read with it.
    ///
    /// # Errors
    /// [`NoModel`], with what was meant where that can be told.
    pub fn of(name: Option<&Path>, texts: &[&Path]) -> Result<Self, NoModel> {
        let Some(path) = name else { return Ok(Self::Bundled) };
        let named = path.to_owned();
        if path == Path::new("-") {
            let (what, command) = ("standard input".to_owned(), of_bundled(path));
            return Err(NoModel::Text { what, command });
        }
        if !path.exists() {
            return match path == Path::new(BUNDLED) {
                true => Ok(Self::Bundled),
                false => Err(NoModel::Nothing { path: named }),
            };
        }
        if path == Path::new(BUNDLED) {
            message::note(&format!(
                "`{BUNDLED}` is what lies here under that name, and not the model that comes with this \
                 program (`./{BUNDLED}` is read without this note)"
            ));
        }
        if path.is_file() {
            return of_file(path, texts);
        }
        let of_run = path.join(OF_A_RUN);
        if path.join("config.json").exists() || !path.join(STATE).exists() {
            return Ok(Self::At { path: named, name: None });
        }
        if !of_run.join("config.json").exists() {
            return Err(NoModel::Unsaved { path: named });
        }
        let whole = path.canonicalize().unwrap_or_else(|_| named.clone());
        let name = whole.file_name().map(|name| name.to_string_lossy().into_owned());
        Ok(Self::At { path: of_run, name })
    }

    /// Opens it.
    ///
    /// # Errors
    /// As [`Pretrained::open`].
    pub fn open(&self) -> Result<Pretrained, ModelError> {
        match self {
            Self::Bundled => Pretrained::byte_lm(BUNDLED, BUNDLED_CONFIG, BUNDLED_WEIGHTS.to_vec()),
            Self::At { path, name } => {
                let mut model = Pretrained::open(path)?;
                if let Some(name) = name {
                    model.name.clone_from(name);
                }
                Ok(model)
            }
        }
    }

    /// Its files, which no output may take the place of; all but the `outputs` of an earlier run.
    pub fn inputs(&self, outputs: &[PathBuf]) -> Vec<Input> {
        const KIND: &str = "a file of the model";
        match self {
            Self::Bundled => Vec::new(),
            Self::At { path, .. } if path.is_dir() => Input::all_in(KIND, path, outputs),
            Self::At { path, .. } => vec![Input::new(KIND, path)],
        }
    }
}

/// A file given as a model: a GGUF, or something that is told what it is.
fn of_file(path: &Path, texts: &[&Path]) -> Result<NamedModel, NoModel> {
    let owned = path.to_owned();
    let mut beginning = Vec::new();
    let read = File::open(path).and_then(|file| file.take(4096).read_to_end(&mut beginning));
    let is_so_called = path.extension().is_some_and(|extension| extension == "gguf");
    // Whoever opens it says why it cannot be read.
    if read.is_err() || beginning.is_empty() || beginning.starts_with(b"GGUF") || is_so_called {
        return Ok(NamedModel::At { path: owned, name: None });
    }
    if is_of_safetensors(&beginning) {
        let reason =
            "it is a file of weights; a model is the folder that it lies in, with its config.json \
                      and tokenizer.json. Name that folder"
                .to_owned();
        return Err(NoModel::Foreign { path: owned, reason });
    }
    if let Some(reason) = foreign::advice(path, &beginning, "model.safetensors") {
        let reason =
            format!("{reason}. A model is a folder with config.json and tokenizer.json beside it");
        return Err(NoModel::Foreign { path: owned, reason });
    }
    if is_text(&beginning) {
        let is_model =
            |path: &&&Path| path.is_dir() || path.extension().is_some_and(|e| e == "gguf");
        return Err(match texts.iter().find(is_model) {
            Some(model) => NoModel::WrongWayRound {
                path: owned,
                command: format!(
                    "marginals audit {} {}",
                    message::path(model),
                    message::path(path)
                ),
            },
            None => {
                NoModel::Text { what: format!("`{}`", path.display()), command: of_bundled(path) }
            }
        });
    }
    Ok(NamedModel::At { path: owned, name: None })
}

fn of_bundled(text: &Path) -> String {
    format!("marginals audit {BUNDLED} {}", message::path(text))
}

/// The length of a header, and the header.
fn is_of_safetensors(beginning: &[u8]) -> bool {
    beginning.len() > 8 && beginning[8] == b'{' && beginning[4..8] == [0; 4]
}

/// Whether a beginning is UTF-8, but for a character that it cuts, without controls that no text has.
fn is_text(beginning: &[u8]) -> bool {
    let text = match std::str::from_utf8(beginning) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(&beginning[..error.valid_up_to()]).unwrap_or_default()
        }
        Err(_) => return false,
    };
    !text.contains('\0')
}
