//! Tiny random models of every family against Hugging Face's implementation in double precision.
//!
//! The models and the references are written by `tools/reference/families.py`.

use std::fs;
use std::path::{Path, PathBuf};

use crate::common::workspace;
use marginals::question::{Entropy, MaxProbability, Mean};
use marginals_burn::{Attend, Layer, Tokens, Transformer, Visible};
use ndarray::{Array4, s};
use safetensors::SafeTensors;

/// Largest error of a number x relative to 1 + |x|.
const TOLERANCE: f64 = 1e-5;

/// Folder of the recorded models.
pub fn folder() -> PathBuf {
    workspace().join("crates/marginals-burn/tests/data/families")
}

/// Numbers that the reference recorded.
pub struct Expected(Vec<u8>);

impl Expected {
    pub fn read(folder: &Path) -> Self {
        Self(fs::read(folder.join("expected.safetensors")).unwrap())
    }

    fn numbers(&self, name: &str) -> Option<Vec<f64>> {
        let file = SafeTensors::deserialize(&self.0).unwrap();
        let bytes = file.tensor(name).ok()?.data().as_chunks::<4>().0.to_vec();
        Some(bytes.into_iter().map(|four| f64::from(f32::from_le_bytes(four))).collect())
    }

    fn indices(&self, name: &str) -> Vec<u32> {
        let file = SafeTensors::deserialize(&self.0).unwrap();
        let (eights, _) = file.tensor(name).unwrap().data().as_chunks::<8>();
        eights.iter().map(|eight| i64::from_le_bytes(*eight) as u32).collect()
    }

    /// The recorded text.
    pub fn tokens(&self) -> Tokens {
        let ids = self.indices("ids");
        let (spans, pieces, of) =
            (vec![0..0; ids.len()], vec![String::new(); ids.len()], ids.len());
        Tokens { type_ids: self.indices("type_ids"), ids, spans, pieces, of }
    }
}

/// The text that a model's record is of.
pub fn tokens(name: &str) -> Tokens {
    Expected::read(&folder().join(name)).tokens()
}

/// Entropies and largest probabilities of every row, and which keys each layer lets a query pick.
#[derive(Default)]
struct Rows {
    entropy: Vec<f64>,
    largest: Vec<f64>,
    visible: Vec<Visible>,
}

impl Attend for Rows {
    fn attend(&mut self, layer: &Layer<'_>) -> Result<Array4<f32>, String> {
        let (mean, entropy, largest) = layer
            .ask((Mean(layer.values), Entropy, MaxProbability))
            .map_err(|error| error.to_string())?;
        for position in [0, 7, largest.dim().2 - 1] {
            let alone =
                layer.ask_one(position, MaxProbability).map_err(|error| error.to_string())?;
            let difference = &alone.slice(s![.., .., 0]) - &largest.slice(s![.., .., position]);
            assert!(difference.iter().all(|x| x.abs() < 1e-6), "layer {}", layer.index);
        }
        self.entropy.extend(entropy.iter().copied().map(f64::from));
        self.largest.extend(largest.iter().copied().map(f64::from));
        self.visible.push(layer.visible());
        Ok(mean)
    }
}

fn worst(found: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let errors = found.iter().zip(expected).map(|(x, y)| (x - y).abs() / (1.0 + y.abs()));
    errors.fold(0.0, |worst, error| if error > worst || error.is_nan() { error } else { worst })
}

fn numbers<const D: usize>(tensor: burn::tensor::Tensor<D>) -> Vec<f64> {
    let values: Vec<f32> = tensor.into_data().try_into_vec().unwrap();
    values.into_iter().map(f64::from).collect()
}

/// Whether a model of this name has a head of a language model.
fn is_language_model(name: &str) -> bool {
    let model = Transformer::open(&folder().join(name)).unwrap();
    let hidden = model.embed(&Expected::read(&folder().join(name)).tokens()).unwrap();
    model.logits(hidden).unwrap().is_some()
}

