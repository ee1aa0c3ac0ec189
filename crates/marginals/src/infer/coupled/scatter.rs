//! Gradients, from those in everything that was found.
//!
//! All that is averaged is linear in the expected counts n: the loss moves by f·dn, with f the sum of
//! what is averaged weighted by its slope. Then with H the Hessian of log Z,
//!
//! ```text
//! ∂L/∂x = H f + (∂L/∂log Z) n,
//! ```
//!
//! and log-weights, and the structure's own scores, also get what depends on the prior alone.

use std::sync::PoisonError;

use ndarray::{Array1, Array2, Array4, ArrayView2, Axis, s};

use super::gather::{on_edges, product, values};
use super::tables::{blocks, features};
use super::{Coupled, State, by_head};
use crate::gradient::{Whole, number_repeats};
use crate::infer::finding::{Finding, at};
use crate::infer::slopes::Slopes;
use crate::infer::statistic::{EdgeFunction, Linear, Request};
use crate::infer::{Gradients, Problem, Values};
use crate::potential::{FeatureGradient, Features, Place};
use crate::prior::NodeGradient;
use crate::{Block, Error, ParameterGradient, Real, TileMut, parallel};

/// Gradients of the edges of one head, row after row.
struct OfEdges {
    /// In θ.
    scores: Vec<f64>,
    /// In log w.
    weights: Vec<f64>,
}

