use ndarray::{Array2, Array3};

use super::Question;
use super::named::{AnyQuestion, Asking, IntoTensors, NamedQuestion, Tensor};
use super::upstream::Nothing;
use crate::infer::{Extremal, Handle, Request, Slopes};
use crate::posterior::{Found, Posterior};
use crate::{Error, Real};

/// max_j θ_ij over the possible edges of every query, and over all queries of a head.
///
/// θ is the whole score: log-potential and log-weight. Under a prior that only permits or forbids it is
/// the largest logit, which QK-clipping keeps below a bound (Kimi K2, arXiv 2507.20534, §2.1). No edge
/// is not counted. Free beside any other question.
///
/// ```
/// # use marginals::{Model, potential::Dot, prior::Causal, structure::EachQueryPicksOne};
/// use marginals::question::MaxScore;
/// # use ndarray::array;
/// let x = array![[[[1.0], [3.0], [2.0]]]];
/// let model = Model::new(EachQueryPicksOne, Causal, Dot::new(1.0));
/// let largest = model.posterior(x.view(), x.view())?.ask(MaxScore)?;
/// assert_eq!(largest.score, array![[[1.0, 9.0, 6.0]]]);
/// assert_eq!(largest.key, array![[[0, 1, 1]]]);
/// assert_eq!(largest.of_head, array![[9.0]]);
/// # Ok::<(), marginals::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MaxScore;

/// min_j θ_ij over the possible edges of every query, and over all queries of a head.
///
/// As [`MaxScore`], with the smallest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MinScore;

/// The answer to [`MaxScore`] and [`MinScore`].
#[derive(Clone, Debug, PartialEq)]
pub struct ScoreAnswer<T> {
    /// The score of every query, [B, H, N]; of a query without a possible edge −∞, or +∞ where the
    /// smallest is asked for.
    pub score: Array3<T>,
    /// Its key, [B, H, N]: the first of equals, −1 for none.
    pub key: Array3<i64>,
    /// The score over all queries of a head, [B, H].
    pub of_head: Array2<T>,
}

impl<T: Real> IntoTensors<T> for ScoreAnswer<T> {
    fn into_tensors(self) -> Vec<(&'static str, Tensor<T>)> {
        vec![
            ("", Tensor::Real(self.score.into_dyn())),
            (".key", Tensor::Index(self.key.into_dyn())),
            (".head", Tensor::Real(self.of_head.into_dyn())),
        ]
    }
}

macro_rules! extreme {
    ($question:ident, $name:literal, $definition:literal, $wanted:expr, $none:expr, $further:expr) => {
        impl<'v, T: Real> Question<'v, T> for $question {
            type Answer = ScoreAnswer<T>;
            type Upstream = Nothing;
            type Plan = Handle;

            fn plan(
                &self,
                posterior: &Posterior<'_, T>,
                request: &mut Request<'v, T>,
            ) -> Result<Handle, Error> {
                posterior.inference().require_edges($name)?;
                Ok(request.extremal($wanted))
            }

            fn answer(
                &self,
                plan: &Handle,
                found: &Found<'_, '_, 'v, T>,
            ) -> Result<ScoreAnswer<T>, Error> {
                let edges = found.finding.extremes(*plan).edges();
                let none: T = $none;
                let score = |index: i64, score: T| if index < 0 { none } else { score };
                let scores = edges.iter().map(|edge| score(edge.index, edge.score)).collect();
                let score = found.by_query(scores);
                let key = found.by_query(edges.iter().map(|edge| edge.index).collect());
                let of_head = score.map_axis(ndarray::Axis(2), |row| {
                    row.fold(
                        none,
                        |most, &x| if $further(x, most) || x.is_nan() { x } else { most },
                    )
                });
                Ok(ScoreAnswer { score, key, of_head })
            }

            fn backward<'g>(
                &self,
                _: &Handle,
                _: &'g Found<'_, '_, 'v, T>,
                (): (),
                _: &mut Slopes<'g, T>,
            ) -> Result<(), Error> {
                Ok(())
            }
        }

        impl NamedQuestion for $question {
            const NAME: &'static str = $name;
            const DEFINITION: &'static str = $definition;
            const SHAPE: &'static str = "[B, H, N], with its key; [B, H] of each head";

            fn make<'v, T: Real>(
                _: &Asking<'v, T>,
            ) -> Result<Box<dyn AnyQuestion<'v, T> + 'v>, Error> {
                Ok(Box::new($question))
            }
        }
    };
}
extreme!(
    MaxScore,
    "max-score",
    "max_j θ_ij, and where",
    Extremal::Highest,
    T::neg_infinity(),
    |x: T, most: T| x > most
);
extreme!(
    MinScore,
    "min-score",
    "min_j θ_ij, and where",
    Extremal::Lowest,
    T::infinity(),
    |x: T, least: T| x < least
);
