use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use marginals_kernels::{Tile, TileMut};
use ndarray::{Array2, Array4, ArrayViewMut2, ArrayViewMut4, Axis, s};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::contract::{Distance, DistancePart};
use crate::model::nodes::{Allowed, NodeGradient, Nodes};
use crate::model::part::{Number, Part, Sizes};
use crate::model::tensors::Inputs;
use crate::{Accumulator, Block, Error, Parameter, PerHead, Real, Shape, number};

/// d_ij = Σ_{l = j..i} σ(scale · q_i·k_l): how many keys that matter to query i lie between, key j itself
/// included.
///
/// The contextual positions of CoPE (Golovneva et al., arXiv 2405.18719, eqs. 3 and 4), under any prior of
/// distance: a word, a sentence or a section back instead of a token. Keys that the model's priors hide
/// from a query are not counted, and it picks none ahead of it. Gradients reach queries, keys and the
/// scale. Cost: gates are made again wherever distances are, twice forward and six times
/// backward, each a product of queries and keys and a logistic function; and two numbers per query and
/// 512 keys.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contextual {
    /// Scale; without, 1/√D, once the width is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale: Option<PerHead>,
}

impl Contextual {
    /// With this scale, or one per head.
    pub fn new(scale: impl Into<PerHead>) -> Self {
        Self { scale: Some(scale.into()) }
    }

    fn scale_of(&self, head: usize) -> f64 {
        self.scale.as_ref().map_or(f64::NAN, |scale| scale.of(head))
    }
}

impl Part for Contextual {
    const NAME: &'static str = "contextual";
    const MEANING: &'static str = "d_ij = Σ_{l = j..i} σ(scale · q_i·k_l), scale 1/√D by default";
    const EXAMPLE: &'static str = "{ contextual = { scale = 0.125 } }";
    const NUMBERS: &'static [Number<Self>] = &[number!("contextual.scale", Real, scale)];

    fn settle(&mut self, sizes: &Sizes) {
        self.scale.get_or_insert_with(|| PerHead::One(1.0 / (sizes.width.max(1) as f64).sqrt()));
    }
}

impl DistancePart for Contextual {
    fn build<'a, T: Real>(
        &self,
        _inputs: &Inputs<'a, T>,
    ) -> Result<Box<dyn Distance<T> + 'a>, Error> {
        Ok(Box::new(self.clone()))
    }
}

impl<T: Real> Distance<T> for Contextual {
    fn name(&self) -> &'static str {
        Self::NAME
    }
    fn check(&self, shape: &Shape) -> Result<(), Error> {
        if shape.query_width != shape.key_width {
            return Err(Error::shape(
                "k",
                format!("rows of {} numbers, as q has", shape.query_width),
                &[shape.key_width],
                "The distance `contextual` multiplies queries and keys.",
            ));
        }
        if shape.key_offset != 0 {
            let expected = "0: the distance `contextual` reads all keys up to a query's own";
            return Err(Error::value("key-offset", expected, shape.key_offset));
        }
        self.check_numbers(shape)
    }
    /// Without nodes no key is any way off.
    fn fill(&self, _block: &Block, mut distances: TileMut<'_, f64>) {
        (0..distances.rows).for_each(|r| distances.row_mut(r).fill(0.0));
    }
    fn sees_ahead(&self) -> bool {
        false
    }
    fn parameters(&self) -> Vec<Parameter> {
        self.learnable()
    }
    fn bind<'n>(&'n self, nodes: &Nodes<'n, '_, T>) -> Option<Box<dyn Distance<T> + 'n>> {
        Some(Box::new(Bound::new(self, nodes)))
    }
}

/// Keys whose gates are summed once, for all keys before them.
const GROUP: usize = 512;
/// Queries whose gates are made at a time.
const QUERIES: usize = 64;

