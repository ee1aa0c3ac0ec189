//! The backward of Horner's rule.
//!
//! With G_0 the upstream gradient and G_h+1 = Pᵀ G_h, the rule S_h = P(h) V + P S_h+1 gives
//!
//! ```text
//! ∂L/∂P(h) = ⟨G_h, V⟩,    ∂L/∂V = Σ_h P(h) G_h,    ∂L/∂P = Σ_h G_h S_h+1ᵀ,
//! ```
//!
//! and P is never written down: its gradient goes to q, k and the parameters through the backward of
//! one step. A weight of 0 is differentiated from the right, except that the entropy of the number of
//! hops, which is infinitely steep there, is left out; a log-weight of −∞ has gradient 0.
//!
//! Cost: H backward passes of one step; O(B H N D) memory beside the products kept.

use std::borrow::Cow;

use ndarray::{Array2, Array4, ArrayView2, Axis, Zip, s};

use super::horner::Columns;
use crate::gradient::number_repeats;
use crate::infer::Steps;
use crate::infer::finding::{Finding, weighted};
use crate::infer::slopes::Slopes;
use crate::infer::statistic::{Handle, Linear, Request};
use crate::infer::{Gradients, Problem, Values};
use crate::{Error, ParameterGradient, Real};

/// Gradients of the loss in what a walk adds to its one-step model.
struct WalkGradients<T> {
    /// In P(h), one row per row of P(h).
    probability: Array2<f64>,
    /// In P(hops > h).
    further: Array2<f64>,
    /// In the values, by table of the request.
    values: Vec<Option<Array4<T>>>,
    /// In the quantities of one pick, [B, H, N, quantities].
    per_pick: Array4<T>,
}

pub(super) fn backward<T: Real>(
    walking: Steps<'_, T>,
    problem: &Problem<'_, T>,
    request: &Request<'_, T>,
    finding: &Finding<T>,
    slopes: &Slopes<'_, T>,
    values: Values,
) -> Result<Gradients<T>, Error> {
    let shape = &problem.shape;
    let hops = walking.hops.hops();
    if finding.steps.len() != hops {
        return Err(Error::NotAnswerable {
            question: "the gradients of a walk".into(),
            why: "what was found at each hop has not been kept".into(),
            instead: "Keep the pass, or its finding, of `Posterior::pass`.".into(),
        });
    }
    let columns = Columns::new(request);
    let rows = walking.hops.probabilities().nrows();
    let zeros = |table: usize| {
        let used = columns.values().any(|(own, _)| own == table);
        used.then(|| Array4::zeros(request.values[table].tensor.dim()))
    };
    let mut own = WalkGradients {
        probability: Array2::zeros((rows, hops + 1)),
        further: Array2::zeros((rows, hops)),
        values: (0..request.values.len()).map(zeros).collect(),
        per_pick: columns.no_picks(problem),
    };
    // What the passes found of one pick.
    let mut per_pick = columns.no_picks(problem);
    let last = finding.steps.last().expect("a walk has at least one hop");
    for column in 0..columns.along.len() {
        columns.read_pick(column, last, Handle(column + 1), &mut per_pick);
    }
    let sizes = (shape.batch, shape.heads, shape.queries, columns.count());
    let product = |hop: usize| match finding.steps.get(hop) {
        None => columns.nothing(problem),
        Some(step) => {
            let product = step.unscaled(step.linear[0].values.clone(), columns.count());
            Array4::from_shape_vec(sizes, product).expect("one row per query")
        }
    };

    let mut total: Option<Gradients<T>> = None;
    let mut g = columns.join(problem, slopes);
    for hop in 0..hops {
        columns.read(walking, problem, (hop, &g), &per_pick, &mut own);
        let state = columns.state(walking, problem, &per_pick, hop + 1, product(hop + 1));
        let mut step = Request::new(shape);
        let carried = step.values(state.view())?;
        let carried = step.linear(Linear::Value(carried));
        let found = &finding.steps[hop];
        let mut of_step = Slopes::new(1);
        let at_last = hop + 1 == hops;
        if at_last {
            // What every pick adds along the way is one gradient by now.
            of_step = Slopes::new(1 + columns.along.len());
            for (column, &index) in columns.along.iter().enumerate() {
                let handle = step.linear(request.linear[index].clone());
                let e: Cow<'_, [T]> =
                    own.per_pick.index_axis(Axis(3), column).iter().copied().collect();
                let e = match request.linear[index] {
                    Linear::Edge(_) => found.scaled(e, 1),
                    _ => e,
                };
                of_step.add_linear(handle, e);
            }
        }
        let flat: Vec<T> = g.iter().copied().collect();
        of_step.add_linear(carried, found.scaled(Cow::Owned(flat), columns.count()));
        let keys = 0..shape.keys;
        let mut of_step =
            walking.step.backward(problem, &step, found, &of_step, keys, Values::Apart)?;
        g = of_step.take_v().expect("the states were given as values");
        match &mut total {
            None => total = Some(of_step),
            Some(total) => add(total, &of_step),
        }
    }
    columns.read(walking, problem, (hops, &g), &per_pick, &mut own);

    let mut total = total.expect("a walk has at least one hop");
    total.values = std::mem::take(&mut own.values);
    for (gradient, values) in total.values.iter_mut().zip(&request.values) {
        if let (Some(gradient), Some(heads)) = (gradient, values.own_heads) {
            let all = gradient.dim().1;
            let mut sums = Array4::zeros((shape.batch, heads, shape.keys, gradient.dim().3));
            for head in 0..all {
                let mut into = sums.slice_mut(s![.., head * heads / all, .., ..]);
                into += &gradient.slice(s![.., head, .., ..]);
            }
            *gradient = sums;
        }
    }
    if values == Values::Keys
        && let Some(v) = total.take_v()
    {
        total.k += &v;
    }
    let entropy = request.log_probability().map(|index| &*slopes.linear[index]);
    let gradient = own.of_weights(walking, entropy, (shape.heads, shape.queries));
    total.parameters.insert(0, gradient);
    number_repeats(total.parameters.iter_mut().map(|p| &mut p.name).collect());
    Ok(total)
}

