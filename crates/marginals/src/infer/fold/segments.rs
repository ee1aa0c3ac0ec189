//! Segments of one state each, summed over without a table of them.
//!
//! A segment of d steps that ends before step t is scored by what is summed along it. Read from its end
//! backwards, the sum grows by one score a step, so the segments that end at t are all scored in O(longest)
//! without being kept, and an impossible score ends them. With B(t, s) the log weight of all that ends at
//! t and goes on with state s, and E(t, s) of all whose last segment, of state s, ends at t,
//!
//! ```text
//! E(t, s) = log Σ_d exp( B(t − d, s) + durations_{d, s} + Σ_{t−d ≤ u < t} θ_us ),
//! B(t, s) = log Σ_r exp( E(t, r) + transitions_rs ),     B(0, s) = start_s,
//! ```
//!
//! and the same backwards with shares, as in [`lanes`](super::lanes). Eight states go side by side.
//! Sarawagi & Cohen (NIPS 2004) are the model; arXiv 2604.18780 streams it, from prefix sums.

use marginals_kernels::{InstructionSet, LANES, Lanes, shares_of, sum_exponentials_of};

use super::lanes::whole;
use crate::infer::coupled::{Moments, Scores, Tangents};

/// Where the structure's own scores stand, and how long a segment may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Longest segment.
    pub longest: usize,
    /// First score of durations [longest, M].
    pub durations: Option<usize>,
    /// First score of transitions [M, M].
    pub transitions: Option<usize>,
    /// First score of starts [M].
    pub start: Option<usize>,
    /// First score of ends [M].
    pub end: Option<usize>,
}

/// log Z and expected numbers of a factor.
pub(crate) fn moments(layout: &Layout, scores: &Scores<'_>) -> Moments {
    let mut chart = Chart::new(*layout, scores, None);
    chart.inside();
    chart.outside();
    chart.moments(scores)
}

/// Those and their derivatives along a direction.
pub(crate) fn tangents(layout: &Layout, scores: &Scores<'_>, direction: &[f64]) -> Tangents {
    let mut chart = Chart::new(*layout, scores, Some(direction));
    chart.inside();
    chart.outside();
    Tangents { moments: chart.moments(scores), expected: chart.numbers(scores, |used| &used.moved) }
}

/// Numbers and how they move, row after row; none move where nobody asks.
#[derive(Clone, Debug)]
struct Rows {
    at: Vec<Lanes>,
    moved: Vec<Lanes>,
}

impl Rows {
    fn filled(count: usize, with: f64, moves: bool) -> Self {
        Self {
            at: vec![[with; LANES]; count],
            moved: vec![[0.0; LANES]; if moves { count } else { 0 }],
        }
    }
}

/// A row and how it moves.
#[derive(Clone, Copy, Debug)]
struct Moving {
    at: Lanes,
    moved: Lanes,
}

impl Moving {
    const ZERO: Self = Self { at: [0.0; LANES], moved: [0.0; LANES] };

    #[inline(always)]
    fn plus(self, other: Self) -> Self {
        Self {
            at: std::array::from_fn(|lane| self.at[lane] + other.at[lane]),
            moved: std::array::from_fn(|lane| self.moved[lane] + other.moved[lane]),
        }
    }
}

impl Rows {
    #[inline(always)]
    fn row(&self, index: usize) -> Moving {
        Moving { at: self.at[index], moved: self.moved.get(index).copied().unwrap_or([0.0; LANES]) }
    }

    fn put(&mut self, index: usize, row: Moving) {
        self.at[index] = row.at;
        if let Some(moved) = self.moved.get_mut(index) {
            *moved = row.moved;
        }
    }

    #[inline(always)]
    fn add(&mut self, index: usize, row: Moving, sign: f64) {
        for lane in 0..LANES {
            self.at[index][lane] += sign * row.at[lane];
        }
        if let Some(moved) = self.moved.get_mut(index) {
            moved.iter_mut().zip(row.moved).for_each(|(moved, by)| *moved += sign * by);
        }
    }
}

/// Everything of one factor; rows hold eight states, `chunks` of them to a step.
struct Chart {
    layout: Layout,
    set: InstructionSet,
    moves: bool,
    steps: usize,
    states: usize,
    chunks: usize,
    /// θ, by step.
    scores: Rows,
    /// Own scores, by duration, and by state that is gone from.
    durations: Rows,
    transitions: Rows,
    start: Rows,
    end: Rows,
    /// B and E, by step.
    begin: Rows,
    ended: Rows,
    /// Expected numbers: of B; of own scores; of θ as what begins and what ends to cover each step.
    used_begin: Rows,
    used_durations: Rows,
    used_transitions: Rows,
    used_end: Rows,
    covered: Rows,
    log_partition: Moving,
}

