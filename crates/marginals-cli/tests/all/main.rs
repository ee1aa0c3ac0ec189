//! The `marginals` binary from the outside, in one program: what the tests share is compiled once.

mod audit;
mod audit_bad_input;
mod common;
mod explain;
mod infer;
mod mechanisms;
mod modules;
mod reproduce;
mod train;
