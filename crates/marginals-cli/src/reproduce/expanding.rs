//! The toy problem of expanding attention: one informative vector, somewhere behind the last.
//!
//! ```text
//! x₀ ~ U(0, 2)^D,  x₁ = x₀A + ε,  A ~ U(0, 2/D)^{D×D},  ε ~ N(0, 0.1²),  target w·x₀,  w ~ N(1, 1)
//! ```
//!
//! A is that of the walks' problem over D/2, which gives x₁ the size of x₀. With A ~ U(0, 1) it would be
//! D/2 times as long, and no layer would look at anything but the query itself.
//!
//! Of 50 vectors x₁ is the last and x₀ sits a Geometric(p) number of steps before it (given that it
//! fits); the others are N(0, 0.1²) (Singh & Buckley, arXiv 2304.04556). A and w are drawn once per seed.

use burn::module::Module;
use burn::nn::Linear;
use burn::tensor::{Device, Tensor, TensorData};
use marginals::Error;
use marginals::potential::Dot;
use marginals::spec::{EngineSpec, ExpandingInference, ExpandingSpec, ModelSpec, PerHead};
use marginals_burn::{Attention, AttentionConfig, Expanding, ExpandingConfig, ops};
use serde::{Deserialize, Serialize};

use super::edges::{floats, hard, marginals};
use super::random::{Purpose, Random};
use super::training::{Schedule, Trained, Unit, alike, read_out, redraw, squared_error, train};
use super::windows::{Scene, Weights, needed};

/// Vectors in a sequence.
pub const LENGTH: usize = 50;
/// Posterior mass that a window may lose.
pub const TOLERANCE: f64 = 0.05;
/// Standard deviation of distractors and of ε.
const NOISE: f64 = 0.1;

/// The layer under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mechanism {
    /// Attention to everything up to the query.
    Full,
    /// Expanding attention, ρ summed out.
    Exact,
    /// Expanding attention by coordinate ascent.
    MeanField,
    /// Full attention that may pick nothing.
    Sink,
    /// Attention within a window that holds 99 of 100 lags.
    Window,
}

impl Mechanism {
    /// All, the published ones first.
    pub const ALL: [Self; 5] = [Self::Full, Self::Exact, Self::MeanField, Self::Sink, Self::Window];

    /// Whether the paper has it.
    pub fn is_published(self) -> bool {
        matches!(self, Self::Full | Self::Exact | Self::MeanField)
    }

    /// Title in tables.
    pub fn title(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Exact => "expanding, exact",
            Self::MeanField => "expanding, mean field",
            Self::Sink => "full, sink",
            Self::Window => "true window",
        }
    }
}

/// How hard a problem is.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
pub struct Setting {
    /// Numbers in a vector.
    pub dimension: usize,
    /// p of the lag.
    pub p: f64,
}

impl Setting {
    /// How far back 99 of 100 lags lie, at most.
    pub fn window(&self) -> usize {
        let lags = (0.01f64.ln() / (1.0 - self.p).ln()).ceil() as usize;
        lags.min(LENGTH - 1)
    }
}

/// The numbers that make a task.
#[derive(Clone, Debug)]
pub struct Task {
    setting: Setting,
    /// A, in rows.
    map: Vec<f64>,
    weights: Vec<f64>,
}

/// Sequences and what is asked of them.
#[derive(Clone, Debug)]
pub struct Sequences {
    /// `[B, 50, D]`.
    pub x: Vec<f32>,
    /// `[B]`.
    pub targets: Vec<f64>,
    /// How far before the end x₀ is.
    pub lags: Vec<usize>,
}

impl Task {
    /// The task of a seed.
    pub fn draw(setting: Setting, seed: u64) -> Self {
        let mut random = Random::new(seed, Purpose::Task, setting.dimension as u32);
        let d = setting.dimension;
        Self {
            setting,
            map: (0..d * d).map(|_| random.between(0.0, 2.0 / d as f64)).collect(),
            weights: (0..d).map(|_| 1.0 + random.normal()).collect(),
        }
    }

