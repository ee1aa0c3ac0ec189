//! Posteriors on the tape: one streaming operation against plain tensor operations under Burn's own
//! autodiff, and against finite differences.

use std::collections::BTreeMap;

use burn::tensor::{DType, Device, Tensor, TensorData};
use marginals::prior::{AnyPrior, RelativeBuckets};
use marginals::question::QUESTIONS;
use marginals::spec::{Domain, ModelSpec};
use marginals_burn::ops::{Answers, Nodes, Parameters, Posterior};
use marginals_testkit::finite_difference::gradient;
use marginals_testkit::generate::Random;
use ndarray::{ArrayD, IxDyn};

use crate::dense::{self, Dense};

const BATCH: usize = 2;
const HEADS: usize = 4;
const KEY_HEADS: usize = 2;
const QUERIES: usize = 5;
const KEYS: usize = 7;
const WIDTH: usize = 4;
const VALUE_WIDTH: usize = 3;

/// Whole-numbered entries of an input: name and shape and numbers.
struct Entry {
    name: String,
    shape: Vec<usize>,
    values: Vec<f64>,
}

/// One model and what it is asked about: q, k, v, and then its parameters.
struct Case {
    text: String,
    spec: ModelSpec,
    integer: BTreeMap<String, ArrayD<i64>>,
    posterior: Posterior,
    entries: Vec<Entry>,
    questions: Vec<&'static str>,
}

/// Every question with a gradient that reads nothing but nodes.
fn differentiable() -> Vec<&'static str> {
    let all = QUESTIONS.iter().filter(|entry| entry.differentiable && entry.reads.is_empty());
    all.map(|entry| entry.name).collect()
}

impl Case {
    fn new(structure: &str, prior: &str, potential: &str, value: &str, offset: i64) -> Self {
        let text = format!(
            "structure = {structure}\nprior = {prior}\npotential = {potential}\nvalue = \"{value}\"\n\
             query-offset = {offset}\n"
        );
        let spec = ModelSpec::from_toml(&text).unwrap_or_else(|e| panic!("{text}{e}"));
        let mut random = Random::new(11);
        let mut entries = Vec::new();
        let mut add = |name: &str, shape: &[usize], values: Option<Vec<f64>>| {
            let values = values.unwrap_or_else(|| random.normals(shape.iter().product()));
            entries.push(Entry { name: name.to_owned(), shape: shape.to_vec(), values });
        };
        add("q", &[BATCH, HEADS, QUERIES, WIDTH], None);
        add("k", &[BATCH, KEY_HEADS, KEYS, WIDTH], None);
        add("v", &[BATCH, KEY_HEADS, KEYS, VALUE_WIDTH], None);
        for numbers in spec.numbers(HEADS, WIDTH) {
            // A number for all heads becomes one for each, a little apart.
            let shape = match numbers.values.shape() {
                [1] => vec![HEADS],
                other => other.to_vec(),
            };
            let count: usize = shape.iter().product();
            let given: Vec<f64> = numbers.values.iter().copied().collect();
            let spread = |i: usize| {
                let x = given[i % given.len()];
                let factor = 1.0 + 0.1 * i as f64;
                assert!(numbers.domain != Domain::UnitInterval || x * factor < 1.0);
                x * factor
            };
            add(&numbers.name, &shape, Some((0..count).map(spread).collect()));
        }
        for prior in &spec.prior {
            match prior {
                AnyPrior::Bias(_) => add("bias", &[1, HEADS, QUERIES, KEYS], None),
                AnyPrior::KeyBias(_) => add("key-bias", &[BATCH, 1, KEYS], None),
                AnyPrior::RelativeBuckets(RelativeBuckets { buckets, .. }) => {
                    add("relative-bias", &[*buckets, HEADS], None);
                }
                AnyPrior::Survival(_) => {
                    let log_gate = |e: usize| -0.3 * (e % 5) as f64 - 0.05;
                    let log_gates = (0..BATCH * KEYS).map(log_gate).collect();
                    add("survival.log-gates", &[BATCH, 1, KEYS], Some(log_gates));
                }
                AnyPrior::Adjacency(_) => add("adjacency.log-weights", &[EDGES], None),
                _ => {}
            }
        }
        if potential.contains("additive") {
            add("additive.a", &[HEADS, 3], None);
            if potential.contains("\"gat\"") {
                add("additive.a-key", &[KEY_HEADS, 3], None);
            }
            add("additive.query", &[HEADS, 3, WIDTH], None);
            add("additive.key", &[KEY_HEADS, 3, WIDTH], None);
        }
        if potential.contains("cosine") {
            // A node of length 0 has no direction.
            entries[0].values[..WIDTH].fill(0.0);
        }
        let whole = |shape: &[usize], numbers: &[i64]| {
            ArrayD::from_shape_vec(IxDyn(shape), numbers.to_vec()).expect("their shape")
        };
        let integer: BTreeMap<String, ArrayD<i64>> = [
            ("segments.q", whole(&[1, QUERIES], &[0, 0, 1, 3, 2])),
            ("segments.k", whole(&[BATCH, KEYS], &[0, 1, 1, 1, 2, 2, 2, 0, 0, 0, 1, 2, 2, 2])),
            ("adjacency.indptr", whole(&[QUERIES + 1], &[0, 2, 2, 5, 6, 8])),
            ("adjacency.indices", whole(&[EDGES], &[0, 3, 1, 2, 6, 4, 5, 6])),
        ]
        .map(|(name, tensor)| (name.to_owned(), tensor))
        .into();
        let posterior = integer.iter().fold(Posterior::new(spec.clone()), |all, (name, tensor)| {
            all.with_integers(name, tensor.clone())
        });
        Self { text, spec, integer, posterior, entries, questions: differentiable() }
    }

