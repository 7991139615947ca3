//! Comparisons of a whole number with a date or a time: the engine takes the date for the number of days since 1970, and
//! no row fits.

use arrow_schema::DataType;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, DataFusionError, Diagnostic, Span, plan_err};
use datafusion::logical_expr::expr::{Between, InList};
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable as _, LogicalPlan, Operator};

/// Refuses a statement that has one, as it was planned and before types are adjusted.
///
/// # Errors
/// With the place of a column, if the comparison names one.
pub(crate) fn refuse_numbers_as_dates(plan: &LogicalPlan) -> Result<(), DataFusionError> {
    plan.apply_with_subqueries(|plan| {
        let schema = merge_schema(&plan.inputs());
        for expression in plan.expressions() {
            expression.apply(|part| refuse(part, &schema).map(|()| TreeNodeRecursion::Continue))?;
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(())
}

fn refuse(expression: &Expr, schema: &DFSchema) -> Result<(), DataFusionError> {
    match expression {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if compares(*op) => {
            refuse_pair(left, right, schema)
        }
        Expr::Between(Between {
            expr, low, high, ..
        }) => [low, high]
            .into_iter()
            .try_for_each(|bound| refuse_pair(expr, bound, schema)),
        Expr::InList(InList { expr, list, .. }) => list
            .iter()
            .try_for_each(|item| refuse_pair(expr, item, schema)),
        _ => Ok(()),
    }
}

fn refuse_pair(left: &Expr, right: &Expr, schema: &DFSchema) -> Result<(), DataFusionError> {
    // What has no type is refused by the planner in words of its own.
    let (Ok(left_type), Ok(right_type)) = (left.get_type(schema), right.get_type(schema)) else {
        return Ok(());
    };
    let (number, date) = if left_type.is_integer() && is_date(&right_type) {
        (left, right)
    } else if is_date(&left_type) && right_type.is_integer() {
        (right, left)
    } else {
        return Ok(());
    };
    let spans = [number, date].map(Expr::spans);
    let span: Option<Span> = spans.into_iter().flatten().find_map(|spans| spans.first());
    let (number, date) = (number.human_display(), date.human_display());
    let message = format!("the number {number} is compared with the date or time {date}");
    let mut diagnostic = Diagnostic::new_error(message.clone(), span);
    diagnostic.add_help(
        "write a date_key as a number, such as 20200214, or join dim_date, which has date_day",
        None,
    );
    plan_err!("{message}"; diagnostic=diagnostic)
}

fn compares(operator: Operator) -> bool {
    use Operator::{Eq, Gt, GtEq, IsDistinctFrom, IsNotDistinctFrom, Lt, LtEq, NotEq};
    matches!(
        operator,
        Eq | NotEq | Lt | LtEq | Gt | GtEq | IsDistinctFrom | IsNotDistinctFrom
    )
}

fn is_date(kind: &DataType) -> bool {
    matches!(
        kind,
        DataType::Date32 | DataType::Date64 | DataType::Timestamp(..)
    )
}
