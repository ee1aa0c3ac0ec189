//! Errors between a folder of weights and a posterior.

use std::path::PathBuf;

/// Why a model could not be opened or run.
///
/// Each message says what was found, where, and what to do; none of them needs the source to be
/// understood.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// A file or folder could not be read.
    #[error("cannot read `{}`: {source}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// The operating system's reason.
        source: std::io::Error,
    },

    /// There is nothing at the path, or nothing that is a model.
    #[error("`{}` is not a model: {reason}", path.display())]
    NotAModel {
        /// The path that was given.
        path: PathBuf,
        /// Part that is missing there, and what would be accepted.
        reason: String,
    },

    /// A file is not what its name says: truncated, damaged or hostile.
    #[error("`{}` is damaged: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The first thing in it that cannot be true.
        reason: String,
    },

    /// The file is well formed, but asks for something that is not implemented.
    #[error("`{}` needs something that is not supported: {reason}", path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// Feature that it needs, and what is supported.
        reason: String,
    },

    /// The tokenizer could not be built, or failed on the text.
    #[error("the tokenizer of `{}` fails: {reason}", path.display())]
    Tokenizer {
        /// The file it came from.
        path: PathBuf,
        /// Its own message.
        reason: String,
    },

    /// The text has more tokens than the model has positions.
    #[error(
        "the text is {tokens} tokens long and the model has positions for {context}; audit the \
         beginning of the text with `--tokens {context}`, or shorten it"
    )]
    TextTooLong {
        /// Tokens of the text, special ones included.
        tokens: usize,
        /// Positions of the model.
        context: usize,
    },

    /// The text has no tokens at all.
    #[error("the text is empty: it has no tokens, so there is nothing to attend to")]
    TextEmpty,

    /// The tokenizer gave an id the model has no embedding for.
    #[error(
        "token {id} lies outside the model's vocabulary of {vocabulary}; the tokenizer and the \
         weights do not belong together"
    )]
    TokenOutsideVocabulary {
        /// The id.
        id: u32,
        /// Rows of the embedding.
        vocabulary: usize,
    },

    /// The settings of a module make no module.
    #[error(transparent)]
    Configuration(#[from] marginals::Error),

    /// The engine refused the model, or whoever answers for the layer did.
    #[error("attention of layer {layer} failed: {reason}")]
    Attention {
        /// Index of the layer, from 0.
        layer: usize,
        /// The engine's own message.
        reason: String,
    },
}

impl ModelError {
    pub(crate) fn read(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| ModelError::Read { path, source }
    }
}
