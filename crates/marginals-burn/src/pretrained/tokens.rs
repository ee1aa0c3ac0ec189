//! Text to tokens: ids for the model, and the place of each in the text for the reader.

mod ends;
mod gguf;
mod places;
mod sentence_model;
mod sentence_pieces;
mod word_pieces;

use std::ops::Range;
use std::path::{Path, PathBuf};

use tokenizers::models::bpe::BPE;
use tokenizers::{
    Encoding, ModelWrapper, PostProcessor, PostProcessorWrapper, Tokenizer, TruncationDirection,
};

pub use self::gguf::tokenizer as tokenizer_from_gguf;
use self::places::Places;
pub use self::sentence_model::open as sentence_model;
pub use self::word_pieces::open as word_pieces;
use crate::caught::caught;
use crate::error::ModelError;

/// A tokenised text.
#[derive(Clone, Debug, PartialEq)]
pub struct Tokens {
    /// Vocabulary index of each token.
    pub ids: Vec<u32>,
    /// Which sentence of a pair each token belongs to (BERT); all 0 for one text.
    pub type_ids: Vec<u32>,
    /// The bytes of the text each token covers; empty for tokens that cover none of it, those that were
    /// added.
    pub spans: Vec<Range<usize>>,
    /// Each token as the vocabulary writes it.
    pub pieces: Vec<String>,
    /// Tokens the whole text has, which is more than `ids.len()` when it was cut.
    pub of: usize,
}

impl Tokens {
    /// Number of tokens.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Reason why these cannot be tokens of `text`, if they cannot: special tokens are as a file says.
    fn fault(&self, text: &str) -> Option<String> {
        let count = self.ids.len();
        for (what, found) in [
            ("types", self.type_ids.len()),
            ("places in the text", self.spans.len()),
            ("names", self.pieces.len()),
        ] {
            if found != count {
                return Some(format!(
                    "its tokens of the text have {count} ids and {found} {what}; a special token \
                     must list as many `ids` as `tokens`"
                ));
            }
        }
        let outside = |span: &&Range<usize>| span.start > span.end || span.end > text.len();
        self.spans.iter().find(outside).map(|span| {
            format!(
                "it says that a token covers the bytes {}..{} of a text of {}",
                span.start,
                span.end,
                text.len()
            )
        })
    }

    /// Checks that a model with these sizes can take the text.
    pub(crate) fn check(&self, context: usize, vocabulary: usize) -> Result<(), ModelError> {
        if self.is_empty() {
            return Err(ModelError::TextEmpty);
        }
        if self.len() > context {
            return Err(ModelError::TextTooLong { tokens: self.len(), context });
        }
        match self.ids.iter().find(|&&id| id as usize >= vocabulary) {
            Some(&id) => Err(ModelError::TokenOutsideVocabulary { id, vocabulary }),
            None => Ok(()),
        }
    }
}

/// A model's own tokenizer.
#[derive(Clone, Debug)]
pub struct TextTokenizer {
    inner: Inner,
    path: PathBuf,
}

#[derive(Clone, Debug)]
enum Inner {
    Library(Box<Library>),
    /// Every byte is a token.
    Bytes,
}

/// A tokenizer of the library, taken apart: a text is cut between its two halves.
#[derive(Clone, Debug)]
struct Library {
    /// From a text to tokens.
    split: Tokenizer,
    /// Puts them where they are in the text.
    places: Places,
    /// Adds the special tokens.
    finish: Option<PostProcessorWrapper>,
}

