//! Parts of a case by name; its seed gives their numbers.

use super::Random;

/// What the numbers are like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Flavour {
    /// Standard normal features: scores of a few nats.
    Ordinary,
    /// Small integers: many scores are exactly equal, and exact in every number type.
    Ties,
    /// Scores of ±10⁴: all the mass on one edge, exponentials overflow unless shifted.
    Huge,
    /// Scores of ±10⁻⁹: almost the prior.
    Tiny,
}

impl Flavour {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Ordinary, Self::Ties, Self::Huge, Self::Tiny];

    /// A number of order 1 of this flavour.
    pub(super) fn number(self, random: &mut Random) -> f64 {
        if self == Self::Ties { random.integer(-2, 2) as f64 } else { random.normal() }
    }

    /// The factor on features (q, k) that gives a bilinear score this flavour's size.
    pub(super) fn feature_scale(self) -> f64 {
        match self {
            Self::Ordinary | Self::Ties => 1.0,
            Self::Huge => 100.0,
            Self::Tiny => 3e-5,
        }
    }

    /// The factor on the scale of a score that features do not set.
    pub(super) fn score_scale(self) -> f64 {
        self.feature_scale() * self.feature_scale()
    }
}

/// A prior by name; the recipe's seed gives its numbers.
#[allow(missing_docs, reason = "the names are those of `Prior`")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PriorKind {
    Uniform,
    Causal,
    Window,
    Segments,
    Adjacency,
    WeightedAdjacency,
    /// With broadcast axes and −∞ entries, rows and columns.
    Bias,
    RelativeBuckets,
    Geometric,
    Alibi,
    Laplace,
    GeneralizedGaussian,
    KeyBias,
    BetaGeometric,
    /// With gates of exactly 1 and very small ones.
    Survival,
    /// A prior of distance over a distance of any kind.
    OverDistance(DecayKind, DistanceKind),
}

impl PriorKind {
    /// Those of [`Prior`](crate::reference::Prior), simplest first.
    pub const ALL: [Self; 14] = [
        Self::Uniform,
        Self::Causal,
        Self::Window,
        Self::Segments,
        Self::Adjacency,
        Self::WeightedAdjacency,
        Self::Bias,
        Self::RelativeBuckets,
        Self::Geometric,
        Self::Alibi,
        Self::Laplace,
        Self::GeneralizedGaussian,
        Self::KeyBias,
        Self::BetaGeometric,
    ];

    /// Those of [`FurtherPrior`](crate::reference::FurtherPrior).
    pub fn further() -> Vec<Self> {
        let over = |distance| DecayKind::ALL.map(|decay| Self::OverDistance(decay, distance));
        let distances = DistanceKind::ALL.into_iter().flat_map(over);
        [Self::Survival].into_iter().chain(distances).collect()
    }

    /// Those that forget by gates.
    pub fn of_gates() -> Vec<Self> {
        let by_gates = |kind: &Self| match kind {
            Self::Survival => true,
            Self::OverDistance(_, distance) => *distance == DistanceKind::Survival,
            _ => false,
        };
        Self::further().into_iter().filter(by_gates).collect()
    }

    /// Whether log w is a function of |position − j|.
    pub fn is_distance(self) -> bool {
        match self {
            Self::OverDistance(_, distance) => distance == DistanceKind::Index,
            kind => DecayKind::ALL.iter().any(|decay| decay.by_index() == kind),
        }
    }
}

/// A function of a distance by name.
#[allow(missing_docs, reason = "the names are those of `Prior`")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DecayKind {
    RelativeBuckets,
    Geometric,
    Alibi,
    Laplace,
    GeneralizedGaussian,
    BetaGeometric,
}

impl DecayKind {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::RelativeBuckets,
        Self::Geometric,
        Self::Alibi,
        Self::Laplace,
        Self::GeneralizedGaussian,
        Self::BetaGeometric,
    ];

    /// The prior that is this function of |position − j|.
    pub fn by_index(self) -> PriorKind {
        match self {
            Self::RelativeBuckets => PriorKind::RelativeBuckets,
            Self::Geometric => PriorKind::Geometric,
            Self::Alibi => PriorKind::Alibi,
            Self::Laplace => PriorKind::Laplace,
            Self::GeneralizedGaussian => PriorKind::GeneralizedGaussian,
            Self::BetaGeometric => PriorKind::BetaGeometric,
        }
    }
}

/// A distance by name.
#[allow(missing_docs, reason = "the names are those of `Distance`")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DistanceKind {
    Index,
    Survival,
    Contextual,
}

impl DistanceKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Index, Self::Survival, Self::Contextual];
}

/// A null edge by name.
#[allow(missing_docs, reason = "the names are those of `Null`")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NullKind {
    LogWeight,
    One,
    Logit,
    Gate,
    GatePerQuery,
}

impl NullKind {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::LogWeight, Self::One, Self::Logit, Self::Gate, Self::GatePerQuery];
}

/// A potential by name.
#[allow(missing_docs, reason = "the names are those of `Potential`")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PotentialKind {
    Dot,
    SoftcappedDot,
    Cosine,
    Gaussian,
    DiagonalGaussian,
    Gat,
    GatV2,
    Bahdanau,
    RotaryHalfSplit,
    RotaryInterleaved,
}

impl PotentialKind {
    /// All of them, simplest first.
    pub const ALL: [Self; 10] = [
        Self::Dot,
        Self::SoftcappedDot,
        Self::Cosine,
        Self::Gaussian,
        Self::DiagonalGaussian,
        Self::Gat,
        Self::GatV2,
        Self::Bahdanau,
        Self::RotaryHalfSplit,
        Self::RotaryInterleaved,
    ];
}
