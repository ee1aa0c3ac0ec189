//! Texts in the format of the SWORD project (CrossWire Bible Society): modules of the kind `zText`.
//!
//! A module is a file of settings and, of each testament, three files of little-endian numbers and of text:
//!
//! ```text
//! .bzs   12 bytes a block:   where it begins in .bzz, its compressed size, its size
//! .bzv   10 bytes an entry:  block (4 bytes), where it begins in the block (4), its size (2)
//! .bzz   blocks, each a zlib stream
//! ```
//!
//! Entries stand in the order of a versification: of every book an introduction, of every chapter a heading
//! and then its verses, those that the text does not have being empty. How many verses a chapter has is
//! in tables of the SWORD library; here the headings say where chapters begin, for they hold a mark of it.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;

use flate2::read::ZlibDecoder;

use crate::Outcome;

/// Place of a verse, as in `Gen.1.4`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reference {
    /// Book and chapter in OSIS, as in `Gen.1`.
    pub chapter: String,
    pub verse: usize,
}

impl Reference {
    /// Name of the book.
    pub fn book(&self) -> &str {
        self.chapter.split('.').next().unwrap_or(&self.chapter)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.chapter, self.verse)
    }
}

/// One verse with its markup; empty where the text does not have it.
#[derive(Clone, Debug, PartialEq)]
pub struct Verse {
    pub reference: Reference,
    pub markup: String,
}

/// The verses of a module in order, from the content of its `.conf` file and a function that reads the files
/// that it names.
///
/// # Errors
/// Modules of another kind, and files that are no such module, with the name of what is wrong.
pub fn verses(settings: &str, read: &dyn Fn(&str) -> Outcome<Vec<u8>>) -> Outcome<Vec<Verse>> {
    let settings = Settings::parse(settings)?;
    let mut verses = Vec::new();
    for testament in ["ot", "nt"] {
        let file = |kind: &str| {
            let name = format!("{}/{testament}.{}z{kind}", settings.folder, settings.block);
            read(&name).map(|bytes| (name, bytes))
        };
        let entries = entries(&file("s")?, &file("v")?, &file("z")?)?;
        number(entries, &mut verses);
    }
    Ok(verses)
}

/// Settings, as far as they are read.
struct Settings {
    /// Folder of the files.
    folder: String,
    /// First letter of their kinds: what a block holds.
    block: char,
}

impl Settings {
    fn parse(text: &str) -> Outcome<Self> {
        let pairs = text.lines().filter_map(|line| line.split_once('='));
        let all: BTreeMap<&str, &str> =
            pairs.map(|(key, value)| (key.trim(), value.trim())).collect();
        let get = |key: &str| all.get(key).copied().unwrap_or("");
        let kind = [
            ("ModDrv", "zText"),
            ("CompressType", "ZIP"),
            ("SourceType", "OSIS"),
            ("Encoding", "UTF-8"),
        ];
        for (key, expected) in kind {
            if get(key) != expected {
                let found = get(key);
                return Err(
                    format!("a module with {key}={expected} is read, this has `{found}`").into()
                );
            }
        }
        let block = match get("BlockType") {
            "BOOK" => 'b',
            "CHAPTER" => 'c',
            "VERSE" => 'v',
            other => {
                return Err(format!("blocks of a BOOK, CHAPTER or VERSE, not `{other}`").into());
            }
        };
        let folder = get("DataPath").trim_start_matches("./").trim_end_matches('/');
        if folder.is_empty() {
            return Err("the module's settings have no DataPath".into());
        }
        Ok(Self { folder: folder.to_owned(), block })
    }
}

/// A file with its name, for messages.
type File = (String, Vec<u8>);

fn number_at(bytes: &[u8]) -> usize {
    bytes.iter().rev().fold(0, |sum, &byte| sum << 8 | usize::from(byte))
}

