//! The server: its bucket, its rules and what it counts.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};

use super::answer;
use super::counts::{Asked, Book, Counts};
use super::objects::Objects;
use super::rule::{Rule, Rules};
use crate::http::Listening;

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
        self.rules.lock()
    }

    pub(crate) fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock()
    }
}

/// A server that listens; dropped, it closes its port and cuts its connections.
pub struct Server {
    shared: Arc<Shared>,
    listening: Listening,
}

impl Server {
    /// Listens, and serves on the current tokio runtime.
    pub async fn start(options: Options) -> io::Result<Self> {
        let port = options.port;
        let shared = Arc::new(Shared {
            objects: Objects::open(options.data_dir.clone())?,
            options,
            rules: Mutex::default(),
            book: Mutex::default(),
        });
        let (answering, counting) = (Arc::clone(&shared), Arc::clone(&shared));
        let listening = Listening::start(
            port,
            move |request| answer::answer(Arc::clone(&answering), request),
            move || counting.book().counts.malformed += 1,
        )
        .await?;
        Ok(Self { shared, listening })
    }

    /// `http://127.0.0.1:PORT`, for GCS_ENDPOINT.
    pub fn endpoint(&self) -> &str {
        self.listening.address()
    }

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
