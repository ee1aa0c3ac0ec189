//! Tensors in and out of `marginals infer`.

use std::collections::HashMap;
use std::path::Path;

use assert_cmd::Command;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

/// Shape and numbers.
pub type Tensor = (Vec<usize>, Vec<f64>);

/// A fixed list of numbers in (−1, 1).
pub fn numbers(seed: f64, count: usize) -> Vec<f64> {
    (0..count).map(|i| ((i as f64 + 1.0) * 12.9898 + seed * 78.233).sin()).collect()
}

fn save(path: &Path, tensors: &HashMap<String, Tensor>) {
    let bytes: Vec<(String, Vec<usize>, Vec<u8>)> = tensors
        .iter()
        .map(|(name, (shape, values))| {
            let bytes = values.iter().flat_map(|x| x.to_le_bytes()).collect();
            (name.clone(), shape.clone(), bytes)
        })
        .collect();
    let views = bytes.iter().map(|(name, shape, bytes)| {
        (name.as_str(), TensorView::new(Dtype::F64, shape.clone(), bytes).unwrap())
    });
    std::fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}

/// The bytes of a safetensors file with tensors as its header says, whatever that is, and metadata.
pub fn raw(tensors: &[(&str, &str, &[u64], Vec<u8>)], metadata: &[(&str, &str)]) -> Vec<u8> {
    let mut header = serde_json::Map::new();
    if !metadata.is_empty() {
        let said: serde_json::Map<_, _> =
            metadata.iter().map(|(key, text)| ((*key).to_owned(), (*text).into())).collect();
        header.insert("__metadata__".to_owned(), said.into());
    }
    let mut data = Vec::new();
    for (name, dtype, shape, bytes) in tensors {
        let offsets = [data.len(), data.len() + bytes.len()];
        let about = serde_json::json!({ "dtype": dtype, "shape": shape, "data_offsets": offsets });
        header.insert((*name).to_owned(), about);
        data.extend(bytes);
    }
    let header = serde_json::Value::Object(header).to_string();
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &data].concat()
}

/// Numbers as a file of f32 has them.
pub fn f32_bytes(numbers: &[f64]) -> Vec<u8> {
    numbers.iter().flat_map(|&x| (x as f32).to_le_bytes()).collect()
}

/// A folder with a model file and its input.
pub struct Folder(pub tempfile::TempDir);

impl Folder {
    pub fn new(model: &str, tensors: &HashMap<String, Tensor>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("model.toml"), model).unwrap();
        save(&folder.path().join("in.safetensors"), tensors);
        Self(folder)
    }

    /// With an input of given bytes.
    pub fn of_bytes(model: &str, input: &[u8]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("model.toml"), model).unwrap();
        std::fs::write(folder.path().join("in.safetensors"), input).unwrap();
        Self(folder)
    }

    /// Runs the command on them.
    pub fn infer(&self, extra: &[&str]) -> assert_cmd::assert::Assert {
        let mut command = Command::cargo_bin("marginals").unwrap();
        command.current_dir(self.0.path()).args(["infer", "--input", "in.safetensors"]);
        for (flag, usual) in [("--model", "model.toml"), ("--output", "out.safetensors")] {
            if !extra.contains(&flag) {
                command.args([flag, usual]);
            }
        }
        command.args(extra).assert()
    }

    /// The tensors it wrote.
    pub fn output(&self) -> HashMap<String, Tensor> {
        let bytes = std::fs::read(self.0.path().join("out.safetensors")).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let number = |dtype, b: &[u8]| match dtype {
            Dtype::F64 => f64::from_le_bytes(b.try_into().unwrap()),
            Dtype::F32 => f32::from_le_bytes(b.try_into().unwrap()).into(),
            Dtype::I64 => i64::from_le_bytes(b.try_into().unwrap()) as f64,
            Dtype::U8 => b[0].into(),
            other => panic!("unexpected type {other:?}"),
        };
        let read = |(name, t): (String, TensorView<'_>)| {
            let size = t.dtype().bitsize() / 8;
            let values = t.data().chunks_exact(size).map(|b| number(t.dtype(), b)).collect();
            (name, (t.shape().to_vec(), values))
        };
        file.tensors().into_iter().map(read).collect()
    }

    /// Runs the command, which must fail with exit code 2, one paragraph that holds `words`, and no
    /// output left behind.
    pub fn refuse(&self, arguments: &[&str], words: &[&str]) {
        let told = self.infer(arguments).code(2);
        let text = String::from_utf8_lossy(&told.get_output().stderr).into_owned();
        for word in words {
            assert!(text.contains(word), "`{word}` is not in: {text}");
        }
        assert!(!text.contains("panicked") && !text.trim().contains("\n\n"), "{text}");
        assert!(!self.0.path().join("out.safetensors").exists());
    }
}
