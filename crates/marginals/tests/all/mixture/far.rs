//! Clusters far from each other and from 0: parameters have the digits that the points have.
//!
//! The reference is EM in f64, every moment in two passes over the points.

use marginals::{Element, Real};
use ndarray::Array4;

use super::*;

/// Where the clusters of a case lie, and the parts of the mixture that are given.
#[derive(Clone, Copy, Debug)]
struct Far {
    /// Distance of all clusters from 0 in every coordinate, to either side.
    origin: f64,
    /// Distance of the third cluster from the other two, which overlap.
    apart: f64,
    covariance: Covariance,
    gives_variances: bool,
    gives_weights: bool,
}

const COMPONENTS: usize = 3;
const WIDTH: usize = 3;
const HEADS: usize = 4;
const STEPS: usize = 4;

impl Far {
    /// Every case of a grid.
    fn all() -> Vec<Self> {
        let far = [0.0, 1e3, 1e4, 1e5];
        let mut all = Vec::new();
        for (origin, apart) in far.iter().flat_map(|&o| far.map(|a| (o, a))) {
            for covariance in [Covariance::Spherical, Covariance::Diagonal] {
                for gives in 0..4 {
                    let (gives_variances, gives_weights) = (gives & 1 > 0, gives & 2 > 0);
                    all.push(Self { origin, apart, covariance, gives_variances, gives_weights });
                }
            }
        }
        all
    }

    /// On which side of 0 the clusters lie.
    fn side(d: usize) -> f64 {
        if d == 1 { -1.0 } else { 1.0 }
    }

    /// Coordinates counted from `origin`: exact, and what the reference is given, whose own sums
    /// would otherwise be rounded to the size of the points.
    fn counted<T: Real>(&self, list: &Array4<T>) -> Array4<f64> {
        let mut counted = exact(list);
        for ((.., d), x) in counted.indexed_iter_mut() {
            *x -= Self::side(d) * self.origin;
        }
        counted
    }

    /// The middle of a cluster.
    fn middle(&self, cluster: usize, d: usize) -> f64 {
        let side = Self::side(d);
        let own = [[0.0, 0.0, 0.0], [2.0, 1.0, -1.5], [-3.0, 1.0, 2.0]][cluster][d];
        side * self.origin + own + if cluster == 2 { side * self.apart } else { 0.0 }
    }

    /// Numbers of every (b, h, row, d), as `T` holds them.
    fn tensor<T: Real>(
        shape: (usize, usize, usize, usize),
        mut number: impl FnMut(usize, usize) -> f64,
    ) -> Array4<T> {
        Array4::from_shape_fn(shape, |(_, _, row, d)| T::of(number(row, d)))
    }
}

fn exact<T: Real>(list: &Array4<T>) -> Array4<f64> {
    list.mapv(|x| x.f64())
}

/// What EM in f64 makes of one head after some steps.
fn two_pass(
    case: &Far,
    points: &Array2<f64>,
    start: &Parameters<f64>,
    (b, h): (usize, usize),
) -> reference::Mixture {
    let shape = (COMPONENTS, WIDTH);
    let variances = start.variances.slice(s![b, h, .., ..]);
    let given = reference::Mixture {
        means: start.means.slice(s![b, h, .., ..]).to_owned(),
        variances: variances.broadcast(shape).expect("one or all").to_owned(),
        weights: {
            let weights = start.weights.slice(s![b, h, ..]).to_vec();
            let sum: f64 = weights.iter().sum();
            weights.iter().map(|w| w / sum).collect()
        },
    };
    (0..STEPS).fold(given.clone(), |at, _| {
        let mut next = at.step(points, case.covariance == Covariance::Spherical);
        if case.gives_variances {
            next.variances.clone_from(&given.variances);
        }
        if case.gives_weights {
            next.weights.clone_from(&given.weights);
        }
        next
    })
}

