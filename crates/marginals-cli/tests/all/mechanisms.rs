//! `marginals infer` on mechanisms and walks, against closed forms written out here.

use std::collections::HashMap;

use crate::common::files::{Folder, Tensor, numbers};
use ndarray::{Array1, Array2, Axis};

const N: usize = 4;
const D: usize = 3;

fn matrix(tensor: &Tensor, columns: usize) -> Array2<f64> {
    let rows = tensor.1.len() / columns;
    Array2::from_shape_vec((rows, columns), tensor.1.clone()).expect("whole rows")
}

fn close(name: &str, got: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(got.len(), expected.len(), "{name}");
    for (i, (got, expected)) in got.iter().zip(expected).enumerate() {
        let error = (got - expected).abs();
        assert!(error <= tolerance, "{name}[{i}]: {got}, expected {expected}, off by {error}");
    }
}

fn softmax(scores: &Array1<f64>) -> Array1<f64> {
    let weights = scores.mapv(f64::exp);
    &weights / weights.sum()
}

/// Compares `grad.*` of the sum of an answer with differences of that sum.
fn check_gradients(
    model: &str,
    inputs: &HashMap<String, Tensor>,
    answer: &str,
    moved: &[(&str, usize)],
    extra: &[&str],
) {
    let run = |inputs: &HashMap<String, Tensor>| {
        let folder = Folder::new(model, inputs);
        folder.infer(extra).success();
        folder.output()
    };
    let (shape, values) = &run(inputs)[answer];
    let mut with_upstream = inputs.clone();
    with_upstream.insert(format!("grad.{answer}"), (shape.clone(), vec![1.0; values.len()]));
    let gradients = run(&with_upstream);
    for (name, at) in moved {
        let sum = |step: f64| -> f64 {
            let mut moved = inputs.clone();
            moved.get_mut(*name).expect("an input").1[*at] += step;
            run(&moved)[answer].1.iter().sum()
        };
        let expected = (sum(1e-5) - sum(-1e-5)) / 2e-5;
        let got = gradients[&format!("grad.{name}")].1[*at];
        assert!((got - expected).abs() < 1e-7, "grad.{name}[{at}]: {got}, expected {expected}");
    }
}

fn memory() -> HashMap<String, Tensor> {
    HashMap::from([
        ("states".into(), (vec![1, 1, 2, D], numbers(1.0, 2 * D))),
        ("patterns".into(), (vec![1, 1, N, D], numbers(2.0, N * D))),
        ("values".into(), (vec![1, 1, N, 2], numbers(3.0, N * 2))),
    ])
}

#[test]
fn hopfield_is_its_closed_form() {
    let beta = 3.0;
    for steps in [0, 1, 3] {
        let model = format!(
            "mechanism = {{ hopfield = {{ beta = {beta:?}, steps = {steps}, tolerance = 0.0 }} }}"
        );
        let folder = Folder::new(&model, &memory());
        folder.infer(&["--ask", "entropy"]).success();
        let output = folder.output();

        let (patterns, values) = (matrix(&memory()["patterns"], D), matrix(&memory()["values"], 2));
        let largest = patterns.rows().into_iter().map(|x| x.dot(&x)).fold(0.0, f64::max);
        let mut trace = vec![0.0; steps + 1];
        let starts = matrix(&memory()["states"], D);
        for (i, start) in starts.rows().into_iter().enumerate() {
            let mut z = start.to_owned();
            let scores = |z: &Array1<f64>| patterns.dot(z) * beta;
            let energy = |z: &Array1<f64>| {
                let lse = scores(z).mapv(f64::exp).sum().ln() / beta;
                -lse + 0.5 * z.dot(z) + (N as f64).ln() / beta + 0.5 * largest
            };
            for (step, sum) in trace.iter_mut().enumerate() {
                *sum += beta * energy(&z);
                if step < steps {
                    z = patterns.t().dot(&softmax(&scores(&z)));
                }
            }
            let of_state = |name: &str, width: usize| matrix(&output[name], width).row(i).to_vec();
            let p = softmax(&scores(&z));
            close("state", &of_state("state", D), z.as_slice().unwrap(), 1e-12);
            close("energy", &of_state("energy", 1), &[energy(&z)], 1e-12);
            close("free-energy", &of_state("free-energy", 1), &[beta * energy(&z)], 1e-12);
            close("recall", &of_state("recall", 2), values.t().dot(&p).as_slice().unwrap(), 1e-12);
            let entropy = -p.mapv(|p| p * p.ln()).sum();
            close("entropy", &of_state("entropy", 1), &[entropy], 1e-12);
            close(
                "probability",
                &of_state("probability", 1),
                &[p.fold(0.0, |a, &b| a.max(b))],
                1e-12,
            );
            close("steps", &of_state("steps", 1), &[steps as f64], 0.0);
            close("reason", &of_state("reason", 1), &[2.0], 0.0);
            let settled = if p.iter().any(|&p| p >= 0.9) { 0.0 } else { 1.0 };
            close("settled", &of_state("settled", 1), &[settled], 0.0);
        }
        close("trace", &output["trace.free-energy"].1, &trace, 1e-11);
    }
}

