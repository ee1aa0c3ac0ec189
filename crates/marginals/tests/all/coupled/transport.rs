//! Transports in place of sums over matchings: against POT, against the sums themselves, and against
//! differences of means.

use marginals::infer::collapsed::Reason;
use marginals::infer::{Entropic, Exactness};
use marginals::potential::{Dot, Scores};
use marginals::prior::{Bias, Uniform};
use marginals::question::{
    ColumnMass, Covariance, Entropy, ExpectedDistance, KBest, Kl, LogCount, LogEvidence,
    LogPartition, Map, Marginals, MaxScore, Mean, QueryMass, Samples, TopK, ValueVariance,
};
use marginals::structure::{Chain, Matching};
use marginals::{Error, Model};
use marginals_testkit::compare::{Tolerance, assert_close};
use marginals_testkit::finite_difference;
use marginals_testkit::generate::Random;
use ndarray::{Array1, Array2, Array3, Array4, Axis, s};
use safetensors::{Dtype, SafeTensors};

const RECORDED: &[u8] = include_bytes!("../data/matching.safetensors");

fn recorded(name: &str) -> (Vec<usize>, Vec<f64>) {
    let file = SafeTensors::deserialize(RECORDED).unwrap();
    let tensor = file.tensor(name).unwrap_or_else(|e| panic!("{name}: {e}"));
    let (bytes, _) = tensor.data().as_chunks::<8>();
    let number = |bytes: &[u8; 8]| match tensor.dtype() {
        Dtype::F64 => f64::from_le_bytes(*bytes),
        Dtype::I64 => i64::from_le_bytes(*bytes) as f64,
        other => panic!("{name} holds {other:?}"),
    };
    (tensor.shape().to_vec(), bytes.iter().map(number).collect())
}

fn matrix(name: &str) -> Array2<f64> {
    let (shape, numbers) = recorded(name);
    Array2::from_shape_vec((shape[0], shape[1]), numbers).unwrap()
}

fn vector(name: &str) -> Array1<f64> {
    recorded(name).1.into()
}

fn of_one_head(matrix: Array2<f64>) -> Array4<f64> {
    matrix.insert_axis(Axis(0)).insert_axis(Axis(0))
}

fn masses(vector: Array1<f64>) -> Array3<f64> {
    vector.insert_axis(Axis(0)).insert_axis(Axis(0))
}

const CLOSE: Tolerance = Tolerance { relative: 1e-9, absolute: 1e-9 };

/// Plans, values, entropies and potentials of POT: square and rectangular, masked, of given masses and of part
/// of the mass.
#[test]
fn agrees_with_pot() {
    let cases =
        ["square", "sharp", "masked", "masses", "wide", "tall", "partial", "partial-masses"];
    for name in cases {
        let of = |tensor: &str| format!("{name}.{tensor}");
        let scores = of_one_head(matrix(&of("scores")));
        let (queries, keys) = (vector(&of("queries")), vector(&of("keys")));
        let total = vector(&of("mass"))[0];
        let mut structure = Matching::new();
        let ones = |masses: &Array1<f64>| masses.iter().all(|&mass| mass == 1.0);
        if !(ones(&queries) && ones(&keys)) {
            structure = structure.with_masses(masses(queries.clone()), masses(keys.clone()));
        }
        if total < queries.sum().min(keys.sum()) - 1e-12 {
            structure = structure.with_mass(total);
        }
        let none = Array4::zeros((1, 1, keys.len(), 0));
        let model = Model::new(structure, Uniform, Scores);
        let posterior = model.posterior(scores.view(), none.view()).unwrap();
        let posterior = posterior.by(Entropic::within(1e-13).with_steps(20_000)).unwrap();
        let questions = (Marginals, LogPartition, Entropy, QueryMass, ColumnMass);
        let pass = posterior.pass(questions).unwrap();
        let (plan, value, entropy, by_query, by_key) = pass.answer().unwrap();
        let expected = matrix(&of("plan"));
        assert_close(format!("{name} plan"), plan.iter(), &expected, CLOSE);
        let recorded = vector(&of("value"));
        assert_close(format!("{name} value"), value.iter(), &recorded, CLOSE);
        let of_plan: f64 = expected.iter().filter(|p| **p > 0.0).map(|p| -p * p.ln()).sum();
        assert_close(format!("{name} entropy"), entropy.iter(), &[of_plan], CLOSE);
        assert_close(format!("{name} rows"), by_query.iter(), &expected.sum_axis(Axis(1)), CLOSE);
        assert_close(format!("{name} columns"), by_key.iter(), &expected.sum_axis(Axis(0)), CLOSE);
        let report = &pass.finding().report;
        assert_eq!(report.reason, Some(Reason::Converged), "{name}: {report:?}");
        let Exactness::Transport { gap, marginal_error, below } = report.exactness else {
            panic!("{name}: {report:?}")
        };
        // What is missing cannot be spread over edges of which some are impossible.
        let spreads = name != "masked";
        assert!((gap < 1e-8) == spreads && marginal_error <= 1e-13, "{name}: {report:?}");
        let is_matching = !name.contains("masses") && !name.contains("partial");
        assert_eq!(below.is_finite(), is_matching && spreads, "{name}: {report:?}");
        if matches!(name, "square" | "sharp" | "masked" | "masses") {
            let (f, g) = pass.finding().potentials().unwrap();
            let shift = g.iter().sum::<f64>() / g.len() as f64;
            let f: Vec<f64> = f.iter().map(|x| x + shift).collect();
            let g: Vec<f64> = g.iter().map(|x| x - shift).collect();
            assert_close(format!("{name} f"), &f, &vector(&of("f")), CLOSE);
            assert_close(format!("{name} g"), &g, &vector(&of("g")), CLOSE);
        }
    }
}

