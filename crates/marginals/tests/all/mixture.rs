//! Gaussian mixtures and k-means against scikit-learn, plain code and finite differences.
//!
//! The file of recorded iterations is written by `tools/reference/mixture.py`, which says how.

mod far;

use marginals::infer::collapsed::{
    Acceleration, Differentiation, Exact, FixedPoint, Maximise, Reason,
};
use marginals::question::{Kl, Marginals};
use marginals::zoo::k_means::{self, KMeans, Seeding, centres};
use marginals::zoo::mixture::{Covariance, Mixture, Parameters, Settings};
use marginals_testkit::compare::{Tolerance, assert_close};
use marginals_testkit::finite_difference::{Derivative, gradient};
use marginals_testkit::generate::Random;
use marginals_testkit::reference;
use ndarray::{Array2, Array3, Array4, ArrayD, Axis, IxDyn, s};
use safetensors::{Dtype, SafeTensors};

const FILE: &[u8] = include_bytes!("data/mixture.safetensors");

/// One case of the file.
struct Case<'a> {
    file: SafeTensors<'a>,
    name: &'static str,
}

impl Case<'_> {
    fn new(name: &'static str) -> Self {
        Self { file: SafeTensors::deserialize(FILE).expect("the reference file"), name }
    }

    /// The tensor with leading axes of length 1 before its own.
    fn get(&self, tensor: &str) -> ArrayD<f64> {
        let name = format!("{}.{tensor}", self.name);
        let view = self.file.tensor(&name).unwrap_or_else(|e| panic!("{name}: {e}"));
        let (bytes, _) = view.data().as_chunks::<8>();
        let number = |b: &[u8; 8]| match view.dtype() {
            Dtype::F64 => f64::from_le_bytes(*b),
            _ => i64::from_le_bytes(*b) as f64,
        };
        let shape = [&[1, 1], view.shape()].concat();
        ArrayD::from_shape_vec(IxDyn(&shape), bytes.iter().map(number).collect()).expect("a tensor")
    }

    fn matrix(&self, tensor: &str) -> Array4<f64> {
        self.get(tensor).into_dimensionality().expect("a matrix")
    }

    fn parameters(&self, iteration: usize) -> Parameters<f64> {
        Parameters {
            means: self.matrix(&format!("means.{iteration}")),
            variances: self.matrix(&format!("variances.{iteration}")),
            weights: self.get(&format!("weights.{iteration}")).into_dimensionality().unwrap(),
        }
    }
}

#[test]
fn every_iteration_equals_scikit_learn() {
    for (name, covariance, regularisation) in [
        ("spherical", Covariance::Spherical, 1e-6),
        ("diagonal", Covariance::Diagonal, 1e-6),
        ("regularised", Covariance::Diagonal, 0.1),
        ("unregularised", Covariance::Spherical, 0.0),
        ("line", Covariance::Diagonal, 1e-6),
        ("wide", Covariance::Diagonal, 1e-3),
        ("one", Covariance::Spherical, 1e-6),
    ] {
        let case = Case::new(name);
        let points = case.matrix("points");
        let start = case.parameters(0);
        let mixture = Mixture::new(points.view(), start.weights.dim().2, covariance).unwrap();
        let mixture = mixture.with_regularisation(regularisation).unwrap();
        let start = mixture.pack(&start).unwrap();
        let tolerance = Tolerance::mixed(1e-8);
        for iteration in [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 20, 50] {
            let engine =
                FixedPoint { tolerance: 0.0, max_steps: iteration, ..FixedPoint::default() };
            let solution = engine.solve(&Exact(&mixture), &start).unwrap();
            let found = mixture.unpack(&solution.z).unwrap();
            let expected = case.parameters(iteration);
            let of = |what: &str| format!("{name}: {what} after {iteration}");
            assert_close(of("means"), &found.means, &expected.means, tolerance);
            assert_close(of("variances"), &found.variances, &expected.variances, tolerance);
            assert_close(of("weights"), &found.weights, &expected.weights, tolerance);
            if [0, 1, 10, 50].contains(&iteration) {
                let density = case.get(&format!("log-density.{iteration}"));
                let found = mixture.log_likelihood(&solution.z).unwrap();
                assert_close(of("log-density"), &found, &density, tolerance);
                assert_close(of("F"), &solution.free_energy, &[-density.sum()], tolerance);
            }
        }
    }
}

