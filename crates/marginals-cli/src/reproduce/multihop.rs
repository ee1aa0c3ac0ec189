//! The toy problem of multihop attention: a chain x₀ → x₁ → x₂ among distractors.
//!
//! ```text
//! x₀ ~ U(0, 10)³,  x₁ = x₀A + ε,  x₂ = x₁A + ε,     A ~ U(0, 1)^{3×3},  ε ~ N(0, 1)
//! target w·(2x₀ + x₁ + x₂),                          w ~ N(1, 1)
//! ```
//!
//! Two distractors ~ N(0, 1); x₀, x₁ and they are shuffled, x₂ comes last (Singh & Buckley, arXiv
//! 2304.04556). A and w are drawn once per seed: that is the task. Sequences are fresh in every step.

use burn::module::Module;
use burn::nn::Linear;
use burn::tensor::{Device, Tensor, TensorData};
use marginals::Error;
use marginals::spec::ModelSpec;
use marginals_burn::ops::Nodes;
use marginals_burn::{Attention, AttentionConfig, Multihop, MultihopConfig};
use ndarray::{ArrayD, IxDyn};
use serde::{Deserialize, Serialize};

use super::edges::{floats, hard, marginals};
use super::random::{Purpose, Random};
use super::training::{Schedule, Trained, Unit, read_out, redraw, squared_error, train};

/// Vectors in a sequence.
const LENGTH: usize = 5;
/// Numbers in a vector.
const WIDTH: usize = 3;
/// Unit of the inputs, which they are divided by so that scores start within a few nats.
const UNIT: f64 = 10.0;

/// The layer under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mechanism {
    /// One attention layer.
    OneHop,
    /// A walk of up to two hops.
    TwoHops,
    /// Two attention layers, one on the other.
    Stacked,
    /// One layer whose queries may pick nothing.
    OneHopSink,
    /// A walk that may end on the way.
    TwoHopsSink,
    /// One layer that knows the edges x₂ → x₁ → x₀.
    OneHopGraph,
    /// A walk that knows them.
    TwoHopsGraph,
}

impl Mechanism {
    /// All, the published ones first.
    pub const ALL: [Self; 7] = [
        Self::OneHop,
        Self::TwoHops,
        Self::Stacked,
        Self::OneHopSink,
        Self::TwoHopsSink,
        Self::OneHopGraph,
        Self::TwoHopsGraph,
    ];

    /// Title in tables.
    pub fn title(self) -> &'static str {
        match self {
            Self::OneHop => "one hop",
            Self::TwoHops => "two hops",
            Self::Stacked => "two layers",
            Self::OneHopSink => "one hop, sink",
            Self::TwoHopsSink => "two hops, sink",
            Self::OneHopGraph => "one hop, true edges",
            Self::TwoHopsGraph => "two hops, true edges",
        }
    }

    /// Whether the edges are given. They belong to places in the sequence, so that these sequences are
    /// not shuffled; without positions in its model attention cannot tell the difference.
    fn knows_edges(self) -> bool {
        matches!(self, Self::OneHopGraph | Self::TwoHopsGraph)
    }

    fn structure(self) -> &'static str {
        match self {
            Self::OneHopSink => "\"each-query-picks-at-most-one\"",
            Self::TwoHopsSink => {
                "{ walk = { hops = 2, weights = [1.0, 1.0, 1.0], \
                 step = \"each-query-picks-at-most-one\" } }"
            }
            Self::TwoHops | Self::TwoHopsGraph => {
                "{ walk = { hops = 2, weights = [1.0, 1.0, 1.0] } }"
            }
            _ => "\"each-query-picks-one\"",
        }
    }

    fn model(self) -> Result<ModelSpec, Error> {
        let prior = if self.knows_edges() { "[\"adjacency\"]" } else { "[]" };
        let structure = self.structure();
        ModelSpec::from_toml(&format!(
            "structure = {structure}\nprior = {prior}\npotential = \"dot\""
        ))
    }
}

/// The numbers that make a task.
#[derive(Clone, Debug)]
pub struct Task {
    map: [[f64; WIDTH]; WIDTH],
    weights: [f64; WIDTH],
    /// Standard deviation of ε.
    noise: f64,
}

