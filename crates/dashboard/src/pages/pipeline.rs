//! The pipeline: what its groups do, how fast rows move, what went wrong and what is off.

use std::sync::Arc;

use askama::Template;
use axum::extract::State;

use super::{Frame, page};
use crate::Dashboard;
use crate::router::Answer;

pub(crate) const ADDRESS: &str = "/pipeline";

#[derive(Template)]
#[template(path = "pipeline.html")]
struct Pipeline {
    frame: Frame,
}

pub(crate) async fn show(State(dashboard): State<Arc<Dashboard>>) -> Answer {
    page(&Pipeline {
        frame: Frame::of(&dashboard, ADDRESS),
    })
}
