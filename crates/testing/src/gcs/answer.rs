//! One request and its answer, with the fault that befalls it.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderName};
use hyper::http::request::Parts;
use hyper::{Method, Request};
use percent_encoding::percent_decode_str;

use super::counts::Asked;
use super::listing::{Wanted, escape};
use super::objects::{Condition, Meta, Put, key_problem};
use super::rule::{Fate, Fault, Operation};
use super::server::Shared;
use crate::http::{Answer, Cut, half, respond};

const IF_GENERATION: HeaderName = HeaderName::from_static("x-goog-if-generation-match");

/// What is asked of which key or prefix.
struct Target {
    operation: Operation,
    key: String,
    query: String,
}

/// Why a request is refused.
struct Refusal {
    status: u16,
    code: &'static str,
    message: String,
}

fn refusal(status: u16, code: &'static str, message: impl Into<String>) -> Refusal {
    Refusal {
        status,
        code,
        message: message.into(),
    }
}

pub(crate) async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Answer, Cut> {
    let (head, body) = request.into_parts();
    let target = match target(&head, &shared.options.bucket, shared.options.page_items) {
        Ok(target) => target,
        Err(refusal) => return Ok(refuse(&shared, refusal)),
    };
    let fate = shared.rules().fate(target.operation, &target.key);
    let text = |name| head.headers.get(name).and_then(|value| value.to_str().ok());
    let asked = Asked {
        operation: target.operation,
        key: target.key.clone(),
        range: text(header::RANGE).map(str::to_owned),
        create_only: text(IF_GENERATION) == Some("0"),
        fault: None,
    };
    shared.book().note(asked, fate);

    let body = match (target.operation, fate.fault) {
        (Operation::Put, Some(Fault::CutBody)) => {
            read_half(&head.headers, body).await;
            return Err(Cut);
        }
        _ => match collect(body, shared.options.max_object_bytes).await? {
            Ok(body) => body,
            Err(refusal) => return Ok(refuse(&shared, refusal)),
        },
    };
    tokio::time::sleep(fate.delay).await;
    strike(&shared, &head.headers, target, body, fate).await
}

/// Answers as the fault wants it.
async fn strike(
    shared: &Arc<Shared>,
    headers: &HeaderMap,
    target: Target,
    body: Bytes,
    fate: Fate,
) -> Result<Answer, Cut> {
    match fate.fault {
        None | Some(Fault::Delay(_)) => Ok(usual(shared, headers, &target, body).await),
        Some(Fault::Status(status)) => Ok(faulty(status)),
        Some(Fault::TokenExpired) => Ok(faulty(401)),
        Some(Fault::PreconditionFailed) => Ok(faulty(412)),
        Some(Fault::CommitThenStatus(status)) => {
            usual(shared, headers, &target, body).await;
            Ok(faulty(status))
        }
        Some(Fault::CommitThenCut) => {
            usual(shared, headers, &target, body).await;
            Err(Cut)
        }
        Some(Fault::LateCommit { status, after }) => {
            let (shared, headers) = (Arc::clone(shared), headers.clone());
            tokio::spawn(async move {
                tokio::time::sleep(after).await;
                usual(&shared, &headers, &target, body).await;
            });
            Ok(faulty(status))
        }
        Some(Fault::Cut) => Err(Cut),
        Some(Fault::CutBody) => half(usual(shared, headers, &target, body).await, true).await,
        Some(Fault::HalfAnswer) => half(usual(shared, headers, &target, body).await, false).await,
        Some(Fault::WebPage) => Ok(respond(
            200,
            &[(header::CONTENT_TYPE, "text/html".to_owned())],
            "<html><body>Please sign in to this network.</body></html>".into(),
        )),
        Some(Fault::Hang) => std::future::pending().await,
    }
}