    /// Drops the questions that the structure does not answer.
    fn retain_answered(&mut self) {
        let leaves = self.leaves(&self.values(), DType::F64, &Device::flex().autodiff());
        let (nodes, parameters) = self.nodes_and_parameters(&leaves);
        let posterior = &self.posterior;
        self.questions.retain(|&name| posterior.ask(&nodes, &parameters, &[name]).is_ok());
    }

    /// The inputs as leaves.
    fn leaves(&self, values: &[Vec<f64>], format: DType, device: &Device) -> Vec<Tensor<1>> {
        let leaf = |values: &Vec<f64>| {
            let data = TensorData::new(values.clone(), [values.len()]);
            Tensor::from_data(data, (device, format)).require_grad()
        };
        values.iter().map(leaf).collect()
    }

    fn nodes_and_parameters(&self, leaves: &[Tensor<1>]) -> (Nodes, Parameters) {
        let four = |at: usize| {
            let shape: [usize; 4] = self.entries[at].shape.clone().try_into().expect("four axes");
            leaves[at].clone().reshape(shape)
        };
        let nodes = Nodes { q: four(0), k: four(1), v: Some(four(2)) };
        let mut parameters = Parameters::none();
        for (entry, leaf) in self.entries.iter().zip(leaves).skip(3) {
            let (name, leaf) = (entry.name.as_str(), leaf.clone());
            parameters = match *entry.shape.as_slice() {
                [a] => parameters.with(name, leaf.reshape([a])),
                [a, b] => parameters.with(name, leaf.reshape([a, b])),
                [a, b, c] => parameters.with(name, leaf.reshape([a, b, c])),
                [a, b, c, d] => parameters.with(name, leaf.reshape([a, b, c, d])),
                _ => panic!("one to four axes"),
            };
        }
        (nodes, parameters)
    }

    fn values(&self) -> Vec<Vec<f64>> {
        self.entries.iter().map(|entry| entry.values.clone()).collect()
    }
}

const EDGES: usize = 8;

