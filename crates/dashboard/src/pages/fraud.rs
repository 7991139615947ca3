//! Fraud: what the model of `ftap fraud train` is worth, and the transactions that it finds most suspicious.

use std::sync::Arc;

use askama::Template;
use axum::extract::State;

use super::{Frame, page};
use crate::Dashboard;
use crate::router::Answer;

pub(crate) const ADDRESS: &str = "/fraud";

#[derive(Template)]
#[template(path = "fraud.html")]
struct Fraud {
    frame: Frame,
}

pub(crate) async fn show(State(dashboard): State<Arc<Dashboard>>) -> Answer {
    page(&Fraud {
        frame: Frame::of(&dashboard, ADDRESS),
    })
}
