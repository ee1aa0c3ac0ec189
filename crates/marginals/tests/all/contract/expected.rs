//! What the testkit answers for a whole case, flattened in the order of the library's tensors.

use marginals_testkit::compare::{Tolerance, close};
use marginals_testkit::generate::{Case, Recipe};
use marginals_testkit::{Answers, Head, ValueKind};

/// Agreement demanded between streaming and enumeration in `f64`.
pub const EXACT: Tolerance = Tolerance { relative: 1e-10, absolute: 1e-10 };

/// A probability below this has lost digits to gradual underflow; an average over edges that all
/// have lost them is a quotient of noise.
const UNDERFLOW: f64 = 1e-290;

/// The heads of a case in order, with their answers by one of the testkit's routes.
pub struct Expected {
    pub heads: Vec<Head>,
    pub answers: Vec<Answers>,
}

impl Expected {
    pub fn new(recipe: &Recipe, case: &Case, route: impl Fn(&Head) -> Answers) -> Self {
        let heads: Vec<Head> = (0..recipe.batch)
            .flat_map(|b| (0..recipe.heads()).map(move |h| (b, h)))
            .map(|(b, h)| case.model.head(&case.inputs, b, h))
            .collect();
        let answers = heads.iter().map(route).collect();
        Self { heads, answers }
    }

    /// One answer of every head, one after the other.
    pub fn flat<'a, I: IntoIterator<Item = &'a f64>>(
        &'a self,
        of: impl Fn(&'a Answers) -> I,
    ) -> Vec<f64> {
        self.answers.iter().flat_map(|a| of(a).into_iter().copied()).collect()
    }

    /// `Err` unless the library's flat answer agrees.
    pub fn check<'a, I: IntoIterator<Item = &'a f64>>(
        &'a self,
        name: &str,
        actual: impl IntoIterator<Item = f64>,
        of: impl Fn(&'a Answers) -> I,
    ) -> Result<(), String> {
        let actual: Vec<f64> = actual.into_iter().collect();
        close(name, &actual, &self.flat(of), EXACT)
    }

    /// The same for answers about values (N × d_v): averages whose weights underflow are only
    /// required to be numbers.
    pub fn check_values<'a, I: IntoIterator<Item = &'a f64>>(
        &'a self,
        name: &str,
        actual: impl IntoIterator<Item = f64>,
        of: impl Fn(&'a Answers) -> I,
    ) -> Result<(), String> {
        let actual: Vec<f64> = actual.into_iter().collect();
        let expected = self.flat(of);
        let masses = self.heads.iter().zip(&self.answers).flat_map(|(head, answers)| {
            let width = head.value.ncols();
            let average = head.value_kind == ValueKind::Average;
            (0..head.queries()).flat_map(move |i| {
                let mass = answers.marginals.row(i).sum();
                std::iter::repeat_n(average && mass > 0.0 && mass * mass < UNDERFLOW, width)
            })
        });
        let (mut a, mut e) = (Vec::new(), Vec::new());
        for ((actual, expected), noise) in actual.iter().zip(&expected).zip(masses) {
            if noise && !actual.is_nan() {
                continue;
            }
            a.push(*actual);
            e.push(*expected);
        }
        if actual.len() != expected.len() {
            return Err(format!("{name}: {} entries, not {}", actual.len(), expected.len()));
        }
        close(name, &a, &e, EXACT)
    }

    /// `Err` unless the library's ranked choices (`count` per factor, with probabilities) are the
    /// best ones in order. Indices may differ only among choices whose scores agree to rounding, and
    /// must not when `exact` says that the scores have none.
    pub fn check_ranking(
        &self,
        name: &str,
        count: usize,
        indices: &[i64],
        probabilities: &[f64],
        exact: bool,
    ) -> Result<(), String> {
        let mut at = 0;
        for (answers, head) in self.answers.iter().zip(&self.heads) {
            let size = head.log_potential.iter().fold(1.0, |m: f64, x| m.max(x.abs()));
            for (factor, ranking) in answers.ranking.iter().enumerate() {
                let mut seen = Vec::new();
                for rank in 0..count {
                    let (index, p) = (indices[at], probabilities[at]);
                    at += 1;
                    let (best, best_p) = ranking.get(rank).copied().unwrap_or((-1, 0.0));
                    close(format!("{name}: probability {rank}"), &[p], &[best_p], EXACT)
                        .map_err(|e| format!("{e} (factor {factor})"))?;
                    let listed = rank < ranking.len();
                    if index != best {
                        let twin =
                            choice_score(head, factor, index) - choice_score(head, factor, best);
                        let same = listed && twin.abs() <= 1e-13 * size && !seen.contains(&index);
                        if exact || !same {
                            return Err(format!(
                                "{name}: rank {rank} of factor {factor} is {index} (p = {p}), \
                                 expected {best} (p = {best_p}); scores differ by {twin:e}"
                            ));
                        }
                    }
                    seen.push(index);
                }
            }
        }
        if at != indices.len() || at != probabilities.len() {
            return Err(format!("{name}: {} entries, expected {at}", indices.len()));
        }
        Ok(())
    }
}

/// θ of a choice of a factor; the null edge's log-weight for −1.
fn choice_score(head: &Head, factor: usize, index: i64) -> f64 {
    match (usize::try_from(index), head.structure) {
        (Err(_), _) => head.null_log_weight,
        (Ok(query), marginals_testkit::Structure::EachKeyPicksOne) => head.theta(query, factor),
        (Ok(key), _) => head.theta(factor, key),
    }
}