/// Runs every case in `T`; `digits` is what sums of some hundred terms keep.
fn steps_equal_two_pass_code<T: Real + Element<Real = T>>(digits: f64) {
    let mut random = Random::new(21);
    let (mut worst, mut worst_of_pair) = (0.0, 0.0);
    for case in Far::all() {
        let v = if case.covariance == Covariance::Spherical { 1 } else { WIDTH };
        let points: Array4<T> = Far::tensor((2, 2, 150, WIDTH), |j, d| {
            case.middle(j % COMPONENTS, d) + (1.0 + 0.2 * d as f64) * random.normal()
        });
        let start = Parameters {
            means: Far::tensor((2, HEADS, COMPONENTS, WIDTH), |k, d| {
                case.middle(k, d) + 0.3 * random.normal()
            }),
            variances: Far::tensor((2, HEADS, COMPONENTS, v), |_, _| random.between(0.7, 1.5)),
            weights: Array3::from_shape_simple_fn((2, HEADS, COMPONENTS), || {
                T::of(random.between(0.5, 2.0))
            }),
        };
        let mut mixture = Mixture::new(points.view(), COMPONENTS, case.covariance).unwrap();
        mixture = mixture.with_heads(HEADS).unwrap();
        if case.gives_variances {
            mixture = mixture.with_variances(start.variances.clone()).unwrap();
        }
        if case.gives_weights {
            mixture = mixture.with_weights(start.weights.clone()).unwrap();
        }
        let engine = FixedPoint { tolerance: 0.0, max_steps: STEPS, ..FixedPoint::default() };
        let z = mixture.pack(&start).unwrap();
        let solution = engine.solve(&Exact(&mixture), &z).unwrap();
        let found = mixture.unpack(&solution.z).unwrap();
        let densities = mixture.log_likelihood(&solution.z).unwrap();
        assert_eq!(mixture.floored(&solution.z).unwrap().sum(), 0);

        let (points, found_weights) = (case.counted(&points), found.weights.mapv(|x| x.f64()));
        let (found_means, found_variances) = (case.counted(&found.means), exact(&found.variances));
        let start = Parameters {
            means: case.counted(&start.means),
            variances: exact(&start.variances),
            weights: start.weights.mapv(|x| x.f64()),
        };
        // A mean is held as well as the spread of all points allows. What is not rounded by that is
        // held to the digits of `T`: clusters alone, and those around 0 or among the others.
        let epsilon = T::epsilon().f64();
        let rounding = epsilon * case.apart;
        let of_pair = digits + if case.origin == 0.0 { 0.0 } else { 8.0 * rounding };
        for (b, h) in (0..2).flat_map(|b| (0..HEADS).map(move |h| (b, h))) {
            let own = points.slice(s![b, h / 2, .., ..]).to_owned();
            let expected = two_pass(&case, &own, &start, (b, h));
            for k in 0..COMPONENTS {
                let digits = if k == 2 { digits } else { of_pair };
                let what = |what: &str| format!("{case:?}, {what} of {k} in {b}, {h}");
                let variances = found_variances.slice(s![b, h, k, ..]);
                let variances = variances.broadcast(WIDTH).expect("one or all").to_owned();
                let tolerance = Tolerance { relative: digits, absolute: 0.0 };
                assert_close(what("σ²"), &variances, expected.variances.row(k), tolerance);
                let gaps = &variances / &expected.variances.row(k) - 1.0;
                let gap = gaps.iter().fold(0.0, |a: f64, gap| a.max(gap.abs() / digits));
                let into = if k == 2 { &mut worst } else { &mut worst_of_pair };
                *into = gap.max(*into);
                // What is found is rounded where it lies, and so are the reference's sums.
                let absolute = digits + epsilon * case.origin;
                let tolerance = Tolerance { relative: 8.0 * epsilon, absolute };
                let means = found_means.slice(s![b, h, k, ..]);
                assert_close(what("μ"), means, expected.means.row(k), tolerance);
                if !case.gives_weights {
                    let tolerance = Tolerance::mixed(digits);
                    let weights = [found_weights[[b, h, k]]];
                    assert_close(what("π"), &weights, &[expected.weights[k]], tolerance);
                }
            }
            let density: Vec<f64> =
                own.rows().into_iter().map(|x| expected.log_density(x)).collect();
            let found: Vec<f64> = densities.slice(s![b, h, ..]).iter().map(|x| x.f64()).collect();
            let tolerance = Tolerance::mixed(digits + 16.0 * rounding);
            assert_close(format!("{case:?}, log p"), &found, &density, tolerance);
            let sum = [-density.iter().sum::<f64>()];
            let energy = [solution.free_energy[b * HEADS + h].f64()];
            assert_close(format!("{case:?}, F"), &energy, &sum, tolerance);
        }
    }
    println!("variances are off by at most {worst:.2} and {worst_of_pair:.2} of what is allowed");
}

#[test]
fn steps_equal_two_pass_code_in_single_precision() {
    steps_equal_two_pass_code::<f32>(1e-5);
}

