//! Messages along chains, in the linear domain.
//!
//! With w the weights e^θ of the states of a step and A those of the transitions,
//!
//! ```text
//! αᵗ = (αᵗ⁻¹ᵀ A) ∘ wᵗ,      βᵗ⁻¹ = A (wᵗ ∘ βᵗ),      pᵗ = αᵗ ∘ βᵗ / zᵗ,      zᵗ = Σ αᵗ ∘ βᵗ,
//! E[transitions] = A ∘ Σ_t αᵗ⁻¹ uᵗᵀ,      uᵗ = wᵗ ∘ βᵗ / zᵗ
//! ```
//!
//! is the recursion of [`lanes`](super::lanes) with a multiplication in place of each of its exponentials
//! (Rabiner, Proc. IEEE 77, 1989). Messages are scaled by a power of two a step, and weights are relative
//! to the largest of their step. What that can lose is what lies too far below: where the finite scores of
//! a step, the transitions and the ends range over [`WIDEST`] nats together at most, and no message is
//! below [`Chains::floor`], every term is an ordinary number and keeps its digits. A factor of which
//! that does not hold is left to the recursion.
//!
//! Derivatives along a direction go the same way, as dual numbers. What all states of a step have in
//! common is taken out of them: it moves log Z alone.

use std::borrow::Cow;
use std::f64::consts::LN_2;
use std::ops::Range;

use marginals_kernels::{
    Banded, Entries, InstructionSet, LANES, Lanes, Side, add_outer_products, add_product, shares_of,
};

use super::rows::{
    Extent, Scale, ZERO, centre, multiply, multiply_all, power, require, rescale, sum, take_out,
};
use crate::infer::coupled::{Moments, Scores, Tangents};
use crate::parallel;

/// Where a chain's own scores stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// First score of transitions: [M, M], or [N − 1, M, M] where they differ by step.
    pub transitions: Option<usize>,
    /// Whether they do.
    pub by_step: bool,
    /// First score of starts [M].
    pub start: Option<usize>,
    /// First score of ends [M].
    pub end: Option<usize>,
    /// Farthest that a state may lie from the one before.
    pub band: usize,
}

