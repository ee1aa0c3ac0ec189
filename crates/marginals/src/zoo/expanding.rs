//! Expanding attention: a window per query that grows while it matters.
//!
//! The theory and the certificate are in [`infer::expanding`](crate::infer::expanding).

use ndarray::{Array3, Array4, ArrayView4};

use super::Mechanism;
use crate::infer::collapsed::{Differentiation, FixedPoint, Reason};
use crate::infer::expanding::{
    self, Concentrations, ExpandingPrior, KeyNorms, MeanField, NormBounds, Problem, Windows,
};
use crate::potential::Potential;
use crate::{Element, Error, Real, Shape};

pub use crate::infer::expanding::{ExpandingGradients, ExpandingUpstream, Expansion};

/// Expanding attention, described.
pub const MECHANISM: Mechanism = Mechanism {
    name: "expanding",
    title: "attention that infers how far each query looks, and reads no farther",
    structure: "each-query-picks-one",
    prior: "beta-geometric in the distance behind the query (exact), or geometric with the expected \
            log(1 − ρ) (mean field), within a window that grows",
    potential: "any with a bound on its scores (dot, cosine, gaussian; rotary before them)",
    value: "gather",
    inference: "exact, or mean field q(φ) q(ρ) by coordinate ascent",
    update: Some("exact: β′ ← β + E_q[d]"),
    equations: &[
        "w(d | ρ_i) = ρ_i (1 − ρ_i)^d,  ρ_i ~ Beta(α, β),  d = 0, 1, 2 … keys behind the query",
        "exact: w(d) = B(α + 1, β + d) / B(α, β),  p(ρ_i | x) = Σ_j p_ij Beta(α + 1, β + d_ij)",
        "mean field: q(φ_ij = 1) ∝ ψ_ij exp(d_ij E[log(1 − ρ)]),  q(ρ_i) = Beta(α + 1, β′_i)",
        "β′ = β + E_q[d],  E[log(1 − ρ)] = ψ₀(β′) − ψ₀(α + 1 + β′)",
        "lost mass ≤ U / (Z + U),  U = e^s_max Σ_{d unseen} w(d)",
    ],
    sources: &[
        "Singh & Buckley, Attention: Marginal Probability is All You Need?, arXiv 2304.04556 \
         (expanding attention)",
        "Singh & Buckley, Attention as Implicit Structural Inference, NeurIPS 2023",
    ],
    path: "marginals::zoo::expanding",
    model: "\
# the input holds q, k and v; alpha and beta too (any shape that broadcasts to [B, H, N]) where
# the file gives none
mechanism = { expanding = { alpha = 20.0, beta = 20.0, lost = 1e-6 } }
# or, by coordinate ascent: inference = { mean-field = { steps = 100 } }
",
};

/// How the posterior over edges and ρ is found.
#[derive(Clone, Debug, PartialEq)]
pub enum Inference {
    /// ρ is summed out; one pass over each window.
    Exact,
    /// q(φ) q(ρ), by the steps of the engine; a pass over the window for each. Gradients are
    /// implicit, or of one step; steps across growing windows are not unrolled.
    MeanField(FixedPoint),
}

impl Inference {
    /// How the mean field is found; none under exact inference.
    fn ascent(&self) -> Option<&FixedPoint> {
        match self {
            Self::Exact => None,
            Self::MeanField(engine) => Some(engine),
        }
    }

    /// The mean field with the usual engine.
    pub fn mean_field() -> Self {
        Self::MeanField(FixedPoint::default())
    }
}

