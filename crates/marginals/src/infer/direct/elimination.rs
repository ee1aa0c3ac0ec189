//! Elimination of nodes: the determinant of a Laplacian without a subtraction.
//!
//! By the matrix-tree theorem (Tutte 1948) the weights w of a graph's trees towards a root, Z = Σ_φ
//! Π w_ij, are the determinant of its Laplacian, L_ii = Σ_j w_ij and L_ij = −w_ij, without the
//! root's row and column. Gaussian elimination of node k leaves the Laplacian of a graph without k,
//!
//! ```text
//! w_ij ← w_ij + w_ik w_kj / s_k,      s_k = Σ_j≠k w_kj over the nodes left,      Z = Π_k s_k,
//! ```
//!
//! and with s_k from that sum, in place of the diagonal, nothing is ever subtracted (Grassmann,
//! Taksar & Heyman, "Regenerative analysis and steady state distributions for Markov chains",
//! Operations Research 33, 1985): every number is right to a few roundings per node, however close
//! to singular L is.
//!
//! Trees with **one edge into the root** are the part of Z that is linear in a factor t of the
//! root's column (Koo, Globerson, Carreras & Collins, "Structured prediction models via the
//! matrix-tree theorem", EMNLP 2007). At t → 0 the root's column is left out of every s_k but the
//! last node's, which has nothing else; carried along like any other it gives the coefficient,
//! again without a subtraction. The last node must be one that all others reach.
//!
//! The **gradient** g = ∂ log Z/∂w goes back through the same steps. With u_i = w_ik and p_j = w_kj
//! / s_k as they were when k went,
//!
//! ```text
//! g_ik = Σ_j g_ij p_j,      g_kj = (1 + Σ_i u_i g_ij − Σ_i u_i g_ik) / s_k,
//! ```
//!
//! and w_ij g_ij is the marginal of edge (i, j). Both directions cost n³ multiplications and
//! additions together. Nodes go eight at a time, last first, so that each sweep over those left
//! does eight steps; node 0 is the root.

use super::graph::RootEdges;
use super::numbers::{LANES, Number};

/// Weights w of a graph, row after row in packs; then what elimination left of them; then the
/// gradient.
pub(super) struct Matrix<N: Number> {
    packs: Vec<N::Pack>,
    /// Packs in a row; [`LANES`] rows for each.
    across: usize,
}

/// Pivots of an elimination.
pub(super) struct Pivots<N> {
    /// 1/s_k of every node.
    reciprocals: Vec<N>,
    /// Product of all but the last.
    pub before_last: N,
    /// Z, the product of all.
    pub partition: N,
}

impl<N: Number> Matrix<N> {
    /// Weights of a graph of at least two nodes, written row by row; the root's row must be 0. The
    /// diagonal is not read.
    #[inline(always)]
    pub fn new(nodes: usize, write: impl Fn(usize, &mut [N::Pack])) -> Self {
        let across = nodes.div_ceil(LANES);
        let mut packs = vec![N::ZEROS; across * LANES * across];
        for (from, row) in packs.chunks_exact_mut(across).enumerate() {
            if from < nodes {
                write(from, row);
            } else {
                // Nobody's head: its pivot is 1 and nothing else sees it.
                N::set_lane(&mut row[0], 1, N::ONE);
            }
        }
        Self { packs, across }
    }

    /// Entry of the gradient, or of the weights.
    #[inline(always)]
    pub fn at(&self, from: usize, to: usize) -> N {
        N::lane(&self.packs[from * self.across + to / LANES], to % LANES)
    }

    /// Packs of a row.
    #[inline(always)]
    pub fn row(&self, from: usize) -> &[N::Pack] {
        &self.packs[from * self.across..][..self.across]
    }

