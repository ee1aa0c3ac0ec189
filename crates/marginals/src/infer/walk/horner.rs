//! The forward passes: Horner's rule.

use crate::Real;
use ndarray::{Array3, Array4, ArrayView2, Axis, s};

use super::WalkPosterior;
use super::question::{Along, WalkRequest};
use crate::infer::exact::{Request, Summary};
use crate::{Error, check_room};

/// What to keep of the passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keep {
    /// The answers.
    Answers,
    /// Every product too, for the backward.
    Products,
}

/// The forward passes of a walk: answers, and gradients of them.
///
/// The columns that are carried are those of the values, and one for each quantity summed along the
/// way. With e its value for one pick, the rule is the same for both:
///
/// ```text
/// S_h = [P(h) V | P(hops > h) e] + P S_h+1.
/// ```
pub struct WalkPass<'p, 'a, 'v, T: Real> {
    pub(super) posterior: &'p WalkPosterior<'a, T>,
    pub(super) request: WalkRequest<'v, T>,
    /// e, [B, H, N, quantities].
    pub(super) per_pick: Array4<T>,
    /// P S_h+1 for h = 0, 1, …: [B, H, N, columns]; none where only answers are kept.
    pub(super) products: Vec<Array4<T>>,
    /// S_0.
    pub(super) total: Array4<T>,
    /// Of one step: its normalisers and what the backward of e reads; without a mean.
    pub(super) summary: Summary<T>,
}

impl<'p, 'a, 'v, T: Real> WalkPass<'p, 'a, 'v, T> {
    pub(super) fn new(
        posterior: &'p WalkPosterior<'a, T>,
        request: WalkRequest<'v, T>,
        keep: Keep,
    ) -> Result<Self, Error> {
        let one_step = &posterior.one_step;
        let shape = one_step.shape();
        let nodes = (shape.batch, shape.heads, shape.queries);
        let per_pick = Array4::zeros((nodes.0, nodes.1, nodes.2, request.along.len()));
        let hops = posterior.walk.hops();
        if keep == Keep::Products {
            let columns = request.values.value_width() + request.along.len();
            let kept = [hops, nodes.0, nodes.1, nodes.2, columns];
            check_room("walk.hops", &kept, size_of::<T>())?;
        }
        let mut pass = Self {
            posterior,
            request,
            per_pick,
            products: Vec::new(),
            total: Array4::zeros((0, 0, 0, 0)),
            summary: Summary::default(),
        };

        // From the last hop to the first; P(hops > H) = 0, so that e is not needed before the first
        // pass has found it.
        let mut state = pass.state(hops, pass.nothing());
        for hop in (0..hops).rev() {
            let mut wanted = Request::mean_of(state.view());
            let first = hop + 1 == hops;
            if first {
                for quantity in &pass.request.along {
                    quantity.of_one_pick().request(one_step, &mut wanted)?;
                }
            }
            let mut step = one_step.run(wanted);
            let mean = std::mem::take(&mut step.summary.mean);
            let product = step.by_query(mean);
            if first {
                for (column, &quantity) in pass.request.along.iter().enumerate() {
                    let e = quantity.of_one_pick().answer(&step)?;
                    pass.per_pick.index_axis_mut(Axis(3), column).assign(&e);
                }
                pass.summary = step.summary;
            }
            if keep == Keep::Products {
                pass.products.push(product.clone());
            }
            state = pass.state(hop, product);
        }
        pass.products.reverse();
        pass.total = state;
        Ok(pass)
    }

    /// S_h+1 past the last hop.
    pub(super) fn nothing(&self) -> Array4<T> {
        let shape = self.posterior.shape();
        let columns = self.request.values.value_width() + self.request.along.len();
        Array4::zeros((shape.batch, shape.heads, shape.queries, columns))
    }

    /// S_h of `hop`, made from P S_h+1.
    pub(super) fn state(&self, hop: usize, product: Array4<T>) -> Array4<T> {
        let walk = self.posterior.walk;
        let width = self.request.values.value_width();
        let mut state = product;
        for (b, h) in self.heads() {
            let probability = T::of(walk.probability(h, hop));
            if let Some(v) = self.value(b, h)
                && probability != T::zero()
            {
                state.slice_mut(s![b, h, .., ..width]).scaled_add(probability, &v);
            }
            let further = T::of(walk.more_than(h, hop));
            let e = self.per_pick.slice(s![b, h, .., ..]);
            state.slice_mut(s![b, h, .., width..]).scaled_add(further, &e);
        }
        state
    }

    /// Every (batch entry, query head).
    pub(super) fn heads(&self) -> impl Iterator<Item = (usize, usize)> + use<T> {
        let shape = *self.posterior.shape();
        (0..shape.batch).flat_map(move |b| (0..shape.heads).map(move |h| (b, h)))
    }

    /// The values that the walks of one query head read, [N, D_v].
    pub(super) fn value(&self, batch: usize, head: usize) -> Option<ArrayView2<'_, T>> {
        let values = self.request.values.values.as_ref()?;
        Some(values.slice(s![batch, self.value_head(head), .., ..]))
    }

    /// Head of the values that query head `head` reads.
    pub(super) fn value_head(&self, head: usize) -> usize {
        let heads = self.posterior.shape().heads;
        let sets = self.request.values.values.as_ref().map_or(heads, |v| v.dim().1);
        head * sets / heads.max(1)
    }

    /// The sum of `quantity` along the walks.
    pub(super) fn along(&self, quantity: Along) -> Result<Array3<T>, Error> {
        let place = self.request.along.iter().position(|&q| q == quantity);
        self.require(place.is_some(), quantity.name())?;
        let column = self.request.values.value_width() + place.unwrap_or(0);
        Ok(self.total.index_axis(Axis(3), column).to_owned())
    }

    /// The answers to questions these passes were made for.
    pub fn answer<Q: super::WalkQuestion<'v, T>>(&self, questions: &Q) -> Result<Q::Answer, Error> {
        questions.answer(self)
    }

    /// Refuses a question that these passes were not made for.
    pub(super) fn require(&self, asked: bool, question: &str) -> Result<(), Error> {
        if asked {
            return Ok(());
        }
        Err(Error::NotAnswerable {
            question: question.into(),
            why: "this pass was made for other questions".into(),
            instead: "Name it when making the pass.".into(),
        })
    }
}
