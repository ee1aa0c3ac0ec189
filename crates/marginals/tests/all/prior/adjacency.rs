//! Graphs with parallel edges, and another one for each entry of a batch.

use marginals::potential::Dot;
use marginals::prior::{Adjacency, Bias, Prior};
use marginals::question::{Kl, LogPartition, Marginals, Mean};
use marginals::spec::{ModelSpec, Tensors};
use marginals::structure::EachQueryPicksOne;
use marginals::{Error, Model};
use ndarray::{Array2, Array3, Array4, ArrayD, arr1, arr2};

const NODES: usize = 4;

fn nodes(batch: usize, seed: usize) -> Array4<f64> {
    let number = |b: usize, i: usize, d: usize| ((17 * seed + 7 * b + 5 * i + 3 * d) as f64).sin();
    Array4::from_shape_fn((batch, 2, NODES, 3), |(b, h, i, d)| number(b, i + 10 * h, d))
}

/// Edges of two graphs: the first has parallel edges and a query without any.
const EDGES: [(&[usize; NODES + 1], &[usize]); 2] =
    [(&[0, 4, 5, 5, 8], &[2, 0, 2, 2, 3, 1, 1, 0]), (&[0, 1, 3, 5, 6], &[0, 1, 2, 3, 1, 0])];

fn log_weight(edge: usize) -> f64 {
    if edge == 7 { f64::NEG_INFINITY } else { (1.3 * edge as f64).cos() }
}

/// log Σ over parallel edges, dense, from the definition.
fn dense(weighted: bool) -> Array4<f64> {
    let mut weights = Array4::<f64>::zeros((2, 1, NODES, NODES));
    let mut first = 0;
    for (b, (indptr, indices)) in EDGES.iter().enumerate() {
        for i in 0..NODES {
            for e in indptr[i]..indptr[i + 1] {
                let w = if weighted { log_weight(first + e).exp() } else { 1.0 };
                weights[[b, 0, i, indices[e]]] += w;
            }
        }
        first += indices.len();
    }
    weights.mapv(f64::ln)
}

fn batched(weights: Option<Vec<f64>>) -> Result<Adjacency, Error> {
    let indptr = Array2::from_shape_fn((2, NODES + 1), |(b, i)| EDGES[b].0[i]);
    let indices = EDGES.iter().flat_map(|(_, indices)| indices.iter().copied()).collect();
    Adjacency::batched(indptr, indices, weights)
}

/// Mean, KL, log Z and marginals under a prior.
fn answers(prior: impl Prior<f64>) -> (Array4<f64>, Array3<f64>, Array3<f64>, Array4<f64>) {
    let (q, k, v) = (nodes(2, 1), nodes(2, 2), nodes(2, 3));
    let model = Model::new(EachQueryPicksOne, prior, Dot::new(0.7));
    let posterior = model.posterior(q.view(), k.view()).expect("a posterior");
    posterior.ask((Mean(v.view()), Kl, LogPartition, Marginals)).expect("answers")
}

#[test]
fn parallel_edges_add_up_in_each_graph_of_a_batch() {
    let close = |found: &[f64], expected: &[f64]| {
        for (x, y) in found.iter().zip(expected) {
            assert!(x == y || (x - y).abs() < 1e-13, "{x} {y}");
        }
    };
    for weighted in [false, true] {
        let weights: Vec<f64> = (0..14).map(log_weight).collect();
        let graph = batched(weighted.then_some(weights)).expect("two graphs");
        let (found, expected) = (answers(graph), answers(Bias::new(dense(weighted))));
        close(found.0.as_slice().expect("rows"), expected.0.as_slice().expect("rows"));
        close(found.1.as_slice().expect("rows"), expected.1.as_slice().expect("rows"));
        close(found.2.as_slice().expect("rows"), expected.2.as_slice().expect("rows"));
        close(found.3.as_slice().expect("rows"), expected.3.as_slice().expect("rows"));
        assert!(found.2.iter().any(|z| *z == f64::NEG_INFINITY), "a query without an edge");
    }
}

