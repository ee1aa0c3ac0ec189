//! Questions: what can be asked of a posterior.
//!
//! | question | definition | answer's shape |
//! |---|---|---|
//! | [`Mean`] | E\[v\] | \[B, H, N, D_v\] |
//! | [`LogPartition`] | log Z(θ) | \[B, H, F\] |
//! | [`LogEvidence`] | log Z(θ) − log Z(log w) | \[B, H, F\] |
//! | [`Entropy`] | −E\[log p\] | \[B, H, F\] |
//! | [`Kl`] | KL(posterior ‖ prior) | \[B, H, F\] |
//! | [`ColumnMass`] | Σ_i p_ij | \[B, H, M\] |
//! | [`QueryMass`] | Σ_j p_ij | \[B, H, N\] |
//! | [`ExpectedDistance`] | E\|i − j\| | \[B, H, N\] |
//! | [`ExpectedOf`] | E\[f_c(i, j)\] of given functions | \[B, H, N, C\] |
//! | [`ValueVariance`] | E\[v²\] − E\[v\]² | \[B, H, N, D_v\] |
//! | [`Covariance`] | E\[s v\] − E\[s\] E\[v\] with a second score s | \[B, H, N, D_v\] |
//! | [`Jvp`] | the derivative of E\[v\] in given tangents | \[B, H, N, D_v\] |
//! | [`MaxProbability`] | max_j p_ij | \[B, H, F\] |
//! | [`NullProbability`] | P(no edge) | \[B, H, F\] |
//! | [`MaxScore`], [`MinScore`] | the extreme θ_ij, and where | \[B, H, N\], twice, \[B, H\] |
//! | [`Map`] | argmax_j p_ij | \[B, H, F\] |
//! | [`TopK`] | the k best edges | \[B, H, F, k\], twice |
//! | [`Samples`] | exact draws | \[S, B, H, F\] |
//! | [`Marginals`] | p_ij | \[B, H, N, M\] |
//! | [`KBest`] | the k best edge sets, of coupled structures | \[B, H, F, k\], and the sets |
//! | [`MaxMarginals`] | the best score of a set with each edge, likewise | \[B, H, N, M\] |
//! | [`JointMarginals`] | P(φ_ij = φ_e = 1) with an edge e, likewise | \[B, H, N, M\] |
//! | [`LogCount`] | log \|Φ\|, likewise | \[B, H, F\] |
//! | [`Hops`] | P(hops \| arriving), of walks | \[B, H, N, H + 1\] |
//! | [`Paths`] | log p of given paths, of walks | \[B, H, paths\] |
//! | [`EventProbability`] | P(event \| start), of walks | \[B, H, N, events\] |
//! | [`Posterior::cross_entropy`](crate::Posterior::cross_entropy), [`Posterior::kl_to`](crate::Posterior::kl_to) | to another posterior | \[B, H, F\] |
//!
//! F counts the factors: queries, or keys where keys choose. Information is in nats. Questions
//! asked together share one pass over the keys; column mass, marginals and draws of sets add one
//! more each.
//!
//! A question says which [statistics](crate::infer::statistic) its answer is a function of
//! ([`plan`](Question::plan)), evaluates that function ([`answer`](Question::answer)) and
//! differentiates it ([`backward`](Question::backward)). It knows no inference, and no inference knows
//! questions. To add one, see CONTRIBUTING.md.

mod column_mass;
mod contract;
mod covariance;
mod cross_entropy;
mod entropy;
mod event_probability;
mod expected_distance;
mod expected_of;
mod extreme_score;
mod hops;
mod joint_marginals;
mod jvp;
mod k_best;
mod kl;
mod log_count;
mod log_evidence;
mod log_partition;
mod map;
mod marginals;
mod max_marginals;
mod max_probability;
mod mean;
mod named;
mod null_probability;
mod paths;
mod query_mass;
mod samples;
mod top_k;
mod upstream;
mod value_variance;

