//! The backward pass: gradients of any combination of answers.
//!
//! With f_ij the sum of the upstream-weighted quantities averaged,
//!
//! ```text
//! ∂L/∂θ_ij = p_ij (f_ij − E_i[f])          queries choose (keys: E_j)
//! ∂L/∂θ_ij = p_ij (1 − p_ij) f_ij          independent edges
//! ```
//!
//! so one pass serves every question (the covariance identity for exponential families). Entropy
//! and KL average log p and log p − log w, which are in f up to a constant of the row; evidence
//! and KL also depend on the log-weights directly, through the prior's own marginals π_ij.

mod coefficients;
mod tiles;

use std::ops::Range;

use marginals_kernels::Real;
use ndarray::{
    Array2, Array4, ArrayView2, ArrayView3, ArrayView4, ArrayViewMut2, ArrayViewMut4, Axis, s,
};
use rayon::prelude::*;

use super::request::Request;
use super::summary::{Normalisers, Summary};
use super::{TASKS, split};
use crate::gradient::{Accumulator, Layout, ParameterGradient};
use crate::model::structure::Factorisation;
use crate::potential::{Features, Place};
use crate::{Error, Parameter, Posterior, tensor};

use coefficients::Coefficients;
pub(crate) use coefficients::needs;
use tiles::HeadBackward;

/// Keys below which a range of them is not worth splitting.
const FEWEST_KEYS: usize = 1024;

/// Gradients of a loss with respect to answers, each of its answer's shape.
#[derive(Clone, Copy, Debug)]
pub struct Upstream<'a, T> {
    /// Of the mean, [B, H, N, D_v].
    pub mean: Option<ArrayView4<'a, T>>,
    /// Of the value variance, [B, H, N, D_v].
    pub value_variance: Option<ArrayView4<'a, T>>,
    /// Of the log-partition, [B, H, factors].
    pub log_partition: Option<ArrayView3<'a, T>>,
    /// Of the log-evidence, [B, H, factors].
    pub log_evidence: Option<ArrayView3<'a, T>>,
    /// Of the entropy, [B, H, factors].
    pub entropy: Option<ArrayView3<'a, T>>,
    /// Of the KL, [B, H, factors].
    pub kl: Option<ArrayView3<'a, T>>,
    /// Of the column mass, [B, H, M].
    pub column_mass: Option<ArrayView3<'a, T>>,
    /// Of the expected distance, [B, H, N].
    pub expected_distance: Option<ArrayView3<'a, T>>,
    /// Of the query mass, [B, H, N].
    pub query_mass: Option<ArrayView3<'a, T>>,
}

impl<T> Default for Upstream<'_, T> {
    fn default() -> Self {
        Self {
            mean: None,
            value_variance: None,
            log_partition: None,
            log_evidence: None,
            entropy: None,
            kl: None,
            column_mass: None,
            expected_distance: None,
            query_mass: None,
        }
    }
}

/// Gradients of the loss with respect to everything the answers depend on.
#[derive(Clone, Debug)]
pub struct Gradients<T> {
    /// Of the queries.
    pub q: Array4<T>,
    /// Of the keys.
    pub k: Array4<T>,
    /// Of the values, when a question averaged them and they are not the keys themselves.
    pub v: Option<Array4<T>>,
    /// Of the learnable parameters: the structure's, then the prior's, then the potential's.
    pub parameters: Vec<ParameterGradient<T>>,
}

impl<T: Real> Gradients<T> {
    /// The gradient of the parameter called `name`.
    pub fn parameter(&self, name: &str) -> Option<&ndarray::ArrayD<T>> {
        self.parameters.iter().find(|p| p.name == name).map(|p| &p.gradient)
    }
}

/// Where the gradient of the values goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Values {
    /// Into a tensor of its own.
    Apart,
    /// Into that of the keys: they are one tensor, and its own features.
    Keys,
}

/// What every task of one backward pass shares.
struct Task<'a, 'p, T: Real> {
    posterior: &'a Posterior<'p, T>,
    normalisers: &'a Normalisers<T>,
    prior_log_partition: &'a [T],
    values: Option<ArrayView4<'a, T>>,
    of_values: Values,
    coefficients: Coefficients<T>,
    prior_parameters: Vec<Parameter>,
    potential_parameters: Vec<Parameter>,
}

