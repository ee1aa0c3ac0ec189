//! Gradients, a shift at a time.
//!
//! With g the upstream gradient of the mean and f_ijk = g_i·(v_j ∘ v'_k) what it says of a pair,
//!
//! ```text
//! ∂L/∂θ_ijk = p_ijk (f_ijk − E_i[f] + ∂L/∂log Z_i)
//! ```
//!
//! In a pass over second keys g_i ∘ v_j takes the place of g_i, and what does not depend on the second
//! key goes with the slope of log Z.

use std::borrow::Cow;

use marginals_kernels::Tile;
use ndarray::{Array4, ArrayView1, ArrayViewMut1, Zip, s};

use super::second::Pairs;
use super::shift::{Shift, second_means, shifts, value, wanted};
use crate::gradient::{Whole, number_repeats};
use crate::infer::finding::{Finding, Merge, at, weighted};
use crate::infer::slopes::Slopes;
use crate::infer::statistic::{Handle, Linear, Request};
use crate::infer::{EdgeQuestions, Gradients, Inference, Problem, Values};
use crate::{Error, ParameterGradient, Real};

/// Gradients as they are summed over the shifts.
struct Sums<T> {
    q: Array4<T>,
    k: Array4<T>,
    second_keys: Array4<T>,
    second_values: Option<Array4<T>>,
    values: Vec<Option<Array4<T>>>,
    /// Of the prior and the potential, as passes over second keys give them.
    parameters: Vec<ParameterGradient<T>>,
    /// Of the prior, by way of first keys.
    of_first: Whole<T>,
}

pub(super) fn backward<T: Real>(
    of: &Pairs<T>,
    problem: &Problem<'_, T>,
    request: &Request<'_, T>,
    finding: &Finding<T>,
    slopes: &Slopes<'_, T>,
    destination: Values,
) -> Result<Gradients<T>, Error> {
    let zeros = |table: usize| {
        request.averages(table).then(|| Array4::zeros(request.values[table].tensor.dim()))
    };
    let mut sums = Sums {
        q: Array4::zeros(problem.q.dim()),
        k: Array4::zeros(problem.k.dim()),
        second_keys: Array4::zeros(of.keys.dim()),
        second_values: of.values.as_ref().map(|values| Array4::zeros(values.dim())),
        values: (0..request.values.len()).map(zeros).collect(),
        parameters: Vec::new(),
        of_first: Whole::new(problem.prior.parameters()),
    };
    let pass = Pass { of, problem, request, finding, slopes, expected: Vec::new() };
    let pass = Pass { expected: pass.expected_of_edges(), ..pass };
    for shift in shifts(of, problem) {
        pass.add(&shift, &mut sums)?;
    }
    Ok(sums.finish(problem, request, destination, of))
}

/// A backward pass over all shifts.
struct Pass<'a, 'p, 'v, T: Real> {
    of: &'a Pairs<T>,
    problem: &'a Problem<'p, T>,
    request: &'a Request<'v, T>,
    finding: &'a Finding<T>,
    slopes: &'a Slopes<'a, T>,
    /// E_i of the slopes in single marginals and column masses; empty where there are none.
    expected: Vec<T>,
}

