//! What every request must pass, and what every answer carries.
//!
//! Promises that without the token, where there is one, a client learns only whether the process
//! is alive and ready, which orchestrators have to ask without secrets; that a web page elsewhere
//! can't read the figures by DNS rebinding; that no client can make the server hold much memory; and that
//! what takes a POST takes it from the process's own pages only ([`own_pages_only`]), so that no page of
//! another site can send one in a browser's name.

use std::net::IpAddr;

use axum::body::Body;
use axum::middleware::Next;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Request, StatusCode};

use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use crate::pages::{messages, sql};
use crate::router::{Answer, plain};

/// One that small is not worth a refusal, wherever it is sent.
const MAX_BODY_BYTES: u64 = 4096;
/// Of a statement or a message, as JSON.
const MAX_TEXT_BYTES: u64 = 64 << 10;
const MAX_URI_BYTES: usize = 1024;
/// The longest token, as Basic writes it, is a fifth of it.
const MAX_HEADER_BYTES: usize = 8192;
/// These tell no more than alive or not, ready or not.
const OPEN: &[&str] = &["/healthz", "/readyz"];

const HEADERS: &[(&str, &str)] = &[
    // What the charts' library needs: one empty style element, to which it adds its rules by script; two style
    // attributes that it sets, by their hashes; an image to make a PNG of.
    (
        "content-security-policy",
        "default-src 'none'; script-src 'self'; style-src 'self' 'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='; style-src-attr 'unsafe-hashes' 'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=' 'sha256-AR/cKIZjWPcPmBUPDA6oti9XBiTbJvz0Cro2J1VzzS8='; img-src data: blob:; connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    ),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("cache-control", "no-store"),
];

/// What clients must present.
pub struct Token(Zeroizing<String>);

impl Token {
    pub fn new(token: &str) -> Self {
        Self(Zeroizing::new(token.to_owned()))
    }

    /// Whether this is it. Takes equally long wherever a guess of the right length first differs.
    fn is(&self, guess: &[u8]) -> bool {
        self.0.as_bytes().ct_eq(guess).into()
    }
}

/// Whether a request may see everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Trusted(pub bool);

/// Who may ask.
pub struct Access {
    /// What must be presented; `None` where other machines can't reach us.
    pub token: Option<Token>,
    /// Only names of this machine are answered.
    pub only_this_machine: bool,
}

pub(crate) fn add_headers(headers: &mut HeaderMap) {
    for (name, value) in HEADERS {
        // An asset says how long it keeps.
        headers
            .entry(HeaderName::from_static(name))
            .or_insert(HeaderValue::from_static(value));
    }
}

/// Whether the client may see everything; what it is answered if it may see nothing.
pub(crate) fn judge<B>(access: &Access, request: &Request<B>) -> Result<Trusted, Box<Answer>> {
    let headers = request.headers();
    if let Some(code) = too_large(request) {
        let refusal = plain(code, "nothing here takes a request that long\n");
        return Err(Box::new(refusal));
    }
    if access.only_this_machine && !is_this_machine(headers) {
        let refusal = plain(
            StatusCode::FORBIDDEN,
            "this page is for this machine only: open it by 127.0.0.1 or localhost\n",
        );
        return Err(Box::new(refusal));
    }
    let trusted = access
        .token
        .as_ref()
        .is_none_or(|token| presents(headers, token));
    if trusted || OPEN.contains(&request.uri().path()) {
        return Ok(Trusted(trusted));
    }
    let mut refusal = plain(
        StatusCode::UNAUTHORIZED,
        "DASHBOARD_TOKEN is asked for: as `Authorization: Bearer TOKEN`, or as the password in a browser\n",
    );
    // Basic is what makes a browser ask.
    for scheme in [
        "Bearer realm=\"ftap\"",
        "Basic realm=\"ftap\", charset=\"UTF-8\"",
    ] {
        let scheme = HeaderValue::from_static(scheme);
        refusal
            .headers_mut()
            .append(header::WWW_AUTHENTICATE, scheme);
    }
    Err(Box::new(refusal))
}

fn too_large<B>(request: &Request<B>) -> Option<StatusCode> {
    let headers = request.headers();
    let length = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    let limit = match request.uri().path() {
        sql::QUERY_PATH | messages::SEND_PATH => MAX_TEXT_BYTES,
        _ => MAX_BODY_BYTES,
    };
    // With an unknown length it could be any.
    if headers.contains_key(header::TRANSFER_ENCODING)
        || length.is_some_and(|length| length > limit)
    {
        return Some(StatusCode::PAYLOAD_TOO_LARGE);
    }
    let uri = request.uri();
    if uri.path().len() + uri.query().map_or(0, str::len) > MAX_URI_BYTES {
        return Some(StatusCode::URI_TOO_LONG);
    }
    let size: usize = headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + 4)
        .sum();
    (size > MAX_HEADER_BYTES).then_some(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE)
}

/// Lets through what a page of this process sends, as JSON, which forms can't send.
pub(crate) async fn own_pages_only(request: Request<Body>, next: Next) -> Answer {
    let headers = request.headers();
    if !is_same_origin(headers) {
        return plain(
            StatusCode::FORBIDDEN,
            "only a page of this process may send that: a program adds the header `Sec-Fetch-Site: same-origin`\n",
        );
    }
    if !is_json(headers) {
        return plain(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "expected JSON: `Content-Type: application/json`\n",
        );
    }
    next.run(request).await
}

