//! The cases that are defined once and hold everywhere: nothing to serve, nothing at all, NaN.

use std::sync::atomic::{AtomicUsize, Ordering};

use marginals::potential::{Dot, FromFunction};
use marginals::prior::{Bias, Causal, Uniform};
use marginals::question::{
    ColumnMass, Entropy, ExpectedDistance, Kl, LogEvidence, LogPartition, Map, Marginals,
    MaxProbability, Mean, QueryMass, Samples, TopK, ValueVariance,
};
use marginals::structure::{
    EachKeyPicksOne, EachQueryPicksAtMostOne, EachQueryPicksOne, Independent, NearestAccepted,
    Structure,
};
use marginals::{Error, Model, Value};
use marginals_testkit::generate::Random;
use ndarray::{Array3, Array4, s};

fn structures() -> Vec<Box<dyn Structure<f64>>> {
    vec![
        Box::new(EachQueryPicksOne),
        Box::new(EachQueryPicksAtMostOne::new(-0.5)),
        Box::new(EachQueryPicksAtMostOne::new(f64::NEG_INFINITY)),
        Box::new(EachKeyPicksOne),
        Box::new(Independent),
        Box::new(NearestAccepted),
    ]
}

fn normal(random: &mut Random, shape: (usize, usize, usize, usize)) -> Array4<f64> {
    Array4::from_shape_fn(shape, |_| random.normal())
}

/// Sizes of zero are sizes: answers come back with the shapes they should have.
#[test]
fn empty_tensors() {
    for structure in structures() {
        for (b, h, key_heads, n, m, d, dv) in [
            (0, 2, 2, 3, 4, 2, 2),
            (2, 0, 0, 3, 4, 2, 2),
            (2, 0, 2, 3, 4, 2, 2),
            (2, 2, 2, 0, 4, 2, 2),
            (2, 2, 2, 3, 0, 2, 2),
            (2, 2, 2, 3, 4, 0, 2),
            (2, 2, 2, 3, 4, 2, 0),
            (1, 1, 1, 0, 0, 0, 0),
        ] {
            let mut random = Random::new(1);
            let q = normal(&mut random, (b, h, n, d));
            let k = normal(&mut random, (b, key_heads, m, d));
            let v = normal(&mut random, (b, key_heads, m, dv));
            let name = structure.name();
            let factors = if name == "each-key-picks-one" { m } else { n };
            let model = Model::new(&*structure, Uniform, Dot::new(1.0));
            let posterior = model.posterior(q.view(), k.view()).expect("a posterior");
            let questions = (
                (Mean(v.view()), ValueVariance(v.view()), LogPartition, LogEvidence, Entropy, Kl),
                (ColumnMass, ExpectedDistance, Marginals, MaxProbability),
                (Map, TopK(2), Samples { count: 2, seed: 0 }),
            );
            let pass = posterior.pass(questions).expect("a pass");
            let answers = pass.answer().expect("answers");
            let ((mean, variance, log_partition, ..), (column, _, marginals, _), _) = &answers;
            assert_eq!(mean.dim(), (b, h, n, dv), "{name}");
            assert_eq!(log_partition.dim(), (b, h, factors), "{name}");
            assert_eq!(column.dim(), (b, h, m), "{name}");
            assert_eq!(marginals.dim(), (b, h, n, m), "{name}");
            assert!(mean.iter().chain(variance).all(|x| x.is_finite()), "{name}");
            let ones = Array3::ones(log_partition.dim());
            let values = (mean, variance, &ones, &ones, &ones, &ones);
            let (keys, queries) = (Array3::ones((b, h, m)), Array3::ones((b, h, n)));
            let upstream = (values, (&keys, &queries, marginals, ()), ((), (), ()));
            let gradients = pass.backward(upstream).expect("gradients");
            assert_eq!(gradients.q.dim(), q.dim(), "{name}");
            assert_eq!(gradients.k.dim(), k.dim(), "{name}");
            assert!(gradients.q.iter().chain(&gradients.k).all(|g| g.is_finite()), "{name}");
        }
    }
}

