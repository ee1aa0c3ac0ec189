//! The tokenizer of a `tokenizer.model`, SentencePiece's own file: a message of Protocol Buffers.
//!
//! It holds the pieces (field 1: text, score and type), how they were trained (2: the kind of model, and which
//! pieces begin and end a text) and how a text is normalised before (3). What transformers adds to it stands
//! in a `tokenizer_config.json` beside it: more tokens, and whether texts have a beginning and an end.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::Deserialize;

use super::sentence_pieces::{self, Kind, Piece};
use super::{TextTokenizer, ends};
use crate::caught::caught;
use crate::error::ModelError;

/// Settings of a `tokenizer_config.json`.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Settings {
    add_bos_token: Option<bool>,
    add_eos_token: Option<bool>,
    add_prefix_space: Option<bool>,
    added_tokens_decoder: BTreeMap<u32, Added>,
}

#[derive(Deserialize)]
struct Added {
    content: String,
    #[serde(default)]
    special: bool,
}

/// Contents of a file.
struct Model {
    pieces: Vec<Piece>,
    byte_pair: bool,
    /// Numbers of the pieces before and after a text.
    ends: [Option<usize>; 2],
    space_first: bool,
    /// Reason why texts are normalised as they are not here.
    normalised: Option<&'static str>,
}

/// Reads a `tokenizer.model`, and the `tokenizer_config.json` beside it if there is one.
///
/// # Errors
/// [`ModelError::Read`]; [`ModelError::Tokenizer`] where a file is none or makes no sense;
/// [`ModelError::Unsupported`] for models that are not BPE, or that normalise a text.
pub fn open(path: &Path) -> Result<TextTokenizer, ModelError> {
    let bytes = fs::read(path).map_err(ModelError::read(path))?;
    let refused = |path: &Path, reason| ModelError::Tokenizer { path: path.to_path_buf(), reason };
    let unsupported = |reason: &str| ModelError::Unsupported {
        path: path.to_path_buf(),
        reason: format!("{reason}; in its folder, {CONVERTED}"),
    };
    let mut model = Model::read(&bytes).map_err(|reason| {
        refused(path, format!("it is not a readable tokenizer.model ({reason})"))
    })?;
    if !model.byte_pair {
        return Err(unsupported("its pieces are not merged (Unigram, words or characters)"));
    }
    if let Some(reason) = model.normalised {
        return Err(unsupported(reason));
    }
    let settings_path = path.with_file_name("tokenizer_config.json");
    let settings: Settings = match settings_path.exists() {
        true => {
            let json = fs::read(&settings_path).map_err(ModelError::read(&settings_path))?;
            serde_json::from_slice(&json)
                .map_err(|error| refused(&settings_path, error.to_string()))?
        }
        false => Settings::default(),
    };
    for (id, added) in settings.added_tokens_decoder {
        let id = id as usize;
        match model.pieces.get(id) {
            Some(piece) if piece.text == added.content => {}
            None if id == model.pieces.len() => {
                let kind = if added.special { Kind::Control } else { Kind::UserDefined };
                model.pieces.push(Piece { text: added.content, score: 0.0, kind });
            }
            _ => {
                return Err(refused(
                    &settings_path,
                    format!("its added token {id} does not follow the pieces of tokenizer.model"),
                ));
            }
        }
    }
    let end = |at: usize, added: bool| {
        let id = model.ends[at].filter(|_| added)?;
        Some((model.pieces.get(id)?.text.clone(), u32::try_from(id).ok()?))
    };
    let first = end(0, settings.add_bos_token.unwrap_or(true));
    let last = end(1, settings.add_eos_token.unwrap_or(false));
    let space_first = settings.add_prefix_space.unwrap_or(model.space_first);
    let built = || {
        let mut tokenizer = sentence_pieces::tokenizer(&model.pieces, space_first)?;
        ends::set(&mut tokenizer, first, last)?;
        Ok::<_, tokenizers::Error>(tokenizer)
    };
    let tokenizer = caught(built)
        .map_err(|reason| refused(path, reason))?
        .map_err(|error| refused(path, error.to_string()))?;
    TextTokenizer::new(tokenizer, path)
}

/// How to make a tokenizer.json, which says everything.
const CONVERTED: &str = "`python -c \"import transformers; \
                         transformers.AutoTokenizer.from_pretrained('.').save_pretrained('.')\"` makes a \
                         tokenizer.json";

