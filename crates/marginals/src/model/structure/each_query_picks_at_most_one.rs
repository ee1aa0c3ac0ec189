use ndarray::Array3;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::contract::{Structure, StructurePart};
use crate::infer::Inference;
use crate::infer::streaming::{NullEdge, NullScore, Softmax, Streaming};
use crate::model::part::{Absent, Domain, Named, NamedTensor, Number, Part, Values};
use crate::model::tensors::Inputs;
use crate::{Error, Parameter, PerHead, Real, Shape, Value};

/// Σ_j φ_ij ≤ 1: every query has one edge or none.
///
/// p_ij = e^θ_ij / (e^θ_i0 + Σ_j' e^θ_ij'), θ_i0 being the score of the **null edge**, which comes in four
/// forms ([`Null`]): a log-weight per head, learned or not, is an attention sink (and with σ = e^θ_0
/// divisive normalisation; Reynolds & Heeger, Neuron 61, 2009); 0 is softmax-plus-one; a logit per query
/// comes from the content; a gate g decides beforehand, P(no edge) = 1 − σ(g). Having no edge contributes
/// nothing to the mean, 0 to the distance, and is written as key −1 by MAP, top-k and samples. A query
/// that no key may serve has the null edge, or nothing at all where that is gated.
///
/// ```
/// # use marginals::{Model, potential::Dot, prior::Uniform, question::NullProbability};
/// use marginals::structure::EachQueryPicksAtMostOne;
/// # let x = ndarray::Array4::<f64>::zeros((1, 1, 3, 2));
/// let model = Model::new(EachQueryPicksAtMostOne::gated(2.0), Uniform, Dot::new(1.0));
/// let none = model.posterior(x.view(), x.view())?.ask(NullProbability)?;
/// assert!((none[[0, 0, 0]] - 1.0 / (1.0 + 2f64.exp())).abs() < 1e-15);
/// # Ok::<(), marginals::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(
    deny_unknown_fields,
    bound(deserialize = "Null<Q>: Deserialize<'de>", serialize = "Null<Q>: Serialize")
)]
pub struct EachQueryPicksAtMostOne<Q = Array3<f64>> {
    /// The null edge.
    #[serde(default = "softmax_plus_one")]
    pub null: Null<Q>,
}

fn softmax_plus_one<Q>() -> Null<Q> {
    Null::LogWeight(PerHead::One(0.0))
}

/// Score of the null edge; `Q` holds numbers per query, [B, H, N] with axes of B and H of full length or 1.
#[derive(Clone, Debug, PartialEq)]
pub enum Null<Q = Array3<f64>> {
    /// θ_0 = log w_0, for every head or each: its log-potential is 0.
    LogWeight(PerHead),
    /// θ_i0 = log ψ_i0, a logit per query; its log-weight is 0.
    Logit(Q),
    /// θ_i0 = log Σ_j e^θ_ij − g, for every head or each, and so in the prior.
    Gate(PerHead),
    /// That with a gate per query.
    GatePerQuery(Q),
}

impl EachQueryPicksAtMostOne {
    /// A null log-weight for every head, or each; −∞ is [`EachQueryPicksOne`](super::EachQueryPicksOne).
    pub fn new(null: impl Into<PerHead>) -> Self {
        Self { null: Null::LogWeight(null.into()) }
    }

    /// One null log-weight per head.
    pub fn per_head(null: &[f64]) -> Self {
        Self::new(null)
    }

    /// A logit of having no edge for every query, [B, H, N].
    pub fn with_logits(logits: Array3<f64>) -> Self {
        Self { null: Null::Logit(logits) }
    }

    /// P(an edge) = σ(g), for every head, or each.
    pub fn gated(gate: impl Into<PerHead>) -> Self {
        Self { null: Null::Gate(gate.into()) }
    }

    /// P(an edge) = σ(g), of every query, [B, H, N].
    pub fn gated_per_query(gates: Array3<f64>) -> Self {
        Self { null: Null::GatePerQuery(gates) }
    }
}

