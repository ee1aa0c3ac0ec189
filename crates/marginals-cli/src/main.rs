//! The `marginals` binary.
fn main() {}
