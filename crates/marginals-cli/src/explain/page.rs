//! Text laid out for a terminal or a pipe.

use std::io::{self, IsTerminal};

use crate::broken;

/// Columns of text that is not read at a terminal.
const PLAIN_WIDTH: usize = 80;
/// Wider lines are hard to read.
const WIDEST: usize = 100;

/// Text that grows line by line.
pub struct Page {
    text: String,
    width: usize,
    coloured: bool,
}

impl Page {
    /// A page as wide as the terminal, or plain where standard output is none.
    pub fn for_standard_output() -> Self {
        let terminal = io::stdout().is_terminal();
        let width = match terminal {
            true => usize::from(console::Term::stdout().size().1),
            false => PLAIN_WIDTH,
        };
        Self::new(width, terminal && std::env::var_os("NO_COLOR").is_none())
    }

    /// A page of this width.
    pub fn new(width: usize, coloured: bool) -> Self {
        Self { text: String::new(), width: width.min(WIDEST), coloured }
    }

    /// The text.
    pub fn into_text(self) -> String {
        self.text
    }

    /// Text in a colour, where there are colours.
    pub fn paint(&self, code: &str, text: &str) -> String {
        match self.coloured {
            true => format!("\x1b[{code}m{text}\x1b[0m"),
            false => text.to_owned(),
        }
    }

    /// A name and what it stands for.
    pub fn title(&mut self, name: &str, meaning: &str) {
        let name = format!("{}  ", self.paint("1", name));
        self.hang(&name, 2, meaning);
    }

    /// A line between two pages.
    pub fn rule(&mut self) {
        let line = "─".repeat(self.width.min(40));
        self.text += &format!("\n{}\n\n", self.paint("2", &line));
    }

    /// Heading: what follows belongs together.
    pub fn heading(&mut self, text: &str) {
        self.text += &format!("\n{}\n", self.paint("2", text));
    }

    /// A label and its text, whose further lines stand below the first.
    pub fn field(&mut self, label: &str, width: usize, text: &str) {
        let padding = " ".repeat(width.saturating_sub(label.chars().count()));
        let label = format!("  {}{padding}  ", self.paint("2", label));
        self.hang(&label, width + 4, text);
    }

    /// A line that stays as it is.
    pub fn line(&mut self, text: &str) {
        self.text += text;
        self.text.push('\n');
    }

    /// A paragraph of a list.
    pub fn item(&mut self, text: &str) {
        self.hang("  ", 4, text);
    }

    /// Lines of a file, which stay as they are but for comments.
    pub fn verbatim(&mut self, text: &str) {
        let lines: Vec<&str> = text.lines().collect();
        for lines in lines.chunk_by(|line, next| line.starts_with("# ") && next.starts_with("# ")) {
            let comments: Vec<&str> =
                lines.iter().filter_map(|line| line.strip_prefix("# ")).collect();
            match comments.is_empty() {
                true => self.text += &format!("  {}", lines.concat()),
                false => {
                    self.text += &broken::at_words(&comments.join(" "), self.width, "  # ", "  # ");
                }
            }
            self.text.push('\n');
        }
    }

    /// `first` and `text`, broken at words, further lines `indent` columns in.
    fn hang(&mut self, first: &str, indent: usize, text: &str) {
        self.text += &broken::at_words(text, self.width, first, &" ".repeat(indent));
        self.text.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::Page;

    #[test]
    fn lines_keep_to_the_width_and_hang_below_their_label() {
        let mut page = Page::new(30, false);
        page.field("prior", 7, "causal × alibi: geometric in the distance, one rate per head");
        let text = page.into_text();
        assert_eq!(text.lines().next(), Some("  prior    causal × alibi:"));
        for line in text.lines() {
            assert!(line.chars().count() <= 30, "{line}");
        }
        for line in text.lines().skip(1) {
            assert!(line.starts_with(&" ".repeat(11)), "{line}");
        }
        // A word longer than the line stands alone.
        let mut page = Page::new(10, true);
        page.item("a very-long-single-word b");
        assert_eq!(page.into_text(), "  a\n    very-long-single-word\n    b\n");
    }
}
