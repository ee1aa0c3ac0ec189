//! Log-partition, marginals and their derivatives of the spanning trees of a graph.
//!
//! Two number ranges serve the same [elimination](super::elimination). With the weights of every
//! node's edges normalised, Z is the probability that heads picked independently of each other
//! happen to form a tree. While that is at least [`SAFE`], doubles do: a partial result too small
//! for them, δ < 10⁻³⁰⁷, moves log Z and the marginals by δ ∂ log Z/∂w, and no derivative is larger
//! than n/Z (with one edge into the root n²/(Z Z′), Z′ being the product of all pivots but the
//! last). Where independent picks are all but certain to have a cycle, the numbers are [`Wide`]
//! ones instead, about thirty times slower and right at any scale.

use marginals_kernels::{InstructionSet, LogPartition, TileMut, exp_rows};

use super::elimination::{Matrix, Pivots};
use super::gain::two_sum;
use super::graph::{Graph, RootEdges, Trivial};
use super::numbers::{Doubles, Dual, LANES, Linear, Number};
use super::wide::Wide;

/// Least probability that independent picks form a tree at which doubles are used.
const SAFE: f64 = 1e-140;

/// Scores farther below 0 than this count as this far, and where the best of a node is larger in
/// size, so do those farther below that: their differences have no digits after the point left.
const FARTHEST: f64 = (1u64 << 50) as f64;

/// log Z of a graph's trees, with its gradient.
#[derive(Clone, Debug)]
pub(crate) struct TreeMoments {
    /// log Z.
    pub log_partition: f64,
    /// Marginal of every edge, [nodes, nodes].
    pub marginals: Vec<f64>,
}

/// Those with the derivative of the marginals along a direction.
#[derive(Clone, Debug)]
pub(crate) struct TreeTangents {
    /// At the scores themselves.
    pub moments: TreeMoments,
    /// Derivative of every marginal, [nodes, nodes].
    pub marginals: Vec<f64>,
}

/// Range of numbers to compute in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Range {
    /// Doubles where they are safe.
    Fastest,
    /// Wide numbers.
    #[cfg(test)]
    Wide,
}

/// log Z and the marginals of every edge. With NaN among the scores, NaN.
pub(crate) fn moments(graph: &Graph, range: Range) -> TreeMoments {
    if let Some(answer) = without_sums(graph) {
        return answer;
    }
    let safe = (range == Range::Fastest).then(|| Normalised::new(graph)).flatten();
    if let Some(mut normalised) = safe
        && let Some(log_z) = normalised.run()
    {
        return TreeMoments {
            log_partition: log_z + normalised.log_scale,
            marginals: normalised.weights,
        };
    }
    if let Some(answer) = invalid(graph) {
        return answer;
    }
    let shifted = Shifted::new(graph);
    let order = order(graph);
    let weight = |from, to| shifted.weight(from * graph.nodes + to);
    let Some((matrix, pivots)) = pass(graph.nodes, graph.root_edges, in_order(&order, weight))
    else {
        return impossible(graph);
    };
    let mut marginals = vec![0.0; graph.nodes * graph.nodes];
    for (a, b, entry) in entries(graph, &order) {
        let (from, to) = (order[a], order[b]);
        marginals[entry] = weight(from, to).times(matrix.at(a, b)).to_f64().clamp(0.0, 1.0);
    }
    let log_partition = pivots.partition.ln() + shifted.log_scale(graph, &marginals);
    TreeMoments { log_partition, marginals }
}

