//! Files whose tensors are not those of the architecture that they name.

use super::tensors::published;
use super::{ARCHITECTURES, Architecture, scaling};
use crate::checkpoint::Checkpoint;
use crate::checkpoint::gguf::GgufFile;
use crate::error::ModelError;

impl Architecture {
    /// Refuses a file that lacks tensors which every model of the architecture has. One layer tells: what is
    /// missing in another is found when that is read.
    ///
    /// # Errors
    /// [`ModelError::Unsupported`], where the tensors are those of other architectures or of none;
    /// [`ModelError::Damaged`], where they are of this one, and not all there.
    pub(super) fn refuse_tensors_of_others(&self, file: &GgufFile) -> Result<(), ModelError> {
        let Some(missing) = self.missing(file) else { return Ok(()) };
        let Self { name, .. } = self;
        let foreign = self.foreign(file);
        let fitting = ARCHITECTURES
            .iter()
            .filter(|other| other.missing(file).is_none() && other.foreign(file).is_none());
        let fitting: Vec<String> = fitting.map(|other| format!("`{}`", other.name)).collect();
        if !fitting.is_empty() {
            return Err(file.unsupported(format!(
                "its `general.architecture` is `{name}`, and its tensors are those of {}: it has no \
                 `{missing}`. Convert the model again, so that the label and the weights belong \
                 together",
                fitting.join(" or ")
            )));
        }
        match foreign {
            Some(foreign) => Err(file.unsupported(format!(
                "its `general.architecture` is `{name}`, and its tensors are those of another: it has \
                 `{foreign}`, which no `{name}` has, and no `{missing}`, which every one has"
            ))),
            None => Err(file.damaged(format!("the tensor `{missing}` is missing"))),
        }
    }

    /// A tensor that every model of the architecture has, and `file` has not.
    fn missing(&self, file: &GgufFile) -> Option<String> {
        // A head that is the words' embedding is left out.
        let outside = self.outside.iter().filter(|(own, _)| *own != "output");
        let parts = self.parts.iter().filter(|(own, _)| !self.optional.contains(own));
        let weights = outside.map(|(own, _)| format!("{own}.weight"));
        let weights = weights.chain(parts.map(|(own, _)| format!("blk.0.{own}.weight")));
        let biases = self.biased.iter().map(|own| format!("blk.0.{own}.bias"));
        weights.chain(biases).find(|tensor| file.shape(tensor).is_none())
    }

    /// A tensor of `file` that no model of the architecture has.
    fn foreign(&self, file: &GgufFile) -> Option<String> {
        let mut names = file.names();
        names.sort_unstable();
        let is_known =
            |name: &str| published(name, self).is_some() || scaling::TENSORS.contains(&name);
        names.into_iter().find(|name| !is_known(name))
    }
}