/// Row 1 and column 2 are impossible; gradients through everything are numbers and 0 there.
#[test]
fn impossible_rows_and_columns_have_no_gradient() {
    let (b, h, n, m, d) = (1, 1, 3, 4, 2);
    for structure in structures() {
        let mut random = Random::new(2);
        let mut bias = normal(&mut random, (b, h, n, m));
        bias.slice_mut(ndarray::s![.., .., 1, ..]).fill(f64::NEG_INFINITY);
        bias.slice_mut(ndarray::s![.., .., .., 2]).fill(f64::NEG_INFINITY);
        let q = normal(&mut random, (b, h, n, d));
        let k = normal(&mut random, (b, h, m, d));
        let v = normal(&mut random, (b, h, m, 3));
        let model = Model::new(&*structure, Bias::new(bias.view()), Dot::new(1.0));
        let posterior = model.posterior(q.view(), k.view()).expect("a posterior");
        let questions = (
            (Mean(v.view()), ValueVariance(v.view()), LogPartition, LogEvidence, Entropy, Kl),
            (ColumnMass, ExpectedDistance, QueryMass, Marginals),
        );
        let pass = posterior.pass(questions).expect("a pass");
        let ((mean, _, log_partition, ..), _) = pass.answer().expect("answers");
        assert!(mean.slice(ndarray::s![0, 0, 1, ..]).iter().all(|x| *x == 0.0));
        let (values, rows) = (Array4::ones(mean.dim()), Array3::ones(log_partition.dim()));
        let (queries, keys) = (Array3::ones((b, h, n)), Array3::ones((b, h, m)));
        let edges = Array4::ones((b, h, n, m));
        let upstream =
            ((&values, &values, &rows, &rows, &rows, &rows), (&keys, &queries, &queries, &edges));
        let gradients = pass.backward(upstream).expect("gradients");
        let name = structure.name();
        let zero = |x: ndarray::ArrayViewD<'_, f64>| x.iter().all(|g| *g == 0.0);
        assert!(zero(gradients.q.slice(ndarray::s![0, 0, 1, ..]).into_dyn()), "{name}");
        assert!(zero(gradients.k.slice(ndarray::s![0, 0, 2, ..]).into_dyn()), "{name}");
        let bias = gradients.parameter("bias").expect("the bias learns");
        assert!(zero(bias.slice(ndarray::s![.., .., 1, ..]).into_dyn()), "{name}");
        assert!(zero(bias.slice(ndarray::s![.., .., .., 2]).into_dyn()), "{name}");
        assert!(bias.iter().chain(&gradients.q).all(|g| g.is_finite()), "{name}");
    }
}

/// NaN in one query reaches the answers of that query, and no other query's.
#[test]
fn nan_stays_in_its_row() {
    for structure in [
        Box::new(EachQueryPicksOne) as Box<dyn Structure<f64>>,
        Box::new(EachQueryPicksAtMostOne::new(0.0)),
        Box::new(Independent),
    ] {
        for (n, m) in [(3, 4), (30, 300)] {
            let mut random = Random::new(4);
            let mut q = normal(&mut random, (1, 1, n, 2));
            let k = normal(&mut random, (1, 1, m, 2));
            let v = normal(&mut random, (1, 1, m, 2));
            let model = Model::new(&*structure, Uniform, Dot::new(1.0));
            let ask = |q: &Array4<f64>| {
                let posterior = model.posterior(q.view(), k.view()).expect("a posterior");
                posterior
                    .ask((Mean(v.view()), LogPartition, Entropy, Kl, ExpectedDistance, Map))
                    .expect("answers")
            };
            let clean = ask(&q);
            q[[0, 0, 1, 0]] = f64::NAN;
            let dirty = ask(&q);
            let name = structure.name();
            for i in (0..n).filter(|i| *i != 1) {
                let row = ndarray::s![0, 0, i, ..];
                assert_eq!(clean.0.slice(row), dirty.0.slice(row), "{name}: mean {i}");
                assert_eq!(clean.1[[0, 0, i]], dirty.1[[0, 0, i]], "{name}: log-partition {i}");
                assert_eq!(clean.2[[0, 0, i]], dirty.2[[0, 0, i]], "{name}: entropy {i}");
                assert_eq!(clean.3[[0, 0, i]], dirty.3[[0, 0, i]], "{name}: KL {i}");
                assert_eq!(clean.4[[0, 0, i]], dirty.4[[0, 0, i]], "{name}: distance {i}");
                assert_eq!(clean.5[[0, 0, i]], dirty.5[[0, 0, i]], "{name}: MAP {i}");
            }
            assert!(dirty.0[[0, 0, 1, 0]].is_nan(), "{name}: mean of the row that holds NaN");
            assert!(dirty.1[[0, 0, 1]].is_nan(), "{name}: log-partition of the row");
            assert!(dirty.2[[0, 0, 1]].is_nan(), "{name}: entropy of the row");
            let checked = model.posterior(q.view(), k.view()).expect("a posterior").checked();
            let Err(Error::NotANumber { tensor, position, .. }) = checked.map(|_| ()) else {
                panic!("{name}: NaN passed the check")
            };
            assert_eq!((tensor.as_str(), position), ("q", vec![0, 0, 1, 0]));
        }
    }
}

