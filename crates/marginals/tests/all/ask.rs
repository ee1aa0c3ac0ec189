//! Asking by name, from the outside: names and tensors in, tensors out.

use std::cell::RefCell;
use std::collections::BTreeMap;

use marginals::ask::{
    Answers, GRADIENT, Input, Nan, Settings, Source, ask, ask_and_keep, refuse_repeats,
};
use marginals::infer::Truncated;
use marginals::potential::Dot;
use marginals::prior::{Alibi, OfDistance, Prior, Survival};
use marginals::question::{Mean, Named, QUESTIONS, Tensor};
use marginals::spec::ModelFile;
use marginals::structure::EachQueryPicksOne;
use marginals::{Error, Model, Real, distance};
use marginals_testkit::{Head, Structure, ValueKind, dense};
use ndarray::{Array2, Array3, ArrayD, Axis, Ix3, Ix4, IxDyn, arr1, s};

const HEADS: usize = 2;
const NODES: usize = 4;
const WIDTH: usize = 3;

type Inputs<T> = BTreeMap<String, Input<'static, T>>;

/// Fixed numbers in (−1, 1).
fn numbers<T: Real>(seed: f64, shape: &[usize]) -> ArrayD<T> {
    let number = |i: usize| T::of(((i as f64 + 1.0) * 12.9898 + seed * 78.233).sin());
    let count: usize = shape.iter().product();
    ArrayD::from_shape_vec(IxDyn(shape), (0..count).map(number).collect()).unwrap()
}

fn inputs<T: Real>() -> Inputs<T> {
    let nodes = [1, HEADS, NODES, WIDTH];
    let of = |name: &str, tensor: ArrayD<T>| (name.to_owned(), Input::from(tensor));
    BTreeMap::from([
        of("q", numbers(1.0, &nodes)),
        of("k", numbers(2.0, &nodes)),
        of("v", numbers(3.0, &[1, HEADS, NODES, 2])),
        of("bias", numbers(4.0, &[NODES, NODES])),
    ])
}

/// Those and what questions read beside them.
fn with_read<T: Real>() -> Inputs<T> {
    let nodes = [1, HEADS, NODES, WIDTH];
    let mut all = inputs();
    let paths = ArrayD::from_shape_vec(IxDyn(&[2, 2]), vec![0i64, 1, 2, -1]).unwrap();
    all.insert("paths".into(), paths.into());
    all.insert("covariance.r".into(), numbers::<T>(5.0, &nodes).into());
    all.insert("tangent.q".into(), numbers::<T>(6.0, &nodes).into());
    all.insert("tangent.k".into(), numbers::<T>(7.0, &nodes).into());
    all.insert("tangent.v".into(), numbers::<T>(8.0, &[1, HEADS, NODES, 2]).into());
    all.insert("tangent.bias".into(), numbers::<T>(9.0, &[NODES, 1]).into());
    all
}

fn real<T: Real>(inputs: &Inputs<T>, name: &str) -> ArrayD<T> {
    match &inputs[name] {
        Input::Real(tensor) => tensor.to_owned().into_owned(),
        other => panic!("{name} holds {other:?}"),
    }
}

fn file(structure: &str) -> ModelFile {
    let rest = "prior = [\"bias\"]\npotential = { dot = { scale = 0.7 } }";
    ModelFile::from_toml(&format!("structure = {structure}\n{rest}")).unwrap()
}

const WALK: &str = "{ walk = { hops = 2, weights = [[0.2, 0.5, 0.3], [0.6, 0.1, 0.3]] } }";
const LOST: &str = "{ walk = { weights = [0.2, 0.5, 0.3], step = { each-query-picks-at-most-one = { null = 0.4 } } } }";
const STRUCTURES: &[&str] = &[
    "\"each-query-picks-one\"",
    "{ each-query-picks-at-most-one = { null = 0.3 } }",
    "\"each-key-picks-one\"",
    "\"independent\"",
    WALK,
    LOST,
];

fn named(names: &[&str]) -> Vec<Named> {
    names.iter().map(|name| Named::parse(name).unwrap()).collect()
}

fn run<T: Real>(file: &ModelFile, names: &[&str], inputs: &Inputs<T>) -> Result<Answers<T>, Error> {
    ask(file, &named(names), inputs, Settings::default())
}

