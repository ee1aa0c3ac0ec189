//! The three routes agree on everything that a problem can say and a head cannot: null edges of every
//! form, keys that accept one by one, exact sums, garbage behind −∞.

mod common;

use common::assert_agree;
use marginals_testkit::compare::{Tolerance, assert_close};
use marginals_testkit::generate::{Flavour, Random, problem};
use marginals_testkit::{Answers, Law, NullEdge, Problem, Structure, dense, enumerate};
use ndarray::{Array1, Array2};

const CASES: u64 = 300;

const KINDS: [(Structure, Law); 5] = [
    (Structure::EachQueryPicksOne, Law::ExponentialFamily),
    (Structure::EachQueryPicksAtMostOne, Law::ExponentialFamily),
    (Structure::EachKeyPicksOne, Law::ExponentialFamily),
    (Structure::Independent, Law::ExponentialFamily),
    (Structure::EachQueryPicksAtMostOne, Law::NearestAccepted),
];

fn every(largest: i64, mut check: impl FnMut(&str, &Problem, &mut Random)) {
    for kind in KINDS {
        for flavour in Flavour::ALL {
            for case in 0..CASES {
                let mut random = Random::new(case);
                let n = random.integer(1, largest) as usize;
                let m = random.integer(1, if n > 3 { 3 } else { largest }) as usize;
                let d = random.integer(1, 2) as usize;
                let problem = problem(&mut random, kind, (n, m, d), flavour);
                check(&format!("{kind:?} {flavour:?} {case}"), &problem, &mut random);
            }
        }
    }
}

#[test]
fn the_dense_formulas_agree_with_enumeration() {
    every(5, |name, problem, _| {
        let t = Tolerance::mixed(1e-10);
        assert_agree(name, &dense::answer(problem), &enumerate::answer(problem), t);
    });
}

#[test]
fn covariances_agree() {
    every(5, |name, problem, random| {
        let mut second =
            Array2::from_shape_fn((problem.queries(), problem.keys()), |_| random.normal());
        for ((i, j), s) in second.indexed_iter_mut() {
            if !problem.possible(i, j) {
                *s = f64::NAN;
            }
        }
        let found = dense::covariance(problem, &second);
        let expected = enumerate::covariance(problem, &second);
        assert_close(name, &found, &expected, Tolerance::mixed(1e-10));
    });
}

/// A gathered value's covariance with itself is its variance.
#[test]
fn a_covariance_with_itself_is_the_variance() {
    every(5, |name, problem, _| {
        let mut problem = problem.clone();
        problem.value_kind = marginals_testkit::ValueKind::Gather;
        for c in 0..problem.value.ncols() {
            let shape = (problem.queries(), problem.keys());
            let same = Array2::from_shape_fn(shape, |(_, j)| problem.value[[j, c]]);
            let found = dense::covariance(&problem, &same).column(c).to_owned();
            let expected = dense::answer(&problem).value_variance.column(c).to_owned();
            assert_close(name, &found, &expected, Tolerance::mixed(1e-12));
        }
    });
}

/// Σ over the factors that have a posterior, which is what Φ leaves of the product.
fn total(answers: &Answers, of: &Array1<f64>) -> f64 {
    let alive = answers.log_partition.iter().map(|z| *z > f64::NEG_INFINITY);
    of.iter().zip(alive).filter(|x| x.1).map(|x| x.0).sum()
}

#[test]
fn all_edge_sets_agree_with_the_factors() {
    every(4, |name, problem, _| {
        let (joint, factored) = (enumerate::joint(problem), enumerate::answer(problem));
        let dead = |z: &f64| *z == f64::NEG_INFINITY;
        if problem.structure == Structure::EachQueryPicksAtMostOne
            && factored.log_partition.iter().any(dead)
        {
            // Without an empty choice for one query the product has no posterior.
            assert_eq!(joint.log_partition, f64::NEG_INFINITY, "{name}");
            return;
        }
        let t = Tolerance::mixed(1e-10);
        let check = |what: &str, actual: f64, expected: f64| {
            assert_close(format!("{name}: {what}"), &[actual], &[expected], t);
        };
        check("log-partition", total(&factored, &factored.log_partition), joint.log_partition);
        check("log-evidence", total(&factored, &factored.log_evidence), joint.log_evidence);
        check("entropy", total(&factored, &factored.entropy), joint.entropy);
        check("KL", total(&factored, &factored.kl), joint.kl);
        check("no edge", factored.null_probability.product(), joint.null_probability);
        assert_close(format!("{name}: marginals"), &factored.marginals, &joint.marginals, t);
        assert_close(format!("{name}: mean"), &factored.mean, &joint.mean, t);
        let variances = (&factored.value_variance, &joint.value_variance);
        assert_close(format!("{name}: variance"), variances.0, variances.1, t);
        let distances = (&factored.expected_distance, &joint.expected_distance);
        assert_close(format!("{name}: distance"), distances.0, distances.1, t);
    });
}

/// Every edge, and the empty choice, is picked at most once, whatever picks it.
#[test]
fn probabilities_add_up() {
    every(5, |name, problem, _| {
        let answers = dense::answer(problem);
        let rows = match problem.structure {
            Structure::EachKeyPicksOne => answers.marginals.sum_axis(ndarray::Axis(0)),
            Structure::Independent => return,
            _ => answers.marginals.sum_axis(ndarray::Axis(1)),
        };
        for (edges, none) in rows.iter().zip(&answers.null_probability) {
            assert!((edges + none - 1.0).abs() < 1e-12, "{name}: {edges} {none}");
        }
    });
}

#[test]
fn cross_entropies_agree_and_contain_the_entropy() {
    for kind in KINDS {
        for case in 0..CASES {
            let mut random = Random::new(case);
            let p = problem(&mut random, kind, (3, 4, 1), Flavour::Ordinary);
            let mut other = problem(&mut random, kind, (3, 4, 1), Flavour::Ordinary);
            if case % 2 == 0 {
                other.log_weight.clone_from(&p.log_weight);
                other.log_potential.zip_mut_with(&p.log_potential, |x, p| {
                    if !p.is_finite() || !x.is_finite() {
                        *x = *p;
                    }
                });
            }
            let name = format!("{kind:?} {case}");
            let t = Tolerance::mixed(1e-10);
            let cross = enumerate::cross_entropy(&p, &other);
            assert_close(format!("{name}: dense"), &dense::cross_entropy(&p, &other), &cross, t);
            let entropy = enumerate::answer(&p).entropy;
            let divergence = &cross - &entropy;
            assert_close(format!("{name}: KL"), &divergence, &enumerate::kl_to(&p, &other), t);
            assert_close(format!("{name}: self"), &enumerate::cross_entropy(&p, &p), &entropy, t);
            // The prior is the posterior without content.
            let mut prior = p.clone();
            prior.log_potential.fill(0.0);
            for null in &mut prior.null {
                if let NullEdge::Weighted { log_potential, .. } = null {
                    *log_potential = 0.0;
                }
            }
            assert_close(
                format!("{name}: prior"),
                &dense::answer(&p).kl,
                &enumerate::kl_to(&p, &prior),
                t,
            );
        }
    }
}
