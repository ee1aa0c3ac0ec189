//! The engine on problems whose answers are known in closed form.

use super::*;

/// F(z) = ½ (z − x)ᵀ A (z − x) per problem, A = diag(a): every step, minimiser and gradient is
/// known. The closed-form step is damped, as EM's is: z ← z − r (z − x).
#[derive(Debug)]
struct Bowl {
    curvature: Vec<f64>,
    rate: f64,
    x: Vec<f64>,
}

impl Bowl {
    fn at(&self, index: usize) -> (f64, f64) {
        (self.curvature[index % self.curvature.len()], self.x[index])
    }
}

impl Latent<f64> for Bowl {
    fn problems(&self) -> usize {
        self.x.len() / self.curvature.len()
    }
    fn width(&self) -> usize {
        self.curvature.len()
    }
    fn inputs(&self) -> InputGradients<f64> {
        InputGradients::zeros([("x", &[self.x.len()][..])])
    }
    fn free_energy(&self, z: &[f64]) -> Result<Vec<f64>, Error> {
        let terms: Vec<f64> = z
            .iter()
            .enumerate()
            .map(|(index, z)| {
                let (a, x) = self.at(index);
                0.5 * a * (z - x).powi(2)
            })
            .collect();
        Ok(terms.chunks(self.width()).map(|own| own.iter().sum()).collect())
    }
}

impl Maximise<f64> for Bowl {
    fn maximise(&self, z: &[f64]) -> Result<Evaluation<f64>, Error> {
        let next = z.iter().zip(&self.x).map(|(z, x)| z - self.rate * (z - x)).collect();
        Ok(Evaluation { free_energy: self.free_energy(z)?, next })
    }
    fn maximise_backward(
        &self,
        _z: &[f64],
        upstream: &[f64],
        inputs: &mut InputGradients<f64>,
    ) -> Result<Vec<f64>, Error> {
        let to_x: ndarray::Array1<f64> = upstream.iter().map(|u| self.rate * u).collect();
        inputs.add("x", &to_x)?;
        Ok(upstream.iter().map(|u| (1.0 - self.rate) * u).collect())
    }
}

impl Differentiable<f64> for Bowl {
    fn gradient(&self, z: &[f64]) -> Result<Evaluation<f64>, Error> {
        let next = z.iter().enumerate().map(|(index, z)| {
            let (a, x) = self.at(index);
            a * (z - x)
        });
        Ok(Evaluation { free_energy: self.free_energy(z)?, next: next.collect() })
    }
    fn gradient_backward(
        &self,
        _z: &[f64],
        upstream: &[f64],
        inputs: &mut InputGradients<f64>,
    ) -> Result<Vec<f64>, Error> {
        let curved: Vec<f64> =
            upstream.iter().enumerate().map(|(index, u)| self.at(index).0 * u).collect();
        inputs.add("x", &ndarray::Array1::from_iter(curved.iter().map(|h| -h)))?;
        Ok(curved)
    }
}

fn bowl() -> Bowl {
    Bowl { curvature: vec![1.0, 9.0], rate: 0.3, x: vec![1.0, -2.0, 0.5, 4.0, 0.0, 0.0] }
}

#[test]
fn problems_stop_on_their_own() {
    let bowl = bowl();
    // The third problem starts where it ends.
    let start = [0.0, 0.0, 100.0, -100.0, 0.0, 0.0];
    let engine = FixedPoint { tolerance: 1e-9, ..FixedPoint::default() };
    let solution = engine.solve(&Exact(&bowl), &start).unwrap();
    assert_eq!(solution.reasons, [Reason::Converged; 3]);
    assert_eq!(solution.steps[2], 0);
    assert!(solution.steps[1] > solution.steps[0]);
    for (z, x) in solution.z.iter().zip(&bowl.x) {
        assert!((z - x).abs() <= 1e-9 / bowl.rate);
    }
    // Alone, a problem goes through the same numbers.
    let alone = Bowl { x: bowl.x[..2].to_vec(), ..bowl };
    let solved = engine.solve(&Exact(&alone), &start[..2]).unwrap();
    assert_eq!(solved.z, solution.z[..2]);
    assert_eq!(solved.steps, solution.steps[..1]);
}

