//! What `marginals infer` reads of its input and what it leaves alone.

use std::collections::HashMap;

use crate::common::files::{Folder, Tensor, f32_bytes, numbers, raw};

const DOT: &str = "structure = \"each-query-picks-one\"\npotential = \"dot\"\n";

/// Queries, keys and values, and what else there is.
fn with<'a>(
    more: &[(&'a str, &'a str, &'a [u64], Vec<u8>)],
) -> Vec<(&'a str, &'a str, &'a [u64], Vec<u8>)> {
    let mut all: Vec<(&str, &str, &[u64], Vec<u8>)> = vec![
        ("q", "F32", &[1, 1, 3, 4], f32_bytes(&numbers(1.0, 12))),
        ("k", "F32", &[1, 1, 5, 4], f32_bytes(&numbers(2.0, 20))),
        ("v", "F32", &[1, 1, 5, 2], f32_bytes(&numbers(3.0, 10))),
    ];
    all.retain(|(name, ..)| more.iter().all(|(other, ..)| other != name));
    all.extend_from_slice(more);
    all
}

fn answers(model: &str, input: &[u8], ask: &str) -> HashMap<String, Tensor> {
    let folder = Folder::of_bytes(model, input);
    folder.infer(&["--ask", ask]).success();
    folder.output()
}

#[test]
fn tensors_that_nothing_names_are_left_alone_whatever_their_type() {
    let alone = answers(DOT, &raw(&with(&[]), &[]), "mean,entropy");
    for (dtype, bytes) in [
        ("F8_E4M3", 2),
        ("F8_E5M2", 2),
        ("F8_E8M0", 2),
        ("I8", 2),
        ("I16", 4),
        ("U16", 4),
        ("U64", 16),
        ("C64", 16),
        ("F4", 1),
        ("BOOL", 2),
    ] {
        let beside = with(&[("other", dtype, &[2], vec![1; bytes])]);
        assert_eq!(answers(DOT, &raw(&beside, &[]), "mean,entropy"), alone, "{dtype}");
    }
    // As large as it says it is, were it read.
    let empty = with(&[("other", "F32", &[1 << 40, 0], Vec::new())]);
    assert_eq!(answers(DOT, &raw(&empty, &[]), "mean,entropy"), alone);
}

#[test]
fn a_tensor_that_is_read_is_refused_by_name_and_type() {
    let refuse = |model: &str, tensor: (&str, &str, &[u64], Vec<u8>), words: &[&str]| {
        Folder::of_bytes(model, &raw(&with(&[tensor]), &[])).refuse(&[], words);
    };
    let types = "F32, F64, BF16 or F16";
    refuse(DOT, ("k", "I8", &[1, 1, 5, 4], vec![0; 20]), &["`k`", "(I8)", types]);
    refuse(DOT, ("q", "BOOL", &[1, 1, 3, 4], vec![1; 12]), &["`q`", "(BOOL)", types]);
    refuse(DOT, ("grad.mean", "I16", &[1, 1, 3, 2], vec![0; 12]), &["`grad.mean`", "(I16)"]);
    let geometric = format!("{DOT}prior = [{{ geometric = {{ rho = 0.1 }} }}]");
    refuse(
        &geometric,
        ("geometric.rho", "F8_E4M3", &[1], vec![0]),
        &["`geometric.rho`", "(F8_E4M3)"],
    );
    let segments = format!("{DOT}prior = [\"segments\"]");
    let whole = "I64, I32, U32 or U8";
    refuse(
        &segments,
        ("segments.q", "U16", &[1, 3], vec![0; 6]),
        &["`segments.q`", "(U16)", whole],
    );
    let slots = "mechanism = { slots = {} }";
    let told = &["`weights.to_q.weight`", "(I16)", "expected real numbers"];
    let inputs = [
        ("inputs", "F32", &[1, 2, 1][..], f32_bytes(&[1.0, 2.0])),
        ("weights.slots_mu", "F32", &[1, 1, 1], f32_bytes(&[0.0])),
        ("weights.slots_logsigma", "F32", &[1, 1, 1], f32_bytes(&[0.0])),
        ("weights.norm_input.weight", "F32", &[1], f32_bytes(&[1.0])),
        ("weights.norm_input.bias", "F32", &[1], f32_bytes(&[0.0])),
        ("weights.to_q.weight", "I16", &[1, 1], vec![0; 2]),
        ("weights.to_k.weight", "F32", &[1, 1], f32_bytes(&[1.0])),
    ];
    Folder::of_bytes(slots, &raw(&inputs, &[])).refuse(&[], told);
}

/// A mask as PyTorch's attention has it: true where a key may be picked.
#[test]
fn truth_values_are_masks() {
    let hidden = |i: usize, j: usize| (i + 2 * j).is_multiple_of(3) && j != 0;
    let truths: Vec<u8> = (0..15).map(|at| u8::from(!hidden(at / 5, at % 5))).collect();
    let log_weights: Vec<f64> =
        truths.iter().map(|&truth| if truth == 1 { 0.0 } else { f64::NEG_INFINITY }).collect();
    for (name, shape, count) in [("bias", &[3u64, 5][..], 15), ("key-bias", &[5], 5)] {
        let model = format!("{DOT}prior = [\"{name}\"]");
        let given = with(&[(name, "BOOL", shape, truths[..count].to_vec())]);
        let asked = "mean,marginals,kl";
        let found = answers(&model, &raw(&given, &[]), asked);
        let written = with(&[(name, "F32", shape, f32_bytes(&log_weights[..count]))]);
        assert_eq!(found, answers(&model, &raw(&written, &[]), asked), "{name}");
        let marginals = &found["marginals"].1;
        for (at, p) in marginals.iter().enumerate() {
            let hidden = truths[if count == 5 { at % 5 } else { at }] == 0;
            assert_eq!(*p == 0.0, hidden, "{name} {at}: {p}");
        }
        // Whole numbers may be either, and 0 and 1 as log-weights would hide nothing.
        for (dtype, width) in [("U8", 1), ("I64", 8), ("I8", 1)] {
            let given = with(&[(name, dtype, shape, vec![0; count * width])]);
            Folder::of_bytes(&model, &raw(&given, &[]))
                .refuse(&[], &[name, dtype, "0 where an edge may be picked and −inf", "BOOL"]);
        }
    }
}

#[test]
fn tensors_that_share_their_numbers_are_read_by_all_their_names() {
    let both = raw(&with(&[("v", "F32", &[1, 1, 5, 4], f32_bytes(&numbers(2.0, 20)))]), &[]);
    let mut once = with(&[]);
    once.retain(|(name, ..)| *name != "v");
    let once = raw(&once, &[("v", "k"), ("format", "pt"), ("k", "q")]);
    assert_eq!(answers(DOT, &once, "mean"), answers(DOT, &both, "mean"));
}

/// Beginnings as `torch.save`, `numpy.save` and `numpy.savez` write them.
#[test]
fn other_kinds_of_files_are_known_and_told_how_to_convert() {
    let archive = |name: &str| [b"PK\x03\x04", &[0; 26][..], name.as_bytes(), &[0; 99]].concat();
    for (bytes, words) in [
        (archive("x/data.pkl"), &["PyTorch", "torch.load('in.safetensors'", "save_file"][..]),
        (archive("q.npy"), &["NumPy", "dict(numpy.load("]),
        (b"\x93NUMPY\x01\0v\0{'descr'".to_vec(), &["NumPy", "named tensors", "numpy.load("]),
        (b"GGUF\x03\0\0\0\0\0\0\0".to_vec(), &["GGUF", "marginals audit"]),
    ] {
        Folder::of_bytes(DOT, &bytes).refuse(&[], words);
    }
    let folder = Folder::of_bytes(
        "mechanism = { slots = { weights = \"slots.pt\" } }",
        &raw(&with(&[]), &[]),
    );
    std::fs::write(folder.0.path().join("slots.pt"), archive("x/data.pkl")).unwrap();
    folder.refuse(&[], &["slots.pt", "torch.load('slots.pt'"]);
}
