use std::sync::{Arc, OnceLock};

use marginals_kernels::{Tile, TileMut};
use ndarray::{Array4, ArrayView4};

use super::Question;
use super::named::{AnyQuestion, Asking, NamedQuestion};
use super::upstream::Vectors;
use crate::infer::streaming::centre;
use crate::infer::{EdgeFunction, Function, Handle, Linear, Request, Slopes};
use crate::posterior::{Found, Posterior};
use crate::potential::{FeatureGradient, Features};
use crate::{Accumulator, Block, Element, Error, Parameter, Real, Shape};

/// E\[s v\] − E\[s\] E\[v\] of every query and coordinate, [B, H, N, D_v], with a second score s_ij of the
/// edges: of Σ_j φ_ij s_ij and Σ_j φ_ij v_j, having no edge counting as 0 in both. Holds the values v
/// [B, Hk, M, D_v], or [B, H, M, D_v].
///
/// Where a query may have several edges, which are then independent, Σ_j p_ij (1 − p_ij) s_ij v_j. An
/// average divides by the mass. 0 for a query without mass. Differentiable in q, k, v, in all that the
/// posterior depends on, and in r (by the name `covariance.r`) or what a function is made of. Moments
/// are taken about references near the means, so that what is common to values, or to the second scores
/// of a query, costs no digits. Cost: the second scores, two more products with the values.
///
/// The mean less the covariance with r·k is Parallax (Zuo et al., arXiv 2605.29157, Algorithm 1); with
/// the derivative of the scores it is that of the mean, [`Jvp`](super::Jvp).
///
/// ```
/// # use marginals::{Model, potential::Dot, prior::Causal, structure::EachQueryPicksOne};
/// use marginals::question::{Covariance, Mean};
/// # let (q, k) = (ndarray::Array4::<f64>::ones((1, 2, 5, 4)), ndarray::Array4::<f64>::ones((1, 1, 5, 4)));
/// # let (r, v) = (ndarray::Array4::<f64>::ones((1, 2, 5, 4)), ndarray::Array4::<f64>::ones((1, 1, 5, 3)));
/// let model = Model::new(EachQueryPicksOne, Causal, Dot::scaled(4));
/// let posterior = model.posterior(q.view(), k.view())?;
/// let covariance = Covariance::with_score(v.view(), r.view(), 1.0);
/// let (mean, covariance) = posterior.ask((Mean(v.view()), covariance))?;
/// let parallax = mean - covariance;
/// # assert!(parallax.iter().all(|x| (x - 1.0).abs() < 1e-12));
/// # Ok::<(), marginals::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Covariance<'v, E: Element> {
    v: ArrayView4<'v, E>,
    second: Second<'v, E>,
}

/// s.
#[derive(Clone, Copy, Debug)]
enum Second<'v, E: Element> {
    /// scale · r_i·k_j.
    Score { r: ArrayView4<'v, E>, scale: f64 },
    /// A function of the edge.
    Function(&'v dyn EdgeFunction<E::Real>),
}

impl<'v, E: Element> Covariance<'v, E> {
    /// With s_ij = scale · r_i·k_j, r [B, H, N, D] standing where the queries do.
    pub fn with_score(v: ArrayView4<'v, E>, r: ArrayView4<'v, E>, scale: f64) -> Self {
        Self { v, second: Second::Score { r, scale } }
    }

    /// With a function of the edge.
    pub fn with_function(v: ArrayView4<'v, E>, function: &'v dyn EdgeFunction<E::Real>) -> Self {
        Self { v, second: Second::Function(function) }
    }
}

impl<'v, T: Real, E: Element<Real = T>> Question<'v, T> for Covariance<'v, E> {
    type Answer = Array4<T>;
    type Upstream = Vectors;
    type Plan = Handle;

    fn plan(
        &self,
        posterior: &Posterior<'_, T>,
        request: &mut Request<'v, T>,
    ) -> Result<Handle, Error> {
        posterior.inference().require_edges("covariance")?;
        let values = request.values(self.v)?;
        let function: Function<'v, T> = match self.second {
            Second::Score { r, scale } => Arc::new(SecondScore::new(posterior, r, scale)?),
            Second::Function(function) => Arc::new(function),
        };
        Ok(request.linear(Linear::Covariance(function, values)))
    }

    fn answer(&self, plan: &Handle, found: &Found<'_, '_, 'v, T>) -> Result<Array4<T>, Error> {
        let covariance = found.finding.expectation(*plan).values.clone();
        Ok(found.gathered(found.by_query_of(self.v.dim().3, covariance)))
    }

    fn backward<'g>(
        &self,
        plan: &Handle,
        found: &'g Found<'_, '_, 'v, T>,
        upstream: Option<ArrayView4<'g, T>>,
        slopes: &mut Slopes<'g, T>,
    ) -> Result<(), Error> {
        let checked = found.check_by_query_of("covariance", upstream, self.v.dim().3)?;
        if let Some(gradient) = checked {
            found.add_gathered_gradient(*plan, gradient, slopes);
        }
        Ok(())
    }
}

