//! Passes over the scores that sum by query and by key at once.
//!
//! A block of queries with all keys is scored once. Its rows are normalised, and what every query gives
//! is added up by key, before the block is left: one exponential an edge does a whole step of Sinkhorn's.
//! Memory is that of a block and of the sums, O(N + M).

use std::ops::Range;

use marginals_kernels::{InstructionSet, OnlineRows, TileMut, add_log_weights, online_rows};
use ndarray::{CowArray, Ix2};

use super::margins::{Head, Margins};
use crate::infer::Problem;
use crate::infer::coupled::tables::{NodeFeatures, features};
use crate::infer::streaming::{Scorer, TASKS};
use crate::prior::Coverage;
use crate::{Real, parallel};

/// Most numbers of a block, so that it stays in the cache.
const BLOCK: usize = 1 << 16;
/// Most queries of one.
const ROWS: usize = 64;
/// Shares of a key's mass below which it is summed with care.
const SMALL: f64 = 1e-20;

/// Inputs of sweeps over the heads of a problem, made once.
pub(super) struct Sweep<'s, 'p, T: Real> {
    problem: &'s Problem<'p, T>,
    margins: &'s Margins,
    nodes: &'s [NodeFeatures<'s, T>],
    heads: Vec<(usize, usize)>,
}

/// Rows of nodes, converted where they are not in the computing type.
pub(super) type Raw<'r, T> = Vec<(CowArray<'r, T, Ix2>, CowArray<'r, T, Ix2>)>;

/// The queries and keys of every head.
pub(super) fn raw<'r, T: Real>(problem: &'r Problem<'_, T>) -> Raw<'r, T> {
    let shape = &problem.shape;
    let of_head = |(batch, head): (usize, usize)| {
        let q = problem.q.rows((batch, head), 0..shape.queries);
        (q, problem.k.rows((batch, shape.key_head(head)), 0..shape.keys))
    };
    shape.all_heads().map(of_head).collect()
}

/// Features of the queries and keys of every head.
pub(super) fn prepared<'r, T: Real>(
    problem: &'r Problem<'_, T>,
    raw: &'r Raw<'_, T>,
) -> Vec<NodeFeatures<'r, T>> {
    let each = problem.shape.all_heads().zip(raw);
    each.map(|(head, (q, k))| features(problem, head, (q.view(), k.view()))).collect()
}

/// Sums of one head under key biases x, with P the plan of those biases and the queries' masses.
#[derive(Clone, Debug)]
pub(super) struct Sums {
    /// log Σ_j e^(θ_ij + x_j) of every query.
    pub log_sums: Vec<f64>,
    /// log Σ_i P_ij of every key.
    pub log_columns: Vec<f64>,
}

/// Sums of one task.
#[derive(Clone, Default)]
struct Part {
    by_query: Vec<f64>,
    by_key: Vec<f64>,
    /// Largest terms of sums that are kept relative to them.
    largest: Vec<f64>,
}

/// Operation on a block of a head's queries, whose scores lie in the room.
type Task<'t, T> = dyn Fn(usize, Range<usize>, &mut Room<T>, &mut Part) + Sync + 't;