impl Model {
    fn read(bytes: &[u8]) -> Result<Self, String> {
        // Defaults of the format.
        let mut model = Model {
            pieces: Vec::new(),
            byte_pair: false,
            ends: [Some(1), Some(2)],
            space_first: true,
            normalised: None,
        };
        // Unless it says otherwise.
        let mut squeezes = true;
        for field in Fields(bytes) {
            match field? {
                (1, Field::Bytes(piece)) => model.pieces.push(piece_of(piece)?),
                (2, Field::Bytes(trained)) => model.read_trained(trained)?,
                (3, Field::Bytes(normaliser)) => squeezes = model.read_normaliser(normaliser)?,
                _ => {}
            }
        }
        if model.pieces.is_empty() {
            return Err("it has no pieces".to_owned());
        }
        if squeezes {
            model.normalised.get_or_insert("it makes one space of several");
        }
        Ok(model)
    }

    fn read_trained(&mut self, bytes: &[u8]) -> Result<(), String> {
        // A negative number is none.
        let piece = |number: u64| i32::try_from(number.cast_signed()).ok()?.try_into().ok();
        for field in Fields(bytes) {
            match field? {
                (3, Field::Number(kind)) => self.byte_pair = kind == 2,
                (24, Field::Number(1)) => {
                    self.normalised = Some("it writes spaces at the ends of words");
                }
                (41, Field::Number(number)) => self.ends[0] = piece(number),
                (42, Field::Number(number)) => self.ends[1] = piece(number),
                _ => {}
            }
        }
        Ok(())
    }

    /// Reads how a text is normalised, and says whether several spaces become one.
    fn read_normaliser(&mut self, bytes: &[u8]) -> Result<bool, String> {
        let mut squeezes = true;
        for field in Fields(bytes) {
            match field? {
                (2, Field::Bytes(table)) if !table.is_empty() => {
                    self.normalised = Some("it normalises characters by a table");
                }
                (3, Field::Number(truth)) => self.space_first = truth != 0,
                (4, Field::Number(truth)) => squeezes = truth != 0,
                (5, Field::Number(0)) => self.normalised = Some("it leaves spaces as they are"),
                _ => {}
            }
        }
        Ok(squeezes)
    }
}

fn piece_of(bytes: &[u8]) -> Result<Piece, String> {
    let mut piece = Piece { text: String::new(), score: 0.0, kind: Kind::Normal };
    for field in Fields(bytes) {
        match field? {
            (1, Field::Bytes(text)) => {
                let text = std::str::from_utf8(text).map_err(|error| error.to_string())?;
                piece.text = text.to_owned();
            }
            (2, Field::Four(score)) => piece.score = f64::from(f32::from_le_bytes(score)),
            (3, Field::Number(code)) => {
                piece.kind = i64::try_from(code)
                    .ok()
                    .and_then(Kind::from_code)
                    .ok_or_else(|| format!("a piece has the unknown type {code}"))?;
            }
            _ => {}
        }
    }
    Ok(piece)
}

/// Value of a field.
enum Field<'bytes> {
    Number(u64),
    Four([u8; 4]),
    Bytes(&'bytes [u8]),
    /// Eight bytes, which no field that is read has.
    Eight,
}

/// The fields of a message, by their numbers.
struct Fields<'bytes>(&'bytes [u8]);

impl<'bytes> Fields<'bytes> {
    fn take(&mut self, count: usize) -> Result<&'bytes [u8], String> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or("it ends within a field")?;
        self.0 = rest;
        Ok(taken)
    }

    /// A number of seven bits a byte, the lowest first.
    fn number(&mut self) -> Result<u64, String> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err("it has a number of more than 64 bits".to_owned())
    }

    fn field(&mut self) -> Result<(u64, Field<'bytes>), String> {
        let tag = self.number()?;
        let value = match tag & 7 {
            0 => Field::Number(self.number()?),
            1 => {
                self.take(8)?;
                Field::Eight
            }
            2 => {
                let length = self.number()?;
                let length = usize::try_from(length).map_err(|error| error.to_string())?;
                Field::Bytes(self.take(length)?)
            }
            5 => {
                let four = self.take(4)?;
                Field::Four([four[0], four[1], four[2], four[3]])
            }
            other => return Err(format!("it has a field of the unknown type {other}")),
        };
        Ok((tag >> 3, value))
    }
}

impl<'bytes> Iterator for Fields<'bytes> {
    type Item = Result<(u64, Field<'bytes>), String>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}
