use marginals_kernels::{Tile, TileMut};
use ndarray::{Array2, Array4, ArrayView2, ArrayViewMut2, CowArray, Ix2};
use serde::{Deserialize, Serialize};

use super::contract::{Place, Potential, PotentialPart};
use super::features::{FeatureGradient, Features};
use super::tangent::Motion;
use crate::infer::EdgeFunction;
use crate::model::numbers::Domain;
use crate::model::part::{AnyPart, List, Part};
use crate::model::tensors::Inputs;
use crate::{Block, Error, Parameter, Real, Shape};

/// Which coordinates turn together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename = "layout of pairs", rename_all = "kebab-case")]
pub enum RotaryPairs {
    /// Coordinates c and c + width/2.
    #[default]
    // The words of files that were written before these were standard.
    #[serde(alias = "halves")]
    HalfSplit,
    /// Coordinates 2c and 2c + 1.
    #[serde(alias = "neighbours")]
    Interleaved,
}

/// Rotary positions before any potential (Su et al., arXiv 2104.09864, eq. 14): pair c of a node at
/// position p is turned by the angle p · base^(−2c/width), so that products depend on relative
/// position alone.
///
/// Queries and keys sit where the model's offsets say. Angles are computed in `f64`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Rotary<P> {
    /// Base of the frequencies.
    #[serde(default = "usual_base")]
    pub base: f64,
    /// Which coordinates turn together.
    #[serde(default)]
    pub pairs: RotaryPairs,
    /// The potential of the turned nodes.
    pub potential: Box<P>,
}

fn usual_base() -> f64 {
    10_000.0
}

impl<P: List + 'static> Part for Rotary<P> {
    const NAME: &'static str = "rotary";
    const MEANING: &'static str = "another potential of nodes turned by their positions";
    const EXAMPLE: &'static str = "{ rotary = { base = 10000.0, potential = \"dot\" } }";

    fn inner(&self) -> Vec<&dyn AnyPart> {
        vec![self.potential.part()]
    }
    fn inner_mut(&mut self) -> Vec<&mut dyn AnyPart> {
        vec![self.potential.part_mut()]
    }
}

impl<P: PotentialPart> PotentialPart for Rotary<P> {
    fn build<T: Real>(&self, inputs: &Inputs<'_, T>) -> Result<Box<dyn Potential<T>>, Error> {
        Ok(Box::new(Rotary::new(self.potential.build(inputs)?, self.base, self.pairs)))
    }
}

impl<P> Rotary<P> {
    /// Rotary positions before `potential`; the usual base is 10,000.
    pub fn new(potential: P, base: f64, pairs: RotaryPairs) -> Self {
        Self { base, pairs, potential: Box::new(potential) }
    }

    /// Turns every row forward (`sign` = 1) or back (−1); row r stands at `first` + r.
    ///
    /// Sines and cosines are taken at the multiples of sixteen and at the numbers below it, and added:
    /// sin(a + b) = sin a cos b + cos a sin b. That is as exact as the angle itself, many times cheaper,
    /// and depends on the position alone.
    fn turn<T: Real>(&self, rows: ArrayView2<'_, T>, first: i64, sign: f64) -> Array2<T> {
        let width = rows.ncols();
        let half = width / 2;
        let frequencies: Vec<f64> =
            (0..half).map(|c| sign * self.base.powf(-2.0 * c as f64 / width as f64)).collect();
        let at = |position: i64| -> Vec<(f64, f64)> {
            frequencies.iter().map(|frequency| (position as f64 * frequency).sin_cos()).collect()
        };
        let steps: Vec<_> = (0..STRIDE).map(at).collect();
        let (mut anchor, mut start) = (None, Vec::new());
        let mut angles = vec![(T::zero(), T::zero()); half];
        let mut turned = rows.as_standard_layout().into_owned();
        let entries = turned.as_slice_mut().expect("rows lie one after another");
        for (row, position) in entries.chunks_exact_mut(width.max(1)).zip(first..) {
            let (block, step) = (position.div_euclid(STRIDE), position.rem_euclid(STRIDE));
            if anchor != Some(block) {
                anchor = Some(block);
                start = at(block * STRIDE);
            }
            let added = start.iter().zip(&steps[step as usize]);
            for (angle, (&(sin_a, cos_a), &(sin_b, cos_b))) in angles.iter_mut().zip(added) {
                let (sin, cos) = (sin_a * cos_b + cos_a * sin_b, cos_a * cos_b - sin_a * sin_b);
                *angle = (T::of(sin), T::of(cos));
            }
            match self.pairs {
                RotaryPairs::HalfSplit => {
                    let (left, right) = row.split_at_mut(half);
                    for ((a, b), &angle) in left.iter_mut().zip(right).zip(&angles) {
                        turn_pair(a, b, angle);
                    }
                }
                RotaryPairs::Interleaved => {
                    for ([a, b], &angle) in row.as_chunks_mut().0.iter_mut().zip(&angles) {
                        turn_pair(a, b, angle);
                    }
                }
            }
        }
        turned
    }
}

