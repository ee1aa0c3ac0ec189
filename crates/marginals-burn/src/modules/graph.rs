//! A graph as attention reads it: compressed sparse rows that remember the caller's order of edges.

use burn::tensor::{Device, Int, Tensor, TensorData};
use marginals::Error;
use ndarray::ArrayD;

use crate::ops::{Parameters, Posterior};
use crate::sizes::at_least_one;

/// A directed graph for [`GraphAttention`](crate::GraphAttention).
///
/// Edge e goes from a source to a target: what the source says reaches the target, so that targets are
/// queries and sources are keys. The number of an edge is its place in the list that the graph was made
/// from, and everything per edge goes in and comes out in that order. For an undirected graph both
/// directions are listed.
///
/// Nothing is added to the list: a node hears itself only over a loop that is in it
/// ([`Graph::with_self_loops`]). A node without incoming edges hears nothing, and its mean is 0.
///
/// ```
/// use marginals_burn::Graph;
///
/// let path = Graph::new(3, &[(0, 1), (1, 0), (2, 1), (1, 2)])?;
/// let (with_loops, loops) = path.with_self_loops();
/// assert_eq!(with_loops.edges()[loops[2]], (2, 2));
/// assert_eq!(loops, [4, 5, 6]);
/// # Ok::<(), marginals::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Graph {
    nodes: usize,
    /// (source, target), as the caller listed them.
    edges: Vec<(usize, usize)>,
    /// Where the incoming edges of each node begin in `order`, and their number: [N + 1].
    indptr: Vec<usize>,
    /// Numbers of the edges by target and then by source.
    order: Vec<usize>,
    /// By the caller's order.
    log_weights: Option<Tensor<1>>,
}

impl Graph {
    /// The graph of nodes 0, 1, … `nodes` − 1 and the given edges (source, target).
    ///
    /// Cost: O(N + E log E).
    ///
    /// # Errors
    /// [`Error::Value`] where there is no node, an edge ends at a node that does not exist, or an edge
    /// is listed twice.
    pub fn new(nodes: usize, edges: &[(usize, usize)]) -> Result<Self, Error> {
        at_least_one("nodes", nodes)?;
        for (number, &(source, target)) in edges.iter().enumerate() {
            if source >= nodes || target >= nodes {
                return Err(Error::value(
                    format!("edges[{number}]"),
                    format!("a source and a target from 0 to {}", nodes - 1),
                    format!("{source} → {target}"),
                ));
            }
        }
        let graph = Self::of(nodes, edges.to_vec(), None);
        let twice = graph.order.windows(2).find(|pair| edges[pair[0]] == edges[pair[1]]);
        match twice {
            None => Ok(graph),
            Some(pair) => Err(Error::value(
                "edges",
                "each edge at most once (weights of parallel edges can be added beforehand)",
                format!(
                    "{} → {} as edges {} and {}",
                    edges[pair[0]].0, edges[pair[0]].1, pair[0], pair[1]
                ),
            )),
        }
    }

    /// The graph of edges that are in order.
    fn of(nodes: usize, edges: Vec<(usize, usize)>, log_weights: Option<Tensor<1>>) -> Self {
        let mut order: Vec<usize> = (0..edges.len()).collect();
        order.sort_by_key(|&edge| (edges[edge].1, edges[edge].0));
        let mut indptr = vec![0; nodes + 1];
        for &(_, target) in &edges {
            indptr[target + 1] += 1;
        }
        for node in 0..nodes {
            indptr[node + 1] += indptr[node];
        }
        Self { nodes, edges, indptr, order, log_weights }
    }

