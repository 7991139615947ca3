//! What the lake has of the changes.
//!
//! Promises: the newest epoch is found whatever the dates of its objects are: all names of
//! the tables' folders are listed, which happens at a start only.

use ftap_lake::LakeError;
use ftap_lake::store::LakeStore;

use super::TABLES;
use super::chain::{self, LakeEpoch};
use super::footer::{ChangeFooter, Content};
use super::naming::{ChangeObjectName, Part, folder};

/// The newest epoch, `None` if the lake has no changes.
pub async fn newest_epoch(lake: &LakeStore) -> Result<Option<LakeEpoch>, LakeError> {
    let mut names = Vec::new();
    for table in TABLES {
        let keys = lake.keys(&folder(table)).await?;
        let parsed = keys.iter().filter_map(|key| ChangeObjectName::parse(key));
        names.extend(parsed.filter(|name| name.table == table));
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
        let last = |is_wanted: fn(&Part) -> bool| {
            let wanted = of_table.clone().filter(|name| is_wanted(&name.part));
            wanted.max_by_key(|name| name.part)
        };
        let mut end = None;
        let mut is_whole = false;
        if let Some(part) = last(|part| matches!(part, Part::Snapshot(_))) {
            let footer = read_footer(lake, part).await?;
            is_whole = footer.content == Content::SnapshotEnd;
            end = Some(footer);
        }
        if let Some(changes) = last(|part| matches!(part, Part::Changes(_))) {
            end = Some(read_footer(lake, changes).await?);
        }
        newest.extend(end.map(|footer| (footer, is_whole)));
    }
    Ok(chain::newest_epoch(number, &newest))
}

/// The footer of an object of changes, which has to hold what its name says.
pub async fn read_footer(
    lake: &LakeStore,
    name: &ChangeObjectName,
) -> Result<ChangeFooter, LakeError> {
    let key = name.key();
    let pairs = lake.footer_pairs(&key).await?;
    let pairs = pairs
        .iter()
        .map(|(key, value)| (key.as_str(), value.as_deref()));
    let damaged = |detail: String| LakeError::Object {
        key: key.clone(),
        detail,
    };
    let footer = ChangeFooter::from_pairs(pairs).map_err(|error| damaged(error.to_string()))?;
    let is_its_own = footer.table == name.table
        && footer.epoch == name.epoch
        && match name.part {
            Part::Changes(first) => footer.content == Content::Changes && footer.first == first,
            Part::Snapshot(_) => footer.content != Content::Changes,
        };
    match is_its_own {
        true => Ok(footer),
        false => Err(damaged(format!(
            "its footer is that of {} from {} in epoch {}",
            footer.table, footer.first, footer.epoch
        ))),
    }
}
