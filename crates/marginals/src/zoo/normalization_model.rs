//! The normalisation model of attention: divisive normalisation in visual cortex.

use ndarray::{Array2, Array3, Array4, ArrayView2, Axis, Zip};

use super::Mechanism;
use crate::potential::Dot;
use crate::prior::{Combine, GeneralizedGaussian, KeyBias};
use crate::question::LogPartition;
use crate::structure::EachQueryPicksAtMostOne;
use crate::{Element, Error, Model, Real};

/// Entry of the zoo.
pub const MECHANISM: Mechanism = Mechanism {
    name: "normalization-model",
    title: "The normalisation model of attention",
    structure: "each-query-picks-at-most-one (picking none weighs σ)",
    prior: "key-bias (log A_j, the attention field) × generalized-gaussian (the pool)",
    potential: "dot (log ψ = log E_j, the stimulus drive)",
    value: "the neuron itself: its response is P(φ_ii = 1)",
    inference: "exact, one pass over the keys",
    update: None,
    equations: &[
        "R_i = A_i E_i / (S_i + σ)",
        "S_i = Σ_j s_ij A_j E_j, s_ij = exp(−(i − j)² / 2s²)",
        "θ_ij = log s_ij + log A_j + log E_j, null = log σ: log Z_i = log(S_i + σ)",
    ],
    sources: &["Reynolds & Heeger, The Normalization Model of Attention, Neuron 61, 2009"],
    path: "marginals::zoo::normalization_model",
    model: "\
# ask log-partition: log(S + σ); the responses are exp(log A + log E − log-partition)
structure = { each-query-picks-at-most-one = { null = -2.302585 } }     # log σ, σ = 0.1
prior     = [\"key-bias\", { generalized-gaussian = { scale = 14.142136, shape = 2.0 } }]     # √2 s
potential = { dot = { scale = 1.0 } }
# the input holds q of ones [B, 1, N, 1], k = log E [B, 1, N, 1] and key-bias = log A [B, 1, N]
",
};

/// The responses R [B, N] of neurons in a row to stimulus drives E [B, N] under attention fields
/// A [B, N], all at least 0, with a suppressive pool of standard deviation `pool` (in neurons) and
/// semi-saturation `sigma`, both above 0.
///
/// The pool has height 1. To one of unit volume belongs σ times the sum of s_ij, and a response
/// that many times larger. Cost: O(N²) time and O(N) memory for each batch entry.
///
/// ```
/// use marginals::zoo::normalization_model;
/// use ndarray::array;
/// // One neuron drives itself alone: E / (E + σ), the contrast response.
/// let r = normalization_model::response(array![[3.0]].view(), array![[1.0]].view(), 1.0, 1.0)?;
/// assert!((r[[0, 0]] - 0.75f64).abs() < 1e-15);
/// # Ok::<(), marginals::Error>(())
/// ```
pub fn response<T: Real + Element<Real = T>>(
    drive: ArrayView2<'_, T>,
    attention: ArrayView2<'_, T>,
    pool: f64,
    sigma: f64,
) -> Result<Array2<T>, Error> {
    crate::model::check_positive("pool", &[pool])?;
    crate::model::check_positive("sigma", &[sigma])?;
    if drive.dim() != attention.dim() {
        return Err(Error::shape(
            "attention",
            format!("{:?}, as the drive", drive.shape()),
            attention.shape(),
            "Every neuron has a drive and an attentional gain.",
        ));
    }
    for (name, tensor) in [("drive", &drive), ("attention", &attention)] {
        if let Some(x) = tensor.iter().find(|x| !(x.is_finite() && **x >= T::zero())) {
            return Err(Error::value(name, "finite numbers of at least 0", x));
        }
    }
    // Without drive there is no edge, whatever the gain: a potential is finite, a prior need not be.
    let log_gain = Zip::from(&attention)
        .and(&drive)
        .map_collect(|&a, &e| if e > T::zero() { a.ln() } else { T::neg_infinity() });
    let k: Array4<T> = drive
        .mapv(|e| if e > T::zero() { e.ln() } else { T::zero() })
        .insert_axis(Axis(1))
        .insert_axis(Axis(3));
    let q = Array4::from_elem(k.raw_dim(), T::one());
    let field: Array3<T> = log_gain.insert_axis(Axis(1));
    let suppression = GeneralizedGaussian::new(pool * 2f64.sqrt(), 2.0);
    let model = Model::new(
        EachQueryPicksAtMostOne::new(sigma.ln()),
        KeyBias::new(field).and(suppression),
        Dot::new(1.0),
    );
    let log_z = model.posterior(q.view(), k.view())?.ask(LogPartition)?;
    let log_z = log_z.index_axis_move(Axis(1), 0);
    // p_ii: the pool's weight of a neuron on itself is 1.
    Ok(Zip::from(&attention).and(&drive).and(&log_z).map_collect(|&a, &e, &z| a * e * (-z).exp()))
}
