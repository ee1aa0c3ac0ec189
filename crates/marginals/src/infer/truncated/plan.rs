//! Choosing what is left out before anything is scored.

use std::ops::Range;

use marginals_kernels::{InstructionSet, OnlineRows, TileMut, online_rows};
use rayon::prelude::*;

use super::bounds::Bounds;
use super::certificate::{Lost, log_add};
use super::kept::{Kept, joined};
use crate::Real;
use crate::potential::{Features, Place};
use crate::prior::Coverage;

/// Leaves out as much as provably has no more than `mass` of the posterior of each query.
pub(super) fn within<T: Real>(bounds: &Bounds<'_, '_, T>, mass: f64) -> Lost {
    let shape = &bounds.problem.shape;
    let runs = |head| {
        let firsts = (0..shape.queries).step_by(bounds.tile);
        firsts.map(move |first| (head, first..(first + bounds.tile).min(shape.queries)))
    };
    let runs: Vec<_> = shape.all_heads().flat_map(runs).collect();
    let plan = |(head, queries)| {
        let mut plan = Plan::new(bounds, head, queries, mass);
        plan.leave_out();
        (joined(plan.kept), plan.lost)
    };
    let (lists, log_mass) = runs.into_par_iter().map(plan).unzip();
    Lost { kept: Kept::new(shape, bounds.tile, lists), log_mass }
}

/// The plan of a run of queries.
struct Plan<'b, 'p, 'a, T: Real> {
    bounds: &'b Bounds<'p, 'a, T>,
    head: (usize, usize),
    queries: Range<usize>,
    /// Keys that are kept in any case.
    sure: Range<usize>,
    /// Mass that may be left out, as the log of a sum of e^θ.
    room: f64,
    /// Mass that has been left out, at most.
    lost: f64,
    kept: Vec<Range<usize>>,
}

impl<'b, 'p, 'a, T: Real> Plan<'b, 'p, 'a, T> {
    fn new(
        bounds: &'b Bounds<'p, 'a, T>,
        head: (usize, usize),
        queries: Range<usize>,
        mass: f64,
    ) -> Self {
        let (sure, room, lost) = (0..0, f64::NEG_INFINITY, f64::NEG_INFINITY);
        let mut plan = Self { bounds, head, queries, sure, room, lost, kept: Vec::new() };
        plan.sure = plan.heaviest();
        // With lost mass R ≤ U and Z what is kept, R/(Z + R) ≤ mass where U ≤ Z mass/(1 − mass).
        plan.room = plan.log_partition() + mass.ln() - (-mass).ln_1p();
        plan
    }

    fn live(&self) -> Range<usize> {
        let problem = self.bounds.problem;
        let keys = 0..problem.shape.keys;
        problem.prior.live_keys(&problem.shape.block(self.head, self.queries.clone(), keys))
    }

    fn log_mass(&self, keys: &Range<usize>) -> f64 {
        let shape = &self.bounds.problem.shape;
        self.bounds.log_mass(&shape.block(self.head, self.queries.clone(), keys.clone()))
    }

    /// Both halves of a range, in whole tiles; none of a single tile.
    fn halves(&self, keys: &Range<usize>) -> Option<[Range<usize>; 2]> {
        let tile = self.bounds.tile;
        let (first, end) = (keys.start / tile, keys.end.div_ceil(tile));
        let middle = (first + end) / 2 * tile;
        (end - first > 1).then_some([keys.start..middle, middle..keys.end])
    }

    /// The tile that may weigh most, and the one before it: where it is cut by the query's position, its
    /// first queries have few keys in it.
    fn heaviest(&self) -> Range<usize> {
        let live = self.live();
        let mut keys = live.clone();
        while let Some([first, second]) = self.halves(&keys) {
            // Of equals the later one, which is nearer where keys are behind.
            keys = if self.log_mass(&first) > self.log_mass(&second) { first } else { second };
        }
        keys.start.saturating_sub(self.bounds.tile).max(live.start)..keys.end
    }

    /// The smallest log-partition of the queries over the keys that are kept in any case; −∞ where
    /// nothing is known of one.
    fn log_partition(&self) -> f64 {
        let problem = self.bounds.problem;
        let (shape, potential) = (&problem.shape, problem.potential);
        let block = shape.block(self.head, self.queries.clone(), self.sure.clone());
        let coverage = problem.prior.coverage(&block);
        if block.keys.is_empty() || coverage == Coverage::Empty {
            return f64::NEG_INFINITY;
        }
        let (batch, head) = self.head;
        let key_head = shape.key_head(head);
        let raw = problem.q.rows(self.head, block.queries.clone());
        let place = Place { shape, batch, head, first: block.queries.start };
        let q = Features::new(potential.query_features(place, raw.view()), place.first);
        let raw = problem.k.rows((batch, key_head), block.keys.clone());
        let place = Place { shape, batch, head: key_head, first: block.keys.start };
        let k = Features::new(potential.key_features(place, raw.view()), place.first);
        let (rows, columns) = (block.queries.len(), block.keys.len());
        let mut scores = vec![T::zero(); rows * columns];
        let mut tile = TileMut::new(&mut scores, rows, columns, columns);
        potential.log_potential(&block, &q, &k, tile.reborrow());
        if coverage == Coverage::Weighted {
            problem.prior.add_log_weights(&block, tile.reborrow());
        }
        let mut max = vec![T::neg_infinity(); rows];
        let (mut sum, mut rescale) = (vec![T::zero(); rows], vec![T::zero(); rows]);
        let (score, raised) = (None, None);
        let state =
            OnlineRows { max: &mut max, sum: &mut sum, rescale: &mut rescale, score, raised };
        online_rows(InstructionSet::detect(), tile, state);
        let log_partition = |(max, sum): (&T, &T)| {
            let log_z = max.f64() + sum.f64().ln();
            // Rounded down as far as scores and sums are rounded.
            let rounding = T::epsilon().f64() * (columns as f64 + 16.0 * (1.0 + log_z.abs()));
            if log_z.is_finite() { log_z - rounding } else { f64::NEG_INFINITY }
        };
        max.iter().zip(&sum).map(log_partition).fold(f64::INFINITY, f64::min)
    }

    /// Leaves out the largest ranges that there is room for, the lightest first.
    fn leave_out(&mut self) {
        let live = self.live();
        if !live.is_empty() {
            let mass = self.log_mass(&live);
            self.visit(live, mass);
        }
    }

    fn visit(&mut self, keys: Range<usize>, mass: f64) {
        if keys.end <= self.sure.start || self.sure.end <= keys.start {
            let lost = log_add(self.lost, mass);
            if lost <= self.room || mass == f64::NEG_INFINITY {
                self.lost = lost;
                return;
            }
        }
        let Some(halves) = self.halves(&keys) else { return self.kept.push(keys) };
        let mut halves = halves.map(|keys| (self.log_mass(&keys), keys));
        if halves[1].0 < halves[0].0 {
            halves.swap(0, 1);
        }
        halves.into_iter().for_each(|(mass, keys)| self.visit(keys, mass));
    }
}
