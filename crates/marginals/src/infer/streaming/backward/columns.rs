//! Tiles where keys choose: a column is normalised as a whole, so that its centre needs every query first.

use std::ops::Range;

use marginals_kernels::{InstructionSet, TileMut, dot_columns, exp_columns};

use super::tiles::{HeadBackward, Rows, STRIDE};
use crate::infer::finding::at;
use crate::potential::Features;
use crate::prior::Coverage;
use crate::{Block, Real};

/// Σ_i p_ij f_ij of the keys of one block, where keys choose: of the one query that has more than half of
/// a key's probability, if there is one, and of the rest.
#[derive(Default)]
pub(super) struct ColumnCentres<T> {
    pub(super) likely: Vec<T>,
    pub(super) rest: Vec<T>,
}

/// Whether an edge has more than half of the probability, from log p, p and p in another scale.
fn is_likely<T: Real>([_, p, _]: [T; 3]) -> bool {
    p > T::of(0.5)
}

impl<T: Real> HeadBackward<'_, '_, '_, T> {
    /// log p, p, and p as what is gathered is weighted by, of one edge where keys choose.
    fn log_p(&self, block: &Block, i: usize, c: usize, score: T) -> [T; 3] {
        let factor = self.task.factor(block, i, c);
        let idle = self.task.coefficients.normalisers.max[factor] == T::neg_infinity();
        if idle || score == T::neg_infinity() {
            return [T::zero(); 3];
        }
        // A score that overflows counts as the largest number, as it does forwards. NaN stays.
        let score = if score == T::infinity() { T::max_value() } else { score };
        let normalisers = &self.task.coefficients.normalisers;
        let mut log_p = normalisers.log_p(factor, score);
        if is_likely([log_p, log_p.exp(), T::zero()]) {
            // Then it has the largest score of the column, whatever rounding made of it here.
            log_p = -normalisers.log_sum[factor];
        }
        let shape = &self.task.problem.shape;
        let query = shape.head_number((block.batch, block.head)) * shape.queries + i;
        let scale = at(&self.task.finding.log_scale, query);
        [log_p, log_p.exp(), (log_p - scale).exp()]
    }

    /// p f with every term, of one edge where keys choose; what is gathered may be in another scale.
    fn weighted_f(&self, block: &Block, (r, i): (usize, usize), c: usize, p: [T; 3]) -> T {
        let coefficients = &self.task.coefficients;
        let [log_p, p, scaled] = p;
        let index = r * STRIDE + c;
        let mut f = self.quantity[index];
        if !self.quadratic.is_empty() {
            f += (T::one() - p - p) * self.quadratic[index];
        }
        let mut sum = if scaled == T::zero() { scaled } else { scaled * f };
        if !coefficients.log_p.is_empty() && p != T::zero() {
            sum += p * (coefficients.log_p[self.task.factor(block, i, c)] * log_p);
        }
        sum
    }

    /// Σ_i p_ij f_ij of the keys of one block, where keys choose; needs every query first.
    pub(super) fn column_centres(
        &mut self,
        live: &[(Block, Coverage)],
        q: &Features<'_, T>,
        upstream: &Rows<'_, T>,
        keys: &Range<usize>,
    ) -> ColumnCentres<T> {
        if !self.task.is_by_column() {
            return ColumnCentres::default();
        }
        let zeros = || vec![T::zero(); keys.len()];
        let mut centre = ColumnCentres { likely: zeros(), rest: zeros() };
        let set = InstructionSet::detect();
        for (block, coverage) in live {
            self.fill(block, *coverage, q, upstream);
            if self.task.is_linear_by_column() {
                self.normalise_columns(block);
                let (n, m) = (block.queries.len(), block.keys.len());
                let p = TileMut::new(&mut self.scores, n, m, STRIDE);
                let f = TileMut::new(&mut self.quantity, n, m, STRIDE);
                dot_columns(set, p.as_tile(), f.as_tile(), &mut centre.rest);
                continue;
            }
            for (r, i) in block.queries.clone().enumerate() {
                for c in 0..keys.len() {
                    let p = self.log_p(block, i, c, self.scores[r * STRIDE + c]);
                    let into = if is_likely(p) { &mut centre.likely } else { &mut centre.rest };
                    into[c] += self.weighted_f(block, (r, i), c, p);
                }
            }
        }
        centre
    }

    /// Turns `scores` from θ into p, where keys choose.
    pub(super) fn normalise_columns(&mut self, block: &Block) {
        let (n, m) = (block.queries.len(), block.keys.len());
        let factor = self.task.factor(block, block.queries.start, 0);
        let normalisers = self.task.coefficients.normalisers.run(factor..factor + m);
        let mut scores = TileMut::new(&mut self.scores, n, m, STRIDE);
        exp_columns(InstructionSet::detect(), scores.reborrow(), normalisers);
        // What takes no part may hold anything.
        for (c, _) in normalisers.max.iter().enumerate().filter(|(_, x)| **x == T::neg_infinity()) {
            (0..n).for_each(|r| scores.row_mut(r)[c] = T::zero());
        }
    }

    /// [`differentiate_by_column`](Self::differentiate_by_column) where `scores` holds p already.
    fn differentiate_linear(&mut self, block: &Block, centre: &[T]) {
        let (n, m) = (block.queries.len(), block.keys.len());
        let factor = self.task.factor(block, block.queries.start, 0);
        let partition = &self.task.coefficients.partition[factor..factor + m];
        let (scores, quantity) = (&mut self.scores, &mut self.quantity);
        InstructionSet::detect().run(
            #[inline(always)]
            || {
                for start in (0..n).map(|r| r * STRIDE) {
                    let scores = &mut scores[start..start + m];
                    let quantity = &mut quantity[start..start + m];
                    let columns = centre.iter().zip(partition);
                    for ((score, f), (&centre, &partition)) in
                        scores.iter_mut().zip(quantity).zip(columns)
                    {
                        let p = *score;
                        let gradient = p * (*f - centre + partition);
                        // f of an impossible edge may be anything.
                        *score = if p == T::zero() { p } else { gradient };
                        *f = p;
                    }
                }
            },
        );
    }

    /// Turns `scores` into ∂L/∂θ and `quantity` into p.
    pub(super) fn differentiate_by_column(&mut self, block: &Block, centre: &ColumnCentres<T>) {
        let coefficients = &self.task.coefficients;
        if self.task.is_linear_by_column() {
            return self.differentiate_linear(block, &centre.rest);
        }
        for (r, i) in block.queries.clone().enumerate() {
            for (c, (&likely, &rest)) in centre.likely.iter().zip(&centre.rest).enumerate() {
                let at = r * STRIDE + c;
                let p = self.log_p(block, i, c, self.scores[at]);
                let factor = self.task.factor(block, i, c);
                let mut gradient = self.weighted_f(block, (r, i), c, p);
                let mut slope = coefficients.partition[factor] - rest;
                match is_likely(p) {
                    // f − E[f] of a likely edge: (1 − p) f less the others', or f would swallow them.
                    true => gradient *= -p[0].exp_m1(),
                    false => slope -= likely,
                }
                if p[1] != T::zero() {
                    gradient += p[1] * slope;
                }
                self.scores[at] = gradient;
                self.quantity[at] = p[2];
                if let Some(absent) = self.absent.get_mut(at) {
                    *absent = -p[0].exp_m1();
                }
            }
        }
    }
}