/// Texts of all entries.
fn entries(blocks: &File, index: &File, data: &File) -> Outcome<Vec<String>> {
    const BLOCK: usize = 12;
    const ENTRY: usize = 10;
    for (file, record) in [(blocks, BLOCK), (index, ENTRY)] {
        if file.1.len() % record != 0 {
            return Err(format!("{}: no whole number of records of {record} bytes", file.0).into());
        }
    }
    let block = |(place, record): (usize, &[u8])| -> Outcome<Vec<u8>> {
        let [from, compressed, size] = [0, 4, 8].map(|at| number_at(&record[at..at + 4]));
        if compressed == 0 {
            return Ok(Vec::new());
        }
        let stream = data.1.get(from..from + compressed);
        let stream = stream.ok_or_else(|| format!("{}: ends before block {place}", data.0))?;
        let mut text = Vec::new();
        let read = ZlibDecoder::new(stream).read_to_end(&mut text);
        read.map_err(|error| format!("{}: block {place}: {error}", data.0))?;
        if text.len() != size {
            let (file, found) = (&data.0, text.len());
            return Err(
                format!("{file}: block {place} has {found} bytes, {size} are promised").into()
            );
        }
        Ok(text)
    };
    let texts = blocks.1.chunks_exact(BLOCK).enumerate().map(block).collect::<Outcome<Vec<_>>>()?;
    let entry = |(place, record): (usize, &[u8])| -> Outcome<String> {
        let [block, from] = [0, 4].map(|at| number_at(&record[at..at + 4]));
        let size = number_at(&record[8..10]);
        if size == 0 {
            return Ok(String::new());
        }
        let text = texts.get(block).and_then(|text| text.get(from..from + size));
        let text =
            text.ok_or_else(|| format!("{}: entry {place} lies outside of its block", index.0))?;
        let text = String::from_utf8(text.to_vec());
        Ok(text.map_err(|error| format!("{}: entry {place}: {error}", index.0))?)
    };
    index.1.chunks_exact(ENTRY).enumerate().map(entry).collect()
}

/// Adds the verses among the entries. What stands before the first chapter of a book is its introduction.
fn number(entries: Vec<String>, verses: &mut Vec<Verse>) {
    let mut chapter: Option<String> = None;
    let mut verse = 0;
    for markup in entries {
        let begins = tags(&markup).filter(|tag| attribute(tag, "sID").is_some());
        let (mut heading, mut is_book) = (None, false);
        for tag in begins {
            if tag.starts_with("chapter ") {
                heading = attribute(tag, "osisID").map(str::to_owned).or(heading);
            }
            is_book |= tag.starts_with("div ") && attribute(tag, "type") == Some("book");
        }
        if heading.is_some() || is_book {
            (chapter, verse) = (heading, 0);
        } else if let Some(chapter) = &chapter {
            verse += 1;
            verses.push(Verse { reference: Reference { chapter: chapter.clone(), verse }, markup });
        }
    }
}

/// Content of every tag, without its angle brackets.
fn tags(markup: &str) -> impl Iterator<Item = &str> {
    markup.split('<').skip(1).filter_map(|rest| rest.split_once('>').map(|(tag, _)| tag))
}

