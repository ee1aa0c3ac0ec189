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
mod in_order;
mod tiles;

use std::ops::Range;

use marginals_kernels::Aligned;
use ndarray::{Array4, ArrayView2, ArrayView3, ArrayView4, ArrayViewMut4, Axis, s};

use super::request::Request;
use super::summary::{Normalisers, Summary};
use super::{TASKS, split};
pub(crate) use crate::gradient::number_repeats;
use crate::gradient::{Accumulator, Layout, ParameterGradient};
use crate::model::structure::Factorisation;
use crate::potential::{Features, Place};
use crate::question::EdgeFunctions;
use crate::{Error, Parameter, Posterior, Real, tensor};

use coefficients::Coefficients;
pub(crate) use coefficients::needs;
use in_order::InOrder;
use tiles::HeadBackward;
pub(crate) use tiles::QUERY_BLOCK;

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
    /// Of the expectations of edge functions, [B, H, N, C].
    pub expected_of: Option<ArrayView4<'a, T>>,
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
            expected_of: None,
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
    functions: Option<&'a dyn EdgeFunctions<T>>,
    coefficients: Coefficients<'a, T>,
    prior_parameters: Vec<Parameter>,
    potential_parameters: Vec<Parameter>,
}

/// The regions of the gradients that one task owns.
struct Own<'a, T> {
    k: ArrayViewMut4<'a, T>,
    v: Option<ArrayViewMut4<'a, T>>,
    prior: Vec<Accumulator<'a, T>>,
}

/// Sums over what one task did, to be added up in the order of the tasks.
struct Sums {
    prior: Vec<Vec<f64>>,
    potential: Vec<Vec<f64>>,
}

/// The backward pass with a gradient of the values' own; see [`backward_of`].
pub(crate) fn backward<T: Real>(
    posterior: &Posterior<'_, T>,
    request: &Request<'_, T>,
    summary: &Summary<T>,
    upstream: &Upstream<'_, T>,
) -> Result<Gradients<T>, Error> {
    T::backward(posterior, request, summary, upstream, Values::Apart)
}

/// The backward pass. `summary` must hold what the upstream gradients need (see
/// [`needs`]).
pub(crate) fn backward_of<T: Real>(
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
        functions: request.functions,
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
    let parts = TASKS.div_ceil(groups.len().max(1)).min(shape.keys.div_ceil(FEWEST_KEYS)).max(1);
    let chunks = split(0..shape.keys, parts);

    let mut dense_gradients: Vec<Array4<T>> = task
        .prior_parameters
        .iter()
        .filter(dense)
        // What is shared along the keys is summed by each range of keys on its own first.
        .map(|p| {
            (
                p.shape[0],
                p.shape[1],
                p.shape[2],
                if p.shape[3] == 1 { chunks.len() } else { p.shape[3] },
            )
        })
        .map(tensor::zeros)
        .collect();
    let heads = |own: usize| if shared { None } else { Some(own) };
    let query_heads = heads(shape.group());
    let lengths: Vec<usize> = chunks.iter().map(Range::len).collect();
    let mut dq = Array4::zeros(posterior.q.raw_dim());
    let mut dk = Array4::zeros(posterior.k.raw_dim());
    let apart = task.values.filter(|_| of_values == Values::Apart);
    let mut dv = apart.map(|v| Array4::zeros(v.raw_dim()));
    // Ranges of keys each give a part of the queries' gradient.
    let q: Vec<_> = by_group(dq.view_mut(), query_heads)
        .map(|group| InOrder::new(group, chunks.len()))
        .collect();
    let mut k = by_keys(dk.view_mut(), heads(1), &lengths);
    let sets = task.values.map_or(1, |v| v.dim().1 / shape.key_heads.max(1));
    let mut v = dv.as_mut().map(|dv| by_keys(dv.view_mut(), heads(sets), &lengths));
    let prior =
        regions(&task.prior_parameters, &mut dense_gradients, &groups, &chunks, query_heads);
    let own = prior.into_iter().map(|prior| Own {
        k: k.next().expect("one region per task"),
        v: v.as_mut().map(|v| v.next().expect("one region per task")),
        prior,
    });
    let tasks: Vec<_> = groups
        .iter()
        .zip(&q)
        .flat_map(|group| chunks.iter().enumerate().map(move |chunk| (group, chunk)))
        .zip(own)
        .collect();
    let sums = in_order::run(tasks, |(((group, q), (part, keys)), own)| {
        in_order::add_part(q, part, |dq| task.run(group, keys.clone(), dq, own))
    })?;
    drop(q);
    for (gradient, parameter) in
        dense_gradients.iter_mut().zip(task.prior_parameters.iter().filter(dense))
    {
        if parameter.shape[3] == 1 {
            *gradient = gradient.sum_axis(Axis(3)).insert_axis(Axis(3));
        }
    }
    let mut gradients = Gradients { q: dq, k: dk, v: dv, parameters: Vec::new() };
    task.collect_parameters(sums, dense_gradients, summary, &mut gradients.parameters);
    Ok(gradients)
}

/// Cuts a view over [B, heads, …] into groups of `heads` heads (`None`: one group of all).
fn by_group<T>(
    view: ArrayViewMut4<'_, T>,
    heads: Option<usize>,
) -> impl Iterator<Item = ArrayViewMut4<'_, T>> {
    let (batch, all) = (view.dim().0, view.dim().1);
    let (batch, heads) = match heads {
        None => (vec![batch], vec![all]),
        Some(heads) => (vec![1; batch], vec![heads; all.div_ceil(heads)]),
    };
    cut(view, Axis(0), &batch).into_iter().flat_map(move |entry| cut(entry, Axis(1), &heads))
}