/// The best assignments of SciPy.
#[test]
fn best_matchings_agree_with_scipy() {
    for (n, m) in [(30, 30), (40, 25), (25, 40), (60, 60)] {
        let of = |tensor: &str| format!("assignment-{n}-{m}.{tensor}");
        let scores = matrix(&of("scores"));
        let (queries, keys) = (vector(&of("queries")), vector(&of("keys")));
        let mut expected = vec![-1; n];
        for (&i, &j) in queries.iter().zip(&keys) {
            expected[i as usize] = j as i64;
        }
        let none = Array4::zeros((1, 1, m, 0));
        let scores = of_one_head(scores);
        let model = Model::new(Matching::new(), Uniform, Scores);
        let map = model.posterior(scores.view(), none.view()).unwrap().ask(Map).unwrap();
        assert_eq!(map.iter().copied().collect::<Vec<_>>(), expected, "{n} × {m}");
    }
}

fn normal(shape: (usize, usize, usize, usize), scale: f64, random: &mut Random) -> Array4<f64> {
    Array4::from_shape_simple_fn(shape, || scale * random.normal())
}

/// log Z lies between the bounds that the report tells, whatever the sizes and wherever the iteration
/// stops.
#[test]
fn bounds_hold_the_sum_over_matchings() {
    let mut tightest = f64::INFINITY;
    for seed in 0..200 {
        let mut random = Random::new(seed);
        let (n, m) = (random.integer(1, 7) as usize, random.integer(1, 7) as usize);
        let scale = [0.1, 1.0, 6.0][seed as usize % 3];
        let scores = normal((1, 1, n, m), scale, &mut random);
        let none = Array4::zeros((1, 1, m, 0));
        let model = Model::new(Matching::new(), Uniform, Scores);
        let exact = model.posterior(scores.view(), none.view()).unwrap();
        let log_z = exact.ask(LogPartition).unwrap()[[0, 0, 0]];
        for steps in [1, 3, 300] {
            let posterior = model.posterior(scores.view(), none.view()).unwrap();
            let posterior = posterior.by(Entropic::within(1e-9).with_steps(steps)).unwrap();
            let pass = posterior.pass(LogPartition).unwrap();
            let dual = pass.answer().unwrap()[[0, 0, 0]];
            let Exactness::Transport { gap, below, .. } = pass.finding().report.exactness else {
                unreachable!()
            };
            assert!(log_z <= dual + 1e-8, "{n} × {m}: {log_z} above {dual}");
            assert!(log_z >= dual - below - 1e-8, "{n} × {m}: {log_z} below {dual} − {below}");
            if steps == 300 {
                tightest = tightest.min(log_z - (dual - below));
                let report = &pass.finding().report;
                assert_eq!(report.reason, Some(Reason::Converged), "{seed}, {n} × {m}: {report:?}");
                assert!(gap < 1e-5, "{seed}, {n} × {m}: {report:?}");
                let optimum = dual;
                for early in [1, 2] {
                    let posterior = model.posterior(scores.view(), none.view()).unwrap();
                    let posterior = posterior.by(Entropic::within(1e-9).with_steps(early)).unwrap();
                    let pass = posterior.pass(LogPartition).unwrap();
                    let value = pass.answer().unwrap()[[0, 0, 0]];
                    let Exactness::Transport { gap, .. } = pass.finding().report.exactness else {
                        unreachable!()
                    };
                    assert!(value - gap <= optimum + 1e-6, "the gap {gap} of {value}: {optimum}");
                    assert!(value >= optimum - 1e-8, "{value} lies below the optimum {optimum}");
                }
            }
        }
    }
    // The lower one is reached where all scores are equal.
    assert!(tightest < 0.05, "{tightest}");
}

