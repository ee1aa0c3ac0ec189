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
    values: Vec<f32>,
}

#[test]
fn every_number_format_decodes_as_the_reference_does() {
    let cases: Vec<Case> = reference("gguf_blocks.json");
    assert_eq!(cases.len(), 8);
    for case in cases {
        let bytes: Vec<u8> = (0..case.bytes.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&case.bytes[at..at + 2], 16).unwrap())
            .collect();
        let format = BlockFormat::from_code(case.code).expect("a known format");
        assert_eq!(bytes.len() % format.bytes(), 0, "{}", case.format);
        let values = format.decode(&bytes);
        assert_eq!(values.len(), case.values.len(), "{}", case.format);
        for (found, expected) in values.iter().zip(&case.values) {
            // The reference multiplies scales in another order: one rounding apart.
            let allowed = 2.0 * f32::EPSILON * expected.abs().max(1.0);
            assert!((found - expected).abs() <= allowed, "{}: {found} {expected}", case.format);
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
        (Builder::new(0, 1).text("k").u32(9).u32(9).u64(1).raw(&[0; 8]), "array of arrays"),
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
fn an_unknown_number_format_is_named_when_it_is_needed() {
    let file = Builder::new(1, 0).tensor("w", 256, 10, 0).raw(&[0; 512]).open().unwrap();
    match file.values("w") {
        Err(ModelError::Unsupported { reason, .. }) => {
            assert!(reason.contains("number format 10"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
}
