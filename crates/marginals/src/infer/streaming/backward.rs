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
mod columns;
mod in_order;
mod regions;
mod scatter;
mod tables;
mod task;
mod tiles;

use std::ops::Range;

use marginals_kernels::{Aligned, Fresh};
use ndarray::{Array4, ArrayView2, ArrayViewMut4, Axis, s};

use super::blocks::{TASKS, split};
use super::heads::Care;
use crate::gradient::{Accumulator, Layout, NodeRows, ParameterGradient, number_repeats};
use crate::infer::finding::{Finding, at};
use crate::infer::slopes::Slopes;
use crate::infer::statistic::Request;
use crate::infer::{Gradients, Problem, Values};
use crate::potential::{Features, Place};
use crate::tensor::{self};
use crate::{Error, Parameter, Real, Reference};

use super::rule::{FactorSlopes, Order, Rule};
use coefficients::Coefficients;
use in_order::InOrder;
use regions::{Dense, Own, Waiting, by_group, by_keys, is_finite, regions};
use tables::without_garbage;
use task::Task;
use tiles::HeadBackward;
pub(crate) use tiles::QUERY_BLOCK;

/// Keys below which a range of them is not worth splitting.
const FEWEST_KEYS: usize = 1024;

/// Sums over what one task did, to be added up in the order of the tasks.
struct Sums<T> {
    learned: Vec<Vec<f64>>,
    /// Of parameters that have a row per node.
    rows: Vec<Option<NodeRows<T>>>,
    potential: Vec<Vec<f64>>,
}

impl<T> Sums<T> {
    fn are_finite(&self) -> bool {
        self.learned.iter().chain(&self.potential).flatten().all(|sum| sum.is_finite())
    }
}

