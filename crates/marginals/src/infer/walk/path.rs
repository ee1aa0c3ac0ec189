//! The probability of a path that is written down.

use crate::Real;
use ndarray::Array3;

use super::event::Walks;
use crate::Error;
use crate::infer::EdgeQuestions;

impl<T: Real> Walks<'_, T> {
    /// log p(h, x_1 … x_h | x_0) = log P(h) + Σ_t log P\[x_t, x_t+1\] of each path x_0 … x_h, in nats,
    /// [B, H, paths].
    ///
    /// A path of one node is a walk of no hop. Taken by logarithms throughout, so that an unlikely
    /// path has its digits; −∞ for what is impossible, such as more than H hops. Refuses paths
    /// without a node or with nodes that do not exist. Cost: O(D) per edge, and one pass over the
    /// keys the first time.
    pub fn path_log_probability(&self, paths: &[&[usize]]) -> Result<Array3<T>, Error> {
        let shape = &self.problem.shape;
        for path in paths {
            if path.is_empty() {
                return Err(Error::value("path", "at least the node it starts from", "no node"));
            }
            path.iter().try_for_each(|&node| self.check_node("path", node))?;
        }
        let dimensions = (shape.batch, shape.heads, paths.len());
        Ok(Array3::from_shape_fn(dimensions, |(b, h, index)| {
            let path = paths[index];
            let hops = path.len() - 1;
            let log_p = match hops <= self.walking.hops.hops() {
                true => self.walking.hops.probability(h, hops).ln(),
                false => f64::NEG_INFINITY,
            };
            let picks = path.windows(2).map(|pick| self.pick((b, h), pick[0], pick[1]));
            // A number of hops that is impossible asks nothing of the edges.
            T::of(if log_p == f64::NEG_INFINITY { log_p } else { log_p + picks.sum::<f64>() })
        }))
    }

    /// log P\[from, to\] of one pick.
    pub(super) fn pick(&self, place: (usize, usize), from: usize, to: usize) -> f64 {
        let edges = self.walking.step.edges().and_then(EdgeQuestions::choices);
        let edges = edges.expect("a step picks one edge");
        let log_p = edges.log_probability(self.problem, self.step, place, (from, to));
        log_p.expect("a step picks one edge").f64()
    }

    /// Refuses a node that does not exist.
    pub(super) fn check_node(&self, argument: &str, node: usize) -> Result<(), Error> {
        let nodes = self.problem.shape.queries;
        if node < nodes {
            return Ok(());
        }
        Err(Error::value(argument, format!("nodes below {nodes}"), node))
    }
}
