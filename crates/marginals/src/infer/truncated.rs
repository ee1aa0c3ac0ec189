//! Truncated inference: exact but for edges that are left out, with a bound on the mass lost.
//!
//! For a block of queries and a block of keys what the keys can weigh at most is known without scoring
//! them (ACP, arXiv 2504.06949, prunes by such bounds):
//!
//! ```text
//! U = log Σ_j w_ij + s ≥ log Σ_j e^θ_ij,      lost mass = R/(Z + R) ≤ e^U/(Z + e^U),
//! ```
//!
//! with s the greatest log-potential of vectors of their lengths, Z the normaliser of what is kept, and R
//! what the rest really weighs. Where priors forget, most blocks are provably next to nothing: they are
//! left out before the pass, which then never makes their scores. After it the bound is known better, from
//! the Z that was found, and stands in the finding's [report](super::Report).
//!
//! ```
//! use marginals::{Model, potential::Dot, prior::{Alibi, Causal, Combine}, structure::EachQueryPicksOne};
//! use marginals::infer::{Exactness, Truncated};
//! use marginals::question::Mean;
//! # let (q, k, v) = (ndarray::Array4::<f32>::ones((1, 1, 300, 4)), ndarray::Array4::<f32>::ones((1, 1, 300, 4)), ndarray::Array4::<f32>::ones((1, 1, 300, 2)));
//! let model = Model::new(EachQueryPicksOne, Causal.and(Alibi::new(&[0.5])), Dot::scaled(4));
//! let posterior = model.posterior(q.view(), k.view())?.by(Truncated::within(1e-3))?;
//! let pass = posterior.pass(Mean(v.view()))?;
//! let Exactness::MassLost(bound) = pass.finding().report.exactness else { unreachable!() };
//! assert!(bound <= 1e-3);
//! # Ok::<(), marginals::Error>(())
//! ```

mod bounds;
mod certificate;
mod kept;
mod plan;

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::finding::{Exactness, Finding};
use super::slopes::Slopes;
use super::statistic::Request;
use super::{EdgeQuestions, Gradients, Inference, Problem, Values};
use crate::posterior::{Approximation, Posterior};
use crate::{Error, Parameter, Real, Reference, Shape};

pub use certificate::Certificate;
pub use kept::Kept;

use bounds::Bounds;
use certificate::Lost;
use kept::Within;

/// Leaves out edges that provably have next to nothing of the posterior.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Truncated {
    /// The most that the edges left out may have of the posterior of a query: at least 0, where only the
    /// impossible is left out, and below 1.
    pub mass: f64,
    /// Queries, and keys, whose edges are left out together.
    #[serde(default = "tile")]
    pub tile: usize,
}

fn tile() -> usize {
    64
}

impl Truncated {
    /// Leaves out what provably has at most `mass` of the posterior of each query.
    pub fn within(mass: f64) -> Self {
        Self { mass, tile: tile() }
    }

    /// The same, left out by tiles of `tile` queries and `tile` keys.
    pub fn with_tile(self, tile: usize) -> Self {
        Self { tile, ..self }
    }
}

impl<T: Real> Approximation<T> for Truncated {
    fn of<'a>(self, exact: Posterior<'a, T>) -> Result<Posterior<'a, T>, Error> {
        if !(0.0..1.0).contains(&self.mass) {
            return Err(Error::value("truncated.mass", "at least 0 and below 1", self.mass));
        }
        if self.tile == 0 {
            return Err(Error::value("truncated.tile", "at least 1 query and key", 0));
        }
        let lost = plan::within(&Bounds::new(&exact, self.tile)?, self.mass);
        Ok(truncated(exact, lost))
    }
}

/// Leaves out every edge that is not in the set, whatever its mass, which is bounded.
impl<T: Real> Approximation<T> for Kept {
    fn of<'a>(self, exact: Posterior<'a, T>) -> Result<Posterior<'a, T>, Error> {
        let lost = Lost::outside(&Bounds::new(&exact, tile())?, self)?;
        Ok(truncated(exact, lost))
    }
}

fn truncated<T: Real>(exact: Posterior<'_, T>, lost: Lost) -> Posterior<'_, T> {
    let Posterior { mut problem, inference, structure } = exact;
    problem.prior = Box::new(Within::new(problem.prior, lost.kept.clone()));
    Posterior::new(problem, Box::new(Truncation { exact: inference, lost }), structure)
}

/// The exact inference under a prior that leaves edges out, and what they can have weighed.
#[derive(Debug)]
struct Truncation<'a, T: Real> {
    exact: Box<dyn Inference<T> + 'a>,
    lost: Lost,
}

impl<T: Real> Truncation<'_, T> {
    /// Reports the bound that follows from the normalisers found.
    fn report(&self, problem: &Problem<'_, T>, finding: &mut Finding<T>, before: Exactness) {
        let seen = problem.seen(finding);
        let largest = self.lost.shares(seen.normalisers()).fold(0.0, f64::max);
        finding.report.exactness = before.and_lost(largest);
    }
}

impl<T: Real> Inference<T> for Truncation<'_, T> {
    fn name(&self) -> &'static str {
        "truncated"
    }

    fn check(&self, problem: &Problem<'_, T>) -> Result<(), Error> {
        self.exact.check(problem)
    }

    fn reference(&self) -> Reference {
        self.exact.reference()
    }

    fn require_log_partition(&self, question: &str) -> Result<(), Error> {
        self.exact.require_log_partition(question)
    }

    fn require_edges(&self, question: &str) -> Result<(), Error> {
        self.exact.require_edges(question)
    }

    fn factors(&self, shape: &Shape) -> usize {
        self.exact.factors(shape)
    }

    fn find(
        &self,
        problem: &Problem<'_, T>,
        request: &Request<'_, T>,
        keys: Range<usize>,
        complete: bool,
    ) -> Result<Finding<T>, Error> {
        let mut finding = self.exact.find(problem, request, keys, complete)?;
        let before = finding.report.exactness;
        self.report(problem, &mut finding, before);
        Ok(finding)
    }

    fn complete(
        &self,
        problem: &Problem<'_, T>,
        request: &Request<'_, T>,
        finding: &mut Finding<T>,
    ) {
        // Of keys that others hold only they know what was left out: the bounds were merged. Of all that
        // there are the bound is better than that of its parts.
        let own = problem.shape.key_offset..problem.shape.key_offset + problem.shape.keys as i64;
        let is_whole = finding.keys() == own;
        if is_whole {
            finding.report.exactness = Exactness::Exact;
        }
        self.exact.complete(problem, request, finding);
        if is_whole {
            let before = finding.report.exactness;
            self.report(problem, finding, before);
        }
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
        self.exact.backward(problem, request, finding, slopes, keys, values)
    }

    fn edges(&self) -> Option<&dyn EdgeQuestions<T>> {
        self.exact.edges()
    }

    fn parameters(&self) -> Vec<Parameter> {
        self.exact.parameters()
    }
}
