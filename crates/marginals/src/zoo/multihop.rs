//! Multihop attention: a few steps along the graph of attention instead of one.
//!
//! ```text
//! p(h, x_1 … x_h | x_0) = P(h) Π_t P[x_t, x_t+1],     E[v] = Σ_h P(h) P^h V
//! ```
//!
//! A value reaches a query by way of other nodes, so one layer can follow a pointer that two layers
//! of plain attention are needed for. Singh & Buckley (NeurIPS 2023, Algorithm 2) take two hops; graph
//! networks that diffuse attention (Wang et al., arXiv 2009.14332) read Σ_h α(1 − α)^h P^h V:
//! both are weights over the number of hops, [`Walk::exactly`] and [`stopping`].

use super::Mechanism;
use crate::Error;
use crate::structure::Walk;

/// Entry of the zoo.
pub const MECHANISM: Mechanism = Mechanism {
    name: "multihop",
    title: "Multihop attention: the value at the end of a short random walk along the edges",
    structure: "walk: paths of at most H picks, each of `each-query-picks-one` or \
                `each-query-picks-at-most-one`",
    prior: "any over the edges of one step; weights P(h) over the number of hops",
    potential: "any; the usual one is dot",
    value: "the value of the node where the walk ends, 0 where it gets lost",
    inference: "exact: Horner's rule, one streaming pass of the one-step posterior per hop",
    update: None,
    equations: &[
        "p(h, x_1 … x_h | x_0) = P(h) Π_t P[x_t, x_t+1]",
        "E[v] = Σ_h P(h) P^h V = S_0,  S_h = P(h) V + P S_h+1,  S_H = P(H) V",
        "entropy = −Σ_h P(h) log P(h) + Σ_t P(hops > t) (P^t e)_i,  e_j the entropy of one pick",
        "P(h | x_0 = i, x_h = j) ∝ P(h) (P^h)_ij",
    ],
    sources: &[
        "Singh & Buckley, Attention: Marginal Probability is All You Need?, arXiv 2304.04556, \
         multihop attention",
        "Singh & Buckley, Attention as Implicit Structural Inference, NeurIPS 2023, Algorithm 2",
        "Wang, Ying, Huang & Leskovec, Multi-hop Attention Graph Neural Networks, arXiv 2009.14332, \
         attention diffusion",
    ],
    path: "marginals::structure::Walk",
    model: "\
structure = { walk = { hops = 2, weights = [0.2, 0.5, 0.3] } }     # of 0, 1 and 2 hops
prior     = [\"causal\"]
potential = \"dot\"
",
};

/// The walk that stops at every node with probability `stop`, and at the latest after `hops` hops:
/// P(h) ∝ (1 − stop)^h, the truncated form of attention diffusion (personalised PageRank along the
/// edges of attention).
///
/// Refuses a probability outside (0, 1), and no hops at all.
///
/// ```
/// use marginals::{Model, potential::Dot, prior::Causal, zoo::multihop};
/// use marginals::structure::EachQueryPicksOne;
/// # use ndarray::Array4;
/// # let (q, k, v) = (Array4::<f32>::ones((1, 2, 5, 4)), Array4::<f32>::ones((1, 2, 5, 4)), Array4::<f32>::ones((1, 2, 5, 3)));
/// # use marginals::question::Mean;
/// let walk = multihop::stopping(0.3, 4)?.of(EachQueryPicksOne);
/// let model = Model::new(walk, Causal, Dot::scaled(4));
/// let out = model.posterior(q.view(), k.view())?.ask(Mean(v.view()))?;
/// # assert_eq!(out.shape(), &[1, 2, 5, 3]);
/// # Ok::<(), marginals::Error>(())
/// ```
pub fn stopping(stop: f64, hops: usize) -> Result<Walk, Error> {
    if !(stop > 0.0 && stop < 1.0) {
        return Err(Error::value("stop", "a probability between 0 and 1", stop));
    }
    let go_on = (-stop).ln_1p();
    let log_weights: Vec<f64> = (0..=hops).map(|h| h as f64 * go_on).collect();
    Walk::from_log_weights(&log_weights)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stopping_is_geometric() {
        let walk = stopping(0.25, 3).unwrap();
        let p = walk.distribution().probabilities();
        for h in 0..3 {
            assert!((p[[0, h + 1]] / p[[0, h]] - 0.75).abs() < 1e-15);
        }
        assert!((p.sum() - 1.0).abs() < 1e-15);
        for bad in [0.0, 1.0, -0.5, f64::NAN] {
            assert!(stopping(bad, 3).is_err());
        }
        assert!(stopping(0.5, 0).is_err());
    }
}
