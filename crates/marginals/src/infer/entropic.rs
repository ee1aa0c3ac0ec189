//! Matchings by optimal transport: the entropic dual.
//!
//! Sums over all matchings are out of reach beyond a dozen nodes. In their place stands the plan that is the
//! most likely and the most spread out,
//!
//! ```text
//! D = max_P Σ_ij P_ij θ_ij − Σ_ij P_ij log P_ij,     Σ_j P_ij = a_i,   Σ_i P_ij = b_j,   P ≥ 0
//!   = min_f,g Σ_ij e^(θ_ij + f_i + g_j) − m − Σ_i a_i f_i − Σ_j b_j g_j,     P_ij = e^(θ_ij + f_i + g_j),
//! ```
//!
//! with masses a and b of the nodes, all 1 unless they are given, and m their total (Cuturi, arXiv 1306.0895;
//! Peyré & Cuturi, arXiv 1803.00567, §4; as attention, Sinkformers, arXiv 2110.11773). P takes the place of
//! the marginals, D that of log Z. A side whose masses sum to more than m has at most its masses (partial
//! transport: Benamou et al., arXiv 1412.5154, §5); f, or g, is then at most 0 and is 0 where a node has
//! mass left.
//!
//! **It is an approximation, and says how good it is.** For whole matchings (masses of 1, all that there can be
//! matched) of n nodes with M ≥ n others
//!
//! ```text
//! D − log( M^M (M−n)! / (M! (M−n)^(M−n)) )  ≤  log Z  ≤  D:
//! ```
//!
//! above, because the entropy of a matching is at most the sum of its nodes'; below by the theorem of van der
//! Waerden (Egorychev; Falikman, 1981), a permanent of a doubly stochastic matrix being at least M!/M^M. The
//! [report](super::Report) holds [`Exactness::Transport`]: this distance, the duality gap, and how far the
//! masses of the keys are from what they are to be.
//!
//! The scores are made in blocks and never kept: O(N + M) memory, a pass over them a step. Gradients go through
//! the equations that the solution satisfies, by conjugate gradients, and not back through the steps.
//!
//! Answered: mean (Σ_j P_ij v_j), log-partition (D), entropy (−Σ P log P), marginals (P), query and column
//! mass, expected distance and expectations of other functions; all are differentiable. Questions about edge
//! sets (samples, map, k-best, pairs of edges) and against the prior alone are refused: there is no
//! distribution over edge sets behind P.
//!
//! Where a node that must have mass may have no edge, D is −∞ and everything else 0. Where all may and there is no
//! plan for other reasons, the steps run out, and the report says so.
//!
//! ```
//! use marginals::{Model, potential::Dot, prior::Uniform, structure::Matching};
//! use marginals::infer::{Entropic, Exactness};
//! use marginals::question::{LogPartition, Mean};
//! # let (q, k, v) = (ndarray::Array4::<f64>::ones((1, 1, 30, 4)), ndarray::Array4::<f64>::ones((1, 1, 40, 4)), ndarray::Array4::<f64>::ones((1, 1, 40, 2)));
//! let model = Model::new(Matching::new(), Uniform, Dot::scaled(4));
//! let posterior = model.posterior(q.view(), k.view())?.by(Entropic::within(1e-8))?;
//! let pass = posterior.pass((Mean(v.view()), LogPartition))?;
//! let Exactness::Transport { gap, marginal_error, .. } = pass.finding().report.exactness else { unreachable!() };
//! assert!(gap < 1e-6 && marginal_error <= 1e-8);
//! # Ok::<(), marginals::Error>(())
//! ```

mod adjoint;
mod backward;
mod dual;
mod margins;
mod plan;
mod settings;
mod sweep;

use std::fmt::Debug;
use std::ops::Range;

use super::collapsed::Reason;
use super::finding::{Exactness, Finding, Merge};
use super::slopes::Slopes;
use super::statistic::{Linear, Request};
use super::{EdgeQuestions, Gradients, Inference, Problem, Values};
use crate::format::in_format;
use crate::posterior::{Approximation, Posterior};
use crate::special::ln_gamma;
use crate::{Error, Real, Shape};

pub use margins::Margins;
pub(crate) use margins::ROUNDING;
pub use settings::Entropic;

use dual::Solved;
use sweep::Sweep;

impl<T: Real> Approximation<T> for Entropic {
    fn of<'a>(self, exact: Posterior<'a, T>) -> Result<Posterior<'a, T>, Error> {
        type By<T> = for<'a> fn(Entropic, Posterior<'a, T>) -> Result<Posterior<'a, T>, Error>;
        static SINGLE: By<f32> = transport;
        static DOUBLE: By<f64> = transport;
        in_format::<By<T>>(&SINGLE, &DOUBLE)(self, exact)
    }
}

