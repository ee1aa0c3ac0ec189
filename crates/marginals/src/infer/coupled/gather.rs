//! Posterior expectations, from the marginals of a head.

use ndarray::{Array2, ArrayView2};

use super::tables::blocks;
use super::{Coupled, Moments, State};
use crate::infer::Problem;
use crate::infer::finding::{Candidate, Extremes, Finding};
use crate::infer::statistic::{EdgeFunction, Extremal, Linear, Request};
use crate::{Real, Shape, TileMut, parallel};

/// Σ n x over the scores that count; one that does not leaves nothing, whatever it is.
pub(super) fn expected_score(expected: &[f64], scores: &[f64]) -> f64 {
    let counts = expected.iter().zip(scores).filter(|(n, _)| **n != 0.0);
    counts.map(|(n, x)| n * x).sum()
}

/// f(i, j) of every edge of a head.
pub(super) fn on_edges<T: Real>(
    problem: &Problem<'_, T>,
    head: (usize, usize),
    function: &dyn EdgeFunction<T>,
) -> Vec<f64> {
    let shape = &problem.shape;
    let mut all = Vec::with_capacity(shape.queries * shape.keys);
    let mut values = Vec::new();
    for block in blocks(problem, head) {
        values.clear();
        values.resize(block.queries.len() * shape.keys, T::zero());
        let tile = TileMut::new(&mut values, block.queries.len(), shape.keys, shape.keys);
        function.fill(&block, tile);
        all.extend(values.iter().map(|x| x.f64()));
    }
    all
}

/// The values that a head averages, of one table.
pub(super) fn values<T: Real>(
    problem: &Problem<'_, T>,
    request: &Request<'_, T>,
    table: usize,
    (batch, head): (usize, usize),
) -> Array2<f64> {
    let shape = &problem.shape;
    let tensor = &request.values[table].tensor;
    let own = head * tensor.dim().1 / shape.heads.max(1);
    tensor.rows((batch, own), 0..shape.keys).mapv(T::f64)
}

/// P V, where what is not finite takes part only where p is not 0.
pub(super) fn product(p: ArrayView2<'_, f64>, v: &Array2<f64>) -> Array2<f64> {
    let spoiled: Vec<usize> = (v.outer_iter().enumerate())
        .filter(|(_, row)| row.iter().any(|x| !x.is_finite()))
        .map(|(key, _)| key)
        .collect();
    if spoiled.is_empty() {
        return p.dot(v);
    }
    let mut clean = v.clone();
    spoiled.iter().for_each(|&key| clean.row_mut(key).fill(0.0));
    let mut all = p.dot(&clean);
    for &key in &spoiled {
        for (mut row, &p) in all.outer_iter_mut().zip(p.column(key)).filter(|(_, p)| **p != 0.0) {
            row.scaled_add(p, &v.row(key));
        }
    }
    all
}

