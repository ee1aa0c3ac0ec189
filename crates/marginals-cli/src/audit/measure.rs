//! Measures of each head: answers of its posterior, averaged over the queries.

use std::collections::HashMap;
use std::ops::Range;

use marginals::infer::EdgeFunction;
use marginals::question::{
    ColumnMass, Entropy, ExpectedDistance, ExpectedOf, Kl, LogEvidence, Map, MaxProbability, Mean,
    ValueVariance,
};
use marginals::{Block, TileMut};
use marginals_burn::{Attend, Layer, Visible};
use ndarray::{Array3, Array4, ArrayView1};
use rayon::prelude::*;

use super::label::Label;
use super::sparse::{SparsePosteriors, likeliest};
use crate::quantile::quantile;

/// Share of the output's size that `samples_for_one_percent` allows as error.
const SAMPLING_ERROR: f64 = 0.01;
/// A key within this many positions of the query is its neighbour.
pub const NEIGHBOURHOOD: usize = 4;
/// Bins of the histogram of H / log n over [0, 1].
pub const HISTOGRAM_BINS: usize = 20;
/// Which quantiles of the entropy over queries are kept.
pub const QUANTILES: [f64; 5] = [0.05, 0.25, 0.5, 0.75, 0.95];

/// The measures of one head, over N queries; information in nats.
///
/// "Mean" is over all queries unless it says otherwise. n_i is the number of keys query i may pick:
/// N for an encoder, i + 1 for a decoder.
#[derive(Clone, Debug)]
pub struct HeadMeasures {
    /// Mean entropy H of the posterior over keys.
    pub entropy: f64,
    /// exp of the mean entropy: the effective number of keys of a typical query.
    pub effective_keys: f64,
    /// Mean KL(posterior ‖ prior), what the content adds. Where the prior is uniform over n_i keys it
    /// is log n_i − H_i.
    pub kl: f64,
    /// Mean log-evidence, log Σ_j π_j ψ(q_i, k_j).
    pub log_evidence: f64,
    /// Mean of the largest probability of a row.
    pub max_probability: f64,
    /// Share of all mass that lies on the first token.
    pub first_token_mass: f64,
    /// Key with the most mass.
    pub heaviest_key: usize,
    /// Share of all mass that lies on it.
    pub heaviest_key_mass: f64,
    /// Mean of E|i − j|, in tokens.
    pub expected_distance: f64,
    /// Mean of p(i, i − 1) over the queries that have a token before them.
    pub previous_token_mass: f64,
    /// Mean mass within [`NEIGHBOURHOOD`] positions, the query's own included.
    pub neighbour_mass: f64,
    /// Mean of ‖E v − v_MAP‖ / ‖E v‖: what picking only the likeliest key would change.
    pub map_gap: f64,
    /// Mean of E‖v − E v‖², summed over coordinates.
    pub value_variance: f64,
    /// S = mean E‖v − E v‖² / (0.01² · mean ‖E v‖²): with S independent draws per query in place of
    /// the mean, the root-mean-square error of the head's output is 1% of its size.
    pub samples_for_one_percent: f64,
    /// Quantiles of the entropy over queries, at [`QUANTILES`].
    pub entropy_quantiles: [f64; 5],
    /// How many queries have H_i / log n_i in each bin; queries with one possible key are left out.
    pub entropy_share_histogram: [usize; HISTOGRAM_BINS],
    /// Kind of head.
    pub label: Label,
}

/// The likeliest keys of one query in every layer and head, best first.
#[derive(Clone, Debug)]
pub struct QueryPosterior {
    /// Position of the query.
    pub query: usize,
    /// `[layer][head]`: key and probability.
    pub heads: Vec<Vec<Vec<(usize, f64)>>>,
}

/// Collects the measures of every head while the model runs.
pub struct Collector<'progress> {
    /// `[layer][head]`.
    pub layers: Vec<Vec<HeadMeasures>>,
    /// One entry per chosen query.
    pub queries: Vec<QueryPosterior>,
    /// Of every query, the keys that hold most of its mass.
    pub sparse: SparsePosteriors,
    top_keys: usize,
    progress: Box<dyn FnMut(usize) + 'progress>,
}

