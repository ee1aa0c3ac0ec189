//! Distributions over a list of states.

use crate::exact::{Exact, relative_to_largest};

/// A normalised distribution over a list of states.
pub(super) struct Distribution {
    /// log Z; −∞ when no state is possible.
    log_z: Exact<f64>,
    pub log_p: Vec<f64>,
    /// Before rounding.
    exact_log_p: Vec<Exact<f64>>,
}

impl Distribution {
    pub fn normalise(log_weights: Vec<Exact<f64>>) -> Self {
        let Some((relative, largest)) = relative_to_largest(&log_weights) else {
            let log_p = vec![f64::NEG_INFINITY; log_weights.len()];
            return Self { log_z: Exact::of(f64::NEG_INFINITY), log_p, exact_log_p: log_weights };
        };
        // The best state's own term is exactly 1; keeping it out of the sum preserves the relative
        // precision of log Z and of the entropy when everything else is tiny.
        let best = relative.iter().position(|&x| x == 0.0);
        let rest: f64 =
            (0..relative.len()).filter(|&s| Some(s) != best).map(|s| relative[s].exp()).sum();
        let excess = rest.ln_1p();
        let log_z = largest.plus(excess);
        // What is impossible stays so, also where the others are not numbers.
        let log_p = relative.iter().map(|&x| if x == f64::NEG_INFINITY { x } else { x - excess });
        let exact = |w: &Exact<f64>| if w.impossible() { *w } else { w.less(&log_z) };
        let exact_log_p = log_weights.iter().map(exact).collect();
        Self { log_z, log_p: log_p.collect(), exact_log_p }
    }

    /// The distribution of states whose log-probabilities are known.
    pub fn known(exact_log_p: Vec<Exact<f64>>) -> Self {
        let log_p = exact_log_p.iter().map(Exact::value).collect();
        Self { log_z: Exact::of(0.0), log_p, exact_log_p }
    }

    pub fn log_z(&self) -> f64 {
        self.log_z.value()
    }

    /// log Σ of the weights, before rounding.
    pub fn exact_log_z(&self) -> Exact<f64> {
        self.log_z
    }

    pub fn log_p(&self) -> &[f64] {
        &self.log_p
    }

    /// log p of a state, before rounding.
    pub fn exact_log_p(&self, state: usize) -> Exact<f64> {
        self.exact_log_p[state]
    }

    pub fn alive(&self) -> bool {
        !self.log_z.impossible()
    }

    /// E[f], over the states that can happen.
    pub fn expect(&self, f: impl Fn(usize) -> f64) -> f64 {
        (0..self.log_p.len())
            .filter(|&s| self.log_p[s] != f64::NEG_INFINITY)
            .map(|s| {
                let p = self.log_p[s].exp();
                if p == 0.0 { 0.0 } else { p * f(s) }
            })
            .sum()
    }

    /// log P of the states that are marked, before rounding.
    pub fn log_probability(&self, marked: impl Fn(usize) -> bool) -> Exact<f64> {
        let marked = (0..self.log_p.len()).filter(|&s| marked(s));
        Self::normalise(marked.map(|s| self.exact_log_p(s)).collect()).log_z
    }

    pub fn entropy(&self) -> f64 {
        self.expect(|s| -self.log_p[s])
    }

    /// Σ p log(p / other); 0 if nothing can happen here.
    pub fn kl(&self, other: &Self) -> f64 {
        self.expect(|s| self.log_p[s] - other.log_p[s])
    }

    /// −E_self[log other]; 0 if nothing can happen here.
    pub fn cross_entropy(&self, other: &Self) -> f64 {
        self.expect(|s| -other.log_p[s])
    }
}