pub(super) fn backward<T: Real>(
    of: &Coupled<'_>,
    problem: &Problem<'_, T>,
    request: &Request<'_, T>,
    finding: &Finding<T>,
    slopes: &Slopes<'_, T>,
    destination: Values,
) -> Result<Gradients<T>, Error> {
    let one_at_a_time = problem.depends_on_nodes.as_ref();
    let _guard = one_at_a_time.map(|lock| lock.lock().unwrap_or_else(PoisonError::into_inner));
    let shape = &problem.shape;
    let of_statistic = |index: Option<usize>| index.map_or(&[][..], |i| &*slopes.linear[i]);
    let ratio = of_statistic(request.log_ratio());
    let entropy = of_statistic(request.log_probability());
    let evidence = &*slopes.prior_log_partition;
    let reads_prior = !ratio.is_empty() || !evidence.is_empty();
    let state = State::found(of, problem, finding, reads_prior);

    // f, by head and then by factor.
    let heads: Vec<_> = shape.all_heads().collect();
    let upstream = Upstream { problem, request, slopes };
    let on_marginals = parallel::map(heads.len(), &|number| {
        let marginals = state.marginals(of, shape, number);
        upstream.of_head(number, heads[number], &marginals)
    });
    let mut directions = of.directions(shape, &state.instances, on_marginals.iter());
    for (factor, direction) in directions.iter_mut().enumerate() {
        let (scores, moments) = (&state.instances.scores[factor], &state.moments[factor]);
        let (entropy, ratio) = (at(entropy, factor).f64(), at(ratio, factor).f64());
        let edges = scores.len() - state.instances.own;
        let per_head = of.per_head(shape).max(1);
        let first = factor % per_head * edges;
        let weights = state.tables[factor / per_head].weights.get(first..first + edges);
        for (index, d) in direction.iter_mut().enumerate() {
            if moments.expected[index] == 0.0 {
                // What has no mass moves nothing, whatever is said of it.
                *d = 0.0;
                continue;
            }
            if entropy != 0.0 {
                *d += entropy * scores[index];
            }
            if ratio != 0.0 && index < edges {
                let weight = weights.map_or(0.0, |weights| weights[index]);
                *d += ratio * (scores[index] - weight);
            }
        }
    }
    // Where nothing but log Z has a slope H f is 0, and n was found with the answers.
    let mut in_scores: Vec<Vec<f64>> = match directions.iter().flatten().all(|&d| d == 0.0) {
        true => directions,
        false => {
            let moved = of.sets.tangents(&state.instances.views(), &directions);
            moved.into_iter().map(|tangents| tangents.expected).collect()
        }
    };
    for (factor, gradient) in in_scores.iter_mut().enumerate() {
        let slope = at(&slopes.log_partition, factor).f64();
        if slope != 0.0 {
            let expected = &state.moments[factor].expected;
            gradient.iter_mut().zip(expected).for_each(|(g, n)| *g += slope * n);
        }
    }
    // What log-weights and the structure's own scores get beside that.
    let of_prior: Vec<Vec<f64>> = (state.prior.iter().enumerate())
        .map(|(factor, prior)| {
            let (ratio, evidence) = (at(ratio, factor).f64(), at(evidence, factor).f64());
            let own = &state.moments[factor].expected;
            let pairs = own.iter().zip(&prior.expected);
            pairs.map(|(own, prior)| (ratio + evidence) * prior - ratio * own).collect()
        })
        .collect();
    let of_edges: Vec<OfEdges> = (0..heads.len())
        .map(|number| {
            let scores = by_head(of, shape, number, |factor| &in_scores[factor]).into_owned();
            let mut weights = scores.clone();
            if !of_prior.is_empty() {
                let direct = by_head(of, shape, number, |factor| &of_prior[factor]);
                weights.iter_mut().zip(&*direct).for_each(|(w, g)| *w += g);
            }
            OfEdges { scores, weights }
        })
        .collect();
    for (own, prior) in in_scores.iter_mut().zip(&of_prior) {
        own.iter_mut().zip(prior).for_each(|(own, prior)| *own += prior);
    }
    let own = of.own_gradients(shape, &in_scores);
    let (mut dq, mut dk, mut parameters) = scatter(problem, &heads, &of_edges)?;
    let mut dv = Vec::new();
    let mut of_functions = Vec::new();
    upstream.values_and_functions(of, &state, (&mut dv, &mut of_functions), &mut dk)?;
    if problem.depends_on_nodes.is_some() {
        problem.prior.finish_node_gradients(dq.view_mut(), dk.view_mut());
    }
    if destination == Values::Keys
        && let Some(v) = dv.first_mut().and_then(Option::take)
    {
        dk += &v;
    }
    let of_potential = parameters.split_off(problem.prior.parameters().len());
    let mut all: Vec<_> = own.into_iter().chain(parameters).collect();
    all.extend(of_functions);
    all.extend(of_potential);
    number_repeats(all.iter_mut().map(|p| &mut p.name).collect());
    Ok(Gradients { q: dq, k: dk, values: dv, parameters: all })
}

/// Slopes of a loss in the statistics, with the problem that those are of.
struct Upstream<'a, 'p, 'v, T: Real> {
    problem: &'a Problem<'p, T>,
    request: &'a Request<'v, T>,
    slopes: &'a Slopes<'a, T>,
}