impl<'progress> Collector<'progress> {
    /// Keeps the `top_keys` likeliest keys of each of the chosen `queries`, and in `sparse`, which asks
    /// for as many at least, those of all; `progress` is told how many layers are done.
    pub fn new(
        queries: &[usize],
        top_keys: usize,
        sparse: SparsePosteriors,
        progress: impl FnMut(usize) + 'progress,
    ) -> Self {
        let queries =
            queries.iter().map(|&query| QueryPosterior { query, heads: Vec::new() }).collect();
        Collector { layers: Vec::new(), queries, sparse, top_keys, progress: Box::new(progress) }
    }
}

impl Attend for Collector<'_> {
    fn attend(&mut self, layer: &Layer<'_>) -> Result<Array4<f32>, String> {
        let told = |error: marginals::Error| error.to_string();
        let (mean, variance, entropy, kl, log_evidence, near, max, map, columns, distance, top) =
            layer
                .ask((
                    Mean(layer.values),
                    ValueVariance(layer.values),
                    Entropy,
                    Kl,
                    LogEvidence,
                    ExpectedOf(NEAR),
                    MaxProbability,
                    Map,
                    ColumnMass,
                    ExpectedDistance,
                    self.sparse.question(),
                ))
                .map_err(told)?;
        let heads = layer.queries.dim().1;
        let measures = (0..heads)
            .into_par_iter()
            .map(|head| {
                let row = |answer: &Array3<f32>| mean_of(answer.slice(ndarray::s![0, head, ..]));
                let near = |index: usize| {
                    near.slice(ndarray::s![0, head, .., index])
                        .iter()
                        .copied()
                        .map(f64::from)
                        .sum::<f64>()
                };
                let nodes = layer.queries.dim().2;
                let hard = Hardness::of(layer, head, &mean, &variance, &map);
                let spread = Spread::of(layer, head, &entropy);
                let (heaviest_key, heaviest_key_mass, first_token_mass) =
                    columns_of(columns.slice(ndarray::s![0, head, ..]));
                let entropy = row(&entropy);
                let mut measures = HeadMeasures {
                    entropy,
                    effective_keys: entropy.exp(),
                    kl: row(&kl),
                    log_evidence: row(&log_evidence),
                    max_probability: row(&max),
                    first_token_mass,
                    heaviest_key,
                    heaviest_key_mass,
                    expected_distance: row(&distance),
                    previous_token_mass: near(0) / (nodes.max(2) - 1) as f64,
                    neighbour_mass: near(1) / nodes as f64,
                    map_gap: hard.map_gap,
                    value_variance: hard.value_variance,
                    samples_for_one_percent: hard.samples,
                    entropy_quantiles: spread.quantiles,
                    entropy_share_histogram: spread.histogram,
                    label: Label::Content,
                };
                measures.label = Label::of(&measures);
                measures
            })
            .collect();
        self.layers.push(measures);

        for chosen in &mut self.queries {
            let heads = (0..heads)
                .map(|head| likeliest(&top, head, chosen.query).take(self.top_keys).collect());
            chosen.heads.push(heads.collect());
        }
        self.sparse.add(&top);
        (self.progress)(self.layers.len());
        Ok(mean)
    }
}

fn mean_of(row: ArrayView1<'_, f32>) -> f64 {
    row.iter().copied().map(f64::from).sum::<f64>() / row.len() as f64
}

/// The heaviest key, its share of the mass, and the first key's share.
fn columns_of(mass: ArrayView1<'_, f32>) -> (usize, f64, f64) {
    let queries = mass.len() as f64;
    let mut heaviest = 0;
    for (key, column) in mass.iter().enumerate() {
        if *column > mass[heaviest] {
            heaviest = key;
        }
    }
    (heaviest, f64::from(mass[heaviest]) / queries, f64::from(mass[0]) / queries)
}

fn visible_keys(layer: &Layer<'_>, query: usize) -> Range<usize> {
    match layer.visible() {
        Visible::All => 0..layer.keys.dim().2,
        Visible::Before => 0..query + 1,
    }
}

fn key_head(layer: &Layer<'_>, head: usize) -> usize {
    head / (layer.queries.dim().1 / layer.keys.dim().1)
}

/// The edges near the diagonal: to the key just before, and within [`NEIGHBOURHOOD`].
const NEAR: &[&dyn EdgeFunction<f32>] = &[
    &Near { behind: 1, ahead: -1 },
    &Near { behind: NEIGHBOURHOOD, ahead: NEIGHBOURHOOD as isize },
];

