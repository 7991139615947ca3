//! What the lake holds: the objects of each data set, and the chains of the topics' partitions.
//!
//! Promises that objects are those of the moment that queries see, and neighbours are compared by the chain's
//! own rule; that a bounded number of footers is read, and how many of how many is said. Relies on objects never
//! changing: a footer is read once.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use ftap_lake::{
    DATA_SETS, DataSet, Joint, LakeError, LakeStore, ListedObject, ObjectName, TransactionFooter,
    joint, read_footer,
};
use ftap_query::Engine;
use ftap_telemetry::chain;
use futures::{StreamExt as _, stream};
use parking_lot::Mutex;

use crate::answers::Moment;

/// The newest objects of a data set, which a page names.
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
    /// What the lake held at a moment.
    pub(crate) async fn held(&self, moment: &Moment, lake: &LakeStore) -> Arc<Held> {
        let mut newest = self.newest.lock().await;
        if let Some((number, held)) = newest.as_ref()
            && *number == moment.number
        {
            return held.clone();
        }
        let held = Arc::new(self.look(&moment.engine, lake).await);
        *newest = Some((moment.number, held.clone()));
        held
    }

    async fn look(&self, engine: &Engine, lake: &LakeStore) -> Held {
        let mut sets = Vec::new();
        let mut names: BTreeMap<(String, i32), Vec<ObjectName>> = BTreeMap::new();
        for set in DATA_SETS {
            let objects = engine.objects(set);
            let parsed = objects
                .iter()
                .filter_map(|object| ObjectName::parse(&object.key).ok());
            for name in parsed {
                let chain = (name.topic().to_owned(), name.partition());
                names.entry(chain).or_default().push(name);
            }
            let mut newest: Vec<_> = objects.iter().collect();
            newest.sort_by(|one, two| (two.written, &two.key).cmp(&(one.written, &one.key)));
            sets.push(HeldSet {
                set,
                objects: objects.len(),
                bytes: objects.iter().map(|object| object.bytes).sum(),
                newest: newest.into_iter().take(NAMED).cloned().collect(),
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
        Held {
            place: lake.describe(),
            sets,
            chains,
            all_chains,
        }
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
