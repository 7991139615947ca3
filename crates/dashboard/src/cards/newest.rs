//! The newest transactions of the lake.

use askama::Template;

use super::{CardError, Table, answers, html};
use crate::Dashboard;
use crate::filters::Filters;
use crate::router::Answer;

#[derive(Template)]
#[template(path = "newest.html")]
struct Newest<'a> {
    table: Table<'a>,
}

pub(super) async fn card(dashboard: &Dashboard, filters: &Filters) -> Result<Answer, CardError> {
    let sql = format!(
        "select to_char(transaction_datetime_UTC, '%Y-%m-%d %H:%M') as time, left(user_id, 8) as user, merchant_name as merchant, category, \
         original_amount as amount, currency, amount_usd as usd, case when is_fraud = 1 then 'fraud' end as mark \
         from fct_transactions {} order by transaction_datetime_UTC desc, transaction_id limit 12",
        filters.condition()
    );
    let rows = answers(dashboard)?.rows(&sql).await?;
    html(&Newest {
        table: Table::of_card(&rows, 12),
    })
}
