//! The prototypes that blocks are made of.

use burn::module::{Initializer, Module, Param};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor, activation};
use marginals::potential::Dot;
use marginals::prior::Uniform;
use marginals::structure::EachQueryPicksOne;
use marginals::{Error, Model};

use crate::checkpoint::loader::Loader;
use crate::error::ModelError;
use crate::modules::block_maps::normalise_blocks;
use crate::ops::Posterior;

/// K learned prototypes per block, and how a block reads them: each-query-picks-one · dot · gather
/// with blocks as heads (Singh et al. 2023, §3.2.2, eq. 6).
#[derive(Module, Debug)]
pub struct PrototypeMemory {
    /// C, `[K, blocks, d]`.
    pub memory: Param<Tensor<3>>,
    /// The MLP that makes prototypes of it, three hidden layers of 4d, shared by all blocks.
    pub project: Vec<Linear>,
    norm_epsilon: f64,
    #[module(skip)]
    posterior: Posterior,
}

/// Linear maps of the MLP.
const LAYERS: usize = 4;

/// Hidden numbers per number of a block.
const WIDENING: usize = 4;

/// Widths of the MLP's maps.
fn layers(width: usize) -> [(usize, usize); LAYERS] {
    let hidden = WIDENING * width;
    [(width, hidden), (hidden, hidden), (hidden, hidden), (hidden, width)]
}

fn posterior(width: usize) -> Posterior {
    Posterior::of(Model::new(EachQueryPicksOne, Uniform, Dot::scaled(width)))
}

impl PrototypeMemory {
    pub(crate) fn new(shape: [usize; 3], norm_epsilon: f64, device: &Device) -> Self {
        let [.., width] = shape;
        let linear = |(inputs, outputs)| LinearConfig::new(inputs, outputs).init(device);
        Self {
            memory: Initializer::Normal { mean: 0.0, std: 1.0 }.init(shape, device),
            project: layers(width).map(linear).into(),
            norm_epsilon,
            posterior: posterior(width),
        }
    }

    pub(crate) fn load(
        loader: &Loader<'_>,
        name: &str,
        [count, blocks, width]: [usize; 3],
        norm_epsilon: f64,
    ) -> Result<Self, ModelError> {
        let memory: Tensor<4> =
            loader.tensor(&format!("{name}.mem_params"), [1, count, blocks, width])?;
        let project = (0..).step_by(2).zip(layers(width)).map(|(index, (inputs, outputs))| {
            loader.linear(&format!("{name}.mem_proj.{index}"), inputs, outputs)
        });
        Ok(Self {
            memory: Param::from_tensor(memory.squeeze_dim(0)),
            project: project.collect::<Result<_, _>>()?,
            norm_epsilon,
            posterior: posterior(width),
        })
    }

    /// The prototypes themselves, `[1, blocks, K, d]`: the same in every iteration.
    pub(crate) fn prepare(&self) -> Result<Tensor<4>, Error> {
        let mut made = self.memory.val();
        for (index, layer) in self.project.iter().enumerate() {
            if index > 0 {
                made = activation::relu(made);
            }
            made = layer.forward(made);
        }
        let made = normalise_blocks(made, self.norm_epsilon)?;
        Ok(made.swap_dims(0, 1).unsqueeze_dim(0))
    }

    /// Means that every row of every block reads.
    ///
    /// # Shapes
    /// - prototypes: `[1, blocks, K, d]`
    /// - rows: `[blocks, R, d]`
    /// - output: as rows
    pub(crate) fn read(&self, prototypes: &Tensor<4>, rows: Tensor<3>) -> Result<Tensor<3>, Error> {
        let q = normalise_blocks(rows, self.norm_epsilon)?.unsqueeze_dim(0);
        let read = self.posterior.mean_of_keys(q, prototypes.clone())?;
        Ok(read.squeeze_dim(0))
    }
}
