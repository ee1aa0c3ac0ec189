//! Slot attention: slots compete for inputs and are refined by what they win.

mod competition;
mod start;

use burn::config::Config;
use burn::module::{Initializer, Module, Param};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor, activation};
use marginals::Error;

pub use competition::Competition;
pub(crate) use competition::{CompetitionShape, merge_heads, split_heads};
pub(crate) use start::draw;

use crate::checkpoint::loader::Loader;
use crate::checkpoint::{Asked, Checkpoint};
use crate::error::ModelError;
use crate::modules::block_maps::{BlockGru, from_blocks, to_blocks};
use crate::modules::last_posterior::LastPosterior;
use crate::modules::norm::Norm;
use crate::sizes::{
    at_least_one, check_divides, check_norm_epsilon, check_repeated, check_rows, check_width,
    head_width,
};

/// Update of a slot when it has won its mean.
#[derive(Config, Debug, Copy, PartialEq, Eq)]
pub enum SlotUpdate {
    /// A GRU step from the old slot, then a residual MLP: Algorithm 1.
    Gated,
    /// The mean itself: the EM-like step, without weights of its own.
    Plain,
}

/// Configuration of [`SlotAttention`].
#[derive(Config, Debug)]
pub struct SlotAttentionConfig {
    /// Numbers per input.
    pub input_width: usize,
    /// Numbers per slot.
    pub slot_width: usize,
    /// Slots where a call does not say how many.
    #[config(default = 7)]
    pub slots: usize,
    /// Refinements.
    #[config(default = 3)]
    pub iterations: usize,
    /// Heads, each with a competition of its own.
    #[config(default = 1)]
    pub heads: usize,
    /// Numbers per head; by default the slot's width over the heads.
    pub head_width: Option<usize>,
    /// Width of the MLP's hidden layer; by default twice the slot's.
    pub hidden_width: Option<usize>,
    /// Update of a slot when it has won its mean.
    #[config(default = "SlotUpdate::Gated")]
    pub update: SlotUpdate,
    /// Whether the projections to queries, keys and values have biases. The paper's do not.
    #[config(default = false)]
    pub bias: bool,
    /// ε, added to the marginals before they are averaged with.
    #[config(default = 1e-8)]
    pub epsilon: f64,
    /// ε of the layer normalisations.
    #[config(default = 1e-5)]
    pub norm_epsilon: f64,
}

/// Slot attention (Locatello et al. 2020, arXiv 2006.15055, Algorithm 1).
///
/// ```text
/// x ← LayerNorm(x),   s ~ N(μ, diag σ²)
/// repeat T times:
///   p_ij = softmax over i of (W_q LayerNorm(s_i) · W_k x_j / √d)      each input picks a slot
///   u_i  = Σ_j (p_ij + ε) W_v x_j / Σ_j (p_ij + ε)                     the mean of what it won
///   s_i  ← GRU(s_i, u_i);   s_i ← s_i + MLP(LayerNorm(s_i))            (or s_i ← u_i)
/// ```
///
/// The N × M matrix p is never made, forwards or backwards. With [`SlotUpdate::Plain`] and projections
/// that are the identity this is the weightless step of [`marginals::zoo::slots`], which says what
/// it minimises; with learned weights nothing is guaranteed.
#[derive(Module, Debug)]
pub struct SlotAttention {
    /// μ of the start, `[slot width]`.
    pub mu: Param<Tensor<1>>,
    /// log σ of the start, `[slot width]`.
    pub log_sigma: Param<Tensor<1>>,
    /// LayerNorm of the inputs.
    pub norm_inputs: Norm,
    /// LayerNorm of the slots, before each competition.
    pub norm_slots: Norm,
    /// The attention.
    pub competition: Competition,
    /// GRU and MLP; absent for [`SlotUpdate::Plain`].
    pub gated: Option<GatedUpdate>,
    slots: usize,
    iterations: usize,
}

/// s ← GRU(s, u), then s ← s + MLP(LayerNorm(s)).
#[derive(Module, Debug)]
pub struct GatedUpdate {
    /// The GRU, one block.
    pub gru: BlockGru,
    /// LayerNorm before the MLP.
    pub norm: Norm,
    /// Slot to hidden, before the rectifier.
    pub widen: Linear,
    /// Hidden to slot.
    pub narrow: Linear,
}

