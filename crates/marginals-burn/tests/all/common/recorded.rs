//! Recorded answers of PyTorch: weights, inputs, output and gradients of named cases.

use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor, TensorData};
use marginals_burn::ModelError;
use marginals_burn::checkpoint::Checkpoint;
use marginals_burn::checkpoint::safetensors::SafetensorsFile;

/// Agreement demanded of every number, relative to the largest of its tensor or to 1. The recorded
/// ones were computed in `f64`, so this is the rounding of our own `f32`.
pub const TOLERANCE: f32 = 1e-5;

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

    /// Says how close it was.
    pub fn report(&self) {
        eprintln!("{}: largest relative difference {:.1e}", self.name, self.worst.get());
    }
}