/// Sequences and what is asked of them.
#[derive(Clone, Debug)]
pub struct Sequences {
    /// `[B, 5, 3]`, in the problem's own unit.
    pub x: Vec<f32>,
    /// `[B]`.
    pub targets: Vec<f64>,
    /// Where x₀ and x₁ are.
    pub places: Vec<[usize; 2]>,
}

impl Task {
    /// The task of a seed.
    pub fn draw(seed: u64) -> Self {
        let mut random = Random::new(seed, Purpose::Task, 0);
        Self {
            map: std::array::from_fn(|_| std::array::from_fn(|_| random.unit())),
            weights: std::array::from_fn(|_| 1.0 + random.normal()),
            noise: 1.0,
        }
    }

    fn follow(&self, x: &[f64; WIDTH], random: &mut Random) -> [f64; WIDTH] {
        std::array::from_fn(|c| {
            (0..WIDTH).map(|r| x[r] * self.map[r][c]).sum::<f64>() + self.noise * random.normal()
        })
    }

    /// Sequences in which x₀, x₁ and the distractors are in random order, or in this one.
    pub fn sequences(&self, random: &mut Random, count: usize, shuffled: bool) -> Sequences {
        let mut sequences =
            Sequences { x: Vec::new(), targets: Vec::new(), places: Vec::with_capacity(count) };
        for _ in 0..count {
            let x0 = std::array::from_fn(|_| random.between(0.0, 10.0));
            let x1 = self.follow(&x0, random);
            let x2 = self.follow(&x1, random);
            let distractor = |random: &mut Random| std::array::from_fn(|_| random.normal());
            let rows = [x0, x1, distractor(random), distractor(random), x2];
            let mut order = [0, 1, 2, 3];
            if shuffled {
                random.shuffle(&mut order);
            }
            let place = |row| order.iter().position(|&r| r == row).expect("a permutation");
            sequences.places.push([place(0), place(1)]);
            let rows = order.into_iter().chain([4]).flat_map(|row| rows[row]);
            sequences.x.extend(rows.map(|x| x as f32));
            let sum = |c: usize| self.weights[c] * (2.0 * x0[c] + x1[c] + x2[c]);
            sequences.targets.push((0..WIDTH).map(sum).sum());
        }
        sequences
    }
}

impl Sequences {
    fn tensor(&self, device: &Device) -> Tensor<3> {
        let shape = [self.targets.len(), LENGTH, WIDTH];
        Tensor::from_data(TensorData::new(self.x.clone(), shape), device) / UNIT
    }
}

/// The layers under test, each read at the last position by a linear map to one number.
#[derive(Module, Debug)]
struct Reader {
    /// One layer, or two.
    layers: Vec<Attention>,
    /// Or a walk.
    walk: Option<Multihop>,
    read: Linear,
}

/// Look of a reader: its edges and its prediction.
struct Looked {
    /// Posterior of where the last position ends up, `[B, 5]`: with 0, 1, 2 hops, or through one layer
    /// and two.
    by_hops: Vec<Tensor<2>>,
    /// The same with the number of hops summed out.
    attention: Tensor<2>,
    /// Prediction with the likeliest edges in place of the posterior, `[B, 1]`.
    said_hard: Tensor<2>,
}

