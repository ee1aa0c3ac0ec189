//! Weights in several safetensors files, as checkpoints of some gigabytes are saved.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::Checkpoint;
use super::safetensors::SafetensorsFile;
use crate::error::ModelError;

/// The file that says which tensor is in which of the others.
pub const INDEX: &str = "model.safetensors.index.json";

/// Several safetensors files as one checkpoint.
#[derive(Debug)]
pub struct Sharded {
    path: PathBuf,
    files: Vec<SafetensorsFile>,
    /// Index of the file that holds a tensor.
    holder: HashMap<String, usize>,
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl Sharded {
    /// Opens the files that the index of a folder lists or, where it has none, those that are called
    /// `model-00001-of-00003.safetensors` and so on.
    ///
    /// `None` where the folder has neither.
    ///
    /// # Errors
    /// [`ModelError::NotAModel`] where one of the files is not there, and [`ModelError::Damaged`] where the
    /// index and the files do not agree, or two files hold a tensor of one name.
    pub fn open(folder: &Path) -> Result<Option<Self>, ModelError> {
        let index = folder.join(INDEX);
        match index.exists() {
            true => Self::listed(folder, index).map(Some),
            false => Self::numbered(folder),
        }
    }

    fn listed(folder: &Path, path: PathBuf) -> Result<Self, ModelError> {
        let text = fs::read_to_string(&path).map_err(ModelError::read(&path))?;
        let damaged = |reason: String| ModelError::Damaged { path: path.clone(), reason };
        let index: Index =
            serde_json::from_str(&text).map_err(|error| damaged(error.to_string()))?;
        let mut names: Vec<&String> = index.weight_map.values().collect();
        names.sort_unstable();
        names.dedup();
        // A name with a path in it would lead out of the folder.
        if let Some(name) =
            names.iter().find(|name| Path::new(name).file_name() != Some(name.as_ref()))
        {
            return Err(damaged(format!("it lists the file `{name}`, which is no name of a file")));
        }
        let files = open_all(folder, names.iter().map(|name| name.as_str()))?;
        let sharded = Self::new(path.clone(), files)?;
        for (tensor, file) in &index.weight_map {
            let holder = sharded.holder.get(tensor).map(|&at| names[at]);
            if holder != Some(file) {
                return Err(damaged(format!(
                    "it says that the tensor `{tensor}` is in `{file}`, {}; download both again",
                    match holder {
                        Some(other) => format!("and it is in `{other}`"),
                        None => "which has none of that name".to_owned(),
                    }
                )));
            }
        }
        Ok(sharded)
    }

    fn numbered(folder: &Path) -> Result<Option<Self>, ModelError> {
        let mut of = None;
        for entry in fs::read_dir(folder).map_err(ModelError::read(folder))? {
            let name = entry.map_err(ModelError::read(folder))?.file_name();
            of = of.max(name.to_str().and_then(count_of));
        }
        let Some(of) = of else { return Ok(None) };
        let names: Vec<String> =
            (1..=of).map(|number| format!("model-{number:05}-of-{of:05}.safetensors")).collect();
        let files = open_all(folder, names.iter().map(String::as_str))?;
        Self::new(folder.to_path_buf(), files).map(Some)
    }

    fn new(path: PathBuf, files: Vec<SafetensorsFile>) -> Result<Self, ModelError> {
        let mut holder = HashMap::new();
        for (at, file) in files.iter().enumerate() {
            for name in file.names() {
                if let Some(other) = holder.insert(name.clone(), at) {
                    let other: &SafetensorsFile = &files[other];
                    return Err(ModelError::Damaged {
                        path: file.path().to_path_buf(),
                        reason: format!(
                            "the tensor `{name}` is in `{}` too; take away the files that do not \
                             belong to the model",
                            other.path().display()
                        ),
                    });
                }
            }
        }
        Ok(Self { path, files, holder })
    }
}

/// N of a name `model-00001-of-0000N.safetensors`.
fn count_of(name: &str) -> Option<usize> {
    let middle = name.strip_prefix("model-")?.strip_suffix(".safetensors")?;
    let (number, of) = middle.split_once("-of-")?;
    let digits = |text: &str| text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit());
    (digits(number) && digits(of)).then(|| of.parse().ok())?
}

