//! The best assignment of a side to another, by shortest augmenting paths.
//!
//! Every node of the smaller side gets a node of the larger one, no two the same, so that the sum of
//! their scores is the greatest there is. With potentials u, v of the two sides, the price of a pair
//!
//! ```text
//! r_ab = u_a + v_b − θ_ab ≥ 0,        0 for every pair of the best assignment,    v_b ≥ 0, 0 where b is free,
//! ```
//!
//! proves it the best (Kuhn 1955; Jonker & Volgenant, *Computing* 38, 1987; for rectangles Crouse, *IEEE
//! Transactions on Aerospace and Electronic Systems* 52, 2016): n² m steps for n nodes of the smaller side. The
//! prices say more: the equally good assignments are those of pairs of price 0, of which the first is
//! taken, and the best assignment with any pair costs the cheapest way round through it.

use std::cmp::Ordering;
use std::collections::VecDeque;

use super::partition::{self, Space};
use crate::infer::coupled::Scores;

/// Scores between two sides, the smaller one outermost.
#[derive(Clone, Debug)]
pub(crate) struct Pairs {
    /// Nodes of the smaller side, and of the larger one.
    pub small: usize,
    pub large: usize,
    /// Whether the smaller side are the keys.
    transposed: bool,
    /// θ of every pair, −∞ for the impossible.
    pub scores: Vec<f64>,
}

impl Pairs {
    /// The pairs of a factor; of sides of one size, the queries are the smaller one.
    pub fn new(factor: &Scores<'_>) -> Self {
        let transposed = factor.keys < factor.queries;
        let (small, large) = match transposed {
            true => (factor.keys, factor.queries),
            false => (factor.queries, factor.keys),
        };
        let mut scores = Vec::with_capacity(small * large);
        for a in 0..small {
            scores.extend((0..large).map(|b| match transposed {
                true => factor.edge(b, a),
                false => factor.edge(a, b),
            }));
        }
        Self { small, large, transposed, scores }
    }

    /// Whether a score is not a number, or not below +∞: then no assignment is the best.
    pub fn is_invalid(&self) -> bool {
        self.scores.iter().any(|x| x.is_nan() || *x == f64::INFINITY)
    }

    /// Number of a pair's edge, rows of edges being `row` long.
    pub fn edge(&self, a: usize, b: usize, row: usize) -> usize {
        if self.transposed { b * row + a } else { a * row + b }
    }

    /// The `count` assignments of highest score, best first, ties by the first edges; fewer where there
    /// are fewer.
    pub fn best(&self, count: usize) -> Vec<Assignment> {
        if self.is_invalid() { Vec::new() } else { partition::first(self, count) }
    }

    fn score(&self, a: usize, b: usize) -> f64 {
        self.scores[a * self.large + b]
    }
}

/// Choices are the nodes that those of the smaller side get.
impl Space for Pairs {
    type Solution = Assignment;

    fn choices(&self) -> Vec<usize> {
        (0..self.small).collect()
    }

    fn first(&self) -> Option<Assignment> {
        Assignment::best(self)
    }

    fn compare(a: &Assignment, b: &Assignment) -> Ordering {
        let by_query = match a.transposed {
            true => a.owner.cmp(&b.owner),
            false => a.of.cmp(&b.of),
        };
        b.score.total_cmp(&a.score).then(by_query)
    }

    fn decision(assignment: &Assignment, a: usize) -> usize {
        assignment.of[a]
    }

    fn force(&mut self, a: usize, b: usize) {
        let score = self.score(a, b);
        self.scores[a * self.large..][..self.large].fill(f64::NEG_INFINITY);
        self.scores[a * self.large + b] = score;
    }

    fn leave_out(&mut self, a: usize, b: usize) {
        self.scores[a * self.large + b] = f64::NEG_INFINITY;
    }
}

/// Node that stands for all free nodes of the larger side having none.
const NOBODY: usize = usize::MAX;

/// A best assignment, with the potentials that prove it.
#[derive(Clone, Debug)]
pub(crate) struct Assignment {
    /// Node of the larger side of every node of the smaller one.
    pub of: Vec<usize>,
    /// Σ θ.
    pub score: f64,
    /// Node of the smaller side that has each of the larger, or [`NOBODY`].
    owner: Vec<usize>,
    /// Whether the smaller side are the keys.
    transposed: bool,
    u: Vec<f64>,
    v: Vec<f64>,
}

impl Assignment {
    /// The best assignment, of equally good ones that whose edges come first; `None` where there is none.
    pub fn best(pairs: &Pairs) -> Option<Self> {
        let (n, m) = (pairs.small, pairs.large);
        let mut all = Self {
            of: vec![NOBODY; n],
            score: 0.0,
            owner: vec![NOBODY; m],
            transposed: pairs.transposed,
            u: vec![0.0; n],
            v: vec![0.0; m],
        };
        let mut search = Search::new(m);
        for a in 0..n {
            all.augment(pairs, a, &mut search)?;
        }
        all.go_first(pairs);
        // Of nothing, and of zeros of either sign, it is 0.
        all.score = (0..n).map(|a| pairs.score(a, all.of[a])).fold(0.0, |sum, x| sum + x);
        Some(all)
    }

