//! The backward pass over the tiles of one key head.

use std::ops::Range;

use marginals_kernels::{
    Aligned, InstructionSet, Panels, Store, Strided, TileMut, dot_columns, exp_columns, gemm,
    softmax_backward,
};
use ndarray::{ArrayView2, ArrayViewMut2, ArrayViewMut4, CowArray, Ix2, s};

use super::super::by_query::fill_distance;
use super::super::{blocks, narrowed};
use super::{Task, Values as Destination};
use crate::gradient::Accumulator;
use crate::model::structure::Factorisation;
use crate::potential::{FeatureGradient, Features, Place};
use crate::prior::Coverage;
use crate::{Block, Error, Real, tensor};

/// Queries and keys per tile: several tiles are alive at once and share the second-level cache.
pub(crate) const QUERY_BLOCK: usize = 96;
/// See [`QUERY_BLOCK`].
const KEY_BLOCK: usize = 256;
/// Elements from one row of a tile to the next; see the forward pass's.
const STRIDE: usize = KEY_BLOCK + 16;

/// One key head over a range of keys, collecting the gradients of its keys and values.
pub(super) struct HeadBackward<'a, 't, 'p, T: Real> {
    task: &'a Task<'t, 'p, T>,
    pub features: Features<'a, T>,
    values: Option<Values<'a, T>>,
    keys: Range<usize>,
    /// Gradient of the key features, row after row.
    dk: &'a mut [T],
    /// Σ p · (coefficient of v²), row after row.
    d_square: Aligned<T>,
    /// Gradient of one head's query features, row after row.
    dq: Aligned<T>,
    scores: Aligned<T>,
    quantity: Aligned<T>,
    weights: Aligned<T>,
    log_potential: Aligned<T>,
    other: Aligned<T>,
}

impl<'a, 't, 'p, T: Real> HeadBackward<'a, 't, 'p, T> {
    pub fn new(
        task: &'a Task<'t, 'p, T>,
        features: Features<'a, T>,
        keys: Range<usize>,
        dk: &'a mut [T],
    ) -> Self {
        let tile = |wanted: bool| Aligned::zeros(if wanted { QUERY_BLOCK * STRIDE } else { 0 });
        let reads_weights = task.reads_weights();
        Self {
            dk,
            d_square: Aligned::zeros(0),
            dq: Aligned::zeros(0),
            scores: tile(true),
            quantity: tile(true),
            weights: tile(reads_weights),
            log_potential: tile(task.posterior.potential.reads_log_potential()),
            other: tile(true),
            task,
            features,
            values: None,
            keys,
        }
    }