#[test]
fn k_means_equals_scikit_learn() {
    for name in ["k-means", "k-means-wide"] {
        let case = Case::new(name);
        let (points, start) = (case.matrix("points"), case.matrix("centres.0"));
        let k_means = KMeans::new(points.view(), start.dim().2).unwrap();
        let start: Vec<f64> = start.iter().copied().collect();
        let mut z = start.clone();
        for iteration in 1..=3 {
            z = k_means.maximise(&z).unwrap().next;
            let expected = case.get(&format!("centres.{iteration}"));
            assert_close(format!("{name} {iteration}"), &z, &expected, Tolerance::mixed(1e-12));
        }
        let engine = FixedPoint { tolerance: 0.0, ..FixedPoint::default() };
        let solution = engine.solve(&Exact(&k_means), &start).unwrap();
        assert!(solution.converged());
        assert_close(name, &solution.z, &case.get("centres"), Tolerance::mixed(1e-12));
        assert_close(name, &solution.free_energy, &case.get("inertia"), Tolerance::mixed(1e-12));
        let labels = k_means.assign(&solution.z).unwrap();
        assert!(labels.iter().zip(&case.get("labels")).all(|(&a, &b)| a as f64 == b));
    }
}

/// Points in clusters of their own, sometimes with copies, sometimes far from the origin.
fn points(random: &mut Random, count: usize, width: usize) -> Array4<f64> {
    let clusters = random.integer(1, 4);
    let spread = random.between(0.0, 4.0);
    let offset = if random.chance(0.2) { 1e3 } else { 0.0 };
    let middles: Vec<Vec<f64>> = (0..clusters).map(|_| random.normals(width)).collect();
    let mut points = Array4::zeros((1, 1, count, width));
    for mut x in points.rows_mut() {
        let middle = random.pick(&middles).clone();
        let noise = random.normals(width);
        for d in 0..width {
            x[d] = offset + spread * middle[d] + noise[d];
        }
    }
    if count > 3 && random.chance(0.2) {
        let first = points.slice(s![0, 0, 0, ..]).to_owned();
        points.slice_mut(s![0, 0, 1, ..]).assign(&first);
        points.slice_mut(s![0, 0, 2, ..]).assign(&first);
    }
    points
}

/// A rise that rounding does not explain: more than 1e-12 of F, or of a nat per point.
fn rises(before: f64, after: f64, points: usize) -> bool {
    after > before + 1e-12 * before.abs().max(points as f64)
}