/// Moments of every factor; none where its scores range too widely.
pub(crate) fn moments(layout: &Layout, factors: &[Scores<'_>]) -> Vec<Option<Moments>> {
    by_group(factors, &|run| {
        let mut chains = Chains::new(*layout, &factors[run]);
        chains.forward(None);
        chains.backward(None);
        chains.each(|lane| chains.moments(lane))
    })
}

/// Moments of every factor and their derivatives along a direction each, likewise.
pub(crate) fn tangents(
    layout: &Layout,
    factors: &[Scores<'_>],
    directions: &[Vec<f64>],
) -> Vec<Option<Tangents>> {
    by_group(factors, &|run| {
        let mut chains = Chains::new(*layout, &factors[run.clone()]);
        let mut dual = Dual::new(&chains, &directions[run]);
        chains.forward(Some(&mut dual));
        chains.backward(Some(&mut dual));
        chains.each(|lane| {
            let mut expected = chains.numbers(&dual.marginals, &dual.counts, lane);
            expected.iter_mut().for_each(|x| *x *= dual.unit[lane]);
            Tangents { moments: chains.moments(lane), expected }
        })
    })
}

/// Results of every factor, from those of eight at a time.
fn by_group<R: Send>(
    factors: &[Scores<'_>],
    of_group: &(dyn Fn(Range<usize>) -> Vec<R> + Sync),
) -> Vec<R> {
    let groups = factors.len().div_ceil(LANES);
    let run = |group: usize| group * LANES..factors.len().min((group + 1) * LANES);
    parallel::map(groups, &|group| of_group(run(group))).into_iter().flatten().collect()
}

/// Most nats from the smallest to the largest finite score of a step, of the transitions and of the ends,
/// together.
const WIDEST: f64 = 300.0;

/// Smallest normaliser of a step whose terms keep their digits.
const SMALLEST: f64 = 1e-200;

/// Chains of up to eight factors.
struct Chains<'s> {
    set: InstructionSet,
    layout: Layout,
    factors: &'s [Scores<'s>],
    /// Steps of the longest.
    n: usize,
    /// States.
    m: usize,
    /// Whether no digit has been lost.
    is_exact: [bool; LANES],
    /// Smallest number of a message which the weights of a step leave an ordinary number.
    floor: Lanes,
    /// Weights of the states of every step, relative to the largest.
    weights: Vec<Lanes>,
    /// Those of the ends.
    ends: Vec<Lanes>,
    transitions: Transitions,
    /// Logarithm of all that weights are relative to.
    offset: Lanes,
    /// Power of two that all messages forward were divided by, and those of each step.
    exponent: Lanes,
    scales: Vec<Lanes>,
    /// αᵗ of every step.
    alpha: Vec<Lanes>,
    /// uᵗ of every step.
    arrivals: Vec<Lanes>,
    /// The marginals.
    marginals: Vec<Lanes>,
    /// Expected numbers of transitions, of each step or all together.
    counts: Vec<Lanes>,
    /// zᵗ of the last step of each.
    normaliser: Lanes,
}

/// How the same moves along a direction, divided by a power of two a factor.
struct Dual {
    /// The power of two.
    unit: Lanes,
    /// Direction of the states' scores, starts among them, of the ends and of the transitions; nothing of
    /// those where none moves.
    states: Vec<Lanes>,
    ends: Vec<Lanes>,
    transitions: Vec<Lanes>,
    /// Multiple of αᵗ that was taken out of its derivative.
    shifts: Vec<Lanes>,
    alpha: Vec<Lanes>,
    arrivals: Vec<Lanes>,
    marginals: Vec<Lanes>,
    counts: Vec<Lanes>,
}

/// Transitions of one step.
#[derive(Default)]
struct Transitions {
    /// Step whose weights these are.
    step: Option<usize>,
    /// Weights relative to the largest: of all factors, where they are the same, or of each.
    shared: Vec<f64>,
    each: Vec<Lanes>,
    /// Weights times their direction, where any moves.
    moved: Vec<Lanes>,
}

impl Transitions {
    fn weights(&self, layout: &Layout, m: usize) -> Banded<'_> {
        let entries = match (layout.transitions, self.each.is_empty()) {
            (None, _) => Entries::Ones,
            (Some(_), true) => Entries::Shared(&self.shared[..m * m]),
            (Some(_), false) => Entries::Each(&self.each),
        };
        Banded { entries, band: layout.band }
    }

    fn moved(&self, layout: &Layout) -> Banded<'_> {
        Banded { entries: Entries::Each(&self.moved), band: layout.band }
    }
}

/// Scores of the states of one step, with those of the start.
fn of_states<'s>(layout: &Layout, own: &Scores<'s>, query: usize) -> Cow<'s, [f64]> {
    let row = &own.values[query * own.row..][..own.row];
    match layout.start {
        Some(first) if query == 0 => {
            let start = &own.values[own.edges + first..];
            row.iter().zip(start).map(|(x, start)| x + start).collect()
        }
        _ => row.into(),
    }
}

/// Scores of the ends.
fn of_ends<'s>(layout: &Layout, own: &Scores<'s>) -> Cow<'s, [f64]> {
    match layout.end {
        Some(first) => own.values[own.edges + first..][..own.row].into(),
        None => vec![0.0; own.row].into(),
    }
}

