//! What the lake holds: the objects of each data set, and the chains of the topics' partitions.
//!
//! Promises that objects come from the lake's checked listing and neighbours are compared by the chain's own
//! rule; that a bounded number of objects is listed and read, and how many of how many is said. Relies on
//! objects never changing: a footer is read once.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use ftap_lake::{
    DATA_SETS, DataSet, Joint, LakeError, LakeStore, ListedObject, ObjectName, TransactionFooter,
    joint, read_footer,
};
use ftap_telemetry::chain;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use parking_lot::Mutex;

/// Objects of a data set that are listed.
const LISTED: usize = 100_000;
/// Of these, the newest that a page names.
const NAMED: usize = 50;
/// Chains that are drawn, and objects at the end of each.
const CHAINS: usize = 32;
const CHAIN_OBJECTS: usize = 100;
/// Footers read side by side, and kept.
const FOOTER_READS: usize = 8;
const FOOTERS: usize = 20_000;

/// Remembers what was read.
#[derive(Default)]
pub(crate) struct Holdings {
    /// With the number of the moment that it is of.
    newest: tokio::sync::Mutex<Option<(u64, Arc<Held>)>>,
    footers: Mutex<HashMap<ObjectName, Arc<TransactionFooter>>>,
}

/// What the lake held at one moment.
pub(crate) struct Held {
    pub place: String,
    pub sets: Vec<HeldSet>,
    /// By topic and partition, at most [`CHAINS`].
    pub chains: Vec<Chain>,
    pub all_chains: usize,
}

pub(crate) struct HeldSet {
    pub set: &'static DataSet,
    pub objects: usize,
    pub bytes: u64,
    /// Whether all were listed.
    pub is_complete: bool,
    /// The newest objects, the newest first.
    pub newest: Vec<ListedObject>,
}

/// The end of a partition's chain.
pub(crate) struct Chain {
    pub topic: String,
    pub partition: i32,
    /// Of the whole chain.
    pub objects: usize,
    /// The newest [`CHAIN_OBJECTS`], in order.
    pub links: Vec<Link>,
}

/// An object of a chain.
pub(crate) struct Link {
    pub key: String,
    /// Its footer, or why it can't be read.
    pub footer: Result<Arc<TransactionFooter>, String>,
    /// How it follows the one before it, if both can be read.
    pub joint: Option<Joint>,
}

impl Holdings {
    /// What the lake held at the moment of that number.
    pub(crate) async fn held(&self, moment: u64, lake: &LakeStore) -> Result<Arc<Held>, LakeError> {
        let mut newest = self.newest.lock().await;
        if let Some((number, held)) = newest.as_ref()
            && *number == moment
        {
            return Ok(held.clone());
        }
        let held = Arc::new(self.look(lake).await?);
        *newest = Some((moment, held.clone()));
        Ok(held)
    }

    async fn look(&self, lake: &LakeStore) -> Result<Held, LakeError> {
        let mut sets = Vec::new();
        let mut names: BTreeMap<(String, i32), Vec<ObjectName>> = BTreeMap::new();
        for set in DATA_SETS {
            let owned = lake.list(set.name);
            let owned = owned.try_filter(|object| std::future::ready(set.owns(&object.key)));
            let mut objects: Vec<_> = owned.take(LISTED + 1).try_collect().await?;
            let is_complete = objects.len() <= LISTED;
            objects.truncate(LISTED);
            for name in objects
                .iter()
                .filter_map(|object| ObjectName::parse(&object.key).ok())
            {
                let chain = (name.topic().to_owned(), name.partition());
                names.entry(chain).or_default().push(name);
            }
            let bytes = objects.iter().map(|object| object.bytes).sum();
            let count = objects.len();
            objects.sort_by(|one, two| (two.written, &two.key).cmp(&(one.written, &one.key)));
            objects.truncate(NAMED);
            sets.push(HeldSet {
                set,
                objects: count,
                bytes,
                is_complete,
                newest: objects,
            });
        }
        let all_chains = names.len();
        let mut chains = Vec::new();
        for ((topic, partition), mut objects) in names.into_iter().take(CHAINS) {
            objects.sort_by_key(|name| (name.first_offset(), name.date()));
            let count = objects.len();
            let newest = objects.split_off(count.saturating_sub(CHAIN_OBJECTS));
            chains.push(Chain {
                topic,
                partition,
                objects: count,
                links: self.links(lake, newest).await,
            });
        }
        Ok(Held {
            place: lake.describe(),
            sets,
            chains,
            all_chains,
        })
    }

    async fn links(&self, lake: &LakeStore, names: Vec<ObjectName>) -> Vec<Link> {
        let reads = names.into_iter().map(|name| async move {
            let footer = self.footer(lake, &name).await;
            Link {
                key: name.key(),
                footer: footer.map_err(|error| chain(&error)),
                joint: None,
            }
        });
        let links: Vec<Link> = stream::iter(reads).buffered(FOOTER_READS).collect().await;
        let mut before: Option<Arc<TransactionFooter>> = None;
        let joined = links.into_iter().map(|link| {
            let footer = link.footer.as_ref().ok().cloned();
            let both = before.take().zip(footer.clone());
            before = footer;
            Link {
                joint: both.map(|(before, after)| joint(&before, &after)),
                ..link
            }
        });
        joined.collect()
    }

    async fn footer(
        &self,
        lake: &LakeStore,
        name: &ObjectName,
    ) -> Result<Arc<TransactionFooter>, LakeError> {
        let known = self.footers.lock().get(name).cloned();
        if let Some(known) = known {
            return Ok(known);
        }
        let footer = Arc::new(read_footer::<TransactionFooter>(lake, name).await?);
        let mut footers = self.footers.lock();
        if footers.len() >= FOOTERS {
            footers.clear();
        }
        footers.insert(name.clone(), footer.clone());
        Ok(footer)
    }
}

/// The object of that key, if a listing of its folder has it; whatever else a key may say is not looked at.
pub(crate) async fn listed(lake: &LakeStore, key: &str) -> Result<Option<ListedObject>, LakeError> {
    let is_ours = DATA_SETS.iter().any(|set| set.owns(key));
    let Some((folder, _)) = key.rsplit_once('/').filter(|_| is_ours) else {
        return Ok(None);
    };
    let mut objects = lake.list(folder);
    while let Some(object) = objects.try_next().await? {
        if object.key == key {
            return Ok(Some(object));
        }
    }
    Ok(None)
}
