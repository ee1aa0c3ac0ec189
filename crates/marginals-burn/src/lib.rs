//! `marginals` on Burn: posteriors as operations, as layers, and inside pretrained transformers.
//!
//! - [`ops::Posterior`] answers any differentiable questions of any model as one node on Burn's tape.
//! - The [`modules`] are layers of it: attention, walks, expanding windows, graphs, a transformer block
//!   and a language model over bytes, which [`train`] trains; [`slots`], [`block_slots`] and
//!   [`perceiver`] iterate.
//! - [`Pretrained`] reads transformers that others have trained.
//!
//! # Pretrained transformers
//!
//! [`Pretrained::open`] reads a BERT or a Llama (a Hugging Face style folder, or a GGUF file) and
//! its tokenizer. The linear maps, normalisations and embeddings are Burn's, on its plain CPU
//! backend; attention is not: each layer's queries, keys and values go to an [`Attend`], which
//! asks the posterior what it wants to know and returns its mean. No N × N matrix exists anywhere.
//!
//! Files are not trusted: every count, shape and offset is checked against the file before memory
//! is taken for it, and what cannot be true is a [`ModelError`] that says so.

pub mod attention;
pub mod bert;
pub mod block;
pub mod block_slots;
pub mod byte_lm;
mod caught;
pub mod checkpoint;
mod error;
pub mod llama;
pub mod modules;
pub mod norm;
pub mod ops;
pub mod perceiver;
mod pretrained;
mod sizes;
pub mod slots;
mod tensors;
pub mod tokens;
pub mod train;
pub mod weights;

pub use attention::{Attend, Layer, PosteriorMean, Visible};
pub use block_slots::{BlockSlotAttention, BlockSlotAttentionConfig};
pub use byte_lm::TrainedByteLm;
pub use error::ModelError;
pub use modules::{
    Attention, AttentionConfig, ByteLm, ByteLmConfig, Combine, Expanding, ExpandingConfig, Graph,
    GraphAttention, GraphAttentionConfig, GraphAttentionKind, Multihop, MultihopConfig, Positions,
    Projections, TransformerBlock, TransformerBlockConfig,
};
pub use perceiver::{Perceiver, PerceiverConfig};
pub use pretrained::{Pretrained, Transformer};
pub use slots::{SlotAttention, SlotAttentionConfig, SlotUpdate};
pub use tokens::{TextTokenizer, Tokens};
