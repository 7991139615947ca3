//! An HTTP API that answers by a script and remembers what it was asked.

use std::sync::Arc;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{CONNECTION, HeaderName};
use hyper::{Request, Version};
use parking_lot::Mutex;

use crate::http::{Answer, Cut, Listening, half, respond};

/// One answer.
#[derive(Clone, Debug)]
pub struct Reply {
    status: u16,
    headers: Vec<(HeaderName, String)>,
    body: Bytes,
    fault: Option<Fault>,
}

#[derive(Clone, Copy, Debug)]
enum Fault {
    Cut,
    CutBody,
    Hang,
}

impl Reply {
    /// An answer with this status and no body.
    pub fn status(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Bytes::new(),
            fault: None,
        }
    }

    /// 200 with this body.
    pub fn ok(body: impl Into<Bytes>) -> Self {
        Self::status(200).body(body)
    }

    /// No answer until the client disconnects.
    pub fn hang() -> Self {
        Self {
            fault: Some(Fault::Hang),
            ..Self::status(200)
        }
    }

    /// The connection is closed without an answer.
    pub fn disconnect() -> Self {
        Self {
            fault: Some(Fault::Cut),
            ..Self::status(200)
        }
    }

    /// # Panics
    /// If the name is not a header's.
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        let name = name.to_ascii_lowercase();
        let name = HeaderName::try_from(name).expect("a header's name");
        self.headers.push((name, value.into()));
        self
    }

    pub fn is_status(&self, status: u16) -> bool {
        self.status == status
    }

    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// The connection is cut after half of the body.
    pub fn cut(mut self) -> Self {
        self.fault = Some(Fault::CutBody);
        self
    }
}

type Requests = Arc<Mutex<Vec<String>>>;

/// The API, until it is dropped.
pub struct Scripted {
    requests: Requests,
    address: String,
    /// One of the two keeps it serving.
    _serving: Serving,
}

enum Serving {
    OnThisRuntime {
        _listening: Listening,
    },
    OnItsOwn {
        _runtime: tokio::runtime::Runtime,
        _listening: Listening,
    },
}

impl Scripted {
    /// Gives the replies in turn, the last one again and again. Serves on the current tokio runtime.
    ///
    /// # Panics
    /// If there is no reply or no free port.
    pub async fn start(replies: Vec<Reply>) -> Self {
        let mut next = 0;
        let script = move |_: &str| {
            let reply = replies[next.min(replies.len() - 1)].clone();
            next += 1;
            reply
        };
        let (requests, listening) = listen(script).await;
        Self {
            requests,
            address: listening.address().to_owned(),
            _serving: Serving::OnThisRuntime {
                _listening: listening,
            },
        }
    }

    /// Answers by what `script` returns for a request's head. Serves on a runtime of its own, for tests
    /// that have none.
    ///
    /// # Panics
    /// If no runtime can be started or there is no free port.
    pub fn in_background(script: impl FnMut(&str) -> Reply + Send + 'static) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let (requests, listening) = runtime.block_on(listen(script));
        Self {
            requests,
            address: listening.address().to_owned(),
            _serving: Serving::OnItsOwn {
                _listening: listening,
                _runtime: runtime,
            },
        }
    }

    /// `http://127.0.0.1:PORT`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The heads of the requests so far, with header names in lower case.
    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().clone()
    }
}

async fn listen(script: impl FnMut(&str) -> Reply + Send + 'static) -> (Requests, Listening) {
    let requests = Requests::default();
    let seen = Arc::clone(&requests);
    let script = Arc::new(Mutex::new(script));
    let handler = move |request: Request<Incoming>| {
        let head = head(&request);
        let reply = {
            let mut script = script.lock();
            seen.lock().push(head.clone());
            script(&head)
        };
        answer(reply)
    };
    let listening = Listening::start(0, handler, || {})
        .await
        .expect("a free port of 127.0.0.1");
    (requests, listening)
}

async fn answer(reply: Reply) -> Result<Answer, Cut> {
    let mut headers = reply.headers;
    // Each request comes on a connection of its own, as a test expects that counts them.
    headers.push((CONNECTION, "close".to_owned()));
    let whole = respond(reply.status, &headers, reply.body);
    match reply.fault {
        None => Ok(whole),
        Some(Fault::Cut) => Err(Cut),
        Some(Fault::CutBody) => half(whole, true).await,
        Some(Fault::Hang) => std::future::pending().await,
    }
}

fn head(request: &Request<Incoming>) -> String {
    let version = if request.version() == Version::HTTP_10 {
        "HTTP/1.0"
    } else {
        "HTTP/1.1"
    };
    let mut head = format!("{} {} {version}\r\n", request.method(), request.uri());
    for (name, value) in request.headers() {
        head.push_str(&format!(
            "{name}: {}\r\n",
            String::from_utf8_lossy(value.as_bytes())
        ));
    }
    head.push_str("\r\n");
    head
}
