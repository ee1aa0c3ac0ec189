//! What a run of training is, as data.

use marginals::Error;
use marginals::spec::ModelSpec;
use serde::{Deserialize, Serialize};

use crate::modules::{AttentionConfig, ByteLmConfig, Positions, TransformerBlockConfig};

/// A run of training.
///
/// ```toml
/// seed = 1
///
/// [model]
/// layers    = 3
/// width     = 128
/// heads     = 4
/// learn     = ["geometric.rho"]
///
/// [model.attention]
/// structure = "each-query-picks-one"
/// prior     = ["causal", { geometric = { rho = 0.05 } }]
/// potential = "dot"
///
/// [batches]
/// context = 256
/// size    = 8
/// steps   = 2000
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct TrainConfig {
    /// Seed of the weights, the batches and the sample.
    #[serde(default)]
    pub seed: u64,
    /// Files that are read one after another, beside the configuration.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub text: Vec<std::path::PathBuf>,
    /// Share of the text's end that is not trained on.
    #[serde(default = "usual_held_out")]
    pub held_out: f64,
    /// The model.
    pub model: LmSettings,
    /// What a step sees.
    pub batches: Batches,
    /// How a step moves.
    #[serde(default)]
    pub optimiser: Optimiser,
    /// Steps between measurements on held-out windows.
    #[serde(default = "usual_every")]
    pub measure_every: usize,
    /// Held-out windows that are measured on the way; in the end all are.
    #[serde(default = "usual_windows")]
    pub measure_windows: usize,
    /// Steps between saved states.
    #[serde(default = "usual_every")]
    pub save_every: usize,
    /// What is written in the end.
    #[serde(default)]
    pub sample: SampleSettings,
}

/// A language model over bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct LmSettings {
    /// Layers.
    pub layers: usize,
    /// Numbers per byte.
    pub width: usize,
    /// Query heads.
    pub heads: usize,
    /// Key heads; absent, as many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_heads: Option<usize>,
    /// Numbers per head; absent, the width over the heads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head_width: Option<usize>,
    /// Width inside the feed-forward part; absent, four times the width.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inner_width: Option<usize>,
    /// How a byte knows where it stands, beside the attention's prior.
    #[serde(default = "no_positions")]
    pub positions: Positions,
    /// Numbers of the attention that are learned, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub learn: Vec<String>,
    /// The model of the attention. Its prior must keep bytes from seeing those after them.
    pub attention: ModelSpec,
}

/// What a step of training sees.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Batches {
    /// Bytes of a window.
    pub context: usize,
    /// Windows of a step.
    pub size: usize,
    /// Steps.
    pub steps: usize,
}

/// AdamW (Loshchilov & Hutter, arXiv 1711.05101) with a linear rise and a cosine fall of the rate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Optimiser {
    /// Rate at its highest.
    pub rate: f64,
    /// Steps over which it rises.
    pub warm_up: usize,
    /// What is left of it in the end, as a share.
    pub last: f64,
    /// Weight decay.
    pub decay: f32,
    /// Decay of the mean of gradients.
    pub beta_1: f32,
    /// Decay of the mean of their squares.
    pub beta_2: f32,
    /// Largest length of each parameter's gradient.
    pub clip: f32,
}

/// What a trained model writes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct SampleSettings {
    /// What it goes on from; the first line of the held-out text where it is empty.
    pub prompt: String,
    /// Bytes written.
    pub bytes: usize,
    /// Divides the scores before they are drawn from.
    pub temperature: f64,
}

fn usual_held_out() -> f64 {
    0.05
}

fn usual_every() -> usize {
    200
}

fn usual_windows() -> usize {
    32
}

fn no_positions() -> Positions {
    Positions::None
}

impl Default for Optimiser {
    fn default() -> Self {
        Self {
            rate: 2e-3,
            warm_up: 100,
            last: 0.1,
            decay: 0.01,
            beta_1: 0.9,
            beta_2: 0.99,
            clip: 1.0,
        }
    }
}