/// An answer, flat; −∞ is 0.
fn finite(flat: Tensor<1>) -> Tensor<1> {
    let nothing = flat.clone().is_inf();
    flat.mask_fill(nothing, 0.0)
}

/// The operation's answer to a question.
fn flat(answers: &Answers, question: &str) -> Tensor<1> {
    finite(match answers.get::<4>(question) {
        Ok(answer) => answer.flatten(0, 3),
        Err(_) => answers.get::<3>(question).expect("asked").flatten(0, 2),
    })
}

fn numbers(tensor: Tensor<1>) -> Vec<f64> {
    tensor.cast(DType::F64).into_data().try_into_vec().expect("f64")
}

/// A random functional of the answers.
fn loss(answers: &[Tensor<1>]) -> Tensor<1> {
    let mut random = Random::new(5);
    let mut loss: Option<Tensor<1>> = None;
    for answer in answers {
        let weights = random.normals(answer.dims()[0]);
        let count = weights.len();
        let weights = TensorData::new(weights, [count]);
        let weights = Tensor::from_data(weights, (&answer.device(), answer.dtype()));
        let part = (answer.clone() * weights).sum();
        loss = Some(match loss {
            None => part,
            Some(loss) => loss + part,
        });
    }
    loss.expect("at least one question")
}

/// Who answers.
#[derive(Clone, Copy)]
enum By {
    /// The operation.
    Operation,
    /// Plain tensor operations.
    Dense,
}

/// The answers to the case's questions.
fn ask(case: &Case, leaves: &[Tensor<1>], by: By) -> Vec<Tensor<1>> {
    let (nodes, parameters) = case.nodes_and_parameters(leaves);
    match by {
        By::Operation => {
            let answers = case.posterior.ask(&nodes, &parameters, &case.questions);
            let answers = answers.unwrap_or_else(|e| panic!("{}{e}", case.text));
            case.questions.iter().map(|question| flat(&answers, question)).collect()
        }
        By::Dense => {
            let named = case.entries.iter().zip(leaves).skip(3);
            let model = Dense {
                spec: &case.spec,
                integer: &case.integer,
                parameters: named
                    .map(|(entry, leaf)| (entry.name.clone(), (entry.shape.clone(), leaf.clone())))
                    .collect(),
                q: nodes.q,
                k: nodes.k,
                v: nodes.v.expect("there are values"),
            };
            let answers = dense::ask(&model, &case.questions).into_iter();
            answers.map(|answer| finite(answer.expect("defined").flatten(0, 3))).collect()
        }
    }
}

/// Answers, and gradients in every input.
fn run(case: &Case, by: By, format: DType, device: &Device) -> (Vec<Vec<f64>>, Vec<Vec<f64>>) {
    let leaves = case.leaves(&case.values(), format, device);
    let answers = ask(case, &leaves, by);
    let gradients = loss(&answers).backward();
    let gradients = leaves
        .iter()
        .map(|leaf| match leaf.grad(&gradients) {
            Some(gradient) => numbers(gradient),
            None => vec![0.0; leaf.dims()[0]],
        })
        .collect();
    (answers.into_iter().map(numbers).collect(), gradients)
}

#[track_caller]
fn close(case: &Case, what: &str, found: &[f64], expected: &[f64], bound: f64) {
    assert_eq!(found.len(), expected.len(), "{}{what}", case.text);
    let scale = expected.iter().fold(1.0f64, |max, x| max.max(x.abs()));
    for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
        let error = (found - expected).abs();
        assert!(error <= bound * scale, "{}{what}[{at}]: {found} and {expected}", case.text);
    }
}