/// What is asked; `Err` if it is malformed or not known here.
fn target(head: &Parts, bucket: &str, page_items: usize) -> Result<Target, Refusal> {
    let query = head.uri.query().unwrap_or_default().to_owned();
    let path = percent_decode_str(head.uri.path().trim_start_matches('/')).decode_utf8();
    let path = path.map_err(|_not_utf8| refusal(400, "InvalidURI", "the path is not UTF-8"))?;
    let (named, key) = path.split_once('/').unwrap_or((&path, ""));
    let multipart =
        form_urlencoded::parse(query.as_bytes()).any(|(name, _)| name.starts_with("upload"));
    let not_here = |what: &str| refusal(501, "NotImplemented", format!("{what} is not done here"));
    if multipart {
        return Err(not_here("a multipart upload"));
    }
    if named != bucket {
        let message = format!("there is no bucket {named:?} here, only {bucket:?}");
        return Err(refusal(404, "NoSuchBucket", message));
    }
    let operation = match (&head.method, key) {
        (&Method::GET, "") => Operation::List,
        (&Method::PUT | &Method::HEAD, "") => return Err(not_here("this for a bucket")),
        (&Method::PUT, _) => Operation::Put,
        (&Method::GET, _) => Operation::Get,
        (&Method::HEAD, _) => Operation::Head,
        (method, _) => return Err(not_here(method.as_str())),
    };
    for name in [
        "if-match",
        "if-none-match",
        "if-modified-since",
        "if-unmodified-since",
        "x-goog-if-metageneration-match",
        "x-goog-copy-source",
        "x-goog-encryption-key",
    ] {
        if head.headers.contains_key(name) {
            return Err(not_here(name));
        }
    }
    if operation == Operation::List {
        let wanted = Wanted::parse(&query, page_items);
        let wanted = wanted.map_err(|problem| refusal(400, "InvalidArgument", problem))?;
        return Ok(Target {
            operation,
            key: wanted.prefix,
            query,
        });
    }
    if let Some(problem) = key_problem(key) {
        return Err(refusal(400, "InvalidArgument", problem));
    }
    if !query.is_empty() {
        return Err(not_here(&format!("?{query}")));
    }
    let key = key.to_owned();
    Ok(Target {
        operation,
        key,
        query,
    })
}

async fn collect(body: Incoming, limit: usize) -> Result<Result<Bytes, Refusal>, Cut> {
    match Limited::new(body, limit).collect().await {
        Ok(body) => Ok(Ok(body.to_bytes())),
        Err(error) if error.is::<LengthLimitError>() => Ok(Err(refusal(
            400,
            "EntityTooLarge",
            format!("an object may have {limit} bytes"),
        ))),
        // The client cut it.
        Err(_) => Err(Cut),
    }
}

