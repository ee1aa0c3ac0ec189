//! Scores given as they are, and bad input to structures whose edges depend on each other.

use std::collections::BTreeMap;

use marginals::ask::{Answers, Input, Settings, ask};
use marginals::potential::{Dot, Scores};
use marginals::prior::{Bias, Uniform};
use marginals::question::{
    Entropy, Jvp, Kl, LogPartition, Marginals, Mean, Named, QueryMass, Tangents,
};
use marginals::spec::ModelFile;
use marginals::structure::{
    Chain, EachQueryPicksK, EachQueryPicksOne, MonotoneAlignment, Moves, ProjectiveArborescence,
    RootEdges, SpanningTree, Structure,
};
use marginals::{Error, Model, Value};
use marginals_testkit::finite_difference;
use marginals_testkit::generate::Random;
use ndarray::{Array2, Array4, ArrayD, IxDyn};

fn normal(random: &mut Random, shape: &[usize]) -> ArrayD<f64> {
    ArrayD::from_shape_simple_fn(IxDyn(shape), || random.normal())
}

fn asked(
    file: &str,
    names: &[&str],
    tensors: &BTreeMap<String, Input<'static, f64>>,
) -> Result<Answers<f64>, Error> {
    let file = ModelFile::from_toml(file)?;
    let names: Vec<Named> =
        names.iter().map(|name| Named::parse(name)).collect::<Result<_, _>>()?;
    ask(&file, &names, tensors, Settings::default())
}

/// A model file on `scores` answers and differentiates as the scores of queries and keys do.
#[test]
fn scores_stand_in_place_of_queries_and_keys() {
    let mut random = Random::new(1);
    let (q, k) = (normal(&mut random, &[2, 2, 5, 3]), normal(&mut random, &[2, 2, 4, 3]));
    let scores = ArrayD::from_shape_fn(IxDyn(&[2, 2, 5, 4]), |at| {
        (0..3).map(|c| q[[at[0], at[1], at[2], c]] * k[[at[0], at[1], at[3], c]]).sum::<f64>()
    });
    let v = normal(&mut random, &[2, 2, 4, 2]);
    let up = normal(&mut random, &[2, 2, 5, 2]);
    let common = |mut own: BTreeMap<String, Input<'static, f64>>| {
        own.insert("v".into(), Input::from(v.clone()));
        own.insert("grad.mean".into(), Input::from(up.clone()));
        own
    };
    let nodes = common(BTreeMap::from([
        ("q".to_owned(), Input::from(q.clone())),
        ("k".to_owned(), Input::from(k.clone())),
    ]));
    let given = common(BTreeMap::from([("scores".to_owned(), Input::from(scores))]));
    for structure in ["\"chain\"", "\"each-query-picks-one\"", "{ semi-markov = { longest = 2 } }"]
    {
        let by_nodes =
            format!("structure = {structure}\npotential = {{ dot = {{ scale = 1.0 }} }}");
        let by_scores = format!("structure = {structure}\npotential = \"scores\"");
        let names = ["mean", "log-partition", "entropy", "marginals", "map"];
        let expected = asked(&by_nodes, &names, &nodes).unwrap();
        let found = asked(&by_scores, &names, &given).unwrap();
        for name in &names[..4] {
            let real = |answers: &Answers<f64>| answers.get(name).unwrap().clone().real().unwrap();
            assert!((real(&found) - real(&expected)).iter().all(|x| x.abs() < 1e-12), "{name}");
        }
        assert_eq!(found.get("map"), expected.get("map"));
        assert!(found.get("grad.q").is_none() && found.get("grad.k").is_none());
        // dq = (∂L/∂scores) k.
        let of_scores = found.get("grad.scores").unwrap().clone().real().unwrap();
        let of_q = expected.get("grad.q").unwrap().clone().real().unwrap();
        for (at, g) in of_q.indexed_iter() {
            let sum: f64 = (0..4)
                .map(|j| of_scores[[at[0], at[1], at[2], j]] * k[[at[0], at[1], j, at[3]]])
                .sum();
            assert!((sum - g).abs() < 1e-12, "{at:?}");
        }
    }
    let missing = asked("structure = \"chain\"\npotential = \"scores\"", &["mean"], &nodes);
    assert!(missing.unwrap_err().to_string().contains("`scores`"));
}

