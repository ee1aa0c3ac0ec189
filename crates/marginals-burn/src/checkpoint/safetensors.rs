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
            // Models are run in f32.
            Dtype::F64 => Ok(widen(bytes, |eight| f64::from_le_bytes(eight) as f32)),
            Dtype::F8_E5M2 => Ok(widen(bytes, |[byte]| from_e5m2(byte))),
            Dtype::F8_E4M3 => Ok(widen(bytes, |[byte]| from_e4m3(byte))),
            other => Err(ModelError::Unsupported {
                path: self.path.clone(),
                reason: format!(
                    "the tensor `{name}` is stored as {other:?}; F64, F32, F16, BF16, F8_E5M2 and \
                     F8_E4M3 are read"
                ),
            }),
        }
    }
}

/// A number of 5 bits of exponent and 2 of mantissa: the upper half of one of half precision.
fn from_e5m2(byte: u8) -> f32 {
    f16::from_bits(u16::from(byte) << 8).to_f32()
}

/// A number of 4 bits of exponent, whose bias is 7, and 3 of mantissa; without infinities, and all ones is
/// NaN (Micikevicius et al., *FP8 Formats for Deep Learning*, 2022).
fn from_e4m3(byte: u8) -> f32 {
    let (exponent, mantissa) = (i32::from(byte >> 3 & 0xF), f32::from(byte & 7));
    let size = match (exponent, byte & 7) {
        (0xF, 7) => f32::NAN,
        (0, _) => mantissa * 2f32.powi(-9),
        _ => (8.0 + mantissa) * 2f32.powi(exponent - 10),
    };
    if byte & 0x80 == 0 { size } else { -size }
}

fn widen<const WIDTH: usize>(bytes: &[u8], element: impl Fn([u8; WIDTH]) -> f32) -> Vec<f32> {
    let (elements, _) = bytes.as_chunks::<WIDTH>();
    elements.iter().map(|bytes| element(*bytes)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::safetensors::tensor::TensorView;

    /// Values of the tables in Micikevicius et al. (2022): smallest and largest of each kind.
    #[test]
    fn small_and_large_floats_are_read() {
        let e4m3: &[(u8, f64)] = &[
            (0x00, 0.0),
            (0x01, 0.001953125),
            (0x07, 0.013671875),
            (0x08, 0.015625),
            (0x38, 1.0),
            (0xB9, -1.125),
            (0x7E, 448.0),
            (0x7F, f64::NAN),
        ];
        let e5m2: &[(u8, f64)] = &[
            (0x01, 1.52587890625e-5),
            (0x04, 6.103515625e-5),
            (0x3C, 1.0),
            (0xBD, -1.25),
            (0x7B, 57344.0),
            (0x7C, f64::INFINITY),
            (0x7D, f64::NAN),
        ];
        let double = [0.1f64, -3.0].map(f64::to_le_bytes).concat();
        let read = |format, shape: usize, bytes: &[u8]| {
            let view = TensorView::new(format, vec![shape], bytes).unwrap();
            let bytes = ::safetensors::serialize([("x", view)], None).unwrap();
            SafetensorsFile::from_bytes(Path::new("x"), bytes).unwrap().values("x")
        };
        for (format, table) in [(Dtype::F8_E4M3, e4m3), (Dtype::F8_E5M2, e5m2)] {
            let bytes: Vec<u8> = table.iter().map(|(byte, _)| *byte).collect();
            for (found, (byte, expected)) in
                read(format, bytes.len(), &bytes).unwrap().into_iter().zip(table)
            {
                let found = f64::from(found);
                let same = found == *expected || (found.is_nan() && expected.is_nan());
                assert!(same, "{format:?} {byte:#x}: {found}, not {expected}");
            }
        }
        assert_eq!(read(Dtype::F64, 2, &double).unwrap(), [0.1, -3.0]);
        let other = read(Dtype::I16, 1, &[0, 0]).unwrap_err().to_string();
        assert!(other.contains("`x`") && other.contains("I16") && other.contains("F64"), "{other}");
    }
}
