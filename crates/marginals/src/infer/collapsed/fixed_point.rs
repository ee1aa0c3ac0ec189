//! Fixed points: an update repeated until z stands still.

use crate::Real;

use super::anderson::Anderson;
use super::differentiation::check_tolerance;
use super::{Differentiation, Evaluation, Update, largest};
use crate::Error;

/// How a fixed point is looked for, and how it is differentiated.
///
/// ```
/// use marginals::infer::collapsed::{Acceleration, Differentiation, FixedPoint, Reason};
/// # use marginals::infer::collapsed::{InputGradients, Learned};
/// // z ← cos z, a step without an energy.
/// let cosine = Learned::new(
///     1, 1, InputGradients::default(),
///     |z: &[f64]| Ok(vec![z[0].cos()]),
///     |z: &[f64], u: &[f64], _: &mut _| Ok(vec![-z[0].sin() * u[0]]),
/// );
/// let engine = FixedPoint { tolerance: 1e-14, ..FixedPoint::default() }
///     .with_acceleration(Acceleration::Anderson { memory: 3 });
/// let solution = engine.solve(&cosine, &[1.0])?;
/// assert_eq!(solution.reasons, [Reason::Converged]);
/// assert!((solution.z[0] - 0.739_085_133_215_160_6).abs() < 1e-13);
/// # Ok::<(), marginals::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct FixedPoint {
    /// A problem has converged where max |g(z) − z| is at most this.
    pub tolerance: f64,
    /// It also stops where F fell by at most this in a step. 0 asks for F to stand still; `None`
    /// does not look at F.
    pub energy_tolerance: Option<f64>,
    /// Steps after which it stops anyway.
    pub max_steps: usize,
    /// How steps are combined.
    pub acceleration: Acceleration,
    /// How the result is differentiated.
    pub differentiation: Differentiation,
}

impl Default for FixedPoint {
    /// To 1e-6 in z, 100 plain steps at most, differentiated implicitly.
    fn default() -> Self {
        Self {
            tolerance: 1e-6,
            energy_tolerance: None,
            max_steps: 100,
            acceleration: Acceleration::None,
            differentiation: Differentiation::default(),
        }
    }
}

/// How steps are combined.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Acceleration {
    /// z ← g(z).
    #[default]
    None,
    /// Anderson's combination of the last `memory` steps. Where F would rise by it (or, without F,
    /// the residual), the plain step is taken instead, at the cost of another evaluation.
    Anderson {
        /// Steps remembered.
        memory: usize,
    },
}

/// Why a problem stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The residual came within the tolerance.
    Converged,
    /// F stood still within its tolerance.
    EnergyStandsStill,
    /// The steps ran out.
    StepsExhausted,
    /// z, F or the step was not finite any more; z is from the last step at which they were.
    NotFinite,
}

/// One entry of the trace.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Trace<T> {
    /// F summed over the problems; `None` where the update has no F.
    pub free_energy: Option<T>,
    /// The largest residual of any problem.
    pub residual: T,
}

/// Result of a solve. Not converging is data, not an error.
#[derive(Clone, Debug)]
pub struct Solution<T> {
    /// Where the iteration stopped.
    pub z: Vec<T>,
    /// F(z) of each problem; empty where the update has no F.
    pub free_energy: Vec<T>,
    /// max |g(z) − z| of each problem.
    pub residual: Vec<T>,
    /// Steps each problem took.
    pub steps: Vec<usize>,
    /// Why each stopped.
    pub reasons: Vec<Reason>,
    /// F and residual at the start and after each step.
    pub trace: Vec<Trace<T>>,
    /// Passes: one per step and one for the end, and one more for each step taken back.
    pub evaluations: usize,
    /// z before each step, kept for [`Differentiation::Unrolled`] alone.
    pub(super) states: Vec<Vec<T>>,
}

impl<T> Solution<T> {
    /// Whether every problem converged or its F stands still.
    pub fn converged(&self) -> bool {
        let settled = [Reason::Converged, Reason::EnergyStandsStill];
        self.reasons.iter().all(|reason| settled.contains(reason))
    }
}

