//! Modern continuous Hopfield networks: associative memory as attention repeated.
//!
//! N patterns x_i (rows of X) are stored; a state z is pulled towards those that resemble it.
//!
//! ```text
//! p_i(z) = π_i e^{β x_iᵀz} / Σ_j π_j e^{β x_jᵀz},      z ← Σ_i p_i(z) x_i = Xᵀ softmax(β X z)
//! E(z)   = −lse(β, Xz) + ½ zᵀz + β⁻¹ log N + ½ M²,      lse(β, s) = β⁻¹ log Σ_i e^{β s_i},  M = max_i ‖x_i‖
//! ```
//!
//! (Ramsauer et al., "Hopfield networks is all you need", arXiv 2008.02217, §2, eqs. 2 and 3.) The
//! step is the concave-convex procedure on E, so that E never rises (their Theorem 1).
//!
//! As a graph: every state picks one pattern, log ψ = β x_iᵀz, the edge summed out, and beforehand
//! z is a Gaussian of precision β around 0. Then −log p(z) − log Σ_i π_i ψ_i is β E(z) but for a
//! constant: ½ D log(2π/β) more and ½ β M² less. The engine's F is **β E**, in nats; a structural
//! prior π on the patterns takes the place of 1/N.

mod centred;
mod retrieval;
mod separation;

use ndarray::{Array3, Array4, ArrayView4, Axis, CowArray, Ix4};

use super::Mechanism;
use crate::gradient::number_repeats;
use crate::infer::Gradients;
use crate::infer::collapsed::{Differentiable, Evaluation, InputGradients, Latent, Maximise};
use crate::potential::Dot;
use crate::prior::{Coverage, Prior, Uniform};
use crate::question::{LogPartition, Mean};
use crate::structure::EachQueryPicksOne;
use crate::{Error, Model, Posterior, Real, Reference, Shape, model, refuse_nan};
use centred::Centred;

pub use retrieval::{RETRIEVED, Retrieval, Settled};
pub use separation::Separation;

/// Entry of the zoo.
pub const MECHANISM: Mechanism = Mechanism {
    name: "hopfield",
    title: "Modern continuous Hopfield network: associative memory",
    structure: "each-query-picks-one (queries are states, keys are stored patterns)",
    prior: "uniform, or any on the patterns",
    potential: "dot (scale β)",
    value: "gather, of the patterns themselves; of other values at the last step",
    inference: "one streaming pass per step",
    update: Some("exact (concave-convex procedure: F = β E never rises), or gradient"),
    equations: &[
        "z ← Xᵀ softmax(β X z)",
        "E(z) = −β⁻¹ log Σ_i exp(β x_iᵀz) + ½ zᵀz + β⁻¹ log N + ½ M²,  M = max_i ‖x_i‖",
        "Δ_i = min_{j≠i} x_iᵀx_i − x_iᵀx_j ≥ 2/(βN) + β⁻¹ log(2 (N − 1) N β M²)  ⇒  x_i is retrieved",
    ],
    sources: &[
        "Ramsauer et al., Hopfield networks is all you need, arXiv 2008.02217, eqs. 2 and 3, Theorems 1, 4 and 5",
        "Singh & Buckley, arXiv 2304.04556, §4",
    ],
    path: "marginals::zoo::hopfield",
    model: "\
# the input holds states [B, H, N, D] and patterns [B, Hk, M, D]
mechanism = { hopfield = { beta = 8.0, steps = 100, tolerance = 1e-6 } }
",
};

