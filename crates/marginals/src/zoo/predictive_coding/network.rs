//! Networks: layers that predict each other from the top down, checked.

use ndarray::{Array2, Array3, Array4, Axis};

use super::layer::{Layer, Nodes, Predictors, shape};
use super::map::{Ends, Map, Matrix};
use crate::infer::collapsed::InputGradients;
use crate::potential::Scores;
use crate::prior::Prior;
use crate::structure::Structure;
use crate::{Error, Model, Real, Value, refuse_nan};

/// Model of which predictors explain the units of a layer.
pub(super) type Choice<'n, T> = Model<&'n dyn Structure<T>, &'n dyn Prior<T>, Scores>;

/// Layers from the top down.
pub(super) struct Network<'a, T: Real> {
    pub batch: usize,
    pub layers: Vec<Layer<'a, T>>,
}

impl<'a, T: Real> Network<'a, T> {
    pub fn new(batch: usize, layers: Vec<Layer<'a, T>>) -> Result<Self, Error> {
        let network = Self { batch, layers };
        network.check()?;
        Ok(network)
    }

    fn check(&self) -> Result<(), Error> {
        for (l, layer) in self.layers.iter().enumerate() {
            let whole = [self.batch, layer.units, layer.channels];
            let fits = |what: &str, found: &[usize]| match *found == whole {
                true => Ok(()),
                false => Err(Error::shape(
                    name(l, what),
                    format!("{whole:?}: batch, units and channels of its layer"),
                    found,
                    "Every node of a layer has a value and may be known.",
                )),
            };
            match &layer.nodes {
                Nodes::Free => {}
                Nodes::Clamped(values) => {
                    fits("values", values.shape())?;
                    refuse_nan(&name(l, "values"), values)?;
                }
                Nodes::Partly { values, known } => {
                    fits("values", values.shape())?;
                    fits("known", known.shape())?;
                    let invalid = |(at, &known): (_, &bool)| known && values[at].is_nan();
                    if let Some(((b, n, c), _)) = known.indexed_iter().find(|&x| invalid(x)) {
                        return Err(Error::not_a_number(name(l, "values"), vec![b, n, c]));
                    }
                }
            }
            if let Some(predictors) = &layer.predictors {
                self.check_predictors(l, layer, predictors)?;
            }
        }
        if self.width() == 0 && self.layers.iter().all(|layer| !layer.is_free()) {
            return Err(Error::value(
                "layers",
                "a layer with free nodes, which inference can move",
                "a network whose nodes are all known",
            ));
        }
        Ok(())
    }

    fn check_predictors(
        &self,
        l: usize,
        layer: &Layer<'a, T>,
        predictors: &Predictors<'a, T>,
    ) -> Result<(), Error> {
        let count = predictors.count();
        for (what, tensor) in [("offset", &predictors.offset), ("precision", &predictors.precision)]
        {
            let (k, n, c) = tensor.dim();
            if k != count || ![1, layer.units].contains(&n) || ![1, layer.channels].contains(&c) {
                return Err(Error::shape(
                    name(l, what),
                    format!("[{count}, {} or 1, {} or 1]", layer.units, layer.channels),
                    tensor.shape(),
                    "It is [K, N, C]: predictors, units and channels.",
                ));
            }
            refuse_nan(&name(l, what), &tensor.view())?;
        }
        let positive = |p: &&T| p.is_finite() && **p > T::zero();
        if let Some(p) = predictors.precision.iter().find(|p| !positive(p)) {
            return Err(Error::value(name(l, "precision"), "positive, finite numbers", p));
        }
        crate::model::check_positive(&name(l, "beta"), &[predictors.beta])?;
        let sizes = shape(self.batch, layer.units, count);
        predictors.structure.check(&sizes, Value::Gather)?;
        predictors.prior.check(&sizes)?;
        let above = match (&predictors.map, l) {
            (Map::Constant, _) => [0, 0],
            (_, 0) => {
                return Err(Error::value(
                    name(l, "map"),
                    "a constant in the first layer, which has none above it",
                    "a map of the layer above",
                ));
            }
            _ => [self.layers[l - 1].units, self.layers[l - 1].channels],
        };
        let ends = Ends { predictors: count, below: [layer.units, layer.channels], above };
        Matrix::new(&predictors.map, ends, &name(l, "weight")).map(|_| ())
    }