fn transport<T: Real>(
    settings: Entropic,
    exact: Posterior<'_, T>,
) -> Result<Posterior<'_, T>, Error> {
    let is_positive = settings.tolerance > 0.0 && settings.tolerance.is_finite();
    if !is_positive {
        return Err(Error::value("entropic.tolerance", "a number above 0", settings.tolerance));
    }
    if settings.steps == 0 {
        return Err(Error::value("entropic.steps", "at least 1", 0));
    }
    let Posterior { problem, inference, structure } = exact;
    let margins = inference.margins(&problem.shape).ok_or_else(|| Error::NotAnswerable {
        question: "inference = { entropic = {} }".into(),
        why: format!("the structure `{structure}` has no masses of its nodes"),
        instead: "Leave it out, or take the structure `matching`.".into(),
    })?;
    Ok(Posterior::new(problem, Box::new(Transport { settings, margins }), structure))
}

/// Optimal transport between nodes of given masses.
#[derive(Debug)]
struct Transport {
    settings: Entropic,
    margins: Margins,
}

/// Questions that there is no answer to without a distribution over edge sets.
const OF_EDGE_SETS: [&str; 10] = [
    "map",
    "samples",
    "top-k",
    "max-probability",
    "null-probability",
    "value-variance",
    "covariance",
    "jvp",
    "max-score",
    "min-score",
];

impl Transport {
    fn refused(question: &str) -> Error {
        Error::NotAnswerable {
            question: question.into(),
            why: "the inference `entropic` finds a plan, and no distribution over edge sets".into(),
            instead: "Leave the inference out where the exact one answers it, as it does `map` at any size; or \
                      ask for the mean, log-partition, entropy, marginals, query-mass, column-mass or \
                      expected-distance."
                .into(),
        }
    }

    /// log Z of the matchings lies at most this below the optimum; 0 of what is no relaxation of them.
    fn most_below(&self, shape: &Shape, head: usize) -> f64 {
        if !self.margins.is_matching {
            return f64::INFINITY;
        }
        let there = |masses: &[f64], nodes: usize| {
            masses[head * nodes..][..nodes].iter().filter(|mass| **mass > 0.0).count()
        };
        let queries = there(&self.margins.queries, shape.queries);
        let keys = there(&self.margins.keys, shape.keys);
        let (few, many) = (queries.min(keys), queries.max(keys));
        let power = |n: usize| if n == 0 { 0.0 } else { n as f64 * (n as f64).ln() };
        let log_factorial = |n: usize| ln_gamma(n as f64 + 1.0);
        let left = many - few;
        power(many) - log_factorial(many) + log_factorial(left) - power(left)
    }

    /// Adds what of the rows' statistics is the plan's, and its report.
    fn gather<T: Real>(
        &self,
        problem: &Problem<'_, T>,
        request: &Request<'_, T>,
        (rows, solved, gaps): (Finding<T>, &[Solved], &[f64]),
    ) -> Finding<T> {
        let shape = &problem.shape;
        let (heads, n) = (shape.batch * shape.heads, shape.queries);
        let keys = shape.key_offset..shape.key_offset + shape.keys as i64;
        let mut finding = Finding::nothing(Merge::Mixture, request, (heads, heads * n), keys);
        finding.heads = heads;
        finding.complete = true;
        finding.log_partitions = solved.iter().map(|own| [own.dual, 0.0]).collect();
        finding.normalisers.max = solved.iter().map(|own| T::of(own.dual)).collect();
        let masses = plan::masses(problem, &self.margins, &rows);
        let is_possible = |row: usize| solved[row / n.max(1)].is_possible();
        finding.mass = (masses.iter().enumerate())
            .map(|(row, own)| if is_possible(row) { T::of(own.mass) } else { T::zero() })
            .collect();
        for (index, statistic) in request.linear.iter().enumerate() {
            let own = &rows.linear[index].values;
            finding.linear[index].values = match statistic {
                // Σ_i r_i (E_i[log p] + log r_i).
                Linear::LogProbability => (0..heads)
                    .map(|head| {
                        let each = (head * n..(head + 1) * n).filter(|&row| {
                            is_possible(row)
                                && (masses[row].mass > 0.0 || masses[row].mass.is_nan())
                        });
                        let of_row =
                            |row: usize| masses[row].mass * (own[row].f64() + masses[row].log_mass);
                        T::of(each.map(of_row).sum())
                    })
                    .collect(),
                _ => {
                    let width = request.columns(index);
                    let each = own.iter().enumerate();
                    each.map(|(entry, &x)| {
                        let mass = finding.mass[entry / width];
                        if mass == T::zero() { mass } else { x * mass }
                    })
                    .collect()
                }
            };
        }
        finding.biases = solved.iter().flat_map(|own| own.biases.iter().copied()).collect();
        let largest = |each: &mut dyn Iterator<Item = f64>| each.fold(0.0, f64::max);
        let below = (0..heads).filter(|&head| solved[head].is_possible());
        finding.report.exactness = Exactness::Transport {
            gap: largest(&mut gaps.iter().copied()),
            marginal_error: largest(&mut solved.iter().map(|own| own.error)),
            below: largest(&mut below.map(|head| gaps[head] + self.most_below(shape, head))),
        };
        finding.report.steps = solved.iter().map(|own| own.steps).max().unwrap_or(0);
        let worst = |all: &[Reason]| {
            all.iter()
                .copied()
                .find(|reason| *reason != Reason::Converged)
                .unwrap_or(Reason::Converged)
        };
        let reasons: Vec<Reason> = solved.iter().map(|own| own.reason).collect();
        finding.report.reason = Some(worst(&reasons));
        finding.steps = vec![rows];
        finding
    }
}

