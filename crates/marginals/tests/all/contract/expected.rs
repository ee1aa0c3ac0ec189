//! What the testkit answers for a whole case, flattened in the order of the library's tensors.

use marginals_testkit::compare::{Tolerance, close};
use marginals_testkit::generate::{Case, Recipe};
use marginals_testkit::reference::Touched;
use marginals_testkit::{Answers, Law, NullEdge, Problem};

/// Agreement demanded between streaming and enumeration in `f64`.
pub const EXACT: Tolerance = Tolerance { relative: 1e-10, absolute: 1e-10 };

/// The problems of a case, head by head, with their answers by one of the testkit's routes.
pub struct Expected {
    pub problems: Vec<Problem>,
    /// What values that are not finite may reach; what they must not reach is compared.
    pub touched: Vec<Touched>,
    pub answers: Vec<Answers>,
}

/// What an answer has its entries by.
#[derive(Clone, Copy, Debug)]
pub enum By {
    Edge,
    Factor,
    Query,
    Value,
    Key,
}

impl By {
    fn list(self, touched: &Touched) -> Vec<bool> {
        match self {
            Self::Edge => touched.edges.iter().copied().collect(),
            Self::Factor => touched.factors.clone(),
            Self::Query => touched.queries.clone(),
            Self::Value => touched.values.clone(),
            Self::Key => touched.keys.clone(),
        }
    }
}

impl Expected {
    pub fn new(recipe: &Recipe, case: &Case, route: impl Fn(&Problem) -> Answers) -> Self {
        let problems: Vec<Problem> = (0..recipe.batch)
            .flat_map(|b| (0..recipe.heads()).map(move |h| (b, h)))
            .map(|(b, h)| case.model.problem(&case.inputs, b, h))
            .collect();
        let answers = problems.iter().map(route).collect();
        let touched = (0..recipe.batch)
            .flat_map(|b| (0..recipe.heads()).map(move |h| (b, h)))
            .map(|(b, h)| case.model.touched(&case.inputs, b, h))
            .collect();
        Self { problems, touched, answers }
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
        by: By,
        actual: impl IntoIterator<Item = f64>,
        of: impl Fn(&'a Answers) -> I,
    ) -> Result<(), String> {
        let mut actual: Vec<f64> = actual.into_iter().collect();
        let mut expected = self.flat(of);
        let touched: Vec<bool> = self.touched.iter().flat_map(|touched| by.list(touched)).collect();
        if actual.len() == expected.len() && !touched.is_empty() {
            let width = expected.len() / touched.len();
            for (index, _) in touched.into_iter().enumerate().filter(|(_, touched)| *touched) {
                let own = index * width..(index + 1) * width;
                actual[own.clone()].fill(0.0);
                expected[own].fill(0.0);
            }
        }
        close(name, &actual, &expected, EXACT)
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
        let problems = self.problems.iter().zip(&self.touched);
        for (answers, (problem, touched)) in self.answers.iter().zip(problems) {
            let size = problem.log_potential.iter().fold(1.0, |m: f64, x| m.max(x.abs()));
            for (factor, ranking) in answers.ranking.iter().enumerate() {
                let mut seen = Vec::new();
                for rank in 0..count {
                    let (index, p) = (indices[at], probabilities[at]);
                    at += 1;
                    if touched.factors[factor] {
                        continue;
                    }
                    let (best, best_p) = ranking.get(rank).copied().unwrap_or((-1, 0.0));
                    close(format!("{name}: probability {rank}"), &[p], &[best_p], EXACT)
                        .map_err(|e| format!("{e} (factor {factor})"))?;
                    let listed = rank < ranking.len();
                    if index != best {
                        let twin = choice_score(problem, answers, factor, index)
                            - choice_score(problem, answers, factor, best);
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

/// What choices of a factor are ranked by: θ, or log p where it is not the same order.
fn choice_score(problem: &Problem, answers: &Answers, factor: usize, index: i64) -> f64 {
    if problem.law == Law::NearestAccepted {
        let row = answers.marginals.row(factor);
        return match usize::try_from(index) {
            Ok(key) => row[key].ln(),
            Err(_) => (1.0 - row.sum()).ln(),
        };
    }
    match (usize::try_from(index), problem.structure) {
        (Err(_), _) => match problem.null[factor] {
            NullEdge::Weighted { log_weight, log_potential } => log_weight + log_potential,
            NullEdge::Gated { gate } => {
                answers.log_partition[factor] - (-gate).exp().ln_1p() - gate
            }
        },
        (Ok(query), marginals_testkit::Structure::EachKeyPicksOne) => problem.theta(query, factor),
        (Ok(key), _) => problem.theta(factor, key),
    }
}
