//! Anderson acceleration of a fixed-point iteration.

use std::collections::VecDeque;

use crate::Real;

/// Directions whose part that the others do not explain is below this share of themselves say
/// nothing but rounding.
const DEPENDENT: f64 = 1e-8;

/// The last steps of one problem.
///
/// With f_k = g(z_k) − z_k, the next point is the combination of the last g(z) whose combination
/// of the f is shortest: γ = argmin ‖f_k − Δf γ‖, z ← g(z_k) − Δg γ (Anderson 1965; Walker & Ni
/// 2011, eq. 2.2). On a linear map this is GMRES on the last steps.
///
/// Cost: memory² products of vectors; 2 · memory vectors kept.
#[derive(Clone, Debug, Default)]
pub(super) struct Anderson<T> {
    /// Differences of successive (f, g), newest last.
    differences: VecDeque<(Vec<T>, Vec<T>)>,
    last: Option<(Vec<T>, Vec<T>)>,
}

impl<T: Real> Anderson<T> {
    pub fn new() -> Self {
        Self { differences: VecDeque::new(), last: None }
    }

    /// Forgets the past.
    pub fn clear(&mut self) {
        self.differences.clear();
        self.last = None;
    }

    /// The point to go to from `z`, where the step leads to `next`; `None` while there is no past.
    pub fn propose(&mut self, z: &[T], next: &[T], memory: usize) -> Option<Vec<T>> {
        let difference = |a: &[T], b: &[T]| a.iter().zip(b).map(|(&a, &b)| a - b).collect();
        let f: Vec<T> = difference(next, z);
        if let Some((last_f, last_g)) = self.last.replace((f.clone(), next.to_vec())) {
            if self.differences.len() == memory {
                self.differences.pop_front();
            }
            self.differences.push_back((difference(&f, &last_f), difference(next, &last_g)));
        }
        if self.differences.is_empty() {
            return None;
        }
        // Modified Gram-Schmidt, newest first: what is dropped as dependent is the oldest. The
        // same combinations are made of g.
        let mut basis: Vec<(Vec<f64>, Vec<f64>)> = Vec::new();
        for (df, dg) in self.differences.iter().rev() {
            let mut df: Vec<f64> = df.iter().map(|x| x.f64()).collect();
            let mut dg: Vec<f64> = dg.iter().map(|x| x.f64()).collect();
            let whole = norm(&df);
            for (other_f, other_g) in &basis {
                let part = dot(other_f, &df);
                subtract(&mut df, part, other_f);
                subtract(&mut dg, part, other_g);
            }
            let rest = norm(&df);
            if rest.is_finite() && rest > DEPENDENT * whole {
                df.iter_mut().chain(&mut dg).for_each(|x| *x /= rest);
                basis.push((df, dg));
            }
        }
        let mut rest: Vec<f64> = f.iter().map(|x| x.f64()).collect();
        let mut point: Vec<f64> = next.iter().map(|x| x.f64()).collect();
        for (df, dg) in &basis {
            let part = dot(df, &rest);
            subtract(&mut rest, part, df);
            subtract(&mut point, part, dg);
        }
        point.iter().all(|x| x.is_finite()).then(|| point.into_iter().map(T::of).collect())
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn norm(a: &[f64]) -> f64 {
    dot(a, a).sqrt()
}

fn subtract(from: &mut [f64], factor: f64, other: &[f64]) {
    from.iter_mut().zip(other).for_each(|(x, y)| *x -= factor * y);
}
