//! Posteriors on the tape: one streaming operation against plain tensor operations under Burn's own
//! autodiff, and against finite differences.

use burn::tensor::{DType, Device, Tensor, TensorData};
use marginals::Error;
use marginals::prior::{AnyPrior, RelativeBuckets};
use marginals::spec::{Domain, ModelSpec};
use marginals_burn::ops::{Answers, Nodes, Parameters, Posterior, Question};
use marginals_testkit::finite_difference::gradient;
use marginals_testkit::generate::Random;
use ndarray::{ArrayD, IxDyn};

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
    posterior: Posterior,
    entries: Vec<Entry>,
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
        let posterior = Posterior::new(spec)
            .expect("one step")
            .with_integers("segments.q", whole(&[1, QUERIES], &[0, 0, 1, 3, 2]))
            .with_integers(
                "segments.k",
                whole(&[BATCH, KEYS], &[0, 1, 1, 1, 2, 2, 2, 0, 0, 0, 1, 2, 2, 2]),
            )
            .with_integers("adjacency.indptr", whole(&[QUERIES + 1], &[0, 2, 2, 5, 6, 8]))
            .with_integers("adjacency.indices", whole(&[EDGES], &[0, 3, 1, 2, 6, 4, 5, 6]));
        Self { text, posterior, entries }
    }

    fn questions(&self) -> Vec<Question> {
        Question::ALL.to_vec()
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

type Ask = fn(&Posterior, &Nodes, &Parameters, &[Question]) -> Result<Answers, Error>;

/// Every answer, flat; −∞ is 0.
fn flat(answers: &Answers, question: Question) -> Tensor<1> {
    let flat = match question.averages_values() {
        true => answers.get::<4>(question).expect("asked").flatten(0, 3),
        false => answers.get::<3>(question).expect("asked").flatten(0, 2),
    };
    let nothing = flat.clone().is_inf();
    flat.mask_fill(nothing, 0.0)
}

fn numbers(tensor: Tensor<1>) -> Vec<f64> {
    tensor.cast(DType::F64).into_data().try_into_vec().expect("f64")
}

/// A random functional of the answers.
fn loss(answers: &Answers, questions: &[Question]) -> Tensor<1> {
    let mut random = Random::new(5);
    let mut loss: Option<Tensor<1>> = None;
    for &question in questions {
        let answer = flat(answers, question);
        let weights = random.normals(answer.dims()[0]);
        let count = weights.len();
        let weights = TensorData::new(weights, [count]);
        let weights = Tensor::from_data(weights, (&answer.device(), answer.dtype()));
        let part = (answer * weights).sum();
        loss = Some(match loss {
            None => part,
            Some(loss) => loss + part,
        });
    }
    loss.expect("at least one question")
}

/// Answers, and gradients in every input.
fn run(case: &Case, ask: Ask, format: DType, device: &Device) -> (Vec<Vec<f64>>, Vec<Vec<f64>>) {
    let questions = case.questions();
    let leaves = case.leaves(&case.values(), format, device);
    let (nodes, parameters) = case.nodes_and_parameters(&leaves);
    let answers = ask(&case.posterior, &nodes, &parameters, &questions)
        .unwrap_or_else(|e| panic!("{}{e}", case.text));
    let gradients = loss(&answers, &questions).backward();
    let found = questions.iter().map(|&question| numbers(flat(&answers, question))).collect();
    let gradients = leaves
        .iter()
        .map(|leaf| match leaf.grad(&gradients) {
            Some(gradient) => numbers(gradient),
            None => vec![0.0; leaf.dims()[0]],
        })
        .collect();
    (found, gradients)
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
fn check(case: &Case) {
    let device = Device::flex().autodiff();
    let (answers, gradients) = run(case, Posterior::ask, DType::F64, &device);
    let (plain, plain_gradients) = run(case, Posterior::ask_plainly, DType::F64, &device);
    for ((question, found), expected) in case.questions().iter().zip(&answers).zip(&plain) {
        close(case, question.name(), found, expected, 1e-10);
    }
    for ((entry, found), expected) in case.entries.iter().zip(&gradients).zip(&plain_gradients) {
        close(case, &format!("gradient of {}", entry.name), found, expected, 1e-8);
    }

    let (single, single_gradients) = run(case, Posterior::ask, DType::F32, &device);
    for ((question, found), expected) in case.questions().iter().zip(&single).zip(&answers) {
        close(case, &format!("{} in f32", question.name()), found, expected, 1e-3);
    }
    for ((entry, found), expected) in case.entries.iter().zip(&single_gradients).zip(&gradients) {
        close(case, &format!("gradient of {} in f32", entry.name), found, expected, 1e-3);
    }

    // Along a random direction in each input.
    let plain = Device::flex();
    let values = case.values();
    let questions = case.questions();
    let mut random = Random::new(23);
    for (at, entry) in case.entries.iter().enumerate() {
        if entry.name == "q" && case.text.contains("cosine") {
            // It holds a node of length 0, which has a direction as soon as it moves.
            continue;
        }
        let direction = random.normals(entry.values.len());
        let moved = |t: &[f64]| {
            let mut values = values.clone();
            for (x, d) in values[at].iter_mut().zip(&direction) {
                *x += 0.05 * (t[0] - 1.0) * d * x.abs().max(0.1);
            }
            let leaves: Vec<Tensor<1>> = values
                .iter()
                .map(|values| {
                    let data = TensorData::new(values.clone(), [values.len()]);
                    Tensor::from_data(data, (&plain, DType::F64))
                })
                .collect();
            let (nodes, parameters) = case.nodes_and_parameters(&leaves);
            let answers =
                case.posterior.ask(&nodes, &parameters, &questions).expect("asked before");
            numbers(loss(&answers, &questions))[0]
        };
        let expected = gradient(&[1.0], moved)[0];
        let along = direction.iter().zip(&entry.values).zip(&gradients[at]);
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

const PRIORS: [&str; 14] = [
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
            check(&Case::new(structure, prior, "\"dot\"", "gather", 0));
        }
    }
}

#[test]
fn every_structure_and_potential_agrees_with_plain_tensors_and_finite_differences() {
    for structure in STRUCTURES {
        for potential in POTENTIALS {
            check(&Case::new(structure, "[\"causal\"]", potential, "gather", 1));
        }
    }
}

#[test]
fn averages_and_empty_rows_agree_with_plain_tensors_and_finite_differences() {
    for structure in STRUCTURES {
        check(&Case::new(structure, "[\"bias\"]", "\"dot\"", "average", 0));
        // The first two queries come before every key.
        check(&Case::new(structure, "[\"causal\"]", "\"dot\"", "average", -2));
    }
}

/// Under checkpointing the inputs are made again where Burn's strategy says so.
#[test]
fn checkpointing_changes_nothing() {
    let case = Case::new(STRUCTURES[0], PRIORS[6], POTENTIALS[0], "gather", 0);
    let kept = run(&case, Posterior::ask, DType::F64, &Device::flex().autodiff());
    let again =
        run(&case, Posterior::ask, DType::F64, &Device::flex().autodiff().gradient_checkpointing());
    assert_eq!(kept, again);
}

#[test]
fn what_cannot_be_asked_is_refused_by_name() {
    let device = Device::flex();
    let zeros = |shape: [usize; 4]| Tensor::<4>::zeros(shape, &device);
    let spec = |text: &str| ModelSpec::from_toml(text).expect("a model");
    let dot = "structure = \"each-query-picks-one\"\npotential = \"dot\"\n";
    let posterior = Posterior::new(spec(dot)).expect("one step");
    let nodes = |v: Option<[usize; 4]>| Nodes {
        q: zeros([1, 2, 3, 4]),
        k: zeros([1, 2, 5, 4]),
        v: v.map(zeros),
    };
    let none = Parameters::none();
    let refusal =
        |posterior: &Posterior, nodes: &Nodes, parameters: &Parameters, asked: &[Question]| {
            posterior.ask(nodes, parameters, asked).expect_err("refused").to_string()
        };
    let mean = [Question::Mean];
    let whole = nodes(Some([1, 2, 5, 6]));
    assert!(refusal(&posterior, &nodes(None), &none, &mean).contains("`v`"));
    assert!(
        refusal(&posterior, &nodes(Some([1, 2, 4, 6])), &none, &mean).contains("one value per key")
    );
    assert!(refusal(&posterior, &whole, &none, &[]).contains("at least one"));
    assert!(refusal(&posterior, &whole, &none, &[mean[0], mean[0]]).contains("each question once"));
    let odd = Nodes { k: zeros([1, 2, 5, 3]), ..whole.clone() };
    assert!(refusal(&posterior, &odd, &none, &mean).contains("dot"));
    let biased = Posterior::new(spec(&format!("{dot}prior = [\"bias\"]"))).expect("one step");
    assert!(refusal(&biased, &whole, &none, &mean).contains("`bias`"));
    let geometric = format!("{dot}prior = [{{ geometric = {{ rho = 0.1 }} }}]");
    let geometric = Posterior::new(spec(&geometric)).expect("one step");
    let outside = Parameters::none().with("geometric.rho", Tensor::<1>::ones([1], &device));
    assert!(refusal(&geometric, &whole, &outside, &mean).contains("geometric.rho"));
    let walk = "structure = { walk = { hops = 2 } }\npotential = \"dot\"";
    assert!(Posterior::new(spec(walk)).expect_err("refused").to_string().contains("Multihop"));
    let answers = posterior.ask(&whole, &none, &mean).expect("asked");
    assert!(answers.get::<3>(Question::Entropy).is_err());
    assert!(answers.get::<3>(Question::Mean).is_err());
}
