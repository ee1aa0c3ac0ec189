//! Everything the library promises, in one program: what the tests share is compiled once.

mod ask;
mod contract;
mod coupled;
mod cross_entropy;
mod expanding;
mod expected_of;
mod hopfield;
mod large_scores;
mod misuse;
mod mixture;
mod pairs;
mod predictive_coding;
mod prior;
mod questions;
mod recorded;
mod rotary;
mod shared_values;
mod slots;
mod torch_agreement;
mod truncated;
mod walk;
mod zoo;
