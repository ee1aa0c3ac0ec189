//! Configuration of a run of training.

use burn::grad_clipping::GradientClippingConfig;
use burn::optim::{AdamWConfig, ModuleOptimizer};
use marginals::Error;
use marginals::part::{AnyPart, NamedTensor};
use marginals::spec::{self, AnyStructure, ModelSpec, Sizes};
use serde::{Deserialize, Serialize};

use crate::modules::{AttentionConfig, ByteLmConfig, Positions, TransformerBlockConfig};
use crate::sizes::{at_least_one, check_divides};

/// Bytes that one step may see: far more than memory takes.
const LONGEST_STEP: usize = 1 << 24;

/// Bytes that a sample may have.
const LONGEST_SAMPLE: usize = 1 << 30;

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
    /// Batches that steps see.
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
    /// Sample that is written in the end.
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

/// Batches that steps of training see.
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
    /// Share of it that is left in the end.
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

/// Sample that a trained model writes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct SampleSettings {
    /// Prompt that it goes on from, its last window where it is longer; the first line of the held-out text
    /// where it is empty.
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

    /// Burn's optimiser with these settings, before its first step; each step is given its
    /// [rate](Self::rate_at).
    pub fn init(&self) -> ModuleOptimizer {
        AdamWConfig::new()
            .with_beta_1(self.beta_1)
            .with_beta_2(self.beta_2)
            .with_weight_decay(self.decay)
            .with_epsilon(1e-8)
            .with_grad_clipping(Some(GradientClippingConfig::Norm(self.clip)))
            .init()
    }
}