    /// Takes up the values that the query heads added next average, and where their gradient goes.
    pub fn use_values(
        &mut self,
        values: Option<ArrayView2<'a, T>>,
        gradient: Option<ArrayViewMut4<'a, T>>,
    ) {
        let set = InstructionSet::detect();
        let coefficients = &self.task.coefficients;
        let squared = !coefficients.second.is_empty();
        let used = !coefficients.mean.is_empty() || squared;
        let across = |rows: ArrayView2<'_, T>| {
            let (count, width) = rows.dim();
            let data = rows.to_slice().expect("contiguous rows");
            Panels::pack(set, data, width, 1, count, width)
        };
        let apart = self.task.of_values == Destination::Apart;
        self.values = values.filter(|_| used).map(|rows| {
            let rows = tensor::contiguous(rows);
            let squares = squared.then(|| across(rows.mapv(|x| x * x).view()));
            let across = apart.then(|| across(rows.view()));
            let contiguous = "a gradient of contiguous rows";
            let gradient = gradient.map(|gradient| gradient.into_slice().expect(contiguous));
            Values { across, squares, rows, gradient }
        });
        let size = self.values.as_ref().filter(|_| squared).map_or(0, |v| v.rows.len());
        self.d_square.resize(size);
        self.d_square.fill(T::zero());
    }

    /// Ends the gradient of the values taken up last: v² has slope 2 v.
    pub fn finish_values(&mut self) {
        let Some(Values { rows, gradient: Some(gradient), .. }) = &mut self.values else { return };
        let pairs = gradient.iter_mut().zip(&*self.d_square).zip(&*rows);
        pairs.for_each(|((g, &s), &x)| *g += (s + s) * x);
    }

    /// Adds what the queries of one head contribute, and writes the gradient of those queries.
    pub fn add_queries(
        &mut self,
        (batch, head): (usize, usize),
        into: ArrayViewMut2<'_, T>,
        prior: &mut [Accumulator<'_, T>],
        potential: &mut [Vec<f64>],
    ) -> Result<(), Error> {
        let posterior = self.task.posterior;
        let shape = &posterior.shape;
        let set = InstructionSet::detect();
        let place = Place { shape, batch, head, first: 0 };
        let raw = tensor::contiguous(posterior.q.slice(s![batch, head, .., ..]));
        let mut q = Features::new(posterior.potential.query_features(place, raw.view()), 0);
        if posterior.potential.is_product() {
            q = q.packed_along();
        }
        let row = (batch * shape.heads + head) * shape.queries;
        let width = self.values.as_ref().map_or(0, |v| v.rows.ncols());
        let task = self.task;
        let along = |list: &'a [T]| {
            let own = list.get(row * width..(row + shape.queries) * width);
            own.filter(|own| !own.is_empty())
                .map(|own| (own, Panels::pack(set, own, shape.queries, width, width, 1)))
        };
        let upstream = Rows {
            first: row,
            width,
            mean: along(&task.coefficients.mean),
            second: along(&task.coefficients.second),
        };
        self.dq.resize(shape.queries * q.depth());
        self.dq.fill(T::zero());
        let all = Block {
            batch,
            head,
            queries: 0..shape.queries,
            keys: self.keys.clone(),
            positions: shape.positions(),
        };
        for keys in blocks(self.keys.clone(), self.keys.start, KEY_BLOCK) {
            let live: Vec<(Block, Coverage)> = (0..shape.queries)
                .step_by(QUERY_BLOCK)
                .map(|first| Block {
                    queries: first..(first + QUERY_BLOCK).min(shape.queries),
                    keys: keys.clone(),
                    ..all.clone()
                })
                // Columns are normalised together where keys choose.
                .map(|block| match self.task.per_key() {
                    true => block,
                    false => narrowed(posterior.prior, block, self.keys.start),
                })
                .map(|block| (posterior.prior.coverage(&block), block))
                .filter(|(coverage, block)| *coverage != Coverage::Empty && !block.keys.is_empty())
                .map(|(coverage, block)| (block, coverage))
                .collect();
            let centre = self.column_centres(&live, &q, &upstream, &keys);
            // What the centres of a single block were made from is still there.
            let kept = self.task.linear_by_key() && live.len() == 1;
            for (block, coverage) in live {
                if !kept {
                    self.fill(&block, coverage, &q, &upstream);
                    if self.task.linear_by_key() {
                        self.normalise_columns(&block);
                    }
                }
                self.differentiate(&block, &upstream, &centre);
                self.scatter(&block, &q, &upstream, prior, potential)?;
            }
        }
        let gradient = ArrayView2::from_shape((shape.queries, q.depth()), &self.dq)
            .expect("one gradient per feature");
        let raw = raw.view();
        posterior.potential.query_features_backward(place, raw, gradient, into, potential);
        Ok(())
    }

    /// Makes θ (in `scores`) and f less its terms in log p (in `quantity`) over one block.
    fn fill(
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
        let scorer = self.task.posterior.scorer();
        scorer.fill(block, coverage, (q, &self.features), scores, weights, copy);

        let mut f = TileMut::new(&mut self.quantity, n, m, STRIDE);
        let run = block.keys.start - self.keys.start..block.keys.end - self.keys.start;
        let width = upstream.width;
        let product = |rows: &[T], panels: &Panels<T>, store, into: TileMut<'_, T>| {
            let data = &rows[block.queries.start * width..block.queries.end * width];
            let a = Strided { data, row_stride: width, depth_stride: 1 };
            gemm(set, store, a, panels, 0..width, run.clone(), into);
        };
        match (&upstream.mean, &self.values) {
            (Some((rows, _)), Some(Values { across, .. })) => {
                // Where they are the keys, the keys' own panels serve.
                let panels = across.as_ref().or(self.features.across());
                let panels = panels.expect("keys that are features are packed across");
                product(rows, panels, Store::Overwrite, f.reborrow());
            }
            _ => (0..n).for_each(|r| f.row_mut(r).fill(T::zero())),
        }
        let per_query = self.task.per_query();
        if let (Some((rows, _)), Some(Values { squares: Some(squares), .. }), true) =
            (&upstream.second, &self.values, per_query)
        {
            product(rows, squares, Store::Add, f.reborrow());
        }
        if !coefficients.column.is_empty() {
            let keys = self.task.posterior.shape.keys;
            let shape = &self.task.posterior.shape;
            let row = (block.batch * shape.heads + block.head) * keys;
            let column = &coefficients.column[row..][block.keys.clone()];
            for r in 0..n {
                f.row_mut(r).iter_mut().zip(column).for_each(|(f, &g)| *f += g);
            }
        }
        if !coefficients.distance.is_empty() {
            let mut distance = TileMut::new(&mut self.other, n, m, STRIDE);
            fill_distance(block, distance.reborrow());
            for (r, i) in block.queries.clone().enumerate() {
                let g = coefficients.distance[upstream.first + i];
                let pairs = f.row_mut(r).iter_mut().zip(distance.row(r));
                pairs.for_each(|(f, &d)| *f += g * d);
            }
        }
        if let (Some(functions), false) = (self.task.functions, coefficients.functions.is_empty()) {
            let count = functions.count();
            for index in 0..count {
                let mut values = TileMut::new(&mut self.other, n, m, STRIDE);
                functions.fill(index, block, values.reborrow());
                for (r, i) in block.queries.clone().enumerate() {
                    let g = coefficients.functions[(upstream.first + i) * count + index];
                    let pairs = f.row_mut(r).iter_mut().zip(values.row(r));
                    pairs.for_each(|(f, &x)| *f += g * x);
                }
            }
        }
        // Elsewhere the centre already holds it.
        if !coefficients.mass.is_empty() && !per_query {
            for (r, i) in block.queries.clone().enumerate() {
                let g = coefficients.mass[upstream.first + i];
                f.row_mut(r).iter_mut().for_each(|f| *f += g);
            }
        }
        if !coefficients.kl.is_empty() && has_weights {
            let weights = TileMut::new(&mut self.weights, n, m, STRIDE);
            for (r, i) in block.queries.clone().enumerate() {
                for ((c, f), &w) in f.row_mut(r).iter_mut().enumerate().zip(weights.row(r)) {
                    // An impossible edge has no mass for its infinite weight to act on.
                    if w != T::neg_infinity() {
                        *f -= coefficients.kl[self.task.factor(block, i, c)] * w;
                    }
                }
            }
        }
        // Where a query may have several edges, Var = Σ p (1 − p) v² and d Var/dp = (1 − 2p) v²:
        // the p in it is known once scores are, so `differentiate` finishes it from `other`.
        if let (Some((rows, _)), Some(Values { squares: Some(squares), .. }), false) =
            (&upstream.second, &self.values, per_query)
        {
            product(rows, squares, Store::Overwrite, TileMut::new(&mut self.other, n, m, STRIDE));
        }
    }

    /// p and log p of one edge.
    fn log_p(&self, block: &Block, i: usize, c: usize, score: T) -> (T, T) {
        if score == T::neg_infinity() {
            return (T::zero(), T::zero());
        }
        let log_p = match self.task.posterior.factorisation {
            Factorisation::PerEdge => {
                let low = (-score.abs()).exp().ln_1p();
                if score < T::zero() { score - low } else { -low }
            }
            _ => self.task.normalisers.log_p(self.task.factor(block, i, c), score),
        };
        (log_p.exp(), log_p)
    }

    /// f with every term, of one edge (not where queries choose: there the kernel does it).
    fn full_f(&self, block: &Block, (r, i): (usize, usize), c: usize, (p, log_p): (T, T)) -> T {
        let at = r * STRIDE + c;
        let coefficients = &self.task.coefficients;
        let mut f = self.quantity[at];
        if !coefficients.second.is_empty() {
            f += (T::one() - p - p) * self.other[at];
        }
        if !coefficients.log_p.is_empty() && self.task.per_key() {
            f += coefficients.log_p[self.task.factor(block, i, c)] * log_p;
        }
        f
    }

    /// Σ_i p_ij f_ij of the keys of one block, where keys choose; needs every query first.
    fn column_centres(
        &mut self,
        live: &[(Block, Coverage)],
        q: &Features<'_, T>,
        upstream: &Rows<'_, T>,
        keys: &Range<usize>,
    ) -> Vec<T> {
        if !self.task.per_key() {
            return Vec::new();
        }
        let mut centre = vec![T::zero(); keys.len()];
        let set = InstructionSet::detect();
        for (block, coverage) in live {
            self.fill(block, *coverage, q, upstream);
            if self.task.linear_by_key() {
                self.normalise_columns(block);
                let (n, m) = (block.queries.len(), block.keys.len());
                let p = TileMut::new(&mut self.scores, n, m, STRIDE);
                let f = TileMut::new(&mut self.quantity, n, m, STRIDE);
                dot_columns(set, p.as_tile(), f.as_tile(), &mut centre);
                continue;
            }
            for (r, i) in block.queries.clone().enumerate() {
                for (c, centre) in centre.iter_mut().enumerate() {
                    let score = self.scores[r * STRIDE + c];
                    let (p, log_p) = self.log_p(block, i, c, score);
                    if p != T::zero() {
                        *centre += p * self.full_f(block, (r, i), c, (p, log_p));
                    }
                }
            }
        }
        centre
    }

    /// Turns `scores` from θ into p, where keys choose.
    fn normalise_columns(&mut self, block: &Block) {
        let (n, m) = (block.queries.len(), block.keys.len());
        let factor = self.task.factor(block, block.queries.start, 0);
        let normalisers = self.task.normalisers.run(factor..factor + m);
        let scores = TileMut::new(&mut self.scores, n, m, STRIDE);
        exp_columns(InstructionSet::detect(), scores, normalisers);
    }

    /// The same as [`differentiate`](Self::differentiate) where `scores` holds p already.
    fn differentiate_columns(&mut self, block: &Block, centre: &[T]) {
        let (n, m) = (block.queries.len(), block.keys.len());
        let factor = self.task.factor(block, block.queries.start, 0);
        let partition = &self.task.coefficients.partition[factor..factor + m];
        let (scores, quantity) = (&mut self.scores, &mut self.quantity);
        InstructionSet::detect().run(
            #[inline(always)]
            || {
                for start in (0..n).map(|r| r * STRIDE) {
                    let scores = &mut scores[start..start + m];
                    let quantity = &mut quantity[start..start + m];
                    let columns = centre.iter().zip(partition);
                    for ((score, f), (&centre, &partition)) in
                        scores.iter_mut().zip(quantity).zip(columns)
                    {
                        let p = *score;
                        let gradient = p * (*f - centre + partition);
                        // f of an impossible edge may be anything.
                        *score = if p == T::zero() { p } else { gradient };
                        *f = p;
                    }
                }
            },
        );
    }

    /// Turns `scores` into ∂L/∂θ and `quantity` into p.
    fn differentiate(&mut self, block: &Block, upstream: &Rows<'_, T>, centre: &[T]) {
        let (n, m) = (block.queries.len(), block.keys.len());
        let coefficients = &self.task.coefficients;
        if self.task.per_query() {
            let rows = upstream.first + block.queries.start..upstream.first + block.queries.end;
            softmax_backward(
                InstructionSet::detect(),
                TileMut::new(&mut self.scores, n, m, STRIDE),
                TileMut::new(&mut self.quantity, n, m, STRIDE),
                self.task.normalisers.run(rows.clone()),
                coefficients.log_p.get(rows.clone()).filter(|list| !list.is_empty()),
                &coefficients.centre[rows],
            );
            return;
        }
        if self.task.linear_by_key() {
            return self.differentiate_columns(block, centre);
        }
        for (r, i) in block.queries.clone().enumerate() {
            for (c, &centre) in (0..m).zip(centre.iter().chain(std::iter::repeat(&T::zero()))) {
                let at = r * STRIDE + c;
                let score = self.scores[at];
                let (p, log_p) = self.log_p(block, i, c, score);
                let factor = self.task.factor(block, i, c);
                let gradient = if p == T::zero() {
                    p
                } else if self.task.per_key() {
                    let f = self.full_f(block, (r, i), c, (p, log_p));
                    p * (f - centre + coefficients.partition[factor])
                } else {
                    // log p − log(1 − p) = θ: entropy and KL of an edge have slope in θ itself.
                    let mut f = self.full_f(block, (r, i), c, (p, log_p));
                    if let Some(&g) = coefficients.log_p.get(factor) {
                        f += g * score;
                    }
                    let absent = (log_p - score).exp();
                    let varying = if absent == T::zero() { absent } else { absent * f };
                    p * (varying + coefficients.partition[factor])
                };
                self.scores[at] = gradient;
                self.quantity[at] = p;
            }
        }
    }

    /// Adds one block's gradients to where they belong.
    #[allow(clippy::too_many_arguments, reason = "one argument per thing that is added to")]
    fn scatter(
        &mut self,
        block: &Block,
        q: &Features<'_, T>,
        upstream: &Rows<'_, T>,
        prior: &mut [Accumulator<'_, T>],
        potential: &mut [Vec<f64>],
    ) -> Result<(), Error> {
        let set = InstructionSet::detect();
        let (n, m) = (block.queries.len(), block.keys.len());
        let width = upstream.width;
        let run = block.keys.start - self.keys.start..block.keys.end - self.keys.start;
        let span = run.start * width..run.end * width;

        if !prior.is_empty() {
            self.scatter_prior(block, prior);
        }
        if let (Some((_, panels)), Some(values)) = (&upstream.mean, &mut self.values) {
            let into = match &mut values.gradient {
                Some(gradient) => &mut gradient[span.clone()],
                None => &mut self.dk[span.clone()],
            };
            let into = TileMut::new(into, m, width, width);
            let p = transposed(&self.quantity);
            gemm(set, Store::Add, p, panels, block.queries.clone(), 0..width, into);
        }
        if let Some((_, panels)) = &upstream.second {
            if !self.task.per_query() {
                self.quantity[..n * STRIDE].iter_mut().for_each(|p| *p *= T::one() - *p);
            }
            let into = TileMut::new(&mut self.d_square[span], m, width, width);
            let p = transposed(&self.quantity);
            gemm(set, Store::Add, p, panels, block.queries.clone(), 0..width, into);
        }
        let (of_query, of_key) = (q.depth(), self.features.depth());
        let values = (!self.log_potential.is_empty())
            .then(|| TileMut::new(&mut self.log_potential, n, m, STRIDE));
        self.task.posterior.potential.backward(
            block,
            q,
            &self.features,
            values.as_ref().map(TileMut::as_tile),
            TileMut::new(&mut self.scores, n, m, STRIDE),
            &mut FeatureGradient {
                q: &mut self.dq[block.queries.start * of_query..block.queries.end * of_query],
                k: &mut self.dk[run.start * of_key..run.end * of_key],
                parameters: potential,
            },
        )
    }

    /// ∂L/∂log w = ∂L/∂θ + (KL's − evidence's) π − KL's p.
    fn scatter_prior(&mut self, block: &Block, prior: &mut [Accumulator<'_, T>]) {
        let (n, m) = (block.queries.len(), block.keys.len());
        let coefficients = &self.task.coefficients;
        let gradient = if coefficients.prior.is_empty() {
            TileMut::new(&mut self.scores, n, m, STRIDE)
        } else {
            for (r, i) in block.queries.clone().enumerate() {
                for c in 0..m {
                    let at = r * STRIDE + c;
                    let factor = self.task.factor(block, i, c);
                    let w = self.weights[at];
                    let normaliser = match self.task.posterior.factorisation {
                        Factorisation::PerEdge => super::super::by_query::softplus(w),
                        _ => self.task.prior_log_partition[factor],
                    };
                    let pi = match w == T::neg_infinity() {
                        true => T::zero(),
                        false => (w - normaliser).exp(),
                    };
                    let mut g = self.scores[at] + coefficients.prior[factor] * pi;
                    if let Some(&kl) = coefficients.kl.get(factor) {
                        g -= kl * self.quantity[at];
                    }
                    self.other[at] = g;
                }
            }
            TileMut::new(&mut self.other, n, m, STRIDE)
        };
        self.task.posterior.prior.accumulate_gradient(block, gradient.as_tile(), prior);
    }
}

/// A tile, read as its transpose.
fn transposed<T>(data: &[T]) -> Strided<'_, T> {
    Strided { data, row_stride: 1, depth_stride: STRIDE }
}

