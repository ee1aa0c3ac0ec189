use marginals_kernels::{InstructionSet, Tile, TileMut};
use ndarray::{Array2, Array3, Array4, ArrayView2, ArrayViewMut2, Axis, CowArray, Ix2};
use serde::{Deserialize, Serialize};

use super::contract::{Place, Potential, PotentialPart};
use super::features::{FeatureGradient, Features, lanes};
use super::tangent::{Motion, Moving};
use crate::infer::EdgeFunction;
use crate::model::numbers::Domain;
use crate::model::part::{Named, NamedTensor, Part, Sizes, Weight};
use crate::model::per_head::head_index;
use crate::model::tensors::Inputs;
use crate::{Block, Error, Parameter, Real, Shape};

/// Which additive form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename = "additive form", rename_all = "lowercase")]
pub enum AdditiveForm {
    /// LeakyReLU(a_q·W_q q + a_k·W_k k) (Veličković et al., arXiv 1710.10903, eq. 3).
    Gat,
    /// a·LeakyReLU(W_q q + W_k k) (Brody, Alon & Yahav, arXiv 2105.14491, eq. 7).
    GatV2,
    /// a·tanh(W_q q + W_k k) (Bahdanau, Cho & Bengio, arXiv 1409.0473, §A.1.2).
    Bahdanau,
}

/// log ψ(q, k) = aᵀ act(W_q q + W_k k), in the forms of [`AdditiveForm`].
///
/// Cost per edge: one activation per feature for GATv2 and Bahdanau, one in all for GAT. In a file the
/// weights are [`Named`]: the tensors `additive.a`, for GAT `additive.a-key`, and, if present,
/// `additive.query` and `additive.key`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Additive<W = AdditiveWeights> {
    /// Which form.
    #[serde(rename = "kind")]
    pub form: AdditiveForm,
    /// Slope of LeakyReLU below 0, in the GAT forms; without, 0.2 (that of GAT's paper, §3.3).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slope: Option<f64>,
    #[serde(skip)]
    weights: W,
}

/// The weights of an additive potential.
#[derive(Clone, Debug, PartialEq)]
pub struct AdditiveWeights {
    /// a (a_q for GAT): [H or 1, F].
    a_query: Array2<f64>,
    /// a_k for GAT: [Hk or 1, F].
    a_key: Option<Array2<f64>>,
    /// W_q: [H or 1, F, D]; absent is the identity.
    query: Option<Array3<f64>>,
    /// W_k: [Hk or 1, F, D]; absent is the identity.
    key: Option<Array3<f64>>,
}

/// LeakyReLU's slope where the model gives none.
const USUAL_SLOPE: f64 = 0.2;

impl Additive<Named> {
    /// The potential whose weights are in the input.
    pub fn named(form: AdditiveForm, slope: Option<f64>) -> Self {
        Self { form, slope, weights: Named }
    }
}

impl Part for Additive<Named> {
    const NAME: &'static str = "additive";
    const MEANING: &'static str =
        "log ψ = aᵀ act(W_q q + W_k k), in the forms gat, gatv2 and bahdanau";
    const EXAMPLE: &'static str = "{ additive = { kind = \"gatv2\", slope = 0.2 } }";
    const TENSORS: &'static [NamedTensor] = &[
        NamedTensor::real("additive.a", "[H, F]", "a, or a_q of GAT"),
        NamedTensor::real("additive.a-key", "[Hk, F]", "a_k of GAT").only("for gat"),
        NamedTensor::real("additive.query", "[H, F, D]", "W_q").only("if present"),
        NamedTensor::real("additive.key", "[Hk, F, D]", "W_k").only("if present"),
    ];

    fn weights(&self, sizes: &Sizes) -> Vec<Weight> {
        let Sizes { heads, key_heads, width } = *sizes;
        let bound = 1.0 / (width as f64).sqrt();
        let weight = |name, shape: &[usize]| Weight { name, shape: shape.to_vec(), bound };
        let mut weights = vec![weight("additive.a", &[heads, width])];
        if self.form == AdditiveForm::Gat {
            weights.push(weight("additive.a-key", &[key_heads, width]));
        }
        weights.push(weight("additive.query", &[heads, width, width]));
        weights.push(weight("additive.key", &[key_heads, width, width]));
        weights
    }
}