/// Whether a key lies at most so far behind its query, and at most so far ahead of it.
#[derive(Debug)]
struct Near {
    behind: usize,
    ahead: isize,
}

impl EdgeFunction<f32> for Near {
    fn fill(&self, block: &Block, mut values: TileMut<'_, f32>) {
        for (row, query) in block.queries.clone().enumerate() {
            let last = query.checked_add_signed(self.ahead);
            let near = |key| key >= query.saturating_sub(self.behind) && Some(key) <= last;
            for (value, key) in values.row_mut(row).iter_mut().zip(block.keys.clone()) {
                *value = f32::from(u8::from(near(key)));
            }
        }
    }
}

/// Loss by a hard choice, or by sampling.
struct Hardness {
    map_gap: f64,
    value_variance: f64,
    samples: f64,
}

impl Hardness {
    fn of(
        layer: &Layer<'_>,
        head: usize,
        mean: &Array4<f32>,
        variance: &Array4<f32>,
        map: &Array3<i64>,
    ) -> Self {
        let nodes = layer.queries.dim().2;
        let key_head = key_head(layer, head);
        let (mut gap, mut scatter, mut size) = (0.0, 0.0, 0.0);
        for query in 0..nodes {
            let soft = mean.slice(ndarray::s![0, head, query, ..]);
            let squared = |x: &f32| f64::from(*x) * f64::from(*x);
            let soft_square: f64 = soft.iter().map(squared).sum();
            // "No edge" cannot win where every query picks one key; its output would be zero.
            let difference = match usize::try_from(map[[0, head, query]]) {
                Ok(key) => {
                    let hard = layer.values.slice(ndarray::s![0, key_head, key, ..]);
                    soft.iter().zip(hard).map(|(a, b)| squared(&(a - b))).sum()
                }
                Err(_) => soft_square,
            };
            // Both norms are 0 where every value is: nothing is lost then.
            if soft_square > 0.0 {
                gap += (difference / soft_square).sqrt();
            }
            let row = variance.slice(ndarray::s![0, head, query, ..]);
            scatter += row.iter().copied().map(f64::from).sum::<f64>();
            size += soft_square;
        }
        Hardness {
            map_gap: gap / nodes as f64,
            value_variance: scatter / nodes as f64,
            samples: scatter / (SAMPLING_ERROR * SAMPLING_ERROR * size),
        }
    }
}

/// How the entropy varies from query to query.
struct Spread {
    quantiles: [f64; 5],
    histogram: [usize; HISTOGRAM_BINS],
}

impl Spread {
    fn of(layer: &Layer<'_>, head: usize, entropy: &Array3<f32>) -> Self {
        let row = entropy.slice(ndarray::s![0, head, ..]);
        let mut histogram = [0; HISTOGRAM_BINS];
        for (query, entropy) in row.iter().enumerate() {
            let possible = visible_keys(layer, query).len();
            if possible > 1 && entropy.is_finite() {
                let share = f64::from(*entropy) / (possible as f64).ln();
                let bin = (share * HISTOGRAM_BINS as f64) as usize;
                histogram[bin.min(HISTOGRAM_BINS - 1)] += 1;
            }
        }
        let mut sorted: Vec<f64> = row.iter().copied().map(f64::from).collect();
        sorted.sort_unstable_by(f64::total_cmp);
        Spread { quantiles: QUANTILES.map(|share| quantile(&sorted, share)), histogram }
    }
}

impl Label {
    /// The label of a head with these measures. Measures that are NaN satisfy no rule.
    pub fn of(measures: &HeadMeasures) -> Label {
        if measures.heaviest_key_mass >= 0.5 {
            Label::Sink
        } else if measures.previous_token_mass >= 0.5 {
            Label::PreviousToken
        } else if measures.neighbour_mass >= 0.5 {
            Label::Local
        } else if measures.kl <= std::f64::consts::LN_2 {
            Label::Diffuse
        } else {
            Label::Content
        }
    }
}

/// How many heads carry each label, in the order of [`Label::ALL`].
pub fn label_counts(layers: &[Vec<HeadMeasures>]) -> Vec<(Label, usize)> {
    let mut counts: HashMap<Label, usize> = HashMap::new();
    for measures in layers.iter().flatten() {
        *counts.entry(measures.label).or_default() += 1;
    }
    Label::ALL.map(|label| (label, counts.get(&label).copied().unwrap_or(0))).to_vec()
}
