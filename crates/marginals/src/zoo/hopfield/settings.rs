use serde::{Deserialize, Serialize};

use crate::infer::collapsed::{Acceleration, FixedPoint};
use crate::spec::PerHead;

/// A Hopfield network as data: how sharp its memory is and how long it looks.
///
/// ```toml
/// hopfield = { beta = 8.0, steps = 3, tolerance = 1e-6 }
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Settings {
    /// Inverse temperature β > 0, one or one per head.
    pub beta: PerHead,
    /// Steps at most; 1, the default, is attention.
    #[serde(default = "one_step")]
    pub steps: usize,
    /// A state has settled where no number in it moves by more than this; 0, the default, takes
    /// all the steps unless it stands still.
    #[serde(default)]
    pub tolerance: f64,
    /// Steps that Anderson acceleration remembers; 0, the default, takes plain steps.
    #[serde(default)]
    pub memory: usize,
}

fn one_step() -> usize {
    1
}

impl Settings {
    /// The engine that takes the steps.
    pub fn engine(&self) -> FixedPoint {
        let acceleration = match self.memory {
            0 => Acceleration::None,
            memory => Acceleration::Anderson { memory },
        };
        FixedPoint {
            tolerance: self.tolerance,
            max_steps: self.steps,
            acceleration,
            ..FixedPoint::default()
        }
    }
}
