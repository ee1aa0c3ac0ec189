//! Every φ ∈ Φ, one by one, and the definition of each answer summed over the list.
//!
//! [`joint`] lists whole edge sets and tests membership in Φ with a predicate; [`answer`] lists the
//! states of one factor at a time. Neither uses an identity of exponential families: entropy is
//! −Σ p log p, KL is Σ p log(p/π), evidence is log Σ π ψ, a variance is a mean squared deviation.

use ndarray::{Array1, Array2};

use crate::{Answers, Head, Structure, ValueKind, distance};

/// Two log-odds closer than this (times their size, where that is above 1) are a tie: they come from
/// sums whose terms arrive in different orders.
const TIE: f64 = 1e-13;

/// One φ (or its restriction to a factor) with the logs of its weight under prior and potential.
#[derive(Clone, Debug)]
struct State {
    edges: Vec<[usize; 2]>,
    log_prior: f64,
    log_potential: f64,
}

impl State {
    fn new(head: &Head, edges: Vec<[usize; 2]>) -> Self {
        let log_prior = edges.iter().map(|&e| head.log_weight[e]).sum();
        let log_potential = edges.iter().map(|&e| head.log_potential[e]).sum();
        Self { edges, log_prior, log_potential }
    }

    /// log w(φ) + log ψ(φ).
    fn log_weight(&self) -> f64 {
        if self.log_prior == f64::NEG_INFINITY || self.log_potential == f64::NEG_INFINITY {
            f64::NEG_INFINITY
        } else {
            self.log_prior + self.log_potential
        }
    }

    /// Σ_j φ_ij v_j for one query.
    fn gather(&self, head: &Head, query: usize, column: usize) -> f64 {
        self.edges.iter().filter(|e| e[0] == query).map(|e| head.value[[e[1], column]]).sum()
    }
}

/// A normalised distribution over a list of states; `log_z` is −∞ when no state is possible.
struct Distribution {
    log_z: f64,
    log_p: Vec<f64>,
}

impl Distribution {
    fn normalise(log_weights: &[f64]) -> Self {
        let best = (0..log_weights.len())
            .filter(|&s| log_weights[s] > f64::NEG_INFINITY)
            .max_by(|&a, &b| log_weights[a].total_cmp(&log_weights[b]));
        let Some(best) = best else {
            return Self {
                log_z: f64::NEG_INFINITY,
                log_p: vec![f64::NEG_INFINITY; log_weights.len()],
            };
        };
        // The best state's own term is exactly 1; keeping it out of the sum preserves the relative
        // precision of log Z and of the entropy when everything else is tiny.
        let top = log_weights[best];
        let rest: f64 = (0..log_weights.len())
            .filter(|&s| s != best)
            .map(|s| (log_weights[s] - top).exp())
            .sum();
        let excess = rest.ln_1p();
        let log_p = log_weights.iter().map(|x| (x - top) - excess).collect();
        Self { log_z: top + excess, log_p }
    }

    fn alive(&self) -> bool {
        self.log_z > f64::NEG_INFINITY
    }

    /// E[f], over the states that can happen.
    fn expect(&self, f: impl Fn(usize) -> f64) -> f64 {
        (0..self.log_p.len())
            .filter(|&s| self.log_p[s] > f64::NEG_INFINITY)
            .map(|s| {
                let p = self.log_p[s].exp();
                if p == 0.0 { 0.0 } else { p * f(s) }
            })
            .sum()
    }

    fn entropy(&self) -> f64 {
        self.expect(|s| -self.log_p[s])
    }

    /// Σ p log(p / other); 0 if nothing can happen here.
    fn kl(&self, other: &Self) -> f64 {
        self.expect(|s| self.log_p[s] - other.log_p[s])
    }

    /// −E_self[log other]; 0 if nothing can happen here.
    fn cross_entropy(&self, other: &Self) -> f64 {
        self.expect(|s| -other.log_p[s])
    }
}

fn posterior(states: &[State]) -> Distribution {
    Distribution::normalise(&states.iter().map(State::log_weight).collect::<Vec<_>>())
}

fn prior(states: &[State]) -> Distribution {
    Distribution::normalise(&states.iter().map(|s| s.log_prior).collect::<Vec<_>>())
}

/// log Σ_φ π(φ) ψ(φ).
fn log_evidence(states: &[State], prior: &Distribution) -> f64 {
    if !prior.alive() {
        return f64::NEG_INFINITY;
    }
    let terms: Vec<f64> = states
        .iter()
        .zip(&prior.log_p)
        .map(|(s, &log_pi)| {
            if s.log_weight() == f64::NEG_INFINITY {
                f64::NEG_INFINITY
            } else {
                log_pi + s.log_potential
            }
        })
        .collect();
    Distribution::normalise(&terms).log_z
}

