//! Patterns with a large part in common, against the closed form in `f64`.

use marginals::infer::collapsed::{Exact, FixedPoint, Latent, Maximise};
use marginals::prior::KeyBias;
use marginals::zoo::hopfield::Hopfield;
use marginals_testkit::compare::{Tolerance, assert_close};
use marginals_testkit::finite_difference::gradient;
use marginals_testkit::generate::Random;
use marginals_testkit::reference::Memory;
use ndarray::{Array2, Array3, Array4, ArrayView1, s};

use super::loss;

/// Patterns around `common` and states near some of them, as `f32` holds them.
fn far(random: &mut Random, common: f64) -> (Array4<f32>, Vec<f32>) {
    let (count, width) = (random.integer(2, 12) as usize, random.integer(1, 9) as usize);
    let centre: Vec<f64> = (0..width)
        .map(|_| common * random.between(0.5, 1.0) * if random.chance(0.5) { 1.0 } else { -1.0 })
        .collect();
    let patterns =
        Array4::from_shape_fn((1, 1, count, width), |(.., d)| (centre[d] + random.normal()) as f32);
    let mut states = Vec::new();
    for _ in 0..4 {
        let near = random.integer(0, count as i64 - 1) as usize;
        let near = patterns.slice(s![0, 0, near, ..]);
        states.extend(near.iter().map(|&x| (f64::from(x) + 0.3 * random.normal()) as f32));
    }
    (patterns, states)
}

fn memory(patterns: &Array4<f32>, beta: f64) -> Memory {
    Memory::new(patterns.slice(s![0, 0, .., ..]).mapv(f64::from), beta)
}

/// One step, E and what is retrieved, in `f32`: as good as numbers of the patterns' size can be.
#[test]
fn costs_no_digits_of_what_is_left() {
    let mut random = Random::new(21);
    for common in [0.0, 10.0, 1e3, 1e4, 1e5] {
        for _ in 0..60 {
            let (patterns, z) = far(&mut random, common);
            // Such that scores of patterns a few apart differ by a few, however long they are.
            let beta = 10f64.powf(random.between(-1.0, 0.5)) / common.max(1.0);
            let network = Hopfield::new(patterns.view(), &[beta], (1, 4)).unwrap();
            let memory = memory(&patterns, f64::from(beta as f32));
            let at = network.maximise(&z).unwrap();
            let energy = network.energy(&z).unwrap();
            let retrieval = network.retrieval(&z).unwrap();
            let width = patterns.dim().3;
            for (state, z) in z.chunks(width).enumerate() {
                let z: Vec<f64> = z.iter().map(|&x| f64::from(x)).collect();
                let z = ArrayView1::from(&z);
                let single = |x: &[f32]| x.iter().map(|&x| f64::from(x)).collect::<Vec<f64>>();
                let next = single(&at.next[state * width..][..width]);
                let rounding = f64::from(f32::EPSILON) * common.max(1.0);
                let expected = memory.step(z);
                assert_close("step", &next, &expected, Tolerance::mixed(rounding + 2e-5));
                let expected = memory.energy(z);
                let size = 1.0 / beta + common + 10.0;
                let tolerance = Tolerance::mixed(3e-6 * size);
                assert_close("E", &[f64::from(energy[[0, 0, state]])], &[expected], tolerance);
                let p = memory.softmax(z);
                let largest = p.iter().copied().fold(0.0, f64::max);
                let tolerance = Tolerance::mixed(2e-5);
                let found =
                    [retrieval.probability[[0, 0, state]], retrieval.entropy[[0, 0, state]]];
                let entropy = -p.iter().filter(|p| **p > 0.0).map(|p| p * p.ln()).sum::<f64>();
                assert_close("retrieved", &single(&found), &[largest, entropy], tolerance);
            }
            let expected = memory.separations();
            let found = network.separation().unwrap().of_pattern.mapv(f64::from);
            let tolerance = Tolerance::of_largest(1e-5, &expected);
            assert_close("separation", &found, &expected, tolerance);
        }
    }
}

/// Iterated in `f32` with sharp memories: each state ends at the pattern that it ends at in `f64`.
#[test]
fn the_same_patterns_are_retrieved() {
    let mut random = Random::new(22);
    for _ in 0..50 {
        let (patterns, z) = far(&mut random, 3e3);
        let wide = patterns.mapv(f64::from);
        let start: Vec<f64> = z.iter().map(|&x| f64::from(x)).collect();
        let engine = FixedPoint { tolerance: 1e-3, max_steps: 200, ..FixedPoint::default() };
        let single = Hopfield::new(patterns.view(), &[0.01], (1, 4)).unwrap();
        let double = Hopfield::new(wide.view(), &[0.01], (1, 4)).unwrap();
        let found = engine.solve(&Exact(&single), &z).unwrap();
        let expected = engine.solve(&Exact(&double), &start).unwrap();
        let (found, expected) =
            (single.retrieval(&found.z).unwrap(), double.retrieval(&expected.z).unwrap());
        for (i, p) in expected.probability.iter().enumerate().filter(|(_, p)| **p > 0.9) {
            assert_eq!(
                found.pattern.as_slice().unwrap()[i],
                expected.pattern.as_slice().unwrap()[i]
            );
            assert!((f64::from(found.probability.as_slice().unwrap()[i]) - p).abs() < 1e-2);
        }
    }
}