    /// r_ab, +∞ for the impossible.
    fn price(&self, pairs: &Pairs, a: usize, b: usize) -> f64 {
        // Rounding may leave a little below 0.
        ((self.u[a] - pairs.score(a, b)) + self.v[b]).max(0.0)
    }

    /// Gives `start` a node, by the cheapest way on which everyone who loses one takes another: Dijkstra's
    /// algorithm over prices.
    fn augment(&mut self, pairs: &Pairs, start: usize, search: &mut Search) -> Option<()> {
        search.clear();
        // Before its first, the price of a node is what makes the best of its pairs free.
        let row = &pairs.scores[start * pairs.large..][..pairs.large];
        let best = row.iter().zip(&self.v).map(|(x, v)| x - v).fold(f64::NEG_INFINITY, f64::max);
        if best == f64::NEG_INFINITY {
            return None;
        }
        self.u[start] = best;
        let (mut from, mut so_far) = (start, 0.0);
        let end = loop {
            let mut next: Option<usize> = None;
            for (place, &b) in search.open.iter().enumerate() {
                let through = so_far + self.price(pairs, from, b);
                if through < search.distance[b] {
                    (search.distance[b], search.before[b]) = (through, from);
                }
                let (own, free) = (search.distance[b], self.owner[b] == NOBODY);
                let better = next.is_none_or(|known| {
                    let known = search.open[known];
                    let ahead = search.distance[known];
                    own < ahead || own == ahead && free && self.owner[known] != NOBODY
                });
                if better && own < f64::INFINITY {
                    next = Some(place);
                }
            }
            let b = search.open.swap_remove(next?);
            so_far = search.distance[b];
            if self.owner[b] == NOBODY {
                break b;
            }
            search.reached.push(b);
            from = self.owner[b];
        };
        // Everyone reached pays what is left of the way, which makes its pairs free.
        self.u[start] -= so_far;
        for &b in &search.reached {
            let rest = so_far - search.distance[b];
            self.u[self.owner[b]] -= rest;
            self.v[b] += rest;
        }
        let mut b = end;
        loop {
            let a = search.before[b];
            self.owner[b] = a;
            std::mem::swap(&mut self.of[a], &mut b);
            if a == start {
                return Some(());
            }
        }
    }

    /// Exchanges pairs of price 0 until the edges are the first they can be.
    ///
    /// Where x may take what y has, there is a step from x to y; nobody takes what can be left free, and
    /// whoever takes what is free takes it from nobody. For a to get b, whoever has b must get to a.
    fn go_first(&mut self, pairs: &Pairs) {
        let (n, m) = (pairs.small, pairs.large);
        // Those of the larger side whose node is settled.
        let mut settled = vec![false; m];
        let by_query = if pairs.transposed { m } else { n };
        for query in 0..by_query {
            if !pairs.transposed {
                let (a, own) = (query, self.of[query]);
                let free = |b: usize| !settled[b] && self.price(pairs, a, b) == 0.0;
                let candidates: Vec<usize> = (0..own).filter(|&b| free(b)).collect();
                if !candidates.is_empty() {
                    let towards = self.ways(pairs, a, &settled, Direction::To);
                    let first = candidates.into_iter().find(|&b| towards.has(self.owner[b]));
                    if let Some(b) = first {
                        let way = towards.way(self.owner[b]);
                        self.exchange(pairs, a, b, &way, &settled);
                    }
                }
                settled[self.of[a]] = true;
            } else {
                let (b, own) = (query, self.owner[query]);
                let free = |a: &usize| !settled[self.of[*a]] && self.price(pairs, *a, b) == 0.0;
                let candidates: Vec<usize> = (0..own.min(n)).filter(free).collect();
                if !candidates.is_empty() {
                    let from = self.ways(pairs, own, &settled, Direction::From);
                    if let Some(a) = candidates.into_iter().find(|&a| from.has(a)) {
                        let mut way = from.way(a);
                        way.reverse();
                        self.exchange(pairs, a, b, &way, &settled);
                    }
                }
                settled[b] = true;
            }
        }
    }

    /// Whether x may take what y has, at no price.
    fn may_take(&self, pairs: &Pairs, x: usize, y: usize, settled: &[bool]) -> bool {
        let of = |y: usize| Some(self.of[y]).filter(|&b| !settled[b]);
        match (x, y) {
            (NOBODY, NOBODY) => false,
            (NOBODY, y) => of(y).is_some_and(|b| self.v[b] == 0.0),
            (x, NOBODY) => !settled[self.of[x]] && self.free_for(pairs, x, settled).is_some(),
            (x, y) => !settled[self.of[x]] && of(y).is_some_and(|b| self.price(pairs, x, b) == 0.0),
        }
    }

    /// The first free node that x may take, at no price.
    fn free_for(&self, pairs: &Pairs, x: usize, settled: &[bool]) -> Option<usize> {
        let is_free = |&b: &usize| self.owner[b] == NOBODY && !settled[b];
        (0..pairs.large).filter(is_free).find(|&b| self.price(pairs, x, b) == 0.0)
    }

