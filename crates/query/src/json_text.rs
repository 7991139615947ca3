//! The function `json_text(object, field)`: a field of a JSON object as text, NULL if it has none. A field in an object
//! within is `$.outer.inner`. The operator `->>` is the same.

use std::sync::Arc;

use arrow_schema::DataType;
use datafusion::arrow::array::{ArrayRef, StringArray};
use datafusion::common::cast::as_string_array;
use datafusion::common::{DFSchema, plan_err};
use datafusion::error::Result;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::{
    ColumnarValue, ExprSchemable as _, ScalarUDF, Volatility, create_udf,
};
use datafusion::sql::sqlparser::ast::BinaryOperator;
use serde_json::Value;

/// The function as the engine takes it.
pub(crate) fn json_text() -> ScalarUDF {
    let texts = vec![DataType::Utf8, DataType::Utf8];
    create_udf(
        "json_text",
        texts,
        DataType::Utf8,
        Volatility::Immutable,
        Arc::new(evaluate),
    )
}

/// Plans `object ->> field`.
#[derive(Debug)]
pub(crate) struct JsonOperator;

impl ExprPlanner for JsonOperator {
    fn plan_binary_op(
        &self,
        expression: RawBinaryExpr,
        schema: &DFSchema,
    ) -> Result<PlannerResult<RawBinaryExpr>> {
        if expression.op != BinaryOperator::LongArrow {
            return Ok(PlannerResult::Original(expression));
        }
        let RawBinaryExpr { left, right, .. } = expression;
        if right.get_type(schema).ok() == Some(DataType::Boolean) {
            return plan_err!(
                "a comparison binds more tightly than ->>: write (object ->> '$.field') = 'text'"
            );
        }
        Ok(PlannerResult::Planned(json_text().call(vec![left, right])))
    }
}

fn evaluate(arguments: &[ColumnarValue]) -> Result<ColumnarValue> {
    let arrays = ColumnarValue::values_to_arrays(arguments)?;
    let (objects, fields) = (as_string_array(&arrays[0])?, as_string_array(&arrays[1])?);
    let texts: StringArray = objects
        .iter()
        .zip(fields)
        .map(|(object, field)| text_of(object?, field?))
        .collect();
    Ok(ColumnarValue::Array(Arc::new(texts) as ArrayRef))
}

fn text_of(object: &str, field: &str) -> Option<String> {
    let mut object: Value = serde_json::from_str(object).ok()?;
    let mut found = &mut object;
    match field.strip_prefix("$.") {
        None => found = found.get_mut(field)?,
        Some(path) => {
            for name in path.split('.') {
                found = found.get_mut(name)?;
            }
        }
    }
    match found.take() {
        Value::Null => None,
        Value::String(text) => Some(text),
        other => Some(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_its_text_and_what_has_none_is_null() {
        let object = r#"{"text": "a\"b", "number": 1.5, "none": null, "in": {"a": {"b": 1}}}"#;
        assert_eq!(text_of(object, "text").as_deref(), Some("a\"b"));
        assert_eq!(text_of(object, "number").as_deref(), Some("1.5"));
        assert_eq!(text_of(object, "$.number").as_deref(), Some("1.5"));
        assert_eq!(text_of(object, "$.in.a.b").as_deref(), Some("1"));
        for (object, field) in [
            (object, "$.in.b"),
            (object, "none"),
            (object, "other"),
            ("[1]", "text"),
            ("{", "text"),
        ] {
            assert_eq!(text_of(object, field), None);
        }
    }
}
