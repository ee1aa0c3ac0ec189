//! Expanding attention as one operation.

use std::sync::Arc;

use burn::tensor::Tensor;
use marginals::potential::Potential;
use marginals::spec::{ExpandingInference, ExpandingSpec, Sizes, Tensors};
use marginals::zoo::expanding::{Expanding as Engine, ExpandingUpstream, Expansion, Inference};
use marginals::{Error, Real};
use ndarray::{Array3, ArrayView3, ArrayView4, Ix4};

use super::flex::{Number, Primitive, check_format, flat, numbers, readable, row, tensor, view};
use super::tape::{Forward, Operation, record};

/// Expanding attention on Burn's tape, on the flex backend: a window per query that grows until what
/// is left outside weighs less than the tolerance (see [`marginals::zoo::expanding`]).
#[derive(Clone, Debug)]
pub struct Expanding {
    spec: Arc<ExpandingSpec>,
}

/// Result of expanding attention.
#[derive(Clone, Debug)]
pub struct Expanded {
    /// E\[v\], `[B, H, N, Dv]`.
    pub mean: Tensor<4>,
    /// The log-evidence under exact inference, its bound under the mean field, `[B, H, N]`, in nats.
    pub log_evidence: Tensor<3>,
    /// E\[ρ\], `[B, H, N]`.
    pub rho: Tensor<3>,
    /// Result of the search for the windows; no gradients flow through it.
    pub report: Arc<ExpandingReport>,
}

/// Result of the search for the windows, by query: `[B, H, N]`.
#[derive(Clone, Debug, PartialEq)]
pub struct ExpandingReport {
    /// Keys in the window.
    pub window: Array3<usize>,
    /// Times the window grew.
    pub growths: Array3<usize>,
    /// Bound on the posterior mass outside the window.
    pub lost: Array3<f64>,
    /// Steps of coordinate ascent; 0 under exact inference.
    pub steps: Array3<usize>,
    /// E\[d\], how far behind itself the query looks.
    pub distance: Array3<f64>,
}

impl Expanding {
    /// The mechanism that a model file describes; α and β come with each call.
    pub fn new(spec: ExpandingSpec) -> Self {
        Self { spec: spec.into() }
    }

    /// Expands the windows of `q` over `k` and averages `v` in them. Gradients flow to the nodes and
    /// to α and β, at the windows that were found.
    ///
    /// # Shapes
    /// - q: `[B, H, N, D]`
    /// - k: `[B, Hk, M, D]`
    /// - v: `[B, Hk, M, Dv]`
    /// - alpha, beta: `[H]` or `[1]`, above 0
    ///
    /// # Errors
    /// [`Error`], where sizes do not fit, a number lies outside its range, numbers are neither `f32`
    /// nor `f64`, or the potential gives no bound that a window could be found by.
    pub fn forward(
        &self,
        [q, k, v]: [Tensor<4>; 3],
        [alpha, beta]: [Tensor<1>; 2],
    ) -> Result<Expanded, Error> {
        let format = q.dtype();
        check_format("q", format, format)?;
        for (name, found) in [("k", &k), ("v", &v)] {
            check_format(name, found.dtype(), format)?;
        }
        for (name, found) in [("alpha", &alpha), ("beta", &beta)] {
            check_format(name, found.dtype(), format)?;
        }
        let ([batch, heads, queries, _], [.., width]) = (q.dims(), v.dims());
        let call = Call { expanding: self.clone(), of_alpha: alpha.dims()[0] };
        let concentrations = Tensor::cat(vec![alpha, beta], 0).into_dispatch();
        let nodes = [q, k, v].map(Tensor::into_dispatch);
        let [q, k, v] = nodes;
        let (packed, report) = record(call, [q, k, v, concentrations])?;
        let packed = Tensor::<1>::from_dispatch(packed);
        let rows = batch * heads * queries;
        let numbers = |at: usize| {
            packed.clone().narrow(0, rows * (width + at), rows).reshape([batch, heads, queries])
        };
        Ok(Expanded {
            mean: packed.clone().narrow(0, 0, rows * width).reshape([batch, heads, queries, width]),
            log_evidence: numbers(0),
            rho: numbers(1),
            report,
        })
    }

