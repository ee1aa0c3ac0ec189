//! What every configuration refuses.

use marginals::Error;

/// Refuses a size of 0.
pub(crate) fn at_least_one(name: &str, size: usize) -> Result<(), Error> {
    match size {
        0 => Err(Error::value(name, "at least 1", 0)),
        _ => Ok(()),
    }
}

/// Refuses an ε that no normalisation can use.
pub(crate) fn check_norm_epsilon(epsilon: f64) -> Result<(), Error> {
    match epsilon.is_finite() && epsilon > 0.0 {
        true => Ok(()),
        false => Err(Error::value("norm_epsilon", "a finite number above 0", epsilon)),
    }
}

/// Refuses `parts` that do not divide `whole`.
pub(crate) fn check_divides(name: &str, parts: usize, of: &str, whole: usize) -> Result<(), Error> {
    at_least_one(name, parts)?;
    match whole % parts {
        0 => Ok(()),
        _ => Err(Error::value(name, format!("a divisor of {of} = {whole}"), parts)),
    }
}

/// Numbers per head: those asked for, or `width` (the setting `of`) shared out among the heads.
pub(crate) fn head_width(
    asked: Option<usize>,
    heads: usize,
    of: &str,
    width: usize,
) -> Result<usize, Error> {
    at_least_one("heads", heads)?;
    match asked {
        Some(asked) => at_least_one("head_width", asked).map(|()| asked),
        None => check_divides("heads", heads, of, width).map(|()| width / heads),
    }
}
