//! Predictive coding: layers that explain each other, attention as the precision of their errors.
//!
//! Every unit x_i of a layer has K predictors, functions f_k of the layer above with precisions Π_k, one of
//! which explains it (or none, or several: as the structure says). The edges between units and predictors
//! summed out leave the energy of a layer,
//!
//! ```text
//! E = −β⁻¹ Σ_i log Σ_k w_ik exp( β ½ Σ_c (log Π_kc − Π_kc (x_ic − f_kc)²) ),      F(z) = Σ_layers E,
//! ∂E/∂x_i = Σ_k p_ik Π_k (x_i − f_k),        ∂E/∂z = −Σ_ik p_ik Π_k (x_i − f_k) ∂f_k/∂z,
//! ```
//!
//! (Singh & Buckley, arXiv 2304.04556, the part on predictive coding). p_ik is the posterior over edges: by
//! how much the error of a predictor counts, attention as precision. With one predictor, p = 1 and this is
//! predictive coding as usual (Rao & Ballard, Nature Neuroscience 2, 1999; Bogacz, Journal of Mathematical
//! Psychology 76, 2017). **Inference** lowers F in the free nodes z, **learning** in the weights.
//!
//! Constants log 2π are left out of F: they are the same for every predictor. F is in nats; with β = 1 and
//! weights w that sum to 1, it is −log p(nodes) but for those.
//!
//! # Updates of z
//! | update | step | F |
//! |---|---|---|
//! | [`Descent`](crate::infer::collapsed::Descent) | along −∇F | falls where it is shortened |
//! | [`Newton`](crate::infer::collapsed::Newton) | −A⁻¹∇F, A the Hessian with picks and activations held | falls where it is shortened |
//! | [`Exact`](crate::infer::collapsed::Exact) | the same, where all maps of free nodes are linear: the minimum over z with the picks as they are (EM) | never rises |
//!
//! [`Order::LayerByLayer`] lets the exact step take one layer after the other. Where one predictor explains
//! everything linearly, a single exact step of all layers together is the minimum.
//!
//! # Learning
//! ∂F/∂weights at the minimum ([`PredictiveCoding::learning`]) is a product of a layer's errors and of what is
//! above it: local. It is the exact gradient of min_z F, as ∂F/∂z is 0 there. The gradient of anything else that
//! the minimum decides goes through the fixed point ([`FixedPoint::backward`](crate::infer::collapsed::FixedPoint::backward)).

mod activation;
mod layer;
mod map;
mod network;
mod one_layer;
mod pass;

use ndarray::{Array3, Array4, Axis};

use crate::infer::collapsed::{
    Curvature, Curved, Differentiable, Evaluation, InputGradients, Latent, Maximise, pulled, solve,
};
use crate::question::Question;
use crate::{Element, Error, Real};

pub use activation::Activation;
pub use layer::{Layer, Nodes, Predictors};
pub use map::Map;
use network::{Network, name};
use one_layer::OneLayer;
use pass::{Along, At, LayerPass};

/// Every layer at some z; `None` for those that nothing predicts.
type State<'n, 'a, T> = Vec<Option<At<'n, 'a, T>>>;

/// Which layers the exact step moves together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// All.
    #[default]
    Together,
    /// One after the other, from the last to the first, each under the others as they are by then.
    LayerByLayer,
}

/// Errors of the predictions of a layer.
#[derive(Clone, Debug, PartialEq)]
pub struct Errors<T> {
    /// x_i − f_k, [B, K, N, C].
    pub errors: Array4<T>,
    /// p_ik Π_k, by how much each counts, [B, K, N, C].
    pub precisions: Array4<T>,
}

