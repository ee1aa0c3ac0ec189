use std::ops::Range;

use marginals_kernels::{Tile, TileMut};
use ndarray::{CowArray, Ix3};
use serde::{Deserialize, Serialize};

use super::contract::{Distance, DistancePart};
use crate::model::part::{Named, NamedTensor, Part};
use crate::model::tensors::Inputs;
use crate::{Accumulator, Block, Error, Parameter, Real, Shape};

/// d_ij = −Σ_{l = j+1..position of i} log f_l: how much the forget gates between key and query forget.
///
/// Keys ahead of a query have none, and keys behind a gate of 0 are out of reach. In a file the gates
/// are [`Named`]: the tensor `survival.log-gates`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Survival<G> {
    #[serde(skip)]
    gates: G,
}

impl Survival<ForgetGates> {
    /// Logs of the gates, [B, H, M], shared along axes of B and H of length 1.
    pub fn new<'a, T: Real>(log_gates: impl Into<CowArray<'a, T, Ix3>>) -> Self {
        Self { gates: ForgetGates::new(log_gates) }
    }
}

impl Part for Survival<Named> {
    const NAME: &'static str = "survival";
    const MEANING: &'static str = "d_ij = −Σ log f_l over the keys l after j up to i; none ahead";
    const EXAMPLE: &'static str = "\"survival\"";
    const TENSORS: &'static [NamedTensor] = ForgetGates::TENSORS;
}

impl DistancePart for Survival<Named> {
    fn build<'a, T: Real>(
        &self,
        inputs: &Inputs<'a, T>,
    ) -> Result<Box<dyn Distance<T> + 'a>, Error> {
        Ok(Box::new(Survival { gates: ForgetGates::read(inputs)? }))
    }
    fn sees_ahead(&self) -> bool {
        false
    }
}

impl<T: Real> Distance<T> for Survival<ForgetGates> {
    fn name(&self) -> &'static str {
        <Survival<Named> as Part>::NAME
    }
    fn check(&self, shape: &Shape) -> Result<(), Error> {
        self.gates.check(shape)
    }
    fn fill(&self, block: &Block, mut distances: TileMut<'_, f64>) {
        let sums = self.gates.sums(block);
        for (r, i) in block.queries.clone().enumerate() {
            let (row, reach) = (distances.row_mut(r), self.gates.reach(block, i));
            let here = self.gates.here(block, i);
            for ((d, j), sum) in row.iter_mut().zip(block.keys.clone()).zip(sums) {
                *d = if reach.contains(&j) { here - sum } else { f64::INFINITY };
            }
        }
    }
    fn sees_ahead(&self) -> bool {
        false
    }
    fn range(&self, block: &Block) -> Option<Range<f64>> {
        Some(self.gates.range(block))
    }
    fn reach(&self, block: &Block) -> Range<usize> {
        self.gates.reach_of_any(block)
    }
    fn parameters(&self) -> Vec<Parameter> {
        vec![self.gates.parameter()]
    }
    fn accumulate_gradient(
        &self,
        block: &Block,
        gradient: Tile<'_, f64>,
        into: &mut [Accumulator<'_, T>],
    ) {
        self.gates.accumulate(block, |r| gradient.row(r).iter().map(|g| -g), &mut into[0]);
    }
}

/// Forget gates of every key, as the running sums of their logs.
///
/// Sums are in `f64`, and gates of 0 are not in them: what they cut off is known apart, so that no
/// infinities are subtracted. Nothing is forgotten beyond the last key.
#[derive(Clone, Debug, PartialEq)]
pub struct ForgetGates {
    /// [B, H, M], B and H full or 1.
    shape: [usize; 3],
    /// −Σ_{l ≤ j} log f_l of every key j.
    sums: Vec<f64>,
    /// The first key that is not forgotten altogether by the time of key j.
    first: Vec<usize>,
    /// Index and value of a gate that is none.
    refused: Option<([usize; 3], f64)>,
}

