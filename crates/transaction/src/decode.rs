//! What a valid message is.
//!
//! Promises: any bytes give values or a reason, without a panic or a deep recursion; the
//! quick parser and the general one agree. Relies on `serde_json` with `float_roundtrip`.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::fields::{
    Checked, CurrencyCode, EventTime, FieldType, Flag, Float, Integer, Text, message_fields,
    required,
};
use super::{RejectReason, fast, field};

macro_rules! decoded {
    ($(#[doc = $doc:literal] $constant:ident $name:ident: $kind:ty;)*) => {
        /// The values of one message, borrowed from the payload or a scratch buffer.
        #[derive(Clone, Copy, Debug, PartialEq)]
        pub(super) struct Decoded<'a> {
            $(#[doc = $doc] pub(super) $name: <$kind as FieldType>::Value<'a>,)*
        }

        impl<'a> Decoded<'a> {
            /// Checks the values in the message's order, so that the first fault is the one reported.
            fn new(values: &'a [Option<Value<'_>>; field::ALL.len()]) -> Result<Self, RejectReason> {
                let [$($name),*] = values;
                Ok(Self {
                    $($name: required::<$kind>($name, field::$constant)?,)*
                })
            }
        }
    };
}
message_fields!(decoded);

/// Hands the values of `payload` to `take`, or says why there are none.
pub(super) fn decode(payload: &[u8], take: impl FnOnce(Decoded<'_>)) -> Result<(), RejectReason> {
    if payload.is_empty() {
        return Err(RejectReason::EmptyPayload);
    }
    let text = str::from_utf8(payload).map_err(|_not_utf8| RejectReason::InvalidUtf8)?;
    match fast::parse(text) {
        Some(decoded) => {
            take(decoded);
            Ok(())
        }
        None => general(text, take),
    }
}

/// Any JSON: other orders, blanks, escapes, unknown fields.
pub(super) fn general(text: &str, take: impl FnOnce(Decoded<'_>)) -> Result<(), RejectReason> {
    let Document(Some(values)) =
        serde_json::from_str(text).map_err(|_syntax| RejectReason::NotJson)?
    else {
        return Err(RejectReason::NotAnObject);
    };
    take(Decoded::new(&values)?);
    Ok(())
}

/// What one known field holds.
pub(super) enum Value<'a> {
    Text(Cow<'a, str>),
    Integer(i64),
    Float(f64),
    Other,
}

impl<'de> Deserialize<'de> for Value<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Self::Value, E> {
        Ok(Value::Other)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Self::Value, E> {
        Ok(Value::Integer(number))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Self::Value, E> {
        // Beyond i64 it is still a fine amount.
        Ok(i64::try_from(number).map_or(Value::Float(number as f64), Value::Integer))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Self::Value, E> {
        Ok(Value::Float(number))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Value::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Value::Text(Cow::Borrowed(text)))
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(Value::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Value::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        while entries.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Value::Other)
    }
}

/// A whole payload.
///
/// An object's values of the message's fields, in its order; `None` for no object.
struct Document<'a>(Option<[Option<Value<'a>>; field::ALL.len()]>);

impl<'de> Deserialize<'de> for Document<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(DocumentVisitor)
    }
}

struct DocumentVisitor;

impl<'de> Visitor<'de> for DocumentVisitor {
    type Value = Document<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Self::Value, E> {
        Ok(Document(None))
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Self::Value, E> {
        Ok(Document(None))
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Self::Value, E> {
        Ok(Document(None))
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Self::Value, E> {
        Ok(Document(None))
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Self::Value, E> {
        Ok(Document(None))
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(Document(None))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Document(None))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        let mut values = [const { None }; field::ALL.len()];
        while let Some(Key(index)) = entries.next_key()? {
            match index {
                Some(index) => values[index] = Some(entries.next_value()?),
                None => {
                    entries.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(Document(Some(values)))
    }
}

/// A field's place in the message, `None` for an unknown one.
struct Key(Option<usize>);

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(KeyVisitor)
    }
}

struct KeyVisitor;

impl Visitor<'_> for KeyVisitor {
    type Value = Key;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field's name")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Self::Value, E> {
        Ok(Key(field::ALL.iter().position(|known| *known == name)))
    }
}
