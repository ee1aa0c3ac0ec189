//! The attention of slots: every input is explained by the slots that compete for it.

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor};
use marginals::potential::Dot;
use marginals::prior::Uniform;
use marginals::spec::ModelSpec;
use marginals::structure::EachKeyPicksOne;
use marginals::{Error, Model, Value};

use crate::modules::last_posterior::LastPosterior;
use crate::ops::{Nodes, Posterior};

/// Projections of slots and inputs, and the mean of what each slot wins:
///
/// ```text
/// p_ij = softmax over i of (W_q s_i · W_k x_j / √d),   out_i = Σ_j (p_ij + ε) W_v x_j / Σ_j (p_ij + ε),
/// ```
///
/// each-key-picks-one · dot · average, in every head by itself.
///
/// Where it is less work, the slots are projected and the inputs are not:
/// W_q s_i · W_k x_j = (W_kᵀ W_q s_i) · x_j, and since the weights of the average sum to 1, the mean
/// of W_v x_j is W_v applied to the mean of x_j. There are a few slots and thousands of inputs, so
/// this saves the two largest products and all the memory they take. It is the same function, up to
/// the order in which sums are rounded.
#[derive(Module, Debug)]
pub struct Competition {
    /// W_q, slots to heads.
    pub to_q: Linear,
    /// W_k, inputs to heads.
    pub to_k: Linear,
    /// W_v, inputs to heads.
    pub to_v: Linear,
    /// Projection that mixes the heads, where there are several.
    pub combine: Option<Linear>,
    heads: usize,
    #[module(skip)]
    posterior: Posterior,
}

/// Inputs, ready to be competed for.
#[allow(clippy::large_enum_variant, reason = "there is one, on the stack of the forward pass")]
pub(crate) enum Inputs {
    /// W_k x and W_v x, `[B, H, M, d]`.
    Projected { k: Tensor<4>, v: Tensor<4> },
    /// x itself, and what takes queries to it and means from it.
    Plain {
        /// `[B, 1, M, I]`.
        x: Tensor<4>,
        /// x with a 1 behind each row, where W_k has a bias.
        biased: Option<Tensor<4>>,
        /// W_kᵀ by head, `[1, H, d, I]`; with its bias behind, where it has one.
        to_query: Tensor<4>,
        /// W_v by head, `[1, H, I, d]`.
        to_value: Tensor<4>,
    },
}

/// The sizes and settings of a [`Competition`].
pub(crate) struct CompetitionShape {
    pub inputs: usize,
    pub slots: usize,
    pub heads: usize,
    pub head_width: usize,
    pub epsilon: f64,
}

impl CompetitionShape {
    fn posterior(&self) -> Result<Posterior, Error> {
        let model = Model::new(EachKeyPicksOne, Uniform, Dot::scaled(self.head_width));
        Posterior::smoothed_average(model, self.epsilon)
    }
}

impl Competition {
    pub(crate) fn new(
        shape: &CompetitionShape,
        bias: bool,
        device: &Device,
    ) -> Result<Self, Error> {
        let inner = shape.heads * shape.head_width;
        let linear =
            |inputs, outputs| LinearConfig::new(inputs, outputs).with_bias(bias).init(device);
        let combine = (shape.heads > 1).then(|| LinearConfig::new(inner, shape.slots).init(device));
        let (to_q, to_k) = (linear(shape.slots, inner), linear(shape.inputs, inner));
        Self::of(shape, [to_q, to_k, linear(shape.inputs, inner)], combine)
    }

    pub(crate) fn of(
        shape: &CompetitionShape,
        [to_q, to_k, to_v]: [Linear; 3],
        combine: Option<Linear>,
    ) -> Result<Self, Error> {
        let posterior = shape.posterior()?;
        Ok(Self { to_q, to_k, to_v, combine, heads: shape.heads, posterior })
    }

