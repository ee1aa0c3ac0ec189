//! Structures whose edges depend on each other, and pairs of keys, on the tape: answers and gradients are
//! the library's, which its own tests hold against lists of all edge sets.

use std::collections::BTreeMap;

use burn::tensor::{DType, Device, Tensor, TensorData};
use marginals::ask::{Input, Settings, ask};
use marginals::question::Named;
use marginals::spec::ModelFile;
use marginals_burn::ops::{Nodes, Parameters, Posterior};
use marginals_testkit::generate::Random;
use ndarray::{ArrayD, IxDyn};

const QUESTIONS: [&str; 6] =
    ["mean", "log-partition", "log-evidence", "entropy", "kl", "marginals"];

fn tensor<const D: usize>(of: &ArrayD<f64>, device: &Device) -> Tensor<D> {
    let data = TensorData::new(of.iter().copied().collect(), of.shape().to_vec());
    Tensor::from_data(data, (device, DType::F64)).require_grad()
}

fn numbers<const D: usize>(of: Tensor<D>) -> Vec<f64> {
    of.into_data().convert::<f64>().try_to_vec().expect("numbers")
}

fn check(structure: &str, own: &[(&'static str, &[usize])]) {
    let (b, h, n, m, width) = (2, 2, 4, 4, 3);
    let text = format!("structure = {structure}\nprior = [\"bias\"]\npotential = \"dot\"");
    let file = ModelFile::from_toml(&text).expect("a model");
    let ModelFile::Posterior(spec) = &file else { panic!("{text}") };
    let mut random = Random::new(5);
    let mut draw = |shape: &[usize]| ArrayD::from_shape_simple_fn(IxDyn(shape), || random.normal());
    let (q, k, v) = (draw(&[b, h, n, width]), draw(&[b, h, m, width]), draw(&[b, h, m, 2]));
    let bias = draw(&[1, h, n, m]);
    let own: Vec<(&str, ArrayD<f64>)> =
        own.iter().map(|(name, shape)| (*name, draw(shape))).collect();
    let by_query = structure.contains("each-query");
    let per_head = if by_query { n } else { 1 };
    let upstream: Vec<ArrayD<f64>> = QUESTIONS
        .iter()
        .map(|name| match *name {
            "mean" => draw(&[b, h, n, 2]),
            "marginals" => draw(&[b, h, n, m]),
            _ => draw(&[b, h, per_head]),
        })
        .collect();

    let lengths = ArrayD::from_shape_vec(IxDyn(&[b]), vec![4i64, 3]).expect("its shape");
    let mut inputs: BTreeMap<String, Input<'_, f64>> = BTreeMap::new();
    for (name, array) in [("q", &q), ("k", &k), ("v", &v), ("bias", &bias)] {
        inputs.insert(name.into(), array.clone().into());
    }
    for (name, array) in &own {
        inputs.insert((*name).into(), array.clone().into());
    }
    for (name, array) in QUESTIONS.iter().zip(&upstream) {
        inputs.insert(format!("grad.{name}"), array.clone().into());
    }
    let takes_lengths = !structure.contains("a-pair");
    if takes_lengths {
        inputs.insert("lengths".into(), lengths.clone().into());
    }
    let named: Vec<Named> =
        QUESTIONS.iter().map(|name| Named::parse(name).expect("a name")).collect();
    let expected = ask(&file, &named, &inputs, Settings::default()).expect("answers");
    let expected = |name: &str| -> Vec<f64> {
        let answer = expected.get(name).unwrap_or_else(|| panic!("{structure}: no {name}"));
        answer.clone().real().expect("numbers").iter().copied().collect()
    };

    let device = Device::flex().autodiff();
    let nodes =
        Nodes { q: tensor(&q, &device), k: tensor(&k, &device), v: Some(tensor(&v, &device)) };
    let of_bias = tensor::<4>(&bias, &device);
    let mut parameters = Parameters::none().with("bias", of_bias.clone());
    let mut leaves = Vec::new();
    for (name, array) in &own {
        let flat: ArrayD<f64> = array.iter().copied().collect::<ndarray::Array1<f64>>().into_dyn();
        let flat = tensor::<1>(&flat, &device);
        parameters = match *array.shape() {
            [a, b] => parameters.with(name, flat.clone().reshape([a, b])),
            [a, b, c, d] => parameters.with(name, flat.clone().reshape([a, b, c, d])),
            ref other => panic!("no such parameter: {other:?}"),
        };
        leaves.push((*name, flat));
    }
    let mut posterior = Posterior::new(spec.clone());
    if takes_lengths {
        posterior = posterior.with_integers("lengths", lengths);
    }
    let answers = posterior.ask(&nodes, &parameters, &QUESTIONS).expect("answers");
    let mut loss = Tensor::<1>::zeros([1], (&device, DType::F64));
    for (name, up) in QUESTIONS.iter().zip(&upstream) {
        let (found, part) = match up.ndim() {
            4 => {
                let answer = answers.get::<4>(name).expect("an answer");
                (numbers(answer.clone()), (answer * tensor::<4>(up, &device)).sum())
            }
            _ => {
                let answer = answers.get::<3>(name).expect("an answer");
                (numbers(answer.clone()), (answer * tensor::<3>(up, &device)).sum())
            }
        };
        for (found, expected) in found.iter().zip(expected(name)) {
            assert!((found - expected).abs() < 1e-12, "{structure} {name}: {found}, {expected}");
        }
        loss = loss + part;
    }
    let gradients = loss.backward();
    let close = |name: &str, found: Vec<f64>| {
        let expected = expected(&format!("grad.{name}"));
        assert_eq!(found.len(), expected.len(), "{structure} {name}");
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-10, "{structure} {name}: {found}, {expected}");
        }
    };
    close("q", numbers(nodes.q.grad(&gradients).expect("a gradient")));
    close("k", numbers(nodes.k.grad(&gradients).expect("a gradient")));
    close("v", numbers(nodes.v.expect("values").grad(&gradients).expect("a gradient")));
    close("bias", numbers(of_bias.grad(&gradients).expect("a gradient")));
    for (name, tensor) in leaves {
        close(name, numbers(tensor.grad(&gradients).expect("a gradient")));
    }
}

#[test]
fn edge_sets_are_answered_and_differentiated_as_by_the_library() {
    check("\"chain\"", &[("transitions", &[4, 4]), ("start", &[2, 4]), ("end", &[1, 4])]);
    check("{ semi-markov = { longest = 3 } }", &[("durations", &[3, 4]), ("transitions", &[4, 4])]);
    check("{ monotone-alignment = { moves = \"forward-or-stay\" } }", &[]);
    check("{ projective-arborescence = { root-edges = \"one\" } }", &[]);
    check("{ each-query-picks-k = { k = 2 } }", &[]);
    check("\"matching\"", &[]);
    let second: [(&str, &[usize]); 2] =
        [("second-keys", &[2, 2, 4, 3]), ("second-values", &[2, 2, 4, 2])];
    check("\"each-query-picks-a-pair\"", &second);
    check("{ each-query-picks-a-pair = { window = 3, second-window = 2 } }", &second[..1]);
}
