//! What is in the lake: the objects of a topic, the ends of its chains, their footers.
//!
//! Promises: a footer is believed only if it is that of its object's name.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use futures::{Stream, StreamExt as _, TryStreamExt as _, stream};

use crate::datasets::TRANSACTIONS;
use crate::error::LakeError;
use crate::footer::{Footer, TransactionFooter};
use crate::naming::{ObjectName, parse_date, unfit_topic};
use crate::store::LakeStore;

/// Footers read side by side: a bucket takes tens of milliseconds for each.
const FOOTER_READS: usize = 32;

/// The footer of an object; its rows are not read.
pub async fn read_footer<F: Footer>(lake: &LakeStore, name: &F::Name) -> Result<F, LakeError> {
    let key = name.to_string();
    let metadata = lake.parquet_metadata(&key).await?;
    let pairs = metadata.file_metadata().key_value_metadata();
    let pairs = pairs.into_iter().flatten();
    let footer = F::from_pairs(pairs.map(|pair| (pair.key.as_str(), pair.value.as_deref())));
    let checked = footer.and_then(|footer| footer.check_name(name).map(|()| footer));
    checked.map_err(|error| LakeError::object(&key, error))
}

/// The footers of objects, in the order of `names`; some are read ahead.
pub fn read_footers<F: Footer>(
    lake: &LakeStore,
    names: impl IntoIterator<Item = F::Name>,
) -> impl Stream<Item = Result<(F::Name, F), LakeError>> {
    stream::iter(names)
        .map(async |name| {
            let footer = read_footer(lake, &name).await?;
            Ok((name, footer))
        })
        .buffered(FOOTER_READS)
}

/// A partition's newest object.
#[derive(Clone, Debug)]
pub struct ChainEnd {
    pub name: ObjectName,
    pub footer: TransactionFooter,
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
    lake: &LakeStore,
    topic: &str,
    partitions: &[i32],
) -> Result<BTreeMap<i32, ChainEnd>, LakeError> {
    let mut newest: BTreeMap<i32, ObjectName> = BTreeMap::new();
    let wanted: BTreeSet<i32> = partitions.iter().copied().collect();
    let mut complete = wanted.is_empty();
    for folder in date_folders(lake).await? {
        let looked_back = complete;
        if wanted.is_empty() {
            break;
        }
        let mut objects = lake.list(&folder);
        while let Some(object) = objects.try_next().await? {
            let Ok(name) = ObjectName::parse(&object.key) else {
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
    read_footers(lake, newest.into_values())
        .map_ok(|(name, footer): (ObjectName, _)| (name.partition(), ChainEnd { name, footer }))
        .try_collect()
        .await
}

/// The date folders, newest first.
async fn date_folders(lake: &LakeStore) -> Result<Vec<String>, LakeError> {
    let folders = lake.folders(TRANSACTIONS.name).await?;
    let mut folders: Vec<_> = folders
        .into_iter()
        .filter_map(|folder| {
            let (_, name) = folder.rsplit_once('/')?;
            Some((parse_date(name)?, folder))
        })
        .collect();
    folders.sort_by_key(|(date, _)| std::cmp::Reverse(*date));
    Ok(folders.into_iter().map(|(_, folder)| folder).collect())
}

/// The names of all objects of a topic, by partition and first offset.
pub async fn objects_of(lake: &LakeStore, topic: &str) -> Result<Vec<ObjectName>, LakeError> {
    let mut names = Vec::new();
    let mut objects = lake.list(TRANSACTIONS.name);
    while let Some(object) = objects.try_next().await? {
        names.extend(ObjectName::parse(&object.key).ok());
    }
    names.retain(|name| name.topic() == topic);
    names.sort_by_key(|name| (name.partition(), name.first_offset(), name.date()));
    Ok(names)
}

/// Fails if the lake has objects of other topics and none of `topic`, or none at all and can't have
/// any. A lake that holds several topics already, or one whose objects some readers skip, as older
/// versions allowed, passes for each of them.
pub async fn check_topic(lake: &LakeStore, topic: &str) -> Result<(), LakeError> {
    let mut objects = lake.list(TRANSACTIONS.name);
    let mut other = None;
    while let Some(object) = objects.try_next().await? {
        match ObjectName::parse(&object.key) {
            Ok(name) if name.topic() == topic => return Ok(()),
            Ok(name) => other = Some(name),
            Err(_) => {}
        }
    }
    match other {
        Some(name) => Err(LakeError::OtherTopic {
            store: lake.describe(),
            found: name.topic().to_owned(),
            topic: topic.to_owned(),
        }),
        None => unfit_topic(topic).map_or(Ok(()), |problem| {
            Err(LakeError::TopicName {
                topic: topic.to_owned(),
                problem,
            })
        }),
    }
}
