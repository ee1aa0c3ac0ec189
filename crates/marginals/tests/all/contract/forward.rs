//! Every question of every structure against enumeration, alone and all together, and against the
//! dense formulas at sizes around the edges of tiles.

use marginals::question::{
    ColumnMass, Entropy, ExpectedDistance, Kl, LogEvidence, LogPartition, Map, Marginals,
    MaxProbability, MaxScore, Mean, MinScore, NullProbability, QueryMass, TopK, ValueVariance,
};
use marginals_testkit::generate::{
    Case, DecayKind, DistanceKind, Fault, Flavour, NullKind, PotentialKind, PriorKind, Recipe,
    strategy::Pantry,
};
use marginals_testkit::{Law, Structure, dense, enumerate};

use crate::contract::bridge;
use crate::contract::expected::{By, Expected};
use crate::contract::runner::{for_recipes, for_scenarios};

/// Cases per structure; each asks every question alone and with all the others.
const CASES: u32 = 1_200;

/// How many of the best edges to ask for: more than some cases have.
const TOP: usize = 4;

/// Whether every score of a recipe is exact in `f64`, so that equal scores are equal however they are
/// computed.
fn exact_scores(recipe: &Recipe) -> bool {
    let dyadic = |p: &PriorKind| {
        !matches!(
            p,
            PriorKind::Geometric
                | PriorKind::Alibi
                | PriorKind::Laplace
                | PriorKind::GeneralizedGaussian
                | PriorKind::BetaGeometric
        )
    };
    recipe.flavour == Flavour::Ties
        && matches!(recipe.potential, PotentialKind::Dot | PotentialKind::Gaussian)
        && recipe.priors.iter().all(dyadic)
}

/// Asks everything and compares with `expected`.
fn check(recipe: &Recipe, case: &Case, expected: &Expected) -> Result<(), String> {
    let model = bridge::model::<f64>(&case.model);
    let (q, k, v) = (case.inputs.q.view(), case.inputs.k.view(), case.inputs.v.view());
    let posterior = model.posterior(q, k).map_err(|e| e.to_string())?;
    let exact = exact_scores(recipe);
    macro_rules! ask {
        ($question:expr) => {
            posterior.ask($question).map_err(|e| e.to_string())?
        };
    }
    let all = ask!((
        Mean(v),
        ValueVariance(v),
        LogPartition,
        LogEvidence,
        Entropy,
        Kl,
        ColumnMass,
        ExpectedDistance,
        Marginals,
        MaxProbability,
        Map,
        TopK(TOP),
        QueryMass,
    ));
    let alone = (
        ask!(Mean(v)),
        ask!(ValueVariance(v)),
        ask!(LogPartition),
        ask!(LogEvidence),
        ask!(Entropy),
        ask!(Kl),
        ask!(ColumnMass),
        ask!(ExpectedDistance),
        ask!(Marginals),
        ask!(MaxProbability),
        ask!(Map),
        ask!(TopK(TOP)),
        ask!(QueryMass),
    );
    let (none, highest, lowest) = ask!((NullProbability, MaxScore, MinScore));
    expected.check("null-probability", By::Factor, none, |a| &a.null_probability)?;
    expected.check("max-score", By::Query, highest.score, |a| &a.max_score)?;
    expected.check("min-score", By::Query, lowest.score, |a| &a.min_score)?;
    for (how, answers) in [("together", all), ("alone", alone)] {
        let (mean, variance, log_partition, evidence, entropy, kl, ..) = &answers;
        let (.., column, distance, marginals, max, map, top, mass) = &answers;
        let name = |question: &str| format!("{question}, {how}");
        expected.check(&name("mean"), By::Value, mean.iter().copied(), |a| &a.mean)?;
        expected
            .check(&name("variance"), By::Value, variance.iter().copied(), |a| &a.value_variance)?;
        let partition = log_partition.iter().copied();
        expected.check(&name("log-partition"), By::Factor, partition, |a| &a.log_partition)?;
        expected.check(&name("log-evidence"), By::Factor, evidence.iter().copied(), |a| {
            &a.log_evidence
        })?;
        expected.check(&name("entropy"), By::Factor, entropy.iter().copied(), |a| &a.entropy)?;
        expected.check(&name("KL"), By::Factor, kl.iter().copied(), |a| &a.kl)?;
        expected
            .check(&name("column mass"), By::Key, column.iter().copied(), |a| &a.column_mass)?;
        expected.check(&name("distance"), By::Query, distance.iter().copied(), |a| {
            &a.expected_distance
        })?;
        expected
            .check(&name("marginals"), By::Edge, marginals.iter().copied(), |a| &a.marginals)?;
        // The marginals have just been checked.
        let held = marginals.sum_axis(ndarray::Axis(3));
        let agrees = |((m, h), touched): ((&f64, &f64), bool)| {
            touched || (m - h).abs() <= 1e-10 * h.max(1.0)
        };
        let touched = expected.touched.iter().flat_map(|touched| touched.queries.clone());
        if !mass.iter().zip(&held).zip(touched).all(agrees) {
            return Err(format!(
                "{}: {mass:?}, but the marginals sum to {held:?}",
                name("query mass")
            ));
        }
        let flat = |x: &ndarray::Array4<f64>| x.iter().copied().collect::<Vec<_>>();
        let (map, max): (Vec<_>, Vec<_>) =
            (map.iter().copied().collect(), max.iter().copied().collect());
        expected.check_ranking(&name("MAP"), 1, &map, &max, exact)?;
        let index: Vec<_> = top.index.iter().copied().collect();
        expected.check_ranking(&name("top-k"), TOP, &index, &flat(&top.probability), exact)?;
    }
    Ok(())
}