/// A network of layers, each predicted by the one above: a [`Latent`] model whose problems are the entries
/// of the batch. z holds all nodes of every layer that has free ones, layer after layer; numbers of known
/// nodes in it are not read, and do not move.
///
/// Inputs by name, l counting layers from the top: `layers.l.weight`, `layers.l.offset`,
/// `layers.l.precision`, the parameters of the prior and the structure, as `layers.l.bias.…`, and where nodes
/// are known `layers.l.values`.
///
/// Cost of a step: two products with every weight (a product with A costs as much), and a pass over K scores
/// for every unit; memory O(K) for every node.
///
/// ```
/// use marginals::infer::collapsed::{Exact, FixedPoint};
/// use marginals::zoo::predictive_coding::{Layer, Map, PredictiveCoding, Predictors};
/// # use ndarray::{array, Array3};
/// // A cause z ~ N(0, 1) seen as x = 2 z + noise of precision 4: E[z | x] = 8 x/(1 + 16).
/// let (weight, seen) = (array![[[[2.0f64]]]], array![[[3.0]]]);
/// let cause = Layer::free(1, 1).predicted(Predictors::new(Map::Constant, 1));
/// let predictors = Predictors::new(Map::Dense(weight.view().into()), 1)
///     .with_precision(Array3::from_elem((1, 1, 1), 4.0));
/// let layer = Layer::free(1, 1).clamped(seen.view()).predicted(predictors);
/// let network = PredictiveCoding::new(1, vec![cause, layer])?;
/// let solution = FixedPoint::default().solve(&Exact(&network), &network.start())?;
/// assert!((solution.z[0] - 24.0 / 17.0).abs() < 1e-12);
/// # Ok::<(), marginals::Error>(())
/// ```
pub struct PredictiveCoding<'a, T: Real> {
    network: Network<'a, T>,
    order: Order,
}

impl<'a, T: Real + Element<Real = T>> PredictiveCoding<'a, T> {
    /// A network of `layers` from the top down, for `batch` inputs side by side.
    ///
    /// # Errors
    /// [`Error`], naming the tensor of the layer that does not fit; [`Error::Value`] where no node is free,
    /// and where a precision is not above 0.
    pub fn new(batch: usize, layers: Vec<Layer<'a, T>>) -> Result<Self, Error> {
        Ok(Self { network: Network::new(batch, layers)?, order: Order::Together })
    }

    /// Network with another order of the exact step.
    pub fn with_order(self, order: Order) -> Self {
        Self { order, ..self }
    }

    /// Start of an inference: every free node is the mean of its predictions, all predictors counting alike, from
    /// the top down; 0 where nothing predicts a node.
    pub fn start(&self) -> Vec<T> {
        let network = &self.network;
        let mut nodes = network.nodes(&vec![T::zero(); network.batch * network.width()]);
        for l in 0..network.layers.len() {
            let Some(pass) = LayerPass::new(network, l, &nodes) else { continue };
            // x = 0 has the errors −f.
            let free = network.layers[l].is_free();
            if free {
                let count = T::of(pass.errors.dim().1.max(1) as f64);
                let mean = (&nodes[l].view().insert_axis(Axis(1)) - &pass.errors).sum_axis(Axis(1));
                nodes[l] = mean.mapv(|sum| sum / count);
                let z = network.gathered(nodes.clone());
                nodes = network.nodes(&z);
            }
        }
        network.gathered(nodes)
    }

    /// Values of all nodes at z, by layer [B, N, C].
    ///
    /// # Errors
    /// [`Error::Shape`] where z is of another length.
    pub fn nodes(&self, z: &[T]) -> Result<Vec<Array3<T>>, Error> {
        self.check(z)?;
        Ok(self.network.nodes(z))
    }

    /// E of every layer and entry of the batch, `[layer][entry]`; 0 for layers that nothing predicts.
    ///
    /// # Errors
    /// As [`nodes`](Self::nodes).
    pub fn energies(&self, z: &[T]) -> Result<Vec<Vec<T>>, Error> {
        let nodes = self.nodes(z)?;
        let of_layer = |l| match LayerPass::new(&self.network, l, &nodes) {
            Some(pass) => pass.energy(),
            None => Ok(vec![T::zero(); self.network.batch]),
        };
        (0..self.network.layers.len()).map(of_layer).collect()
    }

    /// Asks anything of the posterior over which predictor explains each unit of a layer: units are queries,
    /// predictors keys, with one head. `None` where nothing predicts it. What is gathered is by predictor.
    ///
    /// # Errors
    /// [`Error`], where the structure does not answer.
    pub fn ask<'v, Q: Question<'v, T>>(
        &self,
        layer: usize,
        z: &[T],
        questions: Q,
    ) -> Result<Option<Q::Answer>, Error> {
        let Some(pass) = self.layer(layer, z)? else { return Ok(None) };
        pass.with_posterior(|posterior| posterior.ask(questions)).map(Some)
    }