/// [`moments`], and the derivative of the marginals as the scores move along `direction`, [nodes,
/// nodes].
pub(crate) fn tangents(graph: &Graph, direction: &[f64], range: Range) -> TreeTangents {
    let nothing = |moments: TreeMoments| {
        let slope = if moments.log_partition.is_nan() { f64::NAN } else { 0.0 };
        let marginals = vec![slope; graph.nodes * graph.nodes];
        TreeTangents { moments, marginals }
    };
    if let Some(answer) = without_sums(graph) {
        return nothing(answer);
    }
    // The derivative is linear in the direction: one of size 1 keeps it in range.
    let size = direction.iter().fold(0.0f64, |size, d| size.max(d.abs()));
    let unit = if size > 0.0 { 1.0 / size } else { 0.0 };
    let toward = |from: usize, to: usize| direction[from * graph.nodes + to] * unit;
    let safe = (range == Range::Fastest).then(|| Normalised::new(graph)).flatten();
    if let Some(mut normalised) = safe
        && let Some((log_z, mut slopes)) = normalised.run_along(&toward)
    {
        slopes.iter_mut().for_each(|slope| *slope *= size);
        return TreeTangents {
            moments: TreeMoments {
                log_partition: log_z + normalised.log_scale,
                marginals: normalised.weights,
            },
            marginals: slopes,
        };
    }
    if let Some(answer) = invalid(graph) {
        return nothing(answer);
    }
    let shifted = Shifted::new(graph);
    let order = order(graph);
    let weight = |from: usize, to: usize| {
        let value = shifted.weight(from * graph.nodes + to);
        if !value.is_positive() {
            return Dual::ZERO;
        }
        Dual { value, slope: value.times(Wide::from_f64(toward(from, to))) }
    };
    let Some((matrix, pivots)) = pass(graph.nodes, graph.root_edges, in_order(&order, weight))
    else {
        return nothing(impossible(graph));
    };
    let mut marginals = vec![0.0; graph.nodes * graph.nodes];
    let mut slopes = marginals.clone();
    for (a, b, entry) in entries(graph, &order) {
        let marginal = weight(order[a], order[b]).times(matrix.at(a, b));
        marginals[entry] = marginal.value.to_f64().clamp(0.0, 1.0);
        slopes[entry] = marginal.slope.to_f64() * size;
    }
    let log_partition = pivots.partition.value.ln() + shifted.log_scale(graph, &marginals);
    TreeTangents { moments: TreeMoments { log_partition, marginals }, marginals: slopes }
}

/// Answers that need no sum.
fn without_sums(graph: &Graph) -> Option<TreeMoments> {
    match graph.trivial() {
        Some(Trivial::None) => Some(impossible(graph)),
        Some(Trivial::Empty) => Some(TreeMoments {
            log_partition: 0.0,
            marginals: vec![0.0; graph.nodes * graph.nodes],
        }),
        None => None,
    }
}

/// NaN everywhere, where a score is. Doubles are not safe with one: it comes to light where they
/// have been refused.
fn invalid(graph: &Graph) -> Option<TreeMoments> {
    let marginals = || vec![f64::NAN; graph.nodes * graph.nodes];
    graph.is_invalid().then(|| TreeMoments { log_partition: f64::NAN, marginals: marginals() })
}

fn impossible(graph: &Graph) -> TreeMoments {
    let marginals = vec![0.0; graph.nodes * graph.nodes];
    TreeMoments { log_partition: f64::NEG_INFINITY, marginals }
}

/// Nodes in the order of the elimination's numbers: the root first, then the one that goes last.
fn order(graph: &Graph) -> Vec<usize> {
    let mut order: Vec<usize> = (0..graph.nodes).collect();
    order.swap(0, graph.root);
    if graph.root_edges == RootEdges::One {
        let last = graph.reached_by_all();
        if let Some(at) = order.iter().position(|&node| node == last && node != graph.root) {
            order.swap(1, at);
        }
    }
    order
}

/// Numbers of both ends of every edge in the elimination, and its place in a table.
fn entries<'a>(
    graph: &'a Graph,
    order: &'a [usize],
) -> impl Iterator<Item = (usize, usize, usize)> + 'a {
    let row = move |a| (0..graph.nodes).map(move |b| (a, b, order[a] * graph.nodes + order[b]));
    (1..graph.nodes).flat_map(row).filter(|&(a, b, _)| a != b)
}

/// Gradient and pivots of the graph with weights that are written row by row; `None` where it has
/// no tree.
#[inline(always)]
fn pass<N: Number>(
    nodes: usize,
    root_edges: RootEdges,
    write: impl Fn(usize, &mut [N::Pack]),
) -> Option<(Matrix<N>, Pivots<N>)> {
    let mut matrix = Matrix::new(nodes, write);
    let pivots = matrix.eliminate(root_edges)?;
    matrix.differentiate(&pivots, root_edges);
    Some((matrix, pivots))
}

/// Writes a row of weights in the order of elimination.
#[inline(always)]
fn in_order<N: Number>(
    order: &[usize],
    weight: impl Fn(usize, usize) -> N,
) -> impl Fn(usize, &mut [N::Pack]) {
    move |a, row| {
        // The root has no edge.
        for b in (0..order.len()).filter(|&b| a != 0 && b != a) {
            N::set_lane(&mut row[b / LANES], b % LANES, weight(order[a], order[b]));
        }
    }
}

