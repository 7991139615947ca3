//! The pages around the cards.

use std::sync::Arc;

use askama::Template;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use hyper::StatusCode;

use crate::Dashboard;
use crate::assets::FINGERPRINT;
use crate::cards::html;
use crate::events::line;
use crate::filters::{Filters, Fraud, RawFilters};
use crate::questions::{QUESTIONS, Question};
use crate::router::{self, Answer};

pub(crate) mod sql;

/// Pages in the order of the navigation: address and name.
const NAVIGATION: &[(&str, &str)] = &[
    ("/", "Overview"),
    ("/analytics", "Analytics"),
    ("/sql", "SQL"),
];

/// What every page has around its own content.
struct Frame {
    /// Of the page.
    address: &'static str,
    title: &'static str,
    /// `ok`, `warn` or `bad`.
    state: &'static str,
    live: String,
    fingerprint: &'static str,
}

impl Frame {
    fn of(dashboard: &Dashboard, address: &'static str) -> Self {
        let title = NAVIGATION.iter().find(|(known, _)| *known == address);
        let (state, live) = line(dashboard);
        Self {
            address,
            title: title.map_or("", |(_, title)| title),
            state,
            live,
            fingerprint: FINGERPRINT.as_str(),
        }
    }

    fn navigation(&self) -> impl Iterator<Item = (&'static str, &'static str, bool)> {
        let here = self.address;
        let pages = NAVIGATION.iter();
        pages.map(move |(address, name)| (*address, *name, *address == here))
    }
}

/// The form of the filters: what is chosen, and what there is to choose.
struct FilterForm {
    filters: Filters,
    currencies: Vec<String>,
    categories: Vec<String>,
}

impl FilterForm {
    async fn of(dashboard: &Dashboard, filters: Filters) -> Self {
        let choices = async |column: &str| {
            let Some(answers) = &dashboard.answers else {
                return Vec::new();
            };
            let sql = format!("select distinct {column} from transactions order by 1 limit 500");
            // The page says why the lake can't be read, where its data would be.
            match answers.rows(&sql).await {
                Ok(rows) => rows.texts(column),
                Err(_) => Vec::new(),
            }
        };
        Self {
            currencies: choices("currency").await,
            categories: choices("category").await,
            filters,
        }
    }

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

#[derive(Template)]
#[template(path = "overview.html")]
struct Overview {
    frame: Frame,
    form: FilterForm,
}

#[derive(Template)]
#[template(path = "analytics.html")]
struct Analytics {
    frame: Frame,
    form: FilterForm,
    questions: &'static [Question],
}

type FiltersOf = Result<Query<RawFilters>, QueryRejection>;

fn filters(raw: FiltersOf) -> Result<Filters, Box<Answer>> {
    let filters = match raw {
        Ok(Query(raw)) => Filters::try_from(raw).map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    filters.map_err(|error| Box::new(router::plain(StatusCode::BAD_REQUEST, error)))
}

pub(crate) async fn overview(State(dashboard): State<Arc<Dashboard>>, raw: FiltersOf) -> Answer {
    let filters = match filters(raw) {
        Ok(filters) => filters,
        Err(refusal) => return *refusal,
    };
    page(&Overview {
        frame: Frame::of(&dashboard, "/"),
        form: FilterForm::of(&dashboard, filters).await,
    })
}

pub(crate) async fn analytics(State(dashboard): State<Arc<Dashboard>>, raw: FiltersOf) -> Answer {
    let filters = match filters(raw) {
        Ok(filters) => filters,
        Err(refusal) => return *refusal,
    };
    page(&Analytics {
        frame: Frame::of(&dashboard, "/analytics"),
        form: FilterForm::of(&dashboard, filters).await,
        questions: QUESTIONS,
    })
}

fn page(template: &impl Template) -> Answer {
    html(template)
        .unwrap_or_else(|error| router::plain(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))
}