impl PotentialPart for Additive<Named> {
    fn build<T: Real>(&self, inputs: &Inputs<'_, T>) -> Result<Box<dyn Potential<T>>, Error> {
        let projected = inputs.has("additive.query") || inputs.has("additive.key");
        let weights = AdditiveWeights {
            a_query: inputs.array("additive.a")?,
            a_key: match self.form {
                AdditiveForm::Gat => Some(inputs.array("additive.a-key")?),
                AdditiveForm::GatV2 | AdditiveForm::Bahdanau => None,
            },
            query: if projected { Some(inputs.array("additive.query")?) } else { None },
            key: if projected { Some(inputs.array("additive.key")?) } else { None },
        };
        Ok(Box::new(Additive { form: self.form, slope: self.slope, weights }))
    }
}

impl Additive {
    fn new(
        form: AdditiveForm,
        slope: Option<f64>,
        a_query: Array2<f64>,
        a_key: Option<Array2<f64>>,
    ) -> Self {
        let weights = AdditiveWeights { a_query, a_key, query: None, key: None };
        Self { form, slope, weights }
    }

    /// GAT with a_q [H, F] and a_k [Hk, F].
    pub fn gat(slope: f64, a_query: Array2<f64>, a_key: Array2<f64>) -> Self {
        Self::new(AdditiveForm::Gat, Some(slope), a_query, Some(a_key))
    }

    /// GATv2 with a [H, F].
    pub fn gat_v2(slope: f64, a: Array2<f64>) -> Self {
        Self::new(AdditiveForm::GatV2, Some(slope), a, None)
    }

    /// Bahdanau's form with a [H, F].
    pub fn bahdanau(a: Array2<f64>) -> Self {
        Self::new(AdditiveForm::Bahdanau, None, a, None)
    }

    /// Projects queries by W_q [H, F, D] and keys by W_k [Hk, F, D] first.
    pub fn with_projections(mut self, query: Array3<f64>, key: Array3<f64>) -> Self {
        self.weights.query = Some(query);
        self.weights.key = Some(key);
        self
    }

    fn features(&self) -> usize {
        self.weights.a_query.ncols()
    }

    fn leak<T: Real>(&self) -> Option<T> {
        match self.form {
            AdditiveForm::Gat | AdditiveForm::GatV2 => {
                Some(T::of(self.slope.unwrap_or(USUAL_SLOPE)))
            }
            AdditiveForm::Bahdanau => None,
        }
    }

