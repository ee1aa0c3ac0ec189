//! Mechanisms with learned weights: slot attention, block-slot attention, Perceiver.
//!
//! They run in f32, whatever the input is in. Questions are about the posterior that they end with, and are
//! answered as those about any other posterior.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor, TensorData};
use marginals::ask::{self, Answers, Input, Inputs, Settings, Source};
use marginals::question::Named;
use marginals::spec::{BlockSlotsSpec, MechanismSpec, ModelFile, PerceiverSpec, SlotsSpec};
use marginals::{Error, Real, check_room};
use marginals_burn::checkpoint::Checkpoint;
use marginals_burn::checkpoint::safetensors::SafetensorsFile;
use marginals_burn::{
    BlockSlotAttentionConfig, LastPosterior, ModelError, PerceiverConfig, SlotAttentionConfig,
};
use ndarray::{Array3, ArrayD, Ix2, Ix3, IxDyn};

use super::AnswerError;

const INPUTS: &str = "what the slots or latents look at, [B, M, D]";
const UPSTREAM: &str = "an upstream gradient";
/// Prefix of weights among the tensors of the input.
const WEIGHTS: &str = "weights.";

/// Runs a mechanism with learned weights; `None` for the others.
pub fn answer<T: Real>(
    mechanism: &MechanismSpec,
    questions: &[Named],
    source: &dyn Source<T>,
    settings: Settings,
) -> Option<Result<Answers<T>, AnswerError>> {
    let inputs = Inputs::new(source);
    let asked = Asked { questions, source, settings };
    Some(match mechanism {
        MechanismSpec::Slots(spec) => slots(spec, asked, inputs),
        MechanismSpec::BlockSlots(spec) => block_slots(spec, asked, inputs),
        MechanismSpec::Perceiver(spec) => perceiver(spec, asked, inputs),
        _ => return None,
    })
}

/// Questions about the posterior that a module ends with.
#[derive(Clone, Copy)]
struct Asked<'a, T> {
    questions: &'a [Named],
    source: &'a dyn Source<T>,
    settings: Settings,
}

impl<T: Real> Asked<'_, T> {
    fn is_empty(&self) -> bool {
        self.questions.is_empty()
    }

    /// The answers about `last`.
    fn of(&self, last: LastPosterior) -> Result<Answers<T>, Error> {
        let LastPosterior { nodes, model } = last;
        let mut own = BTreeMap::from([("q", array(nodes.q)), ("k", array(nodes.k))]);
        own.extend(nodes.v.map(|v| ("v", array(v))));
        let nodes = Nodes { own, beside: self.source };
        ask::ask(&ModelFile::Posterior(model), self.questions, &nodes, self.settings)
    }
}

/// The nodes of a posterior, beside the tensors of the input that a question may read. Upstream gradients
/// there are those of the module's own answers.
struct Nodes<'a, T> {
    own: BTreeMap<&'static str, ArrayD<T>>,
    beside: &'a dyn Source<T>,
}

impl<T: Real> Source<T> for Nodes<'_, T> {
    fn names(&self) -> Vec<String> {
        let is_beside = |name: &String| {
            !self.own.contains_key(name.as_str()) && !name.starts_with(ask::GRADIENT)
        };
        let beside = self.beside.names().into_iter().filter(is_beside);
        self.own.keys().map(|&name| name.to_owned()).chain(beside).collect()
    }
    fn read(&self, name: &str) -> Result<Option<Input<'_, T>>, Error> {
        match self.own.get(name) {
            Some(own) => Ok(Some(own.view().into())),
            None => self.beside.read(name),
        }
    }
}

/// Weights among the tensors of the input, as `weights.NAME`.
struct InputWeights {
    tensors: BTreeMap<String, ArrayD<f32>>,
}

impl Checkpoint for InputWeights {
    fn path(&self) -> &Path {
        Path::new("weights.* of the input")
    }
    fn names(&self) -> Vec<String> {
        self.tensors.keys().cloned().collect()
    }
    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.tensors.get(name).map(|tensor| tensor.shape().to_vec())
    }
    fn values(&self, name: &str) -> Result<Vec<f32>, ModelError> {
        let path = || self.path().to_path_buf();
        let tensor = self.tensors.get(name).ok_or_else(|| ModelError::Damaged {
            path: path(),
            reason: format!("the tensor `{name}` is missing"),
        })?;
        Ok(tensor.iter().copied().collect())
    }
}