impl<'s, 'p, T: Real> Sweep<'s, 'p, T> {
    pub fn new(
        problem: &'s Problem<'p, T>,
        margins: &'s Margins,
        nodes: &'s [NodeFeatures<'s, T>],
    ) -> Self {
        Self { problem, margins, nodes, heads: problem.shape.all_heads().collect() }
    }

    /// Masses of one head.
    pub fn masses(&self, head: usize) -> Head<'s> {
        let shape = &self.problem.shape;
        self.margins.head(head, shape.queries, shape.keys)
    }

    /// Number of heads.
    pub fn heads(&self) -> usize {
        self.heads.len()
    }

    /// Runs `task` on blocks of queries with all keys of some heads, each with its scores θ + x; the parts of
    /// a head come back in order.
    fn blocks(&self, heads: &[usize], biases: &[Vec<f64>], task: &Task<'_, T>) -> Vec<Vec<Part>> {
        let shape = &self.problem.shape;
        let (n, m) = (shape.queries, shape.keys);
        let rows = (BLOCK / m.max(1)).clamp(1, ROWS);
        // As many tasks as keep threads busy; each has sums over all keys.
        let chunks = TASKS.div_ceil(heads.len().max(1)).min(n.div_ceil(rows)).max(1);
        let chunk = n.div_ceil(chunks).next_multiple_of(rows);
        let narrow: Vec<Vec<T>> =
            heads.iter().map(|&h| biases[h].iter().map(|&x| T::of(x)).collect()).collect();
        let parts = parallel::map(heads.len() * chunks, &|number| {
            let (place, first) = (number / chunks, number % chunks * chunk);
            let mut room = Room::new(rows.min(n), m);
            let mut part = Part::default();
            let last = n.min(first + chunk);
            let head = heads[place];
            for first in (first..last).step_by(rows) {
                let queries = first..(first + rows).min(last);
                self.score(head, queries.clone(), &narrow[place], &mut room);
                task(head, queries, &mut room, &mut part);
            }
            part
        });
        let mut parts = parts.into_iter();
        heads.iter().map(|_| parts.by_ref().take(chunks).collect()).collect()
    }

    /// θ + x of a block.
    fn score(&self, head: usize, queries: Range<usize>, biases: &[T], room: &mut Room<T>) {
        let shape = &self.problem.shape;
        let block = shape.block(self.heads[head], queries, 0..shape.keys);
        room.rows = block.queries.len();
        if shape.keys == 0 {
            return;
        }
        let coverage = self.problem.prior.coverage(&block);
        if coverage == Coverage::Empty {
            room.scores.fill(T::neg_infinity());
            return;
        }
        let scorer = Scorer { prior: &*self.problem.prior, potential: self.problem.potential };
        let nodes = (&self.nodes[head].q, &self.nodes[head].k);
        scorer.fill(&block, coverage, nodes, room.tile(), None, None);
        add_log_weights(InstructionSet::detect(), room.tile(), |_| biases);
    }

    /// Sums under key biases, by head.
    pub fn sums(&self, heads: &[usize], biases: &[Vec<f64>]) -> Vec<Sums> {
        let set = InstructionSet::detect();
        let keys = self.problem.shape.keys;
        let parts = self.blocks(heads, biases, &|head, queries, room, part| {
            part.by_key.resize(keys, 0.0);
            room.normalise();
            let masses = self.masses(head);
            room.columns.fill(T::zero());
            for (r, query) in queries.enumerate() {
                let log_sum = room.log_sum(r);
                part.by_query.push(log_sum);
                let row = masses.row(query, log_sum);
                // P_ij = e^(θ + x − log Σ) times the mass.
                let weight = T::of(row.mass / room.sum[r].f64());
                if row.mass > 0.0 {
                    let from = &room.scores[r * keys..][..keys];
                    let into = &mut room.columns;
                    set.run(
                        #[inline(always)]
                        || into.iter_mut().zip(from).for_each(|(x, &e)| *x += weight * e),
                    );
                }
            }
            part.by_key.iter_mut().zip(&room.columns).for_each(|(sum, x)| *sum += x.f64());
        });
        let of_head = |parts: Vec<Part>| {
            let mut columns = vec![0.0; keys];
            let mut log_sums = Vec::with_capacity(self.problem.shape.queries);
            for part in parts {
                log_sums.extend(part.by_query);
                columns.iter_mut().zip(part.by_key).for_each(|(sum, x)| *sum += x);
            }
            Sums { log_sums, log_columns: columns.into_iter().map(f64::ln).collect() }
        };
        let mut all: Vec<Sums> = parts.into_iter().map(of_head).collect();
        let careless: Vec<usize> = (0..heads.len())
            .filter(|&place| {
                let masses = self.masses(heads[place]);
                let columns = masses.keys.iter().zip(&all[place].log_columns);
                columns.into_iter().any(|(&own, &c)| own > 0.0 && c < (own * SMALL).ln())
            })
            .collect();
        if !careless.is_empty() {
            let again: Vec<usize> = careless.iter().map(|&place| heads[place]).collect();
            let log_sums = careless.iter().map(|&place| all[place].log_sums.clone()).collect();
            let columns = self.careful_columns(&again, biases, log_sums);
            for (place, columns) in careless.into_iter().zip(columns) {
                all[place].log_columns = columns;
            }
        }
        all
    }

    /// log Σ_i P_ij of every key, each relative to its largest term: for keys of which exponentials leave nothing.
    fn careful_columns(
        &self,
        heads: &[usize],
        biases: &[Vec<f64>],
        log_sums: Vec<Vec<f64>>,
    ) -> Vec<Vec<f64>> {
        let keys = self.problem.shape.keys;
        let parts = self.blocks(heads, biases, &|head, queries, room, part| {
            part.by_key.resize(keys, 0.0);
            part.largest.resize(keys, f64::NEG_INFINITY);
            let masses = self.masses(head);
            let place = heads.iter().position(|&own| own == head).expect("a head of these");
            for (r, query) in queries.enumerate() {
                let log_sum = log_sums[place][query];
                let row = masses.row(query, log_sum);
                if row.log_mass == f64::NEG_INFINITY {
                    continue;
                }
                let scores = room.scores[r * keys..][..keys].iter();
                for ((score, sum), largest) in scores.zip(&mut part.by_key).zip(&mut part.largest) {
                    add_exponential((sum, largest), score.f64() - log_sum + row.log_mass, 1.0);
                }
            }
        });
        let of_head = |parts: Vec<Part>| {
            let (mut sums, mut largest) = (vec![0.0; keys], vec![f64::NEG_INFINITY; keys]);
            for part in parts {
                let each = part.by_key.into_iter().zip(part.largest);
                for ((sum, most), (own, at)) in sums.iter_mut().zip(&mut largest).zip(each) {
                    add_exponential((sum, most), at, own);
                }
            }
            sums.into_iter().zip(largest).map(|(sum, at): (f64, f64)| at + sum.ln()).collect()
        };
        parts.into_iter().map(of_head).collect()
    }

    /// Σ_j p_ij y_j of every query, p being P over the query's mass, and Σ_i P_ij z_i of every key, where z is
    /// what `back` makes of a query and its first sum.
    pub fn products(
        &self,
        heads: &[usize],
        (biases, vectors): (&[Vec<f64>], &[Vec<f64>]),
        back: &(dyn Fn(usize, usize, f64, f64) -> f64 + Sync),
    ) -> Vec<(Vec<f64>, Vec<f64>)> {
        let set = InstructionSet::detect();
        let keys = self.problem.shape.keys;
        let narrow: Vec<Vec<T>> =
            vectors.iter().map(|all| all.iter().map(|&x| T::of(x)).collect()).collect();
        let parts = self.blocks(heads, biases, &|head, queries, room, part| {
            part.by_key.resize(keys, 0.0);
            room.normalise();
            room.columns.fill(T::zero());
            for (r, query) in queries.enumerate() {
                let from = &room.scores[r * keys..][..keys];
                let sum = room.sum[r].f64();
                let mean = if sum == 0.0 { 0.0 } else { dot(set, from, &narrow[head]) / sum };
                part.by_query.push(mean);
                let z = back(head, query, room.log_sum(r), mean);
                if z != 0.0 {
                    let weight = T::of(z / sum);
                    let into = &mut room.columns;
                    set.run(
                        #[inline(always)]
                        || into.iter_mut().zip(from).for_each(|(x, &e)| *x += weight * e),
                    );
                }
            }
            part.by_key.iter_mut().zip(&room.columns).for_each(|(sum, x)| *sum += x.f64());
        });
        let of_head = |parts: Vec<Part>| {
            let (mut by_query, mut by_key) = (Vec::new(), vec![0.0; keys]);
            for part in parts {
                by_query.extend(part.by_query);
                by_key.iter_mut().zip(part.by_key).for_each(|(sum, x)| *sum += x);
            }
            (by_query, by_key)
        };
        parts.into_iter().map(of_head).collect()
    }

    /// Σ_ij u_i v_j (θ_ij + x_j) of each head; what is weighted by 0 takes no part.
    pub fn bilinear(
        &self,
        heads: &[usize],
        biases: &[Vec<f64>],
        weights: &[(Vec<f64>, Vec<f64>)],
    ) -> Vec<f64> {
        let keys = self.problem.shape.keys;
        let parts = self.blocks(heads, biases, &|head, queries, room, part| {
            let place = heads.iter().position(|&own| own == head).expect("a head of these");
            let (u, v) = &weights[place];
            part.by_query.resize(1, 0.0);
            for (r, query) in queries.enumerate().filter(|(_, query)| u[*query] != 0.0) {
                let scores = room.scores[r * keys..][..keys].iter().zip(v);
                let counted = scores.filter(|(_, v)| **v != 0.0);
                part.by_query[0] += u[query] * counted.map(|(x, v)| x.f64() * v).sum::<f64>();
            }
        });
        let of_head = |parts: Vec<Part>| parts.iter().flat_map(|part| &part.by_query).sum();
        parts.into_iter().map(of_head).collect()
    }
}

