//! The EM step and its backward.

use ndarray::{Array3, Array4, ArrayD, s};

use super::Mixture;
use crate::infer::collapsed::{Evaluation, InputGradients, Latent, Maximise};
use crate::infer::exact::Upstream;
use crate::potential::GaussianDensity;
use crate::prior::{Bias, LogWeights};
use crate::question::{LogPartition, Mean};
use crate::structure::EachKeyPicksOne;
use crate::{Element, Error, Model, Real};

/// z as a model reads it.
pub(super) struct State<T> {
    /// μ and σ² of every component, [B, H, K, D + V].
    pub queries: Array4<T>,
    /// log π, normalised, [B, H, K, 1].
    log_weights: Array4<T>,
    /// Which problems have a variance below its floor or no weights; harmless numbers stand in.
    pub infeasible: Vec<bool>,
}

impl<T: Real> State<T> {
    pub fn model(&self) -> Model<EachKeyPicksOne, Bias<LogWeights<'_, T>>, GaussianDensity> {
        Model::new(EachKeyPicksOne, Bias::new(self.log_weights.view()), GaussianDensity)
    }
}

/// Where the parts of one problem's z begin.
#[derive(Clone, Copy)]
struct Parts {
    components: usize,
    width: usize,
    variances: usize,
}

impl Parts {
    fn mean(&self, k: usize) -> usize {
        k * self.width
    }
    fn variance(&self, k: usize) -> usize {
        self.components * self.width + k * self.variances
    }
    fn weight(&self, k: usize) -> usize {
        self.components * (self.width + self.variances) + k
    }
}

/// Whether a component has no points: of so small a share quotients would have no digits left.
fn is_empty<T: Real>(mass: T) -> bool {
    mass.is_nan() || mass <= T::min_positive_value() / T::epsilon()
}