#[test]
fn the_trace_never_rises_and_ends_at_the_result() {
    let bowl = bowl();
    let start = [3.0, 1.0, 100.0, -100.0, 7.0, 0.0];
    let plain = FixedPoint { tolerance: 1e-12, ..FixedPoint::default() };
    let accelerated = plain.clone().with_acceleration(Acceleration::Anderson { memory: 4 });
    let descent = Descent::new(&bowl, 1.0).unwrap();
    let short = descent.with_backtracking(Backtracking::default()).unwrap();
    let solutions = [
        plain.solve(&Exact(&bowl), &start).unwrap(),
        accelerated.solve(&Exact(&bowl), &start).unwrap(),
        plain.solve(&short, &start).unwrap(),
        accelerated.solve(&short, &start).unwrap(),
    ];
    for solution in &solutions {
        let energies: Vec<f64> = solution.trace.iter().map(|t| t.free_energy.unwrap()).collect();
        assert!(energies.windows(2).all(|w| w[1] <= w[0] * (1.0 + 1e-12)), "{energies:?}");
        assert_eq!(*energies.last().unwrap(), solution.free_energy.iter().sum::<f64>());
        assert!(solution.converged(), "{:?}", solution.reasons);
    }
    // On a linear step two remembered steps are enough.
    assert!(solutions[1].steps.iter().all(|&s| s <= 4), "{:?}", solutions[1].steps);
    // Curvature 9 with a step of 1 diverges without backtracking, and says so.
    let long = FixedPoint { max_steps: 2000, ..plain }.solve(&descent, &start).unwrap();
    assert!(long.reasons.contains(&Reason::NotFinite));
    assert!(long.z.iter().all(|z| z.is_finite()));
}

#[test]
fn gradients_agree_with_the_closed_form() {
    let bowl = bowl();
    let start = vec![3.0, 1.0, 100.0, -100.0, 7.0, 0.0];
    let upstream = [1.0, 2.0, -1.0, 0.5, 3.0, 0.25];
    for steps in [0, 1, 5] {
        let engine = FixedPoint { tolerance: 0.0, max_steps: steps, ..FixedPoint::default() }
            .with_differentiation(Differentiation::Unrolled);
        let solution = engine.solve(&Exact(&bowl), &start).unwrap();
        let gradient = engine.backward(&Exact(&bowl), &solution, &upstream).unwrap();
        // z_T = x + (1 − r)^T (z_0 − x).
        for (index, u) in upstream.iter().enumerate() {
            let kept = 0.7f64.powi(solution.steps[index / 2] as i32);
            assert!((gradient.start[index] - kept * u).abs() < 1e-14);
            let x = gradient.inputs.get("x").unwrap()[index];
            assert!((x - (1.0 - kept) * u).abs() < 1e-14);
        }
    }
    // At the fixed point z = x: the gradient in x is u, and one step alone sees r of it.
    let engine = FixedPoint { tolerance: 1e-12, ..FixedPoint::default() };
    let descent = Descent::new(&bowl, 0.1).unwrap();
    let solution = engine.solve(&Exact(&bowl), &start).unwrap();
    let implicit = engine.backward(&Exact(&bowl), &solution, &upstream).unwrap();
    let by_descent = engine.backward(&descent, &solution, &upstream).unwrap();
    let one_step = engine.clone().with_differentiation(Differentiation::OneStep);
    let biased = one_step.backward(&Exact(&bowl), &solution, &upstream).unwrap();
    assert!(implicit.adjoint.unwrap().converged && by_descent.adjoint.unwrap().converged);
    assert!(!one_step.differentiation.is_exact());
    for (index, u) in upstream.iter().enumerate() {
        assert!((implicit.inputs.get("x").unwrap()[index] - u).abs() < 1e-7);
        assert!((by_descent.inputs.get("x").unwrap()[index] - u).abs() < 1e-7);
        assert!((biased.inputs.get("x").unwrap()[index] - 0.3 * u).abs() < 1e-14);
    }
}

#[test]
fn bad_arguments_are_named() {
    let bowl = bowl();
    let start = [0.0; 6];
    let engine = FixedPoint::default();
    let message = |engine: &FixedPoint, start: &[f64]| {
        engine.solve(&Exact(&bowl), start).unwrap_err().to_string()
    };
    assert!(message(&engine, &start[..5]).contains("`start` has shape [5], expected [6]"));
    let nan = [0.0, 0.0, 0.0, f64::NAN, 0.0, 0.0];
    assert!(message(&engine, &nan).contains("`start` holds NaN at [1, 1]"));
    let negative = FixedPoint { tolerance: f64::NAN, ..engine.clone() };
    assert!(message(&negative, &start).contains("`tolerance` is NaN"));
    let forgetful = engine.clone().with_acceleration(Acceleration::Anderson { memory: 0 });
    assert!(message(&forgetful, &start).contains("acceleration.memory"));
    let both = engine
        .clone()
        .with_acceleration(Acceleration::Anderson { memory: 2 })
        .with_differentiation(Differentiation::Unrolled);
    assert!(message(&both, &start).contains("plain steps"));
    assert!(Descent::new(&bowl, -1.0).unwrap_err().to_string().contains("`step` is -1"));
    let solution = engine.solve(&Exact(&bowl), &start).unwrap();
    assert!(engine.backward(&Exact(&bowl), &solution, &[1.0]).is_err());
}
