//! Transformers compiled from programs, whose heads are known: the audit must name each.
//!
//! The models, and the measures from Tracr's own attention matrices, are written by
//! `tools/reference/compiled.py`.

use std::fs;

use serde_json::Value;

use crate::common::{audit, workspace};

/// Largest difference of a measure: normalisations divide by numbers that are the same to one part in 10^5.
const TOLERANCE: f64 = 5e-6;
/// Smallest margin of a label that a program gives, of masses near 0 and 1.
const CLEAR: f64 = 0.2;
/// A uniform posterior over so short a text has its mass near the query too.
const NEVER_CLEAR: &str = "diffuse";

#[test]
fn heads_that_were_compiled_from_programs_are_named() {
    let folder = workspace().join("crates/marginals-cli/tests/data/compiled");
    let expected = fs::read(folder.join("expected.json")).unwrap();
    let expected: Value = serde_json::from_slice(&expected).unwrap();
    let scene = tempfile::tempdir().unwrap();
    let text = scene.path().join("text.txt");
    fs::write(&text, expected["text"].as_str().unwrap()).unwrap();
    let mut named = Vec::new();
    for (name, heads) in expected["models"].as_object().unwrap() {
        let output = audit()
            .arg(folder.join(name))
            .arg(&text)
            .args(["--format", "json", "--out"])
            .arg(scene.path().join("out"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        let document: Value = serde_json::from_slice(&output.stdout).unwrap();
        let found = document["heads"].as_array().unwrap();
        let heads = heads.as_array().unwrap();
        assert_eq!(found.len(), heads.len(), "{name}");
        for (found, head) in found.iter().zip(heads) {
            assert_eq!(found["label"], head["label"], "{name}: {found}");
            let margin = found["margin"].as_f64().unwrap();
            assert!(margin > CLEAR || head["label"] == NEVER_CLEAR, "{name}: {found}");
            for (measure, value) in head["measures"].as_object().unwrap() {
                let number = found[measure].as_f64();
                match value.as_f64() {
                    Some(value) => assert!(
                        number.is_some_and(|number| (number - value).abs() < TOLERANCE),
                        "{name}: {measure} is {number:?}, not {value}"
                    ),
                    None => assert_eq!(number, None, "{name}: {measure}"),
                }
            }
            named.push(head["label"].as_str().unwrap().to_owned());
        }
    }
    named.sort();
    named.dedup();
    assert_eq!(
        named,
        [
            "diffuse",
            "duplicate-token",
            "first-token",
            "induction",
            "local",
            "next-token",
            "previous-token",
            "punctuation",
            "same-token",
            "separator",
            "sink"
        ]
    );
}