/// Expanding attention: settings.
///
/// ```
/// use marginals::{potential::Dot, zoo::expanding::Expanding};
/// # use ndarray::Array4;
/// # let (q, k, v) = (Array4::<f32>::ones((1, 2, 500, 4)), Array4::<f32>::ones((1, 2, 500, 4)), Array4::<f32>::ones((1, 2, 500, 3)));
/// let expanding = Expanding::new(20.0, 20.0).with_tolerance(1e-6);
/// let potential = Dot::scaled(4);
/// let found = expanding.attend(&potential, q.view(), k.view(), v.view())?;
/// assert!(found.lost.iter().all(|&lost| lost <= 1e-6));
/// assert!(found.window[[0, 0, 499]] < 500); // the far keys were not read
/// # assert_eq!(found.mean.shape(), &[1, 2, 500, 3]);
/// # Ok::<(), marginals::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Expanding {
    /// α and β, by head and query or shared.
    pub concentrations: Concentrations,
    /// How the posterior is found.
    pub inference: Inference,
    /// Largest posterior mass a query may lose to keys outside its window, in [0, 1). 0 reads every
    /// key.
    pub tolerance: f64,
    /// Bound on the norms of the keys.
    pub key_norms: KeyNorms,
    /// Keys that a window starts with, at least 1.
    pub first_keys: usize,
    /// Query i sits at position i + `query_offset`, key j at position j.
    pub query_offset: i64,
}

impl Expanding {
    /// The same α and β for all; exact, to 1e-6, windows starting at 64 keys.
    pub fn new(alpha: f64, beta: f64) -> Self {
        Self::per_head(&[alpha], &[beta])
    }

    /// One α and one β per head; either may have a single entry, shared.
    pub fn per_head(alpha: &[f64], beta: &[f64]) -> Self {
        let by_head = |list: &[f64]| Array3::from_shape_fn((1, list.len(), 1), |(_, h, _)| list[h]);
        Self::per_query(by_head(alpha), by_head(beta))
    }

    /// α and β over [B, H, N], any axis of which may be 1, shared. By query they cost a logarithm
    /// per edge where the inference is exact.
    pub fn per_query(alpha: Array3<f64>, beta: Array3<f64>) -> Self {
        Self {
            concentrations: Concentrations { alpha, beta },
            inference: Inference::Exact,
            tolerance: 1e-6,
            key_norms: KeyNorms::Computed,
            first_keys: 64,
            query_offset: 0,
        }
    }

    /// The same with another inference.
    pub fn with_inference(self, inference: Inference) -> Self {
        Self { inference, ..self }
    }

    /// The same with another tolerance.
    pub fn with_tolerance(self, tolerance: f64) -> Self {
        Self { tolerance, ..self }
    }

    /// The same with another knowledge of the lengths of keys.
    pub fn with_key_norms(self, key_norms: KeyNorms) -> Self {
        Self { key_norms, ..self }
    }

    /// The same with windows starting at another number of keys.
    pub fn with_first_keys(self, first_keys: usize) -> Self {
        Self { first_keys, ..self }
    }

    /// The same with query i at position i + `query_offset`; with M − N the last query sits beside
    /// the last key, as when decoding with a cache.
    pub fn with_query_offset(self, query_offset: i64) -> Self {
        Self { query_offset, ..self }
    }

    fn check<T: Real>(&self, potential: &dyn Potential<T>, shape: &Shape) -> Result<(), Error> {
        self.concentrations.check(shape)?;
        potential.check(shape)?;
        if !(0.0..1.0).contains(&self.tolerance) {
            return Err(Error::value("expanding.tolerance", "a number in [0, 1)", self.tolerance));
        }
        if self.first_keys == 0 {
            return Err(Error::value("expanding.first-keys", "at least 1 key", 0));
        }
        // Positions must be whole numbers in f64 too.
        if self.query_offset.unsigned_abs() > 1 << 52 {
            return Err(Error::value(
                "expanding.query-offset",
                "an offset of at most 2^52 positions",
                self.query_offset,
            ));
        }
        if self.tolerance > 0.0 && shape.heads > 0 && potential.greatest(0, 1.0, 1.0).is_none() {
            return Err(Error::NotAnswerable {
                question: "expanding attention with a window".into(),
                why: format!("the potential `{}` gives no bound on its scores", potential.name()),
                instead: "Set the tolerance to 0, which reads every key, or implement \
                          `Potential::greatest`."
                    .into(),
            });
        }
        match &self.inference {
            Inference::MeanField(engine) if engine.differentiation == Differentiation::Unrolled => {
                Err(Error::NotAnswerable {
                    question: "unrolled differentiation of expanding attention".into(),
                    why: "its steps run through windows that grow".into(),
                    instead: "Differentiate implicitly, or through one step.".into(),
                })
            }
            _ => Ok(()),
        }
    }

