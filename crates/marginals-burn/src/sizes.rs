//! Sizes that every configuration refuses.

use burn::tensor::Tensor;
use marginals::Error;

/// Refuses a size of 0.
pub(crate) fn at_least_one(name: &str, size: usize) -> Result<(), Error> {
    match size {
        0 => Err(Error::value(name, "at least 1", 0)),
        _ => Ok(()),
    }
}

/// Width that no module has; sizes below it can be multiplied.
pub(crate) const WIDEST: usize = 1 << 24;

/// Refinements and layers that nobody waits for.
pub(crate) const MOST_REPEATED: usize = 1 << 16;

/// Refuses a width of 0, and one that no module has.
pub(crate) fn check_width(name: &str, width: usize) -> Result<(), Error> {
    at_least_one(name, width)?;
    at_most(name, width, WIDEST)
}

/// Refuses to repeat nothing, or without end.
pub(crate) fn check_repeated(name: &str, times: usize) -> Result<(), Error> {
    at_least_one(name, times)?;
    at_most(name, times, MOST_REPEATED)
}

/// Refuses a size above `most`.
fn at_most(name: &str, size: usize, most: usize) -> Result<(), Error> {
    match size > most {
        true => Err(Error::value(name, format!("at most {most}"), size)),
        false => Ok(()),
    }
}

/// Refuses a tensor without entries: the products of the backend read memory that is not there.
pub(crate) fn refuse_empty(
    argument: &str,
    shape: &[usize],
    expected: impl Into<String>,
) -> Result<(), Error> {
    match shape.contains(&0) {
        true => Err(Error::shape(
            argument,
            format!("{}, all of them at least 1", expected.into()),
            shape,
            "There is nothing in it; leave the call out.",
        )),
        false => Ok(()),
    }
}

/// Refuses rows, `[B, axis, width]`, of which there are none or which have another width.
pub(crate) fn check_rows(
    argument: &str,
    rows: &Tensor<3>,
    axis: &str,
    width: usize,
) -> Result<(), Error> {
    let (found, expected) = (rows.dims(), format!("[B, {axis}, {width}]"));
    refuse_empty(argument, &found, expected.as_str())?;
    match found[2] == width {
        true => Ok(()),
        false => Err(Error::shape(
            argument,
            expected,
            &found,
            "Its last axis is the width that the module was made for.",
        )),
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
