//! What is read and what is not; threads; single precision.

use marginals::infer::expanding::KeyNorms;
use marginals::potential::Dot;
use marginals::zoo::expanding::{Expanding, ExpandingUpstream, Inference};
use marginals_testkit::generate::Random;
use ndarray::{Array4, s};

use crate::expanding::case::off;

/// Queries at the end of many keys.
fn late(n: usize, m: usize, d: usize) -> (Array4<f64>, Array4<f64>, Array4<f64>) {
    let mut random = Random::new(71);
    let mut tensor = |n, d| Array4::from_shape_simple_fn((1, 2, n, d), || 0.4 * random.normal());
    (tensor(n, d), tensor(m, d), tensor(m, 3))
}

fn settings(n: usize, m: usize) -> [Expanding; 3] {
    let exact = Expanding::per_head(&[18.0, 25.0], &[4.0, 2.0])
        .with_query_offset(m as i64 - n as i64)
        .with_first_keys(8)
        .with_tolerance(1e-7);
    let field = exact.clone().with_inference(Inference::mean_field());
    let rows = |size: f64| {
        ndarray::Array3::from_shape_fn((1, 2, n), |(_, h, i)| size + 0.1 * (h + i % 7) as f64)
    };
    let by_query = Expanding::per_query(rows(20.0), rows(3.0));
    let by_query = Expanding { concentrations: by_query.concentrations, ..exact.clone() };
    [exact, field, by_query]
}

/// NaN in every key and value outside the windows changes nothing, forward or backward.
#[test]
fn no_key_outside_the_windows_is_touched() {
    let potential = Dot::new(0.7);
    let (n, m) = (150, 4000);
    let (q, k, v) = late(n, m, 6);
    let longest = k.rows().into_iter().map(|k| k.dot(&k).sqrt()).fold(0.0, f64::max);
    for settings in settings(n, m) {
        let settings = settings.with_key_norms(KeyNorms::AtMost(longest));
        let whole = settings.attend(&potential, q.view(), k.view(), v.view()).unwrap();
        let first = (0..2)
            .flat_map(|h| (0..n).map(move |i| (h, i)))
            .map(|(h, i)| whole.windows().keys((0, h), i).start)
            .min()
            .unwrap();
        assert!(first > 2000, "windows start at {first}");
        let (mut far_k, mut far_v) = (k.clone(), v.clone());
        far_k.slice_mut(s![.., .., ..first, ..]).fill(f64::NAN);
        far_v.slice_mut(s![.., .., ..first, ..]).fill(f64::NAN);
        let found = settings.attend(&potential, q.view(), far_k.view(), far_v.view()).unwrap();
        assert_eq!(found.mean, whole.mean);
        assert_eq!(found.log_evidence, whole.log_evidence);
        assert_eq!(found.window, whole.window);
        assert_eq!(found.lost, whole.lost);
        assert_eq!(found.rho_mean, whole.rho_mean);
        assert!(found.mean.iter().all(|x| x.is_finite()));
        assert_eq!(found.rho_log_density(0.3).unwrap(), whole.rho_log_density(0.3).unwrap());
        let ones = found.mean.mapv(|_| 1.0);
        let rows = found.log_evidence.mapv(|_| 0.5);
        let upstream = ExpandingUpstream {
            mean: Some(ones.view()),
            log_evidence: Some(rows.view()),
            rho: Some(rows.view()),
        };
        let (far, near) = (found.backward(&upstream).unwrap(), whole.backward(&upstream).unwrap());
        assert_eq!(far.q, near.q);
        assert_eq!(far.k, near.k);
        assert_eq!(far.v, near.v);
        assert_eq!((far.alpha, far.beta), (near.alpha, near.beta));
        assert!(near.k.slice(s![.., .., ..first, ..]).iter().all(|x| *x == 0.0));
    }
}

/// The same numbers with one thread and with four.
#[test]
fn threads_do_not_matter() {
    let potential = Dot::new(0.7);
    let (n, m) = (400, 3000);
    let (q, k, v) = late(n, m, 6);
    for settings in settings(n, m) {
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let found = settings.attend(&potential, q.view(), k.view(), v.view()).unwrap();
                let ones = found.mean.mapv(|_| 1.0);
                let upstream = ExpandingUpstream { mean: Some(ones.view()), ..Default::default() };
                let gradients = found.backward(&upstream).unwrap();
                (found.mean, found.window, found.lost, gradients.k, gradients.alpha)
            })
        };
        assert_eq!(run(1), run(4));
    }
}

/// One query against a long cache is cut by keys, with the same answers.
#[test]
fn one_query_against_a_long_cache() {
    let potential = Dot::new(0.7);
    let (q, k, v) = late(1, 20_000, 6);
    for settings in settings(1, 20_000) {
        let whole = settings.clone().with_tolerance(0.0);
        let whole = whole.attend(&potential, q.view(), k.view(), v.view()).unwrap();
        let found = settings.attend(&potential, q.view(), k.view(), v.view()).unwrap();
        assert_eq!(whole.window[[0, 0, 0]], 20_000);
        assert!(found.window[[0, 0, 0]] < 10_000);
        for (a, b) in found.mean.iter().zip(&whole.mean) {
            assert!((a - b).abs() < 1e-6, "{a} {b}");
        }
    }
}

/// f32 finds the windows and answers of f64.
#[test]
fn single_precision_agrees() {
    let potential = Dot::new(0.7);
    let (n, m) = (300, 1500);
    let (q, k, v) = late(n, m, 16);
    let narrow = |x: &Array4<f64>| x.mapv(|x| x as f32);
    let (q32, k32, v32) = (narrow(&q), narrow(&k), narrow(&v));
    for settings in settings(n, m) {
        let settings = settings.with_tolerance(1e-5);
        let wide = settings.attend(&potential, q.view(), k.view(), v.view()).unwrap();
        let found = settings.attend(&potential, q32.view(), k32.view(), v32.view()).unwrap();
        assert!(found.lost.iter().all(|&lost| lost <= 1e-5));
        assert!(found.window.iter().all(|&window| window < m));
        for (a, b) in found.mean.iter().zip(&wide.mean) {
            assert!(off(f64::from(*a), *b) < 3e-5, "{a} {b}");
        }
        for (a, b) in found.log_evidence.iter().zip(&wide.log_evidence) {
            assert!(off(*a, *b) < 3e-5, "{a} {b}");
        }
        for (a, b) in found.rho_mean.iter().zip(&wide.rho_mean) {
            assert!((a - b).abs() < 2e-6, "{a} {b}");
        }
    }
}

/// NaN stays with the queries it belongs to.
#[test]
fn a_nan_query_is_alone() {
    let potential = Dot::new(0.7);
    let (n, m) = (20, 800);
    let (mut q, k, v) = late(n, m, 6);
    let clean = q.clone();
    q[[0, 1, 7, 2]] = f64::NAN;
    for settings in settings(n, m) {
        let whole = settings.attend(&potential, clean.view(), k.view(), v.view()).unwrap();
        let found = settings.attend(&potential, q.view(), k.view(), v.view()).unwrap();
        for ((b, h, i, c), x) in found.mean.indexed_iter() {
            match (h, i) {
                (1, 7) => assert!(x.is_nan()),
                _ => assert!((x - whole.mean[[b, h, i, c]]).abs() < 1e-6),
            }
        }
    }
}
