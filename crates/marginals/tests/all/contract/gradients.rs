//! Every gradient against finite differences of the testkit's own answers.
//!
//! The loss is a random linear functional of a random set of answers; it is evaluated by the testkit
//! alone, so the library's forward pass plays no part in what its backward pass is compared with.

use marginals::question::{
    ColumnMass, Entropy, ExpectedDistance, Kl, LogEvidence, LogPartition, Marginals, Mean,
    NullProbability, QueryMass, ValueVariance,
};
use marginals_testkit::generate::{
    Case, DecayKind, DistanceKind, Fault, Flavour, NullKind, PotentialKind, PriorKind, Random,
    Recipe, strategy::Pantry,
};
use marginals_testkit::{Law, Structure, ValueKind, dense};
use ndarray::{Array3, Array4, s};

use crate::contract::bridge;
use crate::contract::runner::{for_recipes, for_scenarios};
use crate::contract::slopes::{Slopes, numbered};

/// Cases per structure; each differentiates a random half of the questions, in everything.
const CASES: u32 = 1_200;

/// Entries of each tensor that are moved one by one; a random direction moves all of them.
const ENTRIES: usize = 3;

/// Mass of a query under which the variance of an average is left alone.
const LITTLE_MASS: f64 = 1e-20;

/// Upstream gradients of the questions a loss is made of.
struct Loss {
    mean: Option<Array4<f64>>,
    variance: Option<Array4<f64>>,
    /// Log-partition, log-evidence, entropy, KL.
    factors: [Option<Array3<f64>>; 4],
    column: Option<Array3<f64>>,
    distance: Option<Array3<f64>>,
    mass: Option<Array3<f64>>,
    none: Option<Array3<f64>>,
    marginals: Option<Array4<f64>>,
}

impl Loss {
    /// Each question with probability ½, at least one.
    fn draw(recipe: &Recipe, random: &mut Random) -> Self {
        let (b, h, n, m) = (recipe.batch, recipe.heads(), recipe.queries, recipe.keys);
        let f = recipe.structure.factors(n, m);
        let always = random.integer(0, 10);
        let mut wanted = (0..11).map(|question| question == always || random.chance(0.5));
        let mut wanted: Vec<bool> = wanted.by_ref().collect();
        let mut rows = |question: usize, last: usize| {
            wanted[question].then(|| Array3::from_shape_fn((b, h, last), |_| random.normal()))
        };
        let factors = [rows(0, f), rows(1, f), rows(2, f), rows(3, f)];
        let (column, distance, mass) = (rows(4, m), rows(5, n), rows(8, n));
        let none = rows(10, f);
        let mut values = |question: usize| {
            std::mem::take(&mut wanted[question])
                .then(|| Array4::from_shape_fn((b, h, n, recipe.value_depth), |_| random.normal()))
        };
        let (mean, variance) = (values(6), values(7));
        let marginals = wanted[9].then(|| Array4::from_shape_fn((b, h, n, m), |_| random.normal()));
        Self { mean, variance, factors, column, distance, mass, none, marginals }
    }