fn refusal<T: Real>(file: &ModelFile, names: &[&str], inputs: &Inputs<T>) -> String {
    run(file, names, inputs).map(|answers| format!("{answers:?}")).unwrap_err().to_string()
}

fn numbers_of<T: Real>(answers: &Answers<T>, name: &str) -> ArrayD<T> {
    match answers.get(name) {
        Some(Tensor::Real(tensor)) => tensor.clone(),
        other => panic!("{name} is {other:?}"),
    }
}

/// The one-step posterior of a head, from the dense formulas.
fn one_step(inputs: &Inputs<f64>, head: usize, null: Option<f64>) -> Array2<f64> {
    let rows = |name: &str| -> Array2<f64> {
        let tensor = real(inputs, name);
        tensor.slice(s![0, head, .., ..]).to_owned()
    };
    let structure = match null {
        None => Structure::EachQueryPicksOne,
        Some(_) => Structure::EachQueryPicksAtMostOne,
    };
    dense::answer(&Head {
        structure,
        value_kind: ValueKind::Gather,
        log_weight: real(inputs, "bias").into_dimensionality().unwrap(),
        log_potential: rows("q").dot(&rows("k").t()) * 0.7,
        null_log_weight: null.unwrap_or_default(),
        value: rows("v"),
        query_offset: 0,
    })
    .marginals
}

/// A file that names walks builds walks: its mean is Σ_h P(h) P^h V, with P of the dense formulas.
#[test]
fn the_model_of_a_walk_is_a_walk() {
    let inputs = inputs::<f64>();
    let per_head = [[0.2, 0.5, 0.3], [0.6, 0.1, 0.3]];
    for (structure, weights, null) in
        [(WALK, per_head, None), (LOST, [per_head[0]; HEADS], Some(0.4))]
    {
        let answers = run(&file(structure), &["mean"], &inputs).unwrap();
        let mean = numbers_of(&answers, "mean");
        for (head, weights) in weights.iter().enumerate() {
            let p = one_step(&inputs, head, null);
            let mut carried: Array2<f64> = real(&inputs, "v").slice(s![0, head, .., ..]).to_owned();
            let mut expected = Array2::zeros((NODES, 2));
            for weight in weights {
                expected.scaled_add(*weight, &carried);
                carried = p.dot(&carried);
            }
            let got = mean.slice(s![0, head, .., ..]);
            for (got, expected) in got.iter().zip(&expected) {
                assert!((got - expected).abs() < 1e-13, "{structure}: {got}, not {expected}");
            }
        }
    }
}

/// A backward apart from its forward gives, as often as it runs, what came of both at once.
fn later_as_at_once(
    file: &ModelFile,
    question: &str,
    (plain, with_upstream): (&Inputs<f64>, &Inputs<f64>),
    at_once: &Answers<f64>,
) {
    let (asked, settings) = (named(&[question]), Settings::default());
    let (answers, mut kept) = ask_and_keep(file, &asked, plain, settings).unwrap();
    assert_eq!(answers.get(question), at_once.get(question), "{question}");
    for _ in 0..2 {
        let gradients = kept.backward(file, &asked, with_upstream, settings).unwrap();
        let expected = at_once.iter().filter(|(name, _)| name.starts_with(GRADIENT));
        assert!(gradients.iter().eq(expected), "{question}: {gradients:?}");
    }
}

