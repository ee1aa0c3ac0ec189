use std::ops::Range;

use crate::Real;
use serde::{Deserialize, Serialize};

use super::Posterior;
use crate::Error;
use crate::infer::exact::Statistics;
use crate::model::structure::Factorisation;

/// What a pass over a range of keys leaves behind: plain data that can be sent.
///
/// The partials of two neighbouring ranges merge into that of their union, by the running maximum
/// and sum of the streaming softmax, so that threads, long contexts and several machines all use
/// one merge:
///
/// ```
/// # use marginals::{Model, potential::Dot, prior::Uniform, structure::EachQueryPicksOne};
/// # use marginals::question::{Entropy, Mean};
/// # use ndarray::Array4;
/// # let (q, k, v) = (Array4::<f64>::ones((1, 1, 3, 4)), Array4::<f64>::ones((1, 1, 6, 4)), Array4::<f64>::ones((1, 1, 6, 2)));
/// # let model = Model::new(EachQueryPicksOne, Uniform, Dot::scaled(4));
/// let posterior = model.posterior(q.view(), k.view())?;
/// let questions = (Mean(v.view()), Entropy);
/// let mut partial = posterior.partial(&questions, 0..4)?;
/// partial.merge(posterior.partial(&questions, 4..6)?)?;
/// let (mean, entropy) = posterior.complete(&questions, partial)?;
/// # assert!((entropy[[0, 0, 0]] - 6f64.ln()).abs() < 1e-12);
/// # assert!((mean[[0, 0, 0, 0]] - 1.0).abs() < 1e-12);
/// # Ok::<(), marginals::Error>(())
/// ```
///
/// Questions that need the whole posterior first (column mass, marginals, draws of sets) are
/// answered when the merged partial is completed, from the keys held there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Partial<T> {
    statistics: Statistics<T>,
    keys: Range<usize>,
    /// Heads (all batch entries together), the unit factors are grouped by.
    heads: usize,
    rule: Rule,
}

/// How two partials merge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Rule {
    Choices,
    Keys,
    Edges,
}

impl<T: Real> Partial<T> {
    pub(super) fn new(
        statistics: Statistics<T>,
        keys: Range<usize>,
        posterior: &Posterior<'_, T>,
    ) -> Self {
        let rule = match posterior.factorisation {
            Factorisation::PerQuery { .. } => Rule::Choices,
            Factorisation::PerKey => Rule::Keys,
            Factorisation::PerEdge => Rule::Edges,
        };
        Self { statistics, keys, heads: posterior.shape.batch * posterior.shape.heads, rule }
    }

    /// The keys it covers.
    pub fn keys(&self) -> Range<usize> {
        self.keys.clone()
    }

    /// Takes in the partial of the keys that follow.
    pub fn merge(&mut self, next: Self) -> Result<(), Error> {
        if next.keys.start != self.keys.end {
            return Err(Error::value(
                "keys",
                format!("a partial that starts at key {}, where this one ends", self.keys.end),
                format!("{:?}", next.keys),
            ));
        }
        let same_kind = self.rule == next.rule
            && self.heads == next.heads
            && (self.rule == Rule::Keys
                || self.statistics.factors.max.len() == next.statistics.factors.max.len())
            && self.statistics.totals.mean.len() == next.statistics.totals.mean.len();
        if !same_kind {
            return Err(Error::NotAnswerable {
                question: "merge".into(),
                why: "the partials come from different models, sizes or questions".into(),
                instead: "Merge partials of one posterior and the same questions.".into(),
            });
        }
        match self.rule {
            Rule::Choices => self.statistics.merge_choices(&next.statistics),
            Rule::Edges => self.statistics.merge_edges(&next.statistics),
            Rule::Keys => self.interleave(&next),
        }
        self.keys.end = next.keys.end;
        Ok(())
    }

    /// Keys' factors follow one another within each head; queries' totals add.
    fn interleave(&mut self, next: &Self) {
        let heads = self.heads;
        fn by_head<R: Clone>(a: &mut Vec<R>, b: &[R], heads: usize) {
            if heads == 0 || (a.is_empty() && b.is_empty()) {
                return;
            }
            let (m, n) = (a.len() / heads, b.len() / heads);
            let rows = (0..heads).flat_map(|h| a[h * m..][..m].iter().chain(&b[h * n..][..n]));
            *a = rows.cloned().collect();
        }
        let (a, b) = (&mut self.statistics.factors, &next.statistics.factors);
        for (a, b) in [
            (&mut a.max, &b.max),
            (&mut a.sum, &b.sum),
            (&mut a.score, &b.score),
            (&mut a.log_weight, &b.log_weight),
            (&mut a.weight_max, &b.weight_max),
            (&mut a.weight_sum, &b.weight_sum),
        ] {
            by_head(a, b, heads);
        }
        by_head(&mut a.best, &b.best, heads);
        by_head(&mut a.top, &b.top, heads);
        by_head(&mut a.draws, &b.draws, heads);
        self.statistics.totals.add(&next.statistics.totals);
    }

    pub(super) fn into_whole(self, posterior: &Posterior<'_, T>) -> Result<Statistics<T>, Error> {
        let all = 0..posterior.shape.keys;
        if self.keys != all {
            return Err(Error::value(
                "partial",
                format!("all keys, {all:?}, merged before completing"),
                format!("{:?}", self.keys),
            ));
        }
        let factors = self.heads * posterior.factor_count();
        if self.statistics.factors.max.len() != factors {
            return Err(Error::shape(
                "partial",
                format!("[{factors}] factors"),
                &[self.statistics.factors.max.len()],
                "Complete a partial with the posterior it was made from.",
            ));
        }
        Ok(self.statistics)
    }
}
