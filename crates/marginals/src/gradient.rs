//! Learnable parameters of a model and where their gradients are collected.

use crate::Real;
use marginals_kernels::{InstructionSet, Tile};
use ndarray::{Array4, ArrayD, ArrayViewMut4, IxDyn};

use crate::{Block, Error};

/// How the gradient of a parameter is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Few numbers: every task sums its own copy in `f64`, and the copies are added in order.
    Small,
    /// One number per score, each axis of [B, H, N, M] either whole or of length 1: tasks own
    /// disjoint regions of one array.
    Scores,
    /// One row per query, [B, H, N, width], of what a function of edges is made of: tasks own groups of
    /// heads, and what ranges of keys contribute is added in order.
    Queries,
    /// One row per key, [B, Hk, M, D], of a function of edges that reads the keys: its gradient is a part
    /// of theirs.
    Keys,
}

/// A learnable parameter: its name in gradients and its shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// Name, as in `geometric.rho`.
    pub name: String,
    /// Shape of the parameter and of its gradient.
    pub shape: Vec<usize>,
    /// How its gradient is collected.
    pub layout: Layout,
}

impl Parameter {
    /// A parameter of few numbers.
    pub fn new(name: &str, shape: &[usize]) -> Self {
        Self { name: name.to_owned(), shape: shape.to_vec(), layout: Layout::Small }
    }

    /// A parameter with one number per score; `shape` broadcasts to [B, H, N, M].
    pub fn scores(name: &str, shape: [usize; 4]) -> Self {
        Self { name: name.to_owned(), shape: shape.to_vec(), layout: Layout::Scores }
    }

    /// A parameter with one row per query, [B, H, N, width].
    pub fn queries(name: &str, shape: [usize; 4]) -> Self {
        Self { name: name.to_owned(), shape: shape.to_vec(), layout: Layout::Queries }
    }

    /// The keys, [B, Hk, M, D], as what a function of edges is made of.
    pub fn keys(shape: [usize; 4]) -> Self {
        Self { name: "k".to_owned(), shape: shape.to_vec(), layout: Layout::Keys }
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Rows of nodes, and the batch entry, head and node at which they start.
pub(crate) type NodeRows<T> = (Array4<T>, (usize, usize, usize));

/// Where one task adds its part of one parameter's gradient.
#[derive(Debug)]
pub enum Accumulator<'a, T> {
    /// The whole parameter, flat, in `f64`.
    Small(Vec<f64>),
    /// The region of a score-shaped parameter that this task owns.
    Scores {
        /// The region; an axis the parameter broadcasts over has length 1.
        region: ArrayViewMut4<'a, T>,
        /// Key at which the region starts, where keys are not broadcast.
        first_key: usize,
        /// Batch entry and head at which it starts, where they are not broadcast.
        first: (usize, usize),
    },
    /// The rows that this task contributes to, of a parameter with a row per query or key.
    Rows {
        /// The rows of the task's heads.
        rows: Array4<T>,
        /// Batch entry, head and node at which they start.
        first: (usize, usize, usize),
    },
    /// None of them: the part added in another way than its [`Parameter`] is laid out, which the backward
    /// pass refuses at its end.
    Misused(Layout),
}

impl<T: Real> Accumulator<'_, T> {
    /// Adds `amount` to entry `index` of a parameter laid out as [`Layout::Small`].
    #[inline]
    pub fn add(&mut self, index: usize, amount: f64) {
        match self {
            Self::Small(sum) => sum[index] += amount,
            other => other.misuse(),
        }
    }

    /// Notes that something was added in another way than it is laid out.
    fn misuse(&mut self) {
        let layout = match self {
            Self::Small(_) => Layout::Small,
            Self::Scores { .. } => Layout::Scores,
            Self::Rows { .. } => Layout::Queries,
            Self::Misused(layout) => *layout,
        };
        *self = Self::Misused(layout);
    }

