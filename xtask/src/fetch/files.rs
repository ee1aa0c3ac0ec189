//! Messages about files.

use std::io;
use std::path::Path;

/// An error with the path that it is about.
pub fn in_folder(path: &Path) -> impl FnOnce(io::Error) -> String {
    move |error| format!("{}: {error}", path.display())
}