impl Reader {
    fn new(mechanism: Mechanism, seed: u64, device: &Device) -> Result<Self, Error> {
        let mut random = Random::new(seed, Purpose::Weights, 0);
        let model = mechanism.model()?;
        // x₂ may look at x₁, and x₁ at x₀, in the order of sequences that are not shuffled.
        let graph = match mechanism.knows_edges() {
            false => Vec::new(),
            true => vec![
                ("adjacency.indptr", integers(&[0, 0, 1, 1, 1, 2])),
                ("adjacency.indices", integers(&[0, 1])),
            ],
        };
        let attention = |random: &mut Random, model: ModelSpec, learn: &[&str]| {
            let learn = learn.iter().map(|&name| name.to_owned()).collect();
            let layer = AttentionConfig::new(WIDTH, 1, model).with_learn(learn).init(device)?;
            let mut layer = graph
                .iter()
                .fold(layer, |layer, (name, tensor)| layer.with_integers(name, tensor.clone()));
            redraw(&mut layer.projections, random);
            Ok::<_, Error>(layer)
        };
        let walk = |random: &mut Random, learn: &[&str]| {
            let learn = learn.iter().map(|&name| name.to_owned()).collect();
            let walk = MultihopConfig::new(WIDTH, 1, model.clone()).with_learn(learn);
            let walk = walk.init(device)?;
            let mut walk = graph
                .iter()
                .fold(walk, |walk, (name, tensor)| walk.with_integers(name, tensor.clone()));
            redraw(&mut walk.projections, random);
            Ok::<_, Error>(walk)
        };
        let (layers, walk) = match mechanism {
            Mechanism::OneHop | Mechanism::OneHopGraph => {
                (vec![attention(&mut random, model.clone(), &[])?], None)
            }
            Mechanism::OneHopSink => {
                (vec![attention(&mut random, model.clone(), &["null"])?], None)
            }
            Mechanism::Stacked => {
                let first = attention(&mut random, model.clone(), &[])?;
                (vec![first, attention(&mut random, model.clone(), &[])?], None)
            }
            Mechanism::TwoHops | Mechanism::TwoHopsGraph => {
                (Vec::new(), Some(walk(&mut random, &[])?))
            }
            Mechanism::TwoHopsSink => (Vec::new(), Some(walk(&mut random, &["null"])?)),
        };
        Ok(Self { layers, walk, read: read_out(WIDTH, device) })
    }

    /// Prediction for each sequence, `[B, 1]`.
    fn say(&self, x: Tensor<3>) -> Result<Tensor<2>, Error> {
        let mut y = x;
        if let Some(walk) = &self.walk {
            y = walk.forward(y)?;
        }
        for layer in &self.layers {
            y = layer.forward(y)?;
        }
        Ok(self.read.forward(last(y)))
    }

    fn look(&self, x: Tensor<3>) -> Result<Looked, Error> {
        let [batch, length, _] = x.dims();
        let start = Tensor::<2>::eye(length, &x.device()).reshape([1, length, length]);
        let start = start.expand([batch, length, length]);
        if let Some(walk) = &self.walk {
            let nodes = walk.projections.nodes(x.clone(), x);
            let one_pick = walk.posterior().of_one_pick();
            let step = marginals(&one_pick, &nodes, &walk.learned.parameters())?;
            let hops = floats(walk.hop_probabilities());
            let sharp = hard(&step);
            let (mut soft, mut picked) = (start.clone(), start);
            let mut by_hops = Vec::new();
            let (mut attention, mut chosen) = (soft.zeros_like(), soft.zeros_like());
            for (h, &weight) in hops.iter().enumerate() {
                if h > 0 {
                    soft = soft.matmul(step.clone());
                    picked = picked.matmul(sharp.clone());
                }
                attention = attention + soft.clone() * weight;
                chosen = chosen + picked.clone() * weight;
                by_hops.push(last(soft.clone()));
            }
            let said = walk.projections.output.forward(chosen.matmul(values(&nodes)));
            let said_hard = self.read.forward(last(said));
            return Ok(Looked { by_hops, attention: last(attention), said_hard });
        }
        let (mut soft, mut y, mut y_hard) = (start, x.clone(), x);
        let mut by_hops = Vec::new();
        for layer in &self.layers {
            let parameters = layer.learned.parameters();
            let matrix = |y: &Tensor<3>| {
                let nodes = layer.projections.nodes(y.clone(), y.clone());
                Ok::<_, Error>((marginals(layer.posterior(), &nodes, &parameters)?, nodes))
            };
            let (step, nodes) = matrix(&y)?;
            soft = step.clone().matmul(soft);
            y = layer.projections.output.forward(step.matmul(values(&nodes)));
            let (step, nodes) = matrix(&y_hard)?;
            y_hard = layer.projections.output.forward(hard(&step).matmul(values(&nodes)));
            by_hops.push(last(soft.clone()));
        }
        let said_hard = self.read.forward(last(y_hard));
        Ok(Looked { by_hops, attention: last(soft), said_hard })
    }
}

fn integers(list: &[i64]) -> ArrayD<i64> {
    ArrayD::from_shape_vec(IxDyn(&[list.len()]), list.to_vec()).expect("one axis")
}

/// Values of one head, `[B, M, Dv]`.
fn values(nodes: &Nodes) -> Tensor<3> {
    nodes.v.clone().expect("layers project values").squeeze_dim(1)
}

