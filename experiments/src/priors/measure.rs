//! A trained model on windows of several lengths.

use burn::tensor::{Device, Int, Tensor, TensorData};
use marginals_burn::modules::Positions;
use marginals_burn::train::{Training, bits_per_byte};
use serde::{Deserialize, Serialize};

use super::config::Config;
use crate::Outcome;

/// What was measured of one model.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Measured {
    /// Bits per byte of the same held-out bytes, by length of the windows they are read in; learned
    /// positions end with the windows they were trained on.
    pub bits: Vec<(usize, f64)>,
    /// What attention does, by how many bytes a query has behind it.
    pub reach: Vec<Reach>,
}

/// Means over queries with `from..2·from` bytes behind them, over layers, heads and windows.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub struct Reach {
    pub from: usize,
    /// Entropy of the posterior, in nats.
    pub entropy: f64,
    /// Expected distance, in bytes.
    pub distance: f64,
}

pub fn measure(config: &Config, training: &Training) -> Outcome<Measured> {
    let lm = training.model();
    let trained = training.config();
    let longest = match trained.model.positions {
        Positions::None => usize::MAX,
        Positions::Learned => trained.batches.context,
    };
    let held_out = &training.corpus().held_out;
    // A window's bytes and the byte after the last.
    let text = held_out.get(..=config.measured).ok_or_else(|| {
        format!(
            "{} bytes are held out, and {} are to be predicted",
            held_out.len(),
            config.measured
        )
    })?;
    let lengths = config.lengths.iter().filter(|&&length| length <= longest);
    let mut bits = Vec::new();
    for &length in lengths.clone() {
        bits.push((length, bits_per_byte(&lm, text, length, None)?));
    }
    let length = lengths.max().copied().ok_or("no length to measure")?;
    let device = Device::flex();
    let mut sums: Vec<(Reach, f64)> = Vec::new();
    for window in text.chunks_exact(length).take(config.asked) {
        let bytes: Vec<i64> = window.iter().map(|&byte| i64::from(byte)).collect();
        let bytes = Tensor::<2, Int>::from_data(TensorData::new(bytes, [1, length]), &device);
        let (_, layers) = lm.ask(bytes, &["entropy", "expected-distance"])?;
        for answers in layers {
            let of = |question: &str| -> Outcome<Vec<f32>> {
                Ok(answers.get::<3>(question)?.into_data().try_into_vec()?)
            };
            let (entropy, distance) = (of("entropy")?, of("expected-distance")?);
            for (index, (&entropy, &distance)) in entropy.iter().zip(&distance).enumerate() {
                // The first query has nothing behind it and no choice.
                let Some(octave) = (index % length).checked_ilog2() else { continue };
                let octave = octave as usize;
                if sums.len() <= octave {
                    sums.resize(octave + 1, Default::default());
                }
                let (sum, count) = &mut sums[octave];
                sum.entropy += f64::from(entropy);
                sum.distance += f64::from(distance);
                *count += 1.0;
            }
        }
    }
    let mean = |(octave, (sum, count)): (usize, &(Reach, f64))| Reach {
        from: 1 << octave,
        entropy: sum.entropy / count,
        distance: sum.distance / count,
    };
    Ok(Measured { bits, reach: sums.iter().enumerate().map(mean).collect() })
}
