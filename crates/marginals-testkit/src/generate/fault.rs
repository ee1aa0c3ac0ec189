//! What inputs have in the field that well-formed ones have not.

use ndarray::{Array3, Array4, ArrayViewMut1};

use super::{Case, DecayKind, PotentialKind, Random, Recipe};
use crate::reference::Prior;
use crate::{Structure, ValueKind};

/// What nodes hold that nobody has written to.
pub const GARBAGE: [f64; 3] = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY];

/// Masks as large finite log-weights: those of early transformers, of many kernels, and the smallest
/// number of f32.
pub const HUGE_MASKS: [f64; 3] = [-1e4, -1e9, f32::MIN as f64];

/// An axis of the inputs.
#[allow(missing_docs, reason = "the names are those of the axes")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Axis {
    Batch,
    Heads,
    Queries,
    Keys,
    Width,
    ValueWidth,
}

/// A kind of input that is legal, occurs, and breaks arithmetic that does not expect it. Any kinds go
/// together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// An axis of size 0.
    EmptyAxis(Axis),
    /// Queries 10⁷ to 10⁹ positions away from the keys, on one side or the other, under at least one
    /// prior of distance. Rotary potentials, whose angles have no common part to take out, keep their
    /// positions.
    FarPositions,
    /// [`HUGE_MASKS`] in the place of −∞: a causal mask as a bias, a left padding as a key bias or both,
    /// which then add; some rows are masked as a whole. Twice the smallest number of f32 is no number
    /// of f32. A bias so large cannot be differentiated by moving it: see [`Case::with_probe`].
    HugeMasks,
    /// Values around ±10³, ±10⁴ or ±10⁶; in half of the cases most keys are a padding of zeros that nobody
    /// can pick.
    CommonPart,
    /// Log-weights of ln 10⁻³⁰ to ln 10⁻³⁰⁰ for all edges of some queries, whose values are averaged.
    UnderflowingMass,
    /// NaN and infinities in k and v of keys that some query cannot pick, and in q of queries that some
    /// key cannot pick (where keys pick) or that can pick nothing. Where no prior hides anything, a
    /// padding of −∞ does. [`Case::touched`] tells the answers that the garbage may reach.
    Garbage,
}

impl Fault {
    /// All of them, in the order in which they happen.
    pub const ALL: [Self; 11] = [
        Self::EmptyAxis(Axis::Batch),
        Self::EmptyAxis(Axis::Heads),
        Self::EmptyAxis(Axis::Queries),
        Self::EmptyAxis(Axis::Keys),
        Self::EmptyAxis(Axis::Width),
        Self::EmptyAxis(Axis::ValueWidth),
        Self::FarPositions,
        Self::HugeMasks,
        Self::CommonPart,
        Self::UnderflowingMass,
        Self::Garbage,
    ];

