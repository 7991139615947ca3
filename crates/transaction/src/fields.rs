//! The message's fields, declared once. From this table follow the names, the decoders, the builders and
//! the lake's schema; `encode` says how each value is made, `values` which are of use.

use std::marker::PhantomData;

use arrow_array::ArrayRef;
use arrow_array::builder::{ArrayBuilder, Float64Builder, Int64Builder, StringBuilder};
use arrow_schema::DataType;

use super::decode::Value;
use super::fast::Rest;
use super::reject::RejectReason;
use super::values;

/// Hands every field to the macro `$with`, in the message's order, which is the lake's, too:
/// `CONSTANT name: Type;`. A text says how many bytes it usually has, to size the first buffers.
macro_rules! message_fields {
    ($with:ident) => {
        $with! {
            /// `YYYY-MM-DD HH:MM:SS`.
            TRANS_DATE_TRANS_TIME trans_date_trans_time: EventTime;
            /// The card holder; the message's key.
            USER_ID user_id: Text<36>;
            /// The merchant's name.
            MERCHANT merchant: Text<32>;
            /// The merchant's category.
            CATEGORY category: Text<14>;
            /// The transaction's number.
            TRANS_NUM trans_num: Text<32>;
            /// Seconds since 1970.
            UNIX_TIME unix_time: Integer;
            /// 1 for fraud, else 0.
            IS_FRAUD is_fraud: Checked<Flag>;
            /// The amount in `currency`.
            ORIGINAL_AMT original_amt: Float;
            /// ISO 4217 code.
            CURRENCY currency: Checked<CurrencyCode>;
        }
    };
}
pub(super) use message_fields;

/// How a field is read from JSON and kept as a column.
pub(super) trait FieldType {
    type Value<'a>: Copy;
    type Builder: ArrayBuilder;

    /// Bytes of a value besides its text.
    const FIXED_BYTES: usize;

    fn data_type() -> DataType;

    /// A builder with room for `rows` usual values.
    fn builder(rows: usize) -> Self::Builder;

    fn append(builder: &mut Self::Builder, value: Self::Value<'_>);

    fn text_bytes(_: Self::Value<'_>) -> usize {
        0
    }

    /// Reads a value as the encoder writes it; `None` leaves it to [`general`](Self::general).
    fn fast<'a>(rest: &mut Rest<'a>) -> Option<Self::Value<'a>>;

    /// Takes the value of any JSON, or says why it can't.
    fn general<'v>(value: &'v Value<'_>) -> Result<Self::Value<'v>, Fault>;
}

/// What is wrong with a value.
pub(super) enum Fault {
    Type,
    Value,
}

/// What the values of a field must be, beyond their type.
pub(super) trait Rule {
    type Of: FieldType;

    fn holds(value: <Self::Of as FieldType>::Value<'_>) -> bool;
}

/// 0 or 1.
pub(super) struct Flag;

impl Rule for Flag {
    type Of = Integer;

    #[inline(always)]
    fn holds(value: i64) -> bool {
        values::is_flag(value)
    }
}

/// Three capital letters.
pub(super) struct CurrencyCode;

impl Rule for CurrencyCode {
    type Of = Text<3>;

    #[inline(always)]
    fn holds(value: &str) -> bool {
        values::is_currency(value)
    }
}

/// A field whose values keep a rule.
pub(super) struct Checked<R>(PhantomData<R>);

impl<R: Rule> FieldType for Checked<R> {
    type Value<'a> = <R::Of as FieldType>::Value<'a>;
    type Builder = <R::Of as FieldType>::Builder;

    const FIXED_BYTES: usize = R::Of::FIXED_BYTES;

    fn data_type() -> DataType {
        R::Of::data_type()
    }

    fn builder(rows: usize) -> Self::Builder {
        R::Of::builder(rows)
    }

    fn append(builder: &mut Self::Builder, value: Self::Value<'_>) {
        R::Of::append(builder, value);
    }

    fn text_bytes(value: Self::Value<'_>) -> usize {
        R::Of::text_bytes(value)
    }

    #[inline(always)]
    fn fast<'a>(rest: &mut Rest<'a>) -> Option<Self::Value<'a>> {
        R::Of::fast(rest).filter(|value| R::holds(*value))
    }

    fn general<'v>(value: &'v Value<'_>) -> Result<Self::Value<'v>, Fault> {
        let value = R::Of::general(value)?;
        if R::holds(value) {
            Ok(value)
        } else {
            Err(Fault::Value)
        }
    }
}

/// The general way for a field that may be missing.
pub(super) fn required<'v, T: FieldType>(
    value: &'v Option<Value<'_>>,
    name: &'static str,
) -> Result<T::Value<'v>, RejectReason> {
    let value = value.as_ref().ok_or(RejectReason::MissingField(name))?;
    T::general(value).map_err(|fault| match fault {
        Fault::Type => RejectReason::WrongType(name),
        Fault::Value => RejectReason::WrongValue(name),
    })
}

