//! One run of queries of one head over keys chosen as it goes.

use std::ops::Range;

use crate::Real;
use ndarray::ArrayView4;
use rayon::prelude::*;

use super::forward::{FEWEST_KEYS, Task};
use super::heads::HeadKeys;
use super::request::Request;
use super::statistics::{Factors, Statistics, Totals};
use super::{by_query, split};
use crate::Posterior;

/// Ranges of keys of one batch entry and key head, prepared once for any number of passes by one
/// run of queries. No key outside the ranges is read.
pub(crate) struct Run<'a, T> {
    place: (usize, usize),
    queries: Range<usize>,
    /// Into how many parts a range of keys is cut at most, each a task of its own.
    parts: usize,
    prepared: Vec<HeadKeys<'a, T>>,
}

impl<'a, T: Real> Run<'a, T> {
    /// `queries` of batch entry and head `place`, without any keys yet.
    pub fn new(place: (usize, usize), queries: Range<usize>, parts: usize) -> Self {
        Self { place, queries, parts, prepared: Vec::new() }
    }

    /// Adds a range of keys; returns how many ranges there were before.
    pub fn add_keys(
        &mut self,
        posterior: &Posterior<'_, T>,
        k: &'a ArrayView4<'a, T>,
        values: Option<&'a ArrayView4<'a, T>>,
        keys: Range<usize>,
    ) -> usize {
        let (shape, before) = (&posterior.shape, self.prepared.len());
        let parts = self.parts.min(keys.len().div_ceil(FEWEST_KEYS)).max(1);
        let place = (self.place.0, shape.key_head(self.place.1));
        let ranges = split(keys, parts).into_par_iter();
        let prepare =
            |keys| HeadKeys::new(shape, posterior.potential, k, values, false, keys, place);
        self.prepared.par_extend(ranges.map(prepare));
        before
    }

    /// Statistics over the ranges from number `from` on, where queries choose.
    pub fn statistics(
        &self,
        posterior: &Posterior<'_, T>,
        request: &Request<'_, T>,
        from: usize,
    ) -> Statistics<T> {
        let task = Task::new(posterior, request);
        let parts: Vec<Statistics<T>> = self.prepared[from..]
            .par_iter()
            .map(|keys| by_query::statistics(&task, keys, self.place, self.queries.clone()))
            .collect();
        let mut parts = parts.into_iter();
        let nothing = || Statistics {
            factors: Factors::new(&task.kept, self.queries.len(), true),
            totals: Totals::new(&task.kept, self.queries.len()),
        };
        let mut merged = parts.next().unwrap_or_else(nothing);
        parts.for_each(|part| merged.merge_choices(&part));
        merged
    }
}
