//! `marginals infer` from the outside: files in, files out, against the test kit's dense formulas.

use std::collections::HashMap;

use crate::common::files::{Folder, Tensor, numbers};
use marginals_testkit::{Answers, Head, Structure, ValueKind, dense};
use ndarray::Array2;
use safetensors::tensor::{Dtype, TensorView};

const N: usize = 5;
const M: usize = 7;
const D: usize = 3;

fn inputs() -> HashMap<String, Tensor> {
    HashMap::from([
        ("q".into(), (vec![1, 1, N, D], numbers(1.0, N * D))),
        ("k".into(), (vec![1, 1, M, D], numbers(2.0, M * D))),
        ("v".into(), (vec![1, 1, M, 2], numbers(3.0, M * 2))),
        ("bias".into(), (vec![N, M], numbers(4.0, N * M))),
    ])
}

fn dense_answers(structure: Structure) -> Answers {
    let matrix = |tensor: &Tensor, columns| {
        Array2::from_shape_vec((tensor.1.len() / columns, columns), tensor.1.clone()).unwrap()
    };
    let inputs = inputs();
    let (q, k) = (matrix(&inputs["q"], D), matrix(&inputs["k"], D));
    let mut log_weight = matrix(&inputs["bias"], M);
    for ((i, j), w) in log_weight.indexed_iter_mut() {
        if j > i + 2 {
            *w = f64::NEG_INFINITY;
        }
        *w -= 0.25 * (i as f64 + 2.0 - j as f64).abs();
    }
    dense::answer(&Head {
        structure,
        value_kind: ValueKind::Gather,
        log_weight,
        log_potential: ndarray::linalg::Dot::dot(&q, &k.t()) * 0.7,
        null_log_weight: 0.3,
        value: matrix(&inputs["v"], 2),
        query_offset: 2,
    })
}

const REST: &str = "prior = [\"causal\", \"bias\", { alibi = { slopes = [0.25] } }]\n\
                    potential = { dot = { scale = 0.7 } }\nquery-offset = 2\n";

#[test]
fn every_answer_agrees_with_the_dense_formulas() {
    for (name, structure) in [
        ("\"each-query-picks-one\"", Structure::EachQueryPicksOne),
        ("{ each-query-picks-at-most-one = { null = 0.3 } }", Structure::EachQueryPicksAtMostOne),
        ("\"each-key-picks-one\"", Structure::EachKeyPicksOne),
        ("\"independent\"", Structure::Independent),
    ] {
        let folder = Folder::new(&format!("structure = {name}\n{REST}"), &inputs());
        let questions = "mean,log-partition,log-evidence,entropy,kl,column-mass,query-mass,expected-distance,\
                         value-variance,max-probability,map,top-k=2,samples=3,marginals";
        folder.infer(&["--ask", questions, "--seed", "9", "--threads", "2"]).success();
        let output = folder.output();
        let expected = dense_answers(structure);
        let (index, probability) = expected.top_k(2);
        let expected: Vec<(&str, Vec<f64>)> = vec![
            ("mean", expected.mean.iter().copied().collect()),
            ("log-partition", expected.log_partition.to_vec()),
            ("log-evidence", expected.log_evidence.to_vec()),
            ("entropy", expected.entropy.to_vec()),
            ("kl", expected.kl.to_vec()),
            ("column-mass", expected.column_mass.to_vec()),
            ("query-mass", expected.marginals.sum_axis(ndarray::Axis(1)).to_vec()),
            ("expected-distance", expected.expected_distance.to_vec()),
            ("value-variance", expected.value_variance.iter().copied().collect()),
            ("max-probability", expected.max_probability().to_vec()),
            ("map", expected.map().iter().map(|&i| i as f64).collect()),
            ("top-k.index", index.iter().map(|&i| i as f64).collect()),
            ("top-k.probability", probability.iter().copied().collect()),
            ("marginals", expected.marginals.iter().copied().collect()),
        ];
        for (question, expected) in expected {
            let got = &output[question].1;
            assert_eq!(got.len(), expected.len(), "{name} {question}");
            for (got, expected) in got.iter().zip(&expected) {
                let close = got == expected || (got - expected).abs() < 1e-11;
                assert!(close, "{name} {question}: {got}, expected {expected}");
            }
        }
        let shape = &output["samples"].0;
        match structure {
            Structure::Independent => assert_eq!(shape, &[3, 1, 1, N, M]),
            Structure::EachKeyPicksOne => assert_eq!(shape, &[3, 1, 1, M]),
            _ => assert_eq!(shape, &[3, 1, 1, N]),
        }
    }
}

