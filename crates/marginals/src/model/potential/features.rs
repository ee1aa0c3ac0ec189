use std::ops::Range;

use marginals_kernels::{
    InstructionSet, Panels, Store, Strided, Tile, TileMut, gemm, scores_unpacked,
};
use ndarray::{ArrayView2, CowArray, Ix2};

use crate::{Block, Real, tensor};

/// The features of a run of nodes of one head, as rows and packed for products.
#[derive(Debug)]
pub struct Features<'a, T> {
    rows: CowArray<'a, T, Ix2>,
    first: usize,
    /// depth × nodes, for scores.
    across: Option<Panels<T>>,
    /// nodes × depth, for gradients.
    along: Option<Panels<T>>,
    /// Nodes that hold what is not finite, and what they hold; their rows are 0. Only in cleaned
    /// features.
    spoiled: Vec<(usize, Vec<T>)>,
}

impl<'a, T: Real> Features<'a, T> {
    /// Features of the nodes from `first` on.
    pub(crate) fn new(rows: CowArray<'a, T, Ix2>, first: usize) -> Self {
        let rows = match rows.is_standard_layout() {
            true => rows,
            false => rows.as_standard_layout().into_owned().into(),
        };
        Self { rows, first, across: None, along: None, spoiled: Vec::new() }
    }

    /// The features with rows that are not finite told apart: in a gradient they must not meet the edges
    /// whose own gradient is 0.
    pub(crate) fn cleaned(mut self) -> Self {
        let spoiled: Vec<usize> = (self.rows.outer_iter().enumerate())
            .filter(|(_, row)| row.iter().any(|x| !x.is_finite()))
            .map(|(index, _)| index)
            .collect();
        for index in spoiled {
            let mut row = self.rows.row_mut(index);
            self.spoiled.push((self.first + index, row.to_vec()));
            row.fill(T::zero());
        }
        self
    }

    /// Packs them as the right-hand side of score products.
    pub(crate) fn packed_across(mut self) -> Self {
        let (nodes, depth) = self.rows.dim();
        let set = InstructionSet::detect();
        self.across = Some(Panels::pack(set, tensor::elements(&self.rows), depth, 1, nodes, depth));
        self
    }

    /// Packs them as the right-hand side of gradient products.
    pub(crate) fn packed_along(mut self) -> Self {
        let (nodes, depth) = self.rows.dim();
        let set = InstructionSet::detect();
        self.along = Some(Panels::pack(set, tensor::elements(&self.rows), nodes, depth, depth, 1));
        self
    }

    /// Panels that [`packed_across`](Features::packed_across) made.
    pub(crate) fn across(&self) -> Option<&Panels<T>> {
        self.across.as_ref()
    }

    /// Drops the rows of packed features, where nothing will read them.
    pub(crate) fn without_rows(mut self) -> Self {
        if self.across.is_some() {
            self.rows = CowArray::from(ndarray::Array2::zeros((0, self.rows.ncols())));
        }
        self
    }

    /// Numbers per node.
    pub fn depth(&self) -> usize {
        self.rows.ncols()
    }

    /// Features of node `i` (an index into the whole head).
    #[inline(always)]
    pub fn row(&self, i: usize) -> &[T] {
        let depth = self.depth();
        &tensor::elements(&self.rows)[(i - self.first) * depth..][..depth]
    }

    /// Features of a run of nodes, row after row.
    #[inline]
    pub fn run(&self, nodes: Range<usize>) -> &[T] {
        let depth = self.depth();
        &tensor::elements(&self.rows)
            [(nodes.start - self.first) * depth..(nodes.end - self.first) * depth]
    }

