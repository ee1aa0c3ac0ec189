//! The answers by plain tensor operations, from the definitions: dense, and differentiated by Burn's own
//! autodiff.

mod scores;
mod weights;

use std::collections::BTreeMap;

use burn::tensor::{Bool, DType, Device, Tensor, TensorData, activation};
use marginals::Value;
use marginals::spec::{AnyStructure, ModelSpec, Numbers};
use ndarray::ArrayD;

/// A model and its inputs.
pub struct Dense<'a> {
    pub spec: &'a ModelSpec,
    /// Tensors that it names in whole numbers.
    pub integer: &'a BTreeMap<String, ArrayD<i64>>,
    /// Its other tensors, flat, and its numbers where they are not the file's.
    pub parameters: BTreeMap<String, (Vec<usize>, Tensor<1>)>,
    pub q: Tensor<4>,
    pub k: Tensor<4>,
    pub v: Tensor<4>,
}

/// What the parts of a model are made from.
struct Parts<'a> {
    model: &'a Dense<'a>,
    numbers: std::vec::IntoIter<Numbers>,
    device: Device,
    format: DType,
    batch: usize,
    heads: usize,
    queries: usize,
    keys: usize,
}

impl Parts<'_> {
    /// Numbers made here.
    fn constant<const D: usize>(&self, values: Vec<f64>, shape: [usize; D]) -> Tensor<D> {
        Tensor::from_data(TensorData::new(values, shape), (&self.device, self.format))
    }

    /// The next number of the model file, or the parameter in its place, with its shape.
    fn next(&mut self) -> (Tensor<1>, Vec<usize>) {
        let Numbers { name, values, .. } = self.numbers.next().expect("parts take what they name");
        match self.model.parameters.get(&name) {
            Some((shape, flat)) => (flat.clone(), shape.clone()),
            None => {
                let shape = values.shape().to_vec();
                let length = values.len();
                (self.constant(values.into_iter().collect(), [length]), shape)
            }
        }
    }

    /// The next number of the model file as `[1, H or 1, 1, 1]`.
    fn per_head(&mut self) -> Tensor<4> {
        let (flat, _) = self.next();
        let heads = flat.dims()[0];
        flat.reshape([1, heads, 1, 1])
    }

    /// A tensor the model names, with leading axes of length 1 up to `D`.
    fn tensor<const D: usize>(&self, name: &str) -> Tensor<D> {
        let (own, flat) = &self.model.parameters[name];
        let mut shape = [1; D];
        shape[D - own.len()..].copy_from_slice(own);
        flat.clone().reshape(shape)
    }

    /// Where query i stands, counted in keys.
    fn position(&self, query: usize) -> i64 {
        query as i64 + self.model.spec.query_offset
    }

    /// f of every query and key, `[1, 1, N, M]`.
    fn by_edge(&self, f: impl Fn(usize, usize) -> f64) -> Tensor<4> {
        let (queries, keys) = (self.queries, self.keys);
        let edges = (0..queries).flat_map(|i| (0..keys).map(move |j| (i, j)));
        let values = edges.map(|(i, j)| f(i, j)).collect();
        self.constant(values, [1, 1, queries, keys])
    }

    /// |i − j|.
    fn distances(&self) -> Tensor<4> {
        self.by_edge(|i, j| (self.position(i) - j as i64).abs() as f64)
    }

    fn full(&self) -> [usize; 4] {
        [self.batch, self.heads, self.queries, self.keys]
    }
}

/// Keys, or values, one head for each query head.
fn by_query_head(tensor: Tensor<4>, heads: usize) -> Tensor<4> {
    let [batch, key_heads, keys, width] = tensor.dims();
    if key_heads == heads {
        return tensor;
    }
    let group = heads / key_heads.max(1);
    let spread: Tensor<5> = tensor.unsqueeze_dim(2);
    spread.expand([batch, key_heads, group, keys, width]).reshape([batch, heads, keys, width])
}

/// A normalised choice: of one edge, or none.
struct Choice {
    /// log Z, the axis chosen along of length 1; −∞ where nothing is possible.
    log_partition: Tensor<4>,
    /// Probabilities, 0 where impossible.
    p: Tensor<4>,
    /// Their logarithms, 0 where impossible.
    log_p: Tensor<4>,
    /// The same of having no edge, where that is possible at all.
    none: Option<(Tensor<4>, Tensor<4>)>,
}

