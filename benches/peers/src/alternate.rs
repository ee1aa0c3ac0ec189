//! Measuring sides in turn, so that whatever else the machine does falls on all of them.

use std::time::Duration;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::side::Side;

/// A run shorter than this is repeated until it lasts that long: clocks and wake-ups cost microseconds.
const SHORTEST: f64 = 0.05;
/// The time all rounds of one measurement may take, in seconds, before rounds are spared.
const BUDGET: f64 = 8.0;
/// What lets the other side's threads go to sleep after their last work.
const SETTLE: Duration = Duration::from_millis(15);

/// How long one side takes.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Timing {
    /// The median over the rounds, in seconds.
    pub median: f64,
    /// The least, in seconds.
    pub minimum: f64,
}

/// What alternating rounds gave: seconds per run, by side, then by round.
pub struct Rounds(Vec<Vec<f64>>);

impl Rounds {
    /// Measures every side once a round, in an order that turns around from round to round.
    ///
    /// All sides are warm: each has answered before. `fewest` is kept to whatever a round costs.
    pub fn measure(sides: &mut [&mut dyn Side], quick: bool) -> Result<Self> {
        let mut repetitions = Vec::new();
        let mut round = 0.0;
        for side in sides.iter_mut() {
            let once = side.time(1)?;
            let count = (SHORTEST / once).ceil().clamp(1.0, 1000.0);
            round += once * (count + f64::from(u8::from(count > 1.0)));
            repetitions.push(count as usize);
        }
        let fewest = match round {
            _ if quick => 3.0,
            r if r < 4.0 => 7.0,
            _ => 3.0,
        };
        let rounds = if quick { fewest } else { (BUDGET / round).floor().clamp(fewest, 15.0) };
        let mut seconds = vec![Vec::new(); sides.len()];
        for round in 0..rounds as usize {
            let mut order: Vec<usize> = (0..sides.len()).collect();
            if round % 2 == 1 {
                order.reverse();
            }
            for index in order {
                std::thread::sleep(SETTLE);
                if repetitions[index] > 1 {
                    // A short run feels the caches that the other side left cold.
                    sides[index].time(1)?;
                }
                let taken = sides[index].time(repetitions[index])?;
                seconds[index].push(taken / repetitions[index] as f64);
            }
        }
        Ok(Self(seconds))
    }

    /// How many rounds there were.
    pub fn count(&self) -> usize {
        self.0[0].len()
    }

    /// How long a side takes.
    pub fn timing(&self, side: usize) -> Timing {
        let minimum = self.0[side].iter().copied().fold(f64::INFINITY, f64::min);
        Timing { median: median(self.0[side].clone()), minimum }
    }

    /// The median over the rounds of the time of `side` over that of `other` in the same round.
    pub fn ratio(&self, side: usize, other: usize) -> f64 {
        median(self.0[side].iter().zip(&self.0[other]).map(|(a, b)| a / b).collect())
    }
}

/// The middle of the numbers, or the mean of the two in the middle.
fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    let middle = numbers.len() / 2;
    if numbers.len() % 2 == 1 {
        numbers[middle]
    } else {
        (numbers[middle - 1] + numbers[middle]) / 2.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_pair_the_rounds() {
        // The machine is half as fast in the second round: the ratio must not notice.
        let rounds = Rounds(vec![vec![2.0, 4.0, 2.0], vec![1.0, 2.0, 1.0]]);
        assert_eq!(rounds.ratio(0, 1), 2.0);
        assert_eq!(rounds.timing(0).median, 2.0);
        assert_eq!(rounds.timing(0).minimum, 2.0);
        assert_eq!(median(vec![4.0, 1.0]), 2.5);
    }
}
