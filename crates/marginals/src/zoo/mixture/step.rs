//! The EM step and its backward.

use std::ops::Range;

use ndarray::{Array4, ArrayD, s};

use super::expectation::energies;
use super::moments::{Component, Moments, OfMoments};
use super::state::State;
use super::{Covariance, Mixture};
use crate::infer::collapsed::{Evaluation, InputGradients, Latent, Maximise};
use crate::question::LogPartition;
use crate::{Element, Error, Real};

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
fn is_empty<T: Real>(mass: f64) -> bool {
    mass.is_nan() || mass <= (T::min_positive_value() / T::epsilon()).f64()
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

    /// The M-step: the z that the moments of every component lead to from `z`.
    pub(super) fn moved(&self, z: &[T], moments: &Moments) -> Vec<T> {
        let parts = self.parts();
        let points = self.points.dim().2 as f64;
        let mut next = z.to_vec();
        for (problem, next) in next.chunks_mut(self.width()).enumerate() {
            let (b, key_head) = self.place(problem);
            let h = problem % self.heads;
            for k in 0..parts.components {
                let moments = moments.component(problem * parts.components + k);
                let empty = is_empty::<T>(moments.mass);
                next[parts.weight(k)] = match &self.given_weights {
                    Some(weights) => weights[[b, h, k]],
                    None if empty => T::zero(),
                    None => T::of(moments.mass / points),
                };
                for v in 0..parts.variances {
                    let variance = &mut next[parts.variance(k) + v];
                    match &self.given_variances {
                        Some(variances) => *variance = variances[[b, h, k, v]],
                        None if empty => {}
                        None => *variance = self.variance(moments, (b, key_head, v)).0,
                    }
                }
                if !empty {
                    let means = next[parts.mean(k)..].iter_mut().zip(moments.mean);
                    means.for_each(|(next, &mean)| *next = T::of(mean));
                }
            }
        }
        next
    }

    /// Coordinates that variance v of a component is the mean of.
    fn coordinates(&self, v: usize) -> Range<usize> {
        match self.covariance {
            Covariance::Spherical => 0..self.points.dim().3,
            Covariance::Diagonal => v..v + 1,
        }
    }

    /// Variance v of a component, and whether the floor is above what its points ask for.
    pub(super) fn variance(
        &self,
        moments: Component<'_>,
        (b, key_head, v): (usize, usize, usize),
    ) -> (T, bool) {
        let own = self.coordinates(v);
        let width = own.len() as f64;
        let variance = T::of(own.map(|d| moments.variance(d)).sum::<f64>() / width);
        let floor = self.floor[[b, key_head, v]];
        let variance = variance + self.regularisation;
        (variance.max(floor), variance < floor)
    }

    /// F of every problem; +∞ outside the bounds.
    fn bounded(&self, energies: Vec<f64>, state: &State<T>) -> Vec<T> {
        let energy = |(sum, &out): (f64, &bool)| if out { T::infinity() } else { T::of(sum) };
        energies.into_iter().zip(&state.infeasible).map(energy).collect()
    }

    /// From the gradient of the next z to that of the moments. What does not move with them goes
    /// back to `of_z`: the mean and variance of a component without points, and given variances and
    /// weights.
    fn moved_backward(
        &self,
        moments: &Moments,
        upstream: &[T],
        state: &State<T>,
        of_z: &mut [T],
    ) -> Vec<Option<OfMoments<T>>> {
        let parts = self.parts();
        let points = T::of(self.points.dim().2 as f64);
        let mut of_moments = Vec::new();
        let own = upstream.chunks(self.width()).zip(of_z.chunks_mut(self.width()));
        for (problem, (u, of_z)) in own.enumerate() {
            let (b, key_head) = self.place(problem);
            for k in 0..parts.components {
                let moments = moments.component(problem * parts.components + k);
                let (mean, variance, weight) = (parts.mean(k), parts.variance(k), parts.weight(k));
                if state.infeasible[problem] {
                    of_moments.push(None);
                    continue;
                }
                let empty = is_empty::<T>(moments.mass);
                if self.given_weights.is_some() {
                    of_z[weight] = u[weight];
                }
                let means = mean..mean + parts.width;
                let variances = variance..variance + parts.variances;
                if empty || self.given_variances.is_some() {
                    of_z[variances.clone()].copy_from_slice(&u[variances.clone()]);
                }
                if empty {
                    of_z[means.clone()].copy_from_slice(&u[means]);
                    of_moments.push(None);
                    continue;
                }
                let mut of = OfMoments {
                    mass: match self.given_weights {
                        Some(_) => T::zero(),
                        None => u[weight] / points,
                    },
                    mean: u[means].to_vec(),
                    variance: vec![T::zero(); parts.width],
                };
                for v in (0..parts.variances).filter(|_| self.given_variances.is_none()) {
                    // On its floor a variance does not move.
                    if !self.variance(moments, (b, key_head, v)).1 {
                        let own = self.coordinates(v);
                        let share = u[variance + v] / T::of(own.len() as f64);
                        of.variance[own].fill(share);
                    }
                }
                of_moments.push(Some(of));
            }
        }
        of_moments
    }

    /// Moves the gradient of given variances and weights from that of z to the inputs.
    fn hand_over_given(&self, of_z: &mut [T], inputs: &mut InputGradients<T>) -> Result<(), Error> {
        let parts = self.parts();
        let (variances, weights) = (parts.variance(0), parts.weight(0));
        let mut take = |name: &str, from: usize, to: usize| -> Result<(), Error> {
            let mut taken = Vec::new();
            for own in of_z.chunks_mut(self.width()) {
                taken.extend_from_slice(&own[from..to]);
                own[from..to].fill(T::zero());
            }
            let shape = inputs.get(name).map(|input| input.raw_dim());
            match shape.and_then(|s| ArrayD::from_shape_vec(s, taken).ok()) {
                Some(taken) => inputs.add(name, &taken),
                None => Ok(()),
            }
        };
        if self.given_variances.is_some() {
            take("variances", variances, weights)?;
        }
        if self.given_weights.is_some() {
            take("weights", weights, self.width())?;
        }
        Ok(())
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
        let posterior = model.posterior(state.queries.view(), self.points.view())?;
        Ok(self.bounded(energies(&posterior.ask(LogPartition)?), &state))
    }
}

impl<T: Real + Element<Real = T>> Maximise<T> for Mixture<'_, T> {
    fn maximise(&self, z: &[T]) -> Result<Evaluation<T>, Error> {
        let state = self.state(z)?;
        let gathered = self.gather(&state)?;
        let free_energy = self.bounded(gathered.energies, &state);
        let mut next = self.moved(z, &gathered.moments);
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
        let gathered = self.gather(&state)?;
        let mut of_z = vec![T::zero(); z.len()];
        let of_moments = self.moved_backward(&gathered.moments, upstream, &state, &mut of_z);
        let gradients = self.gather_backward(&state, &gathered, &of_moments)?;

        let parts = self.parts();
        for (problem, (of_z, z)) in
            of_z.chunks_mut(self.width()).zip(z.chunks(self.width())).enumerate()
        {
            if state.infeasible[problem] {
                continue;
            }
            let (b, h) = (problem / self.heads, problem % self.heads);
            let own = gradients.queries.slice(s![b, h, .., ..]);
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
                    of_z[parts.weight(k)] += gradients.log_weights[[b, h, k]] / weight;
                }
            }
        }
        self.hand_over_given(&mut of_z, inputs)?;
        inputs.add("points", &gradients.points)?;
        Ok(of_z)
    }
}
