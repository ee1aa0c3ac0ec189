//! Where the gradients of a tile go: to what prior, values, functions of edges and potential are made of.

use marginals_kernels::{InstructionSet, Panels, Store, Strided, Tile, TileMut, gemm};

use super::super::rule::Rule;
use super::tables::{Along, set_of};
use super::tiles::{HeadBackward, OfNodes, Rows, STRIDE};
use crate::gradient::Accumulator;
use crate::infer::finding::{at, weighted};
use crate::infer::statistic::EdgeFunction;
use crate::potential::{FeatureGradient, Features};
use crate::prior::NodeGradient;
use crate::special::softplus;
use crate::{Block, Error, Real};

impl<T: Real> HeadBackward<'_, '_, '_, T> {
    /// Adds one block's gradients to where they belong.
    pub(super) fn scatter(
        &mut self,
        block: &Block,
        q: &Features<'_, T>,
        upstream: &Rows<'_, T>,
        learned: &mut [Accumulator<'_, T>],
        potential: &mut [Vec<f64>],
    ) -> Result<(), Error> {
        let set = InstructionSet::detect();
        let (n, m) = (block.queries.len(), block.keys.len());
        let run = block.keys.start - self.keys.start..block.keys.end - self.keys.start;
        let (of_prior, of_edges) = learned.split_at_mut(self.task.prior_parameters.len());
        if self.task.learns_prior() {
            self.scatter_prior(block, of_prior);
        }
        self.scatter_edges(block, upstream, of_edges);
        let queries = block.queries.clone();
        let own_head = (block.head, self.task.problem.shape.group());
        let add = |p: &[T], panels: &Panels<T>, into: &mut [T]| {
            let width = panels.columns();
            let into = &mut into[run.start * width..run.end * width];
            let into = TileMut::new(into, m, width, width);
            let p = transposed(p);
            gemm(set, Store::Add, p, panels, queries.clone(), 0..width, into);
        };
        for (index, along) in upstream.tables.iter().enumerate() {
            let Some(set) = set_of(&self.tables, index, own_head) else { continue };
            let into = match &mut self.tables[index][set].gradient {
                Some(gradient) => &mut **gradient,
                None => &mut *self.dk,
            };
            if let Some((_, panels)) = &along.plain {
                add(&self.quantity, panels, into);
            }
            if let Some((_, panels)) = &along.apart {
                add(&self.quantity, panels, into);
            }
        }
        let many_edges = self.task.has_many_edges();
        let vary = |along: &Along<'_, T>| along.squares.is_some() || !along.products.is_empty();
        if upstream.tables.iter().any(vary) {
            if many_edges {
                for start in (0..n).map(|r| r * STRIDE) {
                    let absent = &self.absent[start..start + m];
                    let row = &mut self.quantity[start..start + m];
                    row.iter_mut().zip(absent).for_each(|(p, &absent)| *p = weighted(*p, absent));
                }
            }
            for (index, along) in upstream.tables.iter().enumerate() {
                if let (Some((_, panels)), Some(set)) =
                    (&along.squares, set_of(&self.tables, index, own_head))
                {
                    add(&self.quantity, panels, &mut self.tables[index][set].d_square);
                }
            }
        }
        for (index, along) in upstream.tables.iter().enumerate() {
            for (product, (_, panels)) in along.products.iter().enumerate() {
                let covariance = &self.task.coefficients.tables[index].products[product];
                let mut values = TileMut::new(&mut self.other, n, m, STRIDE);
                match many_edges {
                    true => covariance.function.fill(block, values.reborrow()),
                    false => covariance.function.fill_apart(block, values.reborrow()),
                }
                for (r, i) in block.queries.clone().enumerate() {
                    let p = &self.quantity[r * STRIDE..][..m];
                    let edge_mean = at(&covariance.edge_means, upstream.first + i);
                    let pairs = values.row_mut(r).iter_mut().zip(p);
                    pairs.for_each(|(s, &p)| {
                        *s = if p == T::zero() { p } else { (*s - edge_mean) * p }
                    });
                }
                let Some(set) = set_of(&self.tables, index, own_head) else { continue };
                let into = match &mut self.tables[index][set].gradient {
                    Some(gradient) => &mut **gradient,
                    None => &mut *self.dk,
                };
                add(&self.other, panels, into);
            }
        }
        let keys = self.clean.as_ref().unwrap_or(&self.features);
        let (of_query, of_key) = (q.depth(), keys.depth());
        let values = (!self.log_potential.is_empty())
            .then(|| TileMut::new(&mut self.log_potential, n, m, STRIDE));
        self.task.problem.potential.backward(
            block,
            q,
            keys,
            values.as_ref().map(TileMut::as_tile),
            TileMut::new(&mut self.scores, n, m, STRIDE),
            &mut FeatureGradient {
                q: &mut self.dq[block.queries.start * of_query..block.queries.end * of_query],
                k: &mut self.dk[run.start * of_key..run.end * of_key],
                parameters: potential,
            },
        )
    }

    /// Gradients of what functions of edges are made of: p times their slopes.
    fn scatter_edges(
        &mut self,
        block: &Block,
        upstream: &Rows<'_, T>,
        learned: &mut [Accumulator<'_, T>],
    ) {
        if learned.is_empty() {
            return;
        }
        let (n, m) = (block.queries.len(), block.keys.len());
        let mut rest = learned;
        let mut add = |function: &dyn EdgeFunction<T>, tile: Tile<'_, T>| {
            let (own, after) = std::mem::take(&mut rest).split_at_mut(function.parameters().len());
            rest = after;
            if !own.is_empty() {
                function.accumulate_gradient(block, tile, own);
            }
        };
        let coefficients = &self.task.coefficients;
        for (function, slopes) in &coefficients.edges {
            let mut tile = TileMut::new(&mut self.other, n, m, STRIDE);
            for (r, i) in block.queries.clone().enumerate() {
                let g = slopes[upstream.first + i];
                let p = &self.quantity[r * STRIDE..][..m];
                tile.row_mut(r).iter_mut().zip(p).for_each(|(x, &p)| *x = p * g);
            }
            add(*function, tile.as_tile());
        }
        let run = block.keys.start - self.keys.start..block.keys.end - self.keys.start;
        let own_head = (block.head, self.task.problem.shape.group());
        for (index, along) in upstream.tables.iter().enumerate() {
            let Some(set) = set_of(&self.tables, index, own_head) else { continue };
            let table = &self.tables[index][set];
            let slopes = &coefficients.tables[index];
            for (covariance, (rows, _)) in slopes.products.iter().zip(&along.products) {
                let centred = table.centred.as_ref().expect("values that vary are prepared");
                let width = slopes.width;
                let data = &rows[block.queries.start * width..block.queries.end * width];
                let a = Strided { data, row_stride: width, depth_stride: 1 };
                let mut tile = TileMut::new(&mut self.other, n, m, STRIDE);
                let set = InstructionSet::detect();
                let into = tile.reborrow();
                gemm(set, Store::Overwrite, a, &centred.apart, 0..width, run.clone(), into);
                for (r, i) in block.queries.clone().enumerate() {
                    let mean = at(&covariance.means, upstream.first + i);
                    let p = &self.quantity[r * STRIDE..][..m];
                    let pairs = tile.row_mut(r).iter_mut().zip(p);
                    pairs.for_each(|(x, &p)| *x = weighted(p, *x - mean));
                    // Where edges vary one by one, p (1 − p).
                    if let Some(absent) = self.absent.get(r * STRIDE..r * STRIDE + m) {
                        let pairs = tile.row_mut(r).iter_mut().zip(absent);
                        pairs.for_each(|(x, &absent)| *x = weighted(absent, *x));
                    }
                }
                add(covariance.function, tile.as_tile());
            }
        }
    }

    /// ∂L/∂log w = ∂L/∂θ + (KL's and log Z(log w)'s) π − KL's p.
    fn scatter_prior(&mut self, block: &Block, prior: &mut [Accumulator<'_, T>]) {
        let (n, m) = (block.queries.len(), block.keys.len());
        let coefficients = &self.task.coefficients;
        let finding = self.task.finding;
        let many_edges = matches!(self.task.rule, Rule::Rows(rule) if rule.has_many_edges());
        let gradient = if self.task.learns_in_order() {
            let mut all = TileMut::new(&mut self.other, n, m, STRIDE);
            for r in 0..n {
                let own = &self.scores[r * STRIDE..][..m];
                all.row_mut(r).iter_mut().zip(own).for_each(|(g, &own)| *g += own);
            }
            all
        } else if coefficients.prior.is_empty() || self.task.is_in_order() {
            TileMut::new(&mut self.scores, n, m, STRIDE)
        } else {
            for (r, i) in block.queries.clone().enumerate() {
                let shape = &self.task.problem.shape;
                let query = shape.head_number((block.batch, block.head)) * shape.queries + i;
                let scale = at(&finding.log_scale, query).exp();
                for c in 0..m {
                    let at = r * STRIDE + c;
                    let factor = self.task.factor(block, i, c);
                    let w = self.weights[at];
                    let pi = match (w == T::neg_infinity(), many_edges) {
                        (true, _) => T::zero(),
                        (false, true) => (-softplus(-w)).exp(),
                        (false, false) => finding.prior.log_p(factor, w).exp(),
                    };
                    let mut g = self.scores[at];
                    let slope = coefficients.prior[factor];
                    if slope != T::zero() {
                        g += slope * pi;
                    }
                    if let Some(&kl) = coefficients.ratio.get(factor)
                        && kl != T::zero()
                    {
                        g -= kl * self.quantity[at] * scale;
                    }
                    self.other[at] = g;
                }
            }
            TileMut::new(&mut self.other, n, m, STRIDE)
        };
        let of_prior = &self.task.problem.prior;
        if !prior.is_empty() {
            of_prior.accumulate_gradient(block, gradient.as_tile(), prior);
        }
        if let Some(OfNodes { q, k }) = &mut self.of_nodes {
            let shape = &self.task.problem.shape;
            let q = &mut q[block.queries.start * shape.query_width..];
            let k = &mut k[(block.keys.start - self.keys.start) * shape.key_width..];
            let mut into = NodeGradient {
                q: &mut q[..n * shape.query_width],
                k: &mut k[..m * shape.key_width],
            };
            of_prior.accumulate_node_gradient(block, gradient.as_tile(), &mut into);
        }
    }
}

/// A tile, read as its transpose.
fn transposed<T>(data: &[T]) -> Strided<'_, T> {
    Strided { data, row_stride: 1, depth_stride: STRIDE }
}
