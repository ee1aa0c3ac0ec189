//! Laws, null edges and scores on numbers that can be done by hand.

mod common;

use common::assert_agree;
use marginals_testkit::compare::{Tolerance, assert_close};
use marginals_testkit::{
    Answers, Arithmetic, Law, NullEdge, Problem, Structure, ValueKind, dense, enumerate,
};
use ndarray::{Array2, array};

const T: Tolerance = Tolerance { relative: 1e-14, absolute: 1e-14 };

fn one_query(log_weight: &[f64], log_potential: &[f64], null: NullEdge) -> Problem {
    let row = |x: &[f64]| Array2::from_shape_vec((1, x.len()), x.to_vec()).expect("one row");
    Problem {
        structure: Structure::EachQueryPicksAtMostOne,
        law: Law::ExponentialFamily,
        value_kind: ValueKind::Gather,
        arithmetic: Arithmetic::Exact,
        log_weight: vec![row(log_weight)],
        log_potential: row(log_potential),
        null: vec![null],
        value: Array2::from_shape_fn((log_weight.len(), 1), |(j, _)| 4.0 * (j + 1) as f64),
        query_offset: 0,
    }
}

fn both(problem: &Problem) -> [Answers; 2] {
    [enumerate::answer(problem), dense::answer(problem)]
}

const SINK: NullEdge = NullEdge::Weighted { log_weight: 0.0, log_potential: 0.0 };

/// Three keys that accept with ¼, ⅔ and ½, the last being the nearest: it is picked with ½, the one
/// before with ½ · ⅔, the first with ½ · ⅓ · ¼, none with ½ · ⅓ · ¾. Under the prior all accept with ½.
#[test]
fn nearest_accepted() {
    let (ln2, ln3) = (2f64.ln(), 3f64.ln());
    let mut problem = one_query(&[0.0; 3], &[-ln3, ln2, 0.0], SINK);
    problem.law = Law::NearestAccepted;
    let p = [1f64 / 24.0, 1.0 / 3.0, 0.5];
    let (none, prior) = (1f64 / 8.0, [1.0 / 8.0, 1.0 / 4.0, 1.0 / 2.0]);
    let entropy: f64 = -p.iter().chain([&none]).map(|p| p * p.ln()).sum::<f64>();
    let kl = p.iter().zip(prior).map(|(p, pi)| p * (p / pi).ln()).sum::<f64>();
    let mean = 4.0 * p[0] + 8.0 * p[1] + 12.0 * p[2];
    let square = 16.0 * p[0] + 64.0 * p[1] + 144.0 * p[2];
    for answers in both(&problem) {
        assert_close("marginals", &answers.marginals, &p, T);
        assert_close("none", &answers.null_probability, &[none], T);
        assert_close("log-partition", &answers.log_partition, &[0.0], T);
        assert_close("log-evidence", &answers.log_evidence, &[0.0], T);
        assert_close("entropy", &answers.entropy, &[entropy], T);
        // The prior leaves ⅛ to "none" as well.
        assert_close("KL", &answers.kl, &[kl + none * (none / 0.125).ln()], T);
        assert_close("mean", &answers.mean, &[mean], T);
        assert_close("variance", &answers.value_variance, &[square - mean * mean], T);
        assert_eq!(answers.ranking[0].iter().map(|c| c.0).collect::<Vec<_>>(), [2, 1, -1, 0]);
        assert_eq!(answers.map()[0], 2);
        assert_eq!(answers.probability(0, -1).map(|p| (p - none).abs() < 1e-15), Some(true));
    }
}

/// Keys that the prior forbids are not visited; ties between a key and none go to none.
#[test]
fn nearest_accepted_passes_over_impossible_keys() {
    let impossible = f64::NEG_INFINITY;
    let mut problem =
        one_query(&[0.0, impossible, impossible], &[0.0, f64::NAN, f64::INFINITY], SINK);
    problem.law = Law::NearestAccepted;
    problem.value[[2, 0]] = f64::NAN;
    for answers in both(&problem) {
        assert_close("marginals", &answers.marginals, &[0.5, 0.0, 0.0], T);
        assert_close("mean", &answers.mean, &[2.0], T);
        assert_close("KL", &answers.kl, &[0.0], T);
        assert_eq!(answers.ranking[0], [(-1, 0.5), (0, 0.5)]);
    }
    problem.log_weight[0].fill(impossible);
    for answers in both(&problem) {
        assert_close("log-partition", &answers.log_partition, &[0.0], T);
        assert_close("log-evidence", &answers.log_evidence, &[0.0], T);
        assert_close("none", &answers.null_probability, &[1.0], T);
        assert_close("mean", &answers.mean, &[0.0], T);
        assert_eq!(answers.ranking[0], [(-1, 1.0)]);
    }
}