const R: &str = "covariance.r";

impl<E: Element> NamedQuestion for Covariance<'_, E> {
    const NAME: &'static str = "covariance";
    const DEFINITION: &'static str =
        "E[s v] − E[s] E[v], s_ij = r_i·k_j of the tensor `covariance.r` [B, H, N, D]";
    const SHAPE: &'static str = "[B, H, N, D_v]";
    const DIFFERENTIABLE: bool = true;
    const AVERAGES_VALUES: bool = true;
    const READS: &'static [&'static str] = &[R];

    fn make<'v, T: Real>(
        asking: &Asking<'v, T>,
    ) -> Result<Box<dyn AnyQuestion<'v, T> + 'v>, Error> {
        let r = asking.tensor(R)?.ok_or_else(|| Error::MissingTensor {
            name: R.into(),
            why: "r of the second score r·k, [B, H, N, D], for the question `covariance`".into(),
            present: asking.tensors.names(),
        })?;
        Ok(Box::new(Covariance::with_score(asking.values(Self::NAME)?, r, 1.0)))
    }
}

/// scale · r_i·k_j, as scale · r_i·(k_j − k̄) and what k̄, the centre of the keys of a head, adds to all
/// edges of a query.
#[derive(Debug)]
struct SecondScore<T: Real> {
    shape: Shape,
    scale: T,
    /// scale · r, by query head.
    queries: Vec<Features<'static, T>>,
    /// k − k̄, by key head.
    keys: Vec<Features<'static, T>>,
    /// k̄, by key head.
    centres: Vec<Vec<T>>,
    /// Both sides as gradients are made of them, once there are some.
    clean: OnceLock<[Vec<Features<'static, T>>; 2]>,
}

impl<T: Real> SecondScore<T> {
    fn new<E: Element<Real = T>>(
        posterior: &Posterior<'_, T>,
        r: ArrayView4<'_, E>,
        scale: f64,
    ) -> Result<Self, Error> {
        let shape = *posterior.shape();
        let expected = [shape.batch, shape.heads, shape.queries, shape.key_width];
        if r.shape() != expected {
            return Err(Error::shape(
                R,
                format!("{expected:?}, a row per query, of as many numbers as a key has"),
                r.shape(),
                "The second score is r·k: r stands where the queries do.",
            ));
        }
        if !scale.is_finite() {
            return Err(Error::value("covariance.scale", "a finite number", scale));
        }
        let (r, k) = (E::store(r), &posterior.problem.k);
        let scale = T::of(scale);
        let queries = shape.all_heads().map(|head| {
            let rows = r.rows(head, 0..shape.queries).mapv(|x| x * scale);
            Features::new(rows.into(), 0)
        });
        let queries = queries.collect();
        let (mut keys, mut centres) = (Vec::new(), Vec::new());
        for head in (0..shape.batch).flat_map(|b| (0..shape.key_heads).map(move |h| (b, h))) {
            let rows = k.rows(head, 0..shape.keys);
            let own = (head.0, head.1 * shape.group());
            let centre = centre(&posterior.problem, own, 0..shape.keys, &rows);
            let mut apart = rows.into_owned();
            for mut row in apart.outer_iter_mut() {
                row.iter_mut().zip(&centre).for_each(|(x, &centre)| *x -= centre);
            }
            keys.push(Features::new(apart.into(), 0).packed_across());
            centres.push(centre);
        }
        Ok(Self { shape, scale, queries, keys, centres, clean: OnceLock::new() })
    }