/// Scores of −∞, behind a log-weight of any size, are impossible.
#[test]
fn impossible_scores_stay_so() {
    let mut scores = Array4::<f32>::zeros((1, 1, 2, 3));
    scores[[0, 0, 0, 1]] = f32::NEG_INFINITY;
    let keys = Array4::zeros((1, 1, 3, 0));
    let model = Model::new(EachQueryPicksOne, Uniform, Scores);
    let p = model.posterior(scores.view(), keys.view()).unwrap().ask(Marginals).unwrap();
    assert_eq!(p[[0, 0, 0, 1]], 0.0);
    assert!((p[[0, 0, 0, 0]] - 0.5).abs() < 1e-7);
    let wrong = Array4::zeros((1, 1, 4, 0));
    let error = model.posterior(scores.view(), wrong.view()).unwrap_err().to_string();
    assert!(error.contains("a score for each key"), "{error}");
}

/// NaN reaches its own head and no other; garbage that a mask hides reaches nobody.
#[test]
fn nan_stays_in_its_head() {
    let mut random = Random::new(2);
    let mut q = Array4::from_shape_simple_fn((1, 3, 4, 2), || random.normal());
    let k = Array4::from_shape_simple_fn((1, 3, 4, 2), || random.normal());
    q[[0, 1, 2, 0]] = f64::NAN;
    let transitions = normal(&mut random, &[4, 4]);
    let chain =
        Model::new(Chain::new().with_transitions(transitions).unwrap(), Uniform, Dot::new(1.0));
    let posterior = chain.posterior(q.view(), k.view()).unwrap();
    let (z, mean) = posterior.ask((LogPartition, Mean(k.view()))).unwrap();
    for head in 0..3 {
        assert_eq!(z[[0, head, 0]].is_nan(), head == 1);
        let own = mean.index_axis(ndarray::Axis(1), head);
        assert_eq!(own.iter().any(|x| x.is_nan()), head == 1);
    }
    let mut clean = q.clone();
    clean[[0, 1, 2, 0]] = 0.0;
    let short = Chain::new().with_lengths(&[2]);
    let model = Model::new(short, Uniform, Dot::new(1.0));
    let of = |q: &Array4<f64>| {
        model.posterior(q.view(), k.view()).unwrap().ask((LogPartition, Entropy)).unwrap()
    };
    assert_eq!(of(&q), of(&clean), "query 2 is not there");
}

/// In `f32`, the posterior of a long chain is that of `f64` to the rounding of its scores.
#[test]
fn long_chains_keep_their_digits_in_f32() {
    let mut random = Random::new(3);
    let (n, m) = (400, 5);
    let scores = Array4::from_shape_simple_fn((1, 1, n, m), || 30.0 + random.normal() as f32);
    let keys = Array4::<f32>::zeros((1, 1, m, 0));
    let transitions = normal(&mut random, &[m, m]);
    let chain = Chain::new().with_transitions(transitions).unwrap();
    let model = Model::new(chain, Uniform, Scores);
    let single = model.posterior(scores.view(), keys.view()).unwrap();
    let (wide, wide_keys) = (scores.mapv(f64::from), keys.mapv(f64::from));
    let double = model.posterior(wide.view(), wide_keys.view()).unwrap();
    let (p, q) = (single.ask(Marginals).unwrap(), double.ask(Marginals).unwrap());
    let worst = p.iter().zip(&q).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max);
    assert!(worst < 1e-7, "off by {worst:e}");
}

#[test]
fn cross_entropy_is_the_sum_over_edge_sets() {
    let mut random = Random::new(4);
    let mut draw = || Array4::from_shape_simple_fn((1, 2, 3, 2), || random.normal());
    let (q, other, k) = (draw(), draw(), draw());
    let model = Model::new(MonotoneAlignment::new(Moves::ForwardOrStay), Uniform, Dot::new(1.0));
    let p = model.posterior(q.view(), k.view()).unwrap();
    let r = model.posterior(other.view(), k.view()).unwrap();
    let (cross, kl) = (p.cross_entropy(&r).unwrap(), p.kl_to(&r).unwrap());
    for head in 0..2 {
        let scores = |q: &Array4<f64>| -> Array2<f64> {
            let of = |x: &Array4<f64>| {
                x.index_axis(ndarray::Axis(0), 0).index_axis(ndarray::Axis(0), head).to_owned()
            };
            of(q).dot(&of(&k).t())
        };
        let (a, b) = (scores(&q), scores(&other));
        let paths: Vec<[usize; 3]> = (0..27)
            .map(|x| [x / 9, x / 3 % 3, x % 3])
            .filter(|p| p[0] <= p[1] && p[1] <= p[2])
            .collect();
        let total = |s: &Array2<f64>, p: &[usize; 3]| (0..3).map(|i| s[[i, p[i]]]).sum::<f64>();
        let log_z = |s: &Array2<f64>| paths.iter().map(|p| total(s, p).exp()).sum::<f64>().ln();
        let (za, zb) = (log_z(&a), log_z(&b));
        let (mut expected, mut entropy) = (0.0, 0.0);
        for path in &paths {
            let p = (total(&a, path) - za).exp();
            expected -= p * (total(&b, path) - zb);
            entropy -= p * (total(&a, path) - za);
        }
        assert!((cross[[0, head, 0]] - expected).abs() < 1e-11);
        assert!((kl[[0, head, 0]] - (expected - entropy)).abs() < 1e-11);
    }
}