/// The weights: of a file, or of the input.
fn weights<T: Real>(
    file: Option<&PathBuf>,
    inputs: &mut Inputs<'_, T>,
) -> Result<Box<dyn Checkpoint>, AnswerError> {
    if let Some(path) = file {
        return Ok(Box::new(SafetensorsFile::open(path)?));
    }
    let mut tensors = BTreeMap::new();
    for name in inputs.beginning_with(WEIGHTS) {
        let tensor = inputs.take::<IxDyn>(&name, "a weight")?;
        tensors.insert(name[WEIGHTS.len()..].to_owned(), tensor.mapv(|x| x.f64() as f32));
    }
    Ok(Box::new(InputWeights { tensors }))
}

/// Runs slot attention.
fn slots<T: Real>(
    spec: &SlotsSpec,
    asked: Asked<'_, T>,
    mut inputs: Inputs<'_, T>,
) -> Result<Answers<T>, AnswerError> {
    let weights = weights(spec.weights.as_ref(), &mut inputs)?;
    let found = SlotAttentionConfig::of_checkpoint(&*weights)?;
    let found = found.with_heads_of(&*weights, spec.heads)?;
    let config = SlotAttentionConfig {
        slots: spec.slots,
        iterations: spec.iterations,
        head_width: spec.head_width.or(found.head_width),
        epsilon: spec.epsilon,
        norm_epsilon: spec.norm_epsilon,
        ..found
    };
    let run = Run::take(&mut inputs, config.input_width, &["grad.slots"])?;
    let (slot_width, iterations) = (config.slot_width, config.iterations);
    let module = config.load(&*weights, &run.device)?;
    let start = match &run.start {
        Some(start) => start.clone(),
        None => {
            run.room_for(spec.slots, slot_width)?;
            drawn(module.start(run.x.dim().0, spec.slots, spec.seed)?)
        }
    };
    run.room_on_the_tape("iterations", iterations, start.len())?;
    run.refine(&start, asked, |x, start| match asked.is_empty() {
        true => Ok((module.forward_from(x, start)?, None)),
        false => module.forward_and_posterior(x, start).map(|(slots, last)| (slots, Some(last))),
    })
}

/// Runs block-slot attention.
fn block_slots<T: Real>(
    spec: &BlockSlotsSpec,
    asked: Asked<'_, T>,
    mut inputs: Inputs<'_, T>,
) -> Result<Answers<T>, AnswerError> {
    let weights = weights(spec.weights.as_ref(), &mut inputs)?;
    let found = BlockSlotAttentionConfig::of_checkpoint(&*weights)?;
    let config = BlockSlotAttentionConfig {
        blocks: spec.blocks.unwrap_or(found.blocks),
        slots: spec.slots,
        iterations: spec.iterations,
        epsilon: spec.epsilon,
        norm_epsilon: spec.norm_epsilon,
        ..found
    };
    let run = Run::take(&mut inputs, config.input_width, &["grad.slots"])?;
    let (slot_width, iterations) = (config.slot_width, config.iterations);
    let module = config.load(&*weights, &run.device)?;
    let start = match &run.start {
        Some(start) => start.clone(),
        None => {
            run.room_for(spec.slots, slot_width)?;
            drawn(module.start(run.x.dim().0, spec.slots, spec.seed)?)
        }
    };
    run.room_on_the_tape("iterations", iterations, start.len())?;
    run.refine(&start, asked, |x, start| match asked.is_empty() {
        true => Ok((module.forward_from(x, start)?, None)),
        false => module.forward_and_posterior(x, start).map(|(slots, last)| (slots, Some(last))),
    })
}

/// Runs a Perceiver.
fn perceiver<T: Real>(
    spec: &PerceiverSpec,
    asked: Asked<'_, T>,
    mut inputs: Inputs<'_, T>,
) -> Result<Answers<T>, AnswerError> {
    let weights = weights(spec.weights.as_ref(), &mut inputs)?;
    let found = PerceiverConfig::of_checkpoint(&*weights)?;
    let (config, assumed) = settled(spec, found)?;
    let run = Run::take(&mut inputs, config.input_width, &["grad.latents", "grad.logits"])?;
    let module = config.load(&*weights, &run.device)?;
    let numbers = run.x.dim().0.saturating_mul(config.latents).saturating_mul(config.latent_width);
    run.room_on_the_tape("depth", config.depth, numbers)?;
    let x = run.tensor(&run.x);
    let (latents, mut output) = match asked.is_empty() {
        true => (module.forward(x.clone())?, Answers::default()),
        false => {
            let (latents, last) = module.forward_and_posterior(x.clone())?;
            (latents, asked.of(last)?)
        }
    };
    if !assumed.is_empty() {
        output.assume(
            "latents",
            format!(
                "neither the weights nor the model file say all of how they are used; assumed: {}",
                assumed.join(", ")
            ),
        );
    }
    output.real("latents", array(latents.clone()));
    let mut losses = Vec::new();
    if let Some(upstream) = &run.upstream {
        losses.push(weighed(&run, "grad.latents", latents, upstream.clone().into_dyn())?);
    }
    if module.classify.is_some() {
        let logits = module.classify(x.clone())?;
        output.real("logits", array(logits.clone()));
        if let Some(upstream) = &run.of_logits {
            losses.push(weighed(&run, "grad.logits", logits, upstream.clone().into_dyn())?);
        }
    } else if run.of_logits.is_some() {
        return Err(Error::NotAnswerable {
            question: "grad.logits".into(),
            why: "the weights have no classes".into(),
            instead: "Give `grad.latents`, or weights with `to_logits`.".into(),
        }
        .into());
    }
    if let Some(loss) = losses.into_iter().reduce(|sum, loss| sum + loss) {
        let gradients = loss.backward();
        output.real("grad.inputs", gradient(&x, &gradients));
    }
    Ok(output)
}

