//! Files read key by key: what does not fit is told with the key it stands under.
//!
//! Any file of settings reads this way, by [`toml_value`](super::toml_value) or
//! [`json_value`](super::json_value) and then [`read`]. What takes settings may be named alone where all
//! of them have defaults: `"dot"` is `{ dot = {} }`.

use serde::de::value::BorrowedStrDeserializer;
use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Expected, MapAccess,
    SeqAccess, Unexpected, VariantAccess, Visitor,
};
use serde_json::{Map, Value};
use std::sync::LazyLock;

use super::parts;
use super::text::dotted;
use crate::model::part::Part;
use crate::potential::Dot;
use crate::structure::EachQueryPicksOne;
use crate::{Error, excerpt, zoo};

/// Reads data out of a value.
///
/// # Errors
/// [`Error::Value`] with the path to the key, what it should hold and what it holds, and
/// [`Error::UnknownName`] for settings that are not known.
pub fn read<T: DeserializeOwned>(value: &Value) -> Result<T, Error> {
    T::deserialize(At(value)).map_err(Misfit::told)
}

/// Something that does not fit.
#[derive(Debug)]
struct Misfit {
    /// The keys to it, innermost first.
    path: Vec<String>,
    /// Kind of value that was met; the first key on the way out knows.
    found: Option<String>,
    problem: Problem,
}

#[derive(Debug)]
enum Problem {
    Expected(String),
    Unknown { kind: Option<&'static str>, name: String, known: &'static [&'static str] },
}

impl Misfit {
    fn of(problem: Problem) -> Self {
        Self { path: Vec::new(), found: None, problem }
    }

    fn at(mut self, key: String, value: &Value) -> Self {
        self.path.push(key);
        self.found.get_or_insert_with(|| excerpt(&value.to_string(), EXCERPT).into_owned());
        self
    }

    /// Says what kind of choice was not known, as the type around it is called. Names of Rust's types
    /// are not for the reader of a file.
    fn of_kind(mut self, of: &'static str) -> Self {
        if let Problem::Unknown { kind: kind @ None, .. } = &mut self.problem
            && of.starts_with(char::is_lowercase)
        {
            *kind = Some(of);
        }
        self
    }

    fn told(self) -> Error {
        match self.problem {
            Problem::Unknown { kind, name, known } => {
                // Settings of the file itself are its sections.
                let kind = match kind {
                    Some(SETTING) if self.path.is_empty() => "section",
                    kind => kind.unwrap_or("choice"),
                };
                Error::unknown(kind, &name, known)
            }
            Problem::Expected(mut expected) => {
                // Some say what they expect with an example of their own.
                if let Some(example) = self.path.iter().find_map(|key| example(key))
                    && !expected.contains('`')
                {
                    expected += &format!(", as in TOML's `{example}`");
                }
                let path = match self.path.is_empty() {
                    true => "the file".to_owned(),
                    false => dotted(self.path.iter().rev()),
                };
                Error::value(path, expected, self.found.unwrap_or_else(|| "unfit".to_owned()))
            }
        }
    }
}

/// Parts that a model has to name, and those of a transformer's attention.
const USUAL: [(&str, &str); 2] = [("structure", EachQueryPicksOne::NAME), ("potential", Dot::NAME)];

/// Word of a file for a key that is not a choice.
const SETTING: &str = "setting";

/// How a part or a mechanism is written.
fn example(name: &str) -> Option<&'static str> {
    let part = || parts().find(|part| part.name == name).map(|part| part.example);
    let mechanism = || {
        let mechanism = zoo::MECHANISMS.iter().find(|mechanism| mechanism.name == name)?;
        mechanism.model.lines().find(|line| line.starts_with("mechanism"))
    };
    part().or_else(mechanism)
}

/// Long enough to recognise what was written.
const EXCERPT: usize = 60;

/// Expectation of a file's content in its own terms: serde names Rust's types.
fn in_words(expected: &dyn Expected) -> String {
    let text = expected.to_string();
    match text.as_str() {
        "f32" | "f64" => "a number",
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number of at least 0",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        "a nonzero usize" | "a nonzero u64" | "a nonzero u32" => "a whole number of at least 1",
        "a boolean" => "true or false",
        "a string" | "path string" => "text in quotes",
        "a sequence" => "a list",
        "a map" => "a table",
        other if other.starts_with("struct ") => "a table of settings",
        _ => return text,
    }
    .to_owned()
}

impl std::fmt::Display for Misfit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} at {:?}", self.problem, self.path)
    }
}

impl std::error::Error for Misfit {}

impl de::Error for Misfit {
    /// Types that take several forms say here which.
    fn custom<M: std::fmt::Display>(message: M) -> Self {
        Self::of(Problem::Expected(message.to_string()))
    }

    fn invalid_type(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::of(Problem::Expected(in_words(expected)))
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid_type(found, expected)
    }

    fn invalid_length(_: usize, expected: &dyn Expected) -> Self {
        Self::of(Problem::Expected(in_words(expected)))
    }

    fn unknown_variant(name: &str, known: &'static [&'static str]) -> Self {
        Self::of(Problem::Unknown { kind: None, name: name.to_owned(), known })
    }

    fn unknown_field(name: &str, known: &'static [&'static str]) -> Self {
        Self::of(Problem::Unknown { kind: Some(SETTING), name: name.to_owned(), known })
    }

    fn missing_field(name: &'static str) -> Self {
        Self {
            path: vec![name.to_owned()],
            found: Some("absent".to_owned()),
            problem: Problem::Expected(match USUAL.iter().find(|(section, _)| *section == name) {
                Some((section, part)) => format!(
                    "one of the model's parts: it has no default. That of a transformer's attention is \
                     `{section} = \"{part}\"`"
                ),
                None => "a value: it has no default".to_owned(),
            }),
        }
    }
}

