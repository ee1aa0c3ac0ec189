//! Weights in a `model.safetensors` file.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use safetensors::{Dtype, SafeTensorError, SafeTensors};

use super::Checkpoint;
use crate::error::ModelError;

/// A safetensors file held in memory.
///
/// Its header is checked when it is opened (offsets contiguous, sizes equal to shape × width, the
/// whole file accounted for), so reading a tensor afterwards cannot leave the buffer.
///
/// Tensors that share their numbers are one tensor in a file that `save_model` of the Python package wrote,
/// and its metadata says by which name each of the others went: they are read by all their names.
#[derive(Debug)]
pub struct SafetensorsFile {
    path: PathBuf,
    bytes: Vec<u8>,
    shared: HashMap<String, String>,
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
        let shared = shared_tensors(&bytes).map_err(|error| damaged(path, &error))?;
        Ok(SafetensorsFile { path: path.to_path_buf(), bytes, shared })
    }

    /// The name that a tensor has in the file.
    fn stored<'a>(&'a self, name: &'a str) -> &'a str {
        self.shared.get(name).map_or(name, String::as_str)
    }

    fn tensors(&self) -> Result<SafeTensors<'_>, ModelError> {
        SafeTensors::deserialize(&self.bytes).map_err(|error| damaged(&self.path, &error))
    }
}

/// Names that a file's metadata gives to tensors beside their own: for each, the own one.
///
/// # Errors
/// [`SafeTensorError`], where the file is none of its kind.
pub fn shared_tensors(bytes: &[u8]) -> Result<HashMap<String, String>, SafeTensorError> {
    let file = SafeTensors::deserialize(bytes)?;
    let (_, header) = SafeTensors::read_metadata(bytes)?;
    let said = header.metadata().clone().unwrap_or_default();
    let is_there = |name: &str| file.tensor(name).is_ok();
    Ok(said.into_iter().filter(|(name, own)| !is_there(name) && is_there(own)).collect())
}

fn damaged(path: &Path, error: &SafeTensorError) -> ModelError {
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

    fn names(&self) -> Vec<String> {
        let own = self.tensors().map(|file| file.names().into_iter().map(str::to_owned).collect());
        let own: Vec<String> = own.unwrap_or_default();
        own.into_iter().chain(self.shared.keys().cloned()).collect()
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        Some(self.tensors().ok()?.tensor(self.stored(name)).ok()?.shape().to_vec())
    }

    fn values(&self, name: &str) -> Result<Vec<f32>, ModelError> {
        let tensors = self.tensors()?;
        let tensor =
            tensors.tensor(self.stored(name)).map_err(|error| damaged(&self.path, &error))?;
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
