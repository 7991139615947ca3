//! The lake's store: a folder of this machine or a bucket of Google Cloud Storage.
//!
//! Promises: [`LakeStore::put_create`] never overwrites, and what it reports, created or
//! already there, survives a crash of the machine. Errors say whether waiting helps; the
//! client's own retries end after seconds, so that the caller sees a store that is down.
//! Relies on the store for atomic create-only puts (hard links, GCS preconditions).

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use ftap_supervision::Retry;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions};
use parking_lot::RwLock;

use super::error::LakeError;
use super::footer::Footer;
use super::naming::{self, ObjectName};
use super::refusal::{clean, error_text, judge_gcs, judge_local};
use super::{gcs, leftovers, local};
use crate::LakeLocation;

/// Footers read side by side.
const FOOTER_READS: usize = 8;

/// What a create-only put did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutOutcome {
    /// The object is there, durably, and it is ours.
    Created,
    /// Somebody's object was there, perhaps our own whose reply was lost; it is untouched.
    AlreadyExists,
}

/// An object as a listing shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedObject {
    /// Its key.
    pub key: String,
    /// Its size.
    pub bytes: u64,
    /// When it was written.
    pub written: DateTime<Utc>,
}

/// A partition's newest object.
#[derive(Clone, Debug)]
pub struct ChainEnd {
    /// Its name.
    pub name: ObjectName,
    /// Its footer.
    pub footer: Footer,
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

    /// The same to look at a lake that may be read-only; a local one's folder has to be there.
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

    /// The store itself, for readers of whole tables.
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

