//! Exact draws: rules drawn from the goal down, each with its share in its cell.

use super::lanes::Chart;
use super::recursion::Unfold;
use crate::infer::coupled::{Noise, Scores};

/// Independent edge sets; none where none is possible.
pub(super) fn draws(
    unfold: &dyn Unfold,
    factor: &Scores<'_>,
    count: usize,
    noise: Noise,
) -> Vec<Option<Vec<usize>>> {
    let mut chart = Chart::new(unfold, std::slice::from_ref(factor));
    chart.inside();
    let goal = chart.goal(0);
    let mut shares = Vec::new();
    (0..count)
        .map(|draw| {
            // NaN draws nothing either.
            if chart.log_partition(goal, 0).is_nan()
                || chart.log_partition(goal, 0) == f64::NEG_INFINITY
            {
                return None;
            }
            let (mut edges, mut open, mut drawn) = (Vec::new(), vec![goal], 0);
            while let Some(cell) = open.pop() {
                chart.shares_of(cell, 0, &mut shares);
                let total: f64 = shares.iter().map(|(_, share)| share).sum();
                let mut left = noise.uniform(draw, drawn) * total;
                drawn += 1;
                // Rounding may leave a little after the last: it is the last possible rule's.
                let mut chosen = None;
                for (rule, share) in shares.iter().filter(|(_, share)| *share > 0.0) {
                    chosen = Some(*rule);
                    left -= share;
                    if left < 0.0 {
                        break;
                    }
                }
                let rule = chosen.expect("a possible cell has a possible rule");
                open.extend(rule.parts());
                edges.extend(rule.scores().filter(|&score| score < factor.edges));
            }
            edges.sort_unstable();
            Some(edges)
        })
        .collect()
}
