//! Drawing recipes, running a check on each, shrinking what fails.

use marginals_testkit::generate::{Recipe, strategy::Pantry};
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};

/// Runs `check` on `cases` recipes from a fixed seed.
///
/// # Panics
/// With the smallest failing recipe and what is wrong with it.
pub fn for_recipes(cases: u32, pantry: &Pantry, check: impl Fn(&Recipe) -> Result<(), String>) {
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let random = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(config, random);
    let outcome =
        runner.run(&pantry.recipes(), |recipe| check(&recipe).map_err(TestCaseError::fail));
    match outcome {
        Ok(()) => {}
        Err(TestError::Fail(reason, recipe)) => panic!("{reason}\nsmallest: {recipe:?}"),
        Err(TestError::Abort(reason)) => panic!("gave up: {reason}"),
    }
}