    /// W x, or x, per row; then a·(W x) for GAT, whose feature is that one number.
    fn project<'a, T: Real>(
        &self,
        head: usize,
        rows: ArrayView2<'a, T>,
        weights: &Option<Array3<f64>>,
        a: Option<&Array2<f64>>,
    ) -> CowArray<'a, T, Ix2> {
        let projected: CowArray<'a, T, Ix2> = match weights {
            None => rows.into(),
            Some(w) => {
                let w = w.index_axis(Axis(0), head_index(w.shape()[0], head));
                rows.dot(&w.mapv(T::of).t()).into()
            }
        };
        match a {
            None => projected,
            Some(a) => {
                let a = a.row(head_index(a.nrows(), head)).mapv(T::of);
                projected.dot(&a).insert_axis(Axis(1)).into()
            }
        }
    }

    /// Backward of [`project`](Self::project): `dw` and `da` are flat parameter gradients.
    #[allow(clippy::too_many_arguments, reason = "one argument per thing that flows back")]
    fn project_backward<T: Real>(
        &self,
        head: usize,
        rows: ArrayView2<'_, T>,
        gradient: ArrayView2<'_, T>,
        weights: &Option<Array3<f64>>,
        a: Option<&Array2<f64>>,
        mut into: ArrayViewMut2<'_, T>,
        dw: Option<&mut Vec<f64>>,
        da: Option<&mut Vec<f64>>,
    ) {
        let mut gradient = CowArray::from(gradient);
        if let (Some(a), Some(da)) = (a, da) {
            let index = head_index(a.nrows(), head);
            let projected = self.project(head, rows, weights, None);
            let sums = projected.t().dot(&gradient.column(0));
            let width = a.ncols();
            let da = &mut da[index * width..][..width];
            da.iter_mut().zip(&sums).for_each(|(x, g)| *x += g.f64());
            let a = a.row(index).mapv(T::of).insert_axis(Axis(0));
            gradient = gradient.dot(&a).into();
        }
        match (weights, dw) {
            (Some(w), Some(dw)) => {
                let (heads, features, width) = w.dim();
                let index = head_index(heads, head);
                let sums = gradient.t().dot(&rows);
                let dw = &mut dw[index * features * width..][..features * width];
                dw.iter_mut().zip(&sums).for_each(|(x, g)| *x += g.f64());
                into.assign(&gradient.dot(&w.index_axis(Axis(0), index).mapv(T::of)));
            }
            _ => into.assign(&gradient),
        }
    }

    /// Where each parameter stands in the list: (a, a_k, W_q, W_k).
    fn slots(&self) -> (usize, Option<usize>, Option<usize>, Option<usize>) {
        let a_key = self.weights.a_key.is_some();
        let next = 1 + usize::from(a_key);
        let projections = self.weights.query.is_some();
        (0, a_key.then_some(1), projections.then_some(next), projections.then_some(next + 1))
    }
}