/// The operation against the dense one in f64, finite differences, and itself in f32.
fn check(mut case: Case) {
    let device = Device::flex().autodiff();
    check_by_itself(&case);
    case.questions.retain(|question| DEFINED.contains(question));
    let (answers, gradients) = run(&case, By::Operation, DType::F64, &device);
    let (plain, plain_gradients) = run(&case, By::Dense, DType::F64, &device);
    for ((question, found), expected) in case.questions.iter().zip(&answers).zip(&plain) {
        close(&case, question, found, expected, 1e-10);
    }
    for ((entry, found), expected) in case.entries.iter().zip(&gradients).zip(&plain_gradients) {
        close(&case, &format!("gradient of {}", entry.name), found, expected, 1e-8);
    }
}

/// Questions that are defined densely.
const DEFINED: [&str; 10] = [
    "mean",
    "value-variance",
    "log-partition",
    "log-evidence",
    "entropy",
    "kl",
    "column-mass",
    "query-mass",
    "expected-distance",
    "marginals",
];

/// The operation in f64 against finite differences and itself in f32.
fn check_by_itself(case: &Case) {
    let device = Device::flex().autodiff();
    let (answers, gradients) = run(case, By::Operation, DType::F64, &device);
    let (single, single_gradients) = run(case, By::Operation, DType::F32, &device);
    for ((question, found), expected) in case.questions.iter().zip(&single).zip(&answers) {
        close(case, &format!("{question} in f32"), found, expected, 1e-3);
    }
    for ((entry, found), expected) in case.entries.iter().zip(&single_gradients).zip(&gradients) {
        close(case, &format!("gradient of {} in f32", entry.name), found, expected, 1e-3);
    }

    // Along a random direction in each input.
    let plain = Device::flex();
    let values = case.values();
    let mut random = Random::new(23);
    for (at, entry) in case.entries.iter().enumerate() {
        if entry.name == "q" && case.text.contains("cosine") {
            // It holds a node of length 0, which has a direction as soon as it moves.
            continue;
        }
        let direction = random.normals(entry.values.len());
        let moved = |t: &[f64]| {
            let mut values = values.clone();
            // What is impossible stays so.
            let finite = values[at].iter_mut().zip(&direction).filter(|(x, _)| x.is_finite());
            for (x, d) in finite {
                *x += 0.05 * (t[0] - 1.0) * d * x.abs().max(0.1);
            }
            let leaves: Vec<Tensor<1>> = values
                .iter()
                .map(|values| {
                    let data = TensorData::new(values.clone(), [values.len()]);
                    Tensor::from_data(data, (&plain, DType::F64))
                })
                .collect();
            numbers(loss(&ask(case, &leaves, By::Operation)))[0]
        };
        let expected = gradient(&[1.0], moved)[0];
        let along = direction.iter().zip(&entry.values).zip(&gradients[at]);
        let along = along.filter(|((_, x), _)| x.is_finite());
        let found: f64 = along.map(|((d, x), g)| 0.05 * d * x.abs().max(0.1) * g).sum();
        let error = (found - expected.value).abs();
        let scale = expected.value.abs().max(1.0);
        assert!(
            error <= 1e-6 * scale,
            "{}along {}: {found} and {expected:?}",
            case.text,
            entry.name
        );
    }
}

const STRUCTURES: [&str; 4] = [
    "\"each-query-picks-one\"",
    "{ each-query-picks-at-most-one = { null = [0.3, -0.4, 0.1, 1.0] } }",
    "\"each-key-picks-one\"",
    "\"independent\"",
];

const PRIORS: [&str; 15] = [
    "[]",
    "[\"causal\"]",
    "[{ window = { left = 2, right = 1 } }]",
    "[\"segments\"]",
    "[\"adjacency\"]",
    "[\"bias\"]",
    "[{ geometric = { rho = 0.2 } }, \"causal\", { geometric = { rho = 0.05 } }]",
    "[{ alibi = \"standard\" }]",
    "[{ laplace = { scale = 2.0 } }]",
    "[{ generalized-gaussian = { scale = 3.0, shape = 1.5 } }]",
    "[{ relative-buckets = { buckets = 8, max-distance = 6, bidirectional = true } }]",
    "[{ relative-buckets = { buckets = 4, max-distance = 6, bidirectional = false } }, \"causal\"]",
    "[\"key-bias\"]",
    "[{ beta-geometric = { alpha = 1.5, beta = 2.0 } }]",
    "[\"survival\"]",
];

