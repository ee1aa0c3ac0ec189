//! Gaussian mixtures and k-means.

use marginals::infer::collapsed::{Exact, FixedPoint, Maximise, Solution};
use marginals::question::{
    ColumnMass, Entropy, Kl, LogPartition, Map, Marginals, MaxProbability, QueryMass,
};
use marginals::zoo::k_means::{self, KMeans};
use marginals::zoo::mixture::{self, Mixture, Parameters};
use marginals::{Element, Error, Real};
use ndarray::{Array2, Array3, Array4, Ix3, Ix4};

use super::questions::Questions;
use super::solution;
use super::tensors::{Inputs, Output};

const POINTS: &str = "the points, [B, Hk, N, D]";
const UPSTREAM: &str = "an upstream gradient";

/// Fits a mixture to `points`, from `means` (with `variances` and `weights`, or as centres alone)
/// or from seeds.
pub fn answer<T: Real + Element<Real = T>>(
    settings: &mixture::Settings,
    questions: &Questions,
    mut inputs: Inputs<'_, T>,
) -> Result<Output<T>, Error> {
    let points: Array4<T> = inputs.take("points", POINTS)?;
    let means = inputs.optional::<Ix4>("means", "where the components start, [B, H, K, D]")?;
    let upstream = [
        inputs.optional::<Ix4>("grad.means", UPSTREAM)?,
        inputs.optional::<Ix4>("grad.variances", UPSTREAM)?,
        inputs
            .optional::<Ix3>("grad.weights", UPSTREAM)?
            .map(|weights| weights.insert_axis(ndarray::Axis(3))),
    ];
    inputs.refuse_unread_gradients(&["grad.means", "grad.variances", "grad.weights"])?;
    let (batch, key_heads, count, _) = points.dim();
    let mixture = settings.mixture(points.view())?;
    let (mixture, start) = match means {
        None => {
            let heads = key_heads * settings.restarts;
            let (seeding, seed) = (settings.seeding, settings.seed);
            let centres =
                k_means::centres(points.view(), settings.components, heads, seeding, seed)?;
            let start = mixture.start(centres.view())?;
            (mixture, start)
        }
        Some(_) if settings.restarts != 1 => {
            let expected = "1 where the input says where to start";
            return Err(Error::value("restarts", expected, settings.restarts));
        }
        Some(means) => {
            let mixture = mixture.with_heads(means.dim().1)?;
            let whole = inputs.holds("variances") || inputs.holds("weights");
            let start = match whole {
                true => mixture.pack(&Parameters {
                    means,
                    variances: inputs.take("variances", "beside means and weights")?,
                    weights: inputs.take("weights", "beside means and variances")?,
                })?,
                false => mixture.start(means.view())?,
            };
            (mixture, start)
        }
    };
    let engine = settings.engine(count);
    let solution = engine.solve(&Exact(&mixture), &start)?;
    let z = &solution.z;

    let mut output = Output::default();
    let parameters = mixture.unpack(z)?;
    let shapes = [
        parameters.means.shape().to_vec(),
        parameters.variances.shape().to_vec(),
        [parameters.weights.shape(), &[1]].concat(),
    ];
    let heads = shapes[0][1];
    solution::write(&solution, &[batch, heads], &mut output);
    best(&solution, (batch, heads, key_heads), &mut output);
    let points_count = T::of(count as f64);
    let by_head = |p: &T| -*p / points_count;
    let log_likelihood: Vec<T> = solution.free_energy.iter().map(by_head).collect();
    let log_likelihood = Array2::from_shape_vec((batch, heads), log_likelihood);
    output.real("log-likelihood", log_likelihood.expect("one per problem").into_dyn());
    let (mass, component, probability, entropy, log_density) =
        mixture.ask(z, (QueryMass, Map, MaxProbability, Entropy, LogPartition))?;
    output.real("mass", mass.into_dyn());
    output.integer("component", component.into_dyn());
    output.real("probability", probability.into_dyn());
    output.real("entropy", entropy.into_dyn());
    output.real("log-density", log_density.into_dyn());
    output.real("means", parameters.means.into_dyn());
    output.real("variances", parameters.variances.into_dyn());
    output.real("weights", parameters.weights.into_dyn());
    ask(&mixture, z, questions, &mut output)?;
    if upstream.iter().any(Option::is_some) {
        let upstream = packed(&upstream, &shapes)?;
        gradients(&engine, &mixture, &solution, &upstream, &mut output)?;
    }
    Ok(output)
}

/// Questions about which component each point belongs to.
fn ask<T: Real + Element<Real = T>>(
    mixture: &Mixture<'_, T>,
    z: &[T],
    questions: &Questions,
    output: &mut Output<T>,
) -> Result<(), Error> {
    for name in questions.names() {
        let answer: Array3<T> = match name {
            "log-partition" => mixture.ask(z, LogPartition)?,
            "entropy" => mixture.ask(z, Entropy)?,
            "kl" => mixture.ask(z, Kl)?,
            "column-mass" => mixture.ask(z, ColumnMass)?,
            "query-mass" => mixture.ask(z, QueryMass)?,
            "max-probability" => mixture.ask(z, MaxProbability)?,
            "map" => {
                output.integer("map", mixture.ask(z, Map)?.into_dyn());
                continue;
            }
            "marginals" => {
                output.real("marginals", mixture.ask(z, Marginals)?.into_dyn());
                continue;
            }
            other => {
                return Err(not_answered(other, "entropy, kl, map and marginals among others"));
            }
        };
        output.real(name, answer.into_dyn());
    }
    Ok(())
}

