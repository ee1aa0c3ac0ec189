//! `--effects`: what each head is worth, in nats per token of the loss.

use marginals_burn::pretrained::effects::{Change, Effects, Predictions};
use marginals_burn::{ModelError, Pretrained, Tokens};
use serde::Serialize;
use serde_json::Value;

use super::numbers::{Numbers, tidy};
use crate::progress;

/// Next tokens that are told of each token.
const LIKELIEST: usize = 3;
/// The change by which heads are ordered.
const ORDER: &str = "mean_output";
/// Seed of the draws.
const SEED: u64 = 0;

/// The changes that are made to every head.
#[derive(Clone, Copy, Debug)]
pub struct Changes {
    /// Keys drawn for each query.
    pub draws: usize,
    /// Positions of the window, the query's own included.
    pub window: usize,
}

/// A change, and how every output calls it.
struct NamedChange {
    section: ChangeSection,
    change: Change,
}

impl Changes {
    /// All of them, in the order in which they are shown.
    fn named(self) -> [NamedChange; 6] {
        let Self { draws, window } = self;
        let named = |name, column: &str, definition: &str, change| {
            let (column, definition) = (column.to_owned(), definition.to_owned());
            NamedChange { section: ChangeSection { name, column, definition }, change }
        };
        [
            named(
                "likeliest_key",
                "likeliest",
                "each query reads only its likeliest key",
                Change::LikeliestKey,
            ),
            named(
                "samples",
                &format!("{draws} draws"),
                &format!("each query reads the mean of {draws} keys drawn from its posterior"),
                Change::Samples { count: draws, seed: SEED },
            ),
            named("zero", "zero", "the head's output is 0 (zero ablation)", Change::Zero),
            named(
                "mean_output",
                "mean",
                "the head's output is its mean over the queries (mean ablation)",
                Change::MeanOutput,
            ),
            named(
                "without_sink",
                "no sink",
                "the posterior without the key of most mass, renormalised",
                Change::WithoutSink,
            ),
            named(
                "window",
                &format!("near {window}"),
                &format!(
                    "the posterior over keys fewer than {window} positions away, renormalised"
                ),
                Change::Window(window),
            ),
        ]
    }
}

/// Effects of one model over its texts.
#[derive(Clone, Debug, Serialize)]
pub struct EffectsSection {
    /// Loss of the model as it is: mean of −log P(next token), in nats.
    pub loss: f64,
    /// Tokens that are predicted.
    pub predicted_tokens: usize,
    /// Seed of the draws.
    pub seed: u64,
    pub changes: Vec<ChangeSection>,
    /// Rank correlation (Spearman) over heads of the soft–hard gap, `map_gap`, with the effect of
    /// `likeliest_key`; null for fewer than 3 heads or where one is the same everywhere.
    pub gap_rank_correlation: Option<f64>,
    /// Predictions on the first text.
    pub predictions: Vec<PredictionSection>,
}

/// Definition of a change.
#[derive(Clone, Debug, Serialize)]
pub struct ChangeSection {
    pub name: &'static str,
    /// Its title in a table.
    #[serde(skip)]
    pub column: String,
    pub definition: String,
}

/// Prediction after one token.
#[derive(Clone, Debug, Serialize)]
pub struct PredictionSection {
    /// −log P of the token that comes next, in nats; null after the last.
    pub loss: Option<f64>,
    /// The likeliest next tokens, best first: piece and probability.
    pub likeliest: Vec<(String, f64)>,
}

/// Effects of a model on one text after the other.
#[derive(Debug)]
pub struct Measured {
    /// Effects of every head, in the order of the document's, and change; summed over predicted tokens.
    sums: Vec<Vec<f64>>,
    loss: f64,
    tokens: usize,
    predictions: Vec<PredictionSection>,
}

/// Measures every head on every text. `None` where the model is no language model, or no text has a second
/// token.
///
/// # Errors
/// [`ModelError`], when a change cannot be made.
pub fn measure(
    model: &Pretrained,
    texts: &[Tokens],
    changes: Changes,
) -> Result<Option<Measured>, ModelError> {
    let transformer = &model.transformer;
    let named = changes.named();
    let wanted: Vec<Change> = named.iter().map(|change| change.change).collect();
    let heads = transformer.layers() * transformer.heads();
    let mut found = Measured {
        sums: vec![vec![0.0; wanted.len()]; heads],
        loss: 0.0,
        tokens: 0,
        predictions: Vec::new(),
    };
    let bar = progress::start(heads * wanted.len() * texts.len(), "effect");
    for (index, tokens) in texts.iter().enumerate() {
        let Some(effects) = Effects::new(transformer, tokens)? else { continue };
        if index == 0 {
            found.predictions = predictions(model, &effects.predictions(LIKELIEST)?);
        }
        let predicted = tokens.len() - 1;
        found.loss += effects.loss() * predicted as f64;
        found.tokens += predicted;
        let count = || {
            bar.inc(1);
            true
        };
        for layer in 0..transformer.layers() {
            let own = effects.of_layer(layer, &wanted, &count)?.expect("nothing stops it");
            let sums = &mut found.sums[layer * transformer.heads()..];
            for (sums, own) in sums.iter_mut().zip(own) {
                sums.iter_mut().zip(own).for_each(|(sum, x)| *sum += x * predicted as f64);
            }
        }
    }
    bar.finish_and_clear();
    Ok((found.tokens > 0).then_some(found))
}

