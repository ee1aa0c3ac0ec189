//! Streaming in `f32` loses no more than plain `f32` arithmetic does.
//!
//! Plain arithmetic: the whole matrix of scores, softmax with the maximum subtracted, one product with
//! the values, entropy and KL by their sums. Both are held against the same formulas in `f64` on the
//! same `f32` inputs, by the root mean square error of each answer over its entries.

use marginals::question::{
    ColumnMass, Entropy, ExpectedDistance, Kl, LogEvidence, LogPartition, Marginals, Mean,
    ValueVariance,
};
use marginals_testkit::generate::{Flavour, PotentialKind, PriorKind, Recipe};
use marginals_testkit::reference::Potential;
use marginals_testkit::{Answers, Head, Structure, ValueKind, dense};
use ndarray::{Array2, s};

use crate::contract::bridge;

/// Streaming may lose this much more than plain arithmetic.
const FACTOR: f64 = 2.0;

fn recipe(
    structure: Structure,
    priors: &[PriorKind],
    (queries, keys): (usize, usize),
    seed: u64,
) -> Recipe {
    Recipe {
        structure,
        value_kind: ValueKind::Gather,
        priors: priors.to_vec(),
        potential: PotentialKind::Dot,
        flavour: Flavour::Ordinary,
        batch: 1,
        key_heads: 1,
        group: 1,
        queries,
        keys,
        depth: 64,
        value_depth: 32,
        query_offset: keys as i64 - queries as i64,
        seed,
    }
}

/// Errors of one answer, pooled over cases.
#[derive(Clone, Copy, Default)]
struct Errors {
    squares: f64,
    count: f64,
    largest: f64,
    /// Largest size of what the answer is computed from: one rounding of it is the least to expect.
    size: f64,
}

impl Errors {
    /// Takes in |actual − exact| over the finite entries.
    fn pool(
        &mut self,
        actual: impl IntoIterator<Item = f32>,
        exact: impl IntoIterator<Item = f64>,
        size: f64,
    ) {
        for (actual, exact) in actual.into_iter().zip(exact).filter(|(_, e)| e.is_finite()) {
            let error = (f64::from(actual) - exact).abs();
            self.squares += error * error;
            self.count += 1.0;
            self.largest = self.largest.max(error);
        }
        self.size = self.size.max(size);
    }

    fn root_mean_square(&self) -> f64 {
        (self.squares / self.count).sqrt()
    }
}