/// Scores that exponents can hold.
struct Shifted<'a> {
    scores: Vec<f64>,
    /// [`Graph::rests`].
    rests: &'a [f64],
    /// Offsets taken off the scores of each node.
    offsets: Vec<f64>,
    changed: bool,
}

impl<'a> Shifted<'a> {
    fn new(graph: &'a Graph) -> Self {
        let mut scores = graph.scores.clone();
        let mut offsets = vec![0.0; graph.nodes];
        let mut changed = false;
        for (row, offset) in scores.chunks_exact_mut(graph.nodes).zip(&mut offsets) {
            if row.iter().any(|score| score.is_finite() && score.abs() > FARTHEST) {
                changed = true;
                // Smaller ones would lose digits to a difference.
                let max = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                *offset = if max.abs() > FARTHEST { max } else { 0.0 };
                for score in row.iter_mut().filter(|score| score.is_finite()) {
                    *score = (*score - *offset).clamp(-FARTHEST, FARTHEST);
                }
            }
        }
        Self { scores, rests: &graph.rests, offsets, changed }
    }

    /// Weight of an edge.
    fn weight(&self, edge: usize) -> Wide {
        let weight = Wide::exponential(self.scores[edge]);
        match self.rests.get(edge) {
            Some(&rest) if rest != 0.0 => {
                weight.times(Wide::exponential(rest.clamp(-FARTHEST, FARTHEST)))
            }
            _ => weight,
        }
    }

    /// Loss of log Z: offsets, and by how much the edges that are used lie beyond [`FARTHEST`].
    fn log_scale(&self, graph: &Graph, marginals: &[f64]) -> f64 {
        if !self.changed {
            return 0.0;
        }
        let mut sum = 0.0;
        for (from, offset) in self.offsets.iter().enumerate() {
            sum += offset;
            for (to, &score) in graph.row(from).iter().enumerate() {
                let entry = from * graph.nodes + to;
                if score.is_finite() && marginals[entry] > 0.0 {
                    sum += marginals[entry] * ((score - offset) - self.scores[entry]);
                }
            }
        }
        sum
    }
}

/// Weights with those of every node's edges normalised.
///
/// With one edge into the root, those into it are left out of the sums and relative to the largest
/// of them.
struct Normalised {
    nodes: usize,
    root_edges: RootEdges,
    /// Nodes in the order of elimination.
    order: Vec<usize>,
    /// The weights; then the marginals.
    weights: Vec<f64>,
    /// log Z of the graph less that of these weights.
    log_scale: f64,
}

impl Normalised {
    /// `None` where a node has no edge.
    fn new(graph: &Graph) -> Option<Self> {
        let nodes = graph.nodes;
        let mut weights = graph.scores.clone();
        let mut into_root = Vec::new();
        if graph.root_edges == RootEdges::One {
            for row in weights.chunks_exact_mut(nodes) {
                into_root.push(std::mem::replace(&mut row[graph.root], f64::NEG_INFINITY));
            }
        }
        let set = InstructionSet::detect();
        let maxima: Vec<f64> = set.run(
            #[inline(always)]
            || weights.chunks_exact(nodes).map(maximum).collect(),
        );
        let dependent = |&(node, _): &(usize, &f64)| node != graph.root;
        if maxima.iter().enumerate().filter(dependent).any(|(_, max)| !max.is_finite()) {
            return None;
        }
        let log_sum = vec![0.0; nodes];
        let log_partition = LogPartition { max: &maxima, log_sum: &log_sum };
        exp_rows(set, TileMut::new(&mut weights, nodes, nodes, nodes), log_partition);
        for (weight, rest) in weights.iter_mut().zip(&graph.rests) {
            *weight *= rest.exp();
        }
        let sums: Vec<f64> = set.run(
            #[inline(always)]
            || {
                weights
                    .chunks_exact_mut(nodes)
                    .enumerate()
                    .map(|(node, row)| if node == graph.root { 1.0 } else { normalise(row) })
                    .collect()
            },
        );
        if !sums.iter().all(|sum| *sum > 0.0 && sum.is_finite()) {
            return None;
        }
        let log_sums: Vec<f64> = sums.iter().map(|sum| sum.ln()).collect();
        let mut log_scale: f64 = log_sums.iter().sum();
        log_scale += maxima.iter().enumerate().filter(dependent).map(|(_, max)| max).sum::<f64>();
        if graph.root_edges == RootEdges::One {
            // In two parts: scores of a node that are far below that of the root would take its
            // digits.
            let relative = |node: usize| {
                let (high, low) = two_sum(into_root[node], -maxima[node]);
                if high.is_finite() { (high, low - log_sums[node]) } else { (high, 0.0) }
            };
            let value = |(high, low): (f64, f64)| high + low;
            let larger = |a, b| if value(b) > value(a) { b } else { a };
            let largest = graph.dependents().map(relative).reduce(larger)?;
            if !value(largest).is_finite() {
                return None;
            }
            log_scale += value(largest);
            for node in graph.dependents() {
                let (high, low) = relative(node);
                let weight = ((high - largest.0) + (low - largest.1)).exp();
                weights[node * nodes + graph.root] = weight;
            }
        }
        let mut order: Vec<usize> = (0..nodes).collect();
        order.swap(0, graph.root);
        Some(Self { nodes, root_edges: graph.root_edges, order, weights, log_scale })
    }

