//! Models to test with, and a plain attention to compare the engine's with.

// Each test file uses some of these.
#![allow(dead_code)]

use std::path::PathBuf;

use marginals_burn::{Attend, Layer, Pretrained, Visible};
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

/// Softmax attention one row at a time in `f64`, by the definition.
#[derive(Default)]
pub struct PlainRows {
    /// `[layer][head][query]`, in nats.
    pub entropy: Vec<Vec<Vec<f64>>>,
}

impl Attend for PlainRows {
    fn attend(&mut self, layer: &Layer<'_>) -> Result<Array4<f32>, String> {
        let (_, heads, nodes, dim) = layer.queries.dim();
        let group = heads / layer.keys.dim().1;
        let mut mean = Array4::zeros((1, heads, nodes, dim));
        let mut layer_entropy = Vec::new();
        for head in 0..heads {
            let mut head_entropy = Vec::new();
            for query in 0..nodes {
                let visible = match layer.visible {
                    Visible::All => nodes,
                    Visible::Before => query + 1,
                };
                let scores: Vec<f64> = (0..visible)
                    .map(|key| {
                        (0..dim)
                            .map(|d| {
                                f64::from(layer.queries[[0, head, query, d]])
                                    * f64::from(layer.keys[[0, head / group, key, d]])
                            })
                            .sum::<f64>()
                            * f64::from(layer.scale)
                    })
                    .collect();
                let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let sum: f64 = scores.iter().map(|score| (score - largest).exp()).sum();
                let log_partition = largest + sum.ln();
                let mut entropy = 0.0;
                for (key, score) in scores.iter().enumerate() {
                    let log_probability = score - log_partition;
                    let probability = log_probability.exp();
                    entropy -= probability * log_probability;
                    for d in 0..dim {
                        mean[[0, head, query, d]] += (probability
                            * f64::from(layer.values[[0, head / group, key, d]]))
                            as f32;
                    }
                }
                head_entropy.push(entropy);
            }
            layer_entropy.push(head_entropy);
        }
        self.entropy.push(layer_entropy);
        Ok(mean)
    }
}
