//! What an event's field may be, and how it gets into the log as JSON.
//!
//! `tracing` knows texts, numbers and booleans. Everything else passes through it as marked JSON
//! text, which the log's layer takes for what it is.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use tracing::field::DebugValue;

/// Begins the text of a value that is JSON.
pub const JSON_MARK: char = '\u{1}';

/// The JSON type of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Text,
    Number,
    Bool,
    Array,
    Object,
}

impl Kind {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Number => "number",
            Self::Bool => "bool",
            Self::Array => "array",
            Self::Object => "object",
        }
    }
}

/// A type that a field may have.
pub(super) trait Field {
    const KIND: Kind;
    const IS_NULLABLE: bool = false;

    type Logged<'a>: tracing::Value
    where
        Self: 'a;

    fn logged(&self) -> Self::Logged<'_>;
}

/// JSON on its way through `tracing`.
pub(super) struct Json(String);

impl Json {
    fn of(value: &impl Serialize) -> DebugValue<Self> {
        // What fields are made of has a JSON form.
        let json = serde_json::to_string(value).unwrap_or_else(|_no_json| "null".to_owned());
        tracing::field::debug(Self(json))
    }
}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{JSON_MARK}{}", self.0)
    }
}

macro_rules! plain {
    ($($kind:ident: $($type:ty)*;)*) => { $($(
        impl Field for $type {
            const KIND: Kind = Kind::$kind;
            type Logged<'a> = $type;

            fn logged(&self) -> $type {
                *self
            }
        }
    )*)* };
}

plain! {
    Number: u32 u64 i32 i64 f64;
    Bool: bool;
}

impl Field for String {
    const KIND: Kind = Kind::Text;
    type Logged<'a> = &'a str;

    fn logged(&self) -> &str {
        self
    }
}

impl<T: Field + Serialize> Field for Option<T> {
    const KIND: Kind = T::KIND;
    const IS_NULLABLE: bool = true;
    type Logged<'a>
        = DebugValue<Json>
    where
        T: 'a;

    fn logged(&self) -> DebugValue<Json> {
        Json::of(self)
    }
}

impl<T: Serialize> Field for Vec<T> {
    const KIND: Kind = Kind::Array;
    type Logged<'a>
        = DebugValue<Json>
    where
        T: 'a;

    fn logged(&self) -> DebugValue<Json> {
        Json::of(self)
    }
}

impl Field for BTreeMap<String, f64> {
    const KIND: Kind = Kind::Object;
    type Logged<'a> = DebugValue<Json>;

    fn logged(&self) -> DebugValue<Json> {
        Json::of(self)
    }
}
