//! Words of PyTorch and of Hugging Face's libraries for what has another name here, or is not here.

/// A thing by their names and what is said about it.
struct Word {
    /// Their names, with hyphens and in lower case.
    theirs: &'static [&'static str],
    /// Where they stand for that, by words in the kind of name that was asked for; empty is anywhere.
    kinds: &'static [&'static str],
    /// Our word for it.
    advice: &'static str,
}

const fn word(
    theirs: &'static [&'static str],
    kinds: &'static [&'static str],
    advice: &'static str,
) -> Word {
    Word { theirs, kinds, advice }
}

const QUESTIONS: &[&str] = &["question", "gradient"];
const SECTIONS: &[&str] = &["section", "question"];

const WORDS: &[Word] = &[
    word(
        &[
            "attn-mask",
            "attention-mask",
            "mask",
            "src-mask",
            "tgt-mask",
            "attn-bias",
            "pos-bias",
            "block-mask",
            "mask-mod",
            "score-mod",
        ],
        &[],
        "A mask is a prior here: `bias` with the tensor `bias`, 0 where an edge may be picked and −inf where \
         not (or true and false), `key-bias` where it is about keys alone, or `causal`",
    ),
    word(
        &["key-padding-mask", "padding-mask", "src-key-padding-mask", "padding"],
        &[],
        "A mask of keys is the prior `key-bias` here, with the tensor `key-bias`: 0 where a key may be \
         picked and −inf where not (or true and false)",
    ),
    word(
        &["is-causal", "causal-mask", "use-causal-mask"],
        &[],
        "It is the prior `causal` here, as in `prior = [\"causal\"]`",
    ),
    word(
        &["dropout", "dropout-p", "attn-dropout", "attention-dropout"],
        &[],
        "There is no dropout here: a posterior is taken as it is. Leave it out",
    ),
    word(
        &["logsumexp", "log-sum-exp", "lse", "softmax-lse"],
        QUESTIONS,
        "It is the question `log-partition` here",
    ),
    word(
        &["return-lse", "return-softmax-lse", "return-aux"],
        &[],
        "What is wanted beside the mean is asked by name here; log Σ exp is the question `log-partition`",
    ),
    word(
        &["torch.func.jvp", "forward-mode", "forward-ad", "directional-derivative"],
        QUESTIONS,
        "The derivative of the mean in a direction is the question `jvp` here, with the tensors `tangent.q`, \
         `tangent.k`, `tangent.v` and `tangent.bias`",
    ),
    word(
        &["max-logits", "max-logit", "max-scores"],
        QUESTIONS,
        "It is the question `max-score` here, and `max-score.head` in its answer",
    ),
    word(
        &[
            "attention",
            "attentions",
            "attn",
            "attn-weights",
            "attention-weights",
            "probs",
            "weights",
        ],
        QUESTIONS,
        "It is the question `marginals` here",
    ),
    word(
        &["output-attentions", "need-weights", "return-attn-weights", "return-attn-probs"],
        &[],
        "It is the question `marginals` here, asked by name",
    ),
    word(
        &["attn-output", "context", "out", "output", "values"],
        QUESTIONS,
        "It is the question `mean` here",
    ),
    word(
        &["scale", "scaling", "sm-scale", "softmax-scale"],
        SECTIONS,
        "It is a setting of the potential here, as in `potential = { dot = { scale = 0.125 } }`",
    ),
    word(
        &["temperature", "tau"],
        &[],
        "It is one over the scale of the potential here, as in `potential = { dot = { scale = 0.125 } }`",
    ),
    word(
        &["softcap", "logit-softcap", "logits-soft-cap", "attn-logit-softcapping"],
        SECTIONS,
        "It is a setting of the potential here, as in `potential = { dot = { softcap = 50.0 } }`",
    ),
    word(
        &["alibi-slopes", "alibi-bias"],
        &[],
        "It is the prior `alibi` here, as in `prior = [{ alibi = { slopes = [0.5, 0.25] } }]`",
    ),
    word(
        &["position-bias", "relative-position-bias", "relative-attention-bias", "rpe"],
        &[],
        "It is the prior `relative-buckets` here, with the tensor `relative-bias`, where positions share \
         buckets, and the prior `bias` where they do not",
    ),
    word(
        &["cu-seqlens", "cu-seqlens-q", "cu-seqlens-k", "sequence-ids", "document-ids"],
        &[],
        "It is the prior `segments` here, with the number of each node's sequence in the tensors \
         `segments.q` and `segments.k`",
    ),
    word(
        &["rope", "rotary-emb", "rotary-embedding", "rope-theta"],
        &[],
        "Positions that turn the nodes are the potential `rotary` here, around another potential",
    ),
    word(
        &["sink", "sinks", "s-aux", "softmax-plus-one", "add-zero-attn"],
        &[],
        "It is the structure `each-query-picks-at-most-one` here, whose `null` is the sink's logit",
    ),
    word(
        &["past-key-values", "past-key-value", "kv-cache", "use-cache", "layer-past"],
        &[],
        "Nothing is kept from call to call here: `k` and `v` hold the earlier keys too, and `query-offset` \
         says where the first query sits",
    ),
    word(&["window-size", "window.size", "sliding-window", "local-window-size"], &[], WINDOW),
    word(
        &["enable-gqa", "num-key-value-heads", "num-kv-heads"],
        &[],
        "Nothing need be said about it here: key heads are those of the tensor `k`, a divisor of those of `q`",
    ),
    word(
        &["sinkhorn", "optimal-transport", "ot", "sinkformer", "sinkhorn-knopp"],
        &[],
        "It is the structure `matching` with `inference = { entropic = {} }` here",
    ),
    word(
        &["permanent", "bipartite-matching", "hungarian", "assignment", "linear-sum-assignment"],
        &["structure", "question", "part"],
        "It is the structure `matching` here; its best assignment is the question `map`",
    ),
    word(
        &["softmax"],
        &["structure", "potential", "part"],
        "Softmax over the keys is the structure `each-query-picks-one` here",
    ),
    word(
        &["sigmoid"],
        &["structure", "potential", "part"],
        "Sigmoid attention is the structure `independent` here",
    ),
];

