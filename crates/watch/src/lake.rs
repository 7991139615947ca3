//! The lake from outside: objects and bytes of each kind, the newest of them, and how far each
//! partition's chain goes.
//!
//! Promises a bounded number of requests a look, however large the lake: folders of a day, or of a
//! month for FX rates, are listed once and remembered. At each look the newest two of a kind are
//! listed again, one older one in turn, and those that were never listed, up to a limit; until all
//! were, the figures say that they are not complete.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use ftap_lake::{
    DATA_SETS, DayFolders, LakeError, LakeLocation, LakeStore, ObjectName, TRANSACTIONS,
    TransactionFooter, read_footer,
};
use ftap_telemetry::{chain, metrics};
use futures::{StreamExt as _, TryStreamExt as _};

use super::{Look, Seen, Sources, Unseen};

/// Folders that were never listed and are listed in one look.
const NEW_FOLDERS: usize = 64;
/// Folders to which objects are added as a rule: today's, and yesterday's around midnight.
const NEWEST_FOLDERS: usize = 2;
/// Objects of one folder that are counted.
const FOLDER_LIMIT: usize = 100_000;

/// Objects of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FolderFigures {
    pub objects: u64,
    pub bytes: u64,
    /// The object that was written last, and when.
    pub newest: Option<(String, DateTime<Utc>)>,
    /// Whether everything was counted.
    pub is_complete: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LakeFigures {
    pub place: String,
    /// By data set.
    pub kinds: BTreeMap<&'static str, FolderFigures>,
    /// By partition of the topic: the offset after the last one in the lake.
    pub chain_ends: BTreeMap<i32, i64>,
}

/// What was listed in one folder.
#[derive(Clone, Debug, Default)]
struct Listed {
    figures: FolderFigures,
    /// By partition: the object that begins last.
    newest_of_chain: BTreeMap<i32, ObjectName>,
}

/// See the module.
pub struct LakeLook {
    location: LakeLocation,
    topic: String,
    store: Option<LakeStore>,
    /// By kind and folder.
    listed: BTreeMap<&'static str, BTreeMap<String, Listed>>,
    /// Which older folder's turn it is.
    turn: usize,
    /// By partition: the newest object and where it ends.
    ends: BTreeMap<i32, (ObjectName, i64)>,
}

impl LakeLook {
    /// Looks at this lake; chains are those of the topic.
    pub fn new(location: LakeLocation, topic: String) -> Self {
        Self {
            location,
            topic,
            store: None,
            listed: BTreeMap::new(),
            turn: 0,
            ends: BTreeMap::new(),
        }
    }

    async fn look_at(&mut self, store: &LakeStore) -> Result<LakeFigures, LakeError> {
        self.turn = self.turn.wrapping_add(1);
        let mut figures = LakeFigures {
            place: store.describe(),
            ..LakeFigures::default()
        };
        for set in DATA_SETS {
            let kind = set.name;
            // Folders of a day, or of a month where there are folders for months.
            let depth = match set.days {
                DayFolders::Flat => 1,
                DayFolders::Nested => 2,
            };
            let mut folders = vec![kind.to_owned()];
            for _ in 0..depth {
                let mut inner = Vec::new();
                for folder in folders {
                    inner.extend(store.folders(&folder).await?);
                }
                folders = inner;
            }
            folders.sort();
            let known = self.listed.entry(kind).or_default();
            known.retain(|folder, _| folders.binary_search(folder).is_ok());
            let due = due(&folders, known, self.turn);
            for folder in due {
                let listed = list(store, &folder, &self.topic).await?;
                known.insert(folder, listed);
            }
            let complete = known.len() == folders.len();
            figures.kinds.insert(kind, sum(known.values(), complete));
        }
        self.follow_chains(store).await?;
        figures.chain_ends = self
            .ends
            .iter()
            .map(|(partition, (_, end))| (*partition, *end))
            .collect();
        Ok(figures)
    }