/// Reads half of what was announced.
async fn read_half(headers: &HeaderMap, mut body: Incoming) {
    let length = headers.get(header::CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    let mut left = length.unwrap_or(0) / 2;
    while left > 0 {
        let Some(Ok(frame)) = body.frame().await else {
            return;
        };
        let read = frame.data_ref().map_or(0, Bytes::len) as u64;
        left = left.saturating_sub(read);
    }
}

/// The answer without any fault.
async fn usual(shared: &Arc<Shared>, headers: &HeaderMap, target: &Target, body: Bytes) -> Answer {
    let done = match target.operation {
        Operation::Put => put(shared, headers, &target.key, body).await,
        Operation::List => Wanted::parse(&target.query, shared.options.page_items)
            .map(|wanted| {
                let xml = wanted.page(&shared.options.bucket, &shared.objects);
                let kind = (header::CONTENT_TYPE, "application/xml".to_owned());
                respond(200, &[kind], xml.into())
            })
            .map_err(|problem| refusal(400, "InvalidArgument", problem)),
        Operation::Get | Operation::Head | Operation::Any => get(shared, headers, target).await,
    };
    done.unwrap_or_else(|refusal| refuse(shared, refusal))
}

async fn put(
    shared: &Arc<Shared>,
    headers: &HeaderMap,
    key: &str,
    body: Bytes,
) -> Result<Answer, Refusal> {
    let condition = match headers.get(IF_GENERATION) {
        None => Condition::None,
        Some(value) => Condition::Generation(
            value
                .to_str()
                .ok()
                .and_then(|value| value.parse().ok())
                .ok_or_else(|| {
                    let message = format!("{IF_GENERATION} is {value:?}, wanted a number");
                    refusal(400, "InvalidArgument", message)
                })?,
        ),
    };
    let size = body.len() as u64;
    let (writer, name) = (Arc::clone(shared), key.to_owned());
    let put = tokio::task::spawn_blocking(move || writer.objects.put(&name, body, condition)).await;
    let put = put.map_err(|error| refusal(500, "InternalError", error.to_string()))?;
    let put = put.map_err(|error| refusal(500, "InternalError", error.to_string()))?;
    let mut book = shared.book();
    let counts = &mut book.counts;
    let meta = match put {
        Put::ConditionFailed => {
            counts.preconditions_failed += 1;
            let message = "the object is not of the generation that was asked for";
            return Err(refusal(412, "PreconditionFailed", message));
        }
        Put::Created(meta) => {
            counts.creates += 1;
            meta
        }
        Put::Replaced(meta) => {
            counts.overwrites += 1;
            meta
        }
    };
    counts.bytes_in += size;
    Ok(respond(200, &describe(&meta), Bytes::new()))
}

async fn get(
    shared: &Arc<Shared>,
    headers: &HeaderMap,
    target: &Target,
) -> Result<Answer, Refusal> {
    let key = &target.key;
    let no_key = || refusal(404, "NoSuchKey", format!("there is no object {key:?}"));
    let meta = shared.objects.meta(key).ok_or_else(no_key)?;
    let mut fields = describe(&meta).to_vec();
    if target.operation == Operation::Head {
        fields.push((header::CONTENT_LENGTH, meta.size.to_string()));
        return Ok(respond(200, &fields, Bytes::new()));
    }
    let (status, range) = match headers.get(header::RANGE) {
        None => (200, 0..meta.size),
        Some(value) => {
            let range = value.to_str().ok().and_then(|text| range(text, meta.size));
            let range = range.ok_or_else(|| {
                let message = format!("Range is {value:?}, wanted one range of bytes");
                refusal(400, "InvalidArgument", message)
            })?;
            if range.is_empty() {
                let message = format!("{value:?} of an object of {} bytes", meta.size);
                return Err(refusal(416, "InvalidRange", message));
            }
            let (first, last, size) = (range.start, range.end - 1, meta.size);
            let content_range = format!("bytes {first}-{last}/{size}");
            fields.push((header::CONTENT_RANGE, content_range));
            (206, range)
        }
    };
    let (reader, name) = (Arc::clone(shared), key.clone());
    let bytes = tokio::task::spawn_blocking(move || reader.objects.read(&name, range)).await;
    let bytes = bytes.map_err(|error| refusal(500, "InternalError", error.to_string()))?;
    let bytes = bytes.map_err(|error| refusal(500, "InternalError", error.to_string()))?;
    shared.book().counts.bytes_out += bytes.len() as u64;
    Ok(respond(status, &fields, bytes))
}

/// `bytes=a-b`, `bytes=a-` or `bytes=-last`; empty if the object has nothing there.
fn range(text: &str, size: u64) -> Option<Range<u64>> {
    let (from, to) = text.strip_prefix("bytes=")?.split_once('-')?;
    match (from, to) {
        ("", last) => Some(size.saturating_sub(last.parse().ok()?)..size),
        (from, "") => Some(from.parse().ok()?..size),
        (from, to) => {
            let (from, to): (u64, u64) = (from.parse().ok()?, to.parse().ok()?);
            (from <= to).then(|| from..size.min(to.saturating_add(1)))
        }
    }
}

fn describe(meta: &Meta) -> [(HeaderName, String); 3] {
    let modified = meta.modified.format("%a, %d %b %Y %H:%M:%S GMT");
    [
        (header::ETAG, meta.etag()),
        (header::LAST_MODIFIED, modified.to_string()),
        (
            HeaderName::from_static("x-goog-generation"),
            meta.generation.to_string(),
        ),
    ]
}

/// The answer that a rule wants.
fn faulty(status: u16) -> Answer {
    let code = match status {
        401 => "AuthenticationRequired",
        403 => "AccessDenied",
        404 => "NoSuchBucket",
        412 => "PreconditionFailed",
        429 => "SlowDown",
        500 => "InternalError",
        503 => "ServiceUnavailable",
        _ => "Fault",
    };
    failure(status, code, "a rule of the test server")
}

/// Counts what is refused for itself.
fn refuse(shared: &Shared, refusal: Refusal) -> Answer {
    let counts = &mut shared.book().counts;
    match (refusal.status, refusal.message.starts_with("a multipart")) {
        (400, _) => counts.malformed += 1,
        (501, true) => counts.multiparts += 1,
        (501, false) => counts.others += 1,
        _ => {}
    }
    failure(refusal.status, refusal.code, &refusal.message)
}

fn failure(status: u16, code: &str, message: &str) -> Answer {
    let mut fields = vec![(header::CONTENT_TYPE, "application/xml".to_owned())];
    if let 429 | 503 = status {
        fields.push((header::RETRY_AFTER, "1".to_owned()));
    }
    let (code, message) = (escape(code), escape(message));
    let xml = format!(
        "<?xml version='1.0' encoding='UTF-8'?><Error><Code>{code}</Code><Message>{message}</Message></Error>"
    );
    respond(status, &fields, xml.into())
}