    /// The loss without the answers that garbage reaches, and without variances of averages over next to
    /// no mass: they are of the size of one over it, and their slopes are of no size that there is.
    fn untouched(mut self, case: &Case) -> Self {
        let heads = case.heads().into_iter().zip(case.problems());
        for (((b, h), problem), touched) in heads.zip(case.touched()) {
            if let (Some(upstream), ValueKind::Average) = (&mut self.variance, problem.value_kind) {
                for (i, row) in dense::answer(&problem).marginals.outer_iter().enumerate() {
                    if row.sum() < LITTLE_MASS {
                        upstream.slice_mut(s![b, h, i, ..]).fill(0.0);
                    }
                }
            }
            let numbers = |upstream: &mut Option<Array3<f64>>, touched: &[bool]| {
                let Some(upstream) = upstream else { return };
                let own = upstream.slice_mut(s![b, h, ..]);
                own.into_iter().zip(touched).filter(|(_, t)| **t).for_each(|(g, _)| *g = 0.0);
            };
            self.factors.iter_mut().for_each(|of| numbers(of, &touched.factors));
            numbers(&mut self.none, &touched.factors);
            numbers(&mut self.column, &touched.keys);
            numbers(&mut self.distance, &touched.queries);
            numbers(&mut self.mass, &touched.queries);
            for upstream in [&mut self.mean, &mut self.variance].into_iter().flatten() {
                for (i, _) in touched.values.iter().enumerate().filter(|(_, t)| **t) {
                    upstream.slice_mut(s![b, h, i, ..]).fill(0.0);
                }
            }
            if let Some(upstream) = &mut self.marginals {
                for ((i, j), _) in touched.edges.indexed_iter().filter(|(_, t)| **t) {
                    upstream[[b, h, i, j]] = 0.0;
                }
            }
        }
        self
    }

    /// The loss of a case, by the dense formulas.
    fn of(&self, case: &Case) -> f64 {
        let (batch, heads, ..) = case.inputs.q.dim();
        let mut sum = 0.0;
        for b in 0..batch {
            for h in 0..heads {
                let answers = dense::answer(&case.model.problem(&case.inputs, b, h));
                let query_mass = answers.marginals.sum_axis(ndarray::Axis(1));
                let rows = [
                    (&self.factors[0], &answers.log_partition),
                    (&self.factors[1], &answers.log_evidence),
                    (&self.factors[2], &answers.entropy),
                    (&self.factors[3], &answers.kl),
                    (&self.column, &answers.column_mass),
                    (&self.distance, &answers.expected_distance),
                    (&self.mass, &query_mass),
                    (&self.none, &answers.null_probability),
                ];
                for (upstream, answer) in rows {
                    let Some(upstream) = upstream else { continue };
                    for (&g, x) in upstream.slice(s![b, h, ..]).iter().zip(answer) {
                        // A factor that nothing may serve is −∞ whatever moves: slope 0.
                        sum += if x.is_finite() { g * x } else { 0.0 };
                    }
                }
                let values = [
                    (&self.mean, &answers.mean),
                    (&self.variance, &answers.value_variance),
                    (&self.marginals, &answers.marginals),
                ];
                for (upstream, answer) in values {
                    let Some(upstream) = upstream else { continue };
                    let terms = upstream.slice(s![b, h, .., ..]).into_iter().zip(answer);
                    sum += terms.map(|(&g, x)| if g == 0.0 { 0.0 } else { g * x }).sum::<f64>();
                }
            }
        }
        sum
    }
}

/// A tensor that the loss can be differentiated in.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Variable {
    Q,
    K,
    V,
    /// Index in the model's list of parameters.
    Parameter(usize),
}

fn numbers(case: &mut Case, variable: Variable) -> &mut [f64] {
    const CONTIGUOUS: &str = "generated tensors are in standard layout";
    match variable {
        Variable::Q => case.inputs.q.as_slice_mut().expect(CONTIGUOUS),
        Variable::K => case.inputs.k.as_slice_mut().expect(CONTIGUOUS),
        Variable::V => case.inputs.v.as_slice_mut().expect(CONTIGUOUS),
        Variable::Parameter(index) => case.model.parameters_mut().swap_remove(index).1,
    }
}

