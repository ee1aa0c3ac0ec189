//! The plan as rows: queries that pick among keys under biases, each as often as its mass says.
//!
//! Of a solution P_ij = r_i p_ij, where p_i is the softmax of θ_ij + x_j over the keys: all that a streaming pass
//! finds, and differentiates, is there with x for one more log-weight.

use ndarray::Array4;

use super::margins::{Head, Margins, Row};
use crate::infer::finding::{Expectation, Finding};
use crate::infer::statistic::{Handle, Linear, Request};
use crate::infer::streaming::{Softmax, Streaming};
use crate::infer::{Inference, Problem};
use crate::prior::{And, LogWeights};
use crate::tensor::Stored;
use crate::{Error, Real, Shape};

/// Name under which the gradient in the biases is found.
pub(super) const BIASES: &str = "entropic.biases";

/// Inference of the rows.
pub(super) fn rows<T: Real>() -> Streaming<'static, T> {
    Streaming::rows(Softmax { null: None })
}

/// Biases [B, H, 1, M] in the computing type.
pub(super) fn log_weights<T: Real>(problem: &Problem<'_, T>, biases: &[f64]) -> Array4<T> {
    let shape = &problem.shape;
    let all = biases.iter().map(|&x| T::of(x)).collect();
    let sizes = (shape.batch, shape.heads, 1, shape.keys);
    Array4::from_shape_vec(sizes, all).expect("a bias of every key")
}

/// Numbers [B, H, M] of the keys of every head.
pub(super) fn by_head(shape: &Shape, flat: &[f64]) -> Vec<Vec<f64>> {
    let keys = shape.keys;
    (0..shape.batch * shape.heads).map(|head| flat[head * keys..][..keys].to_vec()).collect()
}

/// The problem of the rows.
pub(super) fn biased<'r, T: Real>(
    problem: &'r Problem<'_, T>,
    biases: &'r Array4<T>,
) -> Problem<'r, T> {
    let prior = And(&*problem.prior, LogWeights::new(BIASES, biases.view().into()));
    Problem {
        shape: problem.shape,
        prior: Box::new(prior),
        depends_on_nodes: problem.depends_on_nodes.is_some().then(Default::default),
        potential: problem.potential,
        value: problem.value,
        q: problem.q.reborrow(),
        k: problem.k.reborrow(),
        engine: problem.engine,
    }
}

/// Masses of the rows of every head, from what was found of them.
pub(super) fn masses<T: Real>(
    problem: &Problem<'_, T>,
    margins: &Margins,
    rows: &Finding<T>,
) -> Vec<Row> {
    let shape = &problem.shape;
    let (n, m) = (shape.queries, shape.keys);
    let mut all = Vec::with_capacity(shape.batch * shape.heads * n);
    for head in 0..shape.batch * shape.heads {
        let own: Head<'_> = margins.head(head, n, m);
        let sum = |query: usize| {
            let normalisers = rows.normalisers();
            let row = head * n + query;
            normalisers.max[row].f64() + normalisers.log_sum[row].f64()
        };
        all.extend((0..n).map(|query| match own.total > 0.0 {
            true => own.row(query, sum(query)),
            false => own.row(query, f64::NEG_INFINITY),
        }));
    }
    all
}

/// A number of every key that is averaged over, [B, H, M, 1].
pub(super) struct ByKey<T>(pub Array4<T>);

impl<T: Real> ByKey<T> {
    pub fn new(problem: &Problem<'_, T>, values: impl Iterator<Item = f64>) -> Self {
        let shape = &problem.shape;
        let sizes = (shape.batch, shape.heads, shape.keys, 1);
        let all = Array4::from_shape_vec(sizes, values.map(T::of).collect());
        Self(all.expect("a number of every key"))
    }

    /// Wants its average over the keys of every query.
    pub fn request<'v>(&'v self, request: &mut Request<'v, T>) -> Handle {
        let values = request.stored_values(Stored::Real(self.0.view().into()));
        request.linear(Linear::Value(values))
    }

    /// That average.
    pub fn average(&self, problem: &Problem<'_, T>) -> Result<Expectation<T>, Error> {
        let mut request = Request::new(&problem.shape);
        let handle = self.request(&mut request);
        let mut found = rows().find(problem, &request, 0..problem.shape.keys, true)?;
        Ok(found.linear.swap_remove(handle.0))
    }
}
