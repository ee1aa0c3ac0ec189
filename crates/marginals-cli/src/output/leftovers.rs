//! Files that are being written, and those that a process left behind which was killed while it wrote.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use tempfile::NamedTempFile;

/// How the name of a file ends that is being written.
const UNFINISHED: &str = ".unfinished";

/// Folder that a file lies in.
pub(super) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// How the name begins of what will be `path`.
fn beginning(path: &Path) -> String {
    format!(".{}.", path.file_name().unwrap_or_default().to_string_lossy())
}

/// A file beside `path` that will take its place. It is locked for as long as it is written.
///
/// # Errors
/// The system's, without the name of the file, which means nothing to whoever reads it.
pub(super) fn begin(path: &Path) -> io::Result<NamedTempFile> {
    // In the words of the system where there is no such folder; of other faults their kind is known alone.
    fs::metadata(folder_of(path))?;
    let beside = tempfile::Builder::new()
        .prefix(&beginning(path))
        .suffix(UNFINISHED)
        .tempfile_in(folder_of(path))
        .map_err(without_name)?;
    // Where files cannot be locked nothing is ever taken for a leftover.
    let _ = beside.as_file().lock();
    Ok(beside)
}

/// An error of `tempfile` without the name that it adds.
fn without_name(error: io::Error) -> io::Error {
    match (error.raw_os_error(), error.kind()) {
        (Some(_), _) => error,
        (None, io::ErrorKind::NotFound) => io::Error::other("no file can be made there"),
        (None, kind) => kind.into(),
    }
}

/// Removes what killed processes left beside `path` when they wrote it.
pub(super) fn remove_of(path: &Path) {
    let beginning = beginning(path);
    remove(folder_of(path), |name| name.starts_with(&beginning));
}

/// Removes what killed processes left in `folder`.
pub(super) fn remove_in(folder: &Path) {
    remove(folder, |name| name.starts_with('.'));
}

/// Removes the unfinished files of `folder` that nobody is writing. What cannot be removed does no harm.
fn remove(folder: &Path, is_own: impl Fn(&str) -> bool) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.ends_with(UNFINISHED) || !is_own(&name) {
            continue;
        }
        let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
        let file = File::options().write(true).open(entry.path());
        if is_file && file.is_ok_and(|file| file.try_lock().is_ok()) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leftovers_are_removed_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.bin");
        let at = |name: &str| folder.path().join(name);
        let names = [".state.bin.aB3x.unfinished", ".other.bin.aB3x.unfinished", "state.bin"];
        for name in names {
            fs::write(at(name), b"x").unwrap();
        }
        remove_of(&path);
        assert!(!at(names[0]).exists());
        assert!(at(names[1]).exists() && path.exists());
        fs::write(at("notes.unfinished"), b"x").unwrap();
        remove_in(folder.path());
        assert!(!at(names[1]).exists());
        assert!(path.exists() && at("notes.unfinished").exists());
    }

    #[test]
    fn a_file_that_is_being_written_is_no_leftover() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        let beside = begin(&path).unwrap();
        remove_of(&path);
        remove_in(folder.path());
        assert!(beside.path().exists());
        let name = beside.path().to_owned();
        // A process that is killed drops its locks and not its files.
        let (file, kept) = beside.keep().unwrap();
        drop(file);
        assert_eq!(kept, name);
        remove_of(&path);
        assert!(!name.exists());
    }

    #[test]
    fn errors_do_not_name_what_nobody_knows() {
        let folder = tempfile::tempdir().unwrap();
        let error = begin(&folder.path().join("none/x")).unwrap_err().to_string();
        assert!(!error.contains("unfinished") && !error.contains("path"), "{error}");
        assert!(error.contains("No such file"), "{error}");
    }
}
