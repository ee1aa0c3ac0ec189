//! Modern Hopfield networks against their closed form, finite differences and the theory.

mod common_part;

use marginals::Error;
use marginals::infer::collapsed::{
    Acceleration, Backtracking, Descent, Differentiable, Differentiation, Exact, FixedPoint,
    InputGradients, Latent, Maximise,
};
use marginals::prior::{Causal, KeyBias, Prior};
use marginals::zoo::hopfield::{Hopfield, Settled};
use marginals_testkit::compare::{Tolerance, assert_close};
use marginals_testkit::finite_difference::gradient;
use marginals_testkit::generate::Random;
use marginals_testkit::reference::Memory;
use ndarray::{Array1, Array2, Array3, Array4, ArrayView1, s};

/// One generated network and a start.
#[derive(Clone)]
struct Case {
    patterns: Array4<f64>,
    beta: Vec<f64>,
    states: (usize, usize),
    start: Vec<f64>,
}

impl Case {
    /// Patterns of spread about 1 per coordinate; β such that some states settle on a pattern and
    /// some between.
    fn new(random: &mut Random) -> Self {
        let (batch, key_heads) = (random.integer(1, 2) as usize, random.integer(1, 2) as usize);
        let heads = key_heads * random.integer(1, 2) as usize;
        let (queries, count) = (random.integer(1, 5) as usize, random.integer(1, 12) as usize);
        let width = random.integer(1, 9) as usize;
        let shape = (batch, key_heads, count, width);
        let patterns = Array4::from_shape_simple_fn(shape, || random.normal());
        let entries = if random.chance(0.5) { heads } else { 1 };
        let beta = (0..entries).map(|_| 10f64.powf(random.between(-1.5, 1.0))).collect();
        let start = random.normals(batch * heads * queries * width);
        Self { patterns, beta, states: (heads, queries), start }
    }

    fn network(&self) -> Hopfield<'_, f64> {
        Hopfield::new(self.patterns.view(), &self.beta, self.states).expect("a network")
    }

    /// The memory that serves each state.
    fn memory(&self, problem: usize) -> Memory {
        let (heads, queries) = self.states;
        let (batch, head) = (problem / queries / heads, problem / queries % heads);
        let key_head = head / (heads / self.patterns.dim().1);
        let beta = self.beta[if self.beta.len() == 1 { 0 } else { head }];
        Memory::new(self.patterns.slice(s![batch, key_head, .., ..]).to_owned(), beta)
    }

    fn width(&self) -> usize {
        self.patterns.dim().3
    }

    /// As the network, one state at a time.
    fn step(&self, z: &[f64]) -> Vec<f64> {
        let states = z.chunks(self.width()).enumerate();
        states.flat_map(|(p, z)| self.memory(p).step(ArrayView1::from(z)).to_vec()).collect()
    }

    fn energy(&self, z: &[f64]) -> Vec<f64> {
        let states = z.chunks(self.width()).enumerate();
        states.map(|(p, z)| self.memory(p).energy(ArrayView1::from(z))).collect()
    }
}

#[test]
fn equals_its_closed_form_for_up_to_ten_steps() {
    let mut random = Random::new(1);
    for _ in 0..100 {
        let case = Case::new(&mut random);
        let network = case.network();
        let mut z = case.start.clone();
        for steps in 0..=10 {
            let engine = FixedPoint { tolerance: 0.0, max_steps: steps, ..FixedPoint::default() };
            let solution = engine.solve(&Exact(&network), &case.start).expect("a solution");
            let tolerance = Tolerance::of_largest(1e-12, &z);
            assert_close(format!("z after {steps} steps"), &solution.z, &z, tolerance);
            let energy = network.energy(&solution.z).expect("energies");
            let scale = z.iter().chain(&case.patterns).fold(1.0, |a: f64, x| a.max(x.abs()));
            let tolerance = Tolerance::mixed(1e-12 * case.width() as f64 * scale * scale);
            assert_close(format!("E after {steps} steps"), &energy, &case.energy(&z), tolerance);
            z = case.step(&z);
        }
    }
}

