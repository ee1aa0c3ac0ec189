//! Attention as exact posterior inference over the edges of a latent graph.