/// The library's gradients by variable, in the order of the testkit's parameters.
fn gradients(case: &mut Case, loss: &Loss) -> Result<Vec<(String, Variable, Vec<f64>)>, String> {
    let model = bridge::model::<f64>(&case.model);
    let (q, k, v) = (case.inputs.q.view(), case.inputs.k.view(), case.inputs.v.view());
    let posterior = model.posterior(q, k).map_err(|e| e.to_string())?;
    let questions = (
        (Mean(v), ValueVariance(v), Marginals),
        (LogPartition, LogEvidence, Entropy, Kl),
        (ColumnMass, ExpectedDistance, QueryMass, NullProbability),
    );
    let pass = posterior.pass(questions).map_err(|e| e.to_string())?;
    let [mean, variance, marginals] =
        [&loss.mean, &loss.variance, &loss.marginals].map(|g| g.as_ref().map(|g| g.view()));
    let [z, evidence, entropy, kl] = loss.factors.each_ref().map(|g| g.as_ref().map(|g| g.view()));
    let [column, distance, mass, none] = [&loss.column, &loss.distance, &loss.mass, &loss.none]
        .map(|g| g.as_ref().map(|g| g.view()));
    let upstream =
        ((mean, variance, marginals), (z, evidence, entropy, kl), (column, distance, mass, none));
    let found = pass.backward(upstream).map_err(|e| e.to_string())?;
    let flat = |x: &Array4<f64>| x.iter().copied().collect::<Vec<_>>();
    let mut out = vec![
        ("q".to_owned(), Variable::Q, flat(&found.q)),
        ("k".to_owned(), Variable::K, flat(&found.k)),
        ("v".to_owned(), Variable::V, flat(found.v().ok_or("no gradient of v")?)),
    ];
    let listed: Vec<&str> = case.model.clone().parameters_mut().iter().map(|p| p.0).collect();
    let names = numbered(&listed);
    for (index, name) in names.iter().enumerate() {
        let gradient = found.parameter(name).ok_or_else(|| format!("no gradient of {name}"))?;
        out.push((name.clone(), Variable::Parameter(index), gradient.iter().copied().collect()));
    }
    if let Some(extra) = found.parameters.iter().find(|p| !names.contains(&p.name)) {
        return Err(format!("a gradient of {}, which is no parameter", extra.name));
    }
    Ok(out)
}

fn check(recipe: &Recipe, entries: usize, slopes: &Slopes) -> Result<(), String> {
    check_case(recipe, recipe.build(), entries, slopes)
}

fn check_case(
    recipe: &Recipe,
    mut case: Case,
    entries: usize,
    slopes: &Slopes,
) -> Result<(), String> {
    let mut random = Random::new(recipe.seed ^ 0x5eed);
    let loss = Loss::draw(recipe, &mut random).untouched(&case);
    for (name, variable, found) in gradients(&mut case, &loss)? {
        let x = numbers(&mut case, variable).to_vec();
        let mut moved = case.clone();
        slopes.check(&name, (&x, &found), entries, &mut random, |x| {
            numbers(&mut moved, variable).copy_from_slice(x);
            loss.of(&moved)
        })?;
    }
    Ok(())
}

/// Whether the loss has a slope at the recipe's numbers: integers put LeakyReLU on its kink and
/// vectors at zero, where a cosine has no direction.
fn smooth(recipe: &Recipe) -> bool {
    use PotentialKind::{Cosine, Gat, GatV2};
    recipe.flavour != Flavour::Ties || !matches!(recipe.potential, Cosine | Gat | GatV2)
}

fn agree_with_finite_differences(structure: Structure) {
    let pantry = Pantry {
        flavours: vec![Flavour::Ordinary, Flavour::Ties],
        sizes: (1..=4).collect(),
        depths: vec![1, 2, 3],
        ..Pantry::tiny(structure)
    };
    let slopes = Slopes::default();
    for_recipes(CASES, &pantry, |recipe| match smooth(recipe) {
        true => check(recipe, ENTRIES, &slopes),
        false => Ok(()),
    });
    slopes.assert_settled(500);
}

#[test]
fn nearest_accepted() {
    agree_in_scenarios(&small(Pantry::nearest_accepted()));
}

#[test]
fn null_edges() {
    // A log-weight of 0 is one like others, and learned like others.
    let nulls = NullKind::ALL.into_iter().filter(|null| *null != NullKind::One);
    let pantry = Pantry {
        nulls: nulls.collect(),
        ..small(Pantry::tiny(Structure::EachQueryPicksAtMostOne))
    };
    agree_in_scenarios(&pantry);
}

