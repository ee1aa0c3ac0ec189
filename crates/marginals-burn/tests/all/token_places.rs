//! Places of tokens in the text, for tokenizers of every make.
//!
//! The reference is written by `tools/reference/token_places.py`, which lays the pieces along the text.

use std::ops::Range;

use marginals_burn::TextTokenizer;
use serde::Deserialize;
use serde_json::{Value as Json, json};

use crate::common::reference;

#[derive(Deserialize)]
struct Case {
    name: String,
    tokenizer: Json,
    texts: Vec<Text>,
}

#[derive(Deserialize)]
struct Text {
    text: String,
    ids: Vec<u32>,
    places: Vec<[usize; 2]>,
}

fn opened(tokenizer: &Json) -> TextTokenizer {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    std::fs::write(&path, tokenizer.to_string()).unwrap();
    TextTokenizer::open(&path).unwrap()
}

#[test]
fn tokens_lie_where_their_pieces_are_in_the_text() {
    let cases: Vec<Case> = reference("token_places.json");
    assert!(cases.len() >= 15);
    let (mut wrong, mut count) = (Vec::new(), 0);
    for case in &cases {
        let tokenizer = opened(&case.tokenizer);
        for Text { text, ids, places } in &case.texts {
            let tokens = tokenizer.encode(text, None).unwrap();
            assert_eq!(&tokens.ids, ids, "{}: {text}", case.name);
            assert_eq!(tokens.spans.len(), places.len());
            let expected: Vec<Range<usize>> =
                places.iter().map(|[start, end]| *start..*end).collect();
            count += expected.len();
            for ((piece, found), expected) in tokens.pieces.iter().zip(&tokens.spans).zip(&expected)
            {
                if found != expected {
                    let (found, expected) = (&text[found.clone()], &text[expected.clone()]);
                    wrong.push(format!("{}: {piece} is {expected:?}, not {found:?}", case.name));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {count} are wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// A cut text has the first tokens of the whole text, and the token that ends it.
#[test]
fn a_cut_text_has_the_places_of_the_whole() {
    let cases: Vec<Case> = reference("token_places.json");
    let case = cases.iter().find(|case| case.name == "BERT").unwrap();
    let tokenizer = opened(&case.tokenizer);
    for Text { text, .. } in &case.texts {
        let whole = tokenizer.encode(text, None).unwrap();
        let limit = 2.max(whole.len() / 2);
        let cut = tokenizer.encode(text, Some(limit)).unwrap();
        assert_eq!((cut.len(), cut.of), (limit, whole.len()));
        assert_eq!(cut.spans[..limit - 1], whole.spans[..limit - 1]);
        assert!(cut.spans[limit - 1].is_empty());
    }
}

/// Dropout is for training: two readings of a text are the same, and that of a file without it.
#[test]
fn a_tokenizer_with_dropout_reads_a_text_always_alike() {
    let mut cases: Vec<Case> = reference("token_places.json");
    let Case { tokenizer, texts, .. } = &mut cases[0];
    assert_eq!(tokenizer["model"]["type"], "BPE");
    tokenizer["model"]["dropout"] = json!(0.5);
    let tokenizer = opened(tokenizer);
    for Text { text, ids, .. } in texts {
        for _ in 0..8 {
            assert_eq!(&tokenizer.encode(text, None).unwrap().ids, ids);
        }
    }
}