    /// Draws sequences.
    pub fn sequences(&self, random: &mut Random, count: usize) -> Sequences {
        let d = self.setting.dimension;
        let mut x = Vec::with_capacity(count * LENGTH * d);
        let (mut targets, mut lags) = (Vec::with_capacity(count), Vec::with_capacity(count));
        for _ in 0..count {
            let lag = random.geometric(self.setting.p, LENGTH - 1);
            let x0: Vec<f64> = (0..d).map(|_| random.between(0.0, 2.0)).collect();
            let start = x.len();
            // ε is what is drawn for the last row.
            x.extend((0..LENGTH * d).map(|_| (NOISE * random.normal()) as f32));
            let informative = start + (LENGTH - 1 - lag) * d;
            let last = start + (LENGTH - 1) * d;
            for (c, &value) in x0.iter().enumerate() {
                x[informative + c] = value as f32;
                let image: f64 = (0..d).map(|r| x0[r] * self.map[r * d + c]).sum();
                x[last + c] += image as f32;
            }
            targets.push(x0.iter().zip(&self.weights).map(|(x, w)| x * w).sum());
            lags.push(lag);
        }
        Sequences { x, targets, lags }
    }
}

impl Sequences {
    fn tensor(&self, device: &Device) -> Tensor<3> {
        let count = self.targets.len();
        let shape = [count, LENGTH, self.x.len() / (count * LENGTH)];
        Tensor::from_data(TensorData::new(self.x.clone(), shape), device)
    }
}

/// The layers under test, each asked by the last vector and read by a linear map to one number.
#[derive(Module, Debug)]
struct Reader {
    full: Option<Attention>,
    expanding: Option<Expanding>,
    read: Linear,
}

/// The last vector, `[B, 1, D]`, which is the query.
fn query(x: &Tensor<3>) -> Tensor<3> {
    x.clone().narrow(1, LENGTH - 1, 1)
}

fn mechanism(inference: ExpandingInference) -> ExpandingSpec {
    ExpandingSpec {
        alpha: Some(PerHead::One(1.0)),
        beta: Some(PerHead::One(4.0)),
        potential: Dot::default().into(),
        inference,
        lost: TOLERANCE,
        first_keys: 1,
        query_offset: LENGTH as i64 - 1,
    }
}

fn inference(of: Mechanism) -> Option<ExpandingInference> {
    match of {
        Mechanism::Exact => Some(ExpandingInference::Exact),
        Mechanism::MeanField => Some(ExpandingInference::MeanField(EngineSpec {
            steps: 30,
            tolerance: 1e-3,
            ..EngineSpec::default()
        })),
        _ => None,
    }
}

/// Posterior of the last vector.
struct Looked {
    /// P of each key, `[B, 1, 50]`.
    attention: Tensor<3>,
    /// Values, `[B, 50, D]`.
    values: Tensor<3>,
    /// Of expanding attention: windows and steps, by sequence.
    found: Option<Found>,
}

struct Found {
    /// Keys that the engine read.
    read: Vec<usize>,
    certified: Vec<usize>,
    steps: Vec<usize>,
    concentrations: [f64; 2],
}

impl Reader {
    fn new(which: Mechanism, setting: Setting, seed: u64, device: &Device) -> Result<Self, Error> {
        let mut random = Random::new(seed, Purpose::Weights, setting.dimension as u32);
        let width = setting.dimension;
        let (mut full, mut expanding) = (None, None);
        match inference(which) {
            Some(inference) => {
                let config = ExpandingConfig::new(width, 1, mechanism(inference));
                let mut layer = config.init(device)?;
                redraw(&mut layer.projections, &mut random);
                alike(&mut layer.projections);
                expanding = Some(layer);
            }
            None => {
                let structure = match which {
                    Mechanism::Sink => "each-query-picks-at-most-one",
                    _ => "each-query-picks-one",
                };
                let prior = match which {
                    Mechanism::Window => {
                        format!("{{ window = {{ left = {}, right = 0 }} }}", setting.window())
                    }
                    _ => "\"causal\"".to_owned(),
                };
                let model = ModelSpec::from_toml(&format!(
                    "structure = \"{structure}\"\nprior = [{prior}]\npotential = \"dot\"\n\
                     query-offset = {}",
                    LENGTH - 1
                ))?;
                let learn = if which == Mechanism::Sink { vec!["null".to_owned()] } else { vec![] };
                let config = AttentionConfig::new(width, 1, model).with_learn(learn);
                let mut layer = config.init(device)?;
                redraw(&mut layer.projections, &mut random);
                alike(&mut layer.projections);
                full = Some(layer);
            }
        }
        Ok(Self { full, expanding, read: read_out(width, device) })
    }