    /// Reads an object's footer, not its rows: one request for the object's end, two if
    /// the footer is a large one.
    pub async fn read_footer(&self, key: &str) -> Result<Footer, LakeError> {
        let pairs = self.footer_pairs(key).await?;
        let pairs = pairs
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_deref()));
        Footer::from_pairs(pairs).map_err(|source| LakeError::Footer {
            key: key.to_owned(),
            source,
        })
    }

    /// The newest object of each of `partitions` that has one.
    ///
    /// Date folders are listed from the newest backwards until each partition has been
    /// found and one folder more has been read: timestamps may go backwards over a
    /// midnight, and then the chain's end is in the folder before. Should they go back
    /// further, the answer is an earlier object of the chain; the next put then meets
    /// the object that follows it and adopts it, so nothing is lost or doubled. With a
    /// partition that has no object all folders are read.
    pub async fn chain_ends(
        &self,
        topic: &str,
        partitions: &[i32],
    ) -> Result<BTreeMap<i32, ChainEnd>, LakeError> {
        // Of an absent folder an empty listing would say that there is no chain.
        self.check_present().await?;
        let mut newest: BTreeMap<i32, ObjectName> = BTreeMap::new();
        let wanted: std::collections::BTreeSet<i32> = partitions.iter().copied().collect();
        let mut complete = wanted.is_empty();
        for folder in self.date_folders().await? {
            let looked_back = complete;
            if wanted.is_empty() {
                break;
            }
            let store = self.object_store();
            let mut objects = store.list(Some(&folder));
            while let Some(object) = objects.next().await {
                let object = object.map_err(|error| self.error("list", folder.as_ref(), &error))?;
                let Ok(name) = ObjectName::parse(object.location.as_ref()) else {
                    continue;
                };
                if name.topic() != topic || !wanted.contains(&name.partition()) {
                    continue;
                }
                match newest.entry(name.partition()) {
                    Entry::Vacant(entry) => {
                        entry.insert(name);
                    }
                    Entry::Occupied(mut entry) => {
                        if entry.get().first_offset() < name.first_offset() {
                            entry.insert(name);
                        }
                    }
                }
            }
            if looked_back {
                break;
            }
            complete = newest.len() == wanted.len();
        }
        stream::iter(newest.into_values())
            .map(|name| async move {
                let key = name.key();
                let footer = self.read_footer(&key).await?;
                check_identity(&name, &footer)?;
                Ok((name.partition(), ChainEnd { name, footer }))
            })
            .buffer_unordered(FOOTER_READS)
            .try_collect()
            .await
    }

    /// Fails if the lake has objects of other topics and none of `topic`. A lake that holds several
    /// topics already, as older versions allowed, passes for each of them.
    pub async fn check_topic(&self, topic: &str) -> Result<(), LakeError> {
        let prefix = Path::from(naming::PREFIX);
        let store = self.object_store();
        let mut objects = store.list(Some(&prefix));
        let mut other = None;
        while let Some(object) = objects.next().await {
            let object = object.map_err(|error| self.error("list", naming::PREFIX, &error))?;
            match ObjectName::parse(object.location.as_ref()) {
                Ok(name) if name.topic() == topic => return Ok(()),
                Ok(name) => other = Some(name),
                Err(_) => {}
            }
        }
        match other {
            Some(name) => Err(LakeError::OtherTopic {
                store: self.describe(),
                found: name.topic().to_owned(),
                topic: topic.to_owned(),
            }),
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

    /// The date folders, newest first.
    async fn date_folders(&self) -> Result<Vec<Path>, LakeError> {
        let prefix = Path::from(naming::PREFIX);
        let listing = self.object_store().list_with_delimiter(Some(&prefix)).await;
        let listing = listing.map_err(|error| self.error("list", naming::PREFIX, &error))?;
        let mut folders: Vec<_> = listing
            .common_prefixes
            .into_iter()
            .filter_map(|path| Some((naming::parse_folder(path.filename()?)?, path)))
            .collect();
        folders.sort_by_key(|(date, _)| std::cmp::Reverse(*date));
        Ok(folders.into_iter().map(|(_, path)| path).collect())
    }

    /// All objects of a topic with their sizes in bytes, by partition and first offset.
    pub async fn list(&self, topic: &str) -> Result<Vec<(ObjectName, u64)>, LakeError> {
        let listed = self.list_all().await?.into_iter();
        let mut objects: Vec<_> = listed
            .filter_map(|(key, size)| Some((ObjectName::parse(&key).ok()?, size)))
            .filter(|(name, _)| name.topic() == topic)
            .collect();
        objects.sort_by_key(|(name, _)| (name.partition(), name.first_offset(), name.date()));
        Ok(objects)
    }

    /// Key and size in bytes of everything where transactions are kept, ours or not.
    pub async fn list_all(&self) -> Result<Vec<(String, u64)>, LakeError> {
        let prefix = Path::from(naming::PREFIX);
        let store = self.object_store();
        let listed = store
            .list(Some(&prefix))
            .map_ok(|object| (object.location.to_string(), object.size));
        let listed = listed.try_collect().await;
        listed.map_err(|error| self.error("list", naming::PREFIX, &error))
    }

    /// The folders in a folder, as keys; none if there is no such folder.
    pub async fn folders(&self, folder: &str) -> Result<Vec<String>, LakeError> {
        self.check_present().await?;
        let prefix = Path::from(folder);
        let listing = self.object_store().list_with_delimiter(Some(&prefix)).await;
        let listing = listing.map_err(|error| self.error("list", folder, &error))?;
        let folders = listing.common_prefixes.into_iter();
        Ok(folders.map(String::from).collect())
    }

    /// Objects under a folder, the first `limit` that the store names.
    pub async fn objects(
        &self,
        folder: &str,
        limit: usize,
    ) -> Result<Vec<ListedObject>, LakeError> {
        let prefix = Path::from(folder);
        let store = self.object_store();
        let listed = store
            .list(Some(&prefix))
            .take(limit)
            .map_ok(|object| ListedObject {
                key: object.location.to_string(),
                bytes: object.size,
                written: object.last_modified,
            });
        let listed = listed.try_collect().await;
        listed.map_err(|error| self.error("list", folder, &error))
    }

    /// All keys under a folder.
    pub async fn keys(&self, folder: &str) -> Result<Vec<String>, LakeError> {
        let prefix = Path::from(folder);
        let store = self.object_store();
        let listed = store
            .list(Some(&prefix))
            .map_ok(|object| object.location.to_string());
        let listed = listed.try_collect().await;
        listed.map_err(|error| self.error("list", folder, &error))
    }

    /// A whole object.
    pub async fn get(&self, key: &str) -> Result<Bytes, LakeError> {
        let path = self.path(key)?;
        let read = async { self.object_store().get(&path).await?.bytes().await };
        read.await.map_err(|error| self.error("read", key, &error))
    }

    pub(super) fn path(&self, key: &str) -> Result<Path, LakeError> {
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

    pub(super) fn error(
        &self,
        action: &'static str,
        key: &str,
        error: &object_store::Error,
    ) -> LakeError {
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

/// An object has to hold the run that its name says.
fn check_identity(name: &ObjectName, footer: &Footer) -> Result<(), LakeError> {
    let same = footer.topic == name.topic()
        && footer.partition == name.partition()
        && footer.first_offset == name.first_offset();
    if same {
        return Ok(());
    }
    let Footer {
        topic,
        partition,
        first_offset,
        ..
    } = footer;
    Err(LakeError::Object {
        key: name.key(),
        detail: format!("its footer is that of {topic}-{partition} from offset {first_offset}"),
    })
}