impl<T: Real> Potential<T> for Additive {
    fn name(&self) -> &'static str {
        <Additive<Named> as Part>::NAME
    }
    fn check(&self, shape: &Shape) -> Result<(), Error> {
        let features = self.features();
        let vectors = [
            ("additive.a", Some(&self.weights.a_query), shape.heads),
            ("additive.a-key", self.weights.a_key.as_ref(), shape.key_heads),
        ];
        for (name, a, heads) in vectors {
            let Some(a) = a else { continue };
            if (a.nrows() != 1 && a.nrows() != heads) || a.ncols() != features {
                return Err(Error::shape(
                    name,
                    format!("[{heads}, {features}] (or [1, {features}])"),
                    a.shape(),
                    "Give one vector of features per head.",
                ));
            }
        }
        let sides = [
            ("additive.query", &self.weights.query, shape.heads, shape.query_width, "q"),
            ("additive.key", &self.weights.key, shape.key_heads, shape.key_width, "k"),
        ];
        for (name, weights, heads, width, tensor) in sides {
            match weights {
                Some(w) => {
                    let (h, f, d) = w.dim();
                    if (h != 1 && h != heads) || f != features || d != width {
                        return Err(Error::shape(
                            name,
                            format!("[{heads}, {features}, {width}] (or 1 head)"),
                            w.shape(),
                            "Give one projection per head.",
                        ));
                    }
                }
                None if width != features => {
                    return Err(Error::Shape {
                        argument: tensor.to_owned(),
                        expected: format!("rows of {features} numbers, as `additive.a` has"),
                        found: format!("rows of {width}"),
                        advice: format!("Add `{name}` to project them."),
                    });
                }
                None => {}
            }
        }
        match (self.form, self.slope) {
            (AdditiveForm::Bahdanau, Some(slope)) => {
                Err(Error::value("additive.slope", "nothing: tanh has no slope", slope))
            }
            (_, Some(slope)) => Domain::Real.check("additive.slope", &[slope]),
            (_, None) => Ok(()),
        }
    }
    fn query_features<'a>(&self, place: Place<'_>, q: ArrayView2<'a, T>) -> CowArray<'a, T, Ix2> {
        let a = (self.form == AdditiveForm::Gat).then_some(&self.weights.a_query);
        self.project(place.head, q, &self.weights.query, a)
    }
    fn key_features<'a>(&self, place: Place<'_>, k: ArrayView2<'a, T>) -> CowArray<'a, T, Ix2> {
        self.project(place.head, k, &self.weights.key, self.weights.a_key.as_ref())
    }
    fn log_potential(
        &self,
        block: &Block,
        q: &Features<'_, T>,
        k: &Features<'_, T>,
        mut scores: TileMut<'_, T>,
    ) {
        let a = self.weights.a_query.row(head_index(self.weights.a_query.nrows(), block.head));
        let a: Vec<T> = a.iter().map(|&x| T::of(x)).collect();
        let slope = self.leak::<T>();
        InstructionSet::detect().run(
            #[inline(always)]
            || {
                for (r, i) in block.queries.clone().enumerate() {
                    let (query, row) = (q.row(i), scores.row_mut(r));
                    for (x, j) in row.iter_mut().zip(block.keys.clone()) {
                        *x = match (self.form, slope) {
                            (AdditiveForm::Gat, Some(slope)) => {
                                leaky(query[0] + k.row(j)[0], slope)
                            }
                            (_, Some(slope)) => {
                                lanes(query, k.row(j), |f, u, v| a[f] * leaky(u + v, slope))
                            }
                            (_, None) => lanes(query, k.row(j), |f, u, v| a[f] * (u + v).tanh()),
                        };
                    }
                }
            },
        );
    }
    fn parameters(&self) -> Vec<Parameter> {
        let mut all = vec![Parameter::new("additive.a", self.weights.a_query.shape())];
        let a_key =
            self.weights.a_key.as_ref().map(|a| Parameter::new("additive.a-key", a.shape()));
        let query =
            self.weights.query.as_ref().map(|w| Parameter::new("additive.query", w.shape()));
        let key = self.weights.key.as_ref().map(|w| Parameter::new("additive.key", w.shape()));
        all.extend([a_key, query, key].into_iter().flatten());
        all
    }
    fn backward(
        &self,
        block: &Block,
        q: &Features<'_, T>,
        k: &Features<'_, T>,
        _log_potential: Option<Tile<'_, T>>,
        gradient: TileMut<'_, T>,
        into: &mut FeatureGradient<'_, T>,
    ) -> Result<(), Error> {
        let width = q.depth();
        let slope = self.leak::<T>();
        let one_number = self.form == AdditiveForm::Gat;
        let index = head_index(self.weights.a_query.nrows(), block.head);
        let a: Vec<T> = self.weights.a_query.row(index).iter().map(|&x| T::of(x)).collect();
        let mut da = vec![T::zero(); self.features()];
        for (r, i) in block.queries.clone().enumerate() {
            let (query, dq) = (q.row(i), &mut into.q[r * width..][..width]);
            for (c, j) in block.keys.clone().enumerate() {
                let g = gradient.row(r)[c];
                if g == T::zero() {
                    continue;
                }
                let (key, dk) = (k.row(j), &mut into.k[c * width..][..width]);
                for f in 0..width {
                    let u = query[f] + key[f];
                    let (value, derivative) = match slope {
                        Some(_) if u >= T::zero() => (u, T::one()),
                        Some(s) => (s * u, s),
                        None => {
                            let t = u.tanh();
                            (t, T::one() - t * t)
                        }
                    };
                    let weight = if one_number { T::one() } else { a[f] };
                    let pull = g * weight * derivative;
                    dq[f] += pull;
                    dk[f] += pull;
                    if !one_number {
                        da[f] += g * value;
                    }
                }
            }
        }
        if !one_number {
            let into = &mut into.parameters[0][index * da.len()..][..da.len()];
            into.iter_mut().zip(&da).for_each(|(x, g)| *x += g.f64());
        }
        Ok(())
    }
    /// Projections are linear: features of tangents are tangents of features.
    fn tangent(&self, motion: Motion<T>) -> Result<Box<dyn EdgeFunction<T>>, Error> {
        let Motion { shape, q, k, q_tangent, k_tangent } = motion;
        let place = |(batch, head)| Place { shape: &shape, batch, head, first: 0 };
        let of_queries = |x: &Array4<T>| {
            Motion::by_head(x, |head, rows| self.query_features(place(head), rows).into_owned())
        };
        let of_keys = |x: &Array4<T>| {
            Motion::by_head(x, |head, rows| self.key_features(place(head), rows).into_owned())
        };
        Ok(Box::new(AdditiveTangent {
            of: self.clone(),
            shape,
            q: Moving { features: of_queries(&q), tangents: q_tangent.as_ref().map(of_queries) },
            k: Moving { features: of_keys(&k), tangents: k_tangent.as_ref().map(of_keys) },
        }))
    }
    fn query_features_backward(
        &self,
        place: Place<'_>,
        q: ArrayView2<'_, T>,
        gradient: ArrayView2<'_, T>,
        into: ArrayViewMut2<'_, T>,
        parameters: &mut [Vec<f64>],
    ) {
        let (a_slot, _, w_slot, _) = self.slots();
        let (first, rest) = parameters.split_at_mut(1);
        let a = (self.form == AdditiveForm::Gat).then_some(&self.weights.a_query);
        let da = a.map(|_| &mut first[a_slot]);
        let dw = w_slot.map(|slot| &mut rest[slot - 1]);
        self.project_backward(place.head, q, gradient, &self.weights.query, a, into, dw, da);
    }
    fn key_features_backward(
        &self,
        place: Place<'_>,
        k: ArrayView2<'_, T>,
        gradient: ArrayView2<'_, T>,
        into: ArrayViewMut2<'_, T>,
        parameters: &mut [Vec<f64>],
    ) {
        let (_, a_slot, _, w_slot) = self.slots();
        let (first, rest) = parameters.split_at_mut(2.min(parameters.len()));
        let da = a_slot.map(|slot| &mut first[slot]);
        let dw = w_slot.map(|slot| &mut rest[slot - 2]);
        let a = self.weights.a_key.as_ref();
        self.project_backward(place.head, k, gradient, &self.weights.key, a, into, dw, da);
    }
}

