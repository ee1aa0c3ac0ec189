//! The posterior of one factor: a query, or a key where keys pick.

use ndarray::{Array2, NdFloat};

use super::functions::{coin_entropy, log_sum_exp, logistic, softplus};
use crate::answers::ranked;
use crate::exact::{Exact, relative_to_largest};
use crate::{Answers, Arithmetic, Law, NullEdge, Problem, Structure};

/// What a factor may choose.
struct Choice<T> {
    /// Query or key; −1 for no edge.
    index: i64,
    /// What choices are ranked by: θ, or log p where choices have no θ of their own.
    order: Exact<T>,
    log_p: Exact<T>,
    p: T,
}

/// A factor that has a choice.
pub(super) struct Factor<T> {
    choices: Vec<Choice<T>>,
    log_partition: T,
    log_evidence: T,
    entropy: T,
    kl: T,
    /// How close the orders of tied choices are.
    tie: T,
}

impl<T: NdFloat> Factor<T> {
    /// `None` where nothing is possible.
    pub fn of(problem: &Problem<T>, factor: usize) -> Option<Self> {
        if problem.law == Law::NearestAccepted {
            return Some(Self::nearest_accepted(problem, factor));
        }
        if problem.structure != Structure::EachQueryPicksAtMostOne {
            return Self::categorical(problem, factor, None);
        }
        match problem.null[factor] {
            NullEdge::Weighted { log_weight, log_potential } => {
                Self::categorical(problem, factor, Some((log_weight, log_potential)))
            }
            NullEdge::Gated { gate } => Some(Self::categorical(problem, factor, None)?.gated(gate)),
        }
    }

    /// One softmax: over the keys of a query and its null edge, or over the queries of a key.
    fn categorical(problem: &Problem<T>, factor: usize, null: Option<(T, T)>) -> Option<Self> {
        let by_key = problem.structure == Structure::EachKeyPicksOne;
        let count = if by_key { problem.queries() } else { problem.keys() };
        let site = |c: usize| if by_key { (c, factor) } else { (factor, c) };
        let each = |of: &dyn Fn(usize, usize) -> Exact<T>| -> Vec<Exact<T>> {
            (0..count).map(|c| of(site(c).0, site(c).1)).collect()
        };
        let mut theta = each(&|i, j| problem.exact_theta(i, j));
        let mut log_weight = each(&|i, j| problem.exact_prior(i, j));
        let mut log_potential: Vec<T> =
            (0..count).map(|c| problem.log_potential[site(c)]).collect();
        if let Some((weight, potential)) = null {
            theta.push(match weight == T::neg_infinity() {
                true => Exact::of(weight),
                false => problem.sum([weight, potential].into_iter()),
            });
            log_weight.push(Exact::of(weight));
            log_potential.push(potential);
        }
        let sums = theta;
        let (theta, top) = relative(problem.arithmetic, &sums)?;
        let (log_weight, prior_top) = relative(problem.arithmetic, &log_weight)?;
        let own = log_sum_exp(&theta);
        if own == T::neg_infinity() {
            return None;
        }
        let log_partition = top.plus(own);
        let log_evidence = top.minus(&prior_top) + (own - log_sum_exp(&log_weight));
        // Normalised by the sum itself: exp(θ − log Z) would carry the rounding of a large log Z into
        // every probability.
        let max = theta.iter().copied().fold(T::neg_infinity(), T::max);
        let sum = theta.iter().fold(T::zero(), |sum, &x| sum + (x - max).exp());
        let (mut entropy, mut expected_potential) = (T::zero(), T::zero());
        let mut choices = Vec::new();
        for c in (0..theta.len()).filter(|&c| theta[c] != T::neg_infinity()) {
            let p = (theta[c] - max).exp() / sum;
            entropy -= p * (theta[c] - max - sum.ln());
            expected_potential += p * log_potential[c];
            let index = if c == count { -1 } else { c as i64 };
            let log_p = sums[c].less(&top).plus(-max).plus(-sum.ln());
            choices.push(Choice { index, order: sums[c], log_p, p });
        }
        Some(Self {
            choices,
            log_partition: log_partition.value(),
            log_evidence,
            entropy,
            kl: expected_potential - log_evidence,
            tie: T::zero(),
        })
    }

