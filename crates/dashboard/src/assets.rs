//! What the pages load besides themselves: the style, the script, the charts' library. Their addresses have a
//! fingerprint, so that browsers keep them until another version of the program serves others.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::LazyLock;

use axum::extract::Path;
use axum::response::{IntoResponse as _, Response};
use hyper::header;

use crate::router;

const STYLE: &str = include_str!("../static/page.css");
const SCRIPT: &str = include_str!("../static/page.js");
const ASK_SCRIPT: &str = include_str!("../static/ask.js");
const SQL_SCRIPT: &str = include_str!("../static/sql.js");

/// plotly.js as its crate has it, which is inside of an element of a page.
static CHARTS: LazyLock<String> = LazyLock::new(|| {
    let elements = plotly::Plot::offline_js_sources();
    let script = elements.split("</script>").next().unwrap_or_default();
    let script = script.trim_start();
    let code = script.split_once('>').map(|(_, code)| code);
    code.unwrap_or_default().to_owned()
});

/// Part of the addresses.
pub(crate) static FINGERPRINT: LazyLock<String> = LazyLock::new(|| {
    let mut hasher = DefaultHasher::new();
    (STYLE, SCRIPT, ASK_SCRIPT, SQL_SCRIPT, CHARTS.as_str()).hash(&mut hasher);
    format!("{:016x}", hasher.finish())
});

/// `/assets/FINGERPRINT/NAME`.
pub(crate) async fn asset(Path((_, name)): Path<(String, String)>) -> Response {
    let (content_type, body) = match name.as_str() {
        "page.css" => ("text/css; charset=utf-8", STYLE),
        "page.js" => ("text/javascript; charset=utf-8", SCRIPT),
        "ask.js" => ("text/javascript; charset=utf-8", ASK_SCRIPT),
        "sql.js" => ("text/javascript; charset=utf-8", SQL_SCRIPT),
        "plotly.js" => ("text/javascript; charset=utf-8", CHARTS.as_str()),
        _ => return router::nothing_here().await,
    };
    let kept = "public, max-age=31536000, immutable";
    (
        [
            (header::CONTENT_TYPE, content_type),
            (header::CACHE_CONTROL, kept),
        ],
        body,
    )
        .into_response()
}
