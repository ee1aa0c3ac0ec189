//! Directions in which everything that a mean is made of moves, and how fast it moves along them.

use ndarray::Array4;

use super::{Inputs, Model};
use crate::dense;
use crate::finite_difference::{Derivative, of_curve};

/// q̇, k̇, v̇ and the tangents of the parameters.
#[derive(Clone, Debug)]
pub struct Tangents {
    /// Like q.
    pub q: Array4<f64>,
    /// Like k.
    pub k: Array4<f64>,
    /// Like v.
    pub v: Array4<f64>,
    /// Of the parameters, in the order of [`Model::parameters_mut`].
    pub parameters: Vec<Vec<f64>>,
}

impl Tangents {
    /// Nothing moves.
    pub fn zero(model: &Model, inputs: &Inputs) -> Self {
        let mut model = model.clone();
        let still = |x: &Array4<f64>| Array4::zeros(x.dim());
        Self {
            q: still(&inputs.q),
            k: still(&inputs.k),
            v: still(&inputs.v),
            parameters: model.parameters_mut().iter().map(|p| vec![0.0; p.1.len()]).collect(),
        }
    }

    /// The model and its inputs after a time t along the tangents. What does not move stays as it is,
    /// infinite or not.
    pub fn moved(&self, model: &Model, inputs: &Inputs, t: f64) -> (Model, Inputs) {
        let (mut model, mut inputs) = (model.clone(), inputs.clone());
        let step = |x: &mut f64, tangent: &f64| {
            if *tangent != 0.0 {
                *x += t * tangent;
            }
        };
        inputs.q.zip_mut_with(&self.q, step);
        inputs.k.zip_mut_with(&self.k, step);
        inputs.v.zip_mut_with(&self.v, step);
        for ((_, x), tangents) in model.parameters_mut().into_iter().zip(&self.parameters) {
            x.iter_mut().zip(tangents).for_each(|(x, tangent)| step(x, tangent));
        }
        (model, inputs)
    }

    fn largest(&self) -> f64 {
        let all = self.q.iter().chain(&self.k).chain(&self.v);
        let all = all.chain(self.parameters.iter().flatten());
        all.fold(0.0, |largest: f64, x| largest.max(x.abs()))
    }
}

impl Model {
    /// The forward-mode derivative of the mean along tangents, B × H × N × d_v: central differences of
    /// the exact answer with Richardson extrapolation.
    pub fn jvp(&self, inputs: &Inputs, tangents: &Tangents) -> Array4<Derivative> {
        let (batch, heads, queries, _) = inputs.q.dim();
        let shape = (batch, heads, queries, inputs.v.dim().3);
        let mean = |t: f64| {
            let (model, inputs) = tangents.moved(self, inputs, t);
            let heads = (0..batch).flat_map(|b| (0..heads).map(move |h| (b, h)));
            let of_head = |(b, h)| dense::answer(&model.problem(&inputs, b, h)).mean;
            heads.flat_map(|head| of_head(head).into_iter()).collect()
        };
        let largest = tangents.largest();
        let first = if largest > 0.0 { 0.125 / largest } else { 1.0 };
        let found = of_curve(first, shape.0 * shape.1 * shape.2 * shape.3, mean);
        Array4::from_shape_vec(shape, found).expect("an entry for each of the mean")
    }
}