impl<T: Real> Inference<T> for Transport {
    fn name(&self) -> &'static str {
        "entropic"
    }

    fn factors(&self, _shape: &Shape) -> usize {
        1
    }

    fn require_log_partition(&self, question: &str) -> Result<(), Error> {
        match question {
            "log-evidence" => Err(Self::refused(question)),
            _ => Ok(()),
        }
    }

    fn require_edges(&self, question: &str) -> Result<(), Error> {
        match OF_EDGE_SETS.contains(&question) {
            true => Err(Self::refused(question)),
            false => Ok(()),
        }
    }

    fn find(
        &self,
        problem: &Problem<'_, T>,
        request: &Request<'_, T>,
        keys: Range<usize>,
        _complete: bool,
    ) -> Result<Finding<T>, Error> {
        problem.require_all(&keys, "edges depend on each other")?;
        if request.log_ratio().is_some() {
            return Err(Self::refused("kl"));
        }
        let raw = sweep::raw(problem);
        let nodes = sweep::prepared(problem, &raw);
        let sweep = Sweep::new(problem, &self.margins, &nodes);
        let solved = dual::solve(&sweep, &self.settings);
        let gaps = dual::gaps(&sweep, &solved);
        let biases: Vec<f64> = solved.iter().flat_map(|own| own.biases.iter().copied()).collect();
        let biases = plan::log_weights(problem, &biases);
        let biased = plan::biased(problem, &biases);
        let rows = plan::rows().find(&biased, request, keys, true)?;
        Ok(self.gather(problem, request, (rows, &solved, &gaps)))
    }

    fn backward(
        &self,
        problem: &Problem<'_, T>,
        request: &Request<'_, T>,
        finding: &Finding<T>,
        slopes: &Slopes<'_, T>,
        keys: Range<usize>,
        values: Values,
    ) -> Result<Gradients<T>, Error> {
        problem.require_all(&keys, "edges depend on each other")?;
        backward::backward(&self.margins, problem, (request, finding), slopes, values)
    }

    fn edges(&self) -> Option<&dyn EdgeQuestions<T>> {
        Some(self)
    }
}

impl<T: Real> EdgeQuestions<T> for Transport {
    fn column_mass(&self, problem: &Problem<'_, T>, finding: &Finding<T>) -> Vec<T> {
        let raw = sweep::raw(problem);
        let nodes = sweep::prepared(problem, &raw);
        let sweep = Sweep::new(problem, &self.margins, &nodes);
        let biases = plan::by_head(&problem.shape, &finding.biases);
        let possible: Vec<usize> = possible(finding).collect();
        let mut all = vec![T::zero(); finding.biases.len()];
        for (&head, sums) in possible.iter().zip(sweep.sums(&possible, &biases)) {
            let into = &mut all[head * problem.shape.keys..][..problem.shape.keys];
            into.iter_mut().zip(sums.log_columns).for_each(|(x, c)| *x = T::of(c.exp()));
        }
        all
    }

    fn marginals(&self, problem: &Problem<'_, T>, finding: &Finding<T>) -> Vec<T> {
        let biases = plan::log_weights(problem, &finding.biases);
        let biased = plan::biased(problem, &biases);
        let mut all = EdgeQuestions::marginals(&plan::rows(), &biased, &finding.steps[0]);
        for (row, &mass) in all.chunks_exact_mut(problem.shape.keys.max(1)).zip(&finding.mass) {
            row.iter_mut().for_each(|p| *p = if mass == T::zero() { mass } else { *p * mass });
        }
        all
    }
}

/// Heads of which a plan is possible.
fn possible<T: Real>(finding: &Finding<T>) -> impl Iterator<Item = usize> {
    let each = finding.log_partitions.iter().enumerate();
    each.filter(|(_, [dual, _])| *dual > f64::NEG_INFINITY).map(|(head, _)| head)
}