/// A value that remembers, on the way out of an error, where it stood.
struct At<'v>(&'v Value);

const ONE_NAME: &str = "a name, or one name with its settings";

/// The settings of what is named alone.
static NO_SETTINGS: LazyLock<Value> = LazyLock::new(|| Value::Object(Map::new()));

impl<'de> Deserializer<'de> for At<'de> {
    type Error = Misfit;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match self.0 {
            Value::Null => visitor.visit_unit(),
            Value::Bool(x) => visitor.visit_bool(*x),
            Value::Number(x) => match (x.as_u64(), x.as_i64()) {
                (Some(x), _) => visitor.visit_u64(x),
                (None, Some(x)) => visitor.visit_i64(x),
                (None, None) => visitor.visit_f64(x.as_f64().unwrap_or(f64::NAN)),
            },
            Value::String(text) => visitor.visit_borrowed_str(text),
            Value::Array(list) => visitor.visit_seq(Items(list.iter().enumerate())),
            Value::Object(map) => visitor.visit_map(Entries { rest: map.iter(), value: None }),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match self.0 {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        visitor.visit_newtype_struct(PartAt(self)).map_err(|e| e.of_kind(name))
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        match self.0.as_object().is_some_and(Map::is_empty) {
            true => visitor.visit_unit(),
            false => Err(Misfit::of(Problem::Expected(ALONE.into()))),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        let only = |map: &'de Map<String, Value>| map.iter().next().filter(|_| map.len() == 1);
        let choice = match self.0 {
            Value::String(name) => Some(Choice { name, settings: None }),
            Value::Object(map) => {
                only(map).map(|(name, settings)| Choice { name, settings: Some(settings) })
            }
            _ => None,
        };
        match choice {
            Some(choice) => visitor.visit_enum(choice).map_err(|e| e.of_kind(name)),
            None => Err(de::Error::custom(ONE_NAME)),
        }
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit seq
        tuple tuple_struct map struct identifier ignored_any
    }
}

/// A value where a part may stand, whose name alone says that it has no settings.
struct PartAt<'v>(At<'v>);

impl<'de> Deserializer<'de> for PartAt<'de> {
    type Error = Misfit;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match self.0.0 {
            Value::String(name) => visitor.visit_map(Alone(Some(name))),
            _ => self.0.deserialize_any(visitor),
        }
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct option newtype_struct seq tuple tuple_struct map struct enum identifier
        ignored_any
    }
}

/// A name without settings.
struct Alone<'v>(Option<&'v String>);

impl<'de> MapAccess<'de> for Alone<'de> {
    type Error = Misfit;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Misfit> {
        let Some(name) = self.0 else { return Ok(None) };
        seed.deserialize(BorrowedStrDeserializer::new(name)).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Misfit> {
        let name = self.0.take().expect("a key was read");
        seed.deserialize(At(&NO_SETTINGS)).map_err(|e| e.at(name.clone(), &NO_SETTINGS))
    }
}

struct Items<'v>(std::iter::Enumerate<std::slice::Iter<'v, Value>>);

impl<'de> SeqAccess<'de> for Items<'de> {
    type Error = Misfit;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Misfit> {
        let Some((i, value)) = self.0.next() else { return Ok(None) };
        seed.deserialize(At(value)).map(Some).map_err(|e| e.at(format!("[{i}]"), value))
    }
}

struct Entries<'v> {
    rest: serde_json::map::Iter<'v>,
    /// The value that the last key stands for.
    value: Option<(&'v String, &'v Value)>,
}

impl<'de> MapAccess<'de> for Entries<'de> {
    type Error = Misfit;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Misfit> {
        self.value = self.rest.next();
        let Some((key, _)) = self.value else { return Ok(None) };
        seed.deserialize(BorrowedStrDeserializer::new(key)).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Misfit> {
        let (key, value) = self.value.take().expect("a key was read");
        seed.deserialize(At(value)).map_err(|e| e.at(key.clone(), value))
    }
}

struct Choice<'v> {
    name: &'v String,
    settings: Option<&'v Value>,
}

impl<'de> EnumAccess<'de> for Choice<'de> {
    type Error = Misfit;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self), Misfit> {
        Ok((seed.deserialize(BorrowedStrDeserializer::new(self.name))?, self))
    }
}

/// Expectation of settings where there are none.
const ALONE: &str = "nothing: its name stands alone";

impl<'de> Choice<'de> {
    fn with_settings<R>(
        self,
        then: impl FnOnce(At<'de>) -> Result<R, Misfit>,
    ) -> Result<R, Misfit> {
        let settings = self.settings.unwrap_or(&NO_SETTINGS);
        then(At(settings)).map_err(|e| e.at(self.name.clone(), settings))
    }
}

impl<'de> VariantAccess<'de> for Choice<'de> {
    type Error = Misfit;

    fn unit_variant(self) -> Result<(), Misfit> {
        match self.settings {
            None => Ok(()),
            Some(settings) if settings.as_object().is_some_and(Map::is_empty) => Ok(()),
            Some(settings) => {
                let alone = Misfit::of(Problem::Expected(ALONE.into()));
                Err(alone.at(self.name.clone(), settings))
            }
        }
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Misfit> {
        self.with_settings(|settings| seed.deserialize(settings))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Misfit> {
        self.with_settings(|settings| settings.deserialize_any(visitor))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        self.with_settings(|settings| settings.deserialize_any(visitor))
    }
}