/// The last row of each sequence.
fn last(x: Tensor<3>) -> Tensor<2> {
    let length = x.dims()[1];
    x.narrow(1, length - 1, 1).squeeze_dim(1)
}

/// How one model of one seed did.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Run {
    /// The layer.
    pub mechanism: Mechanism,
    /// The seed of task, sequences and weights.
    pub seed: u64,
    /// Whether training broke off, or the error is above twice that of guessing the mean.
    pub diverged: bool,
    /// Mean squared error on held-out sequences; absent where training broke off.
    pub squared_error: Option<f64>,
    /// The same with the likeliest edges in place of the posterior.
    pub squared_error_hard: Option<f64>,
    /// Error of guessing the mean: the targets' variance.
    pub variance: f64,
    /// Attention that the last position gives to x₀, x₁, x₂ and both distractors, on average.
    pub attention: Option<[f64; 4]>,
    /// The same after 0, 1, 2 hops, or through one layer and two.
    pub attention_by_hops: Vec<[f64; 4]>,
    /// P(0), P(1), P(2) hops of a walk.
    pub hops: Option<Vec<f64>>,
}

/// Trains one model and judges it on `held_out` sequences.
pub fn run(
    mechanism: Mechanism,
    seed: u64,
    schedule: &Schedule,
    held_out: usize,
) -> Result<Run, Error> {
    run_task(&Task::draw(seed), mechanism, seed, schedule, held_out)
}

fn run_task(
    task: &Task,
    mechanism: Mechanism,
    seed: u64,
    schedule: &Schedule,
    held_out: usize,
) -> Result<Run, Error> {
    let device = Device::flex().autodiff();
    let shuffled = !mechanism.knows_edges();
    let sample = |purpose, step, count| {
        task.sequences(&mut Random::new(seed, purpose, step), count, shuffled)
    };
    let unit = Unit::of(&sample(Purpose::Scale, 0, 4096).targets);
    let reader = Reader::new(mechanism, seed, &device)?;
    let trained = train(reader, schedule, |reader: &Reader, step| {
        let sequences = sample(Purpose::Training, step, schedule.batch);
        let target = unit.tensor(&sequences.targets, &device);
        Ok(squared_error(reader.say(sequences.tensor(&device))?, target))
    })?;
    let judged = sample(Purpose::HeldOut, 0, held_out);
    let variance = Unit::of(&judged.targets).variance();
    let mut run = Run {
        mechanism,
        seed,
        diverged: true,
        squared_error: None,
        squared_error_hard: None,
        variance,
        attention: None,
        attention_by_hops: Vec::new(),
        hops: None,
    };
    let Trained::Model(reader) = trained else { return Ok(run) };
    let reader = reader.valid();
    let x = judged.tensor(&Device::flex());
    let error = |said: Tensor<2>| unit.squared_error(&floats(said), &judged.targets);
    let looked = reader.look(x.clone())?;
    let soft = error(reader.say(x)?);
    run.diverged = !(soft.is_finite() && soft <= 2.0 * variance);
    run.squared_error = soft.is_finite().then_some(soft);
    run.squared_error_hard = Some(error(looked.said_hard)).filter(|error| error.is_finite());
    run.attention = Some(by_role(&looked.attention, &judged.places));
    run.attention_by_hops =
        looked.by_hops.iter().map(|attention| by_role(attention, &judged.places)).collect();
    run.hops = reader
        .walk
        .as_ref()
        .map(|walk| floats(walk.hop_probabilities()).into_iter().map(f64::from).collect());
    Ok(run)
}

