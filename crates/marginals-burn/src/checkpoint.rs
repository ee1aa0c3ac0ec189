//! Trained weights, whatever file they come from: named tensors read as `f32`.

mod asked;
pub mod gguf;
pub(crate) mod loader;
pub(crate) mod quantised;
mod renamed;
pub mod safetensors;
pub mod sharded;
pub mod weights;

use std::path::Path;

pub use self::asked::Asked;
pub use self::renamed::Renamed;
use crate::error::ModelError;

/// Named tensors of a trained model.
///
/// Shapes are row-major, the last axis contiguous; a linear map is stored `[outputs, inputs]`, as
/// PyTorch and GGUF both do.
pub trait Checkpoint {
    /// The file the tensors come from, for messages.
    fn path(&self) -> &Path;

    /// The names of all tensors, in any order.
    fn names(&self) -> Vec<String>;

    /// The shape of the tensor called `name`, if there is one.
    fn shape(&self, name: &str) -> Option<Vec<usize>>;

    /// The values of the tensor called `name`, widened or dequantised to `f32`.
    ///
    /// # Errors
    /// [`ModelError::Damaged`] when it is missing, [`ModelError::Unsupported`] when its number
    /// format is, [`ModelError::Read`] when the file cannot be read.
    fn values(&self, name: &str) -> Result<Vec<f32>, ModelError>;

    /// Name that the file has for the tensor called `name` here, or would have; for messages.
    fn stored_name(&self, name: &str) -> String {
        name.to_owned()
    }

    /// The values of `name` after checking that it has exactly `shape`.
    ///
    /// The check comes before any allocation, so a configuration cannot ask for more memory than
    /// the file's own tensors take.
    ///
    /// # Errors
    /// [`ModelError::Damaged`] when it is missing or has another shape; otherwise as
    /// [`Self::values`].
    fn tensor(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, ModelError> {
        let damaged = |reason| ModelError::Damaged { path: self.path().to_path_buf(), reason };
        match self.shape(name) {
            None => Err(damaged(format!("the tensor `{}` is missing", self.stored_name(name)))),
            Some(found) if found != shape => Err(damaged(format!(
                "the tensor `{}` has shape {found:?}, but the configuration asks for {shape:?}",
                self.stored_name(name)
            ))),
            Some(_) => self.values(name),
        }
    }
}