impl<T: Real> Upstream<'_, '_, '_, T> {
    /// Slopes of a statistic at the queries of one head, a row for each; none where there are none, or the
    /// statistic is of factors.
    fn rows(&self, index: usize, number: usize) -> Option<Array2<f64>> {
        let (queries, width) = (self.problem.shape.queries, self.request.columns(index));
        let all = &self.slopes.linear[index];
        if all.is_empty() || self.request.is_of_factors(index) {
            return None;
        }
        let own = all[number * queries * width..][..queries * width].iter().map(|g| g.f64());
        let rows = Array2::from_shape_vec((queries, width), own.collect());
        Some(rows.expect("slopes of every query"))
    }

    /// f of the edges of one head, entropy and KL apart.
    fn of_head(&self, number: usize, head: (usize, usize), marginals: &[f64]) -> Vec<f64> {
        let (problem, shape) = (self.problem, &self.problem.shape);
        let p = ArrayView2::from_shape((shape.queries, shape.keys), marginals);
        let p = p.expect("a number of every edge");
        let mut f = Array2::<f64>::zeros(p.raw_dim());
        for (index, statistic) in self.request.linear.iter().enumerate() {
            let Some(g) = self.rows(index, number) else { continue };
            match statistic {
                Linear::LogProbability | Linear::LogRatio | Linear::Tangent(..) => {}
                Linear::Value(table) => {
                    f += &over_edges(&g, &values(problem, self.request, *table, head), &p);
                }
                Linear::Edge(function) => {
                    add_products(&mut f, &g, &on_edges(problem, head, &**function), &p);
                }
                Linear::ValueVariance(table) => {
                    // d/dp of Σ p v² − (Σ p v)² is (v − m)² − m².
                    let v = values(problem, self.request, *table, head);
                    let means = product(p, &v);
                    each_edge(&p, |i, j| {
                        let entries = g.row(i).into_iter().zip(v.row(j)).zip(means.row(i));
                        f[[i, j]] +=
                            entries.map(|((g, v), m)| g * ((v - m) * (v - m) - m * m)).sum::<f64>();
                    });
                }
                Linear::Covariance(function, table) => {
                    // d/dp of Σ p s v − Σ p s Σ p v is (s − E[s])(v − m) − E[s] m.
                    let v = values(problem, self.request, *table, head);
                    let of_edges = Spread::new(&p, on_edges(problem, head, &**function), &v);
                    each_edge(&p, |i, j| {
                        let (mean, apart) = (of_edges.edge_means[i], of_edges.apart(i, j));
                        let entries = g.row(i).into_iter().zip(v.row(j)).zip(of_edges.means.row(i));
                        f[[i, j]] += entries
                            .map(|((g, v), m)| g * (apart * (v - m) - mean * m))
                            .sum::<f64>();
                    });
                }
            }
        }
        let (n, m) = (shape.queries, shape.keys);
        let slice = |list: &[T], count: usize| -> Array1<f64> {
            list.get(number * count..(number + 1) * count)
                .unwrap_or(&[])
                .iter()
                .map(|g| g.f64())
                .collect()
        };
        let mass = slice(&self.slopes.mass, n);
        if !mass.is_empty() {
            f += &mass.insert_axis(Axis(1));
        }
        let columns = slice(&self.slopes.column_mass, m);
        if !columns.is_empty() {
            f += &columns;
        }
        let edges = slice(&self.slopes.marginals, n * m);
        if !edges.is_empty() {
            f += &edges.into_shape_with_order((n, m)).expect("a slope of every edge");
        }
        f.into_raw_vec_and_offset().0
    }

    /// Gradients of the values, and of what functions of edges are made of.
    fn values_and_functions(
        &self,
        of: &Coupled<'_>,
        state: &State<'_>,
        (dv, of_functions): (&mut Vec<Option<Array4<T>>>, &mut Vec<ParameterGradient<T>>),
        dk: &mut Array4<T>,
    ) -> Result<(), Error> {
        let (problem, shape, request) = (self.problem, &self.problem.shape, self.request);
        let zeros = |table: usize| {
            request
                .averages(table)
                .then(|| Array4::<f64>::zeros(request.values[table].tensor.dim()))
        };
        let mut of_values: Vec<Option<Array4<f64>>> =
            (0..request.values.len()).map(zeros).collect();
        let mut functions: Vec<Functional<'_, T>> = (request.linear.iter().enumerate())
            .filter_map(|(index, statistic)| match statistic {
                Linear::Edge(function) | Linear::Covariance(function, _) => {
                    let asked = !self.slopes.linear[index].is_empty();
                    asked.then(|| Functional::new(index, &**function))
                }
                _ => None,
            })
            .collect();
        for (number, head) in shape.all_heads().enumerate() {
            let marginals = state.marginals(of, shape, number);
            let p = ArrayView2::from_shape((shape.queries, shape.keys), &marginals);
            let p = p.expect("a number of every edge");
            for (index, statistic) in request.linear.iter().enumerate() {
                let Some(g) = self.rows(index, number) else { continue };
                let function = functions.iter_mut().find(|own| own.index == index);
                let mut gradient = None;
                match statistic {
                    Linear::LogProbability | Linear::LogRatio | Linear::Tangent(..) => {}
                    Linear::Value(_) => gradient = Some(p.t().dot(&g)),
                    Linear::Edge(_) => {
                        let function = function.expect("every function that is asked of");
                        let tile = &p * &g;
                        function.add(problem, head, &tile)?;
                    }
                    Linear::ValueVariance(table) => {
                        let v = values(problem, request, *table, head);
                        let means = product(p, &v);
                        let mut own = Array2::<f64>::zeros(v.raw_dim());
                        each_edge(&p, |i, j| {
                            for c in 0..v.ncols() {
                                own[[j, c]] +=
                                    2.0 * p[[i, j]] * g[[i, c]] * (v[[j, c]] - means[[i, c]]);
                            }
                        });
                        gradient = Some(own);
                    }
                    Linear::Covariance(of_edges, table) => {
                        let v = values(problem, request, *table, head);
                        let spread = Spread::new(&p, on_edges(problem, head, &**of_edges), &v);
                        let mut own = Array2::<f64>::zeros(v.raw_dim());
                        let mut tile = Array2::<f64>::zeros(p.raw_dim());
                        each_edge(&p, |i, j| {
                            let apart = spread.apart(i, j);
                            for c in 0..v.ncols() {
                                own[[j, c]] += p[[i, j]] * g[[i, c]] * apart;
                                tile[[i, j]] +=
                                    p[[i, j]] * g[[i, c]] * (v[[j, c]] - spread.means[[i, c]]);
                            }
                        });
                        gradient = Some(own);
                        function
                            .expect("every function that is asked of")
                            .add(problem, head, &tile)?;
                    }
                }
                if let (Some(gradient), Some(table)) = (gradient, statistic.table())
                    && let Some(into) = &mut of_values[table]
                {
                    let own = head.1 * into.dim().1 / shape.heads.max(1);
                    let mut into = into.slice_mut(s![head.0, own, .., ..]);
                    into += &gradient;
                }
            }
        }
        for function in functions {
            function.into.finish(dk, of_functions);
        }
        *dv = (of_values.into_iter().zip(&request.values))
            .map(|(gradient, values)| {
                let gradient = gradient?;
                let Some(heads) = values.own_heads else { return Some(gradient.mapv(T::of)) };
                let (batch, all, keys, width) = gradient.dim();
                let mut sums = Array4::<f64>::zeros((batch, heads, keys, width));
                for head in 0..all {
                    let mut into = sums.slice_mut(s![.., head * heads / all, .., ..]);
                    into += &gradient.slice(s![.., head, .., ..]);
                }
                Some(sums.mapv(T::of))
            })
            .collect();
        Ok(())
    }
}

