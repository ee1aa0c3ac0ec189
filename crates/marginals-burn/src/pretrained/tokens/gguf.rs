//! The byte-level BPE tokenizer stored inside a GGUF file.
//!
//! The file holds the vocabulary, the ranked merges, which tokens are control tokens, and the
//! *name* of the rule that splits text into words before merging (`tokenizer.ggml.pre`). The
//! rules themselves are not in the file; they are the ones the models were trained with.

use ahash::AHashMap;
use tokenizers::decoders::byte_level::ByteLevel;
use tokenizers::models::bpe::BPE;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{AddedToken, SplitDelimiterBehavior, Tokenizer};

use super::TextTokenizer;
use crate::caught::caught;
use crate::checkpoint::Checkpoint;
use crate::checkpoint::gguf::{GgufFile, Value};
use crate::error::ModelError;

/// Code of a control token (`<|endoftext|>`) and of one the user of the model added.
const CONTROL: i64 = 3;
const USER_DEFINED: i64 = 4;

/// Llama 3's splitting of text into words.
const LLAMA3_WORDS: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// The same with every digit on its own, as Qwen 2 does it.
const QWEN2_WORDS: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Builds the tokenizer that `file` carries.
///
/// # Errors
/// [`ModelError::Unsupported`] for a tokenizer that is not byte-level BPE or whose splitting rule
/// is not known, [`ModelError::Damaged`] when a part is missing, [`ModelError::Tokenizer`] when
/// the parts do not fit together.
pub fn tokenizer(file: &GgufFile) -> Result<TextTokenizer, ModelError> {
    caught(|| built(file)).unwrap_or_else(|reason| {
        Err(ModelError::Tokenizer {
            path: file.path().to_path_buf(),
            reason: format!("its parts do not fit together ({reason})"),
        })
    })
}

fn built(file: &GgufFile) -> Result<TextTokenizer, ModelError> {
    match file.text("tokenizer.ggml.model") {
        Some("gpt2") => {}
        Some(other) => {
            return Err(file.unsupported(format!(
                "its tokenizer is of the kind `{other}`; byte-level BPE (`gpt2`) is built"
            )));
        }
        None => return Err(file.damaged("it holds no tokenizer (`tokenizer.ggml.model`)".into())),
    }
    let failed = |error: tokenizers::Error| ModelError::Tokenizer {
        path: file.path().to_path_buf(),
        reason: format!("its vocabulary and merges do not fit together ({error})"),
    };

    let pieces = texts(file, "tokenizer.ggml.tokens")?;
    let mut vocabulary = AHashMap::with_capacity(pieces.len());
    for (id, piece) in (0u32..).zip(pieces) {
        if vocabulary.insert(piece.clone(), id).is_some() {
            return Err(file.damaged(format!("its vocabulary lists `{piece}` twice")));
        }
    }
    let mut merges = Vec::new();
    for merge in texts(file, "tokenizer.ggml.merges")? {
        let (left, right) = merge
            .split_once(' ')
            .ok_or_else(|| file.damaged(format!("the merge `{merge}` is not a pair")))?;
        merges.push((left.to_owned(), right.to_owned()));
    }
    let (words, ignore_merges) = word_splitting(file)?;
    let bpe = BPE::builder()
        .vocab_and_merges(vocabulary, merges)
        .ignore_merges(ignore_merges)
        .build()
        .map_err(failed)?;

    let mut tokenizer = Tokenizer::new(bpe);
    tokenizer.with_pre_tokenizer(Some(words));
    tokenizer.with_decoder(Some(ByteLevel::default()));
    if let Some(Value::Integers(types)) = file.metadata("tokenizer.ggml.token_type") {
        for (piece, kind) in pieces.iter().zip(types) {
            let token = AddedToken::from(piece.clone(), *kind == CONTROL);
            match *kind {
                CONTROL => tokenizer.add_special_tokens([token]).map_err(failed)?,
                USER_DEFINED => tokenizer.add_tokens([token]).map_err(failed)?,
                _ => 0,
            };
        }
    }
    if let Some(Value::Bool(true)) = file.metadata("tokenizer.ggml.add_bos_token") {
        add_beginning(file, &mut tokenizer, pieces)?;
    }
    TextTokenizer::new(tokenizer, file.path())
}

fn texts<'file>(file: &'file GgufFile, key: &str) -> Result<&'file [String], ModelError> {
    match file.metadata(key) {
        Some(Value::Texts(texts)) => Ok(texts),
        _ => Err(file.damaged(format!("its tokenizer has no `{key}`"))),
    }
}

/// The pre-tokenizer named by the file, and whether whole words in the vocabulary skip the merges.
fn word_splitting(file: &GgufFile) -> Result<(PreTokenizerWrapper, bool), ModelError> {
    let byte_level = |use_regex| ByteLevel::new(false, true, use_regex);
    let words = |pattern: &str| {
        let pattern = SplitPattern::Regex(pattern.to_owned());
        Split::new(pattern, SplitDelimiterBehavior::Isolated, false)
            .map(|split| {
                let parts = vec![split.into(), byte_level(false).into()];
                PreTokenizerWrapper::from(Sequence::new(parts))
            })
            .map_err(|error| ModelError::Tokenizer {
                path: file.path().to_path_buf(),
                reason: error.to_string(),
            })
    };
    Ok(match file.text("tokenizer.ggml.pre") {
        Some("gpt-2") => (byte_level(true).into(), false),
        Some("smollm") => {
            let parts = vec![Digits::new(true).into(), byte_level(true).into()];
            (Sequence::new(parts).into(), false)
        }
        Some("llama-bpe" | "llama3" | "llama-v3") => (words(LLAMA3_WORDS)?, true),
        Some("qwen2") => (words(QWEN2_WORDS)?, false),
        other => {
            return Err(file.unsupported(format!(
                "its tokenizer splits words by the rule `{}`; gpt-2, smollm, llama-bpe and qwen2 \
                 are known",
                other.unwrap_or("(none given)")
            )));
        }
    })
}

fn add_beginning(
    file: &GgufFile,
    tokenizer: &mut Tokenizer,
    pieces: &[String],
) -> Result<(), ModelError> {
    let id = file.size("tokenizer.ggml.bos_token_id")?;
    let piece = id.and_then(|id| pieces.get(id)).ok_or_else(|| {
        file.damaged("its beginning-of-text token is not in the vocabulary".into())
    })?;
    let number = u32::try_from(id.unwrap_or_default())
        .map_err(|_| file.damaged("its beginning-of-text token is no token id".into()))?;
    let template = TemplateProcessing::builder()
        .try_single(vec![piece.clone(), "$A".to_owned()])
        .map_err(|reason| ModelError::Tokenizer { path: file.path().to_path_buf(), reason })?
        .special_tokens(vec![(piece.clone(), number)])
        .build()
        .map_err(|error| ModelError::Tokenizer {
            path: file.path().to_path_buf(),
            reason: error.to_string(),
        })?;
    tokenizer.with_post_processor(Some(template));
    Ok(())
}