fn agrees_with_enumeration(structure: Structure) {
    for_recipes(CASES, &Pantry::tiny(structure), |recipe| {
        let case = recipe.build();
        check(recipe, &case, &Expected::new(recipe, &case, enumerate::answer))
    });
}

/// Keys offered one after the other, from the last to the first.
#[test]
fn nearest_accepted() {
    for_scenarios(CASES, &Pantry::nearest_accepted(), |scenario| {
        let (recipe, case) = (scenario.recipe(), scenario.build());
        check(&recipe, &case, &Expected::new(&recipe, &case, enumerate::answer))
    });
}

/// Having no edge: of a log-weight, of a logit, and gated.
#[test]
fn null_edges() {
    let nulls = NullKind::ALL.to_vec();
    let pantry = Pantry { nulls, ..Pantry::tiny(Structure::EachQueryPicksAtMostOne) };
    for_scenarios(CASES, &pantry, |scenario| {
        let (recipe, case) = (scenario.recipe(), scenario.build());
        check(&recipe, &case, &Expected::new(&recipe, &case, enumerate::answer))
    });
}

/// Priors of how many keys that matter lie between, beside masks that hide some.
#[test]
fn contextual_distances() {
    let over = DecayKind::ALL.map(|decay| PriorKind::OverDistance(decay, DistanceKind::Contextual));
    let priors: Vec<PriorKind> = PriorKind::ALL.into_iter().chain(over).chain(over).collect();
    for structure in Structure::ALL {
        let pantry = Pantry { priors: priors.clone(), ..Pantry::tiny(structure) };
        for_scenarios(CASES, &pantry, |scenario| {
            let (recipe, case) = (scenario.recipe(), scenario.build());
            check(&recipe, &case, &Expected::new(&recipe, &case, enumerate::answer))
        });
    }
}

/// Distances whose gates lie in several blocks of keys, and are summed block by block.
#[test]
fn contextual_distances_over_several_blocks() {
    let priors =
        DecayKind::ALL.map(|decay| PriorKind::OverDistance(decay, DistanceKind::Contextual));
    for structure in Structure::ALL {
        let (sizes, depths) = (vec![70, 600, 1100], vec![8, 17]);
        let priors = priors.to_vec();
        let pantry = Pantry { batches: 1, priors, sizes, depths, ..Pantry::tiny(structure) };
        agrees_with_dense(&pantry, 6);
    }
}