    /// Adds rows, one after the other, to those from `node` on of a batch entry and head, of a parameter
    /// laid out as [`Layout::Queries`] or, by key heads, as [`Layout::Keys`].
    pub fn add_rows(&mut self, (batch, head): (usize, usize), node: usize, added: &[T]) {
        let Self::Rows { rows, first } = self else { return self.misuse() };
        let width = rows.dim().3;
        let mut own = rows.slice_mut(ndarray::s![batch - first.0, head - first.1, .., ..]);
        let own = own.as_slice_mut().expect("a gradient of contiguous rows");
        let from = (node - first.2) * width;
        own[from..from + added.len()].iter_mut().zip(added).for_each(|(x, &g)| *x += g);
    }

    /// The rows of a parameter that has some, moved out, and where they start.
    pub(crate) fn take_rows(&mut self) -> Option<NodeRows<T>> {
        let Self::Rows { rows, first } = self else { return None };
        Some((std::mem::take(rows), *first))
    }

    /// As before anything was added.
    pub(crate) fn clear(&mut self) {
        match self {
            Self::Small(sum) => sum.fill(0.0),
            Self::Scores { region, .. } => region.fill(T::zero()),
            Self::Rows { rows, .. } => rows.fill(T::zero()),
            Self::Misused(_) => {}
        }
    }

    /// The sums of a parameter laid out as [`Layout::Small`], taken out; those of others lie where they
    /// belong.
    ///
    /// # Errors
    /// [`Error::NotAnswerable`], where `parameter` was added to in another way than it is laid out.
    pub(crate) fn take_sums(&mut self, parameter: &Parameter) -> Result<Vec<f64>, Error> {
        let (layout, instead) = match self {
            // Memory of zeros that nothing is written to costs nothing.
            Self::Small(sum) => return Ok(std::mem::replace(sum, vec![0.0; parameter.len()])),
            Self::Scores { .. } | Self::Rows { .. } => return Ok(Vec::new()),
            Self::Misused(Layout::Small) => ("by entries", "`Accumulator::add`"),
            Self::Misused(Layout::Scores) => ("by tiles", "`Accumulator::add_tile`"),
            Self::Misused(Layout::Queries | Layout::Keys) => ("by rows", "`Accumulator::add_rows`"),
        };
        Err(Error::NotAnswerable {
            question: format!("grad.{}", parameter.name),
            why: format!("its part declares it to be added {layout} and adds otherwise"),
            instead: format!("Add with {instead}, or declare another layout."),
        })
    }

    /// Adds a tile to a parameter laid out as [`Layout::Scores`], summing over the axes it broadcasts.
    pub fn add_tile(&mut self, block: &Block, tile: Tile<'_, T>) {
        let Self::Scores { region, first_key, first } = self else { return self.misuse() };
        let shape = region.dim();
        let b = if shape.0 == 1 { 0 } else { block.batch - first.0 };
        let h = if shape.1 == 1 { 0 } else { block.head - first.1 };
        let own = |r: usize| if shape.2 == 1 { 0 } else { block.queries.start + r };
        if shape.3 == 1 {
            for r in 0..tile.rows {
                region[[b, h, own(r), 0]] += tile.row(r).iter().copied().sum();
            }
            return;
        }
        let from = block.keys.start - *first_key;
        let mut region = region.slice_mut(ndarray::s![b, h, .., from..from + tile.columns]);
        for r in 0..tile.rows {
            let mut row = region.row_mut(own(r));
            let row = row.as_slice_mut().expect("the last axis of a gradient is contiguous");
            InstructionSet::detect().run(
                #[inline(always)]
                || row.iter_mut().zip(tile.row(r)).for_each(|(x, &g)| *x += g),
            );
        }
    }
}

/// The gradient of one parameter.
#[derive(Clone, Debug, PartialEq)]
pub struct ParameterGradient<T> {
    /// Name of the parameter.
    pub name: String,
    /// Gradient, of the parameter's shape.
    pub gradient: ArrayD<T>,
}