/// Scores that overflow count as the largest number there is (and −∞ as impossible): edges that all
/// overflow share the mass, and nothing becomes NaN.
#[test]
fn overflowing_scores_are_not_nan() {
    let q = Array4::from_shape_vec((1, 1, 3, 1), vec![1e200, -1e200, 1.0]).expect("3 numbers");
    let k =
        Array4::from_shape_vec((1, 1, 4, 1), vec![1e200, -1e200, 1e250, 0.0]).expect("4 numbers");
    let v = Array4::from_shape_fn((1, 1, 4, 2), |(.., j, d)| (j + d) as f64);
    for structure in structures() {
        let name = structure.name();
        let model = Model::new(&*structure, Uniform, Dot::new(1.0));
        let posterior = model.posterior(q.view(), k.view()).expect("a posterior");
        let (mean, variance, entropy, kl, column, distance, marginals, max) = posterior
            .ask((
                Mean(v.view()),
                ValueVariance(v.view()),
                Entropy,
                Kl,
                ColumnMass,
                ExpectedDistance,
                Marginals,
                MaxProbability,
            ))
            .expect("answers");
        for (question, answer) in [
            ("mean", mean.iter().collect::<Vec<_>>()),
            ("variance", variance.iter().collect()),
            ("entropy", entropy.iter().collect()),
            ("KL", kl.iter().collect()),
            ("column mass", column.iter().collect()),
            ("distance", distance.iter().collect()),
            ("marginals", marginals.iter().collect()),
            ("max probability", max.iter().collect()),
        ] {
            assert!(answer.iter().all(|x| !x.is_nan()), "{name}: {question} {answer:?}");
        }
        if name == "each-query-picks-one" {
            // Query 0 scores +∞ with keys 0 and 2: they share it.
            assert_eq!(mean[[0, 0, 0, 0]], 1.0);
            assert!((entropy[[0, 0, 0]] - 2f64.ln()).abs() < 1e-12);
        }
    }
}

/// What a hidden key holds may be finite, and huge: nothing of it is in what the others have in common.
#[test]
fn huge_numbers_of_hidden_keys_reach_nothing() {
    let mut random = Random::new(5);
    let q = normal(&mut random, (1, 2, 3, 2));
    let k = normal(&mut random, (1, 2, 5, 2));
    let v = normal(&mut random, (1, 2, 5, 3)).mapv(|x| x + 100.0);
    let upstream = normal(&mut random, (1, 2, 3, 3));
    // Keys 3 and 4 lie ahead of every query.
    let with = |array: &Array4<f64>, garbage: f64| {
        let mut array = array.clone();
        array.slice_mut(s![.., .., 3.., ..]).fill(garbage);
        array
    };
    for structure in structures() {
        let found = |garbage: f64| {
            let (k, v) = (with(&k, garbage), with(&v, garbage));
            let model = Model::new(&*structure, Causal, Dot::new(1.0));
            let posterior = model.posterior(q.view(), k.view()).expect("a posterior");
            let pass = posterior.pass((Mean(v.view()), ValueVariance(v.view()))).expect("a pass");
            let (mean, variance) = pass.answer().expect("answers");
            let gradients = pass.backward((&upstream, &upstream)).expect("gradients");
            let of_v = gradients.v().expect("a gradient of v").clone();
            let answers = mean.into_iter().chain(variance).chain(gradients.q).chain(gradients.k);
            answers.chain(of_v).collect::<Vec<f64>>()
        };
        for (got, expected) in found(3e38).into_iter().zip(found(0.0)) {
            let allowed = 1e-10 * expected.abs().max(1.0);
            assert!((got - expected).abs() <= allowed, "{}: {got}, {expected}", structure.name());
        }
    }
}

/// A query that wins almost nothing of any key: its average is still that of its keys, although the
/// square of its mass is 0 in `f32`.
#[test]
fn averages_over_little_mass() {
    let q = Array4::from_shape_vec((1, 1, 2, 1), vec![0.0f32, -60.0]).expect("2 numbers");
    let k = Array4::from_elem((1, 1, 3, 1), 1.0f32);
    let v = Array4::from_shape_fn((1, 1, 3, 1), |(.., j, _)| 1.0 + j as f32);
    let model = Model::new(EachKeyPicksOne, Uniform, Dot::new(1.0)).with_value(Value::Average);
    let posterior = model.posterior(q.view(), k.view()).expect("a posterior");
    let pass = posterior.pass((Mean(v.view()), ValueVariance(v.view()))).expect("a pass");
    let (mean, variance) = pass.answer().expect("answers");
    assert!((mean[[0, 0, 1, 0]] - 2.0).abs() < 1e-5, "{mean}");
    // Σ p (1 − p) v² / (Σ p)² with p = e^−60 each: (1 + 4 + 9) / 9 · e^60.
    let exact = 14.0 / 9.0 * 60f64.exp();
    assert!((f64::from(variance[[0, 0, 1, 0]]) / exact - 1.0).abs() < 1e-4, "{variance}");
    let ones = Array4::ones(mean.dim());
    let gradients = pass.backward((&ones, None)).expect("gradients");
    assert!(gradients.q.iter().chain(&gradients.k).all(|g| g.is_finite()));
}