const POTENTIALS: [&str; 10] = [
    "\"dot\"",
    "{ dot = { scale = [0.3, 0.5, 0.7, 0.9], softcap = 2.0 } }",
    "{ cosine = { scale = 3.0 } }",
    "{ gaussian = { precision = 0.5 } }",
    "{ gaussian = { precision = [[0.5, 0.1, 0.2, 0.9]] } }",
    "{ additive = { kind = \"gat\" } }",
    "{ additive = { kind = \"gatv2\", slope = 0.1 } }",
    "{ additive = { kind = \"bahdanau\" } }",
    "{ rotary = { potential = \"dot\" } }",
    "{ rotary = { base = 100.0, pairs = \"interleaved\", potential = { cosine = { scale = 2.0 } } } }",
];

#[test]
fn every_structure_and_prior_agrees_with_plain_tensors_and_finite_differences() {
    for structure in STRUCTURES {
        for prior in PRIORS {
            check(Case::new(structure, prior, "\"dot\"", "gather", 0));
        }
    }
}

#[test]
fn every_structure_and_potential_agrees_with_plain_tensors_and_finite_differences() {
    for structure in STRUCTURES {
        for potential in POTENTIALS {
            check(Case::new(structure, "[\"causal\"]", potential, "gather", 1));
        }
    }
}

#[test]
fn averages_and_empty_rows_agree_with_plain_tensors_and_finite_differences() {
    for structure in STRUCTURES {
        check(Case::new(structure, "[\"bias\"]", "\"dot\"", "average", 0));
        // The first two queries come before every key.
        check(Case::new(structure, "[\"causal\"]", "\"dot\"", "average", -2));
    }
}

/// Structures that have no dense definition here.
#[test]
fn other_structures_agree_with_finite_differences() {
    for prior in [PRIORS[0], PRIORS[5], PRIORS[6]] {
        let mut case = Case::new("\"nearest-accepted\"", prior, POTENTIALS[0], "gather", 1);
        case.retain_answered();
        for question in ["mean", "entropy", "kl", "marginals", "null-probability"] {
            assert!(case.questions.contains(&question), "{question}");
        }
        check_by_itself(&case);
    }
}

/// Every question of a walk that has a gradient, and the gradient in the weights of the hops, impossible
/// numbers of hops among them.
#[test]
fn walks_agree_with_finite_differences() {
    for (step, weights) in [
        ("\"each-query-picks-one\"", vec![0.5, -0.3, 0.1, 0.2]),
        (
            "{ each-query-picks-at-most-one = { null = [0.3, -0.4, 0.1, 1.0] } }",
            vec![f64::NEG_INFINITY, 0.4, f64::NEG_INFINITY, -0.7],
        ),
    ] {
        let structure = format!("{{ walk = {{ step = {step} }} }}");
        let prior = "[\"bias\", { geometric = { rho = 0.2 } }]";
        let mut case = Case::new(&structure, prior, "\"dot\"", "gather", 0);
        // Queries and keys are the same nodes.
        let mut random = Random::new(17);
        for (entry, shape) in case.entries.iter_mut().zip([
            [BATCH, HEADS, QUERIES, WIDTH],
            [BATCH, KEY_HEADS, QUERIES, WIDTH],
            [BATCH, KEY_HEADS, QUERIES, VALUE_WIDTH],
        ]) {
            entry.values = random.normals(shape.iter().product());
            entry.shape = shape.to_vec();
        }
        let bias = case.entries.iter_mut().find(|entry| entry.name == "bias").expect("a bias");
        bias.shape = vec![1, HEADS, QUERIES, QUERIES];
        bias.values = random.normals(HEADS * QUERIES * QUERIES);
        let name = "walk.log-weights".to_owned();
        case.entries.push(Entry { name, shape: vec![weights.len()], values: weights.clone() });
        case.retain_answered();
        for question in ["mean", "entropy", "kl", "expected-distance"] {
            assert!(case.questions.contains(&question), "{question}");
        }
        check_by_itself(&case);
        let device = Device::flex().autodiff();
        let (_, gradients) = run(&case, By::Operation, DType::F64, &device);
        let of_weights = gradients.last().expect("the last entry");
        for (weight, gradient) in weights.iter().zip(of_weights) {
            assert_eq!(weight.is_infinite(), *gradient == 0.0, "{weight} {gradient}");
        }
    }
}

