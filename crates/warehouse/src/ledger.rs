//! What the lake says about a table's loads: the chain of its manifests.
//!
//! Promises: an object counts as named only if a manifest of the chain names it, and the chain is
//! read whole, without holes; so a new manifest, which is put create-only behind the last one,
//! never names an object that another has. 16 bytes a named object are kept. A summary of the
//! chain so far, put now and then, is read in place of its manifests; one that can't be used is
//! left, and they are read.

use std::collections::{BTreeMap, HashSet};

use bytes::Bytes;
use ftap_lake::LakeStore;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_128;

use super::batch::{
    ChainObject, Done, Manifest, ManifestError, VERSION, done_key, fingerprint, manifest_key,
    names_key, parse_key,
};
use super::error::BigQueryError;

/// Manifests read side by side.
const READS: usize = 16;

/// A table's chain, as far as it has been read.
#[derive(Debug)]
pub struct Ledger {
    folder: String,
    named: HashSet<u128>,
    loaded_objects: u64,
    /// The last manifest, its fingerprint, and whether its job is done.
    last: Option<Last>,
    is_read: bool,
    uses_summaries: bool,
}

/// The first line of a summary; the names' hashes follow, 16 bytes each, in their order.
#[derive(Serialize, Deserialize)]
struct SummaryHead {
    version: u32,
    /// Of the last manifest.
    fingerprint: String,
    objects: u64,
}

/// The end of a chain.
#[derive(Clone, Debug)]
pub struct Last {
    pub manifest: Manifest,
    pub fingerprint: String,
    /// Whether its job is done.
    pub is_done: bool,
}

impl Ledger {
    /// Of the chain in `folder`; nothing is read yet.
    pub fn new(folder: String) -> Self {
        Self {
            folder,
            named: HashSet::new(),
            loaded_objects: 0,
            last: None,
            is_read: false,
            uses_summaries: true,
        }
    }

    /// Of the same chain, but every manifest of it is read and seen.
    pub(crate) fn of_all_manifests(folder: String) -> Self {
        Self {
            uses_summaries: false,
            ..Self::new(folder)
        }
    }

    /// The folder of the chain.
    pub fn folder(&self) -> &str {
        &self.folder
    }

    /// The end of the chain.
    pub fn last(&self) -> Option<&Last> {
        self.last.as_ref()
    }

    /// Whether a manifest names the object.
    pub fn has(&self, key: &str) -> bool {
        self.named.contains(&xxh3_128(key.as_bytes()))
    }

    /// Objects of manifests that are done.
    pub(crate) fn loaded_objects(&self) -> u64 {
        self.loaded_objects
    }

    /// The place of the next manifest.
    pub(crate) fn next_sequence(&self) -> u64 {
        self.last
            .as_ref()
            .map_or(1, |last| last.manifest.sequence + 1)
    }

    /// The fingerprint that the next manifest follows.
    pub fn end(&self) -> String {
        let last = self.last.as_ref();
        last.map(|last| last.fingerprint.clone())
            .unwrap_or_default()
    }

    /// Reads what was added: by a listing at first, then by asking for the next manifest.
    pub async fn refresh(
        &mut self,
        lake: &LakeStore,
        mut seen: impl FnMut(&Manifest),
    ) -> Result<(), BigQueryError> {
        if !self.is_read {
            self.read_all(lake, &mut seen).await?;
            self.is_read = true;
        }
        self.look_for_mark(lake).await?;
        loop {
            let key = manifest_key(&self.folder, self.next_sequence());
            let Some(bytes) = lake.get_if_there(&key).await? else {
                return Ok(());
            };
            self.append(&key, &bytes, false)?;
            self.look_for_mark(lake).await?;
            seen(&self.last.as_ref().expect("it was appended").manifest);
        }
    }

    async fn read_all(
        &mut self,
        lake: &LakeStore,
        seen: &mut impl FnMut(&Manifest),
    ) -> Result<(), BigQueryError> {
        let mut marks: BTreeMap<u64, bool> = BTreeMap::new();
        let mut summary = None;
        let folder = self.folder.clone();
        let mut objects = lake.list(&folder);
        while let Some(object) = objects.try_next().await? {
            match parse_key(&folder, &object.key) {
                Some(ChainObject::Manifest(sequence)) => {
                    marks.entry(sequence).or_default();
                }
                Some(ChainObject::Done(sequence)) => {
                    marks.insert(sequence, true);
                }
                Some(ChainObject::Names(sequence)) => {
                    summary = summary.max(Some(sequence));
                }
                None => {}
            }
        }
        let Some(newest) = marks.keys().next_back().copied() else {
            return Ok(());
        };
        if let Some(sequence) = summary.filter(|_| self.uses_summaries) {
            self.read_summary(lake, sequence).await?;
        }
        let mut manifests = stream::iter(self.next_sequence()..=newest)
            .map(|sequence| {
                let key = manifest_key(&folder, sequence);
                async move {
                    let bytes = lake.get_if_there(&key).await?;
                    Ok::<_, BigQueryError>((sequence, key, bytes))
                }
            })
            .buffered(READS);
        while let Some((sequence, key, bytes)) = manifests.try_next().await? {
            let Some(bytes) = bytes else {
                return Err(self.hole(&key).into());
            };
            let is_marked = marks.get(&sequence).copied().unwrap_or_default();
            self.append(&key, &bytes, is_marked)?;
            seen(&self.last.as_ref().expect("it was appended").manifest);
        }
        Ok(())
    }