#[test]
fn hopfield_is_differentiated() {
    let moved = [("states", 1), ("patterns", 4), ("patterns", 10)];
    let unrolled = "mechanism = { hopfield = { beta = 1.5, steps = 3, tolerance = 0.0, \
                    differentiation = \"unrolled\" } }";
    check_gradients(unrolled, &memory(), "state", &moved, &[]);
    // A start has no part in the fixed point: converge tightly and leave it out.
    let implicit =
        "mechanism = { hopfield = { beta = 1.5, steps = 1000, tolerance = 1e-13, memory = 4 } }";
    check_gradients(implicit, &memory(), "state", &moved[1..], &[]);
    check_gradients(implicit, &memory(), "recall", &[("patterns", 4), ("values", 3)], &[]);
}

#[test]
fn meanings_stand_in_the_metadata() {
    let folder = Folder::new("mechanism = { hopfield = { beta = 2.0 } }", &memory());
    folder.infer(&[]).success();
    let bytes = std::fs::read(folder.0.path().join("out.safetensors")).unwrap();
    let (_, metadata) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    let meanings = &metadata.metadata().as_ref().unwrap()["meanings"];
    assert!(meanings.contains("reason: 0 converged") && meanings.contains("settled: 0 pattern"));
    assert_eq!(folder.output()["reason"].1, [0.0, 0.0]);
}

fn nodes() -> HashMap<String, Tensor> {
    HashMap::from([
        ("q".into(), (vec![1, 1, N, D], numbers(4.0, N * D))),
        ("k".into(), (vec![1, 1, N, D], numbers(5.0, N * D))),
        ("v".into(), (vec![1, 1, N, 2], numbers(6.0, N * 2))),
        ("bias".into(), (vec![N, N], numbers(7.0, N * N))),
    ])
}

/// The one-step posterior of [`nodes`] under `dot` of scale 1, the bias and a null edge of weight
/// `null`.
fn one_step(null: f64) -> Array2<f64> {
    let nodes = nodes();
    let scores =
        matrix(&nodes["q"], D).dot(&matrix(&nodes["k"], D).t()) + matrix(&nodes["bias"], N);
    let weights = scores.mapv(f64::exp);
    let sums = weights.sum_axis(Axis(1)) + null;
    weights / sums.insert_axis(Axis(1))
}

