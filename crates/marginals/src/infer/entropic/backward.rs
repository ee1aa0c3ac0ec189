//! Gradients, from those in everything that was found.
//!
//! All that was found is a function of θ + x, x being the biases of the solution: of the softmax p_i of every
//! row and, where a query has less than its mass, of its normaliser, r_i = e^(log Σ_j e^(θ_ij + x_j)). A
//! streaming backward gives the gradient g in x, the [adjoint](super::adjoint) w of it, and then
//!
//! ```text
//! ∂L/∂θ = [at fixed x] − ∂/∂θ Σ_j w_j c_j(θ, x),     c_j = Σ_i r_i p_ij,
//! ```
//!
//! is a second streaming backward, with −w as one more value that every row averages. The log-partition is at its
//! optimum in x, and has no part in g.

use std::borrow::Cow;
use std::sync::PoisonError;

use super::adjoint::{self, Conditions};
use super::margins::{Margins, Row};
use super::plan::{self, BIASES, ByKey};
use super::sweep::{self, Sweep};
use crate::infer::finding::{Finding, at};
use crate::infer::slopes::Slopes;
use crate::infer::statistic::{Linear, Request};
use crate::infer::streaming::Streaming;
use crate::infer::{EdgeQuestions, Gradients, Inference, Problem, Values};
use crate::{Error, Real};

pub(super) fn backward<T: Real>(
    margins: &Margins,
    problem: &Problem<'_, T>,
    (request, finding): (&Request<'_, T>, &Finding<T>),
    slopes: &Slopes<'_, T>,
    destination: Values,
) -> Result<Gradients<T>, Error> {
    let one_at_a_time = problem.depends_on_nodes.as_ref();
    let _guard = one_at_a_time.map(|lock| lock.lock().unwrap_or_else(PoisonError::into_inner));
    let biases = plan::log_weights(problem, &finding.biases);
    let biased = plan::biased(problem, &biases);
    let rows = Rows {
        problem,
        biased: &biased,
        request,
        finding,
        streaming: plan::rows(),
        masses: plan::masses(problem, margins, &finding.steps[0]),
    };
    let own = rows.slopes(slopes)?;
    let by_column: Vec<f64> = match slopes.column_mass.is_empty() {
        true => vec![0.0; finding.biases.len()],
        false => slopes.column_mass.iter().map(|g| g.f64()).collect(),
    };
    let depends_on_biases = own.is_some() || by_column.iter().any(|&g| g != 0.0);
    let own = own.unwrap_or_else(|| Slopes::new(request.linear.len()));
    let mut averaged = by_column;
    if depends_on_biases {
        let gradients = rows.backward(&own, &averaged, None)?;
        let in_biases = gradients.parameter(BIASES).expect("biases are a parameter of the rows");
        let in_biases: Vec<f64> = in_biases.iter().map(|g| g.f64()).collect();
        let adjoint = rows.adjoint(margins, plan::by_head(&problem.shape, &in_biases))?;
        averaged.iter_mut().zip(adjoint.concat()).for_each(|(g, w)| *g -= w);
    }
    let mut gradients = rows.backward(&own, &averaged, Some(&slopes.log_partition))?;
    gradients.parameters.retain(|parameter| parameter.name != BIASES);
    gradients.values.truncate(request.values.len());
    if destination == Values::Keys
        && let Some(values) = gradients.take_v()
    {
        gradients.k += &values;
    }
    Ok(gradients)
}

/// Rows of a plan.
struct Rows<'r, T: Real> {
    problem: &'r Problem<'r, T>,
    biased: &'r Problem<'r, T>,
    request: &'r Request<'r, T>,
    finding: &'r Finding<T>,
    streaming: Streaming<'static, T>,
    masses: Vec<Row>,
}