/// The distance between given nodes.
struct Bound<'n, T> {
    part: &'n Contextual,
    allowed: &'n dyn Allowed<T>,
    shape: Shape,
    q: Array4<T>,
    k: Array4<T>,
    /// Σ of the gates, and of their slopes in the scale, of all groups of keys after each: [B, H, N, groups].
    later: Array4<[f64; 2]>,
    /// Σ_j ∂L/∂d_ij of the rows of blocks, owed to the gates of all keys after them, by block.
    owed: Mutex<BTreeMap<[usize; 5], Vec<f64>>>,
}

/// Gates of a run of queries and keys.
struct Gates<T> {
    /// q_i·k_l.
    product: Array2<T>,
    /// σ(scale · product); 0 of keys that are not passed.
    gate: Array2<f64>,
}

impl<T: Real> Gates<T> {
    /// A gate and its slope in the scale.
    fn at(&self, place: (usize, usize)) -> [f64; 2] {
        let gate = self.gate[place];
        [gate, if gate == 0.0 { 0.0 } else { gate * (1.0 - gate) * self.product[place].f64() }]
    }
}

impl<'n, T: Real> Bound<'n, T> {
    fn new(part: &'n Contextual, nodes: &Nodes<'n, '_, T>) -> Self {
        let shape = nodes.shape;
        let groups = shape.keys.div_ceil(GROUP);
        let later = Array4::from_elem((shape.batch, shape.heads, shape.queries, groups), [0.0; 2]);
        let (allowed, q, k) = (nodes.allowed(), nodes.queries(), nodes.keys());
        let mut bound = Self { part, allowed, shape, q, k, later, owed: Mutex::default() };
        let heads: Vec<_> = shape.all_heads().collect();
        let runs: Vec<_> = (heads.into_iter())
            .flat_map(|head| (0..shape.queries).step_by(QUERIES).map(move |first| (head, first)))
            .collect();
        let sums: Vec<Array2<[f64; 2]>> =
            runs.par_iter().map(|&(head, first)| bound.sums(head, first)).collect();
        for (((b, h), first), sums) in runs.into_iter().zip(sums) {
            let end = first + sums.nrows();
            bound.later.slice_mut(s![b, h, first..end, ..]).assign(&sums);
        }
        bound
    }

    /// Sums over the groups after each, of the queries from `first` on.
    fn sums(&self, head: (usize, usize), first: usize) -> Array2<[f64; 2]> {
        let queries = first..(first + QUERIES).min(self.shape.queries);
        let groups = self.later.dim().3;
        let mut sums = Array2::from_elem((queries.len(), groups), [0.0; 2]);
        for group in (1..groups).rev() {
            let keys = group * GROUP..((group + 1) * GROUP).min(self.shape.keys);
            let gates = self.gates(head, queries.clone(), keys.clone());
            for r in 0..queries.len() {
                let mut sum = sums[[r, group]];
                for c in 0..keys.len() {
                    let own = gates.at((r, c));
                    sum = [sum[0] + own[0], sum[1] + own[1]];
                }
                sums[[r, group - 1]] = sum;
            }
        }
        sums
    }

    /// How many keys lie at or behind a query.
    fn reached(&self, block: &Block, query: usize) -> usize {
        let position = query as i64 + block.lead();
        usize::try_from(position + 1).map_or(0, |count| count.min(self.shape.keys))
    }

    fn gates(
        &self,
        (batch, head): (usize, usize),
        queries: Range<usize>,
        keys: Range<usize>,
    ) -> Gates<T> {
        let own = self.shape.key_head(head);
        let q = self.q.slice(s![batch, head, queries.clone(), ..]);
        let k = self.k.slice(s![batch, own, keys.clone(), ..]);
        let product = q.dot(&k.t());
        let block = self.shape.block((batch, head), queries.clone(), keys.clone());
        let (rows, columns) = (queries.len(), keys.len());
        let mut possible = vec![T::zero(); rows * columns];
        self.allowed.fill_allowed(&block, TileMut::new(&mut possible, rows, columns, columns));
        let scale = self.part.scale_of(head);
        let mut gate = Array2::zeros((rows, columns));
        for (r, i) in queries.enumerate() {
            let passed = self.reached(&block, i).saturating_sub(keys.start).min(columns);
            for c in (0..passed).filter(|c| possible[r * columns + c] == T::zero()) {
                gate[[r, c]] = 1.0 / (1.0 + (-scale * product[[r, c]].f64()).exp());
            }
        }
        Gates { product, gate }
    }

