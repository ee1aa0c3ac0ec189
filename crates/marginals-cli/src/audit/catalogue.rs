//! The measures by name: what the table, the JSON and the report all show.

use super::measure::HeadMeasures;

/// A measure of a head, as every output names it.
pub struct Measure {
    /// Its name in `audit.json`.
    pub name: &'static str,
    /// Its title in the report.
    pub title: &'static str,
    /// Its column in the terminal, with that column's width and digits after the point.
    pub column: (&'static str, usize, usize),
    /// Definition, in one sentence.
    pub definition: &'static str,
    /// How it is laid on a scale.
    pub scale: Scale,
    /// Reads it off a head.
    pub of: fn(&HeadMeasures) -> f64,
}

/// How a map colours a measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// From 0 to the largest value.
    FromZero,
    /// From the smallest to the largest.
    Range,
    /// From the smallest to the largest, by their logarithms.
    Logarithmic,
}

/// Every measure that is one number per head, in the order they are shown.
pub const MEASURES: [Measure; 13] = [
    Measure {
        name: "effective_keys",
        title: "Effective number of keys",
        column: ("keys", 6, 1),
        definition: "exp of the mean entropy: over how many keys a typical query spreads",
        scale: Scale::Logarithmic,
        of: |head| head.effective_keys,
    },
    Measure {
        name: "entropy",
        title: "Entropy",
        column: ("H", 5, 2),
        definition: "mean entropy of the posterior over keys, in nats",
        scale: Scale::FromZero,
        of: |head| head.entropy,
    },
    Measure {
        name: "kl",
        title: "KL from the prior",
        column: ("KL", 5, 2),
        definition: "mean KL of the posterior from the prior over possible keys, in nats: \
                     how much the content decides",
        scale: Scale::FromZero,
        of: |head| head.kl,
    },
    Measure {
        name: "log_evidence",
        title: "Log-evidence",
        column: ("log ev", 7, 2),
        definition: "mean of log Σ_j π_j ψ(q_i, k_j), in nats: how well the keys fit on average",
        scale: Scale::Range,
        of: |head| head.log_evidence,
    },
    Measure {
        name: "max_probability",
        title: "Largest probability",
        column: ("max p", 5, 2),
        definition: "mean probability of the likeliest key",
        scale: Scale::FromZero,
        of: |head| head.max_probability,
    },
    Measure {
        name: "first_token_mass",
        title: "Mass on the first token",
        column: ("first", 5, 2),
        definition: "share of all queries' mass on the first token",
        scale: Scale::FromZero,
        of: |head| head.first_token_mass,
    },
    Measure {
        name: "heaviest_key_mass",
        title: "Mass on the heaviest key",
        column: ("heavy", 5, 2),
        definition: "share of all queries' mass on the key that gets the most",
        scale: Scale::FromZero,
        of: |head| head.heaviest_key_mass,
    },
    Measure {
        name: "previous_token_mass",
        title: "Mass on the token before",
        column: ("prev", 5, 2),
        definition: "mean probability of the token just before the query",
        scale: Scale::FromZero,
        of: |head| head.previous_token_mass,
    },
    Measure {
        name: "neighbour_mass",
        title: "Mass within 4 tokens",
        column: ("near", 5, 2),
        definition: "mean mass within 4 tokens of the query, its own position included",
        scale: Scale::FromZero,
        of: |head| head.neighbour_mass,
    },
    Measure {
        name: "expected_distance",
        title: "Expected distance",
        column: ("dist", 6, 1),
        definition: "mean of E|i − j|, in tokens: how far the head looks",
        scale: Scale::Logarithmic,
        of: |head| head.expected_distance,
    },
    Measure {
        name: "map_gap",
        title: "Soft–hard gap",
        column: ("gap", 5, 2),
        definition: "mean of ‖E v − v_MAP‖ / ‖E v‖: the relative change if each query took only its \
                     likeliest key",
        scale: Scale::FromZero,
        of: |head| head.map_gap,
    },
    Measure {
        name: "value_variance",
        title: "Value variance",
        column: ("var v", 7, 3),
        definition: "mean of E‖v − E v‖², the scatter of a single draw around the mean",
        scale: Scale::Logarithmic,
        of: |head| head.value_variance,
    },
    Measure {
        name: "samples_for_one_percent",
        title: "Samples for 1% error",
        column: ("samples", 8, 0),
        definition: "mean E‖v − E v‖² / (0.01² · mean ‖E v‖²): draws per query after which the \
                     root-mean-square error is 1% of the output",
        scale: Scale::Logarithmic,
        of: |head| head.samples_for_one_percent,
    },
];
