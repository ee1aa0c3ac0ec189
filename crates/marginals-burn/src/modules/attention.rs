//! Multi-head attention under any model.

use burn::config::Config;
use burn::module::Module;
use burn::tensor::{Device, Tensor};
use marginals::Error;
use marginals::spec::ModelSpec;
use ndarray::ArrayD;

use super::learned::Learned;
use super::projections::{ProjectionSizes, Projections};
use crate::ops::{Answers, Parameters, Posterior};
use crate::sizes::{at_least_one, check_divides, head_width};

/// Configuration of [`Attention`].
#[derive(Config, Debug)]
pub struct AttentionConfig {
    /// Numbers per node.
    pub width: usize,
    /// Query heads.
    pub heads: usize,
    /// The model, causal or not, with whatever prior and potential.
    pub model: ModelSpec,
    /// Key heads, a divisor of the query heads; by default as many.
    pub key_heads: Option<usize>,
    /// Numbers per head; by default the width over the heads.
    pub head_width: Option<usize>,
    /// Numbers per node that keys and values are made of; by default the width.
    pub context_width: Option<usize>,
    /// Numbers of the model that are learned, by their names in gradients: `geometric.rho`, `null` ….
    #[config(default = "Vec::new()")]
    pub learn: Vec<String>,
    /// Whether the projections have biases.
    #[config(default = false)]
    pub bias: bool,
}

/// Attention: queries, keys and values are projected, and what comes out is the posterior mean under
/// the model, projected back.
///
/// ```text
/// q = W_q x,  k = W_k c,  v = W_v c      by head
/// y = W_o E[v]                           under p(φ | q, k)
/// ```
///
/// With c = x this is self-attention, otherwise cross-attention. No N × M matrix is made, forwards or
/// backwards.
///
/// ```
/// use burn::tensor::{Device, Distribution, Tensor};
/// use marginals::spec::ModelSpec;
/// use marginals_burn::AttentionConfig;
///
/// let model = ModelSpec::from_toml(r#"
///     structure = "each-query-picks-one"
///     prior     = ["causal", { geometric = { rho = 0.1 } }]
///     potential = "dot"
/// "#)?;
/// let device = Device::flex().autodiff();
/// let config = AttentionConfig::new(16, 4, model).with_learn(vec!["geometric.rho".into()]);
/// let attention = config.init(&device)?;
/// let x = Tensor::<3>::random([2, 10, 16], Distribution::Default, &device);
/// let (y, answers) = attention.ask(x, &["entropy"])?;
/// // Attend well, and be sure about it.
/// let loss = y.powi_scalar(2).mean() + answers.get::<3>("entropy")?.mean();
/// loss.backward();
/// # Ok::<(), marginals::Error>(())
/// ```
#[derive(Module, Debug)]
pub struct Attention {
    /// In and out.
    pub projections: Projections,
    /// Parameters of the model.
    pub learned: Learned,
    #[module(skip)]
    posterior: Posterior,
}

impl AttentionConfig {
    fn key_heads(&self) -> usize {
        self.key_heads.unwrap_or(self.heads)
    }

    /// Refuses settings that make no module.
    ///
    /// # Errors
    /// [`Error::Value`], naming the setting.
    pub fn check(&self) -> Result<(), Error> {
        self.sizes().map(|_| ())
    }

    fn sizes(&self) -> Result<ProjectionSizes, Error> {
        at_least_one("width", self.width)?;
        let head_width = head_width(self.head_width, self.heads, "width", self.width)?;
        if let Some(width) = self.context_width {
            at_least_one("context_width", width)?;
        }
        check_divides("key_heads", self.key_heads(), "heads", self.heads)?;
        Ok(ProjectionSizes {
            context_width: self.context_width.unwrap_or(self.width),
            key_heads: self.key_heads(),
            ..ProjectionSizes::own(self.width, self.heads, head_width)
        })
    }

    /// A module with fresh weights.
    ///
    /// # Errors
    /// [`Error`], naming the setting that makes no module.
    pub fn init(&self, device: &Device) -> Result<Attention, Error> {
        let sizes = self.sizes()?;
        let learned = [self.heads, sizes.key_heads, sizes.head_width];
        Ok(Attention {
            projections: sizes.init(self.bias, device),
            learned: Learned::of(&self.model, &self.learn, learned, device)?,
            posterior: Posterior::new(self.model.clone()),
        })
    }
}

impl Attention {
    /// Self-attention.
    ///
    /// # Shapes
    /// - x: `[B, N, width]`
    /// - output: `[B, N, width]`
    ///
    /// # Errors
    /// [`Error`], where the model refuses the sizes or a learned parameter has left its range.
    pub fn forward(&self, x: Tensor<3>) -> Result<Tensor<3>, Error> {
        self.ask(x, &[]).map(|(out, _)| out)
    }

    /// Self-attention, and what else the posterior knows: the answers are in the same pass, and their
    /// gradients in the same backward. Questions are named as in [`marginals::question`].
    ///
    /// # Shapes
    /// As [`Self::forward`]; answers as [`marginals::question`] says.
    ///
    /// # Errors
    /// As [`Self::forward`].
    pub fn ask(&self, x: Tensor<3>, questions: &[&str]) -> Result<(Tensor<3>, Answers), Error> {
        self.ask_of(x.clone(), x, &Parameters::none(), questions)
    }

    /// Cross-attention: queries of `x`, keys and values of `context`.
    ///
    /// # Shapes
    /// - x: `[B, N, width]`
    /// - context: `[B, M, context width]`
    /// - output: `[B, N, width]`
    ///
    /// # Errors
    /// As [`Self::forward`].
    pub fn forward_cross(&self, x: Tensor<3>, context: Tensor<3>) -> Result<Tensor<3>, Error> {
        self.ask_of(x, context, &Parameters::none(), &[]).map(|(out, _)| out)
    }

    /// The general case: queries of `x`, keys and values of `context`, tensors that the model names
    /// and that come with the input (`bias`, `key-bias`), and further questions.
    ///
    /// # Shapes
    /// As [`Self::forward_cross`].
    ///
    /// # Errors
    /// As [`Self::forward`].
    pub fn ask_of(
        &self,
        x: Tensor<3>,
        context: Tensor<3>,
        given: &Parameters,
        questions: &[&str],
    ) -> Result<(Tensor<3>, Answers), Error> {
        self.projections.check(&x, &context)?;
        let nodes = self.projections.nodes(x, context);
        let parameters = self.learned.parameters().and(given);
        let answers = self.posterior.ask(&nodes, &parameters, &with_mean(questions))?;
        let mean = answers.get("mean")?;
        Ok((self.projections.rows(mean), answers))
    }

    /// The posterior.
    pub fn posterior(&self) -> &Posterior {
        &self.posterior
    }

    /// The same module with a tensor that the model names in whole numbers.
    pub fn with_integers(self, name: &str, tensor: ArrayD<i64>) -> Self {
        Self { posterior: self.posterior.with_integers(name, tensor), ..self }
    }
}

/// The questions, and the mean, which layers need.
pub(super) fn with_mean<'n>(questions: &[&'n str]) -> Vec<&'n str> {
    let mut all = questions.to_vec();
    if !all.contains(&"mean") {
        all.push("mean");
    }
    all
}
