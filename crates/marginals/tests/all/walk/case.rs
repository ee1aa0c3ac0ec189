//! What a generated walk is, and every path of it written out.

use marginals::structure::Walk;
use marginals_testkit::compare::Tolerance;
use marginals_testkit::generate::{Case, Random, Recipe, strategy::Pantry};
use marginals_testkit::{Head, Structure, ValueKind, enumerate};
use ndarray::Array2;

/// Agreement demanded in `f64`.
pub const EXACT: Tolerance = Tolerance { relative: 1e-10, absolute: 1e-10 };

/// The structures one can walk on, at the given sizes.
pub fn pantry(sizes: Vec<usize>) -> Pantry {
    Pantry {
        structures: vec![Structure::EachQueryPicksOne, Structure::EachQueryPicksAtMostOne],
        sizes,
        ..Pantry::tiny(Structure::EachQueryPicksOne)
    }
}

/// A recipe whose queries and keys are the same nodes.
pub fn self_attention(recipe: &Recipe) -> Recipe {
    Recipe {
        keys: recipe.queries,
        query_offset: 0,
        value_kind: ValueKind::Gather,
        ..recipe.clone()
    }
}

/// Weights over at most `hops` hops: one row, or one per head; some of them 0 where `zeros`.
pub fn weights(recipe: &Recipe, hops: usize, zeros: bool, random: &mut Random) -> Array2<f64> {
    let rows = if random.chance(0.5) { 1 } else { recipe.heads() };
    let hops = random.integer(1, hops as i64) as usize;
    let mut weights = Array2::from_shape_fn((rows, hops + 1), |_| {
        if zeros && random.chance(0.25) { 0.0 } else { random.between(0.1, 3.0) }
    });
    for mut row in weights.rows_mut() {
        if row.sum() == 0.0 {
            row[hops] = 1.0;
        }
    }
    weights
}

/// P(h), from the definition.
pub fn normalised(weights: &Array2<f64>) -> Array2<f64> {
    let mut p = weights.clone();
    for mut row in p.rows_mut() {
        let sum = row.sum();
        row.mapv_inplace(|x| x / sum);
    }
    p
}

/// The row of `weights` that a head has.
pub fn row_of(weights: &Array2<f64>, head: usize) -> usize {
    if weights.nrows() == 1 { 0 } else { head }
}

/// The library's walk; from logarithms where `logs`.
pub fn walk(weights: &Array2<f64>, logs: bool) -> Result<Walk, String> {
    match logs {
        false => Walk::per_head(weights.clone()),
        true => Walk::from_log_weights_per_head(weights.mapv(f64::ln)),
    }
    .map_err(|e| e.to_string())
}

/// The heads of a case, batch entry by batch entry, with the index of each head.
pub fn heads(recipe: &Recipe, case: &Case) -> Vec<(usize, Head)> {
    (0..recipe.batch)
        .flat_map(|b| (0..recipe.heads()).map(move |h| (b, h)))
        .map(|(b, h)| (h, case.model.head(&case.inputs, b, h)))
        .collect()
}

/// One walk: every node after the start, `None` once it is lost.
pub struct Path {
    pub nodes: Vec<Option<usize>>,
    pub p: f64,
    /// Under picks by the prior alone.
    pub prior: f64,
}

impl Path {
    pub fn hops(&self) -> usize {
        self.nodes.len()
    }

    /// Where it ends.
    pub fn end(&self, start: usize) -> Option<usize> {
        self.nodes.last().copied().unwrap_or(Some(start))
    }

    /// The edge of a step, where the walk makes it and is not lost.
    pub fn edge(&self, start: usize, step: usize) -> Option<(usize, usize)> {
        let from = if step == 0 { Some(start) } else { *self.nodes.get(step - 1)? };
        Some((from?, (*self.nodes.get(step)?)?))
    }
}

/// The picks of every query and their probabilities: what enumeration says, and nothing for certain
/// where nothing is possible.
fn picks(head: &Head) -> Vec<Vec<(Option<usize>, f64)>> {
    let answers = enumerate::answer(head);
    let of_row = |row: &Vec<(i64, f64)>| match row.is_empty() {
        true => vec![(None, 1.0)],
        false => row.iter().map(|&(j, p)| (usize::try_from(j).ok(), p)).collect(),
    };
    answers.ranking.iter().map(of_row).collect()
}

/// Every walk from every start with its probability: the definition itself.
pub fn every_path(head: &Head, hops: &[f64]) -> Vec<Vec<Path>> {
    let posterior = picks(head);
    let mut by_prior = head.clone();
    by_prior.log_potential.mapv_inplace(|x| if x == f64::NEG_INFINITY { x } else { 0.0 });
    let prior = picks(&by_prior);
    let prior_of = |from: usize, to: Option<usize>| {
        prior[from].iter().find(|(j, _)| *j == to).map_or(0.0, |(_, p)| *p)
    };
    let extend = |start: usize, path: &Path| -> Vec<Path> {
        let more = |to, p, prior| {
            let nodes = path.nodes.iter().copied().chain([to]).collect();
            Path { nodes, p: path.p * p, prior: path.prior * prior }
        };
        match path.end(start) {
            None => vec![more(None, 1.0, 1.0)],
            Some(from) => {
                let picks = posterior[from].iter();
                picks.map(|&(to, p)| more(to, p, prior_of(from, to))).collect()
            }
        }
    };
    (0..head.queries())
        .map(|start| {
            let mut all = Vec::new();
            let mut paths = vec![Path { nodes: Vec::new(), p: 1.0, prior: 1.0 }];
            for &p in hops {
                let next = paths.iter().flat_map(|path| extend(start, path)).collect();
                all.extend(paths.into_iter().map(|path| Path {
                    p: p * path.p,
                    prior: p * path.prior,
                    ..path
                }));
                paths = next;
            }
            all
        })
        .collect()
}