/// What one task returns.
struct Part<T> {
    /// Query gradients of the heads it worked on.
    q: Vec<((usize, usize), Array2<T>)>,
    prior: Vec<Vec<f64>>,
    potential: Vec<Vec<f64>>,
}

/// The backward pass. `summary` must hold what the upstream gradients need (see
/// [`needs`]).
pub(crate) fn backward<T: Real>(
    posterior: &Posterior<'_, T>,
    request: &Request<'_, T>,
    summary: &Summary<T>,
    upstream: &Upstream<'_, T>,
    of_values: Values,
) -> Result<Gradients<T>, Error> {
    let shape = &posterior.shape;
    let task = Task {
        posterior,
        normalisers: &summary.normalisers,
        prior_log_partition: &summary.prior_log_partition,
        values: request.values.as_ref().map(|v| v.view()),
        of_values,
        coefficients: Coefficients::new(posterior, summary, upstream, request.value_width()),
        prior_parameters: posterior.prior.parameters(),
        potential_parameters: posterior.potential.parameters(),
    };

    // Tasks own groups of heads that share keys, values or a dense parameter, and a range of keys.
    let dense = |p: &&Parameter| p.layout == Layout::Scores;
    let shared = task
        .prior_parameters
        .iter()
        .filter(dense)
        .any(|p| (p.shape[0] == 1 && shape.batch > 1) || (p.shape[1] == 1 && shape.heads > 1));
    let key_heads: Vec<(usize, usize)> =
        (0..shape.batch).flat_map(|b| (0..shape.key_heads).map(move |h| (b, h))).collect();
    let groups: Vec<Vec<(usize, usize)>> = match shared {
        true => vec![key_heads],
        false => key_heads.into_iter().map(|place| vec![place]).collect(),
    };
    // A dense parameter shared along the keys cannot be cut by keys.
    let uncut = task.prior_parameters.iter().filter(dense).any(|p| p.shape[3] == 1);
    let parts = match uncut {
        true => 1,
        false => TASKS.div_ceil(groups.len().max(1)).min(shape.keys.div_ceil(FEWEST_KEYS)).max(1),
    };
    let chunks = split(0..shape.keys, parts);

    let mut dense_gradients: Vec<Array4<T>> = task
        .prior_parameters
        .iter()
        .filter(dense)
        .map(|p| Array4::zeros((p.shape[0], p.shape[1], p.shape[2], p.shape[3])))
        .collect();
    let heads = if shared { None } else { Some(shape.group()) };
    let mut accumulators =
        regions(&task.prior_parameters, &mut dense_gradients, &groups, &chunks, heads);
    let mut dk = Array4::zeros(posterior.k.raw_dim());
    let values = task.values.filter(|_| of_values == Values::Apart);
    let mut dv = Array4::zeros(values.map_or((0, 0, 0, 0), |v| v.dim()));
    let outputs = rows_of_tasks(&mut dk, &groups, &chunks)
        .into_iter()
        .zip(rows_of_tasks(&mut dv, &groups, &chunks));
    let tasks: Vec<_> = groups
        .iter()
        .flat_map(|group| chunks.iter().map(move |keys| (group, keys.clone())))
        .zip(&mut accumulators)
        .zip(outputs)
        .collect();
    let results: Result<Vec<Part<T>>, Error> = tasks
        .into_par_iter()
        .with_max_len(1)
        .map(|(((group, keys), prior), into)| task.run(group, keys, prior, into))
        .collect();
    let results = results?;
    drop(accumulators);
    let q = Array4::zeros(posterior.q.raw_dim());
    let v = values.map(|_| dv);
    let gradients = Gradients { q, k: dk, v, parameters: Vec::new() };
    Ok(task.collect(gradients, results, dense_gradients, summary))
}