#[test]
fn steps_equal_two_pass_code_in_double_precision() {
    steps_equal_two_pass_code::<f64>(1e-11);
}

/// A start so far away that the first step's points are all on one side of it.
#[test]
fn the_first_step_has_its_digits_from_any_start() {
    let mut random = Random::new(22);
    for away in [1e2, 1e4, 1e6] {
        let points = Array4::from_shape_simple_fn((1, 1, 5000, 2), || random.normal() as f32);
        let own = exact(&points).slice(s![0, 0, .., ..]).to_owned();
        for covariance in [Covariance::Spherical, Covariance::Diagonal] {
            let mixture = Mixture::new(points.view(), 1, covariance).unwrap();
            let z = mixture.pack(&Parameters {
                means: Array4::from_elem((1, 1, 1, 2), away as f32),
                variances: Array4::from_elem((1, 1, 1, mixture.variances()), 1.0),
                weights: Array3::ones((1, 1, 1)),
            });
            let next = mixture.unpack(&mixture.maximise(&z.unwrap()).unwrap().next).unwrap();
            let plain = reference::Mixture {
                means: Array2::zeros((1, 2)),
                variances: Array2::ones((1, 2)),
                weights: vec![1.0],
            };
            let expected = plain.step(&own, covariance == Covariance::Spherical);
            let variances = exact(&next.variances);
            let variances = variances.broadcast((1, 1, 1, 2)).unwrap().to_owned();
            let tolerance = Tolerance::mixed(1e-6);
            assert_close(format!("σ² from {away}"), &variances, &expected.variances, tolerance);
            assert_close(format!("μ from {away}"), &exact(&next.means), &expected.means, tolerance);
        }
    }
}

#[test]
fn fits_of_far_clusters_have_the_variances_of_each() {
    let mut random = Random::new(23);
    for apart in [0.0, 1e3, 1e4, 1e5, 1e6].map(|apart| 20.0 + apart) {
        for origin in [0.0, 1e5] {
            let points = Array4::from_shape_fn((1, 1, 1000, 2), |(_, _, j, _)| {
                (origin + (j % 2) as f64 * apart + random.normal()) as f32
            });
            let settings: Settings = toml::from_str("components = 2\nrestarts = 4").unwrap();
            let fit = settings.fit(points.view()).unwrap();
            assert_eq!(fit.floored, Array3::<usize>::zeros((1, 1, 2)));
            let points = exact(&points);
            for k in 0..2 {
                let mean = f64::from(fit.parameters.means[[0, 0, k, 0]]);
                let cluster = usize::from((mean - origin).abs() > 0.5 * apart);
                let own = points.slice(s![0, 0, cluster..;2, ..]);
                let expected = own.var_axis(Axis(0), 0.0);
                let found = exact(&fit.parameters.variances).slice(s![0, 0, k, ..]).to_owned();
                let name = format!("σ² at {origin}, {apart} apart");
                assert_close(name, &found, &expected, Tolerance::mixed(1e-5));
            }
        }
    }
}

#[test]
fn points_without_width_have_the_regularisation_for_a_variance() {
    let points = Array4::from_shape_fn((1, 1, 40, 1), |(.., j, _)| [9999f32, 0.0][j % 2]);
    for regularisation in [0.1, 1e-6] {
        let settings: Settings =
            toml::from_str(&format!("components = 2\nregularisation = {regularisation}")).unwrap();
        let fit = settings.fit(points.view()).unwrap();
        let mut means = fit.parameters.means.iter().copied().collect::<Vec<f32>>();
        means.sort_by(f32::total_cmp);
        assert_eq!(means, [0.0, 9999.0]);
        if regularisation == 0.1 {
            assert_eq!(fit.parameters.variances, Array4::from_elem((1, 1, 2, 1), 0.1f32));
            assert_eq!(fit.floored.sum(), 0);
        } else {
            // Smaller than the square of what rounds 9999: said, and not passed over.
            assert!(fit.parameters.variances.iter().all(|&v| v > 1e-6 && v < 2e-6));
            assert_eq!(fit.floored, Array3::from_elem((1, 1, 2), 1));
        }
    }
}

