//! Messages that are wider than the terminal.
#![cfg(target_os = "linux")]

use std::fs;
use std::path::Path;

use assert_cmd::Command;

use crate::common::complaint;
use crate::common::pty::Terminal;

/// A message as a pipe gets it and lines as terminals of several widths show them.
#[track_caller]
fn is_broken_at_words(folder: &Path, arguments: &str) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_marginals"));
    let whole = complaint(command.current_dir(folder).args(arguments.split(' ')));
    let whole = whole.trim_end();
    for width in [80, 50] {
        assert!(whole.chars().count() > width, "{whole}");
        let (code, shown) = Terminal::start(folder, width, arguments).end();
        assert_eq!(code, Some(2), "{shown}");
        let lines: Vec<&str> = shown.trim_end().split("\r\n").collect();
        assert!(lines.iter().all(|line| line.chars().count() <= width), "{lines:#?}");
        assert_eq!(lines.join(" "), whole);
    }
}

#[test]
fn long_messages_are_broken_at_words_on_a_terminal_and_whole_in_a_pipe() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("text.txt"), "Tomorrow, and tomorrow").unwrap();
    is_broken_at_words(folder.path(), "audit nowhere");
    is_broken_at_words(folder.path(), "audit text.txt");
    is_broken_at_words(folder.path(), "explain no-such-thing");
}

/// What is to be copied stays in one piece.
#[test]
fn a_name_wider_than_the_terminal_is_left_whole() {
    let folder = tempfile::tempdir().unwrap();
    let name = "long-".repeat(30);
    let (_, shown) = Terminal::start(folder.path(), 80, &format!("audit {name}")).end();
    assert!(shown.lines().any(|line| line.contains(&name)), "{shown}");
    fs::write(folder.path().join("x.npy"), b"\x93NUMPY\x01\0v\0{'descr'").unwrap();
    let (_, shown) = Terminal::start(folder.path(), 80, "audit x.npy").end();
    let command = |line: &str| line.starts_with("`python -c \"") && line.ends_with("\"`");
    assert!(shown.lines().any(|line| command(line.trim_end())), "{shown}");
}

/// The words of the library that reads arguments too, which quote whatever was given.
#[test]
fn a_long_argument_breaks_no_word_of_what_is_said_about_it() {
    let folder = tempfile::tempdir().unwrap();
    let value = "much ".repeat(30);
    let (code, shown) =
        Terminal::start(folder.path(), 80, &format!("audit --threads '{}'", value.trim())).end();
    assert_eq!(code, Some(2), "{shown}");
    let lines: Vec<&str> = shown.split("\r\n").collect();
    assert!(lines.len() > 3 && lines.iter().all(|line| line.chars().count() <= 80), "{lines:#?}");
    assert!(lines[..lines.len() - 1].iter().all(|line| !line.ends_with("muc")), "{lines:#?}");
}
