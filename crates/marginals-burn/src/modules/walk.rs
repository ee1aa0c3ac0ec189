//! Attention along walks of several hops.

use burn::config::Config;
use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, TensorData, activation};
use marginals::Error;
use marginals::spec::{AnyStructure, ModelSpec, Tensors};
use ndarray::ArrayD;

use super::attention::with_mean;
use super::learned::Learned;
use super::projections::{ProjectionSizes, Projections};
use crate::ops::{Answers, Nodes, Parameters, Posterior};
use crate::sizes::{at_least_one, head_width, refuse_empty};

/// Configuration of [`Multihop`].
#[derive(Config, Debug)]
pub struct MultihopConfig {
    /// Numbers per node.
    pub width: usize,
    /// Heads.
    pub heads: usize,
    /// The model, whose structure is a `walk`.
    pub model: ModelSpec,
    /// Numbers per head; by default the width over the heads.
    pub head_width: Option<usize>,
    /// Whether the weights over the number of hops are learned, by head, from where the model puts
    /// them. A number of hops of weight 0 stays impossible.
    #[config(default = true)]
    pub learn_hops: bool,
    /// Numbers of the model that are learned.
    #[config(default = "Vec::new()")]
    pub learn: Vec<String>,
}

/// Self-attention along a walk of h ≤ H picks:
///
/// ```text
/// y = W_o Σ_h P(h) A^h V,        A the posterior of one step, P(h) = softmax of the hops' log-weights
/// ```
///
/// (Singh & Buckley, arXiv 2304.04556, multihop attention). It is the posterior mean of a
/// [walk](marginals::structure::Walk): H streaming passes are all it takes, and memory is that of the
/// sequence.
///
/// ```
/// use burn::tensor::{Device, Distribution, Tensor};
/// use marginals::spec::ModelSpec;
/// use marginals_burn::MultihopConfig;
///
/// let model = ModelSpec::from_toml(r#"
///     structure = { walk = { weights = [0.2, 0.5, 0.3] } }
///     potential = "dot"
/// "#)?;
/// let device = Device::flex();
/// let multihop = MultihopConfig::new(8, 2, model).init(&device)?;
/// let x = Tensor::<3>::random([1, 5, 8], Distribution::Default, &device);
/// assert_eq!(multihop.forward(x)?.dims(), [1, 5, 8]);
/// # Ok::<(), marginals::Error>(())
/// ```
#[derive(Module, Debug)]
pub struct Multihop {
    /// In and out.
    pub projections: Projections,
    /// Log-weights of 0, 1, … H hops, `[H or 1, hops + 1]`, up to a constant of the row; −∞ is never.
    pub hops: Param<Tensor<2>>,
    /// Parameters of one pick.
    pub learned: Learned,
    #[module(skip)]
    posterior: Posterior,
}

impl MultihopConfig {
    /// A module with fresh weights.
    ///
    /// # Errors
    /// [`Error`], naming the setting that makes no module.
    pub fn init(&self, device: &Device) -> Result<Multihop, Error> {
        at_least_one("width", self.width)?;
        let width = head_width(self.head_width, self.heads, "width", self.width)?;
        let AnyStructure::Walk(walk) = &self.model.structure else {
            return Err(Error::value("model.structure", "a walk", "a structure of one pick"));
        };
        let hops = self.model.hop_distribution::<f64>(&Tensors::default())?.expect("it is a walk");
        let log_weights = hops.probabilities().mapv(f64::ln);
        let one_pick = ModelSpec { structure: walk.step().clone(), ..self.model.clone() };
        // The weights come with every call.
        let walk = ModelSpec { structure: walk.reading_weights().into(), ..self.model.clone() };
        let (rows, counts) = log_weights.dim();
        // Every head learns its own.
        let heads = if self.learn_hops { self.heads } else { rows };
        let row = |head: usize| if rows == 1 { 0 } else { head };
        let entries: Vec<f32> = (0..heads)
            .flat_map(|head| log_weights.row(row(head)).into_iter().map(|&x| x as f32))
            .collect();
        let hops = Tensor::from_data(TensorData::new(entries, [heads, counts]), device);
        let hops = Param::from_tensor(hops).set_require_grad(self.learn_hops);
        let sizes = ProjectionSizes::own(self.width, self.heads, width);
        Ok(Multihop {
            projections: sizes.init(false, device),
            hops,
            learned: Learned::of(&one_pick, &self.learn, [self.heads, self.heads, width], device)?,
            posterior: Posterior::new(walk),
        })
    }
}

impl Multihop {
    /// Attends along walks.
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

    /// The same, and what else the posterior over walks knows.
    ///
    /// # Shapes
    /// As [`Self::forward`]; answers as [`marginals::question`] says.
    ///
    /// # Errors
    /// As [`Self::forward`].
    pub fn ask(&self, x: Tensor<3>, questions: &[&str]) -> Result<(Tensor<3>, Answers), Error> {
        self.projections.check(&x, &x)?;
        let nodes = self.projections.nodes(x.clone(), x);
        let answers = self.ask_of(&nodes, &with_mean(questions))?;
        Ok((self.projections.rows(answers.get("mean")?), answers))
    }

    /// Answers about given nodes.
    ///
    /// # Errors
    /// As [`Self::forward`].
    pub fn ask_of(&self, nodes: &Nodes, questions: &[&str]) -> Result<Answers, Error> {
        let Nodes { q, k, v } = nodes;
        let all = [("q", Some(q), "D"), ("k", Some(k), "D"), ("v", v.as_ref(), "Dv")];
        for (name, tensor, width) in all {
            if let Some(tensor) = tensor {
                refuse_empty(name, &tensor.dims(), format!("[B, H, N, {width}]"))?;
            }
        }
        self.posterior.ask(nodes, &self.parameters(), questions)
    }

    /// Σ_h P(h) A^h V of given nodes.
    ///
    /// # Shapes
    /// - q, k: `[B, H, N, D]`
    /// - v: `[B, H, N, Dv]`
    /// - output: `[B, H, N, Dv]`
    ///
    /// # Errors
    /// As [`Self::forward`].
    pub fn mean(&self, q: Tensor<4>, k: Tensor<4>, v: Tensor<4>) -> Result<Tensor<4>, Error> {
        self.ask_of(&Nodes { q, k, v: Some(v) }, &["mean"])?.get("mean")
    }

    /// Parameters of the walk: the log-weights of the number of hops, and those of one pick.
    fn parameters(&self) -> Parameters {
        self.learned.parameters().with("walk.log-weights", self.hops.val())
    }

    /// The posterior over walks.
    pub fn posterior(&self) -> &Posterior {
        &self.posterior
    }

    /// The same module with a tensor that the model names in whole numbers.
    pub fn with_integers(self, name: &str, tensor: ArrayD<i64>) -> Self {
        Self { posterior: self.posterior.with_integers(name, tensor), ..self }
    }

    /// P(h), `[H or 1, hops + 1]`.
    pub fn hop_probabilities(&self) -> Tensor<2> {
        activation::softmax(self.hops.val(), 1)
    }
}