/// Cuts a view over [B, heads, M, …] into groups of heads, and those into ranges of keys.
fn by_keys<'a, T>(
    view: ArrayViewMut4<'a, T>,
    heads: Option<usize>,
    lengths: &[usize],
) -> std::vec::IntoIter<ArrayViewMut4<'a, T>> {
    by_group(view, heads)
        .flat_map(|group| cut(group, Axis(2), lengths))
        .collect::<Vec<_>>()
        .into_iter()
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
        let shared_along_keys = parameter.shape[3] == 1;
        let by_task = by_group(gradient, heads).flat_map(|group| match shared_along_keys {
            true => cut(group, Axis(3), &vec![1; chunks.len()]),
            false => cut(group, Axis(3), &lengths),
        });
        for (index, (list, region)) in all.iter_mut().zip(by_task).enumerate() {
            let (batch, key_head) = groups[index / chunks.len()][0];
            list.push(Accumulator::Scores {
                region,
                first_key: if shared_along_keys { 0 } else { chunks[index % chunks.len()].start },
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
        mut dq: ArrayViewMut4<'_, T>,
        own: Own<'_, T>,
    ) -> Result<Sums, Error> {
        let posterior = self.posterior;
        let shape = &posterior.shape;
        let Own { k: dk, v: dv, mut prior } = own;
        let sets = self.values.map_or(1, |v| v.dim().1 / shape.key_heads.max(1));
        let mut dv = dv.map(|dv| by_group(dv, Some(1)));
        let own_features = posterior.potential.keys_are_features();
        let mut potential: Vec<Vec<f64>> =
            self.potential_parameters.iter().map(|p| vec![0.0; p.len()]).collect();
        let first = group[0];
        for (&(batch, key_head), dk) in group.iter().zip(by_group(dk, Some(1))) {
            let place = Place { shape, batch, head: key_head, first: keys.start };
            let raw = tensor::contiguous(posterior.k.slice(s![batch, key_head, keys.clone(), ..]));
            let features = posterior.potential.key_features(place, raw.view());
            let mut features = Features::new(features, keys.start);
            if posterior.potential.is_product() {
                features = features.packed_across().packed_along();
            }
            // Keys that are their own features have their gradient added up where it belongs.
            let size = if own_features { 0 } else { keys.len() * features.depth() };
            let mut of_features = Aligned::zeros(size);
            let (into, made) = match own_features {
                true => (dk.into_slice().expect("a gradient of contiguous rows"), None),
                false => (&mut of_features[..], Some(dk)),
            };
            let b = batch - first.0;
            let mut head = HeadBackward::new(self, features, keys.clone(), into);
            // One set of values for every query head of the key head, or one for each.
            for set in key_head * sets..(key_head + 1) * sets {
                let values = self.values.map(|v| v.slice_move(s![batch, set, keys.clone(), ..]));
                head.use_values(values, dv.as_mut().and_then(Iterator::next));
                let served = shape.group() / sets;
                for query_head in set * served..(set + 1) * served {
                    let own = query_head - first.1 * shape.group();
                    let into = dq.slice_mut(s![b, own, .., ..]);
                    head.add_queries((batch, query_head), into, &mut prior, &mut potential)?;
                }
                head.finish_values();
            }
            let depth = head.features.depth();
            drop(head);
            let Some(mut dk) = made else { continue };
            let gradient = ArrayView2::from_shape((keys.len(), depth), &of_features)
                .expect("one gradient per feature");
            let place = Place { shape, batch, head: key_head, first: keys.start };
            let into = dk.slice_mut(s![0, 0, .., ..]);
            let raw = raw.view();
            let parameters = &mut potential;
            posterior.potential.key_features_backward(place, raw, gradient, into, parameters);
        }
        let small = |accumulator| match accumulator {
            Accumulator::Small(sum) => sum,
            Accumulator::Scores { .. } => Vec::new(),
        };
        Ok(Sums { prior: prior.into_iter().map(small).collect(), potential })
    }

    /// Adds up the gradients of the parameters, always in the same order.
    fn collect_parameters(
        &self,
        sums: Vec<Sums>,
        dense: Vec<Array4<T>>,
        summary: &Summary<T>,
        into: &mut Vec<ParameterGradient<T>>,
    ) {
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
        for part in sums {
            add(&mut prior, &part.prior);
            add(&mut potential, &part.potential);
        }

        let null = posterior.structure.parameters();
        if let (Factorisation::PerQuery { null: Some(values) }, [parameter]) =
            (&posterior.factorisation, null.as_slice())
        {
            let sum = self.coefficients.null_gradient(&posterior.shape, summary, values);
            into.push(ParameterGradient::from_small(parameter, &sum));
        }
        let mut dense = dense.into_iter();
        for (parameter, sum) in self.prior_parameters.iter().zip(&prior) {
            into.push(match parameter.layout {
                Layout::Small => ParameterGradient::from_small(parameter, sum),
                Layout::Scores => ParameterGradient {
                    name: parameter.name.clone(),
                    gradient: dense.next().expect("one per score-shaped parameter").into_dyn(),
                },
            });
        }
        for (parameter, sum) in self.potential_parameters.iter().zip(&potential) {
            into.push(ParameterGradient::from_small(parameter, sum));
        }
        number_repeats(into.iter_mut().map(|p| &mut p.name).collect());
    }
}
