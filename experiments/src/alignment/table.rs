//! Probabilities of words given words.

use super::corpus::Sentence;

/// log p(w | s) of target words w given source words s, the last of which is the null word.
///
/// The most probable table under expected counts c and a Dirichlet prior whose mode is the frequency u of the
/// target words, with a strength of μ counts for every source word:
///
/// ```text
/// p(w | s) = (c(s, w) + μ u(w)) / (c(s) + μ)
/// ```
///
/// Pairs that never stand in one verse have no count and are not kept. Without any counts p(w | s) = u(w).
#[derive(Clone, Debug)]
pub struct Table {
    strength: f64,
    log_frequency: Vec<f64>,
    /// Where pairs of a source word begin, and an end.
    first: Vec<usize>,
    /// Target words of a source word's pairs, in ascending order.
    targets: Vec<u32>,
    /// log p of every pair.
    log: Vec<f64>,
    /// log μ/(c(s) + μ) of every source word: of pairs without a count, less log u(w).
    background: Vec<f64>,
}

impl Table {
    /// The table without counts, of all pairs of words in these verses.
    pub fn new(verses: &[Sentence], sources: usize, log_frequency: &[f64], strength: f64) -> Self {
        let null = sources as u32;
        let mut pairs: Vec<u64> = Vec::new();
        for Sentence { source, target } in verses {
            for &s in source.iter().chain([&null]) {
                pairs.extend(target.iter().map(|&w| u64::from(s) << 32 | u64::from(w)));
            }
        }
        pairs.sort_unstable();
        pairs.dedup();
        let begins = |s: usize| pairs.partition_point(|&pair| pair >> 32 < s as u64);
        let first = (0..=sources + 1).map(begins).collect();
        let targets: Vec<u32> = pairs.iter().map(|&pair| pair as u32).collect();
        let log = targets.iter().map(|&w| log_frequency[w as usize]).collect();
        let (log_frequency, background) = (log_frequency.to_vec(), vec![0.0; sources + 1]);
        Self { strength, log_frequency, first, targets, log, background }
    }

    /// Number of source words, without the null word; its own number.
    pub fn null(&self) -> u32 {
        (self.background.len() - 1) as u32
    }

    /// How many pairs there are.
    pub fn len(&self) -> usize {
        self.log.len()
    }

    /// Place of a pair among those that are kept.
    pub fn place(&self, source: u32, target: u32) -> Option<usize> {
        let own = self.first[source as usize]..self.first[source as usize + 1];
        let found = self.targets[own.clone()].binary_search(&target);
        found.ok().map(|place| own.start + place)
    }

    /// log p of the pair at a place.
    pub fn at(&self, place: usize) -> f64 {
        self.log[place]
    }

    /// log p(target | source).
    pub fn log_probability(&self, source: u32, target: u32) -> f64 {
        self.place(source, target).map_or_else(
            || self.background[source as usize] + self.log_frequency[target as usize],
            |place| self.log[place],
        )
    }

    /// The table that is most probable under expected counts of the pairs.
    pub fn learn(&mut self, counts: &[f64]) {
        for (source, background) in self.background.iter_mut().enumerate() {
            let own = self.first[source]..self.first[source + 1];
            let total = counts[own.clone()].iter().sum::<f64>() + self.strength;
            *background = (self.strength / total).ln();
            for place in own {
                let frequency = self.log_frequency[self.targets[place] as usize].exp();
                self.log[place] = ((counts[place] + self.strength * frequency) / total).ln();
            }
        }
    }

    /// Logarithm of the prior density of the table, but for a constant: Σ_s μ Σ_w u(w) log p(w | s).
    pub fn log_prior(&self) -> f64 {
        let entropy: f64 = self.log_frequency.iter().map(|x| x.exp() * x).sum();
        let of_source = |(source, background): (usize, &f64)| {
            let own = self.first[source]..self.first[source + 1];
            let of_pair = |place: usize| {
                let frequency = self.log_frequency[self.targets[place] as usize];
                frequency.exp() * (self.log[place] - (background + frequency))
            };
            entropy + background + own.map(of_pair).sum::<f64>()
        };
        self.strength * self.background.iter().enumerate().map(of_source).sum::<f64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_the_counts_with_those_of_the_prior() {
        let verses = [
            Sentence { source: vec![0, 1], target: vec![2, 0] },
            Sentence { source: vec![1], target: vec![1] },
        ];
        let u = [0.5f64, 0.2, 0.3];
        let mut table = Table::new(&verses, 2, &u.map(f64::ln), 2.0);
        // Of 0: 0, 2; of 1: 0, 1, 2; of the null word: the same.
        assert_eq!((table.len(), table.null()), (8, 2));
        assert_eq!(table.log_probability(0, 1), u[1].ln());
        let counts = [1.0, 3.0, 0.0, 4.0, 0.5, 1.0, 1.0, 1.0];
        table.learn(&counts);
        let dense = [[1.0, 0.0, 3.0], [0.0, 4.0, 0.5], [1.0, 1.0, 1.0]];
        let mut log_prior = 0.0;
        for (source, row) in dense.iter().enumerate() {
            let total: f64 = row.iter().sum::<f64>() + 2.0;
            for (target, count) in row.iter().enumerate() {
                let expected = (count + 2.0 * u[target]) / total;
                let found = table.log_probability(source as u32, target as u32).exp();
                assert!((found - expected).abs() < 1e-15, "{source} {target}: {found} {expected}");
                log_prior += 2.0 * u[target] * expected.ln();
            }
        }
        assert!((table.log_prior() - log_prior).abs() < 1e-12);
    }
}