/// Values may have a head for each query head where keys have fewer.
#[test]
fn values_by_query_head_agree_with_finite_differences() {
    for structure in STRUCTURES {
        let mut case = Case::new(structure, PRIORS[1], POTENTIALS[0], "gather", 0);
        case.entries[2].shape[1] = HEADS;
        let length = case.entries[2].shape.iter().product();
        case.entries[2].values = Random::new(29).normals(length);
        check_by_itself(&case);
    }
}

/// What was asked and never used changes no gradient.
#[test]
fn unused_answers_have_no_gradient() {
    let device = Device::flex().autodiff();
    for structure in STRUCTURES {
        let case = Case::new(structure, PRIORS[5], POTENTIALS[0], "gather", 0);
        let gradients = |questions: &[&str]| -> Vec<Vec<f64>> {
            let leaves = case.leaves(&case.values(), DType::F64, &device);
            let (nodes, parameters) = case.nodes_and_parameters(&leaves);
            let answers = case.posterior.ask(&nodes, &parameters, questions).expect("asked");
            let gradients = flat(&answers, "entropy").sum().backward();
            let of = |leaf: &Tensor<1>| leaf.grad(&gradients).map_or(Vec::new(), numbers);
            leaves.iter().map(of).collect()
        };
        let alone = gradients(&["entropy"]);
        let among = gradients(&case.questions);
        for ((entry, alone), among) in case.entries.iter().zip(&alone).zip(&among) {
            let zeros = vec![0.0; entry.values.len()];
            let alone = if alone.is_empty() { &zeros } else { alone };
            close(&case, &entry.name, among, alone, 1e-14);
        }
    }
}

/// Under checkpointing the inputs are made again where Burn's strategy says so.
#[test]
fn checkpointing_changes_nothing() {
    let device = || Device::flex().autodiff();
    for prior in [PRIORS[6], PRIORS[5]] {
        let case = Case::new(STRUCTURES[0], prior, POTENTIALS[0], "gather", 0);
        let kept = run(&case, By::Operation, DType::F64, &device());
        let again = run(&case, By::Operation, DType::F64, &device().gradient_checkpointing());
        assert_eq!(kept, again);
    }
}

/// A covariance with r·k is linear in r, and so is r's gradient: Σ r ∂L/∂r = L.
#[test]
fn tensors_of_questions_learn() {
    let device = Device::flex().autodiff();
    let mut random = Random::new(31);
    let mut draw = |shape: [usize; 4]| {
        let data = TensorData::new(random.normals(shape.iter().product()), shape);
        Tensor::<4>::from_data(data, (&device, DType::F64)).require_grad()
    };
    for structure in STRUCTURES {
        let text = format!("structure = {structure}\npotential = \"dot\"");
        let nodes = Nodes {
            q: draw([BATCH, HEADS, QUERIES, WIDTH]),
            k: draw([BATCH, KEY_HEADS, KEYS, WIDTH]),
            v: Some(draw([BATCH, KEY_HEADS, KEYS, VALUE_WIDTH])),
        };
        let r = draw([BATCH, HEADS, QUERIES, WIDTH]);
        let parameters = Parameters::none().with("covariance.r", r.clone());
        let posterior = Posterior::new(ModelSpec::from_toml(&text).expect("a model"));
        let answers = posterior.ask(&nodes, &parameters, &["mean", "covariance"]).expect("answers");
        let loss = answers.get::<4>("covariance").expect("a covariance").sum();
        let gradients = loss.backward();
        let along = (r.grad(&gradients).expect("a gradient") * r.inner()).sum();
        let [loss, along] = [loss.inner(), along].map(|x| numbers(x)[0]);
        assert!((loss - along).abs() < 1e-10 * loss.abs().max(1.0), "{text}: {loss} and {along}");
    }
}