impl TrainConfig {
    /// Reads a configuration written in TOML.
    ///
    /// # Errors
    /// [`Error::Spec`], saying what it does not understand, and [`Error::Value`] for numbers that make
    /// no run.
    pub fn from_toml(text: &str) -> Result<Self, Error> {
        let value = spec::toml_value(text)?;
        let config: Self = spec::read(&value)?;
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
            at_least_one(name, count)?;
        }
        let step = self.batches.size.saturating_mul(self.batches.context);
        if step > LONGEST_STEP {
            let expected = format!("at most {LONGEST_STEP} bytes of all windows of a step");
            return Err(Error::value("batches.size", expected, format!("{step} bytes")));
        }
        if self.sample.bytes > LONGEST_SAMPLE {
            let expected = format!("at most {LONGEST_SAMPLE}");
            return Err(Error::value("sample.bytes", expected, self.sample.bytes));
        }
        if !(self.held_out > 0.0 && self.held_out < 1.0) {
            return Err(Error::value("held-out", "a share above 0 and below 1", self.held_out));
        }
        let Optimiser { rate, last, decay, beta_1, beta_2, clip, .. } = self.optimiser;
        for (name, number) in [
            ("optimiser.rate", rate),
            ("optimiser.clip", f64::from(clip)),
            ("sample.temperature", self.sample.temperature),
        ] {
            if !(number.is_finite() && number > 0.0) {
                return Err(Error::value(name, "a finite number above 0", number));
            }
        }
        if !(0.0..=1.0).contains(&last) {
            return Err(Error::value("optimiser.last", "a share from 0 to 1", last));
        }
        if !(decay.is_finite() && decay >= 0.0) {
            return Err(Error::value("optimiser.decay", "a finite number, at least 0", decay));
        }
        for (name, beta) in [("optimiser.beta-1", beta_1), ("optimiser.beta-2", beta_2)] {
            if !(0.0..1.0).contains(&beta) {
                return Err(Error::value(name, "a share from 0 to below 1", beta));
            }
        }
        self.model.check()?;
        let lm = self.lm();
        lm.check_sizes("model.")?;
        lm.causal()
    }

    /// Where this run cannot go on with the one `before` describes, in a few words; `None` where it comes to
    /// the same numbers, or makes more steps.
    pub(crate) fn change_since(&self, mut before: Self) -> Option<String> {
        before.sample = self.sample.clone();
        before.save_every = self.save_every;
        before.text = self.text.clone();
        let [steps, now] = [&before, self].map(|config| config.batches.steps);
        if now < steps {
            return Some(format!(
                "`batches.steps` is {steps} there and {now} here, and can only be raised"
            ));
        }
        before.batches.steps = now;
        if before == *self {
            return None;
        }
        let [old, new] = [&before, self].map(serde_json::to_value);
        let change = old.ok().zip(new.ok()).and_then(|(old, new)| first_change("", &old, &new));
        Some(change.unwrap_or_else(|| "in digits that are not written".to_owned()))
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

impl LmSettings {
    fn check(&self) -> Result<(), Error> {
        at_least_one("model.layers", self.layers)?;
        at_least_one("model.width", self.width)?;
        at_least_one("model.heads", self.heads)?;
        match self.head_width {
            Some(width) => at_least_one("model.head-width", width)?,
            None => check_divides("model.heads", self.heads, "model.width", self.width)?,
        }
        check_divides("model.key-heads", self.key_heads(), "model.heads", self.heads)?;
        at_least_one("model.inner-width", self.inner_width.unwrap_or(1))?;
        if let Some(name) = self
            .learn
            .iter()
            .enumerate()
            .find_map(|(index, name)| self.learn[..index].contains(name).then_some(name))
        {
            return Err(Error::value("model.learn", "every name once", format!("`{name}` twice")));
        }
        let sizes = Sizes { heads: self.heads, key_heads: self.key_heads(), width: self.width };
        let needs = |part: &&dyn AnyPart| {
            let learned = part.weights(&sizes);
            let given = |tensor: &NamedTensor| {
                tensor.is_required() && learned.iter().all(|weight| weight.name != tensor.name)
            };
            part.tensors().iter().any(given)
        };
        let beside = self.attention.all_parts().into_iter().find(needs).map(AnyPart::name);
        if let Some(name) = beside {
            return Err(Error::value(
                "model.attention.prior",
                "parts that need no tensor beside the text",
                format!("`{name}`"),
            ));
        }
        if matches!(self.attention.structure, AnyStructure::Walk(_)) {
            let expected = "a structure in which every query picks once";
            return Err(Error::value("model.attention.structure", expected, "`walk`"));
        }
        if self.attention.query_offset != 0 {
            return Err(Error::value(
                "model.attention.query-offset",
                "0, since queries and keys are the same bytes",
                self.attention.query_offset,
            ));
        }
        Ok(())
    }

    fn key_heads(&self) -> usize {
        self.key_heads.unwrap_or(self.heads)
    }
}

/// The first setting in which two configurations differ.
fn first_change(path: &str, old: &serde_json::Value, new: &serde_json::Value) -> Option<String> {
    use serde_json::Value;
    if let (Value::Object(a), Value::Object(b)) = (old, new) {
        let keys = a.keys().chain(b.keys().filter(|key| !a.contains_key(*key)));
        return keys.into_iter().find_map(|key| {
            let [old, new] = [a, b].map(|table| table.get(key).unwrap_or(&Value::Null));
            let path = format!("{path}{}{key}", if path.is_empty() { "" } else { "." });
            first_change(&path, old, new)
        });
    }
    let written = |value: &Value| match value {
        Value::Null => "absent".to_owned(),
        given => given.to_string(),
    };
    (old != new).then(|| format!("`{path}` is {} there and {} here", written(old), written(new)))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A small run.
    pub const CONFIG: &str = r#"
        seed = 7
        [model]
        layers    = 1
        width     = 8
        heads     = 2
        learn     = ["geometric.rho"]
        attention = { structure = "each-query-picks-one", prior = ["causal", { geometric = { rho = 0.1 } }], potential = "dot" }
        [batches]
        context = 8
        size    = 2
        steps   = 3
        [optimiser]
        rate = 0.0026888437030500962
    "#;

    #[test]
    fn a_configuration_survives_json_to_the_last_digit() {
        let config = TrainConfig::from_toml(CONFIG).unwrap();
        let again: TrainConfig =
            serde_json::from_str(&serde_json::to_string(&config).unwrap()).unwrap();
        assert_eq!(again, config);
        assert_eq!(again.optimiser.rate, 0.0026888437030500962);
    }

    #[test]
    fn a_change_is_named_where_it_changes_the_run() {
        let config = TrainConfig::from_toml(CONFIG).unwrap();
        let read = |from: &str, to: &str| {
            assert!(CONFIG.contains(from), "{from}");
            TrainConfig::from_toml(&CONFIG.replace(from, to)).unwrap()
        };
        for (from, to, told) in [
            ("seed = 7", "seed = 8", "`seed` is 7 there and 8 here"),
            (
                "width     = 8",
                "width = 8\nkey-heads = 1",
                "`model.key-heads` is absent there and 1 here",
            ),
            (
                "rate = 0.0026888437030500962",
                "",
                "`optimiser.rate` is 0.0026888437030500962 there and 0.002 here",
            ),
            ("rho = 0.1", "rho = 0.2", "`model.attention.prior` is"),
        ] {
            let change = read(from, to).change_since(config.clone()).unwrap();
            assert!(change.contains(told), "{change}");
        }
        let sample = read("seed = 7", "seed = 7\nsave-every = 2\ntext = [\"x\"]\nsample.bytes = 3");
        assert_eq!(sample.change_since(config.clone()), None);
        assert_eq!(read("steps   = 3", "steps = 4").change_since(config.clone()), None);
        let fewer = read("steps   = 3", "steps = 2").change_since(config).unwrap();
        assert!(fewer.contains("3 there and 2 here, and can only be raised"), "{fewer}");
    }

    #[test]
    fn what_makes_no_run_is_named_as_the_file_names_it() {
        let refused = |from: &str, to: &str| {
            assert!(CONFIG.contains(from), "{from}");
            TrainConfig::from_toml(&CONFIG.replace(from, to)).unwrap_err().to_string()
        };
        for (from, to, told) in [
            ("layers    = 1", "layers = 0", "`model.layers` is 0"),
            ("layers    = 1", "layers = 1025", "`model.layers` is 1025"),
            ("layers    = 1", "layers = -1", "`model.layers` is -1"),
            ("width     = 8", "width = 0", "`model.width` is 0"),
            ("width     = 8", "width = 1000000000", "`model.width` is 1000000000"),
            ("width     = 8", "width = 1048576", "`model.layers` is 1 of about"),
            ("heads     = 2", "heads = 3", "`model.heads` is 3"),
            ("heads     = 2", "heads = 2\nkey-heads = 3", "`model.key-heads` is 3"),
            ("heads     = 2", "heads = 2\nhead-width = 0", "`model.head-width` is 0"),
            (
                "heads     = 2",
                "heads = 2\nhead-width = 9223372036854775807",
                "`model.head-width` is",
            ),
            ("heads     = 2", "heads = 2\ninner-width = 0", "`model.inner-width` is 0"),
            ("size    = 2", "size = 9223372036854775807", "`batches.size` is"),
            ("[\"geometric.rho\"]", "[\"geometric.rho\", \"geometric.rho\"]", "`model.learn` is"),
            ("\"causal\", ", "\"causal\", \"key-bias\", ", "`key-bias`"),
            ("\"each-query-picks-one\"", "\"walk\"", "`walk`"),
            (
                "potential = \"dot\"",
                "potential = \"dot\", query-offset = -1",
                "query-offset` is -1",
            ),
            ("seed = 7", "sample.bytes = 4611686018427387904", "`sample.bytes` is"),
            ("seed = 7", "seed = \"x\"", "`seed` is \"x\""),
            ("seed = 7", "held-out = nan", "`held-out` is NaN"),
            ("rate = 0.0026888437030500962", "rate = inf", "`optimiser.rate` is inf"),
            ("rate = 0.0026888437030500962", "decay = -1.0", "`optimiser.decay` is -1"),
            ("rate = 0.0026888437030500962", "beta-1 = 1.0", "`optimiser.beta-1` is 1"),
            ("rate = 0.0026888437030500962", "beta-2 = -3.0", "`optimiser.beta-2` is -3"),
        ] {
            let message = refused(from, to);
            assert!(message.contains(told), "{to}: {message}");
        }
        // The maps of an additive potential are as wide as a head, squared.
        let wide = CONFIG
            .replace("heads     = 2", "heads = 2\nhead-width = 1000000")
            .replace("potential = \"dot\"", "potential = { additive = { kind = \"gatv2\" } }");
        let message = TrainConfig::from_toml(&wide).unwrap_err().to_string();
        assert!(message.contains("`model.layers` is 1 of about"), "{message}");
    }
}
