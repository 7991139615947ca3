//! What the lake holds: the objects of each data set, the chains of the topics' partitions, and those of the
//! captured tables.
//!
//! Promises that objects are those of the moment that queries see, and neighbours are compared by the chains'
//! own rules; that a bounded number of footers is read, and how many of how many is said. Relies on objects never
//! changing: a footer is read once.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use ftap_cdc::ChangeFooter;
use ftap_cdc::audit::{ChainProblem, Walk};
use ftap_lake::{
    ChangeObjectName, DATA_SETS, DataSet, Footer, Joint, LakeError, LakeStore, ListedObject,
    ObjectName, TransactionFooter, joint, read_footer,
};
use ftap_query::Engine;
use ftap_telemetry::chain;
use futures::future::join_all;
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
    transactions: Footers<TransactionFooter>,
    changes: Footers<ChangeFooter>,
}

/// Footers that were read, by key.
struct Footers<F>(Mutex<HashMap<String, Arc<F>>>);

impl<F> Default for Footers<F> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<F: Footer> Footers<F> {
    /// The footers of these objects, in their order; or why one can't be read.
    async fn of(&self, lake: &LakeStore, names: &[F::Name]) -> Vec<Result<Arc<F>, String>> {
        let mut footers = Vec::new();
        for some in names.chunks(FOOTER_READS) {
            let reads = some.iter().map(|name| self.read(lake, name));
            let read = join_all(reads).await.into_iter();
            footers.extend(read.map(|read| read.map_err(|error| chain(&error))));
        }
        footers
    }

    async fn read(&self, lake: &LakeStore, name: &F::Name) -> Result<Arc<F>, LakeError> {
        let key = name.to_string();
        let known = self.0.lock().get(&key).cloned();
        if let Some(known) = known {
            return Ok(known);
        }
        let footer = Arc::new(read_footer::<F>(lake, name).await?);
        let mut footers = self.0.lock();
        if footers.len() >= FOOTERS {
            footers.clear();
        }
        footers.insert(key, footer.clone());
        Ok(footer)
    }
}

/// What the lake held at one moment.
pub(crate) struct Held {
    pub place: String,
    pub sets: Vec<HeldSet>,
    /// By topic and partition, at most [`CHAINS`].
    pub chains: Vec<Chain>,
    pub all_chains: usize,
    /// By table.
    pub tables: Vec<TableChain>,
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

/// The end of a captured table's chain.
pub(crate) struct TableChain {
    pub table: String,
    /// The newest one.
    pub epoch: u32,
    /// Of the whole epoch.
    pub objects: usize,
    /// Objects of the epochs before.
    pub earlier_objects: usize,
    /// The newest [`CHAIN_OBJECTS`], in order.
    pub links: Vec<TableLink>,
    /// What is missing of the epoch's snapshot, which may be under way.
    pub missing_snapshot: Option<ChainProblem>,
}

/// An object of such a chain.
pub(crate) struct TableLink {
    pub name: ChangeObjectName,
    /// Its footer, or why it can't be read.
    pub footer: Result<Arc<ChangeFooter>, String>,
    /// What is wrong between the ones before and this one, as far as they can be read; `None` if none was.
    pub problems: Option<Vec<ChainProblem>>,
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
        let mut changes: BTreeMap<String, Vec<ChangeObjectName>> = BTreeMap::new();
        for set in DATA_SETS {
            let objects = engine.objects(set);
            let of_tables = objects
                .iter()
                .filter_map(|object| ChangeObjectName::parse(&object.key));
            for name in of_tables {
                changes.entry(name.table.clone()).or_default().push(name);
            }
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
        let mut tables = Vec::new();
        for (table, objects) in changes {
            tables.push(self.table(lake, table, objects).await);
        }
        Held {
            tables,
            place: lake.describe(),
            sets,
            chains,
            all_chains,
        }
    }

    async fn links(&self, lake: &LakeStore, names: Vec<ObjectName>) -> Vec<Link> {
        let footers = self.transactions.of(lake, &names).await;
        let mut before: Option<Arc<TransactionFooter>> = None;
        let links = names.iter().zip(footers).map(|(name, footer)| {
            let both = before.take().zip(footer.as_ref().ok());
            let joint = both.map(|(before, after)| joint(&before, after));
            before = footer.as_ref().ok().cloned();
            Link {
                key: name.key(),
                footer,
                joint,
            }
        });
        links.collect()
    }

    async fn table(
        &self,
        lake: &LakeStore,
        table: String,
        mut objects: Vec<ChangeObjectName>,
    ) -> TableChain {
        let all = objects.len();
        let epoch = objects.iter().map(|name| name.epoch).max().unwrap_or(0);
        objects.retain(|name| name.epoch == epoch);
        objects.sort_by_key(|name| name.part);
        let count = objects.len();
        let newest = objects.split_off(count.saturating_sub(CHAIN_OBJECTS));
        let footers = self.changes.of(lake, &newest).await;
        let is_all = newest.len() == count;
        let mut walk = is_all.then(Walk::from_start);
        let mut links = Vec::new();
        for (name, footer) in newest.into_iter().zip(footers) {
            let problems = match (&footer, &mut walk) {
                (Ok(footer), Some(walk)) => Some(walk.step(&name, footer)),
                (Ok(footer), None) => {
                    walk = Some(Walk::after(&name, footer));
                    None
                }
                (Err(_), _) => {
                    walk = None;
                    None
                }
            };
            links.push(TableLink {
                name,
                footer,
                problems,
            });
        }
        TableChain {
            table,
            epoch,
            objects: count,
            earlier_objects: all - count,
            links,
            missing_snapshot: walk.and_then(|walk| walk.missing_snapshot()),
        }
    }
}
