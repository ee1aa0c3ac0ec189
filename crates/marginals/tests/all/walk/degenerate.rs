//! Bad input and degenerate cases, spelled out.

use marginals::infer::walk::Event;
use marginals::potential::Dot;
use marginals::prior::{Bias, Causal, Combine, Uniform, Window};
use marginals::question::{
    Entropy, EventProbability, Hops, Kl, LogPartition, Marginals, Mean, Paths, QueryMass,
};
use marginals::structure::{
    EachKeyPicksOne, EachQueryPicksAtMostOne, EachQueryPicksOne, Independent, Walk,
};
use marginals::{Error, Model, Posterior, Value};
use ndarray::{Array2, Array3, Array4, array, s};

fn tensor(shape: (usize, usize, usize, usize)) -> Array4<f64> {
    let mut x = 0.3;
    Array4::from_shape_simple_fn(shape, || {
        x = (x * 7.3_f64 + 0.11).fract();
        x - 0.5
    })
}

/// The argument an error names.
fn argument(error: Error) -> String {
    match error {
        Error::Value { argument, .. } | Error::Shape { argument, .. } => argument,
        Error::NotAnswerable { question, .. } => question,
        other => panic!("unexpected {other}"),
    }
}

/// The argument that the error of a posterior that must not be names.
fn refused(posterior: Result<Posterior<'_, f64>, Error>) -> String {
    match posterior {
        Ok(_) => panic!("one can walk on this"),
        Err(error) => argument(error),
    }
}

#[test]
fn bad_weights_are_refused() {
    let refused = |weights: &[f64]| argument(Walk::new(weights).unwrap_err());
    assert_eq!(refused(&[1.0]), "walk.hops");
    assert_eq!(refused(&[]), "walk.hops");
    assert_eq!(argument(Walk::uniform(0).unwrap_err()), "walk.hops");
    assert_eq!(argument(Walk::exactly(0).unwrap_err()), "walk.hops");
    for bad in [f64::NAN, -0.1, f64::INFINITY] {
        assert_eq!(refused(&[0.5, bad, 0.5]), "walk.weights");
    }
    assert_eq!(refused(&[0.0, 0.0]), "walk.weights");
    let logs = |weights: &[f64]| argument(Walk::from_log_weights(weights).unwrap_err());
    assert_eq!(logs(&[0.0]), "walk.hops");
    assert_eq!(logs(&[0.0, f64::NAN]), "walk.log-weights");
    assert_eq!(logs(&[0.0, f64::INFINITY]), "walk.log-weights");
    assert_eq!(logs(&[f64::NEG_INFINITY; 2]), "walk.log-weights");
    assert_eq!(argument(Walk::per_head(Array2::zeros((0, 3))).unwrap_err()), "walk.weights");
}

#[test]
fn huge_weights_do_not_overflow() {
    let walk = Walk::new(&[f64::MAX, f64::MAX, 0.0]).unwrap();
    assert_eq!(walk.distribution().probabilities(), &array![[0.5, 0.5, 0.0]]);
    let walk = Walk::from_log_weights(&[1e300, 1e300, 0.0]).unwrap();
    assert_eq!(walk.distribution().probabilities(), &array![[0.5, 0.5, 0.0]]);
}

#[test]
fn models_one_cannot_walk_on_are_refused() {
    let (q, k) = (tensor((1, 2, 4, 3)), tensor((1, 2, 4, 3)));
    let walk = || Walk::uniform(2).unwrap();
    let model = Model::new(walk().of(EachKeyPicksOne), Uniform, Dot::new(1.0));
    assert_eq!(refused(model.posterior(q.view(), k.view())), "walk");
    let model = Model::new(walk().of(Independent), Uniform, Dot::new(1.0));
    assert_eq!(refused(model.posterior(q.view(), k.view())), "walk");
    let one = Model::new(walk(), Uniform, Dot::new(1.0));
    let model = one.clone().with_value(Value::Average);
    assert_eq!(refused(model.posterior(q.view(), k.view())), "walk");
    let model = one.clone().with_query_offset(1);
    assert_eq!(refused(model.posterior(q.view(), k.view())), "query-offset");
    let longer = tensor((1, 2, 5, 3));
    assert_eq!(refused(one.posterior(q.view(), longer.view())), "k");
    let three = Model::new(Walk::per_head(Array2::ones((3, 2))).unwrap(), Uniform, Dot::new(1.0));
    assert_eq!(refused(three.posterior(q.view(), k.view())), "walk.weights");
}

