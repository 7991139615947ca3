//! The form of the filters.

use std::collections::BTreeMap;

use askama::Template;

use super::{CardError, answers, html};
use crate::Dashboard;
use crate::router::Answer;

/// More values of a column are no choice.
const MAX_CHOICES: usize = 500;

pub(super) async fn card(
    dashboard: &Dashboard,
    mut raw: BTreeMap<String, String>,
) -> Result<Answer, CardError> {
    let mut take = |name: &str| raw.remove(name).unwrap_or_default();
    let [from, to, currency, category, fraud] =
        ["from", "to", "currency", "category", "fraud"].map(&mut take);
    let answers = answers(dashboard)?;
    let choices = async |column: &str, chosen: &String| {
        let sql = format!(
            "select distinct {column} from fct_transactions where {column} is not null order by 1 limit {MAX_CHOICES}"
        );
        let mut choices = answers.rows(&sql).await?.texts(column);
        // What was asked for is shown, also if there is none.
        if !chosen.is_empty() && !choices.contains(chosen) {
            choices.push(chosen.clone());
        }
        Ok::<_, CardError>(choices)
    };
    html(&Form {
        currencies: choices("currency", &currency).await?,
        categories: choices("category", &category).await?,
        from,
        to,
        currency,
        category,
        fraud,
    })
}

/// What is chosen, and what there is to choose.
#[derive(Template)]
#[template(path = "filters.html")]
struct Form {
    from: String,
    to: String,
    currency: String,
    category: String,
    fraud: String,
    currencies: Vec<String>,
    categories: Vec<String>,
}

impl Form {
    fn is_filtered(&self) -> bool {
        let all = [
            &self.from,
            &self.to,
            &self.currency,
            &self.category,
            &self.fraud,
        ];
        all.iter().any(|value| !value.is_empty())
    }
}