#[test]
fn the_free_energy_never_rises() {
    let mut random = Random::new(1);
    let (mut worst, mut collapsed) = (f64::NEG_INFINITY, 0);
    for model in 0..1000 {
        let (count, width) = (random.integer(2, 40) as usize, random.integer(1, 5) as usize);
        let components = random.integer(1, 5.min(count as i64)) as usize;
        let points = points(&mut random, count, width);
        let covariance = *random.pick(&[Covariance::Spherical, Covariance::Diagonal]);
        let heads = random.integer(1, 2) as usize;
        let mut mixture =
            Mixture::new(points.view(), components, covariance).unwrap().with_heads(heads).unwrap();
        if random.chance(0.3) {
            let v = if covariance == Covariance::Spherical { 1 } else { width };
            let given = Array4::from_elem((1, heads, components, v), random.between(0.1, 2.0));
            mixture = mixture.with_variances(given).unwrap();
        }
        if random.chance(0.3) {
            let given = Array3::from_shape_simple_fn((1, heads, components), || random.unit());
            mixture = mixture.with_weights(given).unwrap();
        }
        let seeds = centres(points.view(), components, heads, Seeding::PlusPlus, model).unwrap();
        let start = mixture.start(seeds.view()).unwrap();
        let mut at = mixture.maximise(&start).unwrap();
        for _ in 0..30 {
            let reached = mixture.maximise(&at.next).unwrap();
            for (&before, &after) in at.free_energy.iter().zip(&reached.free_energy) {
                assert!(after.is_finite());
                assert!(!rises(before, after, count), "model {model}: {before} to {after}");
                worst = worst.max((after - before) / before.abs().max(count as f64));
            }
            at = reached;
        }
        assert!(at.next.iter().all(|z| z.is_finite()));
        collapsed +=
            usize::from(mixture.unpack(&at.next).unwrap().variances.iter().any(|&v| v < 1e-10));
        for memory in [1, 5] {
            let engine = FixedPoint { tolerance: 1e-9, max_steps: 40, ..FixedPoint::default() }
                .with_acceleration(Acceleration::Anderson { memory });
            let solution = engine.solve(&Exact(&mixture), &start).unwrap();
            let energies: Vec<f64> =
                solution.trace.iter().map(|t| t.free_energy.unwrap()).collect();
            assert!(
                energies.windows(2).all(|w| !rises(w[0], w[1], count)),
                "model {model}, memory {memory}: {energies:?}"
            );
        }
    }
    println!("largest relative rise: {worst:e}; {collapsed} models ended on a single point");
}

#[test]
fn the_inertia_never_rises() {
    let mut random = Random::new(2);
    for model in 0..1000 {
        let (count, width) = (random.integer(1, 60) as usize, random.integer(1, 5) as usize);
        let components = random.integer(1, 6.min(count as i64)) as usize;
        let points = points(&mut random, count, width);
        let k_means = KMeans::new(points.view(), components).unwrap();
        let seeding = *random.pick(&[Seeding::PlusPlus, Seeding::Points]);
        let start = centres(points.view(), components, 1, seeding, model).unwrap();
        let start: Vec<f64> = start.iter().copied().collect();
        let settings = k_means::Settings { components, seeding, seed: model, steps: 300 };
        for acceleration in [Acceleration::None, Acceleration::Anderson { memory: 3 }] {
            let engine = settings.engine().with_acceleration(acceleration);
            let solution = engine.solve(&Exact(&k_means), &start).unwrap();
            let energies: Vec<f64> =
                solution.trace.iter().map(|t| t.free_energy.unwrap()).collect();
            assert!(
                energies.windows(2).all(|w| w[1] <= w[0] * (1.0 + 1e-12)),
                "model {model}: {energies:?}"
            );
        }
        let solution = settings.engine().solve(&Exact(&k_means), &start).unwrap();
        assert!(solution.steps[0] < 300, "model {model}: {:?}", solution.residual);
    }
}

/// Three clusters that are apart but not certain.
fn clusters(seed: u64) -> (Array4<f64>, Array4<f64>) {
    let mut random = Random::new(seed);
    let middles = ndarray::array![[-3.0, 0.0], [3.0, 0.5], [0.0, 4.0]];
    let points =
        Array4::from_shape_fn((1, 1, 30, 2), |(_, _, j, d)| middles[[j % 3, d]] + random.normal());
    (points, middles.into_shape_with_order((1, 1, 3, 2)).unwrap())
}

