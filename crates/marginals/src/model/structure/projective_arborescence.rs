use serde::{Deserialize, Serialize};

use super::contract::{Structure, StructurePart};
use crate::infer::Inference;
use crate::infer::coupled::{Coupled, Factors, OF_TREES, PerQuery, Ragged};
pub use crate::infer::direct::graph::RootEdges;
use crate::infer::fold::{Fold, Recursion, Rule, Size, Unfold};
use crate::model::part::{Named, NamedTensor, Part};
use crate::model::tensors::Inputs;
use crate::{Error, Real, Shape, Value};

/// Trees over nodes in a row without crossing edges: projective dependency trees.
///
/// Queries and keys are the same nodes; φ_ij = 1 says that j is the head of i. Node 0 is the root, which
/// has no head and stands before all others; edges into itself are impossible. Every other node has one
/// head, there is no cycle, and all between a node and its head hang, at last, from one of the two.
///
/// ```text
/// p(tree) ∝ exp( Σ_i θ_{i, head(i)} )
/// ```
///
/// Eisner, *Three new probabilistic models for dependency parsing* (COLING 1996), is the recursion; in
/// attention, Kim et al., arXiv 1702.00887. Cost: O(N³) exponentials a head, O(N²) memory.
/// [`RootEdges`] says whether several nodes may hang from the root. Where no tree is possible:
/// log-partition −∞, everything else 0, MAP and samples −1. A root alone is a tree; where exactly one
/// node must hang from it, it is not.
///
/// ```
/// use marginals::{Model, potential::Dot, prior::Uniform};
/// use marginals::question::{LogCount, Marginals};
/// use marginals::structure::{ProjectiveArborescence, RootEdges};
/// # use ndarray::Array4;
/// # let x = Array4::<f64>::zeros((1, 1, 4, 2));
/// let model = Model::new(ProjectiveArborescence::new(RootEdges::Any), Uniform, Dot::scaled(2));
/// let (count, p) = model.posterior(x.view(), x.view())?.ask((LogCount, Marginals))?;
/// assert!((count[[0, 0, 0]] - 12f64.ln()).abs() < 1e-12); // trees of three words
/// assert!((p.slice(ndarray::s![0, 0, 1, ..]).sum() - 1.0).abs() < 1e-12);
/// # Ok::<(), marginals::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, bound(deserialize = "L: Default"))]
pub struct ProjectiveArborescence<L = TreeLengths> {
    /// Edges into the root.
    #[serde(default)]
    root_edges: RootEdges,
    #[serde(skip)]
    lengths: L,
}

/// Nodes that are there, the root among them, of every batch entry of trees.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TreeLengths(pub(super) Ragged);

impl ProjectiveArborescence {
    /// Trees with so many edges into the root.
    pub fn new(root_edges: RootEdges) -> Self {
        Self { root_edges, ..Self::default() }
    }

    /// The trees over the first `lengths[b]` nodes of every batch entry, the root among them.
    pub fn with_lengths(self, lengths: &[usize]) -> Self {
        Self { lengths: TreeLengths(Ragged::both(lengths, lengths)), ..self }
    }
}

impl Part for ProjectiveArborescence<Named> {
    const NAME: &'static str = "projective-arborescence";
    const MEANING: &'static str =
        "φ is a tree over the nodes, rooted at node 0, without crossing edges: j is the head of i";
    const EXAMPLE: &'static str = "{ projective-arborescence = { root-edges = \"one\" } }";
    const TENSORS: &'static [NamedTensor] = &[OF_TREES];
}

impl StructurePart for ProjectiveArborescence<Named> {
    fn build<T: Real>(&self, inputs: &Inputs<'_, T>) -> Result<Box<dyn Structure<T>>, Error> {
        let lengths = TreeLengths(Ragged::of_trees(inputs)?);
        Ok(Box::new(ProjectiveArborescence { root_edges: self.root_edges, lengths }))
    }

    fn couples_queries(&self) -> bool {
        true
    }
}

/// Refuses queries and keys that are not the same nodes.
pub(super) fn check_nodes(name: &str, shape: &Shape) -> Result<(), Error> {
    for (name, offset) in [("query-offset", shape.query_offset), ("key-offset", shape.key_offset)] {
        if offset != 0 {
            let expected = "0: the nodes of a tree are queries and keys, query i being key i";
            return Err(Error::value(name, expected, offset));
        }
    }
    if shape.keys == shape.queries {
        return Ok(());
    }
    Err(Error::shape(
        "k",
        format!("[B, Hk, {}, D], one key per query", shape.queries),
        &[shape.batch, shape.key_heads, shape.keys, shape.key_width],
        format!("`{name}` is a tree over nodes that are queries and keys."),
    ))
}

