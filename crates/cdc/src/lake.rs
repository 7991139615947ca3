//! What the lake has of the changes.
//!
//! Promises: the newest epoch is found whatever the dates of its objects are: all names of
//! the tables' folders are listed, which happens at a start only.

use ftap_lake::{ChangeObjectName, ChangePart, DATA_SETS, LakeError, LakeStore, read_footer};
use futures::TryStreamExt as _;

use crate::TABLES;
use crate::chain::{self, LakeEpoch};
use crate::footer::{ChangeFooter, Content};

/// The newest epoch, `None` if the lake has no changes.
pub(crate) async fn newest_epoch(lake: &LakeStore) -> Result<Option<LakeEpoch>, LakeError> {
    let mut names = Vec::new();
    for set in DATA_SETS.iter().filter(|set| set.source_table.is_some()) {
        let mut objects = lake.list(set.name);
        while let Some(object) = objects.try_next().await? {
            if set.owns(&object.key) {
                names.extend(ChangeObjectName::parse(&object.key));
            }
        }
    }
    let Some(number) = names.iter().map(|name| name.epoch).max() else {
        return Ok(None);
    };
    let mut newest = Vec::new();
    for table in TABLES {
        let of_table = names
            .iter()
            .filter(|name| name.epoch == number && name.table == table);
        // By part, so that two dates of one position count as one place in the chain.
        let last = |is_wanted: fn(&ChangePart) -> bool| {
            let wanted = of_table.clone().filter(|name| is_wanted(&name.part));
            wanted.max_by_key(|name| name.part)
        };
        let mut end: Option<ChangeFooter> = None;
        let mut is_whole = false;
        if let Some(part) = last(|part| matches!(part, ChangePart::Snapshot(_))) {
            let footer: ChangeFooter = read_footer(lake, part).await?;
            is_whole = footer.content == Content::SnapshotEnd;
            end = Some(footer);
        }
        if let Some(changes) = last(|part| matches!(part, ChangePart::Changes(_))) {
            end = Some(read_footer(lake, changes).await?);
        }
        newest.extend(end.map(|footer| (footer, is_whole)));
    }
    Ok(chain::newest_epoch(number, &newest))
}