/// The backward pass over some of the keys, from the gradient of a loss in what was found of all of
/// them.
pub(crate) fn backward<T: Real>(
    rule: &Rule<'_, T>,
    problem: &Problem<'_, T>,
    request: &Request<'_, T>,
    finding: &Finding<T>,
    slopes: &Slopes<'_, T>,
    (keys, of_values): (Range<usize>, Values),
) -> Result<Gradients<T>, Error> {
    let shape = &problem.shape;
    let coefficients = Coefficients::new(rule, problem, request, finding, slopes);
    let functions = (coefficients.edges.iter().map(|(function, _)| *function)).chain(
        coefficients.tables.iter().flat_map(|table| table.products.iter().map(|p| p.function)),
    );
    let edge_parameters = functions.flat_map(|function| function.parameters()).collect();
    let mut task = Task {
        rule,
        problem,
        request,
        finding,
        of_values,
        keys: keys.clone(),
        coefficients,
        prior_parameters: problem.prior.parameters(),
        edge_parameters,
        potential_parameters: problem.potential.parameters(),
        none_slopes: Vec::new(),
    };
    task.follow_edges();
    let learned: Vec<Parameter> =
        task.prior_parameters.iter().chain(&task.edge_parameters).cloned().collect();

    // Tasks own groups of heads that share keys, values or a dense parameter, and a range of keys.
    let dense = |p: &&Parameter| p.layout == Layout::Scores;
    let shared = learned
        .iter()
        .filter(dense)
        .any(|p| (p.shape[0] == 1 && shape.batch > 1) || (p.shape[1] == 1 && shape.heads > 1));
    let key_heads: Vec<(usize, usize)> =
        (0..shape.batch).flat_map(|b| (0..shape.key_heads).map(move |h| (b, h))).collect();
    let groups: Vec<Vec<(usize, usize)>> = match shared && !key_heads.is_empty() {
        true => vec![key_heads],
        false => key_heads.into_iter().map(|place| vec![place]).collect(),
    };
    let parts = TASKS.div_ceil(groups.len().max(1)).min(keys.len().div_ceil(FEWEST_KEYS)).max(1);
    // A running state goes through all keys.
    let parts = if rule.order() == Order::LastFirst { 1 } else { parts };
    let chunks = split(keys.clone(), parts);

    let heads = |own: usize| if shared { None } else { Some(own) };
    let query_heads = heads(shape.group());
    let whole = chunks.len() == 1 && keys == (0..shape.keys);
    let mut dense_gradients: Vec<Dense<T>> = learned
        .iter()
        .filter(dense)
        .map(|p| match p.shape[..] {
            // What is shared along the keys is summed by each range of keys on its own first.
            [b, h, n, 1] => Dense::Shared(tensor::zeros((b, h, n, chunks.len()))),
            [b, h, n, m] if whole && groups.len() * query_heads.unwrap_or(b * h) == b * h => {
                let each = query_heads.unwrap_or(b * h) * n * m;
                Dense::ByGroup(Fresh::new(&vec![each; groups.len()]), [b, h, n, m])
            }
            [b, h, n, m] => Dense::Shared(tensor::zeros((b, h, n, m))),
            _ => unreachable!("a score-shaped parameter has four axes"),
        })
        .collect();
    let lengths: Vec<usize> = chunks.iter().map(Range::len).collect();
    let mut dq = Array4::zeros(problem.q.dim());
    let mut dk = Array4::zeros(problem.k.dim());
    let apart = of_values == Values::Apart;
    let mut dv: Vec<Option<Array4<T>>> = (0..request.values.len())
        .map(|table| {
            let used = apart && request.averages(table);
            used.then(|| Array4::zeros(request.values[table].tensor.dim()))
        })
        .collect();
    // Ranges of keys each give a part of the queries' gradient.
    let q: Vec<_> = by_group(dq.view_mut(), query_heads)
        .map(|group| InOrder::new(group, chunks.len()))
        .collect();
    let own_keys = s![.., .., keys.clone(), ..];
    let mut k = by_keys(dk.slice_mut(own_keys), heads(1), &lengths);
    let mut values: Vec<_> = dv
        .iter_mut()
        .enumerate()
        .map(|(table, dv)| {
            let dv = dv.as_mut()?;
            Some(by_keys(dv.slice_mut(own_keys), heads(task.sets(table)), &lengths))
        })
        .collect();
    let regions = regions(&learned, &mut dense_gradients, shape, &groups, &chunks, query_heads);
    let own: Vec<Waiting<'_, T>> = regions
        .into_iter()
        .map(|learned| Waiting {
            k: k.next().expect("one region per task"),
            values: values.iter_mut().map(|v| v.as_mut().and_then(Iterator::next)).collect(),
            learned,
        })
        .collect();
    let tasks: Vec<_> = groups
        .iter()
        .zip(&q)
        .flat_map(|group| chunks.iter().enumerate().map(move |chunk| (group, chunk)))
        .zip(own)
        .collect();
    let sums = in_order::run(tasks, |(((group, q), (part, keys)), own)| {
        in_order::add_part(q, part, |mut dq| {
            let mut own = own.start();
            let mut sums = task.run(group, keys.clone(), dq.view_mut(), &mut own, Care::Fast)?;
            if own.is_spoiled() || !sums.are_finite() || !is_finite(&dq) {
                // Something that is not finite took part, perhaps where it must not: once more, with care.
                dq.fill(T::zero());
                own.clear();
                sums = task.run(group, keys.clone(), dq, &mut own, Care::Careful)?;
            }
            sums.rows = own.learned.iter_mut().map(Accumulator::take_rows).collect();
            Ok(sums)
        })
    })?;
    drop(q);
    let mut dense_gradients: Vec<Array4<T>> =
        dense_gradients.into_iter().map(Dense::into_array).collect();
    for (gradient, parameter) in dense_gradients.iter_mut().zip(learned.iter().filter(dense)) {
        if parameter.shape[3] == 1 {
            *gradient = gradient.sum_axis(Axis(3)).insert_axis(Axis(3));
        }
    }
    let mut dv: Vec<Option<Array4<T>>> = dv;
    for (gradient, values) in dv.iter_mut().zip(&request.values) {
        if let (Some(gradient), Some(heads)) = (gradient, values.own_heads) {
            *gradient = folded(gradient, heads);
        }
    }
    if problem.depends_on_nodes.is_some() {
        problem.prior.finish_node_gradients(dq.view_mut(), dk.view_mut());
    }
    let mut gradients = Gradients { q: dq, k: dk, values: dv, parameters: Vec::new() };
    task.collect_parameters(sums, dense_gradients, &learned, &mut gradients);
    Ok(gradients)
}