#[test]
fn a_prior_weighs_the_patterns() {
    let mut random = Random::new(2);
    for _ in 0..50 {
        let case = Case::new(&mut random);
        let (batch, _, count, _) = case.patterns.dim();
        let mut weights = Array3::from_shape_simple_fn((batch, 1, count), || random.normal());
        weights[[0, 0, 0]] = if count > 1 { f64::NEG_INFINITY } else { 0.5 };
        let network = case.network().with_prior(KeyBias::new(weights.clone())).unwrap();
        let at = network.maximise(&case.start).unwrap();
        let (heads, queries) = case.states;
        for (p, z) in case.start.chunks(case.width()).enumerate() {
            let batch = p / queries / heads;
            let mut memory = case.memory(p);
            memory.log_weights = weights.slice(s![batch, 0, ..]).to_vec();
            let z = ArrayView1::from(z);
            let next = &at.next[p * case.width()..][..case.width()];
            assert_close("step", next, &memory.step(z), Tolerance::mixed(1e-12));
            let f = memory.beta * memory.energy(z);
            assert_close("F", &[at.free_energy[p]], &[f], Tolerance::mixed(1e-11));
        }
    }
}

/// A rise of F that rounding explains: 1e-12 of F, or of a nat where F is smaller.
fn rises(before: f64, after: f64) -> bool {
    after > before + 1e-12 * before.abs().max(1.0)
}

#[test]
fn the_free_energy_never_rises() {
    let mut random = Random::new(3);
    let (mut steps, mut taken_back, mut worst) = (0, 0, f64::NEG_INFINITY);
    for model in 0..1000 {
        let case = Case::new(&mut random);
        let network = case.network();
        // Every state on its own: a sum could hide a rise.
        let mut at = network.maximise(&case.start).unwrap();
        for _ in 0..30 {
            let reached = network.maximise(&at.next).unwrap();
            for (before, after) in at.free_energy.iter().zip(&reached.free_energy) {
                assert!(!rises(*before, *after), "model {model}: {before} to {after}");
                worst = worst.max((after - before) / before.abs().max(1.0));
            }
            at = reached;
        }
        for memory in [1, 5] {
            let engine = FixedPoint { tolerance: 1e-10, ..FixedPoint::default() }
                .with_acceleration(Acceleration::Anderson { memory });
            let solution = engine.solve(&Exact(&network), &case.start).unwrap();
            let energies = solution.trace.iter().map(|t| t.free_energy.unwrap());
            let energies: Vec<f64> = energies.collect();
            assert!(
                energies.windows(2).all(|w| !rises(w[0], w[1])),
                "model {model}, memory {memory}: {energies:?}"
            );
            steps += energies.len() - 1;
            taken_back += solution.evaluations - energies.len();
        }
    }
    println!("largest relative rise of a plain step: {worst:e}");
    println!("accelerated steps: {steps}, of which taken back: {taken_back}");
    assert!(taken_back < steps / 2);
}

#[test]
fn acceleration_and_descent_reach_the_same_states() {
    let mut random = Random::new(4);
    let mut saved = 0i64;
    for _ in 0..50 {
        let case = Case::new(&mut random);
        let network = case.network();
        let engine = FixedPoint { tolerance: 1e-11, max_steps: 20_000, ..FixedPoint::default() };
        let plain = engine.solve(&Exact(&network), &case.start).unwrap();
        assert!(plain.converged());
        let fast = engine.clone().with_acceleration(Acceleration::Anderson { memory: 5 });
        let fast = fast.solve(&Exact(&network), &plain.z).unwrap();
        assert_close("stays", &fast.z, &plain.z, Tolerance::mixed(1e-9));
        let fast = engine.clone().with_acceleration(Acceleration::Anderson { memory: 5 });
        let fast = fast.solve(&Exact(&network), &case.start).unwrap();
        assert!(fast.converged());
        saved += plain.steps.iter().sum::<usize>() as i64 - fast.steps.iter().sum::<usize>() as i64;
        // Elsewhere than where the gradient is 0 there is nothing to settle on.
        for z in [&plain.z, &fast.z] {
            let gradient = network.gradient(z).unwrap().next;
            let largest = gradient.iter().fold(0.0, |a: f64, g| a.max(g.abs()));
            assert!(largest <= 1e-9, "{largest}");
        }
        let descent = Descent::new(&network, 1.0).unwrap();
        let descent = descent.with_backtracking(Backtracking::default()).unwrap();
        let slow = FixedPoint { max_steps: 100, ..engine }.solve(&descent, &case.start).unwrap();
        let energies: Vec<f64> = slow.trace.iter().map(|t| t.free_energy.unwrap()).collect();
        assert!(energies.windows(2).all(|w| !rises(w[0], w[1])));
    }
    println!("steps saved by acceleration: {saved}");
    assert!(saved > 0);
}

