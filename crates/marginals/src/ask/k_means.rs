//! k-means.

use ndarray::Ix4;

use super::mixture::{POINTS, UPSTREAM, best, gradients, not_answered, packed};
use super::{Answers, Inputs, Questions, iteration};
use crate::infer::collapsed::Exact;
use crate::zoo::k_means::{self, KMeans, Settings};
use crate::{Error, Real, refuse_nan};

/// Runs k-means on `points`, from `means` or from seeds.
pub(super) fn answer<T: Real>(
    settings: &Settings,
    questions: Questions<'_>,
    mut inputs: Inputs<'_, T>,
) -> Result<Answers<T>, Error> {
    if let Some(question) = questions.named.first() {
        let instead = "nothing: `component` and `means` are answered anyway";
        return Err(not_answered(question.entry.name, instead));
    }
    let points = inputs.take::<Ix4>("points", POINTS)?;
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
            k_means::centres(points.view(), settings.components, heads, seeding, seed)?.into()
        }
    };
    let shape = [batch, heads, settings.components, width];
    if start.shape() != shape {
        let advice = "B and D are those of the points, K is `components`.";
        return Err(Error::shape("means", format!("{shape:?}"), start.shape(), advice));
    }
    refuse_nan("means", &start.view())?;
    let engine = settings.engine();
    let start: Vec<T> = start.iter().copied().collect();
    let solution = engine.solve(&Exact(&model), &start)?;

    let mut answers = Answers::default();
    iteration::write(&solution, &[batch, heads], &mut answers);
    best(&solution, (batch, heads, key_heads), &mut answers);
    answers.real("means", model.centres(&solution.z)?.to_owned().into_dyn());
    answers.index("component", model.assign(&solution.z)?.into_dyn());
    if upstream.is_some() {
        let upstream = packed(&[upstream], &[shape.to_vec()])?;
        gradients(&engine, &model, &solution, &upstream, &mut answers)?;
    }
    Ok(answers)
}
