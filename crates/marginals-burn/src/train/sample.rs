//! Text that a model writes.

use burn::tensor::{Device, Int, Tensor, TensorData};
use marginals::Error;
use marginals_kernels::random::{philox, uniform};

use crate::modules::ByteLm;
use crate::tensors::into_values;

/// Goes on from `prompt` for `count` bytes, each drawn from the model's distribution with the scores
/// divided by `temperature`. The same seed writes the same text.
///
/// # Errors
/// [`Error::Value`] for an empty prompt, and as [`ByteLm::forward`].
pub fn sample(
    lm: &ByteLm,
    prompt: &[u8],
    count: usize,
    temperature: f64,
    seed: u64,
) -> Result<Vec<u8>, Error> {
    if prompt.is_empty() {
        return Err(Error::value("prompt", "at least one byte to go on from", "nothing"));
    }
    let device: Device = lm.norm.gamma.val().device();
    let key = [seed as u32, (seed >> 32) as u32];
    let mut text = prompt.to_vec();
    for step in 0..count {
        let seen = &text[text.len().saturating_sub(lm.context())..];
        let bytes: Vec<i64> = seen.iter().map(|&byte| i64::from(byte)).collect();
        let length = bytes.len();
        let bytes: Tensor<2, Int> = Tensor::from_data(TensorData::new(bytes, [1, length]), &device);
        let scores = into_values(lm.forward(bytes)?.narrow(1, length - 1, 1));
        let [a, b, ..] = philox([step as u32, 0, 0, 2], key);
        text.push(draw(&scores, temperature, uniform(a, b)));
    }
    Ok(text.split_off(prompt.len()))
}

/// The byte at `u` in (0, 1) of the distribution softmax(scores / temperature).
fn draw(scores: &[f32], temperature: f64, u: f64) -> u8 {
    let largest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weight = |score: f32| (f64::from(score - largest) / temperature).exp();
    let total: f64 = scores.iter().map(|&score| weight(score)).sum();
    let mut rest = u * total;
    for (byte, &score) in scores.iter().enumerate() {
        rest -= weight(score);
        if rest <= 0.0 {
            return byte as u8;
        }
    }
    (scores.len() - 1) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_come_as_often_as_they_should() {
        let scores = [0.0f32, (2.0f32).ln(), f32::NEG_INFINITY, (5.0f32).ln()];
        let mut counts = [0; 4];
        for i in 0..8_000 {
            counts[usize::from(draw(&scores, 1.0, (f64::from(i) + 0.5) / 8_000.0))] += 1;
        }
        assert_eq!(counts, [1_000, 2_000, 0, 5_000]);
        assert_eq!(draw(&scores, 1e-3, 0.5), 3);
    }
}
