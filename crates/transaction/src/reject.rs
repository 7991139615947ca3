//! Why a record of the topic can't be a row of the lake.

use std::fmt;

use super::field;

/// Why a record was refused. Its [`code`](RejectReason::code) is part of the lake's
/// format (file footers) and of the dead-letter topic's headers: codes never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RejectReason {
    /// No payload (a tombstone) or one of zero bytes.
    EmptyPayload,
    /// More bytes than the configured limit.
    TooLarge,
    /// Not UTF-8.
    InvalidUtf8,
    /// Not one JSON value; also a number beyond what a double holds, a lone surrogate,
    /// nesting beyond 128 levels or bytes after the value.
    NotJson,
    /// JSON, but not an object.
    NotAnObject,
    /// The object lacks this field.
    MissingField(&'static str),
    /// The field has another type than docs/DATA.md says: `null` included, and integers
    /// beyond 64 bits or written as a fraction or a string.
    WrongType(&'static str),
    /// The field has its type, but a value that queries can't use: a blank text or one with a zero byte, a date that
    /// the calendar does not have, `is_fraud` other than 0 and 1, a currency that is not three capital letters.
    WrongValue(&'static str),
}

impl RejectReason {
    /// Every reason there is.
    pub fn all() -> impl Iterator<Item = Self> {
        let plain = [
            Self::EmptyPayload,
            Self::TooLarge,
            Self::InvalidUtf8,
            Self::NotJson,
            Self::NotAnObject,
        ];
        let by_field = field::ALL.into_iter().flat_map(|name| {
            [
                Self::MissingField(name),
                Self::WrongType(name),
                Self::WrongValue(name),
            ]
        });
        plain.into_iter().chain(by_field)
    }

    /// A stable short string such as `missing_field:user_id`; [`parse`](Self::parse) reads it.
    pub fn code(self) -> String {
        self.to_string()
    }

    /// The reason of a code, `None` if this version does not know it.
    pub fn parse(code: &str) -> Option<Self> {
        let known = |name: &str| field::ALL.into_iter().find(|field| *field == name);
        match code {
            "empty_payload" => Some(Self::EmptyPayload),
            "too_large" => Some(Self::TooLarge),
            "invalid_utf8" => Some(Self::InvalidUtf8),
            "not_json" => Some(Self::NotJson),
            "not_an_object" => Some(Self::NotAnObject),
            _ => match code.split_once(':')? {
                ("missing_field", name) => known(name).map(Self::MissingField),
                ("wrong_type", name) => known(name).map(Self::WrongType),
                ("wrong_value", name) => known(name).map(Self::WrongValue),
                _ => None,
            },
        }
    }
}

impl fmt::Display for RejectReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EmptyPayload => f.write_str("empty_payload"),
            Self::TooLarge => f.write_str("too_large"),
            Self::InvalidUtf8 => f.write_str("invalid_utf8"),
            Self::NotJson => f.write_str("not_json"),
            Self::NotAnObject => f.write_str("not_an_object"),
            Self::MissingField(field) => write!(f, "missing_field:{field}"),
            Self::WrongType(field) => write!(f, "wrong_type:{field}"),
            Self::WrongValue(field) => write!(f, "wrong_value:{field}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_read_back() {
        for reason in RejectReason::all() {
            assert_eq!(RejectReason::parse(&reason.code()), Some(reason));
        }
        for unknown in [
            "",
            "missing_field",
            "missing_field:",
            "wrong_type:amt",
            "x:y",
        ] {
            assert_eq!(RejectReason::parse(unknown), None, "{unknown}");
        }
    }
}