/// F rising by no more than this times |F| is rounding.
const ROUNDING: f64 = 4.0;

impl FixedPoint {
    /// The same with another acceleration.
    pub fn with_acceleration(self, acceleration: Acceleration) -> Self {
        Self { acceleration, ..self }
    }

    /// The same with another differentiation.
    pub fn with_differentiation(self, differentiation: Differentiation) -> Self {
        Self { differentiation, ..self }
    }

    fn check(&self) -> Result<(), Error> {
        check_tolerance("tolerance", self.tolerance)?;
        check_tolerance("energy_tolerance", self.energy_tolerance.unwrap_or(0.0))?;
        match self.acceleration {
            Acceleration::Anderson { memory: 0 } => {
                Err(Error::value("acceleration.memory", "at least 1 step", 0))
            }
            Acceleration::Anderson { .. } if self.differentiation == Differentiation::Unrolled => {
                Err(Error::NotAnswerable {
                    question: "unrolled differentiation of accelerated steps".to_owned(),
                    why: "the combination of steps depends on all of them".to_owned(),
                    instead: "Differentiate implicitly, or take plain steps.".to_owned(),
                })
            }
            _ => self.differentiation.check(),
        }
    }

    /// Repeats `update` from `start`.
    ///
    /// Memory: a few vectors of z's length; with acceleration twice `memory` more, and with
    /// [`Differentiation::Unrolled`] one per step.
    pub fn solve<T: Real, U: Update<T> + ?Sized>(
        &self,
        update: &U,
        start: &[T],
    ) -> Result<Solution<T>, Error> {
        self.check()?;
        let (problems, width) = (update.problems(), update.width());
        if start.len() != problems * width {
            return Err(Error::shape(
                "start",
                format!("[{}]: {problems} problems of {width} numbers", problems * width),
                &[start.len()],
                "Give one start for every problem.",
            ));
        }
        if let Some(position) = start.iter().position(|z| z.is_nan()) {
            let position = vec![position / width, position % width];
            return Err(Error::not_a_number("start", position));
        }
        let mut run = Run::new(self, problems, width, start.to_vec());
        let mut at = update.evaluate(&run.z)?;
        run.evaluations += 1;
        loop {
            run.judge(&at);
            if run.reasons.iter().all(Option::is_some) {
                return Ok(run.finish());
            }
            at = run.step(update, at)?;
        }
    }
}

/// A solve under way.
struct Run<'a, T> {
    engine: &'a FixedPoint,
    width: usize,
    z: Vec<T>,
    free_energy: Vec<T>,
    residual: Vec<T>,
    steps: Vec<usize>,
    reasons: Vec<Option<Reason>>,
    histories: Vec<Anderson<T>>,
    /// Where each problem comes from, for those that turn out not finite.
    before: Vec<T>,
    trace: Vec<Trace<T>>,
    states: Vec<Vec<T>>,
    evaluations: usize,
}

impl<'a, T: Real> Run<'a, T> {
    fn new(engine: &'a FixedPoint, problems: usize, width: usize, z: Vec<T>) -> Self {
        Self {
            engine,
            width,
            before: z.clone(),
            z,
            free_energy: Vec::new(),
            residual: vec![T::infinity(); problems],
            steps: vec![0; problems],
            reasons: vec![None; problems],
            histories: vec![Anderson::new(); problems],
            trace: Vec::new(),
            states: Vec::new(),
            evaluations: 0,
        }
    }

    fn span(&self, problem: usize) -> std::ops::Range<usize> {
        problem * self.width..(problem + 1) * self.width
    }

    fn is_active(&self, problem: usize) -> bool {
        self.reasons[problem].is_none()
    }