impl<'s> Chains<'s> {
    fn new(layout: Layout, factors: &'s [Scores<'s>]) -> Self {
        let n = factors.iter().map(|own| own.queries).max().unwrap_or(0);
        let m = factors[0].row;
        let mut chains = Self {
            set: InstructionSet::detect(),
            layout,
            factors,
            n,
            m,
            is_exact: [false; LANES],
            floor: ZERO,
            weights: vec![[f64::NEG_INFINITY; LANES]; n * m],
            ends: vec![[f64::NEG_INFINITY; LANES]; m],
            transitions: Transitions::default(),
            offset: ZERO,
            exponent: ZERO,
            scales: vec![[1.0; LANES]; n],
            alpha: vec![ZERO; n * m],
            arrivals: vec![ZERO; n * m],
            marginals: vec![ZERO; n * m],
            counts: Vec::new(),
            normaliser: ZERO,
        };
        let mut largest = vec![[f64::NEG_INFINITY; LANES]; n + 1];
        (0..factors.len()).for_each(|lane| chains.measure(lane, &mut largest));
        let rows = chains.weights.chunks_exact_mut(m.max(1)).chain([&mut *chains.ends]);
        for (step, row) in rows.enumerate() {
            for lane in (0..factors.len()).filter(|&lane| chains.is_exact[lane]) {
                let own = &factors[lane];
                let scores = match step < n {
                    true if step >= own.queries => continue,
                    true => of_states(&layout, own, step),
                    false => of_ends(&layout, own),
                };
                row.iter_mut().zip(&*scores).for_each(|(into, &x)| into[lane] = x);
            }
            shares_of(chains.set, row, &largest[step]);
        }
        let counts = chains.layout.transitions.map_or(0, |_| chains.matrices() * m * m);
        chains.counts = vec![ZERO; counts];
        chains
    }

    /// Matrices of transitions that the longest of the chains reads.
    fn matrices(&self) -> usize {
        if self.layout.by_step { self.n.saturating_sub(1) } else { 1 }
    }

    /// Transitions of one factor at a step.
    fn of_step(&self, lane: usize, first: usize, step: usize) -> &'s [f64] {
        let own = &self.factors[lane];
        let size = self.m * self.m;
        &own.values[own.edges + first + step * size..][..size]
    }

    /// Entries of a matrix that are within the band.
    fn near(&self) -> impl Fn(usize) -> bool + use<> {
        let (m, band) = (self.m, self.layout.band);
        move |entry| (entry / m).abs_diff(entry % m) <= band
    }

    /// Finds how widely the scores of one factor range, and the largest of every step and of the ends.
    fn measure(&mut self, lane: usize, largest: &mut [Lanes]) {
        let (set, own, layout) = (self.set, self.factors[lane], self.layout);
        let mut widest = 0.0f64;
        for (query, largest) in largest.iter_mut().enumerate().take(own.queries) {
            let extent = Extent::of(set, &of_states(&layout, &own, query));
            widest = widest.max(extent.width());
            self.offset[lane] += extent.offset();
            largest[lane] = extent.largest;
        }
        let ends = Extent::of(set, &of_ends(&layout, &own));
        self.offset[lane] += ends.offset();
        largest[self.n][lane] = ends.largest;
        let mut of_transitions = 0.0f64;
        if let Some(first) = layout.transitions {
            let steps = own.queries.saturating_sub(1);
            let matrices = if layout.by_step { steps } else { steps.min(1) };
            for matrix in 0..matrices {
                let extent = Extent::of(set, self.of_step(lane, first, matrix));
                of_transitions = of_transitions.max(extent.width());
                let times = if layout.by_step { 1.0 } else { steps as f64 };
                self.offset[lane] += times * extent.offset();
            }
        }
        let range = widest + ends.width() + of_transitions;
        self.is_exact[lane] = range <= WIDEST;
        self.floor[lane] = (range - 700.0).exp();
    }

    /// Makes the weights of the transitions into step `to`, unless they are there.
    fn enter(&mut self, to: usize, dual: Option<&Dual>) {
        let Some(first) = self.layout.transitions else { return };
        let step = if self.layout.by_step { to - 1 } else { 0 };
        if self.transitions.step == Some(step) {
            return;
        }
        let mut own = std::mem::take(&mut self.transitions);
        own.step = Some(step);
        let (size, near) = (self.m * self.m, self.near());
        let of_lane = |lane: usize| self.of_step(lane, first, step);
        let largest = |lane: usize| Extent::of(self.set, of_lane(lane)).largest;
        let is_shared = (1..self.factors.len()).all(|lane| of_lane(lane) == of_lane(0));
        own.shared.clear();
        own.each.clear();
        if is_shared {
            own.shared.extend_from_slice(of_lane(0));
            own.shared.resize(size.next_multiple_of(LANES), f64::NEG_INFINITY);
            let (rows, _) = own.shared.as_chunks_mut::<LANES>();
            shares_of(self.set, rows, &[largest(0); LANES]);
            let entries = own.shared[..size].iter_mut().enumerate();
            entries.filter(|(entry, _)| !near(*entry)).for_each(|(_, x)| *x = 0.0);
        } else {
            own.each.resize(size, [f64::NEG_INFINITY; LANES]);
            let mut of_all = ZERO;
            // What a chain that has ended would read of later steps may be anything.
            let goes_on = |lane: &usize| to < self.factors[*lane].queries;
            for lane in (0..self.factors.len()).filter(goes_on) {
                of_all[lane] = largest(lane);
                let entries = own.each.iter_mut().zip(of_lane(lane)).enumerate();
                entries.filter(|(entry, _)| near(*entry)).for_each(|(_, (e, &x))| e[lane] = x);
            }
            shares_of(self.set, &mut own.each, &of_all);
        }
        if let Some(dual) = dual.filter(|dual| !dual.transitions.is_empty()) {
            let directions = &dual.transitions[step * size..][..size];
            own.moved.clear();
            own.moved.extend(directions.iter().enumerate().map(|(entry, direction)| {
                let weight = |lane: usize| match is_shared {
                    true => own.shared[entry],
                    false => own.each[entry][lane],
                };
                std::array::from_fn(|lane| weight(lane) * direction[lane])
            }));
        }
        self.transitions = own;
    }
}