    /// Does once what does not change between iterations.
    pub(crate) fn prepare(&self, inputs: Tensor<3>, slots: usize, iterations: usize) -> Inputs {
        let [_, _, width] = inputs.dims();
        let [_, inner] = self.to_k.weight.dims();
        let (heads, rows) = (self.heads, slots * iterations);
        // Multiplications per input, forwards; backwards has the same proportions.
        if width * inner + rows * inner < rows * heads * width {
            return Inputs::Projected {
                k: split_heads(self.to_k.forward(inputs.clone()), heads),
                v: split_heads(self.to_v.forward(inputs), heads),
            };
        }
        let of_head = |linear: &Linear| linear.weight.val().reshape([width, heads, inner / heads]);
        let mut to_query = of_head(&self.to_k).permute([1, 2, 0]);
        let to_value = of_head(&self.to_v).swap_dims(0, 1).unsqueeze_dim(0);
        let x: Tensor<4> = inputs.unsqueeze_dim(1);
        // A bias matters: slots compete, and each gets a score of its own from it, q_i · b.
        let biased = self.to_k.bias.as_ref().map(|bias| {
            let bias = bias.val().reshape([heads, inner / heads, 1]);
            to_query = Tensor::cat(vec![to_query.clone(), bias], 2);
            let [batch, _, keys, _] = x.dims();
            let ones = Tensor::ones([batch, 1, keys, 1], (&x.device(), x.dtype()));
            Tensor::cat(vec![x.clone(), ones], 3)
        });
        Inputs::Plain { x, biased, to_query: to_query.unsqueeze_dim(0), to_value }
    }

    /// Mean that each slot wins.
    ///
    /// # Shapes
    /// - slots: `[B, N, slot width]`
    /// - output: `[B, N, slot width]` (`[B, N, d]` where there is one head)
    pub(crate) fn updates(&self, inputs: &Inputs, slots: Tensor<3>) -> Result<Tensor<3>, Error> {
        let q = split_heads(self.to_q.forward(slots), self.heads);
        let won = match inputs {
            Inputs::Projected { k, v } => {
                merge_heads(self.posterior.mean(q, k.clone(), v.clone())?)
            }
            Inputs::Plain { x, biased, to_query, to_value } => {
                let q = q.matmul(to_query.clone());
                let mean = match biased {
                    Some(k) => self.posterior.mean(q, k.clone(), x.clone())?,
                    None => self.posterior.mean_of_keys(q, x.clone())?,
                };
                let won = merge_heads(mean.matmul(to_value.clone()));
                match &self.to_v.bias {
                    Some(bias) => won + bias.val().reshape([1, 1, -1]),
                    None => won,
                }
            }
        };
        Ok(match &self.combine {
            Some(combine) => combine.forward(won),
            None => won,
        })
    }

    /// The posterior of a competition.
    ///
    /// # Shapes
    /// - inputs: `[B, M, input width]`
    /// - slots: `[B, N, slot width]`
    pub(crate) fn posterior(&self, inputs: Tensor<3>, slots: Tensor<3>) -> LastPosterior {
        let split = |linear: &Linear, rows| split_heads(linear.forward(rows), self.heads);
        let q = split(&self.to_q, slots);
        let [.., width] = q.dims();
        let nodes =
            Nodes { q, k: split(&self.to_k, inputs.clone()), v: Some(split(&self.to_v, inputs)) };
        let model = ModelSpec {
            structure: EachKeyPicksOne.into(),
            prior: Vec::new(),
            potential: Dot::scaled(width).into(),
            value: Value::Average,
            query_offset: 0,
            inference: None,
        };
        LastPosterior { nodes, model }
    }
}

/// `[B, N, H·d]` as `[B, H, N, d]`.
pub(crate) fn split_heads(rows: Tensor<3>, heads: usize) -> Tensor<4> {
    let [batch, count, width] = rows.dims();
    match heads {
        1 => rows.unsqueeze_dim(1),
        _ => rows.reshape([batch, count, heads, width / heads]).swap_dims(1, 2),
    }
}

/// The inverse of [`split_heads`].
pub(crate) fn merge_heads(heads: Tensor<4>) -> Tensor<3> {
    let [batch, count, rows, width] = heads.dims();
    match count {
        1 => heads.squeeze_dim(1),
        _ => heads.swap_dims(1, 2).reshape([batch, rows, count * width]),
    }
}