#[test]
fn walks_are_powers_of_the_posterior() {
    let one = "\"each-query-picks-one\"";
    let at_most_one = "{ each-query-picks-at-most-one = { null = 0.5 } }";
    for (step, null) in [(one, 0.0), (at_most_one, 0.5f64.exp())] {
        let model = format!(
            "structure = {{ walk = {{ hops = 2, weights = [1.0, 2.0, 1.0], step = {step} }} }}\n\
             prior = [\"bias\"]\npotential = {{ dot = {{ scale = 1.0 }} }}"
        );
        let folder = Folder::new(&model, &nodes());
        folder.infer(&["--ask", "mean,entropy,hops"]).success();
        let output = folder.output();

        let (p, v) = (one_step(null), matrix(&nodes()["v"], 2));
        let weights = [0.25, 0.5, 0.25];
        let powers = [Array2::eye(N), p.clone(), p.dot(&p)];
        let mean = weights.iter().zip(&powers).map(|(w, p)| p.dot(&v) * *w);
        let mean = mean.fold(Array2::zeros((N, 2)), |sum, x| sum + x);
        close("mean", &output["mean"].1, mean.as_slice().unwrap(), 1e-12);

        let arrived: Vec<Array1<f64>> =
            weights.iter().zip(&powers).map(|(w, p)| p.sum_axis(Axis(1)) * *w).collect();
        for i in 0..N {
            let sum: f64 = arrived.iter().map(|row| row[i]).sum();
            let hops: Vec<f64> = arrived.iter().map(|row| row[i] / sum).collect();
            close("hops", &matrix(&output["hops"], 3).row(i).to_vec(), &hops, 1e-12);
        }
        // Entropy of h, and of each pick that is made; being lost is one of the picks' outcomes.
        let pick = Array1::from_shape_fn(N, |i| {
            let lost = 1.0 - p.row(i).sum();
            let kept: f64 = p.row(i).iter().map(|p| -p * p.ln()).sum();
            kept + if null > 0.0 { -lost * lost.ln() } else { 0.0 }
        });
        let of_hops: f64 = weights.iter().map(|w| -w * w.ln()).sum();
        let entropy = p.dot(&pick) * 0.25 + &pick * 0.75 + of_hops;
        close("entropy", &output["entropy"].1, entropy.as_slice().unwrap(), 1e-12);
    }
}

#[test]
fn walks_are_differentiated_and_learn_their_weights() {
    let model = "structure = { walk = { hops = 2 } }\nprior = [\"bias\"]\n\
                 potential = { dot = { scale = 1.0 } }";
    let mut inputs = nodes();
    inputs.insert("walk.log-weights".into(), (vec![3], vec![0.1, -0.4, 0.3]));
    let moved = [("q", 2), ("k", 7), ("v", 3), ("bias", 5), ("walk.log-weights", 1)];
    check_gradients(model, &inputs, "mean", &moved, &["--ask", "mean"]);
    check_gradients(model, &inputs, "entropy", &moved[..2], &["--ask", "entropy"]);
}

/// w(d) = B(α + 1, β + d)/B(α, β) by its recursion.
fn beta_geometric(alpha: f64, beta: f64, d: usize) -> f64 {
    let start = alpha / (alpha + beta);
    (0..d).fold(start, |w, d| w * (beta + d as f64) / (alpha + beta + d as f64 + 1.0))
}