/// How fast the log-potential moves: Σ_f a_f act'(u_f) u̇_f, u = W_q q + W_k k.
#[derive(Debug)]
struct AdditiveTangent<T> {
    of: Additive,
    shape: Shape,
    q: Moving<T>,
    k: Moving<T>,
}

impl<T: Real> EdgeFunction<T> for AdditiveTangent<T> {
    fn fill(&self, block: &Block, mut values: TileMut<'_, T>) {
        let query_head = self.shape.head_number((block.batch, block.head));
        let key_head = block.batch * self.shape.key_heads + self.shape.key_head(block.head);
        let a = &self.of.weights.a_query;
        let a: Vec<T> = a.row(head_index(a.nrows(), block.head)).mapv(T::of).to_vec();
        let slope = self.of.leak::<T>();
        let row = |of: &Moving<T>, head: usize, node: usize| {
            let own = of.features[head].row(node).to_vec();
            (own, of.tangents.as_ref().map(|tangents| tangents[head].row(node).to_vec()))
        };
        let keys: Vec<_> = block.keys.clone().map(|j| row(&self.k, key_head, j)).collect();
        for (r, i) in block.queries.clone().enumerate() {
            let (query, moving) = row(&self.q, query_head, i);
            for (value, (key, key_moving)) in values.row_mut(r).iter_mut().zip(&keys) {
                let mut sum = T::zero();
                for f in 0..query.len() {
                    let u = query[f] + key[f];
                    let own = moving.as_ref().map_or(T::zero(), |x| x[f]);
                    let moved = own + key_moving.as_ref().map_or(T::zero(), |x| x[f]);
                    let derivative = match slope {
                        Some(_) if u >= T::zero() => T::one(),
                        Some(slope) => slope,
                        None => T::one() - u.tanh() * u.tanh(),
                    };
                    let weight = if self.of.form == AdditiveForm::Gat { T::one() } else { a[f] };
                    sum += weight * derivative * moved;
                }
                *value = sum;
            }
        }
    }
}

#[inline(always)]
fn leaky<T: Real>(u: T, slope: T) -> T {
    if u >= T::zero() { u } else { slope * u }
}
