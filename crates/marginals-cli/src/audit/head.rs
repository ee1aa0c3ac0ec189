//! Measures of one head, of one text or as means over several.

use super::distance_prior::DistancePrior;
use super::label::Label;

/// A key within this many positions of the query is its neighbour.
pub const NEIGHBOURHOOD: usize = 4;
/// Bins of the histogram of H / log n over [0, 1].
pub const HISTOGRAM_BINS: usize = 20;
/// Which quantiles of the entropy over queries are kept.
pub const QUANTILES: [f64; 5] = [0.05, 0.25, 0.5, 0.75, 0.95];

/// The measures of one head, over N queries; information in nats.
///
/// "Mean" is over all queries unless it says otherwise. n_i is the number of keys query i may pick:
/// N for an encoder, i + 1 for a decoder. A measure of tokens that the text does not have (or the
/// model's queries cannot see) is NaN. Sources are with the rules in [`super::label`].
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
    /// Key with the most mass; of several texts, in the first.
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
    /// Quantiles of the entropy over queries, at [`QUANTILES`]; of several texts, the means of theirs.
    pub entropy_quantiles: [f64; 5],
    /// How many queries have H_i / log n_i in each bin; queries with one possible key are left out.
    pub entropy_share_histogram: [usize; HISTOGRAM_BINS],
    /// Kind of head.
    pub label: Label,
    /// Mean of p(i, i + 1) over the queries that have a token after them; NaN where none can see it.
    pub next_token_mass: f64,
    /// Mean of p(i, i).
    pub same_token_mass: f64,
    /// Mean mass on the tokens that come after another occurrence of the query's token, over the
    /// queries that see such a token.
    pub induction_mass: f64,
    /// Mean mass on other occurrences of the query's token, over the queries that see one.
    pub duplicate_token_mass: f64,
    /// Share of all mass on the tokens that the tokenizer added after the first (BERT's `[SEP]`).
    pub separator_mass: f64,
    /// Share of all mass on punctuation.
    pub punctuation_mass: f64,
    /// Share of all mass on the last token.
    pub last_token_mass: f64,
    /// Largest share of all mass on one token that is neither the first, nor the last, nor added by the
    /// tokenizer, nor punctuation.
    pub heaviest_word_mass: f64,
    /// Mean KL from the prior of distance that fits best.
    pub distance_kl: f64,
    /// Share of the KL from a flat prior that this prior explains.
    pub distance_share: f64,
    /// Mean KL from the best prior of distance with a weight of its own for the heaviest key.
    pub content_kl: f64,
    /// Prior of distance that fits best; `None` where none was fitted.
    pub distance_prior: Option<DistancePrior>,
}

impl HeadMeasures {
    /// Means of one head's measures over several texts, each text counting once and those where a
    /// measure is not finite not at all. The label is the first text's, until it is given anew.
    ///
    /// # Panics
    /// If there are no texts.
    pub fn mean(texts: &[&HeadMeasures]) -> HeadMeasures {
        let first = texts[0];
        let mean = |of: &dyn Fn(&HeadMeasures) -> f64| {
            mean_and_deviation(texts.iter().map(|head| of(head))).0
        };
        let entropy = mean(&|head| head.entropy);
        let mut histogram = [0; HISTOGRAM_BINS];
        for text in texts {
            for (sum, count) in histogram.iter_mut().zip(text.entropy_share_histogram) {
                *sum += count;
            }
        }
        HeadMeasures {
            entropy,
            effective_keys: entropy.exp(),
            kl: mean(&|head| head.kl),
            log_evidence: mean(&|head| head.log_evidence),
            max_probability: mean(&|head| head.max_probability),
            first_token_mass: mean(&|head| head.first_token_mass),
            heaviest_key: first.heaviest_key,
            heaviest_key_mass: mean(&|head| head.heaviest_key_mass),
            expected_distance: mean(&|head| head.expected_distance),
            previous_token_mass: mean(&|head| head.previous_token_mass),
            neighbour_mass: mean(&|head| head.neighbour_mass),
            map_gap: mean(&|head| head.map_gap),
            value_variance: mean(&|head| head.value_variance),
            samples_for_one_percent: mean(&|head| head.samples_for_one_percent),
            entropy_quantiles: std::array::from_fn(|at| mean(&|head| head.entropy_quantiles[at])),
            entropy_share_histogram: histogram,
            label: first.label,
            next_token_mass: mean(&|head| head.next_token_mass),
            same_token_mass: mean(&|head| head.same_token_mass),
            induction_mass: mean(&|head| head.induction_mass),
            duplicate_token_mass: mean(&|head| head.duplicate_token_mass),
            separator_mass: mean(&|head| head.separator_mass),
            punctuation_mass: mean(&|head| head.punctuation_mass),
            last_token_mass: mean(&|head| head.last_token_mass),
            heaviest_word_mass: mean(&|head| head.heaviest_word_mass),
            distance_kl: mean(&|head| head.distance_kl),
            distance_share: mean(&|head| head.distance_share),
            content_kl: mean(&|head| head.content_kl),
            distance_prior: DistancePrior::commonest(texts.iter().map(|head| head.distance_prior)),
        }
    }
}