fn not_answered(question: &str, instead: &str) -> Error {
    Error::NotAnswerable {
        question: question.into(),
        why: "the points are what picks here, and values play no part".into(),
        instead: format!("Ask for {instead}."),
    }
}

/// Runs k-means on `points`, from `means` or from seeds.
pub fn k_means<T: Real + Element<Real = T>>(
    settings: &k_means::Settings,
    questions: &Questions,
    mut inputs: Inputs<'_, T>,
) -> Result<Output<T>, Error> {
    if let Some(question) = questions.names().next() {
        return Err(not_answered(question, "nothing: `component` and `means` are answered anyway"));
    }
    let points: Array4<T> = inputs.take("points", POINTS)?;
    let start = inputs.optional::<Ix4>("means", "where the centres start, [B, H, K, D]")?;
    let upstream = inputs.optional::<Ix4>("grad.means", UPSTREAM)?;
    inputs.refuse_unread_gradients(&["grad.means"])?;
    let (batch, key_heads, _, width) = points.dim();
    let heads = start.as_ref().map_or(key_heads, |start| start.dim().1);
    let model = KMeans::new(points.view(), settings.components)?.with_heads(heads)?;
    let start = match start {
        Some(start) => start,
        None => {
            let (seeding, seed) = (settings.seeding, settings.seed);
            k_means::centres(points.view(), settings.components, heads, seeding, seed)?
        }
    };
    let shape = [batch, heads, settings.components, width];
    if start.shape() != shape {
        let advice = "B and D are those of the points, K is `components`.";
        return Err(Error::shape("means", format!("{shape:?}"), start.shape(), advice));
    }
    marginals::refuse_nan("means", &start.view())?;
    let engine = settings.engine();
    let start: Vec<T> = start.iter().copied().collect();
    let solution = engine.solve(&Exact(&model), &start)?;

    let mut output = Output::default();
    solution::write(&solution, &[batch, heads], &mut output);
    best(&solution, (batch, heads, key_heads), &mut output);
    output.real("means", model.centres(&solution.z)?.to_owned().into_dyn());
    output.integer("component", model.assign(&solution.z)?.into_dyn());
    if upstream.is_some() {
        let upstream = packed(&[upstream], &[shape.to_vec()])?;
        gradients(&engine, &model, &solution, &upstream, &mut output)?;
    }
    Ok(output)
}

/// Adds which of the heads that share points came out best.
fn best<T: Real>(
    solution: &Solution<T>,
    (batch, heads, key_heads): (usize, usize, usize),
    output: &mut Output<T>,
) {
    let starts = heads / key_heads;
    let best = Array2::from_shape_fn((batch, key_heads), |(b, g)| {
        let first = b * heads + g * starts;
        let energies = &solution.free_energy[first..first + starts];
        (1..starts).fold(0, |best, s| if energies[s] < energies[best] { s } else { best }) as i64
    });
    output.integer("best", best.into_dyn());
}

/// Upstream gradients laid out as z is: problem by problem, part by part.
fn packed<T: Real>(parts: &[Option<Array4<T>>], shapes: &[Vec<usize>]) -> Result<Vec<T>, Error> {
    let names = ["grad.means", "grad.variances", "grad.weights"];
    for ((part, shape), name) in parts.iter().zip(shapes).zip(names) {
        if let Some(part) = part.as_ref().filter(|part| part.shape() != shape.as_slice()) {
            let advice = "An upstream gradient has its answer's shape.";
            return Err(Error::shape(name, format!("{shape:?}"), part.shape(), advice));
        }
    }
    let mut z = Vec::new();
    for b in 0..shapes[0][0] {
        for h in 0..shapes[0][1] {
            for (part, shape) in parts.iter().zip(shapes) {
                match part {
                    Some(part) => z.extend(part.slice(ndarray::s![b, h, .., ..]).iter().copied()),
                    None => z.extend(std::iter::repeat_n(T::zero(), shape[2] * shape[3])),
                }
            }
        }
    }
    Ok(z)
}

fn gradients<T: Real, M: Maximise<T>>(
    engine: &FixedPoint,
    model: &M,
    solution: &Solution<T>,
    upstream: &[T],
    output: &mut Output<T>,
) -> Result<(), Error> {
    let through = engine.backward(&Exact(model), solution, upstream)?;
    for input in through.inputs.iter() {
        output.real(&format!("grad.{}", input.name), input.gradient.clone());
    }
    solution::adjoint(through.adjoint, output);
    Ok(())
}
