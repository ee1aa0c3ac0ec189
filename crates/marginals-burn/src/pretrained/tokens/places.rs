//! Places in the text of the tokens that a tokenizer makes of it.
//!
//! The library follows characters through normalisers and cuts. Three things are left to do here:
//!
//! - A mark that a normaliser merges into its letter, or drops, belongs to no token there. It belongs to
//!   the token of its letter.
//! - A space that a tokenizer puts before the text lies, there, on the first character. A token of such
//!   spaces alone covers nothing of the text.
//! - Post-processors that leave spaces out of places count them in the vocabulary's piece, and are off by
//!   one wherever a space of the piece is none of the text. Spaces are looked for in the text instead, and
//!   a token of spaces alone keeps them: an empty place means that there is nothing of the token in the text.

use std::ops::Range;

use ahash::AHashSet;
use tokenizers::pre_tokenizers::metaspace::PrependScheme;
use tokenizers::{
    Encoding, NormalizerWrapper, PostProcessorWrapper, PreTokenizerWrapper, Tokenizer,
};
use unicode_segmentation::GraphemeCursor;

/// Parts of a tokenizer that decide where its tokens lie.
#[derive(Clone, Debug)]
pub(super) struct Places {
    /// Whether a space that is none of the text may be put before it.
    space_first: bool,
    /// Whether spaces at the ends of a token are no part of its place.
    trims: bool,
    /// Tokens that are found in the text before it is cut: what follows one is read as a beginning.
    added: AHashSet<u32>,
}

impl Places {
    /// The parts of `tokenizer`; its post-processor is told to leave places as they are.
    pub fn new(tokenizer: &Tokenizer, finish: Option<&mut PostProcessorWrapper>) -> Self {
        let normalizer = tokenizer.get_normalizer();
        let cut = tokenizer.get_pre_tokenizer();
        Places {
            space_first: normalizer.is_some_and(prepends) || cut.is_some_and(puts_space_first),
            trims: finish.is_some_and(stop_trimming),
            added: tokenizer.get_added_tokens_decoder().into_keys().collect(),
        }
    }

    /// The encoding of `text` with its tokens where they are.
    pub fn correct(&self, encoding: &Encoding, text: &str) -> Encoding {
        let ids = encoding.get_ids();
        let pieces = encoding.get_tokens();
        let mut places: Vec<Range<usize>> =
            encoding.get_offsets().iter().map(|&(start, end)| start..end).collect();
        if self.space_first {
            for at in 0..places.len() {
                let first = at == 0 || self.added.contains(&ids[at - 1]);
                let shared = places
                    .get(at + 1)
                    .is_some_and(|next| next.start == places[at].start && !next.is_empty());
                if first && shared && pieces[at].chars().all(|c| SPACES.contains(&c)) {
                    places[at].end = places[at].start;
                }
            }
        }
        // Backwards, to know the next token that reaches further.
        let mut further = text.len();
        for at in (0..places.len()).rev() {
            let Range { start, end } = places[at];
            if start < end && end < further {
                places[at].end = end_of_character(text, end).min(further);
            }
            if at > 0 && places[at - 1].end < end {
                further = start;
            }
        }
        if self.trims {
            places.iter_mut().for_each(|place| trim(place, text));
        }
        Encoding::new(
            ids.to_vec(),
            encoding.get_type_ids().to_vec(),
            pieces.to_vec(),
            encoding.get_word_ids().to_vec(),
            places.into_iter().map(|place| (place.start, place.end)).collect(),
            encoding.get_special_tokens_mask().to_vec(),
            encoding.get_attention_mask().to_vec(),
            Vec::new(),
            Default::default(),
        )
    }
}

/// A space as SentencePiece and as byte-level vocabularies write it.
const SPACES: [char; 2] = ['▁', 'Ġ'];

fn prepends(normalizer: &NormalizerWrapper) -> bool {
    match normalizer {
        NormalizerWrapper::Prepend(_) => true,
        NormalizerWrapper::Sequence(parts) => parts.as_ref().iter().any(prepends),
        _ => false,
    }
}

fn puts_space_first(cut: &PreTokenizerWrapper) -> bool {
    match cut {
        PreTokenizerWrapper::ByteLevel(bytes) => bytes.add_prefix_space,
        PreTokenizerWrapper::Metaspace(spaces) => spaces.prepend_scheme != PrependScheme::Never,
        PreTokenizerWrapper::Sequence(parts) => parts.as_ref().iter().any(puts_space_first),
        _ => false,
    }
}

/// Has a post-processor leave places as they are, and says whether it would have trimmed them.
fn stop_trimming(finish: &mut PostProcessorWrapper) -> bool {
    match finish {
        PostProcessorWrapper::ByteLevel(bytes) => std::mem::take(&mut bytes.trim_offsets),
        PostProcessorWrapper::Roberta(roberta) => std::mem::take(&mut roberta.trim_offsets),
        PostProcessorWrapper::Sequence(parts) => {
            // Each is told, so that none is left out of the search once one has answered.
            parts.as_mut().iter_mut().fold(false, |trims, part| stop_trimming(part) | trims)
        }
        _ => false,
    }
}

/// Where the character that a reader sees across `at` ends: `at` itself, if one ends there.
fn end_of_character(text: &str, at: usize) -> usize {
    let mut cursor = GraphemeCursor::new(at, text.len(), true);
    match cursor.is_boundary(text, 0) {
        Ok(false) => cursor.next_boundary(text, 0).ok().flatten().unwrap_or(at),
        _ => at,
    }
}

fn trim(place: &mut Range<usize>, text: &str) {
    let Some(covered) = text.get(place.clone()) else { return };
    let trimmed = covered.trim_matches(' ');
    if !trimmed.is_empty() {
        place.start += covered.len() - covered.trim_start_matches(' ').len();
        place.end = place.start + trimmed.len();
    }
}
