//! Whole models against Hugging Face's implementation of them on the same weights.
//!
//! The references are written by `tools/reference/minilm.py` and `tools/reference/smollm2.py`.

use std::collections::BTreeMap;

use crate::common::{Entropies, model, next_token, reference, workspace};
use marginals_burn::{PosteriorMean, Pretrained, Tokens, Transformer};
use safetensors::SafeTensors;
use serde::Deserialize;
use serde_json::json;

#[derive(Deserialize)]
struct MiniLm {
    sentences: Vec<Sentence>,
    first_sentence_entropy: Vec<Vec<Vec<f64>>>,
    bundled_ids: Vec<u32>,
    bundled_mean_entropy: Vec<Vec<f64>>,
}

#[derive(Deserialize)]
struct Sentence {
    text: String,
    ids: Vec<u32>,
    embedding: Vec<f64>,
}

#[derive(Deserialize)]
struct SmolLm2 {
    prompts: Vec<Prompt>,
    bundled_ids: Vec<u32>,
    bundled_tokens: usize,
    bundled_mean_entropy: Vec<Vec<f64>>,
}

#[derive(Deserialize)]
struct Prompt {
    text: String,
    ids: Vec<u32>,
    likeliest: String,
    next: Vec<usize>,
    log_probability: Vec<f64>,
}

fn bundled_text() -> String {
    let path = workspace().join("crates/marginals-cli/data/pride-and-prejudice.txt");
    std::fs::read_to_string(path).expect("the bundled text is committed")
}

fn largest_difference<'a>(
    found: impl IntoIterator<Item = &'a f64>,
    expected: impl IntoIterator<Item = &'a f64>,
) -> f64 {
    let (found, expected): (Vec<_>, Vec<_>) =
        (found.into_iter().collect(), expected.into_iter().collect());
    assert_eq!(found.len(), expected.len());
    found.iter().zip(expected).map(|(a, b)| (*a - b).abs()).fold(0.0, f64::max)
}

fn head_means(entropy: &[Vec<Vec<f64>>]) -> Vec<f64> {
    let mean = |rows: &Vec<f64>| rows.iter().sum::<f64>() / rows.len() as f64;
    entropy.iter().flatten().map(mean).collect()
}

/// The mean entropy of every head over a text.
fn check_head_means(model: &Pretrained, tokens: &Tokens, expected: &[Vec<f64>]) {
    let mut rows = Entropies::default();
    model.run(tokens, &mut rows).unwrap();
    let difference = largest_difference(&head_means(&rows.entropy), expected.iter().flatten());
    assert!(difference < 1e-4, "{difference:e}");
}

/// The token ids and the embeddings of the sentences.
fn check_embeddings(model: &Pretrained, expected: &MiniLm) {
    let Transformer::Published(bert) = &model.transformer else { panic!("MiniLM is a BERT") };
    for sentence in &expected.sentences {
        let tokens = model.tokenizer.encode(&sentence.text, None).unwrap();
        assert_eq!(tokens.ids, sentence.ids, "{}", sentence.text);
        let embedding = bert.sentence_embedding(&tokens, &mut PosteriorMean).unwrap();
        let embedding: Vec<f64> = embedding.into_iter().map(f64::from).collect();
        let difference = largest_difference(&embedding, &sentence.embedding);
        eprintln!("embedding of {:?}: off by {difference:e}", sentence.text);
        assert!(difference < 1e-5, "{}: {difference:e}", sentence.text);
    }
}

#[test]
fn minilm_embeds_sentences_as_the_reference_does() {
    let Some(model) = model("minilm") else { return };
    let expected: MiniLm = reference("minilm.json");
    check_embeddings(&model, &expected);
}

#[test]
fn minilm_entropies_are_those_of_the_full_matrices() {
    let Some(model) = model("minilm") else { return };
    let expected: MiniLm = reference("minilm.json");

    let tokens = model.tokenizer.encode(&expected.sentences[0].text, None).unwrap();
    let mut rows = Entropies::default();
    model.run(&tokens, &mut rows).unwrap();
    let difference = largest_difference(
        rows.entropy.iter().flatten().flatten(),
        expected.first_sentence_entropy.iter().flatten().flatten(),
    );
    assert!(difference < 1e-4, "{difference:e}");

    let tokens = model.tokenizer.encode(&bundled_text(), None).unwrap();
    assert_eq!(tokens.ids, expected.bundled_ids);
    check_head_means(&model, &tokens, &expected.bundled_mean_entropy);
}

