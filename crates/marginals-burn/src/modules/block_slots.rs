//! Block-slot attention: slots whose blocks stand for one factor each.

mod prototypes;

use burn::config::Config;
use burn::module::{Initializer, Module, Param};
use burn::tensor::{Device, Tensor, activation};
use marginals::Error;

pub use prototypes::PrototypeMemory;

use crate::checkpoint::loader::Loader;
use crate::checkpoint::{Asked, Checkpoint};
use crate::error::ModelError;
use crate::modules::block_maps::{BlockGru, BlockLinear, from_blocks, normalise_blocks, to_blocks};
use crate::modules::last_posterior::LastPosterior;
use crate::modules::norm::Norm;
use crate::modules::slots::{Competition, CompetitionShape, Refined, check_start, draw, shape_of};
use crate::sizes::{
    at_least_one, check_divides, check_norm_epsilon, check_repeated, check_rows, check_width,
};

/// Configuration of [`BlockSlotAttention`].
#[derive(Config, Debug)]
pub struct BlockSlotAttentionConfig {
    /// Numbers per input.
    pub input_width: usize,
    /// Numbers per slot, all its blocks together.
    pub slot_width: usize,
    /// Blocks per slot, a divisor of its width.
    pub blocks: usize,
    /// Prototypes each block chooses from.
    pub prototypes: usize,
    /// Slots where a call does not say how many.
    #[config(default = 4)]
    pub slots: usize,
    /// Refinements.
    #[config(default = 3)]
    pub iterations: usize,
    /// Width of the MLP's hidden layer, all blocks together and a multiple of their number; by default
    /// that of the slot.
    pub hidden_width: Option<usize>,
    /// ε, added to the marginals before they are averaged with.
    #[config(default = 1e-8)]
    pub epsilon: f64,
    /// ε of the layer normalisations.
    #[config(default = 1e-5)]
    pub norm_epsilon: f64,
}

/// Block-slot attention (Singh, Kim & Ahn 2023, *Neural Systematic Binder*, arXiv 2211.01177, §3.2).
///
/// ```text
/// x ← LayerNorm(x),   s ~ N(μ, diag σ²)
/// repeat T times:
///   p_ij = softmax over i of (W_q LayerNorm(s_i) · W_k x_j / √S),   u_i = mean of W_v x under p + ε
///   for every block m by itself:
///     s_im ← GRU_m(s_im, u_im),   s_im ← s_im + MLP_m(LayerNorm(s_im)),
///     s_im ← Σ_k softmax over k of (LayerNorm(s_im) · c_mk / √d) c_mk,   c_mk = LayerNorm(MLP(C_mk))
/// ```
///
/// The competition is that of slot attention. What is new comes after: a block never sees another,
/// and ends as a mixture of its own K prototypes C_m, so that each comes to stand for one factor of
/// variation. Reading a prototype is attention too: each-query-picks-one · dot · gather, the blocks
/// being heads.
#[derive(Module, Debug)]
pub struct BlockSlotAttention {
    /// μ of the start, `[slot width]`.
    pub mu: Param<Tensor<1>>,
    /// log σ of the start, `[slot width]`.
    pub log_sigma: Param<Tensor<1>>,
    /// LayerNorm of the inputs.
    pub norm_inputs: Norm,
    /// LayerNorm of whole slots, before each competition.
    pub norm_slots: Norm,
    /// The attention, one head.
    pub competition: Competition,
    /// A GRU per block.
    pub gru: BlockGru,
    /// Block to hidden, before the rectifier.
    pub widen: BlockLinear,
    /// Hidden to block.
    pub narrow: BlockLinear,
    /// The prototypes.
    pub prototypes: PrototypeMemory,
    slots: usize,
    iterations: usize,
    norm_epsilon: f64,
}

impl BlockSlotAttentionConfig {
    /// Refuses settings that make no module.
    ///
    /// # Errors
    /// [`Error::Value`], naming the setting.
    pub fn check(&self) -> Result<(), Error> {
        check_width("input_width", self.input_width)?;
        check_width("slot_width", self.slot_width)?;
        check_divides("blocks", self.blocks, "slot_width", self.slot_width)?;
        at_least_one("prototypes", self.prototypes)?;
        at_least_one("slots", self.slots)?;
        check_repeated("iterations", self.iterations)?;
        check_width("hidden_width", self.hidden_width())?;
        check_norm_epsilon(self.norm_epsilon)?;
        check_divides("blocks", self.blocks, "hidden_width", self.hidden_width())
    }

    fn hidden_width(&self) -> usize {
        self.hidden_width.unwrap_or(self.slot_width)
    }

    fn block_width(&self) -> usize {
        self.slot_width / self.blocks
    }

    fn competition(&self) -> CompetitionShape {
        CompetitionShape {
            inputs: self.input_width,
            slots: self.slot_width,
            heads: 1,
            head_width: self.slot_width,
            epsilon: self.epsilon,
        }
    }

    /// A module with fresh weights.
    ///
    /// # Errors
    /// [`Error::Value`], naming the setting that makes no module.
    pub fn init(&self, device: &Device) -> Result<BlockSlotAttention, Error> {
        self.check()?;
        let (width, blocks, own) = (self.slot_width, self.blocks, self.block_width());
        let hidden = self.hidden_width() / blocks;
        let norm = |width| Norm::new(width, self.norm_epsilon, device);
        let bound = (6.0 / (1.0 + width as f64)).sqrt();
        let glorot = Initializer::Uniform { min: -bound, max: bound };
        Ok(BlockSlotAttention {
            mu: glorot.init([width], device),
            log_sigma: glorot.init([width], device),
            norm_inputs: norm(self.input_width),
            norm_slots: norm(width),
            competition: Competition::new(&self.competition(), false, device)?,
            gru: BlockGru::new(blocks, own, own, device),
            widen: BlockLinear::new(blocks, own, hidden, device),
            narrow: BlockLinear::new(blocks, hidden, own, device),
            prototypes: PrototypeMemory::new(
                [self.prototypes, blocks, own],
                self.norm_epsilon,
                device,
            ),
            slots: self.slots,
            iterations: self.iterations,
            norm_epsilon: self.norm_epsilon,
        })
    }

