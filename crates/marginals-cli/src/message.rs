//! Messages on a terminal: nothing that the terminal would obey, no more than can be read, and no word broken
//! at its edge.
//!
//! Names, texts and messages come from files that anybody may have written. What is written to standard
//! error passes through here, and so do names within what is written to standard output.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write as _};
use std::path::Path;

use console::Term;
use marginals::excerpt;

use crate::broken;

/// Characters of a line, and lines of a message, beyond which nobody reads.
const LONGEST_LINE: usize = 1500;
const MOST_LINES: usize = 40;

/// Reports a failure. Where standard error takes nothing there is nobody to tell.
pub fn error(message: &str) {
    to_standard_error("error", message);
}

/// Says something that the user may want to know beside what was asked for.
pub fn note(message: &str) {
    to_standard_error("note", message);
}

/// Says what became of what was asked for, where that is neither a failure nor the result.
pub fn say(message: &str) {
    let _ = io::stderr().lock().write_all(format!("{}\n", shown(message)).as_bytes());
}

/// A message as standard error shows it: on a terminal its lines are broken at words. In a pipe they stay
/// whole, for whoever looks for something in them.
fn shown(message: &str) -> String {
    let text = readable(message);
    let terminal = Term::stderr();
    match terminal.is_term() {
        true => broken::at_words(&text, terminal.size().1.into(), "", ""),
        false => text,
    }
}

/// Whether standard error shows every line of a message as it is.
pub fn is_shown_as_it_is(message: &str) -> bool {
    shown(message) == message.trim_end()
}

/// Says on a terminal what was done. Where nobody looks on, it is not said.
pub fn tell(message: &str) {
    if io::stderr().is_terminal() {
        say(message);
    }
}

fn to_standard_error(kind: &str, message: &str) {
    say(&format!("{kind}: {message}"));
}

/// The name of a file in a message.
pub fn path(path: &Path) -> String {
    on_one_line(&path.display().to_string()).into_owned()
}

/// Whether a terminal obeys a character instead of showing it: controls, and marks that turn the direction
/// of what follows.
fn is_obeyed(c: char) -> bool {
    let turns = matches!(
        c,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    );
    c.is_control() || turns
}

/// A name or a piece of text as it is, or quoted where a terminal would obey it.
pub fn on_one_line(text: &str) -> Cow<'_, str> {
    match text.chars().any(is_obeyed) {
        true => format!("{text:?}").into(),
        false => text.into(),
    }
}

/// JSON whose texts hold nothing that a terminal would obey: the same data, those characters written by their
/// numbers.
pub fn json(document: &str) -> Cow<'_, str> {
    if !document.chars().any(is_obeyed) {
        return document.into();
    }
    let mut text = String::with_capacity(document.len() + document.len() / 8);
    for c in document.chars() {
        match is_obeyed(c) && c != '\n' {
            // All of them lie in the first plane.
            true => {
                let _ = write!(text, "\\u{:04x}", u32::from(c));
            }
            false => text.push(c),
        }
    }
    text.into()
}

/// A message of one or more lines, what a terminal would obey written out, and shortened where it is longer
/// than anybody reads.
pub fn readable(message: &str) -> String {
    let mut text = String::new();
    let lines = message.trim_end().split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line));
    for (number, line) in lines.enumerate() {
        if number == MOST_LINES {
            let left = message.lines().count() - MOST_LINES;
            let _ = write!(text, "\n… ({left} lines cut)");
            break;
        }
        if number > 0 {
            text.push('\n');
        }
        for c in excerpt(line, LONGEST_LINE).chars() {
            match is_obeyed(c) && c != '\t' {
                true => text.extend(c.escape_default()),
                false => text.push(c),
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_is_given_nothing_to_obey() {
        assert_eq!(readable("a\x1b[2Jb\x07\u{9b}31m\r\u{202e}c\td"), {
            "a\\u{1b}[2Jb\\u{7}\\u{9b}31m\\r\\u{202e}c\td"
        });
        assert_eq!(readable("first\r\n  second → ψ\n"), "first\n  second → ψ");
        assert_eq!(on_one_line("naïve 東京"), "naïve 東京");
        assert_eq!(on_one_line("a\nb\x1b"), "\"a\\nb\\u{1b}\"");
        assert_eq!(on_one_line("\u{202e}x"), "\"\\u{202e}x\"");
    }

    #[test]
    fn json_keeps_its_data() {
        let data = serde_json::json!({ "a\u{9b}": "x\u{7f}\u{202e}\n東京", "b": [1, "\u{1b}"] });
        let written = serde_json::to_string_pretty(&data).unwrap();
        assert!(written.chars().any(|c| is_obeyed(c) && c != '\n'));
        let shown = json(&written);
        assert!(!shown.chars().any(|c| is_obeyed(c) && c != '\n'), "{shown}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), data);
    }

    #[test]
    fn long_messages_are_cut_and_say_so() {
        let line = readable(&format!("`{}` is no name. Known: a", "x".repeat(1 << 20)));
        assert!(line.len() < 1600 && line.contains("characters cut"), "{line}");
        assert!(line.starts_with("`xxx") && line.ends_with("Known: a"), "{line}");
        let lines = readable(&"x\n".repeat(100));
        assert_eq!(lines.lines().count(), MOST_LINES + 1);
        assert!(lines.ends_with("(60 lines cut)"), "{lines}");
    }
}
