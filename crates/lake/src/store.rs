//! The lake's store: a folder of this machine or a bucket of Google Cloud Storage.
//!
//! Promises: [`LakeStore::put_create`] never overwrites, and what it reports, created or
//! already there, survives a crash of the machine. Errors say whether waiting helps; the
//! client's own retries end after seconds, so that the caller sees a store that is down.
//! Relies on the store for atomic create-only puts (hard links, GCS preconditions). It knows
//! objects and bytes only, neither names nor footers.
//!
//! A listing gives every object that was there when it began and is there when it ends, each once
//! and in no order; what is written or removed meanwhile may be in it or not. It is whole or it is
//! an error: an answer that is not a whole listing is not believed (see `whole_listings`), and of a
//! local lake the folder must be the one that was opened, before and after. So a folder without
//! objects, or without existence, is an empty listing, and a lake that is away never is. After an
//! error nothing of the listing counts. Memory does not grow with the number of objects.

use std::future::ready;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use ftap_supervision::Retry;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectStore, ObjectStoreExt, PutMode, PutOptions};
use parking_lot::RwLock;
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};

use crate::error::LakeError;
use crate::refusal::{clean, error_text, judge_gcs, judge_local};
use crate::{LakeLocation, gcs, leftovers, local};

/// Read from an object's end at first; most footers fit.
const FOOTER_GUESS_BYTES: u64 = 64 << 10;
/// A footer beyond this is not ours.
const FOOTER_MAX_BYTES: u64 = 64 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutOutcome {
    /// The object is there, durably, and it is ours.
    Created,
    /// An object was there, perhaps our own whose reply was lost; it is untouched.
    AlreadyExists,
}

/// An object as a listing shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedObject {
    pub key: String,
    /// Its size.
    pub bytes: u64,
    pub written: DateTime<Utc>,
}

/// The lake's store; clones share it.
#[derive(Clone)]
pub struct LakeStore {
    store: Arc<RwLock<Arc<dyn ObjectStore>>>,
    location: Arc<LakeLocation>,
    description: Arc<str>,
    /// Of a local lake.
    root: Option<Arc<local::Root>>,
}

impl LakeStore {
    /// Opens the lake. A local one's folder is created; for a bucket the credentials file
    /// is checked, but nothing is sent yet.
    pub fn open(location: &LakeLocation) -> Result<Self, LakeError> {
        match location {
            LakeLocation::Local(path) => {
                let root = local::Root::open(path)?;
                let store = LocalFileSystem::new_with_prefix(root.path()).map_err(|error| {
                    local::path_error("open the lake's folder", path, io::Error::other(error))
                })?;
                Ok(Self {
                    store: Arc::new(RwLock::new(Arc::new(store))),
                    location: Arc::new(location.clone()),
                    description: format!("folder {}", root.path().display()).into(),
                    root: Some(Arc::new(root)),
                })
            }
            LakeLocation::Gcs {
                bucket,
                credentials_file,
                endpoint,
            } => {
                let store = gcs::open(bucket, credentials_file.as_deref(), endpoint.as_deref())?;
                let description = match endpoint {
                    Some(endpoint) => format!("gs://{bucket} at {}", clean(endpoint)),
                    None => format!("gs://{bucket}"),
                };
                Ok(Self {
                    store: Arc::new(RwLock::new(Arc::new(store))),
                    location: Arc::new(location.clone()),
                    description: description.into(),
                    root: None,
                })
            }
        }
    }

    /// The same to look at a lake that may be read-only; a local one's folder must exist.
    pub fn open_to_read(location: &LakeLocation) -> Result<Self, LakeError> {
        if let LakeLocation::Local(path) = location {
            local::check_exists(path)?;
        }
        Self::open(location)
    }

    /// The lake's place, for logs; no secrets.
    pub fn describe(&self) -> String {
        self.description.to_string()
    }

    /// The client itself, for libraries that read objects by their keys.
    pub fn object_store(&self) -> Arc<dyn ObjectStore> {
        let store = self.store.read();
        Arc::clone(&store)
    }

    /// Makes a new client, which asks for a new token: the old one keeps a token that was
    /// refused until its time is up.
    fn renew_client(&self) {
        if let LakeLocation::Gcs {
            bucket,
            credentials_file,
            endpoint,
        } = &*self.location
            && let Ok(client) = gcs::open(bucket, credentials_file.as_deref(), endpoint.as_deref())
        {
            let mut store = self.store.write();
            *store = Arc::new(client);
        }
    }

    /// Removes what killed writers left in a local lake; how many files there were.
    pub async fn clear_leftovers(&self) -> Result<u64, LakeError> {
        let Some(root) = self.root.clone() else {
            return Ok(0);
        };
        self.blocking(move || {
            let root = root.path();
            leftovers::clear(root).map_err(|source| local::path_error("clear up in", root, source))
        })
        .await
    }

    /// Tries whether a local lake's folder can be written in; of a bucket only a put tells.
    pub async fn check_writable(&self) -> Result<(), LakeError> {
        match &self.root {
            Some(root) => {
                let root = Arc::clone(root);
                self.blocking(move || local::check_writable(&root)).await
            }
            None => Ok(()),
        }
    }

    /// Writes a new object in one create-only put; never overwrites.
    pub async fn put_create(&self, key: &str, bytes: Bytes) -> Result<PutOutcome, LakeError> {
        let path = self.path(key)?;
        if let Some(root) = &self.root {
            let root = Arc::clone(root);
            return self
                .blocking(move || local::create(&root, path.as_ref(), &bytes))
                .await;
        }
        let options = PutOptions::from(PutMode::Create);
        match self
            .object_store()
            .put_opts(&path, bytes.into(), options)
            .await
        {
            Ok(_) => Ok(PutOutcome::Created),
            Err(
                object_store::Error::AlreadyExists { .. }
                | object_store::Error::Precondition { .. },
            ) => Ok(PutOutcome::AlreadyExists),
            Err(error) => Err(self.error("write", key, &error)),
        }
    }