/// The memories and states of a modern Hopfield network: a [`Latent`] model whose problems are
/// every (batch, head, state), z being the states [B, H, N, D] flat.
///
/// Inputs by name: `patterns` [B, Hk, M, D], `beta` 1 or H numbers, and the parameters of the prior.
///
/// Every evaluation is one streaming pass in O(B H N D) memory beside the patterns. Patterns with a
/// part in common are compared, and F is added up, without it: it cancels, and would cost the digits
/// of what is left. A state that may have no pattern at all (a prior can forbid them) has F = +∞, and
/// the step takes it to 0.
///
/// ```
/// use marginals::infer::collapsed::{Exact, FixedPoint};
/// use marginals::zoo::hopfield::{Hopfield, Settled};
/// # use ndarray::{array, Array4};
/// let patterns = array![[1.0, 1.0, 1.0, 1.0], [1.0, -1.0, 1.0, -1.0]].into_shape_with_order((1, 1, 2, 4)).unwrap();
/// let network = Hopfield::new(patterns.view(), &[4.0], (1, 1))?;
/// let solution = FixedPoint::default().solve(&Exact(&network), &[1.0, -1.0, 0.0, 0.0])?;
/// let retrieval = network.retrieval(&solution.z)?;
/// assert_eq!(retrieval.pattern[[0, 0, 0]], 1);
/// assert_eq!(retrieval.settled()[[0, 0, 0]], Settled::Pattern);
/// # Ok::<(), marginals::Error>(())
/// ```
pub struct Hopfield<'a, T: Real, P = Uniform> {
    patterns: ArrayView4<'a, T>,
    model: Model<EachQueryPicksOne, P, Dot>,
    beta: Vec<f64>,
    shape: Shape,
    /// log Σ_i w_i of every state, or one for all.
    prior_log_partition: Vec<T>,
    /// M² of every memory, [B, Hk] flat.
    largest_square: Vec<T>,
    /// The patterns without what they have in common, where that is anything.
    centred: Option<Centred<T>>,
}

impl<'a, T: Real> Hopfield<'a, T> {
    /// Memories of `patterns` [B, Hk, M, D], one inverse temperature β > 0 for all heads or one
    /// per head, and (H, N): how many heads and states per head there are. Heads share memories as
    /// grouped queries do.
    pub fn new(
        patterns: ArrayView4<'a, T>,
        beta: &[f64],
        states: (usize, usize),
    ) -> Result<Self, Error> {
        let (batch, key_heads, count, width) = patterns.dim();
        let (heads, queries) = states;
        if count == 0 || width == 0 {
            return Err(Error::shape(
                "patterns",
                "[B, Hk, M, D] with M and D at least 1",
                patterns.shape(),
                "Store at least one pattern.",
            ));
        }
        if heads > 0 && (key_heads == 0 || heads % key_heads != 0) {
            return Err(Error::shape(
                "patterns",
                format!("[B, Hk, M, D] with Hk a divisor of the {heads} heads of states"),
                patterns.shape(),
                "Each memory serves an equal group of heads.",
            ));
        }
        let shape = Shape {
            batch,
            heads,
            key_heads,
            queries,
            keys: count,
            query_width: width,
            key_width: width,
            query_offset: 0,
            key_offset: 0,
            reference: Reference::Nothing,
        };
        model::check_positive("beta", beta)?;
        model::check_per_head("beta", beta, &shape)?;
        refuse_nan("patterns", &patterns)?;
        let mut largest_square = Vec::with_capacity(batch * key_heads);
        for memory in patterns.outer_iter().flat_map(|entry| entry.into_outer_iter()) {
            let square = |x: ndarray::ArrayView1<'_, T>| x.iter().map(|&x| x * x).sum::<T>();
            largest_square.push(memory.rows().into_iter().map(square).fold(T::zero(), T::max));
        }
        Ok(Self {
            patterns,
            model: Model::new(EachQueryPicksOne, Uniform, Dot::per_head(beta)),
            beta: beta.to_vec(),
            shape,
            prior_log_partition: vec![T::of(count as f64).ln()],
            largest_square,
            centred: Centred::new(&patterns),
        })
    }

    /// The same with a structural prior on which state may have which pattern, state i at position
    /// i and pattern j at position j. Cost: one pass over its log-weights, unless they are all 0.
    pub fn with_prior<P: Prior<T>>(self, prior: P) -> Result<Hopfield<'a, T, P>, Error> {
        prior.check(&self.shape)?;
        let mut network = Hopfield {
            patterns: self.patterns,
            model: Model::new(EachQueryPicksOne, prior, Dot::per_head(&self.beta)),
            beta: self.beta,
            shape: self.shape,
            prior_log_partition: self.prior_log_partition,
            largest_square: self.largest_square,
            centred: self.centred,
        };
        let sizes = network.shape;
        let whole = |head| sizes.block(head, 0..sizes.queries, 0..sizes.keys);
        let mut places = (0..network.shape.batch)
            .flat_map(|b| (0..network.shape.heads).map(move |h| whole((b, h))));
        if !places.all(|block| network.model.prior.coverage(&block) == Coverage::Free) {
            // Where z = 0 every potential is 1, and what is left is the prior.
            let at_rest = vec![T::zero(); network.problems() * network.width()];
            let posterior = network.posterior(&at_rest)?;
            let normalisers = posterior.ask(LogPartition)?;
            drop(posterior);
            network.prior_log_partition = normalisers.into_raw_vec_and_offset().0;
        }
        Ok(network)
    }
}

