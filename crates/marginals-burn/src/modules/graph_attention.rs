//! Attention over the edges of a given graph.

use burn::config::Config;
use burn::module::{Module, Param};
use burn::nn::{Initializer, Linear, LinearConfig};
use burn::tensor::{Device, Tensor, activation};
use marginals::part::Named;
use marginals::potential::{Additive, AdditiveForm};
use marginals::prior::Adjacency;
use marginals::spec::ModelSpec;
use marginals::structure::EachQueryPicksOne;
use marginals::{Error, Value};
use serde::{Deserialize, Serialize};

use super::attention::with_mean;
use super::graph::Graph;
use super::projections::{to_heads, to_rows};
use crate::ops::{Answers, Nodes, Parameters, Posterior};
use crate::sizes::{at_least_one, refuse_empty};

/// How an edge is scored. W_s maps the source j of an edge, W_t its target i.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GraphAttentionKind {
    /// log ψ = LeakyReLU(a_t·W x_i + a_s·W x_j), one map W for both ends (Veličković et al.,
    /// arXiv 1710.10903, eq. 3): every target ranks sources alike.
    Gat,
    /// log ψ = a·LeakyReLU(W_t x_i + b_t + W_s x_j + b_s) (Brody, Alon & Yahav, arXiv 2105.14491,
    /// eq. 7).
    Gatv2,
}

/// Combination of the heads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Combine {
    /// One after another: heads · outputs numbers per node.
    Concatenate,
    /// Their mean: `outputs` numbers per node.
    Average,
}

/// Configuration of [`GraphAttention`].
#[derive(Config, Debug)]
pub struct GraphAttentionConfig {
    /// Numbers per node.
    pub inputs: usize,
    /// Numbers per node and head that come out.
    pub outputs: usize,
    /// Heads.
    #[config(default = 1)]
    pub heads: usize,
    /// How an edge is scored.
    #[config(default = "GraphAttentionKind::Gat")]
    pub kind: GraphAttentionKind,
    /// Slope of LeakyReLU below 0.
    #[config(default = 0.2)]
    pub slope: f64,
    /// Combination of the heads.
    #[config(default = "Combine::Concatenate")]
    pub combine: Combine,
    /// Whether there are biases: of the output, and of the maps of GATv2.
    #[config(default = true)]
    pub bias: bool,
    /// Whether GATv2 maps both ends by W_s, as GAT always does.
    #[config(default = false)]
    pub share_weights: bool,
}

/// A layer of a graph attention network: each node picks one of its incoming edges, and hears what the
/// mapped source says in expectation.
///
/// ```text
/// p_ij = w_ij ψ_ij / Σ_j w_ij ψ_ij       over the edges j → i
/// y_i  = Σ_j p_ij (W_s x_j + b_s) + b    by head, heads concatenated or averaged
/// ```
///
/// w_ij are the graph's weights, 1 where it has none ([`Graph::with_log_weights`]), and ψ is that of
/// [`GraphAttentionKind`]. A node without incoming edges has a mean of 0, so that b is all that comes
/// out; a node that shall hear itself needs a loop ([`Graph::with_self_loops`]).
///
/// Memory is O(N + E), forwards and backwards. Time is that of the blocks of the adjacency matrix that
/// hold edges, each computed whole: order the nodes so that neighbours lie close, or a sparse graph of
/// many nodes costs as much as a dense one.
///
/// ```
/// use burn::tensor::{Device, Distribution, Tensor};
/// use marginals_burn::{Graph, GraphAttentionConfig, GraphAttentionKind};
///
/// let (graph, _) = Graph::new(3, &[(0, 1), (1, 2), (2, 1)])?.with_self_loops();
/// let device = Device::flex();
/// let layer = GraphAttentionConfig::new(4, 5)
///     .with_heads(2)
///     .with_kind(GraphAttentionKind::Gatv2)
///     .init(&device)?;
/// let x = Tensor::<2>::random([3, 4], Distribution::Default, &device);
/// assert_eq!(layer.forward(x.clone(), &graph)?.dims(), [3, 10]);
/// assert_eq!(layer.edge_probabilities(x, &graph)?.dims(), [6, 2]);
/// # Ok::<(), marginals::Error>(())
/// ```
#[derive(Module, Debug)]
pub struct GraphAttention {
    /// W_s and, in GATv2, b_s: what a source says. W of GAT.
    pub source: Linear,
    /// W_t and b_t of a GATv2 that does not share its weights.
    pub target: Option<Linear>,
    /// a of GATv2, a_t of GAT: `[H, outputs]`.
    pub a: Param<Tensor<2>>,
    /// a_s of GAT: `[H, outputs]`.
    pub a_source: Option<Param<Tensor<2>>>,
    /// b: `[H · outputs]`, or `[outputs]` where heads are averaged.
    pub bias: Option<Param<Tensor<1>>>,
    #[module(skip)]
    posterior: Posterior,
    #[module(skip)]
    combine: Combine,
    heads: usize,
    slope: f64,
}

