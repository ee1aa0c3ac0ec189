//! Linear networks with one predictor per unit: equilibria by elimination, energies in closed form.

use marginals::infer::collapsed::{Exact, FixedPoint, Latent, Reason};
use marginals_testkit::compare::{Tolerance, assert_close};
use marginals_testkit::generate::Random;

use super::networks::{Case, Choices, gradient};

/// Solution of A x = b by elimination with pivots, b the last column of `rows`.
fn eliminate(mut rows: Vec<Vec<f64>>) -> Vec<f64> {
    let n = rows.len();
    for column in 0..n {
        let size = |row: &usize| rows[*row][column].abs();
        let pivot = (column..n).max_by(|i, j| size(i).total_cmp(&size(j))).unwrap();
        rows.swap(column, pivot);
        let (done, below) = rows.split_at_mut(column + 1);
        let own = &done[column];
        for row in below {
            let factor = row[column] / own[column];
            row.iter_mut().zip(own).skip(column).for_each(|(x, own)| *x -= factor * own);
        }
    }
    let mut solution = vec![0.0; n];
    for (at, row) in rows.iter().enumerate().rev() {
        let known: f64 = (at + 1..n).map(|k| row[k] * solution[k]).sum();
        solution[at] = (row[n] - known) / row[at];
    }
    solution
}

/// F is a parabola: its coefficients come from its values, and the minimum from those.
#[test]
fn equilibria_are_those_of_elimination() {
    let mut random = Random::new(21);
    let mut met = 0;
    while met < 200 {
        let case =
            Case::generate(&mut random, Choices { linear: true, single: true, smooth: true });
        if case.layers[0].predictors.is_none() || case.width() == 0 {
            continue;
        }
        met += 1;
        let width = case.width();
        // Whatever stands in z for known nodes has no part in F: those rows are left out.
        let energies = |z: &[f64]| case.free_energy(z);
        let zero = vec![0.0; case.batch * width];
        let at_zero = energies(&zero);
        let unit = |at: &[(usize, f64)]| {
            let mut z = zero.clone();
            for b in 0..case.batch {
                at.iter().for_each(|&(i, x)| z[b * width + i] += x);
            }
            energies(&z)
        };
        let network = case.network();
        let engine = FixedPoint { tolerance: 1e-9, max_steps: 3, ..FixedPoint::default() };
        let solution = engine.solve(&Exact(&network), &zero).unwrap();
        assert!(solution.reasons.iter().all(|&reason| reason == Reason::Converged));
        for b in 0..case.batch {
            let of = |at: &[(usize, f64)]| unit(at)[b] - at_zero[b];
            let free: Vec<usize> =
                (0..width).filter(|&i| of(&[(i, 1.0)]) != 0.0 || of(&[(i, -1.0)]) != 0.0).collect();
            let hessian = |i: usize, j: usize| match i == j {
                true => of(&[(i, 1.0)]) + of(&[(i, -1.0)]),
                false => of(&[(i, 1.0), (j, 1.0)]) - of(&[(i, 1.0)]) - of(&[(j, 1.0)]),
            };
            let row = |&i: &usize| {
                let slope = 0.5 * (of(&[(i, 1.0)]) - of(&[(i, -1.0)]));
                let row = free.iter().map(|&j| hessian(i, j));
                row.chain([-slope]).collect()
            };
            let minimum = eliminate(free.iter().map(row).collect());
            let found: Vec<f64> = free.iter().map(|&i| solution.z[b * width + i]).collect();
            assert_close("equilibrium", &found, &minimum, Tolerance::mixed(1e-10));
            let mut z = zero.clone();
            free.iter().zip(&minimum).for_each(|(&i, &x)| z[b * width + i] = x);
            let closed = case.free_energy(&z)[b];
            let found = network.free_energy(&solution.z).unwrap()[b];
            assert!((found - closed).abs() <= 1e-10 * (1.0 + closed.abs()), "{found} {closed}");
        }
        let still = gradient(&solution.z, |z| case.free_energy(z).iter().sum());
        assert!(still.iter().all(|g| g.abs() < 1e-6), "{still:?}");
    }
}
