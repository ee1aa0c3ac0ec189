//! The three routes to an answer agree: all edge sets, the states of each factor, the dense formulas.

use marginals_testkit::compare::{Tolerance, assert_close};
use marginals_testkit::generate::{Flavour, Random, head};
use marginals_testkit::{Answers, Head, Structure, ValueKind, dense, enumerate};

const CASES: u64 = 400;

fn tiny(structure: Structure, flavour: Flavour, case: u64, largest: i64) -> Head {
    let mut random = Random::new(case);
    let n = random.integer(1, largest) as usize;
    let m = random.integer(1, if n > 3 { 3 } else { largest }) as usize;
    let d = random.integer(1, 2) as usize;
    head(&mut random, structure, (n, m, d), flavour)
}

fn every(largest: i64, mut check: impl FnMut(&str, &Head)) {
    for structure in Structure::ALL {
        for flavour in Flavour::ALL {
            for case in 0..CASES {
                let head = tiny(structure, flavour, case, largest);
                check(&format!("{structure:?} {flavour:?} {case}"), &head);
            }
        }
    }
}

/// Σ over the factors that have a posterior, which is what Φ leaves of the product.
fn total(answers: &Answers, of: &ndarray::Array1<f64>) -> f64 {
    let alive = answers.log_partition.iter().map(|z| *z > f64::NEG_INFINITY);
    of.iter().zip(alive).filter(|x| x.1).map(|x| x.0).sum()
}

#[test]
fn all_edge_sets_agree_with_the_factors() {
    every(4, |name, head| {
        let (joint, factored) = (enumerate::joint(head), enumerate::answer(head));
        // A dead at-most-one row has no empty choice either: there the product has no posterior.
        let dead = |z: &f64| *z == f64::NEG_INFINITY;
        if head.structure == Structure::EachQueryPicksAtMostOne
            && factored.log_partition.iter().any(dead)
        {
            assert_eq!(joint.log_partition, f64::NEG_INFINITY, "{name}");
            return;
        }
        // A row that its prior allows and its potential kills is outside both routes' sums.
        let t = Tolerance::mixed(1e-10);
        let check = |what: &str, actual: f64, expected: f64| {
            assert_close(format!("{name}: {what}"), &[actual], &[expected], t);
        };
        check("log-partition", total(&factored, &factored.log_partition), joint.log_partition);
        check("log-evidence", total(&factored, &factored.log_evidence), joint.log_evidence);
        check("entropy", total(&factored, &factored.entropy), joint.entropy);
        check("KL", total(&factored, &factored.kl), joint.kl);
        assert_close(format!("{name}: marginals"), &factored.marginals, &joint.marginals, t);
        assert_close(format!("{name}: mean"), &factored.mean, &joint.mean, t);
        assert_close(
            format!("{name}: variance"),
            &factored.value_variance,
            &joint.value_variance,
            t,
        );
        assert_close(
            format!("{name}: distance"),
            &factored.expected_distance,
            &joint.expected_distance,
            t,
        );
    });
}

/// Where one edge is picked per factor, the best edge set is the union of the factors' MAP edges.
#[test]
fn the_best_edge_set_is_the_union_of_the_maps() {
    every(4, |name, head| {
        if head.structure == Structure::Independent {
            return;
        }
        let answers = enumerate::answer(head);
        let joint = enumerate::joint(head);
        let log_weight = |edges: &[[usize; 2]]| {
            let unserved = (0..head.queries()).filter(|i| edges.iter().all(|e| e[0] != *i)).count();
            let null = match head.structure {
                Structure::EachQueryPicksAtMostOne if unserved > 0 => {
                    unserved as f64 * head.null_log_weight
                }
                _ => 0.0,
            };
            null + edges.iter().map(|e| head.theta(e[0], e[1])).sum::<f64>()
        };
        let mut union: Vec<[usize; 2]> = answers
            .map()
            .iter()
            .enumerate()
            .filter(|x| *x.1 >= 0)
            .map(|(f, &c)| match head.structure {
                Structure::EachKeyPicksOne => [c as usize, f],
                _ => [f, c as usize],
            })
            .collect();
        union.sort_unstable();
        if joint.log_partition == f64::NEG_INFINITY {
            return;
        }
        let (a, b) = (log_weight(&union), log_weight(&joint.best));
        assert!((a - b).abs() <= 1e-10 * b.abs().max(1.0), "{name}: {union:?} {:?}", joint.best);
    });
}