impl<T: Real> Pass<'_, '_, '_, T> {
    /// Slope in p(j | i).
    fn of_edge(&self, row: usize, key: usize) -> T {
        let shape = &self.problem.shape;
        let head = row / shape.queries.max(1);
        at(&self.slopes.marginals, row * shape.keys + key)
            + at(&self.slopes.column_mass, head * shape.keys + key)
    }

    fn expected_of_edges(&self) -> Vec<T> {
        if self.slopes.marginals.is_empty() && self.slopes.column_mass.is_empty() {
            return Vec::new();
        }
        let p = EdgeQuestions::marginals(self.of, self.problem, self.finding);
        let rows = p.chunks_exact(self.problem.shape.keys.max(1)).enumerate();
        rows.map(|(row, p)| {
            let each = p.iter().enumerate().map(|(key, &p)| weighted(p, self.of_edge(row, key)));
            each.fold(T::zero(), |sum, x| sum + x)
        })
        .collect()
    }

    /// Slopes of the means, with the tables that they are of.
    fn of_means(&self) -> impl Iterator<Item = (usize, &[T], &[T])> {
        let all = self.request.linear.iter().enumerate();
        all.filter_map(|(index, statistic)| match *statistic {
            Linear::Value(table) if !self.slopes.linear[index].is_empty() => {
                let mean = &*self.finding.linear[index].values;
                Some((table, &*self.slopes.linear[index], mean))
            }
            _ => None,
        })
    }

    /// Adds the gradients of the pairs of one shift.
    fn add(&self, shift: &Shift<T>, sums: &mut Sums<T>) -> Result<(), Error> {
        let (of, problem, shape) = (self.of, self.problem, &self.problem.shape);
        let rows = shape.batch * shape.heads * shape.queries;
        let inner = shift.problem(of, problem);
        let request = wanted(of, self.request, &inner.shape);
        let width = of.values.as_ref().map(|values| values.dim().3);

        // Slopes in what a pass over second keys finds.
        let mut partition = vec![T::zero(); rows];
        let mut of_second = vec![T::zero(); rows * width.unwrap_or(0)];
        for (row, head, _, j) in shift.pairs(shape) {
            let mut slope = at(&self.slopes.log_partition, row) + self.of_edge(row, j)
                - at(&self.expected, row);
            for (table, g, mean) in self.of_means() {
                let count = self.request.width(table);
                let (g, mean) = (&g[row * count..][..count], &mean[row * count..][..count]);
                let v = value(problem, self.request, table, head, j);
                for c in 0..count {
                    slope -= weighted(g[c], mean[c]);
                    match width {
                        Some(_) => of_second[row * count + c] += weighted(g[c], v[c]),
                        None => slope += weighted(g[c], v[c]),
                    }
                }
            }
            partition[row] = slope;
        }
        let mut found =
            Finding::nothing(Merge::Mixture, &request, (rows, rows), 0..inner.shape.keys as i64);
        found.heads = shape.batch * shape.heads;
        found.complete = true;
        found.normalisers.clone_from(&self.finding.normalisers);
        found.prior.clone_from(&self.finding.prior);
        found.mass.clone_from(&self.finding.mass);
        let mut of_pass = Slopes::new(request.linear.len());
        of_pass.log_partition = Cow::Owned(partition);
        of_pass.prior_log_partition = Cow::Borrowed(&self.slopes.prior_log_partition);
        let known = [
            (request.log_probability(), self.request.log_probability()),
            (request.log_ratio(), self.request.log_ratio()),
        ];
        for (inner, outer) in known {
            if let (Some(inner), Some(outer)) = (inner, outer) {
                found.linear[inner].values.clone_from(&self.finding.linear[outer].values);
                of_pass.linear[inner] = Cow::Borrowed(&self.slopes.linear[outer]);
            }
        }
        if !request.values.is_empty() {
            // Its expectation went with the slope of log Z.
            of_pass.add_linear(Handle(0), Cow::Owned(of_second));
        }
        let keys = 0..inner.shape.keys;
        let gradients =
            of.step.backward(&inner, &request, &found, &of_pass, keys.clone(), Values::Apart)?;

        self.add_nodes(shift, &gradients, sums);
        if self.of_means().next().is_some() {
            let found = of.step.find(&inner, &request, keys, true)?;
            self.add_values(shift, &found, sums);
        }
        sums.add_parameters(problem, shift, gradients)
    }

    /// Gradients of queries and first keys, from that of their product.
    fn add_nodes(&self, shift: &Shift<T>, gradients: &Gradients<T>, sums: &mut Sums<T>) {
        let (problem, shape) = (self.problem, &self.problem.shape);
        for (_, (b, h), i, j) in shift.pairs(shape) {
            let own = shape.key_head(h);
            let q = problem.q.rows((b, h), i..i + 1);
            let k = problem.k.rows((b, own), j..j + 1);
            let g = gradients.q.slice(s![b, h, i, ..]);
            add_product(sums.q.slice_mut(s![b, h, i, ..]), g, k.row(0));
            add_product(sums.k.slice_mut(s![b, own, j, ..]), g, q.row(0));
        }
    }

    /// Gradients of the values of first keys.
    fn add_values(&self, shift: &Shift<T>, found: &Finding<T>, sums: &mut Sums<T>) {
        let shape = &self.problem.shape;
        let second = second_means(self.of, found);
        let shares = shift.shares(self.problem, found, self.finding);
        for ((row, (b, h), _, j), (_, p)) in shift.pairs(shape).zip(shares) {
            for (table, g, _) in self.of_means() {
                let width = self.request.width(table);
                let Some(into) = &mut sums.values[table] else { continue };
                let own = h * into.dim().1 / shape.heads.max(1);
                for c in 0..width {
                    let other = second.map_or(T::one(), |second| second[row * width + c]);
                    into[[b, own, j, c]] += weighted(p, g[row * width + c] * other);
                }
            }
        }
    }
}

