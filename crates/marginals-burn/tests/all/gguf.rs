//! The GGUF reader: its number formats against the `gguf` package's, and what it does with files
//! that lie. The reference is written by `tools/reference/gguf_blocks.py`.

use std::path::PathBuf;

use crate::common::reference;
use marginals_burn::ModelError;
use marginals_burn::checkpoint::Checkpoint;
use marginals_burn::checkpoint::gguf::{BlockFormat, GgufFile, Value};
use serde::Deserialize;

#[derive(Deserialize)]
struct Case {
    format: String,
    code: u32,
    bytes: String,
    /// The bits of the values.
    values: String,
}

fn unhexed(text: &str) -> Vec<u8> {
    let byte = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(byte).collect()
}

#[test]
fn every_number_format_decodes_as_the_reference_does() {
    let cases: Vec<Case> = reference("gguf_blocks.json");
    assert_eq!(cases.len(), BlockFormat::names().count());
    for case in cases {
        let format = BlockFormat::from_code(case.code).expect("a known format");
        assert_eq!(BlockFormat::name_of(case.code), Some(&*case.format));
        let bytes = unhexed(&case.bytes);
        assert_eq!(bytes.len() % format.bytes(), 0, "{}", case.format);
        let values = format.decode(&bytes);
        let expected = unhexed(&case.values);
        let expected =
            expected.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        let expected: Vec<f32> = expected.map(f32::from_bits).collect();
        assert_eq!(values.len(), bytes.len() / format.bytes() * format.weights());
        assert_eq!(values.len(), expected.len(), "{}", case.format);
        for (at, (found, expected)) in values.iter().zip(&expected).enumerate() {
            let same = found.to_bits() == expected.to_bits();
            assert!(same, "{} {at}: {found} for {expected}", case.format);
        }
    }
}

/// Writes GGUF files, honest or not.
struct Builder {
    bytes: Vec<u8>,
}

impl Builder {
    fn new(tensors: u64, metadata: u64) -> Self {
        let mut bytes = b"GGUF".to_vec();
        bytes.extend(3u32.to_le_bytes());
        bytes.extend(tensors.to_le_bytes());
        bytes.extend(metadata.to_le_bytes());
        Builder { bytes }
    }

    fn raw(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend(bytes);
        self
    }

    fn u32(self, number: u32) -> Self {
        self.raw(&number.to_le_bytes())
    }

    fn u64(self, number: u64) -> Self {
        self.raw(&number.to_le_bytes())
    }

    fn text(self, text: &str) -> Self {
        self.u64(text.len() as u64).raw(text.as_bytes())
    }

    /// A one-axis tensor description.
    fn tensor(self, name: &str, size: u64, code: u32, offset: u64) -> Self {
        self.text(name).u32(1).u64(size).u32(code).u64(offset)
    }

    /// The beginnings of arrays within each other, each of one array.
    fn nested(self, depth: usize) -> Self {
        (0..depth).fold(self, |builder, _| builder.u32(9).u64(1))
    }

    fn open(self) -> Result<GgufFile, ModelError> {
        let folder = tempfile::tempdir().unwrap();
        let path: PathBuf = folder.path().join("model.gguf");
        std::fs::write(&path, self.bytes).unwrap();
        GgufFile::open(&path)
    }

    fn reason(self) -> String {
        match self.open() {
            Err(ModelError::Damaged { reason, .. }) => reason,
            Err(other) => panic!("another error: {other}"),
            Ok(_) => panic!("the file was accepted"),
        }
    }
}