impl Chart {
    fn new(layout: Layout, scores: &Scores<'_>, direction: Option<&[f64]>) -> Self {
        let (steps, states) = (scores.queries, scores.keys);
        let chunks = states.div_ceil(LANES);
        let moves = direction.is_some();
        // Rows of numbers from `first`, `row` apart; states that there are not are impossible.
        let read = |count: usize, first: Option<usize>, row: usize| {
            let mut rows = Rows::filled(count * chunks, f64::NEG_INFINITY, moves);
            for index in 0..count {
                for state in 0..states {
                    let (at, lane) = (index * chunks + state / LANES, state % LANES);
                    let number = first.map(|first| first + index * row + state);
                    rows.at[at][lane] = number.map_or(0.0, |number| scores.values[number]);
                    if let (Some(direction), Some(number)) = (direction, number) {
                        rows.moved[at][lane] = direction[number];
                    }
                }
            }
            rows
        };
        let longest = layout.longest.min(steps);
        let own = |first: Option<usize>| first.map(|first| scores.edges + first);
        // As many keys as the table has, of which some may not be there.
        let row = scores.row;
        let numbers = |count| Rows::filled(count * chunks, 0.0, moves);
        Self {
            layout: Layout { longest, ..layout },
            set: InstructionSet::detect(),
            moves,
            steps,
            states,
            chunks,
            scores: read(steps, Some(0), row),
            durations: read(longest, own(layout.durations), row),
            transitions: read(states, own(layout.transitions), row),
            start: read(1, own(layout.start), row),
            end: read(1, own(layout.end), row),
            begin: Rows::filled((steps + 1) * chunks, f64::NEG_INFINITY, moves),
            ended: Rows::filled((steps + 1) * chunks, f64::NEG_INFINITY, moves),
            used_begin: numbers(steps + 1),
            used_durations: numbers(longest),
            used_transitions: numbers(states),
            used_end: numbers(1),
            covered: numbers(steps + 1),
            log_partition: Moving::ZERO,
        }
    }

    /// Segments that end at `step`, shortest first.
    fn segments(&self, step: usize, chunk: usize, into: &mut Vec<Moving>) {
        into.clear();
        let mut along = Moving::ZERO;
        for length in 1..=self.layout.longest.min(step) {
            let first = (step - length) * self.chunks + chunk;
            along = along.plus(self.scores.row(first));
            let duration = self.durations.row((length - 1) * self.chunks + chunk);
            into.push(self.begin.row(first).plus(duration).plus(along));
        }
    }

    /// Ways to go on with the states of a chunk from every state that ended at `step`.
    fn changes(&self, step: usize, chunk: usize, into: &mut Vec<Moving>) {
        into.clear();
        for state in 0..self.states {
            let from = self.ended.row(step * self.chunks + state / LANES);
            let lane = state % LANES;
            let from = Moving { at: [from.at[lane]; LANES], moved: [from.moved[lane]; LANES] };
            into.push(from.plus(self.transitions.row(state * self.chunks + chunk)));
        }
    }

    /// log Σ exp of terms, and how it moves.
    fn sum(&self, terms: &[Moving], room: &mut Vec<Lanes>) -> Moving {
        room.clear();
        room.extend(terms.iter().map(|term| term.at));
        let found = sum_exponentials_of(self.set, room);
        let mut moved = [0.0; LANES];
        if self.moves {
            for (share, term) in room.iter().zip(terms) {
                for lane in 0..LANES {
                    moved[lane] += share[lane] * term.moved[lane];
                }
            }
            for (moved, &sum) in moved.iter_mut().zip(&found.sum) {
                *moved = if sum == 0.0 { 0.0 } else { *moved / sum };
            }
        }
        Moving { at: found.log(), moved }
    }

    fn inside(&mut self) {
        let (mut terms, mut room) = (Vec::new(), Vec::new());
        for chunk in 0..self.chunks {
            self.begin.put(chunk, self.start.row(chunk));
        }
        for step in 1..=self.steps {
            for chunk in 0..self.chunks {
                self.segments(step, chunk, &mut terms);
                let sum = self.sum(&terms, &mut room);
                self.ended.put(step * self.chunks + chunk, sum);
            }
            for chunk in 0..self.chunks {
                self.changes(step, chunk, &mut terms);
                let sum = self.sum(&terms, &mut room);
                self.begin.put(step * self.chunks + chunk, sum);
            }
        }
        self.log_partition = match self.steps {
            0 => Moving::ZERO,
            _ => {
                self.last(&mut terms);
                // One number: all lanes of all chunks.
                let each: Vec<Moving> = (terms.iter())
                    .flat_map(|term| {
                        (0..LANES).map(|lane| Moving {
                            at: [term.at[lane]; LANES],
                            moved: [term.moved[lane]; LANES],
                        })
                    })
                    .collect();
                self.sum(&each, &mut room)
            }
        };
    }

