//! Text to tokens: ids for the model, and the place of each in the text for the reader.

mod gguf;

use std::ops::Range;
use std::path::{Path, PathBuf};

use tokenizers::{Tokenizer, TruncationDirection};

pub use self::gguf::tokenizer as tokenizer_from_gguf;
use crate::error::ModelError;

/// A tokenised text.
#[derive(Clone, Debug, PartialEq)]
pub struct Tokens {
    /// Vocabulary index of each token.
    pub ids: Vec<u32>,
    /// Which sentence of a pair each token belongs to (BERT); all 0 for one text.
    pub type_ids: Vec<u32>,
    /// The bytes of the text each token covers; empty for tokens that were added.
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
    inner: Tokenizer,
    path: PathBuf,
}

impl TextTokenizer {
    /// Reads a `tokenizer.json`.
    ///
    /// Truncation and padding that the file asks for are switched off: an audit must see the
    /// text as it is, and padding would put keys into the posterior that nobody wrote.
    ///
    /// # Errors
    /// [`ModelError::Read`], or [`ModelError::Tokenizer`] when the file is not a tokenizer.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        let bytes = std::fs::read(path).map_err(ModelError::read(path))?;
        let inner = Tokenizer::from_bytes(&bytes).map_err(|error| ModelError::Tokenizer {
            path: path.to_path_buf(),
            reason: format!("it is not a readable tokenizer.json ({error})"),
        })?;
        Self::new(inner, path)
    }

    pub(crate) fn new(mut inner: Tokenizer, path: &Path) -> Result<Self, ModelError> {
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|error| ModelError::Tokenizer {
            path: path.to_path_buf(),
            reason: error.to_string(),
        })?;
        Ok(TextTokenizer { inner, path: path.to_path_buf() })
    }

    /// Tokenises `text` with the model's special tokens, keeping at most `limit` tokens.
    ///
    /// A cut keeps the special tokens at the end (BERT's `[SEP]`), as the model was trained with.
    ///
    /// # Errors
    /// [`ModelError::Tokenizer`] when the tokenizer fails on the text, [`ModelError::TextEmpty`]
    /// when nothing comes out.
    pub fn encode(&self, text: &str, limit: Option<usize>) -> Result<Tokens, ModelError> {
        let failed = |error: tokenizers::Error| ModelError::Tokenizer {
            path: self.path.clone(),
            reason: format!("it does not accept the text ({error})"),
        };
        let mut encoding = self.inner.encode(text, false).map_err(failed)?;
        let added = self
            .inner
            .get_post_processor()
            .map_or(0, |processor| tokenizers::PostProcessor::added_tokens(processor, false));
        let of = encoding.len() + added;
        if let Some(limit) = limit {
            encoding.truncate(limit.saturating_sub(added), 0, TruncationDirection::Right);
            encoding.take_overflowing();
        }
        let encoding = self.inner.post_process(encoding, None, true).map_err(failed)?;
        if encoding.is_empty() {
            return Err(ModelError::TextEmpty);
        }
        Ok(Tokens {
            ids: encoding.get_ids().to_vec(),
            type_ids: encoding.get_type_ids().to_vec(),
            spans: encoding.get_offsets().iter().map(|&(start, end)| start..end).collect(),
            pieces: encoding.get_tokens().to_vec(),
            of,
        })
    }
}