impl<'a, T: Real, P: Prior<T>> Hopfield<'a, T, P> {
    /// The sizes: states are queries, patterns keys.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// The posterior over which pattern each state goes to, its scores β x_iᵀz as they are.
    ///
    /// Where the patterns have a part in common, scores are as large as its square, and so is their
    /// rounding: ask [`relative`](Self::relative) whatever does not read the scores themselves.
    pub fn posterior<'z>(&'z self, z: &'z [T]) -> Result<Posterior<'z, T>, Error> {
        self.model.posterior(self.states("z", z)?, self.patterns.reborrow())
    }

    /// The states at z, to ask for the same posterior with what the scores of a state have in common
    /// taken out of them.
    pub fn relative<'z>(&'z self, z: &'z [T]) -> Result<Relative<'z, 'a, T, P>, Error> {
        Ok(Relative { queries: self.queries("z", z)?, network: self })
    }

    /// E(z) of every state [B, H, N], as in the paper.
    pub fn energy(&self, z: &[T]) -> Result<Array3<T>, Error> {
        let energy = self.free_energy(z)?;
        let energy = energy.into_iter().enumerate().map(|(p, f)| f / self.beta_of(p)).collect();
        let Shape { batch, heads, queries, .. } = self.shape;
        Ok(Array3::from_shape_vec((batch, heads, queries), energy).expect("an energy per state"))
    }

    /// Recall of `values` [B, Hk, M, D_v] by the states at z: Σ_i p_i(z) v_i, the last step of a
    /// hetero-association, whose values are not the patterns.
    pub fn recall(&self, z: &[T], values: ArrayView4<'_, T>) -> Result<Array4<T>, Error> {
        self.relative(z)?.posterior()?.ask(Mean(values))
    }

    /// Backward of [`recall`](Self::recall): returns the gradients of z and of the values, and adds
    /// those of the inputs to `inputs`.
    pub fn recall_backward(
        &self,
        z: &[T],
        values: ArrayView4<'_, T>,
        upstream: ArrayView4<'_, T>,
        inputs: &mut InputGradients<T>,
    ) -> Result<(Vec<T>, Array4<T>), Error> {
        let relative = self.relative(z)?;
        let posterior = relative.posterior()?;
        let pass = posterior.pass(Mean(values))?;
        let mut gradients = pass.backward(upstream)?;
        let values = gradients.take_v().expect("a mean has a gradient in its values");
        Ok((self.add_gradients(gradients, inputs)?, values))
    }

    /// The states as the library's tensors.
    fn states<'z>(&self, name: &str, z: &'z [T]) -> Result<ArrayView4<'z, T>, Error> {
        let Shape { batch, heads, queries, query_width, .. } = self.shape;
        let length = batch * heads * queries * query_width;
        ArrayView4::from_shape((batch, heads, queries, query_width), z).map_err(|_| {
            Error::shape(
                name,
                format!("[{length}]: states [{batch}, {heads}, {queries}, {query_width}] flat"),
                &[z.len()],
                "Give D numbers for every state.",
            )
        })
    }

    /// Queries that states are compared by.
    fn queries<'z>(&self, name: &str, z: &'z [T]) -> Result<CowArray<'z, T, Ix4>, Error> {
        let states = self.states(name, z)?;
        Ok(match &self.centred {
            None => states.into(),
            Some(centred) => centred.queries(&states).into(),
        })
    }

    /// Keys that patterns are compared by, and the values averaged.
    fn keys_and_values(&self) -> (ArrayView4<'_, T>, ArrayView4<'_, T>) {
        match &self.centred {
            None => (self.patterns.reborrow(), self.patterns.reborrow()),
            Some(centred) => (centred.keys(), centred.values()),
        }
    }

    /// The patterns' averages, from those of what is averaged; log Z tells who has one.
    fn restored(&self, mut means: Array4<T>, log_partition: &Array3<T>) -> Vec<T> {
        if let Some(centred) = &self.centred {
            let log_z: Vec<T> = log_partition.iter().copied().collect();
            centred.restore(&mut means, |state| log_z[state] != T::neg_infinity());
        }
        means.into_raw_vec_and_offset().0
    }

    /// Head of a problem.
    fn head_of(&self, problem: usize) -> usize {
        problem / self.shape.queries % self.shape.heads
    }

    /// β of a problem.
    fn beta_of(&self, problem: usize) -> T {
        T::of(model::of_head(&self.beta, self.head_of(problem)))
    }

    /// F = β E of every state, from log Z of the posterior of [`Relative`] states.
    fn energies(&self, z: &[T], log_partition: &Array3<T>) -> Result<Vec<T>, Error> {
        let Shape { heads, queries, key_heads, query_width, .. } = self.shape;
        let half = T::of(0.5);
        let half_squares: Vec<T> = match &self.centred {
            Some(centred) => centred.half_squares(&self.states("z", z)?),
            None => {
                let memory = |p: usize| {
                    p / (queries * heads) * key_heads + self.shape.key_head(self.head_of(p))
                };
                let square = |z: &[T]| z.iter().map(|&z| z * z).sum::<T>();
                let states = z.chunks(query_width).enumerate();
                states.map(|(p, z)| half * (square(z) + self.largest_square[memory(p)])).collect()
            }
        };
        let normaliser = |p: usize| match self.prior_log_partition.as_slice() {
            [one] => *one,
            each => each[p],
        };
        let of_state = |(p, (&log_z, half_square)): (usize, (&T, T))| {
            // Where nothing is possible beforehand the normaliser is −∞ too.
            if log_z == T::neg_infinity() {
                return T::infinity();
            }
            // The large terms first: they are what nearly cancels.
            (self.beta_of(p) * half_square - log_z) + normaliser(p)
        };
        Ok(log_partition.iter().zip(half_squares).enumerate().map(of_state).collect())
    }

    /// Pulls `upstream`, a gradient of the step at z, back to z and the inputs; also the step.
    fn step_backward(
        &self,
        z: &[T],
        upstream: &[T],
        inputs: &mut InputGradients<T>,
    ) -> Result<(Vec<T>, Vec<T>), Error> {
        let relative = self.relative(z)?;
        let posterior = relative.posterior()?;
        let (_, values) = self.keys_and_values();
        let pass = posterior.pass((Mean(values), LogPartition))?;
        let gradients = pass.backward((self.states("upstream", upstream)?, None))?;
        // A pattern is both what states are compared with and what they gather.
        if let Some(v) = gradients.v() {
            inputs.add("patterns", v)?;
        }
        let pulled = self.add_gradients(gradients, inputs)?;
        let (mean, log_partition) = pass.into_answer()?;
        Ok((pulled, self.restored(mean, &log_partition)))
    }

    /// Adds the gradients that a pass over [`Relative`] states gives to `inputs`, those of averaged values
    /// apart, and returns that of the states.
    fn add_gradients(
        &self,
        gradients: Gradients<T>,
        inputs: &mut InputGradients<T>,
    ) -> Result<Vec<T>, Error> {
        gradients.parameters.iter().try_for_each(|parameter| {
            let name = match parameter.name.as_str() {
                "dot.scale" => "beta",
                other => other,
            };
            inputs.add(name, &parameter.gradient)
        })?;
        let states = match &self.centred {
            None => {
                inputs.add("patterns", &gradients.k)?;
                gradients.q
            }
            Some(centred) => {
                inputs.add("patterns", &centred.of_patterns(&gradients.k))?;
                centred.of_states(&gradients.q)
            }
        };
        Ok(states.into_raw_vec_and_offset().0)
    }
}