#[test]
fn variances_on_their_floor_are_counted() {
    // Two wide clusters; copies of one point; points that share one coordinate.
    let mut random = Random::new(24);
    let mut points = Array4::from_shape_fn((1, 1, 60, 2), |(.., j, d)| match j % 3 {
        0 => random.normal() as f32,
        1 => 50.0,
        _ if d == 0 => -50.0,
        _ => random.normal() as f32,
    });
    let centres = ndarray::array![[0f32, 0.0], [50.0, 50.0], [-50.0, 0.0]];
    let centres = centres.into_shape_with_order((1, 1, 3, 2)).unwrap();
    let engine = FixedPoint { tolerance: 0.0, max_steps: 5, ..FixedPoint::default() };
    let floored = |mixture: &Mixture<'_, f32>| {
        let start = mixture.start(centres.view()).unwrap();
        let solution = engine.solve(&Exact(mixture), &start).unwrap();
        assert_eq!(mixture.floored(&start).unwrap(), mixture.floored(&solution.z).unwrap());
        let variances = mixture.unpack(&solution.z).unwrap().variances;
        (mixture.floored(&solution.z).unwrap().into_raw_vec_and_offset().0, variances)
    };
    let diagonal = || Mixture::new(points.view(), 3, Covariance::Diagonal).unwrap();
    let (counts, variances) = floored(&diagonal());
    assert_eq!(counts, [0, 2, 1]);
    assert_eq!(variances[[0, 0, 1, 0]], (f32::EPSILON * 50.0).powi(2));
    let (counts, variances) = floored(&diagonal().with_variance_floor(0.25).unwrap());
    assert_eq!(counts, [0, 2, 1]);
    assert_eq!((variances[[0, 0, 1, 1]], variances[[0, 0, 2, 0]]), (0.25, 0.25));
    assert_eq!(floored(&diagonal().with_variance_floor(100.0).unwrap()).0, [2, 2, 2]);
    assert_eq!(floored(&diagonal().with_regularisation(0.25).unwrap()).0, [0, 0, 0]);
    let spherical = || Mixture::new(points.view(), 3, Covariance::Spherical).unwrap();
    assert_eq!(floored(&spherical()).0, [0, 1, 0]);
    let given = Array4::from_elem((1, 1, 3, 1), 1.0);
    let given = spherical().with_variance_floor(1.0).unwrap().with_variances(given).unwrap();
    assert_eq!(floored(&given).0, [0, 0, 0]);

    // A fit says so of the start that it kept.
    let settings: Settings = toml::from_str("components = 3\nrestarts = 6").unwrap();
    let fit = settings.fit(points.view()).unwrap();
    let on_floor = |variances: ndarray::ArrayView1<'_, f32>| {
        variances.iter().filter(|&&v| v <= (f32::EPSILON * 50.0).powi(2) * 1.1).count()
    };
    let expected: Vec<usize> = fit.parameters.variances.rows().into_iter().map(on_floor).collect();
    assert_eq!(fit.floored.iter().copied().collect::<Vec<_>>(), expected);
    assert!(expected.iter().sum::<usize>() > 0);
    points.fill(7.0);
    let same = Mixture::new(points.view(), 2, Covariance::Diagonal).unwrap();
    let start = same.start(points.slice(s![.., .., ..2, ..])).unwrap();
    assert_eq!(same.floored(&start).unwrap(), Array3::from_elem((1, 1, 2), 2));
}

/// `clusters` moved to `origin`, the last of them by `apart` more.
fn moved(base: &[f64], rows: usize, origin: f64, apart: f64) -> Array4<f64> {
    Array4::from_shape_fn((1, 1, rows, 2), |(.., j, d)| {
        let own = base[j * 2 + d] + if d == 0 { origin } else { -origin };
        if j % 3 == 2 { own + apart } else { own }
    })
}

