//! SentencePiece's byte-pair tokenizers, those of Llama 2, Mistral, Gemma and Phi-3.
//!
//! Kudo and Richardson, *SentencePiece* (2018). A vocabulary has a score for each piece. A text begins as
//! its characters, spaces written `▁`, and the two neighbours that make up the piece of the best score are
//! merged until no two do. The library merges by a list of pairs, the first that fits first: every way in
//! which two pieces make up a third, the best third first.

use ahash::AHashMap;
use tokenizers::models::bpe::BPE;
use tokenizers::normalizers::{NormalizerWrapper, Prepend, Replace, Sequence};
use tokenizers::{AddedToken, Tokenizer};

/// An entry of a vocabulary.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Piece {
    pub text: String,
    pub score: f64,
    pub kind: Kind,
}

/// Purpose of a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Normal,
    /// Stands for what no piece does.
    Unknown,
    /// Stands for no text.
    Control,
    /// Found in a text before anything is merged.
    UserDefined,
    Unused,
    /// A single byte, `<0x0A>`, of a character that no piece has.
    Byte,
}

impl Kind {
    /// The kind with this number in SentencePiece's files and in GGUF.
    pub fn from_code(code: i64) -> Option<Self> {
        Some(match code {
            1 => Self::Normal,
            2 => Self::Unknown,
            3 => Self::Control,
            4 => Self::UserDefined,
            5 => Self::Unused,
            6 => Self::Byte,
            _ => return None,
        })
    }
}

/// The tokenizer of these pieces, their numbers being their places in the list; with `space_first`, it reads
/// every text as if a space stood before it.
///
/// # Errors
/// Two pieces that are alike, or what the library says.
pub(super) fn tokenizer(pieces: &[Piece], space_first: bool) -> tokenizers::Result<Tokenizer> {
    let mut vocabulary = AHashMap::with_capacity(pieces.len());
    for (id, piece) in (0u32..).zip(pieces) {
        if vocabulary.insert(piece.text.clone(), id).is_some() {
            return Err(format!("its vocabulary lists `{}` twice", piece.text).into());
        }
    }
    let merges = merges(pieces, &vocabulary, space_first);
    let every_byte = (0..=255u8).all(|byte| vocabulary.contains_key(&format!("<0x{byte:02X}>")));
    let mut model = BPE::builder().fuse_unk(true).byte_fallback(every_byte);
    if let Some(unknown) = pieces.iter().find(|piece| piece.kind == Kind::Unknown) {
        model = model.unk_token(unknown.text.clone());
    }
    let model = model.vocab_and_merges(vocabulary, merges).build()?;

    let mut tokenizer = Tokenizer::new(model);
    let spaces = NormalizerWrapper::from(Replace::new(" ", SPACE)?);
    let first = space_first.then(|| NormalizerWrapper::from(Prepend::new(SPACE.to_owned())));
    tokenizer.with_normalizer(Some(Sequence::new(first.into_iter().chain([spaces]).collect())))?;
    // All at once: what looks for them in a text is made anew each time.
    let (mut special, mut found) = (Vec::new(), Vec::new());
    for piece in pieces {
        let token = |special| AddedToken::from(piece.text.clone(), special);
        match piece.kind {
            Kind::Control | Kind::Unknown => special.push(token(true)),
            Kind::UserDefined if !merged(piece, space_first) => {
                // Its spaces are those of the text, or written as the vocabulary writes them.
                found.push(token(false).normalized(piece.text.contains(SPACE)));
            }
            _ => {}
        }
    }
    tokenizer.add_special_tokens(special)?;
    tokenizer.add_tokens(found)?;
    Ok(tokenizer)
}

const SPACE: &str = "▁";

/// Whether a piece is put together from others. Those that are found in the text as they are, are not; but
/// where a space is put before what is looked for, runs of spaces cannot be found.
fn merged(piece: &Piece, space_first: bool) -> bool {
    match piece.kind {
        Kind::Normal => true,
        Kind::UserDefined => space_first && piece.text.contains(SPACE),
        _ => false,
    }
}

/// Every way in which two pieces make up a third: by the score of the third, then the longer left part.
fn merges(
    pieces: &[Piece],
    vocabulary: &AHashMap<String, u32>,
    space_first: bool,
) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for piece in pieces.iter().filter(|piece| merged(piece, space_first)) {
        for (middle, _) in piece.text.char_indices().skip(1) {
            let (left, right) = piece.text.split_at(middle);
            if vocabulary.contains_key(left) && vocabulary.contains_key(right) {
                found.push((piece.score, middle, left, right));
            }
        }
    }
    // Stable: pieces of one score stay in the order of the vocabulary.
    found.sort_by(|one, other| other.0.total_cmp(&one.0).then(other.1.cmp(&one.1)));
    found.into_iter().map(|(_, _, left, right)| (left.to_owned(), right.to_owned())).collect()
}
