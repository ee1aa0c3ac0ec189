use serde::{Deserialize, Serialize};

/// The entropic dual of a matching, in place of sums over all matchings: optimal transport.
///
/// See [the module](super).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Entropic {
    /// The most by which the masses of all keys together may differ from what they are to be, as a share of
    /// the total: above 0.
    #[serde(default = "usual_tolerance")]
    pub tolerance: f64,
    /// Steps at most, each a pass over the scores.
    #[serde(default = "usual_steps")]
    pub steps: usize,
}

fn usual_tolerance() -> f64 {
    1e-6
}

fn usual_steps() -> usize {
    1000
}

impl Default for Entropic {
    /// A tolerance of 10⁻⁶ and 1,000 steps.
    fn default() -> Self {
        Self { tolerance: usual_tolerance(), steps: usual_steps() }
    }
}

impl Entropic {
    /// The dual solved to this tolerance.
    pub fn within(tolerance: f64) -> Self {
        Self { tolerance, ..Self::default() }
    }

    /// These settings with a limit of so many steps.
    pub fn with_steps(self, steps: usize) -> Self {
        Self { steps, ..self }
    }
}