#[test]
fn the_limit_of_small_variance_is_k_means() {
    let (points, middles) = clusters(3);
    let k_means = KMeans::new(points.view(), 3).unwrap();
    let start: Vec<f64> = middles.iter().copied().collect();
    let engine = FixedPoint { tolerance: 1e-13, max_steps: 10_000, ..FixedPoint::default() };
    let hard = engine.solve(&Exact(&k_means), &start).unwrap();
    let mut last = f64::INFINITY;
    for variance in [1.0, 0.3, 0.1, 0.03, 0.01, 0.001] {
        let mixture = Mixture::new(points.view(), 3, Covariance::Spherical)
            .unwrap()
            .with_variances(Array4::from_elem((1, 1, 3, 1), variance))
            .unwrap()
            .with_weights(Array3::from_elem((1, 1, 3), 1.0))
            .unwrap();
        let start = mixture.start(middles.view()).unwrap();
        let soft = engine.solve(&Exact(&mixture), &start).unwrap();
        assert!(soft.converged());
        let means = mixture.unpack(&soft.z).unwrap().means;
        let gap = means.iter().zip(&hard.z).fold(0.0, |a: f64, (m, c)| a.max((m - c).abs()));
        // 2 σ² F without its constants is the inertia.
        let constant = 30.0 * (3f64.ln() + (std::f64::consts::TAU * variance).ln());
        let inertia = 2.0 * variance * (soft.free_energy[0] - constant);
        println!("σ² = {variance}: means {gap:.1e} from k-means, inertia {inertia:.6}");
        assert!(gap <= last);
        last = gap;
        if variance <= 0.001 {
            assert_close("inertia", &[inertia], &hard.free_energy, Tolerance::mixed(1e-9));
        }
    }
    assert!(last < 1e-9, "{last}");
}

fn values(list: Vec<Derivative>) -> Vec<f64> {
    list.iter().map(|d| d.value).collect()
}

/// Σ u z at the fixed point EM reaches from `start`.
fn reached(mixture: &Mixture<'_, f64>, start: &[f64], engine: &FixedPoint, u: &[f64]) -> f64 {
    let solution = engine.solve(&Exact(mixture), start).expect("a solution");
    solution.z.iter().zip(u).map(|(z, u)| z * u).sum()
}

/// A mixture of `clusters` with some of its parts given.
fn make<'a>(
    points: &'a Array4<f64>,
    covariance: Covariance,
    variances: &Option<Array4<f64>>,
    weights: &Option<Array3<f64>>,
) -> Mixture<'a, f64> {
    let mut mixture = Mixture::new(points.view(), 3, covariance).unwrap();
    if let Some(variances) = variances {
        mixture = mixture.with_variances(variances.clone()).unwrap();
    }
    if let Some(weights) = weights {
        mixture = mixture.with_weights(weights.clone()).unwrap();
    }
    mixture
}