#[test]
fn gradients_of_far_clusters_agree_with_finite_differences() {
    let (points, middles) = clusters(4);
    let base: Vec<f64> = points.iter().copied().collect();
    let middles: Vec<f64> = middles.iter().copied().collect();
    for (origin, apart) in [(1e4, 0.0), (-1e5, 0.0), (0.0, 1e4), (1e5, 1e4), (1e4, 1e5)] {
        for covariance in [Covariance::Spherical, Covariance::Diagonal] {
            for (gives_variances, gives_weights) in [(false, false), (true, false), (false, true)] {
                let mut random = Random::new(5);
                let v = if covariance == Covariance::Spherical { 1 } else { 2 };
                let mut given =
                    |shape| Array4::from_shape_simple_fn(shape, || random.between(0.5, 2.0));
                let variances = gives_variances.then(|| given((1, 1, 3, v)));
                let weights =
                    gives_weights.then(|| given((1, 1, 3, 1)).index_axis_move(Axis(3), 0));
                let at = |base: &[f64]| moved(base, 30, origin, apart);
                let points = at(&base);
                let mixture = make(&points, covariance, &variances, &weights);
                let start = mixture.start(moved(&middles, 3, origin, apart).view()).unwrap();
                let u = Random::new(6).normals(start.len());
                let name = format!(
                    "{origin}, {apart}, {covariance:?}, {gives_variances}, {gives_weights}"
                );
                let tolerance = Tolerance::mixed(1e-6);

                // Two unrolled steps: what one step hands back, and the step before it.
                let engine = FixedPoint { tolerance: 0.0, max_steps: 2, ..FixedPoint::default() }
                    .with_differentiation(Differentiation::Unrolled);
                let solution = engine.solve(&Exact(&mixture), &start).unwrap();
                let found = engine.backward(&Exact(&mixture), &solution, &u).unwrap();
                // By how far z moves: steps are a share of what is moved, and z may be large.
                let expected = values(gradient(&vec![0.0; start.len()], |by| {
                    let z: Vec<f64> = start.iter().zip(by).map(|(z, by)| z + by).collect();
                    reached(&mixture, &z, &engine, &u)
                }));
                assert_close(format!("{name}: start"), &found.start, &expected, tolerance);
                let expected = values(gradient(&base[..12], |x| {
                    let moved = at(&[x, &base[12..]].concat());
                    let mixture = make(&moved, covariance, &variances, &weights);
                    reached(&mixture, &start, &engine, &u)
                }));
                let of = found.inputs.get("points").unwrap();
                assert_close(format!("{name}: unrolled"), of.iter().take(12), &expected, tolerance);

                // At the fixed point.
                let engine =
                    FixedPoint { tolerance: 1e-13, max_steps: 5000, ..FixedPoint::default() };
                let solution = engine.solve(&Exact(&mixture), &start).unwrap();
                assert!(solution.converged(), "{name}: {:?}", solution.reasons);
                let implicit = engine.backward(&Exact(&mixture), &solution, &u).unwrap();
                assert!(implicit.adjoint.unwrap().converged);
                let expected = values(gradient(&base[..12], |x| {
                    let moved = at(&[x, &base[12..]].concat());
                    let mixture = make(&moved, covariance, &variances, &weights);
                    reached(&mixture, &solution.z, &engine, &u)
                }));
                let of = implicit.inputs.get("points").unwrap();
                assert_close(format!("{name}: implicit"), of.iter().take(12), &expected, tolerance);
                if let Some(variances) = &variances {
                    let expected = values(gradient(variances.as_slice().unwrap(), |x| {
                        let moved = Array4::from_shape_vec((1, 1, 3, v), x.to_vec()).unwrap();
                        let mixture = make(&points, covariance, &Some(moved), &weights);
                        reached(&mixture, &solution.z, &engine, &u)
                    }));
                    let of = implicit.inputs.get("variances").unwrap();
                    assert_close(format!("{name}: variances"), of, &expected, tolerance);
                }
                let one_step = engine.with_differentiation(Differentiation::OneStep);
                let found = one_step.backward(&Exact(&mixture), &solution, &u).unwrap();
                let single = FixedPoint { tolerance: 0.0, max_steps: 1, ..FixedPoint::default() };
                let expected = values(gradient(&base[..12], |x| {
                    let moved = at(&[x, &base[12..]].concat());
                    let mixture = make(&moved, covariance, &variances, &weights);
                    reached(&mixture, &solution.z, &single, &u)
                }));
                let of = found.inputs.get("points").unwrap();
                assert_close(format!("{name}: one step"), of.iter().take(12), &expected, tolerance);
            }
        }
    }
}

