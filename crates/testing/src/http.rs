//! The HTTP server of every fake: listens on 127.0.0.1, keeps its connections, ends them all when
//! dropped.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use futures::stream;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{self, HeaderName};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

/// Longest time for a request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Larger heads are refused.
const HEAD_BYTES: usize = 64 << 10;

pub(crate) type Answer = Response<BoxBody<Bytes, Cut>>;

/// Closes the connection: hyper has no other way to end it without an answer.
#[derive(Debug)]
pub(crate) struct Cut;

impl std::fmt::Display for Cut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("cut by a rule")
    }
}

impl std::error::Error for Cut {}

/// A server that listens; dropped, it closes its port and cuts its connections.
pub(crate) struct Listening {
    address: String,
    task: JoinHandle<()>,
}

impl Listening {
    /// Serves on the current tokio runtime. Port 0 takes a free one. `malformed` is called for each
    /// request that is not HTTP; it has been answered with 400, 414 or 431.
    pub(crate) async fn start<H, F>(
        port: u16,
        handler: H,
        malformed: impl Fn() + Clone + Send + 'static,
    ) -> io::Result<Self>
    where
        H: Fn(Request<Incoming>) -> F + Clone + Send + 'static,
        F: Future<Output = Result<Answer, Cut>> + Send + 'static,
    {
        let listener = TcpListener::bind(("127.0.0.1", port))
            .await
            .map_err(|error| {
                io::Error::new(error.kind(), format!("port {port} of 127.0.0.1: {error}"))
            })?;
        let address = format!("http://{}", listener.local_addr()?);
        let task = tokio::spawn(accept(listener, handler, malformed));
        Ok(Self { address, task })
    }

    /// `http://127.0.0.1:PORT`.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept<H, F>(
    listener: TcpListener,
    handler: H,
    malformed: impl Fn() + Clone + Send + 'static,
) where
    H: Fn(Request<Incoming>) -> F + Clone + Send + 'static,
    F: Future<Output = Result<Answer, Cut>> + Send + 'static,
{
    // Dropped with this task, and the connections with it.
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of file descriptors, for instance: other connections may end.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        // Answers are small and waited for.
        let _ = stream.set_nodelay(true);
        let (handler, malformed) = (handler.clone(), malformed.clone());
        connections.spawn(async move {
            let served = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIMEOUT)
                .max_buf_size(HEAD_BYTES)
                .serve_connection(TokioIo::new(stream), service_fn(handler))
                .await;
            if served.is_err_and(|error| error.is_parse()) {
                malformed();
            }
        });
        while connections.try_join_next().is_some() {}
    }
}

pub(crate) fn respond(status: u16, fields: &[(HeaderName, String)], body: Bytes) -> Answer {
    let length = body.len().into();
    let mut answer = Response::new(whole(body));
    *answer.status_mut() =
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_LENGTH, length);
    for (name, value) in fields {
        if let Ok(value) = value.parse() {
            headers.insert(name, value);
        }
    }
    answer
}

/// The first half of an answer's body, then a cut or an end that looks like one.
pub(crate) async fn half(answer: Answer, is_cut: bool) -> Result<Answer, Cut> {
    let (mut head, body) = answer.into_parts();
    let body = body.collect().await?.to_bytes();
    let half = body.slice(..body.len() / 2);
    if !is_cut {
        head.headers
            .insert(header::CONTENT_LENGTH, half.len().into());
        return Ok(Response::from_parts(head, whole(half)));
    }
    let frames = stream::unfold(Some(half), |half| async {
        match half {
            Some(half) => Some((Ok(Frame::data(half)), None)),
            None => {
                // The half is on its way when the connection is cut.
                tokio::time::sleep(Duration::from_millis(20)).await;
                Some((Err(Cut), None))
            }
        }
    });
    Ok(Response::from_parts(head, StreamBody::new(frames).boxed()))
}

fn whole(bytes: Bytes) -> BoxBody<Bytes, Cut> {
    Full::new(bytes).map_err(|never| match never {}).boxed()
}
