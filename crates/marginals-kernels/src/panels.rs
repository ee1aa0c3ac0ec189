//! The packed operand of the matrix products.

use std::any::TypeId;

use crate::simd::{Kernel, Simd, run};
use crate::tile::extent;
use crate::{Aligned, InstructionSet, Real, Stored};

/// A `depth` × `columns` matrix cut into vertical panels of [`Panels::width`] columns, each panel
/// stored row by row and padded with zeros, so that a register tile reads it front to back.
///
/// Keys are packed once per head and then serve every block of queries: memory is that of the
/// matrix itself, rounded up to whole panels.
#[derive(Clone, Debug)]
pub struct Panels<T> {
    pub(crate) data: Aligned<T>,
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
        Self { data: Aligned::zeros(0), depth: 0, columns: 0, width: 1 }
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
        let mut panels = Self::empty();
        panels.repack(set, source, depth, depth_stride, columns, column_stride);
        panels
    }

    /// Packs another matrix into the memory of this one; the arguments are those of
    /// [`Panels::pack`].
    pub fn repack<S: Stored>(
        &mut self,
        set: InstructionSet,
        source: &[S],
        depth: usize,
        depth_stride: usize,
        columns: usize,
        column_stride: usize,
    ) {
        (self.depth, self.columns, self.width) = (depth, columns, Self::width(set));
        let len = columns.next_multiple_of(self.width).checked_mul(depth);
        let len = len.expect("a packed matrix fits in memory");
        self.data.resize(len);
        if len > 0 {
            let extent = extent(depth, depth_stride, columns, column_stride);
            assert!(
                extent.is_some_and(|extent| extent <= source.len()),
                "matrix of {depth} × {columns} (strides {depth_stride}, {column_stride}) does not \
                 fit in {} elements",
                source.len()
            );
            run(set, Pack { panels: self, source, depth_stride, column_stride });
        }
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

/// `from` as elements of `T`: itself where it holds such, else widened into `room`.
#[inline(always)]
fn widened<'a, S: Stored, T: Real>(from: &'a [S], room: &'a mut [T]) -> &'a [T] {
    if TypeId::of::<S>() == TypeId::of::<T>() {
        // SAFETY: the two types are the same.
        return unsafe { std::slice::from_raw_parts(from.as_ptr().cast(), from.len()) };
    }
    let room = &mut room[..from.len()];
    room.iter_mut().zip(from).for_each(|(to, from)| *to = from.widen());
    room
}

struct Pack<'a, S, T> {
    panels: &'a mut Panels<T>,
    source: &'a [S],
    depth_stride: usize,
    column_stride: usize,
}

impl<S: Stored, T: Real> Kernel<T> for Pack<'_, S, T> {
    type Output = ();

    #[inline(always)]
    fn run<V: Simd<Element = T>>(self, simd: V) {
        let Self { panels, source, depth_stride, column_stride } = self;
        let Panels { ref mut data, depth, columns, width } = *panels;
        // One block of keys, as many as a vector has lanes, when they must be widened first.
        let same = TypeId::of::<S>() == TypeId::of::<T>();
        let mut room = vec![T::zero(); if same { 0 } else { V::LANES * depth }];
        for (p, panel) in data.chunks_exact_mut(depth * width).enumerate() {
            let first = p * width;
            let here = width.min(columns - first);
            if here < width {
                panel.fill(T::zero());
            }
            if column_stride == 1 {
                for (d, row) in panel.chunks_exact_mut(width).enumerate() {
                    let from = &source[d * depth_stride + first..][..here];
                    row[..here].iter_mut().zip(from).for_each(|(to, from)| *to = from.widen());
                }
                continue;
            }
            let mut c = 0;
            if depth_stride == 1 {
                while c + V::LANES <= here {
                    let from = &source[(first + c) * column_stride..];
                    let whole = depth / V::LANES * V::LANES;
                    let (block, stride) = if same {
                        let from = &from[..(V::LANES - 1) * column_stride + depth];
                        (widened(from, &mut []), column_stride)
                    } else {
                        for (lane, room) in room.chunks_exact_mut(depth).enumerate() {
                            widened(&from[lane * column_stride..][..depth], room);
                        }
                        (&room[..], depth)
                    };
                    for d in (0..whole).step_by(V::LANES) {
                        // SAFETY: `block` holds LANES rows of `depth` elements; the panel holds
                        // `depth` rows of `width` ≥ c + LANES.
                        unsafe {
                            let to = panel.as_mut_ptr().add(d * width + c);
                            simd.transpose(block.as_ptr().add(d), stride, to, width);
                        }
                    }
                    for d in whole..depth {
                        for lane in 0..V::LANES {
                            panel[d * width + c + lane] = block[lane * stride + d];
                        }
                    }
                    c += V::LANES;
                }
            }
            for c in c..here {
                for (d, row) in panel.chunks_exact_mut(width).enumerate() {
                    row[c] = source[d * depth_stride + (first + c) * column_stride].widen();
                }
            }
        }
    }
}
