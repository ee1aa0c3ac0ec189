//! Names of a family's tensors, which also say what its layers are made of.

use super::norm::Around;
use crate::checkpoint::loader::Layout;
use crate::checkpoint::{Checkpoint, Renamed};
use crate::error::ModelError;

/// Names of a family's tensors, without `.weight` and `.bias`. Those of a layer follow its own name.
///
/// A part without a name is one that the family has not.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Names {
    /// Beginning of all names but the head's in the file of a language model.
    pub base: &'static str,
    pub words: &'static str,
    pub positions: Option<&'static str>,
    pub types: Option<&'static str>,
    pub embedding_norm: Option<&'static str>,
    /// The layers; `.0.` and so on follows.
    pub layers: &'static str,
    pub attention_norms: Around<&'static str>,
    /// Whether the first layer reads the embeddings as they are: they have been normalised.
    pub first_enters_as_is: bool,
    pub projections: Projections,
    pub query_norm: Option<&'static str>,
    pub key_norm: Option<&'static str>,
    /// Vectors of distances.
    pub relative: Option<&'static str>,
    pub attended: &'static str,
    pub inner_norms: Around<&'static str>,
    pub inner: Inner<&'static str>,
    pub final_norm: Option<&'static str>,
    pub head: Option<&'static str>,
    /// How linear maps are stored.
    pub layout: Layout,
    /// Whether every linear map has a bias; otherwise those have one for which the file does.
    pub biased: bool,
    /// Ends of the names of tensors that no audit needs.
    pub harmless: &'static [&'static str],
}

/// The linear maps to queries, keys and values.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Projections {
    Apart([&'static str; 3]),
    /// One map, its outputs in this order.
    Fused(&'static str),
}

/// The linear maps of a feed-forward part.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Inner<N> {
    /// narrow(f(widen x)).
    Plain { widen: N, narrow: N },
    /// narrow(f(gate x) · widen x) (Shazeer 2020).
    Gated { gate: N, widen: N, narrow: N },
    /// A gated part whose gate and widen are one map, its outputs in this order.
    GatedFused { both: N, narrow: N },
}

/// Last parts of prefixes under which larger models keep a base model, beside the family's own.
const PARTS: [&str; 6] =
    ["auto_model", "backbone", "base_model", "encoder", "model", "text_encoder"];

/// Beginnings of the names of heads of tasks, which come after the base model.
const TASKS: [&str; 11] = [
    "cls.",
    "classifier.",
    "decoder.",
    "head.",
    "linear.",
    "lm_head.",
    "pre_classifier.",
    "qa_outputs.",
    "score.",
    "v_head.",
    "vocab_",
];

/// Norms of older files.
const OLDER: [(&str, &str); 2] =
    [("LayerNorm.gamma", "LayerNorm.weight"), ("LayerNorm.beta", "LayerNorm.bias")];

impl Names {
    /// `checkpoint` with its tensors under the names that a language model of the family has for them,
    /// whatever the file's begin with.
    ///
    /// # Errors
    /// [`ModelError::Unsupported`], where the family's words are nowhere, or in a part of another model.
    pub fn canonical<'file>(
        &self,
        checkpoint: &'file dyn Checkpoint,
    ) -> Result<Renamed<'file>, ModelError> {
        let prefix = self.prefix(&Renamed::new(checkpoint, str::to_owned)?)?;
        // What holds the base model holds its head.
        let whole = prefix.trim_end_matches('.').rfind('.').map_or("", |dot| &prefix[..=dot]);
        Renamed::new(checkpoint, |name| {
            let name = older(name);
            match name.strip_prefix(&prefix) {
                Some(own)
                    if prefix.is_empty() && TASKS.iter().any(|task| own.starts_with(task)) =>
                {
                    own.to_owned()
                }
                Some(own) => format!("{}{own}", self.base),
                None => name.strip_prefix(whole).unwrap_or(&name).to_owned(),
            }
        })
    }

    /// Beginning of the names of the base model in a file.
    fn prefix(&self, checkpoint: &dyn Checkpoint) -> Result<String, ModelError> {
        let words = format!("{}.weight", self.words);
        let refused =
            |reason| ModelError::Unsupported { path: checkpoint.path().to_owned(), reason };
        let names = checkpoint.names();
        let mut found: Vec<&str> = (names.iter())
            .filter_map(|name| name.strip_suffix(&words))
            .filter(|prefix| prefix.is_empty() || prefix.ends_with('.'))
            .collect();
        found.sort_unstable();
        let Some(prefix) = found.pop() else {
            let name = checkpoint.stored_name(&format!("{}{words}", self.base));
            return Err(refused(format!("it has no tensor `{name}`")));
        };
        if let Some(other) = found.first() {
            return Err(refused(format!(
                "it holds two models, with the words `{other}{words}` and `{prefix}{words}`; one \
                 is read"
            )));
        }
        let part = prefix.trim_end_matches('.').rsplit('.').next().unwrap_or_default();
        let own = self.base.trim_end_matches('.');
        match part.is_empty() || part == own || PARTS.contains(&part) {
            true => Ok(prefix.to_owned()),
            false => Err(refused(format!(
                "its words are `{prefix}{words}`, and they are expected under no prefix, `{own}` or \
                 one of {}; weights of another family are not read as this one's",
                PARTS.join(", ")
            ))),
        }
    }
}

/// A name as it is today.
fn older(name: &str) -> String {
    let renamed = |(older, today): &(&str, &str)| {
        name.strip_suffix(older).map(|norm| format!("{norm}{today}"))
    };
    OLDER.iter().find_map(renamed).unwrap_or_else(|| name.to_owned())
}