    /// The engine with these α and β, and the potential.
    fn engine<T: Real>(
        &self,
        concentrations: &[T],
        of_alpha: usize,
        width: usize,
    ) -> Result<(Engine, Box<dyn Potential<T>>), Error> {
        let spec = &*self.spec;
        let (alpha, beta) = concentrations.split_at(of_alpha);
        let list = |numbers: &[T]| numbers.iter().map(|x| x.f64()).collect::<Vec<_>>();
        let engine = Engine::per_head(&list(alpha), &list(beta))
            .with_inference(match &spec.inference {
                ExpandingInference::Exact => Inference::Exact,
                ExpandingInference::MeanField(engine) => Inference::MeanField(engine.build()),
            })
            .with_tolerance(spec.lost)
            .with_first_keys(spec.first_keys)
            .with_query_offset(spec.query_offset);
        let sizes = Sizes { heads: 1, key_heads: 1, width };
        Ok((engine, spec.potential.build_for(sizes, &Tensors::default())?))
    }
}

/// Settings of one call of the operation, beside its tensors: nodes and concentrations.
#[derive(Clone, Debug)]
struct Call {
    expanding: Expanding,
    /// How many of the concentrations are α's.
    of_alpha: usize,
}

/// State that the backward needs of the forward: what was built for it, the windows, and their findings.
#[derive(Clone)]
struct Kept<T: Number> {
    engine: Arc<(Engine, Box<dyn Potential<T>>)>,
    expansion: Arc<Expansion<T>>,
}

impl Operation<4> for Call {
    type Kept<T: Number> = Kept<T>;
    type Report = Arc<ExpandingReport>;

    /// Mean, log-evidence and E\[ρ\], packed.
    fn forward<T: Number>(
        &self,
        inputs: &[Primitive; 4],
    ) -> Result<Forward<Kept<T>, Arc<ExpandingReport>>, Error> {
        let [q, k, v, concentrations] = &inputs.each_ref().map(readable::<T>);
        let [q, k, v] = [q, k, v].map(view::<T, Ix4>);
        let engine = self.expanding.engine(numbers(concentrations), self.of_alpha, q.dim().3)?;
        let found = engine.0.attend(&*engine.1, q, k, v)?;
        let report = ExpandingReport {
            window: found.window.clone(),
            growths: found.growths.clone(),
            lost: found.lost.clone(),
            steps: found.steps.clone(),
            distance: found.distance.clone(),
        };
        let single = |x: &Array3<f64>| x.mapv(T::of);
        let mut packed = flat(found.mean.clone());
        packed.extend(single(&found.log_evidence));
        packed.extend(single(&found.rho_mean));
        let expansion = found.into_expansion().into();
        let kept = Kept { engine: engine.into(), expansion };
        Ok(Forward { output: row(packed), kept, report: report.into() })
    }

    fn backward<T: Number>(
        &self,
        inputs: &[Primitive; 4],
        kept: Kept<T>,
        upstream: Primitive,
    ) -> [Option<Primitive>; 4] {
        let [q, k, v, _] = &inputs.each_ref().map(readable::<T>);
        let [q, k, v] = [q, k, v].map(view::<T, Ix4>);
        let (b, h, n, _) = q.dim();
        let width = v.dim().3;
        let upstream = upstream.to_contiguous();
        let (of_mean, rest) = numbers::<T>(&upstream).split_at(b * h * n * width);
        let (of_evidence, of_rho) = rest.split_at(b * h * n);
        let three = |entries| ArrayView3::from_shape([b, h, n], entries).expect("its own size");
        let upstream = ExpandingUpstream {
            mean: ArrayView4::from_shape([b, h, n, width], of_mean).ok(),
            log_evidence: Some(three(of_evidence)),
            rho: Some(three(of_rho)),
        };
        let (engine, potential) = &*kept.engine;
        let found = engine
            .backward(&**potential, [q, k, v], &kept.expansion, &upstream)
            .expect("what the forward accepted, the backward differentiates");
        let own = found.alpha.iter().chain(&found.beta).map(|&x| T::of(x)).collect();
        [tensor(found.q), tensor(found.k), tensor(found.v), row(own)].map(Some)
    }
}
