//! Gradients beside finite differences of a loss that the library takes no part in.

use std::cell::Cell;

use marginals_testkit::finite_difference::{Derivative, along, gradient_at};
use marginals_testkit::generate::Random;

/// Agreement demanded, relative to the largest entry of the tensor.
const TOLERANCE: f64 = 1e-6;

/// How many numbers were compared, and at how many the differences did not settle (beside a kink, or
/// where an average divides by almost nothing).
#[derive(Default)]
pub struct Slopes {
    compared: Cell<u32>,
    unsettled: Cell<u32>,
}

impl Slopes {
    /// Compares the gradient `found` of a tensor `x` with the slopes of `loss`: at a few entries, and
    /// along a random direction, which moves all of them.
    pub fn check(
        &self,
        name: &str,
        (x, found): (&[f64], &[f64]),
        entries: usize,
        random: &mut Random,
        mut loss: impl FnMut(&[f64]) -> f64,
    ) -> Result<(), String> {
        if x.len() != found.len() {
            return Err(format!("gradient of {name} has {} entries, not {}", found.len(), x.len()));
        }
        let scale = found.iter().fold(0.0, |m: f64, g| m.max(g.abs()));
        let mut chosen: Vec<usize> = match x.len() <= entries {
            true => (0..x.len()).collect(),
            false => (0..entries).map(|_| random.integer(0, x.len() as i64 - 1) as usize).collect(),
        };
        // What is no number cannot be moved; see below.
        chosen.retain(|&entry| x[entry].is_finite());
        let slopes = gradient_at(x, chosen.iter().copied(), &mut loss);
        for (&entry, &slope) in chosen.iter().zip(&slopes) {
            self.agrees(&format!("{name}[{entry}]"), found[entry], slope, scale)?;
        }
        let direction: Vec<f64> =
            x.iter().map(|x| if x.is_finite() { random.normal() } else { 0.0 }).collect();
        let slope = along(x, &direction, &mut loss);
        let sum: f64 = found.iter().zip(&direction).map(|(g, d)| g * d).sum();
        let root = (x.len() as f64).sqrt();
        self.agrees(&format!("{name} along a direction"), sum, slope, scale * root)?;
        match found.iter().zip(x).find(|(g, x)| !x.is_finite() && **g != 0.0) {
            Some((g, x)) => Err(format!("gradient of {name} is {g} where it holds {x}")),
            None => Ok(()),
        }
    }

    /// Compares one number with its finite difference; `scale` is the size of the tensor's gradient.
    fn agrees(&self, name: &str, found: f64, e: Derivative, scale: f64) -> Result<(), String> {
        self.compared.update(|n| n + 1);
        if e.error > TOLERANCE * scale.max(0.1) {
            self.unsettled.update(|n| n + 1);
            return Ok(());
        }
        // Losses are of order 1 and more; a slope below 1e-4 of the tolerance is none.
        let allowed = TOLERANCE * scale.max(e.value.abs()).max(1e-4) + 4.0 * e.error;
        // Written so that NaN fails.
        if (found - e.value).abs() <= allowed {
            return Ok(());
        }
        Err(format!(
            "gradient of {name} is {found:e}, finite differences give {:e} ± {:e} (scale {scale:e})",
            e.value, e.error
        ))
    }

    /// Fails where more than one in `most` differences did not settle: nothing was compared there.
    pub fn assert_settled(&self, most: u32) {
        let (compared, unsettled) = (self.compared.get(), self.unsettled.get());
        assert!(
            compared > 0 && unsettled * most <= compared,
            "{unsettled} of {compared} differences do not settle"
        );
    }
}

/// Names as gradients have them: repeated ones are numbered from 2.
pub fn numbered(names: &[&str]) -> Vec<String> {
    let number = |(index, name): (usize, &&str)| match names[..index]
        .iter()
        .filter(|earlier| *earlier == name)
        .count()
    {
        0 => (*name).to_owned(),
        earlier => format!("{name}.{}", earlier + 1),
    };
    names.iter().enumerate().map(number).collect()
}