    /// Everything up to the manifest, if its summary is there and whole.
    async fn read_summary(&mut self, lake: &LakeStore, sequence: u64) -> Result<(), BigQueryError> {
        let manifest_key = manifest_key(&self.folder, sequence);
        let summary = lake
            .get_if_there(&names_key(&self.folder, sequence))
            .await?;
        let (Some(summary), Some(bytes)) = (summary, lake.get_if_there(&manifest_key).await?)
        else {
            return Ok(());
        };
        let Some((head, names)) = parse_summary(&summary) else {
            return Ok(());
        };
        let manifest = Manifest::decode(&manifest_key, &bytes)?;
        let fingerprint = fingerprint(&bytes);
        if head.fingerprint != fingerprint || manifest.sequence != sequence {
            return Ok(());
        }
        self.named = names;
        // It was put when the manifest's job was done.
        self.loaded_objects = head.objects;
        self.last = Some(Last {
            manifest,
            fingerprint,
            is_done: true,
        });
        Ok(())
    }

    /// The summary of the chain up to `last`, its end: every loader makes the same bytes.
    pub fn summary(&self, last: &Last) -> Bytes {
        let mut names: Vec<u128> = self.named.iter().copied().collect();
        names.sort_unstable();
        let head = SummaryHead {
            version: VERSION,
            fingerprint: last.fingerprint.clone(),
            objects: names.len() as u64,
        };
        let mut bytes = serde_json::to_vec(&head).expect("strings and numbers become JSON");
        bytes.push(b'\n');
        bytes.reserve(names.len() * size_of::<u128>());
        bytes.extend(names.into_iter().flat_map(u128::to_le_bytes));
        bytes.into()
    }

    async fn look_for_mark(&mut self, lake: &LakeStore) -> Result<(), BigQueryError> {
        if let Some(last) = self.last.as_ref().filter(|last| !last.is_done) {
            let key = done_key(&self.folder, last.manifest.sequence);
            if lake.get_if_there(&key).await?.is_some() {
                self.mark();
            }
        }
        Ok(())
    }

    /// The last manifest's job is done.
    pub fn mark(&mut self) {
        if let Some(last) = self.last.as_mut().filter(|last| !last.is_done) {
            last.is_done = true;
            self.loaded_objects += last.manifest.objects.len() as u64;
        }
    }

    fn append(&mut self, key: &str, bytes: &Bytes, is_done: bool) -> Result<(), ManifestError> {
        let manifest = Manifest::decode(key, bytes)?;
        if manifest.sequence != self.next_sequence() || manifest.follows != self.end() {
            return Err(self.hole(key));
        }
        // Written only when the one before was done.
        self.mark();
        let keys = manifest.objects.iter().map(|object| &object.key);
        self.named.extend(keys.map(|key| xxh3_128(key.as_bytes())));
        self.last = Some(Last {
            manifest,
            fingerprint: fingerprint(bytes),
            is_done: false,
        });
        if is_done {
            self.mark();
        }
        Ok(())
    }

    fn hole(&self, key: &str) -> ManifestError {
        let previous = match &self.last {
            Some(last) => manifest_key(&self.folder, last.manifest.sequence),
            None => "the start, before any manifest".to_owned(),
        };
        ManifestError::Chain {
            key: key.to_owned(),
            previous,
        }
    }
}

fn parse_summary(bytes: &[u8]) -> Option<(SummaryHead, HashSet<u128>)> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    let head: SummaryHead = serde_json::from_slice(&bytes[..end]).ok()?;
    let (names, rest) = bytes[end + 1..].as_chunks::<{ size_of::<u128>() }>();
    let is_whole = head.version == VERSION && rest.is_empty() && names.len() as u64 == head.objects;
    let names = names.iter().copied().map(u128::from_le_bytes);
    is_whole.then(|| (head, names.collect()))
}

/// The bytes of a mark.
pub(crate) fn encode_done(done: &Done) -> Bytes {
    let text = serde_json::to_vec(done).expect("strings and numbers become JSON");
    text.into()
}
