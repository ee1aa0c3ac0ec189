//! Weights, configuration and vocabulary in one GGUF file (versions 2 and 3, little-endian).
//!
//! Layout, from the specification of the format: magic `GGUF`, version, tensor count, metadata
//! count, the metadata, one description per tensor (name, dimensions with the contiguous one
//! first, number format, offset), padding to the alignment, the tensors.

mod blocks;
mod metadata;

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

pub use blocks::BlockFormat;
pub use metadata::Value;
use metadata::{Cursor, Reason};

use super::Checkpoint;
use crate::error::ModelError;

/// An opened GGUF file: its metadata in memory, its tensors still on disk.
#[derive(Debug)]
pub struct GgufFile {
    path: PathBuf,
    metadata: HashMap<String, Value>,
    tensors: HashMap<String, TensorPlace>,
}

/// Where a tensor lies, checked against the end of the file.
#[derive(Debug)]
struct TensorPlace {
    /// Row-major, so the reverse of the order in the file.
    shape: Vec<usize>,
    /// The number format's code; whether it is one we read is asked when the values are.
    code: u32,
    /// From the beginning of the file, in bytes.
    start: u64,
}

const SMALLEST_METADATA_ENTRY: u64 = 8 + 4 + 1;
const SMALLEST_TENSOR_ENTRY: u64 = 8 + 4 + 4 + 8;
const LARGEST_ALIGNMENT: u64 = 1 << 16;