/// Σ u z, a loss whose gradient in z is u.
fn loss(z: &[f64], upstream: &[f64]) -> f64 {
    z.iter().zip(upstream).map(|(z, u)| z * u).sum()
}

/// A case small enough for finite differences, away from the borders between basins.
fn small(seed: u64, beta: &[f64]) -> Case {
    let mut random = Random::new(seed);
    let patterns = Array4::from_shape_simple_fn((1, 1, 5, 3), || random.normal());
    let start = random.normals(2 * 2 * 3);
    Case { patterns, beta: beta.to_vec(), states: (2, 2), start }
}

fn solve(case: &Case, weights: &Array3<f64>, engine: &FixedPoint) -> Vec<f64> {
    let network = case.network().with_prior(KeyBias::new(weights.clone())).unwrap();
    engine.solve(&Exact(&network), &case.start).unwrap().z
}

#[test]
fn unrolled_gradients_agree_with_finite_differences() {
    for (seed, beta) in [(5, vec![0.7]), (6, vec![0.4, 1.3])] {
        let case = small(seed, &beta);
        let mut random = Random::new(seed + 100);
        let upstream = random.normals(case.start.len());
        let weights = Array3::from_shape_simple_fn((1, 1, 5), || 0.3 * random.normal());
        for steps in [1, 2, 5] {
            let engine = FixedPoint { tolerance: 0.0, max_steps: steps, ..FixedPoint::default() }
                .with_differentiation(Differentiation::Unrolled);
            let network = case.network().with_prior(KeyBias::new(weights.clone())).unwrap();
            let solution = engine.solve(&Exact(&network), &case.start).unwrap();
            let found = engine.backward(&Exact(&network), &solution, &upstream).unwrap();
            let tolerance = Tolerance::mixed(1e-6);
            let check = |name: &str, actual: &[f64], at: &[f64], f: &dyn Fn(&[f64]) -> f64| {
                let expected: Vec<f64> = gradient(at, f).iter().map(|d| d.value).collect();
                assert_close(format!("{name}, {steps} steps"), actual, &expected, tolerance);
            };
            let with = |change: &dyn Fn(&mut Case)| {
                let mut moved = case.clone();
                change(&mut moved);
                loss(&solve(&moved, &weights, &engine), &upstream)
            };
            check("start", &found.start, &case.start, &|x| with(&|c| c.start = x.to_vec()));
            let patterns: Vec<f64> = case.patterns.iter().copied().collect();
            let of = |name: &str| -> Vec<f64> {
                found.inputs.get(name).unwrap().iter().copied().collect()
            };
            check("patterns", &of("patterns"), &patterns, &|x| {
                with(&|c| c.patterns = Array4::from_shape_vec((1, 1, 5, 3), x.to_vec()).unwrap())
            });
            check("beta", &of("beta"), &case.beta, &|x| with(&|c| c.beta = x.to_vec()));
            check("prior", &of("key-bias"), weights.as_slice().unwrap(), &|x| {
                let weights = Array3::from_shape_vec((1, 1, 5), x.to_vec()).unwrap();
                loss(&solve(&case, &weights, &engine), &upstream)
            });
        }
    }
}

