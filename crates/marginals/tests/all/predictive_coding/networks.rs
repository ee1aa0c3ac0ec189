//! Networks at random, and their energy summed term by term.

use marginals::prior::Bias;
use marginals::zoo::predictive_coding::{Activation, Layer, Map, PredictiveCoding, Predictors};
use marginals_testkit::finite_difference;
use marginals_testkit::generate::Random;
use ndarray::{Array, Array3, Array4, Array5, ShapeBuilder};

/// Map of a layer.
#[derive(Clone, Debug)]
pub enum CaseMap {
    Constant,
    Dense(Array4<f64>),
    Convolution { weight: Array5<f64>, above: [usize; 2], stride: usize, padding: usize },
}

/// Predictors of a layer.
#[derive(Clone, Debug)]
pub struct CasePredictors {
    pub map: CaseMap,
    pub activation: Activation,
    pub offset: Array3<f64>,
    pub precision: Array3<f64>,
    pub beta: f64,
    /// log w, [1, 1, N or 1, K].
    pub log_weights: Array4<f64>,
}

/// Layer of a network.
#[derive(Clone, Debug)]
pub struct CaseLayer {
    pub units: usize,
    pub channels: usize,
    pub values: Array3<f64>,
    pub known: Option<Array3<bool>>,
    pub predictors: Option<CasePredictors>,
}

/// Network with everything it reads.
#[derive(Clone, Debug)]
pub struct Case {
    pub batch: usize,
    pub layers: Vec<CaseLayer>,
}

/// Choices of a generator.
#[derive(Clone, Copy, Debug)]
pub struct Choices {
    /// Maps of free nodes without activations.
    pub linear: bool,
    /// One predictor per unit.
    pub single: bool,
    /// Smooth activations only.
    pub smooth: bool,
}

fn normals<S: ShapeBuilder>(random: &mut Random, shape: S, scale: f64) -> Array<f64, S::Dim> {
    Array::from_shape_simple_fn(shape, || scale * random.normal())
}

impl Case {
    /// Network of up to four layers; the last has nodes that are known, others may.
    pub fn generate(random: &mut Random, choices: Choices) -> Self {
        let batch = random.integer(1, 2) as usize;
        let count = random.integer(2, 4) as usize;
        let mut layers: Vec<CaseLayer> = Vec::new();
        // Grids of the layers, so that convolutions fit.
        let mut grid = [random.integer(1, 3) as usize, random.integer(1, 3) as usize];
        for l in 0..count {
            let last = l + 1 == count;
            let (mut units, channels) = (grid[0] * grid[1], random.integer(1, 2) as usize);
            let k = if choices.single { 1 } else { random.integer(1, 3) as usize };
            let above = layers.last().map(|above| [above.units, above.channels]);
            let map = match above {
                None => CaseMap::Constant,
                Some([units_above, channels_above]) if random.chance(0.4) => {
                    let (stride, padding) =
                        (random.integer(1, 2) as usize, random.integer(0, 1) as usize);
                    let reach = grid.map(|cells| random.integer(1, 2.min(cells as i64)) as usize);
                    let along = |axis: usize| (grid[axis] + 2 * padding - reach[axis]) / stride + 1;
                    let below = [along(0), along(1)];
                    let shape = (k, channels, channels_above, reach[0], reach[1]);
                    assert_eq!(units_above, grid[0] * grid[1]);
                    let convolution = CaseMap::Convolution {
                        weight: normals(random, shape, 0.7),
                        above: grid,
                        stride,
                        padding,
                    };
                    grid = below;
                    units = grid[0] * grid[1];
                    convolution
                }
                Some([units_above, channels_above]) => {
                    grid = [random.integer(1, 3) as usize, random.integer(1, 3) as usize];
                    units = grid[0] * grid[1];
                    let shape = (k, units, channels, units_above * channels_above);
                    CaseMap::Dense(normals(random, shape, 0.6))
                }
            };
            let shared = |random: &mut Random, n: usize| if random.chance(0.5) { 1 } else { n };
            let offset = (k, shared(random, units), shared(random, channels));
            let precision = (k, shared(random, units), shared(random, channels));
            let rows = shared(random, units);
            let activations = match (choices.linear, choices.smooth) {
                (true, _) => &[Activation::Identity][..],
                (_, true) => &[Activation::Identity, Activation::Tanh, Activation::Softplus],
                _ => &[
                    Activation::Identity,
                    Activation::Tanh,
                    Activation::Logistic,
                    Activation::Softplus,
                    Activation::Relu,
                ],
            };
            let predictors = (l > 0 || random.chance(0.7)).then(|| CasePredictors {
                map,
                activation: *random.pick(activations),
                offset: normals(random, offset, 1.0),
                precision: normals(random, precision, 0.5).mapv(f64::exp),
                beta: if random.chance(0.5) { 1.0 } else { random.between(0.3, 3.0) },
                log_weights: normals(random, (1, 1, rows, k), 1.0),
            });
            let shape = (batch, units, channels);
            let known = match random.integer(0, 3) {
                0 if l > 0 => Some(Array3::from_shape_simple_fn(shape, || random.chance(0.5))),
                _ if last => Some(Array3::from_elem(shape, true)),
                _ => None,
            };
            let values = normals(random, shape, 1.5);
            layers.push(CaseLayer { units, channels, values, known, predictors });
        }
        Self { batch, layers }
    }

