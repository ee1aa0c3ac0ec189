//! Slopes turned into what the tiles multiply by.

use std::borrow::Cow;

use marginals_kernels::{InstructionSet, Tile, dot_rows};
use rayon::prelude::*;

use super::super::centre::centre;
use super::super::rule::Rule;
use super::super::second_pass::Known;
use crate::infer::Problem;
use crate::infer::finding::{Expectation, Finding, Merge, Normalisers, at};
use crate::infer::slopes::Slopes;
use crate::infer::statistic::{EdgeFunction, Linear, Request};
use crate::{Real, Shape, parallel};

/// Coefficients of the values of one table, by query and coordinate; lists are empty where nothing
/// does.
pub(super) struct TableSlopes<'a, T: Clone> {
    /// Numbers per value.
    pub width: usize,
    /// On v.
    pub plain: Cow<'a, [T]>,
    /// On v − r, for the variance.
    pub apart: Vec<T>,
    /// On (v − r)².
    pub squares: Cow<'a, [T]>,
    /// Covariances with functions of edges.
    pub products: Vec<Product<'a, T>>,
    /// r of every batch entry and set of values.
    pub references: Vec<Vec<T>>,
}

/// A covariance of a function s of edges and the values of a table,
///
/// ```text
/// f_ij = (s_ij − E_i[s]) Σ_c g_ic (v_jc − E_i[v_c]) − a constant of the query,
/// ```
///
/// by query. Where edges vary one by one there are no means: f_ij = s_ij Σ_c g_ic v_jc, times 1 − 2p.
pub(super) struct Product<'a, T: Clone> {
    pub function: &'a dyn EdgeFunction<T>,
    /// g.
    pub slopes: Cow<'a, [T]>,
    /// E\[s\] less what the function has taken out of itself; empty where edges vary one by one.
    pub edge_means: Vec<T>,
    /// Σ_c g_c (E\[v_c\] − r_c). Empty likewise.
    pub means: Vec<T>,
    /// E\[s\] Σ_c g_c E\[v_c\] where what is gathered is in a scale of its own, so that f of no edge is 0;
    /// 0 elsewhere. Empty likewise.
    pub constants: Vec<T>,
}

impl<T: Real> TableSlopes<'_, T> {
    /// Whether values about a reference are needed.
    pub fn is_centred(&self) -> bool {
        !(self.squares.is_empty() && self.products.is_empty())
    }

    pub fn is_used(&self) -> bool {
        !(self.plain.is_empty() && self.squares.is_empty() && self.products.is_empty())
    }
}

/// Coefficients of f in tiles, flat; those of factors over [B, H, factors], those of queries over
/// [B, H, N].
pub(super) struct Coefficients<'a, T: Real> {
    /// On log p in f. By factor; empty when not asked.
    pub log_p: Vec<T>,
    /// On log Z: what multiplies p itself. By factor.
    pub partition: Vec<T>,
    /// The KL's, on −log w in f. By factor; empty when not asked.
    pub ratio: Vec<T>,
    /// On log Z(log w) alone, by factor; empty when not asked.
    pub evidence: Cow<'a, [T]>,
    /// Coefficients of the prior's own marginals π. By factor; empty likewise.
    pub prior: Vec<T>,
    /// On log P(no edge). By factor; empty when not asked.
    pub log_none: Vec<T>,
    /// By table.
    pub tables: Vec<TableSlopes<'a, T>>,
    /// On functions of the edge. By query; empty when not asked.
    pub edges: Vec<(&'a dyn EdgeFunction<T>, Cow<'a, [T]>)>,
    /// On p itself, by query; empty when not asked.
    pub mass: Cow<'a, [T]>,
    /// On the column mass, [B, H, M]; empty when not asked.
    pub column: Cow<'a, [T]>,
    /// On p_ij, [B, H, N, M]; empty when not asked.
    pub marginals: Cow<'a, [T]>,
    /// E_i[f] of queries that choose, less what multiplies p whatever the edge. Empty elsewhere.
    pub centre: Vec<T>,
    /// E_i[f] alone.
    pub expected: Vec<T>,
    /// f of having no edge, its terms in log p and log w apart. Empty where it is 0.
    pub none: Vec<T>,
    /// Normalisers by factor, of −∞ where a query takes no part in the loss.
    pub normalisers: Normalisers<T>,
}

