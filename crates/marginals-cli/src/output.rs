//! Files written whole or not at all, and a standard output that may go away.

mod error;
mod leftovers;
mod overlap;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use tempfile::NamedTempFile;

pub use error::{PrintError, WriteError};
use leftovers::folder_of;
pub use overlap::{Input, STATE, refuse_folder_of_run, refuse_inputs, refuse_report_of_others};

/// Files of this process.
struct Files {
    /// Those that it has written so far.
    written: Vec<PathBuf>,
    /// The one that is being written, beside the place that it is meant for.
    unfinished: Option<PathBuf>,
}

static FILES: Mutex<Files> = Mutex::new(Files { written: Vec::new(), unfinished: None });

/// Held while a file is written.
static WRITING: Mutex<()> = Mutex::new(());

/// Time in which a file is written to its end when the program is asked to end. Those that take longer hold
/// gigabytes.
const PATIENCE: Duration = Duration::from_millis(250);

fn locked<T>(mutex: &'static Mutex<T>) -> MutexGuard<'static, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The files that were written, for a program that ends now: none is begun or finished any more. One that is
/// half written is removed if it is not finished soon, and what was in its place stays.
pub fn end() -> Vec<PathBuf> {
    let start = Instant::now();
    let whole = loop {
        match WRITING.try_lock() {
            Err(TryLockError::WouldBlock) if start.elapsed() < PATIENCE => {
                std::thread::sleep(Duration::from_millis(5));
            }
            found => break found,
        }
    };
    std::mem::forget(whole);
    let mut files = locked(&FILES);
    if let Some(path) = files.unfinished.take() {
        // What cannot be removed is removed by the next that writes there.
        let _ = fs::remove_file(path);
    }
    let written = files.written.clone();
    std::mem::forget(files);
    written
}

/// Where bytes go.
///
/// A link leads to what it names, which is replaced and not the link; a pipe or a device is written into,
/// and so is a stream of this program, by whatever name (`/dev/stdout`).
#[derive(Debug)]
pub struct Destination {
    /// Name that was given.
    path: PathBuf,
    place: Place,
}

#[derive(Debug)]
enum Place {
    /// A file, there or not, and no link: it is written beside, and renamed.
    File(PathBuf),
    /// Pipe, device or descriptor: bytes go there as they come.
    Stream,
    Output,
    Error,
}

/// Links that are followed from one name.
const MOST_LINKS: usize = 40;

impl Destination {
    /// Where `path` leads.
    ///
    /// # Errors
    /// [`WriteError`], where it leads to a folder, or round in a circle.
    pub fn of(path: &Path) -> Result<Self, WriteError> {
        let at = |place| Ok(Self { path: path.to_owned(), place });
        let mut target = path.to_owned();
        for _ in 0..MOST_LINKS {
            match descriptor(&target) {
                Some(1) => return at(Place::Output),
                Some(2) => return at(Place::Error),
                Some(_) => return at(Place::Stream),
                None => {}
            }
            let Ok(next) = fs::read_link(&target) else { break };
            target = folder_of(&target).join(next);
        }
        match fs::metadata(path) {
            Ok(found) if found.is_dir() => Err(WriteError::Folder { path: path.to_owned() }),
            Ok(found) if !found.is_file() => at(Place::Stream),
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(WriteError::Refused { path: path.to_owned(), source })
            }
            _ => at(Place::File(target)),
        }
    }

    /// Writes `bytes`, whole or not at all where it is a file. A reader that has gone away is no error.
    ///
    /// # Errors
    /// [`WriteError::Refused`].
    pub fn write(&self, bytes: &[u8]) -> Result<(), WriteError> {
        let outcome = match &self.place {
            Place::File(target) => replace(target, &self.path, bytes),
            Place::Stream => {
                let stream = fs::OpenOptions::new().append(true).open(&self.path);
                stream.and_then(|stream| pass_to(stream, bytes))
            }
            Place::Output => pass_to(io::stdout().lock(), bytes),
            Place::Error => pass_to(io::stderr().lock(), bytes),
        };
        outcome.map_err(|source| WriteError::Refused { path: self.path.clone(), source })
    }

    /// The file that is written; `None` for pipes, devices and streams.
    pub fn file(&self) -> Option<&Path> {
        match &self.place {
            Place::File(target) => Some(target),
            Place::Stream | Place::Output | Place::Error => None,
        }
    }
}

/// The number of an open descriptor of this program, where `path` is the name that the system gives it.
fn descriptor(path: &Path) -> Option<u32> {
    let number = path.file_name()?.to_str()?.parse().ok()?;
    let folder = folder_of(path).canonicalize().ok()?;
    let own = Path::new("/proc").join(std::process::id().to_string());
    let is_own =
        folder == Path::new("/dev/fd") || folder.starts_with(own) && folder.ends_with("fd");
    is_own.then_some(number)
}

/// Writes `bytes` to `path`: see [`Destination`].
///
/// # Errors
/// [`WriteError`].
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), WriteError> {
    Destination::of(path)?.write(bytes)
}