impl SlotAttentionConfig {
    /// Refuses settings that make no module.
    ///
    /// # Errors
    /// [`Error::Value`], naming the setting.
    pub fn check(&self) -> Result<(), Error> {
        check_width("input_width", self.input_width)?;
        check_width("slot_width", self.slot_width)?;
        at_least_one("slots", self.slots)?;
        check_repeated("iterations", self.iterations)?;
        check_width("hidden_width", self.hidden_width())?;
        check_norm_epsilon(self.norm_epsilon)?;
        check_width("heads", self.heads)?;
        let width = head_width(self.head_width, self.heads, "slot_width", self.slot_width)?;
        check_width("head_width", width)?;
        let inner = self.heads * width;
        if self.heads == 1 && inner != self.slot_width {
            // With one head nothing maps what it brings home to the width of a slot.
            return Err(Error::value(
                "head_width",
                format!("slot_width = {}", self.slot_width),
                inner,
            ));
        }
        Ok(())
    }

    fn head_width(&self) -> usize {
        self.head_width.unwrap_or(self.slot_width / self.heads.max(1))
    }

    fn hidden_width(&self) -> usize {
        self.hidden_width.unwrap_or(self.slot_width.saturating_mul(2))
    }

    fn competition(&self) -> CompetitionShape {
        CompetitionShape {
            inputs: self.input_width,
            slots: self.slot_width,
            heads: self.heads,
            head_width: self.head_width(),
            epsilon: self.epsilon,
        }
    }

    /// A module with fresh weights.
    ///
    /// # Errors
    /// [`Error::Value`], naming the setting that makes no module.
    pub fn init(&self, device: &Device) -> Result<SlotAttention, Error> {
        self.check()?;
        let (width, hidden) = (self.slot_width, self.hidden_width());
        let norm = |width| Norm::new(width, self.norm_epsilon, device);
        // Glorot & Bengio's uniform over a [1, width] matrix, as the paper's code has it.
        let bound = (6.0 / (1.0 + width as f64)).sqrt();
        let glorot = Initializer::Uniform { min: -bound, max: bound };
        Ok(SlotAttention {
            mu: glorot.init([width], device),
            log_sigma: glorot.init([width], device),
            norm_inputs: norm(self.input_width),
            norm_slots: norm(width),
            competition: Competition::new(&self.competition(), self.bias, device)?,
            gated: (self.update == SlotUpdate::Gated).then(|| GatedUpdate {
                gru: BlockGru::new(1, width, width, device),
                norm: norm(width),
                widen: LinearConfig::new(width, hidden).init(device),
                narrow: LinearConfig::new(hidden, width).init(device),
            }),
            slots: self.slots,
            iterations: self.iterations,
        })
    }

    /// The widths a checkpoint was trained with; heads, iterations and ε are not in it and keep
    /// their defaults (see [`Self::with_heads_of`]).
    ///
    /// # Errors
    /// [`ModelError::Damaged`] where `to_q.weight` or `to_k.weight` is missing or no matrix.
    pub fn of_checkpoint(checkpoint: &dyn Checkpoint) -> Result<Self, ModelError> {
        let [_, slot_width] = shape_of(checkpoint, "to_q.weight")?;
        let [_, input_width] = shape_of(checkpoint, "to_k.weight")?;
        let update = match checkpoint.shape("gru.weight_ih") {
            Some(_) => SlotUpdate::Gated,
            None => SlotUpdate::Plain,
        };
        let hidden = checkpoint.shape("mlp.0.weight").and_then(|shape| shape.first().copied());
        let bias = checkpoint.shape("to_k.bias").is_some();
        Ok(Self::new(input_width, slot_width)
            .with_update(update)
            .with_hidden_width(hidden)
            .with_bias(bias))
    }

    /// Settings with the inner width of a checkpoint shared out among `heads`, one where nothing combines
    /// them: how many there are is in no weight.
    ///
    /// # Errors
    /// [`ModelError::Configuration`] where `heads` is missing and there are several, or does not divide the
    /// inner width; [`ModelError::Damaged`] where `to_q.weight` is missing or no matrix.
    pub fn with_heads_of(
        self,
        checkpoint: &dyn Checkpoint,
        heads: Option<usize>,
    ) -> Result<Self, ModelError> {
        let [inner, _] = shape_of(checkpoint, "to_q.weight")?;
        let heads = match heads {
            Some(heads) => heads,
            None if checkpoint.shape("combine_heads.weight").is_none() => 1,
            None => {
                let expected = "the number of heads that the weights were trained with: they have \
                                `combine_heads`, and do not say how many it combines";
                return Err(Error::value("heads", expected, "absent").into());
            }
        };
        check_divides("heads", heads, "the inner width", inner)?;
        Ok(self.with_heads(heads).with_head_width(Some(inner / heads)))
    }