/// The finding of a pass, from the moments of every factor.
pub(super) fn find<T: Real>(
    of: &Coupled<'_>,
    problem: &Problem<'_, T>,
    request: &Request<'_, T>,
    state: &State<'_>,
    tangents: &[(usize, Vec<Vec<f64>>)],
) -> Finding<T> {
    let shape = &problem.shape;
    let mut finding = Finding::of_sets(request, shape, of.per_head(shape));
    let split = |moments: &[Moments]| moments.iter().map(|m| T::of(m.log_partition)).collect();
    finding.normalisers.max = split(&state.moments);
    finding.prior.max = split(&state.prior);
    // Rounded to T, a log-partition would lose what it differs by from a score or the prior's.
    let prior = |factor: usize| state.prior.get(factor).map_or(0.0, |m| m.log_partition);
    let both = state.moments.iter().enumerate();
    finding.log_partitions = both.map(|(f, own)| [own.log_partition, prior(f)]).collect();
    if let Some(index) = request.log_probability() {
        let of_factor = |(moments, scores): (&Moments, &Vec<f64>)| match moments.log_partition {
            f64::NEG_INFINITY => T::zero(),
            log_z => T::of((expected_score(&moments.expected, scores) - log_z).min(0.0)),
        };
        let each = state.moments.iter().zip(&state.instances.scores);
        finding.linear[index].values = each.map(of_factor).collect();
    }
    if let Some(index) = request.log_ratio() {
        let ratios = log_ratios(of, problem, state);
        finding.linear[index].values = ratios.into_iter().map(T::of).collect();
    }
    let heads: Vec<_> = shape.all_heads().collect();
    let of_heads = parallel::map(heads.len(), &|number| {
        let marginals = state.marginals(of, shape, number);
        let p = ArrayView2::from_shape((shape.queries, shape.keys), &marginals);
        let p = p.expect("a number of every edge");
        let mass: Vec<f64> = p.outer_iter().map(|row| row.sum()).collect();
        let head = Head { place: heads[number], p, mass: &mass };
        let moved = |index: usize| {
            let own = tangents.iter().find(|(of, _)| *of == index);
            own.map(|(_, heads)| heads[number].as_slice())
        };
        let statistics: Vec<Vec<T>> = (request.linear.iter().enumerate())
            .map(|(index, statistic)| head.statistic(problem, request, statistic, moved(index)))
            .collect();
        (statistics, mass)
    });
    for (index, statistic) in request.linear.iter().enumerate() {
        if matches!(statistic, Linear::LogProbability | Linear::LogRatio) {
            continue;
        }
        finding.linear[index].values =
            of_heads.iter().flat_map(|(statistics, _)| statistics[index].iter().copied()).collect();
    }
    finding.mass = of_heads.iter().flat_map(|(_, mass)| mass.iter().map(|&m| T::of(m))).collect();
    for (into, wanted) in finding.extremal.iter_mut().zip(&request.extremal) {
        extremes(*wanted, state, shape, into);
    }
    finding.report.steps = 1;
    finding
}

/// E[log ψ] − log-evidence of every factor; never negative.
fn log_ratios<T: Real>(of: &Coupled<'_>, problem: &Problem<'_, T>, state: &State<'_>) -> Vec<f64> {
    let shape = &problem.shape;
    let log_potentials: Vec<Vec<f64>> = (state.tables.iter())
        .map(|table| table.scores.iter().zip(&table.weights).map(|(x, w)| x - w).collect())
        .collect();
    let mut log_potentials = of.instances(shape, log_potentials.iter());
    let own = log_potentials.own;
    let all = log_potentials.scores.iter_mut().zip(&*state.moments).zip(&*state.prior);
    all.map(|((log_potentials, moments), prior)| {
        if moments.log_partition == f64::NEG_INFINITY {
            return 0.0;
        }
        // What is the structure's own is in the prior too.
        let edges = log_potentials.len() - own;
        let expected = expected_score(&moments.expected[..edges], &log_potentials[..edges]);
        let ratio = expected - (moments.log_partition - prior.log_partition);
        if ratio < 0.0 { 0.0 } else { ratio }
    })
    .collect()
}

/// Posterior of one head.
struct Head<'m> {
    place: (usize, usize),
    p: ArrayView2<'m, f64>,
    mass: &'m [f64],
}

