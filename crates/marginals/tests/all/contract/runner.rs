//! Drawing recipes, running a check on each, shrinking what fails.

use std::fmt::Debug;

use marginals_testkit::generate::{Recipe, Scenario, strategy::Pantry};
use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};

/// Runs `check` on `cases` recipes from a fixed seed.
///
/// # Panics
/// With the smallest failing recipe and what is wrong with it.
pub fn for_recipes(cases: u32, pantry: &Pantry, check: impl Fn(&Recipe) -> Result<(), String>) {
    for_each(cases, pantry.recipes(), check);
}

/// The same with recipes whose laws, null edges and faults are drawn too.
pub fn for_scenarios(cases: u32, pantry: &Pantry, check: impl Fn(&Scenario) -> Result<(), String>) {
    for_each(cases, pantry.scenarios(), check);
}

fn for_each<S: Strategy<Value = R>, R: Debug>(
    cases: u32,
    strategy: S,
    check: impl Fn(&R) -> Result<(), String>,
) {
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let random = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(config, random);
    let outcome = runner.run(&strategy, |recipe| check(&recipe).map_err(TestCaseError::fail));
    match outcome {
        Ok(()) => {}
        Err(TestError::Fail(reason, recipe)) => panic!("{reason}\nsmallest: {recipe:?}"),
        Err(TestError::Abort(reason)) => panic!("gave up: {reason}"),
    }
}
