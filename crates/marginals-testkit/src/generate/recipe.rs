//! A case as words and numbers, and the model and tensors cooked from it.

use ndarray::Array4;

use super::{Flavour, PotentialKind, PriorKind, Random};
use crate::reference::{FurtherPrior, Inputs, Model, Null, Prior, Tangents, Touched};
use crate::{Law, Problem, Structure, ValueKind};

/// A case before it is cooked.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// Φ.
    pub structure: Structure,
    /// Gather or average.
    pub value_kind: ValueKind,
    /// Factors of the prior.
    pub priors: Vec<PriorKind>,
    /// ψ.
    pub potential: PotentialKind,
    /// Size and kind of numbers.
    pub flavour: Flavour,
    /// B.
    pub batch: usize,
    /// H_k.
    pub key_heads: usize,
    /// H / H_k.
    pub group: usize,
    /// N.
    pub queries: usize,
    /// M.
    pub keys: usize,
    /// D; even with rotary potentials, which turn all of it.
    pub depth: usize,
    /// d_v.
    pub value_depth: usize,
    /// Position of query 0.
    pub query_offset: i64,
    /// Of every number.
    pub seed: u64,
}

/// A model and its inputs.
#[derive(Clone, Debug)]
pub struct Case {
    /// Structure, priors, potential.
    pub model: Model,
    /// q, k, v.
    pub inputs: Inputs,
}

impl Case {
    /// (batch entry, head), batch entry by batch entry.
    pub fn heads(&self) -> Vec<(usize, usize)> {
        let (batch, heads, ..) = self.inputs.q.dim();
        (0..batch).flat_map(|b| (0..heads).map(move |h| (b, h))).collect()
    }

    /// The posterior of every head, in exact arithmetic.
    pub fn problems(&self) -> Vec<Problem> {
        self.heads().into_iter().map(|(b, h)| self.model.problem(&self.inputs, b, h)).collect()
    }

    /// What garbage reaches in every head.
    pub fn touched(&self) -> Vec<Touched> {
        self.heads().into_iter().map(|(b, h)| self.model.touched(&self.inputs, b, h)).collect()
    }

    /// The case with one more bias of 0 for every edge, and its index in the list of parameters: the
    /// derivative in its entries is that in θ, also where other biases are so large that a step is
    /// lost in them. B × H × N × M numbers, in order; those of a broadcast bias are their sums.
    pub fn with_probe(&self) -> (Self, usize) {
        let mut case = self.clone();
        let (batch, heads, queries, _) = self.inputs.q.dim();
        let zeros = Array4::zeros((batch, heads, queries, self.inputs.k.dim().2));
        let mut without = Model { further_priors: Vec::new(), ..self.model.clone() };
        let of_potential = without.potential.parameters_mut().len();
        let index = without.parameters_mut().len() - of_potential;
        case.model.priors.push(crate::reference::Prior::Bias(zeros));
        (case, index)
    }

    /// Random tangents of everything; numbers that are infinite, NaN or too large to move stand still.
    pub fn tangents(&self, random: &mut Random) -> Tangents {
        let mut tangents = Tangents::zero(&self.model, &self.inputs);
        let mut tangent = |x: f64, scale: f64| {
            let moves = x.is_finite() && x.abs() < 1e6;
            if moves { scale * random.normal() } else { 0.0 }
        };
        tangents.q.zip_mut_with(&self.inputs.q, |t, &x| *t = tangent(x, 1.0));
        tangents.k.zip_mut_with(&self.inputs.k, |t, &x| *t = tangent(x, 1.0));
        tangents.v.zip_mut_with(&self.inputs.v, |t, &x| *t = tangent(x, 1.0));
        let mut model = self.model.clone();
        for ((_, x), t) in model.parameters_mut().into_iter().zip(&mut tangents.parameters) {
            // Parameters with bounds stay within them.
            x.iter().zip(t).for_each(|(&x, t)| *t = tangent(x, 0.3 * x.abs()));
        }
        tangents
    }
}

/// A prior of either enumeration.
pub(super) enum AnyPrior {
    Plain(Prior),
    Further(FurtherPrior),
}

impl Recipe {
    /// H.
    pub fn heads(&self) -> usize {
        self.key_heads * self.group
    }

    /// The same case every time.
    pub fn build(&self) -> Case {
        let mut random = Random::new(self.seed);
        let (mut priors, mut further_priors) = (Vec::new(), Vec::new());
        for &kind in &self.priors {
            match self.any_prior(kind, &mut random) {
                AnyPrior::Plain(prior) => priors.push(prior),
                AnyPrior::Further(prior) => further_priors.push(prior),
            }
        }
        let potential = self.cook_potential(&mut random);
        let once = if random.chance(0.5) { 1 } else { self.heads() };
        let mut null: Vec<f64> = (0..once).map(|_| self.flavour.number(&mut random)).collect();
        let never = random.chance(0.1);
        null.iter_mut().take(usize::from(never)).for_each(|null| *null = f64::NEG_INFINITY);
        let model = Model {
            structure: self.structure,
            law: Law::ExponentialFamily,
            null_log_weight: null,
            null: Null::LogWeight,
            priors,
            further_priors,
            potential,
            value_kind: self.value_kind,
            query_offset: self.query_offset,
        };
        let scale = self.flavour.feature_scale();
        let features = |random: &mut Random, heads, nodes| {
            Array4::from_shape_fn((self.batch, heads, nodes, self.depth), |_| {
                self.flavour.number(random) * scale
            })
        };
        let q = features(&mut random, self.heads(), self.queries);
        let k = features(&mut random, self.key_heads, self.keys);
        let v = Array4::from_shape_fn(
            (self.batch, self.key_heads, self.keys, self.value_depth),
            |_| random.normal(),
        );
        Case { model, inputs: Inputs { q, k, v } }
    }

    /// A parameter once for all heads or per head.
    pub(super) fn per_head(
        &self,
        random: &mut Random,
        mut draw: impl FnMut(&mut Random) -> f64,
    ) -> Vec<f64> {
        let count = if random.chance(0.5) { 1 } else { self.heads() };
        (0..count).map(|_| draw(random)).collect()
    }
}