/// The gradient of a sum of answers, against differences of the answers themselves.
#[test]
fn gradients_come_out_beside_the_answers() {
    let model = format!("structure = \"each-query-picks-one\"\n{REST}");
    let loss = |tensors: &HashMap<String, Tensor>| -> f64 {
        let folder = Folder::new(&model, tensors);
        folder.infer(&["--ask", "mean,entropy"]).success();
        let output = folder.output();
        output["mean"].1.iter().sum::<f64>() + output["entropy"].1.iter().sum::<f64>()
    };
    let mut with_upstream = inputs();
    with_upstream.insert("grad.mean".into(), (vec![1, 1, N, 2], vec![1.0; N * 2]));
    with_upstream.insert("grad.entropy".into(), (vec![1, 1, N], vec![1.0; N]));
    let folder = Folder::new(&model, &with_upstream);
    folder.infer(&["--ask", "mean"]).success();
    let gradients = folder.output();
    let shape = |name: &str| gradients[name].0.clone();
    assert_eq!(shape("grad.bias"), [1, 1, N, M]);
    assert_eq!(shape("grad.alibi.slopes"), [1]);
    assert_eq!(shape("grad.dot.scale"), [1]);
    for (name, at) in [("q", 4), ("k", 10), ("v", 3), ("bias", 8)] {
        let difference = |step: f64| {
            let mut moved = inputs();
            moved.get_mut(name).unwrap().1[at] += step;
            loss(&moved)
        };
        let expected = (difference(1e-5) - difference(-1e-5)) / 2e-5;
        let got = gradients[&format!("grad.{name}")].1[at];
        assert!((got - expected).abs() < 1e-8, "grad.{name}[{at}]: {got}, expected {expected}");
    }
}

#[test]
fn half_precision_is_read_and_indices_name_graphs() {
    let folder = Folder::new(
        "structure = \"each-query-picks-one\"\nprior = \"adjacency\"\npotential = \"dot\"",
        &HashMap::new(),
    );
    let half: Vec<u8> = [0x3F80u16, 0x4000, 0xBF80].iter().flat_map(|x| x.to_le_bytes()).collect();
    let whole = |list: &[i64]| list.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
    let (indptr, indices) = (whole(&[0, 1, 3, 3]), whole(&[2, 0, 1]));
    let node = || TensorView::new(Dtype::BF16, vec![1, 1, 3, 1], &half).unwrap();
    let views = [
        ("q", node()),
        ("k", node()),
        ("v", node()),
        ("adjacency.indptr", TensorView::new(Dtype::I64, vec![4], &indptr).unwrap()),
        ("adjacency.indices", TensorView::new(Dtype::I64, vec![3], &indices).unwrap()),
    ];
    let bytes = safetensors::serialize(views, None).unwrap();
    std::fs::write(folder.0.path().join("in.safetensors"), bytes).unwrap();
    folder.infer(&["--ask", "mean,map"]).success();
    let output = folder.output();
    // Nodes 1, 2, −1: the first query has one neighbour, the second prefers key 1 to key 0 by
    // e^2 : e^4, the third has none.
    let second = (1.0 + 2.0 * 2f64.exp()) / (1.0 + 2f64.exp());
    for (got, expected) in output["mean"].1.iter().zip([-1.0, second, 0.0]) {
        assert!((got - expected).abs() < 1e-6, "{got}, expected {expected}");
    }
    assert_eq!(output["map"].1, [2.0, 1.0, -1.0]);
}

