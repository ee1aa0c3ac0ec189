//! Pairs of keys, held against the list of all pairs.

use marginals::potential::{Cosine, Dot};
use marginals::prior::{Bias, Uniform, Window};
use marginals::question::{
    ColumnMass, Entropy, ExpectedDistance, Kl, LogEvidence, LogPartition, Map, Marginals, Mean,
    QueryMass, Samples, ValueVariance,
};
use marginals::structure::{EachQueryPicksAPair, EachQueryPicksOne};
use marginals::{Error, Model};
use marginals_testkit::compare::{Tolerance, close};
use marginals_testkit::finite_difference;
use marginals_testkit::generate::Random;
use ndarray::{Array3, Array4, ArrayView1, s};

/// A case: sizes and tensors. Second keys are as many as the first, so that one bias is of both.
#[derive(Clone, Debug)]
struct Case {
    windows: Option<(usize, usize)>,
    offset: i64,
    q: Array4<f64>,
    k: Array4<f64>,
    v: Array4<f64>,
    second_k: Array4<f64>,
    second_v: Option<Array4<f64>>,
    bias: Array4<f64>,
    scale: f64,
}

const WIDTH: usize = 3;
const VALUE_WIDTH: usize = 2;

impl Case {
    fn draw(random: &mut Random) -> Self {
        let size = |random: &mut Random, least, most| random.integer(least, most) as usize;
        let (b, key_heads) = (size(random, 1, 2), size(random, 1, 2));
        let h = key_heads * size(random, 1, 2);
        let (n, m) = (size(random, 0, 4), size(random, 0, 4));
        let large = random.chance(0.2);
        let normal = |random: &mut Random, shape: (usize, usize, usize, usize), scale: f64| {
            Array4::from_shape_simple_fn(shape, || scale * random.normal())
        };
        let scale = if large { 40.0 } else { 1.0 };
        let q = normal(random, (b, h, n, WIDTH), scale);
        let k = normal(random, (b, key_heads, m, WIDTH), 1.0);
        let second_k = normal(random, (b, key_heads, m, WIDTH), 1.0);
        let v = normal(random, (b, key_heads, m, VALUE_WIDTH), 1.0);
        let second_v = random.chance(0.7).then(|| normal(random, v.dim(), 1.0));
        let masked = random.chance(0.5);
        let bias = Array4::from_shape_simple_fn((b, h, n, m), || {
            if masked && random.chance(0.4) { f64::NEG_INFINITY } else { random.normal() }
        });
        let windows = random
            .chance(0.4)
            .then(|| (random.integer(1, 4) as usize, random.integer(1, 4) as usize));
        let offset = random.integer(-1, 2);
        Self { windows, offset, q, k, v, second_k, second_v, bias, scale: 0.7 }
    }

    fn pairs(&self) -> EachQueryPicksAPair {
        let mut pairs = EachQueryPicksAPair::new(self.second_k.clone());
        if let Some(values) = &self.second_v {
            pairs = pairs.with_second_values(values.clone());
        }
        match self.windows {
            Some((first, second)) => pairs.with_windows(first, second),
            None => pairs,
        }
    }

    /// Whether the windows let a query have the keys of a pair.
    fn sees(&self, i: usize, j: usize, k: usize) -> bool {
        let within = |window: usize, key: usize| {
            let distance = i as i64 + self.offset - key as i64;
            (0..window as i64).contains(&distance)
        };
        self.windows.is_none_or(|(first, second)| within(first, j) && within(second, k))
    }

