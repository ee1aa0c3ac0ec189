//! `marginals` on Burn: posteriors as operations, as layers, and inside pretrained transformers.
//!
//! - [`ops::Posterior`] answers any differentiable questions of any model as one node on Burn's tape.
//! - The [`modules`] are layers of it: attention, walks, expanding windows, graphs, slots, Perceivers, a
//!   transformer block and a language model over bytes, which [`train`] trains.
//! - [`Pretrained`] reads transformers that others have trained, from the files of [`checkpoint`].
//!
//! # Pretrained transformers
//!
//! [`Pretrained::open`] reads an encoder or a decoder of one of the [`families`](pretrained::families) (a
//! folder as Hugging Face's libraries save it, or a GGUF file) and its tokenizer. The linear maps, normalisations and embeddings are Burn's, on its plain CPU
//! backend; attention is not: each layer's queries, keys and values go to an [`Attend`], which
//! asks the posterior what it wants to know and returns its mean. No N × N matrix exists anywhere.
//!
//! Files are not trusted: every count, shape and offset is checked against the file before memory
//! is taken for it, and what cannot be true is a [`ModelError`] that says so.

mod caught;
pub mod checkpoint;
mod error;
pub mod modules;
pub mod ops;
pub mod pretrained;
mod sizes;
mod tensors;
pub mod train;

pub use error::ModelError;
pub use modules::{
    Attention, AttentionConfig, BlockSlotAttention, BlockSlotAttentionConfig, ByteLm, ByteLmConfig,
    Combine, Expanding, ExpandingConfig, Graph, GraphAttention, GraphAttentionConfig,
    GraphAttentionKind, LastPosterior, Multihop, MultihopConfig, Perceiver, PerceiverConfig,
    Positions, Projections, SlotAttention, SlotAttentionConfig, SlotUpdate, TransformerBlock,
    TransformerBlockConfig,
};
pub use pretrained::attend::{Attend, Layer, PosteriorMean, Visible};
pub use pretrained::tokens::{TextTokenizer, Tokens};
pub use pretrained::trained_byte_lm::TrainedByteLm;
pub use pretrained::{Pretrained, Transformer};