    /// Σ of the gates from each key of `block` on, or of their slopes in the scale, row after row.
    fn beyond_each_key(&self, block: &Block, which: usize) -> Vec<f64> {
        let (rows, columns) = (block.queries.len(), block.keys.len());
        let mut all = vec![0.0; rows * columns];
        if rows == 0 || columns == 0 {
            return all;
        }
        // The rest of the group that the block ends in is summed too.
        let group = (block.keys.end - 1) / GROUP;
        let end = ((group + 1) * GROUP).min(self.shape.keys);
        let head = (block.batch, block.head);
        let gates = self.gates(head, block.queries.clone(), block.keys.start..end);
        for (r, i) in block.queries.clone().enumerate() {
            let mut sum = self.later[[block.batch, block.head, i, group]][which];
            for c in (0..end - block.keys.start).rev() {
                sum += gates.at((r, c))[which];
                if c < columns {
                    all[r * columns + c] = sum;
                }
            }
        }
        all
    }

    /// Adds what gates owe to both nodes, `owed` being ∂L/∂gate.
    fn add_through_gates(
        &self,
        (batch, head): (usize, usize),
        (queries, keys): (Range<usize>, Range<usize>),
        gates: &Gates<T>,
        owed: &Array2<f64>,
        (mut dq, mut dk): (ArrayViewMut2<'_, T>, ArrayViewMut2<'_, T>),
    ) {
        let scale = self.part.scale_of(head);
        let mut through = Array2::zeros(owed.dim());
        for (x, (&owed, &gate)) in through.iter_mut().zip(owed.iter().zip(&gates.gate)) {
            if gate != 0.0 {
                *x = T::of(owed * gate * (1.0 - gate) * scale);
            }
        }
        // A key that is not passed may hold anything.
        let finite = |x: &T| if x.is_finite() { *x } else { T::zero() };
        let q = self.q.slice(s![batch, head, queries, ..]).map(finite);
        let k = self.k.slice(s![batch, self.shape.key_head(head), keys, ..]).map(finite);
        dq += &through.dot(&k);
        dk += &through.t().dot(&q);
    }

