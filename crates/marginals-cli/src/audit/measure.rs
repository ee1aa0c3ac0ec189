//! Measures of each head: answers of its posterior, averaged over the queries.

use std::collections::HashMap;

use marginals::question::{
    ColumnMass, Entropy, ExpectedOf, Kl, LogEvidence, Map, MaxProbability, Mean, QueryMass,
    ValueVariance,
};
use marginals::structure::AnyStructure;
use marginals_burn::{Attend, Layer};
use ndarray::{Array3, Array4, Axis};
use rayon::prelude::*;

use super::distance_prior::{Evidence, Fit};
use super::head::QUANTILES;
pub use super::head::{HISTOGRAM_BINS, HeadMeasures};
use super::label::Label;
use super::relations::{Relations, Sums};
use super::rule::label_of;
use super::sparse::{SparsePosteriors, likeliest};
use crate::quantile::quantile;

/// Share of the output's size that `samples_for_one_percent` allows as error.
const SAMPLING_ERROR: f64 = 0.01;

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
    relations: &'progress [Relations],
    top_keys: usize,
    progress: Box<dyn FnMut(usize) + 'progress>,
}

impl<'progress> Collector<'progress> {
    /// Reads a text of these relations, one for each kind of layer. Keeps the `top_keys` likeliest keys of each of the chosen
    /// `queries`, and in `sparse`, which asks for as many at least, those of all; `progress` is told how
    /// many layers are done.
    pub fn new(
        relations: &'progress [Relations],
        queries: &[usize],
        top_keys: usize,
        sparse: SparsePosteriors,
        progress: impl FnMut(usize) + 'progress,
    ) -> Self {
        let queries =
            queries.iter().map(|&query| QueryPosterior { query, heads: Vec::new() }).collect();
        let progress = Box::new(progress);
        Collector { layers: Vec::new(), queries, sparse, relations, top_keys, progress }
    }
}

