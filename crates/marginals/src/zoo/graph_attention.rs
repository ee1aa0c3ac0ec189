//! Graph attention: the possible edges are those of a given graph.

use ndarray::{Array2, Array3};

use super::Mechanism;
use crate::Model;
use crate::potential::Additive;
use crate::prior::Adjacency;
use crate::structure::EachQueryPicksOne;

/// GAT.
pub const MECHANISM: Mechanism = Mechanism {
    name: "gat",
    title: "Graph attention network",
    structure: "each-query-picks-one",
    prior: "adjacency of a graph",
    potential: "additive (gat: the activation outermost)",
    value: "gather: Σ_j φ_ij v_j, with v_j = W h_j",
    inference: "exact, one pass over the blocks that hold edges",
    update: None,
    equations: &[
        "log ψ_ij = LeakyReLU(a_q·W h_i + a_k·W h_j)",
        "p_ij = softmax over the neighbours j of i; E[v]_i = Σ_j p_ij W h_j",
    ],
    sources: &["Veličković et al., Graph Attention Networks, arXiv 1710.10903, eq. 3 and 4"],
    path: "marginals::zoo::graph_attention::gat",
    model: "\
structure = \"each-query-picks-one\"
prior     = [\"adjacency\"]
potential = { additive = { kind = \"gat\", slope = 0.2 } }
# the input also holds adjacency.indptr and adjacency.indices (the graph in compressed sparse
# rows), additive.a and additive.a-key [H, F], additive.query and additive.key [H, F, D]
",
};

/// GATv2.
pub const MECHANISM_V2: Mechanism = Mechanism {
    name: "gatv2",
    title: "Graph attention network, version 2",
    potential: "additive (gatv2: the activation before a)",
    value: "gather: Σ_j φ_ij v_j, with v_j = W_k h_j",
    equations: &[
        "log ψ_ij = a·LeakyReLU(W_q h_i + W_k h_j)",
        "p_ij = softmax over the neighbours j of i; E[v]_i = Σ_j p_ij W_k h_j",
    ],
    sources: &[
        "Brody, Alon & Yahav, How Attentive are Graph Attention Networks?, arXiv 2105.14491, eq. 7",
    ],
    path: "marginals::zoo::graph_attention::gat_v2",
    model: "\
structure = \"each-query-picks-one\"
prior     = [\"adjacency\"]
potential = { additive = { kind = \"gatv2\", slope = 0.2 } }
# the input also holds adjacency.indptr and adjacency.indices (the graph in compressed sparse
# rows), additive.a [H, F], additive.query and additive.key [H, F, D]
",
    ..MECHANISM
};

/// LeakyReLU's slope below 0, in both papers.
pub const SLOPE: f64 = 0.2;

/// Attention over the neighbours of each node.
pub type GraphAttention = Model<EachQueryPicksOne, Adjacency, Additive>;

/// GAT with `projection` W [H, F, D] and a = [`a_query` ‖ `a_key`], [H, F] each. Queries and keys
/// are the nodes themselves, values the projected nodes.
///
/// ```
/// use marginals::{prior::Adjacency, question::Marginals, zoo::graph_attention};
/// # use ndarray::{Array2, Array3, Array4};
/// // A path of three nodes, each its own neighbour: 0 – 1 – 2.
/// let graph = Adjacency::new(vec![0, 2, 5, 7], vec![0, 1, 0, 1, 2, 1, 2])?;
/// let a = Array2::zeros((1, 2));
/// let model = graph_attention::gat(graph, Array3::zeros((1, 2, 4)), a.clone(), a);
/// # let nodes = Array4::<f64>::ones((1, 1, 3, 4));
/// let p = model.posterior(nodes.view(), nodes.view())?.ask(Marginals)?;
/// assert_eq!(p.slice(ndarray::s![0, 0, 0, ..]).to_vec(), [0.5, 0.5, 0.0]);
/// # Ok::<(), marginals::Error>(())
/// ```
pub fn gat(
    graph: Adjacency,
    projection: Array3<f64>,
    a_query: Array2<f64>,
    a_key: Array2<f64>,
) -> GraphAttention {
    let potential = Additive::gat(SLOPE, a_query, a_key);
    Model::new(EachQueryPicksOne, graph, potential.with_projections(projection.clone(), projection))
}

/// GATv2 with W_q `query` and W_k `key`, [H, F, D], and a [H, F]. Values are the nodes projected
/// by W_k.
pub fn gat_v2(
    graph: Adjacency,
    query: Array3<f64>,
    key: Array3<f64>,
    a: Array2<f64>,
) -> GraphAttention {
    let potential = Additive::gat_v2(SLOPE, a).with_projections(query, key);
    Model::new(EachQueryPicksOne, graph, potential)
}
