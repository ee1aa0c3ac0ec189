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
    ("softcap", &["soft-capping", "logit-soft-capping"]),
    ("attention-sink", &["sink", "sinks", "attention-sinks", "gpt-oss", "streaming-llm"]),
    ("softmax-plus-one", &["softmax-1", "quiet-attention", "off-by-one"]),
    ("sigmoid-attention", &["sigmoid"]),
    ("gat", &["graph-attention", "graph-attention-network"]),
    ("gatv2", &["dynamic-graph-attention"]),
    ("hard-attention", &["hard", "argmax-attention", "stochastic-attention"]),
    ("normalization-model", &["normalisation-model", "reynolds-heeger"]),
    ("multihop", &["random-walk", "walks", "diffusion"]),
    ("expanding", &["expanding-attention", "adaptive-span"]),
    (
        "hopfield",
        &["modern-hopfield", "dense-associative-memory", "associative-memory", "hopfield-network"],
    ),
    (
        "mixture",
        &["gmm", "gaussian-mixture", "mixture-of-gaussians", "em", "expectation-maximisation"],
    ),
    ("k-means", &["lloyd"]),
    ("slots", &["slot-attention", "slot"]),
    (
        "block-slots",
        &["block-slot-attention", "block-slot", "sysbinder", "neural-systematic-binder"],
    ),
    ("perceiver", &["perceiver-io", "latent-attention"]),
    ("nearest-accepted", &["stick-breaking", "stick-breaking-attention"]),
    (
        "chain",
        &["crf", "linear-chain", "linear-chain-crf", "hmm", "viterbi", "structured-attention"],
    ),
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
    ("log-partition", &["lse", "log-sum-exp", "log-z"]),
    ("log-evidence", &["evidence", "elbo", "marginal-likelihood"]),
    (
        "marginals",
        &["attentions", "attention-weights", "attention-matrix", "attention-map", "attn"],
    ),
    ("kl", &["kl-divergence", "kullback-leibler"]),
    ("mean", &["output", "attention-output", "context-vector"]),
    ("column-mass", &["attention-received", "heavy-hitters"]),
    ("map", &["argmax", "most-probable-edge"]),
    ("k-best", &["n-best"]),
    ("max-marginals", &["max-marginal", "min-marginals"]),
    ("log-count", &["count", "number-of-structures"]),
    ("jvp", &["forward-mode"]),
];

/// Whether two names are one, however it is written: `slot-attention`, `slot_attention`, `SlotAttention`.
pub fn are_one(name: &str, other: &str) -> bool {
    plain(name).eq(plain(other))
}

/// Letters and digits of a name, all small.
fn plain(name: &str) -> impl Iterator<Item = char> {
    name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase)
}

/// The name here of what is called `name` elsewhere.
pub fn ours(name: &str) -> Option<&'static str> {
    let is_so_called = |theirs: &[&str]| theirs.iter().any(|own| are_one(own, name));
    ALIASES.iter().find(|(_, theirs)| is_so_called(theirs)).map(|(ours, _)| *ours)
}

/// Names elsewhere of what is called `name` here.
pub fn theirs(name: &str) -> &'static [&'static str] {
    ALIASES.iter().find(|(ours, _)| are_one(ours, name)).map_or(&[], |(_, theirs)| theirs)
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
        let written = |name: &str| plain(name).collect::<String>();
        let known: HashSet<String> = MECHANISMS
            .iter()
            .map(|mechanism| mechanism.name)
            .chain(parts().map(|part| part.name))
            .chain(QUESTIONS.iter().map(|question| question.name))
            .map(written)
            .collect();
        let mut seen = HashSet::new();
        for (ours, theirs) in ALIASES {
            assert!(known.contains(&written(ours)), "{ours}");
            for alias in *theirs {
                assert!(!known.contains(&written(alias)), "{alias}");
                assert!(seen.insert(written(alias)), "{alias} twice");
            }
        }
    }
}
