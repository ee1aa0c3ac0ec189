//! Attention as one differentiable operation: the posterior mean of any factored model.

use std::fmt::Debug;
use std::sync::Arc;

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients as Tape;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::Tensor;
use marginals::infer::exact::{Gradients, Summary, Upstream};
use marginals::potential::Potential;
use marginals::prior::Prior;
use marginals::question::{Mean, QueryMass};
use marginals::structure::Structure;
use marginals::zoo::slots::Smoothing;
use marginals::{Error, Model, Posterior, Value};
use ndarray::{Array4, ArrayView4, Ix4};

use super::flex::{Number, Primitive, by_format, check_format, readable, tensor, view};
use super::tape::pass_on;

/// A model in every number format that tensors have, as one object.
pub trait FactoredModel: Debug + Send + Sync {
    /// Its posterior in `f32`.
    ///
    /// # Errors
    /// As [`Model::posterior`].
    fn posterior_f32<'a>(
        &'a self,
        q: ArrayView4<'a, f32>,
        k: ArrayView4<'a, f32>,
    ) -> Result<Posterior<'a, f32>, Error>;

    /// Its posterior in `f64`.
    ///
    /// # Errors
    /// As [`Model::posterior`].
    fn posterior_f64<'a>(
        &'a self,
        q: ArrayView4<'a, f64>,
        k: ArrayView4<'a, f64>,
    ) -> Result<Posterior<'a, f64>, Error>;
}

impl<S, P, U> FactoredModel for Model<S, P, U>
where
    S: Structure + Debug,
    P: Prior<f32> + Prior<f64> + Debug,
    U: Potential<f32> + Potential<f64> + Debug,
{
    fn posterior_f32<'a>(
        &'a self,
        q: ArrayView4<'a, f32>,
        k: ArrayView4<'a, f32>,
    ) -> Result<Posterior<'a, f32>, Error> {
        self.posterior(q, k)
    }

    fn posterior_f64<'a>(
        &'a self,
        q: ArrayView4<'a, f64>,
        k: ArrayView4<'a, f64>,
    ) -> Result<Posterior<'a, f64>, Error> {
        self.posterior(q, k)
    }
}

/// The posterior mean of a model as an operation on tensors, gradients included.
///
/// ```text
/// out_i = E[v]_i,        ∂L/∂θ_ij = p_ij (f_ij − E_i[f]),   f_ij = ∂L/∂out_i · v_j
/// ```
///
/// Forward and backward stream over tiles of the scores; between them only the normalisers and the
/// means are kept, so memory is O(N + M) where Burn's own attention keeps the N × M matrix.
#[derive(Clone, Debug)]
pub struct Attention {
    model: Arc<dyn FactoredModel>,
    smoothing: f64,
}

impl Attention {
    /// Attention under `model`.
    pub fn new(model: impl FactoredModel + 'static) -> Self {
        Self { model: Arc::new(model), smoothing: 0.0 }
    }

    /// The average over keys under marginals that have had `epsilon` added, as slot attention has
    /// it (Locatello et al. 2020, Algorithm 1):
    ///
    /// ```text
    /// out_i = Σ_j (p_ij + ε) v_j / Σ_j (p_ij + ε) = (m_i a_i + ε Σ_j v_j) / (m_i + ε M),
    /// ```
    ///
    /// with m_i = Σ_j p_ij and a_i the plain average: a closed form of what the pass finds anyway.
    /// A query without mass gets the plain mean of the values.
    ///
    /// # Errors
    /// [`Error::Value`] where `epsilon` is negative or not finite.
    pub fn smoothed_average<S, P, U>(model: Model<S, P, U>, epsilon: f64) -> Result<Self, Error>
    where
        S: Structure,
        Model<S, P, U>: FactoredModel + 'static,
    {
        if !(epsilon.is_finite() && epsilon >= 0.0) {
            return Err(Error::value("epsilon", "a finite number of at least 0", epsilon));
        }
        Ok(Self { model: Arc::new(model.with_value(Value::Average)), smoothing: epsilon })
    }

