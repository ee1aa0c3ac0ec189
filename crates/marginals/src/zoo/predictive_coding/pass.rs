//! One layer at some state: predictions, their errors, and which predictor explains what.

use ndarray::{Array2, Array3, Array4, Axis, Zip};

use super::layer::{Layer, Predictors};
use super::map::Matrix;
use super::network::{Network, name, shaped, summed};
use crate::infer::collapsed::InputGradients;
use crate::question::{LogPartition, Marginals};
use crate::{Element, Error, Posterior, Real};

/// A layer and its predictions, at some state of the nodes.
pub(super) struct LayerPass<'n, 'a, T: Real> {
    index: usize,
    predictors: &'n Predictors<'a, T>,
    matrix: Option<Matrix<'n, T>>,
    patches: Option<Array2<T>>,
    /// a′ and a″ of the layer above, [B, N_p, C_p].
    slopes: [Array3<T>; 2],
    /// Prediction errors x_i − f_k, [B, K, N, C].
    pub errors: Array4<T>,
    /// β times the log-likelihoods of the predictors, [B, 1, N, K].
    scores: Array4<T>,
    keys: Array4<T>,
}

/// Which predictors explain the units of a layer, and how well.
pub(super) struct Explained<T> {
    /// Energy of every entry of the batch, nats.
    pub energy: Vec<T>,
    /// P(k explains i), [B, 1, N, K].
    pub probability: Array4<T>,
}

/// A layer at some state, its posterior known.
pub(super) struct At<'n, 'a, T: Real> {
    pub pass: LayerPass<'n, 'a, T>,
    pub explained: Explained<T>,
    /// p_ik Π_k (x_i − f_k), [B, K, N, C].
    pub weighted: Array4<T>,
}

impl<'n, 'a, T: Real + Element<Real = T>> At<'n, 'a, T> {
    pub fn new(pass: LayerPass<'n, 'a, T>) -> Result<Self, Error> {
        let explained = pass.explained()?;
        let weighted = pass.weighted(&explained.probability);
        Ok(Self { pass, explained, weighted })
    }
}

/// Gradients in the nodes of a layer and in those of the layer above.
pub(super) struct NodeGradients<T> {
    own: Array3<T>,
    above: Option<Array3<T>>,
}

impl<T: Real> NodeGradients<T> {
    /// Adds them to those of all layers; they are of layer `l`.
    pub fn add_to(self, of_layers: &mut [Array3<T>], l: usize) {
        of_layers[l] += &self.own;
        if let Some(above) = self.above {
            of_layers[l - 1] += &above;
        }
    }
}

/// How ∇F changes along a direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Along {
    /// As it does: ∇²F.
    Exact,
    /// With the picks and the slopes of activations held: the parabola above F in a linear network, and
    /// Gauss and Newton's matrix in others. It is never negative.
    Held,
}

impl<'n, 'a, T: Real + Element<Real = T>> LayerPass<'n, 'a, T> {
    /// Layer `index` of a network; `None` where nothing predicts it.
    pub fn new(network: &'n Network<'a, T>, index: usize, nodes: &[Array3<T>]) -> Option<Self> {
        let layer = &network.layers[index];
        let predictors = layer.predictors.as_ref()?;
        let below = [layer.units, layer.channels];
        let sizes = (network.batch, predictors.count(), layer.units, layer.channels);
        let above = |layer: &Layer<'_, T>| [layer.units, layer.channels];
        let matrix = match index {
            0 => None,
            _ => predictors.matrix(below, above(&network.layers[index - 1])),
        };
        let mut predicted = predictors.offsets(sizes);
        let (mut patches, mut slopes) =
            (None, [Array3::zeros((0, 0, 0)), Array3::zeros((0, 0, 0))]);
        if let Some(matrix) = &matrix {
            let h = &nodes[index - 1];
            let activation = predictors.activation;
            let active = h.mapv(|h| activation.derivatives(h)[0]);
            slopes = [1, 2].map(|order| h.mapv(|h| activation.derivatives(h)[order]));
            let seen = matrix.patches(active.view());
            predicted += &matrix.apply(seen.view());
            patches = Some(seen);
        }
        let own = nodes[index].view().insert_axis(Axis(1));
        let errors = &own - &predicted;
        let mut pass = Self {
            index,
            predictors,
            matrix,
            patches,
            slopes,
            errors,
            scores: Array4::zeros((sizes.0, 1, sizes.2, sizes.1)),
            keys: Array4::zeros((sizes.0, 1, sizes.1, 0)),
        };
        pass.scores = pass.log_likelihoods();
        Some(pass)
    }