/// Everything that does not fit is refused by its name.
#[test]
fn bad_input_is_named() {
    let x = Array4::<f64>::zeros((2, 1, 4, 2));
    let short = Array4::<f64>::zeros((2, 1, 3, 2));
    let refused = |error: Option<Error>, words: &[&str]| {
        let told = error.expect("a refusal").to_string();
        assert!(words.iter().all(|word| told.contains(word)), "{told}");
    };
    let chain = |chain: Chain| {
        Model::new(chain, Uniform, Dot::new(1.0)).posterior(x.view(), x.view()).err()
    };
    let zeros = |shape: &[usize]| ArrayD::zeros(IxDyn(shape));
    refused(chain(Chain::new().with_lengths(&[2, 5])), &["`lengths`", "at most 4", "5"]);
    refused(chain(Chain::new().with_lengths(&[2])), &["`lengths`", "[2]"]);
    refused(
        chain(Chain::new().with_transitions(zeros(&[4, 3])).unwrap()),
        &["`transitions`", "4, 4"],
    );
    refused(chain(Chain::new().with_transitions(zeros(&[2, 4, 4])).unwrap()), &["`transitions`"]);
    refused(Chain::new().with_transitions(zeros(&[4])).err(), &["`transitions`"]);
    refused(chain(Chain::new().with_start(zeros(&[3])).unwrap()), &["`start`", "4"]);
    let nan = ArrayD::from_elem(IxDyn(&[4]), f64::NAN);
    refused(chain(Chain::new().with_end(nan).unwrap()), &["`end`", "NaN"]);
    let trees = Model::new(ProjectiveArborescence::new(RootEdges::Any), Uniform, Dot::new(1.0));
    refused(trees.posterior(x.view(), short.view()).err(), &["`k`", "one key per query"]);
    let alignment = MonotoneAlignment::new(Moves::Forward).with_lengths(&[4, 4], &[4, 9]);
    let alignment = Model::new(alignment, Uniform, Dot::new(1.0));
    refused(alignment.posterior(x.view(), x.view()).err(), &["`key-lengths`", "9"]);
    let posterior = trees.posterior(x.view(), x.view()).unwrap();
    refused(posterior.ask(marginals::question::TopK(2)).err(), &["top-k", "k-best"]);
    refused(posterior.ask(marginals::question::NullProbability).err(), &["null-probability"]);
    refused(
        posterior
            .ask(marginals::question::Hops { given: marginals::infer::walk::Event::any() })
            .err(),
        &["walk"],
    );
    let picks = Model::new(EachQueryPicksOne, Uniform, Dot::new(1.0));
    let picks = picks.posterior(x.view(), x.view()).unwrap();
    refused(picks.ask(marginals::question::KBest(2)).err(), &["k-best", "top-k"]);
    refused(picks.ask(marginals::question::LogCount).err(), &["log-count"]);
}

/// The derivative of the mean as queries, keys, values and log-weights move, by differences of means, where
/// queries have one edge and where they have several.
#[test]
fn means_move_as_tangents_say() {
    let mut random = Random::new(6);
    let (b, h, n, m, d) = (1, 2, 4, 4, 3);
    let mut draw = |shape: (usize, usize, usize, usize)| {
        Array4::from_shape_simple_fn(shape, || random.normal())
    };
    let (q, k, v) = (draw((b, h, n, d)), draw((b, h, m, d)), draw((b, h, m, 2)));
    let (dq, dk, dv) = (draw((b, h, n, d)), draw((b, h, m, d)), draw((b, h, m, 2)));
    let (bias, dbias) = (draw((b, h, n, m)), draw((b, h, n, m)));
    let mut random = Random::new(7);
    let transitions = normal(&mut random, &[m, m]);
    let structures: Vec<Box<dyn Structure<f64>>> = vec![
        Box::new(Chain::new().with_transitions(transitions).unwrap()),
        Box::new(ProjectiveArborescence::new(RootEdges::Any)),
        Box::new(EachQueryPicksK::exactly(2)),
        Box::new(SpanningTree::new()),
    ];
    for structure in structures {
        let name = structure.name();
        let mean = |t: f64| -> Vec<f64> {
            let at = |x: &Array4<f64>, dx: &Array4<f64>| x + &(dx * t);
            let (q, k, v, bias) = (at(&q, &dq), at(&k, &dk), at(&v, &dv), at(&bias, &dbias));
            let model = Model::new(&*structure, Bias::new(bias.view()), Dot::new(0.7));
            let mean = model.posterior(q.view(), k.view()).unwrap().ask(Mean(v.view())).unwrap();
            mean.iter().copied().collect()
        };
        let tangents = Tangents {
            q: Some(dq.view()),
            k: Some(dk.view()),
            v: Some(dv.view()),
            bias: Some(dbias.view()),
        };
        let model = Model::new(&*structure, Bias::new(bias.view()), Dot::new(0.7));
        let posterior = model.posterior(q.view(), k.view()).unwrap();
        let found = posterior.ask(Jvp { v: v.view(), tangents }).unwrap();
        let expected = finite_difference::of_curve(1e-2, found.len(), mean);
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected.value).abs() < 1e-8, "{name}: {found}, {expected:?}");
        }
    }
}