    /// Expands the windows of `q` [B, H, N, D] over `k` [B, Hk, M, D] and averages `v`
    /// [B, Hk, M, D_v] in them.
    ///
    /// Cost: O(window) per query, for one pass under exact inference and one per step under the mean
    /// field; the keys' lengths once where they are to be computed; O(B H N (D + D_v)) memory. A
    /// query with no key at or behind it has mean 0, evidence −∞ and window 0, and its ρ is as the
    /// prior says.
    pub fn attend<'a, E: Element>(
        &self,
        potential: &'a dyn Potential<E::Real>,
        q: ArrayView4<'a, E>,
        k: ArrayView4<'a, E>,
        v: ArrayView4<'a, E>,
    ) -> Result<Expanded<'a, E::Real>, Error> {
        let problem = self.problem(potential, q, k, v)?;
        let expansion = expanding::expand(&problem, self.inference.ascent())?;
        Ok(Expanded::new(problem, expansion, self.inference.clone()))
    }

    /// Gradients from what [`Expanded::into_expansion`] kept of an [`attend`](Self::attend) of the same
    /// tensors, as [`Expanded::backward`]: for a backward in another place than the forward, such as a
    /// framework's tape.
    pub fn backward<'a, E: Element>(
        &self,
        potential: &'a dyn Potential<E::Real>,
        [q, k, v]: [ArrayView4<'a, E>; 3],
        expansion: &Expansion<E::Real>,
        upstream: &ExpandingUpstream<'_, E::Real>,
    ) -> Result<ExpandingGradients<E::Real>, Error> {
        let problem = self.problem(potential, q, k, v)?;
        let (found, wanted) = (expansion.lost.len(), problem.count());
        if found != wanted {
            return Err(Error::shape(
                "expansion",
                format!("{wanted} queries"),
                &[found],
                "Go on with the tensors that the expansion was made of.",
            ));
        }
        gradients(&problem, expansion, &self.inference, upstream)
    }

    fn problem<'a, E: Element>(
        &self,
        potential: &'a dyn Potential<E::Real>,
        q: ArrayView4<'a, E>,
        k: ArrayView4<'a, E>,
        v: ArrayView4<'a, E>,
    ) -> Result<Problem<'a, E::Real>, Error> {
        // The offset is checked below, under its own name.
        let shape = Shape { query_offset: self.query_offset, ..Shape::of(&q, &k, 0)? };
        self.check(potential, &shape)?;
        let (batch, heads, keys, _) = v.dim();
        if (batch, heads, keys) != (shape.batch, shape.key_heads, shape.keys) {
            return Err(Error::shape(
                "v",
                format!(
                    "[{}, {}, {}, D_v], one value per key",
                    shape.batch, shape.key_heads, shape.keys
                ),
                v.shape(),
                "Values belong to keys: batch, key heads and keys are those of k.",
            ));
        }
        let (q, k, v) = (E::store(q), E::store(k), E::store(v));
        // Without a tolerance no bound is asked for.
        let norms = if self.tolerance == 0.0 { KeyNorms::AtMost(0.0) } else { self.key_norms };
        if self.tolerance == 0.0 {
            NormBounds::new(self.key_norms_given(), &shape, &k)?;
        }
        Ok(Problem {
            shape,
            concentrations: self.concentrations.clone(),
            potential,
            norms: NormBounds::new(norms, &shape, &k)?,
            q,
            k,
            v,
            tolerance: self.tolerance,
            first_keys: self.first_keys,
        })
    }

    /// The caller's word on key lengths, to be checked even where it is not needed.
    fn key_norms_given(&self) -> KeyNorms {
        match self.key_norms {
            KeyNorms::Computed => KeyNorms::AtMost(0.0),
            given => given,
        }
    }
}

