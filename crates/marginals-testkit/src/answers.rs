//! Everything that can be asked of one posterior.

use ndarray::{Array1, Array2, NdFloat};

use crate::Problem;
use crate::exact::{Exact, relative_to_largest};

/// Every answer of one head. F is the number of factors: M where keys pick, N otherwise.
#[derive(Clone, Debug)]
pub struct Answers<T = f64> {
    /// P(φ_ij = 1), N × M.
    pub marginals: Array2<T>,
    /// E\[v\], N × d_v.
    pub mean: Array2<T>,
    /// Var\[v\], N × d_v.
    pub value_variance: Array2<T>,
    /// Σ_i P(φ_ij), M.
    pub column_mass: Array1<T>,
    /// Σ_j P(φ_ij) |i + offset − j|, N.
    pub expected_distance: Array1<T>,
    /// log Z(θ), F.
    pub log_partition: Array1<T>,
    /// log Z(θ) − log Z(log w), F.
    pub log_evidence: Array1<T>,
    /// −E\[log p(φ)\], F.
    pub entropy: Array1<T>,
    /// KL(p ‖ π), F.
    pub kl: Array1<T>,
    /// P(no edge), F: 1 where nothing may serve.
    pub null_probability: Array1<T>,
    /// max_j θ_ij over the possible edges of a query, N; −∞ where there is none.
    pub max_score: Array1<T>,
    /// The key of the largest score, ties to the smallest; −1 where there is none.
    pub max_score_key: Array1<i64>,
    /// min_j θ_ij over the possible edges of a query, N; +∞ where there is none.
    pub min_score: Array1<T>,
    /// The key of the smallest score, ties to the smallest; −1 where there is none.
    pub min_score_key: Array1<i64>,
    /// Per factor: every possible choice and its probability, best first, ties by index. The null
    /// edge is choice −1; where keys pick a choice is a query, otherwise a key; independent edges
    /// are ranked one by one.
    pub ranking: Vec<Vec<(i64, T)>>,
}

impl<T: NdFloat> Answers<T> {
    /// The answers of a posterior without edges: all zeros, −∞ where a log is asked for.
    pub(crate) fn degenerate(problem: &Problem<T>) -> Self {
        let (n, m, f) = (problem.queries(), problem.keys(), problem.factors());
        let width = problem.value.ncols();
        Self {
            marginals: Array2::zeros((n, m)),
            mean: Array2::zeros((n, width)),
            value_variance: Array2::zeros((n, width)),
            column_mass: Array1::zeros(m),
            expected_distance: Array1::zeros(n),
            log_partition: Array1::from_elem(f, T::neg_infinity()),
            log_evidence: Array1::from_elem(f, T::neg_infinity()),
            entropy: Array1::zeros(f),
            kl: Array1::zeros(f),
            null_probability: Array1::ones(f),
            max_score: Array1::from_elem(n, T::neg_infinity()),
            max_score_key: Array1::from_elem(n, -1),
            min_score: Array1::from_elem(n, T::infinity()),
            min_score_key: Array1::from_elem(n, -1),
            ranking: vec![Vec::new(); f],
        }
    }

    /// The largest probability of each factor, "no edge" among the choices; 0 where there is no
    /// choice.
    pub fn max_probability(&self) -> Array1<T> {
        self.ranking.iter().map(|r| r.first().map_or(T::zero(), |best| best.1)).collect()
    }

    /// The most probable choice of each factor, −1 where it is the null edge or there is none.
    pub fn map(&self) -> Array1<i64> {
        self.ranking.iter().map(|r| r.first().map_or(-1, |best| best.0)).collect()
    }

    /// The `count` best choices of each factor and their probabilities, both F × count; where there
    /// are fewer, index −1 and probability 0.
    pub fn top_k(&self, count: usize) -> (Array2<i64>, Array2<T>) {
        let rank = |f: usize, r: usize| self.ranking[f].get(r).copied();
        let shape = (self.ranking.len(), count);
        (
            Array2::from_shape_fn(shape, |(f, r)| rank(f, r).map_or(-1, |choice| choice.0)),
            Array2::from_shape_fn(shape, |(f, r)| rank(f, r).map_or(T::zero(), |choice| choice.1)),
        )
    }

