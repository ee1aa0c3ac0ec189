//! Layers whose attention is any model: `Config → init → forward`.

mod attention;
pub(crate) mod block_maps;
pub(crate) mod block_slots;
mod byte_lm;
mod expanding;
mod graph;
mod graph_attention;
mod last_posterior;
mod learned;
pub(crate) mod norm;
pub(crate) mod perceiver;
mod projections;
pub(crate) mod slots;
mod transformer_block;
mod walk;

pub use attention::{Attention, AttentionConfig};
pub use block_maps::{BlockGru, BlockLinear};
pub use block_slots::{BlockSlotAttention, BlockSlotAttentionConfig, PrototypeMemory};
pub(crate) use byte_lm::cross_entropy;
pub use byte_lm::{ByteLm, ByteLmConfig, Positions};
pub use expanding::{Expanding, ExpandingConfig};
pub use graph::Graph;
pub use graph_attention::{Combine, GraphAttention, GraphAttentionConfig, GraphAttentionKind};
pub use last_posterior::LastPosterior;
pub use learned::Learned;
pub use norm::Norm;
pub use perceiver::{
    Classify, FeedForward, FeedForwardActivation, MultiHead, Perceiver, PerceiverBlock,
    PerceiverConfig, SelfAttention, Sharing,
};
pub use projections::Projections;
pub use slots::{Competition, GatedUpdate, SlotAttention, SlotAttentionConfig, SlotUpdate};
pub use transformer_block::{TransformerBlock, TransformerBlockConfig};
pub use walk::{Multihop, MultihopConfig};
