//! Document of a finished run: `run.json`, and the page made of it.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use marginals_burn::train::{Point, Raised, TrainConfig, Training, reference};
use minijinja::value::Serde;
use minijinja::{Environment, Value, context};
use serde::Serialize;

use super::error::Error;
use super::sparkline::sparkline;

/// The content of `run.json`. All but `timing` depends on the configuration and the text alone.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Document {
    pub config: TrainConfig,
    pub text: TextSection,
    /// Number of weights.
    pub parameters: usize,
    /// Where the number of steps was raised.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub raised: Vec<Raised>,
    /// Bits per byte of every step's batch.
    pub train: Vec<f64>,
    /// Bits per byte of held-out windows on the way.
    pub held_out: Vec<Point>,
    /// Bits per byte of the whole held-out text in the end.
    pub held_out_bits_per_byte: f64,
    pub reference: Reference,
    /// Parameters of each layer's model that were learned.
    pub learned: Vec<Learned>,
    pub sample: Sample,
    pub timing: Timing,
}

/// Text that was trained on.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct TextSection {
    pub files: Vec<String>,
    pub bytes_trained_on: usize,
    pub bytes_held_out: usize,
}

/// Bits per byte of the held-out text by older means.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Reference {
    /// gzip at its best.
    pub gzip: f64,
    /// The three bytes before, with counts from the text that was trained on.
    pub order_3: f64,
}

/// A learned parameter of one layer.
#[derive(Debug, Serialize)]
pub struct Learned {
    pub layer: usize,
    pub name: String,
    pub values: Vec<f32>,
}

/// Sample of the model's writing.
#[derive(Debug, Serialize)]
pub struct Sample {
    pub prompt: String,
    pub text: String,
}

/// How long its steps and measurements took, those before it was stopped included.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Timing {
    pub steps: usize,
    pub seconds: f64,
    pub bytes_per_second: f64,
    pub threads: usize,
}

impl Timing {
    fn new(training: &Training) -> Self {
        let batches = &training.config().batches;
        let (steps, seconds) = (training.losses().len(), training.spent().as_secs_f64());
        let bytes = (steps * batches.size * batches.context) as f64;
        let threads = rayon::current_num_threads();
        Self { steps, seconds, bytes_per_second: bytes / seconds.max(1e-9), threads }
    }
}

impl Document {
    pub fn new(training: &Training, text: TextSection) -> Result<Self, Error> {
        let (corpus, lm) = (training.corpus(), training.model());
        let layers = lm.blocks.iter().enumerate();
        let learned = layers.flat_map(|(layer, block)| {
            let values = block.attention.learned.values();
            values.map(move |(name, values, _)| Learned { layer, name, values })
        });
        let (prompt, sample) = training.sample()?;
        let readable = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(Self {
            config: training.config().clone(),
            text,
            parameters: burn::module::Module::num_params(&lm),
            raised: training.raised().to_vec(),
            train: training.losses().to_vec(),
            held_out: training.held_out().to_vec(),
            held_out_bits_per_byte: training.held_out_bits(None)?,
            reference: Reference {
                gzip: gzip_bits(&corpus.held_out),
                order_3: reference::context_model_bits(&corpus.train, &corpus.held_out, 3),
            },
            learned: learned.collect(),
            sample: Sample { prompt: readable(&prompt), text: readable(&sample) },
            timing: Timing::new(training),
        })
    }

    /// Text that the model wrote, after the one it was given.
    pub fn sample_text(&self) -> String {
        format!("{}{}\n", self.sample.prompt, self.sample.text)
    }

    /// A few lines for the terminal.
    pub fn summary(&self) -> String {
        let Timing { steps, seconds, bytes_per_second, .. } = self.timing;
        let held_out: Vec<f64> = self.held_out.iter().map(|point| point.bits).collect();
        format!(
            "held out  {}\n{:.3} bits per byte held out (gzip {:.3}, three bytes before {:.3})\n\
             {} weights, {steps} steps in {seconds:.0} s, {:.1} kB/s\n",
            sparkline(&held_out, 60),
            self.held_out_bits_per_byte,
            self.reference.gzip,
            self.reference.order_3,
            self.parameters,
            bytes_per_second / 1e3,
        )
    }

    /// The page.
    pub fn report(&self, picture: &str) -> Result<String, minijinja::Error> {
        let mut environment = Environment::new();
        environment.add_template("train.html", include_str!("../../templates/train.html"))?;
        let config = serde_json::to_string_pretty(&self.config).unwrap_or_default();
        environment.get_template("train.html")?.render(context! {
            run => Value::from(Serde(self)),
            bits => format!("{:.3}", self.held_out_bits_per_byte),
            gzip => format!("{:.3}", self.reference.gzip),
            order_3 => format!("{:.3}", self.reference.order_3),
            seconds => format!("{:.0}", self.timing.seconds),
            rate => format!("{:.1}", self.timing.bytes_per_second / 1e3),
            learned => self.learned.iter().map(|learned| {
                let values: Vec<String> =
                    learned.values.iter().map(|x| format!("{x:.4}")).collect();
                context! { layer => learned.layer, name => learned.name.as_str(), values => values.join(" ") }
            }).collect::<Vec<_>>(),
            picture => picture,
            style => crate::chart::STYLE,
            config => config,
        })
    }
}

/// Bits per byte of a text in a gzip file.
fn gzip_bits(text: &[u8]) -> f64 {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    // Memory takes everything.
    let packed = encoder.write_all(text).and_then(|()| encoder.finish());
    8.0 * packed.map_or(text.len(), |packed| packed.len()) as f64 / text.len().max(1) as f64
}
