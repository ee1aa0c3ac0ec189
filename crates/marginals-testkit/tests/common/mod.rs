//! Comparing all answers at once.

use marginals_testkit::Answers;
use marginals_testkit::compare::{Tolerance, assert_close};

/// Panics unless all answers agree.
pub fn assert_agree(name: &str, actual: &Answers, expected: &Answers, t: Tolerance) {
    let check = |what: &str, actual: Vec<f64>, expected: Vec<f64>| {
        assert_close(format!("{name}: {what}"), &actual, &expected, t);
    };
    macro_rules! each {
        ($($field:ident),*) => {
            $(check(stringify!($field), actual.$field.iter().copied().collect(),
                    expected.$field.iter().copied().collect());)*
        };
    }
    each!(marginals, mean, value_variance, column_mass, expected_distance, log_partition);
    each!(log_evidence, entropy, kl, null_probability, max_score, min_score);
    assert_eq!(actual.max_score_key, expected.max_score_key, "{name}: key of the largest score");
    assert_eq!(actual.min_score_key, expected.min_score_key, "{name}: key of the smallest score");
    for (f, (a, b)) in actual.ranking.iter().zip(&expected.ranking).enumerate() {
        let index = |r: &[(i64, f64)]| r.iter().map(|c| c.0).collect::<Vec<_>>();
        assert_eq!(index(a), index(b), "{name}: ranking of factor {f}: {a:?} {b:?}");
        let p = |r: &[(i64, f64)]| r.iter().map(|c| c.1).collect::<Vec<_>>();
        check(&format!("ranked {f}"), p(a), p(b));
    }
}
