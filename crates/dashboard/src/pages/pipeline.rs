//! The pipeline: what its groups do, how fast rows move, what went wrong and what is off; and what a person has a
//! group do.

use std::sync::Arc;

use askama::Template;
use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use ftap_supervision::{Command, Refusal};
use hyper::StatusCode;
use serde::Deserialize;

use super::{Frame, page};
use crate::Dashboard;
use crate::router::{Answer, plain};

pub(crate) const ADDRESS: &str = "/pipeline";
/// Where commands are sent.
pub(crate) const COMMAND_PATH: &str = "/pipeline/command";

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

#[derive(Deserialize)]
pub(crate) struct Asked {
    group: String,
    command: String,
}

pub(crate) async fn command(
    State(dashboard): State<Arc<Dashboard>>,
    asked: Result<Json<Asked>, JsonRejection>,
) -> Answer {
    let Asked { group, command } = match asked {
        Ok(Json(asked)) => asked,
        Err(error) => return plain(error.status(), error.body_text()),
    };
    let Some(command) = Command::named(&command) else {
        let body = format!("command {command:?}: expected flush, pause, resume or restart");
        return plain(StatusCode::BAD_REQUEST, body);
    };
    match dashboard.controls.ask(&group, command) {
        Ok(()) => plain(StatusCode::OK, done(&group, command)),
        Err(refusal) => refused(&group, command, &refusal),
    }
}

fn done(group: &str, command: Command) -> String {
    match command {
        Command::Flush => format!("{group} closes its open files."),
        Command::Pause => format!("{group} is paused."),
        Command::Resume => format!("{group} resumes."),
        Command::Restart => format!("{group} restarts."),
    }
}

fn refused(group: &str, command: Command, refusal: &Refusal) -> Answer {
    let (code, body) = match refusal {
        Refusal::NotRunning => (
            StatusCode::NOT_FOUND,
            format!("no group {group:?} runs in this process"),
        ),
        Refusal::NotTaken => (
            StatusCode::CONFLICT,
            format!("{group} has no {}", command.as_str()),
        ),
        Refusal::AlreadyPaused => (StatusCode::CONFLICT, format!("{group} is paused already")),
        Refusal::NotPaused => (StatusCode::CONFLICT, format!("{group} is not paused")),
    };
    plain(code, body)
}