    /// The numbers of a fault, whatever other faults there are.
    pub(super) fn random(self, seed: u64) -> Random {
        let kind = Self::ALL.iter().position(|fault| *fault == self).expect("one of all");
        Random::new(seed ^ (0xFA17 + kind as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }

    /// What the fault changes in the words of a case.
    pub(super) fn adjust(self, recipe: &mut Recipe) {
        let mut random = self.random(recipe.seed);
        match self {
            Self::EmptyAxis(axis) => {
                *match axis {
                    Axis::Batch => &mut recipe.batch,
                    Axis::Heads => &mut recipe.key_heads,
                    Axis::Queries => &mut recipe.queries,
                    Axis::Keys => &mut recipe.keys,
                    Axis::Width => &mut recipe.depth,
                    Axis::ValueWidth => &mut recipe.value_depth,
                } = 0;
            }
            Self::FarPositions => {
                use PotentialKind::{RotaryHalfSplit, RotaryInterleaved};
                if matches!(recipe.potential, RotaryHalfSplit | RotaryInterleaved) {
                    return;
                }
                let away = 10f64.powf(random.between(7.0, 9.0)) as i64;
                recipe.query_offset = if random.chance(0.2) { -away } else { away };
                let decay = *random.pick(&DecayKind::ALL);
                if !recipe.priors.iter().any(|kind| kind.is_distance()) {
                    recipe.priors.push(decay.by_index());
                }
            }
            Self::UnderflowingMass => recipe.value_kind = ValueKind::Average,
            Self::HugeMasks | Self::CommonPart | Self::Garbage => {}
        }
    }

    /// What the fault changes in the numbers of a case.
    pub(super) fn spoil(self, recipe: &Recipe, case: &mut Case) {
        let mut random = self.random(recipe.seed);
        random.bits();
        match self {
            Self::EmptyAxis(_) | Self::FarPositions => {}
            Self::HugeMasks => huge_masks(recipe, case, &mut random),
            Self::CommonPart => {
                let common = *random.pick(&[1e3, 1e4, 1e6, -1e3, -1e4, -1e6]);
                case.inputs.v.mapv_inplace(|v| v + common);
                if random.chance(0.5) && recipe.keys > 1 {
                    zero_padding(recipe, case, &mut random);
                }
            }
            Self::UnderflowingMass => {
                let spared = random.integer(0, recipe.queries.max(1) as i64 - 1) as usize;
                let shape = (1, 1, recipe.queries, 1);
                let weight = |(_, _, i, _): (usize, usize, usize, usize)| {
                    let low = -random.between(30.0, 300.0) * std::f64::consts::LN_10;
                    // A key picks for certain: without a query that it prefers none is unlikely.
                    let keeps = recipe.structure == Structure::EachKeyPicksOne && i == spared;
                    if keeps || random.chance(0.3) { 0.0 } else { low }
                };
                case.model.priors.push(Prior::Bias(Array4::from_shape_fn(shape, weight)));
            }
            Self::Garbage => garbage(recipe, case, &mut random),
        }
    }
}

fn huge_masks(recipe: &Recipe, case: &mut Case, random: &mut Random) {
    let mask = *random.pick(&HUGE_MASKS);
    let (batch, queries, keys) = (recipe.batch, recipe.queries, recipe.keys);
    let form = random.integer(0, 2);
    if form != 1 {
        let shape = (Recipe::axis(random, batch), 1, queries, keys);
        let whole: Vec<bool> = (0..queries).map(|_| random.chance(0.25)).collect();
        case.model.priors.push(Prior::Bias(Array4::from_shape_fn(shape, |(_, _, i, j)| {
            // Query i stands beside key i + M − N.
            if j + queries > i + keys || whole[i] { mask } else { 0.0 }
        })));
    }
    if form != 0 {
        let padding: Vec<i64> = (0..batch).map(|_| random.integer(0, keys as i64)).collect();
        let shape = (batch, 1, keys);
        case.model.priors.push(Prior::KeyBias(Array3::from_shape_fn(shape, |(b, _, j)| {
            if (j as i64) < padding[b] { mask } else { 0.0 }
        })));
    }
}

/// Zeros that nobody can pick in the place of most values, on one side.
fn zero_padding(recipe: &Recipe, case: &mut Case, random: &mut Random) {
    let keys = recipe.keys;
    let most = (keys - 1) as i64;
    let padding = random.integer((keys as i64 * 2 / 3).min(most), most) as usize;
    let first = if random.chance(0.5) { 0 } else { keys - padding };
    let padded = first..first + padding;
    case.inputs.v.slice_mut(ndarray::s![.., .., padded.clone(), ..]).fill(0.0);
    case.model.priors.push(Prior::KeyBias(Array3::from_shape_fn((1, 1, keys), |(_, _, j)| {
        if padded.contains(&j) { f64::NEG_INFINITY } else { 0.0 }
    })));
}

/// For every node of an axis of the inputs (batch entry, head, node), the share of its pairs that no
/// prior allows.
fn hidden(case: &Case, by_key: bool) -> Array3<f64> {
    let of = if by_key { &case.inputs.k } else { &case.inputs.q };
    let (batch, heads, nodes, _) = of.dim();
    let (mut hidden, mut pairs) =
        (Array3::zeros((batch, heads, nodes)), Array3::<f64>::zeros((batch, heads, nodes)));
    for ((b, h), problem) in case.heads().into_iter().zip(case.problems()) {
        for i in 0..problem.queries() {
            for j in 0..problem.keys() {
                let node = if by_key { [b, case.inputs.key_head(h), j] } else { [b, h, i] };
                pairs[node] += 1.0;
                hidden[node] += f64::from(u8::from(!problem.allowed(i, j)));
            }
        }
    }
    hidden / pairs.mapv(|count| count.max(1.0))
}

fn garbage(recipe: &Recipe, case: &mut Case, random: &mut Random) {
    if hidden(case, true).iter().all(|share| *share == 0.0) && recipe.keys > 0 {
        let always = random.integer(0, recipe.keys as i64 - 1) as usize;
        case.model.priors.push(Prior::KeyBias(Array3::from_shape_fn(
            (1, 1, recipe.keys),
            |(_, _, j)| {
                if j == always || random.chance(0.3) { f64::NEG_INFINITY } else { 0.0 }
            },
        )));
    }
    // The more pairs a node is hidden in, the less of the answers its garbage reaches.
    let mut keys = hidden(case, true);
    let surest = keys.iter().fold(0.0, |most: f64, &share| most.max(share));
    keys.mapv_inplace(|share| if share == surest { share.sqrt() } else { 0.8 * share * share });
    for ((b, h, j), share) in keys.indexed_iter() {
        if random.chance(*share) {
            let parts = random.integer(0, 2);
            if parts != 0 {
                spill(case.inputs.k.slice_mut(ndarray::s![b, h, j, ..]), random);
            }
            if parts != 1 {
                spill(case.inputs.v.slice_mut(ndarray::s![b, h, j, ..]), random);
            }
        }
    }
    for ((b, h, i), share) in hidden(case, false).indexed_iter() {
        let by_key = recipe.structure == Structure::EachKeyPicksOne;
        if *share == 1.0 || (by_key && random.chance(0.8 * share * share)) {
            spill(case.inputs.q.slice_mut(ndarray::s![b, h, i, ..]), random);
        }
    }
}

/// Garbage in one entry at least.
fn spill(mut node: ArrayViewMut1<'_, f64>, random: &mut Random) {
    if node.is_empty() {
        return;
    }
    let always = random.integer(0, node.len() as i64 - 1) as usize;
    for (c, x) in node.iter_mut().enumerate() {
        if c == always || random.chance(0.4) {
            *x = *random.pick(&GARBAGE);
        }
    }
}
