//! Panics of libraries, caught where they are called.
//!
//! Files are not trusted, and libraries that read them do not all answer a file that makes no sense with
//! an error. What they do with such a file is run here, and a panic becomes a message for a typed error.

use std::any::Any;
use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

thread_local! {
    /// Whether a panic of this thread is waited for.
    static WAITED_FOR: Cell<bool> = const { Cell::new(false) };
}

/// Result of `work`, or the message of its panic.
///
/// Such a panic prints nothing; all others are reported as before. What `work` had changed when it
/// panicked must not be used any more: give it what it may keep.
pub(crate) fn caught<R>(work: impl FnOnce() -> R) -> Result<R, String> {
    static QUIET: Once = Once::new();
    QUIET.call_once(|| {
        let loud = panic::take_hook();
        panic::set_hook(Box::new(move |about| {
            if !WAITED_FOR.get() {
                loud(about);
            }
        }));
    });
    let before = WAITED_FOR.replace(true);
    let result = panic::catch_unwind(AssertUnwindSafe(work));
    WAITED_FOR.set(before);
    result.map_err(|panic| message(&*panic))
}

fn message(panic: &(dyn Any + Send)) -> String {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => (*text).to_owned(),
        (_, Some(text)) => text.clone(),
        _ => "it gave no reason".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_its_message() {
        assert_eq!(caught(|| 3), Ok(3));
        let index = std::hint::black_box(7);
        assert_eq!(caught(|| panic!("no {index}")), Err::<(), _>("no 7".to_owned()));
        assert_eq!(caught(|| panic!("none")), Err::<(), _>("none".to_owned()));
        let other = caught(|| panic::panic_any(3.5));
        assert_eq!(other, Err::<(), _>("it gave no reason".to_owned()));
        let nested = caught(|| caught(|| panic!("inner")).unwrap_err());
        assert_eq!(nested, Ok("inner".to_owned()));
        assert!(!WAITED_FOR.get());
    }
}
