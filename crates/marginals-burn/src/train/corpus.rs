//! The bytes that are trained on and those that are not.

use burn::tensor::{Device, Int, Tensor, TensorData};
use marginals::Error;
use marginals_kernels::random::{philox, uniform};
use serde::{Deserialize, Serialize};

/// A text in two parts.
#[derive(Clone, Debug)]
pub struct Corpus {
    /// Text that is trained on.
    pub train: Vec<u8>,
    /// Text that is held out.
    pub held_out: Vec<u8>,
}

/// Checksum that tells one text from another. Not proof against malice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Fingerprint {
    train: usize,
    held_out: usize,
    checksum: u64,
}

impl std::fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} + {} bytes (checksum {:016x})", self.train, self.held_out, self.checksum)
    }
}

/// Windows and, for each byte in them, the byte after it; `[windows, length]` both.
pub(crate) struct Windows {
    pub bytes: Tensor<2, Int>,
    pub targets: Tensor<2, Int>,
}

impl Corpus {
    /// Cuts `held_out` of a text off its end. Any bytes are a text.
    ///
    /// # Errors
    /// [`Error::Value`] where a part is too short for one window of `context` bytes and the byte
    /// after.
    pub fn split(mut text: Vec<u8>, held_out: f64, context: usize) -> Result<Self, Error> {
        let needed = context + 1;
        let cut = text.len() - (text.len() as f64 * held_out) as usize;
        let held_out = text.split_off(cut.min(text.len()));
        for (name, part) in [("trained on", &text), ("held out", &held_out)] {
            if part.len() < needed {
                return Err(Error::value(
                    "text",
                    format!(
                        "at least {needed} bytes that are {name}, one window and the byte after"
                    ),
                    format!("{} bytes", part.len()),
                ));
            }
        }
        Ok(Self { train: text, held_out })
    }

    /// Lengths of both parts and the FNV-1a hash of their bytes (Fowler, Noll & Vo).
    pub(crate) fn fingerprint(&self) -> Fingerprint {
        let checksum =
            self.train.iter().chain(&self.held_out).fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
                (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
            });
        Fingerprint { train: self.train.len(), held_out: self.held_out.len(), checksum }
    }

    /// The windows of one step: where they start depends on the seed, the step and their number.
    pub(crate) fn batch(
        &self,
        [size, context]: [usize; 2],
        step: usize,
        seed: u64,
        device: &Device,
    ) -> Windows {
        let key = [seed as u32, (seed >> 32) as u32];
        let places = self.train.len() - context;
        let start = |row: usize| {
            let [a, b, ..] = philox([row as u32, step as u32, (step >> 32) as u32, 1], key);
            ((uniform(a, b) * places as f64) as usize).min(places - 1)
        };
        let starts: Vec<usize> = (0..size).map(start).collect();
        windows(&self.train, &starts, context, device)
    }
}

/// The windows of `length` bytes at `starts`.
pub(crate) fn windows(text: &[u8], starts: &[usize], length: usize, device: &Device) -> Windows {
    let tensor = |shift: usize| {
        let bytes = starts.iter().flat_map(|&start| &text[start + shift..start + shift + length]);
        let bytes: Vec<i64> = bytes.map(|&byte| i64::from(byte)).collect();
        Tensor::from_data(TensorData::new(bytes, [starts.len(), length]), device)
    };
    Windows { bytes: tensor(0), targets: tensor(1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_at_the_share_asked_for() {
        let corpus = Corpus::split((0..100).collect(), 0.2, 10).unwrap();
        assert_eq!((corpus.train.len(), corpus.held_out.len()), (80, 20));
        assert_eq!(corpus.held_out[0], 80);
        for (length, context) in [(0, 1), (10, 9), (100, 20)] {
            let error = Corpus::split(vec![7; length], 0.2, context).unwrap_err();
            assert!(error.to_string().contains("`text`"), "{error}");
        }
    }

    #[test]
    fn a_fingerprint_changes_with_every_byte_and_with_the_cut() {
        let of = |text: &[u8], held_out| {
            Corpus::split(text.to_vec(), held_out, 1).unwrap().fingerprint()
        };
        let text: Vec<u8> = (0..100).collect();
        let own = of(&text, 0.2);
        assert_eq!(own, of(&text, 0.2));
        assert_ne!(own, of(&text, 0.3));
        for place in 0..text.len() {
            let mut other = text.clone();
            other[place] ^= 1;
            assert_ne!(own, of(&other, 0.2), "{place}");
        }
        // The published hash of "foobar".
        assert_eq!(of(b"foobar", 0.4).checksum, 0x8594_4171_f739_67e8);
    }

    #[test]
    fn batches_are_windows_of_the_text_and_depend_on_the_step_alone() {
        let device = Device::flex();
        let corpus = Corpus::split((0..=255).collect(), 0.2, 16).unwrap();
        let draw = |step| {
            let Windows { bytes, targets } = corpus.batch([64, 16], step, 3, &device);
            let list =
                |tensor: Tensor<2, Int>| -> Vec<i32> { tensor.into_data().try_into_vec().unwrap() };
            (list(bytes), list(targets))
        };
        let (bytes, targets) = draw(5);
        for (window, targets) in bytes.chunks(16).zip(targets.chunks(16)) {
            assert!(window.windows(2).all(|pair| pair[1] == pair[0] + 1));
            assert!(window.iter().zip(targets).all(|(byte, target)| *target == byte + 1));
            assert!(targets[15] <= 204, "{targets:?}");
        }
        assert_eq!(draw(5), draw(5));
        assert_ne!(draw(5), draw(6));
    }
}
