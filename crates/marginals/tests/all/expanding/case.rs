//! Generated inputs, and each query of them as the definition sees it.

use marginals::potential::Dot;
use marginals::zoo::expanding::{Expanded, Expanding};
use marginals_testkit::expanding::Query;
use marginals_testkit::generate::Random;
use ndarray::{Array3, Array4, s};

pub const SCALE: f64 = 0.7;

/// A problem in f64.
#[derive(Clone)]
pub struct Case {
    pub q: Array4<f64>,
    pub k: Array4<f64>,
    pub v: Array4<f64>,
    pub alpha: Array3<f64>,
    pub beta: Array3<f64>,
    pub offset: i64,
}

impl std::fmt::Debug for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { q, k, alpha, beta, offset, .. } = self;
        write!(f, "q {:?}, k {:?}, offset {offset}, α {alpha}, β {beta}", q.dim(), k.dim())
    }
}

/// What the sizes of a case are drawn from.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    pub queries: usize,
    pub keys: usize,
    /// log α and log β lie within these.
    pub log_alpha: (f64, f64),
    pub log_beta: (f64, f64),
    /// Standard deviation of the entries of q and k.
    pub content: f64,
}

impl Case {
    pub fn new(random: &mut Random, sizes: Sizes) -> Self {
        let (b, group) = (random.integer(1, 2) as usize, random.integer(1, 2) as usize);
        let key_heads = random.integer(1, 2) as usize;
        let h = group * key_heads;
        let n = random.integer(1, sizes.queries as i64) as usize;
        let m = random.integer(1, sizes.keys as i64) as usize;
        let d = random.integer(1, 5) as usize;
        let content = sizes.content;
        let mut tensor = |h, n, d, size: f64| {
            Array4::from_shape_simple_fn((b, h, n, d), || random.normal() * size)
        };
        let (q, k, v) = (
            tensor(h, n, d, content),
            tensor(key_heads, m, d, content),
            tensor(key_heads, m, 3, 1.0),
        );
        let mut shaped = |range: (f64, f64)| {
            let own = |size: usize, chance: bool| if chance { size } else { 1 };
            let shape = match random.integer(0, 2) {
                0 => (1, 1, 1),
                1 => (1, h, 1),
                _ => (own(b, random.chance(0.5)), own(h, random.chance(0.5)), n),
            };
            Array3::from_shape_simple_fn(shape, || random.between(range.0, range.1).exp())
        };
        let (alpha, beta) = (shaped(sizes.log_alpha), shaped(sizes.log_beta));
        // The last query beside the last key, or near it; some have no key at all.
        let beside = m as i64 - n as i64;
        let offset = if random.chance(0.6) { beside } else { beside + random.integer(-5, 5) };
        Self { q, k, v, alpha, beta, offset }
    }

    pub fn settings(&self) -> Expanding {
        Expanding::per_query(self.alpha.clone(), self.beta.clone())
            .with_query_offset(self.offset)
            .with_first_keys(1)
    }

    pub fn attend<'a>(&'a self, settings: &Expanding, potential: &'a Dot) -> Expanded<'a, f64> {
        settings.attend(potential, self.q.view(), self.k.view(), self.v.view()).unwrap()
    }

    /// Every (batch, head, query).
    pub fn places(&self) -> impl Iterator<Item = (usize, usize, usize)> + use<> {
        let (b, h, n, _) = self.q.dim();
        (0..b).flat_map(move |b| (0..h).flat_map(move |h| (0..n).map(move |i| (b, h, i))))
    }

    /// Keys at or behind a query.
    pub fn visible(&self, i: usize) -> usize {
        (i as i64 + self.offset + 1).clamp(0, self.k.dim().2 as i64) as usize
    }

    /// A query over its keys from `start` on.
    pub fn query(&self, (b, h, i): (usize, usize, usize), start: usize) -> Query {
        let group = self.q.dim().1 / self.k.dim().1;
        let position = i as i64 + self.offset;
        let q = self.q.slice(s![b, h, i, ..]);
        let keys = start..self.visible(i);
        let of = |a: &Array3<f64>| {
            let (x, y, z) = a.dim();
            a[[b.min(x - 1), h.min(y - 1), i.min(z - 1)]]
        };
        Query {
            alpha: of(&self.alpha),
            beta: of(&self.beta),
            distance: keys.clone().map(|j| (position - j as i64) as f64).collect(),
            log_potential: keys
                .map(|j| SCALE * q.dot(&self.k.slice(s![b, h / group, j, ..])))
                .collect(),
        }
    }

    /// Σ_j p_j v_j over the keys from `start` on.
    pub fn mean(&self, (b, h, i): (usize, usize, usize), start: usize, p: &[f64]) -> Vec<f64> {
        let group = self.q.dim().1 / self.k.dim().1;
        let v = self.v.slice(s![b, h / group, start..self.visible(i), ..]);
        v.columns().into_iter().map(|v| v.iter().zip(p).map(|(v, p)| v * p).sum()).collect()
    }
}

/// |a − b| relative to b, or to 1 where b is smaller.
pub fn off(a: f64, b: f64) -> f64 {
    if a == b { 0.0 } else { (a - b).abs() / b.abs().max(1.0) }
}