impl GraphAttentionConfig {
    /// Numbers per node that come out.
    pub fn width(&self) -> usize {
        match self.combine {
            Combine::Concatenate => self.heads * self.outputs,
            Combine::Average => self.outputs,
        }
    }

    /// The model: each query picks one neighbour, compared by an additive potential.
    pub fn model(&self) -> ModelSpec {
        let form = match self.kind {
            GraphAttentionKind::Gat => AdditiveForm::Gat,
            GraphAttentionKind::Gatv2 => AdditiveForm::GatV2,
        };
        ModelSpec {
            structure: EachQueryPicksOne.into(),
            prior: vec![Adjacency::<Named>::default().into()],
            potential: Additive::named(form, Some(self.slope)).into(),
            value: Value::Gather,
            query_offset: 0,
            inference: None,
        }
    }

    /// Refuses settings that make no module.
    ///
    /// # Errors
    /// [`Error::Value`], naming the setting.
    pub fn check(&self) -> Result<(), Error> {
        at_least_one("inputs", self.inputs)?;
        at_least_one("outputs", self.outputs)?;
        at_least_one("heads", self.heads)?;
        if !self.slope.is_finite() {
            return Err(Error::value("slope", "a finite number", self.slope));
        }
        if self.share_weights && self.kind == GraphAttentionKind::Gat {
            return Err(Error::value(
                "share_weights",
                "false, because GAT has one map already",
                self.share_weights,
            ));
        }
        Ok(())
    }

    /// A module with fresh weights: maps and a uniform after Glorot & Bengio (2010), biases
    /// 0.
    ///
    /// # Errors
    /// [`Error::Value`], naming the setting that makes no module.
    pub fn init(&self, device: &Device) -> Result<GraphAttention, Error> {
        self.check()?;
        let Self { inputs, outputs, heads, .. } = *self;
        let glorot = Initializer::XavierUniform { gain: 1.0 };
        let zeros = |width: usize| Initializer::Zeros.init([width], device);
        let map = |bias: bool| {
            let config = LinearConfig::new(inputs, heads * outputs).with_bias(false);
            let mut map = config.with_initializer(glorot.clone()).init(device);
            map.bias = bias.then(|| zeros(heads * outputs));
            map
        };
        let vector = || glorot.init_with([heads, outputs], Some(heads), Some(outputs), device);
        let gat = self.kind == GraphAttentionKind::Gat;
        Ok(GraphAttention {
            source: map(self.bias && !gat),
            target: (!gat && !self.share_weights).then(|| map(self.bias)),
            a: vector(),
            a_source: gat.then(vector),
            bias: self.bias.then(|| zeros(self.width())),
            posterior: Posterior::new(self.model()),
            combine: self.combine,
            heads,
            slope: self.slope,
        })
    }
}

impl GraphAttention {
    /// Attends over the graph.
    ///
    /// # Shapes
    /// - x: `[N, inputs]`
    /// - output: `[N, heads · outputs]`, or `[N, outputs]` where heads are averaged
    ///
    /// # Errors
    /// [`Error`], where nodes are not those of the graph, or a log-weight is NaN or +∞.
    pub fn forward(&self, x: Tensor<2>, graph: &Graph) -> Result<Tensor<2>, Error> {
        refuse_empty("x", &x.dims(), "[N, inputs]")?;
        Ok(self.forward_batch(x.unsqueeze(), graph)?.squeeze_dim(0))
    }

    /// Attends over one graph whose nodes hold something else in each entry of a batch.
    ///
    /// # Shapes
    /// - x: `[B, N, inputs]`
    /// - output: `[B, N, heads · outputs]`, or `[B, N, outputs]` where heads are averaged
    ///
    /// # Errors
    /// As [`Self::forward`].
    pub fn forward_batch(&self, x: Tensor<3>, graph: &Graph) -> Result<Tensor<3>, Error> {
        self.ask(x, graph, &[]).map(|(out, _)| out)
    }

