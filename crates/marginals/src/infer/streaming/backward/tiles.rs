//! The backward pass over the tiles of one key head.

use std::ops::Range;

use marginals_kernels::{Aligned, InstructionSet, Panels, Store, Strided, Tile, TileMut, gemm};
use ndarray::{ArrayView2, ArrayViewMut2, ArrayViewMut4};

use super::super::blocks::{blocks, narrowed};
use super::super::heads::Care;
use super::super::logistic::absences;
use super::super::rule::{BackwardTile, RowRule, RowSlopes, Rule};
use super::coefficients::TableSlopes;
use super::tables::{Along, Centred, Table, along, set_of, without_garbage};
use super::task::Task;
use crate::gradient::Accumulator;
use crate::infer::Values as Destination;
use crate::infer::finding::at;
use crate::infer::statistic::EdgeFunction;
use crate::potential::{Features, Place};
use crate::prior::Coverage;
use crate::{Block, Error, Real};

/// Queries and keys per tile: several tiles are alive at once and share the second-level cache.
pub(crate) const QUERY_BLOCK: usize = 96;
/// See [`QUERY_BLOCK`].
const KEY_BLOCK: usize = 256;
/// Elements from one row of a tile to the next; see the forward pass's.
pub(super) const STRIDE: usize = KEY_BLOCK + 16;

/// One key head over a range of keys, collecting the gradients of its keys and values.
pub(super) struct HeadBackward<'a, 't, 'p, T: Real> {
    pub(super) task: &'a Task<'t, 'p, T>,
    /// Features as the scores are made of them.
    pub features: Features<'a, T>,
    /// Features as gradients are made of them, where that makes a difference.
    pub(super) clean: Option<Features<'a, T>>,
    /// By table of the request, the sets of values that the key head's query heads average.
    pub(super) tables: Vec<Vec<Table<'a, T>>>,
    pub(super) keys: Range<usize>,
    pub(super) care: Care,
    /// Gradient of the key features, row after row.
    pub(super) dk: &'a mut [T],
    /// Gradient of one head's query features, row after row.
    pub(super) dq: Aligned<T>,
    pub(super) scores: Aligned<T>,
    pub(super) quantity: Aligned<T>,
    pub(super) weights: Aligned<T>,
    pub(super) log_potential: Aligned<T>,
    pub(super) other: Aligned<T>,
    pub(super) quadratic: Aligned<T>,
    /// 1 − p, which p does not tell where it is near 1; of the tiles that `quadratic` is of.
    pub(super) absent: Aligned<T>,
    /// Gradients of the nodes through the prior, where it depends on them.
    pub(super) of_nodes: Option<OfNodes<T>>,
}

/// Gradients of the nodes themselves, beside those through features.
pub(super) struct OfNodes<T> {
    /// Of the queries of one head, row after row.
    pub(super) q: Vec<T>,
    /// Of the keys, row after row.
    pub(super) k: Vec<T>,
}

/// Upstream rows of one head's queries.
pub(super) struct Rows<'c, T> {
    /// Flat index of the head's first query.
    pub(super) first: usize,
    pub(super) tables: Vec<Along<'c, T>>,
}

impl<'a, 't, 'p, T: Real> HeadBackward<'a, 't, 'p, T> {
    pub fn new(
        task: &'a Task<'t, 'p, T>,
        (features, clean): (Features<'a, T>, Option<Features<'a, T>>),
        keys: Range<usize>,
        dk: &'a mut [T],
        care: Care,
    ) -> Self {
        let tile = |wanted: bool| Aligned::zeros(if wanted { QUERY_BLOCK * STRIDE } else { 0 });
        let (shape, reads_weights) = (&task.problem.shape, task.reads_weights());
        let spreads = task.coefficients.tables.iter().any(TableSlopes::is_centred);
        Self {
            dk,
            dq: Aligned::zeros(0),
            scores: tile(true),
            quantity: tile(true),
            weights: tile(reads_weights),
            log_potential: tile(task.problem.potential.reads_log_potential()),
            other: tile(true),
            quadratic: tile(spreads && task.has_many_edges()),
            absent: tile(spreads && task.has_many_edges()),
            of_nodes: task.problem.depends_on_nodes.is_some().then(|| OfNodes {
                q: vec![T::zero(); shape.queries * shape.query_width],
                k: vec![T::zero(); keys.len() * shape.key_width],
            }),
            tables: Vec::new(),
            task,
            features,
            clean,
            keys,
            care,
        }
    }

