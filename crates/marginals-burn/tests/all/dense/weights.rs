//! Log-weights of priors as dense tensors.

use burn::tensor::{Int, Tensor, TensorData};
use marginals::prior::{AnyPrior, Window};

use super::Parts;

/// A prior: log w where it is finite, and where w is not 0.
pub(super) struct Weights {
    /// Broadcasts to `[B, H, N, M]`; finite.
    pub log: Tensor<4>,
    /// 1 where the edge is possible, 0 where not.
    pub allowed: Tensor<4>,
}

/// The product of priors.
pub(super) fn log_weights(parts: &mut Parts<'_>, priors: &[AnyPrior]) -> Weights {
    let mut product =
        Weights { log: parts.by_edge(|_, _| 0.0), allowed: parts.by_edge(|_, _| 1.0) };
    for prior in priors {
        let Weights { log, allowed } = one(parts, prior);
        product.log = product.log + log;
        product.allowed = product.allowed * allowed;
    }
    product
}

fn one(parts: &mut Parts<'_>, prior: &AnyPrior) -> Weights {
    let mask = |parts: &Parts<'_>, possible: &dyn Fn(usize, usize) -> bool| Weights {
        log: parts.by_edge(|_, _| 0.0),
        allowed: parts.by_edge(|i, j| f64::from(u8::from(possible(i, j)))),
    };
    let everywhere = |parts: &Parts<'_>, log| Weights { log, allowed: parts.by_edge(|_, _| 1.0) };
    match prior {
        AnyPrior::Uniform(_) => mask(parts, &|_, _| true),
        AnyPrior::Causal(_) => mask(parts, &|i, j| j as i64 <= parts.position(i)),
        AnyPrior::Window(Window { left, right }) => mask(parts, &|i, j| {
            let behind = parts.position(i) - j as i64;
            behind <= *left as i64 && -behind <= *right as i64
        }),
        AnyPrior::Segments(_) => segments(parts),
        AnyPrior::Adjacency(_) => adjacency(parts),
        AnyPrior::Bias(_) => dense(parts.tensor("bias")),
        AnyPrior::KeyBias(_) => {
            let bias: Tensor<3> = parts.tensor("key-bias");
            dense(bias.unsqueeze_dim(2))
        }
        AnyPrior::Geometric(_) => {
            let rate = (-parts.per_head()).log1p();
            everywhere(parts, parts.distances() * rate)
        }
        AnyPrior::Alibi(_) => {
            let slopes = parts.per_head();
            everywhere(parts, -(parts.distances() * slopes))
        }
        AnyPrior::Laplace(_) => {
            let scale = parts.per_head();
            everywhere(parts, -(parts.distances() / scale))
        }
        AnyPrior::GeneralizedGaussian(_) => {
            let (scale, shape) = (parts.per_head(), parts.per_head());
            // At distance 0 the log-weight is 0 whatever the parameters.
            let here = parts.distances().equal_elem(0.0);
            let ratio = parts.distances().mask_fill(here, 1.0) / scale;
            let away = parts.distances().greater_elem(0.0).float().cast(parts.format);
            everywhere(parts, -((ratio.log() * shape).exp() * away))
        }
        AnyPrior::BetaGeometric(_) => {
            let (alpha, beta) = (parts.per_head(), parts.per_head());
            everywhere(parts, beta_geometric(parts, alpha, beta))
        }
        AnyPrior::Survival(_) => {
            let log_gates: Tensor<3> = parts.tensor("survival.log-gates");
            let sums = log_gates.cumsum(2);
            // Nothing is forgotten beyond the last key; a query before the first has no key.
            let last = parts.keys as i64 - 1;
            let here = (0..parts.queries).map(|i| parts.position(i).clamp(0, last)).collect();
            let here = sums.clone().select(2, whole(parts, here)).unsqueeze_dim::<4>(3);
            let behind = mask(parts, &|i, j| j as i64 <= parts.position(i));
            let log = (here - sums.unsqueeze_dim(2)) * behind.allowed.clone();
            Weights { log, ..behind }
        }
        AnyPrior::RelativeBuckets(buckets) => {
            let table: Tensor<2> = parts.tensor("relative-bias");
            // Which bucket a distance falls in is arithmetic on whole numbers.
            let (queries, keys) = (parts.queries, parts.keys);
            let bucket = |i, j| buckets.bucket(parts.position(i) - j as i64) as i64;
            let indices = (0..queries).flat_map(|i| (0..keys).map(move |j| (i, j)));
            let indices: Vec<i64> = indices.map(|(i, j)| bucket(i, j)).collect();
            let heads = table.dims()[1];
            let rows = table.select(0, whole(parts, indices));
            let log = rows.transpose().reshape([1, heads, queries, keys]);
            everywhere(parts, log)
        }
    }
}