    /// Prediction for each sequence, `[B, 1]`.
    fn say(&self, x: Tensor<3>) -> Result<Tensor<2>, Error> {
        let last = query(&x);
        let y = match (&self.full, &self.expanding) {
            (Some(full), _) => full.forward_cross(last, x)?,
            (None, Some(expanding)) => expanding.expand(last, x)?.0,
            (None, None) => unreachable!("a reader has a layer"),
        };
        Ok(self.read.forward(y.squeeze_dim(1)))
    }

    /// Prediction with these edges, `[B, 1, 50]`.
    fn say_with(&self, edges: Tensor<3>, values: &Tensor<3>) -> Tensor<2> {
        let output = match (&self.full, &self.expanding) {
            (Some(full), _) => &full.projections.output,
            (None, Some(expanding)) => &expanding.projections.output,
            (None, None) => unreachable!("a reader has a layer"),
        };
        self.read.forward(output.forward(edges.matmul(values.clone())).squeeze_dim(1))
    }

    fn look(&self, which: Mechanism, x: Tensor<3>) -> Result<Looked, Error> {
        let last = query(&x);
        if let Some(full) = &self.full {
            let nodes = full.projections.nodes(last, x);
            let attention = marginals(full.posterior(), &nodes, &full.learned.parameters())?;
            let values = nodes.v.expect("projected").squeeze_dim(1);
            return Ok(Looked { attention, values, found: None });
        }
        let (Some(layer), Some(inference)) = (&self.expanding, inference(which)) else {
            unreachable!("a reader has the layer of its mechanism");
        };
        let [batch, keys, width] = x.dims();
        let maps = &layer.projections;
        let [q, k, v] = [(&maps.query, &last), (&maps.key, &x), (&maps.value, &x)]
            .map(|(linear, x)| linear.forward(x.clone()));
        let alone = |x: &Tensor<3>| x.clone().unsqueeze_dim::<4>(1);
        let logs = [&layer.log_alpha, &layer.log_beta];
        let concentrations = logs.map(|log| log.val().exp());
        // Values that name their keys make the mean the posterior itself.
        let named = Tensor::<2>::eye(keys, &x.device()).reshape([1, 1, keys, keys]);
        let named = named.expand([batch, 1, keys, keys]);
        let engine = ops::Expanding::new(mechanism(inference));
        let found = engine.forward([alone(&q), alone(&k), named], concentrations.clone())?;
        let concentrations = concentrations.map(|x| f64::from(floats(x)[0]));
        let rho = floats(found.rho.clone());
        let (q, k) = (floats(q), floats(k));
        let certified = (0..batch).map(|b| {
            let weights = match which {
                Mechanism::MeanField => Weights::MeanField { rho: f64::from(rho[b]) },
                _ => Weights::Exact,
            };
            let own = &k[b * keys * width..(b + 1) * keys * width];
            scene(&q[b * width..(b + 1) * width], own, weights.logs(concentrations, keys))
                .certified(TOLERANCE)
        });
        let found_here = Found {
            read: found.report.window.iter().copied().collect(),
            certified: certified.collect(),
            steps: found.report.steps.iter().copied().collect(),
            concentrations,
        };
        let attention = found.mean.squeeze_dim(1);
        Ok(Looked { attention, values: v, found: Some(found_here) })
    }
}

/// Scene of one query: its keys, nearest (last) first.
fn scene(q: &[f32], keys: &[f32], log_weights: Vec<f64>) -> Scene {
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
    };
    let scale = 1.0 / (q.len() as f64).sqrt();
    let long = dot(q, q).sqrt();
    let behind = || keys.rchunks_exact(q.len());
    Scene {
        scores: behind().map(|k| scale * dot(q, k)).collect(),
        bounds: behind().map(|k| scale * long * dot(k, k).sqrt()).collect(),
        log_weights,
    }
}

impl Schedule {
    /// The same for vectors of `width` numbers. What a step moves a score by grows with the width, and
    /// the weights it moves shrink with its root: √width³ keeps the two in proportion.
    fn for_width(self, width: usize) -> Self {
        Self { rate: self.rate * (10.0 / width as f64).powf(1.5), ..self }
    }
}