const WINDOW: &str = "A window has two sides here, the keys before a query that it sees and those after it, \
                      as in `prior = [{ window = { left = 127, right = 0 } }]`";

/// Our word for `name`, a `kind` of name that is not among the `known`, where other libraries have it.
///
/// ```
/// use marginals::words::advice;
/// let advice = advice("question", "logsumexp", &["mean", "log-partition"]);
/// assert!(advice.is_some_and(|told| told.contains("`log-partition`")));
/// ```
pub fn advice(kind: &str, name: &str, known: &[&str]) -> Option<&'static str> {
    let name = theirs(name);
    if name == "size" && known.contains(&"left") {
        return Some(WINDOW);
    }
    let about = |word: &&Word| {
        word.theirs.contains(&name.as_str())
            && (word.kinds.is_empty() || word.kinds.iter().any(|part| kind.contains(part)))
    };
    WORDS.iter().find(about).map(|word| word.advice)
}

/// Tensors by their names, and by ours.
const TENSORS: &[(&str, &[&str])] = &[
    ("q", &["query", "queries", "query-states"]),
    ("k", &["key", "keys", "key-states"]),
    ("v", &["value", "values", "value-states"]),
    ("bias", &["attn-mask", "attention-mask", "mask", "attn-bias"]),
    ("key-bias", &["key-padding-mask", "padding-mask", "attention-mask"]),
];

/// Which of the `held` tensors may be the one that is called `name` here.
pub fn tensor<'h>(name: &str, held: &'h [String]) -> Option<&'h str> {
    let (_, names) = TENSORS.iter().find(|(ours, _)| *ours == name)?;
    held.iter().map(String::as_str).find(|held| {
        let held = theirs(held);
        held == name || names.contains(&held.as_str())
    })
}

/// A name as the tables have it.
fn theirs(name: &str) -> String {
    name.trim_start_matches("grad.").to_lowercase().replace('_', "-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_found_however_they_are_written() {
        for name in ["attn_mask", "attn-mask", "Attention_Mask"] {
            assert!(
                advice("prior", name, &[]).is_some_and(|told| told.contains("`bias`")),
                "{name}"
            );
        }
        assert!(advice("upstream gradient", "grad.lse", &[]).unwrap().contains("log-partition"));
        assert_eq!(advice("setting", "weights", &["hops"]), None);
        assert_eq!(advice("setting", "scale", &["rho"]), None);
        assert!(advice("section", "scale", &[]).unwrap().contains("dot"));
        assert!(advice("setting", "size", &["left", "right"]).unwrap().contains("left = 127"));
        assert_eq!(advice("setting", "size", &["rho"]), None);
        assert_eq!(advice("question", "entropi", &[]), None);
    }

    #[test]
    fn tensors_are_found_among_those_held() {
        let held = ["V", "attention_mask", "query"].map(str::to_owned);
        assert_eq!(tensor("q", &held), Some("query"));
        assert_eq!(tensor("v", &held), Some("V"));
        assert_eq!(tensor("key-bias", &held), Some("attention_mask"));
        assert_eq!((tensor("k", &held), tensor("null", &held)), (None, None));
    }
}
