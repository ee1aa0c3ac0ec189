//! Forward derivatives and derivatives in scores against the identities that they obey.

mod common;

use common::draw;
use marginals_testkit::finite_difference;
use marginals_testkit::generate::strategy::Pantry;
use marginals_testkit::generate::{
    Case, Fault, Flavour, NullKind, PotentialKind, PriorKind, Random,
};
use marginals_testkit::reference::Tangents;
use marginals_testkit::{NullEdge, Problem, Structure, ValueKind, dense};
use ndarray::{Array1, Array2, s};

/// Where one edge is picked and scores are smooth.
fn pantry() -> Pantry {
    let smooth = |kind: &PotentialKind| {
        !matches!(kind, PotentialKind::Gat | PotentialKind::GatV2 | PotentialKind::Cosine)
    };
    let tiny = Pantry::tiny(Structure::EachQueryPicksOne).of_the_field();
    Pantry {
        structures: vec![Structure::EachQueryPicksOne, Structure::EachQueryPicksAtMostOne],
        potentials: PotentialKind::ALL.into_iter().filter(smooth).collect(),
        // Buckets of real distances have kinks.
        priors: tiny.priors.iter().copied().filter(|kind| !has_kinks(*kind)).collect(),
        flavours: vec![Flavour::Ordinary],
        sizes: (1..=4).collect(),
        nulls: vec![NullKind::LogWeight, NullKind::One, NullKind::Logit],
        faults: Vec::new(),
        ..tiny
    }
}

fn has_kinks(kind: PriorKind) -> bool {
    use marginals_testkit::generate::DecayKind::RelativeBuckets;
    matches!(kind, PriorKind::OverDistance(RelativeBuckets, _))
}

/// θ of every edge of a query, and of its null edge.
fn scores(problem: &Problem, query: usize) -> Vec<f64> {
    let mut scores: Vec<f64> = (0..problem.keys()).map(|j| problem.theta(query, j)).collect();
    if problem.structure == Structure::EachQueryPicksAtMostOne {
        let NullEdge::Weighted { log_weight, log_potential } = problem.null[query] else {
            panic!("no gates here")
        };
        scores.push(log_weight + log_potential);
    }
    scores
}

/// E[v̇] + Cov[θ̇, v], the null edge having a θ̇ of its own and no value (the identity that makes a
/// forward derivative of a covariance), with θ̇ from the scores alone.
fn identity(case: &Case, tangents: &Tangents, (b, h): (usize, usize)) -> Array2<f64> {
    let problem = case.model.problem(&case.inputs, b, h);
    let answers = dense::answer(&problem);
    let value_tangent = tangents.v.slice(s![b, case.inputs.key_head(h), .., ..]);
    let mut out = Array2::zeros(answers.mean.dim());
    for i in 0..problem.queries() {
        let now = scores(&problem, i);
        let moving = |t: f64| {
            let (model, inputs) = tangents.moved(&case.model, &case.inputs, t);
            let moved = scores(&model.problem(&inputs, b, h), i);
            // Impossible edges stay impossible.
            moved.iter().map(|x| if x.is_finite() { *x } else { 0.0 }).collect()
        };
        let theta_dot = finite_difference::of_curve(0.05, now.len(), moving);
        let p = |c: usize| match c < problem.keys() {
            true => answers.marginals[[i, c]],
            false => answers.null_probability[i],
        };
        let mean_dot: f64 = (0..now.len()).map(|c| p(c) * theta_dot[c].value).sum();
        for j in 0..problem.keys() {
            let change = theta_dot[j].value - mean_dot;
            for c in 0..problem.value.ncols() {
                let value = problem.value[[j, c]] * change + value_tangent[[j, c]];
                out[[i, c]] += answers.marginals[[i, j]] * value;
            }
        }
    }
    out
}

#[test]
fn the_forward_derivative_of_a_mean_is_a_covariance() {
    let (mut entries, mut largest) = (0, 0.0f64);
    for scenario in draw(&pantry().scenarios(), 400) {
        let mut case = scenario.build();
        case.model.value_kind = ValueKind::Gather;
        let tangents = case.tangents(&mut Random::new(scenario.base.seed));
        let found = case.model.jvp(&case.inputs, &tangents);
        for (b, h) in case.heads() {
            let expected = identity(&case, &tangents, (b, h));
            for (found, expected) in found.slice(s![b, h, .., ..]).iter().zip(&expected) {
                let error = (found.value - expected).abs() / expected.abs().max(1.0);
                assert!(error < 1e-9, "{scenario:?}: {found:?} for {expected}");
                assert!(found.error < 1e-9 * expected.abs().max(1.0), "{scenario:?}: {found:?}");
                (entries, largest) = (entries + 1, largest.max(error));
            }
        }
    }
    assert!(entries > 3_000 && largest > 0.0, "{entries} entries, worst {largest:e}");
}

