//! Problems of expanding inference, and its results.

use std::sync::Arc;

use super::certificate::NormBounds;
use super::weights::Concentrations;
use super::windows::Windows;
use crate::engine::engine;
use crate::infer::collapsed::Reason;
use crate::infer::finding::{Finding, Merge};
use crate::infer::slopes::Slopes;
use crate::infer::statistic::{EdgeFunction, Handle, Linear, Request};
use crate::infer::streaming::{Rule, Softmax};
use crate::infer::{Gradients, Values};
use crate::potential::Potential;
use crate::prior::Prior;
use crate::question::Distance;
use crate::tensor::Stored;
use crate::{Error, Real, Shape, Value};

/// Problem that every run of queries shares.
pub(crate) struct Problem<'a, T: Real> {
    pub shape: Shape,
    pub concentrations: Concentrations,
    pub potential: &'a dyn Potential<T>,
    pub q: Stored<'a, T>,
    pub k: Stored<'a, T>,
    pub v: Stored<'a, T>,
    pub norms: NormBounds,
    pub tolerance: f64,
    /// Keys that a window starts with.
    pub first_keys: usize,
}

impl<T: Real> std::fmt::Debug for Problem<'_, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (shape, potential) = (&self.shape, self.potential.name());
        write!(f, "expanding attention with potential {potential} over {shape:?}")
    }
}

/// Request of a pass, and where its answers stand.
pub(crate) struct Wanted<'r, T: Real> {
    pub request: Request<'r, T>,
    /// E\[v\], where it is wanted.
    pub mean: Option<Handle>,
    /// E\[d\], where it is wanted.
    pub distance: Option<Handle>,
    /// Of the functions given.
    pub functions: Vec<Handle>,
}

/// The softmax over the keys of a window.
fn softmax<T: Real>() -> Rule<'static, T> {
    Rule::Rows(Box::new(Softmax { null: None }))
}

impl<'a, T: Real> Problem<'a, T> {
    /// The problem of inferring the edges under `prior`.
    pub fn under<'s>(&'s self, prior: &'s dyn Prior<T>) -> crate::infer::Problem<'s, T> {
        crate::infer::Problem {
            shape: self.shape,
            prior: Box::new(prior),
            depends_on_nodes: None,
            potential: self.potential,
            value: Value::Gather,
            q: self.q.reborrow(),
            k: self.k.reborrow(),
            engine: engine(),
        }
    }

    /// The averages of distance and of given functions, and of the values where `all`.
    pub fn wanted<'r>(&'r self, all: bool, functions: &[&'r dyn EdgeFunction<T>]) -> Wanted<'r, T> {
        let mut request = Request::new(&self.shape);
        let values = all.then(|| request.stored_values(self.v.reborrow()));
        let mean = values.map(|values| request.linear(Linear::Value(values)));
        let distance = Some(request.linear(Linear::Edge(Arc::new(Distance))));
        let functions =
            functions.iter().map(|&f| request.linear(Linear::Edge(Arc::new(f)))).collect();
        Wanted { request, mean, distance, functions }
    }

    /// The ordinary backward pass under `prior`.
    pub fn differentiate(
        &self,
        prior: &dyn Prior<T>,
        request: &Request<'_, T>,
        finding: &Finding<T>,
        slopes: &Slopes<'_, T>,
    ) -> Result<Gradients<T>, Error> {
        let over = (0..self.shape.keys, Values::Apart);
        engine().backward(&softmax(), &self.under(prior), request, finding, slopes, over)
    }

    /// Flat index of a query over [B, H, N].
    pub fn flat(&self, (batch, head): (usize, usize), query: usize) -> usize {
        (batch * self.shape.heads + head) * self.shape.queries + query
    }

    /// The finding of runs that follow one another.
    pub fn concatenate(&self, runs: Vec<Finding<T>>, request: &Request<'_, T>) -> Finding<T> {
        let heads = self.shape.batch * self.shape.heads;
        let nothing = || Finding::nothing(Merge::Mixture, request, (0, 0), 0..0);
        let mut all = Finding::concatenate(runs, heads).unwrap_or_else(nothing);
        all.complete = true;
        all
    }

    /// Number of (batch, head, query).
    pub fn count(&self) -> usize {
        self.shape.batch * self.shape.heads * self.shape.queries
    }
}

/// Result of one run of queries.
pub(crate) struct Outcome<T> {
    /// First key of the window.
    pub start: usize,
    /// Times the window grew.
    pub growths: usize,
    /// Finding over the final window.
    pub finding: Finding<T>,
    /// Bound on the lost mass, by query.
    pub lost: Vec<f64>,
    /// Steps of coordinate ascent, and why they ended, by query; empty where there are none.
    pub steps: Vec<(usize, Reason)>,
    /// β′ by query; empty where there is none.
    pub concentration: Vec<f64>,
}

/// Result of all runs, flat over [B, H, N]: owned, for a backward in another place.
#[derive(Clone, Debug)]
pub struct Expansion<T> {
    pub(crate) windows: Windows,
    pub(crate) growths: Vec<usize>,
    pub(crate) lost: Vec<f64>,
    pub(crate) steps: Vec<(usize, Reason)>,
    pub(crate) concentration: Vec<f64>,
    pub(crate) finding: Finding<T>,
    /// Where E\[ρ\] and E\[ρ²\] stand, under exact inference.
    pub(crate) moments: Vec<Handle>,
    /// Where E\[v\] and E\[d\] stand.
    pub(crate) mean: Handle,
    pub(crate) distance: Handle,
}
