//! The state of a run.

use std::time::{Duration, Instant};

use burn::module::Module;
use burn::optim::{GradientsParams, ModuleOptimizer};
use burn::store::RecordError;
use burn::tensor::{Bytes, Device};
use marginals::Error;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use serde::{Deserialize, Serialize};

use super::corpus::{Corpus, Fingerprint, windows};
use super::first_weights::first_weights;
use super::{TrainConfig, record, sample};
use crate::checkpoint::weights::are_finite;
use crate::modules::{ByteLm, cross_entropy};
use crate::tensors::into_values;

/// A point of a curve.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Steps done.
    pub step: usize,
    /// Bits per byte.
    pub bits: f64,
}

/// Error of a run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// The library refuses.
    #[error(transparent)]
    Model(#[from] Error),
    /// A state that cannot be gone on from.
    #[error("the saved state cannot be used: {reason}. Start over, or somewhere else")]
    State {
        /// Why.
        reason: String,
    },
    /// The loss or the weights are no numbers any more, or weights left the range they have.
    #[error(
        "training has diverged after {steps} steps: {reason}. Lower `optimiser.rate` or \
         `optimiser.clip`, or raise `optimiser.warm-up`"
    )]
    Diverged {
        /// Steps done before.
        steps: usize,
        /// How it shows.
        reason: String,
    },
}

fn unusable(reason: impl ToString) -> TrainError {
    TrainError::State { reason: reason.to_string() }
}

impl From<RecordError> for TrainError {
    fn from(error: RecordError) -> Self {
        unusable(error)
    }
}

/// A model that is being trained.
///
/// ```
/// use marginals_burn::train::{Corpus, TrainConfig, Training};
///
/// let config = TrainConfig::from_toml(r#"
///     [model]
///     layers    = 1
///     width     = 8
///     heads     = 2
///     attention = { structure = "each-query-picks-one", prior = ["causal"], potential = "dot" }
///     [batches]
///     context = 8
///     size    = 2
///     steps   = 3
/// "#)?;
/// let corpus = Corpus::split(b"to be, or not to be: ".repeat(20), 0.2, 8)?;
/// let mut training = Training::new(config, corpus)?;
/// while !training.is_done() {
///     training.step()?;
/// }
/// assert_eq!(training.losses().len(), 3);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Training {
    config: TrainConfig,
    corpus: Corpus,
    device: Device,
    lm: ByteLm,
    optimiser: ModuleOptimizer,
    losses: Vec<f64>,
    held_out: Vec<Point>,
    raised: Vec<Raised>,
    spent: Duration,
}

/// A step that was prepared: gradients at the state it was prepared in.
pub struct Step {
    number: usize,
    nats: f64,
    gradients: GradientsParams,
    spent: Duration,
}

/// A measurement on held-out windows.
#[derive(Clone, Copy, Debug)]
pub struct Measurement {
    /// Point of the curve.
    pub point: Point,
    spent: Duration,
}

/// The number of steps, raised on the way. From there on the rate follows the curve of the new number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Raised {
    /// Steps that had been made.
    pub at: usize,
    /// Steps that there were to be before.
    pub from: usize,
    /// Steps that there were to be after.
    pub to: usize,
}

/// Header of a saved state.
#[derive(Serialize, Deserialize)]
struct Progress {
    config: TrainConfig,
    corpus: Fingerprint,
    seconds: f64,
    losses: Vec<f64>,
    held_out: Vec<Point>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    raised: Vec<Raised>,
}

impl Training {
    /// A run at its beginning.
    ///
    /// # Errors
    /// [`TrainError::Model`], where the configuration makes no model.
    pub fn new(config: TrainConfig, corpus: Corpus) -> Result<Self, TrainError> {
        let device = Device::flex();
        let lm = first_weights(&config.lm(), config.seed, &device.clone().autodiff())?;
        let optimiser = config.optimiser.init();
        let (losses, held_out, raised, spent) = Default::default();
        Ok(Self { config, corpus, device, lm, optimiser, losses, held_out, raised, spent })
    }

    /// One step. Returns its loss, in bits per byte.
    ///
    /// # Errors
    /// As [`Self::prepare`] and [`Self::take`].
    pub fn step(&mut self) -> Result<f64, TrainError> {
        let step = self.prepare()?;
        self.take(step)
    }

