//! The tokenizer of a BERT of which nothing but its vocabulary is kept, `vocab.txt`.
//!
//! One piece to a line, its line number being its id. The rest is what all BERTs do: words are split at
//! white space and punctuation, then into the longest pieces of the vocabulary, and the text stands between
//! `[CLS]` and `[SEP]`. Whether letters are made lower case, `tokenizer_config.json` says; without it they
//! are, as in transformers.

use std::fs;
use std::path::Path;

use ahash::AHashMap;
use serde::Deserialize;
use tokenizers::models::wordpiece::WordPiece;
use tokenizers::normalizers::bert::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::processors::bert::BertProcessing;
use tokenizers::{AddedToken, Tokenizer};

use super::TextTokenizer;
use crate::caught::caught;
use crate::error::ModelError;

/// Settings of a `tokenizer_config.json` that decide how a text is read.
#[derive(Deserialize)]
#[serde(default)]
struct Settings {
    do_lower_case: bool,
    tokenize_chinese_chars: bool,
    strip_accents: Option<bool>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { do_lower_case: true, tokenize_chinese_chars: true, strip_accents: None }
    }
}

const UNKNOWN: &str = "[UNK]";
const FIRST: &str = "[CLS]";
const LAST: &str = "[SEP]";
/// Pieces that stand for no text, where a vocabulary has them.
const SPECIAL: [&str; 5] = ["[PAD]", UNKNOWN, FIRST, LAST, "[MASK]"];

/// Reads a `vocab.txt`, and the `tokenizer_config.json` beside it if there is one.
///
/// # Errors
/// [`ModelError::Read`], or [`ModelError::Tokenizer`] where the vocabulary has no piece for what is unknown
/// or for the ends of a text, or a piece twice, and where the settings cannot be read.
pub fn open(path: &Path) -> Result<TextTokenizer, ModelError> {
    let text = fs::read_to_string(path).map_err(ModelError::read(path))?;
    let refused = |path: &Path, reason| ModelError::Tokenizer { path: path.to_path_buf(), reason };
    let settings_path = path.with_file_name("tokenizer_config.json");
    let settings = match settings_path.exists() {
        true => {
            let json = fs::read(&settings_path).map_err(ModelError::read(&settings_path))?;
            let settings: serde_json::Result<Settings> = serde_json::from_slice(&json);
            settings.map_err(|error| refused(&settings_path, error.to_string()))?
        }
        false => Settings::default(),
    };
    let mut vocabulary = AHashMap::new();
    for (id, piece) in (0u32..).zip(text.lines()) {
        if vocabulary.insert(piece.trim_end().to_owned(), id).is_some() {
            return Err(refused(path, format!("it lists `{piece}` twice")));
        }
    }
    let id = |piece: &str| {
        let found = vocabulary.get(piece).map(|&id| (piece.to_owned(), id));
        found.ok_or_else(|| refused(path, format!("it has no piece `{piece}`")))
    };
    let ends = BertProcessing::new(id(LAST)?, id(FIRST)?);
    id(UNKNOWN)?;
    let special: Vec<AddedToken> = SPECIAL
        .into_iter()
        .filter(|piece| vocabulary.contains_key(*piece))
        .map(|piece| AddedToken::from(piece.to_owned(), true))
        .collect();
    let built = || -> tokenizers::Result<Tokenizer> {
        let pieces =
            WordPiece::builder().vocab(vocabulary).unk_token(UNKNOWN.to_owned()).build()?;
        let mut tokenizer = Tokenizer::new(pieces);
        tokenizer.with_normalizer(Some(BertNormalizer::new(
            true,
            settings.tokenize_chinese_chars,
            settings.strip_accents,
            settings.do_lower_case,
        )))?;
        tokenizer.with_pre_tokenizer(Some(BertPreTokenizer));
        tokenizer.with_post_processor(Some(ends));
        tokenizer.add_special_tokens(special)?;
        Ok(tokenizer)
    };
    let tokenizer = caught(built)
        .map_err(|reason| refused(path, reason))?
        .map_err(|error| refused(path, error.to_string()))?;
    TextTokenizer::new(tokenizer, path)
}