/// Every differentiable question that a structure answers, asked or not, against differences of what
/// comes out under its name.
#[test]
fn every_differentiable_question_is_differentiated_by_its_name() {
    for structure in STRUCTURES {
        let file = file(structure);
        let mut differentiated = Vec::new();
        for entry in QUESTIONS.iter().filter(|entry| entry.differentiable) {
            let plain = with_read::<f64>();
            let Ok(answers) = run(&file, &[entry.name], &plain) else { continue };
            let answer = numbers_of(&answers, entry.name);
            let upstream = numbers::<f64>(5.0, answer.shape());
            let loss = |inputs: &Inputs<f64>| {
                (numbers_of(&run(&file, &[entry.name], inputs).unwrap(), entry.name) * &upstream)
                    .sum()
            };
            let mut with_upstream = plain.clone();
            with_upstream.insert(format!("grad.{}", entry.name), upstream.clone().into());
            let asked = run(&file, &[entry.name], &with_upstream).unwrap();
            let unasked = run(&file, &["query-mass"], &with_upstream);
            // Walks have no mass of queries.
            let unasked = unasked.unwrap_or_else(|_| run(&file, &[], &with_upstream).unwrap());
            assert!(asked.get(entry.name).is_some(), "{structure} {}", entry.name);
            later_as_at_once(&file, entry.name, (&plain, &with_upstream), &asked);
            if entry.name != "query-mass" {
                assert!(unasked.get(entry.name).is_none(), "{structure} {}", entry.name);
            }
            let learned = entry.reads.iter().copied();
            for name in ["q", "k", "v", "bias"].into_iter().chain(learned) {
                let gradient = format!("grad.{name}");
                if name == "v" && !entry.averages_values {
                    assert!(asked.get(&gradient).is_none(), "{structure} {}", entry.name);
                    continue;
                }
                let got = numbers_of(&asked, &gradient);
                let close = |(a, b): (&f64, &f64)| (a - b).abs() <= 1e-14;
                let other = numbers_of(&unasked, &gradient);
                assert!(got.iter().zip(&other).all(close), "{structure} {}", entry.name);
                for at in [0, got.len() / 2, got.len() - 1] {
                    let moved = |step: f64| {
                        let mut inputs = plain.clone();
                        let mut tensor = real(&inputs, name);
                        *tensor.iter_mut().nth(at).unwrap() += step;
                        inputs.insert(name.into(), tensor.into());
                        loss(&inputs)
                    };
                    let expected = (moved(1e-5) - moved(-1e-5)) / 2e-5;
                    let got = got.iter().nth(at).unwrap();
                    assert!(
                        (got - expected).abs() < 1e-7,
                        "{structure} {} grad.{name}[{at}]: {got}, expected {expected}",
                        entry.name
                    );
                }
            }
            differentiated.push(entry.name);
        }
        let least = ["mean", "entropy", "kl"];
        assert!(least.iter().all(|name| differentiated.contains(name)), "{differentiated:?}");
        assert!(differentiated.len() >= if structure.contains("walk") { 4 } else { 9 });
    }
}

/// In f32 as in f64, all questions in one call; what a structure does not answer is refused by name.
#[test]
fn every_question_is_answered_or_refused_by_name() {
    for structure in STRUCTURES {
        let file = file(structure);
        let (single, double) = (with_read::<f32>(), with_read::<f64>());
        let usage = |entry: &marginals::question::Entry| match entry.argument {
            None => entry.name.to_owned(),
            Some(_) => format!("{}=2", entry.name),
        };
        let (mut answered, mut refused) = (Vec::new(), Vec::new());
        for entry in QUESTIONS {
            match run(&file, &[&usage(entry)], &double) {
                Ok(_) => answered.push(usage(entry)),
                Err(error) => refused.push((entry.name, error.to_string())),
            }
        }
        for (name, told) in refused {
            assert!(told.contains(&format!("`{name}`")), "{structure}: {told}");
        }
        let names: Vec<&str> = answered.iter().map(String::as_str).collect();
        let read = ["covariance", "jvp"].iter().all(|name| names.contains(name));
        assert_ne!(read, structure.contains("walk"), "{structure}: {names:?}");
        let (single, double) =
            (run(&file, &names, &single).unwrap(), run(&file, &names, &double).unwrap());
        assert!(double.iter().count() >= names.len());
        for (name, tensor) in double.iter() {
            let other = single.get(name).unwrap();
            assert_eq!(tensor.shape(), other.shape(), "{structure} {name}");
            match (tensor, other) {
                (Tensor::Real(double), Tensor::Real(single)) => {
                    for (a, b) in double.iter().zip(single) {
                        assert!((a - f64::from(*b)).abs() < 1e-5, "{structure} {name}: {a}, {b}");
                    }
                }
                (Tensor::Index(double), Tensor::Index(single)) => assert_eq!(double, single),
                (Tensor::Bits(double), Tensor::Bits(single)) => assert_eq!(double, single),
                _ => panic!("{structure} {name}: of two kinds"),
            }
        }
    }
}

#[test]
fn seeds_draw_and_repeat() {
    let (file, inputs) = (file("\"each-query-picks-one\""), inputs::<f64>());
    let draw = |seed| {
        let settings = Settings { seed, ..Settings::default() };
        let answers = ask(&file, &named(&["samples=50"]), &inputs, settings).unwrap();
        answers.get("samples").unwrap().clone()
    };
    assert_eq!(draw(7), draw(7));
    assert_ne!(draw(7), draw(8));
}

