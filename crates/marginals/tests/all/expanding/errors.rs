//! Bad settings are named.

use marginals::infer::collapsed::{Differentiation, FixedPoint};
use marginals::infer::expanding::KeyNorms;
use marginals::potential::{Additive, Dot, Potential};
use marginals::zoo::expanding::{Expanding, ExpandingUpstream, Inference};
use ndarray::{Array2, Array3, Array4};

fn tensors() -> [Array4<f64>; 3] {
    let tensor = |n| Array4::from_shape_fn((1, 2, n, 3), |(_, h, i, d)| (h + i * d) as f64 * 0.1);
    [tensor(5), tensor(9), tensor(9)]
}

fn message(settings: Expanding) -> String {
    with_potential(settings, &Dot::new(1.0))
}

fn with_potential(settings: Expanding, potential: &dyn Potential<f64>) -> String {
    let [q, k, v] = tensors();
    settings.attend(potential, q.view(), k.view(), v.view()).unwrap_err().to_string()
}

#[test]
fn bad_settings_are_named() {
    for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let text = message(Expanding::new(bad, 1.0));
        assert!(text.contains("`expanding.alpha`") && text.contains("positive"), "{text}");
        let text = message(Expanding::per_head(&[1.0], &[2.0, bad]));
        assert!(text.contains("`expanding.beta`") && text.contains("positive"), "{text}");
    }
    for bad in [-1e-9, 1.0, f64::NAN] {
        let text = message(Expanding::new(1.0, 1.0).with_tolerance(bad));
        assert!(text.contains("`expanding.tolerance`") && text.contains("[0, 1)"), "{text}");
    }
    for bad in [-1.0, f64::NAN, f64::INFINITY] {
        let settings = Expanding::new(1.0, 1.0).with_key_norms(KeyNorms::AtMost(bad));
        for settings in [settings.clone(), settings.with_tolerance(0.0)] {
            let text = message(settings);
            assert!(text.contains("`expanding.key_norms`"), "{text}");
        }
    }
    let text = message(Expanding::new(1.0, 1.0).with_first_keys(0));
    assert!(text.contains("`expanding.first-keys`"), "{text}");
    let text = message(Expanding::new(1.0, 1.0).with_query_offset(i64::MAX));
    assert!(text.contains("`expanding.query-offset`"), "{text}");
    let text = message(Expanding::per_head(&[1.0; 3], &[1.0]));
    assert!(text.contains("`expanding.alpha` has shape [1, 3, 1]"), "{text}");
    let text = message(Expanding::per_query(Array3::ones((1, 2, 5)), Array3::ones((1, 2, 4))));
    assert!(text.contains("`expanding.beta` has shape [1, 2, 4]"), "{text}");
    let engine = FixedPoint::default().with_differentiation(Differentiation::Unrolled);
    let unrolled = Expanding::new(1.0, 1.0).with_inference(Inference::MeanField(engine));
    assert!(message(unrolled).contains("unrolled"));
    let engine = FixedPoint { tolerance: f64::NAN, ..FixedPoint::default() };
    let text = message(Expanding::new(1.0, 1.0).with_inference(Inference::MeanField(engine)));
    assert!(text.contains("`tolerance` is NaN"), "{text}");
}

#[test]
fn a_potential_without_a_bound_needs_every_key() {
    let additive = Additive::bahdanau(Array2::from_elem((1, 3), 0.3));
    let text = with_potential(Expanding::new(2.0, 1.0), &additive);
    assert!(text.contains("additive") && text.contains("tolerance to 0"), "{text}");
    let [q, k, v] = tensors();
    let whole = Expanding::new(2.0, 1.0).with_tolerance(0.0);
    assert!(whole.attend(&additive, q.view(), k.view(), v.view()).is_ok());
}

#[test]
fn shapes_are_checked() {
    let [q, k, v] = tensors();
    let settings = Expanding::new(2.0, 1.0);
    let potential = Dot::new(1.0);
    let short = v.slice(ndarray::s![.., .., ..8, ..]);
    let text = settings.attend(&potential, q.view(), k.view(), short).unwrap_err().to_string();
    assert!(text.contains("`v`"), "{text}");
    let found = settings.attend(&potential, q.view(), k.view(), v.view()).unwrap();
    let wrong = Array3::zeros((1, 2, 4));
    let upstream = ExpandingUpstream { rho: Some(wrong.view()), ..Default::default() };
    let text = found.backward(&upstream).unwrap_err().to_string();
    assert!(text.contains("`grad.rho`"), "{text}");
    assert!(found.rho_log_density(1.0).is_err() && found.rho_log_density(f64::NAN).is_err());
}

#[test]
fn nothing_to_attend_to() {
    let [q, k, v] = tensors();
    let potential = Dot::new(1.0);
    for inference in [Inference::Exact, Inference::mean_field()] {
        // Every query before the first key; no key; no query.
        let before = Expanding::new(2.0, 1.0).with_query_offset(-5).with_inference(inference);
        let at_start = before.clone().with_query_offset(0);
        let none = ndarray::s![.., .., ..0, ..];
        for (settings, q, k, v) in [
            (&before, q.view(), k.view(), v.view()),
            (&at_start, q.view(), k.slice(none), v.slice(none)),
            (&at_start, q.slice(none), k.view(), v.view()),
        ] {
            let found = settings.attend(&potential, q, k, v).unwrap();
            assert!(found.mean.iter().all(|&x| x == 0.0));
            assert!(found.log_evidence.iter().all(|&x| x == f64::NEG_INFINITY));
            assert!(found.window.iter().all(|&x| x == 0) && found.lost.iter().all(|&x| x == 0.0));
            assert!(found.rho_mean.iter().all(|&x| (x - 2.0 / 3.0).abs() < 1e-15));
            let ones = found.mean.mapv(|_| 1.0);
            let upstream = ExpandingUpstream { mean: Some(ones.view()), ..Default::default() };
            let gradients = found.backward(&upstream).unwrap();
            assert!(gradients.q.iter().chain(&gradients.k).all(|&x| x == 0.0));
            assert!(gradients.alpha.iter().all(|&x| x == 0.0));
        }
    }
}
