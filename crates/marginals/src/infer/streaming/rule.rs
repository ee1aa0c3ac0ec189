//! How the scores of a query become probabilities, key block by key block.

use std::fmt::Debug;
use std::ops::Range;

use marginals_kernels::{LogPartition, Tile, TileMut};

use crate::infer::finding::{Candidate, Expectation, Finding, Merge, Normalisers};
use crate::infer::statistic::Request;
use crate::{Block, Parameter, ParameterGradient, Real, Shape};

/// Who chooses, and how.
#[derive(Debug)]
pub enum Rule<'a, T> {
    /// Queries choose, or each edge by itself.
    Rows(Box<dyn RowRule<T> + 'a>),
    /// Keys choose among the queries, each exactly one.
    Columns(ByKey),
}

/// The rule of keys that choose: p_ij = e^θ_ij / Σ_i' e^θ_i'j.
#[derive(Clone, Copy, Debug)]
pub struct ByKey;

impl<T: Real> Rule<'_, T> {
    /// Number of independent choices per head: queries, or keys where keys choose.
    pub fn factors(&self, shape: &Shape) -> usize {
        match self {
            Self::Rows(_) => shape.queries,
            Self::Columns(_) => shape.keys,
        }
    }

    pub(crate) fn merge(&self) -> Merge {
        match self {
            Self::Rows(rule) => rule.merge(),
            Self::Columns(_) => Merge::Factors,
        }
    }

    pub(crate) fn order(&self) -> Order {
        match self {
            Self::Rows(rule) => rule.order(),
            Self::Columns(_) => Order::Any,
        }
    }
}

/// Quantities of the factors that a fold keeps beside their normalisers.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wants {
    /// E\[log p\].
    pub log_probability: bool,
    /// E\[log p − log π\].
    pub log_ratio: bool,
    /// log Z(log w).
    pub prior: bool,
}

/// The log-weights of a tile.
#[derive(Clone, Copy, Debug)]
pub enum Weights<'a, T> {
    /// Nobody reads them.
    Unread,
    /// All are 0.
    Free,
    /// As they are; −∞ is impossible.
    Tile(Tile<'a, T>),
}

/// One strip on its way through a fold.
#[derive(Debug)]
pub struct Strip<'a, T> {
    /// Its queries and keys.
    pub block: &'a Block,
    /// On entry θ; on return what gathered quantities are weighted by.
    pub scores: TileMut<'a, T>,
    /// log w.
    pub weights: Weights<'a, T>,
    /// Room for a tile.
    pub room: &'a mut [T],
    /// Elements from one row of `room` to the next.
    pub stride: usize,
}

/// A running state over the rows of one run of queries.
pub trait RowFold<T: Real>: Send {
    /// Folds a strip into the state of its `rows`, and turns its scores into weights. `rescale` receives
    /// by what that which was gathered with earlier weights must be multiplied. The best edge so far is
    /// kept in `highest`, where it is wanted.
    fn fold(
        &mut self,
        strip: Strip<'_, T>,
        rows: Range<usize>,
        rescale: &mut [T],
        highest: Option<&mut [Candidate<T>]>,
    );

    /// Turns the scores of a strip that is about to be folded into what best edges are ranked and drawn
    /// by: what a factor maximises. They are that already where keys are read in any order.
    fn rank(&self, _scores: TileMut<'_, T>, _rows: Range<usize>) {}

    /// Turns tangents of the scores of a strip that is about to be folded into those of log p, and adds
    /// to those of log P(no edge). Called where keys are read in order; elsewhere what tangents make of
    /// an expectation is a covariance.
    fn log_tangents(&self, _scores: Tile<'_, T>, _tangents: TileMut<'_, T>, _none: &mut [T]) {}

    /// Result, normalised, and the factors that gathered sums are to be multiplied by.
    fn finish(self: Box<Self>) -> Folded<T>;
}

/// Result of a fold over its rows.
#[derive(Debug, Default)]
pub struct Folded<T> {
    /// log Z.
    pub normalisers: Normalisers<T>,
    /// log Z(log w); empty where it is not wanted.
    pub prior: Normalisers<T>,
    /// E\[log p\]; empty where it is not wanted.
    pub log_probability: Vec<T>,
    /// E\[log p − log π\]; empty where it is not wanted.
    pub log_ratio: Vec<T>,
    /// log P(no edge); empty where every row has one.
    pub log_none: Vec<T>,
    /// Σ p.
    pub mass: Vec<T>,
    /// Factors that gathered sums are multiplied by; empty where by 1.
    pub factor: Vec<T>,
    /// log of what was taken out of the weights; empty where nothing was.
    pub log_scale: Vec<T>,
}

/// A tile on its way back: θ and f come in, ∂L/∂θ and p go out.
#[derive(Debug)]
pub struct BackwardTile<'a, T> {
    /// Its queries and keys.
    pub block: &'a Block,
    /// On entry θ, on return ∂L/∂θ.
    pub scores: TileMut<'a, T>,
    /// On entry the quantity averaged, f, less its terms in log p; on return p.
    pub quantity: TileMut<'a, T>,
    /// Coefficient of (1 − 2p) in f where edges vary one by one.
    pub quadratic: Option<Tile<'a, T>>,
    /// log w, where a KL reads it and it is not all 0.
    pub weights: Option<Tile<'a, T>>,
    /// Where keys are read in order and the prior learns: on return what a KL adds to ∂L/∂log w beside
    /// ∂L/∂θ.
    pub direct: Option<TileMut<'a, T>>,
}