#[test]
fn expanding_is_its_closed_form() {
    let (alpha, beta) = (2.0, 3.0);
    let model = |inference: &str| {
        format!(
            "mechanism = {{ expanding = {{ alpha = {alpha:?}, beta = {beta:?}, lost = 0.0, \
             potential = {{ dot = {{ scale = 1.0 }} }}, inference = {inference} }} }}"
        )
    };
    let nodes = nodes();
    let v = matrix(&nodes["v"], 2);
    let psi = matrix(&nodes["q"], D).dot(&matrix(&nodes["k"], D).t()).mapv(f64::exp);

    let folder = Folder::new(&model("\"exact\""), &nodes);
    folder.infer(&["--ask", "marginals"]).success();
    let output = folder.output();
    for i in 0..N {
        let weights: Array1<f64> =
            (0..=i).map(|j| beta_geometric(alpha, beta, i - j) * psi[[i, j]]).collect();
        let z = weights.sum();
        let p = &weights / z;
        let row = |name: &str, width: usize| matrix(&output[name], width).row(i).to_vec();
        close(
            "mean",
            &row("mean", 2),
            p.dot(&v.slice(ndarray::s![..=i, ..])).as_slice().unwrap(),
            1e-12,
        );
        close("marginals", &row("marginals", N)[..=i], p.as_slice().unwrap(), 1e-12);
        close("log-evidence", &row("log-evidence", 1), &[z.ln()], 1e-12);
        // ρ given d is Beta(α + 1, β + d).
        let rho: f64 =
            (0..=i).map(|j| p[j] * (alpha + 1.0) / (alpha + beta + 1.0 + (i - j) as f64)).sum();
        close("rho", &row("rho", 1), &[rho], 1e-12);
        close("window", &row("window", 1), &[(i + 1) as f64], 0.0);
        close("lost", &row("lost", 1), &[0.0], 0.0);
    }

    // Coordinate ascent, with ψ₀(x + 3) − ψ₀(x) = 1/x + 1/(x + 1) + 1/(x + 2) for α = 2.
    let folder = Folder::new(&model("{ mean-field = { steps = 500, tolerance = 1e-13 } }"), &nodes);
    folder.infer(&[]).success();
    let output = folder.output();
    for i in 0..N {
        let mut after = beta;
        let mut p = Array1::zeros(i + 1);
        for _ in 0..2000 {
            let rate = 1.0 / after + 1.0 / (after + 1.0) + 1.0 / (after + 2.0);
            let weights: Array1<f64> =
                (0..=i).map(|j| (-rate * (i - j) as f64).exp() * psi[[i, j]]).collect();
            p = &weights / weights.sum();
            after = beta + (0..=i).map(|j| p[j] * (i - j) as f64).sum::<f64>();
        }
        let row = |name: &str, width: usize| matrix(&output[name], width).row(i).to_vec();
        close(
            "mean",
            &row("mean", 2),
            p.dot(&v.slice(ndarray::s![..=i, ..])).as_slice().unwrap(),
            1e-10,
        );
        close("concentration", &row("concentration", 1), &[after], 1e-10);
        close("rho", &row("rho", 1), &[3.0 / (3.0 + after)], 1e-10);
        assert!(row("reason", 1)[0] <= 1.0, "it converges");
    }
}

#[test]
fn expanding_is_differentiated() {
    let mut inputs = nodes();
    inputs.insert("alpha".into(), (vec![1, 1, 1], vec![2.0]));
    inputs.insert("beta".into(), (vec![1, 1, 1], vec![3.0]));
    let moved = [("q", 5), ("k", 1), ("v", 2), ("alpha", 0), ("beta", 0)];
    let exact = "mechanism = { expanding = { lost = 0.0 } }";
    check_gradients(exact, &inputs, "mean", &moved, &[]);
    check_gradients(exact, &inputs, "rho", &moved[..2], &[]);
    let mean_field = "mechanism = { expanding = { lost = 0.0, inference = { mean-field = \
                      { steps = 500, tolerance = 1e-13 } } } }";
    check_gradients(mean_field, &inputs, "mean", &moved, &[]);
}

fn scattered() -> HashMap<String, Tensor> {
    HashMap::from([
        ("points".into(), (vec![1, 1, 8, 2], numbers(8.0, 16))),
        ("means".into(), (vec![1, 1, 2, 2], vec![-0.5, 0.1, 0.4, -0.2])),
        ("variances".into(), (vec![1, 1, 2, 2], vec![0.5, 0.4, 0.3, 0.6])),
        ("weights".into(), (vec![1, 1, 2], vec![0.3, 0.7])),
    ])
}