#[test]
fn gradients_of_the_energy_agree_with_finite_differences() {
    let case = small(7, &[0.6, 1.7]);
    let network = case.network();
    let at = network.gradient(&case.start).unwrap();
    let total = |z: &[f64]| network.free_energy(z).unwrap().iter().sum::<f64>();
    let expected: Vec<f64> = gradient(&case.start, total).iter().map(|d| d.value).collect();
    assert_close("gradient", &at.next, &expected, Tolerance::mixed(1e-8));
    assert_eq!(at.free_energy, network.free_energy(&case.start).unwrap());

    let upstream = Random::new(8).normals(case.start.len());
    let mut inputs = network.inputs();
    let curved = network.gradient_backward(&case.start, &upstream, &mut inputs).unwrap();
    let projected =
        |case: &Case, z: &[f64]| loss(&case.network().gradient(z).unwrap().next, &upstream);
    let values = |list: Vec<marginals_testkit::finite_difference::Derivative>| -> Vec<f64> {
        list.iter().map(|d| d.value).collect()
    };
    let expected = values(gradient(&case.start, |z| projected(&case, z)));
    assert_close("Hessian product", &curved, &expected, Tolerance::mixed(1e-7));
    let flat: Vec<f64> = case.patterns.iter().copied().collect();
    let expected = values(gradient(&flat, |x| {
        let patterns = Array4::from_shape_vec((1, 1, 5, 3), x.to_vec()).unwrap();
        projected(&Case { patterns, ..case.clone() }, &case.start)
    }));
    assert_close("patterns", inputs.get("patterns").unwrap(), &expected, Tolerance::mixed(1e-7));
    let expected = values(gradient(&case.beta, |beta| {
        projected(&Case { beta: beta.to_vec(), ..case.clone() }, &case.start)
    }));
    assert_close("beta", inputs.get("beta").unwrap(), &expected, Tolerance::mixed(1e-7));
}

fn flat(gradients: &InputGradients<f64>) -> Vec<f64> {
    gradients.iter().flat_map(|input| input.gradient.iter().copied()).collect()
}

/// ‖J‖₂ of the step at one state: J = β Xᵀ Cov(p) X is symmetric.
fn contraction(memory: &Memory, z: ArrayView1<'_, f64>) -> f64 {
    let p = memory.softmax(z);
    let mean = memory.patterns.t().dot(&p);
    let mut j = Array2::<f64>::zeros((z.len(), z.len()));
    for (x, p) in memory.patterns.rows().into_iter().zip(&p) {
        let gap = &x - &mean;
        for (mut row, a) in j.rows_mut().into_iter().zip(&gap) {
            row.scaled_add(memory.beta * p * a, &gap);
        }
    }
    let mut v = Array1::from_elem(z.len(), 1.0) + Array1::linspace(0.0, 0.1, z.len());
    for _ in 0..200 {
        let next = j.dot(&v);
        v = &next / next.dot(&next).sqrt();
    }
    v.dot(&j.dot(&v))
}