#[test]
fn errors_are_at_most_twice_those_of_plain_arithmetic() {
    let mut failures = Vec::new();
    let cases = [
        (vec![], 1.0),
        (vec![PriorKind::Causal], 1.0),
        (vec![PriorKind::Causal, PriorKind::Alibi], 1.0),
        (vec![PriorKind::Bias], 1.0),
        // Sharper than trained transformers get: scores of tens of nats.
        (vec![], 6.0),
    ];
    for structure in Structure::ALL {
        for (case, (priors, sharpness)) in cases.iter().enumerate() {
            for (queries, keys, seeds) in [(64, 85, 4), (200, 853, 1), (4, 8000, 1)] {
                let mut pooled = [[Errors::default(); 2]; QUESTIONS.len()];
                for seed in 0..seeds {
                    let recipe = recipe(structure, priors, (queries, keys), seed);
                    compare(&recipe, *sharpness, &mut pooled);
                }
                for (question, [streaming, plain]) in QUESTIONS.iter().zip(&pooled) {
                    let floor = f64::from(f32::EPSILON) * plain.size;
                    let (a, b) = (streaming.root_mean_square(), plain.root_mean_square());
                    if a > FACTOR * b.max(floor) {
                        failures.push(format!(
                            "{structure:?} {priors:?} case {case}, {queries} × {keys}: {question} is off by \
                             {a:.3e} (at most {:.3e}), plain by {b:.3e} (at most {:.3e})",
                            streaming.largest, plain.largest
                        ));
                    }
                }
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

const QUESTIONS: [&str; 9] = [
    "mean",
    "value variance",
    "log-partition",
    "log-evidence",
    "entropy",
    "KL",
    "column mass",
    "expected distance",
    "marginals",
];

/// Pools the errors of every answer, streaming and plain.
fn compare(recipe: &Recipe, sharpness: f64, pooled: &mut [[Errors; 2]; QUESTIONS.len()]) {
    let mut case = recipe.build();
    // Inputs that f32 holds exactly, so that both compute the same thing.
    case.inputs.q.mapv_inplace(|x| f64::from((x * sharpness) as f32));
    case.inputs.k.mapv_inplace(|x| f64::from(x as f32));
    case.inputs.v.mapv_inplace(|x| f64::from(x as f32));
    for (_, parameter) in case.model.parameters_mut() {
        parameter.iter_mut().for_each(|x| *x = f64::from(*x as f32));
    }
    let head = case.model.head(&case.inputs, 0, 0);
    let exact = dense::answer(&head);
    let plain = eager(&in_f32(&head, &case));

    let (q, k, v) = (
        case.inputs.q.mapv(|x| x as f32),
        case.inputs.k.mapv(|x| x as f32),
        case.inputs.v.mapv(|x| x as f32),
    );
    let model = bridge::model::<f32>(&case.model);
    let posterior = model.posterior(q.view(), k.view()).expect("a posterior");
    let (mean, variance, log_partition, evidence, entropy, kl, column, distance, marginals) =
        posterior
            .ask((
                Mean(v.view()),
                ValueVariance(v.view()),
                LogPartition,
                LogEvidence,
                Entropy,
                Kl,
                ColumnMass,
                ExpectedDistance,
                Marginals,
            ))
            .expect("answers");
    let largest =
        |x: &[f64]| x.iter().filter(|x| x.is_finite()).fold(0.0f64, |m, x| m.max(x.abs()));
    // Evidence, entropy and KL are differences of log-partitions.
    let logs = largest(&exact.log_partition.to_vec())
        .max(largest(&(&exact.log_partition - &exact.log_evidence).to_vec()));
    let mut question = 0;
    macro_rules! row {
        ($streaming:expr, $field:ident, $logs:expr) => {
            let expected: Vec<f64> = exact.$field.iter().copied().collect();
            let size = largest(&expected).max($logs);
            let [streaming, plain_errors] = &mut pooled[question];
            streaming.pool($streaming.iter().copied(), expected.iter().copied(), size);
            plain_errors.pool(plain.$field.iter().copied(), expected.iter().copied(), size);
            question += 1;
        };
    }
    row!(mean, mean, 0.0);
    row!(variance, value_variance, 0.0);
    row!(log_partition, log_partition, 0.0);
    row!(evidence, log_evidence, logs);
    row!(entropy, entropy, logs);
    row!(kl, kl, logs);
    row!(column, column_mass, 0.0);
    row!(distance, expected_distance, 0.0);
    row!(marginals, marginals, 0.0);
    assert_eq!(question, QUESTIONS.len());
}

/// The answers of whole-matrix arithmetic; the variance as E[v²] − E[v]², from two products (the
/// testkit's own makes a second pass over deviations, which nobody does with a matrix at hand).
fn eager(head: &Head<f32>) -> Answers<f32> {
    let mut answers = dense::answer(head);
    let squares = head.value.mapv(|v| v * v);
    answers.value_variance = match head.structure {
        Structure::EachQueryPicksOne | Structure::EachQueryPicksAtMostOne => {
            answers.marginals.dot(&squares) - answers.mean.mapv(|m| m * m)
        }
        _ => answers.marginals.mapv(|p| p * (1.0 - p)).dot(&squares),
    };
    answers
}

/// The head with its scores made in `f32`: one matrix product, then the scale.
fn in_f32(head: &Head, case: &marginals_testkit::generate::Case) -> Head<f32> {
    let narrow = |x: &Array2<f64>| x.mapv(|x| x as f32);
    let Potential::Dot { scale, softcap: None } = &case.model.potential else {
        unreachable!("recipes of this file use the dot potential")
    };
    let q: Array2<f32> = case.inputs.q.slice(s![0, 0, .., ..]).mapv(|x| x as f32);
    let k: Array2<f32> = case.inputs.k.slice(s![0, 0, .., ..]).mapv(|x| x as f32);
    Head {
        structure: head.structure,
        value_kind: head.value_kind,
        log_weight: narrow(&head.log_weight),
        log_potential: q.dot(&k.t()) * scale[0] as f32,
        null_log_weight: head.null_log_weight as f32,
        value: narrow(&head.value),
        query_offset: head.query_offset,
    }
}