fn open_all<'n>(
    folder: &Path,
    names: impl Iterator<Item = &'n str>,
) -> Result<Vec<SafetensorsFile>, ModelError> {
    let paths: Vec<PathBuf> = names.map(|name| folder.join(name)).collect();
    let missing: Vec<&PathBuf> = paths.iter().filter(|path| !path.exists()).collect();
    if let Some(first) = missing.first() {
        let more = match missing.len() {
            1 => String::new(),
            count => format!(" and {} more", count - 1),
        };
        return Err(ModelError::NotAModel {
            path: folder.to_path_buf(),
            reason: format!(
                "its weights are in {} files, and `{}`{more} is not there; download it",
                paths.len(),
                first.file_name().unwrap_or_default().display()
            ),
        });
    }
    paths.iter().map(|path| SafetensorsFile::open(path)).collect()
}

impl Checkpoint for Sharded {
    fn path(&self) -> &Path {
        &self.path
    }

    fn names(&self) -> Vec<String> {
        self.holder.keys().cloned().collect()
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.files[*self.holder.get(name)?].shape(name)
    }

    fn values(&self, name: &str) -> Result<Vec<f32>, ModelError> {
        match self.holder.get(name) {
            Some(&at) => self.files[at].values(name),
            None => Err(ModelError::Damaged {
                path: self.path.clone(),
                reason: format!("the tensor `{name}` is missing"),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::safetensors::tensor::{Dtype, TensorView};

    fn write(path: &Path, tensors: &[(&str, f32)]) {
        let bytes: Vec<[u8; 4]> = tensors.iter().map(|(_, x)| x.to_le_bytes()).collect();
        let views = tensors.iter().zip(&bytes).map(|((name, _), bytes)| {
            (*name, TensorView::new(Dtype::F32, vec![1], bytes).unwrap())
        });
        fs::write(path, ::safetensors::serialize(views, None).unwrap()).unwrap();
    }

    fn two_files() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        write(&folder.path().join("model-00001-of-00002.safetensors"), &[("a", 1.0), ("b", 2.0)]);
        write(&folder.path().join("model-00002-of-00002.safetensors"), &[("c", 3.0)]);
        folder
    }

    fn index(folder: &Path, holders: [&str; 3]) {
        let map: BTreeMap<&str, &str> = ["a", "b", "c"].into_iter().zip(holders).collect();
        let json = serde_json::json!({ "metadata": { "total_size": 12 }, "weight_map": map });
        fs::write(folder.join(INDEX), json.to_string()).unwrap();
    }

    const ONE: &str = "model-00001-of-00002.safetensors";
    const TWO: &str = "model-00002-of-00002.safetensors";

    #[test]
    fn files_are_one_checkpoint_with_and_without_an_index() {
        let folder = two_files();
        for listed in [false, true] {
            if listed {
                index(folder.path(), [ONE, ONE, TWO]);
            }
            let all = Sharded::open(folder.path()).unwrap().expect("two files");
            for (name, value) in [("a", 1.0), ("b", 2.0), ("c", 3.0)] {
                assert_eq!(all.tensor(name, &[1]).unwrap(), [value]);
            }
            assert_eq!(all.names().len(), 3);
            let missing = all.tensor("d", &[1]).unwrap_err().to_string();
            assert!(missing.contains("`d` is missing"), "{missing}");
        }
        assert!(Sharded::open(tempfile::tempdir().unwrap().path()).unwrap().is_none());
    }

    #[test]
    fn what_does_not_fit_together_is_refused_by_name() {
        let refusal = |folder: &Path| Sharded::open(folder).unwrap_err().to_string();
        let folder = two_files();
        index(folder.path(), [ONE, TWO, TWO]);
        let stale = refusal(folder.path());
        assert!(
            stale.contains("`b` is in `model-00002") && stale.contains("model-00001"),
            "{stale}"
        );
        index(folder.path(), [ONE, ONE, "../model-00002-of-00002.safetensors"]);
        assert!(refusal(folder.path()).contains("no name of a file"));
        fs::remove_file(folder.path().join(INDEX)).unwrap();
        fs::remove_file(folder.path().join(TWO)).unwrap();
        let lost = refusal(folder.path());
        assert!(lost.contains("2 files") && lost.contains("model-00002-of-00002"), "{lost}");
        write(&folder.path().join(TWO), &[("a", 4.0)]);
        let twice = refusal(folder.path());
        assert!(twice.contains("`a` is in") && twice.contains("too"), "{twice}");
    }
}