/// The gradient of values that were repeated for each query head.
fn folded<T: Real>(gradient: &Array4<T>, heads: usize) -> Array4<T> {
    let (batch, all, keys, width) = gradient.dim();
    let mut sums = Array4::zeros((batch, heads, keys, width));
    for head in 0..all {
        let mut into = sums.slice_mut(s![.., head * heads / all, .., ..]);
        into += &gradient.slice(s![.., head, .., ..]);
    }
    sums
}

impl<T: Real> Task<'_, '_, T> {
    /// Features of queries as the scores are made of them, and as gradients are where that differs.
    fn query_features(
        &self,
        care: Care,
        place: Place<'_>,
        raw: ArrayView2<'_, T>,
    ) -> (Features<'static, T>, Option<Features<'static, T>>) {
        let potential = self.problem.potential;
        let made = || potential.query_features(place, raw).into_owned();
        let features = Features::new(made().into(), place.first);
        let pack = |features: Features<'static, T>| match potential.is_product() {
            true => features.packed_along(),
            false => features,
        };
        match care {
            Care::Fast => (pack(features), None),
            Care::Careful | Care::Scaled => {
                let clean = Features::new(made().into(), place.first).cleaned();
                (features, Some(pack(clean)))
            }
        }
    }

    /// Features of keys likewise.
    fn key_features<'f>(
        &self,
        care: Care,
        place: Place<'_>,
        raw: ArrayView2<'f, T>,
    ) -> (Features<'f, T>, Option<Features<'f, T>>) {
        let potential = self.problem.potential;
        let made = || Features::new(potential.key_features(place, raw), place.first);
        let product = potential.is_product();
        match care {
            Care::Fast if product => (made().packed_across().packed_along(), None),
            Care::Fast => (made(), None),
            Care::Careful | Care::Scaled if product => {
                (made().packed_across(), Some(made().cleaned().packed_along()))
            }
            Care::Careful | Care::Scaled => (made(), Some(made().cleaned())),
        }
    }

    fn run(
        &self,
        group: &[(usize, usize)],
        keys: Range<usize>,
        mut dq: ArrayViewMut4<'_, T>,
        own: &mut Own<'_, T>,
        care: Care,
    ) -> Result<Sums<T>, Error> {
        let problem = self.problem;
        let shape = &problem.shape;
        let Own { k: dk, values, learned } = own;
        let mut values: Vec<_> = values
            .iter_mut()
            .map(|dv| dv.as_mut().map(|dv| by_group(dv.view_mut(), Some(1))))
            .collect();
        let own_features = problem.potential.keys_are_features();
        let mut potential: Vec<Vec<f64>> =
            self.potential_parameters.iter().map(|p| vec![0.0; p.len()]).collect();
        let first = group[0];
        for (&(batch, key_head), dk) in group.iter().zip(by_group(dk.view_mut(), Some(1))) {
            let place = Place { shape, batch, head: key_head, first: keys.start };
            let raw = problem.k.rows((batch, key_head), keys.clone());
            let features = self.key_features(care, place, raw.view());
            // Keys that are their own features have their gradient added up where it belongs.
            let size = if own_features { 0 } else { keys.len() * features.0.depth() };
            let mut of_features = Aligned::zeros(size);
            let (into, made) = match own_features {
                true => (dk.into_slice().expect("a gradient of contiguous rows"), None),
                false => (&mut of_features[..], Some(dk)),
            };
            let depth = features.0.depth();
            let mut head = HeadBackward::new(self, features, keys.clone(), &mut *into, care);
            // One set of values for every query head of the key head, or one for each.
            let tables = values.iter_mut().enumerate().map(|(table, values)| {
                let next = |_| values.as_mut().and_then(Iterator::next);
                (0..self.sets(table)).map(next).collect()
            });
            head.use_tables((batch, key_head), tables.collect());
            let b = batch - first.0;
            for query_head in key_head * shape.group()..(key_head + 1) * shape.group() {
                let own = query_head - first.1 * shape.group();
                let into = dq.slice_mut(s![b, own, .., ..]);
                head.add_queries((batch, query_head), into, learned, &mut potential)?;
            }
            head.finish_tables();
            let of_nodes = head.into_gradient_of_keys().unwrap_or_default();
            let Some(mut dk) = made else {
                into.iter_mut().zip(of_nodes).for_each(|(x, g)| *x += g);
                continue;
            };
            let gradient = ArrayView2::from_shape((keys.len(), depth), &of_features)
                .expect("one gradient per feature");
            let place = Place { shape, batch, head: key_head, first: keys.start };
            let mut into = dk.slice_mut(s![0, 0, .., ..]);
            let raw = without_garbage(care, raw);
            let (raw, through) = (raw.view(), into.view_mut());
            let parameters = &mut potential;
            problem.potential.key_features_backward(place, raw, gradient, through, parameters);
            into.iter_mut().zip(of_nodes).for_each(|(x, g)| *x += g);
        }
        let parameters = self.prior_parameters.iter().chain(&self.edge_parameters);
        let sums =
            learned.iter_mut().zip(parameters).map(|(own, parameter)| own.take_sums(parameter));
        let sums = sums.collect::<Result<_, Error>>()?;
        Ok(Sums { learned: sums, rows: Vec::new(), potential })
    }

    /// Hands what is owed to having no edge on to the edges, where its score is that of them all less a
    /// gate: ∂ log Σ_k e^θ_ik/∂θ_ij = p_ij/(1 − p_i0), and so for the prior.
    fn follow_edges(&mut self) {
        let Rule::Rows(rule) = self.rule else { return };
        self.none_slopes = rule.none_slopes(&self.factor_slopes());
        if !rule.none_follows_edges() {
            return;
        }
        for (row, &[score, weight]) in self.none_slopes.iter().enumerate() {
            // 1 − p, of the prior and of the posterior.
            let edges = T::of(-self.finding.log_none[row].f64().exp_m1());
            if edges == T::zero() {
                continue;
            }
            if let Some(centre) = self.coefficients.centre.get_mut(row) {
                *centre -= T::of(score) / edges;
            }
            if let Some(prior) = self.coefficients.prior.get_mut(row) {
                *prior += T::of(weight) / edges;
            }
        }
    }

    /// Adds what parameters of the prior owe to log Z through what log-weights are relative to.
    ///
    /// log Z = c + log Z_relative, in which having no edge has the log-weight null − c.
    fn add_reference_gradients(&self, of_learned: &mut [Vec<f64>]) {
        let (shape, finding) = (&self.problem.shape, self.finding);
        // A reference of 0 has a gradient too.
        if shape.reference == Reference::Nothing || self.prior_parameters.is_empty() {
            return;
        }
        let coefficients = &self.coefficients;
        let factors = finding.factors() / (shape.batch * shape.heads).max(1);
        let mut slopes: Vec<f64> = (0..finding.factors())
            .map(|f| {
                if finding.normalisers.max[f] == T::neg_infinity() {
                    return 0.0;
                }
                at(&coefficients.partition, f).f64() + at(&coefficients.evidence, f).f64()
            })
            .collect();
        if let Rule::Rows(rule) = self.rule {
            let moves = |(slope, [score, weight]): (&mut f64, &[f64; 2])| *slope -= score + weight;
            // What follows the edges moves with them.
            if !rule.none_follows_edges() {
                slopes.iter_mut().zip(&self.none_slopes).for_each(moves);
            }
        }
        let mut into: Vec<Accumulator<'_, T>> = self
            .prior_parameters
            .iter()
            .map(|p| match p.layout {
                Layout::Small => Accumulator::Small(vec![0.0; p.len()]),
                // Only few numbers are shared by all edges of a query.
                _ => Accumulator::Small(Vec::new()),
            })
            .collect();
        for (head, slopes) in shape.all_heads().zip(slopes.chunks_exact(factors.max(1))) {
            let block = shape.block(head, 0..shape.queries, self.keys.clone());
            self.problem.prior.accumulate_reference_gradient(&block, slopes, &mut into);
        }
        for (sum, into) in of_learned.iter_mut().zip(into) {
            if let Accumulator::Small(own) = into {
                sum.iter_mut().zip(own).for_each(|(sum, own)| *sum += own);
            }
        }
    }

    fn factor_slopes(&self) -> FactorSlopes<'_, T> {
        let coefficients = &self.coefficients;
        FactorSlopes {
            shape: &self.problem.shape,
            finding: self.finding,
            log_p: &coefficients.log_p,
            log_partition: &coefficients.partition,
            log_ratio: &coefficients.ratio,
            prior: &coefficients.prior,
            log_none: &coefficients.log_none,
            expected: &coefficients.expected,
            none: &coefficients.none,
        }
    }

    /// Adds up the gradients of the parameters, always in the same order: the structure's, the prior's,
    /// those of functions of edges, the potential's.
    fn collect_parameters(
        &self,
        sums: Vec<Sums<T>>,
        dense: Vec<Array4<T>>,
        learned: &[Parameter],
        into: &mut Gradients<T>,
    ) {
        let Gradients { k: of_keys, parameters: into, .. } = into;
        let zeros = |list: &[Parameter]| -> Vec<Vec<f64>> {
            list.iter().map(|p| vec![0.0; p.len()]).collect()
        };
        let mut of_learned = zeros(learned);
        self.add_reference_gradients(&mut of_learned);
        let mut potential = zeros(&self.potential_parameters);
        let add = |sums: &mut [Vec<f64>], part: &[Vec<f64>]| {
            for (sum, part) in sums.iter_mut().zip(part) {
                sum.iter_mut().zip(part).for_each(|(sum, &g)| *sum += g);
            }
        };
        let has_rows = |p: &&Parameter| matches!(p.layout, Layout::Queries | Layout::Keys);
        let mut of_rows: Vec<Option<Array4<T>>> = (learned.iter())
            .map(|p| has_rows(&p).then(|| (p.shape[0], p.shape[1], p.shape[2], p.shape[3])))
            .map(|sizes| sizes.map(Array4::zeros))
            .collect();
        for part in sums {
            for (whole, own) in of_rows.iter_mut().zip(part.rows) {
                let (Some(whole), Some((rows, (b, h, node)))) = (whole, own) else { continue };
                let (batch, heads, nodes, _) = rows.dim();
                let mut own =
                    whole.slice_mut(s![b..b + batch, h..h + heads, node..node + nodes, ..]);
                own += &rows;
            }
            add(&mut of_learned, &part.learned);
            add(&mut potential, &part.potential);
        }
        if let Rule::Rows(rule) = self.rule {
            into.extend(rule.parameter_gradients(&self.problem.shape, &self.none_slopes));
        }
        let mut dense = dense.into_iter();
        for ((parameter, sum), rows) in learned.iter().zip(&of_learned).zip(of_rows) {
            let rows = || rows.expect("a row for each node");
            into.push(match parameter.layout {
                Layout::Keys => {
                    *of_keys += &rows();
                    continue;
                }
                Layout::Queries => {
                    ParameterGradient { name: parameter.name.clone(), gradient: rows().into_dyn() }
                }
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
