//! The tokenizer stored inside a GGUF file.
//!
//! The file holds the vocabulary, which tokens are control tokens, and either ranked merges (byte-level
//! BPE, `gpt2`) or scores (SentencePiece's BPE, `llama`). What it leaves out is as llama.cpp has it.

mod words;

use ahash::AHashMap;
use tokenizers::models::bpe::BPE;
use tokenizers::normalizers::NFC;
use tokenizers::{AddedToken, Tokenizer};

use self::words::Rule;
use super::TextTokenizer;
use super::ends::{self, Numbered};
use super::sentence_pieces::{self, Kind, Piece};
use crate::caught::caught;
use crate::checkpoint::Checkpoint;
use crate::checkpoint::gguf::{GgufFile, Value};
use crate::error::ModelError;

const TOKENS: &str = "tokenizer.ggml.tokens";
const TYPES: &str = "tokenizer.ggml.token_type";

/// Builds the tokenizer that `file` carries.
///
/// # Errors
/// [`ModelError::Unsupported`] for a tokenizer of another kind or whose splitting rule is not known,
/// [`ModelError::Damaged`] when a part is missing, [`ModelError::Tokenizer`] when the parts do not fit
/// together.
pub fn tokenizer(file: &GgufFile) -> Result<TextTokenizer, ModelError> {
    let reason = |reason: String| ModelError::Tokenizer {
        path: file.path().to_path_buf(),
        reason: format!("its parts do not fit together ({reason})"),
    };
    let built = || {
        match file.text("tokenizer.ggml.model") {
        Some("gpt2") => byte_level(file),
        Some("llama") => scored(file),
        Some(other) => Err(file.unsupported(format!(
            "its tokenizer is of the kind `{other}`; byte-level BPE (`gpt2`) and SentencePiece's BPE \
             (`llama`) are read"
        ))),
        None => Err(file.damaged("it holds no tokenizer (`tokenizer.ggml.model`)".into())),
    }
    };
    let tokenizer = caught(built).unwrap_or_else(|panic| Err(reason(panic)))?;
    TextTokenizer::new(tokenizer, file.path())
}

/// Error of the library where parts do not fit together.
fn unfit(file: &GgufFile) -> impl Fn(tokenizers::Error) -> ModelError {
    |error| ModelError::Tokenizer {
        path: file.path().to_path_buf(),
        reason: format!("its vocabulary and what it is merged by do not fit together ({error})"),
    }
}

fn byte_level(file: &GgufFile) -> Result<Tokenizer, ModelError> {
    let name = file.text("tokenizer.ggml.pre").unwrap_or("(none given)");
    let rule = Rule::named(name).ok_or_else(|| {
        let known = Vec::from_iter(Rule::names()).join(", ");
        file.unsupported(format!(
            "its tokenizer splits words by the rule `{name}`; {known} are known"
        ))
    })?;
    let pieces = texts(file, TOKENS)?;
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
    let kinds = kinds(file, pieces.len())?;
    let built = || -> tokenizers::Result<Tokenizer> {
        let model = BPE::builder().vocab_and_merges(vocabulary, merges);
        let mut tokenizer = Tokenizer::new(model.ignore_merges(rule.whole_words).build()?);
        tokenizer.with_pre_tokenizer(Some(rule.cut()?));
        if rule.composes {
            tokenizer.with_normalizer(Some(NFC))?;
        }
        // All at once: what looks for them in a text is made anew each time.
        let (mut special, mut found) = (Vec::new(), Vec::new());
        for (piece, kind) in pieces.iter().zip(kinds.into_iter().flatten()) {
            let token = |special| AddedToken::from(piece.clone(), special).normalized(false);
            match kind {
                Kind::Control => special.push(token(true)),
                Kind::UserDefined => found.push(token(false)),
                _ => {}
            }
        }
        tokenizer.add_special_tokens(special)?;
        tokenizer.add_tokens(found)?;
        Ok(tokenizer)
    };
    let mut tokenizer = built().map_err(unfit(file))?;
    let first = end(file, BEGINNING, rule.begins, None, pieces)?;
    let last = end(file, END, false, None, pieces)?;
    ends::set(&mut tokenizer, first, last).map_err(unfit(file))?;
    Ok(tokenizer)
}