impl Default for SampleSettings {
    fn default() -> Self {
        Self { prompt: String::new(), bytes: 600, temperature: 0.8 }
    }
}

impl Optimiser {
    /// The rate of step `step` of `steps`, counted from 0.
    pub fn rate_at(&self, step: usize, steps: usize) -> f64 {
        let rise = (step + 1) as f64 / self.warm_up.max(1) as f64;
        let done = step as f64 / steps.max(1) as f64;
        let fall =
            self.last + (1.0 - self.last) * 0.5 * (1.0 + (std::f64::consts::PI * done).cos());
        self.rate * fall * rise.min(1.0)
    }
}

impl TrainConfig {
    /// Reads a configuration written in TOML.
    ///
    /// # Errors
    /// [`Error::Spec`], saying what it does not understand, and [`Error::Value`] for numbers that make
    /// no run.
    pub fn from_toml(text: &str) -> Result<Self, Error> {
        let unreadable = |message: String| Error::Spec { format: "TOML", message };
        let value: toml::Value = toml::from_str(text).map_err(|e| unreadable(e.to_string()))?;
        let mut value = serde_json::to_value(value).map_err(|e| unreadable(e.to_string()))?;
        // Model files have shorthands that only they know.
        if let Some(model) = value.pointer_mut("/model/attention") {
            let spec = ModelSpec::from_json(&model.to_string())?;
            *model = serde_json::to_value(spec).map_err(|e| unreadable(e.to_string()))?;
        }
        let config: Self = serde_json::from_value(value).map_err(|e| unreadable(e.to_string()))?;
        config.check()?;
        Ok(config)
    }

    /// The same as JSON; equal texts are equal runs.
    ///
    /// # Errors
    /// [`Error::Spec`], where a number cannot be written.
    pub fn to_json(&self) -> Result<String, Error> {
        serde_json::to_string(self)
            .map_err(|e| Error::Spec { format: "JSON", message: e.to_string() })
    }

    /// Reads what [`to_json`](Self::to_json) wrote.
    ///
    /// # Errors
    /// As [`from_toml`](Self::from_toml).
    pub fn from_json(text: &str) -> Result<Self, Error> {
        let config: Self = serde_json::from_str(text)
            .map_err(|e| Error::Spec { format: "JSON", message: e.to_string() })?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), Error> {
        for (name, count) in [
            ("batches.context", self.batches.context),
            ("batches.size", self.batches.size),
            ("batches.steps", self.batches.steps),
            ("measure-every", self.measure_every),
            ("measure-windows", self.measure_windows),
            ("save-every", self.save_every),
        ] {
            crate::sizes::at_least_one(name, count)?;
        }
        if !(self.held_out > 0.0 && self.held_out < 1.0) {
            return Err(Error::value("held-out", "a share above 0 and below 1", self.held_out));
        }
        let Optimiser { rate, last, clip, .. } = self.optimiser;
        for (name, number) in [
            ("optimiser.rate", rate),
            ("optimiser.clip", f64::from(clip)),
            ("sample.temperature", self.sample.temperature),
        ] {
            if !(number.is_finite() && number > 0.0) {
                return Err(Error::value(name, "a number above 0", number));
            }
        }
        if !(0.0..=1.0).contains(&last) {
            return Err(Error::value("optimiser.last", "a share from 0 to 1", last));
        }
        self.lm().causal()
    }

    /// The model's configuration.
    pub fn lm(&self) -> ByteLmConfig {
        let model = &self.model;
        let attention = AttentionConfig::new(model.width, model.heads, model.attention.clone())
            .with_key_heads(model.key_heads)
            .with_head_width(model.head_width)
            .with_learn(model.learn.clone());
        let block = TransformerBlockConfig::new(attention).with_inner_width(model.inner_width);
        ByteLmConfig::new(model.layers, block, self.batches.context).with_positions(model.positions)
    }
}
