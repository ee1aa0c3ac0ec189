//! Rotary position embedding (Su et al., *RoFormer*, 2021, eq. 15), in place on projected rows.
//!
//! Coordinates i and i + width/2 turn together, as in all published models; the paper has neighbours turn,
//! which is the same embedding with the rows of the projections in another order.

mod scaling;

use serde_json::{Map, Value as Json};

pub use self::scaling::Scaling;
use super::settings::Settings;
use crate::error::ModelError;

/// Settings of a rotary embedding.
#[derive(Clone, Debug, PartialEq)]
pub struct RotaryConfig {
    /// Coordinates of a head that turn, from its first.
    pub width: usize,
    /// θ: pair i turns by position · θ^(−2i/width).
    pub base: f64,
    /// Scaling of these frequencies.
    pub scaling: Scaling,
}

/// Sizes and defaults that a family's rotary settings are read with.
pub(crate) struct RotaryDefaults {
    pub head_width: usize,
    /// Longest text, where no scaling says otherwise.
    pub context: usize,
    pub base: f64,
    /// Whether the family turns a part of a head's coordinates where its settings say so.
    pub partial: bool,
}

impl RotaryConfig {
    /// Settings of a `config.json`: `rope_scaling` with `rope_theta` in older files, `rope_parameters` in
    /// newer ones, where `kind` is the type of layer that they are for if there are those of several.
    ///
    /// # Errors
    /// [`ModelError`], where they make no sense or are not supported.
    pub(crate) fn read(
        settings: &Settings,
        kind: &str,
        defaults: &RotaryDefaults,
    ) -> Result<Self, ModelError> {
        let (older, newer) = (settings.get("rope_scaling"), settings.get("rope_parameters"));
        let newer = newer.map(|all| all.get(kind).unwrap_or(all));
        Self::of(settings, older.or(newer), "rope_theta", defaults)
    }

    /// Settings of one type of layer that has its own: in older files its base alone, under a name of its own.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub(crate) fn read_own(
        settings: &Settings,
        kind: &str,
        base: &str,
        defaults: &RotaryDefaults,
    ) -> Result<Self, ModelError> {
        let newer = settings.get("rope_parameters").and_then(|all| all.get(kind));
        Self::of(settings, newer, base, defaults)
    }

    fn of(
        settings: &Settings,
        found: Option<&Json>,
        base: &str,
        defaults: &RotaryDefaults,
    ) -> Result<Self, ModelError> {
        let mut found = match found {
            None | Some(Json::Null) => Map::new(),
            Some(Json::Object(found)) => found.clone(),
            Some(other) => {
                return Err(settings.damaged(format!("its rotary scaling is {other}")));
            }
        };
        // Phi-3 keeps it outside.
        let original = "original_max_position_embeddings";
        if let Some(length) = settings.get(original) {
            found.insert(original.to_owned(), length.clone());
        }
        let number = |key: &str, outside: &str, default: f64| match found.get(key) {
            None | Some(Json::Null) => settings.number_or(outside, default),
            Some(value) => value.as_f64().filter(|x| x.is_finite() && *x > 0.0).ok_or_else(|| {
                settings.damaged(format!("`{key}` is {value}, and a number above 0 is expected"))
            }),
        };
        let share = number("partial_rotary_factor", "partial_rotary_factor", 1.0)?;
        if share > 1.0 || (share != 1.0 && !defaults.partial) {
            return Err(settings.unsupported(format!(
                "`partial_rotary_factor` is {share}; rotary embeddings over the whole head are \
                 supported"
            )));
        }
        let width = (defaults.head_width as f64 * share) as usize;
        let scaling = Scaling::read(&found, defaults.context, width / 2)
            .map_err(|reason| settings.damaged(reason))?
            .map_err(|reason| settings.unsupported(reason))?;
        let base = number("rope_theta", base, defaults.base)?;
        Ok(RotaryConfig { width, base, scaling })
    }

    /// Reason why these settings make no rotary embedding, if there is one.
    pub(crate) fn fault(&self) -> Option<String> {
        if self.width == 0 || !self.width.is_multiple_of(2) {
            return Some(format!(
                "{} coordinates of a head turn, and a rotary embedding needs pairs of coordinates",
                self.width
            ));
        }
        match self.base > 0.0 && self.base.is_finite() {
            true => None,
            false => Some(format!("the base of the rotary embedding is {}", self.base)),
        }
    }

    /// The rotary embedding of a text of `nodes` tokens.
    pub(crate) fn of_text(&self, nodes: usize) -> Rotary {
        let frequencies = self.scaling.frequencies(self.base, self.width / 2, nodes);
        Rotary::new(nodes, frequencies)
    }
}

/// The angles of every position, as cosines and sines `[N, width/2]`.
#[derive(Debug)]
pub(crate) struct Rotary {
    cosines: Vec<f32>,
    sines: Vec<f32>,
    pairs: usize,
}

impl Rotary {
    /// Angles for positions 0..`nodes` of heads of as many pairs as there are frequencies; what is turned
    /// is also multiplied by `magnitude`.
    ///
    /// Computed in `f64`: at position 8,000 a single-precision angle is already off by 2e-4.
    pub fn new(nodes: usize, (frequencies, magnitude): (Vec<f64>, f64)) -> Self {
        let pairs = frequencies.len();
        let mut cosines = Vec::with_capacity(nodes * pairs);
        let mut sines = Vec::with_capacity(nodes * pairs);
        for position in 0..nodes {
            for frequency in &frequencies {
                let (sine, cosine) = (position as f64 * frequency).sin_cos();
                cosines.push((magnitude * cosine) as f32);
                sines.push((magnitude * sine) as f32);
            }
        }
        Rotary { cosines, sines, pairs }
    }

    /// Turns rows `[N, H·D]` of heads of `head_width` = D, row i by the angles of position i. Coordinates of
    /// a head beyond the pairs stay as they are.
    pub fn turn(&self, rows: &mut [f32], nodes: usize, head_width: usize) {
        let row_width = rows.len() / nodes.max(1);
        let angles = self.cosines.chunks_exact(self.pairs).zip(self.sines.chunks_exact(self.pairs));
        for (row, (cosines, sines)) in rows.chunks_exact_mut(row_width).zip(angles) {
            for head in row.chunks_exact_mut(head_width) {
                for pair in 0..self.pairs {
                    let (first, second) = (pair, pair + self.pairs);
                    let (x, y) = (head[first], head[second]);
                    head[first] = x * cosines[pair] - y * sines[pair];
                    head[second] = x * sines[pair] + y * cosines[pair];
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turned(row: [f32; 4], position: usize) -> Vec<f32> {
        let rotary = Rotary::new(position + 1, (vec![1.0, 0.1], 1.0));
        let mut rows = [[0.0; 4]].repeat(position).concat();
        rows.extend(row);
        rotary.turn(&mut rows, position + 1, 4);
        rows[4 * position..].to_vec()
    }

    #[test]
    fn pairs_turn_by_position_times_frequency() {
        // Base 100 over width 4: the two frequencies are 1 and 1/10.
        let (sine, cosine) = 3.0f32.sin_cos();
        let (slow_sine, slow_cosine) = 0.3f32.sin_cos();
        let expected = [cosine, sine, slow_cosine, slow_sine];
        let halves = turned([1.0, 1.0, 0.0, 0.0], 3);
        for (found, index) in halves.iter().zip([0, 2, 1, 3]) {
            assert!((found - expected[index]).abs() < 1e-6, "{halves:?}");
        }
    }
}