/// How one model of one seed did; windows, steps and masses are means over held-out sequences.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Run {
    /// The layer.
    pub mechanism: Mechanism,
    /// The problem.
    #[serde(flatten)]
    pub setting: Setting,
    /// The seed of task, sequences and weights.
    pub seed: u64,
    /// Whether training broke off, or the error is above twice that of guessing the mean.
    pub diverged: bool,
    /// Mean squared error on held-out sequences; absent where training broke off.
    pub squared_error: Option<f64>,
    /// The same with the likeliest edge in place of the posterior.
    pub squared_error_hard: Option<f64>,
    /// Error of guessing the mean: the targets' variance.
    pub variance: f64,
    /// Posterior mass on x₀ and on x₁ itself.
    pub attention: Option<[f64; 2]>,
    /// Keys outside which the posterior has at most the tolerance.
    pub window_needed: Option<f64>,
    /// Results that only expanding attention has.
    pub expansion: Option<Expansion>,
}

/// Result of expanding attention.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Expansion {
    /// Keys that the engine read, a block at a time.
    pub window_read: f64,
    /// Keys that the bound asks for, one at a time.
    pub window_certified: f64,
    /// Times a window that grows by one key grows, and steps of coordinate ascent.
    pub iterations: f64,
    /// Steps of coordinate ascent.
    pub steps: f64,
    /// (window × D + iterations) / (50 × D).
    pub cost: f64,
    /// Error from the keys in the certified windows alone.
    pub squared_error_in_window: f64,
    /// α and β.
    pub concentrations: [f64; 2],
}