    /// The posterior mean of the values.
    ///
    /// # Shapes
    /// - q: `[B, H, N, D]`
    /// - k: `[B, Hk, M, D]`, Hk a divisor of H
    /// - v: `[B, Hk, M, Dv]`
    /// - output: `[B, H, N, Dv]`
    ///
    /// # Errors
    /// [`Error`], when the sizes do not fit each other or the model, or the numbers are neither `f32`
    /// nor `f64`.
    ///
    /// # Panics
    /// Burn's backward has no way to report an error: it panics where the model's potential or prior
    /// does not define its gradient. All those of `marginals` do.
    pub fn forward(&self, q: Tensor<4>, k: Tensor<4>, v: Tensor<4>) -> Result<Tensor<4>, Error> {
        self.check(&q, &k)?;
        check_format("v", v.dtype(), q.dtype())?;
        let ([batch, heads, keys, _], found) = (k.dims(), v.dims());
        if found[..3] != [batch, heads, keys] {
            return Err(Error::shape(
                "v",
                format!("[{batch}, {heads}, {keys}, Dv], one value per key"),
                &found,
                "Values belong to keys: batch, key heads and keys are those of k.",
            ));
        }
        let (q, k, v) = (q.into_dispatch(), k.into_dispatch(), v.into_dispatch());
        Ok(Tensor::from_dispatch(Dispatch::attend(q, k, v, self.clone())))
    }

    /// The same where keys are their own values, as in slots and associative memories. Their two
    /// gradients come back as one tensor, which saves a pass over each.
    ///
    /// # Shapes
    /// - q: `[B, H, N, D]`
    /// - x: `[B, Hk, M, D]`, Hk a divisor of H
    /// - output: `[B, H, N, D]`
    ///
    /// # Errors
    /// As [`Self::forward`].
    ///
    /// # Panics
    /// As [`Self::forward`].
    pub fn forward_shared(&self, q: Tensor<4>, x: Tensor<4>) -> Result<Tensor<4>, Error> {
        self.check(&q, &x)?;
        let (q, x) = (q.into_dispatch(), x.into_dispatch());
        Ok(Tensor::from_dispatch(Dispatch::attend_shared(q, x, self.clone())))
    }

    /// What the posterior itself would refuse: it looks at the sizes alone.
    fn check(&self, q: &Tensor<4>, k: &Tensor<4>) -> Result<(), Error> {
        check_format("q", q.dtype(), q.dtype())?;
        check_format("k", k.dtype(), q.dtype())?;
        let zero = ndarray::arr0(0.0f32);
        let of = |shape: [usize; 4]| zero.broadcast(Ix4(shape[0], shape[1], shape[2], shape[3]));
        match (of(q.dims()), of(k.dims())) {
            (Some(q), Some(k)) => self.model.posterior_f32(q, k).map(drop),
            _ => {
                Err(Error::shape("q", "a size that fits the address space", &q.dims(), "Use less."))
            }
        }
    }
}

/// Attention on the backends that have it.
#[backend_extension(Flex, Autodiff)]
pub(crate) trait AttentionBackend: Backend {
    /// See [`Attention::forward`]; everything has been checked.
    fn attend(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        attention: Attention,
    ) -> FloatTensor<Self>;

    /// See [`Attention::forward_shared`].
    fn attend_shared(
        q: FloatTensor<Self>,
        x: FloatTensor<Self>,
        attention: Attention,
    ) -> FloatTensor<Self>;
}

impl AttentionBackend for Flex {
    fn attend(q: Primitive, k: Primitive, v: Primitive, attention: Attention) -> Primitive {
        by_format!(q.dtype(), T => {
            let inputs = [readable::<T>(q), readable::<T>(k), readable::<T>(v)];
            tensor(forward::<T>(&attention, &inputs).0)
        })
    }

    fn attend_shared(q: Primitive, x: Primitive, attention: Attention) -> Primitive {
        Self::attend(q, x.clone(), x, attention)
    }
}

impl<C: CheckpointStrategy> AttentionBackend for Autodiff<Flex, C> {
    fn attend(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        attention: Attention,
    ) -> FloatTensor<Self> {
        let guards = [q.node(), k.node(), v.node()];
        let inputs = [q.into_primitive(), k.into_primitive(), v.into_primitive()];
        match PosteriorMean.prepare::<C>(guards).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => {
                let (out, taped) = record(inputs, attention);
                prepared.finish(taped, out)
            }
            OpsKind::UnTracked(prepared) => {
                let [q, k, v] = inputs;
                prepared.finish(Flex::attend(q, k, v, attention))
            }
        }
    }

    fn attend_shared(
        q: FloatTensor<Self>,
        x: FloatTensor<Self>,
        attention: Attention,
    ) -> FloatTensor<Self> {
        let guards = [q.node(), x.node()];
        let (q, x) = (q.into_primitive(), x.into_primitive());
        match SharedPosteriorMean.prepare::<C>(guards).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => {
                let x = by_format!(x.dtype(), T => readable::<T>(x));
                let (out, taped) = record([q, x.clone(), x], attention);
                prepared.finish(taped, out)
            }
            OpsKind::UnTracked(prepared) => prepared.finish(Flex::attend_shared(q, x, attention)),
        }
    }
}

