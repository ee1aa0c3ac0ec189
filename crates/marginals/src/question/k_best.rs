use ndarray::Array4;

use super::Question;
use super::named::{AnyQuestion, Asking, IntoTensors, NamedQuestion, Tensor};
use super::samples::Draws;
use super::upstream::Nothing;
use crate::infer::{Request, Slopes};
use crate::posterior::{Found, Posterior};
use crate::{Error, Real, check_room};

/// Bytes per edge or query of an edge set.
const EDGE_BYTES: usize = 16;

/// The k most probable edge sets of every factor, best first, where edges depend on each other.
///
/// Ties go to the set whose edges come first: of the first edge in which two sets differ, to the one that
/// has it. Where there are fewer than k the rest has log-probability −∞ and no edge. Cost: that of the
/// recursion with a list of k for every cell. Where factors choose single edges, ask
/// [`TopK`](super::TopK).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KBest(pub usize);

/// The answer to [`KBest`].
#[derive(Clone, Debug, PartialEq)]
pub struct KBestAnswer<T> {
    /// log p of every set, [B, H, F, k].
    pub log_probability: Array4<T>,
    /// The sets, k of them outermost.
    pub sets: Draws,
}

impl<'v, T: Real> Question<'v, T> for KBest {
    type Answer = KBestAnswer<T>;
    type Upstream = Nothing;
    type Plan = ();

    fn plan(&self, posterior: &Posterior<'_, T>, _: &mut Request<'v, T>) -> Result<(), Error> {
        posterior.require_sets(Self::NAME, "`top-k`")?;
        if self.0 == 0 {
            return Err(Error::value(Self::NAME, "at least 1", 0));
        }
        let shape = posterior.shape();
        let sizes = [self.0, shape.batch, shape.heads, shape.queries, shape.keys];
        check_room(Self::NAME, &sizes, EDGE_BYTES)
    }

    fn answer(&self, _: &(), found: &Found<'_, '_, 'v, T>) -> Result<KBestAnswer<T>, Error> {
        let posterior = found.posterior;
        let sets = posterior.require_sets(Self::NAME, "`top-k`")?;
        let best = sets.best(&posterior.problem, self.0)?;
        let (b, h, f) = found.factor_sizes();
        let mut log_probability = Array4::from_elem((b, h, f, self.0), T::neg_infinity());
        for (factor, sets) in best.iter().enumerate() {
            let (head, factor_of_head) = (factor / f, factor % f);
            let log_z = found.finding.log_partition_exactly(factor);
            for (rank, set) in sets.iter().enumerate() {
                let log_p = (set.score - log_z).min(0.0);
                log_probability[[head / h, head % h, factor_of_head, rank]] = T::of(log_p);
            }
        }
        let edges = best.into_iter().map(|sets| sets.into_iter().map(|set| Some(set.edges)));
        let sets = Draws::of_sets(found.shape(), sets.per_query(), self.0, edges);
        Ok(KBestAnswer { log_probability, sets })
    }

    fn backward<'g>(
        &self,
        (): &(),
        _: &'g Found<'_, '_, 'v, T>,
        (): (),
        _: &mut Slopes<'g, T>,
    ) -> Result<(), Error> {
        Ok(())
    }
}

impl NamedQuestion for KBest {
    const NAME: &'static str = "k-best";
    const DEFINITION: &'static str =
        "the k most probable edge sets, where edges depend on each other";
    const SHAPE: &'static str = "[B, H, F, k]; the sets [k, B, H, N] or [k, B, H, N, M]";
    const ARGUMENT: Option<&'static str> = Some("K");

    fn make<'v, T: Real>(
        asking: &Asking<'v, T>,
    ) -> Result<Box<dyn AnyQuestion<'v, T> + 'v>, Error> {
        Ok(Box::new(KBest(asking.argument.unwrap_or_default())))
    }
}

impl<T: Real> IntoTensors<T> for KBestAnswer<T> {
    fn into_tensors(self) -> Vec<(&'static str, Tensor<T>)> {
        let sets = match self.sets {
            Draws::Choices(keys) => Tensor::Index(keys.into_dyn()),
            Draws::Sets(bits) => Tensor::Bits(bits.into_dyn()),
        };
        vec![(".log-probability", Tensor::Real(self.log_probability.into_dyn())), (".edges", sets)]
    }
}