    /// The same, and what else the posterior knows, in the same pass and with gradients.
    ///
    /// # Shapes
    /// As [`Self::forward_batch`]; answers as [`marginals::question`] says.
    ///
    /// # Errors
    /// As [`Self::forward`].
    pub fn ask(
        &self,
        x: Tensor<3>,
        graph: &Graph,
        questions: &[&str],
    ) -> Result<(Tensor<3>, Answers), Error> {
        let nodes = self.nodes(x, graph)?;
        let answers = self.ask_of(&nodes, graph, &with_mean(questions))?;
        let mean = answers.get::<4>("mean")?;
        let combined = match self.combine {
            Combine::Concatenate => to_rows(mean),
            Combine::Average => mean.mean_dim(1).squeeze_dim(1),
        };
        let out = match &self.bias {
            Some(bias) => combined + bias.val().unsqueeze(),
            None => combined,
        };
        Ok((out, answers))
    }

    /// P(edge) of every edge, in the order in which the graph lists them; those of one target sum to 1.
    ///
    /// ```text
    /// log p_ij = log w_ij + log ψ_ij − log Z_i
    /// ```
    ///
    /// Gradients flow to the nodes, the weights and the graph's log-weights. Memory: O(E) numbers per
    /// head, and per output number for GATv2. Where every incoming edge of a node is impossible all of
    /// them are 0.
    ///
    /// # Shapes
    /// - x: `[N, inputs]`
    /// - output: `[E, H]`
    ///
    /// # Errors
    /// As [`Self::forward`].
    pub fn edge_probabilities(&self, x: Tensor<2>, graph: &Graph) -> Result<Tensor<2>, Error> {
        let (device, format) = (x.device(), x.dtype());
        refuse_empty("x", &x.dims(), "[N, inputs]")?;
        let nodes = self.nodes(x.unsqueeze(), graph)?;
        if graph.edges().is_empty() {
            return Ok(Tensor::zeros([0, self.heads], (&device, format)));
        }
        let log_partition =
            self.ask_of(&nodes, graph, &["log-partition"])?.get::<3>("log-partition")?;
        // Nodes first, as edges select rows.
        let log_partition: Tensor<2> = log_partition.squeeze_dim::<2>(0).transpose();
        // That of no possible edge is −∞, and less it no edge would be a number.
        let impossible = log_partition.clone().equal_elem(f64::NEG_INFINITY);
        let log_partition = log_partition.mask_fill(impossible, 0.0);
        let [sources, targets] = graph.ends(&device);
        let rows = |heads: Tensor<4>| heads.squeeze_dim::<3>(0).swap_dims(0, 1);
        let along = |a: &Param<Tensor<2>>, features: Tensor<3>| -> Tensor<2> {
            (features * a.val().unsqueeze()).sum_dim(2).squeeze_dim(2)
        };
        let (at_target, at_source) = (rows(nodes.q), rows(nodes.k));
        let log_potential = match &self.a_source {
            Some(a_source) => {
                let target = along(&self.a, at_target).select(0, targets.clone());
                let source = along(a_source, at_source).select(0, sources);
                activation::leaky_relu(target + source, self.slope)
            }
            None => {
                let sum = at_target.select(0, targets.clone()) + at_source.select(0, sources);
                along(&self.a, activation::leaky_relu(sum, self.slope))
            }
        };
        let scores = match graph.log_weights() {
            Some(log_weights) => log_potential + log_weights.clone().unsqueeze_dim(1),
            None => log_potential,
        };
        Ok((scores - log_partition.select(0, targets)).exp())
    }

    /// The mapped nodes, by head.
    fn nodes(&self, x: Tensor<3>, graph: &Graph) -> Result<Nodes, Error> {
        let [_, count, width] = x.dims();
        let [inputs, _] = self.source.weight.dims();
        if count != graph.nodes() || width != inputs {
            return Err(Error::shape(
                "x",
                format!("[…, {}, {inputs}], one row per node of the graph", graph.nodes()),
                &x.dims(),
                "Nodes are those of the graph, numbers per node those that the layer was made for.",
            ));
        }
        refuse_empty("x", &x.dims(), format!("[B, {count}, {width}]"))?;
        let k = to_heads(self.source.forward(x.clone()), self.heads);
        let q = match &self.target {
            Some(target) => to_heads(target.forward(x), self.heads),
            None => k.clone(),
        };
        Ok(Nodes { q, v: Some(k.clone()), k })
    }

    fn ask_of(&self, nodes: &Nodes, graph: &Graph, questions: &[&str]) -> Result<Answers, Error> {
        let mut own = Parameters::none().with("additive.a", self.a.val());
        if let Some(a_source) = &self.a_source {
            own = own.with("additive.a-key", a_source.val());
        }
        let (posterior, given) = graph.given_to(&self.posterior);
        posterior.ask(nodes, &own.and(&given), questions)
    }
}