    /// Ways of steps between `end` and everyone else.
    fn ways(&self, pairs: &Pairs, end: usize, settled: &[bool], direction: Direction) -> Ways {
        let n = pairs.small;
        let mut ways = Ways { next: vec![None; n + 1], end };
        let mut waiting = VecDeque::from([end]);
        let last = ways.place(end);
        ways.next[last] = Some(end);
        while let Some(x) = waiting.pop_front() {
            for y in (0..n).chain([NOBODY]) {
                let steps = match direction {
                    Direction::From => self.may_take(pairs, x, y, settled),
                    Direction::To => self.may_take(pairs, y, x, settled),
                };
                let place = ways.place(y);
                if steps && ways.next[place].is_none() {
                    ways.next[place] = Some(x);
                    waiting.push_back(y);
                }
            }
        }
        ways
    }

    /// Gives b to a; along `way`, from who had b to a, everyone takes what the next one had.
    fn exchange(&mut self, pairs: &Pairs, a: usize, b: usize, way: &[usize], settled: &[bool]) {
        // b is not to be taken as free once more.
        let mut taken = settled.to_vec();
        taken[b] = true;
        let given: Vec<Option<usize>> = way
            .windows(2)
            .map(|step| match step[1] {
                NOBODY => self.free_for(pairs, step[0], &taken),
                next => Some(self.of[next]),
            })
            .collect();
        for (&x, node) in way.iter().zip(given) {
            let node = node.expect("a step has a node to take");
            self.owner[node] = x;
            if x != NOBODY {
                self.of[x] = node;
            }
        }
        (self.of[a], self.owner[b]) = (b, a);
    }

    /// Highest score of the assignments that have each pair, [small, large]; −∞ where there is none.
    ///
    /// The best assignment less the cheapest way round: a takes b, and from who had b prices lead to a.
    pub fn with_each_pair(&self, pairs: &Pairs) -> Vec<f64> {
        let (n, m) = (pairs.small, pairs.large);
        let nodes = n + 1;
        // The last one is nobody.
        let mut cost = vec![f64::INFINITY; nodes * nodes];
        for x in 0..n {
            for y in (0..n).filter(|&y| y != x) {
                cost[x * nodes + y] = self.price(pairs, x, self.of[y]);
            }
            let free = (0..m).filter(|&b| self.owner[b] == NOBODY);
            let cheapest = free.map(|b| self.price(pairs, x, b)).fold(f64::INFINITY, f64::min);
            cost[x * nodes + n] = cheapest;
            // Without free nodes nobody may have one.
            cost[n * nodes + x] = if n < m { self.v[self.of[x]] } else { f64::INFINITY };
        }
        (0..nodes).for_each(|x| cost[x * nodes + x] = 0.0);
        for through in 0..nodes {
            let way = cost[through * nodes..][..nodes].to_vec();
            for x in 0..nodes {
                let first = cost[x * nodes + through];
                if first < f64::INFINITY {
                    let row = cost[x * nodes..][..nodes].iter_mut().zip(&way);
                    row.for_each(|(known, rest)| *known = known.min(first + rest));
                }
            }
        }
        let with = |a: usize, b: usize| {
            let from = if self.owner[b] == NOBODY { n } else { self.owner[b] };
            self.score - (self.price(pairs, a, b) + cost[from * nodes + a])
        };
        (0..n).flat_map(|a| (0..m).map(move |b| with(a, b))).collect()
    }
}

/// Room for a search, and what it has reached.
struct Search {
    /// Nodes of the larger side not yet reached.
    open: Vec<usize>,
    reached: Vec<usize>,
    distance: Vec<f64>,
    /// Node of the smaller side that each was reached from.
    before: Vec<usize>,
}

impl Search {
    fn new(large: usize) -> Self {
        let (open, reached) = (Vec::with_capacity(large), Vec::new());
        Self { open, reached, distance: vec![0.0; large], before: vec![NOBODY; large] }
    }

    fn clear(&mut self) {
        self.open.clear();
        self.open.extend(0..self.distance.len());
        self.reached.clear();
        self.distance.fill(f64::INFINITY);
    }
}

/// Which end of all ways is the same.
#[derive(Clone, Copy, PartialEq)]
enum Direction {
    From,
    To,
}

/// Shortest ways to or from one end: of everyone, the next one nearer to it.
struct Ways {
    next: Vec<Option<usize>>,
    end: usize,
}

impl Ways {
    /// Index of a node, nobody being the last.
    fn place(&self, node: usize) -> usize {
        node.min(self.next.len() - 1)
    }

    fn has(&self, node: usize) -> bool {
        self.next[self.place(node)].is_some()
    }

    /// Nodes from one that has a way to the end, both among them.
    fn way(&self, node: usize) -> Vec<usize> {
        let mut way = vec![node];
        while let Some(&last) = way.last().filter(|&&last| last != self.end) {
            way.extend(self.next[self.place(last)]);
        }
        way
    }
}