#[test]
fn parallel_edges_share_the_gradient_of_their_weight() {
    let (q, k) = (nodes(2, 1), nodes(2, 2));
    let weights: Vec<f64> = (0..14).map(log_weight).collect();
    let upstream =
        Array3::from_shape_fn((2, 2, NODES), |(b, h, i)| ((b + 2 * h + 3 * i) as f64).cos());
    let log_z = |weights: Vec<f64>| {
        let model =
            Model::new(EachQueryPicksOne, batched(Some(weights)).expect("graphs"), Dot::new(0.7));
        let posterior = model.posterior(q.view(), k.view()).expect("a posterior");
        posterior.ask(LogPartition).expect("log Z")
    };
    let loss = |weights: Vec<f64>| -> f64 {
        let terms = log_z(weights).into_iter().zip(&upstream);
        terms.filter(|(z, _)| z.is_finite()).map(|(z, u)| z * u).sum()
    };
    let model = Model::new(
        EachQueryPicksOne,
        batched(Some(weights.clone())).expect("graphs"),
        Dot::new(0.7),
    );
    let posterior = model.posterior(q.view(), k.view()).expect("a posterior");
    let pass = posterior.pass(LogPartition).expect("a pass");
    let gradients = pass.backward(&upstream).expect("gradients");
    let found = gradients.parameter("adjacency.log-weights").expect("learned");
    assert_eq!(found.len(), 14);
    for (edge, found) in found.iter().enumerate() {
        if weights[edge] == f64::NEG_INFINITY {
            assert_eq!(*found, 0.0);
            continue;
        }
        let moved = |by: f64| {
            let mut weights = weights.clone();
            weights[edge] += by;
            loss(weights)
        };
        let expected = (moved(1e-6) - moved(-1e-6)) / 2e-6;
        assert!((found - expected).abs() < 1e-8, "{edge}: {found} {expected}");
    }
}

/// The same from named tensors, of one graph for all and of one for each.
#[test]
fn files_name_a_graph_for_each_entry() {
    let spec = "structure = \"each-query-picks-one\"\nprior = \"adjacency\"\npotential = { dot = { scale = 0.7 } }";
    let spec = ModelSpec::from_toml(spec).expect("a model");
    let (q, k) = (nodes(2, 1), nodes(2, 2));
    let ask = |indptr: ArrayD<i64>, indices: Vec<i64>| {
        let mut tensors = Tensors::<f64>::default();
        tensors.integer.insert("adjacency.indptr".into(), indptr);
        tensors.integer.insert("adjacency.indices".into(), arr1(&indices).into_dyn());
        let model = spec.build(2, 3, &tensors)?;
        model.posterior(q.view(), k.view())?.ask(Marginals)
    };
    let whole = |numbers: &[usize]| numbers.iter().map(|&x| x as i64).collect::<Vec<_>>();
    let [first, second] = EDGES.map(|(indptr, indices)| (whole(indptr), whole(indices)));
    let both = arr2(&[[0, 4, 5, 5, 8], [0, 1, 3, 5, 6]]).into_dyn();
    let together =
        ask(both.clone(), [first.1.clone(), second.1.clone()].concat()).expect("answers");
    assert_eq!(together, answers(batched(None).expect("graphs")).3);
    let alone = ask(arr1(&first.0).into_dyn(), first.1.clone()).expect("answers");
    let own = ndarray::s![0..1, .., .., ..];
    assert_eq!(alone.slice(own), together.slice(own));
    // Three graphs for two entries, too few indices, offsets that go on where the last graph ended.
    let rows =
        |rows: &[[i64; 5]]| Array2::from_shape_fn((rows.len(), 5), |(b, i)| rows[b][i]).into_dyn();
    for (indptr, indices) in [
        (rows(&[[0; 5]; 3]), vec![]),
        (both, first.1.clone()),
        (rows(&[[0, 4, 5, 5, 8], [8, 9, 11, 13, 14]]), [first.1, second.1].concat()),
    ] {
        let argument = match ask(indptr, indices).expect_err("a refusal") {
            Error::Shape { argument, .. } | Error::Value { argument, .. } => argument,
            other => panic!("{other}"),
        };
        assert_eq!(argument, "adjacency.indptr");
    }
}