#[test]
fn bad_input_is_told_in_one_paragraph_and_leaves_nothing_behind() {
    let model = "structure = \"each-query-picks-one\"\npotential = \"dot\"\n";
    let changed = |name: &str, tensor: Option<Tensor>| {
        let mut tensors = inputs();
        match tensor {
            Some(tensor) => tensors.insert(name.into(), tensor),
            None => tensors.remove(name),
        };
        tensors
    };
    let folder = Folder::new(model, &inputs());
    folder.refuse(&["--ask", "entropi"], &["entropi", "did you mean `entropy`"]);
    folder.refuse(&["--ask", "top-k"], &["top-k=5"]);
    folder.refuse(&["--ask", "mean,mean"], &["each question once"]);
    folder.refuse(&["--ask", ""], &["`--ask` is empty", "mean, log-partition", "paths"]);
    folder.refuse(&["--model", "none.toml"], &["none.toml"]);

    let folder = Folder::new(&model.replace("dot", "dott"), &inputs());
    folder.refuse(&[], &["dott", "did you mean `dot`"]);
    let folder = Folder::new("structure = [", &inputs());
    folder.refuse(&[], &["TOML"]);
    let folder = Folder::new(&format!("{model}prior = \"key-bias\"\n"), &inputs());
    folder.refuse(&[], &["key-bias", "It holds: bias, k, q, v"]);
    let folder =
        Folder::new(&format!("{model}prior = {{ geometric = {{ rho = 1.5 }} }}\n"), &inputs());
    folder.refuse(&[], &["geometric.rho", "[0, 1)", "1.5"]);
    let folder = Folder::new(
        &format!("{model}prior = \"bias\"\n"),
        &changed("bias", Some((vec![2, 2], vec![0.0; 4]))),
    );
    folder.refuse(&[], &["bias", "[1, 1, 5, 7]"]);

    let folder = Folder::new(model, &changed("v", None));
    folder.refuse(&[], &["`v`", "values", "It holds: bias, k, q"]);
    let folder = Folder::new(model, &changed("k", None));
    folder.refuse(&[], &["`k`", "the keys", "It holds: bias, q, v"]);
    let folder = Folder::new(model, &changed("k", Some((vec![1, 1, M, 4], vec![0.0; M * 4]))));
    folder.refuse(&[], &["`k`"]);
    let folder = Folder::new(model, &changed("q", Some((vec![1, 3, 5, 1], vec![0.0; 15]))));
    folder.refuse(&[], &["`k`"]);
    let folder = Folder::new(model, &changed("q", Some((vec![N, D], vec![0.0; N * D]))));
    folder.refuse(&[], &["`q`", "4 axes"]);
    let folder = Folder::new(model, &changed("grad.man", Some((vec![1], vec![0.0]))));
    folder.refuse(&[], &["grad.man", "did you mean `grad.mean`"]);
    let folder =
        Folder::new(model, &changed("grad.mean", Some((vec![1, 1, N, 3], vec![0.0; N * 3]))));
    folder.refuse(&[], &["grad.mean", "[1, 1, 5, 2]"]);
    let nan = [vec![f64::NAN], vec![0.0; N * D - 1]].concat();
    let folder = Folder::new(model, &changed("q", Some((vec![1, 1, N, D], nan))));
    folder.refuse(&["--check"], &["`q`", "NaN", "[0, 0, 0, 0]", "leave the check out"]);

    let folder = Folder::new(model, &inputs());
    let path = folder.0.path().join("in.safetensors");
    let whole = std::fs::read(&path).unwrap();
    for hostile in [&whole[..whole.len() / 2], &whole[..4], b"", &[0xFF; 64]] {
        std::fs::write(&path, hostile).unwrap();
        folder.refuse(&[], &["in.safetensors", "safetensors file"]);
    }
    std::fs::write(&path, &whole).unwrap();
    folder.refuse(&["--output", "no/such/folder/out.safetensors"], &["no/such/folder"]);
}