/// A query that no key may serve has mass 0 because it is padding, and not because a mass underflowed:
/// no score is made a second time for it. One whose mass does underflow has its task run again.
#[test]
fn padding_is_averaged_in_one_pass() {
    let mut random = Random::new(11);
    let (q, k, v) = (
        normal(&mut random, (1, 1, 7, 3)),
        normal(&mut random, (1, 1, 9, 3)),
        normal(&mut random, (1, 1, 9, 2)),
    );
    let made = AtomicUsize::new(0);
    let scores_made =
        |structure: &dyn Structure<f64>, bias: &Array4<f64>, value: Value, by: f64| {
            let potential = FromFunction(|q: &[f64], k: &[f64]| {
                made.fetch_add(1, Ordering::Relaxed);
                by * q.iter().zip(k).map(|(a, b)| a * b).sum::<f64>()
            });
            let model = Model::new(structure, Bias::new(bias.view()), potential).with_value(value);
            made.store(0, Ordering::Relaxed);
            let mean =
                model.posterior(q.view(), k.view()).expect("a posterior").ask(Mean(v.view()));
            let mean = mean.expect("a mean");
            assert!(mean.iter().all(|x| x.is_finite()), "{mean}");
            (made.load(Ordering::Relaxed), mean)
        };
    for structure in structures() {
        for dead in [0, 3, 6] {
            let bias = Array4::from_shape_fn((1, 1, 7, 9), |(.., i, j)| match (i == dead, j % 4) {
                (true, _) | (_, 1) => f64::NEG_INFINITY,
                _ => 0.0,
            });
            let (gathered, _) = scores_made(&*structure, &bias, Value::Gather, 1.0);
            let (averaged, mean) = scores_made(&*structure, &bias, Value::Average, 1.0);
            assert_eq!(averaged, gathered, "{structure:?}, query {dead} is padding");
            assert!(mean.slice(ndarray::s![.., .., dead, ..]).iter().all(|&x| x == 0.0));
        }
    }
    // The count does tell: scores of −800 and less leave nothing of a mass.
    let bias = Array4::from_shape_fn((1, 1, 7, 9), |(.., i, _)| if i == 2 { -800.0 } else { 0.0 });
    let (gathered, _) = scores_made(&Independent, &bias, Value::Gather, 0.1);
    let (averaged, mean) = scores_made(&Independent, &bias, Value::Average, 0.1);
    assert!(averaged > gathered, "{averaged} scores made, {gathered} to gather");
    assert!(mean.slice(ndarray::s![.., .., 2, ..]).iter().any(|&x| x != 0.0), "{mean}");
}

/// A padded query masked by the smallest number of f32, as transformers does it: the prior is flat over
/// it, so is the posterior, and with no gradient asked of it nothing of the others is lost.
#[test]
fn a_row_masked_by_the_smallest_number_is_flat() {
    let mut random = Random::new(9);
    let mut draw = |shape| normal(&mut random, shape).mapv(|x| x as f32);
    let (q, k, v) = (draw((1, 1, 3, 4)), draw((1, 1, 5, 4)), draw((1, 1, 5, 2)));
    let bias =
        Array4::from_shape_fn((1, 1, 3, 5), |(.., i, _)| if i == 1 { f32::MIN } else { 0.0 });
    let model = Model::new(EachQueryPicksOne, Bias::new(bias), Dot::new(1.0));
    let posterior = model.posterior(q.view(), k.view()).expect("a posterior");
    let pass = posterior.pass((Mean(v.view()), Kl, Entropy)).expect("a pass");
    let (mean, kl, entropy) = pass.answer().expect("answers");
    assert!(mean.iter().all(|x| x.is_finite()), "{mean}");
    assert!(kl[[0, 0, 1]].abs() < 1e-6 && kl.iter().all(|x| x.is_finite()), "{kl}");
    assert!((entropy[[0, 0, 1]] - 5f32.ln()).abs() < 1e-6, "{entropy}");
    let upstream = Array3::from_shape_fn((1, 1, 3), |(.., i)| f32::from(u8::from(i != 1)));
    let values = Array4::from_shape_fn((1, 1, 3, 2), |(_, _, i, _)| f32::from(u8::from(i != 1)));
    let found = pass.backward((&values, &upstream, &upstream)).expect("gradients");
    let bias = found.parameter("bias").expect("the bias learns");
    let all = found.q.iter().chain(&found.k).chain(found.v().expect("values")).chain(bias);
    assert!(all.clone().all(|g| g.is_finite()) && all.clone().any(|g| *g != 0.0));
    assert!(bias.slice(ndarray::s![.., .., 1, ..]).iter().all(|g| *g == 0.0), "{bias}");
}
