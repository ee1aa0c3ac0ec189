//! Maps that keep the blocks of a vector apart: block k of the result sees block k alone.
//!
//! With one block they are the ordinary maps.

use burn::module::{Initializer, Module, Param};
use burn::tensor::{Device, Tensor};
use marginals::Error;

use crate::checkpoint::loader::Loader;
use crate::error::ModelError;
use crate::ops::{gated, layer_norm};

/// Rows `[R, K·w]` as `[K, R, w]`.
pub(crate) fn to_blocks(rows: Tensor<2>, blocks: usize) -> Tensor<3> {
    let [count, width] = rows.dims();
    match blocks {
        1 => rows.unsqueeze_dim(0),
        _ => rows.reshape([count, blocks, width / blocks]).swap_dims(0, 1),
    }
}

/// The inverse of [`to_blocks`].
pub(crate) fn from_blocks(blocks: Tensor<3>) -> Tensor<2> {
    let [count, rows, width] = blocks.dims();
    match count {
        1 => blocks.squeeze_dim(0),
        _ => blocks.swap_dims(0, 1).reshape([rows, count * width]),
    }
}

/// Layer normalisation of every block, without weights.
pub(crate) fn normalise_blocks(x: Tensor<3>, epsilon: f64) -> Result<Tensor<3>, Error> {
    let ([.., width], device, format) = (x.dims(), x.device(), x.dtype());
    let (ones, zeros) =
        (Tensor::ones([width], (&device, format)), Tensor::zeros([width], (&device, format)));
    layer_norm(x, ones, zeros, epsilon)
}

/// y_k = x_k W_k + b_k for every block k.
#[derive(Module, Debug)]
pub struct BlockLinear {
    /// W, `[blocks, inputs per block, outputs per block]`.
    pub weight: Param<Tensor<3>>,
    /// b, `[blocks, 1, outputs per block]`.
    pub bias: Param<Tensor<3>>,
}

impl BlockLinear {
    /// `inputs` and `outputs` count the numbers of a block; drawn as PyTorch draws a linear map's.
    pub(crate) fn new(blocks: usize, inputs: usize, outputs: usize, device: &Device) -> Self {
        let bound = 1.0 / (inputs as f64).sqrt();
        let uniform = Initializer::Uniform { min: -bound, max: bound };
        let weight = uniform.init([blocks, inputs, outputs], device);
        Self { weight, bias: uniform.init([blocks, 1, outputs], device) }
    }

    /// `NAME.w`, `[blocks, inputs, outputs]`, and `NAME.b`, `[1, blocks · outputs]`.
    pub(crate) fn load(
        loader: &Loader<'_>,
        name: &str,
        [blocks, inputs, outputs]: [usize; 3],
    ) -> Result<Self, ModelError> {
        let weight = loader.tensor(&format!("{name}.w"), [blocks, inputs, outputs])?;
        let bias = loader.tensor(&format!("{name}.b"), [1, blocks * outputs])?;
        let bias = bias.reshape([blocks, 1, outputs]);
        Ok(Self { weight: Param::from_tensor(weight), bias: Param::from_tensor(bias) })
    }

    /// Maps every row of every block.
    ///
    /// # Shapes
    /// - x: `[blocks, R, inputs per block]`
    /// - output: `[blocks, R, outputs per block]`
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        x.matmul(self.weight.val()) + self.bias.val()
    }
}

/// A gated recurrent unit per block (Cho et al. 2014), PyTorch's `GRUCell` each:
///
/// ```text
/// r = σ(W_r x + U_r h),  z = σ(W_z x + U_z h),  n = tanh(W_n x + r ⊙ U_n h),  h' = (1 − z) n + z h,
/// ```
///
/// every product with its bias.
#[derive(Module, Debug)]
pub struct BlockGru {
    /// W: what is made of the input, the gates r, z, n side by side.
    pub input: BlockLinear,
    /// U: what is made of the state.
    pub state: BlockLinear,
}

impl BlockGru {
    /// `width` and `inputs` count the numbers of a block.
    pub(crate) fn new(blocks: usize, inputs: usize, width: usize, device: &Device) -> Self {
        let bound = 1.0 / (width as f64).sqrt();
        let uniform = Initializer::Uniform { min: -bound, max: bound };
        let linear = |inputs| BlockLinear {
            weight: uniform.init([blocks, inputs, 3 * width], device),
            bias: uniform.init([blocks, 1, 3 * width], device),
        };
        Self { input: linear(inputs), state: linear(width) }
    }

    /// `NAME.weight_ih`, `weight_hh`, `bias_ih` and `bias_hh` of one `GRUCell` over all blocks, of
    /// which the blocks on the diagonal are taken: `[3 · blocks · width, blocks · inputs]`, the rows
    /// ordered by gate, then by block.
    pub(crate) fn load(
        loader: &Loader<'_>,
        name: &str,
        [blocks, inputs, width]: [usize; 3],
    ) -> Result<Self, ModelError> {
        let half = |of: &str, inputs: usize| -> Result<BlockLinear, ModelError> {
            let (rows, columns) = (3 * blocks * width, blocks * inputs);
            let weight: Tensor<2> =
                loader.tensor(&format!("{name}.weight_{of}"), [rows, columns])?;
            let bias: Tensor<1> = loader.tensor(&format!("{name}.bias_{of}"), [rows])?;
            let weight = weight.reshape([3, blocks, width, blocks, inputs]);
            let own = |k: usize| {
                let own = weight.clone().narrow(1, k, 1).narrow(3, k, 1);
                own.reshape([3 * width, inputs]).transpose().unsqueeze_dim(0)
            };
            let weight = Tensor::cat((0..blocks).map(own).collect(), 0);
            let bias = bias.reshape([3, blocks, width]).swap_dims(0, 1);
            let bias = bias.reshape([blocks, 1, 3 * width]);
            Ok(BlockLinear { weight: Param::from_tensor(weight), bias: Param::from_tensor(bias) })
        };
        Ok(Self { input: half("ih", inputs)?, state: half("hh", width)? })
    }

    /// The states that follow `state` when `x` comes in.
    ///
    /// # Shapes
    /// - x: `[blocks, R, inputs per block]`
    /// - state: `[blocks, R, width]`
    /// - output: as state
    ///
    /// # Errors
    /// [`Error::Value`] where the numbers are neither `f32` nor `f64`, or not on Burn's flex backend.
    pub fn forward(&self, x: Tensor<3>, state: Tensor<3>) -> Result<Tensor<3>, Error> {
        gated(self.input.forward(x), self.state.forward(state.clone()), state)
    }
}
