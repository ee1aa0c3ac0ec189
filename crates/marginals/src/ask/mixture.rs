//! A Gaussian mixture.

use ndarray::{Array2, ArrayView4, Axis, Ix3, Ix4, s};

use super::{Answers, CowTensor, Inputs, Questions, iteration};
use crate::infer::collapsed::{Exact, FixedPoint, Maximise, Solution};
use crate::question::{Entropy, LogPartition, Map, MaxProbability, Named, QueryMass};
use crate::spec::Tensors;
use crate::zoo::k_means;
use crate::zoo::mixture::{Parameters, Settings};
use crate::{Error, Real};

pub(super) const POINTS: &str = "the points, [B, Hk, N, D]";
pub(super) const UPSTREAM: &str = "an upstream gradient";

/// Upstream gradients that are read.
const GRADIENTS: &[&str] = &["grad.means", "grad.variances", "grad.weights"];

/// Fits a mixture to `points`, from `means` (with `variances` and `weights`, or as centres alone)
/// or from seeds.
pub(super) fn answer<T: Real>(
    settings: &Settings,
    questions: Questions<'_>,
    mut inputs: Inputs<'_, T>,
) -> Result<Answers<T>, Error> {
    refuse_of_values(questions.named)?;
    let points = inputs.take::<Ix4>("points", POINTS)?;
    let means = inputs.optional::<Ix4>("means", "where the components start, [B, H, K, D]")?;
    let upstream = [
        inputs.optional::<Ix4>(GRADIENTS[0], UPSTREAM)?,
        inputs.optional::<Ix4>(GRADIENTS[1], UPSTREAM)?,
        inputs.optional::<Ix3>(GRADIENTS[2], UPSTREAM)?.map(|weights| weights.insert_axis(Axis(3))),
    ];
    inputs.refuse_unread_gradients(GRADIENTS)?;
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
                    means: means.into_owned(),
                    variances: inputs.take("variances", "beside means and weights")?.into_owned(),
                    weights: inputs.take("weights", "beside means and variances")?.into_owned(),
                })?,
                false => mixture.start(means.view())?,
            };
            (mixture, start)
        }
    };
    let engine = settings.engine(count);
    let solution = engine.solve(&Exact(&mixture), &start)?;
    let z = &solution.z;

    let mut answers = Answers::default();
    let parameters = mixture.unpack(z)?;
    let shapes = [
        parameters.means.shape().to_vec(),
        parameters.variances.shape().to_vec(),
        [parameters.weights.shape(), &[1]].concat(),
    ];
    let heads = shapes[0][1];
    iteration::write(&solution, &[batch, heads], &mut answers);
    best(&solution, (batch, heads, key_heads), &mut answers);
    let points_count = T::of(count as f64);
    let by_head = |p: &T| -*p / points_count;
    let log_likelihood: Vec<T> = solution.free_energy.iter().map(by_head).collect();
    let log_likelihood = Array2::from_shape_vec((batch, heads), log_likelihood);
    answers.real("log-likelihood", log_likelihood.expect("one per problem").into_dyn());
    let tensors = Tensors::default();
    let own = (QueryMass, Map, MaxProbability, Entropy, LogPartition);
    let (own, asked) = mixture.ask(z, (own, questions.of(None, &tensors)?))?;
    let (mass, component, probability, entropy, log_density) = own;
    answers.real("mass", mass.into_dyn());
    answers.index("floored", mixture.floored(z)?.mapv(|count| count as i64).into_dyn());
    answers.describe("floored", "variances on their floor, of those of the component");
    answers.index("component", component.into_dyn());
    answers.real("probability", probability.into_dyn());
    answers.real("entropy", entropy.into_dyn());
    answers.real("log-density", log_density.into_dyn());
    answers.real("means", parameters.means.into_dyn());
    answers.real("variances", parameters.variances.into_dyn());
    answers.real("weights", parameters.weights.into_dyn());
    answers.extend(asked);
    if upstream.iter().any(Option::is_some) {
        let upstream = packed(&upstream, &shapes)?;
        gradients(&engine, &mixture, &solution, &upstream, &mut answers)?;
    }
    Ok(answers)
}

/// Refuses questions that average values: points pick components, and nothing else is gathered.
fn refuse_of_values(questions: &[Named]) -> Result<(), Error> {
    match questions.iter().find(|named| named.entry.averages_values) {
        None => Ok(()),
        Some(named) => {
            Err(not_answered(named.entry.name, "entropy, kl, map and marginals among others"))
        }
    }
}

/// The refusal of a question about points.
pub(super) fn not_answered(question: &str, instead: &str) -> Error {
    Error::NotAnswerable {
        question: question.into(),
        why: "the points are what picks here, and values play no part".into(),
        instead: format!("Ask for {instead}."),
    }
}

/// Adds which of the heads that share points came out best.
pub(super) fn best<T: Real>(
    solution: &Solution<T>,
    (batch, heads, key_heads): (usize, usize, usize),
    answers: &mut Answers<T>,
) {
    let starts = heads / key_heads;
    let best = Array2::from_shape_fn((batch, key_heads), |(b, g)| {
        let first = b * heads + g * starts;
        let energies = &solution.free_energy[first..first + starts];
        (1..starts).fold(0, |best, s| if energies[s] < energies[best] { s } else { best }) as i64
    });
    answers.index("best", best.into_dyn());
}

/// Upstream gradients laid out as z is: problem by problem, part by part.
pub(super) fn packed<T: Real>(
    parts: &[Option<CowTensor<'_, T, Ix4>>],
    shapes: &[Vec<usize>],
) -> Result<Vec<T>, Error> {
    for ((part, shape), name) in parts.iter().zip(shapes).zip(GRADIENTS) {
        if let Some(part) = part.as_ref().filter(|part| part.shape() != shape.as_slice()) {
            let advice = "An upstream gradient has its answer's shape.";
            return Err(Error::shape(*name, format!("{shape:?}"), part.shape(), advice));
        }
    }
    let mut z = Vec::new();
    for b in 0..shapes[0][0] {
        for h in 0..shapes[0][1] {
            for (part, shape) in parts.iter().zip(shapes) {
                let own = |part: ArrayView4<'_, T>| -> Vec<T> {
                    part.slice(s![b, h, .., ..]).iter().copied().collect()
                };
                match part {
                    Some(part) => z.extend(own(part.view())),
                    None => z.extend(std::iter::repeat_n(T::zero(), shape[2] * shape[3])),
                }
            }
        }
    }
    Ok(z)
}

/// Adds the gradients in the points.
pub(super) fn gradients<T: Real, M: Maximise<T>>(
    engine: &FixedPoint,
    model: &M,
    solution: &Solution<T>,
    upstream: &[T],
    answers: &mut Answers<T>,
) -> Result<(), Error> {
    let through = engine.backward(&Exact(model), solution, upstream)?;
    iteration::gradients(through.inputs, answers);
    iteration::adjoint(through.adjoint, answers);
    Ok(())
}
