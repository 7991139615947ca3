//! The lake's store: a folder of this machine or a bucket of Google Cloud Storage.
//!
//! Promises: [`LakeStore::put_create`] never overwrites, and what it reports as created
//! survives a crash of the machine. Relies on the store for atomic create-only puts.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use object_store::ObjectStore;

use super::error::LakeError;
use super::footer::Footer;
use super::naming::ObjectName;
use crate::settings::LakeLocation;

/// What a create-only put did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutOutcome {
    /// The object is there, durably, and it is ours.
    Created,
    /// Somebody's object was there; it is untouched.
    AlreadyExists,
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
    store: Arc<dyn ObjectStore>,
    description: Arc<str>,
    local_root: Option<Arc<PathBuf>>,
}

#[allow(unused_variables, clippy::unused_async)]
impl LakeStore {
    /// Opens the lake; a local one's folder is created.
    pub fn open(location: &LakeLocation) -> Result<Self, LakeError> {
        unimplemented!()
    }

    /// Writes a new object in one create-only put.
    pub async fn put_create(&self, key: &str, bytes: Bytes) -> Result<PutOutcome, LakeError> {
        unimplemented!()
    }

    /// Reads an object's footer, not its rows.
    pub async fn read_footer(&self, key: &str) -> Result<Footer, LakeError> {
        unimplemented!()
    }

    /// The newest object of each of the partitions that has one.
    pub async fn chain_ends(
        &self,
        topic: &str,
        partitions: &[i32],
    ) -> Result<BTreeMap<i32, ChainEnd>, LakeError> {
        unimplemented!()
    }

    /// All objects of a topic with their sizes in bytes, by partition and offset.
    pub async fn list(&self, topic: &str) -> Result<Vec<(ObjectName, u64)>, LakeError> {
        unimplemented!()
    }

    /// A whole object.
    pub async fn get(&self, key: &str) -> Result<Bytes, LakeError> {
        unimplemented!()
    }

    /// The lake's place, for logs; no secrets.
    pub fn describe(&self) -> String {
        self.description.to_string()
    }
}
