//! Arrays that NumPy saved together (`.npz`: a ZIP archive of `.npy` files, format version 1 to 3).

use std::fs::File;
use std::io::Read;

use ndarray::{ArrayD, IxDyn};
use zip::ZipArchive;

use crate::Outcome;

/// An open archive.
pub struct Npz(ZipArchive<File>);

/// One array as it lies in the file, row by row.
struct Raw {
    /// NumPy's name of the type of entries, such as `<f8`.
    kind: String,
    shape: Vec<usize>,
    entries: Vec<u8>,
}

impl Npz {
    pub fn open(file: File) -> Outcome<Self> {
        Ok(Self(ZipArchive::new(file)?))
    }

    /// An array of numbers or truth values.
    pub fn numbers(&mut self, name: &str) -> Outcome<ArrayD<f64>> {
        let Raw { kind, shape, entries } = self.raw(name)?;
        let numbers: Vec<f64> = match kind.as_str() {
            "<f8" => entries.as_chunks().0.iter().map(|x| f64::from_le_bytes(*x)).collect(),
            "<f4" => entries.as_chunks().0.iter().map(|x| f32::from_le_bytes(*x).into()).collect(),
            "<i4" => entries.as_chunks().0.iter().map(|x| i32::from_le_bytes(*x).into()).collect(),
            "|b1" => entries.iter().map(|&x| f64::from(x)).collect(),
            other => return Err(format!("{name}: entries of type {other} are not read").into()),
        };
        Ok(ArrayD::from_shape_vec(IxDyn(&shape), numbers).map_err(|e| format!("{name}: {e}"))?)
    }

    /// A list of texts.
    pub fn texts(&mut self, name: &str) -> Outcome<Vec<String>> {
        let Raw { kind, entries, .. } = self.raw(name)?;
        let length: usize = kind
            .strip_prefix("<U")
            .and_then(|length| length.parse().ok())
            .filter(|&length| length > 0)
            .ok_or_else(|| format!("{name}: entries of type {kind} are no texts"))?;
        // Each character is its number, and what is shorter ends in zeros.
        let text = |entry: &[u8]| -> Option<String> {
            let (characters, _) = entry.as_chunks::<4>();
            let numbers = characters.iter().map(|x| u32::from_le_bytes(*x));
            numbers.take_while(|&x| x != 0).map(char::from_u32).collect()
        };
        let texts: Option<_> = entries.chunks(4 * length).map(text).collect();
        Ok(texts.ok_or_else(|| format!("{name}: not a text"))?)
    }

    fn raw(&mut self, name: &str) -> Outcome<Raw> {
        let mut member = self.0.by_name(&format!("{name}.npy"))?;
        let mut bytes = Vec::new();
        member.read_to_end(&mut bytes)?;
        parse(&bytes).ok_or_else(|| format!("{name}.npy is not an array of known layout").into())
    }
}

/// The header is a Python literal that NumPy writes in one way:
/// `{'descr': '<f8', 'fortran_order': False, 'shape': (144, 2), }`.
fn parse(bytes: &[u8]) -> Option<Raw> {
    let rest = bytes.strip_prefix(b"\x93NUMPY")?;
    let (version, rest) = rest.split_at_checked(2)?;
    let (length, rest) = match version[0] {
        1 => {
            let (length, rest) = rest.split_first_chunk::<2>()?;
            (usize::from(u16::from_le_bytes(*length)), rest)
        }
        _ => {
            let (length, rest) = rest.split_first_chunk::<4>()?;
            (u32::from_le_bytes(*length) as usize, rest)
        }
    };
    let (header, entries) = rest.split_at_checked(length)?;
    let header = std::str::from_utf8(header).ok()?;
    let between = |from: &str, to: &str| {
        let (_, rest) = header.split_once(from)?;
        rest.split_once(to).map(|(found, _)| found)
    };
    if between("'fortran_order': ", ",")? != "False" {
        return None;
    }
    let sizes = between("'shape': (", ")")?.split(',').map(str::trim);
    let shape = sizes.filter(|size| !size.is_empty()).map(|size| size.parse().ok());
    Some(Raw {
        kind: between("'descr': '", "'")?.to_owned(),
        shape: shape.collect::<Option<_>>()?,
        entries: entries.to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn saved(kind: &str, order: &str, shape: &str, entries: &[u8]) -> Vec<u8> {
        let header =
            format!("{{'descr': '{kind}', 'fortran_order': {order}, 'shape': {shape}, }}\n");
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.bytes());
        bytes.extend(entries);
        bytes
    }

    #[test]
    fn an_array_is_read_as_numpy_wrote_it() {
        let raw = parse(&saved("<f4", "False", "(1, 2)", &[0, 0, 128, 63, 0, 0, 0, 64])).unwrap();
        assert_eq!((raw.kind.as_str(), raw.shape, raw.entries.len()), ("<f4", vec![1, 2], 8));
        assert_eq!(parse(&saved("<i4", "False", "(3,)", &[0; 12])).unwrap().shape, [3]);
        // Column by column is another order, and anything cut short is nothing.
        assert!(parse(&saved("<f4", "True", "(1, 2)", &[0; 8])).is_none());
        assert!(parse(&saved("<f4", "False", "(1, 2)", &[])[..20]).is_none());
        assert!(parse(b"PK").is_none());
    }
}