#[test]
fn the_dense_formulas_agree_with_enumeration() {
    every(5, |name, head| {
        let (dense, listed) = (dense::answer(head), enumerate::answer(head));
        // Scores of 10⁴ leave 10⁻¹² of a probability's digits.
        let t = Tolerance::mixed(1e-10);
        assert_close(format!("{name}: marginals"), &dense.marginals, &listed.marginals, t);
        assert_close(format!("{name}: mean"), &dense.mean, &listed.mean, t);
        assert_close(format!("{name}: variance"), &dense.value_variance, &listed.value_variance, t);
        assert_close(format!("{name}: column mass"), &dense.column_mass, &listed.column_mass, t);
        let distances = (&dense.expected_distance, &listed.expected_distance);
        assert_close(format!("{name}: distance"), distances.0, distances.1, t);
        assert_close(
            format!("{name}: log-partition"),
            &dense.log_partition,
            &listed.log_partition,
            t,
        );
        assert_close(format!("{name}: log-evidence"), &dense.log_evidence, &listed.log_evidence, t);
        assert_close(format!("{name}: entropy"), &dense.entropy, &listed.entropy, t);
        assert_close(format!("{name}: KL"), &dense.kl, &listed.kl, t);
        for (f, (a, b)) in dense.ranking.iter().zip(&listed.ranking).enumerate() {
            let index = |r: &[(i64, f64)]| r.iter().map(|c| c.0).collect::<Vec<_>>();
            assert_eq!(index(a), index(b), "{name}: ranking of factor {f}");
            let p = |r: &[(i64, f64)]| r.iter().map(|c| c.1).collect::<Vec<_>>();
            assert_close(format!("{name}: ranked {f}"), &p(a), &p(b), t);
        }
    });
}

#[test]
fn cross_entropies_agree_and_contain_the_entropy() {
    for structure in Structure::ALL {
        for case in 0..CASES {
            let mut random = Random::new(case);
            let p = head(&mut random, structure, (3, 4, 1), Flavour::Ordinary);
            let mut other = head(&mut random, structure, (3, 4, 1), Flavour::Ordinary);
            if case % 2 == 0 {
                other.log_weight.clone_from(&p.log_weight);
                other.null_log_weight = p.null_log_weight;
            }
            let t = Tolerance::mixed(1e-10);
            let name = format!("{structure:?} {case}");
            let cross = enumerate::cross_entropy(&p, &other);
            assert_close(format!("{name}: dense"), &dense::cross_entropy(&p, &other), &cross, t);
            let entropy = enumerate::answer(&p).entropy;
            assert_close(
                format!("{name}: KL"),
                &(&cross - &entropy),
                &enumerate::kl_to(&p, &other),
                t,
            );
            assert_close(format!("{name}: self"), &enumerate::cross_entropy(&p, &p), &entropy, t);
            assert!(cross.iter().zip(&entropy).all(|(c, h)| *c >= h - 1e-12), "{name}: Gibbs");
        }
    }
}