/// Values of a run of keys: themselves, and with their squares packed across, for f.
struct Values<'a, T: Real> {
    rows: CowArray<'a, T, Ix2>,
    /// Absent where they are the keys.
    across: Option<Panels<T>>,
    squares: Option<Panels<T>>,
    /// Σ p · (coefficient of v), row after row: their gradient, but for the squares' part. Absent
    /// where they are the keys: it is added to theirs.
    gradient: Option<&'a mut [T]>,
}

/// Upstream rows of one head's queries, plain and packed along the queries.
struct Rows<'c, T> {
    /// Flat index of the head's first query.
    first: usize,
    /// Numbers per value.
    width: usize,
    mean: Option<(&'c [T], Panels<T>)>,
    second: Option<(&'c [T], Panels<T>)>,
}

impl<T: Real> Task<'_, '_, T> {
    fn per_query(&self) -> bool {
        matches!(self.posterior.factorisation, Factorisation::PerQuery { .. })
    }

    fn per_key(&self) -> bool {
        matches!(self.posterior.factorisation, Factorisation::PerKey)
    }

    /// Whether keys choose and f has no term in their own probabilities, so that whole columns are
    /// differentiated at a time.
    fn linear_by_key(&self) -> bool {
        let coefficients = &self.coefficients;
        self.per_key() && coefficients.log_p.is_empty() && coefficients.second.is_empty()
    }

    /// Whether log w is read apart from the scores.
    fn reads_weights(&self) -> bool {
        let learned = !self.prior_parameters.is_empty();
        let kl = !self.coefficients.kl.is_empty() && !self.posterior.prior.is_mask();
        kl || (learned && !self.coefficients.prior.is_empty())
    }

    /// Flat index of the factor that edge (query `i`, column `c` of `block`) belongs to.
    #[inline(always)]
    fn factor(&self, block: &Block, i: usize, c: usize) -> usize {
        let shape = &self.posterior.shape;
        let head = block.batch * shape.heads + block.head;
        match self.per_key() {
            true => head * shape.keys + block.keys.start + c,
            false => head * shape.queries + i,
        }
    }
}