impl<T: Real> Structure<T> for ProjectiveArborescence {
    fn name(&self) -> &'static str {
        <ProjectiveArborescence<Named> as Part>::NAME
    }

    fn exact(&self) -> Box<dyn Inference<T> + '_> {
        let sets = Fold { unfold: Unfolded(self.root_edges) };
        Box::new(Coupled::new(sets, Factors::Head, Vec::new(), &self.lengths.0))
    }

    fn check(&self, shape: &Shape, _value: Value) -> Result<(), Error> {
        check_nodes(<ProjectiveArborescence<Named> as Part>::NAME, shape)?;
        self.lengths.0.check(shape)
    }
}

/// Recursion that trees unfold to.
#[derive(Clone, Copy, Debug)]
struct Unfolded(RootEdges);

impl Unfold for Unfolded {
    fn per_query(&self) -> PerQuery {
        PerQuery::One
    }

    fn unfold(&self, size: Size) -> Box<dyn Recursion> {
        Box::new(Spans { size, root_edges: self.0, nodes: size.queries.min(size.keys) })
    }
}

/// Kind of span from node s to node t.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// s is the head of t, and nothing between hangs from t.
    ArcRight,
    /// t is the head of s.
    ArcLeft,
    /// All hangs from s.
    Right,
    /// All hangs from t.
    Left,
}

/// Eisner's spans, shorter ones first; then, by number of nodes, the trees of so many.
#[derive(Debug)]
struct Spans {
    size: Size,
    root_edges: RootEdges,
    nodes: usize,
}

impl Spans {
    const KINDS: [Kind; 4] = [Kind::ArcRight, Kind::ArcLeft, Kind::Right, Kind::Left];

    /// Spans of fewer than `length` steps.
    fn shorter(&self, length: usize) -> usize {
        length * self.nodes - length * length.saturating_sub(1) / 2
    }

    fn cell(&self, kind: Kind, from: usize, to: usize) -> usize {
        4 * (self.shorter(to - from) + from) + kind as usize
    }

    /// The span of a number.
    fn span(&self, number: usize) -> (usize, usize) {
        // Steps of the longest spans that begin at or before it.
        let (mut low, mut high) = (0, self.nodes);
        while high - low > 1 {
            let middle = (low + high) / 2;
            if self.shorter(middle) <= number { low = middle } else { high = middle }
        }
        let from = number - self.shorter(low);
        (from, from + low)
    }

    fn spans(&self) -> usize {
        4 * self.nodes * (self.nodes + 1) / 2
    }
}

impl Recursion for Spans {
    fn cells(&self) -> usize {
        self.spans() + self.nodes + 1
    }

    fn rules(&self, cell: usize, into: &mut Vec<Rule>) {
        if cell >= self.spans() {
            let nodes = cell - self.spans();
            match (nodes, self.root_edges) {
                (0, _) => into.push(Rule::ONE),
                (nodes, RootEdges::Any) => {
                    into.push(Rule::cell(self.cell(Kind::Right, 0, nodes - 1)))
                }
                (nodes, RootEdges::One) => into.extend((1..nodes).map(|child| {
                    let (before, after) =
                        (self.cell(Kind::Left, 1, child), self.cell(Kind::Right, child, nodes - 1));
                    Rule::cells(before, after).with(self.size.edge(child, 0))
                })),
            }
            return;
        }
        let (from, to) = self.span(cell / 4);
        let kind = Self::KINDS[cell % 4];
        match kind {
            Kind::ArcRight | Kind::ArcLeft if from == to => {}
            // The root has no head.
            Kind::ArcLeft if from == 0 => {}
            Kind::ArcRight | Kind::ArcLeft => {
                let edge = match kind {
                    Kind::ArcRight => self.size.edge(to, from),
                    _ => self.size.edge(from, to),
                };
                into.extend((from..to).map(|split| {
                    let left = self.cell(Kind::Right, from, split);
                    Rule::cells(left, self.cell(Kind::Left, split + 1, to)).with(edge)
                }));
            }
            Kind::Right | Kind::Left if from == to => into.push(Rule::ONE),
            Kind::Right => into.extend((from + 1..=to).map(|split| {
                let arc = self.cell(Kind::ArcRight, from, split);
                Rule::cells(arc, self.cell(Kind::Right, split, to))
            })),
            Kind::Left => into.extend((from..to).map(|split| {
                let arc = self.cell(Kind::ArcLeft, split, to);
                Rule::cells(self.cell(Kind::Left, from, split), arc)
            })),
        }
    }

    fn goal(&self, queries: usize, _keys: usize) -> usize {
        self.spans() + queries.min(self.nodes)
    }
}
