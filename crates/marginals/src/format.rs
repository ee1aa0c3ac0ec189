//! Code that is compiled in this crate, once for each number format.
//!
//! Generic code is compiled again in every crate that uses it. What is large stands in a `static` for
//! `f32` and one for `f64`, whose code belongs to this crate, and is found there by the format.

use std::any::Any;

/// That of the two which is of the type asked for: of `f32`, or of `f64`.
pub(crate) fn in_format<F: Copy + 'static>(
    single: &'static dyn Any,
    double: &'static dyn Any,
) -> F {
    let found = single.downcast_ref().or_else(|| double.downcast_ref());
    *found.expect("numbers are f32 or f64")
}