    /// Numbers of z per entry of the batch: all nodes of the layers that have free ones.
    pub fn width(&self) -> usize {
        let free = self.layers.iter().filter(|layer| layer.is_free());
        free.map(|layer| layer.units * layer.channels).sum()
    }

    /// Where the numbers of each layer with free nodes lie in those of a problem, from the top down.
    pub fn spans(&self) -> Vec<std::ops::Range<usize>> {
        let mut from = 0;
        let free = self.layers.iter().filter(|layer| layer.is_free());
        let span = |layer: &Layer<'a, T>| {
            let own = from..from + layer.units * layer.channels;
            from = own.end;
            own
        };
        free.map(span).collect()
    }

    /// 0 for every node, by layer [B, N, C].
    pub fn zeros(&self) -> Vec<Array3<T>> {
        let of_layer =
            |layer: &Layer<'a, T>| Array3::zeros((self.batch, layer.units, layer.channels));
        self.layers.iter().map(of_layer).collect()
    }

    /// Values of all nodes at z, by layer [B, N, C].
    pub fn nodes(&self, z: &[T]) -> Vec<Array3<T>> {
        let mut nodes = self.taken(z);
        for (layer, values) in self.layers.iter().zip(&mut nodes) {
            match &layer.nodes {
                Nodes::Free => {}
                Nodes::Clamped(known) => values.assign(known),
                Nodes::Partly { values: given, known } => {
                    ndarray::Zip::from(values).and(given).and(known).for_each(
                        |x, &given, &known| {
                            if known {
                                *x = given;
                            }
                        },
                    );
                }
            }
        }
        nodes
    }

    /// A direction of z as one of the nodes: known ones do not move.
    pub fn directions(&self, z: &[T]) -> Vec<Array3<T>> {
        let mut directions = self.taken(z);
        self.still(&mut directions);
        directions
    }

    /// 0 for the nodes that are known.
    fn still(&self, of_nodes: &mut [Array3<T>]) {
        for (layer, values) in self.layers.iter().zip(of_nodes) {
            match &layer.nodes {
                Nodes::Free => {}
                Nodes::Clamped(_) => values.fill(T::zero()),
                Nodes::Partly { known, .. } => {
                    ndarray::Zip::from(values).and(known).for_each(|x, &known| {
                        if known {
                            *x = T::zero();
                        }
                    });
                }
            }
        }
    }

    /// z by layer [B, N, C], 0 for layers that are known.
    fn taken(&self, z: &[T]) -> Vec<Array3<T>> {
        let width = self.width();
        let mut at = 0;
        let of_layer = |layer: &Layer<'a, T>| {
            let (units, channels) = (layer.units, layer.channels);
            let mut values = Array3::zeros((self.batch, units, channels));
            if layer.is_free() {
                for (b, mut entry) in values.outer_iter_mut().enumerate() {
                    let own = z[b * width + at..][..units * channels].iter();
                    entry.iter_mut().zip(own).for_each(|(x, &z)| *x = z);
                }
                at += units * channels;
            }
            values
        };
        self.layers.iter().map(of_layer).collect()
    }

    /// Something of every node as z has it, 0 for the nodes that are known.
    pub fn gathered(&self, mut of_nodes: Vec<Array3<T>>) -> Vec<T> {
        self.still(&mut of_nodes);
        let free: Vec<&Array3<T>> = (self.layers.iter().zip(&of_nodes))
            .filter_map(|(layer, values)| layer.is_free().then_some(values))
            .collect();
        let mut z = Vec::with_capacity(self.batch * self.width());
        for b in 0..self.batch {
            free.iter().for_each(|values| z.extend(values.index_axis(Axis(0), b).iter()));
        }
        z
    }

    /// Gradients of zero in everything that F depends on besides z.
    pub fn inputs(&self) -> InputGradients<T> {
        let mut inputs: Vec<(String, Vec<usize>)> = Vec::new();
        for (l, layer) in self.layers.iter().enumerate() {
            if let Nodes::Clamped(values) | Nodes::Partly { values, .. } = &layer.nodes {
                inputs.push((name(l, "values"), values.shape().to_vec()));
            }
            let Some(predictors) = &layer.predictors else { continue };
            match &predictors.map {
                Map::Constant => {}
                Map::Dense(weight) => inputs.push((name(l, "weight"), weight.shape().to_vec())),
                Map::Convolution { weight, .. } => {
                    inputs.push((name(l, "weight"), weight.shape().to_vec()));
                }
            }
            inputs.push((name(l, "offset"), predictors.offset.shape().to_vec()));
            inputs.push((name(l, "precision"), predictors.precision.shape().to_vec()));
            let parts =
                predictors.structure.parameters().into_iter().chain(predictors.prior.parameters());
            inputs.extend(parts.map(|part| (name(l, &part.name), part.shape)));
        }
        InputGradients::zeros(inputs.iter().map(|(name, shape)| (name.as_str(), shape.as_slice())))
    }

    /// Whether every map of a layer with free nodes is of those nodes and not of a function of them: F is
    /// then a parabola in z once predictors have been picked.
    pub fn is_linear(&self) -> bool {
        self.layers.windows(2).all(|pair| {
            let linear = pair[1].predictors.as_ref().is_none_or(|predictors| {
                matches!(predictors.map, Map::Constant)
                    || predictors.activation == super::Activation::Identity
            });
            linear || !pair[0].is_free()
        })
    }
}

