use ndarray::Array4;

use super::Question;
use super::named::{AnyQuestion, Asking, IntoTensors, NamedQuestion, Tensor};
use super::upstream::Nothing;
use crate::infer::{Extremal, Handle, Request, Slopes};
use crate::posterior::{Found, Posterior};
use crate::{Error, Real, check_room};

/// Bytes per entry at the peak: an edge with its score while the keys are read, and once more in the
/// answer.
const ENTRY_BYTES: usize = 32;

/// The k most probable edges of every factor, best first.
///
/// Ties go to the smaller index. Having no edge takes part as −1; entries that no possible edge fills
/// hold −1 with probability 0. The first is [`Map`](super::Map). More entries than there is memory for
/// are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopK(pub usize);

/// The answer to [`TopK`], both [B, H, F, k].
#[derive(Clone, Debug, PartialEq)]
pub struct TopKAnswer<T> {
    /// Index of the key (of the query where keys choose), or −1.
    pub index: Array4<i64>,
    /// Its probability.
    pub probability: Array4<T>,
}

impl<'v, T: Real> Question<'v, T> for TopK {
    type Answer = TopKAnswer<T>;
    type Upstream = Nothing;
    type Plan = Handle;

    fn plan(
        &self,
        posterior: &Posterior<'_, T>,
        request: &mut Request<'v, T>,
    ) -> Result<Handle, Error> {
        posterior.inference().require_edges("top-k")?;
        if self.0 == 0 {
            return Err(Error::value("top-k", "at least 1", 0));
        }
        let shape = posterior.shape();
        let factors = [shape.batch, shape.heads, posterior.factor_count(), self.0];
        check_room("top-k", &factors, ENTRY_BYTES)?;
        Ok(request.extremal(Extremal::Best(self.0)))
    }

    fn answer(&self, plan: &Handle, found: &Found<'_, '_, 'v, T>) -> Result<TopKAnswer<T>, Error> {
        let edges = found.finding.extremes(*plan).edges();
        let (b, h, f) = found.factor_sizes();
        let probability =
            |(place, &edge): (usize, &_)| found.finding.probability(place / self.0, edge);
        let index = edges.iter().map(|edge| edge.index).collect();
        let probability = edges.iter().enumerate().map(probability).collect();
        let sizes = (b, h, f, self.0);
        Ok(TopKAnswer {
            index: Array4::from_shape_vec(sizes, index).expect("k per factor"),
            probability: Array4::from_shape_vec(sizes, probability).expect("k per factor"),
        })
    }

    fn backward<'g>(
        &self,
        _: &Handle,
        _: &'g Found<'_, '_, 'v, T>,
        (): (),
        _: &mut Slopes<'g, T>,
    ) -> Result<(), Error> {
        Ok(())
    }
}

impl NamedQuestion for TopK {
    const NAME: &'static str = "top-k";
    const DEFINITION: &'static str = "the k best edges and their probabilities, asked as top-k=K";
    const SHAPE: &'static str = "[B, H, F, K], twice";
    const ARGUMENT: Option<&'static str> = Some("K");

    fn make<'v, T: Real>(
        asking: &Asking<'v, T>,
    ) -> Result<Box<dyn AnyQuestion<'v, T> + 'v>, Error> {
        Ok(Box::new(TopK(asking.argument.unwrap_or_default())))
    }
}

impl<T> IntoTensors<T> for TopKAnswer<T> {
    fn into_tensors(self) -> Vec<(&'static str, Tensor<T>)> {
        vec![
            (".index", Tensor::Index(self.index.into_dyn())),
            (".probability", Tensor::Real(self.probability.into_dyn())),
        ]
    }
}