/// The states of one factor: of query `factor`, or of key `factor` where keys pick.
fn factor_states(head: &Head, factor: usize) -> Vec<State> {
    let (n, m) = (head.queries(), head.keys());
    match head.structure {
        Structure::EachQueryPicksOne => {
            (0..m).map(|j| State::new(head, vec![[factor, j]])).collect()
        }
        Structure::EachQueryPicksAtMostOne => {
            let null = State { edges: vec![], log_prior: head.null_log_weight, log_potential: 0.0 };
            std::iter::once(null)
                .chain((0..m).map(|j| State::new(head, vec![[factor, j]])))
                .collect()
        }
        Structure::EachKeyPicksOne => (0..n).map(|i| State::new(head, vec![[i, factor]])).collect(),
        Structure::Independent => {
            assert!(m <= 16, "enumerating 2^{m} edge sets of one query");
            (0..1u32 << m)
                .map(|set| {
                    let edges = (0..m).filter(|j| set >> j & 1 == 1).map(|j| [factor, j]);
                    State::new(head, edges.collect())
                })
                .collect()
        }
    }
}

/// The possible choices of a factor, best first: single states, or single edges of a subset model.
fn ranking(head: &Head, factor: usize, states: &[State], p: &Distribution) -> Vec<(i64, f64)> {
    // (index, what orders the choices, probability)
    let mut choices: Vec<(i64, f64, f64)> = match head.structure {
        Structure::Independent => (0..head.keys())
            .map(|j| {
                let edge = [factor, j];
                let part = |with: bool| {
                    let of = |s: usize| {
                        let holds = states[s].edges.contains(&edge);
                        if holds == with { p.log_p[s] } else { f64::NEG_INFINITY }
                    };
                    Distribution::normalise(&(0..states.len()).map(of).collect::<Vec<_>>()).log_z
                };
                let (with, without) = (part(true), part(false));
                (j as i64, if with == f64::NEG_INFINITY { with } else { with - without }, with)
            })
            .map(|(j, odds, log_p)| (j, odds, log_p.exp()))
            .collect(),
        _ => states
            .iter()
            .zip(&p.log_p)
            .map(|(s, &log_p)| {
                let index = match (s.edges.first(), head.structure) {
                    (None, _) => -1,
                    (Some(e), Structure::EachKeyPicksOne) => e[0] as i64,
                    (Some(e), _) => e[1] as i64,
                };
                (index, s.log_weight(), log_p.exp())
            })
            .collect(),
    };
    choices.retain(|c| c.1 > f64::NEG_INFINITY);
    choices.sort_by(|a, b| b.1.total_cmp(&a.1));
    if head.structure == Structure::Independent {
        // Inside a run of tied odds the order is that of the index.
        let gap = |end: usize, choices: &[(i64, f64, f64)]| {
            (choices[end - 1].1 - choices[end].1) / choices[end].1.abs().max(1.0)
        };
        let mut start = 0;
        for end in 1..=choices.len() {
            if end == choices.len() || gap(end, &choices) > TIE {
                choices[start..end].sort_by_key(|c| c.0);
                start = end;
            }
        }
    }
    choices.into_iter().map(|(index, _, p)| (index, p)).collect()
}

/// Every answer, by listing the states of each factor.
///
/// Cost: O(N·M) states, except O(N·2^M) for independent edges, where M is at most 16.
pub fn answer(head: &Head) -> Answers {
    let mut out = Answers::degenerate(head);
    for factor in 0..head.factors() {
        let states = factor_states(head, factor);
        let (p, pi) = (posterior(&states), prior(&states));
        out.log_partition[factor] = p.log_z;
        out.log_evidence[factor] = log_evidence(&states, &pi);
        out.ranking[factor] = ranking(head, factor, &states, &p);
        if !p.alive() {
            continue;
        }
        out.entropy[factor] = p.entropy();
        out.kl[factor] = p.kl(&pi);
        let touched = match head.structure {
            Structure::EachKeyPicksOne => 0..head.queries(),
            _ => factor..factor + 1,
        };
        let moments = Moments::over(head, &states, &p, touched);
        out.marginals += &moments.marginals;
        out.expected_distance += &moments.expected_distance;
        out.mean += &moments.mean;
        // Factors are independent, so variances add.
        out.value_variance += &moments.variance;
    }
    out.column_mass = out.marginals.sum_axis(ndarray::Axis(0));
    if head.value_kind == ValueKind::Average {
        out.average();
    }
    out
}

/// Expectations of the edges, of their lengths and of the gathered values over a list of states.
struct Moments {
    marginals: Array2<f64>,
    expected_distance: Array1<f64>,
    mean: Array2<f64>,
    variance: Array2<f64>,
}

impl Moments {
    /// `touched`: the queries that the states can have edges of.
    fn over(
        head: &Head,
        states: &[State],
        p: &Distribution,
        touched: std::ops::Range<usize>,
    ) -> Self {
        let (n, m, d) = (head.queries(), head.keys(), head.value.ncols());
        let mut out = Self {
            marginals: Array2::zeros((n, m)),
            expected_distance: Array1::zeros(n),
            mean: Array2::zeros((n, d)),
            variance: Array2::zeros((n, d)),
        };
        for (state, log_p) in states.iter().zip(&p.log_p) {
            for &[i, j] in &state.edges {
                out.marginals[[i, j]] += log_p.exp();
                out.expected_distance[i] += log_p.exp() * distance(i, j, head.query_offset) as f64;
            }
        }
        for i in touched {
            for c in 0..d {
                let gathered: Vec<f64> = states.iter().map(|s| s.gather(head, i, c)).collect();
                let mean = p.expect(|s| gathered[s]);
                out.mean[[i, c]] = mean;
                out.variance[[i, c]] = p.expect(|s| (gathered[s] - mean).powi(2));
            }
        }
        out
    }
}