/// Adds `times` e^term to sum e^largest.
fn add_exponential((sum, largest): (&mut f64, &mut f64), term: f64, times: f64) {
    if term == f64::NEG_INFINITY {
        return;
    }
    if term > *largest {
        *sum = *sum * (*largest - term).exp() + times;
        *largest = term;
    } else {
        *sum += times * (term - *largest).exp();
    }
}

/// Σ a b in eight running sums, which vectors are made of.
fn dot<T: Real>(set: InstructionSet, a: &[T], b: &[T]) -> f64 {
    const LANES: usize = 32;
    set.run(
        #[inline(always)]
        || {
            let mut sums = [T::zero(); LANES];
            let (left, right) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
            let rest = left.remainder().iter().zip(right.remainder());
            let rest: f64 = rest.map(|(&a, &b)| a.f64() * b.f64()).sum();
            for (a, b) in left.zip(right) {
                for lane in 0..LANES {
                    sums[lane] += a[lane] * b[lane];
                }
            }
            sums.iter().map(|x| x.f64()).sum::<f64>() + rest
        },
    )
}

/// Room for a block, used again for every one of a task.
struct Room<T> {
    scores: Vec<T>,
    rows: usize,
    keys: usize,
    max: Vec<T>,
    sum: Vec<T>,
    rescale: Vec<T>,
    columns: Vec<T>,
}