/// Of q alone through a dot potential: the covariance with the second score q̇·k, times the scale.
#[test]
fn moving_queries_is_the_covariance_with_their_velocity() {
    let pantry = Pantry {
        potentials: vec![PotentialKind::Dot],
        priors: PriorKind::ALL.to_vec(),
        ..pantry()
    };
    for scenario in draw(&pantry.scenarios(), 200) {
        let mut case = scenario.build();
        case.model.value_kind = ValueKind::Gather;
        let mut tangents = Tangents::zero(&case.model, &case.inputs);
        tangents.q = case.tangents(&mut Random::new(scenario.base.seed)).q;
        let found = case.model.jvp(&case.inputs, &tangents);
        let marginals_testkit::reference::Potential::Dot { scale, .. } = &case.model.potential
        else {
            panic!("a dot potential")
        };
        for ((b, h), problem) in case.heads().into_iter().zip(case.problems()) {
            let second = case.inputs.second_score(&tangents.q, b, h);
            let scale = if scale.len() == 1 { scale[0] } else { scale[h] };
            let expected = dense::covariance(&problem, &(scale * second));
            for (found, expected) in found.slice(s![b, h, .., ..]).iter().zip(&expected) {
                let error = (found.value - expected).abs();
                assert!(error < 1e-9 * expected.abs().max(1.0), "{found:?} for {expected}");
            }
        }
    }
}

/// The slope of the log-partition in θ_ij is P(φ_ij = 1), also where a bias of −3·10³⁸ swallows any
/// step; an impossible edge has none.
#[test]
fn probes_move_scores() {
    let mut probed = 0;
    for structure in Structure::ALL {
        let tiny = Pantry::tiny(structure);
        let pantry = Pantry {
            flavours: vec![Flavour::Ordinary, Flavour::Ties],
            faults: vec![Fault::HugeMasks, Fault::FarPositions, Fault::Garbage],
            priors: PriorKind::ALL.into_iter().chain(PriorKind::further()).collect(),
            sizes: (1..=3).collect(),
            batches: 1,
            ..tiny
        };
        for scenario in draw(&pantry.scenarios(), 100) {
            let (mut case, index) = scenario.build().with_probe();
            let touched = case.model.touched(&case.inputs, 0, 0);
            let answers = dense::answer(&case.model.problem(&case.inputs, 0, 0));
            // What all edges have in common adds nothing but rounding to the slopes.
            let start = answers.log_partition.clone();
            let alive = |f: usize| start[f] > f64::NEG_INFINITY && !touched.factors[f];
            let probe = case.model.parameters_mut().swap_remove(index).1.to_vec();
            assert!(probe.iter().all(|x| *x == 0.0), "{scenario:?}");
            let sum = |case: &Case| -> f64 {
                let moved = case.model.problem(&case.inputs, 0, 0);
                let evidence: Array1<f64> = dense::answer(&moved).log_evidence;
                (0..evidence.len()).filter(|&f| alive(f)).map(|f| evidence[f]).sum()
            };
            // The prior moves along: the evidence's slope is P(φ_ij) less the prior's.
            let mut prior = case.model.problem(&case.inputs, 0, 0);
            prior.log_potential.fill(0.0);
            let prior = dense::answer(&prior).marginals;
            let slopes = finite_difference::gradient(&probe, |x| {
                case.model.parameters_mut().swap_remove(index).1.copy_from_slice(x);
                sum(&case)
            });
            for ((i, j), p) in answers.marginals.indexed_iter() {
                let factor = if structure == Structure::EachKeyPicksOne { j } else { i };
                let expected = if alive(factor) { p - prior[[i, j]] } else { 0.0 };
                let found = slopes[i * prior.ncols() + j];
                assert!(
                    (found.value - expected).abs() < 1e-8,
                    "{scenario:?}: {found:?} {expected}"
                );
                probed += 1;
            }
        }
    }
    assert!(probed > 1_000, "{probed}");
}
