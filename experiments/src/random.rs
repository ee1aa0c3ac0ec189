//! Random numbers from the library's counter-based generator, one after the other.

use marginals_kernels::Draw;

/// A stream that depends on its seed and purpose alone.
pub struct Random {
    draw: Draw,
    next: usize,
}

impl Random {
    pub fn new(seed: u64, purpose: u32) -> Self {
        Self { draw: Draw { seed, batch: purpose, head: 0, query: 0, sample: 0 }, next: 0 }
    }

    /// Uniform in (0, 1).
    pub fn unit(&mut self) -> f64 {
        self.next += 1;
        self.draw.uniform(self.next - 1)
    }

    /// Standard normal (Box & Muller 1958).
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * self.unit().ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }

    /// `count` different numbers of 0..n, in random order (Fisher & Yates).
    pub fn choose(&mut self, n: usize, count: usize) -> Vec<usize> {
        let mut list: Vec<usize> = (0..n).collect();
        for k in 0..count {
            let left = n - k;
            list.swap(k, k + ((self.unit() * left as f64) as usize).min(left - 1));
        }
        list.truncate(count);
        list
    }
}