    /// Takes up the values that the query heads average, and where their gradients go: by table and set,
    /// none where the values are the keys.
    pub fn use_tables(
        &mut self,
        (batch, key_head): (usize, usize),
        gradients: Vec<Vec<Option<ArrayViewMut4<'a, T>>>>,
    ) {
        let (task, care, keys) = (self.task, self.care, self.keys.clone());
        let make = |index: usize, set: usize, gradient: Option<ArrayViewMut4<'a, T>>| {
            let values = &task.request.values[index].tensor;
            let slopes = &task.coefficients.tables[index];
            let reference = slopes.references.get(batch * values.dim().1 + set);
            let rows = values.rows((batch, set), keys.clone());
            let of_keys = task.of_values == Destination::Keys;
            Table::new(
                rows.view(),
                (slopes, reference.map(Vec::as_slice)),
                (of_keys, care),
                gradient,
            )
        };
        self.tables = (gradients.into_iter().enumerate())
            .map(|(index, sets)| {
                let first = key_head * sets.len();
                let sets = sets.into_iter().enumerate();
                match self.task.coefficients.tables[index].is_used() {
                    true => sets.map(|(set, into)| make(index, first + set, into)).collect(),
                    false => Vec::new(),
                }
            })
            .collect();
    }

    /// Gradient of the keys through the prior, row after row, where it depends on the nodes.
    pub fn into_gradient_of_keys(self) -> Option<Vec<T>> {
        self.of_nodes.map(|of_nodes| of_nodes.k)
    }

    /// Ends the gradients of the values: (v − r)² has slope 2 (v − r).
    pub fn finish_tables(&mut self) {
        for table in self.tables.iter_mut().flatten() {
            table.finish(self.dk);
        }
        self.tables.clear();
    }

    /// Adds what the queries of one head contribute, and writes the gradient of those queries.
    pub fn add_queries(
        &mut self,
        (batch, head): (usize, usize),
        mut into: ArrayViewMut2<'_, T>,
        learned: &mut [Accumulator<'_, T>],
        potential: &mut [Vec<f64>],
    ) -> Result<(), Error> {
        let problem = self.task.problem;
        let shape = &problem.shape;
        let place = Place { shape, batch, head, first: 0 };
        let raw = problem.q.rows((batch, head), 0..shape.queries);
        let (q, clean) = self.task.query_features(self.care, place, raw.view());
        let row = shape.head_number((batch, head)) * shape.queries;
        let task = self.task;
        let upstream = Rows {
            first: row,
            tables: (task.coefficients.tables.iter())
                .map(|table| along(table, row, shape.queries))
                .collect(),
        };
        if let Some(of_nodes) = &mut self.of_nodes {
            of_nodes.q.fill(T::zero());
        }
        self.dq.resize(shape.queries * q.depth());
        self.dq.fill(T::zero());
        let all = shape.block((batch, head), 0..shape.queries, self.keys.clone());
        let mut key_blocks: Vec<_> =
            blocks(self.keys.clone(), self.keys.start, KEY_BLOCK).collect();
        let last_first = task.is_in_order();
        if last_first {
            key_blocks.reverse();
        }
        let mut carry = vec![[T::zero(); 3]; if last_first { shape.queries } else { QUERY_BLOCK }];
        for keys in key_blocks {
            let live: Vec<(Block, Coverage)> = (0..shape.queries)
                .step_by(QUERY_BLOCK)
                .map(|first| Block {
                    queries: first..(first + QUERY_BLOCK).min(shape.queries),
                    keys: keys.clone(),
                    ..all.clone()
                })
                // Columns are normalised together where keys choose.
                .map(|block| match task.is_by_column() {
                    true => block,
                    false => narrowed(&*problem.prior, block, self.keys.start),
                })
                .map(|block| (problem.prior.coverage(&block), block))
                .filter(|(coverage, block)| *coverage != Coverage::Empty && !block.keys.is_empty())
                .map(|(coverage, block)| (block, coverage))
                .collect();
            let centre = self.column_centres(&live, &q, &upstream, &keys);
            // What the centres of a single block were made from is still there.
            let kept = self.task.is_linear_by_column() && live.len() == 1;
            for (block, coverage) in live {
                if !kept {
                    self.fill(&block, coverage, &q, &upstream);
                    if self.task.is_linear_by_column() {
                        self.normalise_columns(&block);
                    }
                }
                let own = if last_first { block.queries.clone() } else { 0..block.queries.len() };
                match task.rule {
                    Rule::Rows(rule) => {
                        self.differentiate(&block, &upstream, &**rule, &mut carry[own]);
                    }
                    Rule::Columns(_) => self.differentiate_by_column(&block, &centre),
                }
                let q = clean.as_ref().unwrap_or(&q);
                self.scatter(&block, q, &upstream, learned, potential)?;
            }
        }
        let gradient = ArrayView2::from_shape((shape.queries, q.depth()), &self.dq)
            .expect("one gradient per feature");
        let raw = without_garbage(self.care, raw);
        let (raw, through) = (raw.view(), into.view_mut());
        problem.potential.query_features_backward(place, raw, gradient, through, potential);
        if let Some(of_nodes) = &self.of_nodes {
            into.iter_mut().zip(&of_nodes.q).for_each(|(x, &g)| *x += g);
        }
        Ok(())
    }

    /// Makes θ (in `scores`) and f less its terms in log p (in `quantity`) over one block.
    pub(super) fn fill(
        &mut self,
        block: &Block,
        coverage: Coverage,
        q: &Features<'_, T>,
        upstream: &Rows<'_, T>,
    ) {
        let set = InstructionSet::detect();
        let (n, m) = (block.queries.len(), block.keys.len());
        let coefficients = &self.task.coefficients;
        let has_weights = !self.weights.is_empty();
        if has_weights {
            self.weights.fill(T::zero());
        }
        let weights = has_weights.then(|| TileMut::new(&mut self.weights, n, m, STRIDE));
        let copy = (!self.log_potential.is_empty())
            .then(|| TileMut::new(&mut self.log_potential, n, m, STRIDE));
        let scores = TileMut::new(&mut self.scores, n, m, STRIDE);
        let scorer = self.task.scorer();
        scorer.fill(block, coverage, (q, &self.features), scores, weights, copy);
        if self.care != Care::Fast {
            // Its slope is multiplied by a gradient, which is 0 where garbage takes no part.
            let garbage = self.log_potential.iter_mut().filter(|x| !x.is_finite());
            garbage.for_each(|x| *x = T::zero());
        }

        let own_head = (block.head, self.task.problem.shape.group());
        let mut f = TileMut::new(&mut self.quantity, n, m, STRIDE);
        let run = block.keys.start - self.keys.start..block.keys.end - self.keys.start;
        let product = |rows: &[T], panels: &Panels<T>, store, into: TileMut<'_, T>| {
            let width = rows.len() / self.task.problem.shape.queries.max(1);
            let data = &rows[block.queries.start * width..block.queries.end * width];
            let a = Strided { data, row_stride: width, depth_stride: 1 };
            gemm(set, store, a, panels, 0..width, run.clone(), into);
        };
        let mut store = Store::Overwrite;
        for (index, along) in upstream.tables.iter().enumerate() {
            let Some(set) = set_of(&self.tables, index, own_head) else { continue };
            let table = &self.tables[index][set];
            if let Some((rows, _)) = &along.plain {
                // Where they are the keys, the keys' own panels serve.
                let panels = table.across.as_ref().or(self.features.across());
                let panels = panels.expect("keys that are features are packed across");
                product(rows, panels, store, f.reborrow());
                store = Store::Add;
                table.add_spoiled(block, (rows, &run), |x| x, f.reborrow());
            }
        }
        if matches!(store, Store::Overwrite) {
            (0..n).for_each(|r| f.row_mut(r).fill(T::zero()));
        }
        let many_edges = self.task.has_many_edges();
        let mut first = true;
        for (index, along) in upstream.tables.iter().enumerate() {
            let Some(set) = set_of(&self.tables, index, own_head) else { continue };
            let Some(Centred { apart, squares: Some(squares), .. }) =
                &self.tables[index][set].centred
            else {
                continue;
            };
            let Some((rows, _)) = &along.squares else { continue };
            if many_edges {
                // Where a query may have several edges, Var = Σ p (1 − p) v² and d Var/dp =
                // (1 − 2p) v²: the p in it is known once scores are.
                let store = if first { Store::Overwrite } else { Store::Add };
                let mut quadratic = TileMut::new(&mut self.quadratic, n, m, STRIDE);
                product(rows, squares, store, quadratic.reborrow());
                self.tables[index][set].add_spoiled(block, (rows, &run), |x| x * x, quadratic);
                first = false;
                continue;
            }
            product(rows, squares, Store::Add, f.reborrow());
            if let Some((rows, _)) = &along.apart {
                product(rows, apart, Store::Add, f.reborrow());
            }
        }
        for (index, along) in upstream.tables.iter().enumerate() {
            let Some(set) = set_of(&self.tables, index, own_head) else { continue };
            let table = &self.tables[index][set];
            let slopes = &coefficients.tables[index];
            for (covariance, (rows, _)) in slopes.products.iter().zip(&along.products) {
                let centred = table.centred.as_ref().expect("values that vary are prepared");
                let mut on_edges = vec![T::zero(); n * m];
                let mut tile = TileMut::new(&mut on_edges, n, m, m);
                product(rows, &centred.apart, Store::Overwrite, tile.reborrow());
                table.add_spoiled(block, (rows, &run), |x| x, tile);
                let mut values = TileMut::new(&mut self.other, n, m, STRIDE);
                if many_edges {
                    covariance.function.fill(block, values.reborrow());
                    let mut into = TileMut::new(&mut self.quadratic, n, m, STRIDE);
                    for r in 0..n {
                        let pairs = values.row(r).iter().zip(&on_edges[r * m..]);
                        let into = into.row_mut(r).iter_mut().zip(pairs);
                        match first {
                            true => into.for_each(|(f, (&s, &x))| *f = s * x),
                            false => into.for_each(|(f, (&s, &x))| *f += s * x),
                        }
                    }
                    first = false;
                    continue;
                }
                covariance.function.fill_apart(block, values.reborrow());
                for (r, i) in block.queries.clone().enumerate() {
                    let of = |list: &[T]| list[upstream.first + i];
                    let (edge_mean, mean) = (of(&covariance.edge_means), of(&covariance.means));
                    let constant = of(&covariance.constants);
                    let pairs = f.row_mut(r).iter_mut().zip(values.row(r)).zip(&on_edges[r * m..]);
                    pairs.for_each(|((f, &s), &x)| *f += (s - edge_mean) * (x - mean) - constant);
                }
            }
        }
        // f multiplies p as what is gathered is weighted by it, which may be in a scale of its own.
        let scales = &self.task.finding.log_scale;
        let scale_of = |i: usize| at(scales, upstream.first + i).exp();
        if !coefficients.column.is_empty() {
            let shape = &self.task.problem.shape;
            let row = shape.head_number((block.batch, block.head)) * shape.keys;
            let column = &coefficients.column[row..][block.keys.clone()];
            for (r, i) in block.queries.clone().enumerate() {
                let scale = scale_of(i);
                f.row_mut(r).iter_mut().zip(column).for_each(|(f, &g)| *f += g * scale);
            }
        }
        if !coefficients.marginals.is_empty() {
            let keys = self.task.problem.shape.keys;
            for (r, i) in block.queries.clone().enumerate() {
                let own = &coefficients.marginals[(upstream.first + i) * keys..];
                let own = &own[block.keys.clone()];
                let scale = scale_of(i);
                f.row_mut(r).iter_mut().zip(own).for_each(|(f, &g)| *f += g * scale);
            }
        }
        for (function, slopes) in &coefficients.edges {
            let mut values = TileMut::new(&mut self.other, n, m, STRIDE);
            function.fill(block, values.reborrow());
            for (r, i) in block.queries.clone().enumerate() {
                let g = slopes[upstream.first + i];
                let pairs = f.row_mut(r).iter_mut().zip(values.row(r));
                pairs.for_each(|(f, &x)| *f += g * x);
            }
        }
        // Elsewhere the centre already holds it.
        if !coefficients.mass.is_empty() && !self.task.holds_mass_in_centre() {
            for (r, i) in block.queries.clone().enumerate() {
                let g = coefficients.mass[upstream.first + i];
                f.row_mut(r).iter_mut().for_each(|f| *f += g);
            }
        }
        if !coefficients.ratio.is_empty() && !self.task.is_in_order() {
            let largest = &self.task.finding.prior.max;
            for (r, i) in block.queries.clone().enumerate() {
                // Weights nobody reads are all 0, which is also the largest but for that of no edge.
                let factor = self.task.factor(block, i, 0);
                if !has_weights && largest[factor] == T::zero() {
                    continue;
                }
                let scale = scale_of(i);
                for (c, f) in f.row_mut(r).iter_mut().enumerate() {
                    let w = if has_weights { self.weights[r * STRIDE + c] } else { T::zero() };
                    let factor = self.task.factor(block, i, c);
                    let slope = coefficients.ratio[factor];
                    // An impossible edge has no mass for its infinite weight to act on.
                    if w != T::neg_infinity() && slope != T::zero() {
                        *f -= slope * (w - largest[factor]) * scale;
                    }
                }
            }
        }
    }

    /// Turns `scores` into ∂L/∂θ and `quantity` into p, where queries choose or edges vary one by one.
    fn differentiate(
        &mut self,
        block: &Block,
        upstream: &Rows<'_, T>,
        rule: &dyn RowRule<T>,
        carry: &mut [[T; 3]],
    ) {
        let (n, m) = (block.queries.len(), block.keys.len());
        let coefficients = &self.task.coefficients;
        let rows = upstream.first + block.queries.start..upstream.first + block.queries.end;
        fn own<'l, T>(list: &'l [T], rows: &Range<usize>) -> &'l [T] {
            list.get(rows.clone()).unwrap_or(&[])
        }
        let finding = self.task.finding;
        let slopes = RowSlopes {
            normalisers: coefficients.normalisers.run(rows.clone()),
            log_p: own(&coefficients.log_p, &rows),
            log_ratio: own(&coefficients.ratio, &rows),
            log_partition: own(&coefficients.partition, &rows),
            log_none: own(&coefficients.log_none, &rows),
            centre: own(&coefficients.centre, &rows),
            expected: own(&coefficients.expected, &rows),
            log_scale: own(&finding.log_scale, &rows),
        };
        if !self.absent.is_empty() {
            let mut absent = TileMut::new(&mut self.absent, n, m, STRIDE);
            for r in 0..n {
                absent.row_mut(r).copy_from_slice(&self.scores[r * STRIDE..][..m]);
            }
            absences(absent);
        }
        let quadratic =
            (!self.quadratic.is_empty()).then(|| Tile::new(&self.quadratic, n, m, STRIDE));
        let tile = BackwardTile {
            block,
            scores: TileMut::new(&mut self.scores, n, m, STRIDE),
            quantity: TileMut::new(&mut self.quantity, n, m, STRIDE),
            quadratic,
            weights: (!self.weights.is_empty()).then(|| Tile::new(&self.weights, n, m, STRIDE)),
            direct: self
                .task
                .learns_in_order()
                .then(|| TileMut::new(&mut self.other, n, m, STRIDE)),
        };
        rule.differentiate(tile, slopes, carry);
    }
}