/// Softmax-plus-one: e^θ / (1 + Σ e^θ).
#[test]
fn a_null_edge_of_weight_one() {
    let problem = one_query(&[0.0, 0.0], &[0.0, 2f64.ln()], SINK);
    for answers in both(&problem) {
        assert_close("marginals", &answers.marginals, &[0.25, 0.5], T);
        assert_close("none", &answers.null_probability, &[0.25], T);
        assert_close("log-evidence", &answers.log_evidence, &[(4f64 / 3.0).ln()], T);
    }
}

/// A logit of log 5 beside two keys of weight 1: odds 1 : 1 : 5 after, 1 : 1 : 1 before.
#[test]
fn a_null_edge_that_comes_from_the_content() {
    let logit = NullEdge::Weighted { log_weight: 0.0, log_potential: 5f64.ln() };
    let problem = one_query(&[0.0, 0.0], &[0.0, 0.0], logit);
    let kl = 2.0 / 7.0 * (3f64 / 7.0).ln() + 5.0 / 7.0 * (15f64 / 7.0).ln();
    for answers in both(&problem) {
        assert_close("none", &answers.null_probability, &[5.0 / 7.0], T);
        assert_close("log-partition", &answers.log_partition, &[7f64.ln()], T);
        assert_close("log-evidence", &answers.log_evidence, &[(7f64 / 3.0).ln()], T);
        assert_close("KL", &answers.kl, &[kl], T);
        assert_eq!(answers.ranking[0].iter().map(|c| c.0).collect::<Vec<_>>(), [-1, 0, 1]);
    }
}

/// A gate multiplies the softmax by σ(g) and leaves the evidence as it is.
#[test]
fn a_gate() {
    let gate = 3f64.ln();
    let gated = one_query(&[0.3, -0.4], &[1.0, 2.0], NullEdge::Gated { gate });
    let never = NullEdge::Weighted { log_weight: f64::NEG_INFINITY, log_potential: 0.0 };
    let open = dense::answer(&one_query(&[0.3, -0.4], &[1.0, 2.0], never));
    for answers in both(&gated) {
        assert_close("none", &answers.null_probability, &[0.25], T);
        assert_close("marginals", &answers.marginals, &(0.75 * &open.marginals), T);
        assert_close("mean", &answers.mean, &(0.75 * &open.mean), T);
        let partition = open.log_partition[0] + (4f64 / 3.0).ln();
        assert_close("log-partition", &answers.log_partition, &[partition], T);
        assert_close("log-evidence", &answers.log_evidence, &open.log_evidence, T);
        assert_close("KL", &answers.kl, &(0.75 * &open.kl), T);
    }
    let dead = one_query(&[f64::NEG_INFINITY; 2], &[1.0, 2.0], NullEdge::Gated { gate });
    for answers in both(&dead) {
        assert_eq!(answers.log_partition[0], f64::NEG_INFINITY);
        assert_eq!(answers.null_probability[0], 1.0);
        assert_eq!(answers.ranking[0], []);
    }
}

#[test]
fn no_edge_at_all() {
    let p = |x: f64| 1.0 / (1.0 + (-x).exp());
    let mut problem = one_query(&[0.0, 0.5], &[1.0, -2.0], SINK);
    let expected = [
        (Structure::EachQueryPicksOne, vec![0.0]),
        (Structure::EachKeyPicksOne, vec![0.0, 0.0]),
        (Structure::Independent, vec![(1.0 - p(1.0)) * (1.0 - p(-1.5))]),
    ];
    for (structure, expected) in expected {
        problem.structure = structure;
        for answers in both(&problem) {
            assert_close(format!("{structure:?}"), &answers.null_probability, &expected, T);
        }
    }
    problem.log_weight[0].fill(f64::NEG_INFINITY);
    for structure in Structure::ALL {
        problem.structure = structure;
        problem.null[0] = NullEdge::Weighted { log_weight: f64::NEG_INFINITY, log_potential: 0.0 };
        for answers in both(&problem) {
            assert!(answers.null_probability.iter().all(|p| *p == 1.0), "{structure:?}");
        }
    }
}

