//! Models to test with, and the references they are compared with.

pub mod differences;
pub mod recorded;

use std::path::PathBuf;

use marginals::question::{Entropy, Mean};
use marginals_burn::{Attend, Layer, PosteriorMean, Pretrained, Tokens};
use ndarray::Array4;
use serde::de::DeserializeOwned;

/// Opens `models/NAME`, or says loudly how to get it.
pub fn model(name: &str) -> Option<Pretrained> {
    let path = workspace().join("models").join(name);
    if !path.exists() {
        eprintln!("SKIPPED: models/{name} is missing; run `cargo xtask fetch {name}`");
        return None;
    }
    Some(Pretrained::open(&path).expect("a fetched model opens"))
}

/// The root of the workspace.
pub fn workspace() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Reads a reference written by a script of `tools/reference`.
pub fn reference<T: DeserializeOwned>(name: &str) -> T {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name);
    let text = std::fs::read_to_string(&path).expect("references are committed");
    serde_json::from_str(&text).expect("the reference has the fields of the test")
}

/// log P(next token | the text), one entry per vocabulary item, in nats.
pub fn next_token(model: &Pretrained, tokens: &Tokens) -> Vec<f64> {
    let hidden = model.transformer.run(tokens, &mut PosteriorMean).unwrap();
    let last = hidden.narrow(0, tokens.len() - 1, 1);
    let scores = model.transformer.logits(last).unwrap().expect("a language model");
    let scores: Vec<f32> = scores.into_data().try_into_vec().unwrap();
    let scores: Vec<f64> = scores.into_iter().map(f64::from).collect();
    let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = scores.iter().map(|score| (score - largest).exp()).sum();
    scores.into_iter().map(|score| score - largest - sum.ln()).collect()
}

/// Plain inference that also keeps the entropies of every row.
#[derive(Default)]
pub struct Entropies {
    /// `[layer][head][query]`, in nats.
    pub entropy: Vec<Vec<Vec<f64>>>,
}

impl Attend for Entropies {
    fn attend(&mut self, layer: &Layer<'_>) -> Result<Array4<f32>, String> {
        let (mean, entropy) =
            layer.ask((Mean(layer.values), Entropy)).map_err(|error| error.to_string())?;
        let heads = entropy.outer_iter().flat_map(|batch| {
            batch
                .outer_iter()
                .map(|head| head.iter().copied().map(f64::from).collect())
                .collect::<Vec<_>>()
        });
        self.entropy.push(heads.collect());
        Ok(mean)
    }
}
