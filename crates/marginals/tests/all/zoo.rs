//! The mechanisms of the zoo that are one pass, against other libraries in `f64`.
//!
//! The file is written by `tools/reference/zoo.py`, which says where each answer comes from.

use crate::recorded::Case;
use marginals::potential::{Potential, RotaryPairs};
use marginals::prior::{Adjacency, Directions, Prior};
use marginals::question::{Draws, Map, Mean, Samples, ValueVariance};
use marginals::structure::Structure;
use marginals::zoo::{
    self, alibi, attention_sink, documents, graph_attention, hard_attention, normalization_model,
    relative_positions, rotary, sigmoid_attention, sliding_window, softcap, softmax_attention,
};
use marginals::{Error, Gradients, Model};
use marginals_testkit::{Head, Structure as Phi, ValueKind, enumerate};
use ndarray::{Array1, Array2, Array3, Array4, ArrayD, Axis, Ix1, s};

const FILE: &[u8] = include_bytes!("data/zoo.safetensors");

/// The mean of the case's `q`, `k` and `v` and its gradients; those of parameters are returned.
fn check<S: Structure<f64>, P: Prior<f64>, U: Potential<f64>>(
    case: &Case<'_>,
    model: &Model<S, P, U>,
) -> Gradients<f64> {
    let (q, k, v) = (case.get("q"), case.get("k"), case.get("v"));
    let upstream = case.get("upstream");
    let (mean, gradients) = mean_and_gradients(model, &q, &k, &v, &upstream);
    case.close("mean", &mean);
    case.close("grad.q", &gradients.q);
    case.close("grad.k", &gradients.k);
    case.close("grad.v", gradients.v().expect("the mean has values"));
    gradients
}

fn mean_and_gradients<S: Structure<f64>, P: Prior<f64>, U: Potential<f64>>(
    model: &Model<S, P, U>,
    q: &Array4<f64>,
    k: &Array4<f64>,
    v: &Array4<f64>,
    upstream: &Array4<f64>,
) -> (Array4<f64>, Gradients<f64>) {
    let posterior = model.posterior(q.view(), k.view()).expect("a posterior");
    let pass = posterior.pass(Mean(v.view())).expect("a pass");
    let mean = pass.answer().expect("the mean");
    (mean, pass.backward(upstream).expect("gradients"))
}

fn parameter<'a>(gradients: &'a Gradients<f64>, name: &str) -> &'a ArrayD<f64> {
    gradients.parameter(name).unwrap_or_else(|| panic!("no gradient of {name}"))
}

#[test]
fn positions_and_masks() {
    check(&Case::new(FILE, "alibi"), &alibi::model(8, 6));
    check(&Case::new(FILE, "sliding-window"), &sliding_window::model(4, 6));
    check(&Case::new(FILE, "rotary"), &rotary::model(6, 100.0, RotaryPairs::HalfSplit));
    check(&Case::new(FILE, "softcap"), &softcap::model(6, 0.7));
    let case = Case::new(FILE, "documents");
    check(&case, &documents::model(case.integers("segments"), 6));
    let case = Case::new(FILE, "relative-positions");
    let gradients = check(&case, &relative_positions::model(case.get("table"), Directions::Both));
    case.close("grad.table", parameter(&gradients, "relative-bias"));
}

#[test]
fn edges_that_may_be_missing() {
    let case = Case::new(FILE, "attention-sink");
    let null: Array1<f64> = case.get("null");
    let gradients = check(&case, &attention_sink::model(null.as_slice().unwrap(), 6));
    case.close("grad.null", parameter(&gradients, "null"));
    check(&Case::new(FILE, "softmax-plus-one"), &attention_sink::model(&[0.0], 6));
    let case = Case::new(FILE, "sigmoid-attention");
    let gradients = check(&case, &sigmoid_attention::model(9, 6));
    case.close("grad.bias", parameter(&gradients, "bias"));
}

/// Nodes projected by W [H, F, D]: [1, H, N, F].
fn project(nodes: &Array2<f64>, projection: &Array3<f64>) -> Array4<f64> {
    let per_head: Vec<_> = projection.outer_iter().map(|w| nodes.dot(&w.t())).collect();
    let views: Vec<_> = per_head.iter().map(|x| x.view()).collect();
    ndarray::stack(Axis(0), &views).expect("heads of one size").insert_axis(Axis(0))
}

