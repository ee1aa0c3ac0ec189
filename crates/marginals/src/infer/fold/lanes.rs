//! Log-partitions, expected numbers and their derivatives, of eight factors at a time.
//!
//! Forward, log Z of every cell. Backward, with s the share of a rule in its cell and π the expected
//! number of times that a cell is used, 1 for the goal:
//!
//! ```text
//! s = exp(term − log Z_c),        π(parts and scores of the rule) += π(c) s.
//! ```
//!
//! All of these are sums of numbers that are not negative: nothing cancels. In dual numbers, with a dot
//! the derivative along a direction,
//!
//! ```text
//! log Z_c˙ = Σ s term˙,    s˙ = s (term˙ − log Z_c˙),    π˙(…) += π˙(c) s + π(c) s˙.
//! ```

use marginals_kernels::{InstructionSet, LANES, Lanes, Term, shares, sum_exponentials};

use super::recursion::{NONE, Recursion, Rule, Size, Unfold};
use crate::infer::coupled::{Moments, Scores, Tangents};
use crate::parallel;

/// Moments of every factor.
pub(super) fn moments(unfold: &dyn Unfold, factors: &[Scores<'_>]) -> Vec<Moments> {
    let groups = factors.len().div_ceil(LANES);
    let of_group = |group: usize| {
        let own = &factors[group * LANES..factors.len().min((group + 1) * LANES)];
        let mut chart = Chart::new(unfold, own);
        chart.inside();
        chart.outside();
        (0..own.len()).map(|lane| chart.moments(lane)).collect::<Vec<_>>()
    };
    parallel::map(groups, &of_group).into_iter().flatten().collect()
}

/// Moments of every factor and their derivatives along a direction each.
pub(super) fn tangents(
    unfold: &dyn Unfold,
    factors: &[Scores<'_>],
    directions: &[Vec<f64>],
) -> Vec<Tangents> {
    let groups = factors.len().div_ceil(LANES);
    let of_group = |group: usize| {
        let run = group * LANES..factors.len().min((group + 1) * LANES);
        let own = &factors[run.clone()];
        let mut chart = Chart::new(unfold, own);
        let mut dual = Dual::new(&chart, &directions[run]);
        chart.inside_dual(&mut dual);
        chart.outside_dual(&mut dual);
        let expected = |lane: usize| chart.scores_of(&dual.used, lane);
        (0..own.len())
            .map(|lane| Tangents { moments: chart.moments(lane), expected: expected(lane) })
            .collect::<Vec<_>>()
    };
    parallel::map(groups, &of_group).into_iter().flatten().collect()
}

/// The cells and scores of eight factors, in one table: cells, then scores, then a row of 0.
pub(super) struct Chart {
    recursion: Box<dyn Recursion>,
    cells: usize,
    /// Log-partitions of cells; scores.
    table: Vec<Lanes>,
    /// Expected numbers of both.
    used: Vec<Lanes>,
    /// The goal of every factor.
    goals: Vec<usize>,
    set: InstructionSet,
}

/// Derivatives along a direction, of the same rows.
struct Dual {
    /// Of the table.
    table: Vec<Lanes>,
    /// Of the expected numbers.
    used: Vec<Lanes>,
}

impl Dual {
    fn new(chart: &Chart, directions: &[Vec<f64>]) -> Self {
        let mut table = vec![[0.0; LANES]; chart.table.len()];
        for (lane, direction) in directions.iter().enumerate() {
            let rows = table[chart.cells..].iter_mut().zip(direction);
            rows.for_each(|(row, &d)| row[lane] = d);
        }
        Self { used: vec![[0.0; LANES]; table.len()], table }
    }
}

/// The rules of one cell, and room for what is computed of each.
#[derive(Default)]
struct Work {
    rules: Vec<Rule>,
    terms: Vec<Term>,
    shares: Vec<Lanes>,
}

impl Chart {
    pub fn new(unfold: &dyn Unfold, factors: &[Scores<'_>]) -> Self {
        let sizes = factors.iter().map(Size::of);
        let largest = sizes.reduce(|a, b| Size {
            queries: a.queries.max(b.queries),
            keys: a.keys.max(b.keys),
            ..a
        });
        let recursion = unfold.unfold(largest.expect("a group has factors"));
        let cells = recursion.cells();
        let scores = factors[0].values.len();
        let mut table = vec![[f64::NEG_INFINITY; LANES]; cells + scores + 1];
        for (lane, factor) in factors.iter().enumerate() {
            let rows = table[cells..].iter_mut().zip(factor.values);
            rows.for_each(|(row, &x)| row[lane] = x);
        }
        table[cells + scores] = [0.0; LANES];
        let goals = factors.iter().map(|own| recursion.goal(own.queries, own.keys)).collect();
        let used = vec![[0.0; LANES]; table.len()];
        Self { recursion, cells, table, used, goals, set: InstructionSet::detect() }
    }

    /// The rules of a cell, as terms over the table.
    fn rules(&self, cell: usize, work: &mut Work) {
        work.rules.clear();
        self.recursion.rules(cell, &mut work.rules);
        let (cells, last) = (self.cells as u32, self.table.len() as u32 - 1);
        let part = |part: u32| if part == NONE { last } else { part };
        let score = |score: u32| if score == NONE { last } else { cells + score };
        work.terms.clear();
        work.terms.extend(work.rules.iter().map(|rule| {
            let ([a, b], [c, d]) = (rule.parts, rule.scores);
            Term([part(a), part(b), score(c), score(d)])
        }));
        work.shares.resize(work.terms.len(), [0.0; LANES]);
    }

    pub fn inside(&mut self) {
        let mut work = Work::default();
        for cell in 0..self.cells {
            self.rules(cell, &mut work);
            let sum = sum_exponentials(self.set, &self.table, &work.terms, &mut work.shares);
            self.table[cell] = sum.log();
        }
    }

    /// Sets the goals' numbers to 1.
    fn start(&mut self) {
        for (lane, &goal) in self.goals.iter().enumerate() {
            self.used[goal][lane] = whole(self.table[goal][lane]);
        }
    }

    fn outside(&mut self) {
        let mut work = Work::default();
        self.start();
        for cell in (0..self.cells).rev() {
            let used = self.used[cell];
            if used == [0.0; LANES] {
                continue;
            }
            self.rules(cell, &mut work);
            shares(self.set, &self.table, &work.terms, &self.table[cell], &mut work.shares);
            let into = &mut self.used;
            self.set.run(
                #[inline(always)]
                || {
                    for (Term(rows), share) in work.terms.iter().zip(&work.shares) {
                        let mut amount = [0.0; LANES];
                        for lane in 0..LANES {
                            // A share of what is not used is 0, whatever it is.
                            let used = used[lane];
                            amount[lane] = if used == 0.0 { 0.0 } else { used * share[lane] };
                        }
                        for &row in rows {
                            let row = &mut into[row as usize];
                            for lane in 0..LANES {
                                row[lane] += amount[lane];
                            }
                        }
                    }
                },
            );
        }
    }

    fn inside_dual(&mut self, dual: &mut Dual) {
        let mut work = Work::default();
        for cell in 0..self.cells {
            self.rules(cell, &mut work);
            let sum = sum_exponentials(self.set, &self.table, &work.terms, &mut work.shares);
            self.table[cell] = sum.log();
            let table = &dual.table;
            let mut moved = [0.0; LANES];
            self.set.run(
                #[inline(always)]
                || {
                    for (&term, share) in work.terms.iter().zip(&work.shares) {
                        let tangent = moved_by(table, term);
                        for lane in 0..LANES {
                            moved[lane] += share[lane] * tangent[lane];
                        }
                    }
                },
            );
            for (moved, &sum) in moved.iter_mut().zip(&sum.sum) {
                *moved = if sum == 0.0 { 0.0 } else { *moved / sum };
            }
            dual.table[cell] = moved;
        }
    }

    fn outside_dual(&mut self, dual: &mut Dual) {
        let mut work = Work::default();
        self.start();
        for cell in (0..self.cells).rev() {
            let (used, used_moved) = (self.used[cell], dual.used[cell]);
            if used == [0.0; LANES] && used_moved == [0.0; LANES] {
                continue;
            }
            self.rules(cell, &mut work);
            shares(self.set, &self.table, &work.terms, &self.table[cell], &mut work.shares);
            let moved = dual.table[cell];
            let (into, into_moved) = (&mut self.used, &mut dual.used);
            let table = &dual.table;
            self.set.run(
                #[inline(always)]
                || {
                    for (&term, share) in work.terms.iter().zip(&work.shares) {
                        let tangent = moved_by(table, term);
                        let (mut amount, mut amount_moved) = ([0.0; LANES], [0.0; LANES]);
                        for lane in 0..LANES {
                            let (used, share) = (used[lane], share[lane]);
                            let share = if used == 0.0 { 0.0 } else { share };
                            amount[lane] = used * share;
                            amount_moved[lane] = used_moved[lane] * share
                                + used * share * (tangent[lane] - moved[lane]);
                        }
                        for row in term.0 {
                            let row = row as usize;
                            let (into, into_moved) = (&mut into[row], &mut into_moved[row]);
                            for lane in 0..LANES {
                                into[lane] += amount[lane];
                                into_moved[lane] += amount_moved[lane];
                            }
                        }
                    }
                },
            );
        }
    }

    /// The goal of a factor.
    pub fn goal(&self, lane: usize) -> usize {
        self.goals[lane]
    }

    /// log Z of a cell.
    pub fn log_partition(&self, cell: usize, lane: usize) -> f64 {
        self.table[cell][lane]
    }

    /// The rules of a cell, each with its share.
    pub fn shares_of(&self, cell: usize, lane: usize, into: &mut Vec<(Rule, f64)>) {
        let mut work = Work::default();
        self.rules(cell, &mut work);
        shares(self.set, &self.table, &work.terms, &self.table[cell], &mut work.shares);
        into.clear();
        into.extend(work.rules.iter().zip(&work.shares).map(|(&rule, share)| (rule, share[lane])));
    }

    /// Numbers of the scores of one factor.
    fn scores_of(&self, rows: &[Lanes], lane: usize) -> Vec<f64> {
        rows[self.cells..rows.len() - 1].iter().map(|row| row[lane]).collect()
    }

    fn moments(&self, lane: usize) -> Moments {
        let log_partition = self.table[self.goals[lane]][lane];
        Moments { log_partition, expected: self.scores_of(&self.used, lane) }
    }
}

/// Expected use of the goal: once where anything is possible, and NaN where log Z is.
pub(super) fn whole(log_partition: f64) -> f64 {
    match log_partition {
        f64::NEG_INFINITY => 0.0,
        possible if possible.is_nan() => possible,
        _ => 1.0,
    }
}

/// Derivative of a term.
#[inline(always)]
fn moved_by(table: &[Lanes], Term(rows): Term) -> Lanes {
    let [a, b, c, d] = rows.map(|row| &table[row as usize]);
    let mut sum = [0.0; LANES];
    for lane in 0..LANES {
        sum[lane] = (a[lane] + b[lane]) + (c[lane] + d[lane]);
    }
    sum
}