/// Cuts a gradient [B, Hk, M, width] into the rows that tasks own, task by task: by groups of key
/// heads, then by ranges of keys. A task has one run of rows per key head of its group.
fn rows_of_tasks<'a, T>(
    gradient: &'a mut Array4<T>,
    groups: &[Vec<(usize, usize)>],
    chunks: &[Range<usize>],
) -> Vec<Vec<&'a mut [T]>> {
    let width = gradient.dim().3;
    let mut rest = gradient.as_slice_mut().expect("just made in row-major order");
    let mut tasks: Vec<Vec<&mut [T]>> =
        (0..groups.len() * chunks.len()).map(|_| Vec::new()).collect();
    for (index, group) in groups.iter().enumerate() {
        for _ in group {
            for (chunk, keys) in chunks.iter().enumerate() {
                let rows = (keys.len() * width).min(rest.len());
                let (own, after) = rest.split_at_mut(rows);
                tasks[index * chunks.len() + chunk].push(own);
                rest = after;
            }
        }
    }
    tasks
}

/// Cuts the score-shaped gradients into the regions that tasks own, task by task: by groups of
/// `heads` query heads (`None`: one group of all), then by ranges of keys.
fn regions<'a, T: Real>(
    parameters: &[Parameter],
    dense: &'a mut [Array4<T>],
    groups: &[Vec<(usize, usize)>],
    chunks: &[Range<usize>],
    heads: Option<usize>,
) -> Vec<Vec<Accumulator<'a, T>>> {
    let tasks = groups.len() * chunks.len();
    let mut all: Vec<Vec<Accumulator<'a, T>>> = (0..tasks).map(|_| Vec::new()).collect();
    let lengths: Vec<usize> = chunks.iter().map(Range::len).collect();
    let mut dense = dense.iter_mut();
    for parameter in parameters {
        if parameter.layout == Layout::Small {
            let own = |_: &_| Accumulator::Small(vec![0.0; parameter.len()]);
            all.iter_mut().for_each(|list| list.push(own(&())));
            continue;
        }
        let gradient = dense.next().expect("one gradient per score-shaped parameter").view_mut();
        let by_group = match heads {
            None => vec![gradient],
            Some(heads) => {
                let batch = vec![1; gradient.dim().0];
                let groups_of_heads = vec![heads; gradient.dim().1.div_ceil(heads)];
                cut(gradient, Axis(0), &batch)
                    .into_iter()
                    .flat_map(|entry| cut(entry, Axis(1), &groups_of_heads))
                    .collect()
            }
        };
        let uncut = parameter.shape[3] == 1;
        let by_task = by_group.into_iter().flat_map(|group| match uncut {
            true => vec![group],
            false => cut(group, Axis(3), &lengths),
        });
        for (index, (list, region)) in all.iter_mut().zip(by_task).enumerate() {
            let (batch, key_head) = groups[index / chunks.len()][0];
            list.push(Accumulator::Scores {
                region,
                first_key: if uncut { 0 } else { chunks[index % chunks.len()].start },
                first: heads.map_or((0, 0), |heads| (batch, key_head * heads)),
            });
        }
    }
    all
}

/// Cuts a view along `axis` into pieces of the given lengths.
fn cut<'a, T>(
    view: ArrayViewMut4<'a, T>,
    axis: Axis,
    lengths: &[usize],
) -> Vec<ArrayViewMut4<'a, T>> {
    let mut rest = Some(view);
    let mut pieces = Vec::with_capacity(lengths.len());
    for &length in lengths {
        let view = rest.take().expect("what is left after each piece");
        let length = length.min(view.len_of(axis));
        let (piece, after) = view.split_at(axis, length);
        pieces.push(piece);
        rest = Some(after);
    }
    pieces
}