/// Calls `f` with every edge that has mass.
fn each_edge(p: &ArrayView2<'_, f64>, mut f: impl FnMut(usize, usize)) {
    for ((i, j), _) in p.indexed_iter().filter(|(_, p)| **p != 0.0) {
        f(i, j);
    }
}

/// g_i · v_j of every edge; what is not finite takes part only where p is not 0.
fn over_edges(g: &Array2<f64>, v: &Array2<f64>, p: &ArrayView2<'_, f64>) -> Array2<f64> {
    let is_finite = |row: ndarray::ArrayView1<'_, f64>| row.iter().all(|x| x.is_finite());
    if v.outer_iter().all(is_finite) {
        return g.dot(&v.t());
    }
    let mut all = Array2::zeros(p.raw_dim());
    each_edge(p, |i, j| all[[i, j]] = g.row(i).dot(&v.row(j)));
    all
}

/// f += g_i s_ij over the edges that have mass.
fn add_products(f: &mut Array2<f64>, g: &Array2<f64>, s: &[f64], p: &ArrayView2<'_, f64>) {
    let keys = p.ncols();
    each_edge(p, |i, j| f[[i, j]] += g[[i, 0]] * s[i * keys + j]);
}

/// A function of edges and values, about their means.
struct Spread {
    edges: Vec<f64>,
    keys: usize,
    edge_means: Vec<f64>,
    means: Array2<f64>,
}