/// The settings of a Perceiver, and which of them nobody said.
fn settled(
    spec: &PerceiverSpec,
    mut config: PerceiverConfig,
) -> Result<(PerceiverConfig, Vec<String>), Error> {
    let mut assumed = Vec::new();
    config.norm_epsilon = spec.norm_epsilon;
    match spec.depth {
        Some(depth) => config.depth = depth,
        None => assumed.push(format!("`depth` = {} (the layers they hold)", config.depth)),
    }
    let inner = config.cross_heads * config.cross_head_width;
    let count = spec.cross_heads.unwrap_or(1);
    (config.cross_heads, config.cross_head_width) = heads("cross-heads", count, inner)?;
    if spec.cross_heads.is_none() {
        assumed.push(format!("`cross-heads` = 1 (of {inner} numbers)"));
    }
    if config.self_per_cross == 0 {
        return Ok((config, assumed));
    }
    let inner = config.latent_heads * config.latent_head_width;
    let count = match spec.latent_heads {
        Some(count) => count,
        None if inner.is_multiple_of(USUAL_HEAD) => {
            let count = inner / USUAL_HEAD;
            assumed.push(format!("`latent-heads` = {count} (of {USUAL_HEAD} numbers each)"));
            count
        }
        None => {
            let expected = format!(
                "the number of heads that the {inner} numbers of the self-attention fall into: the \
                 weights do not say, and there is a default for heads of {USUAL_HEAD} alone"
            );
            return Err(Error::value("latent-heads", expected, "absent"));
        }
    };
    (config.latent_heads, config.latent_head_width) = heads("latent-heads", count, inner)?;
    Ok((config, assumed))
}

/// Numbers per head in `perceiver-pytorch`, unless it is told otherwise.
const USUAL_HEAD: usize = 64;

/// A number of heads that `inner` numbers fall into, and the width of each.
fn heads(name: &str, count: usize, inner: usize) -> Result<(usize, usize), Error> {
    match count {
        0 => Err(Error::value(name, "at least 1", 0)),
        count if !inner.is_multiple_of(count) => {
            Err(Error::value(name, format!("a divisor of the inner width {inner}"), count))
        }
        count => Ok((count, inner / count)),
    }
}

/// Inputs that a module is run on.
struct Run<T> {
    x: Array3<T>,
    start: Option<Array3<T>>,
    /// Of slots or latents.
    upstream: Option<Array3<T>>,
    of_logits: Option<ndarray::Array2<T>>,
    /// With derivatives, where an upstream gradient asks for them.
    device: Device,
}

impl<T: Real> Run<T> {
    /// Takes the tensors of a run out of the input: `inputs` of `width` numbers, and the upstream
    /// gradients named by `read`.
    fn take(inputs: &mut Inputs<'_, T>, width: usize, read: &[&str]) -> Result<Self, Error> {
        let x: Array3<T> = inputs.take("inputs", INPUTS)?.into_owned();
        if x.dim().2 != width {
            let advice = "The weights were learned for inputs of that width.";
            return Err(Error::shape("inputs", format!("[B, M, {width}]"), x.shape(), advice));
        }
        if x.is_empty() {
            let advice = "There is nothing to look at.";
            let expected = format!("[B, M, {width}], B and M at least 1");
            return Err(Error::shape("inputs", expected, x.shape(), advice));
        }
        let start = inputs.optional::<Ix3>("start", "where the slots start, [B, N, S]")?;
        let start = start.map(|start| start.into_owned());
        let upstream = inputs.optional::<Ix3>(read[0], UPSTREAM)?.map(|g| g.into_owned());
        let of_logits = match read.get(1) {
            Some(name) => inputs.optional::<Ix2>(name, UPSTREAM)?.map(|g| g.into_owned()),
            None => None,
        };
        inputs.refuse_unread_gradients(read)?;
        for (name, tensor) in [("inputs", Some(&x)), ("start", start.as_ref())] {
            let nan = tensor.and_then(|t| t.indexed_iter().find(|(_, x)| x.is_nan()));
            if let Some(((b, i, c), _)) = nan {
                let position = vec![b, i, c];
                return Err(Error::not_a_number(name, position));
            }
        }
        let device = match upstream.is_some() || of_logits.is_some() {
            true => Device::flex().autodiff(),
            false => Device::flex(),
        };
        Ok(Self { x, start, upstream, of_logits, device })
    }