#[test]
fn mixtures_are_expectation_maximisation() {
    let steps = 4;
    let model = format!(
        "mechanism = {{ mixture = {{ components = 2, steps = {steps}, tolerance = 0.0 }} }}"
    );
    let folder = Folder::new(&model, &scattered());
    folder.infer(&["--ask", "marginals"]).success();
    let output = folder.output();

    let x = matrix(&scattered()["points"], 2);
    let (mut means, mut variances) =
        (matrix(&scattered()["means"], 2), matrix(&scattered()["variances"], 2));
    let mut weights = scattered()["weights"].1.clone();
    let density = |k: usize, j: usize, m: &Array2<f64>, v: &Array2<f64>, w: &[f64]| -> f64 {
        let normal = |d: usize| {
            let squared = (x[[j, d]] - m[[k, d]]).powi(2) / v[[k, d]];
            (-0.5 * squared).exp() / (std::f64::consts::TAU * v[[k, d]]).sqrt()
        };
        w[k] * normal(0) * normal(1)
    };
    let responsibilities = |m: &Array2<f64>, v: &Array2<f64>, w: &[f64]| {
        let joint = Array2::from_shape_fn((2, 8), |(k, j)| density(k, j, m, v, w));
        let evidence = joint.sum_axis(Axis(0));
        (joint / &evidence, evidence)
    };
    for _ in 0..steps {
        let (r, _) = responsibilities(&means, &variances, &weights);
        let counts = r.sum_axis(Axis(1)).insert_axis(Axis(1));
        means = r.dot(&x) / &counts;
        variances = r.dot(&x.mapv(|x| x * x)) / &counts - means.mapv(|m| m * m);
        weights = counts.iter().map(|n| n / 8.0).collect();
    }
    let (r, evidence) = responsibilities(&means, &variances, &weights);
    close("means", &output["means"].1, means.as_slice().unwrap(), 1e-12);
    close("variances", &output["variances"].1, variances.as_slice().unwrap(), 1e-12);
    close("weights", &output["weights"].1, &weights, 1e-12);
    close("marginals", &output["marginals"].1, r.as_slice().unwrap(), 1e-12);
    let mean = evidence.mapv(f64::ln).sum() / 8.0;
    close("log-likelihood", &output["log-likelihood"].1, &[mean], 1e-12);
    close("free-energy", &output["free-energy"].1, &[-8.0 * mean], 1e-11);
    close("mass", &output["mass"].1, r.sum_axis(Axis(1)).as_slice().unwrap(), 1e-12);
    let trace = &output["trace.free-energy"].1;
    assert!(trace.windows(2).all(|pair| pair[1] <= pair[0]), "{trace:?}");

    let converged = "mechanism = { mixture = { components = 2, steps = 3000, tolerance = 0.0, \
                     covariance = \"spherical\", variance-floor = 0.05 } }";
    let mut spherical = scattered();
    spherical.insert("variances".into(), (vec![1, 1, 2, 1], vec![0.5, 0.4]));
    check_gradients(converged, &spherical, "means", &[("points", 1), ("points", 12)], &[]);
}

#[test]
fn k_means_is_lloyds_algorithm() {
    let mut inputs = scattered();
    inputs.remove("variances");
    inputs.remove("weights");
    let folder = Folder::new("mechanism = { k-means = { components = 2 } }", &inputs);
    folder.infer(&[]).success();
    let output = folder.output();
    let x = matrix(&inputs["points"], 2);
    let mut means = matrix(&inputs["means"], 2);
    let squared = |j: usize, centre: ndarray::ArrayView1<'_, f64>| -> f64 {
        x.row(j).iter().zip(centre).map(|(x, c)| (x - c).powi(2)).sum()
    };
    let mut labels = [0; 8];
    for _ in 0..50 {
        for (j, label) in labels.iter_mut().enumerate() {
            *label = usize::from(squared(j, means.row(1)) < squared(j, means.row(0)));
        }
        for k in 0..2 {
            let own: Vec<usize> = (0..8).filter(|&j| labels[j] == k).collect();
            means.row_mut(k).assign(&x.select(Axis(0), &own).mean_axis(Axis(0)).unwrap());
        }
    }
    close("means", &output["means"].1, means.as_slice().unwrap(), 1e-14);
    close(
        "component",
        &output["component"].1,
        &labels.iter().map(|&k| k as f64).collect::<Vec<_>>(),
        0.0,
    );
    let inertia: f64 = labels.iter().enumerate().map(|(j, &k)| squared(j, means.row(k))).sum();
    close("free-energy", &output["free-energy"].1, &[inertia], 1e-13);
    close("reason", &output["reason"].1, &[0.0], 0.0);
}

