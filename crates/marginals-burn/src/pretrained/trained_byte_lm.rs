//! Language models over bytes as files, and run for their attention.

use std::path::Path;

use burn::tensor::{Device, Tensor};
use marginals::spec::Tensors;
use ndarray::{Array4, ArrayD};
use serde::{Deserialize, Serialize};

use crate::checkpoint::Checkpoint;
use crate::checkpoint::weights::{self, Storage};
use crate::error::ModelError;
use crate::modules::{ByteLm, ByteLmConfig};
use crate::ops::Nodes;
use crate::pretrained::attend::{Attend, Layer};
use crate::pretrained::tokens::Tokens;
use crate::pretrained::vocabulary::Vocabulary;
use crate::tensors::{heads_view, indices, into_values, merge_heads};

/// Name of this family in a `config.json`.
pub(crate) const FAMILY: &str = "byte-lm";

/// The content of `config.json`.
#[derive(Serialize, Deserialize)]
struct File {
    model_type: String,
    #[serde(flatten)]
    config: ByteLmConfig,
}

/// A language model over bytes and what it is made of.
#[derive(Debug)]
pub struct TrainedByteLm {
    config: ByteLmConfig,
    lm: ByteLm,
}

impl TrainedByteLm {
    /// A model that is there already.
    pub fn new(config: ByteLmConfig, lm: ByteLm) -> Self {
        Self { config, lm }
    }

    /// Reads the text of a `config.json` and the weights of a checkpoint.
    ///
    /// # Errors
    /// [`ModelError`], naming the file and what is wrong with it.
    pub(crate) fn load(
        path: &Path,
        config: &str,
        checkpoint: &dyn Checkpoint,
        device: &Device,
    ) -> Result<Self, ModelError> {
        let damaged = |reason: String| ModelError::Damaged { path: path.to_path_buf(), reason };
        let File { config, .. } =
            serde_json::from_str(config).map_err(|error| damaged(error.to_string()))?;
        // Sizes are the file's word, and weights are made before they are read.
        let width = config.block.attention.width;
        config.check_sizes("").map_err(|error| damaged(error.to_string()))?;
        if checkpoint.shape("bytes.weight").as_deref() != Some(&[256, width]) {
            return Err(ModelError::Damaged {
                path: checkpoint.path().to_path_buf(),
                reason: format!("`bytes.weight` is not [256, {width}], as config.json has it"),
            });
        }
        let lm = weights::load(config.init(device)?, checkpoint)?;
        Ok(Self { config, lm })
    }

    /// The contents of `config.json` and `model.safetensors`.
    ///
    /// # Errors
    /// The writers' messages.
    pub fn save(&self, storage: Storage) -> Result<(Vec<u8>, Vec<u8>), String> {
        let file = File { model_type: FAMILY.to_owned(), config: self.config.clone() };
        let config = serde_json::to_vec_pretty(&file).map_err(|error| error.to_string())?;
        Ok((config, weights::to_safetensors(&self.lm, storage)?))
    }

    /// Configuration of the model.
    pub fn config(&self) -> &ByteLmConfig {
        &self.config
    }

    /// The module.
    pub fn lm(&self) -> &ByteLm {
        &self.lm
    }

    /// The nodes before the first layer, `[N, width]`.
    ///
    /// # Errors
    /// [`ModelError`], when the text does not fit.
    pub fn embed(&self, tokens: &Tokens) -> Result<Tensor<2>, ModelError> {
        tokens.check(self.context().unwrap_or(usize::MAX), 256)?;
        let device = self.lm.bytes.weight.val().device();
        Ok(self.lm.embed(indices(&tokens.ids, &device))?.squeeze_dim(0))
    }

    /// The nodes after a layer, of those before it; the layer's attention is answered by `attend`.
    ///
    /// # Errors
    /// [`ModelError`], when `attend` reports something.
    ///
    /// # Panics
    /// If there is no layer `index`.
    pub fn layer(
        &self,
        index: usize,
        hidden: Tensor<2>,
        attend: &mut dyn Attend,
    ) -> Result<Tensor<2>, ModelError> {
        self.layer_of_texts(index, hidden, 1, attend)
    }

    /// The nodes after a layer of several texts of the same length, one after the other.
    ///
    /// # Errors
    /// As [`Self::layer`].
    pub(crate) fn layer_of_texts(
        &self,
        index: usize,
        hidden: Tensor<2>,
        texts: usize,
        attend: &mut dyn Attend,
    ) -> Result<Tensor<2>, ModelError> {
        let block = &self.lm.blocks[index];
        let [nodes, width] = hidden.dims();
        let x: Tensor<3> = hidden.clone().reshape([texts, nodes / texts, width]);
        let normal = block.attention_norm.forward(x)?;
        let Nodes { q, k, v } = block.attention.projections.nodes(normal.clone(), normal);
        let v = v.expect("attention projects values");
        let shapes = [q.dims(), k.dims(), v.dims()];
        let [q, k, v] = [q, k, v].map(into_values);
        let learned = block.attention.learned.values();
        let real = learned.map(|(name, values, shape)| {
            let array = ArrayD::from_shape_vec(shape, values).expect("as many as its shape");
            (name, array.into())
        });
        let tensors = Tensors { real: real.collect(), ..Tensors::default() };
        let context = attend
            .attend(&Layer {
                index,
                queries: heads_view(&q, shapes[0]),
                keys: heads_view(&k, shapes[1]),
                values: heads_view(&v, shapes[2]),
                model: &self.config.block.attention.model,
                tensors: &tensors,
            })
            .map_err(|reason| ModelError::Attention { layer: index, reason })?;
        self.after_attention(index, hidden, &context)
    }

    /// The nodes after a layer, of those before it and of what its attention answers.
    ///
    /// # Errors
    /// [`ModelError`], when they have another width.
    pub(crate) fn after_attention(
        &self,
        index: usize,
        hidden: Tensor<2>,
        context: &Array4<f32>,
    ) -> Result<Tensor<2>, ModelError> {
        let block = &self.lm.blocks[index];
        let rows = merge_heads(context, &hidden.device());
        let attended = block.attention.projections.output.forward(rows);
        Ok(block.feed((hidden + attended).unsqueeze_dim(0))?.squeeze_dim(0))
    }

    /// The nodes after the last layer as the head reads them.
    ///
    /// # Errors
    /// [`ModelError`], when they have another width.
    pub(crate) fn finish(&self, hidden: Tensor<2>) -> Result<Tensor<2>, ModelError> {
        Ok(self.lm.norm.forward(hidden)?)
    }

    /// Vectors of the bytes that may come next.
    pub(crate) fn vocabulary(&self) -> Vocabulary {
        Vocabulary::new(self.lm.bytes.weight.val(), None, None)
    }

    /// Scores of the byte after each, `[N, 256]`, of the nodes after the last layer.
    ///
    /// # Errors
    /// [`ModelError`], when they have another width.
    pub fn logits(&self, hidden: Tensor<2>) -> Result<Tensor<2>, ModelError> {
        Ok(self.lm.scores(hidden.unsqueeze_dim(0))?.squeeze_dim(0))
    }

    /// The longest text: of learned positions as many as there are; `None`, any.
    pub fn context(&self) -> Option<usize> {
        self.lm.positions.is_some().then_some(self.config.context)
    }
}