impl<T: Real> Room<T> {
    fn new(rows: usize, keys: usize) -> Self {
        let row = || vec![T::zero(); rows];
        let (max, sum, rescale) = (row(), row(), row());
        let scores = vec![T::zero(); rows * keys];
        Self { scores, rows, keys, max, sum, rescale, columns: vec![T::zero(); keys] }
    }

    fn tile(&mut self) -> TileMut<'_, T> {
        TileMut::new(&mut self.scores, self.rows, self.keys, self.keys)
    }

    /// Scores to exponentials relative to the largest of their row, and their sums.
    fn normalise(&mut self) {
        self.max.fill(T::neg_infinity());
        self.sum.fill(T::zero());
        let Self { scores, rows, keys, max, sum, rescale, .. } = self;
        let tile = TileMut::new(scores, *rows, *keys, *keys);
        let rows = ..*rows;
        let state = OnlineRows {
            max: &mut max[rows],
            sum: &mut sum[rows],
            rescale: &mut rescale[rows],
            score: None,
            raised: None,
        };
        online_rows(InstructionSet::detect(), tile, state);
    }

    /// log Σ_j e^(θ + x) of a row that has been normalised.
    fn log_sum(&self, row: usize) -> f64 {
        let max = self.max[row].f64();
        if max == f64::NEG_INFINITY { max } else { max + self.sum[row].f64().ln() }
    }
}
