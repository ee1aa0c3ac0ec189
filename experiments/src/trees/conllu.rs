//! Dependency trees in CoNLL-U, the format of Universal Dependencies
//! (<https://universaldependencies.org/format.html>).

use super::metrics::is_tree;
use crate::Outcome;

/// One syntactic word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    pub form: String,
    /// Number of its head, words being counted from 1; 0 for the root.
    pub head: usize,
    /// A space stands behind it in the text.
    pub space_after: bool,
    /// Its edge joins words: it is no punctuation (PUNCT), and no part of a word that hangs from the next
    /// part (the label `ig` of an inflectional group).
    pub joins_words: bool,
}

/// One sentence.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sentence {
    /// `sent_id`.
    pub id: String,
    pub words: Vec<Word>,
}

impl Sentence {
    /// Heads of its words, in order.
    pub fn heads(&self) -> Vec<usize> {
        self.words.iter().map(|word| word.head).collect()
    }
}

/// Sentences of a file. Lines of multiword tokens (`3-4`) say only whether a space follows, and empty
/// nodes (`3.1`) are no part of the basic tree: neither is a word.
pub fn parse(text: &str) -> Outcome<Vec<Sentence>> {
    let mut sentences = Vec::new();
    let mut open = Open::default();
    for (number, line) in text.lines().chain([""]).enumerate() {
        let line = line.trim_end();
        if line.is_empty() {
            sentences.extend(open.close()?);
        } else {
            open.read(line).map_err(|error| format!("line {}: {error}", number + 1))?;
        }
    }
    Ok(sentences)
}

/// The sentence that is being read.
#[derive(Default)]
struct Open {
    sentence: Sentence,
    /// Last word of the multiword token that is being read, and whether a space follows it.
    token: Option<(usize, bool)>,
}

impl Open {
    fn read(&mut self, line: &str) -> Outcome<()> {
        if let Some(comment) = line.strip_prefix('#') {
            if let Some(("sent_id", id)) = comment.split_once('=').map(|(k, v)| (k.trim(), v)) {
                self.sentence.id = id.trim().to_owned();
            }
            return Ok(());
        }
        let columns: Vec<&str> = line.split('\t').collect();
        let [id, form, _, part, _, _, head, label, _, other] = columns[..] else {
            return Err(format!("{} columns, wanted 10", columns.len()).into());
        };
        let space_after = !other.split('|').any(|entry| entry == "SpaceAfter=No");
        let whole = |what: &str, text: &str| -> Outcome<usize> {
            Ok(text.parse().map_err(|_| format!("{what} `{text}` is no whole number"))?)
        };
        if id.contains('.') {
            return Ok(());
        }
        if let Some((_, last)) = id.split_once('-') {
            self.token = Some((whole("the token's end", last)?, space_after));
            return Ok(());
        }
        let id = whole("the word's number", id)?;
        if id != self.sentence.words.len() + 1 {
            let expected = self.sentence.words.len() + 1;
            return Err(format!("word {id} where word {expected} was to come").into());
        }
        // Within a multiword token no space follows, and behind it what the token's line says.
        let space_after = match self.token {
            Some((last, of_token)) if id == last => of_token,
            Some((last, _)) if id < last => false,
            _ => space_after,
        };
        let head = whole("the head", head)?;
        let joins_words = part != "PUNCT" && label != "ig";
        self.sentence.words.push(Word { form: form.to_owned(), head, space_after, joins_words });
        Ok(())
    }

    fn close(&mut self) -> Outcome<Option<Sentence>> {
        let Self { sentence, .. } = std::mem::take(self);
        if sentence.words.is_empty() {
            return Ok(None);
        }
        if !is_tree(&sentence.heads()) {
            let name = if sentence.id.is_empty() { "without a name" } else { &sentence.id };
            return Err(format!("the heads of sentence {name} are no tree with one root").into());
        }
        Ok(Some(sentence))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Words 2 and 3 are one token; word 3.1 is empty.
    const TEXT: &str = "\
# sent_id = one
# text = Vámonos al mar.
1-2\tVámonos\t_\t_\t_\t_\t_\t_\t_\t_
1\tVamos\tir\tVERB\t_\t_\t0\troot\t_\t_
2\tnos\tnosotros\tPRON\t_\t_\t1\tobj\t_\t_
3-4\tal\t_\t_\t_\t_\t_\t_\t_\t_
3\ta\ta\tADP\t_\t_\t5\tig\t_\t_
4\tel\tel\tDET\t_\t_\t5\tdet\t_\t_
4.1\tgran\tgran\tADJ\t_\t_\t_\t_\t5:amod\t_
5\tmar\tmar\tNOUN\t_\t_\t1\tobl\t_\tLang=es|SpaceAfter=No
6\t.\t.\tPUNCT\t_\t_\t1\tpunct\t_\t_

# sent_id = two
1\tSí\tsí\tINTJ\t_\t_\t0\troot\t_\t_
";

    #[test]
    fn words_are_read_and_tokens_and_empty_nodes_are_not() {
        let sentences = parse(TEXT).unwrap();
        assert_eq!(sentences.len(), 2);
        let [one, two] = &sentences[..] else { unreachable!() };
        assert_eq!((one.id.as_str(), two.id.as_str()), ("one", "two"));
        assert_eq!(one.heads(), [0, 1, 5, 5, 1, 1]);
        let forms: Vec<&str> = one.words.iter().map(|word| word.form.as_str()).collect();
        assert_eq!(forms, ["Vamos", "nos", "a", "el", "mar", "."]);
        let spaces: Vec<bool> = one.words.iter().map(|word| word.space_after).collect();
        assert_eq!(spaces, [false, true, false, true, false, true]);
        let joining: Vec<bool> = one.words.iter().map(|word| word.joins_words).collect();
        assert_eq!(joining, [true, true, false, true, true, false]);
    }

    #[test]
    fn what_is_no_tree_or_no_table_is_refused_by_name() {
        let refused = |from: &str, to: &str, part: &str| {
            assert!(TEXT.contains(from), "{from}");
            let message = parse(&TEXT.replacen(from, to, 1)).unwrap_err().to_string();
            assert!(message.contains(part), "{message}");
        };
        refused("PRON\t_\t_\t1", "PRON\t_\t_\t0", "sentence one");
        refused("VERB\t_\t_\t0", "VERB\t_\t_\t5", "sentence one");
        refused("VERB\t_\t_\t0", "VERB\t_\t_\t9", "sentence one");
        refused("VERB\t_\t_\t0", "VERB\t_\t_\t_", "line 4: the head `_`");
        refused("5\tmar", "6\tmar", "line 10: word 6 where word 5");
        refused("ADP\t_\t_\t5\tig", "ADP\t_\t_\t5", "line 7: 9 columns");
    }
}