impl Spread {
    fn new(p: &ArrayView2<'_, f64>, edges: Vec<f64>, v: &Array2<f64>) -> Self {
        let keys = p.ncols();
        let mut edge_means = vec![0.0; p.nrows()];
        each_edge(p, |i, j| edge_means[i] += p[[i, j]] * edges[i * keys + j]);
        Self { edges, keys, edge_means, means: product(*p, v) }
    }

    /// s − E\[s\] of an edge.
    fn apart(&self, i: usize, j: usize) -> f64 {
        self.edges[i * self.keys + j] - self.edge_means[i]
    }
}

/// A function of edges that is averaged, and the gradient of what it is made of.
struct Functional<'f, T: Real> {
    /// Number of its statistic.
    index: usize,
    function: &'f dyn EdgeFunction<T>,
    into: Whole<T>,
}

impl<'f, T: Real> Functional<'f, T> {
    fn new(index: usize, function: &'f dyn EdgeFunction<T>) -> Self {
        Self { index, function, into: Whole::new(function.parameters()) }
    }

    /// Adds what the gradient in its value at every edge of a head says.
    fn add(
        &mut self,
        problem: &Problem<'_, T>,
        head: (usize, usize),
        gradient: &Array2<f64>,
    ) -> Result<(), Error> {
        if self.into.parameters.is_empty() {
            return Ok(());
        }
        let (function, keys) = (self.function, problem.shape.keys);
        for block in blocks(problem, head) {
            let mut tile = rows_of(gradient, &block);
            let tile = TileMut::new(&mut tile, block.queries.len(), keys, keys);
            self.into.add(|into| function.accumulate_gradient(&block, tile.as_tile(), into))?;
        }
        Ok(())
    }
}

/// Numbers of the edges of a block, whose keys are all.
fn rows_of<T: Real>(all: &Array2<f64>, block: &Block) -> Vec<T> {
    all.slice(s![block.queries.clone(), ..]).iter().map(|&x| T::of(x)).collect()
}

/// Gradients in queries and keys, and in the parameters: the prior's, then the potential's.
type OfNodes<T> = (Array4<T>, Array4<T>, Vec<ParameterGradient<T>>);