#[test]
fn gradients_agree_with_finite_differences() {
    let (points, middles) = clusters(4);
    let flat: Vec<f64> = points.iter().copied().collect();
    for covariance in [Covariance::Spherical, Covariance::Diagonal] {
        for (gives_variances, gives_weights) in [(false, false), (true, false), (false, true)] {
            let mut random = Random::new(5);
            let v = if covariance == Covariance::Spherical { 1 } else { 2 };
            let variances = gives_variances
                .then(|| Array4::from_shape_simple_fn((1, 1, 3, v), || random.between(0.5, 2.0)));
            let weights = gives_weights
                .then(|| Array3::from_shape_simple_fn((1, 1, 3), || random.between(0.5, 2.0)));
            let mixture = make(&points, covariance, &variances, &weights);
            let start = mixture.start(middles.view()).unwrap();
            let u = random.normals(start.len());
            let name = format!("{covariance:?}, given: {gives_variances}, {gives_weights}");

            // Two unrolled steps: gradients of the start too.
            let engine = FixedPoint { tolerance: 0.0, max_steps: 2, ..FixedPoint::default() }
                .with_differentiation(Differentiation::Unrolled);
            let solution = engine.solve(&Exact(&mixture), &start).unwrap();
            let found = engine.backward(&Exact(&mixture), &solution, &u).unwrap();
            let expected = values(gradient(&start, |z| reached(&mixture, z, &engine, &u)));
            assert_close(format!("{name}: start"), &found.start, &expected, Tolerance::mixed(1e-6));

            // At the fixed point.
            let engine = FixedPoint { tolerance: 1e-13, max_steps: 5000, ..FixedPoint::default() };
            let solution = engine.solve(&Exact(&mixture), &start).unwrap();
            assert!(solution.converged(), "{:?}", solution.reasons);
            let implicit = engine.backward(&Exact(&mixture), &solution, &u).unwrap();
            let report = implicit.adjoint.unwrap();
            assert!(report.converged);
            let unroll = engine.clone().with_differentiation(Differentiation::Unrolled);
            let kept = unroll.solve(&Exact(&mixture), &start).unwrap();
            let unrolled = unroll.backward(&Exact(&mixture), &kept, &u).unwrap();
            let tolerance = Tolerance::mixed(1e-6);
            for (found, expected) in implicit.inputs.iter().zip(unrolled.inputs.iter()) {
                let name = format!("{name}: {}, implicit and unrolled", found.name);
                assert_close(name, &found.gradient, &expected.gradient, tolerance);
            }
            let of = |input: &str| implicit.inputs.get(input).unwrap().clone();
            let expected = values(gradient(&flat[..8], |x| {
                let moved = [x, &flat[8..]].concat();
                let moved = Array4::from_shape_vec((1, 1, 30, 2), moved).unwrap();
                let mixture = make(&moved, covariance, &variances, &weights);
                reached(&mixture, &solution.z, &engine, &u)
            }));
            let found = of("points");
            assert_close(format!("{name}: points"), found.iter().take(8), &expected, tolerance);
            if let Some(variances) = &variances {
                let expected = values(gradient(variances.as_slice().unwrap(), |x| {
                    let moved = Array4::from_shape_vec((1, 1, 3, v), x.to_vec()).unwrap();
                    let mixture = make(&points, covariance, &Some(moved), &weights);
                    reached(&mixture, &solution.z, &engine, &u)
                }));
                assert_close(format!("{name}: variances"), &of("variances"), &expected, tolerance);
            }
            if let Some(weights) = &weights {
                let expected = values(gradient(weights.as_slice().unwrap(), |x| {
                    let moved = Array3::from_shape_vec((1, 1, 3), x.to_vec()).unwrap();
                    let mixture = make(&points, covariance, &variances, &Some(moved));
                    reached(&mixture, &solution.z, &engine, &u)
                }));
                assert_close(format!("{name}: weights"), &of("weights"), &expected, tolerance);
            }

            let one_step = engine.clone().with_differentiation(Differentiation::OneStep);
            let biased = one_step.backward(&Exact(&mixture), &solution, &u).unwrap();
            let size = |x: &ArrayD<f64>| x.iter().map(|x| x * x).sum::<f64>().sqrt();
            let bias = biased.inputs.get("points").unwrap() - &of("points");
            let bias = size(&bias) / size(&of("points"));
            println!("{name}: one-step bias {:.1}%, {} products", 100.0 * bias, report.iterations);
            assert!(bias > 1e-3);
        }
    }
}

#[test]
fn k_means_gradients_agree_with_finite_differences() {
    let (points, middles) = clusters(6);
    let start: Vec<f64> = middles.iter().copied().collect();
    let u = Random::new(7).normals(start.len());
    let engine = FixedPoint { tolerance: 0.0, ..FixedPoint::default() };
    let k_means = KMeans::new(points.view(), 3).unwrap();
    let solution = engine.solve(&Exact(&k_means), &start).unwrap();
    let found = engine.backward(&Exact(&k_means), &solution, &u).unwrap();
    let flat: Vec<f64> = points.iter().copied().collect();
    let expected = values(gradient(&flat, |x| {
        let moved = Array4::from_shape_vec((1, 1, 30, 2), x.to_vec()).unwrap();
        let k_means = KMeans::new(moved.view(), 3).unwrap();
        let solution = engine.solve(&Exact(&k_means), &start).unwrap();
        solution.z.iter().zip(&u).map(|(z, u)| z * u).sum()
    }));
    let found = found.inputs.get("points").unwrap();
    assert_close("points", found, &expected, Tolerance::mixed(1e-8));
}

