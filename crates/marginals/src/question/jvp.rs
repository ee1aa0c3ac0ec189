use std::sync::Arc;

use marginals_kernels::TileMut;
use ndarray::{Array4, ArrayView4};

use super::Question;
use super::named::{AnyQuestion, Asking, NamedQuestion};
use super::upstream::Nothing;
use crate::infer::{EdgeFunction, Function, Handle, Linear, Request, Slopes};
use crate::posterior::{Found, Posterior};
use crate::potential::Motion;
use crate::tensor::Stored;
use crate::{Block, Element, Error, Real, Value};

/// Forward-mode derivative of the mean in given tangents, [B, H, N, D_v]: how fast E\[v\] moves as
/// queries, keys, values and log-weights do. Holds the values v [B, Hk, M, D_v], or [B, H, M, D_v].
///
/// With θ̇ the derivative of the scores, by the tangents of q, k and the bias,
///
/// ```text
/// d E[v] = E[v̇] + Cov(θ̇, v)                              queries, or single edges, choose
/// dp_ij  = p_ij (θ̇_ij − Σ_i' p_i'j θ̇_i'j)               keys choose
/// dp_ij  = p_ij ((1 − σ_ij) θ̇_ij − Σ_k>j σ_ik θ̇_ik)     the nearest accepted one
/// ```
///
/// and for averages the quotient rule. 0 for a query without mass. Parameters of the model stay as they
/// are, P(no edge) of a gated null edge with them. The potential must have a
/// [tangent](crate::potential::Potential::tangent), and a prior that reads queries and keys has none. Cost: the covariance's
/// and the scores' tangents, with copies of q and k and of their tangents.
#[derive(Clone, Copy, Debug)]
pub struct Jvp<'v, E> {
    /// The values.
    pub v: ArrayView4<'v, E>,
    /// How everything moves.
    pub tangents: Tangents<'v, E>,
}

/// Tangents of what a mean is made of; what has none does not move.
#[derive(Clone, Copy, Debug)]
pub struct Tangents<'v, E> {
    /// Of the queries, [B, H, N, D].
    pub q: Option<ArrayView4<'v, E>>,
    /// Of the keys, [B, Hk, M, D].
    pub k: Option<ArrayView4<'v, E>>,
    /// Of the values, of their shape.
    pub v: Option<ArrayView4<'v, E>>,
    /// Of the log-weights, [B, H, N, M], an axis of length 1 being shared: of the prior `bias`, or as if
    /// the model had one.
    pub bias: Option<ArrayView4<'v, E>>,
}

impl<E> Default for Tangents<'_, E> {
    fn default() -> Self {
        Self { q: None, k: None, v: None, bias: None }
    }
}

/// Statistics that the derivative is made of.
#[derive(Clone, Copy, Debug, Default)]
pub struct JvpPlan {
    /// E\[v̇\].
    of_values: Option<Handle>,
    /// The derivative of Σ_j p_ij v_j by the scores.
    of_scores: Option<Handle>,
    /// Of an average: Σ_j p_ij v_j, and the derivative of Σ_j p_ij.
    quotient: Option<(Handle, Handle)>,
}

const NAMES: [&str; 4] = ["tangent.q", "tangent.k", "tangent.v", "tangent.bias"];

impl<E: Element> Jvp<'_, E> {
    /// Refuses tangents of other shapes than what moves.
    fn check<T: Real>(&self, posterior: &Posterior<'_, T>) -> Result<(), Error> {
        let shape = posterior.shape();
        let Tangents { q, k, v, bias } = &self.tangents;
        if [q, k, v, bias].iter().all(|tangent| tangent.is_none()) {
            return Err(Error::value(
                "tangent",
                format!("at least one of {}", NAMES.join(", ")),
                "none",
            ));
        }
        let like = |(b, h, n, d): (usize, usize, usize, usize)| [b, h, n, d];
        let of_v = self.v.dim();
        let nodes = [
            (q, like(posterior.problem.q.dim())),
            (k, like(posterior.problem.k.dim())),
            (v, like(of_v)),
        ];
        for (name, (tangent, expected)) in NAMES.iter().zip(nodes) {
            let Some(tangent) = tangent else { continue };
            if tangent.shape() != expected {
                let advice = "A tangent has the shape of what moves.";
                return Err(Error::shape(*name, format!("{expected:?}"), tangent.shape(), advice));
            }
        }
        let Some(bias) = bias else { return Ok(()) };
        let whole = [shape.batch, shape.heads, shape.queries, shape.keys];
        if bias.shape().iter().zip(whole).all(|(&size, whole)| size == whole || size == 1) {
            return Ok(());
        }
        Err(Error::shape(
            NAMES[3],
            format!("{whole:?}, any axis of which may be 1"),
            bias.shape(),
            "Log-weights are by batch entry, head, query and key.",
        ))
    }
}

