//! From a checkpoint file to Burn's tensors.

use burn::module::Param;
use burn::nn::Linear;
use burn::tensor::{Device, Tensor, TensorData};

use super::Checkpoint;
use crate::error::ModelError;

/// Which axis of a stored linear map comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// Outputs: PyTorch's linear maps, and those of GGUF.
    OutputsInputs,
    /// Inputs: GPT-2's.
    InputsOutputs,
}

/// Loads tensors of one checkpoint onto one device.
pub(crate) struct Loader<'file> {
    pub checkpoint: &'file dyn Checkpoint,
    pub device: &'file Device,
}

impl Loader<'_> {
    /// That a tensor is missing.
    pub fn missing(&self, name: &str) -> ModelError {
        ModelError::Damaged {
            path: self.checkpoint.path().to_path_buf(),
            reason: format!("the tensor `{}` is missing", self.checkpoint.stored_name(name)),
        }
    }

    pub fn vector(&self, name: &str, length: usize) -> Result<Param<Tensor<1>>, ModelError> {
        let values = self.checkpoint.tensor(name, &[length])?;
        Ok(Param::from_tensor(Tensor::from_data(TensorData::new(values, [length]), self.device)))
    }

    /// A tensor of exactly this shape.
    pub fn tensor<const D: usize>(
        &self,
        name: &str,
        shape: [usize; D],
    ) -> Result<Tensor<D>, ModelError> {
        let values = self.checkpoint.tensor(name, &shape)?;
        Ok(Tensor::from_data(TensorData::new(values, shape), self.device))
    }

    pub fn matrix(&self, name: &str, shape: [usize; 2]) -> Result<Param<Tensor<2>>, ModelError> {
        let values = self.checkpoint.tensor(name, &shape)?;
        Ok(Param::from_tensor(Tensor::from_data(TensorData::new(values, shape), self.device)))
    }

    /// The linear map `NAME.weight`, with `NAME.bias` where the file has one.
    pub fn linear(&self, name: &str, inputs: usize, outputs: usize) -> Result<Linear, ModelError> {
        Ok(self.linears(name, inputs, &[outputs], Layout::OutputsInputs)?.remove(0))
    }

    /// Linear maps of one input that lie in one tensor, by their numbers of outputs.
    ///
    /// They become parts of one tensor of Burn's layout, `[inputs, outputs]`, by strides alone.
    pub fn linears(
        &self,
        name: &str,
        inputs: usize,
        outputs: &[usize],
        layout: Layout,
    ) -> Result<Vec<Linear>, ModelError> {
        let all = outputs.iter().sum();
        let name_of_weight = format!("{name}.weight");
        let weight = match layout {
            Layout::OutputsInputs => self.tensor(&name_of_weight, [all, inputs])?.transpose(),
            Layout::InputsOutputs => self.tensor(&name_of_weight, [inputs, all])?,
        };
        let bias = format!("{name}.bias");
        let bias: Option<Tensor<1>> = match self.checkpoint.shape(&bias) {
            Some(_) => Some(self.tensor(&bias, [all])?),
            None => None,
        };
        let mut start = 0;
        let part = |&length: &usize| {
            let from = start;
            start += length;
            let bias = bias.clone().map(|bias| Param::from_tensor(bias.narrow(0, from, length)));
            Linear { weight: Param::from_tensor(weight.clone().narrow(1, from, length)), bias }
        };
        Ok(outputs.iter().map(part).collect())
    }
}