/// Answers about whole edge sets: what the factors' answers must add up to.
#[derive(Clone, Debug)]
pub struct Joint {
    /// log Σ_{φ∈Φ} w(φ) ψ(φ).
    pub log_partition: f64,
    /// log Σ_{φ∈Φ} π(φ) ψ(φ).
    pub log_evidence: f64,
    /// −Σ p log p.
    pub entropy: f64,
    /// Σ p log(p/π).
    pub kl: f64,
    /// P(φ_ij = 1), N × M.
    pub marginals: Array2<f64>,
    /// E\[v\], N × d_v.
    pub mean: Array2<f64>,
    /// Var\[v\], N × d_v.
    pub value_variance: Array2<f64>,
    /// E\[Σ_j φ_ij |i + offset − j|\], N.
    pub expected_distance: Array1<f64>,
    /// A most probable φ, as its edges (query, key) in order.
    pub best: Vec<[usize; 2]>,
}

/// Every answer about whole edge sets, by testing each of the 2^(N·M) for membership in Φ.
///
/// A query (or key) whose edges are all impossible contributes the empty choice, so that the rest
/// of Φ still has a posterior; its weight is 1 under prior and posterior alike.
///
/// # Panics
/// If N·M is above 16.
pub fn joint(head: &Head) -> Joint {
    let (n, m) = (head.queries(), head.keys());
    assert!(n * m <= 16, "enumerating 2^{} edge sets", n * m);
    let alive_query: Vec<bool> =
        (0..n).map(|i| (0..m).any(|j| head.theta(i, j) > f64::NEG_INFINITY)).collect();
    let alive_key: Vec<bool> =
        (0..m).map(|j| (0..n).any(|i| head.theta(i, j) > f64::NEG_INFINITY)).collect();
    let mut states = Vec::new();
    for set in 0..1u32 << (n * m) {
        let edges: Vec<[usize; 2]> =
            (0..n * m).filter(|e| set >> e & 1 == 1).map(|e| [e / m, e % m]).collect();
        let of_query = |i: usize| edges.iter().filter(|e| e[0] == i).count();
        let of_key = |j: usize| edges.iter().filter(|e| e[1] == j).count();
        let possible = match head.structure {
            Structure::EachQueryPicksOne => {
                (0..n).all(|i| of_query(i) == usize::from(alive_query[i]))
            }
            Structure::EachQueryPicksAtMostOne => (0..n).all(|i| of_query(i) <= 1),
            Structure::EachKeyPicksOne => (0..m).all(|j| of_key(j) == usize::from(alive_key[j])),
            Structure::Independent => true,
        };
        if !possible {
            continue;
        }
        let unserved = (0..n).filter(|&i| of_query(i) == 0).count();
        let mut state = State::new(head, edges);
        if head.structure == Structure::EachQueryPicksAtMostOne && unserved > 0 {
            state.log_prior += unserved as f64 * head.null_log_weight;
        }
        states.push(state);
    }
    let (p, pi) = (posterior(&states), prior(&states));
    let moments = Moments::over(head, &states, &p, 0..n);
    let best = (0..states.len()).max_by(|&a, &b| p.log_p[a].total_cmp(&p.log_p[b]));
    let mut answers = Answers::degenerate(head);
    answers.marginals = moments.marginals;
    answers.mean = moments.mean;
    answers.value_variance = moments.variance;
    if head.value_kind == ValueKind::Average {
        answers.average();
    }
    Joint {
        log_partition: p.log_z,
        log_evidence: log_evidence(&states, &pi),
        entropy: p.entropy(),
        kl: p.kl(&pi),
        marginals: answers.marginals,
        mean: answers.mean,
        value_variance: answers.value_variance,
        expected_distance: moments.expected_distance,
        best: best.map_or_else(Vec::new, |b| states[b].edges.clone()),
    }
}

/// Cross-entropy −E_p[log p′(φ)] of two posteriors with the same structure, per factor; +∞ where p
/// allows what p′ excludes, 0 where p is degenerate.
pub fn cross_entropy(p: &Head, other: &Head) -> Array1<f64> {
    assert_eq!(p.structure, other.structure, "posteriors over different structures");
    (0..p.factors())
        .map(|f| {
            posterior(&factor_states(p, f)).cross_entropy(&posterior(&factor_states(other, f)))
        })
        .collect()
}

/// KL(p ‖ p′) of two posteriors with the same structure, per factor, from Σ p log(p/p′).
pub fn kl_to(p: &Head, other: &Head) -> Array1<f64> {
    assert_eq!(p.structure, other.structure, "posteriors over different structures");
    (0..p.factors())
        .map(|f| posterior(&factor_states(p, f)).kl(&posterior(&factor_states(other, f))))
        .collect()
}