    /// The next step, computed and not yet taken. It is nearly all of the work, and the state stays as it is:
    /// it can be [saved](Self::save) at the same time.
    ///
    /// # Errors
    /// [`TrainError::Diverged`], and as [`ByteLm::forward`].
    pub fn prepare(&self) -> Result<Step, TrainError> {
        let start = Instant::now();
        let (step, batches) = (self.losses.len(), &self.config.batches);
        let taped = self.device.clone().autodiff();
        let shape = [batches.size, batches.context];
        let batch = self.corpus.batch(shape, step, self.config.seed, &taped);
        let loss = self.lm.loss(batch.bytes, batch.targets).map_err(|error| match step {
            0 => error.into(),
            // What the model took before, training has changed.
            _ => self.diverged(error.to_string()),
        })?;
        let nats = f64::from(loss.clone().into_scalar::<f32>());
        if !nats.is_finite() {
            return Err(self.diverged(format!("the loss is {nats}")));
        }
        let gradients = GradientsParams::from_grads(loss.backward(), &self.lm);
        Ok(Step { number: step, nats, gradients, spent: start.elapsed() })
    }

    /// Takes a step that was prepared. Returns its loss, in bits per byte.
    ///
    /// # Errors
    /// [`TrainError::Diverged`]; [`TrainError::Model`] for a step that was prepared before another one was
    /// taken.
    pub fn take(&mut self, step: Step) -> Result<f64, TrainError> {
        let start = Instant::now();
        let next = self.losses.len();
        if step.number != next {
            let expected = format!("{next}, the one after the last");
            return Err(Error::value("step", expected, step.number).into());
        }
        let rate = self.config.optimiser.rate_at(next, self.config.batches.steps);
        let moved = self.optimiser.step(rate, self.lm.clone(), step.gradients);
        if !are_finite(&moved) {
            let reason = "the next step makes weights that are no numbers".to_owned();
            return Err(self.diverged(reason));
        }
        self.lm = moved;
        let bits = step.nats / std::f64::consts::LN_2;
        self.losses.push(bits);
        self.spent += step.spent + start.elapsed();
        Ok(bits)
    }

    fn diverged(&self, reason: String) -> TrainError {
        TrainError::Diverged { steps: self.losses.len(), reason }
    }

    /// Whether every step has been made.
    pub fn is_done(&self) -> bool {
        self.losses.len() >= self.config.batches.steps
    }

    /// Whether the held-out text is to be measured now and has not been.
    pub fn is_measured_here(&self) -> bool {
        let steps = self.losses.len();
        let is_due = steps.is_multiple_of(self.config.measure_every) || self.is_done();
        steps > 0 && is_due && self.held_out.last().is_none_or(|point| point.step != steps)
    }

    /// Whether the state is to be saved after the step just made.
    pub fn is_saved_here(&self) -> bool {
        self.losses.len().is_multiple_of(self.config.save_every) || self.is_done()
    }

    /// Measures a fixed choice of held-out windows.
    ///
    /// # Errors
    /// As [`ByteLm::forward`].
    pub fn measure(&self) -> Result<Measurement, TrainError> {
        let start = Instant::now();
        let bits = self.held_out_bits(Some(self.config.measure_windows))?;
        let point = Point { step: self.losses.len(), bits };
        Ok(Measurement { point, spent: start.elapsed() })
    }

    /// Adds a measurement to the curve.
    pub fn record(&mut self, measurement: Measurement) {
        self.spent += measurement.spent;
        self.held_out.push(measurement.point);
    }

    /// Bits per byte of the held-out text, of all of it or of some windows spread over it. Windows
    /// overlap by half and are scored on their second half, so that of the whole text every byte but
    /// those of the first half window is predicted from at least half a window.
    ///
    /// # Errors
    /// As [`ByteLm::forward`].
    pub fn held_out_bits(&self, windows: Option<usize>) -> Result<f64, TrainError> {
        let context = self.config.batches.context;
        Ok(bits_per_byte(&self.model(), &self.corpus.held_out, context, windows)?)
    }

    /// The model as it is, without a tape.
    pub fn model(&self) -> ByteLm {
        self.lm.valid()
    }

    /// Text that the model writes, after its prompt.
    ///
    /// # Errors
    /// As [`sample`].
    pub fn sample(&self) -> Result<(Vec<u8>, Vec<u8>), TrainError> {
        let settings = &self.config.sample;
        let prompt = match settings.prompt.as_bytes() {
            [] => {
                let held_out = &self.corpus.held_out;
                let window = &held_out[..held_out.len().min(self.config.batches.context)];
                window.split_inclusive(|&byte| byte == b'\n').next().unwrap_or(b" ")
            }
            given => given,
        };
        let (count, temperature) = (settings.bytes, settings.temperature);
        let text = sample(&self.model(), prompt, count, temperature, self.config.seed)?;
        Ok((prompt.to_vec(), text))
    }