impl Attend for Collector<'_> {
    fn attend(&mut self, layer: &Layer<'_>) -> Result<Array4<f32>, String> {
        let told = |error: marginals::Error| error.to_string();
        let of_layer = |relations: &&Relations| relations.visible() == layer.visible();
        let relations = (self.relations.iter().find(of_layer))
            .ok_or("its queries see other keys than the transformer says of this layer")?;
        let functions = relations.functions();
        let (mean, variance, entropy, kl, log_evidence, edges, max, map, columns, mass, top) =
            layer
                .ask((
                    Mean(layer.values),
                    ValueVariance(layer.values),
                    Entropy,
                    Kl,
                    LogEvidence,
                    ExpectedOf(&functions),
                    MaxProbability,
                    Map,
                    ColumnMass,
                    QueryMass,
                    self.sparse.question(),
                ))
                .map_err(told)?;
        let heads = layer.queries.dim().1;
        let picks = picks_keys(&layer.model.structure);
        let measures = (0..heads)
            .into_par_iter()
            .map(|head| {
                let of = |answer: &Array3<f32>| -> Vec<f64> {
                    let row = answer.slice(ndarray::s![0, head, ..]);
                    row.iter().copied().map(f64::from).collect()
                };
                let row = |answer: &Array3<f32>| mean_of(&of(answer));
                let sums: Vec<f64> = edges
                    .slice(ndarray::s![0, head, .., ..])
                    .axis_iter(Axis(1))
                    .map(|function| function.iter().copied().map(f64::from).sum())
                    .collect();
                let sums = relations.sums(&sums);
                let hard = Hardness::of(layer, head, &mean, &variance, &map);
                let spread = Spread::of(relations, head, &entropy);
                let columns = of(&columns);
                let fit = picks
                    .then(|| fit(relations, &of(&entropy), of(&mass), &sums, &columns))
                    .flatten();
                let nodes = relations.nodes() as f64;
                let on = |keys: &[usize]| match keys.is_empty() {
                    true => f64::NAN,
                    false => keys.iter().map(|&key| columns[key]).sum::<f64>() / nodes,
                };
                let heaviest_key = heaviest(&columns);
                let entropy = row(&entropy);
                let mut measures = HeadMeasures {
                    entropy,
                    effective_keys: entropy.exp(),
                    kl: row(&kl),
                    log_evidence: row(&log_evidence),
                    max_probability: row(&max),
                    first_token_mass: on(&[0]),
                    heaviest_key,
                    heaviest_key_mass: on(&[heaviest_key]),
                    expected_distance: sums.distance / nodes,
                    previous_token_mass: sums.previous_token / (nodes - 1.0).max(1.0),
                    neighbour_mass: sums.neighbours / nodes,
                    map_gap: hard.map_gap,
                    value_variance: hard.value_variance,
                    samples_for_one_percent: hard.samples,
                    entropy_quantiles: spread.quantiles,
                    entropy_share_histogram: spread.histogram,
                    label: Label::Mixed,
                    next_token_mass: match relations.next_token_queries {
                        0 => f64::NAN,
                        queries => sums.next_token / queries as f64,
                    },
                    same_token_mass: sums.within[0] / nodes,
                    induction_mass: per(sums.induction, relations.induction_queries),
                    duplicate_token_mass: per(sums.duplicates, relations.duplicate_queries),
                    separator_mass: on(&relations.separators),
                    punctuation_mass: on(&relations.punctuation),
                    last_token_mass: on(&[relations.nodes() - 1]),
                    distance_kl: fit.map_or(f64::NAN, |fit| fit.distance_kl),
                    distance_share: fit.map_or(f64::NAN, |fit| match fit.flat_kl > 0.0 {
                        true => 1.0 - fit.distance_kl / fit.flat_kl,
                        false => 0.0,
                    }),
                    content_kl: fit.map_or(f64::NAN, |fit| fit.sink_kl),
                    distance_prior: fit.map(|fit| fit.prior),
                };
                measures.label = label_of(&measures);
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

fn mean_of(row: &[f64]) -> f64 {
    row.iter().sum::<f64>() / row.len() as f64
}

/// Mean over the queries that take part; NaN where they are too few.
fn per(sum: f64, queries: Option<usize>) -> f64 {
    queries.map_or(f64::NAN, |queries| sum / queries as f64)
}

/// The key with the most mass, of several the first.
fn heaviest(columns: &[f64]) -> usize {
    let mut heaviest = 0;
    for (key, column) in columns.iter().enumerate() {
        if *column > columns[heaviest] {
            heaviest = key;
        }
    }
    heaviest
}

/// Whether each query picks one key, or none: whether its row is a distribution over keys.
fn picks_keys(structure: &AnyStructure) -> bool {
    matches!(
        structure,
        AnyStructure::EachQueryPicksOne(_)
            | AnyStructure::EachQueryPicksAtMostOne(_)
            | AnyStructure::NearestAccepted(_)
    )
}

/// Best priors of distance of one head.
fn fit(
    relations: &Relations,
    entropy: &[f64],
    mass: Vec<f64>,
    sums: &Sums,
    columns: &[f64],
) -> Option<Fit> {
    // H of all outcomes is that of whether there is a key, and of which where there is one.
    let part = |p: f64| if p > 0.0 { p * p.ln() } else { 0.0 };
    let of_key = |(entropy, mass): (&f64, &f64)| entropy + part(*mass) + part(1.0 - mass);
    let sink = heaviest(columns);
    relations.distances.fit(&Evidence {
        entropy: entropy.iter().zip(&mass).map(of_key).sum(),
        mass,
        distance: sums.distance,
        logarithm: sums.logarithm,
        within: sums.within.clone(),
        sink,
        sink_mass: columns[sink],
    })
}

fn key_head(layer: &Layer<'_>, head: usize) -> usize {
    head / (layer.queries.dim().1 / layer.keys.dim().1)
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
    fn of(relations: &Relations, head: usize, entropy: &Array3<f32>) -> Self {
        let row = entropy.slice(ndarray::s![0, head, ..]);
        let mut histogram = [0; HISTOGRAM_BINS];
        for (query, entropy) in row.iter().enumerate() {
            let possible = relations.distances.visible(query).len();
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

/// How many heads carry each label, in the order of [`Label::ALL`].
pub fn label_counts(layers: &[Vec<HeadMeasures>]) -> Vec<(Label, usize)> {
    let mut counts: HashMap<Label, usize> = HashMap::new();
    for measures in layers.iter().flatten() {
        *counts.entry(measures.label).or_default() += 1;
    }
    Label::ALL.map(|label| (label, counts.get(&label).copied().unwrap_or(0))).to_vec()
}