/// `sums[i] += Σ_c weights[i, c] · values[i, c]`, by every thread. A weight of 0 leaves nothing.
fn add_dots<T: Real>(weights: &[T], values: &[T], sums: &mut [T]) {
    const ROWS: usize = 512;
    if weights.is_empty() || sums.is_empty() {
        return;
    }
    let set = InstructionSet::detect();
    let width = weights.len() / sums.len();
    let size = ROWS * width.max(1);
    let rows = weights.par_chunks(size).zip(values.par_chunks(size));
    sums.par_chunks_mut(ROWS).zip(rows).for_each(|(sums, (weights, values))| {
        let tile = |data| Tile::new(data, sums.len(), width, width);
        let (weights, values) = (tile(weights), tile(values));
        dot_rows(set, weights, values, sums);
    });
}

/// g x, where a gradient of 0 leaves nothing whatever x is.
fn times<T: Real>(gradient: T, x: T) -> T {
    if gradient == T::zero() { gradient } else { gradient * x }
}

/// Numbers near the values of a table, of every batch entry and set.
fn references<T: Real>(
    problem: &Problem<'_, T>,
    request: &Request<'_, T>,
    table: usize,
) -> Vec<Vec<T>> {
    let tensor = &request.values[table].tensor;
    let (batch, sets, keys, _) = tensor.dim();
    parallel::map(batch * sets, &|index| {
        let (batch, set) = (index / sets, index % sets);
        // A query head that averages this set.
        let head = (batch, set * problem.shape.heads / sets);
        centre(problem, head, 0..keys, &tensor.rows((batch, set), 0..keys))
    })
}

/// Index of the set of values that a query averages, counted over all heads and batch entries; there
/// are `sets` in all.
fn set_of(shape: &Shape, sets: usize, query: usize) -> usize {
    let head = query / shape.queries.max(1);
    let (heads, sets) = (shape.heads.max(1), sets / shape.batch.max(1));
    head / heads * sets + head % heads * sets / heads
}

/// Sums of E\[f\] and of f of no edge, by query.
struct Terms<'t, T> {
    expected: &'t mut [T],
    none: &'t mut Vec<T>,
}

impl<T: Real> TableSlopes<'_, T> {
    /// Makes the values relative to references.
    fn centre(
        &mut self,
        problem: &Problem<'_, T>,
        request: &Request<'_, T>,
        table: usize,
        finding: &Finding<T>,
    ) {
        if !self.references.is_empty() {
            return;
        }
        self.references = references(problem, request, table);
        if !finding.log_scale.is_empty() {
            // No edge has value 0, and nearly all the mass: about 0 it has no part.
            self.references.iter_mut().for_each(|r| r.fill(T::zero()));
        }
    }
}