    /// Configuration of the run.
    pub fn config(&self) -> &TrainConfig {
        &self.config
    }

    /// Corpus that it is trained on.
    pub fn corpus(&self) -> &Corpus {
        &self.corpus
    }

    /// Loss of every step made, in bits per byte.
    pub fn losses(&self) -> &[f64] {
        &self.losses
    }

    /// Measurements on held-out windows.
    pub fn held_out(&self) -> &[Point] {
        &self.held_out
    }

    /// Where the number of steps was raised.
    pub fn raised(&self) -> &[Raised] {
        &self.raised
    }

    /// Time that steps and measurements have taken, those before the state was saved with them.
    pub fn spent(&self) -> Duration {
        self.spent
    }

    /// Everything it takes to go on, as the bytes of a safetensors file.
    ///
    /// # Errors
    /// [`TrainError::State`], where it cannot be written.
    pub fn save(&self) -> Result<Vec<u8>, TrainError> {
        let model = self.lm.clone().into_record().into_bytes()?;
        let optimiser = self.optimiser.into_bytes()?;
        let progress = Progress {
            config: self.config.clone(),
            corpus: self.corpus.fingerprint(),
            seconds: self.spent.as_secs_f64(),
            losses: self.losses.clone(),
            held_out: self.held_out.clone(),
            raised: self.raised.clone(),
        };
        let progress = serde_json::to_string(&progress).map_err(unusable)?;
        let view = |bytes: &'_ Bytes| -> Result<Vec<u8>, TrainError> { Ok(bytes.to_vec()) };
        let (model, optimiser) = (view(&model)?, view(&optimiser)?);
        let tensors = [("model", &model), ("optimiser", &optimiser)].map(|(name, bytes)| {
            TensorView::new(Dtype::U8, vec![bytes.len()], bytes).map(|view| (name, view))
        });
        let tensors: Result<Vec<_>, _> = tensors.into_iter().collect();
        let metadata = [("progress".to_owned(), progress)].into();
        safetensors::serialize(tensors.map_err(unusable)?, Some(metadata)).map_err(unusable)
    }

    /// Goes on from what [`save`](Self::save) wrote. What the run comes to must not depend on where it
    /// was stopped, so settings and text must be those of its beginning; only `sample` and
    /// `save-every`, which change nothing about it, and the names of the text's files may differ, and there
    /// may be more steps: see [`Raised`].
    ///
    /// # Errors
    /// [`TrainError::State`], where the bytes are damaged or belong to a run with other settings or
    /// over another text.
    pub fn resume(config: TrainConfig, corpus: Corpus, bytes: &[u8]) -> Result<Self, TrainError> {
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(unusable)?;
        let file = SafeTensors::deserialize(bytes).map_err(unusable)?;
        let progress = header.metadata().as_ref().and_then(|metadata| metadata.get("progress"));
        let progress = progress.ok_or_else(|| unusable("it does not say how far it got"))?;
        let progress: Progress = serde_json::from_str(progress).map_err(unusable)?;
        let before = progress.config.batches.steps;
        if let Some(change) = config.change_since(progress.config) {
            return Err(unusable(format!("it belongs to a run with other settings, {change}")));
        }
        let fingerprint = corpus.fingerprint();
        if progress.corpus != fingerprint {
            return Err(unusable(format!(
                "it belongs to a run over another text, {} where this one is {fingerprint}",
                progress.corpus
            )));
        }
        let part = |name: &str| file.tensor(name).map(|tensor| tensor.data()).map_err(unusable);
        let (model, optimiser) = (part("model")?, part("optimiser")?);
        let steps = progress.losses.len();
        let mut training = Self::new(config, corpus)?;
        training.lm = record::load_weights(training.lm, model).map_err(unusable)?;
        if steps > 0 {
            let (fresh, lm) = (training.optimiser, &training.lm);
            training.optimiser =
                record::load_moments(fresh, lm, steps, optimiser).map_err(unusable)?;
        }
        training.losses = progress.losses;
        training.held_out = progress.held_out;
        training.raised = progress.raised;
        let to = training.config.batches.steps;
        if to > before {
            training.raised.push(Raised { at: steps, from: before, to });
        }
        training.spent = Duration::try_from_secs_f64(progress.seconds).map_err(unusable)?;
        Ok(training)
    }
}