/// The output, and what the tape keeps.
fn record(inputs: [Primitive; 3], attention: Attention) -> (Primitive, Taped) {
    by_format!(inputs[0].dtype(), T => {
        let inputs = inputs.map(readable::<T>);
        let (out, summary) = forward::<T>(&attention, &inputs);
        (tensor(out), Taped { inputs, attention, kept: T::keep(summary) })
    })
}

/// What the tape keeps of one forward. The tensors are shared, not copied.
#[derive(Clone, Debug)]
struct Taped {
    inputs: [Primitive; 3],
    attention: Attention,
    kept: Kept,
}

/// What the engine's pass found out, in the format it ran in.
#[derive(Clone, Debug)]
pub(super) enum Kept {
    Single(Arc<Summary<f32>>),
    Double(Arc<Summary<f64>>),
}

#[derive(Debug)]
struct PosteriorMean;

impl Backward<Flex, 3> for PosteriorMean {
    type State = Taped;

    fn backward(self, ops: Ops<Taped, 3>, grads: &mut Tape, _: &mut Checkpointer) {
        pass_on(ops, grads, |taped, upstream| {
            by_format!(upstream.dtype(), T => {
                let upstream = readable::<T>(upstream);
                let (q, k, v) = backward::<T>(taped, view(&upstream), false);
                [q, k, v.expect("the mean has values")].map(tensor)
            })
        });
    }
}

/// The same where keys are their own values: their gradients are added up before the tape sees them.
#[derive(Debug)]
struct SharedPosteriorMean;

impl Backward<Flex, 2> for SharedPosteriorMean {
    type State = Taped;

    fn backward(self, ops: Ops<Taped, 2>, grads: &mut Tape, _: &mut Checkpointer) {
        pass_on(ops, grads, |taped, upstream| {
            by_format!(upstream.dtype(), T => {
                let upstream = readable::<T>(upstream);
                let (q, x, _) = backward::<T>(taped, view(&upstream), true);
                [q, x].map(tensor)
            })
        });
    }
}

const CHECKED: &str = "sizes were checked before the operation was recorded";

/// The output, and what the backward needs of it.
fn forward<T: Number>(attention: &Attention, inputs: &[Primitive; 3]) -> (Array4<T>, Summary<T>) {
    let [q, k, v] = inputs.each_ref().map(view::<T, Ix4>);
    let posterior = T::posterior(&*attention.model, q, k).expect(CHECKED);
    let pass = posterior.pass(&Mean(v)).expect(CHECKED);
    let mut out = pass.answer(&Mean(v)).expect(CHECKED);
    if attention.smoothing > 0.0 {
        let mass = pass.answer(&QueryMass).expect(CHECKED);
        Smoothing::new(T::of(attention.smoothing), &v).apply(&mass, &mut out);
    }
    (out, pass.into_summary())
}

/// Gradients of queries, keys and values; of `shared` keys and values together in the keys' place.
fn backward<T: Number>(
    taped: Taped,
    upstream: ArrayView4<'_, T>,
    shared: bool,
) -> (Array4<T>, Array4<T>, Option<Array4<T>>) {
    let Taped { inputs, attention, kept } = taped;
    let [q, k, v] = inputs.each_ref().map(view::<T, Ix4>);
    let posterior = T::posterior(&*attention.model, q, k).expect(CHECKED);
    let summary = T::kept(kept).expect("forward and backward run in one format");
    let pass = posterior.resume(&Mean(v), summary).expect(CHECKED);
    let of = |upstream: &Upstream<'_, T>| {
        let found = if shared { pass.backward_shared(upstream) } else { pass.backward(upstream) };
        found.expect("every part of the model defines its gradient")
    };
    let plain = |mean| Upstream { mean: Some(mean), ..Upstream::default() };
    if attention.smoothing == 0.0 {
        let Gradients { q, k, v, .. } = of(&plain(upstream));
        return (q, k, v);
    }
    let (mean, mass) =
        (pass.answer(&Mean(v)).expect(CHECKED), pass.answer(&QueryMass).expect(CHECKED));
    let through = Smoothing::new(T::of(attention.smoothing), &v).backward(&mass, &mean, upstream);
    let upstream = Upstream { query_mass: Some(through.mass.view()), ..plain(through.mean.view()) };
    let Gradients { q, mut k, mut v, .. } = of(&upstream);
    through.add_to_values(v.as_mut().unwrap_or(&mut k));
    (q, k, v)
}
