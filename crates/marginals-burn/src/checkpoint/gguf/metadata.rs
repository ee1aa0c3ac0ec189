//! The typed key-value section of a GGUF file, read without trusting a single count in it.

use std::io::Read;

/// One metadata value. Integers are widened, so that a reader need not care how they were stored.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Any unsigned integer.
    Unsigned(u64),
    /// Any signed integer.
    Signed(i64),
    /// Any floating-point number.
    Float(f64),
    /// A truth value.
    Bool(bool),
    /// UTF-8 text; broken sequences are replaced.
    Text(String),
    /// Texts, such as a vocabulary.
    Texts(Vec<String>),
    /// Integers of either sign, such as token types.
    Integers(Vec<i64>),
    /// Floating-point numbers, such as token scores.
    Floats(Vec<f64>),
    /// Arrays within an array, which are read past: no model that is read needs them.
    Arrays,
}

/// Reads little-endian parts from a file whose length is known.
///
/// Every count is compared with the bytes that are left before anything is allocated for it: no
/// header can make the reader ask for more memory than a small multiple of the file's size.
pub struct Cursor<R> {
    reader: R,
    position: u64,
    length: u64,
}

/// Fault, without the file's name.
pub type Reason = String;

impl<R: Read> Cursor<R> {
    /// Starts at the beginning of a file of `length` bytes.
    pub fn new(reader: R, length: u64) -> Self {
        Cursor { reader, position: 0, length }
    }

    /// Bytes read so far.
    pub fn position(&self) -> u64 {
        self.position
    }

    fn remaining(&self) -> u64 {
        self.length - self.position
    }

    /// Checks that `count` items of at least `width` bytes can still follow.
    pub fn expect_room(&self, count: u64, width: u64, what: &str) -> Result<usize, Reason> {
        match count.checked_mul(width) {
            Some(bytes) if bytes <= self.remaining() => usize::try_from(count)
                .map_err(|_| format!("{count} {what} are more than this machine can address")),
            _ => Err(format!(
                "it announces {count} {what} at byte {}, but only {} bytes follow",
                self.position,
                self.remaining()
            )),
        }
    }

    /// The next `N` bytes.
    pub fn bytes<const N: usize>(&mut self, what: &str) -> Result<[u8; N], Reason> {
        let mut bytes = [0; N];
        self.fill(&mut bytes, what)?;
        Ok(bytes)
    }

    fn fill(&mut self, bytes: &mut [u8], what: &str) -> Result<(), Reason> {
        self.reader
            .read_exact(bytes)
            .map_err(|error| format!("{what} at byte {} cannot be read: {error}", self.position))?;
        self.position += bytes.len() as u64;
        Ok(())
    }

    /// The next unsigned 32-bit number.
    pub fn u32(&mut self, what: &str) -> Result<u32, Reason> {
        self.bytes(what).map(u32::from_le_bytes)
    }

    /// The next unsigned 64-bit number.
    pub fn u64(&mut self, what: &str) -> Result<u64, Reason> {
        self.bytes(what).map(u64::from_le_bytes)
    }

    /// The next length-prefixed text.
    pub fn text(&mut self, what: &str) -> Result<String, Reason> {
        let length = self.u64(what)?;
        let length = self.expect_room(length, 1, "bytes of text")?;
        let mut bytes = vec![0; length];
        self.fill(&mut bytes, what)?;
        Ok(String::from_utf8(bytes)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
    }

    /// The next value, of the type that precedes it.
    pub fn value(&mut self, key: &str) -> Result<Value, Reason> {
        let code = self.u32(key)?;
        match code {
            ARRAY => self.array(key),
            TEXT => self.text(key).map(Value::Text),
            _ => self.number(code, key),
        }
    }

    fn array(&mut self, key: &str) -> Result<Value, Reason> {
        let (code, count) = self.array_start(key)?;
        if code == ARRAY {
            for _ in 0..count {
                self.skip_array(key, 1)?;
            }
            return Ok(Value::Arrays);
        }
        if code == TEXT {
            // Grown as the texts arrive: each takes more memory than its eight announced bytes.
            let mut texts = Vec::new();
            for _ in 0..count {
                texts.push(self.text(key)?);
            }
            return Ok(Value::Texts(texts));
        }
        if matches!(code, 6 | 12) {
            let mut floats = Vec::with_capacity(count);
            for _ in 0..count {
                if let Value::Float(number) = self.number(code, key)? {
                    floats.push(number);
                }
            }
            return Ok(Value::Floats(floats));
        }
        let mut integers = Vec::with_capacity(count);
        for _ in 0..count {
            integers.push(match self.number(code, key)? {
                Value::Unsigned(number) => i64::try_from(number)
                    .map_err(|_| format!("`{key}` holds {number}, beyond any index"))?,
                Value::Signed(number) => number,
                Value::Bool(truth) => i64::from(truth),
                _ => return Err(format!("`{key}` mixes value types")),
            });
        }
        Ok(Value::Integers(integers))
    }

    /// The type and number of an array's elements, which the file has room for.
    fn array_start(&mut self, key: &str) -> Result<(u32, usize), Reason> {
        let code = self.u32(key)?;
        let count = self.u64(key)?;
        let width = match code {
            0 | 1 | 7 => 1,
            2 | 3 => 2,
            4..=6 => 4,
            TEXT | 10..=12 => 8,
            // Its own type and count at the least.
            ARRAY => 4 + 8,
            _ => return Err(format!("`{key}` has the unknown value type {code}")),
        };
        Ok((code, self.expect_room(count, width, "array elements")?))
    }

    /// Reads past an array that lies `depth` arrays deep.
    fn skip_array(&mut self, key: &str, depth: usize) -> Result<(), Reason> {
        if depth > DEEPEST_ARRAY {
            return Err(format!(
                "`{key}` has arrays within arrays, more than {DEEPEST_ARRAY} deep"
            ));
        }
        let (code, count) = self.array_start(key)?;
        for _ in 0..count {
            match code {
                ARRAY => self.skip_array(key, depth + 1)?,
                TEXT => drop(self.text(key)?),
                _ => drop(self.number(code, key)?),
            }
        }
        Ok(())
    }

    fn number(&mut self, code: u32, key: &str) -> Result<Value, Reason> {
        Ok(match code {
            0 => Value::Unsigned(u64::from(u8::from_le_bytes(self.bytes(key)?))),
            1 => Value::Signed(i64::from(i8::from_le_bytes(self.bytes(key)?))),
            2 => Value::Unsigned(u64::from(u16::from_le_bytes(self.bytes(key)?))),
            3 => Value::Signed(i64::from(i16::from_le_bytes(self.bytes(key)?))),
            4 => Value::Unsigned(u64::from(u32::from_le_bytes(self.bytes(key)?))),
            5 => Value::Signed(i64::from(i32::from_le_bytes(self.bytes(key)?))),
            6 => Value::Float(f64::from(f32::from_le_bytes(self.bytes(key)?))),
            7 => Value::Bool(self.bytes::<1>(key)?[0] != 0),
            10 => Value::Unsigned(u64::from_le_bytes(self.bytes(key)?)),
            11 => Value::Signed(i64::from_le_bytes(self.bytes(key)?)),
            12 => Value::Float(f64::from_le_bytes(self.bytes(key)?)),
            _ => return Err(format!("`{key}` has the unknown value type {code}")),
        })
    }
}

const TEXT: u32 = 8;
const ARRAY: u32 = 9;
/// Each depth takes room on the stack, and a hostile file could ask for any.
const DEEPEST_ARRAY: usize = 8;
