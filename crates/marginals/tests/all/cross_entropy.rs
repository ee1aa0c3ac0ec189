//! Cross-entropy and KL between posteriors, against enumeration.

use marginals::potential::Dot;
use marginals::prior::Bias;
use marginals::structure::{
    EachKeyPicksOne, EachQueryPicksAtMostOne, EachQueryPicksOne, Independent, Structure,
};
use marginals::{Error, Model};
use marginals_testkit::{Head, Structure as Kind, ValueKind, enumerate};
use ndarray::{Array2, Array4, s};
use proptest::prelude::*;

/// Numbers in (−range, range), a fixed function of the seed.
fn numbers(seed: u64, range: f64) -> impl FnMut() -> f64 {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        ((state >> 11) as f64 / (1u64 << 53) as f64 - 0.5) * 2.0 * range
    }
}

struct Side {
    q: Array4<f64>,
    k: Array4<f64>,
    bias: Array4<f64>,
    null: f64,
}

impl Side {
    /// `excluded` edges in ten are impossible.
    fn new(seed: u64, (n, m, d): (usize, usize, usize), excluded: f64) -> Self {
        let mut number = numbers(seed, 2.0);
        let mut tensor = |n, m| Array4::from_shape_simple_fn((1, 2, n, m), &mut number);
        let (q, k, bias) = (tensor(n, d), tensor(m, d), tensor(n, m));
        let mut chance = numbers(seed ^ 77, 5.0);
        let bias = bias.mapv(|b| if chance() + 5.0 < excluded { f64::NEG_INFINITY } else { b });
        Self { q, k, bias, null: number() }
    }

    fn head(&self, kind: Kind, h: usize) -> Head {
        let (q, k) = (self.q.slice(s![0, h, .., ..]), self.k.slice(s![0, h, .., ..]));
        Head {
            structure: kind,
            value_kind: ValueKind::Gather,
            log_weight: self.bias.slice(s![0, h, .., ..]).to_owned(),
            log_potential: ndarray::linalg::Dot::dot(&q, &k.t()),
            null_log_weight: self.null,
            value: Array2::zeros((k.nrows(), 1)),
            query_offset: 0,
        }
    }
}

fn check(kind: Kind, seed: u64, sizes: (usize, usize, usize), excluded: (f64, f64)) {
    let sides = [Side::new(seed, sizes, excluded.0), Side::new(seed ^ 999, sizes, excluded.1)];
    let models = sides.each_ref().map(|side| {
        let structure: Box<dyn Structure<f64>> = match kind {
            Kind::EachQueryPicksOne => Box::new(EachQueryPicksOne),
            Kind::EachQueryPicksAtMostOne => Box::new(EachQueryPicksAtMostOne::new(side.null)),
            Kind::EachKeyPicksOne => Box::new(EachKeyPicksOne),
            Kind::Independent => Box::new(Independent),
        };
        Model::new(structure, Bias::new(side.bias.view()), Dot::new(1.0))
    });
    let [p, q] = [0, 1]
        .map(|i| models[i].posterior(sides[i].q.view(), sides[i].k.view()).expect("sizes agree"));
    let (cross, kl) = (p.cross_entropy(&q).unwrap(), p.kl_to(&q).unwrap());
    for h in 0..2 {
        let (head, other) = (sides[0].head(kind, h), sides[1].head(kind, h));
        let expected_cross = enumerate::cross_entropy(&head, &other);
        let expected_kl = enumerate::kl_to(&head, &other);
        for f in 0..head.factors() {
            for (name, got, expected) in [
                ("cross-entropy", cross[[0, h, f]], expected_cross[f]),
                ("kl", kl[[0, h, f]], expected_kl[f]),
            ] {
                let bound = 1e-10 * expected.abs().max(1.0);
                assert!(
                    got == expected || (got - expected).abs() <= bound,
                    "{kind:?} {name} of factor {f}, seed {seed}: {got}, expected {expected}"
                );
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn agree_with_enumeration(
        seed in any::<u64>(),
        n in 1usize..5,
        m in 1usize..7,
        d in 1usize..4,
        p_excludes in prop_oneof![Just(0.0), Just(3.0), Just(9.0)],
        q_excludes in prop_oneof![Just(0.0), Just(3.0), Just(9.0)],
    ) {
        for kind in Kind::ALL {
            check(kind, seed, (n, m, d), (p_excludes, q_excludes));
        }
    }
}

/// Sizes that cross block and strip edges, where keys choose too.
#[test]
fn agree_with_enumeration_across_tiles() {
    for sizes in [(13, 257, 3), (130, 70, 2), (97, 300, 5)] {
        for kind in [Kind::EachQueryPicksOne, Kind::EachQueryPicksAtMostOne, Kind::EachKeyPicksOne]
        {
            check(kind, 5, sizes, (2.0, 0.0));
        }
    }
}

#[test]
fn different_structures_or_sizes_are_refused() {
    let x = Array4::<f64>::zeros((1, 1, 3, 2));
    let y = Array4::<f64>::zeros((1, 1, 4, 2));
    let bias = || Bias::new(Array4::zeros((1, 1, 1, 1)));
    let one = Model::new(EachQueryPicksOne, bias(), Dot::new(1.0));
    let free = Model::new(Independent, bias(), Dot::new(1.0));
    let p = one.posterior(x.view(), x.view()).unwrap();
    let q = free.posterior(x.view(), x.view()).unwrap();
    assert!(matches!(p.cross_entropy(&q), Err(Error::NotAnswerable { .. })));
    let q = one.posterior(x.view(), y.view()).unwrap();
    assert!(matches!(p.cross_entropy(&q), Err(Error::Shape { .. })));
}
