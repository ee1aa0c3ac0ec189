//! Parameters of a model as tensors.

use burn::tensor::{DType, Device, Tensor};
use marginals::Error;

/// Tensors that a model names, or that stand in for its numbers
/// ([`ModelSpec::numbers`](marginals::spec::ModelSpec::numbers)), with gradients wherever the
/// posterior depends on them smoothly: `bias`, `key-bias`, `relative-bias`, `geometric.rho`,
/// `additive.a` and so on.
#[derive(Clone, Debug, Default)]
pub struct Parameters(Vec<Named>);

#[derive(Clone, Debug)]
pub(super) struct Named {
    pub name: String,
    pub shape: Vec<usize>,
    /// Its entries.
    pub flat: Tensor<1>,
}

/// The one parameter that may be as large as the scores; it is read where it lies.
pub(super) const BIAS: &str = "bias";

impl Parameters {
    /// None.
    pub fn none() -> Self {
        Self::default()
    }

    /// These and one more.
    pub fn with<const D: usize>(self, name: &str, tensor: Tensor<D>) -> Self {
        let shape = tensor.dims().to_vec();
        let flat = tensor.reshape([shape.iter().product::<usize>()]);
        self.with_shape(name, flat, shape)
    }

    /// The same from its entries in row-major order.
    pub(crate) fn with_shape(mut self, name: &str, flat: Tensor<1>, shape: Vec<usize>) -> Self {
        self.0.push(Named { name: name.to_owned(), shape, flat });
        self
    }

    /// These and others.
    pub(crate) fn and(mut self, others: &Self) -> Self {
        self.0.extend_from_slice(&others.0);
        self
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Named> {
        self.0.iter()
    }

    pub(super) fn get(&self, name: &str) -> Option<&Named> {
        self.0.iter().find(|named| named.name == name)
    }

    /// Refuses a name given twice.
    pub(super) fn check(&self) -> Result<(), Error> {
        for (i, named) in self.0.iter().enumerate() {
            if self.0[..i].iter().any(|other| other.name == named.name) {
                return Err(Error::value("parameters", "each name once", &named.name));
            }
        }
        Ok(())
    }

    /// The small ones in one tensor, in order, and the names and shapes to find them by.
    pub(super) fn pack(
        &self,
        format: DType,
        device: &Device,
    ) -> (Vec<(String, Vec<usize>)>, Tensor<1>) {
        let small: Vec<&Named> = self.0.iter().filter(|named| named.name != BIAS).collect();
        let places = small.iter().map(|named| (named.name.clone(), named.shape.clone())).collect();
        let packed = match small.as_slice() {
            [] => Tensor::zeros([0], (device, format)),
            [one] => one.flat.clone(),
            many => Tensor::cat(many.iter().map(|named| named.flat.clone()).collect(), 0),
        };
        (places, packed)
    }
}