#[test]
fn upstream_gradients_are_taken_or_refused_by_name() {
    let file = file("\"each-query-picks-one\"");
    let with = |name: &str, shape: &[usize]| {
        let mut inputs = inputs::<f64>();
        inputs.insert(name.into(), numbers::<f64>(6.0, shape).into());
        refusal(&file, &["entropy"], &inputs)
    };
    let told = with("grad.entropi", &[1]);
    assert!(
        told.contains("`grad.entropi`") && told.contains("did you mean `grad.entropy`"),
        "{told}"
    );
    for name in ["grad.map", "grad.samples", "grad.paths"] {
        let told = with(name, &[1, HEADS, NODES]);
        assert!(
            told.contains(&format!("`{name}`")) && told.contains("not differentiable"),
            "{told}"
        );
    }
    let told = with("grad.entropy", &[1, HEADS, NODES + 1]);
    assert!(told.contains("`grad.entropy`") && told.contains("[1, 2, 4]"), "{told}");
    let told = with("grad.entropy", &[HEADS, NODES]);
    assert!(told.contains("`grad.entropy`") && told.contains("3 axes"), "{told}");
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let file = file("\"each-query-picks-one\"");
    let without = |name: &str| {
        let mut inputs = inputs::<f64>();
        inputs.remove(name);
        refusal(&file, &["mean"], &inputs)
    };
    // All that there is, and not what the model was shown of it.
    for (name, held) in [("q", "bias, k, v"), ("v", "bias, k, q"), ("bias", "k, q, v")] {
        let told = without(name);
        assert!(told.contains(&format!("`{name}`")) && told.ends_with(held), "{told}");
    }
    let mut whole = inputs::<f64>();
    whole.insert("k".into(), ArrayD::<i64>::zeros(IxDyn(&[1, HEADS, NODES, WIDTH])).into());
    let told = refusal(&file, &["mean"], &whole);
    assert!(told.contains("`k` holds whole numbers, expected real numbers"), "{told}");
    let mut bits = inputs::<f64>();
    bits.insert("k".into(), Input::Bits(ArrayD::zeros(IxDyn(&[1, HEADS, NODES, WIDTH])).into()));
    let told = refusal(&file, &["mean"], &bits);
    assert!(told.contains("`k` holds truth values, expected real numbers"), "{told}");
    let told = refusal(&file, &["mean", "entropy", "mean"], &inputs::<f64>());
    assert!(told.contains("each question once"), "{told}");
    assert!(refuse_repeats("--ask", &named(&["top-k=1", "top-k=2"])).is_err());

    let mut nan = inputs::<f64>();
    let mut v = real(&nan, "v");
    v[[0, 1, 2, 0]] = f64::NAN;
    nan.insert("v".into(), v.into());
    let settings = Settings { nan: Nan::IsRefused, ..Settings::default() };
    let told = ask(&file, &named(&["mean"]), &nan, settings).unwrap_err().to_string();
    assert!(told.contains("`v` holds NaN at [0, 1, 2, 0]"), "{told}");
    // Nobody asks for the values.
    ask(&file, &named(&["entropy"]), &nan, settings).unwrap();
    run(&file, &["mean"], &nan).unwrap();

    let slots = ModelFile::from_toml("mechanism = \"slots\"").unwrap();
    for questions in [&["mean"][..], &[]] {
        let told = refusal(&slots, questions, &inputs::<f64>());
        assert!(told.contains("marginals_burn"), "{told}");
    }
}

/// Truth values as a bias are the mask that they are: log-weights of 0 and −∞.
#[test]
fn masks_are_log_weights() {
    let allowed = |(i, j): (usize, usize)| (i + 2 * j) % 3 != 0;
    let place = |at: usize| (at / NODES, at % NODES);
    let shape = IxDyn(&[NODES, NODES]);
    let answer = |bias: Input<'static, f64>| {
        let mut inputs = inputs::<f64>();
        inputs.insert("bias".into(), bias);
        numbers_of(&run(&file("\"independent\""), &["marginals"], &inputs).unwrap(), "marginals")
    };
    let bits: Vec<u8> = (0..NODES * NODES).map(|at| allowed(place(at)).into()).collect();
    let mask = answer(Input::Bits(ArrayD::from_shape_vec(shape, bits).unwrap().into()));
    for ((_, _, i, j), p) in mask.into_dimensionality::<ndarray::Ix4>().unwrap().indexed_iter() {
        assert_eq!(*p > 0.0, allowed((i, j)), "{i} {j}: {p}");
    }
}

