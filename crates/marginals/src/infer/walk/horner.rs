//! The forward passes: Horner's rule.

use ndarray::{Array4, Axis, s};

use crate::infer::Problem;
use crate::infer::Steps;
use crate::infer::finding::{Finding, Merge};
use crate::infer::statistic::{Handle, Linear, Request};
use crate::{Error, Real, check_room};

/// The columns that are carried: those of the values, and one for each quantity summed along the way.
/// With e the quantity of one pick, the rule is the same for both:
///
/// ```text
/// S_h = [P(h) V | P(hops > h) e] + P S_h+1.
/// ```
pub(super) struct Columns<'r, 'v, T: Real> {
    pub request: &'r Request<'v, T>,
    /// By statistic of the request, the columns it has.
    pub places: Vec<std::ops::Range<usize>>,
    /// The statistics that are sums along the way.
    pub along: Vec<usize>,
    /// Columns of values.
    pub width: usize,
}

impl<'r, 'v, T: Real> Columns<'r, 'v, T> {
    pub fn new(request: &'r Request<'v, T>) -> Self {
        let is_value = |index: usize| matches!(request.linear[index], Linear::Value(_));
        let (values, along): (Vec<usize>, Vec<usize>) =
            (0..request.linear.len()).partition(|&index| is_value(index));
        let mut places = vec![0..0; request.linear.len()];
        let mut next = 0;
        for &index in values.iter().chain(&along) {
            places[index] = next..next + request.columns(index);
            next += request.columns(index);
        }
        let width = next - along.len();
        Self { request, places, along, width }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.width + self.along.len()
    }

    /// The tables of values that are carried, with their columns.
    pub fn values(&self) -> impl Iterator<Item = (usize, std::ops::Range<usize>)> + '_ {
        let pairs = self.request.linear.iter().zip(&self.places);
        pairs.filter_map(|(statistic, columns)| match *statistic {
            Linear::Value(table) => Some((table, columns.clone())),
            _ => None,
        })
    }
}

/// Runs the passes.
pub(super) fn find<T: Real>(
    walking: Steps<'_, T>,
    problem: &Problem<'_, T>,
    request: &Request<'_, T>,
) -> Result<Finding<T>, Error> {
    let shape = &problem.shape;
    let columns = Columns::new(request);
    let hops = walking.hops.hops();
    if request.keeps_steps {
        let kept = [hops, shape.batch, shape.heads, shape.queries, columns.count()];
        check_room("walk.hops", &kept, size_of::<T>())?;
    }
    let mut steps: Vec<Finding<T>> = Vec::new();
    let mut per_pick = columns.no_picks(problem);
    // From the last hop to the first; P(hops > H) = 0, so that e is not needed before the first pass
    // has found it.
    let mut state = columns.state(walking, problem, &per_pick, hops, columns.nothing(problem));
    for hop in (0..hops).rev() {
        let first = hop + 1 == hops;
        let mut step = Request::new(shape);
        let carried = step.values(state.view())?;
        let carried = step.linear(Linear::Value(carried));
        let wanted: Vec<Handle> = match first {
            true => columns
                .along
                .iter()
                .map(|&index| step.linear(request.linear[index].clone()))
                .collect(),
            false => Vec::new(),
        };
        let mut found = walking.step.find(problem, &step, 0..shape.keys, true)?;
        let sizes = (shape.batch, shape.heads, shape.queries, columns.count());
        let gathered = found.take_expectation(carried);
        if request.keeps_steps {
            found.put_expectation(carried, gathered.clone());
        }
        let product = found.unscaled(gathered, columns.count());
        let product = Array4::from_shape_vec(sizes, product).expect("one row per query");
        if first {
            for (column, &quantity) in wanted.iter().enumerate() {
                columns.read_pick(column, &found, quantity, &mut per_pick);
            }
        }
        if request.keeps_steps || first {
            steps.push(found);
        }
        drop(step);
        state = columns.state(walking, problem, &per_pick, hop, product);
    }
    steps.reverse();
    let rows = shape.batch * shape.heads * shape.queries;
    let keys = 0..shape.keys as i64;
    let mut finding = Finding::nothing(Merge::Mixture, request, (rows, rows), keys);
    finding.heads = shape.batch * shape.heads;
    finding.complete = true;
    finding.normalisers.max.fill(T::zero());
    for (index, place) in columns.places.iter().enumerate() {
        let own = state.slice(s![.., .., .., place.clone()]);
        finding.put_expectation(Handle(index), own.iter().copied().collect());
    }
    if let Some(index) = request.log_probability() {
        // log P(h) is part of the probability of a walk.
        let per_head = shape.queries.max(1);
        for (row, x) in finding.linear[index].values.iter_mut().enumerate() {
            let head = row / per_head % shape.heads.max(1);
            *x -= T::of(walking.hops.entropy(head));
        }
    }
    finding.report.steps = hops;
    finding.steps = steps;
    Ok(finding)
}

impl<T: Real> Columns<'_, '_, T> {
    /// Zeros for the quantities of one pick, [B, H, N, quantities].
    pub fn no_picks(&self, problem: &Problem<'_, T>) -> Array4<T> {
        let shape = &problem.shape;
        Array4::zeros((shape.batch, shape.heads, shape.queries, self.along.len()))
    }

    /// Reads what a pass found of the pick of every query into a column of `per_pick`.
    pub fn read_pick(
        &self,
        column: usize,
        found: &Finding<T>,
        quantity: Handle,
        per_pick: &mut Array4<T>,
    ) {
        let e = found.expectation(quantity).values.clone();
        let e = match self.request.linear[self.along[column]] {
            Linear::Edge(_) => found.unscaled(e, 1),
            _ => e,
        };
        let mut into = per_pick.index_axis_mut(Axis(3), column);
        into.iter_mut().zip(e).for_each(|(into, x)| *into = x);
    }

    /// S_h+1 past the last hop.
    pub fn nothing(&self, problem: &Problem<'_, T>) -> Array4<T> {
        let shape = &problem.shape;
        Array4::zeros((shape.batch, shape.heads, shape.queries, self.count()))
    }

    /// S_h of `hop`, made from P S_h+1.
    pub fn state(
        &self,
        walking: Steps<'_, T>,
        problem: &Problem<'_, T>,
        per_pick: &Array4<T>,
        hop: usize,
        product: Array4<T>,
    ) -> Array4<T> {
        let shape = &problem.shape;
        let mut state = product;
        for (b, h) in shape.all_heads() {
            let probability = T::of(walking.hops.probability(h, hop));
            if probability != T::zero() {
                for (table, columns) in self.values() {
                    let values = &self.request.values[table].tensor;
                    let own = h * values.dim().1 / shape.heads;
                    let v = values.rows((b, own), 0..shape.keys);
                    state.slice_mut(s![b, h, .., columns]).scaled_add(probability, &v);
                }
            }
            let further = T::of(walking.hops.more_than(h, hop));
            // A pick that is not made adds nothing, whatever its node holds.
            if further != T::zero() {
                let e = per_pick.slice(s![b, h, .., ..]);
                state.slice_mut(s![b, h, .., self.width..]).scaled_add(further, &e);
            }
        }
        state
    }
}
