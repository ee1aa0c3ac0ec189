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
pub(in crate::infer) struct Anderson<T> {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Two steps along one direction of f disagree about g; what they leave across it is rounding, and
    /// no ground to go anywhere.
    #[test]
    fn the_older_of_two_dependent_steps_is_dropped() {
        let z = [[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]];
        let f: [[f64; 2]; 3] = [[1.0, 2.0], [1.1, 2.3], [1.17, 2.51]];
        let propose = |memory, from: usize| {
            let mut history = Anderson::new();
            let steps = z.iter().zip(&f).skip(from);
            let points = steps.map(|(z, f)| {
                let next = [z[0] + f[0], z[1] + f[1]];
                history.propose(z, &next, memory)
            });
            points.last().flatten().expect("there is a past")
        };
        let newest = propose(1, 1);
        for (point, newest) in propose(2, 0).iter().zip(&newest) {
            assert!((point - newest).abs() < 1e-9, "{point} {newest}");
        }
        // z ← g − γ Δg with Δf = (0.07, 0.21), Δg = Δf + (−1, 1), γ = ⟨f, Δf⟩/⟨Δf, Δf⟩.
        let gamma = (1.17 * 0.07 + 2.51 * 0.21) / (0.07 * 0.07 + 0.21 * 0.21);
        for (point, expected) in newest.iter().zip([1.17 + gamma * 0.93, 3.51 - gamma * 1.21]) {
            assert!((point - expected).abs() < 1e-12 * gamma, "{point} {expected}");
        }
    }
}
