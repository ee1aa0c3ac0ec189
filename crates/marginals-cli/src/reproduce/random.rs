//! Random numbers of the toy problems: a stream for every seed, purpose and step, whatever the order in
//! which they are asked for and the thread that asks.

use std::f64::consts::TAU;

use marginals_kernels::random::{philox, uniform};

/// Purpose of random numbers; different purposes see different numbers of the same seed.
#[derive(Clone, Copy, Debug)]
pub enum Purpose {
    /// The numbers that make a task: A and w.
    Task,
    /// The weights a model starts from.
    Weights,
    /// Sequences to measure the targets' mean and scale with.
    Scale,
    /// Sequences of a training step.
    Training,
    /// Sequences to judge with.
    HeldOut,
}

/// A stream of numbers.
#[derive(Debug)]
pub struct Random {
    seed: [u32; 2],
    counter: [u32; 4],
    /// A block of the generator is two uniform numbers: the second of them, until it is asked for.
    second: Option<f64>,
    /// Normal numbers come in pairs.
    other: Option<f64>,
}

impl Random {
    /// The stream of a seed for a purpose, at a step.
    pub fn new(seed: u64, purpose: Purpose, step: u32) -> Self {
        let seed = [seed as u32, (seed >> 32) as u32];
        Self { seed, counter: [0, step, purpose as u32, 0x7265_7072], second: None, other: None }
    }

    /// Uniform in (0, 1).
    pub fn unit(&mut self) -> f64 {
        if let Some(second) = self.second.take() {
            return second;
        }
        let [a, b, c, d] = philox(self.counter, self.seed);
        self.counter[0] = self.counter[0].wrapping_add(1);
        self.second = Some(uniform(c, d));
        uniform(a, b)
    }

    /// Uniform in (low, high).
    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// Standard normal (Box & Muller 1958).
    pub fn normal(&mut self) -> f64 {
        if let Some(other) = self.other.take() {
            return other;
        }
        let radius = (-2.0 * self.unit().ln()).sqrt();
        let (sine, cosine) = (TAU * self.unit()).sin_cos();
        self.other = Some(radius * sine);
        radius * cosine
    }

    /// Number of trials to the first success, P(n) = p (1 − p)^(n − 1) for n in 1..=`most`, made to sum
    /// to 1 there.
    pub fn geometric(&mut self, p: f64, most: usize) -> usize {
        let fails = (1.0 - p).ln();
        let within = -(most as f64 * fails).exp_m1();
        // The inverse of the distribution function, 1 − (1 − p)^n.
        let trials = ((-self.unit() * within).ln_1p() / fails).ceil();
        (trials as usize).clamp(1, most)
    }

    /// Puts a list in random order (Fisher & Yates).
    pub fn shuffle<T>(&mut self, list: &mut [T]) {
        for last in (1..list.len()).rev() {
            let chosen = (self.unit() * (last + 1) as f64) as usize;
            list.swap(last, chosen.min(last));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COUNT: usize = 200_000;

    fn moments(numbers: impl Iterator<Item = f64>) -> (f64, f64) {
        let numbers: Vec<f64> = numbers.collect();
        let n = numbers.len() as f64;
        let mean = numbers.iter().sum::<f64>() / n;
        (mean, numbers.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n)
    }

    #[test]
    fn moments_are_those_of_the_distributions() {
        let mut random = Random::new(3, Purpose::Training, 5);
        let (mean, variance) = moments((0..COUNT).map(|_| random.normal()));
        // Four standard errors.
        assert!(mean.abs() < 0.009 && (variance - 1.0).abs() < 0.013, "{mean} {variance}");
        let (mean, variance) = moments((0..COUNT).map(|_| random.between(2.0, 5.0)));
        assert!((mean - 3.5).abs() < 0.008 && (variance - 0.75).abs() < 0.006, "{mean} {variance}");
    }

    /// The mean of a geometric variable that is known to be at most m is 1/p − m qᵐ/(1 − qᵐ), and each
    /// value is as likely as it should be.
    #[test]
    fn lags_are_geometric() {
        for (p, most) in [(0.5, 49), (0.2, 49), (0.04, 49), (0.04, 3)] {
            let mut random = Random::new(1, Purpose::HeldOut, 0);
            let lags: Vec<usize> = (0..COUNT).map(|_| random.geometric(p, most)).collect();
            assert!(lags.iter().all(|lag| (1..=most).contains(lag)));
            let beyond = (1.0 - p).powi(most as i32);
            let expected = 1.0 / p - most as f64 * beyond / (1.0 - beyond);
            let (mean, variance) = moments(lags.iter().map(|&lag| lag as f64));
            let error = 4.0 * (variance / COUNT as f64).sqrt();
            assert!((mean - expected).abs() < error, "p {p}: {mean} for {expected}");
            let first = lags.iter().filter(|&&lag| lag == 1).count() as f64 / COUNT as f64;
            assert!((first - p / (1.0 - beyond)).abs() < 0.005, "p {p}: {first}");
        }
    }

    #[test]
    fn every_order_is_as_likely() {
        let mut random = Random::new(2, Purpose::Training, 0);
        let mut counts = std::collections::BTreeMap::new();
        for _ in 0..24_000 {
            let mut order = [0, 1, 2, 3];
            random.shuffle(&mut order);
            *counts.entry(order).or_insert(0usize) += 1;
        }
        assert_eq!(counts.len(), 24);
        // 1,000 each, with a standard deviation of 31.
        assert!(counts.values().all(|&count| count.abs_diff(1000) < 140), "{counts:?}");
    }

    #[test]
    fn streams_differ_by_seed_purpose_and_step() {
        let first = |seed, purpose, step| Random::new(seed, purpose, step).unit();
        let numbers = [
            first(0, Purpose::Task, 0),
            first(1, Purpose::Task, 0),
            first(0, Purpose::HeldOut, 0),
            first(0, Purpose::Task, 1),
            first(1 << 32, Purpose::Task, 0),
        ];
        for (i, one) in numbers.iter().enumerate() {
            assert!(numbers[..i].iter().all(|other| other != one));
        }
    }
}