#[test]
fn an_honest_file_is_read() {
    let builder = Builder::new(1, 2).text("name").u32(8).text("small");
    let builder = builder.text("sizes").u32(9).u32(4).u64(2).u32(7).u32(9);
    let mut builder = builder.tensor("w", 3, 0, 0);
    let padding = builder.bytes.len().next_multiple_of(32) - builder.bytes.len();
    builder = builder.raw(&vec![0; padding]);
    for number in [1.0f32, -2.5, 4.0] {
        builder = builder.raw(&number.to_le_bytes());
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    std::fs::write(&path, &builder.bytes).unwrap();
    let file = GgufFile::open(&path).unwrap();
    assert_eq!(file.text("name"), Some("small"));
    assert_eq!(file.metadata("sizes"), Some(&Value::Integers(vec![7, 9])));
    assert_eq!(file.shape("w"), Some(vec![3]));
    assert_eq!(file.tensor("w", &[3]).unwrap(), [1.0, -2.5, 4.0]);
    assert!(matches!(file.tensor("w", &[4]), Err(ModelError::Damaged { .. })));
    assert!(matches!(file.tensor("x", &[3]), Err(ModelError::Damaged { .. })));

    // Every proper prefix of it is refused, and none makes the reader panic.
    for length in 0..builder.bytes.len() {
        std::fs::write(&path, &builder.bytes[..length]).unwrap();
        assert!(
            matches!(GgufFile::open(&path), Err(ModelError::Damaged { .. })),
            "the first {length} bytes were accepted"
        );
    }
}

#[test]
fn no_flipped_byte_makes_the_reader_panic() {
    let builder = Builder::new(1, 1).text("sizes").u32(9).u32(4).u64(2).u32(7).u32(9);
    let bytes = builder.tensor("w", 3, 0, 0).raw(&[0; 64]).bytes;
    for position in 0..bytes.len() {
        for value in [0x00, 0x01, 0x7f, 0x80, 0xff] {
            let mut changed = bytes.clone();
            changed[position] = value;
            if let Ok(file) = (Builder { bytes: changed }).open() {
                let _ = file.values("w");
            }
        }
    }
}

#[test]
fn lies_are_named() {
    let cases = [
        (Builder { bytes: b"PK\x03\x04 not a model".to_vec() }, "four letters GGUF"),
        (Builder::new(0, u64::MAX), "metadata entries"),
        (Builder::new(u64::MAX / 2, 0), "tensors"),
        (Builder::new(0, 1).text("k").u32(8).u64(u64::MAX), "bytes of text"),
        (Builder::new(0, 1).text("k").u32(9).u32(4).u64(1 << 60), "array elements"),
        (Builder::new(0, 1).text("k").u32(9).u32(9).u64(1).raw(&[0; 8]), "array elements"),
        (Builder::new(0, 1).text("k").u32(9).u32(9).u64(1).u32(4).u64(9), "array elements"),
        (Builder::new(0, 1).text("k").u32(9).nested(9).u32(4).u64(0), "more than 8 deep"),
        (Builder::new(0, 1).text("k").u32(77).raw(&[0; 8]), "unknown value type 77"),
        (Builder::new(0, 1).text("general.alignment").u32(4).u32(0), "general.alignment"),
        (
            Builder::new(0, 2).text("k").u32(4).u32(1).text("k").u32(4).u32(1),
            "two metadata entries",
        ),
        (Builder::new(1, 0).tensor("w", u64::MAX, 0, 0).raw(&[0; 64]), "does not fit"),
        (Builder::new(1, 0).tensor("w", 4, 0, u64::MAX - 31).raw(&[0; 64]), "does not fit"),
        (Builder::new(1, 0).tensor("w", 4, 0, 7).raw(&[0; 64]), "does not fit"),
        (Builder::new(1, 0).tensor("w", 33, 8, 0).raw(&[0; 256]), "does not fit"),
        (Builder::new(2, 0).tensor("w", 4, 0, 0).tensor("v", 4, 0, 0).raw(&[0; 256]), "overlap"),
        (
            Builder::new(2, 0).tensor("w", 4, 0, 0).tensor("w", 4, 0, 32).raw(&[0; 256]),
            "two tensors",
        ),
        (Builder::new(1, 0).text("w").u32(9).raw(&[0; 64]), "9 axes"),
    ];
    for (builder, expected) in cases {
        let reason = builder.reason();
        assert!(reason.contains(expected), "`{reason}` does not say `{expected}`");
    }
}

#[test]
fn arrays_within_arrays_are_read_past() {
    // [[1, 2], ["x"], [[3]]], then a value that is wanted.
    let builder = Builder::new(0, 2).text("k").u32(9).u32(9).u64(3);
    let builder = builder.u32(0).u64(2).raw(&[1, 2]).u32(8).u64(1).text("x");
    let builder = builder.nested(1).u32(4).u64(1).u32(3);
    let file = builder.text("name").u32(8).text("small").open().unwrap();
    assert_eq!(file.metadata("k"), Some(&Value::Arrays));
    assert_eq!(file.text("name"), Some("small"));
}

/// A well-formed file that is not read is said to be that, and not to be damaged.
#[test]
fn what_is_not_read_is_named() {
    fn reason<T: std::fmt::Debug>(result: Result<T, ModelError>) -> String {
        match result {
            Err(ModelError::Unsupported { reason, .. }) => reason,
            other => panic!("{other:?}"),
        }
    }
    let formats = [(16, "IQ2_XXS"), (31, "Q4_0_4_4"), (35, "TQ2_0"), (77, "number format 77")];
    for (code, name) in formats {
        let file = Builder::new(1, 0).tensor("w", 256, code, 0).raw(&[0; 512]).open().unwrap();
        let reason = reason(file.values("w"));
        assert!(reason.contains(name) && reason.contains("IQ4_XS, MXFP4 are read"), "{reason}");
    }
    let split = Builder::new(0, 1).text("split.count").u32(2).raw(&2u16.to_le_bytes());
    let reason_of_split = reason(split.open());
    assert!(reason_of_split.contains("one of 2 parts"), "{reason_of_split}");
    let whole = Builder::new(0, 1).text("split.count").u32(2).raw(&1u16.to_le_bytes());
    assert!(whole.open().is_ok());
    for (version, said) in [([1, 0, 0, 0], "version 1"), ([0, 0, 0, 3], "big-endian")] {
        let bytes = [&b"GGUF"[..], &version, &[0; 16]].concat();
        let reason = reason(Builder { bytes }.open());
        assert!(reason.contains(said), "{reason}");
    }
}
