//! Bounds on the lost mass, against the mass that is really lost.

use marginals::infer::collapsed::FixedPoint;
use marginals::potential::Dot;
use marginals::zoo::expanding::Inference;
use marginals_testkit::expanding::{MeanField, by_enumeration};
use marginals_testkit::generate::Random;

use crate::expanding::case::{Case, SCALE, Sizes};

/// Slack of the bounds that were put to the test: bound over true lost mass.
#[derive(Default)]
struct Slack(Vec<f64>);

impl Slack {
    fn add(&mut self, bound: f64, lost: f64, case: &Case) {
        assert!(bound >= lost, "lost {lost}, bound {bound}\n{case:?}");
        if lost > 0.0 {
            self.0.push(bound / lost);
        }
    }

    fn report(mut self, name: &str, cases: usize) {
        self.0.sort_by(f64::total_cmp);
        let at = |share: f64| self.0[((self.0.len() - 1) as f64 * share) as usize];
        println!(
            "{name}: {cases} cases, {} queries that lost mass; bound over lost mass: \
             least 1 + {:.0e}, median {:.2}, 90% {:.2}",
            self.0.len(),
            at(0.0) - 1.0,
            at(0.5),
            at(0.9),
        );
        assert!(self.0.len() > cases / 2, "too few windows were narrower than the keys");
    }
}

/// A case whose windows are likely to end before the keys do.
fn draw(random: &mut Random) -> (Case, f64) {
    let content = random.between(0.05, 0.9);
    let sizes =
        Sizes { queries: 3, keys: 500, log_alpha: (0.5, 4.0), log_beta: (-1.0, 3.5), content };
    let mut case = Case::new(random, sizes);
    if random.chance(0.3) {
        // Long keys far away are what a bound from lengths must not overlook.
        let far = case.k.dim().2 / 2;
        case.k.slice_mut(ndarray::s![.., .., ..far, ..]).mapv_inplace(|x| 2.0 * x);
    }
    (case, 10f64.powf(random.between(-7.0, -0.5)))
}

fn lost(marginals: &[f64], start: usize) -> f64 {
    marginals[..start].iter().sum()
}

#[test]
fn exact_certificates_hold() {
    let potential = Dot::new(SCALE);
    let mut random = Random::new(61);
    let mut slack = Slack::default();
    let cases = 10_000;
    for _ in 0..cases {
        let (case, tolerance) = draw(&mut random);
        let found = case.attend(&case.settings().with_tolerance(tolerance), &potential);
        for (b, h, i) in case.places() {
            let (keys, bound) = (found.windows().keys((b, h), i), found.lost[[b, h, i]]);
            assert!(bound <= tolerance, "{bound} above {tolerance}");
            if !keys.is_empty() {
                let truth = by_enumeration(&case.query((b, h, i), 0));
                slack.add(bound, lost(&truth.marginals, keys.start), &case);
            }
        }
    }
    slack.report("exact", cases);
}

/// Every iterate of the untruncated ascent, from the prior to where it stands still.
#[test]
fn mean_field_certificates_hold() {
    let potential = Dot::new(SCALE);
    let mut random = Random::new(62);
    let mut slack = Slack::default();
    let cases = 10_000;
    for round in 0..cases {
        let (case, tolerance) = draw(&mut random);
        // Badly converged ascents are covered as well.
        let engine = FixedPoint {
            tolerance: if round % 2 == 0 { 1e-3 } else { 1e-9 },
            ..FixedPoint::default()
        };
        let settings = case.settings().with_tolerance(tolerance);
        let settings = settings.with_inference(Inference::MeanField(engine));
        let found = case.attend(&settings, &potential);
        for (b, h, i) in case.places() {
            let (keys, bound) = (found.windows().keys((b, h), i), found.lost[[b, h, i]]);
            assert!(bound <= tolerance, "{bound} above {tolerance}");
            if keys.is_empty() {
                continue;
            }
            let query = case.query((b, h, i), 0);
            let mut twin = MeanField::at(&query, query.beta);
            let mut most = 0.0f64;
            for _ in 0..2000 {
                let of_this = lost(&twin.marginals, keys.start);
                most = most.max(of_this);
                let next = twin.next(&query);
                let moved = (next - twin.after).abs();
                twin = MeanField::at(&query, next);
                if moved <= 1e-12 * next {
                    break;
                }
            }
            slack.add(bound, most.max(lost(&twin.marginals, keys.start)), &case);
        }
    }
    slack.report("mean field", cases);
}