    /// Errors of the predictions of a layer, and the precision that the posterior gives each. `None` where
    /// nothing predicts it.
    ///
    /// # Errors
    /// As [`ask`](Self::ask).
    pub fn errors(&self, layer: usize, z: &[T]) -> Result<Option<Errors<T>>, Error> {
        let Some(pass) = self.layer(layer, z)? else { return Ok(None) };
        let precisions = pass.precisions(&pass.explained()?.probability);
        Ok(Some(Errors { errors: pass.errors, precisions }))
    }

    /// F at z, with its gradient in everything that is learned: at the minimum over z, that of the minimum.
    ///
    /// # Errors
    /// As [`nodes`](Self::nodes).
    pub fn learning(&self, z: &[T]) -> Result<(Vec<T>, InputGradients<T>), Error> {
        let mut inputs = self.network.inputs();
        let at = self.descend(z, &mut inputs)?;
        Ok((at.free_energy, inputs))
    }

    /// Something of every number of z, with 0 for those of known nodes. The loss of a fixed point depends on
    /// free nodes alone: take its gradient in z through this.
    ///
    /// # Errors
    /// As [`nodes`](Self::nodes).
    pub fn of_free_nodes(&self, of_z: &[T]) -> Result<Vec<T>, Error> {
        self.check(of_z)?;
        Ok(self.network.gathered(self.network.directions(of_z)))
    }

    fn check(&self, z: &[T]) -> Result<(), Error> {
        let length = self.network.batch * self.network.width();
        if z.len() == length {
            return Ok(());
        }
        Err(Error::shape(
            "z",
            format!("[{length}]: the nodes of layers that have free ones, entry by entry"),
            &[z.len()],
            "Give a number for every node.",
        ))
    }

    /// One layer at z; `None` where nothing predicts it.
    fn layer(&self, layer: usize, z: &[T]) -> Result<Option<LayerPass<'_, 'a, T>>, Error> {
        let nodes = self.nodes(z)?;
        if layer >= self.network.layers.len() {
            let expected = format!("below {}, the number of layers", self.network.layers.len());
            return Err(Error::value("layer", expected, layer));
        }
        Ok(LayerPass::new(&self.network, layer, &nodes))
    }

    /// Every layer at z.
    fn state<'n>(&'n self, z: &[T]) -> Result<State<'n, 'a, T>, Error> {
        let nodes = self.nodes(z)?;
        let layers = 0..self.network.layers.len();
        layers.map(|l| LayerPass::new(&self.network, l, &nodes).map(At::new).transpose()).collect()
    }

    /// F and ∇F; the gradient of the inputs goes to `inputs`.
    fn descend(&self, z: &[T], inputs: &mut InputGradients<T>) -> Result<Evaluation<T>, Error> {
        let mut gradients = self.network.zeros();
        let mut free_energy = vec![T::zero(); self.network.batch];
        for (l, at) in self.state(z)?.iter().enumerate() {
            let Some(At { pass, explained, weighted }) = at else { continue };
            free_energy.iter_mut().zip(&explained.energy).for_each(|(sum, &energy)| *sum += energy);
            pass.gradient(weighted).add_to(&mut gradients, l);
            if inputs.are_wanted() {
                pass.add_input_gradients(&explained.probability, weighted, inputs)?;
            }
        }
        self.add_of_values(&gradients, inputs)?;
        Ok(Evaluation { free_energy, next: self.network.gathered(gradients) })
    }

    /// Product of a direction with ∇²F at a state, or with the matrix that stands for it; its counterpart for
    /// the inputs goes to `inputs`.
    fn along(
        &self,
        state: &State<'_, 'a, T>,
        direction: &[T],
        kind: Along,
        inputs: &mut InputGradients<T>,
    ) -> Result<Vec<T>, Error> {
        self.check(direction)?;
        let directions = self.network.directions(direction);
        let mut products = self.network.zeros();
        for (l, at) in state.iter().enumerate() {
            let Some(At { pass, explained, weighted }) = at else { continue };
            let above = l.checked_sub(1).map(|above| &directions[above]);
            let moving = pass.along(&explained.probability, &directions[l], above, kind)?;
            pass.moving_gradient(&moving, weighted, above, kind).add_to(&mut products, l);
            if inputs.are_wanted() {
                pass.add_moving_input_gradients(&moving, &explained.probability, weighted, inputs)?;
            }
        }
        self.add_of_values(&products, inputs)?;
        Ok(self.network.gathered(products))
    }

    /// Adds what known nodes are owed.
    fn add_of_values(
        &self,
        of_nodes: &[Array3<T>],
        inputs: &mut InputGradients<T>,
    ) -> Result<(), Error> {
        for (l, (layer, gradient)) in self.network.layers.iter().zip(of_nodes).enumerate() {
            match &layer.nodes {
                Nodes::Free => {}
                Nodes::Clamped(_) => inputs.add(&name(l, "values"), gradient)?,
                Nodes::Partly { known, .. } => {
                    let mut own = gradient.clone();
                    ndarray::Zip::from(&mut own).and(known).for_each(|g, &known| {
                        if !known {
                            *g = T::zero();
                        }
                    });
                    inputs.add(&name(l, "values"), &own)?;
                }
            }
        }
        Ok(())
    }

    /// Refuses the exact step where there is none in closed form.
    fn require_linear(&self) -> Result<(), Error> {
        if self.network.is_linear() {
            return Ok(());
        }
        Err(Error::NotAnswerable {
            question: "exact".to_owned(),
            why: "a map of free nodes has an activation, and its step no closed form".to_owned(),
            instead: "Take second-order or gradient steps.".to_owned(),
        })
    }
}