/// A graph attention layer: answers, and the gradients that torch_geometric reports, put together
/// from ours by the chain rule through the projections.
fn check_layer(
    case: &Case<'_>,
    values: &Array3<f64>,
    layer: impl Fn(Adjacency) -> graph_attention::GraphAttention,
) -> (Gradients<f64>, Array3<f64>) {
    let whole = |name: &str| -> Vec<usize> {
        case.integers::<Ix1>(name).iter().map(|&i| i as usize).collect()
    };
    let graph = Adjacency::new(whole("indptr"), whole("indices")).expect("a graph");
    let nodes: Array2<f64> = case.get("nodes");
    let upstream: Array3<f64> = case.get("upstream");
    let upstream = upstream.permuted_axes([1, 0, 2]).insert_axis(Axis(0));
    let x = nodes.clone().insert_axis(Axis(0)).insert_axis(Axis(0));
    let x = x.broadcast((1, 2, 7, 5)).expect("one copy per head").to_owned();
    let v = project(&nodes, values);
    let (mean, gradients) = mean_and_gradients(&layer(graph), &x, &x, &v, &upstream);
    case.close("mean", &mean.index_axis(Axis(0), 0).permuted_axes([1, 0, 2]));

    let through_scores = (&gradients.q + &gradients.k).sum_axis(Axis(1)).sum_axis(Axis(0));
    let of_values = gradients.v().expect("the mean has values").index_axis(Axis(0), 0);
    let mut of_nodes = through_scores;
    let mut of_projection = Array3::zeros(values.raw_dim());
    for (head, g) in of_values.outer_iter().enumerate() {
        of_nodes += &g.dot(&values.index_axis(Axis(0), head));
        of_projection.index_axis_mut(Axis(0), head).assign(&g.t().dot(&nodes));
    }
    case.close("grad.nodes", &of_nodes);
    (gradients, of_projection)
}

#[test]
fn graphs() {
    let by_head = |case: &Case<'_>, name: &str| -> Array3<f64> {
        let weight: Array2<f64> = case.get(name);
        weight.into_shape_with_order((2, 3, 5)).expect("two heads of three features")
    };
    let flat =
        |gradient: ArrayD<f64>| gradient.into_shape_with_order((6, 5)).expect("as the layer");
    let vector = |case: &Case<'_>, name: &str| -> Array2<f64> {
        case.get::<ndarray::Ix3>(name).index_axis_move(Axis(0), 0)
    };
    let case = Case::new(FILE, "gat");
    let w = by_head(&case, "projection");
    let (a_query, a_key) = (vector(&case, "a.query"), vector(&case, "a.key"));
    let (gradients, of_values) = check_layer(&case, &w, |graph| {
        graph_attention::gat(graph, w.clone(), a_query.clone(), a_key.clone())
    });
    let parts = ["additive.query", "additive.key"].map(|name| parameter(&gradients, name).clone());
    let [query, key] = parts;
    case.close("grad.projection", &flat(query + key + of_values.into_dyn()));
    let with_batch = |name: &str| parameter(&gradients, name).clone().insert_axis(Axis(0));
    case.close("grad.a.query", &with_batch("additive.a"));
    case.close("grad.a.key", &with_batch("additive.a-key"));

    let case = Case::new(FILE, "gatv2");
    let (query, key) = (by_head(&case, "query"), by_head(&case, "key"));
    let a = vector(&case, "a");
    let (gradients, of_values) = check_layer(&case, &key, |graph| {
        graph_attention::gat_v2(graph, query.clone(), key.clone(), a.clone())
    });
    case.close("grad.query", &flat(parameter(&gradients, "additive.query").clone()));
    let of_key = parameter(&gradients, "additive.key") + &of_values.into_dyn();
    case.close("grad.key", &flat(of_key));
    case.close("grad.a", &parameter(&gradients, "additive.a").clone().insert_axis(Axis(0)));
}