/// Two edges and a null edge by hand: the numbers of a logistic with odds 1 : 2 : 1.
#[test]
fn closed_form_of_three_choices() {
    let ln2 = 2f64.ln();
    let mut head = Head {
        structure: Structure::EachQueryPicksAtMostOne,
        value_kind: ValueKind::Gather,
        log_weight: ndarray::array![[0.0, 0.0]],
        log_potential: ndarray::array![[0.0, ln2]],
        null_log_weight: 0.0,
        value: ndarray::array![[4.0], [8.0]],
        query_offset: 3,
    };
    for answers in [enumerate::answer(&head), dense::answer(&head)] {
        let t = Tolerance::mixed(1e-14);
        assert_close("marginals", &answers.marginals, &[0.25, 0.5], t);
        assert_close("mean", &answers.mean, &[5.0], t);
        assert_close("variance", &answers.value_variance, &[4.0 + 32.0 - 25.0], t);
        assert_close("log-partition", &answers.log_partition, &[2.0 * ln2], t);
        assert_close("log-evidence", &answers.log_evidence, &[(4f64 / 3.0).ln()], t);
        assert_close("entropy", &answers.entropy, &[1.5 * ln2], t);
        assert_close("KL", &answers.kl, &[0.5 * ln2 - (4f64 / 3.0).ln()], t);
        assert_close("distance", &answers.expected_distance, &[0.25 * 3.0 + 0.5 * 2.0], t);
        assert_eq!(answers.ranking[0].iter().map(|c| c.0).collect::<Vec<_>>(), [1, -1, 0]);
        assert_eq!(answers.top_k(4).0.row(0).to_vec(), [1, -1, 0, -1]);
        assert_eq!(answers.top_k(4).1[[0, 3]], 0.0);
    }
    head.value_kind = ValueKind::Average;
    let average = enumerate::answer(&head);
    assert_close("average", &average.mean, &[5.0 / 0.75], Tolerance::mixed(1e-14));
    assert_close(
        "its variance",
        &average.value_variance,
        &[11.0 / 0.5625],
        Tolerance::mixed(1e-14),
    );
}

/// M equal scores: log-partition log M, entropy log M, KL 0; independent edges of weight 1 are M coins.
#[test]
fn closed_form_of_uniform_posteriors() {
    let m = 1000;
    let mut head = Head {
        structure: Structure::EachQueryPicksOne,
        value_kind: ValueKind::Gather,
        log_weight: ndarray::Array2::zeros((1, m)),
        log_potential: ndarray::Array2::zeros((1, m)),
        null_log_weight: 0.0,
        value: ndarray::Array2::ones((m, 1)),
        query_offset: 0,
    };
    let t = Tolerance::mixed(1e-12);
    let one = dense::answer(&head);
    assert_close("log-partition", &one.log_partition, &[1000f64.ln()], t);
    assert_close("entropy", &one.entropy, &[1000f64.ln()], t);
    assert_close("KL", &one.kl, &[0.0], t);
    assert_close("variance", &one.value_variance, &[0.0], t);
    assert_eq!(one.map()[0], 0);
    head.structure = Structure::Independent;
    let coins = dense::answer(&head);
    assert_close("log-partition", &coins.log_partition, &[1000.0 * 2f64.ln()], t);
    assert_close("entropy", &coins.entropy, &[1000.0 * 2f64.ln()], t);
    assert_close("mean", &coins.mean, &[500.0], t);
    assert_close("variance", &coins.value_variance, &[250.0], t);
}

#[test]
fn nothing_to_serve() {
    for structure in Structure::ALL {
        let head = Head {
            structure,
            value_kind: ValueKind::Average,
            log_weight: ndarray::Array2::from_elem((2, 3), f64::NEG_INFINITY),
            log_potential: ndarray::Array2::zeros((2, 3)),
            null_log_weight: f64::NEG_INFINITY,
            value: ndarray::Array2::ones((3, 1)),
            query_offset: 0,
        };
        for answers in [enumerate::answer(&head), dense::answer(&head)] {
            // With independent edges the empty set is an edge set like any other, of weight 1.
            let empty = if structure == Structure::Independent { 0.0 } else { f64::NEG_INFINITY };
            assert!(answers.log_partition.iter().all(|z| *z == empty), "{structure:?}");
            assert!(answers.log_evidence.iter().all(|z| *z == empty), "{structure:?}");
            assert!(answers.map().iter().all(|i| *i == -1));
            assert!(answers.max_probability().iter().all(|p| *p == 0.0));
            assert!(answers.entropy.iter().chain(&answers.kl).all(|x| *x == 0.0));
            assert!(answers.mean.iter().chain(&answers.marginals).all(|x| *x == 0.0));
        }
    }
}
