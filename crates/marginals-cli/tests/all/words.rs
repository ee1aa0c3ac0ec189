//! Words of other libraries in questions, model files and tensors: answered with ours.

use std::collections::HashMap;
use std::path::Path;

use assert_cmd::Command;
use marginals::words::advice;

use crate::common::files::{Folder, Tensor, numbers};

fn inputs() -> HashMap<String, Tensor> {
    ["q", "k", "v"].map(|name| (name.to_owned(), (vec![1, 1, 3, 2], numbers(1.0, 6)))).into()
}

const DOT: &str = "structure = \"each-query-picks-one\"\npotential = \"dot\"\n";

#[test]
fn questions_are_told_by_our_names() {
    for (asked, ours) in [
        ("logsumexp", "`log-partition`"),
        ("lse", "`log-partition`"),
        ("attentions", "`marginals`"),
        ("attention_weights", "`marginals`"),
        ("weights", "`marginals`"),
        ("output", "`mean`"),
    ] {
        Folder::new(DOT, &inputs()).refuse(&["--ask", asked], &[asked, ours]);
    }
}

/// Every word that the page of other libraries' words has is one that is answered.
#[test]
fn the_page_of_words_is_answered() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/words.md");
    let page = std::fs::read_to_string(page).unwrap();
    let rows = page.lines().filter(|line| line.starts_with("| ")).skip(1);
    let theirs = rows.filter_map(|row| row.split(" | ").next());
    // A call and no name.
    let words = theirs.flat_map(|cell| cell.split('`').skip(1).step_by(2));
    let words: Vec<&str> = words.filter(|word| !word.contains('(')).collect();
    assert!(words.len() > 15, "{words:?}");
    for word in words {
        let told = ["question", "section", "prior", "setting"].map(|kind| advice(kind, word, &[]));
        assert!(told.iter().any(Option::is_some), "{word}");
    }
}

#[test]
fn model_files_are_told_by_our_names() {
    for (line, words) in [
        ("prior = [\"attn_mask\"]", &["`bias`", "`key-bias`", "`causal`", "−inf"][..]),
        ("attn_mask = \"x\"", &["`bias`"]),
        ("is_causal = true", &["prior = [\"causal\"]"]),
        ("dropout = 0.1", &["no dropout"]),
        ("scale = 0.5", &["potential = { dot = { scale = 0.125 } }"]),
        ("temperature = 0.5", &["one over the scale"]),
        ("output_attentions = true", &["`marginals`"]),
        ("return_lse = true", &["`log-partition`"]),
        ("past_key_values = \"x\"", &["`query-offset`"]),
        ("alibi_slopes = [0.5]", &["slopes = [0.5, 0.25]"]),
        ("prior = [\"s_aux\"]", &["`each-query-picks-at-most-one`"]),
        ("prior = [{ window = { size = 8 } }]", &["left = 127, right = 0"]),
        ("prior = [{ sliding_window = { left = 8 } }]", &["left = 127, right = 0"]),
    ] {
        Folder::new(&format!("{DOT}{line}"), &inputs()).refuse(&[], words);
    }
    let softmax = "structure = \"softmax\"\npotential = \"dot\"";
    Folder::new(softmax, &inputs()).refuse(&[], &["`each-query-picks-one`"]);
    let alone = "structure = \"each-query-picks-one\"";
    Folder::new(alone, &inputs())
        .refuse(&[], &["`potential` is absent", "no default", "potential = \"dot\""]);
    let none = "potential = \"dot\"";
    Folder::new(none, &inputs())
        .refuse(&[], &["`structure` is absent", "\"each-query-picks-one\""]);
}

#[test]
fn tensors_are_told_by_our_names() {
    let with = |name: &str, shape: &[usize]| {
        let mut all = inputs();
        all.insert(name.to_owned(), (shape.to_vec(), vec![0.0; shape.iter().product()]));
        all
    };
    let biased = format!("{DOT}prior = [\"bias\"]");
    Folder::new(&biased, &with("attn_mask", &[3, 3]))
        .refuse(&[], &["`bias`", "is it `attn_mask`?"]);
    let windowed = format!("{DOT}prior = [{{ window = {{ left = 1, right = 0 }} }}]");
    Folder::new(&windowed, &with("window.size", &[1]))
        .refuse(&[], &["`window.size`", "left = 127"]);
    Folder::new(DOT, &with("grad.lse", &[1, 1, 3])).refuse(&[], &["`grad.lse`", "`log-partition`"]);
    let mut named = inputs();
    let queries = named.remove("q").expect("there");
    named.insert("query".to_owned(), queries);
    Folder::new(DOT, &named).refuse(&[], &["`q`", "is it `query`?"]);

    // What the model does not read is left alone, and that is said.
    let told = Folder::new(DOT, &with("attn_mask", &[3, 3])).infer(&[]).success();
    let told = String::from_utf8_lossy(&told.get_output().stderr).into_owned();
    assert!(told.starts_with("note: the tensor `attn_mask` is not read"), "{told}");
    assert_eq!(told.lines().count(), 1, "{told}");
}

#[test]
fn names_to_explain_are_told_by_ours() {
    let explain = |name: &str| {
        let mut command = Command::cargo_bin("marginals").unwrap();
        command.args(["explain", name]).assert()
    };
    for (name, ours) in [("attn_mask", "bias  a prior"), ("lse", "log-partition  a question")] {
        let told = explain(name).success();
        assert!(told.get_output().stdout.starts_with(ours.as_bytes()), "{told}");
    }
    let told = explain("dropout").code(2);
    assert!(String::from_utf8_lossy(&told.get_output().stderr).contains("no dropout"), "{told}");
}