    /// The module with the weights of a checkpoint.
    ///
    /// The names are those of the PyPI package `slot-attention`: `slots_mu`, `slots_logsigma`
    /// (`[1, 1, S]`), `to_q`, `to_k`, `to_v` (`.weight`, and `.bias` where there is one),
    /// `combine_heads` (where there are several heads), `gru.weight_ih`, `gru.weight_hh`,
    /// `gru.bias_ih`, `gru.bias_hh`, `mlp.0`, `mlp.2`, `norm_input`, `norm_slots`, `norm_pre_ff`.
    ///
    /// # Errors
    /// [`ModelError::Configuration`] where the settings make no module; [`ModelError::Unsupported`] where
    /// the checkpoint holds other tensors; otherwise those of the checkpoint, where a tensor is missing or
    /// has another shape.
    pub fn load(
        &self,
        checkpoint: &dyn Checkpoint,
        device: &Device,
    ) -> Result<SlotAttention, ModelError> {
        self.check()?;
        let asked = Asked::new(checkpoint);
        let loader = Loader { checkpoint: &asked, device };
        let (inputs, width, hidden) = (self.input_width, self.slot_width, self.hidden_width());
        let inner = self.heads * self.head_width();
        let start = |name: &str| {
            let found: Tensor<3> = loader.tensor(name, [1, 1, width])?;
            Ok::<_, ModelError>(Param::from_tensor(found.reshape([width])))
        };
        let norm = |name: &str, width| Norm::load(&loader, name, width, self.norm_epsilon);
        let projections = [
            loader.linear("to_q", width, inner)?,
            loader.linear("to_k", inputs, inner)?,
            loader.linear("to_v", inputs, inner)?,
        ];
        let combine = match self.heads {
            1 => None,
            _ => Some(loader.linear("combine_heads", inner, width)?),
        };
        let gated = match self.update {
            SlotUpdate::Plain => None,
            SlotUpdate::Gated => Some(GatedUpdate {
                gru: BlockGru::load(&loader, "gru", [1, width, width])?,
                norm: norm("norm_pre_ff", width)?,
                widen: loader.linear("mlp.0", width, hidden)?,
                narrow: loader.linear("mlp.2", hidden, width)?,
            }),
        };
        let module = SlotAttention {
            mu: start("slots_mu")?,
            log_sigma: start("slots_logsigma")?,
            norm_inputs: norm("norm_input", inputs)?,
            norm_slots: norm("norm_slots", width)?,
            competition: Competition::of(&self.competition(), projections, combine)?,
            gated,
            slots: self.slots,
            iterations: self.iterations,
        };
        asked.refuse_rest("slot attention", &[""], &[])?;
        Ok(module)
    }
}

/// Slots after their iterations, and what the last competition was between.
pub(crate) struct Refined {
    pub slots: Tensor<3>,
    /// Slots before their last update, normalised.
    pub competed: Tensor<3>,
    /// Inputs, normalised.
    pub inputs: Tensor<3>,
}

/// Refuses slots that cannot start on these inputs; returns batch and number of slots.
pub(crate) fn check_start(
    start: &Tensor<3>,
    inputs: &Tensor<3>,
    [input_width, slot_width]: [usize; 2],
) -> Result<[usize; 2], Error> {
    check_rows("inputs", inputs, "M", input_width)?;
    let ([batch, slots, width], [inputs, ..]) = (start.dims(), inputs.dims());
    match width == slot_width && slots > 0 && batch == inputs {
        true => Ok([batch, slots]),
        false => Err(Error::shape(
            "start",
            format!("[{inputs}, N, {slot_width}], N at least 1"),
            &start.dims(),
            "Give every batch entry some slots to start from.",
        )),
    }
}

/// The shape of a tensor, where it is there.
pub(crate) fn optional_shape<const D: usize>(
    checkpoint: &dyn Checkpoint,
    name: &str,
) -> Result<Option<[usize; D]>, ModelError> {
    checkpoint.shape(name).map(|_| shape_of(checkpoint, name)).transpose()
}