fn whole(parts: &Parts<'_>, indices: Vec<i64>) -> Tensor<1, Int> {
    let length = indices.len();
    Tensor::from_data(TensorData::new(indices, [length]), &parts.device)
}

/// Given log-weights, −∞ among them.
fn dense(log: Tensor<4>) -> Weights {
    let impossible = log.clone().equal_elem(f64::NEG_INFINITY);
    let format = log.dtype();
    Weights {
        allowed: impossible.clone().bool_not().float().cast(format),
        log: log.mask_fill(impossible, 0.0),
    }
}

/// log B(α + 1, β + d) − log B(α, β) = log α − log(α + β + d) + Σ_{t < d} log((β + t)/(α + β + t)).
fn beta_geometric(parts: &Parts<'_>, alpha: Tensor<4>, beta: Tensor<4>) -> Tensor<4> {
    let farthest = (0..parts.queries)
        .flat_map(|i| [0, parts.keys as i64 - 1].map(|j| (parts.position(i) - j).unsigned_abs()))
        .max()
        .unwrap_or(0) as usize;
    let steps = (0..=farthest).map(|t| t as f64).collect();
    let steps: Tensor<4> = parts.constant(steps, [1, 1, 1, farthest + 1]);
    let both = alpha.clone() + beta.clone();
    let ratio = (beta + steps.clone()).log() - (both.clone() + steps.clone()).log();
    // What comes before d, not d itself.
    let before = ratio.clone().cumsum(3) - ratio;
    let table = before + alpha.log() - (both + steps).log();
    let heads = table.dims()[1];
    let distance = |i: usize, j: usize| (parts.position(i) - j as i64).abs();
    let edges = (0..parts.queries).flat_map(|i| (0..parts.keys).map(move |j| (i, j)));
    let indices: Vec<i64> = edges.map(|(i, j)| distance(i, j)).collect();
    let by_edge = table.select(3, whole(parts, indices));
    by_edge.reshape([1, heads, parts.queries, parts.keys])
}

fn segments(parts: &Parts<'_>) -> Weights {
    let rows = |name: &str| -> Tensor<2> {
        let tensor = &parts.model.integer[name];
        let length = *tensor.shape().last().unwrap_or(&0);
        let batch = tensor.len() / length.max(1);
        parts.constant(tensor.iter().map(|&x| x as f64).collect(), [batch, length])
    };
    let (queries, keys) = (rows("segments.q"), rows("segments.k"));
    let (of_queries, of_keys) = (queries.dims()[0], keys.dims()[0]);
    let batch = of_queries.max(of_keys);
    let queries = queries.reshape([of_queries, 1, parts.queries, 1]);
    let keys = keys.reshape([of_keys, 1, 1, parts.keys]);
    let shape = [batch, 1, parts.queries, parts.keys];
    let same = queries.expand(shape).equal(keys.expand(shape));
    Weights { log: parts.by_edge(|_, _| 0.0), allowed: same.float().cast(parts.format) }
}

fn adjacency(parts: &Parts<'_>) -> Weights {
    let indptr = &parts.model.integer["adjacency.indptr"];
    let indices = &parts.model.integer["adjacency.indices"];
    let (indptr, indices): (Vec<i64>, Vec<i64>) =
        (indptr.iter().copied().collect(), indices.iter().copied().collect());
    let keys = parts.keys;
    // The edge that stands at each place, counted from 1; 0 is none.
    let mut edge = vec![0i64; parts.queries * keys];
    for i in 0..parts.queries {
        for e in indptr[i]..indptr[i + 1] {
            edge[i * keys + indices[e as usize] as usize] = e + 1;
        }
    }
    let allowed = parts.by_edge(|i, j| f64::from(u8::from(edge[i * keys + j] > 0)));
    let Some((_, weights)) = parts.model.parameters.get("adjacency.log-weights") else {
        return Weights { log: parts.by_edge(|_, _| 0.0), allowed };
    };
    let none: Tensor<1> = parts.constant(vec![0.0], [1]);
    let padded = Tensor::cat(vec![none, weights.clone()], 0);
    let log = padded.select(0, whole(parts, edge)).reshape([1, 1, parts.queries, keys]);
    let given = dense(log);
    Weights { log: given.log, allowed: allowed * given.allowed }
}
