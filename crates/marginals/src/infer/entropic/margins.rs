//! Masses of nodes, and the half-steps that give them to a plan.

/// Masses of the nodes of every head, and how much of them is matched.
#[derive(Clone, Debug, PartialEq)]
pub struct Margins {
    /// Of the queries, [B, H, N] flat; 0 where a query is not there.
    pub queries: Vec<f64>,
    /// Of the keys, [B, H, M] flat.
    pub keys: Vec<f64>,
    /// Total mass of the plan, by head: at most either sum.
    pub total: Vec<f64>,
    /// Whether all masses are 1 and the plan has all that it can: a relaxation of whole matchings.
    pub is_matching: bool,
}

impl Margins {
    /// Those of one head of `queries` and `keys` nodes.
    pub(super) fn head(&self, head: usize, queries: usize, keys: usize) -> Head<'_> {
        let own = &self.queries[head * queries..][..queries];
        let others = &self.keys[head * keys..][..keys];
        let total = self.total[head];
        let side = |masses: &[f64]| match masses.iter().sum::<f64>() <= total * (1.0 + ROUNDING) {
            true => Side::Equal,
            false => Side::AtMost,
        };
        Head { queries: own, keys: others, total, rows: side(own), columns: side(others) }
    }
}

/// Relative difference of two totals that is rounding.
pub(crate) const ROUNDING: f64 = 1e-9;

/// Whether the nodes of a side have all their mass matched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// All of it.
    Equal,
    /// At most all of it.
    AtMost,
}

/// Masses of one head.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head<'m> {
    pub queries: &'m [f64],
    pub keys: &'m [f64],
    pub total: f64,
    rows: Side,
    columns: Side,
}

/// Mass that a plan gives a query.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Row {
    pub mass: f64,
    /// log of it, which may be far below the smallest number.
    pub log_mass: f64,
    /// Whether it is all that the query has, and does not move with the scores.
    pub is_full: bool,
}

/// Columns after a half-step.
#[derive(Clone, Debug)]
pub(super) struct Columns {
    /// Biases of the keys.
    pub biases: Vec<f64>,
    /// Σ |change of a key's mass|, over the total.
    pub error: f64,
    /// Keys whose mass is all that they have, so that their biases are told by it.
    pub is_full: Vec<bool>,
}