    /// The widths a checkpoint was trained with; iterations and ε are not in it and keep their
    /// defaults.
    ///
    /// # Errors
    /// [`ModelError::Damaged`] where `project_k.weight`, `prototype_memory.mem_params` or `mlp.0.w` is
    /// missing or has another number of axes.
    pub fn of_checkpoint(checkpoint: &dyn Checkpoint) -> Result<Self, ModelError> {
        let [slot_width, input_width] = shape_of(checkpoint, "project_k.weight")?;
        let [_, prototypes, blocks, _] = shape_of(checkpoint, "prototype_memory.mem_params")?;
        let [_, _, hidden] = shape_of(checkpoint, "mlp.0.w")?;
        Ok(Self::new(input_width, slot_width, blocks, prototypes)
            .with_hidden_width(Some(hidden.saturating_mul(blocks))))
    }

    /// The module with the weights of a checkpoint.
    ///
    /// The names are those of the authors' `SysBinder` module: `slot_mu`, `slot_log_sigma`
    /// (`[1, 1, S]`), `norm_inputs`, `norm_slots`, `project_q`, `project_k`, `project_v` (`.weight`),
    /// `gru.gru.weight_ih`, `weight_hh`, `bias_ih`, `bias_hh` (of one GRU over all blocks; only the
    /// blocks on the diagonal are read, the others being masked away), `mlp.0`, `mlp.2` (`.w`
    /// `[blocks, in, out]`, `.b`), `prototype_memory.mem_params` (`[1, K, blocks, d]`) and
    /// `prototype_memory.mem_proj.0`, `.2`, `.4`, `.6`.
    ///
    /// # Errors
    /// [`ModelError::Configuration`] where the settings make no module; [`ModelError::Unsupported`] where
    /// the checkpoint holds other tensors; otherwise those of the checkpoint, where a tensor is missing or
    /// has another shape.
    pub fn load(
        &self,
        checkpoint: &dyn Checkpoint,
        device: &Device,
    ) -> Result<BlockSlotAttention, ModelError> {
        self.check()?;
        let asked = Asked::new(checkpoint);
        let loader = Loader { checkpoint: &asked, device };
        let (inputs, width, blocks) = (self.input_width, self.slot_width, self.blocks);
        let (own, hidden) = (self.block_width(), self.hidden_width() / blocks);
        let start = |name: &str| {
            let found: Tensor<3> = loader.tensor(name, [1, 1, width])?;
            Ok::<_, ModelError>(Param::from_tensor(found.reshape([width])))
        };
        let norm = |name: &str, width| Norm::load(&loader, name, width, self.norm_epsilon);
        let projections = [
            loader.linear("project_q", width, width)?,
            loader.linear("project_k", inputs, width)?,
            loader.linear("project_v", inputs, width)?,
        ];
        let module = BlockSlotAttention {
            mu: start("slot_mu")?,
            log_sigma: start("slot_log_sigma")?,
            norm_inputs: norm("norm_inputs", inputs)?,
            norm_slots: norm("norm_slots", width)?,
            competition: Competition::of(&self.competition(), projections, None)?,
            gru: BlockGru::load(&loader, "gru.gru", [blocks, own, own])?,
            widen: BlockLinear::load(&loader, "mlp.0", [blocks, own, hidden])?,
            narrow: BlockLinear::load(&loader, "mlp.2", [blocks, hidden, own])?,
            prototypes: PrototypeMemory::load(
                &loader,
                "prototype_memory",
                [self.prototypes, blocks, own],
                self.norm_epsilon,
            )?,
            slots: self.slots,
            iterations: self.iterations,
            norm_epsilon: self.norm_epsilon,
        };
        asked.refuse_rest("block-slot attention", &[""], &[])?;
        Ok(module)
    }
}

impl BlockSlotAttention {
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
    /// - output: `[B, slots, slot width]`, the blocks of a slot side by side
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
        let ([width], [input_width]) = (self.mu.dims(), self.norm_inputs.gamma.dims());
        let [batch, slots] = check_start(&start, &inputs, [input_width, width])?;
        let [blocks, ..] = self.widen.weight.dims();
        let apart = |x: Tensor<3>| to_blocks(x.reshape([batch * slots, width]), blocks);
        let inputs = self.norm_inputs.forward(inputs)?;
        let prepared = self.competition.prepare(inputs.clone(), slots, self.iterations);
        let prototypes = self.prototypes.prepare()?;
        let mut refined = Refined { slots: start.clone(), competed: start, inputs };
        for _ in 0..self.iterations {
            let state = refined.slots;
            refined.competed = self.norm_slots.forward(state.clone())?;
            let updates = self.competition.updates(&prepared, refined.competed.clone())?;
            let own = self.gru.forward(apart(updates), apart(state))?;
            let hidden = self.widen.forward(normalise_blocks(own.clone(), self.norm_epsilon)?);
            let own = own + self.narrow.forward(activation::relu(hidden));
            let own = self.prototypes.read(&prototypes, own)?;
            refined.slots = from_blocks(own).reshape([batch, slots, width]);
        }
        Ok(refined)
    }
}
