//! Self-attention that infers how far each query looks.

use burn::config::Config;
use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, TensorData};
use marginals::Error;
use marginals::spec::ExpandingSpec;

use super::projections::{ProjectionSizes, Projections};
use crate::ops::{self, Nodes};
use crate::sizes::{at_least_one, head_width};

/// Configuration of [`Expanding`].
#[derive(Config, Debug)]
pub struct ExpandingConfig {
    /// Numbers per node.
    pub width: usize,
    /// Heads.
    pub heads: usize,
    /// The mechanism, with the α and β that all heads start from.
    pub mechanism: ExpandingSpec,
    /// Numbers per head; by default the width over the heads.
    pub head_width: Option<usize>,
    /// Whether α and β are learned, by head.
    #[config(default = true)]
    pub learn: bool,
}

/// Self-attention over windows that grow while it matters (see [`marginals::zoo::expanding`]):
///
/// ```text
/// w(d | ρ) = ρ (1 − ρ)^d,   ρ ~ Beta(α, β),   y = W_o E[v]
/// ```
///
/// The gradient is that of the posterior in the windows found; their ends are within the tolerance of
/// not mattering.
#[derive(Module, Debug)]
pub struct Expanding {
    /// In and out.
    pub projections: Projections,
    /// log α, `[H]`.
    pub log_alpha: Param<Tensor<1>>,
    /// log β, `[H]`.
    pub log_beta: Param<Tensor<1>>,
    #[module(skip)]
    mechanism: ops::Expanding,
}

impl ExpandingConfig {
    /// A module with fresh weights.
    ///
    /// # Errors
    /// [`Error::Value`], naming the setting that makes no module.
    pub fn init(&self, device: &Device) -> Result<Expanding, Error> {
        at_least_one("width", self.width)?;
        let head_width = head_width(self.head_width, self.heads, "width", self.width)?;
        let start = |name: &str, given: &Option<marginals::spec::PerHead>| {
            let Some(given) = given else {
                return Err(Error::value(
                    format!("mechanism.{name}"),
                    "a number to start from",
                    "none",
                ));
            };
            let mut values = given.values().to_vec();
            if values.len() == 1 {
                values = vec![values[0]; self.heads];
            }
            if values.len() != self.heads || values.iter().any(|x| !(*x > 0.0 && x.is_finite())) {
                return Err(Error::value(
                    format!("mechanism.{name}"),
                    format!("one positive number, or {} of them", self.heads),
                    format!("{values:?}"),
                ));
            }
            let logs: Vec<f32> = values.iter().map(|x| x.ln() as f32).collect();
            let logs = Tensor::from_data(TensorData::new(logs, [self.heads]), device);
            Ok(Param::from_tensor(logs).set_require_grad(self.learn))
        };
        let sizes = ProjectionSizes::own(self.width, self.heads, head_width);
        Ok(Expanding {
            projections: sizes.init(false, device),
            log_alpha: start("alpha", &self.mechanism.alpha)?,
            log_beta: start("beta", &self.mechanism.beta)?,
            mechanism: ops::Expanding::new(self.mechanism.clone()),
        })
    }
}

impl Expanding {
    /// Attends, each query over its window.
    ///
    /// # Shapes
    /// - x: `[B, N, width]`
    /// - output: `[B, N, width]`
    ///
    /// # Errors
    /// [`Error`], where α or β has left the positive numbers.
    pub fn forward(&self, x: Tensor<3>) -> Result<Tensor<3>, Error> {
        Ok(self.expand(x.clone(), x)?.0)
    }

    /// The same for the nodes in `x`, over the keys in `context`, with everything that was found. The
    /// mechanism's query offset says where the first node stands among the keys.
    ///
    /// # Shapes
    /// - x: `[B, N, width]`
    /// - context: `[B, M, width]`
    /// - output: `[B, N, width]`, and [`ops::Expanded`]
    ///
    /// # Errors
    /// As [`Self::forward`].
    pub fn expand(
        &self,
        x: Tensor<3>,
        context: Tensor<3>,
    ) -> Result<(Tensor<3>, ops::Expanded), Error> {
        self.projections.check(&x, &context)?;
        let Nodes { q, k, v } = self.projections.nodes(x, context);
        let v = v.expect("projected");
        let concentrations = [&self.log_alpha, &self.log_beta].map(|log| log.val().exp());
        let found = self.mechanism.forward([q, k, v], concentrations)?;
        Ok((self.projections.rows(found.mean.clone()), found))
    }
}