impl<T: Real> Columns<'_, '_, T> {
    /// G_0: the slopes side by side, as the columns of the states are.
    fn join(&self, problem: &Problem<'_, T>, slopes: &Slopes<'_, T>) -> Array4<T> {
        let mut joined = self.nothing(problem);
        for (place, slopes) in self.places.iter().zip(&slopes.linear) {
            let mut into = joined.slice_mut(s![.., .., .., place.clone()]);
            into.iter_mut().zip(slopes.iter()).for_each(|(into, &g)| *into = g);
        }
        joined
    }

    /// Adds what G_h says of P(h), the values and the picks through [P(h) V | P(hops > h) e].
    fn read(
        &self,
        walking: Steps<'_, T>,
        problem: &Problem<'_, T>,
        (hop, g): (usize, &Array4<T>),
        per_pick: &Array4<T>,
        into: &mut WalkGradients<T>,
    ) {
        let shape = &problem.shape;
        let hops = walking.hops;
        for (b, h) in shape.all_heads() {
            let row = hops.row(h);
            for (table, columns) in self.values() {
                let values = &self.request.values[table].tensor;
                let own = h * values.dim().1 / shape.heads;
                let v = values.rows((b, own), 0..shape.keys);
                let g = g.slice(s![b, h, .., columns]);
                into.probability[[row, hop]] += dot(g, v.view());
                let probability = T::of(hops.probability(h, hop));
                if let Some(dv) = &mut into.values[table] {
                    dv.slice_mut(s![b, own, .., ..]).scaled_add(probability, &g);
                }
            }
            if hop < hops.hops() {
                let g = g.slice(s![b, h, .., self.width..]);
                into.further[[row, hop]] += dot(g, per_pick.slice(s![b, h, .., ..]));
                let further = T::of(hops.more_than(h, hop));
                into.per_pick.slice_mut(s![b, h, .., ..]).scaled_add(further, &g);
            }
        }
    }
}

impl<T: Real> WalkGradients<T> {
    /// From the gradients in P(h) and P(hops > h), and of the entropy of h itself, to the weights.
    fn of_weights(
        self,
        walking: Steps<'_, T>,
        log_probability: Option<&[T]>,
        (heads, queries): (usize, usize),
    ) -> ParameterGradient<T> {
        let hops = walking.hops;
        let Self { mut probability, further, .. } = self;
        for (mut row, further) in probability.rows_mut().into_iter().zip(further.rows()) {
            let mut sum = 0.0;
            for (g, further) in row.iter_mut().skip(1).zip(further) {
                sum += further;
                *g += sum;
            }
        }
        for (index, &g) in log_probability.unwrap_or(&[]).iter().enumerate() {
            let row = hops.row(index / queries.max(1) % heads.max(1));
            let of_row = hops.probabilities().row(row);
            for (slope, &p) in probability.row_mut(row).iter_mut().zip(of_row) {
                if p > 0.0 {
                    *slope += g.f64() * (p.ln() + 1.0);
                }
            }
        }
        let gradient = hops.backward(&probability);
        let flat: Vec<f64> = gradient.iter().copied().collect();
        ParameterGradient::from_small(&hops.parameter(), &flat)
    }
}

/// Σ g x, in `f64`. A gradient of 0 takes no part, whatever x holds.
fn dot<T: Real>(g: ArrayView2<'_, T>, x: ArrayView2<'_, T>) -> f64 {
    Zip::from(g).and(x).fold(0.0, |sum, &g, &x| sum + weighted(g.f64(), x.f64()))
}

/// Adds the gradients of one hop to those of the others.
fn add<T: Real>(total: &mut Gradients<T>, step: &Gradients<T>) {
    total.q += &step.q;
    total.k += &step.k;
    for (sum, part) in total.parameters.iter_mut().zip(&step.parameters) {
        sum.gradient += &part.gradient;
    }
}
