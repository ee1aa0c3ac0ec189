//! Everything the Burn side promises, in one program: what the tests share is compiled once.

mod block_slots;
mod common;
mod dense;
mod edge_sets;
mod effects;
mod empty_axes;
mod families;
mod families_files;
mod gguf;
mod gguf_tokenizers;
mod graph_attention;
mod last_posterior;
mod llama_files;
mod modules;
mod operations;
mod perceiver;
mod posterior;
mod pretrained;
mod slots;
mod token_places;