/// A source that notes what is read of it, some of which cannot be.
struct Watched {
    held: Inputs<f64>,
    unread: Vec<&'static str>,
    read: RefCell<Vec<String>>,
}

impl Source<f64> for Watched {
    fn names(&self) -> Vec<String> {
        let unread = self.unread.iter().map(|&name| name.to_owned());
        self.held.keys().cloned().chain(unread).collect()
    }
    fn read(&self, name: &str) -> Result<Option<Input<'_, f64>>, Error> {
        self.read.borrow_mut().push(name.to_owned());
        self.held.read(name)
    }
}

/// A file may hold other things, in types that nobody reads.
#[test]
fn tensors_are_read_when_they_are_wanted() {
    let file = file("\"each-query-picks-one\"");
    let mut source = Watched {
        held: inputs(),
        unread: vec!["layer.0.weight", "paths", "step"],
        read: RefCell::default(),
    };
    ask(&file, &named(&["entropy"]), &source, Settings::default()).unwrap();
    let mut read = source.read.take();
    read.sort_unstable();
    assert_eq!(read, ["bias", "k", "q"]);
    source.held.remove("bias");
    source.unread.push("bias");
    let told = ask(&file, &named(&["entropy"]), &source, Settings::default()).unwrap_err();
    let told = told.to_string();
    assert!(told.contains("`bias` holds entries of a type that is not read"), "{told}");
}

/// A Hopfield network of one pattern forgets where it started; its coded answers say what they mean.
/// Forget gates by the name of their tensor, as prior and as distance, with all edges and without those
/// that weigh little.
#[test]
fn gates_and_the_inference_are_named() {
    let n = 40;
    let nodes = [1, HEADS, n, WIDTH];
    let log_gates: ArrayD<f64> = numbers(5.0, &[HEADS, n]).mapv(|x: f64| -x.abs());
    let mut inputs: Inputs<f64> = BTreeMap::new();
    for (name, seed) in [("q", 1.0), ("k", 2.0), ("v", 3.0), ("grad.mean", 4.0)] {
        inputs.insert(name.to_owned(), Input::from(numbers::<f64>(seed, &nodes)));
    }
    inputs.insert("survival.log-gates".to_owned(), Input::from(log_gates.clone()));
    let gates = || log_gates.clone().insert_axis(Axis(0)).into_dimensionality::<Ix3>().unwrap();
    let four = |name| real(&inputs, name).into_dimensionality::<Ix4>().unwrap();
    let (q, k, v, upstream) = (four("q"), four("k"), four("v"), four("grad.mean"));
    let truncated = Truncated::within(0.1).with_tile(4);
    let over = Alibi::new(&[1.0, 0.7]).over(distance::Survival::new(gates()));
    let priors: [(&str, Box<dyn Prior<f64>>); 2] = [
        ("\"survival\"", Box::new(Survival::new(gates()))),
        ("{ alibi = { slopes = [1.0, 0.7], distance = \"survival\" } }", Box::new(over)),
    ];
    for (text, prior) in priors {
        let model = Model::new(EachQueryPicksOne, prior, Dot::new(0.7));
        let text = format!(
            "structure = \"each-query-picks-one\"\nprior = {text}\npotential = {{ dot = {{ scale = 0.7 }} }}\n"
        );
        let inference = "inference = { truncated = { mass = 0.1, tile = 4 } }";
        let mut means = Vec::new();
        for inference in ["", inference] {
            let file = ModelFile::from_toml(&format!("{text}{inference}")).unwrap();
            let answers = run(&file, &["mean"], &inputs).unwrap();
            let mut posterior = model.posterior(q.view(), k.view()).unwrap();
            if !inference.is_empty() {
                posterior = posterior.by(truncated).unwrap();
            }
            let pass = posterior.pass(Mean(v.view())).unwrap();
            means.push(pass.answer().unwrap());
            assert_eq!(numbers_of(&answers, "mean"), means[means.len() - 1].clone().into_dyn());
            let gradients = pass.backward(&upstream).unwrap();
            for (name, gradient) in gradients.into_named() {
                let shape = gradient.shape().to_vec();
                let found = numbers_of(&answers, &format!("grad.{name}"));
                let found = found.into_shape_with_order(IxDyn(&shape)).unwrap();
                assert_eq!(found, gradient, "{name}");
            }
        }
        assert_ne!(means[0], means[1], "something is left out");
    }
    let mut open = inputs.clone();
    open.insert("survival.log-gates".to_owned(), Input::from(numbers::<f64>(5.0, &[HEADS, n])));
    let file = ModelFile::from_toml(
        "structure = \"each-query-picks-one\"\nprior = \"survival\"\npotential = \"dot\"",
    );
    let told = refusal(&file.unwrap(), &["mean"], &open);
    assert!(told.contains("survival.log-gates[0, 0, ") && told.contains("at most 0"), "{told}");
}