impl<T: Real + Element<Real = T>> Mixture<'_, T> {
    fn parts(&self) -> Parts {
        let (components, width) = (self.components, self.points.dim().3);
        Parts { components, width, variances: self.variances() }
    }

    pub(super) fn state(&self, z: &[T]) -> Result<State<T>, Error> {
        self.check_length("z", z)?;
        let parts = self.parts();
        let (batch, heads, k) = (self.points.dim().0, self.heads, self.components);
        let mut queries = Array4::ones((batch, heads, k, parts.width + parts.variances));
        let mut log_weights = Array4::zeros((batch, heads, k, 1));
        let mut infeasible = vec![false; self.problems()];
        for (problem, (own, out)) in z.chunks(self.width()).zip(&mut infeasible).enumerate() {
            let (b, key_head) = self.place(problem);
            let h = problem % heads;
            let (means, rest) = own.split_at(parts.variance(0));
            let (variances, weights) = rest.split_at(k * parts.variances);
            let given = self.given_variances.as_ref().map(|v| v.slice(s![b, h, .., ..]));
            let given: Option<Vec<T>> = given.map(|own| own.iter().copied().collect());
            let variances = given.as_deref().unwrap_or(variances);
            let given = self.given_weights.as_ref().map(|w| w.slice(s![b, h, ..]).to_vec());
            let weights = given.as_deref().unwrap_or(weights);
            let floor = self.floor.slice(s![b, key_head, ..]);
            let sum: T = weights.iter().copied().sum();
            *out = means.iter().any(|m| !m.is_finite())
                || variances
                    .iter()
                    .zip(floor.iter().cycle())
                    .any(|(v, f)| !(v >= f && v.is_finite()))
                || weights.iter().any(|&w| w.is_nan() || w < T::zero())
                || !(sum > T::zero() && sum.is_finite());
            if *out {
                continue;
            }
            for i in 0..k {
                let mut query = queries.slice_mut(s![b, h, i, ..]);
                let mean = means[i * parts.width..].iter().take(parts.width);
                let variance = variances[i * parts.variances..].iter().take(parts.variances);
                query.iter_mut().zip(mean.chain(variance)).for_each(|(q, &x)| *q = x);
                log_weights[[b, h, i, 0]] = (weights[i] / sum).ln();
            }
        }
        Ok(State { queries, log_weights, infeasible })
    }

    /// The M-step: the z that the gathered sums Σ_j r_kj (x − c, (x − c)², 1) [B, H, K, 2D + 1]
    /// lead to from `z`.
    pub(super) fn moved(&self, z: &[T], sums: &Array4<T>) -> Vec<T> {
        let parts = self.parts();
        let (d, points) = (parts.width, T::of(self.points.dim().2 as f64));
        let mut next = z.to_vec();
        for (problem, next) in next.chunks_mut(self.width()).enumerate() {
            let (b, key_head) = self.place(problem);
            let h = problem % self.heads;
            for k in 0..parts.components {
                let sums = sums.slice(s![b, h, k, ..]);
                let mass = sums[2 * d];
                let empty = is_empty(mass);
                next[parts.weight(k)] = match &self.given_weights {
                    Some(weights) => weights[[b, h, k]],
                    None if empty => T::zero(),
                    None => mass / points,
                };
                for v in 0..parts.variances {
                    let variance = &mut next[parts.variance(k) + v];
                    match &self.given_variances {
                        Some(variances) => *variance = variances[[b, h, k, v]],
                        None if empty => {}
                        None => *variance = self.variance(&sums, (b, key_head, v)).0,
                    }
                }
                if empty {
                    continue;
                }
                for i in 0..d {
                    next[parts.mean(k) + i] = self.centre[[b, key_head, i]] + sums[i] / mass;
                }
            }
        }
        next
    }

    /// Variance v of a component, and whether it stands on its floor.
    pub(super) fn variance(
        &self,
        sums: &ndarray::ArrayView1<'_, T>,
        (b, key_head, v): (usize, usize, usize),
    ) -> (T, bool) {
        let d = self.points.dim().3;
        let mass = sums[2 * d];
        let of = |i: usize| sums[d + i] / mass - (sums[i] / mass) * (sums[i] / mass);
        let variance = match self.variances() {
            // Spherical; with D = 1 the two are the same.
            1 => (0..d).map(of).sum::<T>() / T::of(d as f64),
            _ => of(v),
        };
        let floor = self.floor[[b, key_head, v]];
        let variance = variance + self.regularisation;
        (variance.max(floor), variance < floor)
    }

    /// F of every problem, from the log-density of every point.
    fn energies(&self, log_density: Array3<T>, state: &State<T>) -> Vec<T> {
        let of_problem = log_density.into_shape_with_order((self.problems(), self.points.dim().2));
        let of_problem = of_problem.expect("a log-density per point");
        let energy = |(own, &out): (ndarray::ArrayView1<'_, T>, &bool)| match out {
            true => T::infinity(),
            false => T::of(-own.iter().map(|x| x.f64()).sum::<f64>()),
        };
        of_problem.rows().into_iter().zip(&state.infeasible).map(energy).collect()
    }

    /// From the gradient of the next z to that of the gathered sums. What does not move with them
    /// goes back to `of_z`: the mean and variance of a component without points, and given
    /// variances and weights.
    fn moved_backward(
        &self,
        sums: &Array4<T>,
        upstream: &[T],
        state: &State<T>,
        of_z: &mut [T],
    ) -> Array4<T> {
        let parts = self.parts();
        let d = parts.width;
        let points = T::of(self.points.dim().2 as f64);
        let mut of_sums = Array4::zeros(sums.raw_dim());
        let own = upstream.chunks(self.width()).zip(of_z.chunks_mut(self.width()));
        for (problem, (u, of_z)) in own.enumerate() {
            if state.infeasible[problem] {
                continue;
            }
            let (b, key_head) = self.place(problem);
            for k in 0..parts.components {
                let place = s![b, problem % self.heads, k, ..];
                let (sums, mut into) = (sums.slice(place), of_sums.slice_mut(place));
                let mass = sums[2 * d];
                let empty = is_empty(mass);
                if self.given_weights.is_some() {
                    of_z[parts.weight(k)] = u[parts.weight(k)];
                } else if !empty {
                    into[2 * d] += u[parts.weight(k)] / points;
                }
                for i in 0..d {
                    let index = parts.mean(k) + i;
                    if empty {
                        of_z[index] = u[index];
                        continue;
                    }
                    let g = u[index] / mass;
                    into[i] += g;
                    into[2 * d] -= g * sums[i] / mass;
                }
                for v in 0..parts.variances {
                    let index = parts.variance(k) + v;
                    if empty || self.given_variances.is_some() {
                        of_z[index] = u[index];
                        continue;
                    }
                    // On its floor a variance does not move.
                    if self.variance(&sums, (b, key_head, v)).1 {
                        continue;
                    }
                    let (own, share) = match parts.variances {
                        1 => (0..d, T::one() / T::of(d as f64)),
                        _ => (v..v + 1, T::one()),
                    };
                    let g = u[index] * share / mass;
                    for i in own {
                        let mean = sums[i] / mass;
                        into[d + i] += g;
                        into[i] -= (g + g) * mean;
                        into[2 * d] += g * ((mean + mean) * mean - sums[d + i] / mass);
                    }
                }
            }
        }
        of_sums
    }

    /// Moves the gradient of given variances and weights from that of z to the inputs.
    fn hand_over_given(&self, of_z: &mut [T], inputs: &mut InputGradients<T>) {
        let parts = self.parts();
        let (variances, weights) = (parts.variance(0), parts.weight(0));
        let mut take = |name: &str, from: usize, to: usize| {
            let mut taken = Vec::new();
            for own in of_z.chunks_mut(self.width()) {
                taken.extend_from_slice(&own[from..to]);
                own[from..to].fill(T::zero());
            }
            let shape = inputs.get(name).map(|input| input.raw_dim());
            if let Some(taken) = shape.and_then(|s| ArrayD::from_shape_vec(s, taken).ok()) {
                inputs.add(name, &taken);
            }
        };
        if self.given_variances.is_some() {
            take("variances", variances, weights);
        }
        if self.given_weights.is_some() {
            take("weights", weights, self.width());
        }
    }
}