impl<Q> Null<Q> {
    fn log_weight(&self) -> &dyn Values {
        if let Self::LogWeight(null) = self { null } else { &Absent }
    }
    fn gate(&self) -> &dyn Values {
        if let Self::Gate(gate) = self { gate } else { &Absent }
    }
    fn per_head_mut(&mut self) -> &mut dyn Values {
        match self {
            Self::LogWeight(numbers) | Self::Gate(numbers) => numbers,
            Self::Logit(_) | Self::GatePerQuery(_) => unreachable!("numbers that are not there"),
        }
    }
}

impl<Q: Clone + PartialEq + 'static> Part for EachQueryPicksAtMostOne<Q> {
    const NAME: &'static str = "each-query-picks-at-most-one";
    const MEANING: &'static str = "Σ_j φ_ij ≤ 1: p is a softmax with a null edge: of log-weight `null`, 0 by default; of a logit per \
         query (`\"logit\"`); or gated, P(no edge) = 1 − σ(g), `{ gate = g }` or, per query, `\"gate\"`";
    const EXAMPLE: &'static str = "{ each-query-picks-at-most-one = { null = 0.5 } }";
    const NUMBERS: &'static [Number<Self>] = &[
        Number {
            name: "null",
            domain: Domain::Real,
            of: |part| part.null.log_weight(),
            of_mut: |part| part.null.per_head_mut(),
        },
        Number {
            name: "null.gate",
            domain: Domain::Real,
            of: |part| part.null.gate(),
            of_mut: |part| part.null.per_head_mut(),
        },
    ];
    const TENSORS: &'static [NamedTensor] = &[
        NamedTensor::real("null.logit", "[B, H, N]", "logits of having no edge")
            .only("if `null` is `\"logit\"`"),
        NamedTensor::real("null.gate", "[B, H, N]", "log-odds of having an edge")
            .only("if `null` is `\"gate\"`"),
    ];
}

impl StructurePart for EachQueryPicksAtMostOne<Named> {
    fn build<T: Real>(&self, inputs: &Inputs<'_, T>) -> Result<Box<dyn Structure<T>>, Error> {
        Ok(Box::new(EachQueryPicksAtMostOne {
            null: match &self.null {
                Null::LogWeight(null) => Null::LogWeight(null.clone()),
                Null::Gate(gate) => Null::Gate(gate.clone()),
                Null::Logit(Named) => Null::Logit(inputs.array("null.logit")?),
                Null::GatePerQuery(Named) => Null::GatePerQuery(inputs.array("null.gate")?),
            },
        }))
    }

    fn couples_queries(&self) -> bool {
        false
    }
}

/// Index of a query in numbers whose axes of B and H may have length 1.
fn place(of: &Array3<f64>, (batch, head): (usize, usize), query: usize) -> [usize; 3] {
    let (b, h, _) = of.dim();
    [if b == 1 { 0 } else { batch }, if h == 1 { 0 } else { head }, query]
}

impl NullEdge for EachQueryPicksAtMostOne {
    fn score(&self, head: (usize, usize), query: usize) -> NullScore {
        match &self.null {
            Null::LogWeight(null) => {
                let weight = null.of(head.1);
                // Its log-potential is 0.
                NullScore::Fixed { score: weight, weight }
            }
            Null::Logit(logits) => {
                NullScore::Fixed { score: logits[place(logits, head, query)], weight: 0.0 }
            }
            Null::Gate(gate) => NullScore::Gate(gate.of(head.1)),
            Null::GatePerQuery(gates) => NullScore::Gate(gates[place(gates, head, query)]),
        }
    }

    fn is_gate(&self) -> bool {
        matches!(self.null, Null::Gate(_) | Null::GatePerQuery(_))
    }

    fn parameters(&self) -> Vec<Parameter> {
        let of = |name: &str, numbers: &Array3<f64>| vec![Parameter::new(name, numbers.shape())];
        match &self.null {
            Null::LogWeight(_) | Null::Gate(_) => self.learnable(),
            Null::Logit(logits) => of("null.logit", logits),
            Null::GatePerQuery(gates) => of("null.gate", gates),
        }
    }