/// Averages over the mass of a query, and their gradients: of subsets, whose mass is their size.
#[test]
fn averages_are_over_the_mass() {
    let mut random = Random::new(8);
    let mut draw =
        |nodes, width| Array4::from_shape_simple_fn((1, 2, nodes, width), || random.normal());
    let (q, k, v, up) = (draw(3, 2), draw(5, 2), draw(5, 2), draw(3, 2));
    let average = |q: &Array4<f64>| {
        let model = Model::new(EachQueryPicksK::at_most(2), Uniform, Dot::new(1.0));
        let model = model.with_value(Value::Average);
        let pass = model.posterior(q.view(), k.view()).unwrap().ask((Mean(v.view()), QueryMass));
        pass.unwrap()
    };
    let gathered = |q: &Array4<f64>| {
        let model = Model::new(EachQueryPicksK::at_most(2), Uniform, Dot::new(1.0));
        model.posterior(q.view(), k.view()).unwrap().ask(Mean(v.view())).unwrap()
    };
    let (mean, mass) = average(&q);
    let expected = &gathered(&q) / &mass.insert_axis(ndarray::Axis(3));
    assert!((&mean - &expected).iter().all(|x| x.abs() < 1e-12));
    let model = Model::new(EachQueryPicksK::at_most(2), Uniform, Dot::new(1.0));
    let model = model.with_value(Value::Average);
    let posterior = model.posterior(q.view(), k.view()).unwrap();
    let pass = posterior.pass(Mean(v.view())).unwrap();
    let gradients = pass.backward(&up).unwrap();
    let x: Vec<f64> = q.iter().copied().collect();
    let expected = finite_difference::gradient(&x, |x| {
        let q = Array4::from_shape_vec(q.dim(), x.to_vec()).unwrap();
        (average(&q).0 * &up).sum()
    });
    for (found, expected) in gradients.q.iter().zip(expected) {
        assert!((found - expected.value).abs() < 1e-7, "{found}, {expected:?}");
    }
}

/// A finding that has been elsewhere answers and differentiates as the pass that found it.
#[test]
fn findings_are_completed() {
    let mut random = Random::new(9);
    let x = Array4::from_shape_simple_fn((2, 1, 4, 2), || random.normal());
    let up = Array4::from_shape_simple_fn((2, 1, 4, 2), || random.normal());
    let ones = ndarray::Array3::ones((2, 1, 1));
    let model = Model::new(Chain::new().with_lengths(&[4, 3]), Uniform, Dot::new(1.0));
    let posterior = model.posterior(x.view(), x.view()).unwrap();
    let questions = (Mean(x.view()), Kl);
    let pass = posterior.pass(questions).unwrap();
    let finding = posterior.find(&questions, 0..4).unwrap();
    let completed = posterior.complete(questions, finding).unwrap();
    assert_eq!(completed.answer().unwrap(), pass.answer().unwrap());
    let (a, b) = (pass.backward((&up, &ones)).unwrap(), completed.backward((&up, &ones)).unwrap());
    assert_eq!((a.q, a.k), (b.q, b.k));
    assert!(posterior.find(&questions, 0..3).is_err(), "edges depend on all keys");
    // A finding of a chain without transitions is none of one with them.
    let finding = posterior.find(&questions, 0..4).unwrap();
    let zeros = ArrayD::zeros(vec![4, 4]);
    let chain = Chain::new().with_transitions(zeros).unwrap().with_lengths(&[4, 3]);
    let other = Model::new(chain, Uniform, Dot::new(1.0));
    let other = other.posterior(x.view(), x.view()).unwrap();
    let error = other.complete(questions, finding).unwrap_err().to_string();
    assert!(error.contains("finding"), "{error}");
}
