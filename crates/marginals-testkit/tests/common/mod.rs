//! Drawing cases, and comparing all answers at once.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::iter::repeat_n;

use marginals_testkit::Answers;
use marginals_testkit::compare::{Tolerance, close, close_unless};
use marginals_testkit::reference::Touched;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;

/// The same draws every time.
pub fn draw<S: Strategy>(strategy: &S, count: usize) -> Vec<S::Value> {
    let mut runner = TestRunner::deterministic();
    (0..count).map(|_| strategy.new_tree(&mut runner).expect("a draw").current()).collect()
}

/// Panics unless all answers agree.
pub fn assert_agree(name: &str, actual: &Answers, expected: &Answers, t: Tolerance) {
    let (n, m) = expected.marginals.dim();
    let untouched = Touched {
        edges: ndarray::Array2::from_elem((n, m), false),
        factors: vec![false; expected.log_partition.len()],
        queries: vec![false; n],
        values: vec![false; n],
        keys: vec![false; m],
    };
    assert_agree_unless(&untouched, name, actual, expected, t);
}

/// Panics unless all answers agree that garbage does not reach.
pub fn assert_agree_unless(
    touched: &Touched,
    name: &str,
    actual: &Answers,
    expected: &Answers,
    t: Tolerance,
) {
    if let Err(message) = agree(touched, actual, expected, t) {
        panic!("{name}: {message}");
    }
}

fn agree(
    touched: &Touched,
    actual: &Answers,
    expected: &Answers,
    t: Tolerance,
) -> Result<(), String> {
    let edges: Vec<bool> = touched.edges.iter().copied().collect();
    let width = expected.mean.ncols();
    let values: Vec<bool> = touched.values.iter().flat_map(|&row| repeat_n(row, width)).collect();
    macro_rules! each {
        ($skipped:expr; $($field:ident),*) => {
            $(close_unless(
                stringify!($field),
                &actual.$field.iter().copied().collect::<Vec<_>>(),
                &expected.$field.iter().copied().collect::<Vec<_>>(),
                $skipped.iter().copied(),
                t,
            )?;)*
        };
    }
    each!(edges; marginals);
    each!(values; mean, value_variance);
    each!(touched.keys; column_mass);
    each!(touched.queries; expected_distance, max_score, min_score);
    each!(touched.factors; log_partition, log_evidence, entropy, kl, null_probability);
    for i in (0..touched.queries.len()).filter(|&i| !touched.queries[i]) {
        let keys = |of: &Answers| (of.max_score_key[i], of.min_score_key[i]);
        if keys(actual) != keys(expected) {
            return Err(format!("keys of query {i}: {:?}, {:?}", keys(actual), keys(expected)));
        }
    }
    for f in (0..touched.factors.len()).filter(|&f| !touched.factors[f]) {
        let (a, b) = (&actual.ranking[f], &expected.ranking[f]);
        let index = |r: &[(i64, f64)]| r.iter().map(|c| c.0).collect::<Vec<_>>();
        if index(a) != index(b) {
            return Err(format!("ranking of factor {f}: {a:?}, {b:?}"));
        }
        let p = |r: &[(i64, f64)]| r.iter().map(|c| c.1).collect::<Vec<_>>();
        close(format!("ranked {f}"), &p(a), &p(b), t)?;
    }
    Ok(())
}
