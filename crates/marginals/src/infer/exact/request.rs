use ndarray::{ArrayView4, CowArray, Ix4};

use crate::question::EdgeFunctions;
use crate::{Element, Error, Real, Shape, check_room};

/// Averages of values at the peak: as they are summed, and as an answer.
const COPIES: usize = 2;

/// What a forward pass must find out: the union of what the questions asked need.
#[derive(Debug)]
pub struct Request<'a, T> {
    /// The values v [B, Hk or H, M, D_v], when a question averages them.
    pub(crate) values: Option<CowArray<'a, T, Ix4>>,
    /// Where the caller keeps them, to recognise the same values given twice.
    pub(crate) source: Option<(usize, Vec<usize>)>,
    /// E\[v\].
    pub mean: bool,
    /// Whether more than one question reads E\[v\], so that none may move it out.
    pub(crate) mean_is_shared: bool,
    /// E over edges of v², for the variance.
    pub second_moment: bool,
    /// The entropy.
    pub entropy: bool,
    /// E[log w], for the KL.
    pub expected_log_weight: bool,
    /// log Z(log w), for evidence and KL.
    pub prior_log_partition: bool,
    /// E|i − j|.
    pub distance: bool,
    /// Expectations of functions of an edge's place.
    pub(crate) functions: Option<&'a dyn EdgeFunctions<T>>,
    /// The best edge.
    pub best: bool,
    /// How many of the best edges.
    pub top: usize,
    /// How many draws, and the seed.
    pub draws: Option<(usize, u64)>,
}

impl<T> Default for Request<'_, T> {
    fn default() -> Self {
        Self {
            values: None,
            source: None,
            mean: false,
            mean_is_shared: false,
            second_moment: false,
            entropy: false,
            expected_log_weight: false,
            prior_log_partition: false,
            distance: false,
            functions: None,
            best: false,
            top: 0,
            draws: None,
        }
    }
}

impl<'a, T: Real> Request<'a, T> {
    /// The mean of values whose sizes are known to be right.
    pub(crate) fn mean_of(values: ArrayView4<'a, T>) -> Self {
        Self { values: Some(values.into()), mean: true, ..Self::default() }
    }

    /// Declares the values; questions of one pass must agree on them.
    pub fn use_values<E: Element<Real = T>>(
        &mut self,
        v: ArrayView4<'a, E>,
        shape: &Shape,
    ) -> Result<(), Error> {
        let (batch, heads, keys, width) = v.dim();
        let shared = heads == shape.key_heads || heads == shape.heads;
        if (batch, keys) != (shape.batch, shape.keys) || !shared {
            return Err(Error::shape(
                "v",
                format!(
                    "[{}, {}, {}, D_v], one value per key",
                    shape.batch, shape.key_heads, shape.keys
                ),
                v.shape(),
                "Values belong to keys: batch and keys are those of k, and there is one head of \
                 them per key head, or one per query head.",
            ));
        }
        let averages = [shape.batch, shape.heads, shape.queries, width];
        check_room("v", &averages, COPIES * size_of::<T>())?;
        let source = (
            v.as_ptr() as usize,
            [v.shape().to_vec(), v.strides().iter().map(|&s| s as usize).collect()].concat(),
        );
        match &self.source {
            Some(known) if *known != source => Err(Error::NotAnswerable {
                question: "value-variance".into(),
                why: "questions of one pass average the same values, and these are two tensors"
                    .into(),
                instead: "Ask about each tensor of values in a pass of its own.".into(),
            }),
            Some(_) => Ok(()),
            None => {
                self.source = Some(source);
                self.values = Some(E::widen(v));
                Ok(())
            }
        }
    }

    /// Whether log-weights are looked at apart from the scores.
    pub(crate) fn reads_weights(&self, prior_is_mask: bool) -> bool {
        self.prior_log_partition || (self.expected_log_weight && !prior_is_mask)
    }

    /// Number of edge functions averaged.
    pub(crate) fn function_count(&self) -> usize {
        self.functions.map_or(0, |functions| functions.count())
    }

    /// Numbers per value, 0 when no question reads values.
    pub(crate) fn value_width(&self) -> usize {
        self.values.as_ref().map_or(0, |v| v.dim().3)
    }
}