impl<T: Real> Product<'_, T> {
    /// Takes f about the means of both, and adds what that makes of its expectation.
    fn centre(
        &mut self,
        problem: &Problem<'_, T>,
        (finding, found): (&Finding<T>, &Expectation<T>),
        references: &[Vec<T>],
        into: &mut Terms<'_, T>,
    ) {
        let shape = &problem.shape;
        let queries = shape.batch * shape.heads * shape.queries;
        let mut own_references = vec![T::zero(); queries];
        for (head, own) in
            shape.all_heads().zip(own_references.chunks_exact_mut(shape.queries.max(1)))
        {
            self.function.references(&shape.block(head, 0..shape.queries, 0..0), own);
        }
        let width = self.slopes.len() / queries.max(1);
        let table_of = |i: usize| &references[set_of(shape, references.len(), i)];
        into.none.resize(queries, T::zero());
        for (i, own_reference) in own_references.into_iter().enumerate() {
            let about = About::new(finding, i);
            let row = i * width..(i + 1) * width;
            let (mut means, mut apart, mut covariances) = (T::zero(), T::zero(), T::zero());
            let entries = self.slopes[row.clone()].iter().zip(table_of(i));
            for ((&g, &r), c) in entries.zip(row) {
                let (mean, reference) = (found.means[c], found.references[c]);
                means += times(g, about.edges * (mean + reference));
                apart += times(g, about.mean_less(r, mean, reference));
                covariances += times(g, found.values[c]);
            }
            let (edge_mean, reference) = (found.edge_means[i], found.edge_references[i]);
            // An impossible query has no reference that is a number.
            self.edge_means.push(match about.mass == T::zero() {
                true => T::zero(),
                false => about.mean_less(own_reference, edge_mean, reference),
            });
            self.means.push(apart);
            let edge_mean = edge_mean + reference;
            let constant = times(about.edges * edge_mean, means);
            if at(&finding.log_scale, i) == T::zero() {
                self.constants.push(T::zero());
                into.expected[i] += covariances;
                into.none[i] += constant;
            } else {
                self.constants.push(constant);
                into.expected[i] += covariances - times(about.mass * edge_mean, means);
            }
        }
    }
}

/// Probabilities that turn means given that a query has an edge into means.
struct About<T> {
    /// P(edge), in the scale of what is gathered.
    mass: T,
    /// P(edge).
    edges: T,
    /// P(no edge).
    missing: T,
}

impl<T: Real> About<T> {
    fn new(finding: &Finding<T>, query: usize) -> Self {
        let mass = finding.mass[query];
        Self {
            mass,
            edges: mass * at(&finding.log_scale, query).exp(),
            missing: finding.log_none.get(query).map_or(T::zero(), |none| none.exp()),
        }
    }

    /// The mean m less r, from what is small of both: the mean over edges alone, or what having none takes
    /// away. `mean` is less `reference`.
    fn mean_less(&self, r: T, mean: T, reference: T) -> T {
        match self.edges < self.missing {
            true => self.edges * (mean + reference) - r,
            false => self.edges * mean + (reference - r) - self.missing * reference,
        }
    }
}

