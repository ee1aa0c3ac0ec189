//! Recipes for proptest: simpler parts and smaller sizes come first, so that failures shrink to
//! something a person can follow.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::{Fault, Flavour, NullKind, PotentialKind, PriorKind, Recipe, Scenario, TILE_EDGES};
use crate::{Law, Structure, ValueKind};

/// The bounds of a family of recipes.
#[derive(Clone, Debug)]
pub struct Pantry {
    /// Structures to choose from.
    pub structures: Vec<Structure>,
    /// Priors to choose from; up to two are combined.
    pub priors: Vec<PriorKind>,
    /// Potentials to choose from.
    pub potentials: Vec<PotentialKind>,
    /// Flavours to choose from.
    pub flavours: Vec<Flavour>,
    /// Numbers of queries and keys to choose from.
    pub sizes: Vec<usize>,
    /// Largest B, H_k, H / H_k.
    pub batches: usize,
    /// Feature sizes to choose from.
    pub depths: Vec<usize>,
    /// Laws that scenarios with at-most-one choose from.
    pub laws: Vec<Law>,
    /// Null edges that scenarios with at-most-one choose from.
    pub nulls: Vec<NullKind>,
    /// Faults that scenarios choose from; up to two are combined.
    pub faults: Vec<Fault>,
}

impl Pantry {
    /// Small enough to enumerate every φ, even of independent edges.
    pub fn tiny(structure: Structure) -> Self {
        Self {
            structures: vec![structure],
            priors: PriorKind::ALL.to_vec(),
            potentials: PotentialKind::ALL.to_vec(),
            flavours: Flavour::ALL.to_vec(),
            sizes: (1..=5).collect(),
            batches: 2,
            depths: vec![1, 2, 3, 4, 6],
            laws: vec![Law::ExponentialFamily],
            nulls: vec![NullKind::LogWeight],
            faults: Vec::new(),
        }
    }

    /// Keys that accept one by one, small enough to enumerate.
    pub fn nearest_accepted() -> Self {
        let tiny = Self::tiny(Structure::EachQueryPicksAtMostOne);
        Self { laws: vec![Law::NearestAccepted], ..tiny }
    }

    /// Every structure under priors that forget by gates, by themselves and with others.
    pub fn of_gates() -> Vec<Self> {
        let gates = PriorKind::of_gates();
        let others = [PriorKind::Uniform, PriorKind::Bias, PriorKind::Window, PriorKind::Alibi];
        let priors: Vec<_> = gates.into_iter().chain(others).collect();
        let structures = Structure::ALL.into_iter().map(Self::tiny);
        structures
            .chain([Self::nearest_accepted()])
            .map(|pantry| Self { priors: priors.clone(), ..pantry })
            .collect()
    }

    /// The family with every prior, null edge and fault.
    #[must_use]
    pub fn of_the_field(self) -> Self {
        Self {
            priors: PriorKind::ALL.into_iter().chain(PriorKind::further()).collect(),
            nulls: NullKind::ALL.to_vec(),
            faults: Fault::ALL.to_vec(),
            ..self
        }
    }

    /// Every tile edge up to `largest`.
    pub fn tiles(structure: Structure, largest: usize) -> Self {
        Self {
            sizes: TILE_EDGES.into_iter().filter(|&n| n <= largest).collect(),
            depths: vec![1, 2, 7, 8, 16, 33, 64],
            ..Self::tiny(structure)
        }
    }

    /// Recipes within the bounds.
    pub fn recipes(&self) -> impl Strategy<Value = Recipe> + use<> {
        let parts = (
            select(self.structures.clone()),
            select(vec![ValueKind::Gather, ValueKind::Average]),
            vec(select(self.priors.clone()), 0..=2),
            select(self.potentials.clone()),
            select(self.flavours.clone()),
        );
        let sizes = (
            1..=self.batches,
            1..=self.batches,
            1..=self.batches,
            select(self.sizes.clone()),
            select(self.sizes.clone()),
            select(self.depths.clone()),
            select(self.depths.clone()),
        );
        (parts, sizes, -3i64..=6, any::<u64>()).prop_map(|(parts, sizes, query_offset, seed)| {
            let (structure, value_kind, priors, potential, flavour) = parts;
            let (batch, key_heads, group, queries, keys, depth, value_depth) = sizes;
            let rotary = [PotentialKind::RotaryHalfSplit, PotentialKind::RotaryInterleaved]
                .contains(&potential);
            let depth = if rotary { depth.next_multiple_of(2) } else { depth };
            Recipe {
                structure,
                value_kind,
                priors,
                potential,
                flavour,
                batch,
                key_heads,
                group,
                queries,
                keys,
                depth,
                value_depth,
                query_offset,
                seed,
            }
        })
    }

    /// Scenarios within the bounds: what is simplest of laws, null edges and faults comes first.
    pub fn scenarios(&self) -> impl Strategy<Value = Scenario> + use<> {
        let most = if self.faults.is_empty() { 0 } else { 2 };
        let kinds = if self.faults.is_empty() { Fault::ALL.to_vec() } else { self.faults.clone() };
        let parts = (
            self.recipes(),
            select(self.laws.clone()),
            select(self.nulls.clone()),
            vec(select(kinds), 0..=most),
        );
        parts.prop_map(|(base, law, null, faults)| {
            let mut scenario = Scenario { law, null, ..Scenario::from(base) };
            for fault in faults {
                if !scenario.has(fault) {
                    scenario.faults.push(fault);
                }
            }
            scenario
        })
    }
}