/// Result of expanding attention, by query: [B, H, N].
#[derive(Debug)]
pub struct Expanded<'a, T: Real> {
    /// E\[v\], [B, H, N, D_v].
    pub mean: Array4<T>,
    /// Exact: log Σ_j w(d) ψ over the window, the log-evidence. Mean field: the bound on it (ELBO)
    /// with all its constants. In nats.
    pub log_evidence: Array3<f64>,
    /// Number of keys in the window.
    pub window: Array3<usize>,
    /// Times the window grew.
    pub growths: Array3<usize>,
    /// Certificate: the posterior mass of the keys outside the window is at most this. Under the mean
    /// field this holds of every iterate of the untruncated ascent.
    pub lost: Array3<f64>,
    /// Steps of coordinate ascent, over all windows; 0 under exact inference.
    pub steps: Array3<usize>,
    /// Why the steps ended in the last window; `None` under exact inference.
    pub reasons: Option<Array3<Reason>>,
    /// E\[d\], how far behind itself the query looks.
    pub distance: Array3<f64>,
    /// E\[ρ\].
    pub rho_mean: Array3<f64>,
    /// Var\[ρ\].
    pub rho_variance: Array3<f64>,
    /// β′ of q(ρ) = Beta(α + 1, β′); `None` under exact inference.
    pub concentration: Option<Array3<f64>>,
    problem: Problem<'a, T>,
    expansion: Expansion<T>,
    inference: Inference,
    causal: Windows,
}

impl<'a, T: Real> Expanded<'a, T> {
    fn new(problem: Problem<'a, T>, mut expansion: Expansion<T>, inference: Inference) -> Self {
        let shape = problem.shape;
        let dimensions = (shape.batch, shape.heads, shape.queries);
        let (b, h, n) = dimensions;
        let windows = &expansion.windows;
        let by_query = |f: &dyn Fn(usize, (usize, usize), usize) -> f64| {
            Array3::from_shape_fn(dimensions, |(b, h, i)| f(problem.flat((b, h), i), (b, h), i))
        };
        let finding = &expansion.finding;
        let is_mean_field = inference != Inference::Exact;
        let after = |flat: usize| expansion.concentration[flat];
        let log_evidence = by_query(&|flat, place, i| {
            let log_z = finding.normalisers.log_z(flat).f64();
            if !is_mean_field || windows.keys(place, i).is_empty() {
                return log_z;
            }
            let (alpha, beta) = problem.concentrations.of(place, i);
            let rate = crate::special::digamma_rise(after(flat), alpha + 1.0);
            expanding::elbo(alpha, beta, after(flat), rate, log_z)
        });
        // ρ of a query without keys is as it was.
        let rho = |flat: usize, place, i| -> (f64, f64) {
            let (alpha, beta) = problem.concentrations.of(place, i);
            let of_beta = |a: f64, b: f64| {
                let total = a + b;
                (a / total, a / total * (b / total) / (total + 1.0))
            };
            if windows.keys(place, i).is_empty() {
                of_beta(alpha, beta)
            } else if is_mean_field {
                of_beta(alpha + 1.0, after(flat))
            } else {
                let moment =
                    |of: usize| finding.expectation(expansion.moments[of]).values[flat].f64();
                let one = moment(0);
                let spread = moment(1) - one * one;
                (one, if spread < 0.0 { 0.0 } else { spread })
            }
        };
        let rho_mean = by_query(&|flat, place, i| rho(flat, place, i).0);
        let rho_variance = by_query(&|flat, place, i| rho(flat, place, i).1);
        let distances = &finding.expectation(expansion.distance).values;
        let distance = by_query(&|flat, _, _| distances[flat].f64());
        let window = Array3::from_shape_fn(dimensions, |(b, h, i)| windows.keys((b, h), i).len());
        let flat = |list: &[f64]| {
            Array3::from_shape_vec(dimensions, list.to_vec()).expect("one number per query")
        };
        let lost = flat(&expansion.lost);
        let concentration = is_mean_field.then(|| flat(&expansion.concentration));
        let growths = Array3::from_shape_vec(dimensions, std::mem::take(&mut expansion.growths))
            .expect("one number per query");
        let steps = |flat: usize| expansion.steps.get(flat).map_or(0, |steps| steps.0);
        let steps = Array3::from_shape_fn(dimensions, |(b, h, i)| steps(problem.flat((b, h), i)));
        let reasons = is_mean_field.then(|| {
            Array3::from_shape_fn(dimensions, |(b, h, i)| {
                expansion.steps[problem.flat((b, h), i)].1
            })
        });
        let means = expansion.finding.expectation(expansion.mean).values.clone();
        let mean = Array4::from_shape_vec((b, h, n, problem.v.dim().3), means)
            .expect("one value per query");
        let causal = Windows::causal(shape);
        Self {
            mean,
            log_evidence,
            window,
            growths,
            lost,
            steps,
            reasons,
            distance,
            rho_mean,
            rho_variance,
            concentration,
            problem,
            expansion,
            inference,
            causal,
        }
    }