/// Mean and standard deviation (of a sample, with n − 1) of the finite among some numbers: NaN of none,
/// and a deviation of fewer than two.
pub fn mean_and_deviation(numbers: impl Iterator<Item = f64>) -> (f64, f64) {
    let finite: Vec<f64> = numbers.filter(|number| number.is_finite()).collect();
    let count = finite.len() as f64;
    let mean = finite.iter().sum::<f64>() / count;
    let squares: f64 = finite.iter().map(|number| (number - mean).powi(2)).sum();
    let deviation = match finite.len() {
        0 | 1 => f64::NAN,
        _ => (squares / (count - 1.0)).sqrt(),
    };
    (mean, deviation)
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A head for tests, of no kind.
    pub fn head() -> HeadMeasures {
        HeadMeasures {
            entropy: 0.5,
            effective_keys: 1.625,
            kl: 0.875,
            log_evidence: -12.5,
            max_probability: 0.75,
            first_token_mass: 0.125,
            heaviest_key: 1,
            heaviest_key_mass: 0.25,
            expected_distance: 31.5,
            previous_token_mass: 0.0625,
            neighbour_mass: 0.375,
            map_gap: 1.5,
            value_variance: 1234.5,
            samples_for_one_percent: 40.0,
            entropy_quantiles: [0.0; 5],
            entropy_share_histogram: [0; HISTOGRAM_BINS],
            label: Label::Mixed,
            next_token_mass: f64::NAN,
            same_token_mass: 0.25,
            induction_mass: 0.125,
            duplicate_token_mass: 0.125,
            separator_mass: f64::NAN,
            punctuation_mass: 0.25,
            last_token_mass: 0.0,
            heaviest_word_mass: 0.25,
            distance_kl: 0.75,
            distance_share: 0.25,
            content_kl: 0.5,
            distance_prior: Some(DistancePrior::Geometric { rho: 0.125 }),
        }
    }

    /// `numpy.mean` and `numpy.std(ddof=1)` of [1, 2, 4].
    #[test]
    fn numbers_that_are_not_finite_do_not_count() {
        let (mean, deviation) = mean_and_deviation([1.0, f64::NAN, 2.0, 4.0].into_iter());
        assert!((mean - 7.0 / 3.0).abs() < 1e-15, "{mean}");
        assert!((deviation - 1.527_525_231_651_947).abs() < 1e-15, "{deviation}");
        let (mean, deviation) = mean_and_deviation([3.0].into_iter());
        assert!(mean == 3.0 && deviation.is_nan());
        let (mean, deviation) = mean_and_deviation([f64::NAN].into_iter());
        assert!(mean.is_nan() && deviation.is_nan());
    }
}