/// The gradient in f32 is that in f64, wherever the clusters lie.
#[test]
fn gradients_have_their_digits_in_single_precision() {
    let (points, middles) = clusters(4);
    let base: Vec<f64> = points.iter().map(|&x| f64::from(x as f32)).collect();
    let middles: Vec<f64> = middles.iter().copied().collect();
    let engine = FixedPoint { tolerance: 0.0, max_steps: 2, ..FixedPoint::default() }
        .with_differentiation(Differentiation::Unrolled);
    for (origin, apart) in [(0.0, 0.0), (1e4, 0.0), (1e5, 0.0), (0.0, 1e4), (0.0, 1e5)] {
        for covariance in [Covariance::Spherical, Covariance::Diagonal] {
            let single = moved(&base, 30, origin, apart).mapv(|x| x as f32);
            let start = moved(&middles, 3, origin, apart).mapv(|x| x as f32);
            let mixture = Mixture::new(single.view(), 3, covariance).unwrap();
            let z = mixture.start(start.view()).unwrap();
            let u = Random::new(6).normals(z.len());
            let single_u: Vec<f32> = u.iter().map(|&u| u as f32).collect();
            let solution = engine.solve(&Exact(&mixture), &z).unwrap();
            let found = engine.backward(&Exact(&mixture), &solution, &single_u).unwrap();
            let found = found.inputs.get("points").unwrap().mapv(f64::from);

            let (points, start) = (exact(&single), exact(&start));
            let mixture = Mixture::new(points.view(), 3, covariance).unwrap();
            let z = mixture.start(start.view()).unwrap();
            let u: Vec<f64> = single_u.iter().map(|&u| f64::from(u)).collect();
            let solution = engine.solve(&Exact(&mixture), &z).unwrap();
            let expected = engine.backward(&Exact(&mixture), &solution, &u).unwrap();
            let expected = expected.inputs.get("points").unwrap();
            let tolerance = Tolerance::of_largest(1e-4, expected.as_slice().unwrap());
            assert_close(format!("{origin}, {apart}, {covariance:?}"), &found, expected, tolerance);
        }
    }
}

#[test]
fn k_means_of_far_points_is_lloyds_algorithm() {
    let mut random = Random::new(25);
    let mut copies = 0;
    for (origin, apart) in [(0.0, 0.0), (1e3, 0.0), (1e5, 10.0), (1e6, 8.0), (0.0, 1e5), (1e5, 1e5)]
    {
        for repeated in [false, true] {
            let middles = [[0.0, 0.0], [6.0 + apart, 0.0], [0.0, 6.0 + apart]];
            let mut points = Array4::from_shape_fn((1, 1, 90, 2), |(.., j, d)| {
                (origin + middles[j % 3][d] + 0.5 * random.normal()) as f32
            });
            if repeated {
                for j in 3..90 {
                    let from = points.slice(s![.., .., j % 6, ..]).to_owned();
                    points.slice_mut(s![.., .., j, ..]).assign(&from);
                }
                copies += 1;
            }
            let exact = exact(&points).slice(s![0, 0, .., ..]).to_owned();
            // More centres than there are different points, where they repeat.
            for components in [3, 8] {
                let seeds = centres(points.view(), components, 1, Seeding::PlusPlus, 3).unwrap();
                let k_means = KMeans::new(points.view(), components).unwrap();
                let start: Vec<f32> = seeds.iter().copied().collect();
                let engine = FixedPoint { tolerance: 0.0, ..FixedPoint::default() };
                let solution = engine.solve(&Exact(&k_means), &start).unwrap();
                assert!(solution.converged(), "{origin}, {apart}, {repeated}, {components}");
                let labels = k_means.assign(&solution.z).unwrap();
                let found = k_means.centres(&solution.z).unwrap().mapv(f64::from);
                let name = format!("{origin}, {apart}, {repeated}, {components}");
                let mut inertia = 0.0;
                for k in 0..components {
                    let own: Vec<usize> =
                        (0..90).filter(|&j| labels[[0, 0, j]] == k as i64).collect();
                    if own.is_empty() {
                        continue;
                    }
                    let mean = exact.select(Axis(0), &own).mean_axis(Axis(0)).unwrap();
                    let tolerance = Tolerance { relative: 1e-7, absolute: 1e-7 };
                    assert_close(name.clone(), found.slice(s![0, 0, k, ..]), &mean, tolerance);
                }
                for (j, &label) in labels.iter().enumerate() {
                    let square = |k: usize| -> f64 {
                        let centre = found.slice(s![0, 0, k, ..]);
                        (&exact.row(j) - &centre).mapv(|x| x * x).sum()
                    };
                    let least = (0..components).map(square).fold(f64::INFINITY, f64::min);
                    let own = square(label as usize);
                    assert!(own <= least * (1.0 + 1e-5), "{name}: {j} is {own} away, not {least}");
                    inertia += own;
                }
                let tolerance = Tolerance::mixed(1e-6);
                assert_close(name, &[f64::from(solution.free_energy[0])], &[inertia], tolerance);
            }
        }
    }
    assert_eq!(copies, 6);
}