/// As the temperature falls the plan becomes the best matching.
#[test]
fn the_plan_of_a_low_temperature_is_the_best_matching() {
    let mut random = Random::new(5);
    let (n, m) = (15, 20);
    let scores = normal((1, 2, n, m), 1.0, &mut random);
    let v = normal((1, 1, m, 3), 1.0, &mut random);
    let none = Array4::zeros((1, 1, m, 0));
    let model = Model::new(Matching::new(), Uniform, Scores);
    let map = model.posterior(scores.view(), none.view()).unwrap().ask(Map).unwrap();
    let mut before = f64::INFINITY;
    for temperature in [1.0, 0.1, 0.02, 0.004] {
        let sharp = &scores / temperature;
        let posterior = model.posterior(sharp.view(), none.view()).unwrap();
        let posterior = posterior.by(Entropic::within(1e-6).with_steps(50_000)).unwrap();
        let mean = posterior.ask(Mean(v.view())).unwrap();
        let mut apart = 0f64;
        for ((_, h, i, c), &x) in mean.indexed_iter() {
            let key = map[[0, h, i]] as usize;
            apart = apart.max((x - v[[0, 0, key, c]]).abs());
        }
        assert!(apart < before, "at {temperature}: {apart} after {before}");
        before = apart;
    }
    assert!(before < 2e-2, "{before}");
}

/// Everything that a loss depends on.
#[derive(Clone)]
struct Case {
    q: Array4<f64>,
    k: Array4<f64>,
    v: Array4<f64>,
    bias: Array4<f64>,
    structure: Matching,
}

struct Upstream {
    mean: Array4<f64>,
    log_partition: Array3<f64>,
    entropy: Array3<f64>,
    marginals: Array4<f64>,
    column: Array3<f64>,
    mass: Array3<f64>,
    distance: Array3<f64>,
}

impl Case {
    /// A loss of all answers and its gradients in q, k, v and the bias.
    fn loss(&self, upstream: &Upstream, differentiates: bool) -> (f64, Vec<Vec<f64>>) {
        let model = Model::new(self.structure.clone(), Bias::new(self.bias.view()), Dot::new(1.0));
        let posterior = model.posterior(self.q.view(), self.k.view()).unwrap();
        let posterior = posterior.by(Entropic::within(1e-13).with_steps(2_000)).unwrap();
        let questions = (
            (Mean(self.v.view()), LogPartition, Entropy),
            (Marginals, ColumnMass, QueryMass, ExpectedDistance),
        );
        let pass = posterior.pass(questions).unwrap();
        let ((mean, log_partition, entropy), (marginals, column, mass, distance)) =
            pass.answer().unwrap();
        let loss = (mean * &upstream.mean).sum()
            + (log_partition * &upstream.log_partition).sum()
            + (entropy * &upstream.entropy).sum()
            + (marginals * &upstream.marginals).sum()
            + (column * &upstream.column).sum()
            + (mass * &upstream.mass).sum()
            + (distance * &upstream.distance).sum();
        if !differentiates {
            return (loss, Vec::new());
        }
        let gradients = pass
            .backward((
                (&upstream.mean, &upstream.log_partition, &upstream.entropy),
                (&upstream.marginals, &upstream.column, &upstream.mass, &upstream.distance),
            ))
            .unwrap();
        let flat = |x: &Array4<f64>| x.iter().copied().collect::<Vec<_>>();
        let bias = gradients.parameter("bias").unwrap().iter().copied().collect();
        let names: Vec<&str> = gradients.parameters.iter().map(|p| p.name.as_str()).collect();
        assert_eq!(names, ["bias", "dot.scale"]);
        (loss, vec![flat(&gradients.q), flat(&gradients.k), flat(gradients.v().unwrap()), bias])
    }