impl Head<'_> {
    /// A statistic of every query; of factors, nothing.
    fn statistic<T: Real>(
        &self,
        problem: &Problem<'_, T>,
        request: &Request<'_, T>,
        statistic: &Linear<'_, T>,
        moved: Option<&[f64]>,
    ) -> Vec<T> {
        let in_rows = |all: Array2<f64>| all.into_iter().map(T::of).collect();
        match statistic {
            Linear::LogProbability | Linear::LogRatio => Vec::new(),
            Linear::Value(table) => {
                in_rows(product(self.p, &values(problem, request, *table, self.place)))
            }
            Linear::Edge(function) => {
                let f = on_edges(problem, self.place, &**function);
                let rows = f.chunks_exact(self.p.ncols().max(1)).zip(self.p.outer_iter());
                let sums = rows.map(|(f, p)| {
                    let counts = p.iter().zip(f).filter(|(p, _)| **p != 0.0);
                    T::of(counts.map(|(p, f)| p * f).sum::<f64>())
                });
                let mut sums: Vec<T> = sums.collect();
                sums.resize(self.p.nrows(), T::zero());
                sums
            }
            Linear::ValueVariance(table) => {
                in_rows(self.variance(&values(problem, request, *table, self.place)))
            }
            Linear::Covariance(function, table) => {
                let f = on_edges(problem, self.place, &**function);
                in_rows(self.covariance(&f, &values(problem, request, *table, self.place)))
            }
            Linear::Tangent(_, table) => {
                let moved = moved.expect("tangents are found before they are averaged");
                let moved = ArrayView2::from_shape(self.p.dim(), moved);
                let moved = moved.expect("a number of every edge");
                in_rows(product(moved, &values(problem, request, *table, self.place)))
            }
        }
    }

    /// Var = Σ p (v − m)² + P(no edge) m², of queries with one edge at most.
    fn variance(&self, v: &Array2<f64>) -> Array2<f64> {
        let means = product(self.p, v);
        let mut all = Array2::zeros(means.raw_dim());
        for ((mut row, mean), (p, mass)) in
            all.outer_iter_mut().zip(means.outer_iter()).zip(self.p.outer_iter().zip(self.mass))
        {
            let none = (1.0 - mass).max(0.0);
            row.iter_mut().zip(&mean).for_each(|(x, m)| *x = none * m * m);
            for (&p, v) in p.iter().zip(v.outer_iter()).filter(|(p, _)| **p != 0.0) {
                let entries = row.iter_mut().zip(v.iter().zip(&mean));
                entries.for_each(|(x, (v, m))| *x += p * (v - m) * (v - m));
            }
        }
        all
    }

    /// Σ p (f − E[f])(v − m) + P(no edge) E[f] m, likewise.
    fn covariance(&self, f: &[f64], v: &Array2<f64>) -> Array2<f64> {
        let means = product(self.p, v);
        let mut all = Array2::zeros(means.raw_dim());
        let keys = self.p.ncols();
        for (i, mut row) in all.outer_iter_mut().enumerate() {
            let (p, mean, f) = (self.p.row(i), means.row(i), &f[i * keys..][..keys]);
            let counts = || p.iter().zip(f).enumerate().filter(|(_, (p, _))| **p != 0.0);
            let of_f: f64 = counts().map(|(_, (p, f))| p * f).sum();
            let none = (1.0 - self.mass[i]).max(0.0);
            row.iter_mut().zip(&mean).for_each(|(x, m)| *x = none * of_f * m);
            for (j, (p, f)) in counts() {
                let entries = row.iter_mut().zip(v.row(j).into_iter().zip(&mean));
                entries.for_each(|(x, (v, m))| *x += p * (f - of_f) * (v - m));
            }
        }
        all
    }
}

/// Highest or lowest score of every query.
fn extremes<T: Real>(wanted: Extremal, state: &State<'_>, shape: &Shape, into: &mut Extremes<T>) {
    let keys = shape.keys.max(1);
    let rows = || state.tables.iter().flat_map(|table| table.scores.chunks_exact(keys));
    let candidate = |(index, &score): (usize, &f64)| Candidate {
        score: T::of(score),
        index: index as i64 + shape.key_offset,
    };
    let (edges, sign) = match (wanted, into) {
        (Extremal::Highest, Extremes::Highest(edges)) => (edges, 1.0),
        (Extremal::Lowest, Extremes::Lowest(edges)) => (edges, -1.0),
        // Best choices and draws are of factors, and are refused.
        _ => return,
    };
    for (edge, row) in edges.iter_mut().zip(rows()) {
        let mut best: Option<(usize, &f64)> = None;
        for (index, score) in row.iter().enumerate().filter(|(_, x)| **x > f64::NEG_INFINITY) {
            if best.is_none_or(|(_, known)| sign * score > sign * known) {
                best = Some((index, score));
            }
        }
        if let Some(best) = best {
            *edge = candidate(best);
        }
    }
}
