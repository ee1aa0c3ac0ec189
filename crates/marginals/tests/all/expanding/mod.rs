//! Expanding attention against enumeration, quadrature, dense twins and finite differences.

mod case;
mod certificate;
mod errors;
mod exact;
mod gradients;
mod mean_field;
mod windows;