/// Windows that are scored at once.
const AT_ONCE: usize = 8;

/// Bits per byte of a text under a model; see [`Training::held_out_bits`].
///
/// # Errors
/// [`Error::Value`] where the text has no whole window, and as [`ByteLm::forward`].
pub fn bits_per_byte(
    lm: &ByteLm,
    text: &[u8],
    context: usize,
    most_windows: Option<usize>,
) -> Result<f64, Error> {
    if text.len() <= context {
        return Err(Error::value(
            "text",
            format!("more than {context} bytes, a whole window"),
            format!("{} bytes", text.len()),
        ));
    }
    let stride = (context / 2).max(1);
    let last = text.len() - context - 1;
    // Where a window starts, and from which of its bytes on it is scored.
    let scored = |start| (start, if start == 0 { 0 } else { context - stride });
    let mut starts: Vec<(usize, usize)> = (0..=last).step_by(stride).map(scored).collect();
    if let Some(most) = most_windows.filter(|&most| most < starts.len()) {
        starts = (0..most).map(|i| starts[i * starts.len() / most]).collect();
    } else if !last.is_multiple_of(stride) {
        // What lies behind the last whole stride.
        starts.push((last, context - last % stride));
    }
    let device = lm.norm.gamma.val().device();
    let (mut nats, mut count) = (0.0, 0usize);
    for chunk in starts.chunks(AT_ONCE) {
        let firsts: Vec<usize> = chunk.iter().map(|&(start, _)| start).collect();
        let batch = windows(text, &firsts, context, &device);
        let losses = into_values(cross_entropy(lm.forward(batch.bytes)?, batch.targets));
        for (losses, &(_, known)) in losses.chunks(context).zip(chunk) {
            nats += losses[known..].iter().map(|&x| f64::from(x)).sum::<f64>();
            count += context - known;
        }
    }
    Ok(nats / std::f64::consts::LN_2 / count as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::config::tests::CONFIG;

    fn training(config: &str) -> Training {
        let corpus = Corpus::split(b"to be, or not to be: ".repeat(20), 0.2, 8).unwrap();
        Training::new(TrainConfig::from_toml(config).unwrap(), corpus).unwrap()
    }

    /// Every byte is predicted once, in the first window in which it comes last or earlier.
    #[test]
    fn every_byte_is_scored() {
        let mut training = training(CONFIG);
        training.step().unwrap();
        let lm = training.model();
        let device = Device::flex();
        for (length, context) in
            [(9, 8), (10, 8), (20, 8), (21, 8), (23, 8), (24, 7), (7, 3), (5, 1)]
        {
            let text: Vec<u8> = (0..length).map(|i| (i * i * 37 % 251) as u8).collect();
            let last = length - context - 1;
            let starts: Vec<usize> =
                (0..last).step_by((context / 2).max(1)).chain([last]).collect();
            let mut bits = 0.0;
            for target in 1..length {
                let start = starts.iter().find(|&start| target <= start + context).unwrap();
                let batch = windows(&text, &[*start], context, &device);
                let scores = into_values(lm.forward(batch.bytes).unwrap());
                let own = &scores[(target - start - 1) * 256..][..256];
                let sum: f64 = own.iter().map(|&x| f64::from(x).exp()).sum();
                bits +=
                    sum.log2() - f64::from(own[usize::from(text[target])]) / std::f64::consts::LN_2;
            }
            let found = bits_per_byte(&lm, &text, context, None).unwrap();
            let expected = bits / (length - 1) as f64;
            assert!((found - expected).abs() < 1e-5, "{length} {context}: {found} {expected}");
        }
    }

    /// Neither a loss that is fine nor weights that are finite but out of range hide it, and what is
    /// kept is the state before.
    #[test]
    fn divergence_is_called_by_its_name() {
        for rate in ["1e39", "1e30"] {
            let fast = format!("rate = {rate}\nwarm-up = 0");
            let mut training = training(&CONFIG.replace("rate = 0.0026888437030500962", &fast));
            let error = loop {
                match training.step() {
                    Ok(_) => assert!(!training.is_done(), "{rate}"),
                    Err(error) => break error.to_string(),
                }
            };
            assert!(error.contains("diverged") && error.contains("optimiser.rate"), "{error}");
            assert!(are_finite(&training.model()), "{rate}");
        }
    }
}
