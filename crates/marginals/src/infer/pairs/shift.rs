//! Pairs whose first key lies equally far from its query, as the choice of a second key.

use std::ops::Range;

use marginals_kernels::{Tile, TileMut};
use ndarray::{Array4, Axis, Zip, s};

use super::second::Pairs;
use crate::infer::finding::{Finding, Merge, weighted};
use crate::infer::statistic::{Handle, Linear, Request};
use crate::infer::{Inference, Problem};
use crate::prior::{Coverage, Prior, intersect, restrict};
use crate::tensor::Stored;
use crate::{Accumulator, Block, Parameter, Real, Shape, Value};

/// Name of the gradient in the log-weights of first keys.
const FIRST_WEIGHTS: &str = "first-weights";

/// First keys of one shift.
pub(super) struct Shift<T> {
    /// Rows from a query to its first key.
    by: i64,
    /// q_i ∘ a_j, [B, H, N, D]; 0 where there is no first key.
    pub queries: Array4<T>,
    /// log w_ij, [B H N]; −∞ likewise.
    pub weights: Vec<T>,
}

impl<T: Real> Shift<T> {
    /// The first keys of a shift; `None` where no query has one.
    pub fn new(problem: &Problem<'_, T>, by: i64) -> Option<Self> {
        let shape = &problem.shape;
        let (b, h, n, width) = problem.q.dim();
        let mut own = Self { by, queries: Array4::zeros((b, h, n, width)), weights: Vec::new() };
        own.weights = vec![T::neg_infinity(); b * h * n];
        let mut is_possible = false;
        for (batch, head) in shape.all_heads() {
            let q = problem.q.rows((batch, head), 0..n);
            let k = problem.k.rows((batch, shape.key_head(head)), 0..shape.keys);
            for i in own.rows(shape) {
                let j = own.first_key(i);
                let weight =
                    log_weight(&*problem.prior, &shape.block((batch, head), i..i + 1, j..j + 1));
                if weight == T::neg_infinity() {
                    continue;
                }
                is_possible = true;
                own.weights[shape.head_number((batch, head)) * n + i] = weight;
                Zip::from(own.queries.slice_mut(s![batch, head, i, ..]))
                    .and(q.row(i))
                    .and(k.row(j))
                    .for_each(|into, &q, &k| *into = q * k);
            }
        }
        is_possible.then_some(own)
    }

    /// The queries that have a first key.
    fn rows(&self, shape: &Shape) -> Range<usize> {
        let first = (-self.by).max(0) as usize;
        let last = (shape.keys as i64 - self.by).clamp(0, shape.queries as i64) as usize;
        first.min(last)..last
    }

    /// First key of a query that has one.
    pub fn first_key(&self, query: usize) -> usize {
        (query as i64 + self.by) as usize
    }

