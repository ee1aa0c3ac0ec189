//! How much posterior mass lies outside a set of edges, at most.

use ndarray::Array3;
use rayon::prelude::*;

use super::bounds::Bounds;
use super::kept::{Kept, Within};
use crate::infer::finding::Normalisers;
use crate::infer::{Problem, Request};
use crate::prior::Prior;
use crate::{Error, Posterior, Real};

/// A set of edges, and what those outside it can weigh at most.
#[derive(Clone, Debug)]
pub(super) struct Lost {
    pub kept: Kept,
    /// By list of the set, of every batch entry and head: an upper bound of log Σ e^θ of the others.
    pub log_mass: Vec<f64>,
}

impl Lost {
    /// Certificate of a given set: a bound on the mass outside it.
    pub fn outside<T: Real>(bounds: &Bounds<'_, '_, T>, kept: Kept) -> Result<Self, Error> {
        let shape = &bounds.problem.shape;
        kept.check(shape)?;
        let lists: Vec<_> = shape
            .all_heads()
            .flat_map(|head| kept.runs(shape.queries).map(move |queries| (head, queries)))
            .collect();
        let of_list = |(head, queries): ((usize, usize), std::ops::Range<usize>)| {
            let whole = shape.block(head, queries.clone(), 0..shape.keys);
            let live = bounds.problem.prior.live_keys(&whole);
            let gaps = kept.gaps(shape.head_number(head), queries.start, live);
            let block = |keys| shape.block(head, queries.clone(), keys);
            gaps.map(|keys| bounds.log_mass(&block(keys))).fold(f64::NEG_INFINITY, log_add)
        };
        let log_mass = lists.into_par_iter().map(of_list).collect();
        Ok(Self { kept, log_mass })
    }

    /// Upper bounds of the share of the posterior that lies outside, query after query, from the
    /// normalisers of what is kept.
    pub fn shares<T: Real>(&self, kept: &Normalisers<T>) -> impl Iterator<Item = f64> {
        let queries = self.kept.queries.max(1);
        let lists = self.kept.runs(self.kept.queries).len();
        (0..kept.len()).map(move |factor| {
            let (head, query) = (factor / queries, factor % queries);
            let lost = self.log_mass[head * lists + query / self.kept.rows];
            if lost == f64::NEG_INFINITY {
                return 0.0;
            }
            // e^U/(Z + e^U)
            let share = 1.0 / (1.0 + (kept.log_z(factor).f64() - lost).exp());
            if share.is_nan() { 1.0 } else { share }
        })
    }
}

/// log(e^a + e^b), rounded up.
pub(super) fn log_add(a: f64, b: f64) -> f64 {
    let (low, high) = if a < b { (a, b) } else { (b, a) };
    match low == f64::NEG_INFINITY || high == f64::INFINITY {
        true => high,
        false => (high + (low - high).exp().ln_1p()) + 4.0 * f64::EPSILON * (1.0 + high.abs()),
    }
}

/// Bounds of the posterior mass outside any set of edges that is kept.
///
/// Only edges within the set are scored.
///
/// ```
/// use marginals::{Model, potential::Dot, prior::{Alibi, Causal, Combine}, structure::EachQueryPicksOne};
/// use marginals::infer::{Certificate, Kept};
/// # let q = ndarray::Array4::<f64>::ones((1, 1, 60, 4));
/// let model = Model::new(EachQueryPicksOne, Causal.and(Alibi::new(&[0.5])), Dot::scaled(4));
/// let posterior = model.posterior(q.view(), q.view())?;
/// let window = Kept::window(posterior.shape(), 40, 0);
/// let lost = Certificate::new(&posterior)?.mass_lost(&window)?; // [B, H, N]
/// assert!(lost[[0, 0, 30]] == 0.0 && lost[[0, 0, 59]] < 1e-7);
/// # Ok::<(), marginals::Error>(())
/// ```
#[derive(Debug)]
pub struct Certificate<'p, 'a, T: Real> {
    posterior: &'p Posterior<'a, T>,
    bounds: Bounds<'p, 'a, T>,
}

impl<'p, 'a, T: Real> Certificate<'p, 'a, T> {
    /// Takes the lengths of all queries and keys.
    ///
    /// # Errors
    /// [`Error::NotAnswerable`] where queries do not pick one edge each, and where the prior or the
    /// potential has no bound of what is out of sight.
    pub fn new(posterior: &'p Posterior<'a, T>) -> Result<Self, Error> {
        Ok(Self { posterior, bounds: Bounds::new(posterior, super::tile())? })
    }

    /// An upper bound of the posterior mass of the edges that are not in `kept`, for every query
    /// [B, H, N].
    ///
    /// # Errors
    /// [`Error::Shape`] where the set is one of other sizes.
    pub fn mass_lost(&self, kept: &Kept) -> Result<Array3<f64>, Error> {
        let problem = &self.posterior.problem;
        let shape = &problem.shape;
        let lost = Lost::outside(&self.bounds, kept.clone())?;
        let prior: &dyn Prior<T> = &*problem.prior;
        let within = Problem {
            shape: problem.shape,
            prior: Box::new(Within::new(prior, kept.clone())),
            depends_on_nodes: None,
            potential: problem.potential,
            value: problem.value,
            q: problem.q.reborrow(),
            k: problem.k.reborrow(),
            engine: problem.engine,
        };
        let request = Request::new(shape);
        let inference = self.posterior.inference();
        let finding = inference.find(&within, &request, 0..shape.keys, true)?;
        let shares = lost.shares(finding.normalisers()).collect();
        let sizes = (shape.batch, shape.heads, shape.queries);
        Ok(Array3::from_shape_vec(sizes, shares).expect("one share per query"))
    }
}