    fn tensors(&mut self) -> [&mut [f64]; 4] {
        let Self { q, k, v, bias, .. } = self;
        [q, k, v, bias].map(|tensor| tensor.as_slice_mut().unwrap())
    }
}

/// Gradients through the solution, of square, rectangular, partial and ragged transports, against finite
/// differences of the loss.
#[test]
fn gradients_agree_with_finite_differences() {
    for (number, (n, m)) in [(4, 4), (3, 5), (5, 3), (4, 5), (4, 4), (4, 4)].into_iter().enumerate()
    {
        let mut random = Random::new(100 + number as u64);
        let (b, h) = (2, 2);
        let structure = match number {
            3 => Matching::new().with_mass(2.3),
            4 => {
                let mut masses = |nodes: usize| {
                    let all =
                        Array3::from_shape_simple_fn((1, h, nodes), || random.between(0.2, 1.0));
                    let sums = all.sum_axis(Axis(2)).insert_axis(Axis(2));
                    all / sums
                };
                let (queries, keys) = (masses(n), masses(m));
                Matching::new().with_masses(queries, keys)
            }
            5 => Matching::new().with_lengths(&[3, 4], &[4, 2]),
            _ => Matching::new(),
        };
        let mut bias = normal((b, h, n, m), 0.7, &mut random);
        if number == 0 {
            bias[[0, 0, 1, 2]] = f64::NEG_INFINITY;
        }
        let case = Case {
            q: normal((b, h, n, 2), 0.8, &mut random),
            k: normal((b, 1, m, 2), 0.8, &mut random),
            v: normal((b, 1, m, 2), 1.0, &mut random),
            bias,
            structure,
        };
        let mut three =
            |last: usize| Array3::from_shape_simple_fn((b, h, last), || random.normal());
        let (log_partition, entropy) = (three(1), three(1));
        let (column, mass, distance) = (three(m), three(n), three(n));
        let upstream = Upstream {
            mean: normal((b, h, n, 2), 1.0, &mut random),
            marginals: normal((b, h, n, m), 1.0, &mut random),
            log_partition,
            entropy,
            column,
            mass,
            distance,
        };
        let (_, found) = case.loss(&upstream, true);
        for (tensor, found) in found.iter().enumerate() {
            let mut at = case.clone();
            let x = at.tensors()[tensor].to_vec();
            let entries: Vec<usize> =
                (0..x.len()).filter(|&e| x[e].is_finite()).step_by(3).collect();
            let expected = finite_difference::gradient_at(&x, entries.iter().copied(), |x| {
                at.tensors()[tensor].copy_from_slice(x);
                at.loss(&upstream, false).0
            });
            for (entry, expected) in entries.into_iter().zip(expected) {
                let allowed = 1e-6 * expected.value.abs().max(1.0) + 10.0 * expected.error;
                assert!(
                    (found[entry] - expected.value).abs() <= allowed,
                    "case {number}, tensor {tensor}[{entry}]: {} for {expected:?}",
                    found[entry]
                );
            }
        }
    }
}

/// Nodes beyond the lengths are as if they were not there.
#[test]
fn ragged_batches_are_their_entries() {
    let mut random = Random::new(8);
    let scores = normal((2, 1, 6, 7), 1.5, &mut random);
    let (queries, keys) = ([4, 6], [7, 3]);
    let answers = |scores: Array4<f64>, structure: Matching| {
        let none = Array4::zeros((scores.dim().0, 1, scores.dim().3, 0));
        let model = Model::new(structure, Uniform, Scores);
        let posterior = model.posterior(scores.view(), none.view()).unwrap();
        let posterior = posterior.by(Entropic::within(1e-12)).unwrap();
        posterior.ask((Marginals, LogPartition)).unwrap()
    };
    let whole = answers(scores.clone(), Matching::new().with_lengths(&queries, &keys));
    for b in 0..2 {
        let part = scores.slice(s![b..b + 1, .., ..queries[b], ..keys[b]]).to_owned();
        let (marginals, log_partition) = answers(part, Matching::new());
        assert_close("log-partition", &[whole.1[[b, 0, 0]]], &log_partition, CLOSE);
        let own = whole.0.slice(s![b..b + 1, .., ..queries[b], ..keys[b]]);
        assert_close("marginals", own.iter(), &marginals, CLOSE);
        let all: f64 = whole.0.slice(s![b, .., .., ..]).sum();
        assert!((all - marginals.sum()).abs() < 1e-9, "mass outside the lengths");
    }
}

