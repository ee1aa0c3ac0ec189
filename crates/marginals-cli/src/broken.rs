//! Lines broken at words.

use textwrap::core::Word;
use textwrap::{Options, WordSeparator, WordSplitter, WrapAlgorithm};

/// `text` in lines of at most `width` columns, broken at spaces. `first` stands before the first line and
/// `rest` before every other one. What is to be copied stays in one piece, on a line of its own where it is wider
/// than a line: a word, and what stands in backquotes.
pub fn at_words(text: &str, width: usize, first: &str, rest: &str) -> String {
    let options = Options::new(width)
        .initial_indent(first)
        .subsequent_indent(rest)
        .break_words(false)
        .word_separator(WordSeparator::Custom(words))
        .word_splitter(WordSplitter::NoHyphenation)
        .wrap_algorithm(WrapAlgorithm::FirstFit);
    textwrap::fill(text, options)
}

/// Words of a line, with the spaces behind them.
fn words(line: &str) -> Box<dyn Iterator<Item = Word<'_>> + '_> {
    // A backquote without a second one quotes nothing.
    let quotes = line.matches('`').count() / 2 * 2;
    let (mut seen, mut before) = (0, ' ');
    let is_first_letter = move |&(_, letter): &(usize, char)| {
        let begins = before == ' ' && letter != ' ' && seen % 2 == 0;
        before = letter;
        if letter == '`' && seen < quotes {
            seen += 1;
        }
        begins
    };
    let ends = line.char_indices().filter(is_first_letter).map(|(at, _)| at).skip(1);
    let ends = ends.chain([line.len()]);
    Box::new(ends.scan(0, move |at, end| {
        let word = &line[*at..end];
        *at = end;
        Some(Word::from(word))
    }))
}

#[cfg(test)]
mod tests {
    use super::at_words;

    #[test]
    fn lines_end_at_words() {
        assert_eq!(at_words("as long as it is", 8, "", ""), "as long\nas it is");
        assert_eq!(at_words("one two three", 9, "- ", "  "), "- one two\n  three");
        // Paths and commands are copied from the screen: neither hyphens nor widths part them.
        assert_eq!(
            at_words("see /a-path/that-is/long now", 8, "", ""),
            "see\n/a-path/that-is/long\nnow"
        );
        // What stands in columns stays there, as a line of code above the mark of its fault.
        assert_eq!(at_words("1 | a = = b\n  |     ^", 20, "", ""), "1 | a = = b\n  |     ^");
        let command = "do `rm -r a b c`, if you `like";
        assert_eq!(at_words(command, 10, "", ""), "do\n`rm -r a b c`,\nif you\n`like");
        // Letters that take two columns count as two.
        assert_eq!(at_words("東京 東京", 8, "", ""), "東京\n東京");
    }
}
