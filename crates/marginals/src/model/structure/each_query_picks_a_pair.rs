use ndarray::Array4;
use serde::{Deserialize, Serialize};

use super::contract::{Structure, StructurePart};
use crate::infer::Inference;
use crate::infer::pairs::{Pairs, SECOND_KEYS, SECOND_VALUES};
use crate::model::part::{Named, NamedTensor, Part};
use crate::model::tensors::Inputs;
use crate::{Error, Real, Shape, Value};

/// Σ_jk φ_ijk = 1: every query picks a pair, a key and a second key.
///
/// ```text
/// p(j, k | i) ∝ w_ij w_ik exp(s q_i·(a_j ∘ b_k)),      mean_i = Σ_jk p(j, k | i) v_j ∘ v'_k
/// ```
///
/// with a the keys, b the second keys, v the values and v' those of the second keys (1 where there are
/// none). Both keys of a pair are under the model's prior. It is 2-simplicial attention (Clift et al., arXiv
/// 1909.00668; Roy et al., arXiv 2507.02754, within windows), the reading of values over several
/// nodes of Singh & Buckley (arXiv 2304.04556). The potential must be `dot`. Marginals and column
/// masses are those of the first key.
///
/// Cost: a streaming pass over the second keys for every distance at which a query has a first key:
/// O(N M M2 D) altogether, O(N w w' D) within windows of w and w'; O(N D) memory. A query that has no
/// pair has log-partition −∞ and everything else 0.
///
/// ```
/// use marginals::{Model, potential::Dot, prior::Causal, structure::EachQueryPicksAPair};
/// use marginals::question::{Entropy, Mean};
/// # use ndarray::Array4;
/// # let (q, k, v) = (Array4::<f32>::ones((1, 2, 5, 4)), Array4::<f32>::ones((1, 2, 5, 4)), Array4::<f32>::ones((1, 2, 5, 3)));
/// # let (second_k, second_v) = (Array4::<f64>::ones((1, 2, 5, 4)), Array4::<f64>::ones((1, 2, 5, 3)));
/// let pairs = EachQueryPicksAPair::new(second_k).with_second_values(second_v).with_windows(3, 2);
/// let model = Model::new(pairs, Causal, Dot::scaled(4));
/// let posterior = model.posterior(q.view(), k.view())?;
/// let (mean, entropy) = posterior.ask((Mean(v.view()), Entropy))?;
/// assert!((entropy[[0, 0, 4]] - 6f32.ln()).abs() < 1e-6);
/// # assert_eq!(mean.dim(), (1, 2, 5, 3));
/// # Ok::<(), marginals::Error>(())
/// ```
///
/// In a file second keys and values are the tensors `second-keys` and `second-values`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", bound(deserialize = "K: Default"))]
pub struct EachQueryPicksAPair<K = SecondKeys> {
    /// Keys that a first key may be among: so many up to the query's own position. All where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    window: Option<usize>,
    /// Keys that a second key may be among, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    second_window: Option<usize>,
    #[serde(skip)]
    second: K,
}

/// Second keys of pairs, and their values.
#[derive(Clone, Debug, PartialEq)]
pub struct SecondKeys {
    /// [B, Hk, M2, D].
    keys: Array4<f64>,
    /// [B, Hk, M2, D_v].
    values: Option<Array4<f64>>,
}

impl EachQueryPicksAPair {
    /// Pairs with these second keys, [B, Hk, M2, D], whose values are 1.
    pub fn new(second_keys: Array4<f64>) -> Self {
        let second = SecondKeys { keys: second_keys, values: None };
        Self { window: None, second_window: None, second }
    }

    /// The pairs with values of second keys, [B, Hk, M2, D_v].
    pub fn with_second_values(self, values: Array4<f64>) -> Self {
        Self { second: SecondKeys { values: Some(values), ..self.second }, ..self }
    }

    /// The pairs whose keys are among the last `first` up to the query's position, and its second keys
    /// among the last `second`.
    pub fn with_windows(self, first: usize, second: usize) -> Self {
        Self { window: Some(first), second_window: Some(second), ..self }
    }
}

impl Part for EachQueryPicksAPair<Named> {
    const NAME: &'static str = "each-query-picks-a-pair";
    const MEANING: &'static str = "Σ_jk φ_ijk = 1 over keys and second keys, θ_ijk = s q_i·(a_j ∘ b_k) + log w_ij w_ik: 2-simplicial \
         attention";
    const EXAMPLE: &'static str =
        "{ each-query-picks-a-pair = { window = 512, second-window = 32 } }";
    const TENSORS: &'static [NamedTensor] = &[
        NamedTensor::real(SECOND_KEYS, "[B, Hk, M2, D]", "second keys of pairs"),
        NamedTensor::real(SECOND_VALUES, "[B, Hk, M2, D_v]", "their values; 1 where absent")
            .only("if present"),
    ];
}

impl StructurePart for EachQueryPicksAPair<Named> {
    fn build<T: Real>(&self, inputs: &Inputs<'_, T>) -> Result<Box<dyn Structure<T>>, Error> {
        let values = inputs.has(SECOND_VALUES).then(|| inputs.array(SECOND_VALUES)).transpose()?;
        let second = SecondKeys { keys: inputs.array(SECOND_KEYS)?, values };
        let (window, second_window) = (self.window, self.second_window);
        Ok(Box::new(EachQueryPicksAPair { window, second_window, second }))
    }

    fn couples_queries(&self) -> bool {
        false
    }
}

impl<T: Real> Structure<T> for EachQueryPicksAPair {
    fn name(&self) -> &'static str {
        <EachQueryPicksAPair<Named> as Part>::NAME
    }

    fn exact(&self) -> Box<dyn Inference<T> + '_> {
        let SecondKeys { keys, values } = &self.second;
        let values = values.as_ref().map(|values| values.mapv(T::of));
        Box::new(Pairs::new(keys.mapv(T::of), values, [self.window, self.second_window]))
    }

    fn check(&self, _: &Shape, _: Value) -> Result<(), Error> {
        for (name, window) in [("window", self.window), ("second-window", self.second_window)] {
            if window == Some(0) {
                return Err(Error::value(name, "at least 1: the query's own position", 0));
            }
        }
        Ok(())
    }
}
