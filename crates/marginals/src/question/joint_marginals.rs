use ndarray::Array4;

use super::Question;
use super::upstream::Nothing;
use crate::infer::{Request, Slopes};
use crate::posterior::{Found, Posterior};
use crate::{Error, Real, check_room};

/// P(φ_ij = 1 and φ_e = 1) of every edge ij with one edge e, [B, H, N, M], where edges depend on each other.
///
/// At e itself P(φ_e = 1); over it, the conditional P(φ_ij = 1 | φ_e = 1). From the covariance of two edges,
/// which is a column of the Hessian of log Z: P(a, b) = P(a) P(b) + ∂²log Z/∂θ_a∂θ_b. The error is of the
/// size of the rounding of P(a) P(b). Cost: one pass in dual numbers.
///
/// ```
/// use marginals::{Model, potential::Dot, prior::Uniform, structure::Chain};
/// use marginals::question::JointMarginals;
/// # use ndarray::{Array4, ArrayD};
/// # let (q, k) = (Array4::<f64>::ones((1, 1, 5, 4)), Array4::<f64>::ones((1, 1, 3, 4)));
/// let stay = ArrayD::from_shape_fn(vec![3, 3], |at| if at[0] == at[1] { 2.0 } else { 0.0 });
/// let model = Model::new(Chain::new().with_transitions(stay)?, Uniform, Dot::scaled(4));
/// let posterior = model.posterior(q.view(), k.view())?;
/// let joint = posterior.ask(JointMarginals { edge: (0, 2) })?; // with query 0 on key 2
/// let next = joint[[0, 0, 1, 2]] / joint[[0, 0, 0, 2]]; // P(query 1 on key 2 | query 0 on key 2)
/// assert!((next - 2f64.exp() / (2.0 + 2f64.exp())).abs() < 1e-12);
/// # Ok::<(), marginals::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JointMarginals {
    /// The edge, by query and key.
    pub edge: (usize, usize),
}

/// The question's name, for messages.
const NAME: &str = "joint-marginals";

impl<'v, T: Real> Question<'v, T> for JointMarginals {
    type Answer = Array4<T>;
    type Upstream = Nothing;
    type Plan = ();

    fn plan(&self, posterior: &Posterior<'_, T>, _: &mut Request<'v, T>) -> Result<(), Error> {
        posterior.require_sets(NAME, "the marginals")?;
        let shape = posterior.shape();
        let sizes = (shape.queries, shape.keys);
        if self.edge.0 >= sizes.0 || self.edge.1 >= sizes.1 {
            let expected = format!("a query below {} and a key below {}", sizes.0, sizes.1);
            return Err(Error::value("edge", expected, format!("{:?}", self.edge)));
        }
        let edges = [shape.batch, shape.heads, shape.queries, shape.keys];
        check_room(NAME, &edges, size_of::<T>())
    }

    fn answer(&self, _: &(), found: &Found<'_, '_, 'v, T>) -> Result<Array4<T>, Error> {
        let posterior = found.posterior;
        let sets = posterior.require_sets(NAME, "the marginals")?;
        Ok(found.by_query_of(found.shape().keys, sets.pairs(&posterior.problem, self.edge)))
    }

    fn backward<'g>(
        &self,
        (): &(),
        _: &'g Found<'_, '_, 'v, T>,
        (): (),
        _: &mut Slopes<'g, T>,
    ) -> Result<(), Error> {
        Ok(())
    }
}