    /// Leaves the marginals in place of the weights and gives log Z; `None` where doubles are not
    /// safe.
    fn run(&mut self) -> Option<f64> {
        match InstructionSet::detect() {
            InstructionSet::Plain => self.run_in::<false>(),
            set => set.run(
                #[inline(always)]
                || self.run_in::<true>(),
            ),
        }
    }

    #[inline(always)]
    fn run_in<const FUSED: bool>(&mut self) -> Option<f64> {
        let Self { nodes, root_edges, ref order, ref mut weights, .. } = *self;
        // Nodes are in order but for the root, which has changed places with the first.
        let root = order[0];
        let write = |a: usize, packs: &mut [Doubles]| {
            let row = &weights[order[a] * nodes..][..nodes];
            for (pack, weights) in packs.iter_mut().zip(row.chunks(LANES)) {
                pack.0[..weights.len()].copy_from_slice(weights);
            }
            packs[0].0[0] = row[root];
            packs[root / LANES].0[root % LANES] = row[0];
        };
        let (matrix, pivots) = pass::<Linear<FUSED>>(nodes, root_edges, write)?;
        if !is_safe(pivots.before_last.0, pivots.partition.0) {
            return None;
        }
        for a in 1..nodes {
            let row = &mut weights[order[a] * nodes..][..nodes];
            let (first, to_root) = (row[0], row[root]);
            for (chunk, g) in row.chunks_mut(LANES).zip(matrix.row(a)) {
                for (m, g) in chunk.iter_mut().zip(&g.0) {
                    *m = (*m * g).clamp(0.0, 1.0);
                }
            }
            if root != 0 {
                row[0] = (first * matrix.at(a, root).0).clamp(0.0, 1.0);
                row[root] = (to_root * matrix.at(a, 0).0).clamp(0.0, 1.0);
            }
        }
        Some(pivots.partition.0.ln())
    }

    /// [`run`](Self::run), with the derivative of the marginals along a direction of the scores.
    fn run_along(&mut self, toward: &impl Fn(usize, usize) -> f64) -> Option<(f64, Vec<f64>)> {
        match InstructionSet::detect() {
            InstructionSet::Plain => self.run_along_in::<false>(toward),
            set => set.run(
                #[inline(always)]
                || self.run_along_in::<true>(toward),
            ),
        }
    }

    #[inline(always)]
    fn run_along_in<const FUSED: bool>(
        &mut self,
        toward: &impl Fn(usize, usize) -> f64,
    ) -> Option<(f64, Vec<f64>)> {
        let Self { nodes, root_edges, ref order, ref mut weights, .. } = *self;
        let weight = |from: usize, to: usize| {
            let value = weights[from * nodes + to];
            // Where the weight is 0 the direction may be anything.
            let slope = if value > 0.0 { value * toward(from, to) } else { 0.0 };
            Dual { value: Linear::<FUSED>(value), slope: Linear(slope) }
        };
        let (matrix, pivots) =
            pass::<Dual<Linear<FUSED>>>(nodes, root_edges, in_order(order, weight))?;
        if !is_safe(pivots.before_last.value.0, pivots.partition.value.0) {
            return None;
        }
        let mut slopes = vec![0.0; nodes * nodes];
        for a in 1..nodes {
            for b in (0..nodes).filter(|&b| b != a) {
                let (from, to) = (order[a], order[b]);
                let marginal = weight(from, to).times(matrix.at(a, b));
                slopes[from * nodes + to] = marginal.slope.0;
            }
        }
        for a in 1..nodes {
            for b in 0..nodes {
                let m = &mut weights[order[a] * nodes + order[b]];
                *m = (*m * matrix.at(a, b).value.0).clamp(0.0, 1.0);
            }
        }
        Some((pivots.partition.value.0.ln(), slopes))
    }
}

