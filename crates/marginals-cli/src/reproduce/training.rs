//! How every model of the toy problems is trained: Adam, a warm start, a cosine to the end.

use burn::module::{Module, Param};
use burn::nn::{Linear, LinearConfig};
use burn::optim::grad_clipping::GradientClippingConfig;
use burn::optim::{AdamConfig, GradientsParams};
use burn::tensor::{Device, Tensor, TensorData};
use marginals::Error;
use marginals_burn::Projections;
use serde::Serialize;

use super::edges::floats;
use super::random::Random;

/// How long and how fast.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Schedule {
    /// Steps, each on sequences never seen before.
    pub steps: u32,
    /// Sequences per step.
    pub batch: usize,
    /// Largest step size of Adam.
    pub rate: f64,
}

impl Schedule {
    /// Step size: it rises over the first tenth and falls along half a cosine.
    fn rate_at(&self, step: u32) -> f64 {
        let (step, steps) = (f64::from(step) + 0.5, f64::from(self.steps));
        let warm = (step / (0.1 * steps)).min(1.0);
        self.rate * warm * 0.5 * (1.0 + (std::f64::consts::PI * step / steps).cos())
    }
}

/// Result of training.
#[derive(Debug)]
pub enum Trained<M> {
    /// A model.
    Model(M),
    /// The loss was no number, or a parameter left its range.
    Diverged,
}

/// Follows the gradient of `loss`, which is given the number of the step.
///
/// # Errors
/// Refusal by `loss` at the first step: later, with the same sizes, only the numbers can be at
/// fault, and that is a divergence.
pub fn train<M: Module>(
    mut module: M,
    schedule: &Schedule,
    loss: impl Fn(&M, u32) -> Result<Tensor<1>, Error>,
) -> Result<Trained<M>, Error> {
    let mut optimiser = AdamConfig::new()
        .with_epsilon(1e-8)
        .with_grad_clipping(Some(GradientClippingConfig::Norm(1.0)))
        .init();
    for step in 0..schedule.steps {
        let loss = match loss(&module, step) {
            Err(error) if step == 0 => return Err(error),
            Err(_) => return Ok(Trained::Diverged),
            Ok(loss) => loss,
        };
        if !loss.clone().into_scalar::<f32>().is_finite() {
            return Ok(Trained::Diverged);
        }
        let gradients = GradientsParams::from_grads(loss.backward(), &module);
        module = optimiser.step(schedule.rate_at(step), module, gradients);
    }
    Ok(Trained::Model(module))
}

/// Mean squared error of predictions `[B, 1]`.
pub fn squared_error(predicted: Tensor<2>, target: Tensor<2>) -> Tensor<1> {
    (predicted - target).powi_scalar(2).mean()
}

/// Readout of the attended vector into a prediction, one number w·y + b. It starts at 0: the first thing
/// learned is then what the values mean, and attention moves towards what they are good for. From a
/// random w it begins by fleeing whatever carries the signal.
pub fn read_out(width: usize, device: &Device) -> Linear {
    let mut read = LinearConfig::new(width, 1).with_bias(true).init(device);
    read.weight = leaf(vec![0.0; width], [width, 1], device);
    read.bias = Some(leaf(vec![0.0], [1], device));
    read
}

fn leaf<const D: usize>(values: Vec<f32>, shape: [usize; D], device: &Device) -> Param<Tensor<D>> {
    Param::from_tensor(Tensor::from_data(TensorData::new(values, shape), device))
}

/// Burn draws weights from one generator that all threads share: these come from the seed's own,
/// uniform within 1/√inputs as Burn's do.
pub fn redraw(projections: &mut Projections, random: &mut Random) {
    let Projections { query, key, value, output, .. } = projections;
    for linear in [query, key, value, output] {
        let weight = linear.weight.val();
        let shape = weight.dims();
        let bound = 1.0 / (shape[0] as f64).sqrt();
        let drawn = (0..shape[0] * shape[1]).map(|_| random.between(-bound, bound) as f32);
        linear.weight = leaf(drawn.collect(), shape, &weight.device());
    }
}

/// Lets keys start from the queries' map, so that at the start likes attract. From two unrelated maps a
/// long search for any attraction at all comes first, the longer the wider the vectors are.
pub fn alike(projections: &mut Projections) {
    let weight = projections.query.weight.val();
    let shape = weight.dims();
    projections.key.weight = leaf(floats(weight.clone()), shape, &weight.device());
}

/// The unit in which targets are learned: their own mean and standard deviation.
#[derive(Clone, Copy, Debug)]
pub struct Unit {
    centre: f64,
    scale: f64,
}

impl Unit {
    /// The unit of a sample.
    pub fn of(targets: &[f64]) -> Self {
        let count = targets.len() as f64;
        let centre = targets.iter().sum::<f64>() / count;
        let square = targets.iter().map(|x| (x - centre).powi(2)).sum::<f64>() / count;
        Self { centre, scale: square.sqrt() }
    }

    /// The sample's variance: the squared error of guessing its mean.
    pub fn variance(&self) -> f64 {
        self.scale.powi(2)
    }

    /// Targets in this unit, `[B, 1]`.
    pub fn tensor(&self, targets: &[f64], device: &Device) -> Tensor<2> {
        let entries: Vec<f32> =
            targets.iter().map(|x| ((x - self.centre) / self.scale) as f32).collect();
        Tensor::from_data(TensorData::new(entries, [targets.len(), 1]), device)
    }

    /// Mean squared error, in the problem's own unit, of what was said in this one.
    pub fn squared_error(&self, said: &[f32], targets: &[f64]) -> f64 {
        let pairs = said.iter().zip(targets);
        let error = |(&said, y): (&f32, &f64)| self.centre + self.scale * f64::from(said) - y;
        pairs.map(|pair| error(pair).powi(2)).sum::<f64>() / targets.len() as f64
    }
}
