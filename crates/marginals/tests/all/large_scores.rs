//! Probabilities keep their digits where scores are so large that log Z has none to spare.

use marginals::Model;
use marginals::potential::Dot;
use marginals::prior::Uniform;
use marginals::question::{ColumnMass, LogPartition, Marginals, MaxProbability, Mean, TopK};
use marginals::structure::{EachKeyPicksOne, EachQueryPicksOne};
use ndarray::{Array4, array};

/// Three equal keys, whatever the score: each has a third.
#[test]
fn equal_keys_share_equally_at_any_score() {
    let k = Array4::<f32>::ones((1, 1, 3, 1));
    let v = array![[[[1.0f32], [2.0], [6.0]]]];
    for score in [1.0f32, 1e2, 1e4, 1e8, -1e8, 1e30] {
        let q = Array4::from_elem((1, 1, 1, 1), score);
        let model = Model::new(EachQueryPicksOne, Uniform, Dot::new(1.0));
        let posterior = model.posterior(q.view(), k.view()).unwrap();
        let questions =
            (Mean(v.view()), Marginals, MaxProbability, TopK(3), ColumnMass, LogPartition);
        let pass = posterior.pass(questions).unwrap();
        let (mean, marginals, most, top, column, log_partition) = pass.answer().unwrap();
        let third = |x: &f32| assert!((x - 1.0 / 3.0).abs() < 1e-7, "at {score}: {x}");
        marginals.iter().chain(&most).chain(&top.probability).chain(&column).for_each(third);
        assert!((mean[[0, 0, 0, 0]] - 3.0).abs() < 1e-6, "at {score}: {mean}");
        assert_eq!(log_partition[[0, 0, 0]], score + 3f32.ln());
        // d mean/dv is the marginals.
        let ones = Array4::ones((1, 1, 1, 1));
        let upstream = (&ones, None, (), (), None, None);
        pass.backward(upstream).unwrap().v().unwrap().iter().for_each(third);

        let model = Model::new(EachKeyPicksOne, Uniform, Dot::new(1.0));
        let posterior = model.posterior(k.view(), q.view()).unwrap();
        let (marginals, most) = posterior.ask((Marginals, MaxProbability)).unwrap();
        marginals.iter().chain(&most).for_each(third);
    }
}

/// A range of keys that holds garbage alone leaves its query garbage, wherever it is merged.
#[test]
fn garbage_in_one_range_is_not_passed_over() {
    let q = Array4::<f64>::ones((1, 1, 1, 2));
    let mut k = Array4::<f64>::ones((1, 1, 6, 2));
    k.slice_mut(ndarray::s![.., .., 2..4, ..]).fill(f64::NAN);
    let model = Model::new(EachQueryPicksOne, Uniform, Dot::scaled(2));
    let posterior = model.posterior(q.view(), k.view()).unwrap();
    assert!(posterior.ask(LogPartition).unwrap()[[0, 0, 0]].is_nan());
    let mut merged = posterior.find(&LogPartition, 0..2).unwrap();
    merged.merge(posterior.find(&LogPartition, 2..4).unwrap()).unwrap();
    merged.merge(posterior.find(&LogPartition, 4..6).unwrap()).unwrap();
    let log_z = posterior.complete(LogPartition, merged).unwrap().answer().unwrap();
    assert!(log_z[[0, 0, 0]].is_nan(), "{log_z}");
}