impl ForgetGates {
    pub(crate) const TENSORS: &'static [NamedTensor] = &[NamedTensor::non_positive(
        Self::NAME,
        "[B, H, M]",
        "logs of the forget gates, shared along axes of B and H of length 1",
    )];
    const NAME: &'static str = "survival.log-gates";

    /// The gates whose logs, [B, H, M], are given.
    pub fn new<'a, T: Real>(log_gates: impl Into<CowArray<'a, T, Ix3>>) -> Self {
        let log_gates = log_gates.into();
        let keys = log_gates.dim().2;
        let (mut sums, mut first) = (Vec::new(), Vec::new());
        let mut refused = None;
        let (mut sum, mut live) = (0.0, 0);
        for ((b, h, j), log_gate) in log_gates.indexed_iter() {
            let log_gate = log_gate.f64();
            if j == 0 {
                (sum, live) = (0.0, 0);
            }
            if log_gate == f64::NEG_INFINITY {
                live = j;
            } else if log_gate <= 0.0 {
                sum -= log_gate;
            } else {
                refused = refused.or(Some(([b, h, j], log_gate)));
            }
            sums.push(sum);
            first.push(live);
        }
        let (batch, heads, _) = log_gates.dim();
        Self { shape: [batch, heads, keys], sums, first, refused }
    }

    /// Those that the input holds.
    pub(crate) fn read<T: Real>(inputs: &Inputs<'_, T>) -> Result<Self, Error> {
        Ok(Self::new(inputs.tensor::<Ix3>(Self::NAME)?))
    }

    /// Refuses other sizes, gates that are none, and keys that are a part of more.
    pub(crate) fn check(&self, shape: &Shape) -> Result<(), Error> {
        let whole = [shape.batch, shape.heads, shape.keys];
        let fits = |(axis, &size): (usize, &usize)| size == whole[axis] || (axis < 2 && size == 1);
        if !self.shape.iter().enumerate().all(fits) {
            return Err(Error::shape(
                Self::NAME,
                format!("{whole:?}, where batch and head axes may be 1"),
                &self.shape,
                "Give the log of a forget gate for every key.",
            ));
        }
        if let Some(([b, h, j], value)) = self.refused {
            let expected = "logs of gates between 0 and 1: at most 0, or -inf";
            return Err(Error::value(format!("{}[{b}, {h}, {j}]", Self::NAME), expected, value));
        }
        match shape.key_offset {
            0 => Ok(()),
            offset => Err(Error::value(
                "key-offset",
                "0 with `survival`, which needs the gates of all keys up to the query",
                offset,
            )),
        }
    }

    /// Where the gates of a head start.
    fn start(&self, block: &Block) -> usize {
        let [batch, heads, keys] = self.shape;
        let b = if batch == 1 { 0 } else { block.batch };
        let h = if heads == 1 { 0 } else { block.head };
        (b * heads + h) * keys
    }

    /// The last key at or behind query `i`.
    fn last(&self, block: &Block, i: usize) -> Option<usize> {
        let position = usize::try_from(i as i64 + block.lead()).ok()?;
        Some(position.min(self.shape[2].checked_sub(1)?))
    }

    /// Keys that query `i` may pick.
    pub(crate) fn reach(&self, block: &Block, i: usize) -> Range<usize> {
        let last = self.last(block, i);
        last.map_or(0..0, |last| self.first[self.start(block) + last]..last + 1)
    }

    /// Keys that some query of `block` may pick, with those between them, wherever they are.
    fn reach_of_any_key(&self, block: &Block) -> Range<usize> {
        // A later query begins and ends no earlier.
        let reach = |i| Some(self.reach(block, i)).filter(|reach| !reach.is_empty());
        let first = block.queries.start.max(usize::try_from(-block.lead()).unwrap_or(0));
        match (block.queries.is_empty() || first >= block.queries.end, reach(first)) {
            (false, Some(of_first)) => of_first.start..self.reach(block, block.queries.end - 1).end,
            _ => 0..0,
        }
    }

    /// The same within `block`.
    pub(crate) fn reach_of_any(&self, block: &Block) -> Range<usize> {
        crate::prior::intersect(block.keys.clone(), self.reach_of_any_key(block))
    }

    /// The running sums of the keys of `block`.
    pub(crate) fn sums(&self, block: &Block) -> &[f64] {
        &self.sums[self.start(block)..][block.keys.clone()]
    }

    /// The running sum at query `i`.
    pub(crate) fn here(&self, block: &Block, i: usize) -> f64 {
        self.last(block, i).map_or(0.0, |last| self.sums[self.start(block) + last])
    }

    /// The smallest and the largest distance of `block`; an empty range above all numbers where no query
    /// may pick any key.
    pub(crate) fn range(&self, block: &Block) -> Range<f64> {
        let reach = self.reach_of_any(block);
        if reach.is_empty() {
            return f64::INFINITY..f64::INFINITY;
        }
        let sums = &self.sums[self.start(block)..];
        // The first query that reaches a key of the block is the nearest to its last one.
        let first = block
            .queries
            .start
            .max(usize::try_from(reach.start as i64 - block.lead()).unwrap_or(block.queries.start));
        let first = first.min(block.queries.end - 1);
        let nearest = (self.here(block, first) - sums[reach.end - 1]).max(0.0);
        nearest..self.here(block, block.queries.end - 1) - sums[reach.start]
    }

    /// The logs of the gates as a parameter.
    pub(crate) fn parameter(&self) -> Parameter {
        Parameter::new(Self::NAME, &self.shape)
    }

    /// Adds Σ_ij g_ij ∂(log f_{j+1} + … + log f_i)/∂log f_l, with a row of g for every query of `block`.
    ///
    /// Gate l is between the keys before it and the queries from it on. An edge adds its g where gates
    /// begin to lie between and takes it away where they cease to: one number per key and per query.
    pub(crate) fn accumulate<T: Real, I: Iterator<Item = f64>>(
        &self,
        block: &Block,
        gradient: impl Fn(usize) -> I,
        into: &mut Accumulator<'_, T>,
    ) {
        let end = block.queries.clone().next_back().and_then(|i| self.last(block, i));
        let Some(end) = end.filter(|&end| end > block.keys.start) else { return };
        let after = block.keys.start + 1;
        let mut changes = vec![0.0; end + 2 - after];
        for (r, i) in block.queries.clone().enumerate() {
            let Some(last) = self.last(block, i).filter(|&last| last >= after) else { continue };
            let mut sum = 0.0;
            for (change, g) in changes[..=last - after].iter_mut().zip(gradient(r)) {
                *change += g;
                sum += g;
            }
            // Of the key that is the last one itself no gate is between: it is taken away at once.
            changes[last + 1 - after] -= sum;
        }
        let start = self.start(block);
        let mut between = 0.0;
        for (l, change) in (after..=end).zip(changes) {
            between += change;
            into.add(start + l, between);
        }
    }
}
