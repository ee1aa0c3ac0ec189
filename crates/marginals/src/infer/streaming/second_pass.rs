//! Questions about single edges: a pass over tiles of the posterior, its normalisers known.

use std::ops::Range;

use marginals_kernels::{Aligned, InstructionSet, Tile, TileMut, dot_rows, exp_columns};

use super::blocks::{KEY_BLOCK, QUERY_BLOCK, STRIDE, TASKS, blocks, split};
use super::heads::{Care, HeadKeys, Preparation};
use super::noise::draw;
use super::rule::{Order, Rule};
use super::scorer::Scorer;
use crate::infer::Problem;
use crate::infer::finding::{Finding, Normalisers};
use crate::potential::{Features, Place};
use crate::prior::Coverage;
use crate::{Block, Real, parallel};

/// One posterior over edges whose normalisers are known.
#[derive(Clone, Copy)]
pub(super) struct Known<'a, 'p, T: Real> {
    pub rule: &'a Rule<'a, T>,
    pub problem: &'a Problem<'p, T>,
    pub normalisers: &'a Normalisers<T>,
}

impl<T: Real> Known<'_, '_, T> {
    pub fn scorer(&self) -> Scorer<'_, T> {
        Scorer { prior: &*self.problem.prior, potential: self.problem.potential }
    }

    fn preparation(&self) -> Preparation<'_, T> {
        Preparation { problem: self.problem, care: Care::Fast, many_edges: false }
    }

    /// Features of a run of queries of one head.
    fn queries(&self, (batch, head): (usize, usize), run: Range<usize>) -> Features<'static, T> {
        let shape = &self.problem.shape;
        let place = Place { shape, batch, head, first: run.start };
        let raw = self.problem.q.rows((batch, head), run.clone());
        let features = self.problem.potential.query_features(place, raw.view());
        Features::new(features.into_owned().into(), run.start)
    }

    /// Calls `f` with every tile of the posterior of one head that may be other than 0.
    pub fn visit(
        &self,
        head_keys: &HeadKeys<'_, T>,
        head: (usize, usize),
        queries: Range<usize>,
        keys: Range<usize>,
        mut f: impl FnMut(&Block, TileMut<'_, T>),
    ) {
        let shape = &self.problem.shape;
        let set = InstructionSet::detect();
        let factors = self.rule.factors(shape);
        let first_factor = shape.head_number(head) * factors;
        let own = |run: &Range<usize>| {
            self.normalisers.run(first_factor + run.start..first_factor + run.end)
        };
        let q = self.queries(head, queries.clone());
        let (scorer, prior) = (self.scorer(), &self.problem.prior);
        let mut buffer = Aligned::zeros(queries.len().min(QUERY_BLOCK) * STRIDE);
        for first in queries.clone().step_by(QUERY_BLOCK) {
            let queries = first..(first + QUERY_BLOCK).min(queries.end);
            let block = |keys| shape.block(head, queries.clone(), keys);
            let live = prior.live_keys(&block(keys.clone()));
            let mut runs: Vec<_> = blocks(live, head_keys.keys.start, KEY_BLOCK).collect();
            if self.rule.order() == Order::LastFirst {
                runs.reverse();
            }
            let mut carry = [T::zero(); QUERY_BLOCK];
            for keys in runs {
                let block = block(keys);
                let coverage = prior.coverage(&block);
                if coverage == Coverage::Empty {
                    continue;
                }
                let (n, m) = (block.queries.len(), block.keys.len());
                let mut tile = TileMut::new(&mut buffer, n, m, STRIDE);
                let features = (&q, &head_keys.features);
                scorer.fill(&block, coverage, features, tile.reborrow(), None, None);
                match self.rule {
                    Rule::Rows(rule) => {
                        rule.probabilities(tile.reborrow(), own(&block.queries), &mut carry[..n]);
                    }
                    Rule::Columns(_) => exp_columns(set, tile.reborrow(), own(&block.keys)),
                }
                f(&block, tile);
            }
        }
    }

    /// Runs `task` for every head and run of queries, and returns the results in order.
    pub fn by_queries<R: Send>(
        &self,
        task: impl Fn(&HeadKeys<'_, T>, (usize, usize), Range<usize>) -> R + Sync,
    ) -> Vec<R> {
        let shape = &self.problem.shape;
        let prepared = self.preparation().all(&self.problem.k, None, 0..shape.keys);
        let tasks: Vec<_> = shape
            .all_heads()
            .flat_map(|head| {
                let blocks = (0..shape.queries).step_by(QUERY_BLOCK);
                blocks.map(move |first| (head, first..(first + QUERY_BLOCK).min(shape.queries)))
            })
            .collect();
        parallel::map_each(tasks, &|((b, h), queries)| {
            let head_keys = &prepared[b * shape.key_heads + shape.key_head(h)];
            task(head_keys, (b, h), queries)
        })
    }

    /// Σ_i p_ij, over [B, H, M].
    pub fn column_mass(&self) -> Vec<T> {
        let shape = &self.problem.shape;
        if let Rule::Columns(_) = self.rule {
            // Every key that can choose, chooses exactly once.
            let mass = |factor: usize| match self.normalisers.log_z(factor) {
                z if z.is_nan() => z,
                z if z == T::neg_infinity() => T::zero(),
                _ => T::one(),
            };
            return (0..self.normalisers.len()).map(mass).collect();
        }
        let prepared = self.preparation().all(&self.problem.k, None, 0..shape.keys);
        let heads: Vec<_> = shape.all_heads().collect();
        // A running state goes through all keys.
        let parts = match self.rule.order() {
            Order::Any => split(0..shape.keys, TASKS.div_ceil(heads.len().max(1))),
            Order::LastFirst => split(0..shape.keys, 1),
        };
        let tasks: Vec<_> = heads
            .iter()
            .flat_map(|&head| parts.iter().map(move |keys| (head, keys.clone())))
            .collect();
        let masses =
            parallel::map_each(tasks, &|((b, h), keys): ((usize, usize), Range<usize>)| {
                let mut mass = vec![T::zero(); keys.len()];
                let head_keys = &prepared[b * shape.key_heads + shape.key_head(h)];
                let all = keys.clone();
                self.visit(head_keys, (b, h), 0..shape.queries, keys, |block, tile| {
                    let from = block.keys.start - all.start;
                    // Summed by the tile first: one long running sum rounds every p to its own size.
                    let mut sums = [T::zero(); KEY_BLOCK];
                    for r in 0..tile.rows {
                        sums.iter_mut().zip(tile.row(r)).for_each(|(sum, &p)| *sum += p);
                    }
                    let pairs = mass[from..].iter_mut().zip(&sums[..tile.columns]);
                    pairs.for_each(|(m, &s)| *m += s);
                });
                mass
            });
        masses.concat()
    }

    /// p_ij, over [B, H, N, M].
    pub fn marginals(&self) -> Vec<T> {
        let keys = self.problem.shape.keys;
        let rows = self.by_queries(|head_keys, head, queries| {
            let mut rows = vec![T::zero(); queries.len() * keys];
            self.visit(head_keys, head, queries.clone(), 0..keys, |block, tile| {
                for (r, i) in block.queries.clone().enumerate() {
                    let row = &mut rows[(i - queries.start) * keys..][..keys];
                    row[block.keys.clone()].copy_from_slice(tile.row(r));
                }
            });
            rows
        });
        rows.concat()
    }

    /// Σ_j p_ij c_j for weights c over [B, H, M]; the result is over [B, H, N].
    pub fn expected_over_keys(&self, weights: &[T]) -> Vec<T> {
        let shape = &self.problem.shape;
        let sums = self.by_queries(|head_keys, head, queries| {
            let mut sums = vec![T::zero(); queries.len()];
            let weights = &weights[shape.head_number(head) * shape.keys..][..shape.keys];
            self.visit(head_keys, head, queries.clone(), 0..shape.keys, |block, tile| {
                let from = block.queries.start - queries.start;
                let own = &weights[block.keys.clone()];
                // The same weights for every row: a tile of stride 0 would alias, so row by row. A weight
                // of 0 leaves nothing, whatever p is.
                for r in 0..tile.rows {
                    let row = Tile::new(tile.row(r), 1, tile.columns, tile.columns);
                    let weights = Tile::new(own, 1, tile.columns, tile.columns);
                    dot_rows(InstructionSet::detect(), weights, row, &mut sums[from + r..][..1]);
                }
            });
            sums
        });
        sums.concat()
    }

    /// Whether factors may pick an edge that `matters`, told by head, query and key.
    pub fn picks(&self, matters: impl Fn(usize, usize, usize) -> bool + Sync) -> Vec<bool> {
        let shape = &self.problem.shape;
        let prepared = self.preparation().all(&self.problem.k, None, 0..shape.keys);
        let heads: Vec<_> = shape.all_heads().collect();
        let of_head = |head: (usize, usize)| {
            let head_keys = &prepared[head.0 * shape.key_heads + shape.key_head(head.1)];
            let mut picks = vec![false; self.rule.factors(shape)];
            let all = (0..shape.queries, 0..shape.keys);
            self.visit(head_keys, head, all.0, all.1, |block, tile| {
                for (r, i) in block.queries.clone().enumerate() {
                    for (&p, j) in tile.row(r).iter().zip(block.keys.clone()) {
                        // Garbage is picked with a probability that is no number, the impossible with 0.
                        if p != T::zero() && matters(shape.head_number(head), i, j) {
                            picks[if matches!(self.rule, Rule::Rows(_)) { i } else { j }] = true;
                        }
                    }
                }
            });
            picks
        };
        parallel::map_each(heads, &of_head).concat()
    }

    /// Σ_j p_ij g_ij for weights g over [B, H, N, M]; the result is over [B, H, N].
    pub fn expected_over_edges(&self, weights: &[T]) -> Vec<T> {
        let shape = &self.problem.shape;
        let sums = self.by_queries(|head_keys, head, queries| {
            let mut sums = vec![T::zero(); queries.len()];
            self.visit(head_keys, head, queries.clone(), 0..shape.keys, |block, tile| {
                for (r, i) in block.queries.clone().enumerate() {
                    let row = shape.head_number(head) * shape.queries + i;
                    let own = &weights[row * shape.keys..][block.keys.clone()];
                    let pairs = tile.row(r).iter().zip(own);
                    let counts = |(p, g): &(&T, &T)| **p != T::zero() && **g != T::zero();
                    let terms = pairs.filter(counts).map(|(&p, &g)| p * g);
                    sums[i - queries.start] += terms.sum();
                }
            });
            sums
        });
        sums.concat()
    }

    /// Draws of independent edges, one byte (0 or 1) each, over [S, B, H, N, M].
    pub fn draw_sets(&self, count: usize, seed: u64) -> Vec<u8> {
        let shape = &self.problem.shape;
        let keys = shape.keys;
        let parts = self.by_queries(|head_keys, head, queries| {
            let mut bits = vec![0u8; count * queries.len() * keys];
            self.visit(head_keys, head, queries.clone(), 0..keys, |block, tile| {
                for (r, i) in block.queries.clone().enumerate() {
                    for (&p, j) in tile.row(r).iter().zip(block.keys.clone()) {
                        for sample in 0..count {
                            let row = sample * queries.len() + i - queries.start;
                            let number = block.number(j) as usize;
                            let drawn = draw(seed, head, i, sample).uniform(number) < p.f64();
                            bits[row * keys + j] = u8::from(drawn);
                        }
                    }
                }
            });
            bits
        });
        // Tasks hold their samples together; the answer has samples outermost.
        let mut all = Vec::with_capacity(parts.iter().map(Vec::len).sum());
        for sample in 0..count {
            for part in &parts {
                let size = part.len() / count;
                all.extend_from_slice(&part[sample * size..][..size]);
            }
        }
        all
    }

    /// −E_p[log q] of every factor, p being this posterior and q `other`.
    pub fn cross_entropy(
        &self,
        own: &Finding<T>,
        other: &Known<'_, '_, T>,
        others: &Finding<T>,
    ) -> Vec<T> {
        let shape = &self.problem.shape;
        let per_key = matches!(self.rule, Rule::Columns(_));
        let prepared = other.preparation().all(&other.problem.k, None, 0..shape.keys);

        // Σ p θ_q of every query of a task, or of every key where keys choose.
        let parts = self.by_queries(|head_keys, (batch, head), queries| {
            let factors = if per_key { shape.keys } else { queries.len() };
            let mut sums = vec![T::zero(); factors];
            let q = other.queries((batch, head), queries.clone());
            let other_keys = &prepared[batch * shape.key_heads + shape.key_head(head)];
            let mut buffer = Aligned::zeros(QUERY_BLOCK * STRIDE);
            let run = queries.clone();
            self.visit(head_keys, (batch, head), run, 0..shape.keys, |block, p| {
                let (n, m) = (block.queries.len(), block.keys.len());
                let mut scores = TileMut::new(&mut buffer, n, m, STRIDE);
                match other.problem.prior.coverage(block) {
                    Coverage::Empty => {
                        (0..n).for_each(|r| scores.row_mut(r).fill(T::neg_infinity()));
                    }
                    coverage => {
                        let features = (&q, &other_keys.features);
                        let tile = scores.reborrow();
                        other.scorer().fill(block, coverage, features, tile, None, None);
                    }
                }
                for r in 0..n {
                    for (c, (&p, &score)) in p.row(r).iter().zip(scores.row(r)).enumerate() {
                        // What p rules out, q may rule out too.
                        if p != T::zero() {
                            let at = match per_key {
                                true => block.keys.start + c,
                                false => block.queries.start + r - queries.start,
                            };
                            sums[at] += p * score;
                        }
                    }
                }
            });
            sums
        });
        let scores = match per_key {
            false => parts.concat(),
            true => {
                let tasks = parts.len() / (shape.batch * shape.heads).max(1);
                let heads = parts.chunks(tasks.max(1));
                heads
                    .flat_map(|head| (0..shape.keys).map(|j| head.iter().map(|s| s[j]).sum()))
                    .collect()
            }
        };
        let none = |known: &Known<'_, '_, T>, finding: &Finding<T>, row: usize| match known.rule {
            // log P(no edge) = θ of no edge − log Z, and −log Z where it has none.
            Rule::Rows(rule) if rule.may_pick_none() && !rule.has_many_edges() => {
                finding.log_none[row] + finding.normalisers.log_z(row)
            }
            _ => T::neg_infinity(),
        };
        (0..own.factors())
            .map(|row| {
                let log_z = own.normalisers.log_z(row);
                if log_z == T::neg_infinity() {
                    return T::zero();
                }
                let mut expected = scores[row];
                let own_none = none(self, own, row);
                let absent = (own_none - log_z).exp();
                if absent != T::zero() {
                    expected += absent * none(other, others, row);
                }
                // q's log-partition is finite wherever it allows what p expects, and +∞ − −∞ = +∞.
                match expected == T::neg_infinity() {
                    true => T::infinity(),
                    false => others.normalisers.log_z(row) - expected,
                }
            })
            .collect()
    }

    /// log p_ij of one edge of a structure where queries choose. Never above 0, and −∞ where the edge
    /// is impossible. Cost: O(D).
    pub fn log_probability(&self, head: (usize, usize), query: usize, key: usize) -> Option<T> {
        let problem = self.problem;
        let shape = &problem.shape;
        let Rule::Rows(rule) = self.rule else { return None };
        let block = shape.block(head, query..query + 1, key..key + 1);
        let coverage = problem.prior.coverage(&block);
        if coverage == Coverage::Empty || problem.prior.live_keys(&block).is_empty() {
            return Some(T::neg_infinity());
        }
        let q = self.queries(head, query..query + 1);
        let own = (head.0, shape.key_head(head.1));
        let keys = self.preparation().head(&problem.k, None, key..key + 1, own);
        let mut score = [T::zero()];
        let tile = TileMut::new(&mut score, 1, 1, 1);
        self.scorer().fill(&block, coverage, (&q, &keys.features), tile, None, None);
        if score[0] == T::neg_infinity() {
            return Some(score[0]);
        }
        let factor = shape.head_number(head) * shape.queries + query;
        let Normalisers { max, log_sum } = self.normalisers;
        rule.log_probability(score[0], max[factor], log_sum[factor])
    }
}
