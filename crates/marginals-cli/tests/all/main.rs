//! The `marginals` binary from the outside, in one program: what the tests share is compiled once.

mod audit;
mod audit_bad_input;
mod audit_compiled;
mod audit_heads;
mod audit_reference;
mod audit_texts;
mod common;
mod destinations;
mod explain;
mod hostile;
mod infer;
mod inputs;
mod mechanisms;
mod model_names;
mod modules;
mod narrow;
mod overlap;
mod reproduce;
mod sessions;
mod terminal;
mod train;
mod weights;
mod words;
