//! Block-slot attention: the model is that of [slots](super::slots), and so is the posterior; its
//! weights live in `marginals_burn::BlockSlotAttention`.

use super::Mechanism;

/// Block-slot attention.
pub const MECHANISM: Mechanism = Mechanism {
    name: "block-slots",
    title: "Block-slot attention: slots in blocks, each a mixture of its own prototypes",
    structure: "each-key-picks-one; then, in every block, each-query-picks-one",
    prior: "uniform",
    potential: "dot, 1/√S over whole slots; then dot, 1/√d over a block",
    value: "average, of marginals with ε added; then gather",
    inference: "exact for the edges, collapsed for the slots; a fixed number of steps",
    update: Some("learned (per block: GRU, residual MLP, prototypes; no guarantee)"),
    equations: &[
        "p_ij = softmax over i of (W_q LN(s_i) · W_k LN(x_j) / √S)",
        "u_i = Σ_j (p_ij + ε) W_v LN(x_j) / Σ_j (p_ij + ε)",
        "for every block m: s_im ← GRU_m(s_im, u_im), then s_im ← s_im + MLP_m(LN(s_im))",
        "c_mk = LN(MLP(C_mk)), s_im ← Σ_k softmax over k of (LN(s_im) · c_mk / √d) c_mk",
    ],
    sources: &[
        "Singh, Kim & Ahn 2023, Neural Systematic Binder, arXiv 2211.01177, §3.2, eqs. 1–6",
        "Locatello et al. 2020, arXiv 2006.15055, Algorithm 1",
    ],
    path: "marginals_burn::BlockSlotAttention",
    model: "\
# the input holds inputs [B, M, D] and, to start from, start [B, N, S]; without weights in a file
# it holds them too, as weights.NAME
mechanism = { block-slots = { weights = \"block-slots.safetensors\", slots = 4, iterations = 3 } }
",
};