#[test]
fn bad_questions_are_refused() {
    let (q, k, v) = (tensor((1, 2, 4, 3)), tensor((1, 1, 4, 3)), tensor((1, 1, 4, 2)));
    let model = Model::new(Walk::uniform(2).unwrap(), Uniform, Dot::new(1.0));
    let posterior = model.posterior(q.view(), k.view()).unwrap();
    let other = tensor((1, 1, 5, 2));
    assert_eq!(argument(posterior.ask(Mean(other.view())).unwrap_err()), "v");
    let path = |nodes: &[usize]| argument(posterior.ask(Paths(vec![nodes])).unwrap_err());
    assert_eq!(path(&[]), "path");
    assert_eq!(path(&[0, 4]), "path");
    let outside = [Event::any().using(0, 0, 4)];
    let outside = EventProbability { events: &outside, given: Event::any() };
    assert_eq!(argument(posterior.ask(outside).unwrap_err()), "event");
    let ending = Hops { given: Event::any().ending_at(9) };
    assert_eq!(argument(posterior.ask(ending).unwrap_err()), "event");
    // What a walk does not answer is refused by name.
    assert_eq!(argument(posterior.ask(LogPartition).unwrap_err()), "log-partition");
    assert_eq!(argument(posterior.ask(Marginals).unwrap_err()), "marginals");
    assert_eq!(argument(posterior.ask(QueryMass).unwrap_err()), "query-mass");
    let pass = posterior.pass((Mean(v.view()), Entropy)).unwrap();
    let g = Array3::zeros((1, 2, 3));
    assert_eq!(argument(pass.backward((None, &g)).unwrap_err()), "grad.entropy");
    let g = Array4::zeros((1, 2, 4, 3));
    assert_eq!(argument(pass.backward((&g, None)).unwrap_err()), "grad.mean");
    // And what only a walk answers, of a single pick.
    let one = Model::new(EachQueryPicksOne, Uniform, Dot::new(1.0));
    let one = one.posterior(q.view(), k.view()).unwrap();
    assert_eq!(argument(one.ask(Paths(vec![vec![0, 1]])).unwrap_err()), "paths");
}

#[test]
fn events_that_contradict_themselves_never_happen() {
    let (q, k) = (tensor((1, 1, 3, 2)), tensor((1, 1, 3, 2)));
    let model = Model::new(Walk::uniform(3).unwrap(), Uniform, Dot::new(1.0));
    let posterior = model.posterior(q.view(), k.view()).unwrap();
    let events = [
        Event::any().using(1, 0, 1).using(1, 0, 2),
        Event::any().with_hops(1).with_hops(2),
        Event::any().ending_at(0).ending_at(1),
        Event::any().with_hops(1).using(1, 0, 0),
        Event::any().with_hops(4),
        Event::any().using(3, 0, 0),
        Event::any().using(0, 0, 1).using(1, 2, 0),
    ];
    let never = EventProbability { events: &events, given: Event::any() };
    assert!(posterior.ask(never).unwrap().iter().all(|&p| p == 0.0));
    for given in events {
        assert!(posterior.ask(Hops { given }).unwrap().iter().all(|&p| p == 0.0));
    }
}

/// Node 1 is dead: the walks 0 → 1 → ∅ and 2 → 1 → ∅ are lost at their second step.
#[test]
fn a_dead_query_on_the_way() {
    let never = f64::NEG_INFINITY;
    let bias = array![[never, 0.0, never], [never, never, never], [0.0, 0.0, never]];
    let bias = Bias::new(bias.into_shape_with_order((1, 1, 3, 3)).unwrap());
    let (q, k) = (Array4::<f64>::zeros((1, 1, 3, 1)), Array4::<f64>::zeros((1, 1, 3, 1)));
    let v = array![1.0, 10.0, 100.0].into_shape_with_order((1, 1, 3, 1)).unwrap();
    let model = Model::new(Walk::new(&[1.0, 1.0, 2.0]).unwrap(), bias, Dot::new(1.0));
    let posterior = model.posterior(q.view(), k.view()).unwrap();

    // P = [[0 1 0] [0 0 0] [½ ½ 0]], P² = [[0 0 0] [0 0 0] [0 ½ 0]].
    let mean = posterior.ask(Mean(v.view())).unwrap();
    assert_eq!(mean.iter().copied().collect::<Vec<_>>(), [2.75, 2.5, 28.875]);
    let arriving = [Event::any().arriving()];
    let arriving = EventProbability { events: &arriving, given: Event::any() };
    let arrives = posterior.ask(arriving).unwrap();
    assert_eq!(arrives.iter().copied().collect::<Vec<_>>(), [0.5, 0.25, 0.75]);
    let hops = posterior.ask(Hops { given: Event::any().arriving() }).unwrap();
    let third = 1.0 / 3.0;
    let expected = [0.5, 0.5, 0.0, 1.0, 0.0, 0.0, third, third, third];
    assert!(hops.iter().zip(expected).all(|(a, e): (&f64, f64)| (a - e).abs() < 1e-15), "{hops}");
    // 1.5 ln 2 for the number of hops; node 2 picks between two with probability ¾.
    let ln2 = std::f64::consts::LN_2;
    let entropy = posterior.ask(Entropy).unwrap();
    let expected = [1.5 * ln2, 1.5 * ln2, 2.25 * ln2];
    assert!(entropy.iter().zip(expected).all(|(a, e)| (a - e).abs() < 1e-15), "{entropy}");
    let paths: [&[usize]; 4] = [&[0, 1], &[1], &[1, 0], &[2, 0, 1]];
    let log_p = posterior.ask(Paths(paths.to_vec())).unwrap();
    let expected = [-2.0 * ln2, -2.0 * ln2, never, -2.0 * ln2];
    assert_eq!(log_p.iter().copied().collect::<Vec<_>>(), expected);
}