#[test]
fn bad_input_names_the_argument_and_leaves_nothing() {
    let refuse = |model: &str, inputs: &HashMap<String, Tensor>, words: &[&str]| {
        Folder::new(model, inputs).refuse(&[], words);
    };
    let hopfield = |settings: &str| format!("mechanism = {{ hopfield = {{ {settings} }} }}");
    refuse(&hopfield("beta = -1.0"), &memory(), &["`beta`", "-1", "positive"]);
    refuse(&hopfield("beta = [1.0, 2.0]"), &memory(), &["`beta`", "[1]"]);
    refuse(&hopfield("steps = 3"), &memory(), &["beta"]);
    refuse(&hopfield("beta = 1.0, tolerance = -1.0"), &memory(), &["`tolerance`", "-1"]);
    refuse(&hopfield("beta = 1.0, bta = 2.0"), &memory(), &["bta", "did you mean `beta`"]);
    refuse(&hopfield("beta = 1.0, update = \"descend\""), &memory(), &["did you mean `descent`"]);
    refuse(&hopfield("beta = 1.0, update = { descent = { step = 0.0 } }"), &memory(), &["`step`"]);
    refuse(&hopfield("beta = 1.0, prior = [\"casual\"]"), &memory(), &["did you mean `causal`"]);
    let unrolled = "beta = 1.0, memory = 3, differentiation = \"unrolled\"";
    refuse(&hopfield(unrolled), &memory(), &["unrolled", "implicitly"]);
    refuse("mechanism = { hopfeld = {} }", &memory(), &["did you mean `hopfield`"]);
    refuse("mechanism = 3", &memory(), &["`mechanism`"]);
    let beside = format!("{}\npotential = \"dot\"", hopfield("beta = 1.0"));
    refuse(&beside, &memory(), &["`potential`", "mechanism"]);
    let mut nan = memory();
    nan.get_mut("states").unwrap().1[4] = f64::NAN;
    refuse(&hopfield("beta = 1.0"), &nan, &["`states`", "NaN", "[0, 0, 1, 1]"]);
    // There is no check to leave out.
    for mechanism in ["mixture", "k-means"] {
        let mut nan = scattered();
        nan.get_mut("points").unwrap().1[3] = f64::NAN;
        let model = format!("mechanism = {{ {mechanism} = {{ components = 2 }} }}");
        let folder = Folder::new(&model, &nan);
        folder.refuse(&[], &["`points`", "NaN at [0, 0, 1, 1]", "Mend the input\n"]);
    }
    let restarts = "mechanism = { mixture = { components = 2, restarts = 1000000000000000 } }";
    refuse(restarts, &scattered(), &["`restarts`", "GB of memory"]);
    let overflowing = restarts.replace("1000000000000000", "9223372036854775807");
    refuse(&overflowing, &scattered(), &["`restarts`", "GB of memory"]);
    let mut short = memory();
    short.remove("patterns");
    refuse(&hopfield("beta = 1.0"), &short, &["`patterns`", "stored"]);
    let mut stray = memory();
    stray.insert("grad.stat".into(), (vec![1], vec![0.0]));
    refuse(&hopfield("beta = 1.0"), &stray, &["did you mean `grad.state`"]);
    let mut stray = memory();
    stray.insert("geometric.roh".into(), (vec![1], vec![0.5]));
    let prior = hopfield("beta = 1.0, prior = [{ geometric = { rho = 0.1 } }]");
    refuse(&prior, &stray, &["`geometric.roh`", "did you mean `geometric.rho`"]);
    let mut stray = nodes();
    stray.insert("dot.scal".into(), (vec![1], vec![0.5]));
    let expanding = "mechanism = { expanding = { alpha = 1.0, beta = 1.0 } }";
    refuse(expanding, &stray, &["`dot.scal`", "did you mean `dot.scale`"]);

    let walk =
        |settings: &str| format!("structure = {{ walk = {{ {settings} }} }}\npotential = \"dot\"");
    refuse(&walk("hops = 0"), &nodes(), &["`walk.hops`", "at least 1"]);
    let many = &["`walk.hops` is 1000000000000", "at most 1048576"];
    refuse(&walk("hops = 1000000000000"), &nodes(), many);
    let mut stray = nodes();
    stray.insert("walk.weight".into(), (vec![2], vec![0.5; 2]));
    refuse(&walk("hops = 1"), &stray, &["`walk.weight`", "did you mean `walk.weights`"]);
    refuse(&walk("hops = 2, weights = [1.0, 1.0]"), &nodes(), &["`walk.weights`", "3 of them"]);
    refuse(&walk("weights = [1.0, -1.0]"), &nodes(), &["`walk.weights`", "-1"]);
    refuse(&walk(""), &nodes(), &["`walk.hops`", "neither"]);
    refuse(&walk("hops = 1, step = \"independent\""), &nodes(), &["independent", "one edge"]);
    refuse(&walk("hops = 1, step = \"walk\""), &nodes(), &["`walk.step`"]);
    Folder::new(&walk("hops = 1"), &nodes()).refuse(&["--ask", "map"], &["`map`", "paths"]);
    let plain = "structure = \"independent\"\npotential = \"dot\"";
    Folder::new(plain, &nodes()).refuse(&["--ask", "hops"], &["`hops`", "walk"]);
}

