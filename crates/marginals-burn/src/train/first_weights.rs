//! First weights that depend on the seed alone, whatever is drawn beside them.

use std::sync::Mutex;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Tensor};
use marginals::Error;

use crate::modules::{ByteLm, ByteLmConfig};

/// Burn draws from one generator that all threads share.
static DRAWING: Mutex<()> = Mutex::new(());

/// Makes weights be drawn that have not been yet.
struct Draw;

impl ModuleVisitor for Draw {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        param.val();
    }
}

/// A model with weights drawn by `seed`, the same however many are made at once. They are drawn in the
/// order in which the model lists them, which is that in which it uses them.
///
/// # Errors
/// As [`ByteLmConfig::init`].
pub(super) fn first_weights(
    config: &ByteLmConfig,
    seed: u64,
    device: &Device,
) -> Result<ByteLm, Error> {
    let _alone = DRAWING.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    device.seed(seed);
    let lm = config.init(device)?;
    // Burn would wait with most of them until they are used.
    lm.visit(&mut Draw);
    Ok(lm)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::weights::{Storage, to_safetensors};
    use crate::train::config::tests::CONFIG;
    use crate::train::{ThreadsError, TrainConfig, run_all};
    use std::num::NonZeroUsize;
    use std::sync::Barrier;

    fn lm(seed: u64) -> ByteLm {
        let config = TrainConfig::from_toml(CONFIG).unwrap().lm();
        first_weights(&config, seed, &Device::flex()).unwrap()
    }

    fn bytes(lm: &ByteLm) -> Vec<u8> {
        to_safetensors(lm, Storage::F32).unwrap()
    }

    /// Two at a time, begun in the same moment, are what each is alone.
    #[test]
    fn they_are_the_same_at_any_number_of_threads() {
        let alone: Vec<Vec<u8>> = (0..16).map(|seed| bytes(&lm(seed))).collect();
        assert_ne!(alone[0], alone[1]);
        let together = Barrier::new(2);
        let two = NonZeroUsize::new(2).unwrap();
        let seeds: Vec<u64> = (0..16).collect();
        let found = run_all(&seeds, two, |&seed| -> Result<_, ThreadsError> {
            together.wait();
            Ok(bytes(&lm(seed)))
        });
        assert!(found.unwrap() == alone, "a seed drew other weights beside another");
    }

    /// The order of listing is the order of use: what Burn would have drawn step by step.
    #[test]
    fn they_are_those_of_first_use() {
        let device = Device::flex();
        let config = TrainConfig::from_toml(CONFIG).unwrap().lm();
        let _alone = DRAWING.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        device.seed(3);
        let used = config.init(&device).unwrap();
        used.forward(Tensor::zeros([1, 2], &device)).unwrap();
        drop(_alone);
        assert!(bytes(&used) == bytes(&lm(3)), "weights are used in another order");
    }
}