    /// Features as a matrix.
    pub fn view(&self) -> ArrayView2<'_, T> {
        self.rows.view()
    }

    /// `scores[i, j] = self_i · keys_j` over `block`, `self` being the query side.
    pub fn products(&self, keys: &Features<'_, T>, block: &Block, scores: TileMut<'_, T>) {
        let set = InstructionSet::detect();
        let depth = self.depth();
        let data = self.run(block.queries.clone());
        let columns = block.keys.start - keys.first..block.keys.end - keys.first;
        // Keys of a part of those that were packed need not start where a panel does.
        let starts_a_panel = columns.start.is_multiple_of(Panels::<T>::width(set));
        match &keys.across {
            Some(packed) if starts_a_panel => {
                let q = Strided { data, row_stride: depth, depth_stride: 1 };
                gemm(set, Store::Overwrite, q, packed, 0..depth, columns, scores);
            }
            _ => {
                let queries = Tile::new(data, block.queries.len(), depth, depth);
                scores_unpacked(set, queries, tensor::elements(&keys.rows), depth, columns, scores);
            }
        }
    }

    /// Backward of [`products`](Features::products): dq_i += Σ_j g_ij k_j and dk_j += Σ_i g_ij q_i.
    pub fn products_backward(
        &self,
        keys: &Features<'_, T>,
        block: &Block,
        gradient: Tile<'_, T>,
        into: &mut FeatureGradient<'_, T>,
    ) {
        let set = InstructionSet::detect();
        let depth = self.depth();
        let key_run = block.keys.start - keys.first..block.keys.end - keys.first;
        for (j, row) in keys.spoiled.iter().filter(|(j, _)| block.keys.contains(j)) {
            for (r, dq) in into.q.chunks_exact_mut(depth.max(1)).enumerate().take(gradient.rows) {
                let g = gradient.row(r)[j - block.keys.start];
                if g != T::zero() {
                    dq.iter_mut().zip(row).for_each(|(x, &k)| *x += g * k);
                }
            }
        }
        for (i, row) in self.spoiled.iter().filter(|(i, _)| block.queries.contains(i)) {
            let gradients = gradient.row(i - block.queries.start);
            for (dk, &g) in into.k.chunks_exact_mut(depth.max(1)).zip(gradients) {
                if g != T::zero() {
                    dk.iter_mut().zip(row).for_each(|(x, &q)| *x += g * q);
                }
            }
        }
        let keys = keys.along.as_ref().expect("key features are packed for the backward pass");
        let queries = self.along.as_ref().expect("query features are packed for the backward pass");
        let g = Strided { data: gradient.data, row_stride: gradient.stride, depth_stride: 1 };
        let dq = TileMut::new(into.q, gradient.rows, depth, depth);
        gemm(set, Store::Add, g, keys, key_run, 0..depth, dq);
        let g = Strided { data: gradient.data, row_stride: 1, depth_stride: gradient.stride };
        let dk = TileMut::new(into.k, gradient.columns, depth, depth);
        let run = block.queries.start - self.first..block.queries.end - self.first;
        gemm(set, Store::Add, g, queries, run, 0..depth, dk);
    }
}

/// Where a potential adds the gradient of one block.
#[derive(Debug)]
pub struct FeatureGradient<'a, T> {
    /// Gradient of the query features of the block, row after row.
    pub q: &'a mut [T],
    /// Gradient of the key features of the block, row after row.
    pub k: &'a mut [T],
    /// Gradient of each parameter, flat.
    pub parameters: &'a mut [Vec<f64>],
}

/// Σ_d f(a_d, b_d) in sixteen interleaved partial sums, so that the compiler can use vectors.
#[inline(always)]
pub(crate) fn lanes<T: Real>(a: &[T], b: &[T], f: impl Fn(usize, T, T) -> T) -> T {
    const LANES: usize = 16;
    let mut sums = [T::zero(); LANES];
    let whole = a.len() / LANES * LANES;
    for start in (0..whole).step_by(LANES) {
        let (a, b) = (&a[start..start + LANES], &b[start..start + LANES]);
        for lane in 0..LANES {
            sums[lane] += f(start + lane, a[lane], b[lane]);
        }
    }
    let mut total = T::zero();
    for sum in sums {
        total += sum;
    }
    for d in whole..a.len() {
        total += f(d, a[d], b[d]);
    }
    total
}