/// Scores of any size, and in single precision.
#[test]
fn scores_of_any_size_are_transported() {
    for scale in [30.0, 1e3, 1e4] {
        let mut random = Random::new(2);
        // Every row and column has its best edge on the diagonal: the plan is it, and found at once.
        let scores = Array4::from_shape_fn((1, 1, 20, 20), |(_, _, i, j)| match i == j {
            true => 3.0 * scale * (1.0 + random.normal().abs()),
            false => scale * random.normal().min(2.0),
        });
        let none = Array4::<f64>::zeros((1, 1, 20, 0));
        let single = (scores.mapv(|x| x as f32), none.mapv(|x| x as f32));
        let model = Model::new(Matching::new(), Uniform, Scores);
        let double = model.posterior(scores.view(), none.view()).unwrap();
        let double = double.by(Entropic::default()).unwrap();
        let pass = double.pass((LogPartition, Marginals)).unwrap();
        assert_eq!(pass.finding().report.reason, Some(Reason::Converged), "{scale}");
        let (value, plan) = pass.answer().unwrap();
        let diagonal: f64 = (0..20).map(|i| scores[[0, 0, i, i]]).sum();
        assert!((value[[0, 0, 0]] - diagonal).abs() < 1e-4 * diagonal.abs(), "{scale}");
        assert!(plan.iter().all(|p| (0.0..=1.0 + 1e-6).contains(p)), "{scale}");
        let posterior = model.posterior(single.0.view(), single.1.view()).unwrap();
        let posterior = posterior.by(Entropic::within(1e-5)).unwrap();
        let (_, of_single) = posterior.ask((LogPartition, Marginals)).unwrap();
        let apart = plan.iter().zip(&of_single).map(|(a, b)| (a - f64::from(*b)).abs());
        assert!(apart.fold(0.0, f64::max) < 1e-2, "{scale}");
    }
}

/// A query without a possible key has no plan; one without a plan for another reason is told by the report.
#[test]
fn the_impossible_is_told() {
    let none = Array4::zeros((1, 1, 3, 0));
    let v = Array4::from_shape_fn((1, 1, 3, 1), |(_, _, j, _)| j as f64);
    let mut scores = Array4::zeros((1, 1, 3, 3));
    scores.slice_mut(s![0, 0, 1, ..]).fill(f64::NEG_INFINITY);
    let model = Model::new(Matching::new(), Uniform, Scores);
    let posterior = model.posterior(scores.view(), none.view()).unwrap();
    let posterior = posterior.by(Entropic::default()).unwrap();
    let questions = (Mean(v.view()), LogPartition, Entropy, Marginals, ColumnMass, QueryMass);
    let pass = posterior.pass(questions).unwrap();
    let (mean, log_partition, entropy, marginals, column, mass) = pass.answer().unwrap();
    assert_eq!(log_partition[[0, 0, 0]], f64::NEG_INFINITY);
    assert_eq!(entropy[[0, 0, 0]], 0.0);
    let zeros = mean.iter().chain(&marginals).chain(&column).chain(&mass);
    assert!(zeros.copied().all(|x| x == 0.0));
    let (ones, by_query) = (Array3::ones((1, 1, 1)), Array3::ones((1, 1, 3)));
    let gradients = pass
        .backward((
            &mean.mapv(|_| 1.0),
            &ones,
            &ones,
            &marginals.mapv(|_| 1.0),
            &by_query,
            &by_query,
        ))
        .unwrap();
    assert!(gradients.q.iter().all(|&g| g == 0.0), "{:?}", gradients.q);

    // Two queries and one key between them.
    let mut scores = Array4::zeros((1, 1, 3, 3));
    scores.slice_mut(s![0, 0, ..2, 1..]).fill(f64::NEG_INFINITY);
    let posterior = model.posterior(scores.view(), none.view()).unwrap();
    let posterior = posterior.by(Entropic::default()).unwrap();
    let pass = posterior.pass(LogPartition).unwrap();
    assert_eq!(pass.finding().report.reason, Some(Reason::StepsExhausted));
    let Exactness::Transport { marginal_error, .. } = pass.finding().report.exactness else {
        unreachable!()
    };
    assert!(marginal_error > 0.1, "{marginal_error}");
}

