//! The same bits whatever the number of threads.

use marginals::Gradients;
use marginals::Real;
use marginals::question::{
    ColumnMass, Entropy, ExpectedDistance, Kl, LogEvidence, LogPartition, Map, Mean, QueryMass,
    Samples, TopK, ValueVariance,
};
use marginals_testkit::Structure;
use marginals_testkit::generate::{Recipe, strategy::Pantry};
use ndarray::Array4;

use crate::contract::bridge;
use crate::contract::runner::for_recipes;

/// Answers and gradients of everything differentiable, printed: equal text is equal bits, since the
/// shortest decimal that reads back is unique (and −0 and 0, which differ, print differently).
fn everything<T: Real>(recipe: &Recipe, threads: usize) -> Result<String, String> {
    let case = recipe.build();
    let narrow = |x: &Array4<f64>| x.mapv(T::of);
    let (q, k, v) = (narrow(&case.inputs.q), narrow(&case.inputs.k), narrow(&case.inputs.v));
    let model = bridge::model::<T>(&case.model);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
    pool.install(|| answers_and_gradients(&model, q, k, v).map_err(|e| e.to_string()))
}

fn answers_and_gradients<T: Real>(
    model: &bridge::AnyModel<T>,
    q: Array4<T>,
    k: Array4<T>,
    v: Array4<T>,
) -> Result<String, marginals::Error> {
    let posterior = model.posterior(q.view(), k.view())?;
    let questions = (
        (Mean(v.view()), ValueVariance(v.view()), LogPartition, LogEvidence, Entropy, Kl),
        (ColumnMass, ExpectedDistance, QueryMass),
        (Map, TopK(2), Samples { count: 3, seed: 11 }),
    );
    let pass = posterior.pass(questions)?;
    let answers = pass.answer()?;
    let ((mean, variance, log_partition, evidence, entropy, kl), (column, distance, _), _) =
        &answers;
    // Upstream gradients must be something reproducible: the finite parts of the answers serve.
    let finite = |x: &ndarray::Array3<T>| x.mapv(|x| if x.is_finite() { x } else { T::zero() });
    let (log_partition, evidence) = (finite(log_partition), finite(evidence));
    let values = (mean, variance, &log_partition, &evidence, entropy, kl);
    let upstream = (values, (column, distance, distance), ((), (), ()));
    let Gradients { q, k, values, parameters } = pass.backward(upstream)?;
    let bits = |x: Vec<T>| x.iter().map(|x| format!("{x:?} ")).collect::<String>();
    let gradients = [q.into_iter().collect(), k.into_iter().collect()]
        .into_iter()
        .chain(values.into_iter().flatten().map(|v| v.into_iter().collect()))
        .chain(parameters.into_iter().map(|p| p.gradient.into_iter().collect()))
        .map(bits)
        .collect::<Vec<_>>()
        .join("\n");
    Ok(format!("{answers:?}\n{gradients}"))
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    for structure in Structure::ALL {
        let pantry = Pantry { sizes: vec![1, 13, 97, 200], ..Pantry::tiles(structure, 257) };
        for_recipes(12, &pantry, |recipe| {
            let single = everything::<f32>(recipe, 1)?;
            let double = everything::<f64>(recipe, 1)?;
            for threads in [2, 3, 7] {
                if everything::<f32>(recipe, threads)? != single
                    || everything::<f64>(recipe, threads)? != double
                {
                    return Err(format!("{threads} threads give other bits than one"));
                }
            }
            Ok(())
        });
    }
}

/// Long enough for the keys to be cut as well.
#[test]
fn cut_keys_give_the_same_bits() {
    for structure in Structure::ALL {
        let mut recipe = Recipe { ..first(structure) };
        (recipe.queries, recipe.keys) = (3, 4500);
        let single = everything::<f32>(&recipe, 1).expect("answers");
        for threads in [2, 5] {
            assert!(everything::<f32>(&recipe, threads).expect("answers") == single, "{recipe:?}");
        }
    }
}

fn first(structure: Structure) -> Recipe {
    use marginals_testkit::generate::{Flavour, PotentialKind, PriorKind};
    Recipe {
        structure,
        value_kind: marginals_testkit::ValueKind::Gather,
        priors: vec![PriorKind::KeyBias, PriorKind::Geometric],
        potential: PotentialKind::Dot,
        flavour: Flavour::Ordinary,
        batch: 1,
        key_heads: 1,
        group: 2,
        queries: 1,
        keys: 1,
        depth: 8,
        value_depth: 5,
        query_offset: 0,
        seed: 3,
    }
}
