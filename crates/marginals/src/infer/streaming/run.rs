//! One run of queries of one head over keys chosen as it goes.

use std::ops::Range;

use super::blocks::{FEWEST_KEYS, split};
use super::heads::{Care, HeadKeys, Preparation};
use super::rows;
use super::rule::RowRule;
use super::softmax::Softmax;
use super::task::Task;
use crate::infer::Problem;
use crate::infer::finding::Finding;
use crate::infer::statistic::Request;
use crate::{Real, parallel};

/// Ranges of keys of one batch entry and key head, prepared once for any number of passes by one
/// run of queries, each of which picks one key. No key outside the ranges is read.
pub(crate) struct Run<'a, T: Real> {
    head: (usize, usize),
    queries: Range<usize>,
    /// Into how many parts a range of keys is cut at most, each a task of its own.
    parts: usize,
    prepared: Vec<HeadKeys<'a, T>>,
}

impl<'a, T: Real> Run<'a, T> {
    /// `queries` of a batch entry and head, without any keys yet.
    pub fn new(head: (usize, usize), queries: Range<usize>, parts: usize) -> Self {
        Self { head, queries, parts, prepared: Vec::new() }
    }

    /// Adds a range of keys, with the values that `request` averages; returns how many ranges there
    /// were before.
    pub fn add_keys(
        &mut self,
        problem: &'a Problem<'_, T>,
        request: Option<&'a Request<'_, T>>,
        keys: Range<usize>,
    ) -> usize {
        let (shape, before) = (&problem.shape, self.prepared.len());
        let parts = self.parts.min(keys.len().div_ceil(FEWEST_KEYS)).max(1);
        let own = (self.head.0, shape.key_head(self.head.1));
        let preparation = Preparation { problem, care: Care::Fast, many_edges: false };
        let prepare = |keys| preparation.head(&problem.k, request, keys, own);
        self.prepared.extend(parallel::map_each(split(keys, parts), &prepare));
        before
    }

    /// Finding over the ranges from number `from` on.
    pub fn find(
        &self,
        problem: &Problem<'_, T>,
        request: &Request<'_, T>,
        from: usize,
    ) -> Finding<T> {
        let rule = Softmax { null: None };
        let task = Task::new(problem, request);
        let prepared = &self.prepared[from..];
        let parts = parallel::map(prepared.len(), &|part| {
            let keys = &prepared[part];
            rows::find(&task, &rule, keys, self.head, self.queries.clone(), Care::Fast)
        });
        let rows = self.queries.len();
        let merge = RowRule::<T>::merge(&rule);
        let nothing = || Finding::nothing(merge, request, (rows, rows), 0..0);
        let mut parts = parts.into_iter();
        let mut merged = parts.next().unwrap_or_else(nothing);
        parts.for_each(|part| merged.mix(&part));
        merged
    }
}