#[test]
fn a_model_file_that_does_not_fit_is_named_with_the_key() {
    let refuse = |name: &str, text: &str, words: &[&str]| {
        let folder = Folder::new("", &inputs());
        std::fs::write(folder.0.path().join(name), text).unwrap();
        folder.refuse(&["--model", name], words);
    };
    let toml = |rest: &str| format!("structure = \"each-query-picks-one\"\n{rest}");
    let words = &["m.toml: `potential.dot.scale` is NaN", "finite"];
    refuse("m.toml", &toml("potential = { dot = { scale = nan } }"), words);
    let words = &["m.toml: `prior[1].geometric.rho` is absent", "{ geometric = { rho = 0.1 } }"];
    refuse("m.toml", &toml("prior = [\"causal\", \"geometric\"]\npotential = \"dot\""), words);
    refuse("m.toml", &toml("potential = \"dott\""), &["m.toml: ", "did you mean `dot`"]);
    refuse("m.toml", "structure = [", &["m.toml: ", "TOML"]);
    let json = r#"{"structure": "independent", "potential": {"cosine": {"scale": "x"}}}"#;
    refuse("m.json", json, &["m.json: `potential.cosine.scale` is \"x\"", "a number, or a list"]);
    refuse("m.json", "{", &["m.json: ", "JSON"]);
}

/// A tensor that was meant for the model and is not understood changes the answer by not being there.
#[test]
fn tensors_meant_for_the_model_are_refused_where_they_are_not_understood() {
    let model = "structure = \"each-query-picks-one\"\nprior = [{ geometric = { rho = 0.1 } }]\n\
                 potential = \"dot\"\n";
    let with = |name: &str| {
        let mut tensors = inputs();
        tensors.insert(name.into(), (vec![1], vec![0.5]));
        Folder::new(model, &tensors)
    };
    let refuse = |name: &str, words: &[&str]| with(name).refuse(&[], words);
    refuse("geometric.roh", &["`geometric.roh`", "did you mean `geometric.rho`", "dot.scale"]);
    refuse("geometric.rho.2", &["`geometric.rho.2`", "did you mean `geometric.rho`"]);
    refuse("dot.softcap", &["`dot.softcap`", "dot.scale"]);

    let answer = |folder: &Folder| {
        folder.infer(&["--ask", "entropy"]).success();
        folder.output()["entropy"].1.clone()
    };
    let plain = answer(&Folder::new(model, &inputs()));
    assert_ne!(answer(&with("geometric.rho")), plain);
    // Of other models that the file serves, or of none.
    for unrelated in ["laplace.scale", "layer.0.weight", "notes", "rho"] {
        assert_eq!(answer(&with(unrelated)), plain, "{unrelated}");
    }
}

/// Rewrites the input with one tensor in whole numbers.
fn in_whole_numbers(folder: &Folder, name: &str) {
    let path = folder.0.path().join("in.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    // As wide as f64, so that the bytes may stay what they are.
    let views = file.tensors().into_iter().map(|(own, tensor)| {
        let dtype = if own == name { Dtype::I64 } else { tensor.dtype() };
        let view = TensorView::new(dtype, tensor.shape().to_vec(), tensor.data()).unwrap();
        (own, view)
    });
    let bytes = safetensors::serialize(views, None).unwrap();
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn a_tensor_of_the_wrong_type_is_told_with_both_types() {
    let model = "structure = \"each-query-picks-one\"\n\
                 prior = [\"bias\", { geometric = { rho = 0.1 } }]\npotential = \"dot\"\n";
    let mut tensors = inputs();
    tensors.insert("geometric.rho".into(), (vec![1], vec![0.5]));
    tensors.insert("grad.mean".into(), (vec![1, 1, N, 2], vec![1.0; N * 2]));
    Folder::new(model, &tensors).infer(&[]).success();
    for name in ["q", "k", "v", "bias", "geometric.rho", "grad.mean"] {
        let folder = Folder::new(model, &tensors);
        in_whole_numbers(&folder, name);
        let held = format!("`{name}` holds whole numbers (I64)");
        folder.refuse(&[], &[&held, "real numbers (F32, F64, BF16 or F16)"]);
    }
}

#[test]
fn answers_that_no_memory_holds_are_refused() {
    let model = "structure = \"each-query-picks-one\"\npotential = \"dot\"\n";
    let sets = model.replace("each-query-picks-one", "independent");
    for model in [model, &sets] {
        let folder = Folder::new(model, &inputs());
        folder.refuse(&["--ask", "samples=1000000000000000"], &["`samples`", "GB of memory"]);
    }
    let folder = Folder::new(model, &inputs());
    folder.refuse(&["--ask", "samples=18446744073709551615"], &["`samples`", "GB of memory"]);
    folder.refuse(&["--ask", "top-k=1000000000000000"], &["`top-k`", "GB of memory"]);
}