impl<T: Real + Element<Real = T>> Latent<T> for Mixture<'_, T> {
    fn problems(&self) -> usize {
        self.points.dim().0 * self.heads
    }
    fn width(&self) -> usize {
        self.parts().weight(self.components)
    }
    fn inputs(&self) -> InputGradients<T> {
        let mut inputs = vec![("points", self.points.shape())];
        inputs.extend(self.given_variances.iter().map(|given| ("variances", given.shape())));
        inputs.extend(self.given_weights.iter().map(|given| ("weights", given.shape())));
        InputGradients::zeros(inputs)
    }
    fn free_energy(&self, z: &[T]) -> Result<Vec<T>, Error> {
        let state = self.state(z)?;
        let model = state.model();
        let posterior = model.posterior(state.queries.view(), self.points.reborrow())?;
        Ok(self.energies(posterior.ask(LogPartition)?, &state))
    }
}

impl<T: Real + Element<Real = T>> Maximise<T> for Mixture<'_, T> {
    fn maximise(&self, z: &[T]) -> Result<Evaluation<T>, Error> {
        let state = self.state(z)?;
        let model = state.model();
        let posterior = model.posterior(state.queries.view(), self.points.reborrow())?;
        let (sums, log_density) = posterior.ask((Mean(self.gathered.view()), LogPartition))?;
        let free_energy = self.energies(log_density, &state);
        let mut next = self.moved(z, &sums);
        let width = self.width();
        for problem in (0..self.problems()).filter(|&p| state.infeasible[p]) {
            next[problem * width..][..width].copy_from_slice(&z[problem * width..][..width]);
        }
        Ok(Evaluation { free_energy, next })
    }
    fn maximise_backward(
        &self,
        z: &[T],
        upstream: &[T],
        inputs: &mut InputGradients<T>,
    ) -> Result<Vec<T>, Error> {
        self.check_length("upstream", upstream)?;
        let state = self.state(z)?;
        let model = state.model();
        let posterior = model.posterior(state.queries.view(), self.points.reborrow())?;
        let question = Mean(self.gathered.view());
        let pass = posterior.pass(&question)?;
        let sums = pass.answer(&question)?;
        let mut of_z = vec![T::zero(); z.len()];
        let of_sums = self.moved_backward(&sums, upstream, &state, &mut of_z);
        let gradients =
            pass.backward(&Upstream { mean: Some(of_sums.view()), ..Upstream::default() })?;

        let parts = self.parts();
        let of_log_weights = gradients.parameter("bias").expect("the weights are a bias");
        for (problem, (of_z, z)) in
            of_z.chunks_mut(self.width()).zip(z.chunks(self.width())).enumerate()
        {
            if state.infeasible[problem] {
                continue;
            }
            let (b, h) = (problem / self.heads, problem % self.heads);
            let own = gradients.q.slice(s![b, h, .., ..]);
            for (k, query) in own.rows().into_iter().enumerate() {
                let (mean, variance) = (parts.mean(k), parts.variance(k));
                let into = (mean..mean + parts.width).chain(variance..variance + parts.variances);
                into.zip(query).for_each(|(index, &g)| of_z[index] += g);
                // Responsibilities do not change where all log-weights do: no sum to account for.
                let weight = match &self.given_weights {
                    Some(weights) => weights[[b, h, k]],
                    None => z[parts.weight(k)],
                };
                if weight > T::zero() {
                    of_z[parts.weight(k)] += of_log_weights[[b, h, k, 0]] / weight;
                }
            }
        }
        self.hand_over_given(&mut of_z, inputs);
        // The values hold the points too, once as they are and once squared.
        let d = parts.width;
        let of_values = gradients.v.expect("a mean has a gradient in its values");
        let away = self.gathered.slice(s![.., .., .., ..d]);
        let of_squares = &of_values.slice(s![.., .., .., d..2 * d]) * &away;
        let of_points =
            gradients.k + of_values.slice(s![.., .., .., ..d]) + &of_squares + &of_squares;
        inputs.add("points", &of_points);
        Ok(of_z)
    }
}