    /// Rows over [B, H, N] that may have a first key, with their query and key rows.
    pub fn pairs<'s>(
        &'s self,
        shape: &Shape,
    ) -> impl Iterator<Item = (usize, (usize, usize), usize, usize)> + use<'s, T> {
        let (n, rows) = (shape.queries, self.rows(shape));
        let heads = shape.all_heads().enumerate();
        heads
            .flat_map(move |(number, head)| rows.clone().map(move |i| (number * n + i, head, i)))
            .filter(|(row, ..)| self.weights[*row] > T::neg_infinity())
            .map(|(row, head, i)| (row, head, i, self.first_key(i)))
    }

    /// Choice of the second key.
    pub fn problem<'p>(&'p self, of: &'p Pairs<T>, problem: &'p Problem<'_, T>) -> Problem<'p, T> {
        let shape = of.inner_shape(&problem.shape);
        let prior = SecondKeys {
            prior: &*problem.prior,
            first: &self.weights,
            window: of.windows[1],
            sizes: [shape.batch, shape.heads, shape.queries],
        };
        Problem {
            shape,
            prior: Box::new(prior),
            depends_on_nodes: None,
            potential: problem.potential,
            value: Value::Gather,
            q: Stored::Real(self.queries.view().into()),
            k: Stored::Real(of.keys.view().into()),
            engine: problem.engine,
        }
    }

    /// Finding over the pairs of this shift, from that over their second keys.
    pub fn finding(
        &self,
        of: &Pairs<T>,
        problem: &Problem<'_, T>,
        request: &Request<'_, T>,
        wanted: &Request<'_, T>,
        found: &Finding<T>,
    ) -> Finding<T> {
        let mut all = whole(request, &problem.shape);
        all.normalisers.clone_from(&found.normalisers);
        all.prior.clone_from(&found.prior);
        all.mass.clone_from(&found.mass);
        for (index, statistic) in request.linear.iter().enumerate() {
            match *statistic {
                Linear::LogProbability => {
                    let own = wanted.log_probability().expect("wanted as it was requested");
                    all.linear[index].values.clone_from(&found.linear[own].values);
                }
                Linear::LogRatio => {
                    let own = wanted.log_ratio().expect("wanted as it was requested");
                    all.linear[index].values.clone_from(&found.linear[own].values);
                }
                Linear::Value(table) => {
                    let width = request.width(table);
                    let second = second_means(of, found);
                    let into = &mut all.linear[index].values;
                    for (row, head, _, j) in self.pairs(&problem.shape) {
                        let p = found.mass[row];
                        let v = value(problem, request, table, head, j);
                        for c in 0..width {
                            let other = second.map_or(p, |second| second[row * width + c]);
                            into[row * width + c] = weighted(other, v[c]);
                        }
                    }
                }
                _ => unreachable!("other statistics are refused"),
            }
        }
        all
    }

    /// p(j | i) of the first keys of this shift, by row over [B, H, N].
    pub fn first_marginals(
        &self,
        of: &Pairs<T>,
        problem: &Problem<'_, T>,
        whole: &Finding<T>,
    ) -> Vec<(usize, T)> {
        let inner = self.problem(of, problem);
        let request = Request::new(&inner.shape);
        let found = of.step.find(&inner, &request, 0..inner.shape.keys, true);
        let found = found.expect("a pass over all keys");
        self.shares(problem, &found, whole).collect()
    }

    /// p(j | i), from the finding of a pass over second keys.
    pub fn shares<'s>(
        &'s self,
        problem: &Problem<'_, T>,
        found: &'s Finding<T>,
        whole: &'s Finding<T>,
    ) -> impl Iterator<Item = (usize, T)> + use<'s, T> {
        self.pairs(&problem.shape).map(|(row, ..)| {
            let (own, all) = (&found.normalisers, &whole.normalisers);
            let log_p = match own.log_z(row) {
                impossible if impossible == T::neg_infinity() => impossible,
                _ => (own.max[row] - all.max[row]) + (own.log_sum[row] - all.log_sum[row]),
            };
            (row, if log_p > T::zero() { T::one() } else { log_p.exp() })
        })
    }
}

/// The shifts at which a query may have a first key, with what each makes of the queries.
pub(super) fn shifts<'s, 'p, T: Real>(
    of: &Pairs<T>,
    problem: &'s Problem<'p, T>,
) -> impl Iterator<Item = Shift<T>> + use<'s, 'p, T> {
    let shape = &problem.shape;
    let (n, m) = (shape.queries as i64, shape.keys as i64);
    let lead = shape.query_offset - shape.key_offset;
    // Behind the query: shift = key − query in rows, distance = lead − shift.
    let all = match of.windows[0] {
        None => 1 - n..m,
        Some(window) => (lead - window as i64 + 1).max(1 - n)..(lead + 1).min(m),
    };
    all.filter_map(|by| Shift::new(problem, by))
}

/// A finding of all queries in which nothing is possible yet.
pub(super) fn whole<T: Real>(request: &Request<'_, T>, shape: &Shape) -> Finding<T> {
    let rows = shape.batch * shape.heads * shape.queries;
    let keys = shape.key_offset..shape.key_offset + shape.keys as i64;
    let mut finding = Finding::nothing(Merge::Mixture, request, (rows, rows), keys);
    finding.heads = shape.batch * shape.heads;
    finding
}

/// Statistics that a pass over the second keys is asked for.
pub(super) fn wanted<'v, T: Real>(
    of: &'v Pairs<T>,
    request: &Request<'_, T>,
    inner: &Shape,
) -> Request<'v, T> {
    let mut wanted = Request::new(inner);
    if let Some(values) = &of.values
        && request.linear.iter().any(|statistic| matches!(statistic, Linear::Value(_)))
    {
        let values = wanted.stored_values(Stored::Real(values.view().into()));
        wanted.linear(Linear::Value(values));
    }
    if request.log_probability().is_some() {
        wanted.linear(Linear::LogProbability);
    }
    if request.log_ratio().is_some() {
        wanted.linear(Linear::LogRatio);
    }
    if request.prior_normaliser {
        wanted.prior_log_partition();
    }
    wanted
}