    /// Refuses more slots than memory holds with their marginals over the inputs.
    fn room_for(&self, slots: usize, width: usize) -> Result<(), Error> {
        let (batch, inputs, _) = self.x.dim();
        check_room("slots", &[batch, slots, width.max(inputs)], 4 * size_of::<f32>())
    }

    /// Refuses more repetitions than memory holds on the way to a gradient, each of a few dozen tensors of
    /// `numbers`.
    fn room_on_the_tape(&self, setting: &str, times: usize, numbers: usize) -> Result<(), Error> {
        const KEPT: usize = 24;
        match self.upstream.is_some() || self.of_logits.is_some() {
            true => check_room(setting, &[times, numbers], KEPT * size_of::<f32>()),
            false => Ok(()),
        }
    }

    /// A tensor that derivatives are taken in, where any are.
    fn tensor(&self, array: &Array3<T>) -> Tensor<3> {
        let tensor = as_tensor(&self.device, array.iter(), array.shape());
        match self.upstream.is_some() || self.of_logits.is_some() {
            true => tensor.require_grad(),
            false => tensor,
        }
    }

    /// Refines slots from `start`.
    fn refine(
        &self,
        start: &Array3<T>,
        asked: Asked<'_, T>,
        forward: impl Fn(Tensor<3>, Tensor<3>) -> Result<(Tensor<3>, Option<LastPosterior>), Error>,
    ) -> Result<Answers<T>, AnswerError> {
        let (x, start) = (self.tensor(&self.x), self.tensor(start));
        let (slots, last) = forward(x.clone(), start.clone())?;
        let mut output = last.map_or(Ok(Answers::default()), |last| asked.of(last))?;
        output.real("start", array(start.clone()));
        output.real("slots", array(slots.clone()));
        if let Some(upstream) = &self.upstream {
            let loss = weighed(self, "grad.slots", slots, upstream.clone().into_dyn())?;
            let gradients = loss.backward();
            output.real("grad.inputs", gradient(&x, &gradients));
            output.real("grad.start", gradient(&start, &gradients));
        }
        Ok(output)
    }
}

fn as_tensor<'a, T: Real, const D: usize>(
    device: &Device,
    numbers: impl Iterator<Item = &'a T>,
    shape: &[usize],
) -> Tensor<D> {
    let numbers: Vec<f32> = numbers.map(|x| x.f64() as f32).collect();
    Tensor::from_data(TensorData::new(numbers, shape.to_vec()), device)
}

fn array<T: Real, const D: usize>(tensor: Tensor<D>) -> ArrayD<T> {
    let shape = IxDyn(&tensor.dims());
    let numbers: Vec<f32> = tensor.into_data().try_into_vec().expect("modules hold f32");
    let numbers = numbers.into_iter().map(|x| T::of(x.into())).collect();
    ArrayD::from_shape_vec(shape, numbers).expect("as many numbers as the shape says")
}

/// A drawn start as an array: a node like the others, whatever weights it was drawn by.
fn drawn<T: Real>(start: Tensor<3>) -> Array3<T> {
    array(start).into_dimensionality().expect("three axes")
}

/// Σ answer · upstream.
fn weighed<T: Real, const D: usize>(
    run: &Run<T>,
    name: &str,
    answer: Tensor<D>,
    upstream: ArrayD<T>,
) -> Result<Tensor<1>, Error> {
    if upstream.shape() != answer.dims() {
        let expected = format!("{:?}", answer.dims());
        let advice = "An upstream gradient has its answer's shape.";
        return Err(Error::shape(name, expected, upstream.shape(), advice));
    }
    let upstream: Tensor<D> = as_tensor(&run.device, upstream.iter(), upstream.shape());
    Ok((answer * upstream).sum())
}

/// The gradient in `leaf`; 0 where it played no part.
fn gradient<T: Real>(leaf: &Tensor<3>, gradients: &burn::tensor::Gradients) -> ArrayD<T> {
    match leaf.grad(gradients) {
        Some(gradient) => array(gradient),
        None => ArrayD::zeros(IxDyn(&leaf.dims())),
    }
}
