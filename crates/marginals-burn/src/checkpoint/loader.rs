//! From a checkpoint file to Burn's tensors.

use burn::module::Param;
use burn::nn::Linear;
use burn::tensor::{Device, Tensor, TensorData};

use super::Checkpoint;
use crate::error::ModelError;

/// Loads tensors of one checkpoint onto one device.
pub(crate) struct Loader<'file> {
    pub checkpoint: &'file dyn Checkpoint,
    pub device: &'file Device,
}

impl Loader<'_> {
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
    ///
    /// The file's `[outputs, inputs]` becomes Burn's `[inputs, outputs]` by strides alone.
    pub fn linear(&self, name: &str, inputs: usize, outputs: usize) -> Result<Linear, ModelError> {
        let weight = self.checkpoint.tensor(&format!("{name}.weight"), &[outputs, inputs])?;
        let weight: Tensor<2> =
            Tensor::from_data(TensorData::new(weight, [outputs, inputs]), self.device);
        let bias = format!("{name}.bias");
        let bias = match self.checkpoint.shape(&bias) {
            Some(_) => Some(self.vector(&bias, outputs)?),
            None => None,
        };
        Ok(Linear { weight: Param::from_tensor(weight.transpose()), bias })
    }
}
