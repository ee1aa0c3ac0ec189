//! Texts that an audit reads: files, folders of them, standard input.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// A text and its name in every output.
#[derive(Clone, Debug)]
pub struct NamedText {
    pub source: String,
    pub text: String,
}

/// Why texts could not be read.
#[derive(Debug, thiserror::Error)]
pub enum TextsError {
    #[error("cannot read the text `{}`: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot read the text `{}`: it is not UTF-8. Save it in that encoding", path.display())]
    Encoding { path: PathBuf },
    #[error(
        "`{}` is a model, and texts are read with the one that is named first; a second model is named by \
         `--compare {}`",
        path.display(),
        crate::message::path(path)
    )]
    Model { path: PathBuf },
    #[error(
        "the folder `{}` holds no texts; name one that does, or the files themselves",
        path.display()
    )]
    NoTexts { path: PathBuf },
    #[error(
        "the folder of texts `{}` holds a folder, `{}`, and only files in it are read; move it \
         away, or name the files themselves",
        path.display(),
        inner.display()
    )]
    FolderWithin { path: PathBuf, inner: PathBuf },
    #[error("standard input (`-`) was named {count} times, and can be read once")]
    StandardInput { count: usize },
}

/// Reads the texts at some paths. A folder stands for the files in it, in the order of their names; names
/// that begin with a dot are no texts.
///
/// # Errors
/// [`TextsError`], naming the path.
pub fn read(paths: &[PathBuf]) -> Result<Vec<NamedText>, TextsError> {
    let count = paths.iter().filter(|path| is_standard_input(path)).count();
    if count > 1 {
        return Err(TextsError::StandardInput { count });
    }
    let mut texts = Vec::new();
    for path in paths {
        if is_model(path) {
            return Err(TextsError::Model { path: path.clone() });
        }
        match !is_standard_input(path) && path.is_dir() {
            false => texts.push(read_one(path)?),
            true => {
                for file in files_in(path)? {
                    texts.push(read_one(&file)?);
                }
            }
        }
    }
    Ok(texts)
}

fn is_standard_input(path: &Path) -> bool {
    path == Path::new("-")
}

fn is_model(path: &Path) -> bool {
    path.join("config.json").exists() || path.extension().is_some_and(|name| name == "gguf")
}

fn files_in(folder: &Path) -> Result<Vec<PathBuf>, TextsError> {
    let failed = |source| TextsError::Read { path: folder.to_path_buf(), source };
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let path = entry.path();
        if path.is_dir() {
            return Err(TextsError::FolderWithin { path: folder.to_path_buf(), inner: path });
        }
        files.push(path);
    }
    files.sort();
    match files.is_empty() {
        true => Err(TextsError::NoTexts { path: folder.to_path_buf() }),
        false => Ok(files),
    }
}

fn read_one(path: &Path) -> Result<NamedText, TextsError> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::InvalidData => TextsError::Encoding { path: path.to_path_buf() },
        _ => TextsError::Read { path: path.to_path_buf(), source },
    };
    if is_standard_input(path) {
        let mut text = String::new();
        io::stdin().lock().read_to_string(&mut text).map_err(failed)?;
        return Ok(NamedText { source: "standard input".to_owned(), text });
    }
    let text = fs::read_to_string(path).map_err(failed)?;
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
    Ok(NamedText { source: name, text })
}