fn scored(file: &GgufFile) -> Result<Tokenizer, ModelError> {
    let texts = texts(file, TOKENS)?;
    let scores = match file.metadata("tokenizer.ggml.scores") {
        Some(Value::Floats(scores)) if scores.len() == texts.len() => scores,
        Some(_) => return Err(file.damaged("it has not a score for each of its pieces".into())),
        None => {
            return Err(file.unsupported(
                "its tokenizer is SentencePiece's and has no scores (`tokenizer.ggml.scores`), by \
                 which pieces are merged"
                    .into(),
            ));
        }
    };
    let Some(kinds) = kinds(file, texts.len())? else {
        return Err(file.unsupported(format!(
            "its tokenizer does not say which pieces stand for bytes and which for no text (`{TYPES}`); \
             convert the model again"
        )));
    };
    let pieces: Vec<Piece> = (texts.iter().zip(scores).zip(kinds))
        .map(|((text, &score), kind)| Piece { text: text.clone(), score, kind })
        .collect();
    let space_first = file.truth("tokenizer.ggml.add_space_prefix").unwrap_or(true);
    let mut tokenizer = sentence_pieces::tokenizer(&pieces, space_first).map_err(unfit(file))?;
    let first = end(file, BEGINNING, true, Some(1), texts)?;
    let last = end(file, END, false, Some(2), texts)?;
    ends::set(&mut tokenizer, first, last).map_err(unfit(file))?;
    Ok(tokenizer)
}

fn texts<'file>(file: &'file GgufFile, key: &str) -> Result<&'file [String], ModelError> {
    match file.metadata(key) {
        Some(Value::Texts(texts)) => Ok(texts),
        _ => Err(file.damaged(format!("its tokenizer has no `{key}`"))),
    }
}

/// Purpose of each of `count` pieces, where the file says so.
fn kinds(file: &GgufFile, count: usize) -> Result<Option<Vec<Kind>>, ModelError> {
    let codes = match file.metadata(TYPES) {
        None => return Ok(None),
        Some(Value::Integers(codes)) if codes.len() == count => codes,
        Some(_) => return Err(file.damaged("it has not a type for each of its pieces".into())),
    };
    // What has no type is a piece like any other.
    let kind = |code: &i64| match code {
        0 => Ok(Kind::Normal),
        code => Kind::from_code(*code)
            .ok_or_else(|| file.damaged(format!("`{TYPES}` has the unknown type {code}"))),
    };
    codes.iter().map(kind).collect::<Result<_, _>>().map(Some)
}

/// Keys that say whether there is a token at an end of the text, and which.
type EndKeys = (&'static str, &'static str);

const BEGINNING: EndKeys = ("tokenizer.ggml.add_bos_token", "tokenizer.ggml.bos_token_id");
const END: EndKeys = ("tokenizer.ggml.add_eos_token", "tokenizer.ggml.eos_token_id");

/// The token at an end of the text, if there is one, with what holds where the file says nothing.
fn end(
    file: &GgufFile,
    (is_added, which): EndKeys,
    usually: bool,
    usual: Option<usize>,
    pieces: &[String],
) -> Result<Option<Numbered>, ModelError> {
    if !file.truth(is_added).unwrap_or(usually) {
        return Ok(None);
    }
    let id = file.size(which)?.or(usual).ok_or_else(|| {
        file.damaged(format!("its texts have a token at an end, and no `{which}` says which"))
    })?;
    let piece = pieces.get(id).zip(u32::try_from(id).ok());
    let (piece, id) = piece.ok_or_else(|| {
        file.damaged(format!("`{which}` is {id}, beyond its {} pieces", pieces.len()))
    })?;
    Ok(Some((piece.clone(), id)))
}