#[test]
fn contextual_distances() {
    for structure in Structure::ALL {
        let over =
            DecayKind::ALL.map(|decay| PriorKind::OverDistance(decay, DistanceKind::Contextual));
        let masks = [PriorKind::Causal, PriorKind::Window, PriorKind::Segments, PriorKind::Bias];
        let priors = over.into_iter().chain(masks).collect();
        // Tied scores have gates that add up to whole numbers, where buckets have a kink.
        let flavours = vec![Flavour::Ordinary];
        agree_in_scenarios(&Pantry { priors, flavours, ..small(Pantry::tiny(structure)) });
    }
}

/// Gates in several blocks of keys, which are owed to by blocks before theirs.
#[test]
fn contextual_distances_over_several_blocks() {
    for structure in Structure::ALL {
        let smooth = [DecayKind::Geometric, DecayKind::Alibi, DecayKind::BetaGeometric];
        let over = smooth.map(|decay| PriorKind::OverDistance(decay, DistanceKind::Contextual));
        let pantry = Pantry {
            priors: over.to_vec(),
            flavours: vec![Flavour::Ordinary],
            sizes: vec![40, 600],
            depths: vec![2, 5],
            batches: 1,
            ..Pantry::tiny(structure)
        };
        let slopes = Slopes::default();
        for_recipes(4, &pantry, |recipe| check(recipe, 1, &slopes));
        slopes.assert_settled(500);
    }
}

/// Cases that finite differences have digits for.
fn small(pantry: Pantry) -> Pantry {
    Pantry {
        flavours: vec![Flavour::Ordinary, Flavour::Ties],
        sizes: (1..=4).collect(),
        depths: vec![1, 2, 3],
        ..pantry
    }
}

fn agree_in_scenarios(pantry: &Pantry) {
    let slopes = Slopes::default();
    // Of the variance of an average over a mass of 10⁻¹¹ five digits are left beside the null edge's.
    let keeps_digits = |recipe: &Recipe| {
        recipe.structure != Structure::EachQueryPicksAtMostOne
            || recipe.value_kind == ValueKind::Gather
    };
    let taken = |recipe: &Recipe| smooth(recipe) && keeps_digits(recipe);
    for_scenarios(CASES, pantry, |scenario| match taken(&scenario.base) {
        true => check_case(&scenario.recipe(), scenario.build(), ENTRIES, &slopes),
        false => Ok(()),
    });
    slopes.assert_settled(500);
}

/// Garbage behind masks, values far from 0, underflowing masses and empty axes: what garbage does not
/// reach has the gradients that it has without, and garbage itself has none.
fn stand_the_faults_of_the_field(structure: Structure, law: Law) {
    let others = |fault: &Fault| !matches!(fault, Fault::FarPositions | Fault::HugeMasks);
    let pantry = Pantry {
        flavours: vec![Flavour::Ordinary, Flavour::Ties],
        sizes: (1..=4).collect(),
        depths: vec![1, 2, 3],
        laws: vec![law],
        faults: Fault::ALL.into_iter().filter(others).collect(),
        ..Pantry::tiny(structure)
    };
    let slopes = Slopes::default();
    for_scenarios(CASES / 2, &pantry, |scenario| match smooth(&scenario.base) {
        true => check_case(&scenario.recipe(), scenario.build(), ENTRIES, &slopes),
        false => Ok(()),
    });
    slopes.assert_settled(50);
}

#[test]
fn faults_where_each_query_picks_one() {
    stand_the_faults_of_the_field(Structure::EachQueryPicksOne, Law::ExponentialFamily);
}

#[test]
fn faults_where_each_query_picks_at_most_one() {
    stand_the_faults_of_the_field(Structure::EachQueryPicksAtMostOne, Law::ExponentialFamily);
}

