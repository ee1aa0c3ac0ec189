//! Where the tasks of a backward pass add their gradients.

use std::ops::Range;

use marginals_kernels::{Fresh, Piece};
use ndarray::{Array4, ArrayViewMut4, Axis};

use crate::gradient::{Accumulator, Layout};
use crate::tensor::all_finite;
use crate::{Parameter, Real, Shape};

/// The regions of the gradients that one task owns.
pub(super) struct Own<'a, T> {
    pub k: ArrayViewMut4<'a, T>,
    /// By table of the request.
    pub values: Vec<Option<ArrayViewMut4<'a, T>>>,
    pub learned: Vec<Accumulator<'a, T>>,
}

/// Those of a task that has not begun.
pub(super) struct Waiting<'a, T> {
    pub k: ArrayViewMut4<'a, T>,
    pub values: Vec<Option<ArrayViewMut4<'a, T>>>,
    pub learned: Vec<Region<'a, T>>,
}

impl<'a, T: Real> Waiting<'a, T> {
    pub fn start(self) -> Own<'a, T> {
        let learned = self.learned.into_iter().map(Region::start).collect();
        Own { k: self.k, values: self.values, learned }
    }
}

/// Where a task adds to one parameter's gradient.
pub(super) enum Region<'a, T> {
    /// A place that is there already.
    Ready(Accumulator<'a, T>),
    /// A place in a large tensor that is zeroed when the task comes to it.
    Fresh {
        piece: Piece<'a, T>,
        sizes: [usize; 4],
        /// Batch entry and head at which it starts.
        first: (usize, usize),
    },
}

impl<'a, T: Real> Region<'a, T> {
    pub fn start(self) -> Accumulator<'a, T> {
        match self {
            Self::Ready(accumulator) => accumulator,
            Self::Fresh { piece, sizes, first } => {
                let region = ArrayViewMut4::from_shape(sizes, piece.zeros());
                let region = region.expect("a piece is as long as its part of the gradient");
                Accumulator::Scores { region, first_key: 0, first }
            }
        }
    }
}

/// The gradient of one score-shaped parameter.
pub(super) enum Dense<T> {
    /// That several tasks add to along a row.
    Shared(Array4<T>),
    /// That each group of heads has a run of to itself.
    ByGroup(Fresh<T>, [usize; 4]),
}

impl<T: Real> Dense<T> {
    pub fn into_array(self) -> Array4<T> {
        match self {
            Self::Shared(gradient) => gradient,
            Self::ByGroup(fresh, sizes) => Array4::from_shape_vec(sizes, fresh.into_vec())
                .expect("pieces are the whole together"),
        }
    }
}

/// Whether every number of a tensor is finite.
pub(super) fn is_finite<T: Real>(tensor: &ArrayViewMut4<'_, T>) -> bool {
    match tensor.as_slice() {
        Some(numbers) => all_finite(numbers),
        None => tensor.rows().into_iter().all(|row| match row.as_slice() {
            Some(numbers) => all_finite(numbers),
            None => row.iter().all(|x| x.is_finite()),
        }),
    }
}

impl<T: Real> Own<'_, T> {
    /// Whether something in it is not finite.
    pub fn is_spoiled(&self) -> bool {
        !(is_finite(&self.k) && self.values.iter().flatten().all(is_finite))
    }

    /// As before anything was added.
    pub fn clear(&mut self) {
        self.k.fill(T::zero());
        self.values.iter_mut().flatten().for_each(|v| v.fill(T::zero()));
        self.learned.iter_mut().for_each(Accumulator::clear);
    }
}

/// Cuts a view over [B, heads, …] into groups of `heads` heads (`None`: one group of all).
pub(super) fn by_group<T>(
    view: ArrayViewMut4<'_, T>,
    heads: Option<usize>,
) -> impl Iterator<Item = ArrayViewMut4<'_, T>> {
    let (batch, all) = (view.dim().0, view.dim().1);
    let (batch, heads) = match heads {
        None => (vec![batch], vec![all]),
        // Without heads there is no group.
        Some(heads) => (vec![1; batch], vec![heads; all.div_ceil(heads.max(1))]),
    };
    cut(view, Axis(0), &batch).into_iter().flat_map(move |entry| cut(entry, Axis(1), &heads))
}