#[test]
fn one_step_equals_plain_code_for_shared_points() {
    // Two batch entries, and two starts for each of two sets of points.
    let mut random = Random::new(8);
    let points = Array4::from_shape_simple_fn((2, 2, 700, 3), || random.normal());
    for covariance in [Covariance::Spherical, Covariance::Diagonal] {
        let mixture = Mixture::new(points.view(), 4, covariance).unwrap().with_heads(4).unwrap();
        let seeds = centres(points.view(), 4, 4, Seeding::PlusPlus, 9).unwrap();
        assert_ne!(seeds.index_axis(Axis(1), 0), seeds.index_axis(Axis(1), 1));
        let z = mixture.start(seeds.view()).unwrap();
        let (at, before) = (mixture.maximise(&z).unwrap(), mixture.unpack(&z).unwrap());
        let after = mixture.unpack(&at.next).unwrap();
        let responsibilities = mixture.ask(&z, Marginals).unwrap();
        for b in 0..2 {
            for h in 0..4 {
                let own = points.slice(s![b, h / 2, .., ..]).to_owned();
                let variances = before.variances.slice(s![b, h, .., ..]);
                let plain = reference::Mixture {
                    means: before.means.slice(s![b, h, .., ..]).to_owned(),
                    variances: variances.broadcast((4, 3)).unwrap().to_owned(),
                    weights: before.weights.slice(s![b, h, ..]).to_vec(),
                };
                let next = plain.step(&own, covariance == Covariance::Spherical);
                let tolerance = Tolerance::mixed(1e-11);
                let found = after.means.slice(s![b, h, .., ..]);
                assert_close("means", found, &next.means, tolerance);
                let found = after.variances.slice(s![b, h, .., ..]);
                let found: Array2<f64> = found.broadcast((4, 3)).unwrap().to_owned();
                assert_close("variances", &found, &next.variances, tolerance);
                let found = after.weights.slice(s![b, h, ..]);
                assert_close("weights", found, &next.weights, tolerance);
                let f: f64 = own.rows().into_iter().map(|x| -plain.log_density(x)).sum();
                assert_close("F", &[at.free_energy[b * 4 + h]], &[f], tolerance);
            }
        }
        let sums = responsibilities.sum_axis(Axis(2));
        assert!(sums.iter().all(|s| (s - 1.0).abs() < 1e-12));
        assert!(mixture.ask(&z, Kl).unwrap().iter().all(|&kl| kl >= 0.0));
    }
}