/// What breaks arithmetic that does not expect it: garbage behind masks, far positions, underflowing masses, values far
/// from 0, empty axes. Huge finite masks have tests of their own (`contract::degenerate`): a score of
/// −3.4e38 + log ψ has no digits left for ψ, so that a row in which nothing else is possible cannot
/// agree with exact arithmetic.
#[test]
fn faults_of_the_field() {
    let laws = Structure::ALL.into_iter().map(|structure| (structure, Law::ExponentialFamily));
    let nearest_accepted = (Structure::EachQueryPicksAtMostOne, Law::NearestAccepted);
    for (structure, law) in laws.chain([nearest_accepted]) {
        // Edges that are compared with 0, each by itself, have nothing in common that would cancel: a
        // log-weight of −10⁸ has no digits left for what is smaller than it by 10⁻¹⁶.
        let alone = structure == Structure::Independent || law == Law::NearestAccepted;
        let others = |fault: &Fault| match fault {
            Fault::HugeMasks => false,
            Fault::FarPositions => !alone,
            _ => true,
        };
        let laws = vec![law];
        let nulls = NullKind::ALL.to_vec();
        let faults = Fault::ALL.into_iter().filter(others).collect();
        let pantry = Pantry { laws, nulls, faults, ..Pantry::tiny(structure) };
        for_scenarios(CASES, &pantry, |scenario| {
            let (recipe, case) = (scenario.recipe(), scenario.build());
            check(&recipe, &case, &Expected::new(&recipe, &case, dense::answer))
        });
    }
}

/// Forget gates, and priors of distance over what they forget.
#[test]
fn priors_of_gates() {
    for pantry in Pantry::of_gates() {
        for_scenarios(CASES / 4, &pantry, |scenario| {
            let (recipe, case) = (scenario.recipe(), scenario.build());
            check(&recipe, &case, &Expected::new(&recipe, &case, enumerate::answer))
        });
    }
    for structure in Structure::ALL {
        let tiles = Pantry { priors: PriorKind::of_gates(), ..Pantry::tiles(structure, 257) };
        agrees_with_dense(&Pantry { batches: 1, ..tiles }, 30);
    }
}

#[test]
fn each_query_picks_one() {
    agrees_with_enumeration(Structure::EachQueryPicksOne);
}

#[test]
fn each_query_picks_at_most_one() {
    agrees_with_enumeration(Structure::EachQueryPicksAtMostOne);
}

#[test]
fn each_key_picks_one() {
    agrees_with_enumeration(Structure::EachKeyPicksOne);
}

#[test]
fn independent() {
    agrees_with_enumeration(Structure::Independent);
}

fn agrees_with_dense(pantry: &Pantry, cases: u32) {
    for_recipes(cases, pantry, |recipe| {
        let case = recipe.build();
        check(recipe, &case, &Expected::new(recipe, &case, dense::answer))
    });
}

#[test]
fn sizes_around_tile_edges() {
    for structure in Structure::ALL {
        agrees_with_dense(&Pantry { batches: 1, ..Pantry::tiles(structure, 257) }, 60);
    }
}

#[test]
fn several_blocks_of_queries_and_keys() {
    for structure in Structure::ALL {
        let sizes = vec![511, 513, 777];
        let depths = vec![8, 17];
        let pantry = Pantry { batches: 1, sizes, depths, ..Pantry::tiny(structure) };
        agrees_with_dense(&pantry, 3);
    }
}

/// Few queries against many keys: the keys are cut and merged, and nothing is packed.
#[test]
fn few_queries_and_many_keys() {
    for structure in Structure::ALL {
        for (queries, keys) in [(1, 4097), (3, 5000), (5, 6143), (4097, 2)] {
            for seed in 0..3 {
                let recipe = Recipe {
                    structure,
                    value_kind: marginals_testkit::ValueKind::Gather,
                    priors: [vec![], vec![PriorKind::Alibi], vec![PriorKind::KeyBias]]
                        [seed as usize]
                        .clone(),
                    potential: PotentialKind::Dot,
                    flavour: [Flavour::Ordinary, Flavour::Ties, Flavour::Huge][seed as usize],
                    batch: 1,
                    key_heads: 1,
                    group: 1 + seed as usize % 2,
                    queries,
                    keys,
                    depth: 5,
                    value_depth: 3,
                    query_offset: 0,
                    seed,
                };
                let case = recipe.build();
                let expected = Expected::new(&recipe, &case, dense::answer);
                check(&recipe, &case, &expected).unwrap_or_else(|e| panic!("{e}\n{recipe:?}"));
            }
        }
    }
}