#[test]
fn paths_are_rows_of_nodes_that_end_once() {
    use safetensors::tensor::{Dtype, TensorView};

    let model = "structure = { walk = { hops = 2 } }\npotential = \"dot\"";
    let folder = Folder::new(model, &nodes());
    let path = folder.0.path().join("in.safetensors");
    let nodes = std::fs::read(&path).unwrap();
    let with = |dtype, shape: &[usize], rows: &[i64]| {
        let file = safetensors::SafeTensors::deserialize(&nodes).unwrap();
        let bytes: Vec<u8> = rows.iter().flat_map(|x| x.to_le_bytes()).collect();
        let paths = TensorView::new(dtype, shape.to_vec(), &bytes).unwrap();
        let all = file.tensors().into_iter().chain([("paths".to_owned(), paths)]);
        std::fs::write(&path, safetensors::serialize(all, None).unwrap()).unwrap();
    };
    let refuse = |words: &[&str]| folder.refuse(&["--ask", "paths"], words);
    refuse(&["`paths`", "does not hold it", "It holds: bias, k, q, v"]);
    with(Dtype::I64, &[2, 3], &[0, 1, 2, 3, -1, 1]);
    refuse(&["`paths` is [3, -1, 1] in row 1", "does not go on"]);
    with(Dtype::I64, &[2, 3], &[0, -2, -1, 3, -1, -1]);
    refuse(&["`paths` is [0, -2, -1] in row 0", "counted from 0"]);
    with(Dtype::I64, &[3], &[0, 1, 2]);
    refuse(&["`paths`", "[3]", "[paths, nodes]"]);
    with(Dtype::F64, &[1, 3], &[0, 1, 2]);
    refuse(&["`paths` holds real numbers (F64)", "whole numbers (I64, I32, U32 or U8)"]);
    with(Dtype::I64, &[2, 3], &[0, 1, 2, 3, -1, -1]);
    folder.infer(&["--ask", "paths"]).success();
    // Of no hop it is log P(0).
    close("paths", &folder.output()["paths"].1[1..], &[(1.0f64 / 3.0).ln()], 1e-12);
}
