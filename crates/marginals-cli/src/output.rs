//! Files that appear whole or not at all, and a standard output that may go away.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Why something could not be written.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// The folder cannot be made or written to.
    #[error(
        "cannot write into the folder `{}`: {source}; choose another one with `--out`", 
        folder.display()
    )]
    Folder { folder: PathBuf, source: io::Error },

    /// Writing a file failed part of the way; what was there before is untouched.
    #[error(
        "cannot write `{}`: {source}; nothing was left half-written. If the disk is full, make \
         room or choose another folder with `--out`",
        path.display()
    )]
    File { path: PathBuf, source: io::Error },

    /// Standard output does not take the result.
    #[error("cannot write to standard output: {source}")]
    StandardOutput { source: io::Error },
}

/// A folder that is known to take files.
#[derive(Debug)]
pub struct OutputFolder {
    path: PathBuf,
}

impl OutputFolder {
    /// Makes the folder where needed and tries it with an empty file, so that a long computation
    /// does not end at a folder that cannot be written to.
    pub fn prepare(path: &Path) -> Result<Self, OutputError> {
        let failed = |source| OutputError::Folder { folder: path.to_path_buf(), source };
        fs::create_dir_all(path).map_err(failed)?;
        let trial = path.join(format!(".marginals-{}", std::process::id()));
        File::create(&trial).map_err(failed)?;
        fs::remove_file(&trial).map_err(failed)?;
        Ok(OutputFolder { path: path.to_path_buf() })
    }

    /// Writes `content` beside `name` and renames it, so that readers see the old file or the new.
    pub fn write(&self, name: &str, content: &[u8]) -> Result<PathBuf, OutputError> {
        let path = self.path.join(name);
        let beside = self.path.join(format!(".{name}-{}", std::process::id()));
        let written = File::create(&beside)
            .and_then(|mut file| {
                file.write_all(content)?;
                file.sync_all()
            })
            .and_then(|()| fs::rename(&beside, &path));
        match written {
            Ok(()) => Ok(path),
            Err(source) => {
                // The failure is reported either way; a leftover must not be.
                let _ = fs::remove_file(&beside);
                Err(OutputError::File { path, source })
            }
        }
    }
}

/// Writes to standard output. A reader that has gone away (`… | head`) is no error.
pub fn print(text: &str) -> Result<(), OutputError> {
    print_to(&mut io::stdout().lock(), text)
}

fn print_to(writer: &mut impl Write, text: &str) -> Result<(), OutputError> {
    match writer.write_all(text.as_bytes()).and_then(|()| writer.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(source) => Err(OutputError::StandardOutput { source }),
        Ok(()) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole() {
        let folder = tempfile::tempdir().unwrap();
        let output = OutputFolder::prepare(&folder.path().join("a/b")).unwrap();
        let path = output.write("x.json", b"first").unwrap();
        output.write("x.json", b"second").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"second");
        let names = fs::read_dir(path.parent().unwrap()).unwrap().count();
        assert_eq!(names, 1, "only the file itself is left");
    }

    #[test]
    fn what_cannot_be_written_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let output = OutputFolder::prepare(folder.path()).unwrap();
        fs::create_dir(folder.path().join("x.json")).unwrap();
        let error = output.write("x.json", b"content").unwrap_err();
        assert!(error.to_string().contains("x.json"), "{error}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_device_is_an_error_and_not_a_panic() {
        let mut full = File::options().write(true).open("/dev/full").unwrap();
        let error = print_to(&mut full, "text").unwrap_err();
        assert!(error.to_string().contains("standard output"), "{error}");
    }
}