/// A node that holds garbage and lies out of a walk's reach: its answers and gradients are those without
/// the garbage, the weights' included, whatever other walks make of it.
#[test]
fn garbage_out_of_reach_takes_no_part() {
    let clean = [1, 2, 3].map(|seed| tensor((1, 1, 6, 2)).mapv(|x| x * f64::from(seed)));
    let model = Model::new(
        Walk::new(&[0.2, 0.5, 0.3]).unwrap(),
        Window { left: 1, right: 1 },
        Dot::new(1.0),
    );
    // Node 0 goes as far as node 2.
    let of_first =
        |x: f64| Array3::from_shape_fn((1, 1, 6), |(.., i)| if i == 0 { x } else { 0.0 });
    let (on_entropy, on_kl) = (of_first(0.7), of_first(-0.4));
    let on_mean = Array4::from_shape_fn((1, 1, 6, 2), |(.., i, _)| if i == 0 { 1.0 } else { 0.0 });
    let found = |garbage: f64| {
        let [q, k, v] = clean.clone().map(|mut x| {
            x.slice_mut(s![.., .., 3, ..]).fill(garbage);
            x
        });
        let posterior = model.posterior(q.view(), k.view()).unwrap();
        let pass = posterior.pass((Mean(v.view()), Entropy, Kl)).unwrap();
        let (mean, entropy, kl) = pass.answer().unwrap();
        let gradients = pass.backward((&on_mean, &on_entropy, &on_kl)).unwrap();
        let mut all = vec![mean[[0, 0, 0, 0]], entropy[[0, 0, 0]], kl[[0, 0, 0]]];
        all.extend(gradients.v().unwrap());
        all.extend(gradients.q.iter().chain(&gradients.k));
        gradients.parameters.iter().for_each(|p| all.extend(&p.gradient));
        all
    };
    let expected = found(0.0);
    for garbage in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        for (got, expected) in found(garbage).into_iter().zip(&expected) {
            assert!((got - expected).abs() < 1e-13, "{garbage}: {got}, {expected}");
        }
    }
}

/// Where nothing is possible at all, every gradient is 0 but those of the walk that stays.
#[test]
fn nothing_possible() {
    let (q, k, v) = (tensor((1, 1, 3, 2)), tensor((1, 1, 3, 2)), tensor((1, 1, 3, 2)));
    let never = Bias::new(Array4::<f64>::from_elem((1, 1, 1, 1), f64::NEG_INFINITY));
    let model = Model::new(Walk::new(&[1.0, 3.0]).unwrap(), never, Dot::new(1.0));
    let posterior = model.posterior(q.view(), k.view()).unwrap();
    let pass = posterior.pass(Mean(v.view())).unwrap();
    assert_eq!(pass.answer().unwrap(), &v * 0.25);
    let gradients = pass.backward(&Array4::ones((1, 1, 3, 2))).unwrap();
    assert!(gradients.q.iter().chain(&gradients.k).all(|&g| g == 0.0));
    assert!(gradients.v().unwrap().iter().all(|&g| g == 0.25));
}

/// A causal window of one key behind, one step at a time: after h hops a walk is at most h back.
#[test]
fn a_walk_reaches_as_far_as_its_hops() {
    let (q, k) = (tensor((1, 1, 8, 4)), tensor((1, 1, 8, 4)));
    let prior = Causal.and(Window { left: 1, right: 0 });
    let walk = Walk::exactly(3).unwrap().of(EachQueryPicksAtMostOne::new(-1.0));
    let model = Model::new(walk, prior, Dot::scaled(4));
    let posterior = model.posterior(q.view(), k.view()).unwrap();
    let ends: Vec<Event> = (0..8).map(|j| Event::any().ending_at(j)).collect();
    let p = posterior.ask(EventProbability { events: &ends, given: Event::any() }).unwrap();
    for ((_, _, i, j), &p) in p.indexed_iter() {
        assert_eq!(p > 0.0, j <= i && i - j <= 3, "from {i} to {j}: {p}");
    }
}

#[test]
fn nan_is_refused_where_checks_are_asked_for() {
    let (mut q, k) = (tensor((1, 2, 3, 2)), tensor((1, 2, 3, 2)));
    q[[0, 1, 2, 1]] = f64::NAN;
    let model = Model::new(Walk::uniform(2).unwrap(), Causal, Dot::new(1.0));
    let posterior = model.posterior(q.view(), k.view()).unwrap();
    assert!(matches!(posterior.checked().map(|_| ()), Err(Error::NotANumber { .. })));
    // Without checks it stays within its head.
    let posterior = model.posterior(q.view(), k.view()).unwrap();
    let entropy = posterior.ask(Entropy).unwrap();
    assert!((0..3).all(|i| entropy[[0, 0, i]].is_finite()) && entropy[[0, 1, 2]].is_nan());
}
