//! Tensors of a GGUF file as they were published.

use std::collections::HashMap;
use std::path::Path;

use super::{Architecture, Changed, scaling};
use crate::checkpoint::Checkpoint;
use crate::checkpoint::gguf::GgufFile;
use crate::error::ModelError;

/// The tensors of a GGUF file under their published names and in their published order.
#[derive(Debug)]
pub(in crate::pretrained) struct Tensors<'file> {
    file: &'file GgufFile,
    architecture: &'static Architecture,
    heads: usize,
    key_heads: usize,
    /// The file's name of each tensor.
    stored: HashMap<String, String>,
}

impl<'file> Tensors<'file> {
    /// The tensors of `file`, a model of `architecture`.
    ///
    /// # Errors
    /// [`ModelError::Unsupported`], naming it, where one is not of the architecture;
    /// [`ModelError::Damaged`], where the numbers of heads are missing.
    pub fn new(
        file: &'file GgufFile,
        architecture: &'static Architecture,
    ) -> Result<Self, ModelError> {
        let mut stored = HashMap::new();
        for name in file.names() {
            if scaling::TENSORS.contains(&&*name) {
                continue;
            }
            let published = published(&name, architecture).ok_or_else(|| {
                file.unsupported(format!(
                    "it has the tensor `{name}`, which no part of a `{}` model reads; leaving it \
                     out would make another model of it",
                    architecture.name
                ))
            })?;
            stored.insert(published, name);
        }
        Ok(Self {
            file,
            architecture,
            heads: architecture.heads(file)?,
            key_heads: architecture.key_heads(file)?,
            stored,
        })
    }

    /// Whether a linear map is stored the other way round.
    fn is_transposed(&self, stored: &str) -> bool {
        let linear = stored.starts_with("blk.") && stored.ends_with(".weight");
        self.architecture.changed == Changed::Transposed
            && linear
            && !stored.ends_with("norm.weight")
    }
}

/// The published name of a tensor.
pub(super) fn published(name: &str, architecture: &Architecture) -> Option<String> {
    let (stem, kind) = name.rsplit_once('.')?;
    let named = |list: &[super::Renaming], own: &str| {
        list.iter().find(|(known, _)| *known == own).map(|(_, published)| *published)
    };
    match stem.strip_prefix("blk.").and_then(|rest| rest.split_once('.')) {
        Some((layer, own)) => {
            let own = named(architecture.parts, own)?;
            Some(format!("{}.{layer}.{own}.{kind}", architecture.layers))
        }
        None => Some(format!("{}.{kind}", named(architecture.outside, stem)?)),
    }
}

/// The GGUF name of a published tensor; `None` where the architecture has none of that name.
fn unpublished(name: &str, architecture: &Architecture) -> Option<String> {
    let (stem, kind) = name.rsplit_once('.')?;
    let named = |list: &[super::Renaming], published: &str| {
        list.iter().find(|(_, known)| *known == published).map(|(own, _)| *own)
    };
    let of_layer = stem.strip_prefix(architecture.layers).and_then(|rest| rest.strip_prefix('.'));
    match of_layer.and_then(|rest| rest.split_once('.')) {
        Some((layer, own)) => {
            Some(format!("blk.{layer}.{}.{kind}", named(architecture.parts, own)?))
        }
        None => Some(format!("{}.{kind}", named(architecture.outside, stem)?)),
    }
}

impl Checkpoint for Tensors<'_> {
    fn path(&self) -> &Path {
        self.file.path()
    }

    fn names(&self) -> Vec<String> {
        self.stored.keys().cloned().collect()
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        let stored = self.stored.get(name)?;
        let mut shape = self.file.shape(stored)?;
        if self.is_transposed(stored) {
            shape.reverse();
        }
        Some(shape)
    }

    fn values(&self, name: &str) -> Result<Vec<f32>, ModelError> {
        let Some(stored) = self.stored.get(name) else { return self.file.values(name) };
        let mut values = self.file.values(stored)?;
        let shape = self.file.shape(stored).unwrap_or_default();
        let rows = shape.first().copied().unwrap_or(0);
        let width = values.len().checked_div(rows).unwrap_or(0);
        let of = |part: &str| stored.contains(&format!(".{part}."));
        match self.architecture.changed {
            Changed::Pairs if of("attn_q") => values = apart(&values, width, rows, self.heads),
            Changed::Pairs if of("attn_k") => values = apart(&values, width, rows, self.key_heads),
            Changed::NormsAroundOne if stored.ends_with("norm.weight") => {
                values.iter_mut().for_each(|value| *value -= 1.0);
            }
            Changed::Transposed if self.is_transposed(stored) => {
                let columns = |column| values[column..].iter().step_by(width.max(1));
                values = (0..width).flat_map(columns).copied().collect();
            }
            _ => {}
        }
        Ok(values)
    }

    fn stored_name(&self, name: &str) -> String {
        let stored = self.stored.get(name).cloned();
        stored.or_else(|| unpublished(name, self.architecture)).unwrap_or_else(|| name.to_owned())
    }
}

/// Rows of heads whose coordinates 2i and 2i + 1 turn together, put so that i and i + width/2 do.
///
/// Rows that make no whole heads stay as they are: their shape is refused.
fn apart(values: &[f32], width: usize, rows: usize, heads: usize) -> Vec<f32> {
    let of_head = rows / heads;
    if of_head * heads != rows || !of_head.is_multiple_of(2) {
        return values.to_vec();
    }
    let row = |row: usize| {
        let (head, at) = (row / of_head, row % of_head);
        let (half, pair) = (at / (of_head / 2), at % (of_head / 2));
        let stored = head * of_head + 2 * pair + half;
        &values[stored * width..][..width]
    };
    (0..rows).flat_map(row).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_there_and_back() {
        for (architecture, name, published_name) in [
            ("llama", "blk.11.attn_q.weight", "model.layers.11.self_attn.q_proj.weight"),
            ("qwen2", "blk.0.attn_k.bias", "model.layers.0.self_attn.k_proj.bias"),
            ("gemma2", "blk.3.ffn_norm.weight", "model.layers.3.pre_feedforward_layernorm.weight"),
            ("gpt2", "position_embd.weight", "transformer.wpe.weight"),
            ("phi3", "output.weight", "lm_head.weight"),
        ] {
            let known = &super::super::ARCHITECTURES;
            let architecture = known.iter().find(|one| one.name == architecture).unwrap();
            assert_eq!(published(name, architecture).as_deref(), Some(published_name));
            assert_eq!(unpublished(published_name, architecture).as_deref(), Some(name));
        }
    }

    #[test]
    fn pairs_are_put_apart() {
        // Two heads of four rows, one value each, numbered as they were published.
        let stored = [0.0, 2.0, 1.0, 3.0, 4.0, 6.0, 5.0, 7.0];
        assert_eq!(apart(&stored, 1, 8, 2), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]);
        assert_eq!(apart(&stored, 1, 8, 3), stored);
    }
}
