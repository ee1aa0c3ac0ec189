//! `marginals explain`, and the capability table that the documentation holds.

use std::process::{Command, Output};

use crate::common::workspace;

fn explain(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_marginals"));
    command.arg("explain").args(arguments).output().expect("the command starts")
}

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout.clone()).expect("the text is UTF-8");
    assert!(!text.contains('\x1b'), "no colours in a pipe");
    text
}

#[test]
fn every_name_on_the_list_is_explained() {
    let list = text(&explain(&[]));
    let names: Vec<&str> = list
        .lines()
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    for expected in ["alibi", "hopfield", "multihop", "each-key-picks-one", "causal", "dot", "kl"] {
        assert!(names.contains(&expected), "{expected} is not in:\n{list}");
    }
    for name in names {
        let page = text(&explain(&[name]));
        assert!(page.starts_with(name), "{page}");
        assert!(page.contains("definition") || page.contains("equations"), "{page}");
    }
}

#[test]
fn a_mechanism_is_told_whole() {
    let page = text(&explain(&["gatv2"]));
    let page = page.split_whitespace().collect::<Vec<_>>().join(" ");
    for words in [
        "structure each-query-picks-one",
        "prior adjacency",
        "a·LeakyReLU(W_q h_i + W_k h_j)",
        "arXiv 2105.14491, eq. 7",
        "marginals::zoo::graph_attention::gat_v2",
        "potential = { additive = { kind = \"gatv2\", slope = 0.2 } }",
    ] {
        assert!(page.contains(words), "`{words}` is not in:\n{page}");
    }
}

/// Words of the field, however they are written.
#[test]
fn the_names_of_the_field_are_known() {
    for (asked, ours) in [
        (&["GAT"][..], "gat"),
        (&["gqa"], "softmax-attention"),
        (&["MQA"], "softmax-attention"),
        (&["t5"], "relative-positions"),
        (&["softmax"], "softmax-attention"),
        (&["sliding window"], "sliding-window"),
        (&["sliding", "window"], "sliding-window"),
        (&["slot-attention"], "slots"),
        (&["Slot_Attention"], "slots"),
        (&["SlotAttention"], "slots"),
        (&["KMeans"], "k-means"),
        (&["topk"], "top-k"),
        (&["GAT v2"], "gatv2"),
        (&["ALiBi"], "alibi"),
        (&["CoPE"], "contextual"),
        (&["Viterbi"], "chain"),
        (&["stick-breaking"], "nearest-accepted"),
        (&["forgetting"], "survival"),
        (&["RoPE"], "rotary"),
        (&["logsumexp"], "log-partition"),
    ] {
        let page = text(&explain(asked));
        assert!(page.starts_with(&format!("{ours}  ")), "{asked:?}: {page}");
    }
}

/// All but lines of model files keeps to the width of a page, for which pipes have 80 columns.
#[test]
fn pages_keep_to_their_width() {
    for name in ["multihop", "block-slots", "gat", "mixture", "perceiver"] {
        let page = text(&explain(&[name]));
        let (_, file) = page.split_once("--model FILE`\n").expect("it is reached by a model file");
        for line in page.lines().filter(|line| !file.contains(line) || line.starts_with("  #")) {
            assert!(line.chars().count() <= 80, "{line}");
        }
    }
}

#[test]
fn a_part_is_shown_beside_the_mechanism_of_its_name() {
    for (name, kind) in [("alibi", "a prior"), ("rotary", "a potential")] {
        let page = text(&explain(&[name]));
        assert!(page.starts_with(name), "{page}");
        assert!(
            page.contains("\nequations\n") && page.contains(&format!("\n{name}  {kind}\n")),
            "{page}"
        );
    }
    // One of two kinds.
    let page = text(&explain(&["survival"]));
    assert!(page.contains("survival  a prior") && page.contains("survival  a distance"), "{page}");
}

#[test]
fn unknown_names_are_told_with_the_nearest() {
    let refused = explain(&["hopfeild"]);
    assert_eq!(refused.status.code(), Some(2));
    let told = String::from_utf8_lossy(&refused.stderr);
    assert!(told.contains("`hopfeild`") && told.contains("did you mean `hopfield`"), "{told}");
    // All that can be explained is listed.
    assert!(told.contains("alibi") && told.trim_end().ends_with("paths"), "{told}");
    assert_eq!(explain(&["alibi", "--table"]).status.code(), Some(2));
}

#[test]
fn the_documented_table_is_what_the_engine_answers() {
    let path = workspace().join("docs/capabilities.md");
    let documented = std::fs::read_to_string(&path).unwrap_or_default();
    let table = text(&explain(&["--table"]));
    assert!(
        table == documented,
        "docs/capabilities.md is stale; write it again with\n\
         cargo run --release -- explain --table > docs/capabilities.md"
    );
}