/// Finishes a builder as a column.
pub(super) fn column(builder: &mut impl ArrayBuilder) -> ArrayRef {
    builder.finish()
}

/// A string that says something, and usually has so many bytes.
pub(super) struct Text<const USUAL_BYTES: usize>;

impl<const USUAL_BYTES: usize> FieldType for Text<USUAL_BYTES> {
    type Value<'a> = &'a str;
    type Builder = StringBuilder;

    /// A 32-bit offset.
    const FIXED_BYTES: usize = 4;

    fn data_type() -> DataType {
        DataType::Utf8
    }

    fn builder(rows: usize) -> StringBuilder {
        StringBuilder::with_capacity(rows, rows.saturating_mul(USUAL_BYTES))
    }

    fn append(builder: &mut StringBuilder, value: &str) {
        builder.append_value(value);
    }

    fn text_bytes(value: &str) -> usize {
        value.len()
    }

    #[inline(always)]
    fn fast<'a>(rest: &mut Rest<'a>) -> Option<&'a str> {
        rest.literal(b"\"")?;
        let text = rest.string()?;
        rest.literal(b"\"")?;
        // Without escapes there is no zero byte.
        (!values::is_blank(text)).then_some(text)
    }

    fn general<'v>(value: &'v Value<'_>) -> Result<&'v str, Fault> {
        match value {
            Value::Text(text) if values::is_text(text) => Ok(text),
            Value::Text(_) => Err(Fault::Value),
            _ => Err(Fault::Type),
        }
    }
}

/// A time of the calendar, as text.
pub(super) struct EventTime;

/// A value of [`EventTime`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct TimeText<'a> {
    text: &'a str,
    /// Microseconds since 1970.
    pub(super) micros: i64,
}

impl<'a> TimeText<'a> {
    #[inline(always)]
    fn new(text: &'a str) -> Option<Self> {
        values::event_time(text.as_bytes()).map(|micros| Self { text, micros })
    }
}

impl FieldType for EventTime {
    type Value<'a> = TimeText<'a>;
    type Builder = StringBuilder;

    const FIXED_BYTES: usize = TimeForm::FIXED_BYTES;

    fn data_type() -> DataType {
        TimeForm::data_type()
    }

    fn builder(rows: usize) -> StringBuilder {
        TimeForm::builder(rows)
    }

    fn append(builder: &mut StringBuilder, value: TimeText<'_>) {
        builder.append_value(value.text);
    }

    fn text_bytes(value: TimeText<'_>) -> usize {
        value.text.len()
    }

    #[inline(always)]
    fn fast<'a>(rest: &mut Rest<'a>) -> Option<TimeText<'a>> {
        TimeText::new(TimeForm::fast(rest)?)
    }

    fn general<'v>(value: &'v Value<'_>) -> Result<TimeText<'v>, Fault> {
        TimeText::new(TimeForm::general(value)?).ok_or(Fault::Value)
    }
}

/// `YYYY-MM-DD HH:MM:SS`.
type TimeForm = Text<19>;

/// A whole number of 64 bits.
pub(super) struct Integer;

impl FieldType for Integer {
    type Value<'a> = i64;
    type Builder = Int64Builder;

    const FIXED_BYTES: usize = 8;

    fn data_type() -> DataType {
        DataType::Int64
    }

    fn builder(rows: usize) -> Int64Builder {
        Int64Builder::with_capacity(rows)
    }

    fn append(builder: &mut Int64Builder, value: i64) {
        builder.append_value(value);
    }

    #[inline(always)]
    fn fast(rest: &mut Rest<'_>) -> Option<i64> {
        rest.integer()
    }

    fn general(value: &Value<'_>) -> Result<i64, Fault> {
        match value {
            Value::Integer(number) => Ok(*number),
            _ => Err(Fault::Type),
        }
    }
}

/// A double.
pub(super) struct Float;

impl FieldType for Float {
    type Value<'a> = f64;
    type Builder = Float64Builder;

    const FIXED_BYTES: usize = 8;

    fn data_type() -> DataType {
        DataType::Float64
    }

    fn builder(rows: usize) -> Float64Builder {
        Float64Builder::with_capacity(rows)
    }

    fn append(builder: &mut Float64Builder, value: f64) {
        builder.append_value(value);
    }

    #[inline(always)]
    fn fast(rest: &mut Rest<'_>) -> Option<f64> {
        rest.float()
    }

    fn general(value: &Value<'_>) -> Result<f64, Fault> {
        match value {
            Value::Float(number) => Ok(*number),
            Value::Integer(number) => Ok(*number as f64),
            _ => Err(Fault::Type),
        }
    }
}