#[test]
fn implicit_gradients_are_those_of_the_fixed_point_and_one_step_is_biased() {
    for (seed, beta) in [(9, vec![0.3]), (10, vec![0.5, 2.0]), (11, vec![4.0])] {
        let case = small(seed, &beta);
        let network = case.network();
        let exact = Exact(&network);
        let upstream = Random::new(seed + 100).normals(case.start.len());
        let engine = FixedPoint { tolerance: 1e-13, max_steps: 5000, ..FixedPoint::default() };
        let unroll = engine.clone().with_differentiation(Differentiation::Unrolled);
        let solution = unroll.solve(&exact, &case.start).unwrap();
        assert!(solution.converged());
        let unrolled = unroll.backward(&exact, &solution, &upstream).unwrap();
        let implicit = engine.backward(&exact, &solution, &upstream).unwrap();
        assert!(implicit.adjoint.unwrap().converged);
        assert!(unrolled.start.iter().all(|g| g.abs() < 1e-9));
        let (expected, found) = (flat(&unrolled.inputs), flat(&implicit.inputs));
        assert_close("implicit", &found, &expected, Tolerance::of_largest(1e-6, &expected));
        // The same fixed point by another step has the same gradient.
        let descent = Descent::new(&network, 0.2).unwrap();
        let by_descent = engine.backward(&descent, &solution, &upstream).unwrap();
        let found = flat(&by_descent.inputs);
        assert_close("by descent", &found, &expected, Tolerance::of_largest(1e-6, &expected));

        // λ = (I − J)⁻¹ u against u: the bias is at most ρ/(1 − ρ) |u| |∂g/∂β|, ρ = ‖J‖.
        let one_step = engine.clone().with_differentiation(Differentiation::OneStep);
        let biased = one_step.backward(&exact, &solution, &upstream).unwrap();
        let size = |x: &[f64]| x.iter().map(|x| x * x).sum::<f64>().sqrt();
        let mut bound = vec![0.0; beta.len()];
        for (p, z) in solution.z.chunks(3).enumerate() {
            let memory = case.memory(p);
            let z = ArrayView1::from(z);
            let rho = contraction(&memory, z);
            assert!(rho < 1.0);
            let h = 1e-6;
            let at = |beta: f64| Memory { beta, ..memory.clone() }.step(z);
            let slope = (at(memory.beta + h) - at(memory.beta - h)) / (2.0 * h);
            let head = if beta.len() == 1 { 0 } else { p / 2 };
            bound[head] +=
                rho / (1.0 - rho) * size(&upstream[p * 3..][..3]) * slope.dot(&slope).sqrt();
        }
        let bias = biased.inputs.get("beta").unwrap() - implicit.inputs.get("beta").unwrap();
        for (head, (bias, bound)) in bias.iter().zip(&bound).enumerate() {
            println!(
                "β = {}: one-step bias {bias:.3e} (exact gradient {:.3e}), bound {bound:.3e}",
                beta[head],
                implicit.inputs.get("beta").unwrap()[head]
            );
            assert!(bias.abs() > 1e-9 * bound && bias.abs() <= bound * (1.0 + 1e-6));
        }
    }
}

#[test]
fn well_separated_patterns_are_retrieved() {
    let mut random = Random::new(12);
    let mut stored = 0;
    for _ in 0..200 {
        let (count, width) = (random.integer(2, 20) as usize, 24);
        let shape = (1, 1, count, width);
        let patterns = Array4::from_shape_simple_fn(shape, || random.normal());
        let beta = random.between(0.2, 4.0);
        let network = Hopfield::new(patterns.view(), &[beta], (1, count)).unwrap();
        let separation = network.separation().unwrap();
        let memory = Memory::new(patterns.slice(s![0, 0, .., ..]).to_owned(), beta);
        let expected = memory.separations();
        assert_close("Δ", &separation.of_pattern, &expected, Tolerance::mixed(1e-12));

        // Every state starts on the edge of its pattern's ball.
        let radius = separation.radius[[0, 0]];
        let mut start = Vec::new();
        for x in patterns.slice(s![0, 0, .., ..]).rows() {
            let away = Array1::from(random.normals(width));
            start.extend(&x + &(&away * (radius / away.dot(&away).sqrt())));
        }
        let engine = FixedPoint { tolerance: 1e-10, max_steps: 1000, ..FixedPoint::default() };
        let solution = engine.solve(&Exact(&network), &start).unwrap();
        let retrieval = network.retrieval(&solution.z).unwrap();
        let settled = retrieval.settled();
        for i in (0..count).filter(|&i| separation.is_sufficient()[[0, 0, i]]) {
            stored += 1;
            assert_eq!(retrieval.pattern[[0, 0, i]], i as i64);
            assert_eq!(settled[[0, 0, i]], Settled::Pattern);
            let z = ArrayView1::from(&solution.z[i * width..][..width]);
            let gap: Array1<f64> = &z - &patterns.slice(s![0, 0, i, ..]);
            assert!(gap.dot(&gap).sqrt() <= radius);
            assert!(retrieval.effective_patterns()[[0, 0, i]] < 1.5);
        }
    }
    println!("{stored} patterns met the condition");
    assert!(stored > 500);
}

