//! Attention along walks of several hops.

use burn::config::Config;
use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, TensorData, activation};
use marginals::Error;
use marginals::spec::{ModelSpec, StructureSpec, Tensors};

use super::projections::ProjectionSizes;
use super::{Learned, Projections};
use crate::ops::{Nodes, Parameters, Posterior, Question};
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
/// by Horner's rule, z ← w_h V + A z, so that H streaming passes are all it takes, and memory is that
/// of the sequence (Singh & Buckley, arXiv 2304.04556, multihop attention).
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
    /// Parameters of one step.
    pub learned: Learned,
    #[module(skip)]
    step: Posterior,
}

impl MultihopConfig {
    /// A module with fresh weights.
    ///
    /// # Errors
    /// [`Error`], naming the setting that makes no module.
    pub fn init(&self, device: &Device) -> Result<Multihop, Error> {
        at_least_one("width", self.width)?;
        let width = head_width(self.head_width, self.heads, "width", self.width)?;
        let StructureSpec::Walk { step, .. } = &self.model.structure else {
            return Err(Error::value("model.structure", "a walk", "a structure of one step"));
        };
        let walk = self.model.walk::<f64>(&Tensors::default())?.expect("it is a walk");
        let one_step = ModelSpec { structure: (**step).clone(), ..self.model.clone() };
        let log_weights = walk.probabilities().mapv(f64::ln);
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
            learned: Learned::of(&one_step, &self.learn, [self.heads, self.heads, width], device)?,
            step: Posterior::new(one_step)?,
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
        self.projections.check(&x, &x)?;
        let Nodes { q, k, v } = self.projections.nodes(x.clone(), x);
        let mean = self.mean(q, k, v.expect("projected"))?;
        Ok(self.projections.rows(mean))
    }

    /// The posterior of one step.
    pub fn posterior(&self) -> &Posterior {
        &self.step
    }

    /// The same module with another posterior of the same step, for tensors the model names in whole
    /// numbers to be added.
    pub fn with_posterior(self, step: Posterior) -> Self {
        Self { step, ..self }
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
        for (name, nodes, width) in [("q", &q, "D"), ("k", &k, "D"), ("v", &v, "Dv")] {
            refuse_empty(name, &nodes.dims(), format!("[B, H, N, {width}]"))?;
        }
        let parameters = self.learned.parameters();
        let weights = self.hop_probabilities();
        let [heads, counts] = weights.dims();
        if heads > 1 && heads != v.dims()[1] {
            let expected = format!("[B, {heads}, N, Dv]");
            let advice = "Every head has weights of its own over the number of hops.";
            return Err(Error::shape("v", expected, &v.dims(), advice));
        }
        let weight = |h: usize| weights.clone().narrow(1, h, 1).reshape([1, heads, 1, 1]);
        let mut reached = v.clone() * weight(counts - 1);
        for h in (0..counts - 1).rev() {
            let step = self.step(q.clone(), k.clone(), reached, &parameters)?;
            reached = v.clone() * weight(h) + step;
        }
        Ok(reached)
    }

    /// A z.
    fn step(
        &self,
        q: Tensor<4>,
        k: Tensor<4>,
        z: Tensor<4>,
        parameters: &Parameters,
    ) -> Result<Tensor<4>, Error> {
        let nodes = Nodes { q, k, v: Some(z) };
        self.step.ask(&nodes, parameters, &[Question::Mean])?.get(Question::Mean)
    }

    /// P(h), `[H or 1, hops + 1]`.
    pub fn hop_probabilities(&self) -> Tensor<2> {
        activation::softmax(self.hops.val(), 1)
    }
}