    pub fn network(&self) -> PredictiveCoding<'_, f64> {
        let layers = self.layers.iter().map(|layer| {
            let mut made = Layer::free(layer.units, layer.channels);
            if let Some(known) = &layer.known {
                made = match known.iter().all(|&known| known) {
                    true => made.clamped(layer.values.view()),
                    false => made.partly_clamped(layer.values.view(), known.view()),
                };
            }
            let Some(own) = &layer.predictors else { return made };
            let map = match &own.map {
                CaseMap::Constant => Map::Constant,
                CaseMap::Dense(weight) => Map::Dense(weight.view().into()),
                CaseMap::Convolution { weight, above, stride, padding } => Map::Convolution {
                    weight: weight.view().into(),
                    above: *above,
                    stride: *stride,
                    padding: *padding,
                },
            };
            let predictors = Predictors::new(map, own.offset.dim().0)
                .with_activation(own.activation)
                .with_offset(own.offset.view())
                .with_precision(own.precision.view())
                .with_beta(own.beta)
                .with_prior(Bias::new(own.log_weights.view()));
            made.predicted(predictors)
        });
        PredictiveCoding::new(self.batch, layers.collect()).unwrap()
    }

    /// Whether a layer has nodes to infer.
    fn is_free(layer: &CaseLayer) -> bool {
        layer.known.as_ref().is_none_or(|known| known.iter().any(|&known| !known))
    }

    /// Numbers of z per entry.
    pub fn width(&self) -> usize {
        let free = self.layers.iter().filter(|layer| Self::is_free(layer));
        free.map(|layer| layer.units * layer.channels).sum()
    }

    /// Value of every node at z.
    fn nodes(&self, z: &[f64]) -> Vec<Array3<f64>> {
        let mut from = 0;
        let width = self.width();
        let mut nodes = Vec::new();
        for layer in &self.layers {
            let mut own = layer.values.clone();
            if Self::is_free(layer) {
                for ((b, n, c), x) in own.indexed_iter_mut() {
                    if !layer.known.as_ref().is_some_and(|known| known[[b, n, c]]) {
                        *x = z[b * width + from + n * layer.channels + c];
                    }
                }
                from += layer.units * layer.channels;
            }
            nodes.push(own);
        }
        nodes
    }

    /// F of every entry, from the definition.
    pub fn free_energy(&self, z: &[f64]) -> Vec<f64> {
        let nodes = self.nodes(z);
        let mut sums = vec![0.0; self.batch];
        for (l, layer) in self.layers.iter().enumerate() {
            let Some(own) = &layer.predictors else { continue };
            for (b, sum) in sums.iter_mut().enumerate() {
                for i in 0..layer.units {
                    let rows = own.log_weights.dim().2;
                    let terms: Vec<f64> = (0..own.offset.dim().0)
                        .map(|k| {
                            let mut term =
                                own.log_weights[[0, 0, if rows == 1 { 0 } else { i }, k]];
                            for c in 0..layer.channels {
                                let f = self.prediction(l, &nodes, b, [k, i, c]);
                                let precision = shared(&own.precision, [k, i, c]);
                                let e = nodes[l][[b, i, c]] - f;
                                term += own.beta * 0.5 * (precision.ln() - precision * e * e);
                            }
                            term
                        })
                        .collect();
                    let max = terms.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                    let total: f64 = terms.iter().map(|t| (t - max).exp()).sum();
                    *sum -= (max + total.ln()) / own.beta;
                }
            }
        }
        sums
    }

    fn prediction(&self, l: usize, nodes: &[Array3<f64>], b: usize, [k, i, c]: [usize; 3]) -> f64 {
        let own = self.layers[l].predictors.as_ref().unwrap();
        let mut f = shared(&own.offset, [k, i, c]);
        let act = |h: f64| match own.activation {
            Activation::Identity => h,
            Activation::Relu => h.max(0.0),
            Activation::Tanh => h.tanh(),
            Activation::Logistic => 1.0 / (1.0 + (-h).exp()),
            Activation::Softplus => (1.0 + h.exp()).ln(),
        };
        match &own.map {
            CaseMap::Constant => {}
            CaseMap::Dense(weight) => {
                for (p, &h) in nodes[l - 1].index_axis(ndarray::Axis(0), b).iter().enumerate() {
                    f += weight[[k, i, c, p]] * act(h);
                }
            }
            CaseMap::Convolution { weight, above, stride, padding } => {
                let (.., channels, height, width) = weight.dim();
                let across = (above[1] + 2 * padding - width) / stride + 1;
                let (y, x) = (i / across, i % across);
                for dy in 0..height {
                    for dx in 0..width {
                        let row = (y * stride + dy) as i64 - *padding as i64;
                        let column = (x * stride + dx) as i64 - *padding as i64;
                        let inside = (0..above[0] as i64).contains(&row)
                            && (0..above[1] as i64).contains(&column);
                        if inside {
                            let unit = row as usize * above[1] + column as usize;
                            for channel in 0..channels {
                                let h = nodes[l - 1][[b, unit, channel]];
                                f += weight[[k, c, channel, dy, dx]] * act(h);
                            }
                        }
                    }
                }
            }
        }
        f
    }

    /// A tensor that F depends on, by the name of its gradient, `layers.l.…`.
    pub fn input(&mut self, name: &str) -> &mut [f64] {
        let (l, tensor) = name.strip_prefix("layers.").unwrap().split_once('.').unwrap();
        let layer = &mut self.layers[l.parse::<usize>().unwrap()];
        if tensor == "values" {
            return layer.values.as_slice_mut().unwrap();
        }
        let own = layer.predictors.as_mut().unwrap();
        match (tensor, &mut own.map) {
            ("weight", CaseMap::Dense(weight)) => weight.as_slice_mut(),
            ("weight", CaseMap::Convolution { weight, .. }) => weight.as_slice_mut(),
            ("offset", _) => own.offset.as_slice_mut(),
            ("precision", _) => own.precision.as_slice_mut(),
            ("bias", _) => own.log_weights.as_slice_mut(),
            _ => panic!("no tensor {name}"),
        }
        .unwrap()
    }

    /// Numbers of z, one for every node of a layer with free ones.
    pub fn state(&self, random: &mut Random) -> Vec<f64> {
        random.normals(self.batch * self.width())
    }
}

fn shared(tensor: &Array3<f64>, [k, n, c]: [usize; 3]) -> f64 {
    let (_, units, channels) = tensor.dim();
    tensor[[k, if units == 1 { 0 } else { n }, if channels == 1 { 0 } else { c }]]
}

/// ∂f/∂x by differences.
pub fn gradient(x: &[f64], f: impl FnMut(&[f64]) -> f64) -> Vec<f64> {
    finite_difference::gradient(x, f).into_iter().map(|derivative| derivative.value).collect()
}
