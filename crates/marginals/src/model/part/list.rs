//! Lists of parts: the enum that a model file holds, and what is told of each.

use std::marker::PhantomData;

use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor,
};
use serde::ser::{Serialize, SerializeMap, Serializer};

use super::{AnyPart, NamedTensor, Part};

/// Makes an enum of parts out of a list of them: the one place where a part is named beside its own
/// file. `$each!(list, part => expression)` then matches on it.
///
/// In a file a part is its name, with a table of settings where it has any.
macro_rules! parts {
    (
        $(#[$meta:meta])*
        $list:ident, $kind:literal, $each:ident:
        $($module:ident::$part:ident $(<$($of:ty),+>)?,)+
    ) => {
        $(pub use $module::$part;)+

        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq)]
        pub enum $list {
            $(
                #[doc = concat!("[`", stringify!($part), "`].")]
                $part($part $(<$($of),+>)?),
            )+
        }

        macro_rules! $each {
            ($value:expr, $bound:ident => $then:expr) => {
                match $value { $($list::$part($bound) => $then,)+ }
            };
        }

        $(
            impl From<$part $(<$($of),+>)?> for $list {
                fn from(part: $part $(<$($of),+>)?) -> Self {
                    Self::$part(part)
                }
            }
        )+

        impl $crate::model::part::List for $list {
            const KIND: &'static str = $kind;
            const NAMES: &'static [&'static str] =
                &[$(<$part $(<$($of),+>)? as $crate::model::part::Part>::NAME,)+];
            const DESCRIPTIONS: &'static [$crate::model::part::Description] =
                &[$($crate::model::part::Description::of::<$part $(<$($of),+>)?>($kind),)+];

            fn part(&self) -> &dyn $crate::model::part::AnyPart {
                $each!(self, part => part)
            }
            fn part_mut(&mut self) -> &mut dyn $crate::model::part::AnyPart {
                $each!(self, part => part)
            }
            fn read<'de, D: serde::Deserializer<'de>>(
                name: &str,
                settings: D,
            ) -> Result<Self, D::Error> {
                $(
                    if name == <$part $(<$($of),+>)? as $crate::model::part::Part>::NAME {
                        return serde::Deserialize::deserialize(settings).map(Self::$part);
                    }
                )+
                Err(serde::de::Error::unknown_variant(name, Self::NAMES))
            }
        }

        impl serde::Serialize for $list {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let name = $crate::model::part::List::part(self).name();
                $each!(self, part => $crate::model::part::write(name, part, serializer))
            }
        }

        impl<'de> serde::Deserialize<'de> for $list {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                $crate::model::part::read(deserializer)
            }
        }
    };
}
pub(crate) use parts;

/// Parts of one kind, as data.
pub trait List: Sized {
    /// Their kind: `structure`, `prior`, `potential`, `distance`.
    const KIND: &'static str;
    /// Their names.
    const NAMES: &'static [&'static str];
    /// Description of each.
    const DESCRIPTIONS: &'static [Description];

    /// The part.
    fn part(&self) -> &dyn AnyPart;

    /// The part, to be changed.
    fn part_mut(&mut self) -> &mut dyn AnyPart;

    /// The part called `name` with these settings.
    ///
    /// # Errors
    /// Those of the format.
    fn read<'de, D: Deserializer<'de>>(name: &str, settings: D) -> Result<Self, D::Error>;
}

/// Description of a part.
#[derive(Clone, Copy, Debug)]
pub struct Description {
    /// `structure`, `prior`, `potential` or `distance`.
    pub kind: &'static str,
    /// Its name.
    pub name: &'static str,
    /// Its definition, in symbols.
    pub meaning: &'static str,
    /// An entry of its section, in TOML.
    pub example: &'static str,
    /// Tensors it reads from the input.
    pub tensors: &'static [NamedTensor],
    settings: fn() -> &'static [&'static str],
}

impl Description {
    pub(crate) const fn of<P: Part + DeserializeOwned>(kind: &'static str) -> Self {
        Self {
            kind,
            name: P::NAME,
            meaning: P::MEANING,
            example: P::EXAMPLE,
            tensors: P::TENSORS,
            settings: Fields::of::<P>,
        }
    }

    /// Names of its settings.
    pub fn settings(&self) -> &'static [&'static str] {
        (self.settings)()
    }
}

/// Writes a part as its name, alone where it has no settings to say.
pub(crate) fn write<S: Serializer>(
    name: &'static str,
    part: &impl Serialize,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let settings = serde_json::to_value(part).map_err(serde::ser::Error::custom)?;
    if settings.as_object().is_none_or(serde_json::Map::is_empty) {
        return serializer.serialize_str(name);
    }
    let mut map = serializer.serialize_map(Some(1))?;
    map.serialize_entry(name, part)?;
    map.end()
}

