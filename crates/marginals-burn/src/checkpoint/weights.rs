//! A module's weights by their paths, out to a safetensors file and in again.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Tensor, TensorData};
use half::f16;
use safetensors::tensor::{Dtype, TensorView};

use super::Checkpoint;
use crate::error::ModelError;
use crate::tensors::into_values;

/// How weights are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storage {
    /// As they are.
    F32,
    /// Rounded to half precision: half the size, 11 bits of each number.
    F16,
}

/// Where in a module one is.
#[derive(Default)]
struct Path(Vec<String>);

impl Path {
    fn name(&self) -> String {
        self.0.join(".")
    }
}

#[derive(Default)]
struct Collect {
    path: Path,
    found: BTreeMap<String, (Vec<usize>, Vec<f32>)>,
}

impl ModuleVisitor for Collect {
    fn enter_module(&mut self, name: &str, _kind: &str) {
        self.path.0.push(name.to_owned());
    }
    fn exit_module(&mut self, _name: &str, _kind: &str) {
        self.path.0.pop();
    }
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let tensor = param.val();
        let shape = tensor.dims().to_vec();
        self.found.insert(self.path.name(), (shape, into_values(tensor)));
    }
}

/// The bytes of a safetensors file with every weight of `module` under its path, as in
/// `blocks.0.attention.projections.query.weight`.
///
/// # Errors
/// The writer's message.
pub fn to_safetensors(module: &impl Module, storage: Storage) -> Result<Vec<u8>, String> {
    let mut collect = Collect::default();
    module.visit(&mut collect);
    let bytes: Vec<(String, Vec<usize>, Vec<u8>)> = collect
        .found
        .into_iter()
        .map(|(name, (shape, values))| {
            let bytes = match storage {
                Storage::F32 => values.iter().flat_map(|x| x.to_le_bytes()).collect(),
                Storage::F16 => {
                    values.iter().flat_map(|&x| f16::from_f32(x).to_le_bytes()).collect()
                }
            };
            (name, shape, bytes)
        })
        .collect();
    let format = match storage {
        Storage::F32 => Dtype::F32,
        Storage::F16 => Dtype::F16,
    };
    let views: Result<Vec<_>, _> = bytes
        .iter()
        .map(|(name, shape, bytes)| {
            TensorView::new(format, shape.clone(), bytes).map(|view| (name.as_str(), view))
        })
        .collect();
    let views = views.map_err(|error| error.to_string())?;
    safetensors::serialize(views, None).map_err(|error| error.to_string())
}

struct Finite(bool);

impl ModuleVisitor for Finite {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.0 = self.0 && into_values(param.val()).iter().all(|x| x.is_finite());
    }
}

/// Whether every weight is a finite number.
pub(crate) fn are_finite(module: &impl Module) -> bool {
    let mut finite = Finite(true);
    module.visit(&mut finite);
    finite.0
}

struct Fill<'file> {
    path: Path,
    checkpoint: &'file dyn Checkpoint,
    fault: Option<ModelError>,
}

impl ModuleMapper for Fill<'_> {
    fn enter_module(&mut self, name: &str, _kind: &str) {
        self.path.0.push(name.to_owned());
    }
    fn exit_module(&mut self, _name: &str, _kind: &str) {
        self.path.0.pop();
    }
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let shape = param.val().dims();
        match self.checkpoint.tensor(&self.path.name(), &shape) {
            Ok(values) => {
                param.map(|old| Tensor::from_data(TensorData::new(values, shape), &old.device()))
            }
            Err(error) => {
                self.fault.get_or_insert(error);
                param
            }
        }
    }
}

/// `module` with the weights of a checkpoint that [`to_safetensors`] wrote.
///
/// # Errors
/// [`ModelError::Damaged`] where one is missing or has another shape.
pub fn load<M: Module>(module: M, checkpoint: &dyn Checkpoint) -> Result<M, ModelError> {
    let mut fill = Fill { path: Path::default(), checkpoint, fault: None };
    let module = module.map(&mut fill);
    match fill.fault {
        None => Ok(module),
        Some(error) => Err(error),
    }
}