    /// The answers, from all pairs of every query.
    fn truth(&self) -> Truth {
        let (b, h, n, _) = self.q.dim();
        let m = self.k.dim().2;
        let group = h / self.k.dim().1;
        let mut all = Truth::new((b, h, n, m));
        for batch in 0..b {
            for head in 0..h {
                let own = head / group;
                for i in 0..n {
                    let q = self.q.slice(s![batch, head, i, ..]);
                    let mut scores = Vec::new();
                    for j in 0..m {
                        for k in (0..m).filter(|&k| self.sees(i, j, k)) {
                            let a = self.k.slice(s![batch, own, j, ..]);
                            let c = self.second_k.slice(s![batch, own, k, ..]);
                            let dot = |a: ArrayView1<'_, f64>| {
                                q.iter().zip(a).zip(c).map(|((q, a), c)| q * a * c).sum::<f64>()
                            };
                            let bias = &self.bias;
                            let w = bias[[batch, head, i, j]] + bias[[batch, head, i, k]];
                            if w > f64::NEG_INFINITY {
                                scores.push((j, k, self.scale * dot(a) + w, w));
                            }
                        }
                    }
                    if scores.is_empty() {
                        continue;
                    }
                    let log_sum = |of: Vec<f64>| {
                        let max = of.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                        max + of.iter().map(|x| (x - max).exp()).sum::<f64>().ln()
                    };
                    let z = log_sum(scores.iter().map(|s| s.2).collect());
                    let prior = log_sum(scores.iter().map(|s| s.3).collect());
                    let at = [batch, head, i];
                    (all.log_partition[at], all.log_evidence[at]) = (z, z - prior);
                    all.mass[at] = 1.0;
                    for &(j, k, score, w) in &scores {
                        let p = (score - z).exp();
                        all.marginals[[batch, head, i, j]] += p;
                        all.column[[batch, head, j]] += p;
                        if p > 0.0 {
                            all.entropy[at] -= p * (score - z);
                            all.kl[at] += p * ((score - z) - (w - prior));
                        }
                        for c in 0..VALUE_WIDTH {
                            let other =
                                self.second_v.as_ref().map_or(1.0, |v| v[[batch, own, k, c]]);
                            all.mean[[batch, head, i, c]] += p * self.v[[batch, own, j, c]] * other;
                        }
                    }
                }
            }
        }
        all
    }

    fn tensors(&mut self) -> Vec<&mut [f64]> {
        let mut all = vec![
            self.q.as_slice_mut().unwrap(),
            self.k.as_slice_mut().unwrap(),
            self.v.as_slice_mut().unwrap(),
            self.second_k.as_slice_mut().unwrap(),
            self.bias.as_slice_mut().unwrap(),
        ];
        all.extend(self.second_v.as_mut().map(|v| v.as_slice_mut().unwrap()));
        all
    }
}

struct Truth {
    log_partition: Array3<f64>,
    log_evidence: Array3<f64>,
    entropy: Array3<f64>,
    kl: Array3<f64>,
    mass: Array3<f64>,
    column: Array3<f64>,
    mean: Array4<f64>,
    marginals: Array4<f64>,
}

impl Truth {
    fn new((b, h, n, m): (usize, usize, usize, usize)) -> Self {
        let impossible = || Array3::from_elem((b, h, n), f64::NEG_INFINITY);
        let zeros = || Array3::zeros((b, h, n));
        Self {
            log_partition: impossible(),
            log_evidence: impossible(),
            entropy: zeros(),
            kl: zeros(),
            mass: zeros(),
            column: Array3::zeros((b, h, m)),
            mean: Array4::zeros((b, h, n, VALUE_WIDTH)),
            marginals: Array4::zeros((b, h, n, m)),
        }
    }
}

fn flat<D: ndarray::Dimension>(array: &ndarray::Array<f64, D>) -> Vec<f64> {
    array.iter().copied().collect()
}

#[test]
fn agree_with_the_list_of_pairs() {
    let mut random = Random::new(1);
    for number in 0..1_000 {
        let case = Case::draw(&mut random);
        let truth = case.truth();
        let model = Model::new(case.pairs(), Bias::new(case.bias.view()), Dot::new(case.scale))
            .with_query_offset(case.offset);
        let posterior = model.posterior(case.q.view(), case.k.view()).unwrap();
        let (mean, z, evidence, entropy, kl, marginals, column, mass) = posterior
            .ask((
                Mean(case.v.view()),
                LogPartition,
                LogEvidence,
                Entropy,
                Kl,
                Marginals,
                ColumnMass,
                QueryMass,
            ))
            .unwrap();
        let tolerance = Tolerance { relative: 1e-10, absolute: 1e-10 };
        let check = |name: &str, found: Vec<f64>, expected: Vec<f64>| {
            close(format!("{name} of case {number}"), &found, &expected, tolerance).unwrap();
        };
        check("mean", flat(&mean), flat(&truth.mean));
        check("log-partition", flat(&z), flat(&truth.log_partition));
        check("log-evidence", flat(&evidence), flat(&truth.log_evidence));
        check("entropy", flat(&entropy), flat(&truth.entropy));
        check("kl", flat(&kl), flat(&truth.kl));
        check("marginals", flat(&marginals), flat(&truth.marginals));
        check("column-mass", flat(&column), flat(&truth.column));
        check("query-mass", flat(&mass), flat(&truth.mass));
    }
}