/// Hands the gradients in θ and log w of every edge on to what they are made of.
fn scatter<T: Real>(
    problem: &Problem<'_, T>,
    heads: &[(usize, usize)],
    of_edges: &[OfEdges],
) -> Result<OfNodes<T>, Error> {
    let (shape, prior, potential) = (&problem.shape, &problem.prior, problem.potential);
    let (n, m) = (shape.queries, shape.keys);
    let mut dq = Array4::zeros(problem.q.dim());
    let mut dk = Array4::zeros(problem.k.dim());
    let mut of_prior = Whole::new(prior.parameters());
    let learns_prior = !of_prior.parameters.is_empty() || problem.depends_on_nodes.is_some();
    let potential_parameters = potential.parameters();
    let mut of_potential: Vec<Vec<f64>> =
        potential_parameters.iter().map(|p| vec![0.0; p.len()]).collect();
    let mut log_potential = Vec::new();
    for (&(batch, head), own) in heads.iter().zip(of_edges) {
        let key_head = shape.key_head(head);
        let raw = problem.q.rows((batch, head), 0..n);
        let raw_keys = problem.k.rows((batch, key_head), 0..m);
        let nodes = features(problem, (batch, head), (raw.view(), raw_keys.view()));
        let prepared = |features: Features<'_, T>| {
            let own = Features::new(features.view().to_owned().into(), 0).cleaned();
            if potential.is_product() { own.packed_across().packed_along() } else { own }
        };
        let (q, k) = (prepared(nodes.q), prepared(nodes.k));
        let mut of_q = Array2::<T>::zeros((n, q.depth()));
        let mut of_k = Array2::<T>::zeros((m, k.depth()));
        let (mut nodes_q, mut nodes_k) =
            (Array2::<T>::zeros(raw.raw_dim()), Array2::<T>::zeros(raw_keys.raw_dim()));
        for block in blocks(problem, (batch, head)) {
            let run = block.queries.start * m..block.queries.end * m;
            let numbers = |all: &[f64]| all[run.clone()].iter().map(|&x| T::of(x)).collect();
            let (rows, columns) = (block.queries.len(), m);
            if learns_prior {
                let mut gradient: Vec<T> = numbers(&own.weights);
                let tile = TileMut::new(&mut gradient, rows, columns, columns);
                of_prior.add(|into| {
                    if !into.is_empty() {
                        prior.accumulate_gradient(&block, tile.as_tile(), into);
                    }
                })?;
                if problem.depends_on_nodes.is_some() {
                    let mut own = nodes_q.slice_mut(s![block.queries.clone(), ..]);
                    let mut into = NodeGradient {
                        q: own.as_slice_mut().expect("whole rows lie together"),
                        k: nodes_k.as_slice_mut().expect("fresh arrays lie in rows"),
                    };
                    prior.accumulate_node_gradient(&block, tile.as_tile(), &mut into);
                }
            }
            let mut gradient: Vec<T> = numbers(&own.scores);
            let reads = potential.reads_log_potential();
            if reads {
                log_potential.clear();
                log_potential.resize(rows * columns, T::zero());
                let tile = TileMut::new(&mut log_potential, rows, columns, columns);
                potential.log_potential(&block, &q, &k, tile);
            }
            let values = reads.then(|| TileMut::new(&mut log_potential, rows, columns, columns));
            let mut own_q = of_q.slice_mut(s![block.queries.clone(), ..]);
            potential.backward(
                &block,
                &q,
                &k,
                values.as_ref().map(TileMut::as_tile),
                TileMut::new(&mut gradient, rows, columns, columns),
                &mut FeatureGradient {
                    q: own_q.as_slice_mut().expect("whole rows lie together"),
                    k: of_k.as_slice_mut().expect("fresh arrays lie in rows"),
                    parameters: &mut of_potential,
                },
            )?;
        }
        let place = |head| Place { shape, batch, head, first: 0 };
        let clean =
            |raw: ArrayView2<'_, T>| raw.mapv(|x| if x.is_finite() { x } else { T::zero() });
        let mut through = Array2::zeros(raw.raw_dim());
        let (q, k) = (clean(raw.view()), clean(raw_keys.view()));
        potential.query_features_backward(
            place(head),
            q.view(),
            of_q.view(),
            through.view_mut(),
            &mut of_potential,
        );
        let mut into = dq.slice_mut(s![batch, head, .., ..]);
        into += &through;
        into += &nodes_q;
        let mut into = dk.slice_mut(s![batch, key_head, .., ..]);
        if potential.keys_are_features() {
            into += &of_k;
        } else {
            let mut through = Array2::zeros(raw_keys.raw_dim());
            potential.key_features_backward(
                place(key_head),
                k.view(),
                of_k.view(),
                through.view_mut(),
                &mut of_potential,
            );
            into += &through;
        }
        into += &nodes_k;
    }
    let mut parameters = Vec::new();
    of_prior.finish(&mut dk, &mut parameters);
    for (parameter, sum) in potential_parameters.iter().zip(&of_potential) {
        parameters.push(ParameterGradient::from_small(parameter, sum));
    }
    Ok((dq, dk, parameters))
}
