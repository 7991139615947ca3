//! What the lake holds at one moment.

use std::collections::BTreeMap;

use ftap_lake::{DataSet, LakeError, LakeStore, ListedObject};
use futures::TryStreamExt as _;

use crate::engine::Source;

/// The objects of some data sets, by key. Objects never change, so equal moments have the same rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Moment(BTreeMap<&'static str, Vec<ListedObject>>);

impl Moment {
    /// Lists the objects that are there now.
    pub(crate) async fn now(lake: &LakeStore, sources: &[Source]) -> Result<Self, LakeError> {
        let mut moment = Self::default();
        for Source { set, .. } in sources {
            let mut objects: Vec<ListedObject> = lake
                .list(set.name)
                .try_filter(|object| std::future::ready(set.owns(&object.key)))
                .try_collect()
                .await?;
            objects.sort_by(|left, right| left.key.cmp(&right.key));
            moment.0.insert(set.name, objects);
        }
        Ok(moment)
    }

    /// The same with only the new objects of one data set; `None` if anything else has changed since `before`.
    pub(crate) fn added_since(&self, before: &Self, grown: &DataSet) -> Option<Self> {
        let mut added = self.clone();
        for (name, objects) in &mut added.0 {
            let known = before.0.get(name)?;
            if *name == grown.name {
                let is_known = |object: &ListedObject| {
                    let place = known.binary_search_by(|known| known.key.cmp(&object.key));
                    place.is_ok_and(|place| known[place] == *object)
                };
                let all = objects.len();
                objects.retain(|object| !is_known(object));
                if all - objects.len() < known.len() {
                    return None;
                }
            } else if objects != known {
                return None;
            }
        }
        Some(added)
    }

    /// The objects of one data set, in the order of their keys.
    pub(crate) fn objects(&self, set: &DataSet) -> &[ListedObject] {
        self.0.get(set.name).map_or(&[], Vec::as_slice)
    }
}