impl<'v, T: Real, E: Element<Real = T>> Question<'v, T> for Jvp<'v, E> {
    type Answer = Array4<T>;
    type Upstream = Nothing;
    type Plan = JvpPlan;

    fn plan(
        &self,
        posterior: &Posterior<'_, T>,
        request: &mut Request<'v, T>,
    ) -> Result<JvpPlan, Error> {
        posterior.inference().require_edges("jvp")?;
        self.check(posterior)?;
        let values = request.values(self.v)?;
        let mut plan = JvpPlan::default();
        if let Some(tangent) = self.tangents.v {
            let moving = request.constant_values(E::store(tangent));
            plan.of_values = Some(request.linear(Linear::Value(moving)));
        }
        let Tangents { q, k, bias, .. } = self.tangents;
        if q.is_none() && k.is_none() && bias.is_none() {
            return Ok(plan);
        }
        if posterior.problem.depends_on_nodes.is_some() && (q.is_some() || k.is_some()) {
            return Err(Error::NotAnswerable {
                question: Self::NAME.into(),
                why: "the prior reads queries and keys too, and has no tangent in them".into(),
                instead: "Give tangents of the values and of the bias alone, or take differences."
                    .into(),
            });
        }
        let scores: Function<'v, T> = Arc::new(ScoreTangent {
            content: match (q, k) {
                (None, None) => None,
                _ => Some(content(posterior, q, k)?),
            },
            bias: bias.map(E::store),
        });
        plan.of_scores = Some(request.linear(Linear::Tangent(scores.clone(), values)));
        if posterior.problem.value == Value::Average {
            let shape = posterior.shape();
            let ones = Array4::ones((shape.batch, shape.key_heads, shape.keys, 1));
            let ones = request.constant_values(Stored::Real(ones.into()));
            let of_mass = request.linear(Linear::Tangent(scores, ones));
            plan.quotient = Some((request.linear(Linear::Value(values)), of_mass));
        }
        Ok(plan)
    }

    fn answer(&self, plan: &JvpPlan, found: &Found<'_, '_, 'v, T>) -> Result<Array4<T>, Error> {
        let width = self.v.dim().3;
        let gathered = |statistic: Handle, width: usize| {
            let values = found.finding.expectation(statistic).values.clone();
            found.gathered(found.by_query_of(width, values))
        };
        let shape = found.shape();
        let mut tangent = Array4::zeros((shape.batch, shape.heads, shape.queries, width));
        for part in [plan.of_values, plan.of_scores].into_iter().flatten() {
            tangent += &gathered(part, width);
        }
        if let Some((mean, of_mass)) = plan.quotient {
            // d(g / m) = dg / m − (g / m) (dm / m).
            tangent -= &(gathered(mean, width) * gathered(of_mass, 1));
        }
        Ok(tangent)
    }

    fn backward<'g>(
        &self,
        _: &JvpPlan,
        _: &'g Found<'_, '_, 'v, T>,
        (): (),
        _: &mut Slopes<'g, T>,
    ) -> Result<(), Error> {
        Ok(())
    }
}

impl<E> NamedQuestion for Jvp<'_, E> {
    const NAME: &'static str = "jvp";
    const DEFINITION: &'static str = "d E[v] in the tangents `tangent.q`, `tangent.k`, `tangent.v` and \
                                      `tangent.bias`, at least one: E[v̇] + Cov(θ̇, v) where queries choose";
    const SHAPE: &'static str = "[B, H, N, D_v]";
    const AVERAGES_VALUES: bool = true;
    const READS: &'static [&'static str] = &NAMES;

    fn make<'v, T: Real>(
        asking: &Asking<'v, T>,
    ) -> Result<Box<dyn AnyQuestion<'v, T> + 'v>, Error> {
        let [q, k, v, bias] = NAMES.map(|name| asking.tensor(name));
        let tangents = Tangents { q: q?, k: k?, v: v?, bias: bias? };
        Ok(Box::new(Jvp { v: asking.values(Self::NAME)?, tangents }))
    }
}

/// How fast the log-potential moves.
fn content<'v, T: Real, E: Element<Real = T>>(
    posterior: &Posterior<'_, T>,
    q: Option<ArrayView4<'v, E>>,
    k: Option<ArrayView4<'v, E>>,
) -> Result<Box<dyn EdgeFunction<T>>, Error> {
    let problem = &posterior.problem;
    posterior.problem.potential.tangent(Motion {
        shape: problem.shape,
        q: problem.q.to_array(),
        k: problem.k.to_array(),
        q_tangent: q.map(|tangent| E::store(tangent).to_array()),
        k_tangent: k.map(|tangent| E::store(tangent).to_array()),
    })
}

/// θ̇_ij.
#[derive(Debug)]
struct ScoreTangent<'v, T> {
    /// Of log ψ.
    content: Option<Box<dyn EdgeFunction<T>>>,
    /// Of log w.
    bias: Option<Stored<'v, T>>,
}

impl<T: Real> EdgeFunction<T> for ScoreTangent<'_, T> {
    fn fill(&self, block: &Block, mut values: TileMut<'_, T>) {
        match &self.content {
            Some(content) => content.fill(block, values.reborrow()),
            None => (0..values.rows).for_each(|r| values.row_mut(r).fill(T::zero())),
        }
        let Some(bias) = &self.bias else { return };
        let (batch, heads, queries, keys) = bias.dim();
        let own = |size: usize, index: usize| if size == 1 { 0 } else { index };
        let head = (own(batch, block.batch), own(heads, block.head));
        let shared = queries == 1;
        let rows = bias.rows(head, if shared { 0..1 } else { block.queries.clone() });
        for r in 0..values.rows {
            let row = rows.row(if shared { 0 } else { r });
            for (value, j) in values.row_mut(r).iter_mut().zip(block.keys.clone()) {
                *value += row[own(keys, j)];
            }
        }
    }
}