impl Chains<'_> {
    fn forward(&mut self, mut dual: Option<&mut Dual>) {
        let (set, m) = (self.set, self.m);
        let mut moved = vec![ZERO; if dual.is_some() { m } else { 0 }];
        for t in 0..self.n {
            if t > 0 {
                self.enter(t, dual.as_deref());
            }
            let (before, alpha) = self.alpha.split_at_mut(t * m);
            let alpha = &mut alpha[..m];
            match t {
                0 => alpha.fill([1.0; LANES]),
                _ => {
                    let before = &before[(t - 1) * m..];
                    let by = self.transitions.weights(&self.layout, m);
                    add_product(set, Side::Left, by, before, alpha);
                    if let Some(dual) = dual.as_deref() {
                        moved.fill(ZERO);
                        let moved_before = &dual.alpha[(t - 1) * m..t * m];
                        add_product(set, Side::Left, by, moved_before, &mut moved);
                        if dual.moves_transitions() {
                            let by = self.transitions.moved(&self.layout);
                            add_product(set, Side::Left, by, before, &mut moved);
                        }
                    }
                }
            }
            let weights = &self.weights[t * m..][..m];
            multiply(set, alpha, weights);
            let Scale { by: scale, exponent, least } = rescale(set, alpha);
            self.scales[t] = scale;
            self.exponent.iter_mut().zip(exponent).for_each(|(all, own)| *all += own);
            require(&mut self.is_exact, &least, &self.floor);
            if let Some(dual) = dual.as_deref_mut() {
                let by = &dual.states[t * m..][..m];
                multiply(set, &mut moved, weights);
                let into = &mut dual.alpha[t * m..][..m];
                set.run(
                    #[inline(always)]
                    || {
                        for s in 0..m {
                            for lane in 0..LANES {
                                into[s][lane] =
                                    moved[s][lane] * scale[lane] + alpha[s][lane] * by[s][lane];
                            }
                        }
                    },
                );
                dual.shifts[t] = centre(set, into, alpha);
            }
        }
    }

    fn backward(&mut self, mut dual: Option<&mut Dual>) {
        let (set, m) = (self.set, self.m);
        let (mut beta, mut moved) = (vec![ZERO; m], vec![ZERO; m]);
        for t in (0..self.n).rev() {
            if t > 0 {
                self.enter(t, dual.as_deref());
            }
            let own = t * m..(t + 1) * m;
            let ending = |lane: &usize| self.factors[*lane].queries == t + 1;
            for lane in (0..self.factors.len()).filter(ending) {
                (0..m).for_each(|s| beta[s][lane] = self.ends[s][lane]);
                if let Some(dual) = dual.as_deref() {
                    (0..m).for_each(|s| moved[s][lane] = self.ends[s][lane] * dual.ends[s][lane]);
                }
            }
            let (alpha, weights) = (&self.alpha[own.clone()], &self.weights[own.clone()]);
            let p = &mut self.marginals[own.clone()];
            p.copy_from_slice(alpha);
            multiply(set, p, &beta);
            let z = sum(set, p);
            // 1/zᵗ, and the same of what αᵗ was before it was scaled.
            let (mut share, mut of_step) = (ZERO, ZERO);
            for lane in (0..self.factors.len()).filter(|&lane| z[lane] > 0.0) {
                share[lane] = 1.0 / z[lane];
                of_step[lane] = share[lane] * self.scales[t][lane];
                self.is_exact[lane] &= z[lane].min(1.0 / of_step[lane]) >= SMALLEST;
            }
            for lane in (0..self.factors.len()).filter(|&lane| self.factors[lane].queries == t + 1)
            {
                self.normaliser[lane] = z[lane];
            }
            multiply_all(set, p, &share);
            let arrivals = &mut self.arrivals[own.clone()];
            arrivals.copy_from_slice(weights);
            multiply(set, arrivals, &beta);
            multiply_all(set, arrivals, &of_step);
            if let Some(dual) = dual.as_deref_mut() {
                dual.arrive(
                    set,
                    t,
                    [alpha, weights, p, arrivals],
                    [&beta, &moved],
                    [&share, &of_step],
                );
            }
            if t == 0 {
                break;
            }
            beta.fill(ZERO);
            add_product(
                set,
                Side::Right,
                self.transitions.weights(&self.layout, m),
                arrivals,
                &mut beta,
            );
            let Scale { by, least, .. } = rescale(set, &mut beta);
            require(&mut self.is_exact, &least, &self.floor);
            if let Some(dual) = dual.as_deref_mut() {
                moved.fill(ZERO);
                let of_arrivals = &dual.arrivals[own.clone()];
                add_product(
                    set,
                    Side::Right,
                    self.transitions.weights(&self.layout, m),
                    of_arrivals,
                    &mut moved,
                );
                if dual.moves_transitions() {
                    add_product(
                        set,
                        Side::Right,
                        self.transitions.moved(&self.layout),
                        arrivals,
                        &mut moved,
                    );
                }
                multiply_all(set, &mut moved, &by);
            }
            if self.layout.by_step {
                self.count(t..t + 1, dual.as_deref_mut());
            }
        }
        if !self.layout.by_step && self.n > 1 {
            self.count(1..self.n, dual);
        }
    }

    /// Expected numbers of the transitions into some steps, whose matrix is the same.
    fn count(&mut self, steps: Range<usize>, dual: Option<&mut Dual>) {
        if self.layout.transitions.is_none() {
            return;
        }
        let (set, m, band) = (self.set, self.m, self.layout.band);
        let to = steps.start * m..steps.end * m;
        let from = to.start - m..to.end - m;
        let first = if self.layout.by_step { from.start * m } else { 0 };
        let into = first..first + m * m;
        let counts = &mut self.counts[into.clone()];
        let (alpha, arrivals) = (&self.alpha[from.clone()], &self.arrivals[to.clone()]);
        add_outer_products(set, (alpha, arrivals), m, band, counts);
        if let Some(dual) = dual {
            let moved = &mut dual.counts[into];
            add_outer_products(set, (&dual.alpha[from], arrivals), m, band, moved);
            add_outer_products(set, (alpha, &dual.arrivals[to]), m, band, moved);
            self.transitions.multiply(moved);
            if !dual.transitions.is_empty() {
                let by = self.transitions.moved.iter().zip(&*counts);
                for (into, (by, count)) in moved.iter_mut().zip(by) {
                    (0..LANES).for_each(|lane| into[lane] += by[lane] * count[lane]);
                }
            }
        }
        self.transitions.multiply(counts);
    }

    /// A result of every factor of which no digit has been lost.
    fn each<R>(&self, of: impl Fn(usize) -> R) -> Vec<Option<R>> {
        (0..self.factors.len()).map(|lane| self.is_exact[lane].then(|| of(lane))).collect()
    }

    fn moments(&self, lane: usize) -> Moments {
        let log_partition = match (self.factors[lane].queries, self.normaliser[lane]) {
            (0, _) => 0.0,
            (_, 0.0) => f64::NEG_INFINITY,
            (_, z) => z.ln() + (self.exponent[lane] * LN_2 + self.offset[lane]),
        };
        Moments { log_partition, expected: self.numbers(&self.marginals, &self.counts, lane) }
    }

    /// Numbers of all scores of one factor, from those of the states and the transitions.
    fn numbers(&self, states: &[Lanes], counts: &[Lanes], lane: usize) -> Vec<f64> {
        let (own, m) = (&self.factors[lane], self.m);
        let mut all = vec![0.0; own.values.len()];
        let mut put = |first: usize, rows: &[Lanes]| {
            let into = all[first..].iter_mut().zip(rows);
            into.for_each(|(into, row)| *into = row[lane]);
        };
        put(0, states);
        if let Some(first) = self.layout.transitions {
            put(own.edges + first, counts);
        }
        if own.queries > 0 {
            let last = (own.queries - 1) * m;
            self.layout.start.inspect(|first| put(own.edges + first, &states[..m]));
            self.layout.end.inspect(|first| put(own.edges + first, &states[last..last + m]));
        }
        all
    }
}

