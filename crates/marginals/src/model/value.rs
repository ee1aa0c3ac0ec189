use serde::{Deserialize, Serialize};

/// Value: the quantity whose expectation under the edges is the output.
///
/// `v` holds one row v_j per key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename = "value", rename_all = "kebab-case")]
pub enum Value {
    /// v(x, φ)_i = Σ_j φ_ij v_j: what each query gathers from its keys.
    #[default]
    Gather,
    /// v(x, φ)_i = Σ_j φ_ij v_j / E[Σ_j φ_ij]: the weighted average over a query's keys, the
    /// M-step of mixtures and slots. A query with no mass has mean 0.
    Average,
}
