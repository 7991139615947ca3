//! Connections: one request each, a few seconds for it, and the oldest makes room for a new one.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::TcpListener as StdListener;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tower::ServiceExt as _;

use crate::guard::{self, Access};
use crate::pages::{changes, messages};
use crate::router::{self, Answer};
use crate::{Dashboard, events};

/// Of more the oldest is closed.
const MAX_CONNECTIONS: usize = 64;
/// How long a client may take to send its request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// How long it may take to read its answer, too.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(10);
/// The same where the answer is a query's.
const QUERY_TIMEOUT: Duration = Duration::from_secs(45);
/// Larger heads are refused without being read to their end.
const MAX_HEAD_BYTES: usize = 16 << 10;

/// A server that listens, until it is dropped.
pub struct Server {
    _stop: oneshot::Sender<()>,
}

struct Serving {
    router: Router,
    access: Access,
}

/// Serves what `access` allows, on a thread of its own.
///
/// # Errors
/// If the runtime or the thread can't be started.
pub fn serve(
    listener: StdListener,
    dashboard: Dashboard,
    access: Access,
) -> std::io::Result<Server> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    listener.set_nonblocking(true)?;
    let listener = {
        let _entered = runtime.enter();
        TcpListener::from_std(listener)?
    };
    let dashboard = Arc::new(dashboard);
    let router = router::router(dashboard.clone());
    let serving = accept(listener, Arc::new(Serving { router, access }));
    let (stop, stopped) = oneshot::channel::<()>();
    std::thread::Builder::new()
        .name("http".to_owned())
        .spawn(move || {
            // Whatever is still being answered at the end is of no use any more.
            runtime.block_on(async {
                tokio::select! {
                    () = serving => {}
                    () = dashboard.history.keep(&dashboard.health) => {}
                    _ = stopped => {}
                }
            });
        })?;
    Ok(Server { _stop: stop })
}

async fn accept(listener: TcpListener, serving: Arc<Serving>) {
    let mut connections = VecDeque::<AbortHandle>::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of file descriptors, for instance: those of others may be closed.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        connections.retain(|connection| !connection.is_finished());
        if connections.len() == MAX_CONNECTIONS
            && let Some(oldest) = connections.pop_front()
        {
            oldest.abort();
        }
        let (deadline, passed) = watch::channel(Instant::now() + CONNECTION_TIMEOUT);
        let answering = answer(stream, serving.clone(), deadline);
        let connection = tokio::spawn(async move {
            tokio::select! {
                () = answering => {}
                () = pass(passed) => {}
            }
        });
        connections.push_back(connection.abort_handle());
    }
}

/// Until the deadline, which may be moved.
async fn pass(mut deadline: watch::Receiver<Instant>) {
    loop {
        let until = *deadline.borrow_and_update();
        tokio::select! {
            () = tokio::time::sleep_until(until) => return,
            moved = deadline.changed() => if moved.is_err() { return },
        }
    }
}

/// One request. An error means that the client is gone.
async fn answer(stream: TcpStream, serving: Arc<Serving>, deadline: watch::Sender<Instant>) {
    let respond = service_fn(|request: Request<Incoming>| {
        let patience = match request.uri().path() {
            "/events" => events::LENGTH + CONNECTION_TIMEOUT,
            changes::ADDRESS | messages::ADDRESS | messages::SEND_PATH | "/lake/file" => {
                QUERY_TIMEOUT
            }
            path if path.starts_with("/cards/") || path.starts_with("/sql") => QUERY_TIMEOUT,
            _ => CONNECTION_TIMEOUT,
        };
        deadline.send_replace(Instant::now() + patience);
        respond(&serving, request.map(Body::new))
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD_BYTES)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), respond);
    let Ok(parts) = connection.without_shutdown().await else {
        return;
    };
    // A connection closed with something unread is reset, and the answer with it.
    let mut stream = parts.io.into_inner();
    if stream.shutdown().await.is_ok() {
        let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
    }
}

async fn respond(serving: &Serving, mut request: Request<Body>) -> Result<Answer, Infallible> {
    let mut answer = match guard::judge(&serving.access, &request) {
        Ok(trusted) => {
            request.extensions_mut().insert(trusted);
            serving.router.clone().oneshot(request).await?
        }
        Err(refusal) => *refusal,
    };
    guard::add_headers(answer.headers_mut());
    Ok(answer)
}
