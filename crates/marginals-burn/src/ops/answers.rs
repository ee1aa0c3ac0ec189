//! The answers of one pass as tensors.

use std::sync::Arc;

use burn::backend::DispatchTensor;
use burn::tensor::Tensor;
use marginals::Error;

/// Where one answer lies among the packed ones.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub name: String,
    /// Number of the question, in the order of asking.
    pub question: usize,
    /// Entries before it.
    pub start: usize,
    pub shape: Vec<usize>,
}

impl Place {
    /// Number of entries.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }
}

/// Answers of one pass, by the names of the questions.
#[derive(Clone, Debug)]
pub struct Answers {
    /// The only answer in its own shape, or several in a row.
    packed: DispatchTensor,
    places: Arc<[Place]>,
}

impl Answers {
    pub(super) fn new(packed: DispatchTensor, places: Arc<[Place]>) -> Self {
        Self { packed, places }
    }

    /// The names of all.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.places.iter().map(|place| place.name.as_str())
    }

    /// The answer to the question called `name`, of the shape that
    /// [`marginals::question`] gives.
    ///
    /// # Errors
    /// [`Error::NotAnswerable`] where it was not asked, [`Error::Shape`] where it has not `D` axes.
    pub fn get<const D: usize>(&self, name: &str) -> Result<Tensor<D>, Error> {
        let Some(place) = self.places.iter().find(|place| place.name == name) else {
            let asked = self.names().collect::<Vec<_>>().join(", ");
            return Err(Error::NotAnswerable {
                question: name.into(),
                why: format!("it was not asked; these were: {asked}"),
                instead: "Name it when asking.".into(),
            });
        };
        let Ok(shape) = <[usize; D]>::try_from(place.shape.as_slice()) else {
            return Err(Error::shape(
                name,
                format!("{D} axes, as asked of `get`"),
                &place.shape,
                "Ask for as many axes as the answer has.",
            ));
        };
        if self.places.len() == 1 {
            return Ok(Tensor::from_dispatch(self.packed.clone()));
        }
        let packed = Tensor::<1>::from_dispatch(self.packed.clone());
        Ok(match place.len() {
            0 => Tensor::zeros(shape, (&packed.device(), packed.dtype())),
            length => packed.narrow(0, place.start, length).reshape(shape),
        })
    }
}