impl GgufFile {
    /// Reads and checks everything before the tensors.
    ///
    /// # Errors
    /// [`ModelError::Read`] when the file cannot be opened, [`ModelError::Damaged`] when any count
    /// or offset in it cannot be true, [`ModelError::Unsupported`] when it has another version, is for
    /// big-endian machines or is one part of several.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        let file = File::open(path).map_err(ModelError::read(path))?;
        let length = file.metadata().map_err(ModelError::read(path))?.len();
        let mut cursor = Cursor::new(BufReader::new(file), length);
        let damaged = |reason| ModelError::Damaged {
            path: path.to_path_buf(),
            reason: format!("{reason}; if it was downloaded, download it again"),
        };
        if let Some(reason) = other_version(&mut cursor).map_err(damaged)? {
            return Err(ModelError::Unsupported { path: path.to_path_buf(), reason });
        }
        let (metadata, tensors) = read_header(&mut cursor, length).map_err(damaged)?;
        let file = GgufFile { path: path.to_path_buf(), metadata, tensors };
        match file.size("split.count")? {
            Some(parts) if parts > 1 => Err(file.unsupported(format!(
                "it is one of {parts} parts of a model (`split.count`), and a model in one file is \
                 read; llama.cpp's `llama-gguf-split --merge` joins the parts"
            ))),
            _ => Ok(file),
        }
    }

    /// The metadata value of `key`.
    pub fn metadata(&self, key: &str) -> Option<&Value> {
        self.metadata.get(key)
    }

    /// The metadata whose keys begin with `owner` and a dot, in the order of their keys.
    pub fn own_metadata(&self, owner: &str) -> Vec<(&str, &Value)> {
        let own = |key: &str| key.strip_prefix(owner).is_some_and(|rest| rest.starts_with('.'));
        let mut found: Vec<(&str, &Value)> =
            self.metadata.iter().map(|(key, value)| (&**key, value)).collect();
        found.retain(|(key, _)| own(key));
        found.sort_unstable_by_key(|(key, _)| *key);
        found
    }

    /// The metadata text of `key`, if it is there and is text.
    pub fn text(&self, key: &str) -> Option<&str> {
        match self.metadata(key) {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// The non-negative metadata integer of `key`.
    ///
    /// # Errors
    /// [`ModelError::Damaged`] when it is there and is something else.
    pub fn size(&self, key: &str) -> Result<Option<usize>, ModelError> {
        let size = match self.metadata(key) {
            None => return Ok(None),
            Some(Value::Unsigned(number)) => usize::try_from(*number).ok(),
            Some(Value::Signed(number)) => usize::try_from(*number).ok(),
            Some(_) => None,
        };
        size.map(Some).ok_or_else(|| self.damaged(format!("`{key}` is not a size")))
    }

    /// The metadata number of `key`, if it is there and is a floating-point number.
    pub fn number(&self, key: &str) -> Option<f64> {
        match self.metadata(key) {
            Some(Value::Float(number)) => Some(*number),
            _ => None,
        }
    }

    /// The metadata truth value of `key`, if it is there and is one.
    pub fn truth(&self, key: &str) -> Option<bool> {
        match self.metadata(key) {
            Some(Value::Bool(truth)) => Some(*truth),
            _ => None,
        }
    }

    pub(crate) fn damaged(&self, reason: String) -> ModelError {
        ModelError::Damaged { path: self.path.clone(), reason }
    }

    pub(crate) fn unsupported(&self, reason: String) -> ModelError {
        ModelError::Unsupported { path: self.path.clone(), reason }
    }
}

type Header = (HashMap<String, Value>, HashMap<String, TensorPlace>);

/// Reads the beginning of a file, and says why its version is not read, if it is not.
fn other_version<R: Read>(cursor: &mut Cursor<R>) -> Result<Option<String>, Reason> {
    if &cursor.bytes::<4>("the magic number")? != b"GGUF" {
        return Err("it does not begin with the four letters GGUF".to_owned());
    }
    let version = cursor.u32("the version")?;
    Ok(match version {
        2 | 3 => None,
        1 => Some("it has GGUF version 1; versions 2 and 3 are read".to_owned()),
        _ if (2..=3).contains(&version.swap_bytes()) => {
            Some("it is for big-endian machines; little-endian files are read".to_owned())
        }
        _ => return Err(format!("it has GGUF version {version}; versions 2 and 3 are read")),
    })
}

fn read_header<R: Read>(cursor: &mut Cursor<R>, length: u64) -> Result<Header, Reason> {
    let tensor_count = cursor.u64("the tensor count")?;
    let metadata_count = cursor.u64("the metadata count")?;
    cursor.expect_room(metadata_count, SMALLEST_METADATA_ENTRY, "metadata entries")?;
    cursor.expect_room(tensor_count, SMALLEST_TENSOR_ENTRY, "tensors")?;

    let mut metadata = HashMap::new();
    for _ in 0..metadata_count {
        let key = cursor.text("a metadata key")?;
        let value = cursor.value(&key)?;
        if metadata.insert(key.clone(), value).is_some() {
            return Err(format!("it has two metadata entries `{key}`"));
        }
    }
    let alignment = match metadata.get("general.alignment") {
        None => 32,
        Some(Value::Unsigned(bytes)) if bytes.is_power_of_two() && *bytes <= LARGEST_ALIGNMENT => {
            *bytes
        }
        Some(other) => return Err(format!("`general.alignment` is {other:?}")),
    };

    let mut entries = Vec::new();
    for _ in 0..tensor_count {
        let name = cursor.text("a tensor name")?;
        let axes = cursor.u32(&name)?;
        if axes > 4 {
            return Err(format!("the tensor `{name}` has {axes} axes; there can be four"));
        }
        let mut shape = Vec::new();
        for _ in 0..axes {
            let size = cursor.u64(&name)?;
            shape.push(
                usize::try_from(size)
                    .map_err(|_| format!("the tensor `{name}` has an axis of {size}"))?,
            );
        }
        shape.reverse();
        let code = cursor.u32(&name)?;
        let offset = cursor.u64(&name)?;
        entries.push((name, shape, code, offset));
    }

    let data_start = cursor.position().next_multiple_of(alignment);
    let mut tensors = HashMap::new();
    let mut ranges = Vec::new();
    for (name, shape, code, offset) in entries {
        let end = tensor_bytes(&shape, code)
            .and_then(|bytes| data_start.checked_add(offset)?.checked_add(bytes));
        match end {
            Some(end) if end <= length && offset % alignment == 0 => {
                ranges.push((data_start + offset, end));
            }
            _ => {
                return Err(format!(
                    "the tensor `{name}` of shape {shape:?} at offset {offset} does not fit into \
                     its {length} bytes"
                ));
            }
        }
        let place = TensorPlace { shape, code, start: data_start + offset };
        if tensors.insert(name.clone(), place).is_some() {
            return Err(format!("it has two tensors `{name}`"));
        }
    }
    // Tensors that share bytes would let a small file unfold into any amount of memory.
    ranges.sort_unstable();
    if let Some(pair) = ranges.windows(2).find(|pair| pair[0].1 > pair[1].0) {
        return Err(format!("two of its tensors overlap at byte {}", pair[1].0));
    }
    Ok((metadata, tensors))
}

/// Bytes of a tensor; 0 for a format we do not read, whose size is then never used; `None` when
/// the size overflows or the contiguous axis is no whole number of blocks.
fn tensor_bytes(shape: &[usize], code: u32) -> Option<u64> {
    let Some(format) = BlockFormat::from_code(code) else { return Some(0) };
    let weights = shape.iter().try_fold(1usize, |product, axis| product.checked_mul(*axis))?;
    let contiguous = shape.last().copied().unwrap_or(1);
    if contiguous % format.weights() != 0 {
        return None;
    }
    u64::try_from((weights / format.weights()).checked_mul(format.bytes())?).ok()
}

impl Checkpoint for GgufFile {
    fn path(&self) -> &Path {
        &self.path
    }

    fn names(&self) -> Vec<String> {
        self.tensors.keys().cloned().collect()
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.tensors.get(name).map(|place| place.shape.clone())
    }

    fn values(&self, name: &str) -> Result<Vec<f32>, ModelError> {
        let place = self
            .tensors
            .get(name)
            .ok_or_else(|| self.damaged(format!("the tensor `{name}` is missing")))?;
        let format = BlockFormat::from_code(place.code).ok_or_else(|| {
            let stored = match BlockFormat::name_of(place.code) {
                Some(known) => known.to_owned(),
                None => format!("number format {}, which is newer than this program", place.code),
            };
            let read = Vec::from_iter(BlockFormat::names()).join(", ");
            self.unsupported(format!("the tensor `{name}` is stored as {stored}; {read} are read"))
        })?;
        let bytes = tensor_bytes(&place.shape, place.code)
            .and_then(|bytes| usize::try_from(bytes).ok())
            .ok_or_else(|| self.damaged(format!("the tensor `{name}` has no size")))?;
        let mut file = File::open(&self.path).map_err(ModelError::read(&self.path))?;
        file.seek(SeekFrom::Start(place.start)).map_err(ModelError::read(&self.path))?;
        let mut stored = vec![0; bytes];
        file.read_exact(&mut stored).map_err(ModelError::read(&self.path))?;
        Ok(format.decode(&stored))
    }
}