impl Head<'_> {
    /// Whether both sides have some mass left, so that the total is a condition of its own.
    pub fn is_partial(&self) -> bool {
        self.rows == Side::AtMost && self.columns == Side::AtMost
    }

    /// Whether all nodes have all their mass.
    pub fn is_balanced(&self) -> bool {
        self.rows == Side::Equal && self.columns == Side::Equal
    }

    /// The best mass of a query whose scores and key biases sum to e^`log_sum`: all that it has, or
    /// where it may have less, at most as much as that.
    pub fn row(&self, query: usize, log_sum: f64) -> Row {
        let own = self.queries[query];
        if own == 0.0 || log_sum == f64::NEG_INFINITY {
            return Row { mass: 0.0, log_mass: f64::NEG_INFINITY, is_full: true };
        }
        let log_own = own.ln();
        match self.rows == Side::Equal || log_sum > log_own {
            true => Row { mass: own, log_mass: log_own, is_full: true },
            false => Row { mass: log_sum.exp(), log_mass: log_sum, is_full: false },
        }
    }

    /// The best biases of the keys, from the logs of the masses that they have under present ones.
    pub fn columns(&self, biases: &[f64], log_mass: &[f64]) -> Columns {
        // log Σ_i of the queries' factors alone.
        let bare: Vec<f64> = biases.iter().zip(log_mass).map(|(x, c)| bare(*c, *x)).collect();
        // The bias at which a key is full.
        let full_at: Vec<f64> =
            self.keys.iter().zip(&bare).map(|(&own, d)| full_at(own, *d)).collect();
        let ceiling = match (self.columns, self.rows) {
            (Side::Equal, _) => f64::INFINITY,
            (Side::AtMost, Side::Equal) => 0.0,
            (Side::AtMost, Side::AtMost) => self.level(&bare, &full_at),
        };
        let is_full: Vec<bool> = full_at.iter().map(|&at| at < ceiling).collect();
        let new: Vec<f64> = full_at.iter().map(|&at| at.min(ceiling)).collect();
        let mut moved = 0.0;
        for (key, &own) in self.keys.iter().enumerate().filter(|(_, own)| **own > 0.0) {
            let after = if is_full[key] { own } else { (bare[key] + new[key]).exp() };
            moved += (after - log_mass[key].exp()).abs();
        }
        Columns { biases: new, error: moved / self.total, is_full }
    }

    /// The bias λ of keys that are not full, at which Σ_j min(b_j, e^(λ + log d_j)) is the total.
    fn level(&self, bare: &[f64], full_at: &[f64]) -> f64 {
        let mut order: Vec<usize> = (0..bare.len()).filter(|&key| self.keys[key] > 0.0).collect();
        order.sort_by(|&a, &b| full_at[a].total_cmp(&full_at[b]));
        let largest = order.iter().map(|&key| bare[key]).fold(f64::NEG_INFINITY, f64::max);
        // Σ e^(log d − largest) of those that are not full, filled one after the other.
        let mut open: Vec<f64> = order.iter().map(|&key| (bare[key] - largest).exp()).collect();
        for place in (1..open.len()).rev() {
            open[place - 1] += open[place];
        }
        let mut left = self.total;
        for (place, &key) in order.iter().enumerate() {
            let level = (left / open[place]).ln() - largest;
            if level <= full_at[key] {
                return level;
            }
            left -= self.keys[key];
        }
        // Only rounding fills all of them.
        order.last().map_or(0.0, |&key| full_at[key])
    }

    /// The dual function, an upper bound of the optimum at any biases: with f of the queries, g of
    /// the keys (biases less λ) and λ of the total,
    /// Σ P − m − Σ a f − Σ b g − λ m.
    pub fn dual(&self, log_sums: &[f64], biases: &[f64]) -> f64 {
        let mut sum = -self.total;
        for (query, &log_sum) in log_sums.iter().enumerate() {
            let row = self.row(query, log_sum);
            if row.mass > 0.0 {
                sum += row.mass;
                if row.is_full {
                    sum += row.mass * (log_sum - row.log_mass);
                }
            }
        }
        let level = self.level_of(biases);
        for (&own, &bias) in self.keys.iter().zip(biases).filter(|(own, _)| **own > 0.0) {
            sum -= own * (bias - level);
        }
        sum - level * self.total
    }

    /// λ of biases: that of keys that are not full.
    fn level_of(&self, biases: &[f64]) -> f64 {
        if !self.is_partial() {
            return 0.0;
        }
        let present = self.keys.iter().zip(biases).filter(|(own, _)| **own > 0.0);
        present.map(|(_, &bias)| bias).fold(f64::NEG_INFINITY, f64::max)
    }

    /// Whether a node that must have mass may have no edge.
    pub fn must_but_cannot(&self, log_sums: &[f64], log_columns: &[f64]) -> bool {
        let stuck = |side: Side, own: &[f64], sums: &[f64]| {
            side == Side::Equal
                && own.iter().zip(sums).any(|(&own, &sum)| own > 0.0 && sum == f64::NEG_INFINITY)
        };
        stuck(self.rows, self.queries, log_sums) || stuck(self.columns, self.keys, log_columns)
    }

    /// Biases that a plan of this head may have, from any: at most 0 where keys may have less than their
    /// mass and queries may not.
    pub fn admit(&self, biases: &mut [f64]) {
        if self.columns == Side::AtMost && self.rows == Side::Equal {
            biases.iter_mut().for_each(|bias| *bias = bias.min(0.0));
        }
    }

    /// Biases to start from.
    pub fn start(&self) -> Vec<f64> {
        let bias = |&own: &f64| if own > 0.0 { 0.0 } else { f64::NEG_INFINITY };
        self.keys.iter().map(bias).collect()
    }
}

/// log d of c = d e^x; a key that has nothing to give has none.
fn bare(log_mass: f64, bias: f64) -> f64 {
    if bias == f64::NEG_INFINITY { f64::NEG_INFINITY } else { log_mass - bias }
}

fn full_at(own: f64, bare: f64) -> f64 {
    match (own == 0.0, bare == f64::NEG_INFINITY) {
        (true, _) => f64::NEG_INFINITY,
        // Nothing fills a key that no query may have.
        (false, true) => f64::INFINITY,
        (false, false) => own.ln() - bare,
    }
}