fn predictions(model: &Pretrained, found: &Predictions) -> Vec<PredictionSection> {
    let likeliest = found.likeliest.iter().enumerate().map(|(token, likeliest)| {
        let piece = |id: u32| model.tokenizer.piece(id).unwrap_or_else(|| format!("token {id}"));
        PredictionSection {
            loss: found.losses.get(token).copied().map(tidy),
            likeliest: likeliest
                .iter()
                .map(|&(id, log_p)| (piece(id), tidy(log_p.exp())))
                .collect(),
        }
    });
    likeliest.collect()
}

impl Measured {
    /// Effects of every head by change, and what is said of them together; `gaps` are the heads' soft–hard
    /// gaps.
    pub fn sections(self, changes: Changes, gaps: &[f64]) -> (Vec<Numbers>, EffectsSection) {
        let named = changes.named();
        let tokens = self.tokens as f64;
        let hard: Vec<f64> = self.sums.iter().map(|sums| sums[0]).collect();
        let of_head = |sums: &Vec<f64>| -> Numbers {
            let effects = named.iter().zip(sums);
            let named = effects
                .map(|(change, sum)| (change.section.name.to_owned(), tidy(sum / tokens).into()));
            named.collect()
        };
        let heads = self.sums.iter().map(of_head).collect();
        let section = EffectsSection {
            loss: tidy(self.loss / tokens),
            predicted_tokens: self.tokens,
            seed: SEED,
            gap_rank_correlation: rank_correlation(gaps, &hard).map(tidy),
            predictions: self.predictions,
            changes: named.into_iter().map(|change| change.section).collect(),
        };
        (heads, section)
    }
}

impl EffectsSection {
    /// Effects of a head in the order of the changes, and the one that heads are ordered by.
    pub fn of_head(&self, head: &Numbers) -> (Vec<f64>, f64) {
        let number = |name: &str| head.get(name).and_then(Value::as_f64).unwrap_or(f64::NAN);
        (self.changes.iter().map(|change| number(change.name)).collect(), number(ORDER))
    }
}

/// Spearman's rank correlation; equal numbers share the mean of their ranks.
fn rank_correlation(a: &[f64], b: &[f64]) -> Option<f64> {
    if a.len() < 3 || a.iter().chain(b).any(|x| x.is_nan()) {
        return None;
    }
    let [a, b] = [a, b].map(ranks);
    let middle = (a.len() - 1) as f64 / 2.0;
    let product = |a: &[f64], b: &[f64]| -> f64 {
        a.iter().zip(b).map(|(x, y)| (x - middle) * (y - middle)).sum()
    };
    let sizes = (product(&a, &a) * product(&b, &b)).sqrt();
    (sizes > 0.0).then(|| product(&a, &b) / sizes)
}

fn ranks(numbers: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..numbers.len()).collect();
    order.sort_by(|&a, &b| numbers[a].total_cmp(&numbers[b]));
    let mut ranks = vec![0.0; numbers.len()];
    let mut first = 0;
    while first < order.len() {
        let equal = order[first..].iter().take_while(|&&at| numbers[at] == numbers[order[first]]);
        let count = equal.count();
        for &at in &order[first..first + count] {
            ranks[at] = first as f64 + (count - 1) as f64 / 2.0;
        }
        first += count;
    }
    ranks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_correlated() {
        let up = [1.0, 10.0, 100.0, 1e9];
        let down = [0.0, -1.0, -1.5, -7.0];
        assert_eq!(rank_correlation(&up, &up), Some(1.0));
        assert_eq!(rank_correlation(&up, &down), Some(-1.0));
        // Ranks 0, 1.5, 1.5, 3 against 0, 1, 2, 3: 4.5 / √(4.5 · 5).
        let tied = rank_correlation(&[1.0, 2.0, 2.0, 3.0], &up).unwrap();
        assert!((tied - 0.948_683_298_050_513_8).abs() < 1e-15, "{tied}");
        assert_eq!(rank_correlation(&[1.0; 4], &up), None);
        assert_eq!(rank_correlation(&[1.0, f64::NAN, 2.0, 3.0], &up), None);
        assert_eq!(rank_correlation(&[1.0, 2.0], &[1.0, 2.0]), None);
    }
}
