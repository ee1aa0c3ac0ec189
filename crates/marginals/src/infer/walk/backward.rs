//! The backward of Horner's rule.

use ndarray::{Array2, Array4, ArrayView2, Axis, Zip, s};

use super::WalkPass;
use super::horner::Keep;
use super::question::{Along, WalkRequest};
use crate::infer::exact::{self, Gradients, Request, Upstream};
use crate::{Error, ParameterGradient, Real};

/// Gradients of the loss in what a walk adds to its one-step model.
struct WalkGradients<T> {
    /// In P(h), one row per row of P(h).
    probability: Array2<f64>,
    /// In P(hops > h).
    further: Array2<f64>,
    /// In the values.
    v: Option<Array4<T>>,
    /// In the quantities of one pick, [B, H, N, quantities].
    per_pick: Array4<T>,
}

impl<'v, T: Real> WalkPass<'_, '_, 'v, T> {
    /// Gradients of a loss whose gradients with respect to the answers are `upstream`: of the mean,
    /// the entropy, the KL and the expected distance, asked before or not.
    ///
    /// With G_0 the upstream gradient and G_h+1 = Pᵀ G_h, the rule S_h = P(h) V + P S_h+1 gives
    ///
    /// ```text
    /// ∂L/∂P(h) = ⟨G_h, V⟩,    ∂L/∂V = Σ_h P(h) G_h,    ∂L/∂P = Σ_h G_h S_h+1ᵀ,
    /// ```
    ///
    /// and P is never written down: its gradient goes to q, k and the parameters through the
    /// backward of one step. `parameters` holds `walk.weights` or `walk.log-weights`, as they were
    /// given, then those of the one-step model. A weight of 0 is differentiated from the right,
    /// except that the entropy of the number of hops, which is infinitely steep there, is left out;
    /// a log-weight of −∞ has gradient 0.
    ///
    /// Cost: H backward passes of one step; O(B H N D) memory beside the products kept.
    pub fn backward(&self, upstream: &Upstream<'_, T>) -> Result<Gradients<T>, Error> {
        self.check_upstream(upstream)?;
        let missing = |q: &Along| q.upstream(upstream).is_some() && !self.request.along.contains(q);
        if Along::ALL.iter().any(missing) {
            let mut wanted = WalkRequest::default();
            let asked = Along::ALL.into_iter().filter(|q| q.upstream(upstream).is_some());
            asked.for_each(|quantity| wanted.sum_along(quantity));
            if let (Some(v), Some(_)) = (&self.request.values.values, &upstream.mean) {
                wanted.values = Request::mean_of(v.view());
            }
            return WalkPass::new(self.posterior, wanted, Keep::Products)?.propagate(upstream);
        }
        self.propagate(upstream)
    }

    fn propagate(&self, upstream: &Upstream<'_, T>) -> Result<Gradients<T>, Error> {
        let walk = self.posterior.walk;
        let one_step = &self.posterior.one_step;
        let hops = walk.hops();
        let rows = walk.probabilities().nrows();
        let mut own = WalkGradients {
            probability: Array2::zeros((rows, hops + 1)),
            further: Array2::zeros((rows, hops)),
            v: self.request.values.values.as_ref().map(|v| Array4::zeros(v.raw_dim())),
            per_pick: Array4::zeros(self.per_pick.raw_dim()),
        };
        let mut summary = self.summary.clone();
        let mut total: Option<Gradients<T>> = None;
        let mut g = self.join(upstream);
        for hop in 0..hops {
            self.read(hop, &g, &mut own);
            let product = self.products.get(hop + 1).cloned().unwrap_or_else(|| self.nothing());
            let state = self.state(hop + 1, product);
            let request = Request::mean_of(state.view());
            summary.mean.clear();
            summary.mean.extend(self.products[hop].iter().copied());
            let mut of_step = Upstream { mean: Some(g.view()), ..Upstream::default() };
            if hop + 1 == hops {
                // What every pick adds along the way is one gradient by now.
                for (column, quantity) in self.request.along.iter().enumerate() {
                    let e = own.per_pick.index_axis(Axis(3), column);
                    quantity.set_upstream(&mut of_step, e);
                }
            }
            let mut step = exact::backward(one_step, &request, &summary, &of_step)?;
            g = step.v.take().expect("the states were given as values");
            match &mut total {
                None => total = Some(step),
                Some(total) => add(total, &step),
            }
        }
        self.read(hops, &g, &mut own);

        let mut total = total.expect("a walk has at least one hop");
        total.v = own.v.take();
        let gradient = self.gradient_of_weights(own, upstream);
        total.parameters.insert(0, gradient);
        Ok(total)
    }

