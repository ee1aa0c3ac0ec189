//! Hard attention: the value of one edge in place of the mean over all.

use crate::Real;
use ndarray::{Array4, ArrayView3, ArrayView4, Zip};

use super::Mechanism;
use crate::Error;

/// Entry of the zoo.
pub const MECHANISM: Mechanism = Mechanism {
    name: "hard-attention",
    title: "Hard attention: the most probable edge, or drawn edges",
    structure: "each-query-picks-one, or at most one",
    prior: "any",
    potential: "any",
    value: "gather of one φ: v_j of the edge chosen",
    inference: "exact MAP or exact independent draws, one pass over the keys",
    update: None,
    equations: &[
        "MAP: v of argmax_j p_ij",
        "drawn: v_j with j ~ p_i, whose expectation is the mean",
    ],
    sources: &["Xu et al., Show, Attend and Tell, arXiv 1502.03044, §4.1"],
    path: "marginals::zoo::hard_attention",
    model: "\
# ask map, or samples=S, and gather the values at the indices it answers
structure = \"each-query-picks-one\"
potential = \"dot\"
",
};

/// The values at `choices` [B, H, N], as [`Map`](crate::question::Map) and
/// [`Samples`](crate::question::Samples) answer: [B, H, N, D_v], 0 where there is no edge (−1).
/// `v` is [B, Hk, M, D_v]. An index that is no key of `v` is refused.
///
/// ```
/// use marginals::{question::Map, zoo::{hard_attention, softmax_attention}};
/// # use ndarray::Array4;
/// let nodes = Array4::from_shape_fn((1, 1, 3, 1), |(_, _, i, _)| i as f64 - 1.0);
/// let model = softmax_attention::model(1);
/// let map = model.posterior(nodes.view(), nodes.view())?.ask(Map)?;
/// let out = hard_attention::gather(map.view(), nodes.view())?;
/// assert_eq!(out.as_slice().unwrap(), [-1.0, -1.0, 1.0]); // ties go to the smallest index
/// # Ok::<(), marginals::Error>(())
/// ```
pub fn gather<T: Real>(
    choices: ArrayView3<'_, i64>,
    v: ArrayView4<'_, T>,
) -> Result<Array4<T>, Error> {
    let ((b, h, n), (value_batch, key_heads, m, width)) = (choices.dim(), v.dim());
    if value_batch != b || key_heads == 0 || h % key_heads != 0 {
        return Err(Error::shape(
            "v",
            format!("[{b}, a divisor of {h}, M, D_v]"),
            v.shape(),
            "Values have a row per key of the posterior the choices come from.",
        ));
    }
    if let Some(&j) = choices.iter().find(|&&j| j < -1 || j >= m as i64) {
        return Err(Error::value("choices", format!("keys below {m}, or −1"), j));
    }
    let mut out = Array4::zeros((b, h, n, width));
    Zip::indexed(out.lanes_mut(ndarray::Axis(3))).and(choices).for_each(
        |(b, head, _), mut row, &j| {
            if j >= 0 {
                row.assign(&v.slice(ndarray::s![b, head / (h / key_heads), j as usize, ..]));
            }
        },
    );
    Ok(out)
}