/// E\[b's value | first key\] of every query, where second keys have values.
pub(super) fn second_means<'f, T: Real>(of: &Pairs<T>, found: &'f Finding<T>) -> Option<&'f [T]> {
    of.values.as_ref().map(|_| &*found.expectation(Handle(0)).values)
}

/// The value of a first key.
pub(super) fn value<T: Real>(
    problem: &Problem<'_, T>,
    request: &Request<'_, T>,
    table: usize,
    (batch, head): (usize, usize),
    key: usize,
) -> Vec<T> {
    let tensor = &request.values[table].tensor;
    let own = head * tensor.dim().1 / problem.shape.heads.max(1);
    tensor.rows((batch, own), key..key + 1).index_axis(Axis(0), 0).to_vec()
}

/// log w of one edge.
fn log_weight<T: Real>(prior: &dyn Prior<T>, block: &Block) -> T {
    match prior.coverage(block) {
        Coverage::Empty => T::neg_infinity(),
        Coverage::Free => T::zero(),
        Coverage::Weighted => {
            let mut weight = [T::zero()];
            prior.add_log_weights(block, TileMut::new(&mut weight, 1, 1, 1));
            weight[0]
        }
    }
}

/// Prior of the second key of a pair, its first key given: w_ij w_ik.
#[derive(Clone, Copy)]
struct SecondKeys<'p, T: Real> {
    prior: &'p dyn Prior<T>,
    /// log w_ij of every query, [B H N].
    first: &'p [T],
    window: Option<usize>,
    sizes: [usize; 3],
}

impl<T: Real> SecondKeys<'_, T> {
    /// Second keys within the window of a query.
    fn allowed(&self, block: &Block) -> impl Fn(usize) -> Range<usize> + use<T> {
        let (window, positions) = (self.window, block.positions);
        move |query| match window {
            None => 0..usize::MAX,
            Some(window) => {
                let last = query as i64 + positions.query_offset - positions.key_offset + 1;
                (last - window as i64).max(0) as usize..last.max(0) as usize
            }
        }
    }
}

impl<T: Real> Prior<T> for SecondKeys<'_, T> {
    fn name(&self) -> &'static str {
        self.prior.name()
    }

    fn add_log_weights(&self, block: &Block, mut scores: TileMut<'_, T>) {
        match self.prior.coverage(block) {
            Coverage::Weighted => self.prior.add_log_weights(block, scores.reborrow()),
            Coverage::Empty => {
                (0..scores.rows).for_each(|r| scores.row_mut(r).fill(T::neg_infinity()));
            }
            Coverage::Free => {}
        }
        let [_, heads, queries] = self.sizes;
        let first = (block.batch * heads + block.head) * queries;
        for (r, query) in block.queries.clone().enumerate() {
            let weight = self.first[first + query];
            for x in scores.row_mut(r) {
                // What is impossible stays so, whatever its score is.
                let is_possible = weight > T::neg_infinity() && *x != T::neg_infinity();
                *x = if is_possible { *x + weight } else { T::neg_infinity() };
            }
        }
        if self.window.is_some() {
            restrict(block, scores, self.allowed(block));
        }
    }

    fn coverage(&self, block: &Block) -> Coverage {
        match self.prior.coverage(block) {
            Coverage::Empty => Coverage::Empty,
            _ => Coverage::Weighted,
        }
    }

    fn live_keys(&self, block: &Block) -> Range<usize> {
        let own = self.prior.live_keys(block);
        let allowed = self.allowed(block);
        match (block.queries.clone().next(), block.queries.clone().last()) {
            (Some(first), Some(last)) => intersect(own, allowed(first).start..allowed(last).end),
            _ => own,
        }
    }

    fn parameters(&self) -> Vec<Parameter> {
        let [batch, heads, queries] = self.sizes;
        let mut all = self.prior.parameters();
        all.push(Parameter::scores(FIRST_WEIGHTS, [batch, heads, queries, 1]));
        all
    }

    fn accumulate_gradient(
        &self,
        block: &Block,
        gradient: Tile<'_, T>,
        into: &mut [Accumulator<'_, T>],
    ) {
        let (of_first, of_prior) = into.split_last_mut().expect("that of the first keys");
        of_first.add_tile(block, gradient);
        if !of_prior.is_empty() {
            self.prior.accumulate_gradient(block, gradient, of_prior);
        }
    }
}
