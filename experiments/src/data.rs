//! The data sets, as `cargo xtask fetch` brings them.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use ndarray::Array2;

use crate::Outcome;

/// A fetched file.
pub fn fetched(set: &str, file: &str) -> Outcome<File> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace").to_path_buf();
    let path: PathBuf = root.join("models").join(set).join(file);
    Ok(File::open(&path).map_err(|error| {
        format!("{}: {error}; `cargo xtask fetch {set}` brings it", path.display())
    })?)
}

fn open(set: &str, file: &str) -> Outcome<BufReader<GzDecoder<File>>> {
    Ok(BufReader::with_capacity(1 << 20, GzDecoder::new(fetched(set, file)?)))
}

/// The first `count` MNIST digits (LeCun, Cortes & Burges), one per row, pixels in [0, 1].
pub fn mnist(count: usize) -> Outcome<Array2<f32>> {
    let mut file = open("mnist", "mnist.pkl.gz")?;
    let bytes = first_string(&mut file, count * PIXELS * 4)?;
    let (numbers, _) = bytes.as_chunks::<4>();
    let pixels: Vec<f32> = numbers.iter().map(|b| f32::from_le_bytes(*b)).collect();
    if pixels.iter().any(|x| !(0.0..=1.0).contains(x)) {
        return Err("mnist.pkl.gz does not begin with pixels in [0, 1]".into());
    }
    Ok(Array2::from_shape_vec((count, PIXELS), pixels)?)
}

const PIXELS: usize = 28 * 28;

/// The first `length` bytes of the first long string in a pickle. Pickles are programs: this runs
/// nothing, it skips over the instructions an array is wrapped in and refuses any other.
fn first_string(file: &mut impl Read, length: usize) -> Outcome<Vec<u8>> {
    let skip = |count: usize, file: &mut dyn Read| -> Outcome<Vec<u8>> {
        let mut bytes = vec![0; count];
        file.read_exact(&mut bytes)?;
        Ok(bytes)
    };
    loop {
        let [code] = skip(1, file)?[..] else { unreachable!("one byte was read") };
        match code {
            // BINSTRING: four bytes of length, and the bytes.
            b'T' => {
                let bytes = skip(4, file)?;
                let found = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize;
                if found < length {
                    return Err(format!("{found} bytes of pixels, wanted {length}").into());
                }
                return skip(length, file);
            }
            // GLOBAL: two lines of names.
            b'c' => {
                let mut lines = 0;
                while lines < 2 {
                    lines += usize::from(skip(1, file)?[0] == b'\n');
                }
            }
            // SHORT_BINSTRING: a byte of length, and the bytes.
            b'U' => {
                let count = skip(1, file)?[0];
                skip(count.into(), file)?;
            }
            // PROTO, BININT1, BINPUT, BINGET; BININT2; BININT.
            0x80 | b'K' | b'q' | b'h' => drop(skip(1, file)?),
            b'M' => drop(skip(2, file)?),
            b'J' => drop(skip(4, file)?),
            // MARK, tuples, REDUCE, BUILD, NONE, NEWTRUE, NEWFALSE.
            b'(' | b't' | 0x85..=0x87 | b'R' | b'b' | b'N' | 0x88 | 0x89 => {}
            other => return Err(format!("unexpected instruction {other:#x} in a pickle").into()),
        }
    }
}

/// The scikit-learn digits (Alpaydin & Kaynak, UCI): 1,797 images of 8 × 8 pixels in 0..=16, scaled
/// to [0, 1], and which digit each is.
pub fn digits() -> Outcome<(Array2<f64>, Vec<usize>)> {
    let mut text = String::new();
    open("digits", "digits.csv.gz")?.read_to_string(&mut text)?;
    let (mut pixels, mut labels) = (Vec::new(), Vec::new());
    for line in text.lines() {
        let numbers: Vec<f64> = line.split(',').map(str::parse).collect::<Result<_, _>>()?;
        let (label, own) = numbers.split_last().ok_or("an empty line in digits.csv.gz")?;
        pixels.extend(own.iter().map(|x| x / 16.0));
        labels.push(*label as usize);
    }
    Ok((Array2::from_shape_vec((labels.len(), 64), pixels)?, labels))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pickle_is_read_without_running_it() {
        let wrapped = b"\x80\x02cnumpy\nndarray\nq\x01K\x00\x85U\x01b\x87Rq\x03(K\x01T\x08\x00\x00\x00abcdefghtb.";
        assert_eq!(first_string(&mut &wrapped[..], 4).unwrap(), b"abcd");
        assert!(first_string(&mut &wrapped[..], 9).unwrap_err().to_string().contains("wanted 9"));
        // An instruction that calls something by another way is not known, and refused.
        assert!(first_string(&mut &b"\x80\x02ios\nsystem\n"[..], 4).is_err());
        assert!(first_string(&mut &wrapped[..20], 4).is_err());
    }
}