    /// Eliminates every node but the root; `None` where a pivot is not above 0, and so where there
    /// is no tree.
    #[inline(always)]
    pub fn eliminate(&mut self, root_edges: RootEdges) -> Option<Pivots<N>> {
        let across = self.across;
        let mut reciprocals = vec![N::ZERO; across * LANES];
        let mut ways = vec![N::ZEROS; across * LANES];
        let (mut before_last, mut partition) = (N::ONE, N::ONE);
        for block in (0..across).rev() {
            let (left, panel) = self.packs.split_at_mut(block * LANES * across);
            // Weights of each node of the block towards the nodes before it, summed: with those to
            // nodes of the block they are all that its pivot needs.
            let mut outside = [N::ZERO; LANES];
            for (row, sum) in panel.chunks_exact(across).zip(&mut outside) {
                let mut sums = N::ZEROS;
                for (t, w) in row[..block].iter().enumerate() {
                    let without_root = t == 0 && root_edges == RootEdges::One;
                    sums = N::add(sums, &if without_root { N::without_first(w) } else { *w });
                }
                *sum = N::total(&sums);
            }
            // Row l: the p of the block's node l towards the nodes of the block before it.
            let mut within = [N::ZEROS; LANES];
            for lane in (0..LANES).rev() {
                let node = block * LANES + lane;
                if node == 0 {
                    continue;
                }
                let mut own = panel[lane * across + block];
                let mut outer = outside[lane];
                for later in (lane + 1..LANES).rev() {
                    let u = N::lane(&own, later);
                    own = N::add_scaled(own, u, &within[later]);
                    outer = outer.plus(u.times(outside[later]));
                }
                let inner = N::first_lanes(&own, lane);
                // With one edge into the root its column counts for the last node only, which has
                // nothing else.
                let without_root = block == 0 && node > 1 && root_edges == RootEdges::One;
                let counted = if without_root { N::without_first(&inner) } else { inner };
                let pivot = outer.plus(N::total(&counted));
                if !pivot.is_positive() {
                    return None;
                }
                partition = partition.times(pivot);
                if node > 1 {
                    before_last = before_last.times(pivot);
                }
                let reciprocal = pivot.reciprocal();
                reciprocals[node] = reciprocal;
                outside[lane] = reciprocal.times(outer);
                within[lane] = N::scaled(reciprocal, &inner);
                for earlier in 0..lane {
                    N::set_lane(&mut own, earlier, N::lane(&within[lane], earlier));
                }
                panel[lane * across + block] = own;
            }
            let reciprocals = &reciprocals[block * LANES..][..LANES];
            normalise::<N>(panel, &mut ways, reciprocals, across, block);
            if N::TOGETHER == 4 {
                spread::<N, 4>(left, &ways, &within, across, block);
            } else {
                spread::<N, 1>(left, &ways, &within, across, block);
            }
        }
        Some(Pivots { reciprocals, before_last, partition })
    }

    /// ∂ log Z/∂w in place of what the elimination left.
    #[inline(always)]
    pub fn differentiate(&mut self, pivots: &Pivots<N>, root_edges: RootEdges) {
        let across = self.across;
        let mut columns = vec![N::ZEROS; across * LANES];
        let mut gathered = vec![N::ZEROS; across * LANES];
        for block in 0..across {
            let (done, panel) = self.packs.split_at_mut(block * LANES * across);
            // The panel the other way round: pack j holds the p of the block's nodes towards node
            // j.
            for (t, columns) in columns.chunks_exact_mut(LANES).take(block + 1).enumerate() {
                for lane in 0..LANES {
                    let p = &panel[lane * across + t];
                    for (j, column) in columns.iter_mut().enumerate() {
                        // In the block's own columns only nodes before it: the rest are weights u.
                        let there = t < block || j < lane;
                        N::set_lane(column, lane, if there { N::lane(p, j) } else { N::ZERO });
                    }
                }
            }
            gathered[..block * LANES].fill(N::ZEROS);
            let back = if N::TOGETHER == 4 {
                gather::<N, 4>(done, &columns, &mut gathered, across, block)
            } else {
                gather::<N, 1>(done, &columns, &mut gathered, across, block)
            };
            let reciprocals = &pivots.reciprocals[block * LANES..][..LANES];
            close::<N>(panel, &gathered, back, reciprocals, across, block, root_edges);
        }
    }
}