/// MiniLM as the first BERTs were published and as large models are: the names of their time, an encoder
/// under a prefix, several files with an index, no tokenizer but the vocabulary, and a configuration that
/// does not say what it is. The same numbers, so the same embeddings.
#[test]
fn minilm_reads_the_same_as_older_files_have_it() {
    if model("minilm").is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let read = |name: &str| std::fs::read(workspace().join("models/minilm").join(name)).unwrap();
    let weights = read("model.safetensors");
    let weights = SafeTensors::deserialize(&weights).unwrap();
    let older = |name: &str| {
        let name = name.replace("LayerNorm.weight", "LayerNorm.gamma");
        format!("module.bert.{}", name.replace("LayerNorm.bias", "LayerNorm.beta"))
    };
    let mut holders = BTreeMap::new();
    for part in 0..3 {
        let file = format!("model-{:05}-of-00003.safetensors", part + 1);
        let own = weights.tensors().into_iter().enumerate().filter(|(at, _)| at % 3 == part);
        let own: Vec<_> = own.map(|(_, (name, view))| (older(&name), view)).collect();
        holders.extend(own.iter().map(|(name, _)| (name.clone(), file.clone())));
        let bytes = safetensors::serialize(own, None).unwrap();
        std::fs::write(folder.path().join(file), bytes).unwrap();
    }
    let write = |name: &str, text: String| std::fs::write(folder.path().join(name), text).unwrap();
    write("model.safetensors.index.json", json!({ "weight_map": holders }).to_string());
    let mut config: serde_json::Value = serde_json::from_slice(&read("config.json")).unwrap();
    for key in ["model_type", "architectures", "position_embedding_type"] {
        config.as_object_mut().unwrap().remove(key);
    }
    write("config.json", config.to_string());
    let tokenizer: serde_json::Value = serde_json::from_slice(&read("tokenizer.json")).unwrap();
    let vocabulary = tokenizer["model"]["vocab"].as_object().unwrap();
    let mut pieces: Vec<(&String, u64)> =
        vocabulary.iter().map(|(piece, id)| (piece, id.as_u64().unwrap())).collect();
    pieces.sort_unstable_by_key(|(_, id)| *id);
    write("vocab.txt", pieces.iter().map(|(piece, _)| format!("{piece}\n")).collect());

    let model = Pretrained::open(folder.path()).unwrap();
    let expected: MiniLm = reference("minilm.json");
    check_embeddings(&model, &expected);
    let tokens = model.tokenizer.encode(&bundled_text(), None).unwrap();
    assert_eq!(tokens.ids, expected.bundled_ids);
}

#[test]
fn smollm2_continues_prompts_as_the_reference_does() {
    let Some(model) = model("smollm2") else { return };
    let expected: SmolLm2 = reference("smollm2.json");
    assert_eq!(expected.prompts[0].likeliest, " Paris");
    for prompt in &expected.prompts {
        let tokens = model.tokenizer.encode(&prompt.text, None).unwrap();
        assert_eq!(tokens.ids, prompt.ids, "{}", prompt.text);
        let next = next_token(&model, &tokens);
        let likeliest =
            (0..next.len()).max_by(|a, b| next[*a].total_cmp(&next[*b])).expect("a vocabulary");
        assert_eq!(likeliest, prompt.next[0], "{}", prompt.text);
        let found: Vec<f64> = prompt.next.iter().map(|id| next[*id]).collect();
        let difference = largest_difference(&found, &prompt.log_probability);
        eprintln!("log-probabilities after {:?}: off by {difference:e}", prompt.text);
        assert!(difference < 1e-2, "{}: {difference:e}", prompt.text);
    }
}

#[test]
fn smollm2_entropies_are_those_of_the_full_matrices() {
    let Some(model) = model("smollm2") else { return };
    let expected: SmolLm2 = reference("smollm2.json");
    let whole = model.tokenizer.encode(&bundled_text(), None).unwrap();
    assert_eq!(whole.ids, expected.bundled_ids);
    let tokens = model.tokenizer.encode(&bundled_text(), Some(expected.bundled_tokens)).unwrap();
    assert_eq!(tokens.len(), expected.bundled_tokens);
    check_head_means(&model, &tokens, &expected.bundled_mean_entropy);
}