#[test]
fn largest_and_smallest_scores() {
    let impossible = f64::NEG_INFINITY;
    let mut problem = one_query(&[0.0; 5], &[0.0; 5], SINK);
    problem.log_weight = vec![array![
        [1.0, 2.0, impossible, 2.0, 1.0],
        [impossible, impossible, impossible, impossible, impossible],
        [5.0, 9.0, 9.0, 0.0, 1.0],
    ]];
    problem.log_potential = array![
        [0.0, 0.0, f64::NAN, 0.0, 0.0],
        [f64::NAN, 1.0, 2.0, 3.0, 4.0],
        [0.0, -3.0, -3.0, 6.0, impossible],
    ];
    problem.null = vec![SINK; 3];
    for answers in both(&problem) {
        assert_close("max", &answers.max_score, &[2.0, impossible, 6.0], T);
        assert_eq!(answers.max_score_key.to_vec(), [1, -1, 1]);
        assert_close("min", &answers.min_score, &[1.0, f64::INFINITY, 5.0], T);
        assert_eq!(answers.min_score_key.to_vec(), [0, -1, 0]);
        assert_eq!(answers.head_max_score(), (6.0, Some([2, 1])));
        assert_eq!(answers.head_min_score(), (1.0, Some([0, 0])));
    }
    problem.log_weight[0].fill(impossible);
    for answers in both(&problem) {
        assert_eq!(answers.head_max_score(), (impossible, None));
        assert_eq!(answers.head_min_score(), (f64::INFINITY, None));
    }
}

/// What all edges of a query have in common leaves its picks as they are, however large it is and
/// however many parts it has; the log-partition moves by it.
#[test]
fn common_parts_cancel() {
    let never = NullEdge::Weighted { log_weight: f64::NEG_INFINITY, log_potential: 0.0 };
    let plain = one_query(&[0.3, -0.4, 0.1], &[1.0, 2.0, -0.7], never);
    let minimum = f64::from(f32::MIN);
    for common in [vec![-1e4], vec![-1e9, -1e9], vec![minimum, minimum], vec![minimum, -3e8, -1e9]]
    {
        let mut moved = plain.clone();
        moved.log_weight.extend(common.iter().map(|&c| Array2::from_elem((1, 3), c)));
        for structure in [Structure::EachQueryPicksOne, Structure::EachQueryPicksAtMostOne] {
            let problem = |of: &Problem| Problem { structure, ..of.clone() };
            let mut expected = dense::answer(&problem(&plain));
            let sum = common.iter().sum::<f64>();
            expected.log_partition += sum;
            expected.max_score += sum;
            expected.min_score += sum;
            for answers in both(&problem(&moved)) {
                assert_agree(&format!("{common:?}"), &answers, &expected, T);
            }
        }
    }
}

/// The average of a query with a mass of 10⁻³⁰, 10⁻³⁰⁰ and 10^(−10⁸) is that of the same query with a
/// mass of about 1, where keys pick among two queries and where edges are independent.
#[test]
fn averages_of_underflowing_masses() {
    let potential = array![[0.3, -0.8, 1.1], [0.0, 0.5, 0.2]];
    let expected = |theta: [f64; 3]| {
        let weights = theta.map(f64::exp);
        (weights[0] * 4.0 + weights[1] * 8.0 + weights[2] * 12.0) / weights.iter().sum::<f64>()
    };
    for mass in [-30.0, -300.0, -1e8] {
        let low = mass * 10f64.ln();
        let mut problem = one_query(&[0.0; 3], &[0.0; 3], SINK);
        problem.value_kind = ValueKind::Average;
        problem.log_potential.clone_from(&potential);
        problem.log_weight = vec![array![[low, low, low], [0.0, 0.0, 0.0]]];
        // A query of so little mass takes e^θ of the key's sum, which is the other query's.
        let keys = expected([0.3 - 0.0, -0.8 - 0.5, 1.1 - 0.2]);
        let alone = expected([0.3, -0.8, 1.1]);
        for (structure, expected) in
            [(Structure::EachKeyPicksOne, keys), (Structure::Independent, alone)]
        {
            problem.structure = structure;
            for answers in both(&problem) {
                let t = Tolerance::mixed(1e-13);
                assert_close(format!("{structure:?}"), &[answers.mean[[0, 0]]], &[expected], t);
            }
        }
    }
}

/// Two pass moments keep the digits of values with a large common part.
#[test]
fn variances_far_from_zero() {
    for common in [1e3, 1e4, 1e6, 1e9] {
        let mut problem = one_query(&[0.0, 0.0], &[0.0, 3f64.ln()], SINK);
        problem.structure = Structure::EachQueryPicksOne;
        problem.value = array![[common], [common + 2.0]];
        for answers in both(&problem) {
            assert_close("variance", &answers.value_variance, &[0.75], Tolerance::mixed(1e-12));
        }
    }
}
