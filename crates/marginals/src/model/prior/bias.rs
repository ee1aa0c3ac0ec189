use marginals_kernels::{InstructionSet, Tile, TileMut, add_log_weight, add_log_weights};
use ndarray::{CowArray, Ix4, s};
use serde::{Deserialize, Serialize};

use super::contract::{Prior, PriorPart, hand_on_prior};
use super::product::Combine;
use crate::model::part::{Named, NamedTensor, Part};
use crate::model::tensors::Inputs;
use crate::{Accumulator, Block, Error, Parameter, Real, Shape};

/// log w_ij = a dense tensor of log-weights, learned or given; −∞ is impossible.
///
/// Shape [B, H, N, M], where any axis may be 1 and is then shared. Its gradient has the same
/// shape. Cost: reading N×M numbers; a prior that has a formula is cheaper as its own type. In a file
/// it is [`Named`]: the tensor `bias`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bias<W> {
    #[serde(skip)]
    log_weights: W,
}

impl<'a, T: Real> Bias<LogWeights<'a, T>> {
    /// Log-weights that broadcast to [B, H, N, M]; borrowed when the last axis is contiguous.
    pub fn new(log_weights: impl Into<CowArray<'a, T, Ix4>>) -> Self {
        Self { log_weights: LogWeights::new(Bias::NAME, log_weights.into()) }
    }
}

impl<W> Combine for Bias<W> {}

impl Part for Bias<Named> {
    const NAME: &'static str = "bias";
    const MEANING: &'static str = "log w_ij = b_ij, given or learned";
    const EXAMPLE: &'static str = "\"bias\"";
    const TENSORS: &'static [NamedTensor] =
        &[NamedTensor::real("bias", "[B, H, N, M]", "log-weights, shared along axes of length 1")];
}

impl PriorPart for Bias<Named> {
    fn build<'a, T: Real>(&self, inputs: &Inputs<'a, T>) -> Result<Box<dyn Prior<T> + 'a>, Error> {
        Ok(Box::new(Bias::new(inputs.tensor("bias")?)))
    }
}

hand_on_prior!([T: Real] Bias<LogWeights<'_, T>>, this => this.log_weights);

/// A dense array of log-weights that broadcasts to [B, H, N, M].
#[derive(Clone, Debug)]
pub struct LogWeights<'a, T> {
    array: CowArray<'a, T, Ix4>,
    name: &'static str,
}

impl<'a, T: Real> LogWeights<'a, T> {
    /// Those of the prior called `name`.
    pub(crate) fn new(name: &'static str, array: CowArray<'a, T, Ix4>) -> Self {
        let array = match array.strides()[3] == 1 || array.dim().3 <= 1 {
            true => array,
            false => CowArray::from(array.as_standard_layout().into_owned()),
        };
        Self { array, name }
    }
}

impl<T: Real> Prior<T> for LogWeights<'_, T> {
    fn name(&self) -> &'static str {
        self.name
    }
    fn check(&self, shape: &Shape) -> Result<(), Error> {
        let whole = [shape.batch, shape.heads, shape.queries, shape.keys];
        let fits = self.array.shape().iter().zip(whole).all(|(&n, all)| n == 1 || n == all);
        if fits {
            return Ok(());
        }
        Err(Error::shape(
            self.name,
            format!("{whole:?}, any axis of which may be 1"),
            self.array.shape(),
            "Bias entries are log-weights, one per edge, shared along axes of length 1.",
        ))
    }
    fn add_log_weights(&self, block: &Block, mut scores: TileMut<'_, T>) {
        let (b, h, n, m) = self.array.dim();
        let b = if b == 1 { 0 } else { block.batch };
        let h = if h == 1 { 0 } else { block.head };
        let query = |r: usize| if n == 1 { 0 } else { block.queries.start + r };
        if m == 1 {
            for r in 0..scores.rows {
                let weight = self.array[[b, h, query(r), 0]];
                scores.row_mut(r).iter_mut().for_each(|x| *x = add_log_weight(*x, weight));
            }
            return;
        }
        add_log_weights(InstructionSet::detect(), scores, |r| {
            let row = self.array.slice(s![b, h, query(r), block.keys.clone()]);
            row.to_slice().expect("the last axis of a bias is contiguous")
        });
    }
    fn parameters(&self) -> Vec<Parameter> {
        let (b, h, n, m) = self.array.dim();
        vec![Parameter::scores(self.name, [b, h, n, m])]
    }
    fn accumulate_gradient(
        &self,
        block: &Block,
        gradient: Tile<'_, T>,
        into: &mut [Accumulator<'_, T>],
    ) {
        into[0].add_tile(block, gradient);
    }
}
