//! The exact posterior.

use marginals::Model;
use marginals::potential::Dot;
use marginals::question::{Entropy, Mean};
use marginals::structure::EachQueryPicksOne;
use marginals_testkit::expanding::{Exact, by_enumeration, by_quadrature, log_density};
use marginals_testkit::generate::Random;

use crate::expanding::case::{Case, SCALE, Sizes, off};

const SIZES: Sizes =
    Sizes { queries: 9, keys: 40, log_alpha: (-1.5, 4.0), log_beta: (-1.5, 5.0), content: 1.2 };

/// Mean, evidence, E[ρ], Var[ρ], E[d] and the density of ρ, by sums over keys and by integrals
/// over ρ.
#[test]
fn posterior_equals_enumeration_and_quadrature() {
    let potential = Dot::new(SCALE);
    let mut random = Random::new(41);
    let mut worst = 0.0f64;
    let mut note = |name: &str, got: f64, truth: f64, case: &Case| {
        let error = off(got, truth);
        assert!(error < 1e-9, "{name}: {got} for {truth}\n{case:?}");
        worst = worst.max(error);
    };
    for round in 0..60 {
        let case = Case::new(&mut random, SIZES);
        let found = case.attend(&case.settings().with_tolerance(0.0), &potential);
        let at = random.between(0.02, 0.98);
        let density = found.rho_log_density(at).unwrap();
        for (b, h, i) in case.places() {
            let place = [b, h, i];
            if case.visible(i) == 0 {
                assert_eq!(found.log_evidence[place], f64::NEG_INFINITY);
                assert_eq!(found.mean[[b, h, i, 0]], 0.0);
                assert_eq!((found.window[place], found.lost[place]), (0, 0.0));
                let query = case.query((b, h, i), 0);
                let (alpha, beta) = (query.alpha, query.beta);
                note("E[ρ], no key", found.rho_mean[place], alpha / (alpha + beta), &case);
                continue;
            }
            let query = case.query((b, h, i), 0);
            let mut truths: Vec<Exact> = vec![by_enumeration(&query)];
            if round < 20 {
                truths.push(by_quadrature(&query));
            }
            for truth in truths {
                let p = &truth.marginals;
                note("evidence", found.log_evidence[place], truth.log_evidence, &case);
                note("E[ρ]", found.rho_mean[place], truth.rho_mean, &case);
                note("Var[ρ]", found.rho_variance[place], truth.rho_variance, &case);
                let distance: f64 = p.iter().zip(&query.distance).map(|(p, d)| p * d).sum();
                note("E[d]", found.distance[place], distance, &case);
                for (c, truth) in case.mean((b, h, i), 0, p).into_iter().enumerate() {
                    note("mean", found.mean[[b, h, i, c]], truth, &case);
                }
            }
            note("density", density[place], log_density(&query, at), &case);
        }
    }
    println!("exact posterior: largest error {worst:.1e}");
}

/// Growing merges what was seen: the answers are those of the keys in the window, however it grew.
#[test]
fn grown_windows_hold_the_truncated_posterior() {
    let potential = Dot::new(SCALE);
    let mut random = Random::new(42);
    let sizes = Sizes {
        queries: 130,
        keys: 700,
        log_alpha: (1.5, 3.5),
        log_beta: (0.0, 3.0),
        content: 0.4,
    };
    let (mut truncated, mut grown) = (0, 0);
    for _ in 0..30 {
        let case = Case::new(&mut random, sizes);
        let tolerance = 10f64.powf(random.between(-8.0, -1.0));
        let found = case.attend(&case.settings().with_tolerance(tolerance), &potential);
        for (b, h, i) in case.places() {
            let keys = found.windows().keys((b, h), i);
            let place = [b, h, i];
            assert_eq!(keys.end, case.visible(i).max(keys.start.min(case.visible(i))));
            assert_eq!(keys.len(), found.window[place]);
            if keys.is_empty() {
                continue;
            }
            truncated += usize::from(keys.start > 0);
            grown += usize::from(found.growths[place] > 0);
            let query = case.query((b, h, i), keys.start);
            let truth = by_enumeration(&query);
            assert!(off(found.log_evidence[place], truth.log_evidence) < 1e-11);
            assert!(off(found.rho_mean[place], truth.rho_mean) < 1e-11);
            let mean = case.mean((b, h, i), keys.start, &truth.marginals);
            for (c, truth) in mean.into_iter().enumerate() {
                assert!(off(found.mean[[b, h, i, c]], truth) < 1e-11);
            }
        }
    }
    assert!(truncated > 1000 && grown > 1000, "{truncated} {grown}");
}

/// The prior that was found makes a model that answers anything else.
#[test]
fn other_questions_are_asked_of_the_prior_found() {
    let potential = Dot::new(SCALE);
    let mut random = Random::new(43);
    let case = Case::new(
        &mut random,
        Sizes {
            queries: 120,
            keys: 400,
            log_alpha: (2.0, 3.0),
            log_beta: (0.0, 1.0),
            content: 0.3,
        },
    );
    let found = case.attend(&case.settings().with_tolerance(1e-4), &potential);
    found.with_prior(|prior| {
        let model =
            Model::new(EachQueryPicksOne, prior, potential.clone()).with_query_offset(case.offset);
        let posterior = model.posterior(case.q.view(), case.k.view()).unwrap();
        let (mean, entropy) = posterior.ask((Mean(case.v.view()), Entropy)).unwrap();
        for (got, truth) in mean.iter().zip(&found.mean) {
            assert!(off(*got, *truth) < 1e-12);
        }
        for (b, h, i) in case.places() {
            let keys = found.windows().keys((b, h), i);
            if !keys.is_empty() {
                let p = by_enumeration(&case.query((b, h, i), keys.start)).marginals;
                let truth: f64 = p.iter().filter(|p| **p > 0.0).map(|p| -p * p.ln()).sum();
                assert!(off(entropy[[b, h, i]], truth) < 1e-10);
            }
        }
    });
}
