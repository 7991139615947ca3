//! The server: listens, keeps its connections, ends them all when dropped.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

use crate::answer;
use crate::counts::{Asked, Book, Counts};
use crate::objects::Objects;
use crate::rule::{Rule, Rules};

/// Longest time for a request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Larger heads are refused.
const HEAD_BYTES: usize = 64 << 10;

/// What the server is.
#[derive(Clone, Debug)]
pub struct Options {
    /// Its one bucket; others are answered with 404.
    pub bucket: String,
    /// The objects as files by key under this folder, put atomically; those that are there
    /// already are objects, too. `None` keeps them in memory.
    pub data_dir: Option<PathBuf>,
    /// Port on 127.0.0.1; 0 takes a free one.
    pub port: u16,
    /// Most items on a page of a listing.
    pub page_items: usize,
    /// A larger object is refused.
    pub max_object_bytes: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            bucket: "lake".to_owned(),
            data_dir: None,
            port: 0,
            page_items: 1000,
            max_object_bytes: 512 << 20,
        }
    }
}

/// What the connections share.
pub(crate) struct Shared {
    pub options: Options,
    pub objects: Objects,
    rules: Mutex<Rules>,
    book: Mutex<Book>,
}

impl Shared {
    pub(crate) fn rules(&self) -> MutexGuard<'_, Rules> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A server that listens; dropped, it closes its port and cuts its connections.
pub struct Server {
    endpoint: String,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Server {
    /// Listens, and serves on the current tokio runtime.
    pub async fn start(options: Options) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", options.port))
            .await
            .map_err(|error| {
                let port = options.port;
                io::Error::new(error.kind(), format!("port {port} of 127.0.0.1: {error}"))
            })?;
        let endpoint = format!("http://{}", listener.local_addr()?);
        let shared = Arc::new(Shared {
            objects: Objects::open(options.data_dir.clone())?,
            options,
            rules: Mutex::default(),
            book: Mutex::default(),
        });
        let task = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Ok(Self {
            endpoint,
            shared,
            task,
        })
    }

    /// `http://127.0.0.1:PORT`, for GCS_ENDPOINT.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The name of its bucket.
    pub fn bucket(&self) -> &str {
        &self.shared.options.bucket
    }

    /// Replaces all rules; what a request already met stays.
    pub fn set_rules(&self, rules: Vec<Rule>) {
        *self.shared.rules() = Rules::new(rules);
    }

    /// No more faults.
    pub fn clear_rules(&self) {
        self.set_rules(Vec::new());
    }

    /// What it was asked and what it did.
    pub fn counts(&self) -> Counts {
        self.shared.book().counts.clone()
    }

    /// The newest requests, oldest first; thousands of them.
    pub fn asked(&self) -> Vec<Asked> {
        self.shared.book().asked.iter().cloned().collect()
    }

    /// The keys of all objects, in order.
    pub fn keys(&self) -> Vec<String> {
        self.shared.objects.keys()
    }

    /// An object's bytes; `None` if there is none.
    pub fn object(&self, key: &str) -> Option<Vec<u8>> {
        let bytes = self.shared.objects.read(key, 0..u64::MAX).ok()?;
        Some(bytes.to_vec())
    }

    /// Takes an object away, as an operator might; whether there was one.
    pub fn remove(&self, key: &str) -> io::Result<bool> {
        self.shared.objects.remove(key)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    // Dropped with this task, and the connections with it.
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of file descriptors, say: other connections may end.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        // Answers are small and waited for.
        let _ = stream.set_nodelay(true);
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            let book = Arc::clone(&shared);
            let service = service_fn(move |request| answer::answer(Arc::clone(&shared), request));
            let served = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIMEOUT)
                .max_buf_size(HEAD_BYTES)
                .serve_connection(TokioIo::new(stream), service)
                .await;
            if served.is_err_and(|error| error.is_parse()) {
                // It has been answered with 400, 414 or 431.
                book.book().counts.malformed += 1;
            }
        });
        while connections.try_join_next().is_some() {}
    }
}
