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
//! | [`Hops`] | P(hops \| arriving), of walks | \[B, H, N, H + 1\] |
//! | [`Paths`] | log p of given paths, of walks | \[B, H, paths\] |
//! | [`EventProbability`] | P(event \| start), of walks | \[B, H, N, events\] |
//! | [`Posterior::cross_entropy`], [`Posterior::kl_to`] | to another posterior | \[B, H, F\] |
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
mod covariance;
mod cross_entropy;
mod entropy;
mod event_probability;
mod expected_distance;
mod expected_of;
mod extreme_score;
mod hops;
mod jvp;
mod kl;
mod log_evidence;
mod log_partition;
mod map;
mod marginals;
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
pub use covariance::Covariance;
pub use entropy::Entropy;
pub use event_probability::EventProbability;
pub(crate) use expected_distance::Distance;
pub use expected_distance::ExpectedDistance;
pub use expected_of::ExpectedOf;
pub use extreme_score::{MaxScore, MinScore, ScoreAnswer};
pub use hops::Hops;
pub use jvp::{Jvp, JvpPlan, Tangents};
pub use kl::Kl;
pub use log_evidence::LogEvidence;
pub use log_partition::LogPartition;
pub use map::Map;
pub use marginals::Marginals;
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

use crate::infer::{Request, Slopes};
use crate::posterior::{Found, Posterior};
use crate::{Error, Real};

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
    Entry::of::<Hops>(),
    Entry::of::<Paths<Vec<usize>>>(),
];

/// A question, or several: what a pass must find out, how the answer reads, and what its gradient says
/// of what was found.
///
/// `'v` is how long borrowed values live.
pub trait Question<'v, T: Real> {
    /// The answer.
    type Answer;
    /// What the gradient of a loss in the answer is given as.
    type Upstream: Upstream;
    /// Where the statistics it asked for stand.
    type Plan;

    /// Adds the statistics that the answer is made of to what the pass finds out.
    ///
    /// # Errors
    /// [`Error`], where the question does not fit the model or the sizes.
    fn plan(
        &self,
        posterior: &Posterior<'_, T>,
        request: &mut Request<'v, T>,
    ) -> Result<Self::Plan, Error>;

    /// The answer, from what was found.
    ///
    /// # Errors
    /// [`Error::NotAnswerable`] where the structure does not answer it.
    fn answer(
        &self,
        plan: &Self::Plan,
        found: &Found<'_, '_, 'v, T>,
    ) -> Result<Self::Answer, Error>;

    /// The answer off a finding that is read once, so that what is large may be moved out.
    ///
    /// # Errors
    /// As [`answer`](Self::answer).
    fn take(
        &self,
        plan: &Self::Plan,
        found: &mut Found<'_, '_, 'v, T>,
    ) -> Result<Self::Answer, Error> {
        self.answer(plan, found)
    }

    /// Adds what the gradient in the answer says of the statistics, by the chain rule.
    ///
    /// # Errors
    /// [`Error::Shape`] where the gradient has not the answer's shape.
    fn backward<'g>(
        &self,
        plan: &Self::Plan,
        found: &'g Found<'_, '_, 'v, T>,
        upstream: <Self::Upstream as Upstream>::Of<'g, T>,
        slopes: &mut Slopes<'g, T>,
    ) -> Result<(), Error>;
}

macro_rules! several {
    ($($question:ident $index:tt),+) => {
        impl<'v, T: Real, $($question: Question<'v, T>),+> Question<'v, T> for ($($question,)+) {
            type Answer = ($($question::Answer,)+);
            type Upstream = ($($question::Upstream,)+);
            type Plan = ($($question::Plan,)+);
            fn plan(
                &self,
                posterior: &Posterior<'_, T>,
                request: &mut Request<'v, T>,
            ) -> Result<Self::Plan, Error> {
                Ok(($(self.$index.plan(posterior, request)?,)+))
            }
            fn answer(
                &self,
                plan: &Self::Plan,
                found: &Found<'_, '_, 'v, T>,
            ) -> Result<Self::Answer, Error> {
                Ok(($(self.$index.answer(&plan.$index, found)?,)+))
            }
            fn take(
                &self,
                plan: &Self::Plan,
                found: &mut Found<'_, '_, 'v, T>,
            ) -> Result<Self::Answer, Error> {
                Ok(($(self.$index.take(&plan.$index, found)?,)+))
            }
            fn backward<'g>(
                &self,
                plan: &Self::Plan,
                found: &'g Found<'_, '_, 'v, T>,
                upstream: <Self::Upstream as Upstream>::Of<'g, T>,
                slopes: &mut Slopes<'g, T>,
            ) -> Result<(), Error> {
                $(self.$index.backward(&plan.$index, found, upstream.$index, slopes)?;)+
                Ok(())
            }
        }
    };
}
several!(A 0);
several!(A 0, B 1);
several!(A 0, B 1, C 2);
several!(A 0, B 1, C 2, D 3);
several!(A 0, B 1, C 2, D 3, E 4);
several!(A 0, B 1, C 2, D 3, E 4, F 5);
several!(A 0, B 1, C 2, D 3, E 4, F 5, G 6);
several!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7);
several!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8);
several!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9);
several!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10);
several!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11);
several!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11, M 12);