    /// The probability of one choice of a factor, `None` where it is not possible.
    pub fn probability(&self, factor: usize, choice: i64) -> Option<T> {
        self.ranking[factor].iter().find(|c| c.0 == choice).map(|c| c.1)
    }

    /// The largest score of the head and its edge \[query, key\], ties to the first; −∞ and `None`
    /// where no edge is possible.
    pub fn head_max_score(&self) -> (T, Option<[usize; 2]>) {
        self.head_extreme(&self.max_score, &self.max_score_key, |x, best| x > best)
    }

    /// The smallest score of the head and its edge \[query, key\], ties to the first; +∞ and `None`
    /// where no edge is possible.
    pub fn head_min_score(&self) -> (T, Option<[usize; 2]>) {
        self.head_extreme(&self.min_score, &self.min_score_key, |x, best| x < best)
    }

    fn head_extreme(
        &self,
        scores: &Array1<T>,
        keys: &Array1<i64>,
        better: impl Fn(T, T) -> bool,
    ) -> (T, Option<[usize; 2]>) {
        let rows = (0..scores.len()).filter(|&i| keys[i] >= 0);
        let best = rows.reduce(|a, b| if better(scores[b], scores[a]) { b } else { a });
        match best {
            Some(i) => (scores[i], Some([i, keys[i] as usize])),
            None => {
                (if better(T::zero(), T::one()) { T::infinity() } else { -T::infinity() }, None)
            }
        }
    }

    /// Notes the largest and the smallest of the scores of a query's edges; impossible ones are −∞.
    pub(crate) fn note_scores(&mut self, query: usize, scores: &[Exact<T>]) {
        let first = |list: &[T]| list.iter().position(|x| *x == T::zero()).map_or(-1, |j| j as i64);
        if let Some((relative, largest)) = relative_to_largest(scores) {
            self.max_score[query] = largest.value();
            self.max_score_key[query] = first(&relative);
        }
        let zero = Exact::of(T::zero());
        let negated = |score: &Exact<T>| match score.impossible() {
            true => *score,
            false => zero.less(score),
        };
        let negated: Vec<Exact<T>> = scores.iter().map(negated).collect();
        if let Some((relative, smallest)) = relative_to_largest(&negated) {
            self.min_score[query] = -smallest.value();
            self.min_score_key[query] = first(&relative);
        }
    }
}

/// A choice of a factor: its index, the number that choices are ordered by, and its probability.
pub(crate) type Candidate<T> = (i64, Exact<T>, T);

/// The possible choices, best first. Those whose orders are not further apart than `tie`, choice by
/// choice, are ordered by index: such numbers come from sums whose terms arrive in different orders.
pub(crate) fn ranked<T: NdFloat>(choices: Vec<Candidate<T>>, tie: T) -> Vec<(i64, T)> {
    let float = |x: T| x.to_f64().expect("a float");
    let mut choices: Vec<_> = choices
        .into_iter()
        .filter(|c| !c.1.impossible())
        .map(|(index, order, p)| (index, order.value(), order, p))
        .collect();
    // By rounded orders where these say enough.
    let difference = |a: &(i64, T, Exact<T>, T), b: &(i64, T, Exact<T>, T)| {
        let (apart, size) = (a.1 - b.1, a.1.abs().max(b.1.abs()));
        let close = apart.abs() <= T::epsilon() * T::from(8).expect("a number") * size;
        if close { a.2.minus(&b.2) } else { apart }
    };
    choices.sort_by(|a, b| {
        let order = difference(b, a).partial_cmp(&T::zero());
        order.unwrap_or_else(|| float(b.1).total_cmp(&float(a.1))).then(a.0.cmp(&b.0))
    });
    let mut start = 0;
    for end in 1..=choices.len() {
        if end == choices.len() || difference(&choices[end - 1], &choices[end]) > tie {
            choices[start..end].sort_by_key(|c| c.0);
            start = end;
        }
    }
    choices.into_iter().map(|(index, _, _, p)| (index, p)).collect()
}