impl<'a, T: Real> Coefficients<'a, T> {
    pub fn new(
        rule: &Rule<'_, T>,
        problem: &Problem<'_, T>,
        request: &'a Request<'_, T>,
        finding: &Finding<T>,
        slopes: &'a Slopes<'_, T>,
    ) -> Self {
        let shape = &problem.shape;
        let factors = finding.factors();
        let queries = shape.batch * shape.heads * shape.queries;
        let (rows, many_edges) = match rule {
            Rule::Rows(rule) => (true, rule.has_many_edges()),
            Rule::Columns(_) => (false, true),
        };
        let choosing = rows && !many_edges;

        let of = |index: Option<usize>| index.map_or(&[][..], |index| &*slopes.linear[index]);
        let entropy = of(request.log_probability());
        let kl = of(request.log_ratio());
        let over = |n: usize, asked: bool, f: &dyn Fn(usize) -> T| -> Vec<T> {
            if asked { (0..n).map(f).collect() } else { Vec::new() }
        };
        let asked = |list: &[T]| !list.is_empty();
        let log_p = over(factors, asked(entropy) || asked(kl), &|r| at(entropy, r) + at(kl, r));
        let partition = over(factors, true, &|r| at(&slopes.log_partition, r));
        let evidence = &*slopes.prior_log_partition;
        let prior = over(factors, asked(kl) || asked(evidence), &|r| at(kl, r) + at(evidence, r));

        let mut tables: Vec<TableSlopes<'a, T>> = (0..request.values.len())
            .map(|table| TableSlopes {
                width: request.width(table),
                plain: Cow::Borrowed(&[]),
                apart: Vec::new(),
                squares: Cow::Borrowed(&[]),
                products: Vec::new(),
                references: Vec::new(),
            })
            .collect();
        let mut edges = Vec::new();
        let mut expected = vec![T::zero(); if rows { queries } else { 0 }];
        let mut none = Vec::new();
        for (index, statistic) in request.linear.iter().enumerate() {
            let own = &*slopes.linear[index];
            if !asked(own) {
                continue;
            }
            let found = &finding.linear[index];
            match *statistic {
                Linear::LogProbability | Linear::LogRatio | Linear::Tangent(..) => {}
                Linear::Value(table) => {
                    add_dots(own, &found.values, &mut expected);
                    tables[table].plain = Cow::Borrowed(own);
                }
                Linear::Edge(ref function) => {
                    add_dots(own, &found.values, &mut expected);
                    edges.push((&**function as &dyn EdgeFunction<T>, Cow::Borrowed(own)));
                }
                Linear::Covariance(ref function, table) => {
                    let mut product = Product {
                        function: &**function,
                        slopes: Cow::Borrowed(own),
                        edge_means: Vec::new(),
                        means: Vec::new(),
                        constants: Vec::new(),
                    };
                    if choosing {
                        tables[table].centre(problem, request, table, finding);
                        let mut terms = Terms { expected: &mut expected, none: &mut none };
                        let references = &tables[table].references;
                        product.centre(problem, (finding, found), references, &mut terms);
                    }
                    tables[table].products.push(product);
                }
                Linear::ValueVariance(table) => {
                    let into = &mut tables[table];
                    into.squares = Cow::Borrowed(own);
                    if !choosing {
                        continue;
                    }
                    // Var = E[(v − r)²] − (m − r)²: the second term is linear in p too.
                    into.centre(problem, request, table, finding);
                    let width = request.width(table).max(1);
                    into.apart = vec![T::zero(); own.len()];
                    // No edge has value 0: (0 − r)² − 2 (m − r)(0 − r).
                    none.resize(queries, T::zero());
                    for i in 0..queries {
                        let set = set_of(shape, into.references.len(), i);
                        let mut sum = T::zero();
                        let about = About::new(finding, i);
                        for c in 0..width {
                            let index = i * width + c;
                            let (g, r) = (own[index], into.references[set][c]);
                            let (own_mean, reference) =
                                (found.means[index], found.references[index]);
                            let mean = about.mass * (own_mean + reference);
                            let apart = about.mean_less(r, own_mean, reference);
                            let both = times(g, apart);
                            into.apart[index] = -(both + both);
                            // (m − r)², in the scale of the variance.
                            let square = if r == T::zero() { mean * apart } else { apart * apart };
                            sum += times(g, found.values[index] - square);
                            none[i] += times(g, r * (mean + apart));
                        }
                        expected[i] += sum;
                    }
                }
            }
        }

        let mut centre = Vec::new();
        let mut normalisers = finding.normalisers.clone();
        let known = Known { rule, problem, normalisers: &finding.normalisers };
        if rows {
            let more = |expected: &mut Vec<T>, sums: Vec<T>| {
                expected.iter_mut().zip(sums).for_each(|(x, sum)| *x += sum);
            };
            if asked(&slopes.column_mass) && !many_edges {
                more(&mut expected, known.expected_over_keys(&slopes.column_mass));
            }
            if asked(&slopes.marginals) && !many_edges {
                more(&mut expected, known.expected_over_edges(&slopes.marginals));
            }
            // With a scale, what is gathered is not weighted by p itself.
            let constant = rule.merge() == Merge::Mixture && finding.log_scale.is_empty();
            for (i, expected) in expected.iter_mut().enumerate() {
                let mut sum = *expected;
                sum += times(at(&slopes.mass, i), finding.mass[i]);
                if let Some(index) = request.log_probability() {
                    sum += times(at(entropy, i), finding.linear[index].values[i]);
                }
                if let Some(index) = request.log_ratio() {
                    // E[log p − (log w − its largest)].
                    let ratio = finding.linear[index].values[i] - finding.prior.log_sum[i];
                    sum += times(at(kl, i), ratio);
                }
                *expected = sum;
            }
            // What multiplies p whatever the edge is in the centre already.
            let of_row = |i: usize| {
                let mass = if constant { at(&slopes.mass, i) } else { T::zero() };
                expected[i] - partition[i] + at(&slopes.log_none, i) - mass
            };
            centre = over(queries, true, &of_row);
        }
        for factor in idle(&known, request, finding, slopes) {
            normalisers.max[factor] = T::neg_infinity();
        }
        Self {
            log_p,
            partition,
            ratio: kl.to_vec(),
            evidence: Cow::Borrowed(evidence),
            prior,
            log_none: slopes.log_none.to_vec(),
            tables,
            edges,
            mass: Cow::Borrowed(&slopes.mass),
            column: Cow::Borrowed(&slopes.column_mass),
            marginals: Cow::Borrowed(&slopes.marginals),
            centre,
            expected,
            none,
            normalisers,
        }
    }
}