    fn gradients(&self, shape: &Shape, slopes: &[[f64; 2]]) -> Vec<Vec<f64>> {
        let heads = shape.heads.max(1);
        let places = (0..slopes.len()).map(|row| {
            let (head, query) = (row / shape.queries.max(1), row % shape.queries.max(1));
            ((head / heads, head % heads), query)
        });
        let rows = places.zip(slopes);
        let by_head = |numbers: &PerHead, sign: f64| {
            let mut sums = vec![0.0; numbers.values().len()];
            rows.clone().for_each(|((head, _), [score, weight])| {
                sums[numbers.index(head.1)] += sign * (score + weight);
            });
            sums
        };
        let by_query = |numbers: &Array3<f64>, of: &dyn Fn(&[f64; 2]) -> f64| {
            let mut sums = Array3::<f64>::zeros(numbers.dim());
            rows.clone().for_each(|((head, query), slopes)| {
                sums[place(numbers, head, query)] += of(slopes);
            });
            sums.into_raw_vec_and_offset().0
        };
        vec![match &self.null {
            Null::LogWeight(null) => by_head(null, 1.0),
            Null::Logit(logits) => by_query(logits, &|[score, _]| *score),
            Null::Gate(gate) => by_head(gate, -1.0),
            Null::GatePerQuery(gates) => by_query(gates, &|[score, weight]| -(score + weight)),
        }]
    }
}

impl<T: Real> Structure<T> for EachQueryPicksAtMostOne {
    fn name(&self) -> &'static str {
        Self::NAME
    }
    fn exact(&self) -> Box<dyn Inference<T> + '_> {
        Box::new(Streaming::rows(Softmax { null: Some(self) }))
    }
    fn check(&self, shape: &Shape, _value: Value) -> Result<(), Error> {
        match &self.null {
            Null::LogWeight(null) => {
                Values::check(null, "null", shape)?;
                check_scores("null", null.values())
            }
            Null::Gate(_) => self.check_numbers(shape),
            Null::Logit(logits) => {
                check_sizes("null.logit", logits, shape)?;
                check_scores("null.logit", logits.iter())
            }
            Null::GatePerQuery(gates) => {
                check_sizes("null.gate", gates, shape)?;
                gates.iter().try_for_each(|gate| Domain::Real.check("null.gate", &[*gate]))
            }
        }
    }
}

fn check_scores<'x>(name: &str, scores: impl IntoIterator<Item = &'x f64>) -> Result<(), Error> {
    match scores.into_iter().find(|x| x.is_nan() || **x == f64::INFINITY) {
        None => Ok(()),
        Some(x) => Err(Error::value(name, "a finite number, or -inf", x)),
    }
}

fn check_sizes(name: &str, numbers: &Array3<f64>, shape: &Shape) -> Result<(), Error> {
    let (b, h, n) = numbers.dim();
    let fits = |own: usize, all: usize| own == 1 || own == all;
    if fits(b, shape.batch) && fits(h, shape.heads) && n == shape.queries {
        return Ok(());
    }
    Err(Error::shape(
        name,
        format!(
            "[{}, {}, {}], axes of batch and heads may be 1",
            shape.batch, shape.heads, shape.queries
        ),
        numbers.shape(),
        "Give a number for every query.",
    ))
}

/// A null edge as files write it.
#[derive(Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "a number, a list of one number per head, \"logit\", \"gate\" or { gate = number }: `0.5`, \
                 `[0.5, -1.0]`, `\"logit\"`"
)]
enum Written {
    LogWeight(PerHead),
    PerQuery(PerQuery),
    Gate(Gate),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum PerQuery {
    Logit,
    Gate,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Gate {
    gate: PerHead,
}

impl Serialize for Null<Named> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let written = match self.clone() {
            Self::LogWeight(null) => Written::LogWeight(null),
            Self::Logit(Named) => Written::PerQuery(PerQuery::Logit),
            Self::Gate(gate) => Written::Gate(Gate { gate }),
            Self::GatePerQuery(Named) => Written::PerQuery(PerQuery::Gate),
        };
        written.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Null<Named> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match Written::deserialize(deserializer)? {
            Written::LogWeight(null) => Self::LogWeight(null),
            Written::PerQuery(PerQuery::Logit) => Self::Logit(Named),
            Written::Gate(Gate { gate }) => Self::Gate(gate),
            Written::PerQuery(PerQuery::Gate) => Self::GatePerQuery(Named),
        })
    }
}