#[test]
fn gradients_agree_with_finite_differences() {
    let mut random = Random::new(2);
    for number in 0..200 {
        let mut case = Case::draw(&mut random);
        if case.q.iter().any(|x| x.abs() > 8.0) {
            case.q /= 40.0;
        }
        let first = case.truth();
        let z = &first.log_partition;
        let mut factors = || z.mapv(|z| if z.is_finite() { random.normal() } else { 0.0 });
        let (of_z, of_evidence, of_entropy, of_kl) = (factors(), factors(), factors(), factors());
        let mut like = |shape| Array4::from_shape_simple_fn(shape, || random.normal());
        let (of_mean, of_marginals) = (like(first.mean.dim()), like(first.marginals.dim()));
        let of_column = first.column.mapv(|_| random.normal());
        let loss = |case: &Case| {
            let truth = case.truth();
            let dot3 = |x: &Array3<f64>, g: &Array3<f64>| -> f64 {
                x.iter().zip(g).filter(|(_, g)| **g != 0.0).map(|(x, g)| x * g).sum()
            };
            dot3(&truth.log_partition, &of_z)
                + dot3(&truth.log_evidence, &of_evidence)
                + dot3(&truth.entropy, &of_entropy)
                + dot3(&truth.kl, &of_kl)
                + dot3(&truth.column, &of_column)
                + (&truth.mean * &of_mean).sum()
                + (&truth.marginals * &of_marginals).sum()
        };
        let model = Model::new(case.pairs(), Bias::new(case.bias.view()), Dot::new(case.scale))
            .with_query_offset(case.offset);
        let posterior = model.posterior(case.q.view(), case.k.view()).unwrap();
        let questions =
            (Mean(case.v.view()), LogPartition, LogEvidence, Entropy, Kl, Marginals, ColumnMass);
        let pass = posterior.pass(questions).unwrap();
        let upstream =
            (&of_mean, &of_z, &of_evidence, &of_entropy, &of_kl, &of_marginals, &of_column);
        let gradients = pass.backward(upstream).unwrap();
        let mut found = vec![
            ("q", flat(&gradients.q)),
            ("k", flat(&gradients.k)),
            ("v", flat(gradients.v().unwrap())),
            ("second-keys", flat(gradients.parameter("second-keys").unwrap())),
            ("bias", flat(gradients.parameter("bias").unwrap())),
        ];
        if case.second_v.is_some() {
            found.push(("second-values", flat(gradients.parameter("second-values").unwrap())));
        }
        for (tensor, (name, found)) in found.into_iter().enumerate() {
            let x = case.clone().tensors()[tensor].to_vec();
            let expected = finite_difference::gradient(&x, |x| {
                let mut moved = case.clone();
                moved.tensors()[tensor].copy_from_slice(x);
                loss(&moved)
            });
            for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
                if x[index] == f64::NEG_INFINITY {
                    assert_eq!(*found, 0.0, "{name} of case {number}");
                    continue;
                }
                let gap = (found - expected.value).abs() / expected.value.abs().max(1.0);
                assert!(gap < 1e-6, "{name} {index} of case {number}: {found} {expected:?}");
            }
        }
    }
}

/// With second keys of ones and no values a pair is a key, and any second key.
#[test]
fn second_keys_of_ones_leave_the_softmax() {
    let mut random = Random::new(3);
    let mut normal = |shape| Array4::<f32>::from_shape_simple_fn(shape, || random.normal() as f32);
    let (q, k, v) = (normal((1, 2, 9, 4)), normal((1, 2, 7, 4)), normal((1, 2, 7, 4)));
    let pairs = EachQueryPicksAPair::new(Array4::ones((1, 2, 5, 4)));
    let model = Model::new(pairs, Uniform, Dot::scaled(4));
    let softmax = Model::new(EachQueryPicksOne, Uniform, Dot::scaled(4));
    let (mean, z, entropy) = (model.posterior(q.view(), k.view()).unwrap())
        .ask((Mean(v.view()), LogPartition, Entropy))
        .unwrap();
    let (of_one, z_of_one, entropy_of_one) = (softmax.posterior(q.view(), k.view()).unwrap())
        .ask((Mean(v.view()), LogPartition, Entropy))
        .unwrap();
    assert!(mean.iter().zip(&of_one).all(|(a, b)| (a - b).abs() < 1e-5));
    let more = 5f32.ln();
    assert!(z.iter().zip(&z_of_one).all(|(a, b)| (a - b - more).abs() < 1e-5));
    assert!(entropy.iter().zip(&entropy_of_one).all(|(a, b)| (a - b - more).abs() < 1e-5));
}