    /// Looks at where the problems are, and stops those that are done.
    fn judge(&mut self, at: &Evaluation<T>) {
        let residual = residuals(&self.z, &at.next, self.width);
        let has_energy = !at.free_energy.is_empty();
        if has_energy && self.free_energy.is_empty() {
            self.free_energy = vec![T::infinity(); self.reasons.len()];
        }
        for p in 0..self.reasons.len() {
            if !self.is_active(p) {
                continue;
            }
            // A problem without numbers stands still by definition.
            let own = residual.get(p).copied().unwrap_or(T::zero());
            let energy = if has_energy { at.free_energy[p] } else { T::zero() };
            if !own.is_finite() || energy.is_nan() || energy == T::infinity() {
                self.reasons[p] = Some(Reason::NotFinite);
                if self.steps[p] > 0 {
                    let span = self.span(p);
                    self.z[span.clone()].copy_from_slice(&self.before[span]);
                    self.steps[p] -= 1;
                }
                continue;
            }
            let fell = if has_energy { self.free_energy[p] - energy } else { T::infinity() };
            self.residual[p] = own;
            if has_energy {
                self.free_energy[p] = energy;
            }
            self.reasons[p] = if own.f64() <= self.engine.tolerance {
                Some(Reason::Converged)
            } else if self.engine.energy_tolerance.is_some_and(|least| fell.f64() <= least) {
                Some(Reason::EnergyStandsStill)
            } else if self.steps[p] >= self.engine.max_steps {
                Some(Reason::StepsExhausted)
            } else {
                None
            };
        }
        self.trace.push(Trace {
            free_energy: has_energy.then(|| self.free_energy.iter().copied().sum()),
            residual: self.residual.iter().copied().fold(T::zero(), |a, b| a.max(b)),
        });
    }

    /// Moves the problems that are not done, and evaluates where they came to.
    fn step<U: Update<T> + ?Sized>(
        &mut self,
        update: &U,
        at: Evaluation<T>,
    ) -> Result<Evaluation<T>, Error> {
        self.before.copy_from_slice(&self.z);
        if self.engine.differentiation == Differentiation::Unrolled {
            self.states.push(self.z.clone());
        }
        let mut accelerated = vec![false; self.reasons.len()];
        for (p, accelerated) in accelerated.iter_mut().enumerate() {
            if !self.is_active(p) {
                continue;
            }
            self.steps[p] += 1;
            let span = self.span(p);
            let (z, next) = (&self.before[span.clone()], &at.next[span.clone()]);
            let proposed = match self.engine.acceleration {
                Acceleration::None => None,
                Acceleration::Anderson { memory } => self.histories[p].propose(z, next, memory),
            };
            *accelerated = proposed.is_some();
            self.z[span].copy_from_slice(proposed.as_deref().unwrap_or(next));
        }
        let mut reached = update.evaluate(&self.z)?;
        self.evaluations += 1;
        let residual = residuals(&self.z, &reached.next, self.width);
        let mut taken_back = false;
        for p in (0..accelerated.len()).filter(|&p| accelerated[p]) {
            let good = match reached.free_energy.get(p) {
                Some(&energy) => {
                    let least = self.free_energy[p];
                    energy <= least + T::of(ROUNDING) * T::epsilon() * least.abs()
                }
                None => residual[p] <= self.residual[p],
            };
            if !good {
                let span = self.span(p);
                self.z[span.clone()].copy_from_slice(&at.next[span]);
                self.histories[p].clear();
                taken_back = true;
            }
        }
        if taken_back {
            reached = update.evaluate(&self.z)?;
            self.evaluations += 1;
        }
        Ok(reached)
    }

    fn finish(self) -> Solution<T> {
        Solution {
            z: self.z,
            free_energy: self.free_energy,
            residual: self.residual,
            steps: self.steps,
            reasons: self.reasons.into_iter().flatten().collect(),
            trace: self.trace,
            evaluations: self.evaluations,
            states: self.states,
        }
    }
}

/// max |g(z) − z| of each problem.
fn residuals<T: Real>(z: &[T], next: &[T], width: usize) -> Vec<T> {
    largest(z.iter().zip(next).map(|(&z, &next)| next - z), width)
}
