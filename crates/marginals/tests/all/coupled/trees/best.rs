//! Best trees, and the best with each edge.

use super::case::case;

/// Cases per test.
const CASES: u64 = 1500;

#[test]
fn best_trees_are_those_of_all_trees() {
    for seed in 0..CASES {
        let case = case(seed, 5);
        let ranked = case.listed.ranked();
        for count in [1, 7, ranked.len() + 1] {
            let found = case.structure.best(&case.scores(), count).unwrap();
            assert_eq!(found.len(), count.min(ranked.len()), "{}", case.label);
            for (at, (set, (score, edges))) in found.iter().zip(&ranked).enumerate() {
                assert!(
                    (set.score - score).abs() <= 1e-15 * score.abs(),
                    "{}: number {at}, {} for {score}",
                    case.label,
                    set.score
                );
                assert_eq!(&set.edges, edges, "{}: number {at} of {count}", case.label);
            }
        }
    }
}

#[test]
fn max_marginals_are_those_of_all_trees() {
    for seed in 0..CASES {
        let case = case(seed, 6);
        let found = case.structure.max_marginals(&case.scores()).unwrap();
        for (edge, (found, expected)) in found.iter().zip(case.listed.max_marginals()).enumerate() {
            let off = (found - expected).abs();
            assert!(
                *found == expected || off <= 1e-12 * case.size(),
                "{}: {found} for {expected} of edge {edge}",
                case.label
            );
        }
    }
}