    fn owed(&self) -> MutexGuard<'_, BTreeMap<[usize; 5], Vec<f64>>> {
        self.owed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Real> Distance<T> for Bound<'_, T> {
    fn name(&self) -> &'static str {
        Contextual::NAME
    }
    fn fill(&self, block: &Block, mut distances: TileMut<'_, f64>) {
        let all = self.beyond_each_key(block, 0);
        for (r, own) in all.chunks_exact(block.keys.len().max(1)).enumerate() {
            distances.row_mut(r).copy_from_slice(own);
        }
    }
    fn sees_ahead(&self) -> bool {
        false
    }
    fn parameters(&self) -> Vec<Parameter> {
        self.part.learnable()
    }
    fn accumulate_gradient(
        &self,
        block: &Block,
        gradient: Tile<'_, f64>,
        into: &mut [Accumulator<'_, T>],
    ) {
        let slopes = self.beyond_each_key(block, 1);
        let rows = slopes.chunks_exact(block.keys.len().max(1)).enumerate();
        let sum: f64 = rows
            .flat_map(|(r, own)| own.iter().zip(gradient.row(r)).filter(|(_, g)| **g != 0.0))
            .map(|(slope, g)| slope * g)
            .sum();
        let index = self.part.scale.as_ref().map_or(0, |scale| scale.index(block.head));
        into[0].add(index, sum);
    }
    fn accumulate_node_gradient(
        &self,
        block: &Block,
        gradient: Tile<'_, f64>,
        into: &mut NodeGradient<'_, T>,
    ) {
        let (rows, columns) = (block.queries.len(), block.keys.len());
        let (head, nodes) =
            ((block.batch, block.head), (block.queries.clone(), block.keys.clone()));
        // A gate is in the distances of all keys up to its own: those of the block here, and what they
        // owe to the gates after it at the end.
        let mut owed = Array2::zeros((rows, columns));
        let mut totals = vec![0.0; rows];
        for (r, total) in totals.iter_mut().enumerate() {
            for (c, &g) in gradient.row(r).iter().enumerate() {
                *total += g;
                owed[[r, c]] = *total;
            }
        }
        let gates = self.gates(head, nodes.0.clone(), nodes.1.clone());
        let width = self.shape.query_width;
        let dq = ArrayViewMut2::from_shape((rows, width), into.q).expect("one row per query");
        let dk = ArrayViewMut2::from_shape((columns, width), into.k).expect("one row per key");
        self.add_through_gates(head, nodes, &gates, &owed, (dq, dk));
        let place = [head.0, head.1, block.queries.start, block.keys.start, block.keys.end];
        self.owed().insert(place, totals);
    }
    fn finish_node_gradients(&self, mut q: ArrayViewMut4<'_, T>, mut k: ArrayViewMut4<'_, T>) {
        let owed = std::mem::take(&mut *self.owed());
        let shape = &self.shape;
        let group = shape.group().max(1);
        let mut tasks = Vec::new();
        for (batch, (q, k)) in q.outer_iter_mut().zip(k.outer_iter_mut()).enumerate() {
            let (mut q, mut k) = (q, k);
            for own in 0..shape.key_heads {
                let (dq, others) = q.split_at(Axis(0), group);
                let (dk, rest) = k.split_at(Axis(0), 1);
                tasks.push(((batch, own), dq, dk));
                (q, k) = (others, rest);
            }
        }
        tasks.into_par_iter().for_each(|((batch, own), mut dq, mut dk)| {
            for (index, mut dq) in dq.outer_iter_mut().enumerate() {
                let head = own * group + index;
                let all = [batch, head, 0, 0, 0]..[batch, head + 1, 0, 0, 0];
                // What every row owes to all gates from a key on.
                let mut starts: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
                for (&[.., first, _, end], totals) in owed.range(all) {
                    let rows = starts.entry(end).or_insert_with(|| vec![0.0; shape.queries]);
                    rows[first..].iter_mut().zip(totals).for_each(|(sum, total)| *sum += total);
                }
                for first in (0..shape.queries).step_by(QUERIES) {
                    let queries = first..(first + QUERIES).min(shape.queries);
                    for keys in (0..shape.keys).step_by(GROUP) {
                        let keys = keys..(keys + GROUP).min(shape.keys);
                        let mut own = Array2::zeros((queries.len(), keys.len()));
                        for (r, i) in queries.clone().enumerate() {
                            let before = starts.range(..=keys.start).map(|(_, rows)| rows[i]);
                            let mut sum: f64 = before.sum();
                            for (c, j) in keys.clone().enumerate() {
                                if c > 0 {
                                    sum += starts.get(&j).map_or(0.0, |rows| rows[i]);
                                }
                                own[[r, c]] = sum;
                            }
                        }
                        let gates = self.gates((batch, head), queries.clone(), keys.clone());
                        let into = (
                            dq.slice_mut(s![queries.clone(), ..]),
                            dk.slice_mut(s![0, keys.clone(), ..]),
                        );
                        let nodes = (queries.clone(), keys);
                        self.add_through_gates((batch, head), nodes, &gates, &own, into);
                    }
                }
            }
        });
    }
}
