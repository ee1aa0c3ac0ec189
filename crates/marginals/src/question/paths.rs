use ndarray::Array3;

use super::Question;
use super::named::{AnyQuestion, Asking, NamedQuestion};
use super::upstream::Nothing;
use crate::infer::walk::Walks;
use crate::infer::{Request, Slopes};
use crate::posterior::{Found, Posterior};
use crate::{Error, Real};

/// log p(h, x_1 … x_h | x_0) = log P(h) + Σ_t log P\[x_t, x_t+1\] of given paths x_0 … x_h of a walk,
/// in nats, [B, H, paths].
///
/// A path of one node is a walk of no hop. Taken by logarithms throughout, so that an unlikely path has
/// its digits; −∞ for what is impossible, such as more than H hops. Refuses paths without a node or
/// with nodes that do not exist. Cost: O(D) per edge, and the passes of the walk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths<P>(pub Vec<P>);

impl<'v, T: Real, P: AsRef<[usize]>> Question<'v, T> for Paths<P> {
    type Answer = Array3<T>;
    type Upstream = Nothing;
    type Plan = ();

    fn plan(&self, posterior: &Posterior<'_, T>, _: &mut Request<'v, T>) -> Result<(), Error> {
        posterior.require_walk("paths")
    }

    fn answer(&self, _: &(), found: &Found<'_, '_, 'v, T>) -> Result<Array3<T>, Error> {
        let paths: Vec<&[usize]> = self.0.iter().map(AsRef::as_ref).collect();
        Walks::of("paths", found)?.path_log_probability(&paths)
    }

    fn backward<'g>(
        &self,
        _: &(),
        _: &'g Found<'_, '_, 'v, T>,
        (): (),
        _: &mut Slopes<'g, T>,
    ) -> Result<(), Error> {
        Ok(())
    }
}

impl NamedQuestion for Paths<Vec<usize>> {
    const NAME: &'static str = "paths";
    const DEFINITION: &'static str =
        "log p of the paths in the tensor `paths` [paths, nodes], of walks";
    const SHAPE: &'static str = "[B, H, paths]";
    const READS: &'static [&'static str] = &["paths"];

    fn make<'v, T: Real>(
        asking: &Asking<'v, T>,
    ) -> Result<Box<dyn AnyQuestion<'v, T> + 'v>, Error> {
        let why = "whole numbers [paths, nodes], −1 after the last node, for the question `paths`";
        let rows = asking.tensors.integers("paths", why)?;
        if rows.ndim() != 2 {
            let advice = "A path is a row of nodes; fill the shorter ones up with −1.";
            return Err(Error::shape("paths", "[paths, nodes]", rows.shape(), advice));
        }
        if rows.shape()[1] == 0 && rows.shape()[0] > 0 {
            let advice = "A path is a row of at least the node it starts from.";
            return Err(Error::shape("paths", "[paths, nodes]", rows.shape(), advice));
        }
        let path = |(index, row): (usize, ndarray::ArrayViewD<'_, i64>)| {
            read(index, &row.iter().copied().collect::<Vec<i64>>())
        };
        let paths: Result<_, Error> = rows.outer_iter().enumerate().map(path).collect();
        Ok(Box::new(Paths(paths?)))
    }
}

/// The nodes of a row of `paths`, which ends at the first −1 and does not go on after it.
fn read(index: usize, row: &[i64]) -> Result<Vec<usize>, Error> {
    let end = row.iter().position(|&x| x == -1).unwrap_or(row.len());
    let wrong = |expected: &str| {
        let found = format!("{row:?} in row {index}");
        Err(Error::value("paths", expected, found))
    };
    if row[end..].iter().any(|&x| x != -1) {
        return wrong("nothing but −1 after the first −1: a path that has ended does not go on");
    }
    match row[..end].iter().map(|&x| usize::try_from(x)).collect() {
        Ok(nodes) => Ok(nodes),
        Err(_) => wrong("nodes counted from 0, and −1 after the last"),
    }
}