#[test]
fn what_cannot_be_asked_is_refused_by_name() {
    let device = Device::flex();
    let zeros = |shape: [usize; 4]| Tensor::<4>::zeros(shape, &device);
    let spec = |text: &str| ModelSpec::from_toml(text).expect("a model");
    let dot = "structure = \"each-query-picks-one\"\npotential = \"dot\"\n";
    let posterior = Posterior::new(spec(dot));
    let nodes = |v: Option<[usize; 4]>| Nodes {
        q: zeros([1, 2, 3, 4]),
        k: zeros([1, 2, 5, 4]),
        v: v.map(zeros),
    };
    let none = Parameters::none();
    let refusal =
        |posterior: &Posterior, nodes: &Nodes, parameters: &Parameters, asked: &[&str]| {
            posterior.ask(nodes, parameters, asked).expect_err("refused").to_string()
        };
    let mean = ["mean"];
    let whole = nodes(Some([1, 2, 5, 6]));
    assert!(refusal(&posterior, &nodes(None), &none, &mean).contains("`v`"));
    assert!(
        refusal(&posterior, &nodes(Some([1, 2, 4, 6])), &none, &mean).contains("one value per key")
    );
    assert!(refusal(&posterior, &whole, &none, &[]).contains("at least one"));
    assert!(refusal(&posterior, &whole, &none, &["mean", "mean"]).contains("each question once"));
    let unknown = refusal(&posterior, &whole, &none, &["entropie"]);
    assert!(unknown.contains("`entropy`"), "{unknown}");
    let flat = refusal(&posterior, &whole, &none, &["map"]);
    assert!(flat.contains("no gradient") && flat.contains("entropy"), "{flat}");
    let odd = Nodes { k: zeros([1, 2, 5, 3]), ..whole.clone() };
    assert!(refusal(&posterior, &odd, &none, &mean).contains("dot"));
    let biased = Posterior::new(spec(&format!("{dot}prior = [\"bias\"]")));
    assert!(refusal(&biased, &whole, &none, &mean).contains("`bias`"));
    let bias = Parameters::none().with("bias", Tensor::<3>::zeros([2, 3, 4], &device));
    assert!(refusal(&biased, &whole, &bias, &mean).contains("`bias`"));
    let bias = Parameters::none().with("bias", Tensor::<5>::zeros([1, 1, 2, 3, 5], &device));
    assert!(refusal(&biased, &whole, &bias, &mean).contains("four axes"));
    let bias = Parameters::none().with("bias", Tensor::<3>::zeros([2, 3, 5], &device));
    assert!(biased.ask(&whole, &bias, &mean).is_ok());
    let geometric = format!("{dot}prior = [{{ geometric = {{ rho = 0.1 }} }}]");
    let geometric = Posterior::new(spec(&geometric));
    let outside = Parameters::none().with("geometric.rho", Tensor::<1>::ones([1], &device));
    assert!(refusal(&geometric, &whole, &outside, &mean).contains("geometric.rho"));
    let walk = Posterior::new(spec("structure = { walk = { hops = 2 } }\npotential = \"dot\""));
    assert!(refusal(&walk, &whole, &none, &mean).contains("walk"));
    let answers = posterior.ask(&whole, &none, &mean).expect("asked");
    assert!(answers.get::<3>("entropy").is_err());
    assert!(answers.get::<3>("mean").is_err());
}