#[test]
fn mechanisms_answer_with_the_meaning_of_their_codes() {
    let file = ModelFile::from_toml("mechanism = { hopfield = { beta = 2.0 } }").unwrap();
    let pattern = numbers::<f64>(9.0, &[1, 1, 1, WIDTH]);
    let inputs = BTreeMap::from([
        ("states".to_owned(), Input::from(numbers::<f64>(8.0, &[1, 1, 2, WIDTH]))),
        ("patterns".to_owned(), Input::from(pattern.clone())),
    ]);
    let answers = run(&file, &["map", "mean"], &inputs).unwrap();
    let state = numbers_of(&answers, "state").into_dimensionality::<ndarray::Ix4>().unwrap();
    for row in state.rows() {
        for (got, expected) in row.iter().zip(&pattern) {
            assert!((got - expected).abs() < 1e-12);
        }
    }
    assert_eq!(answers.get("map"), Some(&Tensor::Index(ArrayD::zeros(IxDyn(&[1, 1, 2])))));
    assert_eq!(numbers_of(&answers, "mean").shape(), [1, 1, 2, WIDTH]);
    let meanings: Vec<(&str, &str)> = answers.meanings().collect();
    assert!(meanings.iter().any(|(name, told)| *name == "settled" && told.contains("0 pattern")));
    assert!(meanings.iter().any(|(name, told)| *name == "reason" && told.contains("0 converged")));
}

/// What a memory is asked is answered as of one posterior with the same nodes, whatever its patterns have
/// in common: scores that are relative to it are told from those that are not.
#[test]
fn a_memory_is_asked_about_its_scores() {
    let file = "mechanism = { hopfield = { beta = 0.05, steps = 2, tolerance = 0.0 } }";
    let memory = ModelFile::from_toml(file).unwrap();
    let posterior = ModelFile::from_toml(
        "structure = \"each-query-picks-one\"\npotential = { dot = { scale = 0.05 } }",
    );
    let posterior = posterior.unwrap();
    for common in [0.0, 40.0, -40.0] {
        let around = |seed: f64, count: usize| {
            numbers::<f64>(seed, &[1, 1, count, WIDTH]).mapv(|x| x + common)
        };
        let inputs = BTreeMap::from([
            ("states".to_owned(), Input::from(around(8.0, 3))),
            ("patterns".to_owned(), Input::from(around(9.0, 5))),
        ]);
        let mut answered = 0;
        for entry in QUESTIONS {
            let usage = match entry.argument {
                None => entry.name.to_owned(),
                Some(_) => format!("{}=2", entry.name),
            };
            let Ok(answers) = run(&memory, &[&usage], &inputs) else { continue };
            let nodes = BTreeMap::from([
                ("q".to_owned(), Input::from(numbers_of(&answers, "state"))),
                ("k".to_owned(), Input::from(around(9.0, 5))),
                ("v".to_owned(), Input::from(around(9.0, 5))),
            ]);
            for (name, expected) in run(&posterior, &[&usage], &nodes).unwrap().iter() {
                let found = answers.get(name).unwrap();
                match (found, expected) {
                    (Tensor::Real(found), Tensor::Real(expected)) => {
                        for (a, b) in found.iter().zip(expected) {
                            assert!((a - b).abs() < 1e-10 * b.abs().max(1.0), "{name}: {a}, {b}");
                        }
                    }
                    _ => assert_eq!(found, expected, "{name}"),
                }
            }
            answered += 1;
        }
        assert!(answered > 12, "{answered}");
    }
}

