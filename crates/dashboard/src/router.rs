//! Which address shows what.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::middleware::from_fn;
use axum::routing::{get, post};
use hyper::{Response, StatusCode, header};

use crate::pages::{changes, messages, sql};
use crate::{Dashboard, assets, cards, events, guard, pages, status};

pub(crate) type Answer = Response<Body>;

pub(crate) fn router(dashboard: Arc<Dashboard>) -> Router {
    let posts = Router::new()
        .route(sql::QUERY_PATH, post(sql::query))
        .route_layer(from_fn(guard::own_pages_only));
    Router::new()
        .merge(posts)
        .route("/", get(pages::overview))
        .route("/analytics", get(pages::analytics))
        .route(changes::PATH, get(changes::show))
        .route(messages::PATH, get(messages::show))
        .route("/sql", get(sql::show))
        .route("/pipeline", get(pages::pipeline))
        .route("/lake", get(pages::lake::lake))
        .route("/lake/file", get(pages::lake::file))
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