/// Browsers say which site's page sends a request; where they do not, over plain HTTP to another machine, the page's
/// own address must be ours.
fn is_same_origin(headers: &HeaderMap) -> bool {
    if let Some(site) = headers.get("sec-fetch-site") {
        return site == "same-origin";
    }
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let origin = text(header::ORIGIN).and_then(|origin| origin.split_once("://"));
    match (origin, text(header::HOST)) {
        (Some((_scheme, origin)), Some(host)) => origin.eq_ignore_ascii_case(host),
        _ => false,
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()?.split(';').next());
    kind.is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

/// Whether the token is there, as a bearer's or as the password of any user. Never in the address,
/// which ends up in histories and logs.
fn presents(headers: &HeaderMap, token: &Token) -> bool {
    let Some((scheme, value)) = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok()?.split_once(' '))
    else {
        return false;
    };
    if scheme.eq_ignore_ascii_case("bearer") {
        return token.is(value.trim().as_bytes());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return false;
    }
    let Ok(pair) = STANDARD.decode(value.trim()) else {
        return false;
    };
    // The first colon ends the name; the token may have more of them.
    let colon = pair.iter().position(|byte| *byte == b':');
    colon.is_some_and(|colon| token.is(&pair[colon + 1..]))
}

/// Whether the `Host` header names this machine. A page of another site whose name was made to
/// resolve to 127.0.0.1 still sends its own name.
fn is_this_machine(headers: &HeaderMap) -> bool {
    let Some(host) = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok())
    else {
        return false;
    };
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|digit| digit.is_ascii_digit()) => name,
        _ => host,
    };
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost")
        || bare.parse::<IpAddr>().is_ok_and(|addr| addr.is_loopback())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn headers(name: HeaderName, value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(name, HeaderValue::from_str(value).unwrap());
        headers
    }

    #[test]
    fn only_names_of_this_machine_pass() {
        let passes = |host: &str| is_this_machine(&headers(header::HOST, host));
        for host in [
            "localhost",
            "LOCALHOST:1",
            "127.0.0.1:8080",
            "127.9.9.9",
            "[::1]:80",
            "[::1]",
        ] {
            assert!(passes(host), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "localhost.evil.example",
            "192.168.0.1",
            "127.0.0.1.evil.example:80",
            "0.0.0.0:80",
        ] {
            assert!(!passes(host), "{host}");
        }
        assert!(!is_this_machine(&HeaderMap::new()));
    }

    #[test]
    fn only_pages_of_the_same_host_may_send_something() {
        let passes = |pairs: &[(&'static str, &str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.insert(
                    HeaderName::from_static(name),
                    HeaderValue::from_str(value).unwrap(),
                );
            }
            is_same_origin(&headers)
        };
        let host = ("host", "ftap.example:8080");
        assert!(passes(&[("sec-fetch-site", "same-origin")]));
        assert!(passes(&[host, ("origin", "http://ftap.example:8080")]));
        for pairs in [
            &[host][..],
            &[host, ("origin", "null")],
            &[host, ("origin", "http://ftap.example:8081")],
            &[host, ("origin", "http://ftap.example:8080.evil.example")],
            &[host, ("origin", "http://evil.example/ftap.example:8080")],
            &[
                host,
                ("origin", "http://ftap.example:8080"),
                ("sec-fetch-site", "cross-site"),
            ],
            &[host, ("sec-fetch-site", "same-site")],
            &[host, ("sec-fetch-site", "none")],
        ] {
            assert!(!passes(pairs), "{pairs:?}");
        }
    }

    #[test]
    fn only_the_whole_token_is_it() {
        let token = Token::new("hunter2");
        assert!(token.is(b"hunter2"));
        for guess in [&b""[..], b"hunter", b"hunter22", b"hunter3", b"Hunter2"] {
            assert!(!token.is(guess), "{guess:?}");
        }
    }

    #[test]
    fn the_token_is_taken_as_a_bearers_and_as_a_password_and_nothing_like_it() {
        let token = Token::new("sixteen:letters-");
        let passes = |value: &str| presents(&headers(header::AUTHORIZATION, value), &token);
        let basic = |pair: &str| format!("Basic {}", STANDARD.encode(pair));
        assert!(passes("Bearer sixteen:letters-"));
        assert!(passes("bearer sixteen:letters-"));
        assert!(passes(&basic(":sixteen:letters-")));
        assert!(passes(&basic("anybody:sixteen:letters-")));
        for wrong in [
            "",
            "Bearer",
            "Bearer ",
            "Bearer sixteen:letters",
            "Bearer sixteen:letters-x",
            "sixteen:letters-",
            "Digest sixteen:letters-",
            "Basic sixteen:letters-",
            "Basic ====",
            &basic("sixteen:letters-"),
            &basic(""),
        ] {
            assert!(!passes(wrong), "{wrong}");
        }
        assert!(!presents(&HeaderMap::new(), &token));
    }
}