impl<'a, T: Real> Layer<'a, T> {
    /// Whether inference can move any of its nodes.
    pub(super) fn is_free(&self) -> bool {
        match &self.nodes {
            Nodes::Free => true,
            Nodes::Clamped(_) => false,
            Nodes::Partly { known, .. } => known.iter().any(|known| !known),
        }
    }
}

impl<T: Real> Predictors<'_, T> {
    /// The model of which of them explain the units, given their scores.
    pub(super) fn choice(&self) -> Choice<'_, T> {
        Model::new(&*self.structure, &*self.prior, Scores)
    }

    pub(super) fn matrix(&self, below: [usize; 2], above: [usize; 2]) -> Option<Matrix<'_, T>> {
        let ends = Ends { predictors: self.count(), below, above };
        Matrix::new(&self.map, ends, "weight").expect("it was checked with the network")
    }

    /// The offsets, [B, K, N, C].
    pub(super) fn offsets(&self, sizes: (usize, usize, usize, usize)) -> Array4<T> {
        let offset = self.offset.view().insert_axis(Axis(0));
        offset.broadcast(sizes).expect("it was checked with the network").to_owned()
    }
}

/// Name of a tensor of a layer.
pub(super) fn name(layer: usize, tensor: &str) -> String {
    format!("layers.{layer}.{tensor}")
}

/// Sum of [B, K, N, C] over the batch and the axes along which a tensor [K, N or 1, C or 1] is shared.
pub(super) fn summed<T: Real>(whole: &Array4<T>, shape: &[usize]) -> Array3<T> {
    let mut sum = whole.sum_axis(Axis(0));
    for axis in [1, 2] {
        if shape[axis] == 1 && sum.shape()[axis] != 1 {
            sum = sum.sum_axis(Axis(axis)).insert_axis(Axis(axis));
        }
    }
    sum
}

/// A matrix as the tensor it is the gradient of.
pub(super) fn shaped<T: Real>(matrix: Array2<T>, shape: &[usize]) -> ndarray::ArrayD<T> {
    let own = matrix.as_standard_layout().into_owned();
    own.into_shape_with_order(shape.to_vec()).expect("a number for each weight")
}
