//! A checkpoint under other names than its file's.

use std::collections::HashMap;
use std::path::Path;

use super::Checkpoint;
use crate::error::ModelError;

/// Wrappers of a model in training, which end up in the names of its tensors: PyTorch's compiler and
/// its two ways to train on several devices.
const WRAPPERS: [&str; 3] = ["_orig_mod.", "module.", "_fsdp_wrapped_module."];

/// A checkpoint whose tensors go by the names that a loader has for them.
///
/// Weights are published under several names: with the prefix of a task model, or of a wrapper; with
/// `gamma` and `beta` for `weight` and `bias`.
pub struct Renamed<'file> {
    checkpoint: &'file dyn Checkpoint,
    /// The file's name of each tensor.
    stored: HashMap<String, String>,
}

impl<'file> Renamed<'file> {
    /// `checkpoint` without wrappers, its tensors called as `rename` calls those of the file.
    ///
    /// # Errors
    /// [`ModelError::Unsupported`] where two tensors would have one name.
    pub fn new(
        checkpoint: &'file dyn Checkpoint,
        rename: impl Fn(&str) -> String,
    ) -> Result<Self, ModelError> {
        let mut names = checkpoint.names();
        names.sort_unstable();
        let mut stored = HashMap::new();
        for name in names {
            let called = rename(&unwrapped(&name));
            if let Some(other) = stored.insert(called, name.clone()) {
                return Err(ModelError::Unsupported {
                    path: checkpoint.path().to_path_buf(),
                    reason: format!(
                        "it holds `{other}` and `{name}`, which are two names of one tensor; keep \
                         the one that the model is to have"
                    ),
                });
            }
        }
        Ok(Self { checkpoint, stored })
    }
}

/// A tensor's name without those of wrappers, which may stand anywhere in it.
fn unwrapped(name: &str) -> String {
    let parts = name.split_inclusive('.').filter(|part| !WRAPPERS.contains(part));
    parts.collect()
}

impl Checkpoint for Renamed<'_> {
    fn path(&self) -> &Path {
        self.checkpoint.path()
    }

    fn names(&self) -> Vec<String> {
        self.stored.keys().cloned().collect()
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.checkpoint.shape(self.stored.get(name)?)
    }

    fn values(&self, name: &str) -> Result<Vec<f32>, ModelError> {
        self.checkpoint.values(self.stored.get(name).map_or(name, String::as_str))
    }

    fn stored_name(&self, name: &str) -> String {
        self.checkpoint.stored_name(self.stored.get(name).map_or(name, String::as_str))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Names(&'static [&'static str]);

    impl Checkpoint for Names {
        fn path(&self) -> &Path {
            Path::new("names")
        }
        fn names(&self) -> Vec<String> {
            self.0.iter().map(|name| (*name).to_owned()).collect()
        }
        fn shape(&self, name: &str) -> Option<Vec<usize>> {
            Some(vec![self.0.iter().position(|own| *own == name)?])
        }
        fn values(&self, name: &str) -> Result<Vec<f32>, ModelError> {
            Ok(vec![self.shape(name).expect("a tensor of the file")[0] as f32])
        }
    }

    #[test]
    fn tensors_go_by_the_names_of_the_loader() {
        let file = Names(&["module.bert.a.gamma", "b", "layers.0._orig_mod.c"]);
        let strip = |name: &str| name.trim_start_matches("bert.").replace(".gamma", ".weight");
        let renamed = Renamed::new(&file, strip).unwrap();
        let mut names = renamed.names();
        names.sort_unstable();
        assert_eq!(names, ["a.weight", "b", "layers.0.c"]);
        assert_eq!(renamed.values("a.weight").unwrap(), [0.0]);
        assert_eq!(renamed.shape("layers.0.c"), Some(vec![2]));
        assert_eq!(renamed.shape("module.bert.a.gamma"), None);
        assert_eq!(renamed.stored_name("a.weight"), "module.bert.a.gamma");
        assert_eq!(renamed.stored_name("d"), "d");
        let twice = Names(&["a.gamma", "a.weight"]);
        let refused = Renamed::new(&twice, strip).map(drop).unwrap_err().to_string();
        assert!(refused.contains("`a.gamma` and `a.weight`"), "{refused}");
    }
}