/// Reads a part that was written so.
pub(crate) fn read<'de, L: List, D: Deserializer<'de>>(deserializer: D) -> Result<L, D::Error> {
    // The name of the type tells the reader of model files which kind of part stands here.
    deserializer.deserialize_newtype_struct(L::KIND, OneOf(PhantomData))
}

const ONE_NAME: &str = "a name, or one name with a table of settings";

struct OneOf<L>(PhantomData<L>);

impl<'de, L: List> Visitor<'de> for OneOf<L> {
    type Value = L;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(ONE_NAME)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<L, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<L, E> {
        L::read(name, Nothing(PhantomData))
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<L, M::Error> {
        let one_name = || de::Error::custom(ONE_NAME);
        let name: String = map.next_key()?.ok_or_else(one_name)?;
        if !L::NAMES.contains(&name.as_str()) {
            return Err(de::Error::unknown_variant(&name, L::NAMES));
        }
        let part = map.next_value_seed(Settings { name: &name, list: PhantomData })?;
        match map.next_key::<de::IgnoredAny>()? {
            None => Ok(part),
            Some(_) => Err(one_name()),
        }
    }
}

/// The settings of the part called `name`.
struct Settings<'n, L> {
    name: &'n str,
    list: PhantomData<L>,
}

impl<'de, L: List> DeserializeSeed<'de> for Settings<'_, L> {
    type Value = L;
    fn deserialize<D: Deserializer<'de>>(self, settings: D) -> Result<L, D::Error> {
        L::read(self.name, OrSwitch(settings))
    }
}

/// Settings, or the name of the one switch that is set: `{ alibi = "standard" }` is
/// `{ alibi = { standard = true } }`.
struct OrSwitch<S>(S);

impl<'de, S: Deserializer<'de>> Deserializer<'de> for OrSwitch<S> {
    type Error = S::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, S::Error> {
        self.0.deserialize_any(visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, S::Error> {
        self.0.deserialize_any(OrSwitch(visitor))
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, S::Error> {
        self.0.deserialize_unit_struct(name, visitor)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        option newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

impl<'de, V: Visitor<'de>> Visitor<'de> for OrSwitch<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.expecting(f)
    }

    fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<V::Value, M::Error> {
        self.0.visit_map(map)
    }

    fn visit_str<E: de::Error>(self, switch: &str) -> Result<V::Value, E> {
        self.0.visit_map(de::value::MapDeserializer::new(std::iter::once((switch, true))))
    }
}

/// The settings of a part that is named alone.
struct Nothing<E>(PhantomData<E>);

impl<'de, E: de::Error> Deserializer<'de> for Nothing<E> {
    type Error = E;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, E> {
        visitor
            .visit_map(de::value::MapDeserializer::<_, E>::new(std::iter::empty::<(&str, &str)>()))
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, E> {
        visitor.visit_unit()
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        option newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

/// Reads a list of parts, or one that stands without a list.
pub(crate) fn one_or_many<'de, L: List, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<L>, D::Error> {
    deserializer.deserialize_newtype_struct(L::KIND, OneOrMany(PhantomData))
}

struct OneOrMany<L>(PhantomData<L>);

impl<'de, L: List> Visitor<'de> for OneOrMany<L> {
    type Value = Vec<L>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{ONE_NAME}, or a list of such")
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(
        self,
        deserializer: D,
    ) -> Result<Vec<L>, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<Vec<L>, E> {
        Ok(vec![OneOf(PhantomData).visit_str(name)?])
    }

    fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<Vec<L>, M::Error> {
        Ok(vec![OneOf(PhantomData).visit_map(map)?])
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut list: S) -> Result<Vec<L>, S::Error> {
        let mut parts = Vec::new();
        while let Some(part) = list.next_element_seed(One(PhantomData))? {
            parts.push(part);
        }
        Ok(parts)
    }
}

struct One<L>(PhantomData<L>);

impl<'de, L: List> DeserializeSeed<'de> for One<L> {
    type Value = L;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<L, D::Error> {
        read(deserializer)
    }
}

/// Finds out which fields a type reads, by asking it to read from here.
struct Fields<'f>(&'f mut &'static [&'static str]);

impl Fields<'_> {
    fn of<P: DeserializeOwned>() -> &'static [&'static str] {
        let mut fields: &'static [&'static str] = &[];
        // Nothing is read: that it fails is what it is for.
        let _ = P::deserialize(Fields(&mut fields));
        fields
    }
}

impl<'de> Deserializer<'de> for Fields<'_> {
    type Error = de::value::Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Self::Error> {
        Err(de::Error::custom("nothing to read"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        *self.0 = fields;
        self.deserialize_any(visitor)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct option newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}