    /// The same with a loop at every node that has none, numbered after the edges that there are, by
    /// node; and the number of each node's loop, old or new. New loops have a log-weight of 0 where
    /// edges have one.
    pub fn with_self_loops(&self) -> (Self, Vec<usize>) {
        let mut loops = vec![usize::MAX; self.nodes];
        for (number, &(source, target)) in self.edges.iter().enumerate() {
            if source == target {
                loops[source] = number;
            }
        }
        let mut edges = self.edges.clone();
        for (node, own) in loops.iter_mut().enumerate() {
            if *own == usize::MAX {
                *own = edges.len();
                edges.push((node, node));
            }
        }
        let added = edges.len() - self.edges.len();
        let log_weights = self.log_weights.clone().map(|given| match added {
            0 => given,
            _ => {
                let zeros = Tensor::zeros([added], (&given.device(), given.dtype()));
                Tensor::cat(vec![given, zeros], 0)
            }
        });
        (Self::of(self.nodes, edges, log_weights), loops)
    }

    /// The same with a log-weight for each edge (nats), the prior of attention; gradients flow to it. An
    /// edge of −∞ is impossible, as if it were not there.
    ///
    /// # Shapes
    /// - log_weights: `[E]`, in the order of the edges
    ///
    /// # Errors
    /// [`Error::Shape`] where there are not as many as edges. Whether they are numbers below +∞ is
    /// checked where they are used.
    pub fn with_log_weights(self, log_weights: Tensor<1>) -> Result<Self, Error> {
        if log_weights.dims() != [self.edges.len()] {
            return Err(Error::shape(
                "log_weights",
                format!("[{}], one per edge", self.edges.len()),
                &log_weights.dims(),
                "Give them in the order of the edges; add self-loops first.",
            ));
        }
        Ok(Self { log_weights: Some(log_weights), ..self })
    }

    /// Number of nodes N.
    pub fn nodes(&self) -> usize {
        self.nodes
    }

    /// The edges (source, target), in the caller's order.
    pub fn edges(&self) -> &[(usize, usize)] {
        &self.edges
    }

    /// The log-weights, if there are any, in the caller's order.
    pub fn log_weights(&self) -> Option<&Tensor<1>> {
        self.log_weights.as_ref()
    }

    /// Numbers of the edges that end at a node, by source. None for a node outside the graph.
    pub fn incoming(&self, node: usize) -> &[usize] {
        match self.indptr.get(node..node.saturating_add(2)) {
            Some(&[from, to]) => &self.order[from..to],
            _ => &[],
        }
    }

    /// Sources and targets of the edges, in the caller's order, to select rows by.
    pub(super) fn ends(&self, device: &Device) -> [Tensor<1, Int>; 2] {
        let of = |end: fn(&(usize, usize)) -> usize| positions(self.edges.iter().map(end), device);
        [of(|edge| edge.0), of(|edge| edge.1)]
    }

    /// A posterior whose prior is `adjacency`, told this graph.
    pub(super) fn given_to(&self, posterior: &Posterior) -> (Posterior, Parameters) {
        let whole = |numbers: &mut dyn Iterator<Item = usize>| -> ArrayD<i64> {
            numbers.map(|number| number as i64).collect::<ndarray::Array1<i64>>().into_dyn()
        };
        let sources = &mut self.order.iter().map(|&edge| self.edges[edge].0);
        let posterior = posterior
            .clone()
            .with_integers("adjacency.indptr", whole(&mut self.indptr.iter().copied()))
            .with_integers("adjacency.indices", whole(sources));
        let parameters = match &self.log_weights {
            Some(given) if !self.edges.is_empty() => {
                let by_target = positions(self.order.iter().copied(), &given.device());
                let given = given.clone().select(0, by_target);
                Parameters::none().with("adjacency.log-weights", given)
            }
            _ => Parameters::none(),
        };
        (posterior, parameters)
    }
}

fn positions(numbers: impl Iterator<Item = usize>, device: &Device) -> Tensor<1, Int> {
    let numbers: Vec<i64> = numbers.map(|number| number as i64).collect();
    let count = numbers.len();
    Tensor::from_data(TensorData::new(numbers, [count]), device)
}
