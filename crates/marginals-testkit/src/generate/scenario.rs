//! Recipes with what they have no word for.

use ndarray::Array3;

use super::{Case, Fault, NullKind, Random, Recipe};
use crate::reference::Null;
use crate::{Law, Structure};

/// A recipe, and the law, null edge and faults of its case.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// The case as it would be without faults.
    pub base: Recipe,
    /// How probabilities follow from scores; read with at-most-one only.
    pub law: Law,
    /// The empty choice; read with at-most-one only.
    pub null: NullKind,
    /// In any order.
    pub faults: Vec<Fault>,
}

impl From<Recipe> for Scenario {
    fn from(base: Recipe) -> Self {
        Self { base, law: Law::ExponentialFamily, null: NullKind::LogWeight, faults: Vec::new() }
    }
}

impl Scenario {
    /// Whether the case has a fault.
    pub fn has(&self, fault: Fault) -> bool {
        self.faults.contains(&fault)
    }

    fn faults(&self) -> impl Iterator<Item = Fault> {
        Fault::ALL.into_iter().filter(|fault| self.has(*fault))
    }

    /// The words of the case with its faults: sizes, offset, priors and value as they are.
    pub fn recipe(&self) -> Recipe {
        let mut recipe = self.base.clone();
        self.faults().for_each(|fault| fault.adjust(&mut recipe));
        recipe
    }

    /// The same case every time.
    pub fn build(&self) -> Case {
        let recipe = self.recipe();
        let mut case = recipe.build();
        if recipe.structure == Structure::EachQueryPicksAtMostOne {
            case.model.law = self.law;
            case.model.null = self.cook_null(&recipe);
        }
        self.faults().for_each(|fault| fault.spoil(&recipe, &mut case));
        case
    }

    fn cook_null(&self, recipe: &Recipe) -> Null {
        let mut random = Random::new(recipe.seed ^ 0x0e17);
        let shape = (
            Recipe::axis(&mut random, recipe.batch),
            Recipe::axis(&mut random, recipe.heads()),
            recipe.queries,
        );
        let mut per_query = |scale: f64| {
            Array3::from_shape_fn(shape, |_| scale * recipe.flavour.number(&mut random))
        };
        match self.null {
            NullKind::LogWeight => Null::LogWeight,
            NullKind::One => Null::One,
            NullKind::Logit => Null::Logit(per_query(1.0)),
            NullKind::GatePerQuery => Null::GatePerQuery(per_query(2.0)),
            NullKind::Gate => Null::Gate(
                recipe.per_head(&mut random, |random| 2.0 * recipe.flavour.number(random)),
            ),
        }
    }
}
