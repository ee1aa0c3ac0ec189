//! Files written whole or not at all, and a standard output that may go away.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use thiserror::Error;

/// A file that could not be written; whatever stood there before still does.
#[derive(Debug, Error)]
#[error("cannot write {}: {source}. Nothing was changed there; check that the folder exists, is writable and has room", path.display())]
pub struct WriteError {
    path: PathBuf,
    source: io::Error,
}

/// Writes `bytes` beside `path` and renames them into place.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), WriteError> {
    let failed = |source| WriteError { path: path.to_owned(), source };
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let mut beside = tempfile::Builder::new()
        .prefix(&beginning(path))
        .suffix(UNFINISHED)
        .tempfile_in(folder)
        .map_err(failed)?;
    beside.write_all(bytes).map_err(failed)?;
    make_readable(beside.as_file()).map_err(failed)?;
    beside.as_file().sync_all().map_err(failed)?;
    beside.persist(path).map(drop).map_err(|e| failed(e.error))
}

/// How the name of a file ends that is being written.
const UNFINISHED: &str = ".unfinished";

/// How the name begins of what will be `path`.
fn beginning(path: &Path) -> String {
    format!(".{}.", path.file_name().unwrap_or_default().to_string_lossy())
}

/// Removes what a process that was killed while it wrote `path` may have left beside it. Nothing else
/// may be writing there.
pub fn remove_leftovers(path: &Path) {
    let Some(Ok(entries)) = path.parent().map(fs::read_dir) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with(&beginning(path)) && name.ends_with(UNFINISHED) {
            // What cannot be removed does no harm.
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Temporary files are private to their owner; a result is an ordinary file.
#[cfg(unix)]
fn make_readable(file: &fs::File) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    file.set_permissions(fs::Permissions::from_mode(0o644))
}

#[cfg(not(unix))]
fn make_readable(_file: &fs::File) -> io::Result<()> {
    Ok(())
}

/// Makes `folder` where needed and tries whether it takes files, so that a long computation does
/// not end at a folder that cannot be written to.
pub fn prepare_folder(folder: &Path) -> Result<(), WriteError> {
    fs::create_dir_all(folder)
        .and_then(|()| tempfile::NamedTempFile::new_in(folder))
        .map(drop)
        .map_err(|source| WriteError { path: folder.to_owned(), source })
}

/// Standard output did not take the result.
#[derive(Debug, Error)]
#[error("cannot write to standard output: {0}")]
pub struct PrintError(io::Error);

/// Writes to standard output. A reader that has gone away (`… | head`) is no error.
pub fn print(text: &str) -> Result<(), PrintError> {
    let mut output = io::stdout().lock();
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(PrintError(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b/x.json");
        prepare_folder(path.parent().unwrap()).unwrap();
        write_whole(&path, b"first").unwrap();
        write_whole(&path, b"second").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"second");
        let names = fs::read_dir(path.parent().unwrap()).unwrap().count();
        assert_eq!(names, 1, "only the file itself is left");
    }

    #[test]
    fn leftovers_of_one_file_are_removed_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.bin");
        let names = [".state.bin.aB3x.unfinished", ".other.bin.aB3x.unfinished", "state.bin"];
        for name in names {
            fs::write(folder.path().join(name), b"x").unwrap();
        }
        remove_leftovers(&path);
        assert!(!folder.path().join(names[0]).exists());
        assert!(folder.path().join(names[1]).exists() && path.exists());
    }

    #[test]
    fn what_cannot_be_written_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.json");
        fs::create_dir(&path).unwrap();
        let error = write_whole(&path, b"content").unwrap_err();
        assert!(error.to_string().contains("x.json"), "{error}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
