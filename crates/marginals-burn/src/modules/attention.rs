//! Multi-head attention under any model.

use burn::config::Config;
use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor};
use marginals::Error;
use marginals::spec::ModelSpec;

use super::Learned;
use crate::ops::{Answers, Nodes, Parameters, Posterior, Question};
use crate::slots::{at_least_one, check_divides};

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
/// use marginals_burn::{AttentionConfig, ops::Question};
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
/// let (y, answers) = attention.ask(x, &[Question::Entropy])?;
/// // Attend well, and be sure about it.
/// let loss = y.powi_scalar(2).mean() + answers.get::<3>(Question::Entropy)?.mean();
/// loss.backward();
/// # Ok::<(), marginals::Error>(())
/// ```
#[derive(Module, Debug)]
pub struct Attention {
    /// W_q.
    pub query: Linear,
    /// W_k.
    pub key: Linear,
    /// W_v.
    pub value: Linear,
    /// W_o.
    pub output: Linear,
    /// Parameters of the model.
    pub learned: Learned,
    #[module(skip)]
    posterior: Posterior,
    heads: usize,
    key_heads: usize,
}

impl AttentionConfig {
    fn key_heads(&self) -> usize {
        self.key_heads.unwrap_or(self.heads)
    }

    fn head_width(&self) -> usize {
        self.head_width.unwrap_or(self.width / self.heads.max(1))
    }

    /// Refuses settings that make no module.
    ///
    /// # Errors
    /// [`Error::Value`], naming the setting.
    pub fn check(&self) -> Result<(), Error> {
        at_least_one("width", self.width)?;
        at_least_one("heads", self.heads)?;
        match self.head_width {
            Some(width) => at_least_one("head_width", width)?,
            None => check_divides("heads", self.heads, "width", self.width)?,
        }
        if let Some(width) = self.context_width {
            at_least_one("context_width", width)?;
        }
        check_divides("key_heads", self.key_heads(), "heads", self.heads)
    }

    /// A module with fresh weights.
    ///
    /// # Errors
    /// [`Error`], naming the setting that makes no module.
    pub fn init(&self, device: &Device) -> Result<Attention, Error> {
        self.check()?;
        let (heads, key_heads, width) = (self.heads, self.key_heads(), self.head_width());
        let context = self.context_width.unwrap_or(self.width);
        let linear =
            |inputs, outputs| LinearConfig::new(inputs, outputs).with_bias(self.bias).init(device);
        Ok(Attention {
            query: linear(self.width, heads * width),
            key: linear(context, key_heads * width),
            value: linear(context, key_heads * width),
            output: linear(heads * width, self.width),
            learned: Learned::of(&self.model, &self.learn, [heads, key_heads, width], device)?,
            posterior: Posterior::new(self.model.clone())?,
            heads,
            key_heads,
        })
    }
}

/// Rows `[B, N, H·D]` as heads `[B, H, N, D]`, without a copy.
pub(crate) fn to_heads(rows: Tensor<3>, heads: usize) -> Tensor<4> {
    let [batch, nodes, width] = rows.dims();
    rows.reshape([batch, nodes, heads, width / heads]).swap_dims(1, 2)
}

/// Heads `[B, H, N, D]` as rows `[B, N, H·D]`.
pub(crate) fn to_rows(heads: Tensor<4>) -> Tensor<3> {
    let [batch, count, nodes, width] = heads.dims();
    heads.swap_dims(1, 2).reshape([batch, nodes, count * width])
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
    /// gradients in the same backward.
    ///
    /// # Shapes
    /// As [`Self::forward`]; answers as [`Question`] says.
    ///
    /// # Errors
    /// As [`Self::forward`].
    pub fn ask(&self, x: Tensor<3>, questions: &[Question]) -> Result<(Tensor<3>, Answers), Error> {
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
        questions: &[Question],
    ) -> Result<(Tensor<3>, Answers), Error> {
        let nodes = self.nodes(x, context);
        let parameters = self.learned.parameters().and(given);
        let mut all = questions.to_vec();
        if !all.contains(&Question::Mean) {
            all.push(Question::Mean);
        }
        let answers = self.posterior.ask(&nodes, &parameters, &all)?;
        let mean = answers.get::<4>(Question::Mean)?;
        Ok((self.output.forward(to_rows(mean)), answers))
    }

    /// The projected nodes, which [`Attention::posterior`] is about.
    pub fn nodes(&self, x: Tensor<3>, context: Tensor<3>) -> Nodes {
        Nodes {
            q: to_heads(self.query.forward(x), self.heads),
            k: to_heads(self.key.forward(context.clone()), self.key_heads),
            v: Some(to_heads(self.value.forward(context), self.key_heads)),
        }
    }

    /// The posterior, for tensors the model names in whole numbers to be added.
    pub fn posterior(&self) -> &Posterior {
        &self.posterior
    }

    /// The same module with another posterior of the same model.
    pub fn with_posterior(self, posterior: Posterior) -> Self {
        Self { posterior, ..self }
    }
}
