//! z as tensors.

use ndarray::{Array3, Array4, ArrayView4, Axis, s};

use super::Mixture;
use crate::infer::collapsed::Latent;
use crate::{Element, Error, Real, refuse_nan};

/// Parameters that z holds, as tensors: for every (batch, head) K components.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameters<T> {
    /// μ, [B, H, K, D].
    pub means: Array4<T>,
    /// σ², [B, H, K, V]; V is 1 for spherical components and D for diagonal ones.
    pub variances: Array4<T>,
    /// π, [B, H, K].
    pub weights: Array3<T>,
}

impl<T: Real + Element<Real = T>> Mixture<'_, T> {
    /// Shapes of means, variances and weights.
    fn shapes(&self) -> ([usize; 4], [usize; 4], [usize; 3]) {
        let (batch, .., width) = self.points.dim();
        let (heads, k) = (self.heads, self.components);
        ([batch, heads, k, width], [batch, heads, k, self.variances()], [batch, heads, k])
    }

    /// z of some parameters. Refuses wrong shapes, NaN, variances below the floor and weights that
    /// are negative or all 0. Given variances and weights take the place of those here.
    pub fn pack(&self, parameters: &Parameters<T>) -> Result<Vec<T>, Error> {
        self.check_means(&parameters.means.view())?;
        let means = self.counted(&parameters.means.view());
        let variances = self.given_variances.as_ref().unwrap_or(&parameters.variances);
        let weights = self.given_weights.as_ref().unwrap_or(&parameters.weights);
        self.check_variances(variances)?;
        self.check_weights(weights)?;
        let mut z = Vec::with_capacity(self.problems() * self.width());
        for problem in 0..self.problems() {
            let (b, h) = (problem / self.heads, problem % self.heads);
            z.extend(means.slice(s![b, h, .., ..]));
            z.extend(variances.slice(s![b, h, .., ..]));
            z.extend(weights.slice(s![b, h, ..]));
        }
        Ok(z)
    }

    pub(super) fn check_means(&self, means: &ArrayView4<'_, T>) -> Result<(), Error> {
        check_shape("means", &self.shapes().0, means.shape())?;
        refuse_nan("means", means)
    }

    /// Means counted from the origin.
    pub(super) fn counted(&self, means: &ArrayView4<'_, T>) -> Array4<T> {
        let mut counted = means.to_owned();
        for ((b, h, _, d), mean) in counted.indexed_iter_mut() {
            *mean -= self.origin[[b, self.place(b * self.heads + h).1, d]];
        }
        counted
    }

    pub(super) fn check_variances(&self, variances: &Array4<T>) -> Result<(), Error> {
        check_shape("variances", &self.shapes().1, variances.shape())?;
        refuse_nan("variances", &variances.view())?;
        for ((b, h, _, v), &variance) in variances.indexed_iter() {
            let (_, key_head) = self.place(b * self.heads + h);
            let floor = self.floor[[b, key_head, v]];
            if variance < floor || !variance.is_finite() {
                let expected = format!("finite numbers at the floor, {floor}, or above");
                return Err(Error::value("variances", expected, variance));
            }
        }
        Ok(())
    }

    pub(super) fn check_weights(&self, weights: &Array3<T>) -> Result<(), Error> {
        check_shape("weights", &self.shapes().2, weights.shape())?;
        refuse_nan("weights", &weights.view().insert_axis(Axis(3)))?;
        for own in weights.rows() {
            let sum: T = own.iter().copied().sum();
            if own.iter().any(|&w| w < T::zero()) || !(sum > T::zero() && sum.is_finite()) {
                let expected = "numbers of at least 0 with a positive, finite sum";
                return Err(Error::value("weights", expected, own));
            }
        }
        Ok(())
    }

    /// The parameters that z holds.
    pub fn unpack(&self, z: &[T]) -> Result<Parameters<T>, Error> {
        self.check_length("z", z)?;
        let (of_means, of_variances, of_weights) = self.shapes();
        let (means, rest) = (of_means[2] * of_means[3], of_variances[2] * of_variances[3]);
        let part = |from: usize, to: usize| -> Vec<T> {
            z.chunks(self.width()).flat_map(|own| own[from..to].iter().copied()).collect()
        };
        let (variances, weights) = (part(means, means + rest), part(means + rest, self.width()));
        let shaped = "as many numbers as the length says";
        let mut means = Array4::from_shape_vec(of_means, part(0, means)).expect(shaped);
        for ((b, h, _, d), mean) in means.indexed_iter_mut() {
            *mean += self.origin[[b, self.place(b * self.heads + h).1, d]];
        }
        Ok(Parameters {
            means,
            variances: Array4::from_shape_vec(of_variances, variances).expect(shaped),
            weights: Array3::from_shape_vec(of_weights, weights).expect(shaped),
        })
    }

    pub(super) fn check_length(&self, name: &str, z: &[T]) -> Result<(), Error> {
        let (problems, width) = (self.problems(), self.width());
        if z.len() == problems * width {
            return Ok(());
        }
        Err(Error::shape(
            name,
            format!("[{}]: {problems} problems of {width} numbers", problems * width),
            &[z.len()],
            "`Mixture::pack` makes it from means, variances and weights.",
        ))
    }
}

fn check_shape(name: &str, expected: &[usize], found: &[usize]) -> Result<(), Error> {
    if expected == found {
        return Ok(());
    }
    let advice = "B and H are those of the mixture, K its components.";
    Err(Error::shape(name, format!("{expected:?}"), found, advice))
}
