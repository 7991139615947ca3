//! The function `text_hash(text)`: 64 bits that stand for a text, NULL for NULL.
//!
//! The engine counts distinct numbers of all groups in one set, but has a set for each group of texts: memory and time
//! for nothing in the marts, most of whose groups are small. Of a million different texts two have the same hash with
//! a probability of 3e-8.

use std::sync::Arc;

use arrow_schema::DataType;
use datafusion::arrow::array::{ArrayRef, AsArray, UInt64Array};
use datafusion::error::Result;
use datafusion::logical_expr::expr_fn::SimpleScalarUDF;
use datafusion::logical_expr::{ColumnarValue, ScalarUDF, Signature, Volatility};
use xxhash_rust::xxh3::xxh3_64;

/// The function as the engine takes it.
pub(crate) fn text_hash() -> ScalarUDF {
    let texts = vec![DataType::Utf8View, DataType::Utf8];
    SimpleScalarUDF::new_with_signature(
        "text_hash",
        Signature::uniform(1, texts, Volatility::Immutable),
        DataType::UInt64,
        Arc::new(evaluate),
    )
    .into()
}

fn evaluate(arguments: &[ColumnarValue]) -> Result<ColumnarValue> {
    let arrays = ColumnarValue::values_to_arrays(arguments)?;
    let hash = |text: Option<&str>| text.map(|text| xxh3_64(text.as_bytes()));
    let hashes: UInt64Array = match arrays[0].as_string_view_opt() {
        Some(texts) => texts.iter().map(hash).collect(),
        None => arrays[0].as_string::<i32>().iter().map(hash).collect(),
    };
    Ok(ColumnarValue::Array(Arc::new(hashes) as ArrayRef))
}