#[test]
fn states_between_patterns_are_metastable() {
    // Two close patterns and one far away.
    let rows = ndarray::array![[4.0f64, 0.1], [4.0, -0.1], [-4.0, 0.0]];
    let patterns = rows.into_shape_with_order((1, 1, 3, 2)).unwrap();
    let network = Hopfield::new(patterns.view(), &[1.0], (1, 2)).unwrap();
    let engine = FixedPoint::default();
    let solution = engine.solve(&Exact(&network), &[3.0, 0.0, -3.0, 0.0]).unwrap();
    let retrieval = network.retrieval(&solution.z).unwrap();
    assert_eq!(retrieval.settled()[[0, 0, 0]], Settled::Metastable);
    assert!((retrieval.effective_patterns()[[0, 0, 0]] - 2.0).abs() < 1e-9);
    assert_eq!(retrieval.settled()[[0, 0, 1]], Settled::Pattern);
    assert_eq!(retrieval.pattern[[0, 0, 1]], 2);
    let separation = network.separation().unwrap();
    assert_eq!(separation.nearest[[0, 0, 0]], 1);
    assert!(!separation.is_sufficient()[[0, 0, 0]]);
    // Names of the patterns, by the last step.
    let values = Array4::from_shape_fn((1, 1, 3, 3), |(_, _, i, d)| f64::from(u8::from(i == d)));
    let names = network.recall(&solution.z, values.view()).unwrap();
    assert!((names[[0, 0, 0, 0]] - 0.5).abs() < 1e-9 && names[[0, 0, 1, 2]] > 0.999);

    let alone = patterns.slice(s![.., .., ..1, ..]);
    let network = Hopfield::new(alone, &[1.0], (1, 1)).unwrap();
    let separation = network.separation().unwrap();
    assert_eq!(separation.of_pattern[[0, 0, 0]], f64::INFINITY);
    assert_eq!(separation.nearest[[0, 0, 0]], -1);
    assert!(separation.is_sufficient()[[0, 0, 0]]);
    assert!(network.energy(&[4.0, 0.1]).unwrap()[[0, 0, 0]].abs() < 1e-14);
}

#[test]
fn recalled_values_have_gradients() {
    let case = small(13, &[0.8]);
    let mut random = Random::new(14);
    let values = Array4::from_shape_simple_fn((1, 1, 5, 2), || random.normal());
    let upstream = Array4::from_shape_simple_fn((1, 2, 2, 2), || random.normal());
    let network = case.network();
    let mut inputs = network.inputs();
    let (of_z, of_values) =
        network.recall_backward(&case.start, values.view(), upstream.view(), &mut inputs).unwrap();
    let recalled = |case: &Case, z: &[f64], values: &Array4<f64>| {
        (case.network().recall(z, values.view()).unwrap() * &upstream).sum()
    };
    let expected = gradient(&case.start, |z| recalled(&case, z, &values));
    let expected: Vec<f64> = expected.iter().map(|d| d.value).collect();
    assert_close("z", &of_z, &expected, Tolerance::mixed(1e-8));
    let flat: Vec<f64> = values.iter().copied().collect();
    let expected = gradient(&flat, |v| {
        recalled(&case, &case.start, &Array4::from_shape_vec((1, 1, 5, 2), v.to_vec()).unwrap())
    });
    let expected: Vec<f64> = expected.iter().map(|d| d.value).collect();
    assert_close("values", &of_values, &expected, Tolerance::mixed(1e-8));
    let expected = gradient(&case.beta, |beta| {
        recalled(&Case { beta: beta.to_vec(), ..case.clone() }, &case.start, &values)
    });
    assert_close("beta", inputs.get("beta").unwrap(), &[expected[0].value], Tolerance::mixed(1e-8));
}