/// Normalises e^scores over `axis`, with a null edge if there is one.
fn choose(
    scores: &Tensor<4>,
    forbidden: &Tensor<4, Bool>,
    axis: usize,
    null: Option<&Tensor<4>>,
) -> Choice {
    let possible = scores.clone().mask_fill(forbidden.clone(), f64::NEG_INFINITY);
    let mut largest = possible.detach().max_dim(axis);
    let null = null.map(|null| null.clone().expand(largest.dims()));
    if let Some(null) = &null {
        largest = largest.max_pair(null.clone().detach());
    }
    let nothing = largest.clone().equal_elem(f64::NEG_INFINITY);
    let largest = largest.mask_fill(nothing.clone(), 0.0);
    let above = |x: Tensor<4>, forbidden: &Tensor<4, Bool>| {
        let above = (x - largest.clone()).mask_fill(forbidden.clone(), 0.0);
        let exp = above.clone().exp().mask_fill(forbidden.clone(), 0.0);
        (above, exp)
    };
    let (above_edges, edges) = above(scores.clone(), forbidden);
    let mut sum = edges.clone().sum_dim(axis);
    let none = null.map(|null| {
        let absent = null.clone().equal_elem(f64::NEG_INFINITY);
        let (above, exp) = above(null, &absent);
        sum = sum.clone() + exp.clone();
        (above, exp, absent)
    });
    let sum = sum.mask_fill(nothing.clone(), 1.0);
    let log_sum = sum.clone().log();
    Choice {
        log_partition: (log_sum.clone() + largest).mask_fill(nothing, f64::NEG_INFINITY),
        p: edges / sum.clone(),
        log_p: (above_edges - log_sum.clone()).mask_fill(forbidden.clone(), 0.0),
        none: none
            .map(|(above, exp, absent)| (exp / sum, (above - log_sum).mask_fill(absent, 0.0))),
    }
}

/// log(1 + e^x).
fn softplus(x: Tensor<4>) -> Tensor<4> {
    activation::relu(x.clone()) + (-x.abs()).exp().log1p()
}

/// What all answers are read off, factors along axis 2 and the rest of length 1.
struct Found {
    p: Tensor<4>,
    log_partition: Tensor<4>,
    log_evidence: Tensor<4>,
    entropy: Tensor<4>,
    kl: Tensor<4>,
}

/// Exactly one edge, or at most one, of every row along `axis`.
fn choices(
    scores: &Tensor<4>,
    log_weights: &Tensor<4>,
    forbidden: &Tensor<4, Bool>,
    axis: usize,
    null: Option<&Tensor<4>>,
) -> Found {
    let posterior = choose(scores, forbidden, axis, null);
    let prior = choose(log_weights, forbidden, axis, null);
    let total = |edges: Tensor<4>, none: Option<Tensor<4>>| {
        let sum = edges.sum_dim(axis);
        let sum = match none {
            Some(none) => sum + none,
            None => sum,
        };
        // Factors go to axis 2.
        if axis == 2 { sum.swap_dims(2, 3) } else { sum }
    };
    let of_none = |f: &dyn Fn(&Tensor<4>, &Tensor<4>) -> Tensor<4>| {
        posterior.none.as_ref().map(|(p, log_p)| f(p, log_p))
    };
    let entropy = total(
        -(posterior.p.clone() * posterior.log_p.clone()),
        of_none(&|p, log_p| -(p.clone() * log_p.clone())),
    );
    let kl = total(
        posterior.p.clone() * (posterior.log_p.clone() - prior.log_p.clone()),
        of_none(&|p, log_p| {
            let (_, log_prior) = prior.none.as_ref().expect("both have the null edge");
            p.clone() * (log_p.clone() - log_prior.clone())
        }),
    );
    let by_factor = |x: Tensor<4>| if axis == 2 { x.swap_dims(2, 3) } else { x };
    let impossible = prior.log_partition.clone().equal_elem(f64::NEG_INFINITY);
    // −∞ − (−∞) is no number; nothing possible is no evidence.
    let evidence = posterior.log_partition.clone().mask_fill(impossible.clone(), 0.0)
        - prior.log_partition.mask_fill(impossible.clone(), 0.0);
    Found {
        p: posterior.p,
        log_partition: by_factor(posterior.log_partition),
        log_evidence: by_factor(evidence.mask_fill(impossible, f64::NEG_INFINITY)),
        entropy,
        kl,
    }
}