/// Whatever does not average values can be asked about the components of points.
#[test]
fn components_of_points_are_asked_about() {
    let file = "mechanism = { mixture = { components = 2, steps = 3 } }";
    let file = ModelFile::from_toml(file).unwrap();
    let points = numbers::<f64>(7.0, &[1, 1, 9, 2]);
    let inputs = BTreeMap::from([("points".to_owned(), Input::from(points))]);
    let answers = run(&file, &["marginals", "log-evidence", "top-k=1"], &inputs).unwrap();
    let responsibilities = numbers_of(&answers, "marginals");
    for sum in responsibilities.sum_axis(Axis(2)).iter() {
        assert!((sum - 1.0).abs() < 1e-14, "{sum}");
    }
    // The likeliest component, by looking.
    let responsibilities: Array3<f64> =
        responsibilities.index_axis(Axis(0), 0).to_owned().into_dimensionality().unwrap();
    let Some(Tensor::Index(best)) = answers.get("top-k.index") else { panic!("{answers:?}") };
    for (point, best) in best.iter().enumerate() {
        let of = |component: usize| responsibilities[[0, component, point]];
        assert_eq!(*best, i64::from(of(1) > of(0)));
    }
    let told = refusal(&file, &["value-variance"], &inputs);
    assert!(told.contains("`value-variance`") && told.contains("values play no part"), "{told}");
}

/// Paths are read where they are asked about, and nowhere else.
#[test]
fn questions_read_their_own_tensors() {
    let file = file(WALK);
    let mut inputs = inputs::<f64>();
    inputs.insert("paths".into(), numbers::<f64>(1.0, &[1, 2]).into());
    run(&file, &["hops"], &inputs).unwrap();
    let told = refusal(&file, &["paths"], &inputs);
    assert!(told.contains("`paths` holds real numbers, expected whole numbers"), "{told}");
    let rows = ArrayD::from_shape_vec(IxDyn(&[1, 3]), vec![3i64, 0, -1]).unwrap();
    inputs.insert("paths".into(), rows.into());
    let answer = numbers_of(&run(&file, &["paths"], &inputs).unwrap(), "paths");
    let expected: Vec<f64> = (0..HEADS)
        .map(|head| {
            let weight: f64 = [0.5, 0.1][head];
            weight.ln() + one_step(&inputs, head, None)[[3, 0]].ln()
        })
        .collect();
    let close = answer.iter().zip(arr1(&expected)).all(|(a, b)| (a - b).abs() < 1e-13);
    assert!(close, "{answer}, expected {expected:?}");
}

/// A derivative in everything at once is the difference of means moved along the tangents.
#[test]
fn a_tangent_is_a_difference_of_means() {
    for structure in STRUCTURES.iter().filter(|structure| !structure.contains("walk")) {
        let (file, inputs) = (file(structure), with_read::<f64>());
        let found = numbers_of(&run(&file, &["jvp"], &inputs).unwrap(), "jvp");
        let mean = |step: f64| {
            let mut moved = inputs.clone();
            for name in ["q", "k", "v", "bias"] {
                let tangent = real(&inputs, &format!("tangent.{name}"));
                moved.insert(name.into(), (real(&inputs, name) + step * tangent).into());
            }
            numbers_of(&run(&file, &["mean"], &moved).unwrap(), "mean")
        };
        let expected = (mean(1e-5) - mean(-1e-5)) / 2e-5;
        for (found, expected) in found.iter().zip(&expected) {
            assert!((found - expected).abs() < 1e-8, "{structure}: {found}, expected {expected}");
        }
    }
}

/// What a question reads is asked for by name and shape.
#[test]
fn tensors_of_questions_are_asked_for() {
    let (file, mut inputs) = (file("\"independent\""), inputs::<f64>());
    let missing = refusal(&file, &["covariance"], &inputs);
    assert!(missing.contains("`covariance.r`") && missing.contains("[B, H, N, D]"), "{missing}");
    let missing = refusal(&file, &["jvp"], &inputs);
    assert!(missing.contains("at least one of tangent.q"), "{missing}");
    inputs.insert("covariance.r".into(), numbers::<f64>(1.0, &[1, HEADS, NODES, 2]).into());
    let wrong = refusal(&file, &["covariance"], &inputs);
    assert!(
        wrong.contains("`covariance.r` has shape [1, 2, 4, 2], expected [1, 2, 4, 3]"),
        "{wrong}"
    );
    let whole = ArrayD::<i64>::zeros(IxDyn(&[1, HEADS, NODES, WIDTH]));
    inputs.insert("covariance.r".into(), whole.into());
    let wrong = refusal(&file, &["covariance"], &inputs);
    assert!(wrong.contains("`covariance.r` holds whole numbers"), "{wrong}");
}

