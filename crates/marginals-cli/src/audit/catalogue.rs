//! The measures by name: what the table, the JSON and the report all show.

use super::head::HeadMeasures;

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
    /// Group of measures that it belongs to.
    pub group: Group,
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

/// Subject of a measure: tables show one group at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// How sure the head is.
    Certainty,
    /// On which tokens its mass lies.
    Place,
    /// How far it looks, and what that explains.
    Distance,
    /// Effect on the values that are read.
    Value,
}

impl Group {
    /// All of them, in the order they are shown.
    pub const ALL: [Group; 4] = [Group::Certainty, Group::Place, Group::Distance, Group::Value];

    /// Heading of its table.
    pub fn title(self) -> &'static str {
        match self {
            Group::Certainty => "How sure it is",
            Group::Place => "Where its mass lies",
            Group::Distance => "How far it looks, and what that explains",
            Group::Value => "What a hard choice or samples would change",
        }
    }
}

/// Every measure that is one number per head, in the order they are shown.
pub const MEASURES: [Measure; 24] = [
    Measure {
        name: "effective_keys",
        title: "Effective number of keys",
        column: ("keys", 6, 1),
        definition: "exp of the mean entropy: over how many keys a typical query spreads",
        scale: Scale::Logarithmic,
        group: Group::Certainty,
        of: |head| head.effective_keys,
    },
    Measure {
        name: "entropy",
        title: "Entropy",
        column: ("H", 5, 2),
        definition: "mean entropy of the posterior over keys, in nats",
        scale: Scale::FromZero,
        group: Group::Certainty,
        of: |head| head.entropy,
    },
    Measure {
        name: "kl",
        title: "KL from the prior",
        column: ("KL", 5, 2),
        definition: "mean KL of the posterior from the prior over possible keys, in nats: \
                     how much the content decides",
        scale: Scale::FromZero,
        group: Group::Certainty,
        of: |head| head.kl,
    },
    Measure {
        name: "log_evidence",
        title: "Log-evidence",
        column: ("log ev", 7, 2),
        definition: "mean of log Σ_j π_j ψ(q_i, k_j), in nats: how well the keys fit on average",
        scale: Scale::Range,
        group: Group::Certainty,
        of: |head| head.log_evidence,
    },
    Measure {
        name: "max_probability",
        title: "Largest probability",
        column: ("max p", 5, 2),
        definition: "mean probability of the likeliest key",
        scale: Scale::FromZero,
        group: Group::Certainty,
        of: |head| head.max_probability,
    },
    Measure {
        name: "first_token_mass",
        title: "Mass on the first token",
        column: ("first", 5, 2),
        definition: "share of all queries' mass on the first token",
        scale: Scale::FromZero,
        group: Group::Place,
        of: |head| head.first_token_mass,
    },
    Measure {
        name: "heaviest_key_mass",
        title: "Mass on the heaviest key",
        column: ("heavy", 5, 2),
        definition: "share of all queries' mass on the key that gets the most",
        scale: Scale::FromZero,
        group: Group::Place,
        of: |head| head.heaviest_key_mass,
    },
    Measure {
        name: "previous_token_mass",
        title: "Mass on the token before",
        column: ("prev", 5, 2),
        definition: "mean probability of the token just before the query",
        scale: Scale::FromZero,
        group: Group::Place,
        of: |head| head.previous_token_mass,
    },
    Measure {
        name: "neighbour_mass",
        title: "Mass within 4 tokens",
        column: ("near", 5, 2),
        definition: "mean mass within 4 tokens of the query, its own position included",
        scale: Scale::FromZero,
        group: Group::Place,
        of: |head| head.neighbour_mass,
    },
    Measure {
        name: "next_token_mass",
        title: "Mass on the token after",
        column: ("next", 5, 2),
        definition: "mean probability of the token just after the query, where queries see it",
        scale: Scale::FromZero,
        group: Group::Place,
        of: |head| head.next_token_mass,
    },
    Measure {
        name: "same_token_mass",
        title: "Mass on the same token",
        column: ("same", 5, 2),
        definition: "mean probability of the query's own position",
        scale: Scale::FromZero,
        group: Group::Place,
        of: |head| head.same_token_mass,
    },
    Measure {
        name: "induction_mass",
        title: "Induction mass",
        column: ("ind", 5, 2),
        definition: "mean mass on the tokens that follow other occurrences of the query's token, over \
                     the queries that see one (at least 8)",
        scale: Scale::FromZero,
        group: Group::Place,
        of: |head| head.induction_mass,
    },
    Measure {
        name: "duplicate_token_mass",
        title: "Duplicate-token mass",
        column: ("dup", 5, 2),
        definition: "mean mass on other occurrences of the query's token, over the queries that see one \
                     (at least 8)",
        scale: Scale::FromZero,
        group: Group::Place,
        of: |head| head.duplicate_token_mass,
    },
    Measure {
        name: "separator_mass",
        title: "Mass on separators",
        column: ("sep", 5, 2),
        definition: "share of all queries' mass on the tokens that the tokenizer added after the first",
        scale: Scale::FromZero,
        group: Group::Place,
        of: |head| head.separator_mass,
    },
    Measure {
        name: "punctuation_mass",
        title: "Mass on punctuation",
        column: ("punct", 5, 2),
        definition: "share of all queries' mass on punctuation",
        scale: Scale::FromZero,
        group: Group::Place,
        of: |head| head.punctuation_mass,
    },
    Measure {
        name: "last_token_mass",
        title: "Mass on the last token",
        column: ("last", 5, 2),
        definition: "share of all queries' mass on the last token",
        scale: Scale::FromZero,
        group: Group::Place,
        of: |head| head.last_token_mass,
    },
    Measure {
        name: "heaviest_word_mass",
        title: "Mass on the heaviest word",
        column: ("word", 5, 2),
        definition: "share of all queries' mass on the token that gets the most of those that are neither \
                     first, last, added by the tokenizer nor punctuation",
        scale: Scale::FromZero,
        group: Group::Place,
        of: |head| head.heaviest_word_mass,
    },
    Measure {
        name: "expected_distance",
        title: "Expected distance",
        column: ("dist", 6, 1),
        definition: "mean of E|i − j|, in tokens: how far the head looks",
        scale: Scale::Logarithmic,
        group: Group::Distance,
        of: |head| head.expected_distance,
    },
    Measure {
        name: "distance_kl",
        title: "KL from the best prior of distance",
        column: ("KL d", 6, 2),
        definition: "mean KL of the posterior from the prior of distance (geometric, power law or window) \
                     that fits best, in nats",
        scale: Scale::FromZero,
        group: Group::Distance,
        of: |head| head.distance_kl,
    },
    Measure {
        name: "distance_share",
        title: "Share that distance explains",
        column: ("share", 6, 2),
        definition: "share of the KL from a flat prior that the best prior of distance explains",
        scale: Scale::FromZero,
        group: Group::Distance,
        of: |head| head.distance_share,
    },
    Measure {
        name: "content_kl",
        title: "KL beyond distance and a sink",
        column: ("KL c", 6, 2),
        definition: "mean KL from the best prior of distance with a weight of its own for the heaviest \
                     key, in nats: what neither explains",
        scale: Scale::FromZero,
        group: Group::Distance,
        of: |head| head.content_kl,
    },
    Measure {
        name: "map_gap",
        title: "Soft–hard gap",
        column: ("gap", 5, 2),
        definition: "mean of ‖E v − v_MAP‖ / ‖E v‖: the relative change if each query took only its \
                     likeliest key",
        scale: Scale::FromZero,
        group: Group::Value,
        of: |head| head.map_gap,
    },
    Measure {
        name: "value_variance",
        title: "Value variance",
        column: ("var v", 7, 3),
        definition: "mean of E‖v − E v‖², the scatter of a single draw around the mean",
        scale: Scale::Logarithmic,
        group: Group::Value,
        of: |head| head.value_variance,
    },
    Measure {
        name: "samples_for_one_percent",
        title: "Samples for 1% error",
        column: ("samples", 8, 0),
        definition: "mean E‖v − E v‖² / (0.01² · mean ‖E v‖²): draws per query after which the \
                     root-mean-square error is 1% of the output",
        scale: Scale::Logarithmic,
        group: Group::Value,
        of: |head| head.samples_for_one_percent,
    },
];