pub use column_mass::ColumnMass;
pub use contract::Question;
pub use covariance::Covariance;
pub use entropy::Entropy;
pub use event_probability::EventProbability;
pub(crate) use expected_distance::Distance;
pub use expected_distance::ExpectedDistance;
pub use expected_of::ExpectedOf;
pub use extreme_score::{MaxScore, MinScore, ScoreAnswer};
pub use hops::Hops;
pub use joint_marginals::JointMarginals;
pub use jvp::{Jvp, JvpPlan, Tangents};
pub use k_best::{KBest, KBestAnswer};
pub use kl::Kl;
pub use log_count::LogCount;
pub use log_evidence::LogEvidence;
pub use log_partition::LogPartition;
pub use map::Map;
pub use marginals::Marginals;
pub use max_marginals::MaxMarginals;
pub use max_probability::MaxProbability;
pub use mean::Mean;
pub use named::{AnyQuestion, Asked, Asking, Entry, Named, NamedQuestion, Tensor};
pub use null_probability::NullProbability;
pub use paths::Paths;
pub use query_mass::QueryMass;
pub use samples::{Draws, Samples};
pub use top_k::{TopK, TopKAnswer};
pub use upstream::{IntoUpstream, Nothing, Numbers, OneUpstream, Tensors, Upstream, Vectors};
pub use value_variance::ValueVariance;

use crate::Error;

/// Every question that can be asked by name.
pub const QUESTIONS: &[Entry] = &[
    Entry::of::<Mean<'static, f32>>(),
    Entry::of::<LogPartition>(),
    Entry::of::<LogEvidence>(),
    Entry::of::<Entropy>(),
    Entry::of::<Kl>(),
    Entry::of::<ColumnMass>(),
    Entry::of::<QueryMass>(),
    Entry::of::<ExpectedDistance>(),
    Entry::of::<ValueVariance<'static, f32>>(),
    Entry::of::<Covariance<'static, f32>>(),
    Entry::of::<Jvp<'static, f32>>(),
    Entry::of::<MaxProbability>(),
    Entry::of::<NullProbability>(),
    Entry::of::<MaxScore>(),
    Entry::of::<MinScore>(),
    Entry::of::<Map>(),
    Entry::of::<TopK>(),
    Entry::of::<Samples>(),
    Entry::of::<Marginals>(),
    Entry::of::<KBest>(),
    Entry::of::<MaxMarginals>(),
    Entry::of::<LogCount>(),
    Entry::of::<Hops>(),
    Entry::of::<Paths<Vec<usize>>>(),
];

impl Entry {
    /// The entry called `name`.
    ///
    /// # Errors
    /// [`Error::UnknownName`].
    pub fn named(name: &str) -> Result<&'static Self, Error> {
        let found = QUESTIONS.iter().find(|entry| entry.name == name);
        found.ok_or_else(|| {
            let known: Vec<&str> = QUESTIONS.iter().map(|entry| entry.name).collect();
            Error::unknown("question", name, &known)
        })
    }
}

impl Named {
    /// Reads a name, with a number where the question is asked with one.
    ///
    /// # Errors
    /// [`Error::UnknownName`], and [`Error::Value`] where a number is missing or not wanted.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let (name, number) = match text.split_once('=') {
            Some((name, number)) => (name.trim(), Some(number.trim())),
            None => (text.trim(), None),
        };
        let entry = Entry::named(name)?;
        let argument = match (entry.argument, number) {
            (None, None) => None,
            (None, Some(number)) => return Err(Error::value(name, "no number", number)),
            (Some(_), number) => {
                let number = number.unwrap_or("nothing");
                let expected = format!("a number above 0, as in `{name}=5`");
                let parsed: Option<usize> = number.parse().ok().filter(|&n| n > 0);
                Some(parsed.ok_or_else(|| Error::value(name, expected, number))?)
            }
        };
        Ok(Self { entry, argument })
    }
}
