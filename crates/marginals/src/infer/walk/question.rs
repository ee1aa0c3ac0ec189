//! Questions that Horner's rule answers, several in the same passes.

use ndarray::{Array3, Array4, s};

use super::WalkPass;
use crate::infer::exact::{Request, Upstream};
use crate::posterior::question::{Entropy, ExpectedDistance, Kl, Mean, Question};
use crate::{Element, Error, Real, Shape};

/// What the passes of a walk must find out: the union of what the questions asked need.
#[derive(Debug)]
pub struct WalkRequest<'v, T> {
    /// The values, when the mean is asked.
    pub(super) values: Request<'v, T>,
    /// What is summed along the way.
    pub(super) along: Vec<Along>,
}

impl<T> Default for WalkRequest<'_, T> {
    fn default() -> Self {
        Self { values: Request::default(), along: Vec::new() }
    }
}

impl<T> WalkRequest<'_, T> {
    pub(super) fn sum_along(&mut self, quantity: Along) {
        if !self.along.contains(&quantity) {
            self.along.push(quantity);
        }
    }
}

/// A quantity f of one pick whose sum over the picks of a walk is asked:
/// E[Σ_t<h f(x_t)] = Σ_t P(hops > t) (P^t f)_i.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Along {
    /// The entropy of the pick.
    Entropy,
    /// Its KL to the prior.
    Kl,
    /// How far it goes.
    Distance,
}

impl Along {
    pub const ALL: [Self; 3] = [Self::Entropy, Self::Kl, Self::Distance];

    /// The question about one pick.
    pub fn of_one_pick<'q, 'v: 'q, T: Real>(self) -> &'q dyn Question<'v, T, Answer = Array3<T>> {
        match self {
            Self::Entropy => &Entropy,
            Self::Kl => &Kl,
            Self::Distance => &ExpectedDistance,
        }
    }

    /// Its upstream gradient.
    pub fn upstream<'a, 'u, T>(
        self,
        upstream: &'a Upstream<'u, T>,
    ) -> Option<&'a ndarray::ArrayView3<'u, T>> {
        match self {
            Self::Entropy => upstream.entropy.as_ref(),
            Self::Kl => upstream.kl.as_ref(),
            Self::Distance => upstream.expected_distance.as_ref(),
        }
    }

    /// Puts an upstream gradient of one pick where the backward of one step looks for it.
    pub fn set_upstream<'u, T>(
        self,
        upstream: &mut Upstream<'u, T>,
        gradient: ndarray::ArrayView3<'u, T>,
    ) {
        match self {
            Self::Entropy => upstream.entropy = Some(gradient),
            Self::Kl => upstream.kl = Some(gradient),
            Self::Distance => upstream.expected_distance = Some(gradient),
        }
    }

    /// Its name in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Entropy => "entropy",
            Self::Kl => "kl",
            Self::Distance => "expected-distance",
        }
    }
}

/// A question about a walk that Horner's rule answers, or several.
pub trait WalkQuestion<'v, T: Real> {
    /// The answer.
    type Answer;

    /// Adds what this question needs to what the passes find out.
    fn request(&self, shape: &Shape, request: &mut WalkRequest<'v, T>) -> Result<(), Error>;

    /// Reads the answer off the passes.
    fn answer(&self, pass: &WalkPass<'_, '_, 'v, T>) -> Result<Self::Answer, Error>;
}

/// E\[v\] of every start, Σ_h P(h) P^h V, [B, H, N, D_v]. What gets lost reads 0.
impl<'v, T: Real, E: Element<Real = T>> WalkQuestion<'v, T> for Mean<'v, E> {
    type Answer = Array4<T>;
    fn request(&self, shape: &Shape, request: &mut WalkRequest<'v, T>) -> Result<(), Error> {
        request.values.mean = true;
        request.values.use_values(self.0, shape)
    }
    fn answer(&self, pass: &WalkPass<'_, '_, 'v, T>) -> Result<Array4<T>, Error> {
        pass.require(pass.request.values.mean, "mean")?;
        Ok(pass.total.slice(s![.., .., .., ..pass.request.values.value_width()]).to_owned())
    }
}

/// −E[log p(h, x_1 … x_h)] of every start, [B, H, N]; see
/// [`WalkPosterior::entropy`](super::WalkPosterior::entropy).
impl<'v, T: Real> WalkQuestion<'v, T> for Entropy {
    type Answer = Array3<T>;
    fn request(&self, _shape: &Shape, request: &mut WalkRequest<'v, T>) -> Result<(), Error> {
        request.sum_along(Along::Entropy);
        Ok(())
    }
    fn answer(&self, pass: &WalkPass<'_, '_, 'v, T>) -> Result<Array3<T>, Error> {
        let mut entropy = pass.along(Along::Entropy)?;
        for ((_, head, _), x) in entropy.indexed_iter_mut() {
            *x += T::of(pass.posterior.walk.entropy_of_hops(head));
        }
        Ok(entropy)
    }
}

/// KL between this walk and the one that picks by the prior alone, with the same P(h):
/// Σ_t P(hops > t) (P^t κ)_i with κ_j the KL of one pick, [B, H, N].
impl<'v, T: Real> WalkQuestion<'v, T> for Kl {
    type Answer = Array3<T>;
    fn request(&self, _shape: &Shape, request: &mut WalkRequest<'v, T>) -> Result<(), Error> {
        request.sum_along(Along::Kl);
        Ok(())
    }
    fn answer(&self, pass: &WalkPass<'_, '_, 'v, T>) -> Result<Array3<T>, Error> {
        pass.along(Along::Kl)
    }
}

/// E[Σ_t |x_t − x_t+1|] of every start, in positions, [B, H, N]: how long the walk is. Getting lost
/// counts as distance 0.
impl<'v, T: Real> WalkQuestion<'v, T> for ExpectedDistance {
    type Answer = Array3<T>;
    fn request(&self, _shape: &Shape, request: &mut WalkRequest<'v, T>) -> Result<(), Error> {
        request.sum_along(Along::Distance);
        Ok(())
    }
    fn answer(&self, pass: &WalkPass<'_, '_, 'v, T>) -> Result<Array3<T>, Error> {
        pass.along(Along::Distance)
    }
}

macro_rules! several {
    ($($question:ident $index:tt),+) => {
        impl<'v, T: Real, $($question: WalkQuestion<'v, T>),+> WalkQuestion<'v, T>
            for ($($question,)+)
        {
            type Answer = ($($question::Answer,)+);
            fn request(
                &self,
                shape: &Shape,
                request: &mut WalkRequest<'v, T>,
            ) -> Result<(), Error> {
                $(self.$index.request(shape, request)?;)+
                Ok(())
            }
            fn answer(&self, pass: &WalkPass<'_, '_, 'v, T>) -> Result<Self::Answer, Error> {
                Ok(($(self.$index.answer(pass)?,)+))
            }
        }
    };
}
several!(A 0);
several!(A 0, B 1);
several!(A 0, B 1, C 2);
several!(A 0, B 1, C 2, D 3);
