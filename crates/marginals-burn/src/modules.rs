//! Layers whose attention is any model: `Config → init → forward`.

mod attention;
mod block;
mod byte_lm;
mod expanding;
mod graph;
mod graph_attention;
mod learned;
mod multihop;
mod projections;

pub use attention::{Attention, AttentionConfig};
pub use block::{TransformerBlock, TransformerBlockConfig};
pub(crate) use byte_lm::cross_entropy;
pub use byte_lm::{ByteLm, ByteLmConfig, Positions};
pub use expanding::{Expanding, ExpandingConfig};
pub use graph::Graph;
pub use graph_attention::{Combine, GraphAttention, GraphAttentionConfig, GraphAttentionKind};
pub use learned::Learned;
pub use multihop::{Multihop, MultihopConfig};
pub use projections::Projections;