impl<T: Real> Rows<'_, T> {
    /// Mass of a row, 0 where its head has no plan.
    fn mass(&self, row: usize) -> T {
        self.finding.mass[row]
    }

    /// Whether the mass of a row moves with its normaliser.
    fn moves(&self, row: usize) -> bool {
        !self.masses[row].is_full && self.mass(row) != T::zero()
    }

    /// Slopes of the rows' statistics and normalisers from those of the plan's, but for its log-partition and
    /// column masses; `None` where there are no others.
    fn slopes(&self, slopes: &Slopes<'_, T>) -> Result<Option<Slopes<'static, T>>, Error> {
        let count = self.masses.len();
        let mut own = Slopes::new(self.request.linear.len());
        let mut in_normalisers = vec![T::zero(); count];
        let mut any = false;
        for (index, statistic) in self.request.linear.iter().enumerate() {
            let given = &slopes.linear[index];
            if given.is_empty() {
                continue;
            }
            any = true;
            let found = &self.finding.steps[0].linear[index].values;
            let into: Vec<T> = match statistic {
                Linear::LogProbability => (0..count)
                    .map(|row| {
                        let (slope, mass) =
                            (given[row / self.problem.shape.queries], self.mass(row));
                        if mass == T::zero() {
                            return T::zero();
                        }
                        if self.moves(row) {
                            let log_mass = T::of(self.masses[row].log_mass);
                            in_normalisers[row] +=
                                slope * mass * (found[row] + log_mass + T::one());
                        }
                        slope * mass
                    })
                    .collect(),
                _ => {
                    let width = self.request.columns(index).max(1);
                    let rows = given.chunks_exact(width).zip(found.chunks_exact(width));
                    let each = rows.enumerate().flat_map(|(row, (given, found))| {
                        let mass = self.mass(row);
                        if self.moves(row) {
                            let sum: T = given.iter().zip(found).map(|(&g, &x)| g * x).sum();
                            in_normalisers[row] += mass * sum;
                        }
                        given.iter().map(move |&g| if mass == T::zero() { mass } else { g * mass })
                    });
                    each.collect()
                }
            };
            own.linear[index] = Cow::Owned(into);
        }
        if !slopes.mass.is_empty() {
            any = true;
            for row in (0..count).filter(|&row| self.moves(row)) {
                in_normalisers[row] += slopes.mass[row] * self.mass(row);
            }
        }
        if !slopes.marginals.is_empty() {
            any = true;
            let keys = self.problem.shape.keys.max(1);
            let mut all = slopes.marginals.to_vec();
            let p = EdgeQuestions::marginals(&self.streaming, self.biased, &self.finding.steps[0]);
            for (row, (g, p)) in all.chunks_exact_mut(keys).zip(p.chunks_exact(keys)).enumerate() {
                let mass = self.mass(row);
                g.iter_mut().for_each(|g| *g = if mass == T::zero() { mass } else { *g * mass });
                if self.moves(row) {
                    in_normalisers[row] += g.iter().zip(p).map(|(&g, &p)| g * p).sum();
                }
            }
            own.marginals = Cow::Owned(all);
        }
        own.log_partition = Cow::Owned(in_normalisers);
        Ok(any.then_some(own))
    }

    /// Streaming backward of the rows, which also average `averaged`, a number of every key, each as often as its
    /// mass says, and whose plan has these slopes of its log-partition.
    fn backward(
        &self,
        own: &Slopes<'_, T>,
        averaged: &[f64],
        log_partition: Option<&[T]>,
    ) -> Result<Gradients<T>, Error> {
        let count = self.masses.len();
        let by_key = ByKey::new(self.problem, averaged.iter().copied());
        let mut request = self.request.reborrow();
        let handle = by_key.request(&mut request);
        let average = by_key.average(self.biased)?;
        let mut in_normalisers = match own.log_partition.is_empty() {
            true => vec![T::zero(); count],
            false => own.log_partition.to_vec(),
        };
        for (row, &average) in average.values.iter().enumerate() {
            if self.moves(row) {
                in_normalisers[row] += self.mass(row) * average;
            }
            let head = row / self.problem.shape.queries.max(1);
            let of_head = log_partition.map_or(T::zero(), |slopes| at(slopes, head));
            if of_head != T::zero() {
                in_normalisers[row] += of_head * self.mass(row);
            }
        }
        let mut slopes = Slopes::new(request.linear.len());
        for (into, from) in slopes.linear.iter_mut().zip(&own.linear) {
            *into = Cow::Borrowed(from);
        }
        slopes.linear[handle.0] = Cow::Owned((0..count).map(|row| self.mass(row)).collect());
        slopes.marginals = Cow::Borrowed(&own.marginals);
        slopes.log_partition = Cow::Owned(in_normalisers);
        let mut finding = self.finding.steps[0].clone();
        finding.linear.push(average);
        let keys = 0..self.problem.shape.keys;
        self.streaming.backward(self.biased, &request, &finding, &slopes, keys, Values::Apart)
    }

    /// w of every head.
    fn adjoint(&self, margins: &Margins, gradients: Vec<Vec<f64>>) -> Result<Vec<Vec<f64>>, Error> {
        let shape = &self.problem.shape;
        let raw = sweep::raw(self.problem);
        let nodes = sweep::prepared(self.problem, &raw);
        let sweep = Sweep::new(self.problem, margins, &nodes);
        let biases = plan::by_head(shape, &self.finding.biases);
        let possible: Vec<usize> = super::possible(self.finding).collect();
        let sums = sweep.sums(&possible, &biases);
        let mut conditions: Vec<Conditions> = (0..biases.len())
            .map(|_| Conditions {
                is_full: vec![false; shape.keys],
                is_present: vec![false; shape.keys],
                is_partial: false,
                is_balanced: false,
                columns: vec![0.0; shape.keys],
            })
            .collect();
        for (&head, sums) in possible.iter().zip(sums) {
            let masses = sweep.masses(head);
            if masses.total > 0.0 {
                conditions[head] = Conditions {
                    is_full: masses.columns(&biases[head], &sums.log_columns).is_full,
                    is_present: masses.keys.iter().map(|&own| own > 0.0).collect(),
                    is_partial: masses.is_partial(),
                    is_balanced: masses.is_balanced(),
                    columns: sums.log_columns.iter().map(|c| c.exp()).collect(),
                };
            }
        }
        let mut gradients = gradients;
        for (head, gradient) in gradients.iter_mut().enumerate() {
            let present = &conditions[head].is_present;
            gradient
                .iter_mut()
                .zip(present)
                .filter(|(_, there)| !**there)
                .for_each(|(g, _)| *g = 0.0);
        }
        adjoint::solve(&sweep, &biases, &conditions, gradients)
    }
}