    /// G_0: the upstream gradients side by side, as the columns of the states are.
    fn join(&self, upstream: &Upstream<'_, T>) -> Array4<T> {
        let width = self.request.values.value_width();
        let mut joined = self.nothing();
        if let Some(mean) = &upstream.mean {
            joined.slice_mut(s![.., .., .., ..width]).assign(mean);
        }
        for (column, quantity) in self.request.along.iter().enumerate() {
            if let Some(gradient) = quantity.upstream(upstream) {
                joined.index_axis_mut(Axis(3), width + column).assign(gradient);
            }
        }
        joined
    }

    /// Adds what G_h says of P(h), the values and the picks through [P(h) V | P(hops > h) e].
    fn read(&self, hop: usize, g: &Array4<T>, into: &mut WalkGradients<T>) {
        let walk = self.posterior.walk;
        let width = self.request.values.value_width();
        for (b, h) in self.heads() {
            let row = walk.row(h);
            if let (Some(v), Some(dv)) = (self.value(b, h), &mut into.v) {
                let g = g.slice(s![b, h, .., ..width]);
                into.probability[[row, hop]] += dot(g, v);
                let probability = T::of(walk.probability(h, hop));
                dv.slice_mut(s![b, self.value_head(h), .., ..]).scaled_add(probability, &g);
            }
            if hop < walk.hops() {
                let g = g.slice(s![b, h, .., width..]);
                into.further[[row, hop]] += dot(g, self.per_pick.slice(s![b, h, .., ..]));
                let further = T::of(walk.more_than(h, hop));
                into.per_pick.slice_mut(s![b, h, .., ..]).scaled_add(further, &g);
            }
        }
    }

    /// From the gradients in P(h) and P(hops > h), and of the entropy of h itself, to the weights.
    fn gradient_of_weights(
        &self,
        own: WalkGradients<T>,
        upstream: &Upstream<'_, T>,
    ) -> ParameterGradient<T> {
        let walk = self.posterior.walk;
        let WalkGradients { mut probability, further, .. } = own;
        for (mut row, further) in probability.rows_mut().into_iter().zip(further.rows()) {
            let mut sum = 0.0;
            for (g, further) in row.iter_mut().skip(1).zip(further) {
                sum += further;
                *g += sum;
            }
        }
        if let Some(entropy) = &upstream.entropy {
            for ((_, h, _), &g) in entropy.indexed_iter() {
                let row = walk.row(h);
                let of_row = walk.probabilities().row(row);
                for (slope, &p) in probability.row_mut(row).iter_mut().zip(of_row) {
                    if p > 0.0 {
                        *slope -= g.f64() * (p.ln() + 1.0);
                    }
                }
            }
        }
        let gradient = walk.backward(&probability);
        let flat: Vec<f64> = gradient.iter().copied().collect();
        ParameterGradient::from_small(&walk.parameter(), &flat)
    }

    fn check_upstream(&self, upstream: &Upstream<'_, T>) -> Result<(), Error> {
        let unknown = [
            ("grad.value-variance", upstream.value_variance.is_some()),
            ("grad.log-partition", upstream.log_partition.is_some()),
            ("grad.log-evidence", upstream.log_evidence.is_some()),
            ("grad.column-mass", upstream.column_mass.is_some()),
            ("grad.expected-of", upstream.expected_of.is_some()),
            ("grad.query-mass", upstream.query_mass.is_some()),
        ];
        if let Some((name, _)) = unknown.iter().find(|(_, given)| *given) {
            return Err(Error::NotAnswerable {
                question: (*name).into(),
                why: "a walk does not answer that question".into(),
                instead: "Give gradients of the mean, entropy, KL or expected distance.".into(),
            });
        }
        let shape = self.posterior.shape();
        let (b, h, n) = (shape.batch, shape.heads, shape.queries);
        let advice = "An upstream gradient has its answer's shape.";
        if let Some(mean) = &upstream.mean {
            self.require(self.request.values.values.is_some(), "grad.mean")?;
            let width = self.request.values.value_width();
            if mean.dim() != (b, h, n, width) {
                let expected = format!("[{b}, {h}, {n}, {width}]");
                return Err(Error::shape("grad.mean", expected, mean.shape(), advice));
            }
        }
        for quantity in Along::ALL {
            let Some(gradient) = quantity.upstream(upstream) else { continue };
            if gradient.dim() != (b, h, n) {
                let name = format!("grad.{}", quantity.name());
                let expected = format!("[{b}, {h}, {n}]");
                return Err(Error::shape(name, expected, gradient.shape(), advice));
            }
        }
        Ok(())
    }
}

/// Σ a b, in `f64`.
fn dot<T: Real>(a: ArrayView2<'_, T>, b: ArrayView2<'_, T>) -> f64 {
    Zip::from(a).and(b).fold(0.0, |sum, &a, &b| sum + a.f64() * b.f64())
}

/// Adds the gradients of one hop to those of the others.
fn add<T: Real>(total: &mut Gradients<T>, step: &Gradients<T>) {
    total.q += &step.q;
    total.k += &step.k;
    for (sum, part) in total.parameters.iter_mut().zip(&step.parameters) {
        sum.gradient += &part.gradient;
    }
}
