//! From a model as data to a model that runs.

use super::ModelSpec;
use crate::format::in_format;
use crate::model::part::{self, AnyPart, List, Numbers, Sizes, Weight, settle};
use crate::model::tensors::{Inputs, Tensors};
use crate::potential::{Potential, PotentialPart};
use crate::prior::{PriorPart, Product};
use crate::structure::{AnyStructure, HopDistribution, Structure, StructurePart};
use crate::{Error, Model, Real};

/// A model built from data.
pub type SpecModel<'a, T> = Model<Box<dyn Structure<T>>, Product<'a, T>, Box<dyn Potential<T>>>;

impl ModelSpec {
    /// Its parts in the order in which their numbers stand; those within parts are theirs.
    pub(super) fn parts(&self) -> Vec<&dyn AnyPart> {
        let mut parts: Vec<&dyn AnyPart> = vec![self.structure.part()];
        parts.extend(self.prior.iter().map(List::part));
        parts.push(self.potential.part());
        parts
    }

    /// Every part, those within others too.
    pub fn all_parts(&self) -> Vec<&dyn AnyPart> {
        let mut all = Vec::new();
        self.parts().into_iter().for_each(|part| part.visit(&mut |part| all.push(part)));
        all
    }

    /// The model with the numbers that the sizes say, and tensors that stand for numbers in their place.
    fn settled<T: Real>(&self, sizes: &Sizes, tensors: &Tensors<'_, T>) -> Result<Self, Error> {
        let mut spec = self.clone();
        let mut parts: Vec<&mut dyn AnyPart> = vec![spec.structure.part_mut()];
        parts.extend(spec.prior.iter_mut().map(List::part_mut));
        parts.push(spec.potential.part_mut());
        settle(parts, sizes, tensors)?;
        Ok(spec)
    }

    /// The numbers that the file gives, which may be learned: the structure's, then the priors', then
    /// the potential's. [`ModelSpec::build`] takes a tensor of the same name in their place, so that
    /// they can differ from call to call.
    pub fn numbers(&self, heads: usize, width: usize) -> Vec<Numbers> {
        let mut spec = self.clone();
        let sizes = Sizes { heads, key_heads: heads, width };
        spec.prior.iter_mut().for_each(|prior| prior.part_mut().settle(&sizes));
        spec.potential.part_mut().settle(&sizes);
        part::numbers(&spec.parts())
    }

    /// The tensors of weights that its parts name, which a network learns.
    pub fn weights(&self, sizes: &Sizes) -> Vec<Weight> {
        self.all_parts().into_iter().flat_map(|part| part.weights(sizes)).collect()
    }

    /// Builds the model for `heads` query heads of `width` numbers, with the tensors it names. A tensor
    /// called as one of its [numbers](ModelSpec::numbers) takes that one's place.
    ///
    /// Dense tensors are borrowed from `tensors`; everything else is small, and copied.
    ///
    /// # Errors
    /// [`Error`], where a tensor is missing or of another shape or type.
    pub fn build<'a, T: Real>(
        &self,
        heads: usize,
        width: usize,
        tensors: &'a Tensors<'_, T>,
    ) -> Result<SpecModel<'a, T>, Error> {
        let sizes = Sizes { heads, key_heads: heads, width };
        build(&self.settled(&sizes, tensors)?, &Inputs::new(sizes, tensors))
    }

    /// The same model with everything that it reads copied, for a model that outlives `tensors`.
    ///
    /// # Errors
    /// As [`build`](Self::build).
    pub fn build_owned<T: Real>(
        &self,
        heads: usize,
        width: usize,
        tensors: &Tensors<'_, T>,
    ) -> Result<SpecModel<'static, T>, Error> {
        let sizes = Sizes { heads, key_heads: heads, width };
        build(&self.settled(&sizes, tensors)?, &Inputs::copied(sizes, tensors))
    }

    /// P(h), the distribution of the number of hops; `None` where the structure is not a walk.
    ///
    /// # Errors
    /// [`Error`], where the weights are no distribution.
    pub fn hop_distribution<T: Real>(
        &self,
        tensors: &Tensors<'_, T>,
    ) -> Result<Option<HopDistribution>, Error> {
        let AnyStructure::Walk(walk) = &self.structure else { return Ok(None) };
        let sizes = Sizes { heads: 1, key_heads: 1, width: 0 };
        Ok(Some(walk.walk(&Inputs::new(sizes, tensors))?.distribution().clone()))
    }
}

/// The model of what the parts of `spec` say now.
fn build<'a, T: Real>(spec: &ModelSpec, inputs: &Inputs<'a, T>) -> Result<SpecModel<'a, T>, Error> {
    type Build<T> = for<'a> fn(&ModelSpec, &Inputs<'a, T>) -> Result<SpecModel<'a, T>, Error>;
    static SINGLE: Build<f32> = of_parts;
    static DOUBLE: Build<f64> = of_parts;
    in_format::<Build<T>>(&SINGLE, &DOUBLE)(spec, inputs)
}

fn of_parts<'a, T: Real>(
    spec: &ModelSpec,
    inputs: &Inputs<'a, T>,
) -> Result<SpecModel<'a, T>, Error> {
    let structure = spec.structure.build(inputs)?;
    let priors: Result<Vec<_>, Error> =
        spec.prior.iter().map(|prior| prior.build(inputs)).collect();
    let potential = spec.potential.build(inputs)?;
    let model = Model::new(structure, Product(priors?), potential)
        .with_value(spec.value)
        .with_query_offset(spec.query_offset);
    Ok(Model { inference: spec.inference, ..model })
}