/// Value of an attribute of a tag.
pub fn attribute<'t>(tag: &'t str, name: &str) -> Option<&'t str> {
    let mut rest = tag;
    while let Some(at) = rest.find(name) {
        let (before, after) = (&rest[..at], &rest[at + name.len()..]);
        if before.ends_with(char::is_whitespace)
            && let Some(value) = after.strip_prefix("=\"")
        {
            return value.split_once('"').map(|(value, _)| value);
        }
        rest = after;
    }
    None
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::ZlibEncoder;

    use super::*;

    const SETTINGS: &str = "[tiny]\nDataPath=./modules/tiny/\nModDrv=zText\nSourceType=OSIS\n\
        Encoding=UTF-8\nCompressType=ZIP\nBlockType=BOOK\nVersification=KJV\n";

    /// Files of a module: of each testament blocks, and entries by block and text.
    fn module(testaments: [&[&[&str]]; 2]) -> BTreeMap<String, Vec<u8>> {
        let mut files = BTreeMap::new();
        for (name, blocks) in ["ot", "nt"].into_iter().zip(testaments) {
            let (mut sizes, mut index, mut data) = (Vec::new(), vec![0; 10], Vec::new());
            for (number, texts) in blocks.iter().enumerate() {
                let mut all = String::new();
                for text in *texts {
                    index.extend((number as u32).to_le_bytes());
                    index.extend((all.len() as u32).to_le_bytes());
                    index.extend((text.len() as u16).to_le_bytes());
                    all.push_str(text);
                }
                let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
                encoder.write_all(all.as_bytes()).unwrap();
                let stream = encoder.finish().unwrap();
                for size in [data.len(), stream.len(), all.len()] {
                    sizes.extend((size as u32).to_le_bytes());
                }
                data.extend(stream);
            }
            for (kind, bytes) in [("s", sizes), ("v", index), ("z", data)] {
                files.insert(format!("modules/tiny/{name}.bz{kind}"), bytes);
            }
        }
        files
    }

    fn read(settings: &str, files: &BTreeMap<String, Vec<u8>>) -> Outcome<Vec<(String, String)>> {
        let open = |name: &str| -> Outcome<Vec<u8>> {
            Ok(files.get(name).cloned().ok_or_else(|| format!("{name} is missing"))?)
        };
        let found = verses(settings, &open)?;
        Ok(found.into_iter().map(|verse| (verse.reference.to_string(), verse.markup)).collect())
    }

    fn tiny() -> BTreeMap<String, Vec<u8>> {
        let genesis: &[&str] = &[
            "<div osisID=\"Gen\" sID=\"g1\" type=\"book\"/><title>Genesis</title>",
            "<div sID=\"g2\"/><chapter n=\"1\" osisID=\"Gen.1\" sID=\"Gen.1\"/>",
            "In the <w lemma=\"strong:H1\">beginning</w>",
            "",
            "día<chapter eID=\"Gen.1\"/>",
            "<chapter osisID=\"Gen.2\" sID=\"Gen.2\"/>",
            "the end<div eID=\"g1\" osisID=\"Gen\" type=\"book\"/>",
        ];
        let exodus: &[&str] = &[
            "<div osisID=\"Exod\" sID=\"e1\" type=\"book\"/>",
            "<chapter osisID=\"Exod.1\" sID=\"Exod.1\"/>",
            "names",
        ];
        let matthew: &[&str] =
            &["front", "<chapter osisID=\"Matt.1\" sID=\"Matt.1\"/>", "the book"];
        module([&[genesis, exodus], &[matthew]])
    }

    #[test]
    fn a_module_is_read_by_block_entry_and_chapter() {
        let found = read(SETTINGS, &tiny()).unwrap();
        let found: Vec<(&str, &str)> =
            found.iter().map(|(r, m)| (r.as_str(), m.as_str())).collect();
        let expected = [
            ("Gen.1.1", "In the <w lemma=\"strong:H1\">beginning</w>"),
            ("Gen.1.2", ""),
            ("Gen.1.3", "día<chapter eID=\"Gen.1\"/>"),
            ("Gen.2.1", "the end<div eID=\"g1\" osisID=\"Gen\" type=\"book\"/>"),
            ("Exod.1.1", "names"),
            ("Matt.1.1", "the book"),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_damaged_or_other_module_is_refused_by_name() {
        let message = |settings: &str, files| read(settings, &files).unwrap_err().to_string();
        let other = SETTINGS.replace("ZIP", "LZSS");
        assert!(message(&other, tiny()).contains("CompressType=ZIP"));
        let blocks = SETTINGS.replace("BOOK", "SHELF");
        assert!(message(&blocks, tiny()).contains("`SHELF`"));
        let damaged = |name: &str, change: &dyn Fn(&mut Vec<u8>)| {
            let mut files = tiny();
            change(files.get_mut(name).unwrap());
            message(SETTINGS, files)
        };
        let cut = damaged("modules/tiny/ot.bzv", &|bytes| bytes.truncate(11));
        assert!(cut.contains("ot.bzv") && cut.contains("10 bytes"), "{cut}");
        let short = damaged("modules/tiny/ot.bzz", &|bytes| bytes.truncate(9));
        assert!(short.contains("ends before block 0"), "{short}");
        let size = damaged("modules/tiny/nt.bzs", &|bytes| bytes[8] += 1);
        assert!(size.contains("are promised"), "{size}");
        let outside = damaged("modules/tiny/nt.bzv", &|bytes| bytes[24] = 200);
        assert!(outside.contains("outside of its block"), "{outside}");
    }

    #[test]
    fn attributes_are_found_by_their_whole_name() {
        let tag = "chapter xsID=\"a\" osisID=\"Gen.1\" sID=\"b\"/";
        assert_eq!(attribute(tag, "sID"), Some("b"));
        assert_eq!(attribute(tag, "ID"), None);
        assert_eq!(attribute(tag, "osisID"), Some("Gen.1"));
    }
}