/// Writes `bytes` beside `target` and renames them into its place, with the permissions it had. Removes what
/// processes that were killed on the way have left there. `name` is what the user calls it.
fn replace(target: &Path, name: &Path, bytes: &[u8]) -> io::Result<()> {
    let _alone = locked(&WRITING);
    leftovers::remove_of(target);
    let mut beside = leftovers::begin(target)?;
    locked(&FILES).unfinished = Some(beside.path().to_owned());
    let filled = fill(&mut beside, target, bytes);
    let mut files = locked(&FILES);
    files.unfinished = None;
    filled?;
    beside.persist(target).map_err(|error| error.error)?;
    if !files.written.iter().any(|file| file == name) {
        files.written.push(name.to_owned());
    }
    Ok(())
}

/// Bytes that go to the disk at once. Until they are there the program cannot end.
const AT_ONCE: usize = 32 << 20;

/// Gives a file that is to take the place of `target` its bytes and permissions.
fn fill(beside: &mut NamedTempFile, target: &Path, bytes: &[u8]) -> io::Result<()> {
    for part in bytes.chunks(AT_ONCE) {
        beside.as_file_mut().write_all(part)?;
        if part.len() == AT_ONCE {
            beside.as_file().sync_data()?;
        }
    }
    match fs::metadata(target) {
        Ok(before) => beside.as_file().set_permissions(before.permissions())?,
        Err(_) => make_readable(beside.as_file())?,
    }
    beside.as_file().sync_all()
}

/// Writes to a stream, whose reader may have gone away (`… | head`).
fn pass_to(mut stream: impl Write, bytes: &[u8]) -> io::Result<()> {
    match stream.write_all(bytes).and_then(|()| stream.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
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
/// not end at a folder that cannot be written to. What killed processes left in it is removed.
pub fn prepare_folder(folder: &Path) -> Result<(), WriteError> {
    let trial =
        || fs::create_dir_all(folder).and_then(|()| leftovers::begin(&folder.join("trial")));
    trial().map_err(|source| WriteError::Refused { path: folder.to_owned(), source })?;
    leftovers::remove_in(folder);
    Ok(())
}

/// Writes to standard output. A reader that has gone away (`… | head`) is no error.
pub fn print(text: &str) -> Result<(), PrintError> {
    pass_to(io::stdout().lock(), text.as_bytes()).map_err(PrintError)
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
    fn what_cannot_be_written_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.json");
        fs::create_dir(&path).unwrap();
        let error = write_whole(&path, b"content").unwrap_err().to_string();
        assert!(error.contains("x.json: it is a folder. Name a file in it"), "{error}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    /// `name` in `folder` as a link to `target`.
    #[cfg(unix)]
    fn link(folder: &Path, target: &str, name: &str) -> PathBuf {
        let path = folder.join(name);
        std::os::unix::fs::symlink(target, &path).unwrap();
        path
    }

    #[cfg(unix)]
    #[test]
    fn links_are_written_through() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("real")).unwrap();
        let target = folder.path().join("real/x");
        let first = link(folder.path(), "real/x", "first");
        let second = link(folder.path(), "first", "second");
        // Also where the target is not there yet.
        for content in [b"one", b"two"] {
            write_whole(&second, content).unwrap();
            assert_eq!(fs::read(&target).unwrap(), content);
            for link in [&first, &second] {
                assert!(fs::symlink_metadata(link).unwrap().is_symlink());
            }
        }
        assert_eq!(fs::read_dir(folder.path().join("real")).unwrap().count(), 1);
        fs::write(folder.path().join("real/.x.aB3x.unfinished"), b"x").unwrap();
        write_whole(&second, b"three").unwrap();
        assert_eq!(fs::read_dir(folder.path().join("real")).unwrap().count(), 1);

        let to_a_folder = link(folder.path(), "real", "to-a-folder");
        assert!(matches!(write_whole(&to_a_folder, b"x"), Err(WriteError::Folder { .. })));
        let circle = link(folder.path(), "circle", "circle");
        let error = write_whole(&circle, b"x").unwrap_err();
        assert!(matches!(error, WriteError::Refused { .. }), "{error}");
        assert!(fs::symlink_metadata(&circle).unwrap().is_symlink());
        let nowhere = link(folder.path(), "none/x", "nowhere");
        assert!(matches!(write_whole(&nowhere, b"x"), Err(WriteError::Refused { .. })));
    }

    #[cfg(unix)]
    #[test]
    fn a_file_keeps_its_permissions() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        write_whole(&path, b"1").unwrap();
        assert_eq!(mode(), 0o644);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        write_whole(&path, b"2").unwrap();
        assert_eq!(mode(), 0o600);
    }

    #[cfg(unix)]
    #[test]
    fn devices_stay_what_they_are() {
        write_whole(Path::new("/dev/null"), b"gone").unwrap();
        assert!(!fs::symlink_metadata("/dev/null").unwrap().is_file());
        if Path::new("/dev/full").exists() {
            let error = write_whole(Path::new("/dev/full"), b"too much").unwrap_err();
            assert!(error.to_string().contains("/dev/full"), "{error}");
        }
    }
}
