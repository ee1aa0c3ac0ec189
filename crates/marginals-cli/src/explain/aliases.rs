//! Names that the field has for mechanisms, parts and questions, beside those that they have here.

/// A name here, and the others.
const ALIASES: &[(&str, &[&str])] = &[
    (
        "softmax-attention",
        &[
            "softmax",
            "attention",
            "self-attention",
            "cross-attention",
            "scaled-dot-product-attention",
            "sdpa",
            "multi-head",
            "multi-head-attention",
            "mha",
            "gqa",
            "grouped-query-attention",
            "mqa",
            "multi-query-attention",
            "flash-attention",
            "transformer",
        ],
    ),
    ("alibi", &["attention-with-linear-biases"]),
    ("relative-positions", &["t5", "t5-bias", "relative-position-bias", "rpe"]),
    (
        "sliding-window",
        &["swa", "sliding-window-attention", "local-attention", "longformer", "mistral"],
    ),
    ("documents", &["packing", "packed-documents", "packed-sequences", "varlen", "cu-seqlens"]),
    ("rotary", &["rope", "rotary-embedding", "rotary-embeddings", "rotary-position-embedding"]),
    (
        "softcap",
        &["soft-cap", "soft-capping", "logit-softcapping", "logit-soft-capping", "softcapping"],
    ),
    ("attention-sink", &["sink", "sinks", "attention-sinks", "gpt-oss", "streaming-llm"]),
    ("softmax-plus-one", &["softmax1", "softmax-1", "quiet-attention", "off-by-one"]),
    ("sigmoid-attention", &["sigmoid"]),
    ("gat", &["graph-attention", "graph-attention-network"]),
    ("gatv2", &["gat-v2", "dynamic-graph-attention"]),
    ("hard-attention", &["hard", "argmax-attention", "stochastic-attention"]),
    ("normalization-model", &["normalisation-model", "reynolds-heeger"]),
    ("multihop", &["multi-hop", "random-walk", "walks", "diffusion"]),
    ("expanding", &["expanding-attention", "adaptive-span"]),
    (
        "hopfield",
        &["modern-hopfield", "dense-associative-memory", "associative-memory", "hopfield-network"],
    ),
    (
        "mixture",
        &["gmm", "gaussian-mixture", "mixture-of-gaussians", "em", "expectation-maximisation"],
    ),
    ("k-means", &["kmeans", "lloyd"]),
    ("slots", &["slot-attention", "slot"]),
    (
        "block-slots",
        &["block-slot-attention", "block-slot", "sysbinder", "neural-systematic-binder"],
    ),
    ("perceiver", &["perceiver-io", "latent-attention"]),
    ("nearest-accepted", &["stick-breaking", "stick-breaking-attention", "stickbreaking"]),
    ("chain", &["crf", "linear-chain", "linear-chain-crf", "hmm", "structured-attention"]),
    ("semi-markov", &["semi-crf", "semi-markov-crf", "segmental-attention"]),
    ("monotone-alignment", &["monotonic-alignment", "monotonic-attention", "dtw", "alignment"]),
    (
        "projective-arborescence",
        &["eisner", "projective-dependency", "dependency-tree", "projective-tree"],
    ),
    (
        "arborescence",
        &["non-projective-dependency", "matrix-tree", "directed-tree", "non-projective-tree"],
    ),
    ("spanning-tree", &["undirected-tree", "tree"]),
    (
        "each-query-picks-a-pair",
        &[
            "2-simplicial",
            "two-simplicial",
            "2-simplicial-attention",
            "trilinear-attention",
            "pairs",
        ],
    ),
    ("each-query-picks-k", &["k-subset", "subset-sampling", "subset", "k-subsets"]),
    (
        "matching",
        &[
            "sinkhorn",
            "sinkhorn-attention",
            "sinkformer",
            "optimal-transport",
            "permanent",
            "bipartite-matching",
            "assignment",
            "hungarian",
            "linear-sum-assignment",
        ],
    ),
    (
        "survival",
        &[
            "forgetting",
            "forgetting-attention",
            "forgetting-transformer",
            "fox",
            "forget-gate",
            "forget-gates",
        ],
    ),
    ("contextual", &["cope", "contextual-position-encoding", "contextual-positions"]),
    ("segments", &["segment-ids", "document-mask", "block-diagonal"]),
    ("adjacency", &["graph", "edge-index", "sparse-mask"]),
    ("bias", &["attn-mask", "attention-mask", "mask", "attention-bias"]),
    ("key-bias", &["padding-mask", "key-padding-mask"]),
    ("causal", &["is-causal", "causal-mask", "autoregressive"]),
    ("additive", &["bahdanau", "additive-attention"]),
    ("dot", &["dot-product", "luong", "scaled-dot-product"]),
    ("cosine", &["qk-norm", "cosine-similarity"]),
    ("gaussian", &["rbf", "gaussian-kernel"]),
    ("log-partition", &["lse", "logsumexp", "log-sum-exp", "log-z"]),
    ("log-evidence", &["evidence", "elbo", "marginal-likelihood"]),
    (
        "marginals",
        &["attentions", "attention-weights", "attention-matrix", "attention-map", "attn"],
    ),
    ("kl", &["kl-divergence", "kullback-leibler"]),
    ("mean", &["output", "attention-output", "context-vector"]),
    ("column-mass", &["attention-received", "heavy-hitters"]),
    ("map", &["argmax", "most-probable-edge"]),
    ("top-k", &["topk"]),
    ("k-best", &["kbest", "n-best", "nbest"]),
    ("max-marginals", &["max-marginal", "min-marginals"]),
    ("log-count", &["count", "number-of-structures"]),
    ("jvp", &["forward-mode"]),
];

/// A name as the tables have it, however it is written.
pub fn plain(name: &str) -> String {
    let word = |c: char| if c.is_whitespace() || c == '_' { '-' } else { c };
    name.trim().to_lowercase().chars().map(word).collect()
}

/// The name here of what is called `name` elsewhere; [`plain`] made it what it is.
pub fn ours(name: &str) -> Option<&'static str> {
    ALIASES.iter().find(|(_, theirs)| theirs.contains(&name)).map(|(ours, _)| *ours)
}

/// Names elsewhere of what is called `name` here.
pub fn theirs(name: &str) -> &'static [&'static str] {
    ALIASES.iter().find(|(ours, _)| *ours == name).map_or(&[], |(_, theirs)| theirs)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use marginals::question::QUESTIONS;
    use marginals::spec::parts;
    use marginals::zoo::MECHANISMS;

    use super::*;

    #[test]
    fn every_alias_leads_to_one_thing_and_is_the_name_of_none() {
        let known: HashSet<&str> = MECHANISMS
            .iter()
            .map(|mechanism| mechanism.name)
            .chain(parts().map(|part| part.name))
            .chain(QUESTIONS.iter().map(|question| question.name))
            .collect();
        let mut seen = HashSet::new();
        for (ours, theirs) in ALIASES {
            assert!(known.contains(ours), "{ours}");
            for alias in *theirs {
                assert_eq!(plain(alias), *alias);
                assert!(!known.contains(alias), "{alias}");
                assert!(seen.insert(*alias), "{alias} twice");
            }
        }
    }
}