    fn key_head(&self, block: &Block) -> usize {
        block.batch * self.shape.key_heads + self.shape.key_head(block.head)
    }

    fn clean(&self) -> &[Vec<Features<'static, T>>; 2] {
        self.clean.get_or_init(|| {
            [&self.queries, &self.keys].map(|side| {
                let clean = |own: &Features<'static, T>| {
                    Features::new(own.view().to_owned().into(), 0).cleaned().packed_along()
                };
                side.iter().map(clean).collect()
            })
        })
    }
}

impl<T: Real> EdgeFunction<T> for SecondScore<T> {
    fn fill(&self, block: &Block, mut values: TileMut<'_, T>) {
        self.fill_apart(block, values.reborrow());
        let mut references = vec![T::zero(); values.rows];
        self.references(block, &mut references);
        for (r, reference) in references.into_iter().enumerate() {
            values.row_mut(r).iter_mut().for_each(|x| *x += reference);
        }
    }

    fn fill_apart(&self, block: &Block, values: TileMut<'_, T>) {
        let head = self.shape.head_number((block.batch, block.head));
        self.queries[head].products(&self.keys[self.key_head(block)], block, values);
    }

    fn references(&self, block: &Block, into: &mut [T]) {
        let head = self.shape.head_number((block.batch, block.head));
        let centre = &self.centres[self.key_head(block)];
        for (reference, i) in into.iter_mut().zip(block.queries.clone()) {
            let products = self.queries[head].row(i).iter().zip(centre).map(|(&r, &k)| r * k);
            *reference = products.sum();
        }
    }

    fn parameters(&self) -> Vec<Parameter> {
        let Shape { batch, heads, key_heads, queries, keys, key_width, .. } = self.shape;
        vec![
            Parameter::queries(R, [batch, heads, queries, key_width]),
            Parameter::keys([batch, key_heads, keys, key_width]),
        ]
    }

    fn accumulate_gradient(
        &self,
        block: &Block,
        gradient: Tile<'_, T>,
        into: &mut [Accumulator<'_, T>],
    ) {
        let [of_r, of_keys] = into else { return };
        let width = self.shape.key_width;
        let [queries, keys] = self.clean();
        let (head, key_head) =
            (self.shape.head_number((block.batch, block.head)), self.key_head(block));
        let mut dr = vec![T::zero(); gradient.rows * width];
        let mut dk = vec![T::zero(); gradient.columns * width];
        let mut of_features = FeatureGradient { q: &mut dr, k: &mut dk, parameters: &mut [] };
        queries[head].products_backward(&keys[key_head], block, gradient, &mut of_features);
        let centre = &self.centres[key_head];
        for (r, dr) in dr.chunks_exact_mut(width.max(1)).enumerate() {
            let whole: T = gradient.row(r).iter().copied().sum();
            let pairs = dr.iter_mut().zip(centre);
            pairs.for_each(|(g, &k)| *g = self.scale * (*g + whole * k));
        }
        of_r.add_rows((block.batch, block.head), block.queries.start, &dr);
        let key_place = (block.batch, self.shape.key_head(block.head));
        of_keys.add_rows(key_place, block.keys.start, &dk);
    }
}