/// Keys behind the windows and the mask may hold anything, and both windows are as long as they say.
#[test]
fn hidden_keys_may_hold_garbage() {
    let n = 70;
    let mut random = Random::new(4);
    let mut normal = |shape| Array4::<f64>::from_shape_simple_fn(shape, || random.normal());
    let shape = (1, 1, n, 3);
    let (q, k, v) = (normal(shape), normal(shape), normal(shape));
    let (second_k, second_v) = (normal(shape), normal(shape));
    let ask = |k: &Array4<f64>, v: &Array4<f64>, second_k: &Array4<f64>, second_v: &Array4<f64>| {
        let pairs = EachQueryPicksAPair::new(second_k.clone())
            .with_second_values(second_v.clone())
            .with_windows(3, 9);
        let model = Model::new(pairs, Window { left: 6, right: 0 }, Dot::scaled(3));
        let posterior = model.posterior(q.view(), k.view()).unwrap();
        let pass = posterior.pass((Mean(v.view()), LogPartition)).unwrap();
        let answers = pass.answer().unwrap();
        let ones = Array4::ones(answers.0.dim());
        let mut up = ones;
        up.slice_mut(s![.., .., n - 1, ..]).fill(1.0);
        let last = s![.., .., n - 1.., ..];
        up.slice_mut(s![.., .., ..n - 1, ..]).fill(0.0);
        let gradients = pass.backward((&up, None)).unwrap();
        let q = gradients.q.slice(last).to_owned();
        (answers.0.slice(last).to_owned(), answers.1[[0, 0, n - 1]], q)
    };
    let clean = ask(&k, &v, &second_k, &second_v);
    // First keys of the last query: n − 3 to n − 1; second keys, under the prior's window of 6 behind:
    // n − 7 to n − 1.
    let spoil = |tensor: &Array4<f64>, first: usize| {
        let mut spoiled = tensor.clone();
        spoiled.slice_mut(s![.., .., ..first, ..]).fill(f64::NAN);
        spoiled
    };
    let spoiled = ask(
        &spoil(&k, n - 3),
        &spoil(&v, n - 3),
        &spoil(&second_k, n - 7),
        &spoil(&second_v, n - 7),
    );
    assert_eq!(clean, spoiled);
    let nearer = ask(&spoil(&k, n - 2), &v, &second_k, &second_v);
    assert!(nearer.1.is_nan());
    let nearer = ask(&k, &v, &spoil(&second_k, n - 6), &second_v);
    assert!(nearer.1.is_nan());
}

#[test]
fn what_pairs_do_not_answer_is_refused_by_name() {
    let x = Array4::<f64>::ones((1, 2, 4, 3));
    let model = |pairs| Model::new(pairs, Uniform, Dot::scaled(3));
    let pairs = model(EachQueryPicksAPair::new(x.clone()));
    let posterior = pairs.posterior(x.view(), x.view()).unwrap();
    let told = |error: Option<Error>| error.expect("a refusal").to_string();
    for (name, error) in [
        ("map", posterior.ask(Map).err()),
        ("samples", posterior.ask(Samples { count: 1, seed: 1 }).err()),
        ("value-variance", posterior.ask(ValueVariance(x.view())).err()),
        ("function of edges", posterior.ask(ExpectedDistance).err()),
    ] {
        let error = told(error);
        assert!(error.contains(name) && error.contains("Pairs answer"), "{error}");
    }
    let wide = EachQueryPicksAPair::new(Array4::ones((1, 2, 4, 5)));
    let error = told(model(wide).posterior(x.view(), x.view()).err());
    assert!(error.contains("second-keys"), "{error}");
    let values = EachQueryPicksAPair::new(x.clone()).with_second_values(Array4::ones((1, 2, 4, 2)));
    let other_width = model(values);
    let posterior = other_width.posterior(x.view(), x.view()).unwrap();
    let error = told(posterior.ask(Mean(x.view())).err());
    assert!(error.contains("second-values"), "{error}");
    let error = told(
        model(EachQueryPicksAPair::new(x.clone()).with_windows(0, 3))
            .posterior(x.view(), x.view())
            .err(),
    );
    assert!(error.contains("window"), "{error}");
    let cosine = Model::new(EachQueryPicksAPair::new(x.clone()), Uniform, Cosine::new(1.0));
    let error = told(cosine.posterior(x.view(), x.view()).err());
    assert!(error.contains("potential") && error.contains("dot"), "{error}");
    // A bias of the first keys' size says nothing of more second keys.
    let bias = Array4::zeros((1, 2, 4, 4));
    let more = EachQueryPicksAPair::new(Array4::ones((1, 2, 6, 3)));
    let biased = Model::new(more, Bias::new(bias.view()), Dot::scaled(3));
    assert!(biased.posterior(x.view(), x.view()).is_err());
}
