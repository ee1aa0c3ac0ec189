//! The tensors that a model may read, and what is mistaken for one.

use serde::Serialize;
use serde_json::Value;

use super::{
    ExpandingSpec, HopfieldSpec, ModelSpec, Numbers, PotentialSpec, PriorSpec, StructureSpec,
    Tensors, value_of,
};
use crate::Error;

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

    fn real(&mut self, names: &[&str]) {
        self.real.extend(names.iter().map(|&name| name.to_owned()));
    }

    fn whole(&mut self, names: &[&str]) {
        self.whole.extend(names.iter().map(|&name| name.to_owned()));
    }

    fn numbers(&mut self, numbers: Vec<Numbers>) {
        self.real.extend(numbers.into_iter().map(|numbers| numbers.name));
    }

    /// Adds a part by the name that its data has: alone, or over its settings.
    fn part(&mut self, part: &impl Serialize) -> Result<(), Error> {
        let name = match value_of(part)? {
            Value::String(name) => Some(name),
            Value::Object(map) => map.into_iter().next().map(|(name, _)| name),
            _ => None,
        };
        self.parts.extend(name);
        Ok(())
    }

    fn structure(&mut self, structure: &StructureSpec) -> Result<(), Error> {
        self.part(structure)?;
        match structure {
            StructureSpec::Walk { step, .. } => {
                self.real(&["walk.weights", "walk.log-weights"]);
                self.structure(step)
            }
            StructureSpec::EachQueryPicksOne
            | StructureSpec::EachQueryPicksAtMostOne { .. }
            | StructureSpec::EachKeyPicksOne
            | StructureSpec::NearestAccepted
            | StructureSpec::Independent => Ok(()),
        }
    }

    fn prior(&mut self, prior: &PriorSpec) -> Result<(), Error> {
        self.part(prior)?;
        match prior {
            PriorSpec::Segments => self.whole(&["segments.q", "segments.k"]),
            PriorSpec::Adjacency => {
                self.whole(&["adjacency.indptr", "adjacency.indices"]);
                self.real(&["adjacency.log-weights"]);
            }
            PriorSpec::Bias => self.real(&["bias"]),
            PriorSpec::RelativeBuckets { .. } => self.real(&["relative-bias"]),
            PriorSpec::KeyBias => self.real(&["key-bias"]),
            // Masks read nothing, the others their numbers.
            PriorSpec::Uniform
            | PriorSpec::Causal
            | PriorSpec::Window { .. }
            | PriorSpec::Geometric { .. }
            | PriorSpec::Alibi(_)
            | PriorSpec::Laplace { .. }
            | PriorSpec::GeneralizedGaussian { .. }
            | PriorSpec::BetaGeometric { .. } => {}
        }
        Ok(())
    }

    fn potential(&mut self, potential: &PotentialSpec) -> Result<(), Error> {
        self.part(potential)?;
        match potential {
            PotentialSpec::Additive { .. } => {
                self.real(&["additive.a", "additive.a-key", "additive.query", "additive.key"]);
                Ok(())
            }
            PotentialSpec::Rotary { potential, .. } => self.potential(potential),
            PotentialSpec::Dot { .. }
            | PotentialSpec::Cosine { .. }
            | PotentialSpec::Gaussian { .. } => Ok(()),
        }
    }
}

impl ModelSpec {
    /// What the parts read, beside the nodes.
    ///
    /// # Errors
    /// As [`ModelSpec::numbers`], and [`Error::Value`] for numbers that are not finite.
    pub fn reads(&self) -> Result<Reads, Error> {
        let mut reads = Reads::default();
        // Names do not depend on how many heads there are.
        reads.numbers(self.numbers(1, 1)?);
        reads.structure(&self.structure)?;
        self.prior.iter().try_for_each(|prior| reads.prior(prior))?;
        reads.potential(&self.potential)?;
        Ok(reads)
    }
}

impl HopfieldSpec {
    /// What the network and its prior read.
    ///
    /// # Errors
    /// [`Error::Value`] for numbers that are not finite.
    pub fn reads(&self) -> Result<Reads, Error> {
        let mut reads = Reads { parts: vec!["hopfield".to_owned()], ..Reads::default() };
        reads.real(&["states", "patterns", "values"]);
        reads.numbers(super::numbers::of_priors(&self.prior, 1));
        self.prior.iter().try_for_each(|prior| reads.prior(prior))?;
        Ok(reads)
    }
}

impl ExpandingSpec {
    /// What the potential reads, beside the nodes and the concentrations.
    ///
    /// # Errors
    /// As [`ModelSpec::reads`].
    pub fn reads(&self) -> Result<Reads, Error> {
        let mut reads = Reads { parts: vec!["expanding".to_owned()], ..Reads::default() };
        reads.numbers(self.potential.numbers(1)?);
        reads.potential(&self.potential)?;
        Ok(reads)
    }
}