/// States of a network, with their posterior's scores relative to what each state's have in common. It
/// answers all questions but those about the scores themselves (log-partition, evidence, extreme scores),
/// and the values that it averages are the caller's.
pub struct Relative<'z, 'a, T: Real, P = Uniform> {
    network: &'z Hopfield<'a, T, P>,
    queries: CowArray<'z, T, Ix4>,
}

impl<T: Real, P: Prior<T>> Relative<'_, '_, T, P> {
    /// The posterior over which pattern each state goes to.
    pub fn posterior(&self) -> Result<Posterior<'_, T>, Error> {
        let (keys, _) = self.network.keys_and_values();
        self.network.model.posterior(self.queries.view(), keys)
    }
}

impl<T: Real, P: Prior<T>> Latent<T> for Hopfield<'_, T, P> {
    fn problems(&self) -> usize {
        self.shape.batch * self.shape.heads * self.shape.queries
    }
    fn width(&self) -> usize {
        self.shape.query_width
    }
    fn inputs(&self) -> InputGradients<T> {
        let own = [("patterns", self.patterns.shape()), ("beta", &[self.beta.len()])];
        let parameters = self.model.prior.parameters();
        let mut names: Vec<String> = parameters.iter().map(|p| p.name.clone()).collect();
        number_repeats(names.iter_mut().collect());
        let of_prior = names.iter().zip(&parameters);
        let of_prior = of_prior.map(|(name, p)| (name.as_str(), p.shape.as_slice()));
        InputGradients::zeros(own.into_iter().chain(of_prior))
    }
    fn free_energy(&self, z: &[T]) -> Result<Vec<T>, Error> {
        self.energies(z, &self.relative(z)?.posterior()?.ask(LogPartition)?)
    }
}