/// Gradients of one step and of a recall, against differences of the closed form.
#[test]
fn gradients_agree_with_finite_differences() {
    let mut random = Random::new(23);
    for _ in 0..10 {
        let (patterns, z) = far(&mut random, 20.0);
        let patterns = patterns.mapv(f64::from);
        let z: Vec<f64> = z.iter().map(|&x| f64::from(x)).collect();
        let (beta, (_, _, count, width)) = (0.05, patterns.dim());
        let network = Hopfield::new(patterns.view(), &[beta], (1, 4)).unwrap();
        let upstream = random.normals(z.len());
        let mut inputs = network.inputs();
        let of_z = network.maximise_backward(&z, &upstream, &mut inputs).unwrap();
        let stepped = |patterns: &[f64], beta: f64, z: &[f64]| {
            let patterns = Array2::from_shape_vec((count, width), patterns.to_vec()).unwrap();
            let memory = Memory::new(patterns, beta);
            let next = z.chunks(width).flat_map(|z| memory.step(ArrayView1::from(z)).to_vec());
            loss(&next.collect::<Vec<f64>>(), &upstream)
        };
        let flat = patterns.as_slice().unwrap();
        let values = |list: Vec<marginals_testkit::finite_difference::Derivative>| -> Vec<f64> {
            list.iter().map(|d| d.value).collect()
        };
        let expected = values(gradient(&z, |z| stepped(flat, beta, z)));
        assert_close("z", &of_z, &expected, Tolerance::of_largest(1e-6, &expected));
        let expected = values(gradient(flat, |x| stepped(x, beta, &z)));
        let found = inputs.get("patterns").unwrap();
        assert_close("patterns", found, &expected, Tolerance::of_largest(1e-6, &expected));
        let expected = values(gradient(&[beta], |b| stepped(flat, b[0], &z)));
        let found = inputs.get("beta").unwrap();
        assert_close("beta", found, &expected, Tolerance::of_largest(1e-6, &expected));

        let recalled = Array4::from_shape_simple_fn((1, 1, count, 2), || random.normal());
        let of_recall = Array4::from_shape_simple_fn((1, 1, 4, 2), || random.normal());
        let mut inputs = network.inputs();
        let (of_z, of_values) =
            network.recall_backward(&z, recalled.view(), of_recall.view(), &mut inputs).unwrap();
        let recall = |patterns: &[f64], z: &[f64]| -> f64 {
            let patterns = Array2::from_shape_vec((count, width), patterns.to_vec()).unwrap();
            let memory = Memory::new(patterns, beta);
            let values = recalled.slice(s![0, 0, .., ..]);
            let of = |(i, z): (usize, &[f64])| {
                let p = memory.softmax(ArrayView1::from(z));
                let upstream = of_recall.slice(s![0, 0, i, ..]);
                let terms = p.iter().zip(values.rows()).map(|(p, v)| p * v.dot(&upstream));
                terms.sum::<f64>()
            };
            z.chunks(width).enumerate().map(of).sum()
        };
        let expected = values(gradient(&z, |z| recall(flat, z)));
        assert_close("recalled z", &of_z, &expected, Tolerance::of_largest(1e-6, &expected));
        let expected = values(gradient(flat, |x| recall(x, &z)));
        let found = inputs.get("patterns").unwrap();
        assert_close("recalled patterns", found, &expected, Tolerance::of_largest(1e-6, &expected));
        assert_eq!(of_values.dim(), recalled.dim());
    }
}

/// A state that may have no pattern goes to 0, and not to what the patterns have in common.
#[test]
fn nothing_is_restored_where_nothing_is_possible() {
    let mut random = Random::new(24);
    let (patterns, z) = far(&mut random, 1e3);
    let none = Array3::from_elem((1, 1, patterns.dim().2), f32::NEG_INFINITY);
    let network = Hopfield::new(patterns.view(), &[1.0], (1, 4)).unwrap();
    let network = network.with_prior(KeyBias::new(none)).unwrap();
    let at = network.maximise(&z).unwrap();
    assert!(at.next.iter().all(|&x| x == 0.0), "{:?}", at.next);
    assert!(network.free_energy(&z).unwrap().iter().all(|&f| f == f32::INFINITY));
}