/// The p of a block's nodes towards the nodes before it, in place of their weights, and side by
/// side what a sweep reads together.
#[inline(always)]
fn normalise<N: Number>(
    panel: &mut [N::Pack],
    ways: &mut [N::Pack],
    reciprocals: &[N],
    across: usize,
    block: usize,
) {
    // Row l: the weights u of the block's node l towards the nodes of the block after it.
    let mut u = [[N::ZERO; LANES]; LANES];
    for (lane, row) in u.iter_mut().enumerate() {
        for (later, u) in row.iter_mut().enumerate().skip(lane + 1) {
            *u = N::lane(&panel[lane * across + block], later);
        }
    }
    for (t, p) in ways.chunks_exact_mut(LANES).take(block).enumerate() {
        for lane in (0..LANES).rev() {
            let mut w = panel[lane * across + t];
            for later in (lane + 1..LANES).rev() {
                w = N::add_scaled(w, u[lane][later], &p[later]);
            }
            p[lane] = N::scaled(reciprocals[lane], &w);
            panel[lane * across + t] = p[lane];
        }
    }
}

/// Adds the ways through the nodes of a block to the weights between the nodes left, `ROWS` of
/// these at a time.
#[inline(always)]
fn spread<N: Number, const ROWS: usize>(
    left: &mut [N::Pack],
    ways: &[N::Pack],
    within: &[N::Pack; LANES],
    across: usize,
    block: usize,
) {
    for rows in left.chunks_exact_mut(ROWS * across) {
        let mut u = [N::ZEROS; ROWS];
        for (row, u) in rows.chunks_exact_mut(across).zip(&mut u) {
            *u = row[block];
            for lane in (1..LANES).rev() {
                *u = N::add_scaled(*u, N::lane(u, lane), &within[lane]);
            }
            row[block] = *u;
        }
        for (t, p) in ways.chunks_exact(LANES).take(block).enumerate() {
            let mut sums = [N::ZEROS; ROWS];
            for (row, sum) in sums.iter_mut().enumerate() {
                *sum = rows[row * across + t];
            }
            for (lane, p) in p.iter().enumerate() {
                for (sum, u) in sums.iter_mut().zip(&u) {
                    *sum = N::add_scaled(*sum, N::lane(u, lane), p);
                }
            }
            for (row, sum) in sums.iter().enumerate() {
                rows[row * across + t] = *sum;
            }
        }
    }
}

/// Sums that the rows outside a block leave for those within it.
struct Back<N: Number> {
    /// Σ_i u_ik g_ik of the block's nodes k.
    through: N::Pack,
    /// Row k: Σ_i u_ik g_ij for the block's nodes j.
    within: [N::Pack; LANES],
}

