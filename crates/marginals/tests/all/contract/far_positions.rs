//! Queries far from all keys. A geometric prior forgets how far: where every key lies behind, moving all
//! queries away multiplies the weights of a query by one number, which only log Z can tell.

use marginals::potential::Dot;
use marginals::prior::{Alibi, Causal, Combine, Geometric, Laplace, Prior};
use marginals::question::{
    Entropy, Kl, LogEvidence, LogPartition, MaxScore, Mean, NullProbability, TopK,
};
use marginals::structure::{
    EachKeyPicksOne, EachQueryPicksAtMostOne, EachQueryPicksOne, Structure,
};
use marginals::{Finding, Model, Real};
use ndarray::{Array3, Array4};

const SIZES: (usize, usize, usize) = (5, 70, 3);

fn nodes<T: Real>(rows: usize, seed: usize) -> Array4<T> {
    Array4::from_shape_fn((1, 2, rows, SIZES.2), |(_, h, i, c)| {
        T::of(((seed + 97 * h + 31 * i + 7 * c) as f64).sin())
    })
}

/// Every answer of one model, in `f64`.
#[derive(Debug, PartialEq)]
struct Answers {
    log_z: Array3<f64>,
    others: Vec<(&'static str, Vec<f64>)>,
    best: Vec<i64>,
}

fn answers<T: Real>(structure: &impl Structure<T>, prior: impl Prior<T>, offset: i64) -> Answers {
    let (q, k, v) = (nodes::<T>(SIZES.0, 1), nodes::<T>(SIZES.1, 2), nodes::<T>(SIZES.1, 3));
    let model = Model::new(structure, prior, Dot::new(0.9)).with_query_offset(offset);
    let posterior = model.posterior(q.view(), k.view()).expect("a posterior");
    let questions = (LogPartition, Mean(v.view()), Entropy, Kl, LogEvidence, TopK(3));
    let (log_z, mean, entropy, kl, evidence, top) = posterior.ask(questions).expect("answers");
    let flat = |values: Vec<T>| values.into_iter().map(T::f64).collect();
    let (upstream, of_log_z) =
        (Array4::ones(mean.raw_dim()), Array3::from_elem(log_z.raw_dim(), T::one()));
    let pass = posterior.pass((Mean(v.view()), Kl, LogEvidence)).expect("a pass");
    let gradients = pass.backward((&upstream, &of_log_z, &of_log_z)).expect("gradients");
    let others = vec![
        ("mean", flat(mean.into_iter().collect())),
        ("entropy", flat(entropy.into_iter().collect())),
        ("kl", flat(kl.into_iter().collect())),
        ("log-evidence", flat(evidence.into_iter().collect())),
        ("top-k", flat(top.probability.into_iter().collect())),
        ("grad.q", flat(gradients.q.into_iter().collect())),
        ("grad.k", flat(gradients.k.into_iter().collect())),
    ];
    Answers { log_z: log_z.mapv(T::f64), others, best: top.index.into_iter().collect() }
}

fn agree(near: &Answers, far: &Answers, tolerance: f64, what: &str) {
    assert_eq!(near.best, far.best, "{what}");
    for ((name, near), (_, far)) in near.others.iter().zip(&far.others) {
        for (near, far) in near.iter().zip(far) {
            assert!(
                (near - far).abs() <= tolerance * (1.0 + near.abs()),
                "{what} {name}: {near} {far}"
            );
        }
    }
}

/// Positions of the first query at which all keys lie behind.
const NEAR: i64 = SIZES.1 as i64;

fn moved<T: Real>(far: i64, tolerance: f64) {
    let distance = (far - NEAR) as f64;
    let check = |prior: &dyn Fn() -> Box<dyn Prior<T>>, rate: f64, what: &str| {
        let near = answers(&EachQueryPicksOne, prior(), NEAR);
        let moved = answers(&EachQueryPicksOne, prior(), far);
        agree(&near, &moved, tolerance, what);
        for (near, moved) in near.log_z.iter().zip(&moved.log_z) {
            let expected = near - rate * distance;
            assert!((moved - expected).abs() <= tolerance * (1.0 + expected.abs()), "{what}");
        }
        let near = answers(&EachKeyPicksOne, prior(), NEAR);
        agree(&near, &answers(&EachKeyPicksOne, prior(), far), tolerance, what);
    };
    check(&|| Box::new(Geometric::new(0.5)), 2f64.ln(), "geometric");
    check(&|| Box::new(Alibi::new(&[0.25])), 0.25, "alibi");
    check(&|| Box::new(Laplace::new(4.0).and(Causal)), 0.25, "laplace");
}

#[test]
fn change_nothing_but_log_z() {
    moved::<f32>(10_000_000, 3e-5);
    moved::<f32>(1_000_000_000, 3e-5);
    moved::<f64>(1_000_000_000, 1e-12);
}

/// A null edge as heavy as the far keys are together: its log-weight grows with the distance.
#[test]
fn leave_a_null_edge_its_share() {
    let (far, rate) = (10_000_000, 0.25);
    let prior = || Box::new(Alibi::new(&[rate])) as Box<dyn Prior<f32>>;
    let near = answers(&EachQueryPicksAtMostOne::new(0.5), prior(), NEAR);
    let null = 0.5 - rate * (far - NEAR) as f64;
    let moved = answers(&EachQueryPicksAtMostOne::new(null), prior(), far);
    agree(&near, &moved, 3e-5, "at most one");
    // One of weight 1 has all the mass, and log Z is its log-weight.
    let (q, k) = (nodes::<f32>(SIZES.0, 1), nodes::<f32>(SIZES.1, 2));
    let structure = EachQueryPicksAtMostOne::new(0.3);
    let model = Model::new(&structure, prior(), Dot::new(0.9)).with_query_offset(far);
    let posterior = model.posterior(q.view(), k.view()).expect("a posterior");
    let (log_z, none) = posterior.ask((LogPartition, NullProbability)).expect("answers");
    assert!(log_z.iter().all(|z| (z - 0.3).abs() < 1e-6), "{log_z}");
    assert!(none.iter().all(|p| *p == 1.0));
}

/// The gradient in ρ of log Z, whose digits the distance has: against finite differences.
#[test]
fn have_gradients_in_what_log_z_is_made_of() {
    let (q, k) = (nodes::<f64>(SIZES.0, 1), nodes::<f64>(SIZES.1, 2));
    let far = 100_000;
    let ask = |rho: f64, null: f64| {
        let structure = EachQueryPicksAtMostOne::new(null);
        let model =
            Model::new(structure, Geometric::new(rho), Dot::new(0.9)).with_query_offset(far);
        model
            .posterior(q.view(), k.view())
            .expect("a posterior")
            .ask(LogPartition)
            .expect("log Z")
            .sum()
    };
    let (rho, null) = (1e-4, -8.0);
    let structure = EachQueryPicksAtMostOne::new(null);
    let model = Model::new(structure, Geometric::new(rho), Dot::new(0.9)).with_query_offset(far);
    let posterior = model.posterior(q.view(), k.view()).expect("a posterior");
    let pass = posterior.pass(LogPartition).expect("a pass");
    let gradients = pass.backward(&Array3::ones((1, 2, SIZES.0))).expect("gradients");
    for (name, expected) in [
        ("geometric.rho", (ask(rho + 1e-9, null) - ask(rho - 1e-9, null)) / 2e-9),
        ("null", (ask(rho, null + 1e-5) - ask(rho, null - 1e-5)) / 2e-5),
    ] {
        let found = gradients.parameter(name).expect("learned").sum();
        assert!((found - expected).abs() < 1e-6 * expected.abs(), "{name}: {found} {expected}");
    }
}

/// Shards of the keys each have their own largest weight: a far one and a near one merge into the whole.
#[test]
fn merge_with_those_of_near_keys() {
    let (q, k, v) = (nodes::<f32>(SIZES.0, 1), nodes::<f32>(SIZES.1, 2), nodes::<f32>(SIZES.1, 3));
    let gap = 10_000_000;
    let model = Model::new(EachQueryPicksOne, Geometric::new(0.5), Dot::new(0.9));
    // The same keys, far behind and just behind.
    let far = model.with_query_offset(gap + NEAR);
    let far = far.posterior(q.view(), k.view()).expect("a posterior");
    let model = Model::new(EachQueryPicksOne, Geometric::new(0.5), Dot::new(0.9));
    let near = model.with_query_offset(gap + NEAR).with_key_offset(gap);
    let near = near.posterior(q.view(), k.view()).expect("a posterior");
    let questions = (Mean(v.view()), LogPartition, MaxScore);
    let alone = near.ask(questions).expect("answers");
    let mut merged: Finding<f32> = far.find(&questions, 0..SIZES.1).expect("a finding");
    let mut found = near.find(&questions, 0..SIZES.1).expect("a finding");
    // As if the keys between were impossible.
    merge(&mut merged, &mut found);
    for posterior in [&near, &far] {
        let pass = posterior.complete(questions, merged.clone()).expect("a pass");
        let (mean, log_z, largest) = pass.answer().expect("answers");
        assert_eq!(mean, alone.0);
        assert_eq!(log_z, alone.1);
        assert_eq!(largest.score, alone.2.score);
        let upstream = Array4::ones(mean.raw_dim());
        let gradients = pass.backward((&upstream, None, ())).expect("gradients");
        let expected = near.pass(Mean(v.view())).expect("a pass");
        let expected = expected.backward(&upstream).expect("gradients");
        match std::ptr::eq(posterior, &near) {
            true => assert_eq!(gradients.k, expected.k),
            false => assert!(gradients.k.iter().all(|x| *x == 0.0)),
        }
    }
}

/// Merges findings of keys that do not lie next to each other.
fn merge(first: &mut Finding<f32>, next: &mut Finding<f32>) {
    let text = serde_json::to_value(&*next).expect("plain data");
    let mut text = text;
    let end = first.keys().end;
    let length = next.keys().end - next.keys().start;
    text["keys"] = serde_json::json!({ "start": end, "end": end + length });
    let next: Finding<f32> = serde_json::from_value(text).expect("a finding");
    first.merge(next).expect("neighbours");
}
