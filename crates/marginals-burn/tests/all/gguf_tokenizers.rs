//! Tokenizers of GGUF files and of `tokenizer.model`.
//!
//! The files and the reference are written by `tools/reference/gguf_tokenizers.py`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use marginals_burn::checkpoint::gguf::GgufFile;
use marginals_burn::pretrained::tokens::{sentence_model, tokenizer_from_gguf};
use marginals_burn::{ModelError, TextTokenizer};
use serde::Deserialize;

use crate::common::workspace;

#[derive(Deserialize)]
struct Reference {
    texts: Vec<String>,
    /// Tokens of the texts, by file.
    ids: BTreeMap<String, Vec<Vec<u32>>>,
}

fn folder() -> PathBuf {
    workspace().join("crates/marginals-burn/tests/data/gguf_tokenizers")
}

fn recorded() -> Reference {
    serde_json::from_slice(&std::fs::read(folder().join("ids.json")).unwrap()).unwrap()
}

fn opened(name: &str) -> TextTokenizer {
    let path = folder().join(name);
    match name.ends_with(".gguf") {
        true => tokenizer_from_gguf(&GgufFile::open(&path).unwrap()).unwrap(),
        false => sentence_model(&path).unwrap(),
    }
}

#[test]
fn texts_are_read_as_by_the_packages_that_the_files_are_of() {
    let Reference { texts, ids } = recorded();
    assert_eq!(ids.len(), 20);
    for (name, of_texts) in ids {
        let tokenizer = opened(&name);
        for (text, expected) in texts.iter().zip(of_texts) {
            let tokens = tokenizer.encode(text, None).unwrap();
            assert_eq!(tokens.ids, expected, "{name}: {text:?} as {:?}", tokens.pieces);
        }
    }
}

/// A space that is put before the text is none of it, and the bytes of a character lie on it.
#[test]
fn pieces_of_sentences_lie_where_they_are() {
    let tokens = opened("spaced.gguf").encode("東 It", None).unwrap();
    let found: Vec<_> = tokens.pieces.iter().map(String::as_str).zip(tokens.spans).collect();
    let [(begin, ends), (space, before), rest @ ..] = &found[..] else { panic!("{found:?}") };
    assert_eq!((*begin, ends.is_empty(), *space), ("<s>", true, "▁"));
    assert!(before.is_empty(), "{before:?}");
    for (byte, (piece, span)) in "東".bytes().zip(rest) {
        assert_eq!((*piece, span.clone()), (&*format!("<0x{byte:02X}>"), 0..3));
    }
    assert_eq!(rest[3].1.start, 3);
    assert_eq!(rest.last().unwrap().1.end, 6);
}

#[test]
fn a_cut_tokenizer_model_is_refused() {
    let bytes = std::fs::read(folder().join("spaced.model")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.model");
    for length in (0..bytes.len()).step_by(97) {
        std::fs::write(&path, &bytes[..length]).unwrap();
        // A message ends where it likes; one without how it was trained is no byte-pair model.
        match sentence_model(&path) {
            Err(ModelError::Tokenizer { .. } | ModelError::Unsupported { .. }) => {}
            other => panic!("the first {length} bytes: {other:?}"),
        }
    }
}

/// Tokens that transformers adds come after the pieces, and a text may end with one.
#[test]
fn a_tokenizer_config_adds_to_a_tokenizer_model() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.model");
    std::fs::copy(self::folder().join("spaced.model"), &path).unwrap();
    let plain = sentence_model(&path).unwrap().encode("It is", None).unwrap();
    let config = r#"{
        "add_bos_token": false, "add_eos_token": true,
        "added_tokens_decoder": {
            "1": { "content": "<s>", "special": true },
            "400": { "content": "<|user|>", "special": true }
        }
    }"#;
    let write = |text: &str| {
        std::fs::write(folder.path().join("tokenizer_config.json"), text).unwrap();
    };
    write(config);
    let tokens = sentence_model(&path).unwrap().encode("<|user|>It is", None).unwrap();
    assert_eq!((tokens.ids[0], tokens.spans[0].clone()), (400, 0..8));
    assert_eq!(tokens.ids[1..tokens.len() - 1], plain.ids[1..]);
    assert_eq!(tokens.ids.last(), Some(&2));
    write(&config.replace("400", "500"));
    match sentence_model(&path) {
        Err(ModelError::Tokenizer { reason, .. }) => assert!(reason.contains("500"), "{reason}"),
        other => panic!("{other:?}"),
    }
}
