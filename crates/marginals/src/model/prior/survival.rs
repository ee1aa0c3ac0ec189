use std::ops::Range;

use marginals_kernels::{InstructionSet, Tile, TileMut};
use ndarray::{CowArray, Ix3};
use serde::{Deserialize, Serialize};

use super::contract::{Coverage, Prior, PriorPart, restrict};
use super::of_distance::rounded_up;
use super::product::Combine;
use crate::distance::ForgetGates;
use crate::model::part::{Named, NamedTensor, Part};
use crate::model::tensors::Inputs;
use crate::{Accumulator, Block, Error, Parameter, Real, Shape};

/// log w_ij = Σ_{l = j+1..position of i} log f_l for keys at or behind the query, −∞ ahead: what
/// survives of a key when every later one forgets a share 1 − f of it (forgetting attention, Lin et al.,
/// arXiv 2503.02130, eq. 5).
///
/// A gate of 0 forgets all before it. Under other functions of what is forgotten it is the
/// [distance](crate::distance::Survival) of a prior of distance. In a file the gates are [`Named`]: the
/// tensor `survival.log-gates`.
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

impl<G> Combine for Survival<G> {}

impl Part for Survival<Named> {
    const NAME: &'static str = "survival";
    const MEANING: &'static str = "log w_ij = Σ log f_l over the keys l after j up to i, −∞ ahead";
    const EXAMPLE: &'static str = "\"survival\"";
    const TENSORS: &'static [NamedTensor] = ForgetGates::TENSORS;
}

impl PriorPart for Survival<Named> {
    fn build<'a, T: Real>(&self, inputs: &Inputs<'a, T>) -> Result<Box<dyn Prior<T> + 'a>, Error> {
        Ok(Box::new(Survival { gates: ForgetGates::read(inputs)? }))
    }
    fn sees_ahead(&self) -> bool {
        false
    }
}

impl<T: Real> Prior<T> for Survival<ForgetGates> {
    fn name(&self) -> &'static str {
        <Survival<Named> as Part>::NAME
    }
    fn check(&self, shape: &Shape) -> Result<(), Error> {
        self.gates.check(shape)
    }
    fn add_log_weights(&self, block: &Block, mut scores: TileMut<'_, T>) {
        let sums = self.gates.sums(block);
        InstructionSet::detect().run(
            #[inline(always)]
            || {
                for (r, i) in block.queries.clone().enumerate() {
                    let here = self.gates.here(block, i);
                    let row = scores.row_mut(r).iter_mut().zip(sums);
                    row.for_each(|(x, sum)| *x += T::of(sum - here));
                }
            },
        );
        restrict(block, scores, |i| self.gates.reach(block, i));
    }
    fn coverage(&self, block: &Block) -> Coverage {
        if self.gates.reach_of_any(block).is_empty() {
            return Coverage::Empty;
        }
        let (first, last) = (block.queries.start, block.queries.end - 1);
        let all = self.gates.reach(block, first).end >= block.keys.end
            && self.gates.reach(block, last).start <= block.keys.start;
        match all && self.gates.range(block).end == 0.0 {
            true => Coverage::Free,
            false => Coverage::Weighted,
        }
    }
    fn live_keys(&self, block: &Block) -> Range<usize> {
        self.gates.reach_of_any(block)
    }
    fn parameters(&self) -> Vec<Parameter> {
        vec![self.gates.parameter()]
    }
    fn accumulate_gradient(
        &self,
        block: &Block,
        gradient: Tile<'_, T>,
        into: &mut [Accumulator<'_, T>],
    ) {
        self.gates.accumulate(block, |r| gradient.row(r).iter().map(|g| g.f64()), &mut into[0]);
    }
    fn upper_bound(&self, block: &Block) -> Option<f64> {
        Some(-self.gates.range(block).start)
    }
    fn log_tail(&self, block: &Block) -> Option<f64> {
        let Range { start: nearest, .. } = self.gates.range(block);
        let reach = self.gates.reach_of_any(block);
        // Relative to the last key, what the others weigh is the same from every query behind which they
        // all lie; queries among the keys have fewer of them, and the last one nearer by.
        let sums = self.gates.sums(&Block { keys: reach, ..block.clone() });
        let Some(last) = sums.last() else { return Some(f64::NEG_INFINITY) };
        let count = match self.gates.reach(block, block.queries.start).end >= block.keys.end {
            true => doubled(sums, |sum| (sum - last).exp()),
            false => sums.len() as f64,
        };
        Some(rounded_up(count.ln() - nearest))
    }
}

/// An upper bound of the sum of terms that rise along a list, from 1 of them, 2, 4 … each: as many times the
/// largest of them.
fn doubled(list: &[f64], term: impl Fn(&f64) -> f64) -> f64 {
    let (mut rest, mut count, mut sum) = (list, 1, 0.0);
    while let Some(last) = rest.last() {
        let taken = count.min(rest.len());
        sum += taken as f64 * term(last);
        rest = &rest[..rest.len() - taken];
        count *= 2;
    }
    sum
}
