//! Rotary position embedding (Su et al., *RoFormer*, 2021, eq. 15), in place on projected rows.

/// Which two coordinates of a head turn together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pairing {
    /// 2i and 2i + 1: the paper's, and that of GGUF files.
    Interleaved,
    /// i and i + width/2: Hugging Face's.
    HalfSplit,
}

/// The angles of every position, as cosines and sines `[N, width/2]`.
#[derive(Debug)]
pub(crate) struct Rotary {
    cosines: Vec<f32>,
    sines: Vec<f32>,
    pairs: usize,
    pairing: Pairing,
}

impl Rotary {
    /// Angles for positions 0..`nodes` of heads of as many pairs as there are frequencies; what is turned
    /// is also multiplied by `magnitude`.
    ///
    /// Computed in `f64`: at position 8,000 a single-precision angle is already off by 2e-4.
    pub fn new(nodes: usize, (frequencies, magnitude): (Vec<f64>, f64), pairing: Pairing) -> Self {
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
        Rotary { cosines, sines, pairs, pairing }
    }

    /// Turns rows `[N, H·width]`; row i by the angles of position i.
    pub fn turn(&self, rows: &mut [f32], nodes: usize) {
        let row_width = rows.len() / nodes.max(1);
        let angles = self.cosines.chunks_exact(self.pairs).zip(self.sines.chunks_exact(self.pairs));
        for (row, (cosines, sines)) in rows.chunks_exact_mut(row_width).zip(angles) {
            for head in row.chunks_exact_mut(2 * self.pairs) {
                for pair in 0..self.pairs {
                    let (first, second) = match self.pairing {
                        Pairing::Interleaved => (2 * pair, 2 * pair + 1),
                        Pairing::HalfSplit => (pair, pair + self.pairs),
                    };
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

    fn turned(pairing: Pairing, row: [f32; 4], position: usize) -> Vec<f32> {
        let rotary = Rotary::new(position + 1, (vec![1.0, 0.1], 1.0), pairing);
        let mut rows = [[0.0; 4]].repeat(position).concat();
        rows.extend(row);
        rotary.turn(&mut rows, position + 1);
        rows[4 * position..].to_vec()
    }

    #[test]
    fn pairs_turn_by_position_times_frequency() {
        // Base 100 over width 4: the two frequencies are 1 and 1/10.
        let (sine, cosine) = 3.0f32.sin_cos();
        let (slow_sine, slow_cosine) = 0.3f32.sin_cos();
        let expected = [cosine, sine, slow_cosine, slow_sine];
        let neighbours = turned(Pairing::Interleaved, [1.0, 0.0, 1.0, 0.0], 3);
        for (found, expected) in neighbours.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-6, "{neighbours:?}");
        }
        let halves = turned(Pairing::HalfSplit, [1.0, 1.0, 0.0, 0.0], 3);
        for (found, index) in halves.iter().zip([0, 2, 1, 3]) {
            assert!((found - expected[index]).abs() < 1e-6, "{halves:?}");
        }
    }
}
