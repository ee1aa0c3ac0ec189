//! Ctrl-C and the system's requests to end.

use crate::{message, output, progress};

/// Exit code of a command that was asked to end, as shells have it for Ctrl-C.
pub const STOPPED: u8 = 130;

/// From now on such a request ends the command at once, whatever it computes, with a line that says how far
/// it came. A file that is being written is written to its end, or is as it was before. `goes_on` is said after
/// the files that were written.
pub fn ends_the_command(goes_on: &'static str) {
    on_request(move || {
        let written = output::end();
        let done = progress::clear().map_or(String::new(), |done| format!(" after {done}"));
        let written = match written.as_slice() {
            [] => "nothing was written".to_owned(),
            files => {
                let names: Vec<String> = files.iter().map(|file| message::path(file)).collect();
                format!("written before: {}{goes_on}", names.join(", "))
            }
        };
        message::say(&format!("stopped{done}; {written}"));
        std::process::exit(STOPPED.into());
    });
}

/// Calls `handle` on such a request, beside whatever is computed. Where they cannot be caught they end the
/// program as they always do.
pub fn on_request(handle: impl FnMut() + Send + 'static) {
    let _ = ctrlc::set_handler(handle);
}