#[test]
fn cortex() {
    let case = Case::new(FILE, "normalization-model");
    let (drive, attention): (Array2<f64>, Array2<f64>) = (case.get("drive"), case.get("attention"));
    let number = |name: &str| case.get::<Ix1>(name)[0];
    let (pool, sigma) = (number("pool"), number("sigma"));
    let response =
        normalization_model::response(drive.view(), attention.view(), pool, sigma).unwrap();
    case.close("response", &response);

    let refuse = |drive: &Array2<f64>, attention: &Array2<f64>, pool, sigma| {
        let refused = normalization_model::response(drive.view(), attention.view(), pool, sigma);
        refused.expect_err("bad input").to_string()
    };
    assert!(refuse(&drive, &attention, 0.0, sigma).contains("`pool`"));
    assert!(refuse(&drive, &attention, pool, -1.0).contains("`sigma`"));
    assert!(refuse(&(-&drive), &attention, pool, sigma).contains("`drive`"));
    let short = attention.slice(s![.., ..3]).to_owned();
    assert!(refuse(&drive, &short, pool, sigma).contains("`attention`"));
}

/// One posterior, by enumeration.
fn head(q: &Array4<f64>, k: &Array4<f64>, v: &Array4<f64>) -> Head {
    let matrix = |x: &Array4<f64>| x.slice(s![0, 0, .., ..]).to_owned();
    let (q, k) = (matrix(q), matrix(k));
    Head {
        structure: Phi::EachQueryPicksOne,
        value_kind: ValueKind::Gather,
        log_weight: Array2::zeros((q.nrows(), k.nrows())),
        log_potential: q.dot(&k.t()) / (q.ncols() as f64).sqrt(),
        null_log_weight: 0.0,
        value: matrix(v),
        query_offset: 0,
    }
}

#[test]
fn hard_choices() {
    let case = Case::new(FILE, "softcap");
    let first = |name: &str| case.get::<ndarray::Ix4>(name).slice(s![.., ..1, .., ..]).to_owned();
    let (q, k, v) = (first("q"), first("k"), first("v"));
    let expected = enumerate::answer(&head(&q, &k, &v));
    let model = softmax_attention::model(6);
    let posterior = model.posterior(q.view(), k.view()).unwrap();

    let map = posterior.ask(Map).unwrap();
    let hard = hard_attention::gather(map.view(), v.view()).unwrap();
    for (i, &j) in expected.map().iter().enumerate() {
        assert_eq!(hard.slice(s![0, 0, i, ..]), v.slice(s![0, 0, j as usize, ..]));
    }

    // The average over draws is within five standard errors of the mean.
    let count = 4000;
    let (draws, variance) =
        posterior.ask((Samples { count, seed: 5 }, ValueVariance(v.view()))).unwrap();
    let Draws::Choices(draws) = draws else { panic!("a query draws one key") };
    let mut average = Array4::<f64>::zeros((1, 1, 9, 3));
    for draw in draws.outer_iter() {
        average += &(hard_attention::gather(draw, v.view()).unwrap() / count as f64);
    }
    for (((i, c), &mean), &variance) in
        expected.mean.indexed_iter().zip(&variance.slice(s![0, 0, .., ..]))
    {
        let error = (average[[0, 0, i, c]] - mean).abs();
        assert!(error < 5.0 * (variance / count as f64).sqrt(), "[{i}, {c}] is off by {error}");
    }

    let wrong = Array3::from_elem((1, 1, 2), 9);
    let refused = hard_attention::gather(wrong.view(), v.view());
    assert!(matches!(refused, Err(Error::Value { argument, .. }) if argument == "choices"));
    let none = hard_attention::gather(Array3::from_elem((1, 1, 1), -1).view(), v.view()).unwrap();
    assert!(none.iter().all(|&x| x == 0.0));
}

#[test]
fn names_are_unique_and_found() {
    for mechanism in zoo::MECHANISMS {
        assert_eq!(zoo::mechanism(mechanism.name).unwrap(), *mechanism);
        assert!(!mechanism.equations.is_empty() && !mechanism.sources.is_empty());
    }
    let told = zoo::mechanism("alibbi").unwrap_err();
    assert!(matches!(told, Error::UnknownName { nearest: Some(name), .. } if &*name == "alibi"));
}