    /// The part of this that [`Expanding::backward`] needs, without what was borrowed.
    pub fn into_expansion(self) -> Expansion<T> {
        self.expansion
    }

    /// Which keys each query was given.
    pub fn windows(&self) -> &Windows {
        &self.expansion.windows
    }

    /// log of the posterior density of ρ at `rho` in (0, 1), by query. Under exact inference, where
    /// it is a mixture of one Beta per key, one more pass over the windows.
    pub fn rho_log_density(&self, rho: f64) -> Result<Array3<f64>, Error> {
        if !(rho > 0.0 && rho < 1.0) {
            return Err(Error::value("rho", "a number in (0, 1)", rho));
        }
        let shape = &self.problem.shape;
        let dimensions = (shape.batch, shape.heads, shape.queries);
        if let Some(concentration) = &self.concentration {
            return Ok(Array3::from_shape_fn(dimensions, |(b, h, i)| {
                let (alpha, beta) = self.problem.concentrations.of((b, h), i);
                match self.window[[b, h, i]] {
                    0 => expanding::beta_density(alpha, beta, rho),
                    _ => expanding::beta_density(alpha + 1.0, concentration[[b, h, i]], rho),
                }
            }));
        }
        let density = expanding::log_density(&self.problem, &self.expansion, rho);
        Ok(Array3::from_shape_vec(dimensions, density).expect("one number per query"))
    }

    /// The mean field of these windows as a model for the fixed-point engine.
    pub fn mean_field(&self) -> MeanField<'_, 'a, T> {
        MeanField::new(&self.problem, &self.causal, &self.expansion.windows)
    }

    /// Calls `f` with the prior of the posterior that was found, windows included: a
    /// [`Model`](crate::Model) with it (and the same offset and potential) answers every other
    /// question, from the keys in the windows.
    pub fn with_prior<R>(&self, f: impl FnOnce(ExpandingPrior<'_, T>) -> R) -> R {
        expanding::with_prior(&self.problem, &self.expansion, f)
    }

    /// Gradients of a loss whose gradients in the answers are `upstream`, at the windows found
    /// (what moves a window moves the answers by less than the tolerance).
    ///
    /// Exact: the ordinary backward pass. Mean field: that, and through the fixed point by the
    /// engine's differentiation. Tiles that hold no window are passed over.
    pub fn backward(
        &self,
        upstream: &ExpandingUpstream<'_, T>,
    ) -> Result<ExpandingGradients<T>, Error> {
        gradients(&self.problem, &self.expansion, &self.inference, upstream)
    }
}

/// Gradients at the windows that were found.
fn gradients<T: Real>(
    problem: &Problem<'_, T>,
    expansion: &Expansion<T>,
    inference: &Inference,
    upstream: &ExpandingUpstream<'_, T>,
) -> Result<ExpandingGradients<T>, Error> {
    let shape = &problem.shape;
    let by_query = [shape.batch, shape.heads, shape.queries];
    let width = problem.v.dim().3;
    let mean = [shape.batch, shape.heads, shape.queries, width];
    let shapes = [
        ("grad.mean", upstream.mean.as_ref().map(|g| g.shape()), &mean[..]),
        ("grad.log-evidence", upstream.log_evidence.as_ref().map(|g| g.shape()), &by_query),
        ("grad.rho", upstream.rho.as_ref().map(|g| g.shape()), &by_query),
    ];
    for (name, found, expected) in shapes {
        if let Some(found) = found.filter(|&found| found != expected) {
            return Err(Error::shape(
                name,
                format!("{expected:?}"),
                found,
                "An upstream gradient has its answer's shape.",
            ));
        }
    }
    expanding::backward(problem, expansion, inference.ascent(), upstream)
}