#[test]
fn empty_and_collapsed_components_are_defined() {
    // One component so far away that its responsibilities underflow.
    let (points, _) = clusters(10);
    let mixture = Mixture::new(points.view(), 2, Covariance::Spherical).unwrap();
    let means = ndarray::array![[0.0, 1.0], [1e6, 1e6]].into_shape_with_order((1, 1, 2, 2));
    let start = mixture.pack(&Parameters {
        means: means.unwrap(),
        variances: Array4::from_elem((1, 1, 2, 1), 1.0),
        weights: Array3::from_elem((1, 1, 2), 0.5),
    });
    let engine = FixedPoint { tolerance: 1e-12, ..FixedPoint::default() };
    let solution = engine.solve(&Exact(&mixture), &start.unwrap()).unwrap();
    assert!(solution.converged());
    let end = mixture.unpack(&solution.z).unwrap();
    assert_eq!(end.weights[[0, 0, 1]], 0.0);
    assert_eq!(end.means[[0, 0, 1, 0]], 1e6);
    assert_eq!(end.variances[[0, 0, 1, 0]], 1.0);
    assert!((end.weights[[0, 0, 0]] - 1.0).abs() < 1e-12);
    let u = vec![1.0; solution.z.len()];
    let one_step = engine.clone().with_differentiation(Differentiation::OneStep);
    let gradient = one_step.backward(&Exact(&mixture), &solution, &u).unwrap();
    assert!(gradient.inputs.get("points").unwrap().iter().all(|g| g.is_finite()));

    // As many components as points: each ends on its own, at the least variance there is.
    let few = points.slice(s![.., .., ..4, ..]);
    for floor in [0.0, 1e-3] {
        let mixture = Mixture::new(few, 4, Covariance::Diagonal).unwrap();
        let mixture = mixture.with_variance_floor(floor).unwrap();
        let start = mixture.start(few).unwrap();
        let solution = engine.solve(&Exact(&mixture), &start).unwrap();
        assert!(solution.converged());
        let end = mixture.unpack(&solution.z).unwrap();
        assert_close("means", &end.means, few.iter(), Tolerance::mixed(1e-12));
        assert!(end.variances.iter().all(|&v| v >= floor && v < floor.max(1e-12) * 1.01));
        assert!(solution.free_energy[0].is_finite());
    }

    // All points the same.
    let same = Array4::from_elem((1, 1, 5, 2), 0.1f32);
    let mixture = Mixture::new(same.view(), 2, Covariance::Spherical).unwrap();
    let start = mixture.start(same.slice(s![.., .., ..2, ..])).unwrap();
    let solution = engine.solve(&Exact(&mixture), &start).unwrap();
    assert!(solution.z.iter().all(|z| z.is_finite()));
    assert!(solution.free_energy[0].is_finite());
}

#[test]
fn settings_read_as_data_and_fit() {
    let settings: Settings = toml::from_str(
        "components = 3\ncovariance = \"spherical\"\nrestarts = 8\nseed = 5\nregularisation = 1e-6",
    )
    .expect("settings");
    let (points, middles) = clusters(11);
    let fit = settings.fit(points.view()).unwrap();
    assert_eq!(fit.reasons[[0, 0]], Reason::EnergyStandsStill);
    assert!(fit.restart[[0, 0]] < 8);
    let found = fit.parameters.means.slice(s![0, 0, .., ..]);
    for middle in middles.slice(s![0, 0, .., ..]).rows() {
        let gap = |m: ndarray::ArrayView1<'_, f64>| (&m - &middle).mapv(|x| x * x).sum().sqrt();
        let nearest = found.rows().into_iter().map(gap).fold(f64::INFINITY, f64::min);
        assert!(nearest < 1.0, "{nearest}");
    }
    // One start alone is not better.
    let one = Settings { restarts: 1, ..settings.clone() }.fit(points.view()).unwrap();
    assert!(one.log_likelihood[[0, 0]] <= fit.log_likelihood[[0, 0]] + 1e-12);
    assert_eq!(settings.fit(points.view()).unwrap(), fit);
    assert!(toml::from_str::<Settings>("components = 3\ncovariances = \"full\"").is_err());
    let k_means: k_means::Settings =
        toml::from_str("components = 3\nseeding = \"points\"").unwrap();
    assert_eq!(k_means.seeding, Seeding::Points);
}

#[test]
fn seeding_prefers_far_points() {
    // Two far clusters of three points each: two centres almost never share one.
    let points = ndarray::array![[0.0], [0.1], [0.2], [100.0], [100.1], [100.2]];
    let points = points.into_shape_with_order((1, 1, 6, 1)).unwrap();
    let mut together = 0;
    for seed in 0..500 {
        let seeds = centres(points.view(), 2, 1, Seeding::PlusPlus, seed).unwrap();
        together += usize::from((seeds[[0, 0, 0, 0]] < 50.0) == (seeds[[0, 0, 1, 0]] < 50.0));
        let distinct = centres(points.view(), 6, 1, Seeding::Points, seed).unwrap();
        let mut distinct: Vec<f64> = distinct.iter().copied().collect();
        distinct.sort_by(f64::total_cmp);
        assert_eq!(distinct, points.as_slice().unwrap());
    }
    assert!(together <= 2, "{together}");
    // More centres than different points are still points.
    let same = Array4::from_elem((1, 1, 4, 1), 2.5);
    let seeds = centres(same.view(), 3, 1, Seeding::PlusPlus, 0).unwrap();
    assert!(seeds.iter().all(|&x| x == 2.5));
}

