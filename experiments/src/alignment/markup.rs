//! Words of a verse, out of its markup in OSIS.

use super::sword::attribute;

/// A word and the Strong's numbers of its element: which words of the Hebrew or Greek it translates.
#[derive(Clone, Debug, PartialEq)]
pub struct Word {
    pub form: String,
    pub numbers: Vec<String>,
}

impl Word {
    /// The word in small letters.
    pub fn small(&self) -> String {
        self.form.to_lowercase()
    }

    /// The word without accents, case kept.
    pub fn plain(&self) -> String {
        self.form.chars().map(without_accent).collect()
    }
}

/// Elements whose content is not part of the verse: footnotes, and who speaks in the Song of Songs.
const LEFT_OUT: [&str; 2] = ["note", "speaker"];

/// Words of a verse: runs of letters and digits that no other character and no tag interrupts. *God’s* is
/// two of them; punctuation is left out.
pub fn words(markup: &str) -> Vec<Word> {
    let mut words = Vec::new();
    let (mut numbers, mut depth) = (Vec::new(), 0usize);
    for (place, piece) in markup.split('<').enumerate() {
        let (tag, text) = match piece.split_once('>') {
            Some((tag, text)) if place > 0 => (tag, text),
            _ => ("", piece),
        };
        let name = tag.trim_start_matches('/').split([' ', '/']).next().unwrap_or("");
        let (is_end, is_whole) = (tag.starts_with('/'), tag.ends_with('/'));
        if LEFT_OUT.contains(&name) && !is_whole {
            depth = if is_end { depth.saturating_sub(1) } else { depth + 1 };
        }
        if name == "w" {
            let lemma = if is_end || is_whole { None } else { attribute(tag, "lemma") };
            let own = lemma.unwrap_or("").split_whitespace();
            numbers = own.filter_map(|n| n.strip_prefix("strong:")).map(str::to_owned).collect();
        }
        if depth == 0 {
            let forms = of_text(text).map(str::to_owned);
            words.extend(forms.map(|form| Word { form, numbers: numbers.clone() }));
        }
    }
    words
}

/// Runs of letters and digits, names of characters (`&amp;`) left out.
fn of_text(text: &str) -> impl Iterator<Item = &str> {
    let pieces = text.split('&').enumerate().map(|(place, piece)| match piece.split_once(';') {
        Some((_, rest)) if place > 0 => rest,
        _ => piece,
    });
    pieces
        .flat_map(|piece| piece.split(|c: char| !c.is_alphanumeric()))
        .filter(|form| !form.is_empty())
}

/// The letter that an accented one of these texts is written over.
fn without_accent(letter: char) -> char {
    match letter {
        'á' | 'â' => 'a',
        'é' | 'ê' => 'e',
        'í' | 'î' => 'i',
        'ó' | 'ô' => 'o',
        'ú' | 'û' | 'ü' => 'u',
        'ñ' => 'n',
        'Á' => 'A',
        'É' => 'E',
        'Í' | 'Î' => 'I',
        'Ó' => 'O',
        'Ú' => 'U',
        'Ñ' => 'N',
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_found_with_their_numbers() {
        let markup = "<div type=\"x-p\" sID=\"a\"/><w lemma=\"strong:H0430\">God’s</w> \
            <w lemma=\"strong:G2424 lemma.x strong:G5547\">de Jesucristo</w>, <q>y &amp; é</q>l\
            <note placement=\"foot\"><reference>1:1 </reference>said <w lemma=\"strong:H1\">x</w></note>\
            <speaker>Lover</speaker><lb/> <transChange type=\"added\">fin</transChange>.";
        let found = words(markup);
        let forms: Vec<&str> = found.iter().map(|word| word.form.as_str()).collect();
        assert_eq!(forms, ["God", "s", "de", "Jesucristo", "y", "é", "l", "fin"]);
        assert_eq!(found[1].numbers, ["H0430"]);
        assert_eq!(found[3].numbers, ["G2424", "G5547"]);
        assert!(found[4..].iter().all(|word| word.numbers.is_empty()));
        assert!(words("").is_empty());
    }

    #[test]
    fn accents_and_capitals_are_taken_off() {
        let word = Word { form: "Ñandú".into(), numbers: Vec::new() };
        assert_eq!((word.plain().as_str(), word.small().as_str()), ("Nandu", "ñandú"));
    }
}