/// `into` += a ∘ b.
fn add_product<T: Real>(into: ArrayViewMut1<'_, T>, a: ArrayView1<'_, T>, b: ArrayView1<'_, T>) {
    Zip::from(into).and(a).and(b).for_each(|into, &a, &b| *into += weighted(a, b));
}

impl<T: Real> Sums<T> {
    /// Adds what a pass over second keys says of its keys, values and parameters.
    fn add_parameters(
        &mut self,
        problem: &Problem<'_, T>,
        shift: &Shift<T>,
        mut gradients: Gradients<T>,
    ) -> Result<(), Error> {
        self.second_keys += &gradients.k;
        if let (Some(into), Some(values)) = (&mut self.second_values, gradients.take_v()) {
            *into += &values;
        }
        let of_first = gradients.parameters.remove(self.of_first.parameters.len()).gradient;
        let of_first = of_first.as_slice().expect("fresh gradients lie in rows");
        if !self.of_first.parameters.is_empty() {
            for (row, head, i, j) in shift.pairs(&problem.shape) {
                let block = problem.shape.block(head, i..i + 1, j..j + 1);
                let tile = Tile::new(&of_first[row..=row], 1, 1, 1);
                self.of_first.add(|into| problem.prior.accumulate_gradient(&block, tile, into))?;
            }
        }
        if self.parameters.is_empty() {
            self.parameters = gradients.parameters;
        } else {
            for (own, more) in self.parameters.iter_mut().zip(gradients.parameters) {
                own.gradient += &more.gradient;
            }
        }
        Ok(())
    }

    fn finish(
        mut self,
        problem: &Problem<'_, T>,
        request: &Request<'_, T>,
        destination: Values,
        of: &Pairs<T>,
    ) -> Gradients<T> {
        let shape = &problem.shape;
        let mut of_first = Vec::new();
        self.of_first.finish(&mut self.k, &mut of_first);
        if self.parameters.is_empty() {
            // No query has a first key.
            let potential = problem.potential.parameters();
            let zeros =
                potential.iter().map(|p| ParameterGradient::from_small(p, &vec![0.0; p.len()]));
            self.parameters = of_first.iter().cloned().chain(zeros).collect();
        } else {
            for (own, first) in self.parameters.iter_mut().zip(&of_first) {
                own.gradient += &first.gradient;
            }
        }
        for (gradient, values) in self.values.iter_mut().zip(&request.values) {
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
        if destination == Values::Keys
            && let Some(v) = self.values.first_mut().and_then(Option::take)
        {
            self.k += &v;
        }
        let own = [Some(self.second_keys), self.second_values].into_iter().flatten();
        let names = Inference::<T>::parameters(of);
        let own = own.zip(names).map(|(gradient, parameter)| ParameterGradient {
            name: parameter.name,
            gradient: gradient.into_dyn(),
        });
        let mut parameters: Vec<_> = own.chain(self.parameters).collect();
        number_repeats(parameters.iter_mut().map(|p| &mut p.name).collect());
        Gradients { q: self.q, k: self.k, values: self.values, parameters }
    }
}
