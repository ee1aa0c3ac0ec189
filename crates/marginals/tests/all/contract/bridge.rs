//! From the testkit's description of a model to the library's.

use marginals::distance;
use marginals::potential::{Additive, Cosine, Dot, Gaussian, Potential, Rotary, RotaryPairs};
use marginals::prior::{
    Adjacency, Alibi, BetaGeometric, Bias, Causal, Directions, GeneralizedGaussian, Geometric,
    KeyBias, Laplace, OfDistance, Prior, Product, RelativeBuckets, Segments, Survival, Uniform,
    Window,
};
use marginals::structure::{
    EachKeyPicksOne, EachQueryPicksAtMostOne, EachQueryPicksOne, Independent, NearestAccepted,
    Structure, Walk,
};
use marginals::{Model, Real, Value};
use marginals_testkit::reference::{self, Layout, Null};
use marginals_testkit::{Law, Structure as Phi, ValueKind};
use ndarray::Array2;

/// A model whose parts were chosen at run time.
pub type AnyModel<T> = Model<Box<dyn Structure<T>>, Product<'static, T>, Box<dyn Potential<T>>>;

/// The library's model with the same parts and numbers.
pub fn model<T: Real>(of: &reference::Model) -> AnyModel<T> {
    let value = match of.value_kind {
        ValueKind::Gather => Value::Gather,
        ValueKind::Average => Value::Average,
    };
    Model::new(structure(of), priors(of), potential(&of.potential))
        .with_value(value)
        .with_query_offset(of.query_offset)
}

/// The library's structure.
pub fn structure<T: Real>(of: &reference::Model) -> Box<dyn Structure<T>> {
    match of.structure {
        Phi::EachQueryPicksOne => Box::new(EachQueryPicksOne),
        Phi::EachQueryPicksAtMostOne if of.law == Law::NearestAccepted => Box::new(NearestAccepted),
        Phi::EachQueryPicksAtMostOne => Box::new(match &of.null {
            Null::LogWeight => EachQueryPicksAtMostOne::per_head(&of.null_log_weight),
            Null::One => EachQueryPicksAtMostOne::new(0.0),
            Null::Logit(logits) => EachQueryPicksAtMostOne::with_logits(logits.clone()),
            Null::Gate(gates) => EachQueryPicksAtMostOne::gated(gates.clone()),
            Null::GatePerQuery(gates) => EachQueryPicksAtMostOne::gated_per_query(gates.clone()),
        }),
        Phi::EachKeyPicksOne => Box::new(EachKeyPicksOne),
        Phi::Independent => Box::new(Independent),
    }
}

/// The model of walks whose picks are those of `of`.
pub fn walk<T: Real>(of: &reference::Model, walk: Walk) -> AnyModel<T> {
    let structure: Box<dyn Structure<T>> = Box::new(walk.of(structure(of)));
    Model::new(structure, priors(of), potential(&of.potential))
}

fn priors<T: Real>(of: &reference::Model) -> Product<'static, T> {
    let further = of.further_priors.iter().map(further_prior);
    Product(of.priors.iter().map(prior).chain(further).collect())
}

fn further_prior<T: Real>(of: &reference::FurtherPrior) -> Box<dyn Prior<T>> {
    use reference::{Distance, FurtherPrior as P};
    match of.clone() {
        P::Survival { log_gates } => Box::new(Survival::new(log_gates)),
        P::OverDistance { prior, distance: Distance::Index } => over(prior, distance::Index),
        P::OverDistance { prior, distance: Distance::Survival { log_gates } } => {
            over(prior, distance::Survival::new(log_gates))
        }
        P::OverDistance { prior, distance: Distance::Contextual { scale } } => {
            over(prior, distance::Contextual::new(scale))
        }
    }
}

