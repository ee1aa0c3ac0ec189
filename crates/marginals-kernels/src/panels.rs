//! The packed operand of the matrix products.

use crate::{InstructionSet, Real, Stored};

/// A `depth` × `columns` matrix cut into vertical panels of [`Panels::width`] columns, each panel
/// stored row by row and padded with zeros, so that a register tile reads it front to back.
///
/// Keys are packed once per head and then serve every block of queries: memory is that of the
/// matrix itself, rounded up to whole panels.
#[derive(Clone, Debug)]
pub struct Panels<T> {
    pub(crate) data: Vec<T>,
    pub(crate) depth: usize,
    pub(crate) columns: usize,
    pub(crate) width: usize,
}

impl<T: Real> Panels<T> {
    /// Columns per panel on this instruction set.
    pub fn width(set: InstructionSet) -> usize {
        match set {
            InstructionSet::Avx512 => 128 / size_of::<T>(),
            _ => 64 / size_of::<T>(),
        }
    }

    /// An empty matrix: nothing allocated.
    pub fn empty() -> Self {
        Self { data: Vec::new(), depth: 0, columns: 0, width: 1 }
    }

    /// Packs the matrix whose entry (d, c) is `source[d * depth_stride + c * column_stride]`.
    ///
    /// `depth_stride = 1` packs the transpose of row-major data (scores: keys become columns);
    /// `column_stride = 1` packs row-major data as it is (means: keys are the depth).
    pub fn pack<S: Stored>(
        set: InstructionSet,
        source: &[S],
        depth: usize,
        depth_stride: usize,
        columns: usize,
        column_stride: usize,
    ) -> Self {
        let width = Self::width(set);
        let panels = columns.div_ceil(width);
        let mut data = vec![T::zero(); panels * depth * width];
        for p in 0..panels {
            let panel = &mut data[p * depth * width..][..depth * width];
            let first = p * width;
            let here = width.min(columns - first);
            for (d, row) in panel.chunks_exact_mut(width).enumerate() {
                for (c, x) in row[..here].iter_mut().enumerate() {
                    *x = source[d * depth_stride + (first + c) * column_stride].widen();
                }
            }
        }
        Self { data, depth, columns, width }
    }

    /// Rows of the matrix.
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// Columns of the matrix.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Entry (d, c), for plain code and tests.
    #[inline(always)]
    pub fn get(&self, d: usize, c: usize) -> T {
        self.data[(c / self.width * self.depth + d) * self.width + c % self.width]
    }
}
