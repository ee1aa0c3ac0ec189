//! Numbers that parts hold, and where they may lie.

use ndarray::ArrayD;

use super::per_head::{PerHead, check_per_head};
use crate::{Error, Shape};

/// Where a number may lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Domain {
    /// Anywhere.
    Real,
    /// Above 0.
    Positive,
    /// At or above 0.
    NotNegative,
    /// In [0, 1).
    UnitInterval,
}

impl Domain {
    fn contains(self, x: f64) -> bool {
        match self {
            Self::Real => x.is_finite(),
            Self::Positive => x.is_finite() && x > 0.0,
            Self::NotNegative => x.is_finite() && x >= 0.0,
            Self::UnitInterval => (0.0..1.0).contains(&x),
        }
    }

    /// Refuses numbers outside.
    ///
    /// # Errors
    /// [`Error::Value`] under `name`.
    pub fn check(self, name: &str, values: &[f64]) -> Result<(), Error> {
        let expected = match self {
            Self::Real => "a finite number",
            Self::Positive => "a positive, finite number",
            Self::NotNegative => "a finite number of at least 0",
            Self::UnitInterval => "a number in [0, 1)",
        };
        match values.iter().find(|x| !self.contains(**x)) {
            None => Ok(()),
            Some(x) => Err(Error::value(name, expected, x)),
        }
    }

    /// The coordinate without bounds of a number inside, which is where an optimiser moves: x, log x
    /// or log(x / (1 − x)). Infinite on the edge of the range, which an optimiser cannot leave.
    pub fn unbounded(self, x: f64) -> f64 {
        match self {
            Self::Real => x,
            Self::Positive | Self::NotNegative => x.ln(),
            Self::UnitInterval => (x / (1.0 - x)).ln(),
        }
    }
}

/// An array of numbers that a part holds.
pub trait Values {
    /// Its shape, that of its gradient.
    fn shape(&self) -> Vec<usize>;

    /// The numbers in row-major order; none where they have not been [settled](super::part::Part::settle).
    fn values(&self) -> &[f64];

    /// Whether the part holds these numbers as it is set.
    fn is_there(&self) -> bool {
        true
    }

    /// Puts others in their place.
    ///
    /// # Errors
    /// [`Error::Shape`] under `name`.
    fn replace(&mut self, name: &str, values: ArrayD<f64>) -> Result<(), Error>;

    /// Refuses sizes that do not fit.
    ///
    /// # Errors
    /// [`Error::Shape`] under `name`.
    fn check(&self, name: &str, shape: &Shape) -> Result<(), Error>;
}

/// Numbers that a part does not hold as it is set.
#[derive(Clone, Copy, Debug)]
pub struct Absent;

impl Values for Absent {
    fn shape(&self) -> Vec<usize> {
        vec![0]
    }
    fn values(&self) -> &[f64] {
        &[]
    }
    fn is_there(&self) -> bool {
        false
    }
    fn replace(&mut self, name: &str, values: ArrayD<f64>) -> Result<(), Error> {
        Err(Error::shape(name, "absent", values.shape(), "The part is set otherwise."))
    }
    fn check(&self, _name: &str, _shape: &Shape) -> Result<(), Error> {
        Ok(())
    }
}

impl Values for PerHead {
    fn shape(&self) -> Vec<usize> {
        vec![PerHead::values(self).len()]
    }
    fn values(&self) -> &[f64] {
        PerHead::values(self)
    }
    fn replace(&mut self, _name: &str, values: ArrayD<f64>) -> Result<(), Error> {
        *self = Self::Each(values.into_iter().collect());
        Ok(())
    }
    fn check(&self, name: &str, shape: &Shape) -> Result<(), Error> {
        check_per_head(name, PerHead::values(self), shape)
    }
}

/// Numbers with a default that depends on the sizes; absent until then.
impl Values for Option<PerHead> {
    fn shape(&self) -> Vec<usize> {
        self.as_ref().map_or_else(|| vec![0], Values::shape)
    }
    fn values(&self) -> &[f64] {
        self.as_ref().map_or(&[], PerHead::values)
    }
    fn replace(&mut self, _name: &str, values: ArrayD<f64>) -> Result<(), Error> {
        *self = Some(PerHead::Each(values.into_iter().collect()));
        Ok(())
    }
    fn check(&self, name: &str, shape: &Shape) -> Result<(), Error> {
        match self {
            Some(numbers) => numbers.check(name, shape),
            None => Err(Error::value(name, "a number, or one per head", "absent")),
        }
    }
}