/// A prior of distance over another distance.
fn over<T: Real>(
    of: reference::Prior,
    distance: impl distance::Distance<T> + 'static,
) -> Box<dyn Prior<T>> {
    use reference::Prior as P;
    match of {
        P::RelativeBuckets { table, max_distance, bidirectional } => {
            Box::new(buckets(table, max_distance, bidirectional).over(distance))
        }
        P::Geometric { rho } => Box::new(Geometric::per_head(&rho).over(distance)),
        P::Alibi { slopes } => Box::new(Alibi::new(&slopes).over(distance)),
        P::Laplace { scale } => Box::new(Laplace::per_head(&scale).over(distance)),
        P::GeneralizedGaussian { scale, shape } => {
            Box::new(GeneralizedGaussian::per_head(&scale, &shape).over(distance))
        }
        P::BetaGeometric { alpha, beta } => {
            Box::new(BetaGeometric::per_head(&alpha, &beta).over(distance))
        }
        other => panic!("{other:?} is no prior of distance"),
    }
}

fn buckets(table: Array2<f64>, max_distance: u64, bidirectional: bool) -> RelativeBuckets {
    let directions = if bidirectional { Directions::Both } else { Directions::Behind };
    RelativeBuckets::new(table, max_distance as usize, directions)
}

fn prior<T: Real>(of: &reference::Prior) -> Box<dyn Prior<T>> {
    use reference::Prior as P;
    match of.clone() {
        P::Uniform => Box::new(Uniform),
        P::Causal => Box::new(Causal),
        P::Window { left, right } => {
            Box::new(Window { left: left as usize, right: right as usize })
        }
        P::Segments { queries, keys } => Box::new(Segments::new(queries, keys)),
        P::Adjacency { indptr, indices, log_weights: None } => {
            Box::new(Adjacency::new(indptr, indices).expect("a generated graph"))
        }
        P::Adjacency { indptr, indices, log_weights: Some(weights) } => {
            Box::new(Adjacency::weighted(indptr, indices, weights).expect("a generated graph"))
        }
        P::Bias(bias) => Box::new(Bias::new(bias.mapv(T::of))),
        P::RelativeBuckets { table, max_distance, bidirectional } => {
            Box::new(buckets(table, max_distance, bidirectional))
        }
        P::Geometric { rho } => Box::new(Geometric::per_head(&rho)),
        P::Alibi { slopes } => Box::new(Alibi::new(&slopes)),
        P::Laplace { scale } => Box::new(Laplace::per_head(&scale)),
        P::GeneralizedGaussian { scale, shape } => {
            Box::new(GeneralizedGaussian::per_head(&scale, &shape))
        }
        P::KeyBias(bias) => Box::new(KeyBias::new(bias.mapv(T::of))),
        P::BetaGeometric { alpha, beta } => Box::new(BetaGeometric::per_head(&alpha, &beta)),
    }
}

fn potential<T: Real>(of: &reference::Potential) -> Box<dyn Potential<T>> {
    use reference::Potential as U;
    match of.clone() {
        U::Dot { scale, softcap: None } => Box::new(Dot::per_head(&scale)),
        U::Dot { scale, softcap: Some(cap) } => Box::new(Dot::per_head(&scale).with_softcap(cap)),
        U::Cosine { scale } => Box::new(Cosine::per_head(&scale)),
        U::Gaussian { precision } => Box::new(Gaussian::with_precision(precision)),
        U::Gat { query_weight, key_weight, query_vector, key_vector, slope } => Box::new(
            Additive::gat(slope, query_vector, key_vector)
                .with_projections(query_weight, key_weight),
        ),
        U::GatV2 { query_weight, key_weight, vector, slope } => {
            Box::new(Additive::gat_v2(slope, vector).with_projections(query_weight, key_weight))
        }
        U::Bahdanau { query_weight, key_weight, vector } => {
            Box::new(Additive::bahdanau(vector).with_projections(query_weight, key_weight))
        }
        U::Rotated(rotary, inner) => {
            let pairs = match rotary.layout {
                Layout::HalfSplit => RotaryPairs::HalfSplit,
                Layout::Interleaved => RotaryPairs::Interleaved,
            };
            Box::new(Rotary::new(potential(&inner), rotary.base, pairs))
        }
    }
}