impl Dual {
    fn new(chains: &Chains<'_>, directions: &[Vec<f64>]) -> Self {
        let (n, m, layout) = (chains.n, chains.m, &chains.layout);
        let rows = |count: usize| vec![ZERO; count];
        let matrices = chains.counts.len();
        let mut dual = Self {
            unit: [1.0; LANES],
            states: rows(n * m),
            ends: rows(m),
            transitions: rows(matrices),
            shifts: rows(n),
            alpha: rows(n * m),
            arrivals: rows(n * m),
            marginals: rows(n * m),
            counts: rows(matrices),
        };
        let mut moves_transitions = false;
        for (lane, direction) in directions.iter().enumerate() {
            let largest = direction.iter().fold(0.0f64, |most, d| most.max(d.abs()));
            let (unit, per_unit) = power(largest);
            dual.unit[lane] = unit;
            let edges = chains.factors[lane].edges;
            let put = |rows: &mut [Lanes], first: usize| {
                let mut moves = false;
                for (row, d) in rows.iter_mut().zip(&direction[first..]) {
                    row[lane] += d * per_unit;
                    moves |= *d != 0.0;
                }
                moves
            };
            put(&mut dual.states, 0);
            layout.start.filter(|_| n > 0).map(|first| put(&mut dual.states[..m], edges + first));
            layout.end.map(|first| put(&mut dual.ends, edges + first));
            if let Some(first) = layout.transitions {
                moves_transitions |= put(&mut dual.transitions, edges + first);
            }
        }
        if !moves_transitions {
            dual.transitions.clear();
        }
        dual
    }