impl<T: Real> Task<'_, '_, T> {
    fn run(
        &self,
        group: &[(usize, usize)],
        keys: Range<usize>,
        prior: &mut [Accumulator<'_, T>],
        (dk, dv): (Vec<&mut [T]>, Vec<&mut [T]>),
    ) -> Result<Part<T>, Error> {
        let posterior = self.posterior;
        let shape = &posterior.shape;
        let mut potential: Vec<Vec<f64>> =
            self.potential_parameters.iter().map(|p| vec![0.0; p.len()]).collect();
        let mut q = Vec::new();
        for (&(batch, key_head), (dk, dv)) in group.iter().zip(dk.into_iter().zip(dv)) {
            let place = Place { shape, batch, head: key_head, first: keys.start };
            let raw = tensor::contiguous(posterior.k.slice(s![batch, key_head, keys.clone(), ..]));
            let features = posterior.potential.key_features(place, raw.view());
            let mut features = Features::new(features, keys.start);
            if posterior.potential.is_product() {
                features = features.packed_across().packed_along();
            }
            let values = self.values.map(|v| v.slice_move(s![batch, key_head, keys.clone(), ..]));
            // Keys that are their own features have their gradient added up where it belongs.
            let own = posterior.potential.keys_are_features();
            let mut of_features =
                vec![T::zero(); if own { 0 } else { keys.len() * features.depth() }];
            let (of_keys, made) = match own {
                true => (dk, None),
                false => (&mut of_features[..], Some(dk)),
            };
            let into = (of_keys, dv);
            let mut head = HeadBackward::new(self, features, values, keys.clone(), into);
            for own in 0..shape.group() {
                let place = (batch, key_head * shape.group() + own);
                q.push((place, head.add_queries(place, prior, &mut potential)?));
            }
            let depth = head.finish();
            let Some(dk) = made else { continue };
            let gradient = ArrayView2::from_shape((keys.len(), depth), &of_features)
                .expect("one gradient per feature");
            let into = ArrayViewMut2::from_shape(raw.raw_dim(), dk).expect("one row per key");
            let place = Place { shape, batch, head: key_head, first: keys.start };
            let view = raw.view();
            let potentials = &mut potential;
            posterior.potential.key_features_backward(place, view, gradient, into, potentials);
        }
        let prior = prior
            .iter()
            .map(|accumulator| match accumulator {
                Accumulator::Small(sum) => sum.clone(),
                Accumulator::Scores { .. } => Vec::new(),
            })
            .collect();
        Ok(Part { q, prior, potential })
    }

    /// Puts the parts together, always in the same order.
    fn collect(
        &self,
        mut gradients: Gradients<T>,
        parts: Vec<Part<T>>,
        dense: Vec<Array4<T>>,
        summary: &Summary<T>,
    ) -> Gradients<T> {
        let posterior = self.posterior;
        let zeros = |list: &[Parameter]| -> Vec<Vec<f64>> {
            list.iter().map(|p| vec![0.0; p.len()]).collect()
        };
        let mut prior = zeros(&self.prior_parameters);
        let mut potential = zeros(&self.potential_parameters);
        let add = |sums: &mut [Vec<f64>], part: &[Vec<f64>]| {
            for (sum, part) in sums.iter_mut().zip(part) {
                sum.iter_mut().zip(part).for_each(|(sum, &g)| *sum += g);
            }
        };
        for part in parts {
            for ((b, h), dq) in part.q {
                let mut into = gradients.q.slice_mut(s![b, h, .., ..]);
                into += &dq;
            }
            add(&mut prior, &part.prior);
            add(&mut potential, &part.potential);
        }

        let null = posterior.structure.parameters();
        if let (Factorisation::PerQuery { null: Some(values) }, [parameter]) =
            (&posterior.factorisation, null.as_slice())
        {
            let sum = self.coefficients.null_gradient(&posterior.shape, summary, values);
            gradients.parameters.push(ParameterGradient::from_small(parameter, &sum));
        }
        let mut dense = dense.into_iter();
        for (parameter, sum) in self.prior_parameters.iter().zip(&prior) {
            gradients.parameters.push(match parameter.layout {
                Layout::Small => ParameterGradient::from_small(parameter, sum),
                Layout::Scores => ParameterGradient {
                    name: parameter.name.clone(),
                    gradient: dense.next().expect("one per score-shaped parameter").into_dyn(),
                },
            });
        }
        for (parameter, sum) in self.potential_parameters.iter().zip(&potential) {
            gradients.parameters.push(ParameterGradient::from_small(parameter, sum));
        }
        number_repeats(&mut gradients.parameters);
        gradients
    }
}

/// Tells parameters of the same name apart: the second `geometric.rho` becomes `geometric.rho.2`.
fn number_repeats<T>(parameters: &mut [ParameterGradient<T>]) {
    for i in (1..parameters.len()).rev() {
        let earlier = parameters[..i].iter().filter(|p| p.name == parameters[i].name).count();
        if earlier > 0 {
            parameters[i].name = format!("{}.{}", parameters[i].name, earlier + 1);
        }
    }
}