/// Mean attention to x₀, x₁, x₂ and the distractors, from `[B, 5]`.
fn by_role(attention: &Tensor<2>, places: &[[usize; 2]]) -> [f64; 4] {
    let mut sums = [0.0; 4];
    for (row, &[zero, one]) in floats(attention.clone()).chunks_exact(LENGTH).zip(places) {
        for (place, &mass) in row.iter().enumerate() {
            let role = match place {
                _ if place == zero => 0,
                _ if place == one => 1,
                _ if place == LENGTH - 1 => 2,
                _ => 3,
            };
            sums[role] += f64::from(mass);
        }
    }
    sums.map(|sum| sum / places.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const COUNT: usize = 20_000;

    fn row(sequences: &Sequences, sequence: usize, place: usize) -> [f64; WIDTH] {
        std::array::from_fn(|c| f64::from(sequences.x[(sequence * LENGTH + place) * WIDTH + c]))
    }

    fn image(task: &Task, x: [f64; WIDTH]) -> [f64; WIDTH] {
        std::array::from_fn(|c| (0..WIDTH).map(|r| x[r] * task.map[r][c]).sum())
    }

    /// x₁ − x₀A and x₂ − x₁A are standard normal noise, distractors too, x₀ is uniform, and the target is
    /// what it says; wherever the shuffle has put them.
    #[test]
    fn sequences_are_as_the_problem_says() {
        let task = Task::draw(3);
        assert!(task.map.iter().flatten().all(|a| (0.0..1.0).contains(a)));
        for shuffled in [false, true] {
            let sequences =
                task.sequences(&mut Random::new(3, Purpose::HeldOut, 0), COUNT, shuffled);
            let (mut noise, mut uniform, mut places) = (Vec::new(), Vec::new(), [0usize; 4]);
            for (index, &[zero, one]) in sequences.places.iter().enumerate() {
                let (x0, x1, x2) = (
                    row(&sequences, index, zero),
                    row(&sequences, index, one),
                    row(&sequences, index, 4),
                );
                let (y1, y2) = (image(&task, x0), image(&task, x1));
                noise.extend((0..WIDTH).flat_map(|c| [x1[c] - y1[c], x2[c] - y2[c]]));
                for place in (0..4).filter(|&place| place != zero && place != one) {
                    noise.extend(row(&sequences, index, place));
                }
                uniform.extend(x0);
                places[zero] += 1;
                let sum: f64 =
                    (0..WIDTH).map(|c| task.weights[c] * (2.0 * x0[c] + x1[c] + x2[c])).sum();
                // Entries went through f32.
                assert!((sum - sequences.targets[index]).abs() < 1e-3 * (1.0 + sum.abs()));
            }
            let moments = |list: &[f64]| {
                let mean = list.iter().sum::<f64>() / list.len() as f64;
                (mean, Unit::of(list).variance())
            };
            let (mean, variance) = moments(&noise);
            assert!(mean.abs() < 0.01 && (variance - 1.0).abs() < 0.015, "{mean} {variance}");
            let (mean, variance) = moments(&uniform);
            assert!((mean - 5.0).abs() < 0.06 && (variance - 100.0 / 12.0).abs() < 0.12);
            match shuffled {
                false => assert_eq!(places, [COUNT, 0, 0, 0]),
                true => assert!(places.iter().all(|&n| n.abs_diff(COUNT / 4) < 300), "{places:?}"),
            }
        }
    }

    /// w ~ N(1, 1) and A ~ U(0, 1), over tasks.
    #[test]
    fn tasks_are_as_the_problem_says() {
        let tasks: Vec<Task> = (0..3000).map(Task::draw).collect();
        let weights: Vec<f64> = tasks.iter().flat_map(|task| task.weights).collect();
        let map: Vec<f64> = tasks.iter().flat_map(|task| task.map).flatten().collect();
        let mean = |list: &[f64]| list.iter().sum::<f64>() / list.len() as f64;
        assert!((mean(&weights) - 1.0).abs() < 0.05);
        assert!((Unit::of(&weights).variance() - 1.0).abs() < 0.06);
        assert!((mean(&map) - 0.5).abs() < 0.01);
        assert!((Unit::of(&map).variance() - 1.0 / 12.0).abs() < 0.003);
    }

    /// With the true edges x₂ → x₁ → x₀ a walk of two hops can say all that is asked, and one hop, which
    /// sees x₁ alone, cannot.
    #[test]
    fn two_hops_solve_what_one_hop_cannot() {
        let schedule = Schedule { steps: 600, batch: 32, rate: 0.03 };
        let share = |mechanism| {
            let run = run(mechanism, 1, &schedule, 512).expect("the model fits");
            assert!(!run.diverged);
            run.squared_error.expect("it did not diverge") / run.variance
        };
        let (one, two) = (share(Mechanism::OneHopGraph), share(Mechanism::TwoHopsGraph));
        assert!(two < 0.03 && two < 0.5 * one, "{one} {two}");
    }
}