impl<T: Real> ParameterGradient<T> {
    pub(crate) fn from_small(parameter: &Parameter, sum: &[f64]) -> Self {
        let values = sum.iter().map(|&x| T::of(x)).collect();
        Self {
            name: parameter.name.clone(),
            gradient: ArrayD::from_shape_vec(IxDyn(&parameter.shape), values)
                .expect("an accumulator has its parameter's length"),
        }
    }
}

/// An accumulator of the whole of each parameter.
pub(crate) struct Whole<T> {
    pub parameters: Vec<Parameter>,
    small: Vec<Vec<f64>>,
    tensors: Vec<Array4<T>>,
}

impl<T: Real> Whole<T> {
    pub fn new(parameters: Vec<Parameter>) -> Self {
        let small = parameters.iter().map(|p| match p.layout {
            Layout::Small => vec![0.0; p.len()],
            _ => Vec::new(),
        });
        let tensors = parameters.iter().map(|p| match (p.layout, &p.shape[..]) {
            (Layout::Small, _) => Array4::zeros((0, 0, 0, 0)),
            (_, &[b, h, n, m]) => Array4::zeros((b, h, n, m)),
            (_, shape) => unreachable!("a parameter of tiles or rows has four axes, not {shape:?}"),
        });
        Self { small: small.collect(), tensors: tensors.collect(), parameters }
    }

    /// Lets `add` add to every parameter.
    ///
    /// # Errors
    /// [`Error::NotAnswerable`], where it adds in another way than a parameter is laid out.
    pub fn add(&mut self, add: impl FnOnce(&mut [Accumulator<'_, T>])) -> Result<(), Error> {
        let parts = self.parameters.iter().zip(self.small.iter_mut().zip(&mut self.tensors));
        let mut accumulators: Vec<Accumulator<'_, T>> = parts
            .map(|(parameter, (small, tensor))| match parameter.layout {
                Layout::Small => Accumulator::Small(std::mem::take(small)),
                Layout::Scores => {
                    Accumulator::Scores { region: tensor.view_mut(), first_key: 0, first: (0, 0) }
                }
                Layout::Queries | Layout::Keys => {
                    Accumulator::Rows { rows: std::mem::take(tensor), first: (0, 0, 0) }
                }
            })
            .collect();
        add(&mut accumulators);
        let mut rows = Vec::new();
        let mut sums = Vec::new();
        for (accumulator, parameter) in accumulators.iter_mut().zip(&self.parameters) {
            rows.push(accumulator.take_rows());
            sums.push(accumulator.take_sums(parameter)?);
        }
        drop(accumulators);
        for ((tensor, small), (rows, sums)) in
            self.tensors.iter_mut().zip(&mut self.small).zip(rows.into_iter().zip(sums))
        {
            if let Some((rows, _)) = rows {
                *tensor = rows;
            }
            *small = sums;
        }
        Ok(())
    }

    /// The gradients; those of keys are added to `dk`.
    pub fn finish(self, dk: &mut Array4<T>, into: &mut Vec<ParameterGradient<T>>) {
        for ((parameter, small), tensor) in self.parameters.iter().zip(self.small).zip(self.tensors)
        {
            match parameter.layout {
                Layout::Small => into.push(ParameterGradient::from_small(parameter, &small)),
                Layout::Keys => *dk += &tensor,
                Layout::Scores | Layout::Queries => {
                    let name = parameter.name.clone();
                    into.push(ParameterGradient { name, gradient: tensor.into_dyn() });
                }
            }
        }
    }
}

/// Tells parameters of the same name apart: the second `geometric.rho` becomes `geometric.rho.2`.
pub(crate) fn number_repeats(mut names: Vec<&mut String>) {
    for i in (1..names.len()).rev() {
        let earlier = names[..i].iter().filter(|name| **name == names[i]).count();
        if earlier > 0 {
            *names[i] = format!("{}.{}", names[i], earlier + 1);
        }
    }
}