#[test]
fn a_state_without_patterns_stops_where_it_is() {
    let case = small(15, &[1.0]);
    let network = case.network().with_prior(Nothing).unwrap();
    let solution = FixedPoint::default().solve(&Exact(&network), &case.start).unwrap();
    assert_eq!(solution.z, case.start);
    assert!(network.free_energy(&case.start).unwrap().iter().all(|f| *f == f64::INFINITY));
    let retrieval = network.retrieval(&case.start).unwrap();
    assert!(retrieval.settled().iter().all(|s| *s == Settled::Nowhere));
    // The first state sees the first pattern alone.
    let network = case.network().with_prior(Causal).unwrap();
    let next = network.maximise(&case.start).unwrap().next;
    assert_close("first", &next[..3], case.patterns.iter().take(3), Tolerance::mixed(1e-15));
}

struct Nothing;

impl Prior<f64> for Nothing {
    fn name(&self) -> &'static str {
        "nothing"
    }
    fn add_log_weights(&self, _block: &marginals::Block, mut scores: marginals::TileMut<'_, f64>) {
        for r in 0..scores.rows {
            scores.row_mut(r).fill(f64::NEG_INFINITY);
        }
    }
}

#[test]
fn bad_arguments_are_named() {
    let patterns = Array4::<f64>::ones((1, 2, 3, 4));
    let refused = |patterns: &Array4<f64>, beta: &[f64], states| {
        Hopfield::new(patterns.view(), beta, states).err().expect("an error").to_string()
    };
    for beta in [-1.0, 0.0, f64::NAN, f64::INFINITY] {
        assert!(refused(&patterns, &[beta], (2, 1)).contains("`beta` is"), "{beta}");
    }
    assert!(refused(&patterns, &[1.0; 3], (2, 1)).contains("`beta` has shape [3]"));
    assert!(refused(&patterns, &[1.0], (3, 1)).contains("divisor of the 3 heads"));
    assert!(refused(&Array4::ones((1, 1, 0, 4)), &[1.0], (1, 1)).contains("at least one pattern"));
    let mut broken = patterns.clone();
    broken[[0, 1, 2, 3]] = f64::NAN;
    assert!(refused(&broken, &[1.0], (2, 1)).contains("`patterns` holds NaN at [0, 1, 2, 3]"));

    let network = Hopfield::new(patterns.view(), &[1.0], (2, 1)).unwrap();
    let error = network.maximise(&[0.0; 5]).err().unwrap();
    assert!(matches!(error, Error::Shape { .. }), "{error}");
    let start = [0.0, f64::NAN, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0];
    let error = FixedPoint::default().solve(&Exact(&network), &start).err().unwrap();
    assert!(error.to_string().contains("`start` holds NaN at [0, 1]"), "{error}");
}

/// 4,096 states against 65,536 patterns: their scores alone would take a gibibyte.
#[test]
fn a_large_memory_streams() {
    let (states, count, width) = (4096, 65_536, 64);
    let mut random = Random::new(16);
    let mut unit = || random.unit() as f32 - 0.5;
    let patterns = Array4::from_shape_simple_fn((1, 1, count, width), &mut unit);
    let network = Hopfield::new(patterns.view(), &[8.0], (1, states)).unwrap();
    // Half of each pattern is hidden.
    let mut start = Vec::with_capacity(states * width);
    for x in patterns.slice(s![0, 0, ..states, ..]).rows() {
        start.extend(x.iter().enumerate().map(|(d, &x)| if d < width / 2 { x } else { 0.0 }));
    }
    // Linux alone says how much memory a process has had; other tests of this one had some before.
    let peak = || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        peak.and_then(|peak| peak.split_whitespace().next()?.parse::<f64>().ok())
    };
    let had = peak();
    let before = std::time::Instant::now();
    let next = network.maximise(&start).unwrap().next;
    println!("one step: {:?}", before.elapsed());
    let pattern = network.retrieval(&next).unwrap().pattern;
    let right = pattern.iter().enumerate().filter(|&(i, &j)| i as i64 == j).count();
    println!("{right} of {states} retrieved in one step");
    assert!(right > states * 9 / 10);
    if let (Some(had), Some(has)) = (had, peak()) {
        println!("peak memory: {:.0} MB more", (has - had) / 1024.0);
        assert!(has - had < 200.0 * 1024.0, "{had} kB before, {has} kB after");
    }
}