#[test]
fn faults_where_the_nearest_is_picked() {
    stand_the_faults_of_the_field(Structure::EachQueryPicksAtMostOne, Law::NearestAccepted);
}

#[test]
fn faults_where_each_key_picks_one() {
    stand_the_faults_of_the_field(Structure::EachKeyPicksOne, Law::ExponentialFamily);
}

#[test]
fn faults_where_edges_are_independent() {
    stand_the_faults_of_the_field(Structure::Independent, Law::ExponentialFamily);
}

#[test]
fn each_query_picks_one() {
    agree_with_finite_differences(Structure::EachQueryPicksOne);
}

#[test]
fn each_query_picks_at_most_one() {
    agree_with_finite_differences(Structure::EachQueryPicksAtMostOne);
}

#[test]
fn each_key_picks_one() {
    agree_with_finite_differences(Structure::EachKeyPicksOne);
}

#[test]
fn independent() {
    agree_with_finite_differences(Structure::Independent);
}

/// The same case with no gate quite open: a step beyond would leave what gates can be, and functions of
/// |d| have a kink where nothing is forgotten.
fn ajar(mut case: Case) -> Case {
    for (name, log_gates) in case.model.parameters_mut() {
        if name == "survival.log-gates" {
            log_gates.iter_mut().enumerate().for_each(|(l, x)| *x -= 0.0137 + 0.0021 * l as f64);
        }
    }
    case
}

/// Forget gates, and priors of distance over what they forget.
#[test]
fn priors_of_gates() {
    for pantry in Pantry::of_gates() {
        let flavours = vec![Flavour::Ordinary];
        let pantry = Pantry { flavours, sizes: (1..=4).collect(), ..pantry };
        let slopes = Slopes::default();
        for_scenarios(CASES / 4, &pantry, |scenario| {
            let case = ajar(scenario.build());
            check_case(&scenario.recipe(), case, ENTRIES, &slopes)
        });
        slopes.assert_settled(500);
    }
    for structure in Structure::ALL {
        let pantry = Pantry {
            priors: PriorKind::of_gates(),
            flavours: vec![Flavour::Ordinary],
            sizes: vec![95, 130, 257],
            depths: vec![2],
            batches: 1,
            ..Pantry::tiny(structure)
        };
        let slopes = Slopes::default();
        for_recipes(4, &pantry, |recipe| check_case(recipe, ajar(recipe.build()), 2, &slopes));
        slopes.assert_settled(500);
    }
}

/// Several blocks of queries and keys, by directions.
#[test]
fn sizes_around_tile_edges() {
    for structure in Structure::ALL {
        let pantry = Pantry {
            flavours: vec![Flavour::Ordinary],
            sizes: vec![3, 95, 97, 130, 257],
            depths: vec![2, 5],
            batches: 1,
            ..Pantry::tiny(structure)
        };
        let slopes = Slopes::default();
        for_recipes(5, &pantry, |recipe| check(recipe, 1, &slopes));
        slopes.assert_settled(500);
    }
}

/// Huge and tiny scores are beyond finite differences, but every gradient is still a number.
#[test]
fn extreme_scores_have_numbers_for_gradients() {
    for structure in Structure::ALL {
        let pantry =
            Pantry { flavours: vec![Flavour::Huge, Flavour::Tiny], ..Pantry::tiny(structure) };
        for_recipes(300, &pantry, |recipe| {
            let mut random = Random::new(recipe.seed);
            let loss = Loss::draw(recipe, &mut random);
            // An average over edges that all but vanish has a slope that all but diverges.
            if recipe.value_kind == ValueKind::Average && recipe.flavour == Flavour::Huge {
                return Ok(());
            }
            for (name, _, found) in gradients(&mut recipe.build(), &loss)? {
                if let Some(g) = found.iter().find(|g| !g.is_finite()) {
                    return Err(format!("gradient of {name} holds {g}"));
                }
            }
            Ok(())
        });
    }
}