    /// Reads the footers of the chains' newest objects, unless they were read before.
    async fn follow_chains(&mut self, store: &LakeStore) -> Result<(), LakeError> {
        let mut newest: BTreeMap<i32, ObjectName> = BTreeMap::new();
        for listed in self
            .listed
            .get(TRANSACTIONS.name)
            .into_iter()
            .flat_map(BTreeMap::values)
        {
            for name in listed.newest_of_chain.values() {
                keep_later(&mut newest, name);
            }
        }
        self.ends
            .retain(|partition, _| newest.contains_key(partition));
        for (partition, name) in newest {
            if self
                .ends
                .get(&partition)
                .is_some_and(|(known, _)| *known == name)
            {
                continue;
            }
            let footer: TransactionFooter = read_footer(store, &name).await?;
            self.ends.insert(partition, (name, footer.next_offset()));
        }
        Ok(())
    }
}

impl Look for LakeLook {
    type Figures = LakeFigures;

    const SOURCE: &'static str = "lake";

    const PLACE: &'static str = "lake";

    const LIMIT: Duration = Duration::from_secs(60);

    async fn look(&mut self) -> Result<LakeFigures, Unseen> {
        let store = match &self.store {
            Some(store) => store.clone(),
            None => {
                let store = LakeStore::open_to_read(&self.location);
                let store = store.map_err(|error| chain(&error))?;
                self.store.insert(store).clone()
            }
        };
        let looked = self.look_at(&store).await;
        Ok(looked.map_err(|error| chain(&error))?)
    }

    fn place(sources: &mut Sources) -> &mut Option<Seen<LakeFigures>> {
        &mut sources.lake
    }

    fn export(figures: Option<&LakeFigures>) {
        let kinds = figures.iter().flat_map(|figures| &figures.kinds);
        let set = |gauge: &metrics::Gauge<1>, value: fn(&FolderFigures) -> Option<f64>| {
            gauge.replace(
                kinds
                    .clone()
                    .filter_map(|(kind, found)| Some(([(*kind).to_owned()], value(found)?))),
            );
        };
        set(&metrics::LAKE_OBJECTS, |found| Some(found.objects as f64));
        set(&metrics::LAKE_BYTES, |found| Some(found.bytes as f64));
        set(&metrics::LAKE_NEWEST, |found| {
            let (_, at) = found.newest.as_ref()?;
            Some(at.timestamp() as f64)
        });
        let ends = figures.iter().flat_map(|figures| &figures.chain_ends);
        metrics::LAKE_END
            .replace(ends.map(|(partition, end)| ([partition.to_string()], *end as f64)));
    }
}

/// Which folders are listed in this look.
fn due(folders: &[String], known: &BTreeMap<String, Listed>, turn: usize) -> Vec<String> {
    let newest = folders.len().saturating_sub(NEWEST_FOLDERS);
    let (older, newer) = folders.split_at(newest);
    let mut due: Vec<String> = newer.to_vec();
    // The newest of them first: that is where chains end.
    let unknown = older
        .iter()
        .rev()
        .filter(|folder| !known.contains_key(*folder));
    due.extend(unknown.take(NEW_FOLDERS).cloned());
    if due.len() == newer.len() && !older.is_empty() {
        due.push(older[turn % older.len()].clone());
    }
    due
}

async fn list(store: &LakeStore, folder: &str, topic: &str) -> Result<Listed, LakeError> {
    let mut listed = Listed::default();
    let mut objects = store.list(folder).take(FOLDER_LIMIT);
    while let Some(object) = objects.try_next().await? {
        if let Ok(name) = ObjectName::parse(&object.key)
            && name.topic() == topic
        {
            keep_later(&mut listed.newest_of_chain, &name);
        }
        let part = FolderFigures {
            objects: 1,
            bytes: object.bytes,
            newest: Some((object.key, object.written)),
            is_complete: true,
        };
        add(&mut listed.figures, &part);
    }
    listed.figures.is_complete = listed.figures.objects < FOLDER_LIMIT as u64;
    Ok(listed)
}

