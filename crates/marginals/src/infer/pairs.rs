//! Exact inference where every query picks a pair of keys: [`EachQueryPicksAPair`].
//!
//! ```text
//! p(j, k | i) = w_ij w_ik exp(s (q_i ∘ a_j)·b_k) / Z_i,      log Z_i = log Σ_j w_ij Σ_k w_ik exp(s (q_i ∘ a_j)·b_k).
//! ```
//!
//! With the first key given, the second is picked as by a single query q_i ∘ a_j among the second keys:
//! the inner sum is a streaming pass. Pairs whose first key lies equally far from its query, j = i + shift,
//! take one pass together, in which every query has one first key; the findings of the passes, over
//! different choices of the same queries, are mixed into one. Nothing is kept of a pass but that, so
//! memory is O(N D) beside the inputs. Cost: a pass over the second keys for every shift at which a query
//! has a first key, at most N + M − 1 of them and the window's width where there is one.
//!
//! The backward takes the same passes against the whole's normalisers, as that of a range of keys does.
//!
//! [`EachQueryPicksAPair`]: crate::structure::EachQueryPicksAPair

mod backward;
mod second;
mod shift;

use std::ops::Range;

use ndarray::Array4;

use super::finding::Finding;
use super::slopes::Slopes;
use super::statistic::{Linear, Request};
use super::{EdgeQuestions, Gradients, Inference, Problem, Values};
use crate::{Error, Parameter, Real};

pub use second::{Pairs, Windows};
use shift::{shifts, wanted, whole};

/// Name of the tensor of second keys.
pub const SECOND_KEYS: &str = "second-keys";
/// Name of the tensor of their values.
pub const SECOND_VALUES: &str = "second-values";

/// List of what is answered, for messages.
const ANSWERED: &str = "Pairs answer the mean, log-partition, log-evidence, entropy, kl, and the marginals \
                        and column mass of the first keys.";

fn refuse(question: &str, why: &str) -> Error {
    Error::NotAnswerable { question: question.into(), why: why.into(), instead: ANSWERED.into() }
}

impl<T: Real> Inference<T> for Pairs<T> {
    fn name(&self) -> &'static str {
        "pairs"
    }

    fn check(&self, problem: &Problem<'_, T>) -> Result<(), Error> {
        let shape = &problem.shape;
        if problem.potential.name() != "dot" {
            return Err(Error::value(
                "potential",
                "`dot`: a pair is scored by q_i · (a_j ∘ b_k)",
                problem.potential.name(),
            ));
        }
        if problem.depends_on_nodes.is_some() {
            return Err(Error::value(
                "prior",
                "one that does not depend on what queries and keys hold",
                problem.prior.name(),
            ));
        }
        let expected = (shape.batch, shape.key_heads, shape.key_width);
        let (b, h, keys, width) = self.keys.dim();
        if (b, h, width) != expected {
            return Err(Error::shape(
                SECOND_KEYS,
                format!("[{}, {}, M2, {}], as the keys", expected.0, expected.1, expected.2),
                self.keys.shape(),
                "Second keys have the batch size, heads and width of the first.",
            ));
        }
        if let Some(values) = &self.values
            && (values.dim().0, values.dim().1, values.dim().2) != (b, h, keys)
        {
            return Err(Error::shape(
                SECOND_VALUES,
                format!("[{b}, {h}, {keys}, D_v], one value per second key"),
                values.shape(),
                "Second values belong to second keys.",
            ));
        }
        let inner = self.inner_shape(shape);
        problem.prior.check(&inner)?;
        problem.potential.check(&inner)
    }

    fn require_edges(&self, question: &str) -> Result<(), Error> {
        match question {
            "marginals" | "column-mass" | "query-mass" => Ok(()),
            _ => Err(refuse(question, "its structure picks two keys at once")),
        }
    }

    fn find(
        &self,
        problem: &Problem<'_, T>,
        request: &Request<'_, T>,
        keys: Range<usize>,
        _complete: bool,
    ) -> Result<Finding<T>, Error> {
        problem.require_all(&keys, "a pair has two")?;
        self.check_request(request)?;
        let mut all = whole(request, &problem.shape);
        for shift in shifts(self, problem) {
            let inner = shift.problem(self, problem);
            let wanted = wanted(self, request, &inner.shape);
            let found = self.step.find(&inner, &wanted, 0..inner.shape.keys, true)?;
            all.mix(&shift.finding(self, problem, request, &wanted, &found));
        }
        all.complete = true;
        all.report.steps = 1;
        Ok(all)
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
        problem.require_all(&keys, "a pair has two")?;
        backward::backward(self, problem, request, finding, slopes, values)
    }

    fn edges(&self) -> Option<&dyn EdgeQuestions<T>> {
        Some(self)
    }

    fn parameters(&self) -> Vec<Parameter> {
        let of = |name, tensor: &Array4<T>| Parameter::new(name, tensor.shape());
        let keys = [of(SECOND_KEYS, &self.keys)].into_iter();
        keys.chain(self.values.as_ref().map(|values| of(SECOND_VALUES, values))).collect()
    }
}

impl<T: Real> EdgeQuestions<T> for Pairs<T> {
    fn column_mass(&self, problem: &Problem<'_, T>, finding: &Finding<T>) -> Vec<T> {
        let (n, m) = (problem.shape.queries.max(1), problem.shape.keys.max(1));
        let heads = problem.shape.batch * problem.shape.heads;
        let mut mass = vec![T::zero(); heads * problem.shape.keys];
        for (row, p) in EdgeQuestions::marginals(self, problem, finding).chunks_exact(m).enumerate()
        {
            let own = &mut mass[row / n * m..][..m];
            own.iter_mut().zip(p).for_each(|(sum, &p)| *sum += p);
        }
        mass
    }

    fn marginals(&self, problem: &Problem<'_, T>, finding: &Finding<T>) -> Vec<T> {
        let shape = &problem.shape;
        let mut all = vec![T::zero(); shape.batch * shape.heads * shape.queries * shape.keys];
        for shift in shifts(self, problem) {
            for (row, p) in shift.first_marginals(self, problem, finding) {
                let key = shift.first_key(row % shape.queries.max(1));
                all[row * shape.keys + key] = p;
            }
        }
        all
    }
}

impl<T: Real> Pairs<T> {
    /// Refuses statistics that pairs do not answer.
    fn check_request(&self, request: &Request<'_, T>) -> Result<(), Error> {
        const TWO: &str = "it is of single edges, and a pair has two";
        for statistic in &request.linear {
            match statistic {
                Linear::LogProbability | Linear::LogRatio => {}
                Linear::Value(table) => {
                    let width = request.width(*table);
                    let others = self.values.as_ref().map_or(width, |values| values.dim().3);
                    if width != others {
                        return Err(Error::shape(
                            SECOND_VALUES,
                            format!("[B, Hk, M2, {width}], as wide as the values"),
                            self.values.as_ref().map_or(&[][..], |values| values.shape()),
                            "The value of a pair is the product of both, entry by entry.",
                        ));
                    }
                }
                Linear::Edge(_) => return Err(refuse("a function of edges", TWO)),
                Linear::ValueVariance(_) => return Err(refuse("value-variance", TWO)),
                Linear::Covariance(..) => return Err(refuse("covariance", TWO)),
                Linear::Tangent(..) => return Err(refuse("jvp", TWO)),
            }
        }
        match request.extremal.is_empty() {
            true => Ok(()),
            false => Err(refuse("best keys", TWO)),
        }
    }
}
