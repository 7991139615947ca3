//! Which address shows what.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{FromRequestParts, Query};
use axum::middleware::from_fn;
use axum::routing::{get, post};
use hyper::http::request::Parts;
use hyper::{Response, StatusCode, header};
use serde::de::DeserializeOwned;

use crate::pages::{changes, fraud, lake, messages, pipeline, sql};
use crate::{Dashboard, assets, cards, events, guard, pages, status};

pub(crate) type Answer = Response<Body>;

pub(crate) fn router(dashboard: Arc<Dashboard>) -> Router {
    let posts = Router::new()
        .route(sql::QUERY_PATH, post(sql::query))
        .route(pipeline::COMMAND_PATH, post(pipeline::command))
        .route(messages::SEND_PATH, post(messages::send_again))
        .route_layer(from_fn(guard::own_pages_only));
    Router::new()
        .merge(posts)
        .route("/", get(pages::overview))
        .route("/analytics", get(pages::analytics))
        .route(fraud::ADDRESS, get(fraud::show))
        .route(pipeline::ADDRESS, get(pipeline::show))
        .route(lake::ADDRESS, get(lake::show))
        .route("/lake/file", get(lake::file))
        .route(changes::ADDRESS, get(changes::show))
        .route(messages::ADDRESS, get(messages::show))
        .route(sql::ADDRESS, get(sql::show))
        .route("/cards/{name}", get(cards::card))
        .route("/events", get(events::events))
        .route("/assets/{fingerprint}/{name}", get(assets::asset))
        .route("/api/status", get(status::status))
        .route("/metrics", get(status::metrics))
        .route("/healthz", get(status::alive))
        .route("/readyz", get(status::ready))
        .fallback(nothing_here)
        .with_state(dashboard)
}

pub(crate) async fn nothing_here() -> Answer {
    let body = "nothing here: the pages begin at /, machines read /metrics, /healthz, /readyz and /api/status\n";
    plain(StatusCode::NOT_FOUND, body)
}

/// What an address asks for; a wrong address is refused in words.
pub(crate) struct Asked<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Asked<T> {
    type Rejection = Answer;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Answer> {
        match Query::from_request_parts(parts, state).await {
            Ok(Query(asked)) => Ok(Self(asked)),
            Err(error) => Err(plain(StatusCode::BAD_REQUEST, error.body_text())),
        }
    }
}

/// Text as it is.
pub(crate) fn plain(code: StatusCode, body: impl Into<Body>) -> Answer {
    text(code, "text/plain; charset=utf-8", body)
}

pub(crate) fn text(code: StatusCode, content_type: &'static str, body: impl Into<Body>) -> Answer {
    let mut answer = Response::new(body.into());
    *answer.status_mut() = code;
    let content_type = header::HeaderValue::from_static(content_type);
    answer
        .headers_mut()
        .insert(header::CONTENT_TYPE, content_type);
    answer
}
