//! Perceiver: latents are queries; its weights live in `marginals_burn::Perceiver`.

use super::Mechanism;

/// Perceiver.
pub const MECHANISM: Mechanism = Mechanism {
    name: "perceiver",
    title: "Perceiver: a few latents look at many inputs, and think in between",
    structure: "each-query-picks-one: latents pick inputs, then latents",
    prior: "uniform",
    potential: "dot, 1/√d, in every head",
    value: "gather",
    inference: "exact for the edges, collapsed for the latents; a fixed number of steps",
    update: Some("learned (residual, then a feed-forward network; no guarantee)"),
    equations: &[
        "z ← z + W_o attention(W_q LN(z), W_k LN(x), W_v LN(x)), then z ← z + FF(LN(z))",
        "z ← z + W_o attention(W_q LN(z), W_k LN(z), W_v LN(z)), then z ← z + FF(LN(z))",
        "both repeated, all repetitions but the first with the same weights",
    ],
    sources: &["Jaegle et al. 2021, Perceiver, arXiv 2103.03206, §3"],
    path: "marginals_burn::Perceiver",
    model: "\
# the input holds inputs [B, M, D]; without weights in a file it holds them too, as weights.NAME
mechanism = { perceiver = { weights = \"perceiver.safetensors\" } }
",
};
