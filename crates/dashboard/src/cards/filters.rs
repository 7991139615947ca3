//! The form of the filters.

use askama::Template;

use super::{CardError, answers, html};
use crate::Dashboard;
use crate::filters::{Filters, Fraud};
use crate::router::Answer;

/// More values of a column are no choice.
const MAX_CHOICES: usize = 500;

pub(super) async fn card(dashboard: &Dashboard, filters: &Filters) -> Result<Answer, CardError> {
    let answers = answers(dashboard)?;
    let choices = async |column: &str, chosen: &Option<String>| {
        let sql = format!(
            "select distinct {column} from fct_transactions where {column} is not null order by 1 limit {MAX_CHOICES}"
        );
        let mut choices = answers.rows(&sql).await?.texts(column);
        // What was asked for is shown, also if there is none.
        if let Some(chosen) = chosen
            && !choices.contains(chosen)
        {
            choices.push(chosen.clone());
        }
        Ok::<_, CardError>(choices)
    };
    html(&Form {
        filters: filters.clone(),
        currencies: choices("currency", &filters.currency).await?,
        categories: choices("category", &filters.category).await?,
    })
}

/// What is chosen, and what there is to choose.
#[derive(Template)]
#[template(path = "filters.html")]
struct Form {
    filters: Filters,
    currencies: Vec<String>,
    categories: Vec<String>,
}

impl Form {
    fn from(&self) -> String {
        self.filters
            .from
            .map(|day| day.to_string())
            .unwrap_or_default()
    }

    fn to(&self) -> String {
        self.filters
            .to
            .map(|day| day.to_string())
            .unwrap_or_default()
    }

    fn is_currency(&self, name: &str) -> bool {
        self.filters.currency.as_deref() == Some(name)
    }

    fn is_category(&self, name: &str) -> bool {
        self.filters.category.as_deref() == Some(name)
    }

    fn only_fraud(&self) -> bool {
        self.filters.fraud == Fraud::Only
    }

    fn without_fraud(&self) -> bool {
        self.filters.fraud == Fraud::Without
    }

    fn is_filtered(&self) -> bool {
        self.filters != Filters::default()
    }
}