/// The shape of a tensor that must be there.
pub(crate) fn shape_of<const D: usize>(
    checkpoint: &dyn Checkpoint,
    name: &str,
) -> Result<[usize; D], ModelError> {
    let damaged = |reason| ModelError::Damaged { path: checkpoint.path().to_path_buf(), reason };
    let found =
        checkpoint.shape(name).ok_or_else(|| damaged(format!("the tensor `{name}` is missing")))?;
    match found.as_slice().try_into() {
        Ok(shape) if !found.contains(&0) => Ok(shape),
        _ => Err(damaged(format!(
            "the tensor `{name}` has shape {found:?}, but {D} axes of at least 1 are expected"
        ))),
    }
}

impl SlotAttention {
    /// Slots to start from: μ + σ ε with ε drawn by `seed`.
    ///
    /// # Shapes
    /// - output: `[batch, slots, slot width]`
    ///
    /// # Errors
    /// [`Error::Value`] where there are no slots, or no batch.
    pub fn start(&self, batch: usize, slots: usize, seed: u64) -> Result<Tensor<3>, Error> {
        draw(self.mu.val(), self.log_sigma.val(), [batch, slots], seed)
    }

    /// The slots after all iterations, from a start drawn by `seed`.
    ///
    /// # Shapes
    /// - inputs: `[B, M, input width]`
    /// - output: `[B, slots, slot width]`
    ///
    /// # Errors
    /// As [`Self::forward_from`].
    pub fn forward(&self, inputs: Tensor<3>, seed: u64) -> Result<Tensor<3>, Error> {
        let [input_width] = self.norm_inputs.gamma.dims();
        check_rows("inputs", &inputs, "M", input_width)?;
        let [batch, ..] = inputs.dims();
        let start = self.start(batch, self.slots, seed)?;
        self.forward_from(inputs, start)
    }

    /// The slots after all iterations, from a start of any number of slots.
    ///
    /// # Shapes
    /// - inputs: `[B, M, input width]`
    /// - start: `[B, N, slot width]`
    /// - output: `[B, N, slot width]`
    ///
    /// # Errors
    /// [`Error::Shape`] where the sizes do not fit, and where there are no slots or nothing to look at.
    pub fn forward_from(&self, inputs: Tensor<3>, start: Tensor<3>) -> Result<Tensor<3>, Error> {
        Ok(self.refine(inputs, start)?.slots)
    }

    /// The slots after all iterations, and the posterior of the last competition: which slot each input picked there,
    /// whose `marginals` are the masks of the slots.
    ///
    /// # Shapes
    /// As [`Self::forward_from`].
    ///
    /// # Errors
    /// As [`Self::forward_from`].
    pub fn forward_and_posterior(
        &self,
        inputs: Tensor<3>,
        start: Tensor<3>,
    ) -> Result<(Tensor<3>, LastPosterior), Error> {
        let Refined { slots, competed, inputs } = self.refine(inputs, start)?;
        Ok((slots, self.competition.posterior(inputs, competed)))
    }

    fn refine(&self, inputs: Tensor<3>, start: Tensor<3>) -> Result<Refined, Error> {
        let ([slot_width], [input_width]) = (self.mu.dims(), self.norm_inputs.gamma.dims());
        let [_, slots] = check_start(&start, &inputs, [input_width, slot_width])?;
        let inputs = self.norm_inputs.forward(inputs)?;
        let prepared = self.competition.prepare(inputs.clone(), slots, self.iterations);
        let mut refined = Refined { slots: start.clone(), competed: start, inputs };
        for _ in 0..self.iterations {
            let state = refined.slots;
            refined.competed = self.norm_slots.forward(state.clone())?;
            let updates = self.competition.updates(&prepared, refined.competed.clone())?;
            refined.slots = match &self.gated {
                None => updates,
                Some(gated) => gated.forward(updates, state)?,
            };
        }
        Ok(refined)
    }
}

impl GatedUpdate {
    fn forward(&self, updates: Tensor<3>, state: Tensor<3>) -> Result<Tensor<3>, Error> {
        let shape = state.dims();
        let rows = |x: Tensor<3>| to_blocks(x.reshape([shape[0] * shape[1], shape[2]]), 1);
        let state = from_blocks(self.gru.forward(rows(updates), rows(state))?);
        let hidden = activation::relu(self.widen.forward(self.norm.forward(state.clone())?));
        Ok((state + self.narrow.forward(hidden)).reshape(shape))
    }
}