fn is_safe(before_last: f64, partition: f64) -> bool {
    before_last >= SAFE && (SAFE..f64::INFINITY).contains(&partition)
}

/// Largest entry; NaN does not count.
#[inline(always)]
fn maximum(row: &[f64]) -> f64 {
    let mut maxima = [f64::NEG_INFINITY; LANES];
    let (chunks, rest) = row.as_chunks::<LANES>();
    for chunk in chunks {
        for (max, &x) in maxima.iter_mut().zip(chunk) {
            *max = if x > *max { x } else { *max };
        }
    }
    rest.iter().chain(&maxima).copied().fold(f64::NEG_INFINITY, f64::max)
}

/// Divides a row by its sum, which it gives.
#[inline(always)]
fn normalise(row: &mut [f64]) -> f64 {
    let mut sums = [0.0; LANES];
    let (chunks, rest) = row.as_chunks::<LANES>();
    for chunk in chunks {
        for (sum, &x) in sums.iter_mut().zip(chunk) {
            *sum += x;
        }
    }
    let sum = rest.iter().chain(&sums).sum::<f64>();
    let factor = 1.0 / sum;
    row.iter_mut().for_each(|x| *x *= factor);
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scores from a small generator: as [`Range`] picks doubles where they are safe, both are
    /// compared here.
    fn graph(
        nodes: usize,
        root: usize,
        root_edges: RootEdges,
        scale: f64,
        possible: f64,
        seed: u64,
    ) -> Graph {
        let mut state = seed;
        let mut unit = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 11) as f64 / (1u64 << 53) as f64
        };
        let table: Vec<f64> = (0..nodes * nodes)
            .map(|_| {
                let score = scale * (2.0 * unit() - 1.0);
                if unit() < possible { score } else { f64::NEG_INFINITY }
            })
            .collect();
        let row =
            |from: usize, row: &mut [f64]| row.copy_from_slice(&table[from * nodes..][..nodes]);
        Graph::new(nodes, root, root_edges, row)
    }

    #[test]
    fn doubles_agree_with_wide_numbers() {
        let mut safe = 0;
        for seed in 0..240 {
            let nodes = 2 + (seed as usize * 7) % 50;
            let root_edges = if seed % 2 == 0 { RootEdges::Any } else { RootEdges::One };
            let scale = [0.0, 1.0, 5.0, 30.0, 200.0, 1e4][seed as usize % 6];
            let possible = if seed % 5 == 0 { 0.6 } else { 1.0 };
            let graph = graph(nodes, seed as usize % nodes, root_edges, scale, possible, seed + 1);
            safe += i32::from(Normalised::new(&graph).is_some_and(|mut n| n.run().is_some()));
            let direction: Vec<f64> =
                (0..nodes * nodes).map(|at| ((at * 37 + 11) % 19) as f64 - 9.0).collect();
            let fast = tangents(&graph, &direction, Range::Fastest);
            let wide = tangents(&graph, &direction, Range::Wide);
            let plain = moments(&graph, Range::Fastest);
            assert_eq!(plain.log_partition, fast.moments.log_partition);
            let bound = 1e-14 * (1.0 + scale) * nodes as f64;
            let (a, b) = (fast.moments.log_partition, wide.moments.log_partition);
            assert!(a == b || (a - b).abs() <= bound, "seed {seed}: {a} {b}");
            for (at, fast_m) in fast.moments.marginals.iter().enumerate() {
                let wide_m = wide.moments.marginals[at];
                assert!((fast_m - wide_m).abs() < 1e-13, "seed {seed}: {fast_m} {wide_m}");
                assert!((plain.marginals[at] - wide_m).abs() < 1e-13, "seed {seed}");
                let (fast, wide) = (fast.marginals[at], wide.marginals[at]);
                assert!((fast - wide).abs() < 1e-11, "seed {seed}: {fast} {wide}");
            }
        }
        assert!((100..230).contains(&safe), "both ranges are to be met: {safe}");
    }
}
