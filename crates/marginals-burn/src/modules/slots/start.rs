//! Where slots start: draws from one learned Gaussian.

use burn::tensor::{Tensor, TensorData};
use marginals::Error;
use marginals_kernels::random::{philox, uniform};

use crate::sizes::at_least_one;

/// μ + e^{log σ} ⊙ ε, ε ~ N(0, 1), one draw per slot.
///
/// A draw depends on the seed and on its own batch entry and slot alone: more slots, or a larger
/// batch, leave those before as they were.
///
/// # Shapes
/// - mu, log_sigma: `[width]`
/// - output: `[batch, slots, width]`
pub(crate) fn draw(
    mu: Tensor<1>,
    log_sigma: Tensor<1>,
    [batch, slots]: [usize; 2],
    seed: u64,
) -> Result<Tensor<3>, Error> {
    at_least_one("batch", batch)?;
    at_least_one("slots", slots)?;
    let [width] = mu.dims();
    let key = [seed as u32, (seed >> 32) as u32];
    let mut noise: Vec<f32> = Vec::with_capacity(batch * slots * width);
    for b in 0..batch {
        for k in 0..slots {
            noise.extend((0..width).map(|c| normal([c as u32, k as u32, b as u32, 0], key)));
        }
    }
    let device = mu.device();
    let noise = Tensor::<3>::from_data(TensorData::new(noise, [batch, slots, width]), &device);
    Ok(noise * log_sigma.exp().reshape([1, 1, width]) + mu.reshape([1, 1, width]))
}

/// A standard normal number (Box & Muller 1958) from a counter and a key.
fn normal(counter: [u32; 4], key: [u32; 2]) -> f32 {
    let [a, b, c, d] = philox(counter, key);
    let radius = (-2.0 * uniform(a, b).ln()).sqrt();
    (radius * (std::f64::consts::TAU * uniform(c, d)).cos()) as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn draws_have_the_moments_they_were_given() {
        let device = Device::default();
        let (mu, log_sigma) = ([0.5f32, -2.0], [0.0f32, 1.0]);
        let of = |x: [f32; 2]| Tensor::<1>::from_floats(x, &device);
        let count = 20_000;
        let drawn = draw(of(mu), of(log_sigma), [2, count], 7).unwrap();
        let values: Vec<f32> = drawn.into_data().try_into_vec().unwrap();
        for c in 0..2 {
            let own = || values.iter().skip(c).step_by(2).map(|&x| f64::from(x));
            let total = 2.0 * count as f64;
            let mean = own().sum::<f64>() / total;
            let deviation = (own().map(|x| (x - mean).powi(2)).sum::<f64>() / total).sqrt();
            let sigma = f64::from(log_sigma[c]).exp();
            // Five standard errors.
            assert!((mean - f64::from(mu[c])).abs() < 5.0 * sigma / total.sqrt(), "{mean}");
            assert!((deviation / sigma - 1.0).abs() < 5.0 / (2.0 * total).sqrt(), "{deviation}");
        }
    }

    #[test]
    fn a_draw_knows_its_place_and_seed_alone() {
        let device = Device::default();
        let of = |batch, slots, seed| -> Vec<f32> {
            let mu = Tensor::<1>::zeros([3], &device);
            let drawn = draw(mu.clone(), mu, [batch, slots], seed).unwrap();
            drawn.into_data().try_into_vec().unwrap()
        };
        let few = of(1, 2, 5);
        let many = of(2, 4, 5);
        assert_eq!(few[..], many[..6]);
        assert_ne!(many[..12], many[12..]);
        assert_ne!(few, of(1, 2, 6));
        assert!(matches!(
            draw(Tensor::zeros([3], &device), Tensor::zeros([3], &device), [1, 0], 1),
            Err(Error::Value { argument, .. }) if argument == "slots"
        ));
    }
}