/// Factors that take no part in the loss: every slope that concerns them, or an edge that they may pick,
/// is 0. What their nodes hold may be anything.
fn idle<T: Real>(
    known: &Known<'_, '_, T>,
    request: &Request<'_, T>,
    finding: &Finding<T>,
    slopes: &Slopes<'_, T>,
) -> Vec<usize> {
    let shape = &known.problem.shape;
    let (factors, queries) = (finding.factors(), shape.batch * shape.heads * shape.queries);
    // A query of garbage has no mass that is a number. Only then is it looked for edge by edge.
    let is_spoiled = finding.mass.iter().any(|mass| mass.is_nan());
    let by_key = matches!(known.rule, Rule::Columns(_));
    // A merged finding may be of more keys than are held here.
    if by_key && !(is_spoiled && factors == shape.batch * shape.heads * shape.keys) {
        return Vec::new();
    }
    let is_zero = |list: &[T]| list.iter().all(|&g| g == T::zero());
    // Which of `count` rows have slopes of 0 alone.
    let spared = |lists: &[&[T]], count: usize| {
        let mut spared = vec![true; count];
        for list in lists.iter().filter(|list| !list.is_empty() && count > 0) {
            let width = list.len() / count;
            for (spared, row) in spared.iter_mut().zip(list.chunks_exact(width.max(1))) {
                *spared &= is_zero(row);
            }
        }
        spared
    };
    let (mut of_factors, mut of_queries): (Vec<&[T]>, Vec<&[T]>) = (
        vec![&slopes.log_partition, &slopes.prior_log_partition, &slopes.log_none],
        vec![&slopes.mass],
    );
    for (index, list) in slopes.linear.iter().enumerate() {
        match request.is_of_factors(index) {
            true => of_factors.push(list),
            false => of_queries.push(list),
        }
    }
    let (column, marginals) = (&*slopes.column_mass, &*slopes.marginals);
    let of_edge = |head: usize, i: usize, j: usize| {
        let of_column = !column.is_empty() && column[head * shape.keys + j] != T::zero();
        let own = (head * shape.queries + i) * shape.keys + j;
        of_column || (!marginals.is_empty() && marginals[own] != T::zero())
    };
    let by_query = spared(&of_queries, queries);
    let mut idle = spared(&of_factors, factors);
    if !by_key {
        idle.iter_mut().zip(&by_query).for_each(|(idle, spared)| *idle &= spared);
    }
    if is_spoiled && (by_key || !(column.is_empty() && marginals.is_empty())) {
        let matters = |head: usize, i: usize, j: usize| {
            (by_key && !by_query[head * shape.queries + i]) || of_edge(head, i, j)
        };
        idle.iter_mut().zip(known.picks(matters)).for_each(|(idle, picks)| *idle &= !picks);
    } else {
        let by_edges = spared(&[marginals], queries);
        idle.iter_mut().zip(by_edges).for_each(|(idle, spared)| *idle &= spared);
        for (head, own) in column.chunks_exact(shape.keys.max(1)).enumerate() {
            if !is_zero(own) {
                idle[head * shape.queries..][..shape.queries].fill(false);
            }
        }
    }
    (0..factors).filter(|&factor| idle[factor]).collect()
}