/// Positions between those at which sines and cosines are taken.
const STRIDE: i64 = 16;

/// (a, b) turned by an angle of which sine and cosine are given.
#[inline(always)]
fn turn_pair<T: Real>(a: &mut T, b: &mut T, (sin, cos): (T, T)) {
    (*a, *b) = (*a * cos - *b * sin, *a * sin + *b * cos);
}

fn query_position(place: &Place<'_>) -> i64 {
    place.first as i64 + place.shape.query_offset
}

fn key_position(place: &Place<'_>) -> i64 {
    place.first as i64 + place.shape.key_offset
}

impl<T: Real, P: Potential<T>> Potential<T> for Rotary<P> {
    fn name(&self) -> &'static str {
        "rotary"
    }
    fn check(&self, shape: &Shape) -> Result<(), Error> {
        self.potential.check(shape)?;
        for (name, width) in [("q", shape.query_width), ("k", shape.key_width)] {
            if width % 2 != 0 {
                return Err(Error::Shape {
                    argument: name.to_owned(),
                    expected: "rows of an even width, which rotary positions turn in pairs".into(),
                    found: format!("rows of {width}"),
                    advice: "Pad the width to an even number.".into(),
                });
            }
        }
        Domain::Positive.check("rotary.base", &[self.base])
    }
    fn query_features<'a>(&self, place: Place<'_>, q: ArrayView2<'a, T>) -> CowArray<'a, T, Ix2> {
        let turned = self.turn(q, query_position(&place), 1.0);
        self.potential.query_features(place, turned.view()).into_owned().into()
    }
    fn key_features<'a>(&self, place: Place<'_>, k: ArrayView2<'a, T>) -> CowArray<'a, T, Ix2> {
        let turned = self.turn(k, key_position(&place), 1.0);
        self.potential.key_features(place, turned.view()).into_owned().into()
    }
    fn log_potential(
        &self,
        block: &Block,
        q: &Features<'_, T>,
        k: &Features<'_, T>,
        scores: TileMut<'_, T>,
    ) {
        self.potential.log_potential(block, q, k, scores)
    }
    fn is_product(&self) -> bool {
        self.potential.is_product()
    }
    /// Turning changes no length.
    fn greatest(&self, head: usize, query_length: f64, key_length: f64) -> Option<f64> {
        self.potential.greatest(head, query_length, key_length)
    }
    fn reads_log_potential(&self) -> bool {
        self.potential.reads_log_potential()
    }
    fn parameters(&self) -> Vec<Parameter> {
        self.potential.parameters()
    }
    fn backward(
        &self,
        block: &Block,
        q: &Features<'_, T>,
        k: &Features<'_, T>,
        log_potential: Option<Tile<'_, T>>,
        gradient: TileMut<'_, T>,
        into: &mut FeatureGradient<'_, T>,
    ) -> Result<(), Error> {
        self.potential.backward(block, q, k, log_potential, gradient, into)
    }
    /// That of the other potential: turning is linear.
    fn tangent(&self, motion: Motion<T>) -> Result<Box<dyn EdgeFunction<T>>, Error> {
        let turned = |mut nodes: Array4<T>, first: i64| {
            for mut entry in nodes.outer_iter_mut() {
                for mut rows in entry.outer_iter_mut() {
                    let turned = self.turn(rows.view(), first, 1.0);
                    rows.assign(&turned);
                }
            }
            nodes
        };
        let (of_query, of_key) = (motion.shape.query_offset, motion.shape.key_offset);
        self.potential.tangent(Motion {
            shape: motion.shape,
            q: turned(motion.q, of_query),
            k: turned(motion.k, of_key),
            q_tangent: motion.q_tangent.map(|tangent| turned(tangent, of_query)),
            k_tangent: motion.k_tangent.map(|tangent| turned(tangent, of_key)),
        })
    }
    fn query_features_backward(
        &self,
        place: Place<'_>,
        q: ArrayView2<'_, T>,
        gradient: ArrayView2<'_, T>,
        mut into: ArrayViewMut2<'_, T>,
        parameters: &mut [Vec<f64>],
    ) {
        let position = query_position(&place);
        let turned = self.turn(q, position, 1.0);
        let mut through = Array2::zeros(q.raw_dim());
        self.potential.query_features_backward(
            place,
            turned.view(),
            gradient,
            through.view_mut(),
            parameters,
        );
        into.assign(&self.turn(through.view(), position, -1.0));
    }
    fn key_features_backward(
        &self,
        place: Place<'_>,
        k: ArrayView2<'_, T>,
        gradient: ArrayView2<'_, T>,
        mut into: ArrayViewMut2<'_, T>,
        parameters: &mut [Vec<f64>],
    ) {
        let position = key_position(&place);
        let turned = self.turn(k, position, 1.0);
        let mut through = Array2::zeros(k.raw_dim());
        self.potential.key_features_backward(
            place,
            turned.view(),
            gradient,
            through.view_mut(),
            parameters,
        );
        into.assign(&self.turn(through.view(), position, -1.0));
    }
}