    /// All that ends after the last step.
    fn last(&self, into: &mut Vec<Moving>) {
        into.clear();
        let row =
            |chunk| self.ended.row(self.steps * self.chunks + chunk).plus(self.end.row(chunk));
        into.extend((0..self.chunks).map(row));
    }

    /// Uses of terms: those of their sum, by their shares in it.
    fn spread(&self, terms: &mut [Moving], of: Moving, used: Moving, room: &mut Vec<Lanes>) {
        room.clear();
        room.extend(terms.iter().map(|term| term.at));
        shares_of(self.set, room, &of.at);
        for (term, share) in terms.iter_mut().zip(&*room) {
            for lane in 0..LANES {
                let moved = term.moved[lane] - of.moved[lane];
                // A share of what is not used is 0, whatever it is.
                let share = if used.at[lane] == 0.0 { 0.0 } else { share[lane] };
                term.at[lane] = used.at[lane] * share;
                term.moved[lane] = used.moved[lane] * share + used.at[lane] * share * moved;
            }
        }
    }

    fn outside(&mut self) {
        if self.steps == 0 {
            return;
        }
        let (mut terms, mut room) = (Vec::new(), Vec::new());
        let all = self.log_partition;
        let once = Moving { at: [whole(all.at[0]); LANES], moved: [0.0; LANES] };
        let mut ended = vec![Moving::ZERO; self.chunks];
        self.last(&mut terms);
        self.spread(&mut terms, all, once, &mut room);
        for (chunk, &used) in terms.iter().enumerate() {
            self.used_end.add(chunk, used, 1.0);
            ended[chunk] = used;
        }
        for step in (1..=self.steps).rev() {
            if step < self.steps {
                ended.fill(Moving::ZERO);
                for chunk in 0..self.chunks {
                    let at = step * self.chunks + chunk;
                    self.changes(step, chunk, &mut terms);
                    let (of, used) = (self.begin.row(at), self.used_begin.row(at));
                    self.spread(&mut terms, of, used, &mut room);
                    for (state, &used) in terms.iter().enumerate() {
                        self.used_transitions.add(state * self.chunks + chunk, used, 1.0);
                        let into = &mut ended[state / LANES];
                        into.at[state % LANES] += used.at.iter().sum::<f64>();
                        into.moved[state % LANES] += used.moved.iter().sum::<f64>();
                    }
                }
            }
            for (chunk, &ended) in ended.iter().enumerate() {
                self.segments(step, chunk, &mut terms);
                let of = self.ended.row(step * self.chunks + chunk);
                self.spread(&mut terms, of, ended, &mut room);
                for (before, &used) in terms.iter().enumerate() {
                    let first = (step - before - 1) * self.chunks + chunk;
                    self.used_begin.add(first, used, 1.0);
                    self.used_durations.add(before * self.chunks + chunk, used, 1.0);
                    self.covered.add(first, used, 1.0);
                    self.covered.add(step * self.chunks + chunk, used, -1.0);
                }
            }
        }
        // What has begun and not ended covers a step.
        for at in self.chunks..self.covered.at.len() {
            let before = self.covered.row(at - self.chunks);
            self.covered.add(at, before, 1.0);
        }
    }

    fn moments(&self, scores: &Scores<'_>) -> Moments {
        let mut expected = self.numbers(scores, |used| &used.at);
        // What has begun less what has ended is a probability but for rounding.
        expected[..scores.edges].iter_mut().for_each(|p| *p = p.clamp(0.0, 1.0));
        Moments { log_partition: self.log_partition.at[0], expected }
    }

    /// Expected numbers of all scores, or how they move.
    fn numbers(&self, scores: &Scores<'_>, of: impl Fn(&Rows) -> &Vec<Lanes>) -> Vec<f64> {
        let mut all = vec![0.0; scores.values.len()];
        let mut write = |rows: &Rows, count: usize, first: Option<usize>| {
            let Some(first) = first else { return };
            let rows = of(rows);
            for index in 0..count {
                for state in 0..self.states {
                    let row = &rows[index * self.chunks + state / LANES];
                    all[first + index * scores.row + state] = row[state % LANES];
                }
            }
        };
        let own = |first: Option<usize>| first.map(|first| scores.edges + first);
        write(&self.covered, self.steps, Some(0));
        write(&self.used_durations, self.layout.longest, own(self.layout.durations));
        write(&self.used_transitions, self.states, own(self.layout.transitions));
        write(&self.used_begin, 1, own(self.layout.start));
        write(&self.used_end, 1, own(self.layout.end));
        if !all.iter().any(|x| x.is_nan()) {
            // Of what is covered with certainty 0, subtraction leaves a last digit.
            let possible = all.iter_mut().zip(scores.values).take(scores.edges);
            possible.for_each(|(n, &x)| {
                if x == f64::NEG_INFINITY {
                    *n = 0.0;
                }
            });
        }
        all
    }
}