/// Of no query there is nothing to match.
#[test]
fn nothing_is_matched_with_nothing() {
    for (n, m) in [(0, 3), (3, 0), (0, 0)] {
        let (q, k) = (Array4::<f64>::zeros((1, 1, n, 2)), Array4::<f64>::zeros((1, 1, m, 2)));
        let model = Model::new(Matching::new(), Uniform, Dot::new(1.0));
        let posterior = model.posterior(q.view(), k.view()).unwrap();
        let posterior = posterior.by(Entropic::default()).unwrap();
        let (log_z, mass, column) = posterior.ask((LogPartition, QueryMass, ColumnMass)).unwrap();
        assert_eq!(log_z[[0, 0, 0]], 0.0);
        assert!(mass.iter().chain(&column).all(|&x| x == 0.0), "{n} × {m}");
    }
}

#[test]
fn what_a_plan_does_not_tell_is_refused_by_name() {
    let x = Array4::<f64>::zeros((1, 1, 3, 2));
    let model =
        Model::new(Matching::new(), Uniform, Dot::new(1.0)).with_inference(Entropic::default());
    let posterior = model.posterior(x.view(), x.view()).unwrap();
    let v = x.view();
    let refusals = [
        ("map", posterior.ask(Map).err()),
        ("samples", posterior.ask(Samples { count: 1, seed: 0 }).err()),
        ("top-k", posterior.ask(TopK(1)).err()),
        ("k-best", posterior.ask(KBest(1)).err()),
        ("log-count", posterior.ask(LogCount).err()),
        ("kl", posterior.ask(Kl).err()),
        ("log-evidence", posterior.ask(LogEvidence).err()),
        ("value-variance", posterior.ask(ValueVariance(v)).err()),
        ("covariance", posterior.ask(Covariance::with_score(v, v, 1.0)).err()),
        ("max-score", posterior.ask(MaxScore).err()),
        ("cross-entropy", posterior.cross_entropy(&posterior).err()),
    ];
    for (name, refused) in refusals {
        let refused = refused.unwrap_or_else(|| panic!("{name} is answered"));
        assert!(matches!(refused, Error::NotAnswerable { .. }), "{name}: {refused}");
        assert!(refused.to_string().contains(name), "{name}: {refused}");
    }
}

#[test]
fn settings_that_make_no_sense_are_refused_by_name() {
    let x = Array4::<f64>::zeros((1, 1, 3, 2));
    let told = |structure: Matching, entropic: Entropic| {
        let model = Model::new(structure, Uniform, Dot::new(1.0)).with_inference(entropic);
        model.posterior(x.view(), x.view()).map(|_| ()).unwrap_err().to_string()
    };
    let usual = Entropic::default();
    assert!(told(Matching::new(), Entropic::within(0.0)).contains("`entropic.tolerance`"));
    assert!(told(Matching::new(), usual.with_steps(0)).contains("`entropic.steps`"));
    assert!(told(Matching::new().with_mass(3.5), usual).contains("`matching.mass`"));
    assert!(told(Matching::new().with_mass(f64::NAN), usual).contains("`matching.mass`"));
    let (three, four) = (Array3::ones((1, 1, 3)), Array3::ones((1, 1, 4)));
    let wrong = Matching::new().with_masses(four, three.clone());
    assert!(told(wrong, usual).contains("`query-mass`"));
    let below = Matching::new().with_masses(three.clone(), -three.clone());
    assert!(told(below, usual).contains("`key-mass`"));
    // Other structures have no masses; and masses have no matchings.
    let model = Model::new(Chain::new(), Uniform, Dot::new(1.0));
    let refused = model.posterior(x.view(), x.view()).unwrap().by(usual).unwrap_err().to_string();
    assert!(refused.contains("chain") && refused.contains("matching"), "{refused}");
    let massive = Matching::new().with_masses(three.clone(), three);
    let model = Model::new(massive, Uniform, Dot::new(1.0));
    let posterior = model.posterior(x.view(), x.view()).unwrap();
    for refused in [posterior.ask(LogPartition).err(), posterior.ask(Map).err()] {
        let refused = refused.expect("masses have no matchings").to_string();
        assert!(refused.contains("query-mass") && refused.contains("entropic"), "{refused}");
    }
}