impl<T: Real, P: Prior<T>> Maximise<T> for Hopfield<'_, T, P> {
    fn maximise(&self, z: &[T]) -> Result<Evaluation<T>, Error> {
        let questions = (Mean(self.keys_and_values().1), LogPartition);
        let (mean, log_partition) = self.relative(z)?.posterior()?.ask(questions)?;
        let free_energy = self.energies(z, &log_partition)?;
        Ok(Evaluation { free_energy, next: self.restored(mean, &log_partition) })
    }
    fn maximise_backward(
        &self,
        z: &[T],
        upstream: &[T],
        inputs: &mut InputGradients<T>,
    ) -> Result<Vec<T>, Error> {
        Ok(self.step_backward(z, upstream, inputs)?.0)
    }
}

/// ∇F(z) = β (z − Xᵀ p(z)): a gradient step of size 1/β is the exact step.
impl<T: Real, P: Prior<T>> Differentiable<T> for Hopfield<'_, T, P> {
    fn gradient(&self, z: &[T]) -> Result<Evaluation<T>, Error> {
        let mut at = self.maximise(z)?;
        let width = self.width();
        for (index, (next, &z)) in at.next.iter_mut().zip(z).enumerate() {
            *next = self.beta_of(index / width) * (z - *next);
        }
        Ok(at)
    }
    fn gradient_backward(
        &self,
        z: &[T],
        upstream: &[T],
        inputs: &mut InputGradients<T>,
    ) -> Result<Vec<T>, Error> {
        let width = self.width();
        let scaled = |(index, &u): (usize, &T)| self.beta_of(index / width) * u;
        let scaled: Vec<T> = upstream.iter().enumerate().map(scaled).collect();
        let to_mean: Vec<T> = scaled.iter().map(|&u| -u).collect();
        let (pulled, mean) = self.step_backward(z, &to_mean, inputs)?;
        // β also stands before the bracket.
        let states = self.states("z", z)?;
        let mean = self.states("mean", &mean)?;
        let upstream = self.states("upstream", upstream)?;
        let mut of_beta = ndarray::Array1::zeros(self.beta.len());
        for head in 0..self.shape.heads {
            let own = |array: &ArrayView4<'_, T>| array.index_axis(Axis(1), head).to_owned();
            let gap = own(&states) - own(&mean);
            of_beta[model::head_index(self.beta.len(), head)] += (gap * own(&upstream)).sum();
        }
        inputs.add("beta", &of_beta)?;
        Ok(pulled.iter().zip(&scaled).map(|(&pulled, &scaled)| pulled + scaled).collect())
    }
}
