//! The pages around the cards.

use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use hyper::StatusCode;

use crate::Dashboard;
use crate::assets::FINGERPRINT;
use crate::cards::html;
use crate::events::line;
use crate::filters::AskedFilters;
use crate::questions::{QUESTIONS, Question};
use crate::router::{self, Answer};

pub(crate) mod changes;
pub(crate) mod fraud;
pub(crate) mod lake;
pub(crate) mod messages;
pub(crate) mod pipeline;
pub(crate) mod sql;

/// Pages in the order of the navigation: address and name.
const NAVIGATION: &[(&str, &str)] = &[
    ("/", "Overview"),
    ("/analytics", "Analytics"),
    (fraud::ADDRESS, "Fraud"),
    (pipeline::ADDRESS, "Pipeline"),
    (lake::ADDRESS, "Lake"),
    (changes::ADDRESS, "Changes"),
    (messages::ADDRESS, "Messages"),
    (sql::ADDRESS, "SQL"),
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

#[derive(Template)]
#[template(path = "overview.html")]
struct Overview {
    frame: Frame,
    /// What is wrong with the filters.
    problem: Option<String>,
}

#[derive(Template)]
#[template(path = "analytics.html")]
struct Analytics {
    frame: Frame,
    /// What is wrong with the filters.
    problem: Option<String>,
    questions: &'static [Question],
}

// With wrong filters a page has these and their fault; else its cards read them again.
pub(crate) async fn overview(
    State(dashboard): State<Arc<Dashboard>>,
    asked: AskedFilters,
) -> Answer {
    page(&Overview {
        frame: Frame::of(&dashboard, "/"),
        problem: asked.parsed.err().map(|error| error.to_string()),
    })
}

pub(crate) async fn analytics(
    State(dashboard): State<Arc<Dashboard>>,
    asked: AskedFilters,
) -> Answer {
    page(&Analytics {
        frame: Frame::of(&dashboard, "/analytics"),
        problem: asked.parsed.err().map(|error| error.to_string()),
        questions: QUESTIONS,
    })
}

fn page(template: &impl Template) -> Answer {
    html(template)
        .unwrap_or_else(|error| router::plain(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))
}