    /// Whether a score of a transition moves.
    fn moves_transitions(&self) -> bool {
        !self.transitions.is_empty()
    }

    /// How pᵗ and uᵗ of step `t` move.
    fn arrive(
        &mut self,
        set: InstructionSet,
        t: usize,
        [alpha, weights, p, arrivals]: [&[Lanes]; 4],
        [beta, moved]: [&[Lanes]; 2],
        [share, of_step]: [&Lanes; 2],
    ) {
        let m = beta.len();
        let own = t * m..(t + 1) * m;
        let (of_alpha, by) = (&self.alpha[own.clone()], &self.states[own.clone()]);
        let of_p = &mut self.marginals[own.clone()];
        let of_arrivals = &mut self.arrivals[own];
        set.run(
            #[inline(always)]
            || {
                for s in 0..m {
                    for lane in 0..LANES {
                        let (a, b) = (alpha[s][lane], beta[s][lane]);
                        let product = of_alpha[s][lane] * b + a * moved[s][lane];
                        of_p[s][lane] = product * share[lane];
                        let sum = moved[s][lane] + b * by[s][lane];
                        of_arrivals[s][lane] = weights[s][lane] * sum * of_step[lane];
                    }
                }
            },
        );
        let common = centre(set, of_p, p);
        let shift: Lanes = std::array::from_fn(|lane| common[lane] + self.shifts[t][lane]);
        take_out(set, of_arrivals, arrivals, &shift);
    }
}

impl Transitions {
    /// `rows` times the weights, entry by entry.
    fn multiply(&self, rows: &mut [Lanes]) {
        match self.each.is_empty() {
            false => rows.iter_mut().zip(&self.each).for_each(|(row, each)| {
                (0..LANES).for_each(|lane| row[lane] *= each[lane]);
            }),
            true => rows.iter_mut().zip(&self.shared).for_each(|(row, weight)| {
                row.iter_mut().for_each(|x| *x *= weight);
            }),
        }
    }
}
