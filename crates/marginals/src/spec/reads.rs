//! The tensors that a model may read, and what is mistaken for one.

use super::{Description, ExpandingSpec, HopfieldSpec, ModelSpec, Tensors, parts};
use crate::Error;
use crate::model::part::{self, AnyPart, Entries, List};

/// Names of the tensors that the parts of a model may read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reads {
    /// Tensors of real numbers.
    pub real: Vec<String>,
    /// Tensors of whole numbers.
    pub whole: Vec<String>,
    /// The parts.
    pub parts: Vec<String>,
}

impl Reads {
    /// Refuses what would be passed over in silence: a tensor that the model may read and that holds
    /// entries of the other kind, and one that is called as a setting of a part, `PART.NAME`, and is
    /// nothing the part reads. Other tensors are none of the model's business.
    ///
    /// # Errors
    /// [`Error::Entries`] and [`Error::UnknownName`].
    pub fn refuse_mistaken<T>(&self, tensors: &Tensors<'_, T>) -> Result<(), Error> {
        if let Some(name) = tensors.integer.keys().find(|name| self.real.contains(name)) {
            let error = Error::entries(name, "real numbers", "whole numbers");
            return Err(match name.as_str() {
                "bias" | "key-bias" => error.of_a_mask(),
                _ => error,
            });
        }
        if let Some(name) = tensors.real.keys().find(|name| self.whole.contains(name)) {
            return Err(Error::entries(name, "whole numbers", "real numbers"));
        }
        let known: Vec<&str> = self.real.iter().chain(&self.whole).map(String::as_str).collect();
        let names = tensors.real.keys().chain(tensors.integer.keys());
        let mut of_parts = names.filter(|name| self.is_of_a_part(name));
        match of_parts.find(|name| !known.contains(&name.as_str())) {
            None => Ok(()),
            Some(name) => Err(Error::unknown("tensor that this model reads", name, &known)),
        }
    }

    /// Whether a tensor of this name is the model's business: one that it may read, or one that is called
    /// as a setting of a part.
    pub fn concerns(&self, name: &str) -> bool {
        let known = || self.real.iter().chain(&self.whole).any(|known| known == name);
        self.is_of_a_part(name) || known()
    }

    /// Whether a name is that of a setting of a part, `PART.NAME`, known or not.
    fn is_of_a_part(&self, name: &str) -> bool {
        let part = name.split_once('.').map(|(part, _)| part);
        part.is_some_and(|part| self.parts.iter().any(|own| own == part))
    }

    /// Tensors that these parts read, and those within them.
    fn of(parts: &[&dyn AnyPart]) -> Self {
        // Names do not depend on the sizes.
        let numbers = part::numbers(parts).into_iter().map(|numbers| numbers.name);
        let mut reads = Self { real: numbers.collect(), ..Self::default() };
        for part in parts {
            part.visit(&mut |part| reads.add(part));
        }
        reads
    }

    fn add(&mut self, part: &dyn AnyPart) {
        for tensor in part.tensors() {
            match tensor.entries {
                Entries::Real | Entries::NonPositive => self.real.push(tensor.name.to_owned()),
                Entries::Whole => self.whole.push(tensor.name.to_owned()),
            }
        }
        // What takes neither settings nor tensors has nothing to be mistaken for.
        let takes = |known: &&Description| {
            known.name == part.name() && !(known.settings().is_empty() && known.tensors.is_empty())
        };
        if parts().any(|known| takes(&known)) {
            self.parts.push(part.name().to_owned());
        }
    }
}

impl ModelSpec {
    /// Inputs that the parts read, beside the nodes.
    pub fn reads(&self) -> Reads {
        Reads::of(&self.parts())
    }
}

impl HopfieldSpec {
    /// Inputs that the network and its prior read.
    pub fn reads(&self) -> Reads {
        let priors: Vec<&dyn AnyPart> = self.prior.iter().map(List::part).collect();
        let mut reads = Reads::of(&priors);
        reads.parts.push("hopfield".to_owned());
        reads.real.extend(["states", "patterns", "values"].map(str::to_owned));
        reads
    }
}

impl ExpandingSpec {
    /// Inputs that the potential reads, beside the nodes and the concentrations.
    pub fn reads(&self) -> Reads {
        let mut reads = Reads::of(&[self.potential.part()]);
        reads.parts.push("expanding".to_owned());
        reads
    }
}