/// Trains one model and judges it on `held_out` sequences.
pub fn run(
    which: Mechanism,
    setting: Setting,
    seed: u64,
    schedule: &Schedule,
    held_out: usize,
) -> Result<Run, Error> {
    let device = Device::flex().autodiff();
    let task = Task::draw(setting, seed);
    let sample =
        |purpose, step, count| task.sequences(&mut Random::new(seed, purpose, step), count);
    let unit = Unit::of(&sample(Purpose::Scale, 0, 1024).targets);
    let reader = Reader::new(which, setting, seed, &device)?;
    let schedule = schedule.for_width(setting.dimension);
    let trained = train(reader, &schedule, |reader: &Reader, step| {
        let sequences = sample(Purpose::Training, step, schedule.batch);
        let target = unit.tensor(&sequences.targets, &device);
        Ok(squared_error(reader.say(sequences.tensor(&device))?, target))
    })?;
    let judged = sample(Purpose::HeldOut, 0, held_out);
    let mut run = Run {
        mechanism: which,
        setting,
        seed,
        diverged: true,
        squared_error: None,
        squared_error_hard: None,
        variance: Unit::of(&judged.targets).variance(),
        attention: None,
        window_needed: None,
        expansion: None,
    };
    let Trained::Model(reader) = trained else { return Ok(run) };
    let reader = reader.valid();
    let x = judged.tensor(&Device::flex());
    let error = |said: Tensor<2>| unit.squared_error(&floats(said), &judged.targets);
    let soft = error(reader.say(x.clone())?);
    run.diverged = !(soft.is_finite() && soft <= 2.0 * run.variance);
    if !soft.is_finite() {
        return Ok(run);
    }
    run.squared_error = Some(soft);
    let Looked { attention, values, found } = reader.look(which, x)?;
    run.squared_error_hard = Some(error(reader.say_with(hard(&attention), &values)));
    let mut p = floats(attention.clone());
    let rows = || p.chunks_exact(LENGTH);
    let mean = |sum: f64| sum / held_out as f64;
    let at = |lag: &usize, row: &[f32]| f64::from(row[LENGTH - 1 - lag]);
    let on_x0 = rows().zip(&judged.lags).map(|(row, lag)| at(lag, row)).sum();
    let on_x1 = rows().map(|row| at(&0, row)).sum();
    run.attention = Some([mean(on_x0), mean(on_x1)]);
    let backwards = |row: &[f32]| row.iter().rev().map(|&p| f64::from(p)).collect::<Vec<_>>();
    let keys: usize = rows().map(|row| needed(&backwards(row), TOLERANCE)).sum();
    run.window_needed = Some(mean(keys as f64));
    if let Some(Found { read, certified, steps, concentrations }) = found {
        for (row, &window) in p.chunks_exact_mut(LENGTH).zip(&certified) {
            row[..LENGTH - window].fill(0.0);
            let kept: f32 = row.iter().sum();
            row.iter_mut().for_each(|p| *p /= kept);
        }
        let shape = attention.dims();
        let edges = Tensor::from_data(TensorData::new(p, shape), &Device::flex());
        let of = |list: &[usize]| mean(list.iter().sum::<usize>() as f64);
        let (window, steps, width) = (of(&certified), of(&steps), setting.dimension as f64);
        let iterations = window - 1.0 + steps;
        run.expansion = Some(Expansion {
            window_read: of(&read),
            window_certified: window,
            iterations,
            steps,
            cost: (window * width + iterations) / (LENGTH as f64 * width),
            squared_error_in_window: error(reader.say_with(edges, &values)),
            concentrations,
        });
    }
    Ok(run)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// x₀ is where its lag says, x₁ − x₀A and the distractors have a standard deviation of 0.1, and the
    /// target is w·x₀.
    #[test]
    fn sequences_are_as_the_problem_says() {
        let task = Task::draw(Setting { dimension: 10, p: 0.2 }, 4);
        let count = 400;
        let sequences = task.sequences(&mut Random::new(4, Purpose::HeldOut, 0), count);
        let (mut noise, mut uniform) = (Vec::new(), Vec::new());
        for (index, &lag) in sequences.lags.iter().enumerate() {
            let row = |place: usize| -> Vec<f64> {
                let start = (index * LENGTH + place) * 10;
                sequences.x[start..start + 10].iter().map(|&x| f64::from(x)).collect()
            };
            let x0 = row(LENGTH - 1 - lag);
            assert!(x0.iter().all(|x| (0.0..=2.0).contains(x)));
            let last = row(LENGTH - 1);
            for (c, x1) in last.iter().enumerate() {
                noise.push(x1 - (0..10).map(|r| x0[r] * task.map[r * 10 + c]).sum::<f64>());
            }
            for place in (0..LENGTH - 1).filter(|&place| place != LENGTH - 1 - lag) {
                noise.extend(row(place));
            }
            let target: f64 = x0.iter().zip(&task.weights).map(|(x, w)| x * w).sum();
            assert!((target - sequences.targets[index]).abs() < 1e-4);
            uniform.extend(x0);
        }
        let variance = Unit::of(&noise).variance();
        assert!((variance - 0.01).abs() < 1e-4, "{variance}");
        // Of U(0, 2), a third.
        assert!((Unit::of(&uniform).variance() - 1.0 / 3.0).abs() < 0.02);
    }

    /// The engine's posterior is softmax(log ψ + log w) of the scene that windows are found in.
    #[test]
    fn windows_are_found_in_the_posterior_of_the_engine() {
        let setting = Setting { dimension: 6, p: 0.2 };
        let device = Device::flex();
        for which in [Mechanism::Exact, Mechanism::MeanField] {
            let reader = Reader::new(which, setting, 2, &device).expect("the model fits");
            let task = Task::draw(setting, 2);
            let x = task.sequences(&mut Random::new(2, Purpose::HeldOut, 0), 8).tensor(&device);
            let layer = reader.expanding.as_ref().expect("an expanding layer");
            let q = floats(layer.projections.query.forward(query(&x)));
            let k = floats(layer.projections.key.forward(x.clone()));
            let (_, found) = layer.expand(query(&x), x.clone()).expect("sizes fit");
            let rho = floats(found.rho);
            let looked = reader.look(which, x).expect("sizes fit");
            let concentrations = looked.found.expect("expanding attention").concentrations;
            for (b, p) in floats(looked.attention).chunks_exact(LENGTH).enumerate() {
                let weights = match which {
                    Mechanism::Exact => Weights::Exact,
                    _ => Weights::MeanField { rho: f64::from(rho[b]) },
                };
                let own = &k[b * LENGTH * 6..(b + 1) * LENGTH * 6];
                let log_weights = weights.logs(concentrations, LENGTH);
                let scene = scene(&q[b * 6..(b + 1) * 6], own, log_weights);
                let logs = scene.scores.iter().zip(&scene.log_weights);
                let weights: Vec<f64> = logs.map(|(s, w)| (s + w).exp()).collect();
                let sum: f64 = weights.iter().sum();
                for (weight, &p) in weights.iter().zip(p.iter().rev()) {
                    assert!((weight / sum - f64::from(p)).abs() < 1e-5, "{which:?}");
                }
            }
        }
    }
}