/// Cuts a view over [B, heads, M, …] into groups of heads, and those into ranges of keys.
pub(super) fn by_keys<'a, T>(
    view: ArrayViewMut4<'a, T>,
    heads: Option<usize>,
    lengths: &[usize],
) -> std::vec::IntoIter<ArrayViewMut4<'a, T>> {
    by_group(view, heads)
        .flat_map(|group| cut(group, Axis(2), lengths))
        .collect::<Vec<_>>()
        .into_iter()
}

/// Cuts the score-shaped gradients into the regions that tasks own, task by task: by groups of
/// `heads` query heads (`None`: one group of all), then by ranges of keys.
pub(super) fn regions<'a, T: Real>(
    parameters: &[Parameter],
    dense: &'a mut [Dense<T>],
    shape: &Shape,
    groups: &[Vec<(usize, usize)>],
    chunks: &[Range<usize>],
    heads: Option<usize>,
) -> Vec<Vec<Region<'a, T>>> {
    let tasks = groups.len() * chunks.len();
    let mut all: Vec<Vec<Region<'a, T>>> = (0..tasks).map(|_| Vec::new()).collect();
    let lengths: Vec<usize> = chunks.iter().map(Range::len).collect();
    let first = |index: usize| {
        let (batch, key_head) = groups[index][0];
        heads.map_or((0, 0), |heads| (batch, key_head * heads))
    };
    let mut dense = dense.iter_mut();
    for parameter in parameters {
        if parameter.layout == Layout::Small {
            let own = || Accumulator::Small(vec![0.0; parameter.len()]);
            all.iter_mut().for_each(|list| list.push(Region::Ready(own())));
            continue;
        }
        if matches!(parameter.layout, Layout::Queries | Layout::Keys) {
            for (index, list) in all.iter_mut().enumerate() {
                let keys = &chunks[index % chunks.len()];
                let (batch, key_head) = groups[index / chunks.len()][0];
                let (nodes, first, group) = match parameter.layout {
                    Layout::Keys => (keys.len(), keys.start, 1),
                    _ => (shape.queries, 0, shape.group()),
                };
                let own = heads.map_or((shape.batch, shape.key_heads), |_| (1, 1));
                let rows = Array4::zeros((own.0, own.1 * group, nodes, parameter.shape[3]));
                let first = (batch, key_head * group, first);
                list.push(Region::Ready(Accumulator::Rows { rows, first }));
            }
            continue;
        }
        let gradient = match dense.next().expect("one gradient per score-shaped parameter") {
            Dense::Shared(gradient) => gradient,
            Dense::ByGroup(fresh, [b, h, n, m]) => {
                let sizes = match heads {
                    None => [*b, *h, *n, *m],
                    Some(heads) => [1, heads, *n, *m],
                };
                for (index, (list, piece)) in all.iter_mut().zip(fresh.pieces()).enumerate() {
                    list.push(Region::Fresh { piece, sizes, first: first(index) });
                }
                continue;
            }
        };
        let shared_along_keys = parameter.shape[3] == 1;
        let mut gradient = gradient.view_mut();
        if let (false, Some(first), Some(last)) = (shared_along_keys, chunks.first(), chunks.last())
        {
            gradient.slice_axis_inplace(Axis(3), (first.start..last.end).into());
        }
        let by_task = by_group(gradient, heads).flat_map(|group| match shared_along_keys {
            true => cut(group, Axis(3), &vec![1; chunks.len()]),
            false => cut(group, Axis(3), &lengths),
        });
        for (index, (list, region)) in all.iter_mut().zip(by_task).enumerate() {
            let first_key = if shared_along_keys { 0 } else { chunks[index % chunks.len()].start };
            let first = first(index / chunks.len());
            list.push(Region::Ready(Accumulator::Scores { region, first_key, first }));
        }
    }
    all
}

/// Cuts a view along `axis` into pieces of the given lengths.
fn cut<'a, T>(
    view: ArrayViewMut4<'a, T>,
    axis: Axis,
    lengths: &[usize],
) -> Vec<ArrayViewMut4<'a, T>> {
    let mut rest = Some(view);
    let mut pieces = Vec::with_capacity(lengths.len());
    for &length in lengths {
        let view = rest.take().expect("what is left after each piece");
        let length = length.min(view.len_of(axis));
        let (piece, after) = view.split_at(axis, length);
        pieces.push(piece);
        rest = Some(after);
    }
    pieces
}