    /// The same choice made with probability σ(gate), and none otherwise.
    fn gated(mut self, gate: T) -> Self {
        let open = logistic(gate);
        for choice in &mut self.choices {
            choice.p *= open;
            choice.log_p.add(-softplus(-gate));
        }
        let log_p = Exact::of(-softplus(gate));
        self.choices.push(Choice { index: -1, order: log_p, log_p, p: logistic(-gate) });
        self.log_partition += softplus(-gate);
        self.entropy = open * self.entropy + coin_entropy(gate);
        self.kl *= open;
        self.ranked_by_probability()
    }

    /// One pass from the nearest key to the farthest. Visiting a key is a coin of log-odds θ; the
    /// chain rule adds up the entropies of the coins and their divergences from those of the prior.
    fn nearest_accepted(problem: &Problem<T>, query: usize) -> Self {
        let zero = T::zero();
        let (mut log_survival, mut entropy, mut kl) = (Exact::of(zero), zero, zero);
        let mut choices = Vec::new();
        for j in (0..problem.keys()).rev().filter(|&j| problem.allowed(query, j)) {
            let exact = problem.exact_theta(query, j);
            let (theta, weight) = (exact.value(), problem.prior(query, j));
            let visited = log_survival.value().exp();
            if visited > zero {
                kl += visited * coin_divergence(theta, weight);
            }
            if theta == T::neg_infinity() {
                continue;
            }
            if visited > zero {
                entropy += visited * coin_entropy(theta);
            }
            let mut log_p = exact.log_logistic();
            log_p.multiply(&log_survival);
            let p = visited * logistic(theta);
            choices.push(Choice { index: j as i64, order: log_p, log_p, p });
            log_survival.multiply(&exact.log_complement());
        }
        let (order, p) = (log_survival, log_survival.value().exp());
        choices.push(Choice { index: -1, order, log_p: log_survival, p });
        let free =
            Self { choices, log_partition: zero, log_evidence: zero, entropy, kl, tie: zero };
        free.ranked_by_probability()
    }

    fn ranked_by_probability(mut self) -> Self {
        for choice in &mut self.choices {
            choice.order = choice.log_p;
        }
        self.tie = T::epsilon() * T::from(512).expect("a number");
        self
    }

    /// Writes the answers down.
    pub fn record(
        self,
        problem: &Problem<T>,
        factor: usize,
        out: &mut Answers<T>,
        log_marginals: &mut Array2<Exact<T>>,
    ) {
        out.log_partition[factor] = self.log_partition;
        out.log_evidence[factor] = self.log_evidence;
        out.entropy[factor] = self.entropy;
        out.kl[factor] = self.kl;
        out.null_probability[factor] = T::zero();
        for choice in &self.choices {
            let Ok(index) = usize::try_from(choice.index) else {
                out.null_probability[factor] = choice.p;
                continue;
            };
            let site = match problem.structure {
                Structure::EachKeyPicksOne => [index, factor],
                _ => [factor, index],
            };
            out.marginals[site] = choice.p;
            log_marginals[site] = choice.log_p;
        }
        let candidates = self.choices.into_iter().map(|c| (c.index, c.order, c.p)).collect();
        out.ranking[factor] = ranked(candidates, self.tie);
    }

    /// −Σ p log p′ over the choices.
    pub fn cross_entropy(&self, other: &Self) -> T {
        let mut sum = T::zero();
        for choice in self.choices.iter().filter(|c| c.p > T::zero()) {
            let twin = other.choices.iter().find(|c| c.index == choice.index);
            sum -= choice.p * twin.map_or(T::neg_infinity(), |c| c.log_p.value());
        }
        sum
    }
}

/// Scores less what they have in common, and that: nothing in plain arithmetic.
fn relative<T: NdFloat>(arithmetic: Arithmetic, sums: &[Exact<T>]) -> Option<(Vec<T>, Exact<T>)> {
    match arithmetic {
        Arithmetic::Exact => relative_to_largest(sums),
        Arithmetic::Plain => Some((sums.iter().map(Exact::value).collect(), Exact::of(T::zero()))),
    }
}

/// KL between two coins of log-odds x and y, each half from logs that keep small numbers.
fn coin_divergence<T: NdFloat>(x: T, y: T) -> T {
    let half = |sign: T| {
        let p = logistic(sign * x);
        let log_ratio = softplus(-sign * y) - softplus(-sign * x);
        if p == T::zero() { T::zero() } else { p * log_ratio }
    };
    half(T::one()) + half(-T::one())
}