#[test]
fn bad_arguments_are_named() {
    let (points, middles) = clusters(12);
    let refused = |points: &Array4<f64>, k| {
        Mixture::new(points.view(), k, Covariance::Diagonal).err().expect("an error").to_string()
    };
    assert!(refused(&points, 0).contains("`components` is 0"));
    assert!(refused(&points, 31).contains("between 1 and the number of points, 30"));
    assert!(refused(&Array4::zeros((1, 1, 0, 2)), 1).contains("at least one point"));
    let mut broken = points.clone();
    broken[[0, 0, 3, 1]] = f64::NAN;
    assert!(refused(&broken, 2).contains("`points` holds NaN at [0, 0, 3, 1]"));
    assert!(KMeans::new(points.view(), 0).err().unwrap().to_string().contains("`components`"));

    let mixture = || Mixture::new(points.view(), 3, Covariance::Diagonal).unwrap();
    for bad in [-1.0, f64::NAN, f64::INFINITY] {
        let error = mixture().with_regularisation(bad).err().unwrap().to_string();
        assert!(error.contains("`regularisation`"), "{error}");
        let error = mixture().with_variance_floor(bad).err().unwrap().to_string();
        assert!(error.contains("`variance-floor`"), "{error}");
    }
    assert!(mixture().with_heads(0).err().unwrap().to_string().contains("`heads` is 0"));
    let parameters = |variance: f64, weight: f64| Parameters {
        means: middles.clone(),
        variances: Array4::from_elem((1, 1, 3, 2), variance),
        weights: Array3::from_elem((1, 1, 3), weight),
    };
    let message = |parameters: &Parameters<f64>| {
        mixture().pack(parameters).expect_err("an error").to_string()
    };
    assert!(message(&parameters(0.0, 1.0)).contains("`variances` is 0"));
    assert!(message(&parameters(-1.0, 1.0)).contains("`variances` is -1"));
    assert!(message(&parameters(f64::NAN, 1.0)).contains("`variances` holds NaN"));
    assert!(message(&parameters(1.0, -1.0)).contains("`weights`"));
    assert!(message(&parameters(1.0, 0.0)).contains("`weights`"));
    let spherical =
        Parameters { variances: Array4::from_elem((1, 1, 3, 1), 1.0), ..parameters(1.0, 1.0) };
    assert!(message(&spherical).contains("`variances` has shape [1, 1, 3, 1]"));

    // z outside the bounds has no likelihood, and the engine says so.
    let mut z = mixture().pack(&parameters(1.0, 1.0)).unwrap();
    z[6] = -1.0;
    let solution = FixedPoint::default().solve(&Exact(&mixture()), &z).unwrap();
    assert_eq!((solution.reasons[0], &solution.z), (Reason::NotFinite, &z));
    assert!(mixture().log_likelihood(&z).err().unwrap().to_string().contains("problem 0"));
    z[6] = f64::NAN;
    let error = FixedPoint::default().solve(&Exact(&mixture()), &z).err().unwrap();
    assert!(error.to_string().contains("`start` holds NaN at [0, 6]"), "{error}");
    assert!(mixture().maximise(&z[1..]).is_err());
    let none = Settings { restarts: 0, ..toml::from_str("components = 2").unwrap() };
    assert!(none.fit(points.view()).err().unwrap().to_string().contains("`restarts` is 0"));
}
