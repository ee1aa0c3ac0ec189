//! Weights in a `model.safetensors` file.

use std::fs;
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use safetensors::{Dtype, SafeTensors};

use super::Checkpoint;
use crate::error::ModelError;

/// A safetensors file held in memory.
///
/// Its header is checked when it is opened (offsets contiguous, sizes equal to shape × width, the
/// whole file accounted for), so reading a tensor afterwards cannot leave the buffer.
#[derive(Debug)]
pub struct SafetensorsFile {
    path: PathBuf,
    bytes: Vec<u8>,
}

impl SafetensorsFile {
    /// Reads and checks the file at `path`.
    ///
    /// # Errors
    /// [`ModelError::Read`], or [`ModelError::Damaged`] when the header is not consistent with
    /// the file.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        Self::from_bytes(path, fs::read(path).map_err(ModelError::read(path))?)
    }

    /// Checks bytes that are there already; `path` is for messages.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn from_bytes(path: &Path, bytes: Vec<u8>) -> Result<Self, ModelError> {
        SafeTensors::deserialize(&bytes).map_err(|error| damaged(path, &error))?;
        Ok(SafetensorsFile { path: path.to_path_buf(), bytes })
    }

    fn tensors(&self) -> Result<SafeTensors<'_>, ModelError> {
        SafeTensors::deserialize(&self.bytes).map_err(|error| damaged(&self.path, &error))
    }
}

fn damaged(path: &Path, error: &safetensors::SafeTensorError) -> ModelError {
    ModelError::Damaged {
        path: path.to_path_buf(),
        reason: format!(
            "it is not a complete safetensors file ({error}); if it was downloaded, download it \
             again"
        ),
    }
}

impl Checkpoint for SafetensorsFile {
    fn path(&self) -> &Path {
        &self.path
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        Some(self.tensors().ok()?.tensor(name).ok()?.shape().to_vec())
    }

    fn values(&self, name: &str) -> Result<Vec<f32>, ModelError> {
        let tensors = self.tensors()?;
        let tensor = tensors.tensor(name).map_err(|error| damaged(&self.path, &error))?;
        let bytes = tensor.data();
        match tensor.dtype() {
            Dtype::F32 => Ok(widen(bytes, f32::from_le_bytes)),
            Dtype::F16 => Ok(widen(bytes, |pair| f16::from_le_bytes(pair).to_f32())),
            Dtype::BF16 => Ok(widen(bytes, |pair| bf16::from_le_bytes(pair).to_f32())),
            other => Err(ModelError::Unsupported {
                path: self.path.clone(),
                reason: format!(
                    "the tensor `{name}` is stored as {other:?}; F32, F16 and BF16 are read"
                ),
            }),
        }
    }
}

fn widen<const WIDTH: usize>(bytes: &[u8], element: impl Fn([u8; WIDTH]) -> f32) -> Vec<f32> {
    let (elements, _) = bytes.as_chunks::<WIDTH>();
    elements.iter().map(|bytes| element(*bytes)).collect()
}