/// Every edge by itself.
fn independent(scores: &Tensor<4>, log_weights: &Tensor<4>, forbidden: &Tensor<4, Bool>) -> Found {
    let total = |edges: Tensor<4>| edges.mask_fill(forbidden.clone(), 0.0).sum_dim(3);
    let p = activation::sigmoid(scores.clone()).mask_fill(forbidden.clone(), 0.0);
    let log_partition = total(softplus(scores.clone()));
    let prior = total(softplus(log_weights.clone()));
    let gained = softplus(scores.clone()) - p.clone() * scores.clone();
    // Σ_φ p (log p − log π) of one edge: p (θ − log w) + log(1 + w) − log(1 + e^θ).
    let kl = p.clone() * (scores.clone() - log_weights.clone()) + softplus(log_weights.clone())
        - softplus(scores.clone());
    Found {
        log_evidence: log_partition.clone() - prior,
        log_partition,
        entropy: total(gained),
        kl: total(kl),
        p,
    }
}

/// The answers to those of the questions that are defined here, [B, H, …] with an axis of length 1 behind
/// where that makes four.
pub fn ask(model: &Dense<'_>, questions: &[&str]) -> Vec<Option<Tensor<4>>> {
    let spec = model.spec;
    let ([batch, heads, queries, width], [_, _, keys, _]) = (model.q.dims(), model.k.dims());
    let mut parts = Parts {
        model,
        numbers: spec.numbers(heads, width).into_iter(),
        device: model.q.device(),
        format: model.q.dtype(),
        batch,
        heads,
        queries,
        keys,
    };
    let null = match &spec.structure {
        AnyStructure::EachQueryPicksAtMostOne(_) => Some(parts.per_head()),
        _ => None,
    };
    let weights = weights::log_weights(&mut parts, &spec.prior);
    let full = parts.full();
    let log_weights = weights.log.expand(full);
    let forbidden = weights.allowed.expand(full).equal_elem(0.0);
    let scores = scores::log_potential(&mut parts, &spec.potential) + log_weights.clone();
    let found = match &spec.structure {
        AnyStructure::EachQueryPicksOne(_) | AnyStructure::EachQueryPicksAtMostOne(_) => {
            let null = null.map(|null| null.expand([batch, heads, queries, 1]));
            choices(&scores, &log_weights, &forbidden, 3, null.as_ref())
        }
        AnyStructure::EachKeyPicksOne(_) => choices(&scores, &log_weights, &forbidden, 2, None),
        AnyStructure::Independent(_) => independent(&scores, &log_weights, &forbidden),
        other => panic!("{other:?} is not defined here"),
    };
    let one_edge = matches!(
        spec.structure,
        AnyStructure::EachQueryPicksOne(_) | AnyStructure::EachQueryPicksAtMostOne(_)
    );
    let mass = found.p.clone().sum_dim(3);
    let v = by_query_head(model.v.clone(), heads);
    let averaged = |x: Tensor<4>| match spec.value {
        Value::Gather => x,
        Value::Average => {
            let nothing = mass.clone().equal_elem(0.0);
            x / mass.clone().mask_fill(nothing, 1.0)
        }
    };
    let answer = |question: &str| match question {
        "mean" => Some(averaged(found.p.clone().matmul(v.clone()))),
        "value-variance" => {
            let spread = match one_edge {
                true => {
                    let mean = found.p.clone().matmul(v.clone());
                    found.p.clone().matmul(v.clone() * v.clone()) - mean.clone() * mean
                }
                // Edges of different keys, or of independent ones, vary by themselves.
                false => {
                    let spread = found.p.clone() * (-found.p.clone() + 1.0);
                    spread.matmul(v.clone() * v.clone())
                }
            };
            Some(averaged(averaged(spread)))
        }
        "log-partition" => Some(found.log_partition.clone()),
        "log-evidence" => Some(found.log_evidence.clone()),
        "entropy" => Some(found.entropy.clone()),
        "kl" => Some(found.kl.clone()),
        "column-mass" => Some(found.p.clone().sum_dim(2).swap_dims(2, 3)),
        "query-mass" => Some(mass.clone()),
        "expected-distance" => Some((found.p.clone() * parts.distances()).sum_dim(3)),
        "marginals" => Some(found.p.clone()),
        _ => None,
    };
    questions.iter().map(|question| answer(question)).collect()
}