    /// Π at [k, n, c].
    fn precision(&self, at: (usize, usize, usize)) -> T {
        of_shared(&self.predictors.precision, at)
    }

    fn beta(&self) -> T {
        T::of(self.predictors.beta)
    }

    /// β ½ Σ_c (log Π − Π e²), [B, 1, N, K].
    fn log_likelihoods(&self) -> Array4<T> {
        let mut scores = self.scores.clone();
        let half = T::of(0.5) * self.beta();
        for ((b, k, n, c), &e) in self.errors.indexed_iter() {
            let precision = self.precision((k, n, c));
            scores[[b, 0, n, k]] += half * (precision.ln() - precision * e * e);
        }
        scores
    }

    /// The posterior over the predictors of every unit.
    pub fn with_posterior<R>(
        &self,
        ask: impl FnOnce(&Posterior<'_, T>) -> Result<R, Error>,
    ) -> Result<R, Error> {
        let model = self.predictors.choice();
        ask(&model.posterior(self.scores.view(), self.keys.view())?)
    }

    /// E = −β⁻¹ Σ log Z of every entry of the batch, and the marginals.
    pub fn explained(&self) -> Result<Explained<T>, Error> {
        let (log_z, probability) =
            self.with_posterior(|posterior| posterior.ask((LogPartition, Marginals)))?;
        Ok(Explained { energy: self.energies(&log_z), probability })
    }

    /// E alone.
    pub fn energy(&self) -> Result<Vec<T>, Error> {
        let log_z = self.with_posterior(|posterior| posterior.ask(LogPartition))?;
        Ok(self.energies(&log_z))
    }

    fn energies(&self, log_z: &Array3<T>) -> Vec<T> {
        let sum = |own: ndarray::ArrayView2<'_, T>| own.iter().copied().sum::<T>();
        log_z.outer_iter().map(|own| -(sum(own) / self.beta())).collect()
    }

    /// p_ik Π_k (x_i − f_k), [B, K, N, C]: the errors, weighted by the precision that the posterior gives them.
    pub fn weighted(&self, probability: &Array4<T>) -> Array4<T> {
        let mut weighted = self.errors.clone();
        for ((b, k, n, c), x) in weighted.indexed_iter_mut() {
            let p = probability[[b, 0, n, k]];
            // Where a predictor cannot be picked its error may be anything.
            *x = if p == T::zero() { p } else { p * self.precision((k, n, c)) * *x };
        }
        weighted
    }

    /// p_ik Π_k, [B, K, N, C].
    pub fn precisions(&self, probability: &Array4<T>) -> Array4<T> {
        let at = |(b, k, n, c)| probability[[b, 0, n, k]] * self.precision((k, n, c));
        Array4::from_shape_fn(self.errors.raw_dim(), at)
    }

    /// ∂E/∂nodes from the weighted errors.
    pub fn gradient(&self, weighted: &Array4<T>) -> NodeGradients<T> {
        let above = self.matrix.as_ref().map(|matrix| {
            let mut pulled = matrix.transposed(weighted);
            Zip::from(&mut pulled).and(&self.slopes[0]).for_each(|g, &slope| *g = -(*g * slope));
            pulled
        });
        NodeGradients { own: weighted.sum_axis(Axis(1)), above }
    }

    /// Adds ∂E/∂input to `inputs`.
    pub fn add_input_gradients(
        &self,
        probability: &Array4<T>,
        weighted: &Array4<T>,
        inputs: &mut InputGradients<T>,
    ) -> Result<(), Error> {
        let patches = self.patches.as_ref();
        self.add_of_weight(patches.map(|patches| (weighted, patches)).into_iter(), inputs)?;
        self.add("offset", &summed(weighted, self.predictors.offset.shape()).mapv(|g| -g), inputs)?;
        let half = T::of(0.5);
        let of_precision = self.of_precision(|(b, k, n, _), e, precision| {
            let p = probability[[b, 0, n, k]];
            if p == T::zero() { p } else { p * half * (e * e - precision.recip()) }
        });
        self.add("precision", &of_precision, inputs)?;
        let log_z = -self.beta().recip();
        self.add_of_choice(
            |posterior| {
                let pass = posterior.pass(LogPartition)?;
                let upstream = pass.answer()?.mapv(|_| log_z);
                Ok(pass.backward(&upstream)?.parameters)
            },
            inputs,
        )
    }

    /// Change of everything at this state along a direction of the nodes.
    pub fn along(
        &self,
        probability: &Array4<T>,
        own: &Array3<T>,
        above: Option<&Array3<T>>,
        kind: Along,
    ) -> Result<Moving<T>, Error> {
        let mut predicted = None;
        let mut patches = None;
        if let (Some(matrix), Some(above)) = (&self.matrix, above) {
            let active = above * &self.slopes[0];
            let seen = matrix.patches(active.view());
            predicted = Some(matrix.apply(seen.view()));
            patches = Some(seen);
        }
        let mut errors = Array4::zeros(self.errors.raw_dim());
        errors += &own.view().insert_axis(Axis(1));
        if let Some(predicted) = predicted {
            errors -= &predicted;
        }
        let mut scores = Array4::zeros(self.scores.raw_dim());
        let mut probabilities = Array4::zeros(self.scores.raw_dim());
        if kind == Along::Exact {
            for ((b, k, n, c), &e) in self.errors.indexed_iter() {
                // 0 · ∞ where a predictor cannot be picked.
                if probability[[b, 0, n, k]] != T::zero() {
                    let change = self.precision((k, n, c)) * e * errors[[b, k, n, c]];
                    scores[[b, 0, n, k]] -= change * self.beta();
                }
            }
            // The Hessian of log Z is symmetric, so that its product with a direction is a backward pass.
            probabilities = self.with_posterior(|posterior| {
                let pass = posterior.pass(Marginals)?;
                Ok(pass.backward(&scores)?.q)
            })?;
        }
        let mut weighted = Array4::zeros(self.errors.raw_dim());
        for ((b, k, n, c), x) in weighted.indexed_iter_mut() {
            let (p, moving) = (probability[[b, 0, n, k]], probabilities[[b, 0, n, k]]);
            if p != T::zero() || moving != T::zero() {
                let at = [b, k, n, c];
                let precision = self.precision((k, n, c));
                *x = precision * (moving * self.errors[at] + p * errors[at]);
            }
        }
        Ok(Moving { errors, scores, probabilities, weighted, patches })
    }

    /// Change of ∂E/∂nodes.
    pub fn moving_gradient(
        &self,
        moving: &Moving<T>,
        weighted: &Array4<T>,
        above: Option<&Array3<T>>,
        kind: Along,
    ) -> NodeGradients<T> {
        let mut gradients = self.gradient(&moving.weighted);
        if let (Some(matrix), Some(along), Some(g), Along::Exact) =
            (&self.matrix, above, &mut gradients.above, kind)
        {
            let pulled = matrix.transposed(weighted);
            Zip::from(g)
                .and(&pulled)
                .and(&self.slopes[1])
                .and(along)
                .for_each(|g, &pulled, &curvature, &along| *g -= pulled * curvature * along);
        }
        gradients
    }

    /// Adds the change of ∂E/∂input to `inputs`.
    pub fn add_moving_input_gradients(
        &self,
        moving: &Moving<T>,
        probability: &Array4<T>,
        weighted: &Array4<T>,
        inputs: &mut InputGradients<T>,
    ) -> Result<(), Error> {
        let here = self.patches.as_ref().map(|patches| (&moving.weighted, patches));
        let there = moving.patches.as_ref().map(|patches| (weighted, patches));
        self.add_of_weight(here.into_iter().chain(there), inputs)?;
        let of_offset = summed(&moving.weighted, self.predictors.offset.shape());
        self.add("offset", &of_offset.mapv(|g| -g), inputs)?;
        let half = T::of(0.5);
        let of_precision = self.of_precision(|(b, k, n, c), e, precision| {
            let (p, change) = (probability[[b, 0, n, k]], moving.probabilities[[b, 0, n, k]]);
            if p == T::zero() && change == T::zero() {
                return p;
            }
            let curve = change * half * (e * e - precision.recip());
            curve + p * e * moving.errors[[b, k, n, c]]
        });
        self.add("precision", &of_precision, inputs)?;
        // ∂E/∂log w = −p/β, which moves by −H s/β.
        let scores = moving.scores.mapv(|s| -(s / self.beta()));
        self.add_of_choice(
            |posterior| Ok(posterior.pass(Marginals)?.backward(&scores)?.parameters),
            inputs,
        )
    }

    fn add_of_weight<'p>(
        &self,
        products: impl Iterator<Item = (&'p Array4<T>, &'p Array2<T>)>,
        inputs: &mut InputGradients<T>,
    ) -> Result<(), Error> {
        let (Some(matrix), true) = (&self.matrix, inputs.are_wanted()) else { return Ok(()) };
        let mut sum = Array2::zeros(matrix.dim());
        products.for_each(|(rows, patches)| sum -= &matrix.weight_gradient(rows, patches.view()));
        let named = name(self.index, "weight");
        let shape = inputs.get(&named).map(|input| input.shape().to_vec());
        let shape = shape.expect("a layer with a map has a gradient of its weight");
        inputs.add(&named, &shaped(sum, &shape))
    }