#[test]
fn a_transport_is_asked_by_name() {
    let text = "structure = { matching = { mass = 2.5 } }\npotential = \"scores\"\n\
                inference = { entropic = { tolerance = 1e-10 } }";
    let file = ModelFile::from_toml(text).unwrap();
    let of = |name: &str, tensor: ArrayD<f64>| (name.to_owned(), Input::from(tensor));
    let masses = |seed, nodes| numbers::<f64>(seed, &[nodes]).mapv(|x| 1.0 + 0.2 * x);
    let mut inputs = BTreeMap::from([
        of("scores", numbers(1.0, &[1, 1, 3, 4])),
        of("v", numbers(2.0, &[1, 1, 4, 2])),
        of("query-mass", masses(3.0, 3)),
        of("key-mass", masses(4.0, 4)),
    ]);
    let asked = ["mean", "log-partition", "column-mass"];
    let answers = run(&file, &asked, &inputs).unwrap();
    let column = numbers_of(&answers, "column-mass");
    assert!((column.sum() - 2.5).abs() < 1e-9, "{column}");
    assert!(column.iter().zip(&masses(4.0, 4)).all(|(c, most)| *c <= most + 1e-9), "{column}");
    assert!(numbers_of(&answers, "transport.gap")[[0]] < 1e-7);
    assert!(numbers_of(&answers, "transport.marginal-error")[[0]] <= 1e-10);
    assert_eq!(numbers_of(&answers, "transport.below")[[0]], f64::INFINITY);
    assert!(matches!(answers.get("reason"), Some(Tensor::Index(code)) if code[[0]] == 0));
    assert!(answers.get("steps").is_some());
    inputs.insert("grad.mean".into(), ArrayD::<f64>::ones(IxDyn(&[1, 1, 3, 2])).into());
    let answers = run(&file, &asked, &inputs).unwrap();
    assert_eq!(numbers_of(&answers, "grad.scores").shape(), [1, 1, 3, 4]);
    assert!(answers.get("transport.gap").is_some());
    let refused = refusal(&file, &["samples=2"], &inputs);
    assert!(refused.contains("samples") && refused.contains("entropic"), "{refused}");
}

#[test]
fn a_backward_comes_after_its_forward() {
    let posterior = file("\"each-query-picks-one\"");
    let settings = Settings::default();
    let mut all = inputs::<f64>();
    let (_, mut kept) = ask_and_keep(&posterior, &named(&["mean"]), &all, settings).unwrap();
    all.insert("grad.entropy".into(), numbers::<f64>(5.0, &[1, HEADS, NODES]).into());
    let early =
        ask_and_keep(&posterior, &named(&["mean"]), &all, settings).unwrap_err().to_string();
    assert!(early.contains("grad.entropy") && early.contains("forward"), "{early}");
    let unasked = kept.backward(&posterior, &named(&["mean"]), &all, settings).unwrap_err();
    assert!(unasked.to_string().contains("Ask `entropy` too"), "{unasked}");

    // A mechanism runs again, and gives its gradients alone.
    let text = "mechanism = { hopfield = { beta = 2.0, steps = 3 } }";
    let memory = ModelFile::from_toml(text).unwrap();
    let of = |name: &str, seed| (name.to_owned(), numbers::<f64>(seed, &[1, 1, 4, 3]).into());
    let mut all = BTreeMap::from([of("states", 1.0), of("patterns", 2.0)]);
    let (answers, mut kept) = ask_and_keep(&memory, &named(&["entropy"]), &all, settings).unwrap();
    assert!(answers.get("state").is_some() && answers.get("entropy").is_some());
    all.insert("grad.state".into(), numbers::<f64>(3.0, &[1, 1, 4, 3]).into());
    let later = kept.backward(&memory, &named(&["entropy"]), &all, settings).unwrap();
    let at_once = run(&memory, &[], &all).unwrap();
    assert!(later.iter().eq(at_once.iter().filter(|(name, _)| name.starts_with(GRADIENT))));
    assert!(later.get("grad.patterns").is_some() && later.get("state").is_none());
}