/// Slopes that the rows of a tile share on the way back, by query.
#[derive(Clone, Copy, Debug)]
pub struct RowSlopes<'a, T> {
    /// log Z, or −∞ where a row takes no part.
    pub normalisers: LogPartition<'a, T>,
    /// Gradient in log p of the edges; empty where there is none.
    pub log_p: &'a [T],
    /// Gradient in −log π of the edges: the KL's; empty where there is none.
    pub log_ratio: &'a [T],
    /// Gradient in log Z.
    pub log_partition: &'a [T],
    /// Gradient in log P(no edge); empty where there is none.
    pub log_none: &'a [T],
    /// E\[f\], its terms in log p included.
    pub expected: &'a [T],
    /// That, less what multiplies p whatever the edge.
    pub centre: &'a [T],
    /// Logs of scales: what is gathered is weighted by p over its scale; empty where all are 1.
    pub log_scale: &'a [T],
}

/// Order in which the keys of a query are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Any: a key's probability depends on no running state but the normaliser.
    Any,
    /// From the last to the first, with a running state.
    LastFirst,
}

/// How the scores of a query become probabilities.
///
/// An object of this kind is what a structure whose queries (or edges) choose gives to the streaming
/// inference; all its questions, gradients and merges follow.
pub trait RowRule<T: Real>: Debug + Send + Sync {
    /// How findings over two ranges of keys merge.
    fn merge(&self) -> Merge;

    /// In which order keys are read.
    fn order(&self) -> Order {
        Order::Any
    }

    /// Whether a query may have several edges, which then vary one by one.
    fn has_many_edges(&self) -> bool {
        false
    }

    /// Whether a query may have no edge although there are possible ones.
    fn may_pick_none(&self) -> bool {
        false
    }

    /// A fold over `rows` queries that has seen nothing.
    fn fold(&self, wants: Wants, rows: usize) -> Box<dyn RowFold<T> + '_>;

    /// The same where masses are so small that weights are to be kept relative to the largest of their
    /// row; `None` where they are anyway.
    fn scaled_fold(&self, _wants: Wants, _rows: usize) -> Option<Box<dyn RowFold<T> + '_>> {
        None
    }

    /// Takes in what a query may choose beside its keys; called once, after all of them. Row r is
    /// query `place(r)` of a batch entry and head.
    fn complete(
        &self,
        _request: &Request<'_, T>,
        _finding: &mut Finding<T>,
        _place: &dyn Fn(usize) -> ((usize, usize), usize),
    ) {
    }

    /// θ → p, the normalisers known. `carry` holds the running state of each row, 0 before the first
    /// tile.
    fn probabilities(
        &self,
        scores: TileMut<'_, T>,
        normalisers: LogPartition<'_, T>,
        carry: &mut [T],
    );

    /// The backward step on one tile. `carry` holds three running states of each row, 0 before the first
    /// tile.
    fn differentiate(
        &self,
        tile: BackwardTile<'_, T>,
        slopes: RowSlopes<'_, T>,
        carry: &mut [[T; 3]],
    );

    /// log p of one edge, its score and normaliser known; `None` where it depends on other edges.
    fn log_probability(&self, score: T, max: T, log_sum: T) -> Option<T>;

    /// Whether the score of having no edge moves with those of the edges.
    fn none_follows_edges(&self) -> bool {
        false
    }

    /// Gradient in θ and in log w of having no edge, by query; empty where every query has one.
    fn none_slopes(&self, _slopes: &FactorSlopes<'_, T>) -> Vec<[f64; 2]> {
        Vec::new()
    }

    /// Learnable parameters of the structure.
    fn parameters(&self) -> Vec<Parameter> {
        Vec::new()
    }

    /// Their gradients, from those in θ and in log w of having no edge.
    fn parameter_gradients(
        &self,
        _shape: &Shape,
        _none_slopes: &[[f64; 2]],
    ) -> Vec<ParameterGradient<T>> {
        Vec::new()
    }
}

/// Slopes that the gradient of a structure's own parameters is made of, by factor.
#[derive(Debug)]
pub struct FactorSlopes<'a, T> {
    /// The sizes.
    pub shape: &'a Shape,
    /// Finding of the forward pass.
    pub finding: &'a Finding<T>,
    /// Gradient in log p.
    pub log_p: &'a [T],
    /// Gradient in log Z.
    pub log_partition: &'a [T],
    /// Gradient in −log π: the KL's. Empty where there is none.
    pub log_ratio: &'a [T],
    /// Coefficients of the prior's own marginals. Empty likewise.
    pub prior: &'a [T],
    /// Gradient in log P(no edge). Empty likewise.
    pub log_none: &'a [T],
    /// E\[f\] of each factor, its terms in log p and log w included.
    pub expected: &'a [T],
    /// f of having no edge, less those terms. Empty where it is 0.
    pub none: &'a [T],
}

impl<T: Real> Folded<T> {
    /// Moves what was found into a finding.
    pub(crate) fn into_finding(self, finding: &mut Finding<T>, wants: [Option<usize>; 2]) {
        let Self { normalisers, prior, log_probability, log_ratio, log_none, mass, .. } = self;
        finding.log_scale = self.log_scale;
        finding.normalisers = normalisers;
        finding.prior = prior;
        finding.log_none = log_none;
        finding.mass = mass;
        for (index, values) in wants.into_iter().zip([log_probability, log_ratio]) {
            if let Some(index) = index {
                let into: &mut Expectation<T> = &mut finding.linear[index];
                into.values = values;
            }
        }
    }
}