    fn of_precision(&self, of: impl Fn((usize, usize, usize, usize), T, T) -> T) -> Array3<T> {
        let mut whole = Array4::zeros(self.errors.raw_dim());
        for ((b, k, n, c), x) in whole.indexed_iter_mut() {
            *x = of((b, k, n, c), self.errors[[b, k, n, c]], self.precision((k, n, c)));
        }
        summed(&whole, self.predictors.precision.shape())
    }

    /// Gradients in the parameters of the structure and the prior.
    fn add_of_choice(
        &self,
        gradients: impl FnOnce(&Posterior<'_, T>) -> Result<Vec<crate::ParameterGradient<T>>, Error>,
        inputs: &mut InputGradients<T>,
    ) -> Result<(), Error> {
        let predictors = self.predictors;
        let none = predictors.structure.parameters().is_empty()
            && predictors.prior.parameters().is_empty();
        if none || !inputs.are_wanted() {
            return Ok(());
        }
        for parameter in self.with_posterior(gradients)? {
            self.add(&parameter.name, &parameter.gradient, inputs)?;
        }
        Ok(())
    }

    fn add<D: ndarray::Dimension>(
        &self,
        tensor: &str,
        amount: &ndarray::Array<T, D>,
        inputs: &mut InputGradients<T>,
    ) -> Result<(), Error> {
        inputs.add(&name(self.index, tensor), amount)
    }
}

/// Change of a layer along a direction of the nodes.
pub(super) struct Moving<T> {
    /// Of the errors, [B, K, N, C].
    errors: Array4<T>,
    /// Of the scores, [B, 1, N, K].
    scores: Array4<T>,
    /// Of the marginals, [B, 1, N, K].
    probabilities: Array4<T>,
    /// Of the weighted errors, [B, K, N, C].
    weighted: Array4<T>,
    patches: Option<Array2<T>>,
}

/// Entry of a tensor [K, N or 1, C or 1].
fn of_shared<T: Real>(
    tensor: &ndarray::CowArray<'_, T, ndarray::Ix3>,
    (k, n, c): (usize, usize, usize),
) -> T {
    let (_, units, channels) = tensor.dim();
    tensor[[k, if units == 1 { 0 } else { n }, if channels == 1 { 0 } else { c }]]
}
