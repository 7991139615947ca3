//! What the lake has of the changes.
//!
//! Promises: the newest epoch is found whatever the dates of its objects are: all names of
//! the tables' folders and all checkpoints are listed, which happens at a start only. A checkpoint
//! that is found has its objects listed, because the checkpoints are listed first.

use ftap_lake::{
    CHECKPOINTS_FOLDER, ChangeObjectName, DATA_SETS, LakeError, LakeStore, PutOutcome, read_footer,
};
use futures::TryStreamExt as _;

use crate::TABLES;
use crate::chain::{self, LakeEpoch, TableChain};
use crate::checkpoint::{Checkpoint, CheckpointName};
use crate::footer::{ChangeFooter, Content};

/// The newest epoch, `None` if the lake has no changes.
pub(crate) async fn newest_epoch(lake: &LakeStore) -> Result<Option<LakeEpoch>, LakeError> {
    let checkpoints = checkpoint_names(lake).await?;
    let names = object_names(lake).await?;
    let epochs = names.iter().map(|name| name.epoch);
    let epochs = epochs.chain(checkpoints.iter().map(|name| name.epoch));
    let Some(number) = epochs.max() else {
        return Ok(None);
    };
    let newest = checkpoints.into_iter().rfind(|name| name.epoch == number);
    let checkpoint = match newest {
        Some(name) => {
            // The slot is acknowledged by it.
            lake.make_durable(&name.to_string()).await?;
            Some(read_checkpoint(lake, name).await?)
        }
        None => None,
    };
    let mut chains = Vec::new();
    for table in TABLES {
        let recorded = checkpoint.as_ref().map(|c| c.ends.get(table).copied());
        let Some(objects) = chain::objects_to_read(&names, number, table, recorded) else {
            continue;
        };
        let snapshot: ChangeFooter = read_footer(lake, objects.snapshot).await?;
        let mut chain = TableChain {
            snapshot_is_whole: snapshot.content == Content::SnapshotEnd,
            newest: match objects.newest {
                Some(newest) => read_footer(lake, newest).await?,
                None => snapshot,
            },
            unrecorded: Vec::new(),
        };
        for name in objects.unrecorded {
            chain.unrecorded.push(read_footer(lake, name).await?);
        }
        chains.push(chain);
    }
    Ok(chain::newest_epoch(number, chains, checkpoint))
}

/// The names of all objects of the captured tables.
pub(crate) async fn object_names(lake: &LakeStore) -> Result<Vec<ChangeObjectName>, LakeError> {
    let mut names = Vec::new();
    for set in DATA_SETS.iter().filter(|set| set.source_table.is_some()) {
        let mut objects = lake.list(set.name);
        while let Some(object) = objects.try_next().await? {
            if set.owns(&object.key) {
                names.extend(ChangeObjectName::parse(&object.key));
            }
        }
    }
    Ok(names)
}

/// The names of all checkpoints, oldest first.
pub async fn checkpoint_names(lake: &LakeStore) -> Result<Vec<CheckpointName>, LakeError> {
    let mut names = Vec::new();
    let mut objects = lake.list(CHECKPOINTS_FOLDER);
    while let Some(object) = objects.try_next().await? {
        names.extend(CheckpointName::parse(&object.key));
    }
    names.sort();
    Ok(names)
}

/// A checkpoint that is in the lake.
pub async fn read_checkpoint(
    lake: &LakeStore,
    name: CheckpointName,
) -> Result<Checkpoint, LakeError> {
    let key = name.to_string();
    let json = lake.get(&key).await?;
    Checkpoint::read(name, &json).map_err(|error| LakeError::object(&key, error))
}

/// Writes a checkpoint; returns the one that was there first, if there was one.
pub(crate) async fn put_checkpoint(
    lake: &LakeStore,
    checkpoint: &Checkpoint,
) -> Result<Option<Checkpoint>, LakeError> {
    let name = checkpoint.name();
    let key = name.to_string();
    let json = checkpoint.to_json();
    let json = json.map_err(|error| LakeError::object(&key, error))?;
    match lake.put_create(&key, json.into()).await? {
        PutOutcome::Created => Ok(None),
        PutOutcome::AlreadyExists => read_checkpoint(lake, name).await.map(Some),
    }
}