/// Gradient of the columns of a block in the rows before it, `ROWS` of these at a time, and of its rows
/// as far as those rows say.
#[inline(always)]
#[allow(clippy::needless_range_loop, reason = "with constant indices the sums stay in registers")]
fn gather<N: Number, const ROWS: usize>(
    done: &mut [N::Pack],
    columns: &[N::Pack],
    gathered: &mut [N::Pack],
    across: usize,
    block: usize,
) -> Back<N> {
    let (columns, own) = columns.split_at(block * LANES);
    let mut back = Back::<N> { through: N::ZEROS, within: [N::ZEROS; LANES] };
    for rows in done.chunks_exact_mut(ROWS * across) {
        let mut u = [N::ZEROS; ROWS];
        for (row, u) in rows.chunks_exact(across).zip(&mut u) {
            *u = row[block];
        }
        // Two sums a row, so that none waits long for its own last result; named, so that they stay in
        // registers.
        let (mut even, mut odd) = ([N::ZEROS; ROWS], [N::ZEROS; ROWS]);
        let blocks = columns.chunks_exact(LANES).zip(gathered.chunks_exact_mut(LANES));
        for (t, (columns, gathered)) in blocks.take(block).enumerate() {
            let mut g = [N::ZEROS; ROWS];
            for (row, g) in rows.chunks_exact(across).zip(&mut g) {
                *g = row[t];
            }
            for lane in (0..LANES).step_by(2) {
                let (mut first, mut second) = (gathered[lane], gathered[lane + 1]);
                for row in 0..ROWS {
                    let (g, u) = (&g[row], &u[row]);
                    even[row] = N::add_scaled(even[row], N::lane(g, lane), &columns[lane]);
                    odd[row] = N::add_scaled(odd[row], N::lane(g, lane + 1), &columns[lane + 1]);
                    first = N::add_scaled(first, N::lane(u, lane), g);
                    second = N::add_scaled(second, N::lane(u, lane + 1), g);
                }
                (gathered[lane], gathered[lane + 1]) = (first, second);
            }
        }
        for row in 0..ROWS {
            even[row] = N::add(even[row], &odd[row]);
        }
        for ((row, mut a), u) in rows.chunks_exact_mut(across).zip(even).zip(&u) {
            for (lane, p) in own[..LANES - 1].iter().enumerate() {
                a = N::add_scaled(a, N::lane(&a, lane), p);
            }
            back.through = N::add_product(back.through, u, &a);
            for (lane, within) in back.within.iter_mut().enumerate() {
                *within = N::add_scaled(*within, N::lane(u, lane), &a);
            }
            row[block] = a;
        }
    }
    back
}

/// Gradient of the rows of a block.
#[inline(always)]
fn close<N: Number>(
    panel: &mut [N::Pack],
    gathered: &[N::Pack],
    back: Back<N>,
    reciprocals: &[N],
    across: usize,
    block: usize,
    root_edges: RootEdges,
) {
    for lane in 0..LANES {
        let node = block * LANES + lane;
        let (before, rest) = panel.split_at_mut(lane * across);
        let row = &mut rest[..across];
        if node == 0 {
            row.fill(N::ZEROS);
            continue;
        }
        let mut through = N::lane(&back.through, lane);
        let mut u = [N::ZERO; LANES];
        let p = N::first_lanes(&row[block], lane);
        for (earlier, row_before) in before.chunks_exact_mut(across).enumerate() {
            let mut sums = N::add_product(N::ZEROS, &row_before[block], &p);
            for (g, p) in row_before[..block].iter().zip(&row[..block]) {
                sums = N::add_product(sums, g, p);
            }
            let a = N::total(&sums);
            u[earlier] = N::lane(&row_before[block], lane);
            through = through.plus(u[earlier].times(a));
            N::set_lane(&mut row_before[block], lane, a);
        }
        let mut share = N::ZEROS;
        let direct = N::ONE.minus(through);
        for lane in 0..LANES {
            N::set_lane(&mut share, lane, direct);
        }
        let reciprocal = reciprocals[lane];
        for (t, w) in row.iter_mut().take(block + 1).enumerate() {
            let mut sum = if t < block { gathered[t * LANES + lane] } else { back.within[lane] };
            for (earlier, row_before) in before.chunks_exact(across).enumerate() {
                sum = N::add_scaled(sum, u[earlier], &row_before[t]);
            }
            let mut share = share;
            if t == 0 && root_edges == RootEdges::One && node > 1 {
                N::set_lane(&mut share, 0, N::ZERO);
            }
            let g = N::scaled(reciprocal, &N::add(sum, &share));
            if t < block {
                *w = g;
            } else {
                for earlier in 0..lane {
                    N::set_lane(w, earlier, N::lane(&g, earlier));
                }
                N::set_lane(w, lane, N::ZERO);
            }
        }
    }
}