impl<T: Real + Element<Real = T>> Latent<T> for PredictiveCoding<'_, T> {
    fn problems(&self) -> usize {
        self.network.batch
    }
    fn width(&self) -> usize {
        self.network.width()
    }
    fn inputs(&self) -> InputGradients<T> {
        self.network.inputs()
    }
    fn free_energy(&self, z: &[T]) -> Result<Vec<T>, Error> {
        let mut sum = vec![T::zero(); self.network.batch];
        for energies in self.energies(z)? {
            sum.iter_mut().zip(energies).for_each(|(sum, energy)| *sum += energy);
        }
        Ok(sum)
    }
}

impl<T: Real + Element<Real = T>> Differentiable<T> for PredictiveCoding<'_, T> {
    fn gradient(&self, z: &[T]) -> Result<Evaluation<T>, Error> {
        self.descend(z, &mut InputGradients::unwanted())
    }
    fn gradient_backward(
        &self,
        z: &[T],
        upstream: &[T],
        inputs: &mut InputGradients<T>,
    ) -> Result<Vec<T>, Error> {
        self.along(&self.state(z)?, upstream, Along::Exact, inputs)
    }
}

impl<T: Real + Element<Real = T>> Curved<T> for PredictiveCoding<'_, T> {
    fn curvature<'m>(&'m self, z: &[T]) -> Result<Curvature<'m, T>, Error> {
        let state = self.state(z)?;
        Ok(Box::new(move |direction| {
            self.along(&state, direction, Along::Held, &mut InputGradients::unwanted())
        }))
    }
}

impl<T: Real + Element<Real = T>> Maximise<T> for PredictiveCoding<'_, T> {
    fn maximise(&self, z: &[T]) -> Result<Evaluation<T>, Error> {
        self.require_linear()?;
        if self.order == Order::Together {
            let at = self.gradient(z)?;
            let step = solve(self, z, &at.next)?;
            let next = z.iter().zip(step).map(|(&z, step)| z - step).collect();
            return Ok(Evaluation { next, ..at });
        }
        let mut next = z.to_vec();
        let mut free_energy = None;
        for span in self.network.spans().into_iter().rev() {
            let one = OneLayer { model: self, span };
            let at = one.gradient(&next)?;
            free_energy.get_or_insert(at.free_energy);
            let step = solve(&one, &next, &at.next)?;
            next.iter_mut().zip(step).for_each(|(z, step)| *z -= step);
        }
        let free_energy = match free_energy {
            Some(free_energy) => free_energy,
            None => self.free_energy(z)?,
        };
        Ok(Evaluation { free_energy, next })
    }
    /// That of a step of all layers together, at a minimum, where both orders stand still.
    fn maximise_backward(
        &self,
        z: &[T],
        upstream: &[T],
        inputs: &mut InputGradients<T>,
    ) -> Result<Vec<T>, Error> {
        self.require_linear()?;
        pulled(self, z, upstream, inputs)
    }
}