impl TextTokenizer {
    /// Reads a `tokenizer.json`.
    ///
    /// Truncation and padding that the file asks for are switched off: an audit must see the
    /// text as it is, and padding would put keys into the posterior that nobody wrote. So is dropout,
    /// which is for training and would read a text differently every time.
    ///
    /// # Errors
    /// [`ModelError::Read`], or [`ModelError::Tokenizer`] when the file is not a tokenizer.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        let bytes = std::fs::read(path).map_err(ModelError::read(path))?;
        let unreadable = |reason: String| ModelError::Tokenizer {
            path: path.to_path_buf(),
            reason: format!("it is not a readable tokenizer.json ({reason})"),
        };
        let inner = caught(|| Tokenizer::from_bytes(&bytes))
            .map_err(unreadable)?
            .map_err(|error| unreadable(error.to_string()))?;
        Self::new(inner, path)
    }

    pub(crate) fn new(mut inner: Tokenizer, path: &Path) -> Result<Self, ModelError> {
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|error| ModelError::Tokenizer {
            path: path.to_path_buf(),
            reason: error.to_string(),
        })?;
        if let ModelWrapper::BPE(pairs) = inner.get_model()
            && pairs.dropout.is_some()
        {
            let mut pairs: BPE = pairs.clone();
            pairs.dropout = None;
            inner.with_model(pairs);
        }
        let mut finish = inner.get_post_processor().cloned();
        inner.with_post_processor(None::<PostProcessorWrapper>);
        let places = Places::new(&inner, finish.as_mut());
        let inner = Inner::Library(Box::new(Library { split: inner, places, finish }));
        Ok(TextTokenizer { inner, path: path.to_path_buf() })
    }

    /// Every byte of a text is a token.
    pub fn bytes() -> Self {
        TextTokenizer { inner: Inner::Bytes, path: PathBuf::new() }
    }

    /// A token as the vocabulary writes it.
    pub fn piece(&self, id: u32) -> Option<String> {
        match &self.inner {
            Inner::Library(library) => library.split.id_to_token(id),
            Inner::Bytes => u8::try_from(id).ok().map(written),
        }
    }

    /// Tokenises `text` with the model's special tokens, keeping at most `limit` tokens.
    ///
    /// A cut keeps the special tokens at the end (BERT's `[SEP]`), as the model was trained with.
    ///
    /// # Errors
    /// [`ModelError::Tokenizer`] when the tokenizer fails on the text, or its parts do not fit together;
    /// [`ModelError::TextEmpty`] when nothing comes out.
    pub fn encode(&self, text: &str, limit: Option<usize>) -> Result<Tokens, ModelError> {
        let library = match &self.inner {
            Inner::Library(library) => library,
            Inner::Bytes => return in_bytes(text, limit),
        };
        let failed = |reason: String| ModelError::Tokenizer {
            path: self.path.clone(),
            reason: format!("it does not accept the text ({reason})"),
        };
        let (encoding, of) = caught(|| library.encode(text, limit))
            .map_err(failed)?
            .map_err(|error| failed(error.to_string()))?;
        if encoding.is_empty() {
            return Err(ModelError::TextEmpty);
        }
        let tokens = Tokens {
            ids: encoding.get_ids().to_vec(),
            type_ids: encoding.get_type_ids().to_vec(),
            spans: encoding.get_offsets().iter().map(|&(start, end)| start..end).collect(),
            pieces: encoding.get_tokens().to_vec(),
            of,
        };
        match tokens.fault(text) {
            None => Ok(tokens),
            Some(reason) => Err(ModelError::Tokenizer { path: self.path.clone(), reason }),
        }
    }
}

impl Library {
    /// The tokens of a text, at most `limit` of them, and how many the whole text has.
    fn encode(&self, text: &str, limit: Option<usize>) -> tokenizers::Result<(Encoding, usize)> {
        let mut encoding = self.places.correct(&self.split.encode(text, false)?, text);
        let added = self.finish.as_ref().map_or(0, |finish| finish.added_tokens(false));
        let of = encoding.len() + added;
        if let Some(limit) = limit {
            encoding.truncate(limit.saturating_sub(added), 0, TruncationDirection::Right);
            encoding.take_overflowing();
        }
        Ok(match &self.finish {
            Some(finish) => (finish.process(encoding, None, true)?, of),
            None => (encoding, of),
        })
    }
}

/// A byte as what it is, or as its number where that is no character.
fn written(byte: u8) -> String {
    match byte {
        b'\n' => "\\n".to_owned(),
        b' '..=b'~' => char::from(byte).to_string(),
        other => format!("\\x{other:02X}"),
    }
}

/// A token for every byte.
fn in_bytes(text: &str, limit: Option<usize>) -> Result<Tokens, ModelError> {
    let of = text.len();
    let bytes = &text.as_bytes()[..of.min(limit.unwrap_or(of))];
    if bytes.is_empty() {
        return Err(ModelError::TextEmpty);
    }
    Ok(Tokens {
        ids: bytes.iter().copied().map(u32::from).collect(),
        type_ids: vec![0; bytes.len()],
        spans: (0..bytes.len()).map(|at| at..at + 1).collect(),
        pieces: bytes.iter().copied().map(written).collect(),
        of,
    })
}
