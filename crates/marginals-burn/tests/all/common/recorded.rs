//! Recorded answers of PyTorch: weights, inputs, output and gradients of named cases.

use std::path::{Path, PathBuf};

use burn::module::Param;
use burn::nn::Linear;
use burn::tensor::{Device, Gradients, Tensor, TensorData};
use marginals::Error;
use marginals_burn::ModelError;
use marginals_burn::checkpoint::Checkpoint;
use marginals_burn::checkpoint::safetensors::SafetensorsFile;
use marginals_burn::modules::Norm;

/// Agreement demanded of every number, relative to the largest of its tensor or to 1. The recorded
/// ones were computed in `f64`, so this is the rounding of our own `f32`.
pub const TOLERANCE: f32 = 1e-5;

/// The gradient of a weight.
pub fn of<const D: usize>(weight: &Param<Tensor<D>>, gradients: &Gradients) -> Tensor<D> {
    weight.val().grad(gradients).expect("every weight takes part")
}

/// One case of one file.
pub struct Case {
    file: SafetensorsFile,
    name: String,
    /// Where the tests run: with autodiff.
    pub device: Device,
    worst: std::cell::Cell<f32>,
}

/// The weights of a case, under the names the checkpoint of a whole model has.
pub struct Weights<'case>(&'case Case);

impl Checkpoint for Weights<'_> {
    fn path(&self) -> &Path {
        self.0.file.path()
    }
    fn names(&self) -> Vec<String> {
        let own = format!("{}.weights.", self.0.name);
        let names = self.0.file.names().into_iter();
        names.filter_map(|name| Some(name.strip_prefix(&own)?.to_owned())).collect()
    }
    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.0.file.shape(&format!("{}.weights.{name}", self.0.name))
    }
    fn values(&self, name: &str) -> Result<Vec<f32>, ModelError> {
        self.0.file.values(&format!("{}.weights.{name}", self.0.name))
    }
}

impl Case {
    pub fn open(file: &str, name: &str) -> Self {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(file);
        let file = SafetensorsFile::open(&path).expect("the recorded file");
        let device = Device::flex().autodiff();
        Case { file, name: name.to_owned(), device, worst: std::cell::Cell::new(0.0) }
    }

    pub fn weights(&self) -> Weights<'_> {
        Weights(self)
    }

    /// The tensor `CASE.name`.
    pub fn tensor<const D: usize>(&self, name: &str) -> Tensor<D> {
        let name = format!("{}.{name}", self.name);
        let values = self.file.values(&name).unwrap_or_else(|error| panic!("{error}"));
        let shape = self.file.shape(&name).expect("it has just been read");
        Tensor::from_data(TensorData::new(values, shape), &self.device)
    }

    /// Compares with `CASE.name`, whatever its shape: the order of the numbers is the same.
    pub fn close<const D: usize>(&self, name: &str, found: Tensor<D>) {
        let full = format!("{}.{name}", self.name);
        let expected = self.file.values(&full).unwrap_or_else(|error| panic!("{error}"));
        let found: Vec<f32> = found.into_data().try_into_vec().expect("f32");
        assert_eq!(found.len(), expected.len(), "{full}");
        let scale = expected.iter().fold(1.0f32, |max, x| max.max(x.abs()));
        for (index, (a, b)) in found.iter().zip(&expected).enumerate() {
            let error = (a - b).abs() / scale;
            assert!(error <= TOLERANCE, "{full}[{index}]: {a}, but PyTorch says {b}");
            self.worst.set(self.worst.get().max(error));
        }
    }

    /// Compares the gradients of a map's weights, in PyTorch's layout.
    pub fn close_linear(&self, name: &str, map: &Linear, gradients: &Gradients) {
        self.close(&format!("grad.{name}.weight"), of(&map.weight, gradients).transpose());
        if let Some(bias) = &map.bias {
            self.close(&format!("grad.{name}.bias"), of(bias, gradients));
        }
    }

    /// Compares the gradients of a normalisation's weights.
    pub fn close_norm(&self, name: &str, norm: &Norm, gradients: &Gradients) {
        self.close(&format!("grad.{name}.weight"), of(&norm.gamma, gradients));
        self.close(&format!("grad.{name}.bias"), of(&norm.beta, gradients));
    }

    /// Slots from the recorded noise, run by `forward` over the recorded inputs: compares what comes
    /// out and the gradients of what went in, and returns those of everything.
    pub fn close_slots(
        &self,
        mu: Tensor<1>,
        log_sigma: Tensor<1>,
        forward: impl FnOnce(Tensor<3>, Tensor<3>) -> Result<Tensor<3>, Error>,
    ) -> Gradients {
        let x = self.tensor::<3>("inputs.x").require_grad();
        let noise = self.tensor::<3>("inputs.noise").require_grad();
        let [.., width] = noise.dims();
        let start =
            mu.reshape([1, 1, width]) + log_sigma.exp().reshape([1, 1, width]) * noise.clone();
        let output = forward(x.clone(), start).expect("forward");
        self.close("output", output.clone());
        let gradients = (output * self.tensor("upstream")).sum().backward();
        self.close("grad.x", x.grad(&gradients).expect("gradient of the inputs"));
        self.close("grad.noise", noise.grad(&gradients).expect("gradient of the start"));
        gradients
    }

    /// Says how close it was.
    pub fn report(&self) {
        eprintln!("{}: largest relative difference {:.1e}", self.name, self.worst.get());
    }
}