fn keep_later(newest: &mut BTreeMap<i32, ObjectName>, name: &ObjectName) {
    let known = newest
        .entry(name.partition())
        .or_insert_with(|| name.clone());
    if known.first_offset() < name.first_offset() {
        *known = name.clone();
    }
}

fn sum<'a>(parts: impl Iterator<Item = &'a Listed>, is_complete: bool) -> FolderFigures {
    let mut total = FolderFigures {
        is_complete,
        ..FolderFigures::default()
    };
    parts.for_each(|part| add(&mut total, &part.figures));
    total
}

fn add(total: &mut FolderFigures, part: &FolderFigures) {
    total.objects += part.objects;
    total.bytes += part.bytes;
    total.is_complete &= part.is_complete;
    if let Some((_, at)) = &part.newest
        && total.newest.as_ref().is_none_or(|(_, newest)| newest < at)
    {
        total.newest = part.newest.clone();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn days(count: u32) -> Vec<String> {
        (0..count)
            .map(|day| format!("transactions/{day:04}"))
            .collect()
    }

    #[test]
    fn a_look_lists_a_bounded_number_of_folders_and_each_one_in_its_turn() {
        let folders = days(200);
        let mut known = BTreeMap::new();
        let mut looks = 0;
        while known.len() < folders.len() {
            looks += 1;
            let due = due(&folders, &known, looks);
            assert!(due.len() <= NEW_FOLDERS + NEWEST_FOLDERS, "{}", due.len());
            assert!(due.contains(&folders[199]) && due.contains(&folders[198]));
            known.extend(due.into_iter().map(|folder| (folder, Listed::default())));
        }
        assert_eq!(looks, 4);
        let mut again = std::collections::BTreeSet::new();
        for turn in 0..198 {
            let due = due(&folders, &known, turn);
            assert_eq!(due.len(), NEWEST_FOLDERS + 1);
            again.extend(due);
        }
        assert_eq!(again.len(), folders.len());
        assert!(due(&[], &BTreeMap::new(), 7).is_empty());
    }

    #[tokio::test]
    async fn the_figures_are_those_of_the_folder_and_what_is_taken_out_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let put = |key: &str, bytes: &[u8]| {
            let path = dir.path().join(key);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        };
        let mut look = LakeLook::new(
            LakeLocation::Local(dir.path().to_path_buf()),
            "cards".to_owned(),
        );
        let empty = look.look().await.unwrap();
        assert_eq!(
            empty.kinds["fx_rates"],
            FolderFigures {
                is_complete: true,
                ..Default::default()
            }
        );
        put(
            "fx_rates/2026/01/02/fx_rates_20260102_000000.parquet",
            b"1234",
        );
        put(
            "fx_rates/2026/02/02/fx_rates_20260202_000000.parquet",
            b"12",
        );
        put("users_changes/2026-01-02/a.parquet", b"123");
        let found = look.look().await.unwrap();
        let fx = &found.kinds["fx_rates"];
        assert_eq!((fx.objects, fx.bytes, fx.is_complete), (2, 6, true));
        assert_eq!(
            found.kinds["users_changes"].newest.as_ref().unwrap().0,
            "users_changes/2026-01-02/a.parquet"
        );
        std::fs::remove_dir_all(dir.path().join("fx_rates/2026/02")).unwrap();
        assert_eq!(look.look().await.unwrap().kinds["fx_rates"].objects, 1);
        std::fs::remove_dir_all(dir.path()).unwrap();
        let gone = look.look().await.unwrap_err();
        assert!(
            matches!(&gone, Unseen::Down(why) if why.contains("lake's folder")),
            "{gone:?}"
        );
    }
}
