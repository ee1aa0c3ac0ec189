use ndarray::{Array3, ArrayView3};

use super::Question;
use super::named::{AnyQuestion, Asking, NamedQuestion};
use super::upstream::Numbers;
use crate::infer::finding::weighted;
use crate::infer::slopes::flat;
use crate::infer::{Request, Slopes};
use crate::posterior::{Found, Posterior};
use crate::{Error, Real};

/// P(no edge) of every factor, [B, H, F]: of a query, or of a key where keys choose.
///
/// Under at-most-one it is the mass of the null edge (the sink of attention sinks, 1 − σ(g) of a gate);
/// where edges are independent Π_j (1 − p_ij). 0 where every factor has an edge, and 1 where nothing is
/// possible. Free: every pass finds it.
///
/// ```
/// # use marginals::{Model, potential::Dot, prior::Uniform};
/// use marginals::{question::NullProbability, structure::EachQueryPicksAtMostOne};
/// # let x = ndarray::Array4::<f64>::zeros((1, 1, 3, 2));
/// let model = Model::new(EachQueryPicksAtMostOne::new(0.0), Uniform, Dot::new(1.0));
/// let none = model.posterior(x.view(), x.view())?.ask(NullProbability)?;
/// assert!((none[[0, 0, 0]] - 0.25f64).abs() < 1e-15);
/// # Ok::<(), marginals::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NullProbability;

impl<'v, T: Real> Question<'v, T> for NullProbability {
    type Answer = Array3<T>;
    type Upstream = Numbers;
    type Plan = ();

    fn plan(&self, posterior: &Posterior<'_, T>, _: &mut Request<'v, T>) -> Result<(), Error> {
        posterior.inference().require_edges(Self::NAME)
    }

    fn answer(&self, (): &(), found: &Found<'_, '_, 'v, T>) -> Result<Array3<T>, Error> {
        let normalisers = found.finding.normalisers();
        let log_none = found.finding.log_none();
        let of = |factor: usize| match log_none.get(factor) {
            Some(log_p) => log_p.exp(),
            None => match normalisers.log_z(factor) {
                z if z.is_nan() => z,
                z if z == T::neg_infinity() => T::one(),
                _ => T::zero(),
            },
        };
        Ok(found.by_factor((0..normalisers.len()).map(of).collect()))
    }

    fn backward<'g>(
        &self,
        (): &(),
        found: &'g Found<'_, '_, 'v, T>,
        upstream: Option<ArrayView3<'g, T>>,
        slopes: &mut Slopes<'g, T>,
    ) -> Result<(), Error> {
        let checked = found.check_by_factor(Self::NAME, upstream)?;
        let log_none = found.finding.log_none();
        if let Some(gradient) = checked.filter(|_| !log_none.is_empty()) {
            // dp = p d log p.
            let pairs = flat(gradient).into_owned().into_iter().zip(log_none);
            slopes.add_log_none(pairs.map(|(g, log_p)| weighted(g, log_p.exp())).collect());
        }
        Ok(())
    }
}

impl NamedQuestion for NullProbability {
    const NAME: &'static str = "null-probability";
    const DEFINITION: &'static str = "P(no edge)";
    const SHAPE: &'static str = "[B, H, F]";
    const DIFFERENTIABLE: bool = true;

    fn make<'v, T: Real>(_: &Asking<'v, T>) -> Result<Box<dyn AnyQuestion<'v, T> + 'v>, Error> {
        Ok(Box::new(NullProbability))
    }
}