    /// Makes an object that was found survive a crash of the machine, as those are that were put.
    pub async fn make_durable(&self, key: &str) -> Result<(), LakeError> {
        let path = self.path(key)?;
        match &self.root {
            Some(root) => {
                let root = Arc::clone(root);
                self.blocking(move || local::make_durable(&root, path.as_ref()))
                    .await
            }
            None => Ok(()),
        }
    }

    /// Fails while a local lake's folder is gone or another is in its place.
    async fn check_present(&self) -> Result<(), LakeError> {
        match &self.root {
            Some(root) => {
                let root = Arc::clone(root);
                self.blocking(move || root.check_present()).await
            }
            None => Ok(()),
        }
    }

    /// The objects below a folder, at whatever depth. See the module for what a listing promises.
    pub fn list<'a>(&'a self, folder: &'a str) -> BoxStream<'a, Result<ListedObject, LakeError>> {
        let presence = || {
            let checked = stream::once(self.check_present());
            checked.try_filter_map(|()| ready(Ok(None)))
        };
        let listed = self.object_store().list(Some(&Path::from(folder)));
        let listed = listed.map(move |object| match object {
            Ok(object) => Ok(ListedObject {
                key: object.location.to_string(),
                bytes: object.size,
                written: object.last_modified,
            }),
            Err(error) => Err(self.error("list", folder, &error)),
        });
        presence().chain(listed).chain(presence()).boxed()
    }

    /// The folders directly in a folder, as keys, by the same promises.
    pub async fn folders(&self, folder: &str) -> Result<Vec<String>, LakeError> {
        self.check_present().await?;
        let prefix = Path::from(folder);
        let listing = self.object_store().list_with_delimiter(Some(&prefix)).await;
        let listing = listing.map_err(|error| self.error("list", folder, &error))?;
        self.check_present().await?;
        let folders = listing.common_prefixes.into_iter();
        Ok(folders.map(String::from).collect())
    }

    /// Whether there is such an object.
    pub async fn exists(&self, key: &str) -> Result<bool, LakeError> {
        let path = self.path(key)?;
        self.check_present().await?;
        match self.object_store().head(&path).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(self.error("read", key, &error)),
        }
    }

    /// A whole object.
    pub async fn get(&self, key: &str) -> Result<Bytes, LakeError> {
        let path = self.path(key)?;
        let read = async { self.object_store().get(&path).await?.bytes().await };
        read.await.map_err(|error| self.error("read", key, &error))
    }

    /// A whole object, `None` if there is none.
    pub async fn get_if_there(&self, key: &str) -> Result<Option<Bytes>, LakeError> {
        let path = self.path(key)?;
        self.check_present().await?;
        let read = async { self.object_store().get(&path).await?.bytes().await };
        match read.await {
            Ok(bytes) => Ok(Some(bytes)),
            // A bucket that is not there is no answer about its objects.
            Err(error @ object_store::Error::NotFound { .. })
                if !error.to_string().contains("NoSuchBucket") =>
            {
                Ok(None)
            }
            Err(error) => Err(self.error("read", key, &error)),
        }
    }

    /// An object's footer as Parquet has it: schema, rows, key-value pairs. It takes one request for
    /// the object's end, two if the footer is a large one.
    pub async fn parquet_metadata(&self, key: &str) -> Result<ParquetMetaData, LakeError> {
        let damaged = |source: ParquetError| LakeError::object(key, source);
        let path = self.path(key)?;
        let mut wanted = FOOTER_GUESS_BYTES;
        loop {
            let options = GetOptions::new().with_range(Some(GetRange::Suffix(wanted)));
            let answer = self.object_store().get_opts(&path, options).await;
            let answer = answer.map_err(|error| self.error("read", key, &error))?;
            let size = answer.meta.size;
            let tail = answer.bytes().await;
            let tail = tail.map_err(|error| self.error("read", key, &error))?;
            let mut reader = ParquetMetaDataReader::new();
            match reader.try_parse_sized(&tail, size) {
                Ok(()) => {}
                Err(ParquetError::NeedMoreData(more))
                    if more as u64 > wanted && more as u64 <= FOOTER_MAX_BYTES =>
                {
                    wanted = more as u64;
                    continue;
                }
                Err(error) => return Err(damaged(error)),
            }
            return reader.finish().map_err(damaged);
        }
    }

    fn path(&self, key: &str) -> Result<Path, LakeError> {
        Path::parse(key).map_err(|error| LakeError::Setting {
            setting: "an object's key",
            value: key.to_owned(),
            problem: error.to_string(),
        })
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, LakeError> + Send + 'static,
    ) -> Result<T, LakeError> {
        tokio::task::spawn_blocking(work)
            .await
            .unwrap_or_else(|error| {
                Err(LakeError::Store {
                    store: self.describe(),
                    action: "finish work on",
                    key: "the local disk".to_owned(),
                    detail: error.to_string(),
                    remedy: "the program is stopping, or this is a bug",
                    retry: Retry::Transient,
                })
            })
    }

    fn error(&self, action: &'static str, key: &str, error: &object_store::Error) -> LakeError {
        let detail = error_text(error);
        let (remedy, retry) = match &self.root {
            Some(_) => judge_local(error),
            None => judge_gcs(action, error, &detail),
        };
        if retry == Retry::Briefly {
            self.renew_client();
        }
        LakeError::Store {
            store: self.describe(),
            action,
            key: key.to_owned(),
            detail,
            remedy,
            retry,
        }
    }
}