/// Runs the recorded model, compares everything with the record, and says which keys its layers see.
fn check(name: &str) -> Vec<Visible> {
    let folder = folder().join(name);
    check_with(name, &Transformer::open(&folder).unwrap(), &Expected::read(&folder))
}

/// The check of a model in a GGUF file; see `tools/reference/gguf_models.py`.
fn check_gguf(name: &str) -> Vec<Visible> {
    let folder = folder().with_file_name("gguf").join(name);
    let model = Transformer::open(&folder.join("model.gguf")).unwrap();
    check_with(name, &model, &Expected::read(&folder))
}

fn check_with(name: &str, model: &Transformer, expected: &Expected) -> Vec<Visible> {
    let tokens = expected.tokens();
    assert!(tokens.len() % 2 == 1);
    let mut rows = Rows::default();
    let mut hidden = model.embed(&tokens).unwrap();
    let mut after = Vec::new();
    for index in 0..model.layers() {
        hidden = model.layer(index, hidden, &mut rows).unwrap();
        after.extend(numbers(hidden.clone()));
        assert_eq!(model.visible(index), rows.visible[index]);
    }
    let logits = model.logits(hidden).unwrap().map(numbers);
    let of = |key| expected.numbers(key).unwrap();
    let mut errors = vec![
        ("entropy", worst(&rows.entropy, &of("entropy"))),
        ("largest", worst(&rows.largest, &of("largest"))),
        ("hidden", worst(&after, &of("hidden"))),
    ];
    if let Some(expected) = expected.numbers("logits") {
        errors.push(("logits", worst(&logits.unwrap(), &expected)));
    }
    eprintln!("{name}: {errors:?}");
    for (key, error) in errors {
        assert!(error <= TOLERANCE, "{name}: {key} is off by {error:e}");
    }
    rows.visible
}

const BEHIND: Visible = Visible::Window { left: 5, right: 0 };

#[test]
fn encoders_are_those_of_transformers() {
    for name in ["bert", "roberta", "xlm_roberta", "distilbert"] {
        assert_eq!(check(name), [Visible::All; 3], "{name}");
        assert!(!is_language_model(name), "{name}");
    }
    let nearby = Visible::Window { left: 3, right: 3 };
    assert_eq!(check("modernbert"), [Visible::All, nearby, Visible::All]);
}

#[test]
fn relative_positions_are_those_of_transformers() {
    for name in ["relative_key", "relative_key_query"] {
        assert_eq!(check(name), [Visible::All; 3], "{name}");
    }
}

#[test]
fn decoders_are_those_of_transformers() {
    for name in ["bert_decoder", "gpt2", "llama", "qwen3"] {
        assert_eq!(check(name), [Visible::Before; 3], "{name}");
    }
    for name in ["mistral", "phi3"] {
        assert_eq!(check(name), [BEHIND; 3], "{name}");
    }
    assert_eq!(check("qwen2"), [Visible::Before, BEHIND, BEHIND]);
}

#[test]
fn gemmas_are_those_of_transformers() {
    for name in ["gemma2", "gemma3"] {
        assert_eq!(check(name), [BEHIND, Visible::Before, BEHIND], "{name}");
    }
    let nearby = Visible::Window { left: 3, right: 3 };
    assert_eq!(check("gemma3_both_ways"), [nearby, Visible::All, nearby]);
}

#[test]
fn gguf_files_hold_the_models_of_transformers() {
    for name in ["gpt2", "qwen2", "qwen3", "llama", "llama_linear", "llama3"] {
        assert_eq!(check_gguf(name), [Visible::Before; 3], "{name}");
    }
    assert_eq!(check_gguf("phi3"), [BEHIND; 3]);
    assert_eq!(check_gguf("gemma2"), [BEHIND, Visible::Before, BEHIND]);
    let nearby = [BEHIND; 5];
    assert_eq!(check_gguf("gemma3"), [&nearby[..], &[Visible::Before]].concat());
}
