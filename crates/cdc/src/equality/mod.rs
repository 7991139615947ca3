//! Whether a table replayed from the lake equals the table in PostgreSQL.
//!
//! Promises: the tables are read in one snapshot of the server, and only what that shows is replayed
//! from the lake, so a capture may run and the tables may change meanwhile. A running capture is asked
//! for a checkpoint and waited for; if none runs, the rows that the slot still holds changes of are
//! left out, and counted. What was not compared is said, with the reason. Memory: per row and side its
//! key and 8 bytes per column, and a few files.

mod replay;
mod row;
mod server;
mod visibility;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use deadpool_postgres::Object;
use ftap_lake::{ChangeObjectName, LakeError, LakeStore, Lsn};
use ftap_postgres::{PostgresError, PostgresSettings, ServerAddress, connection, pool};
use ftap_supervision::{Retry, Retryable};
use futures::{StreamExt as _, TryStreamExt as _, stream};

use self::replay::{Replay, ReplayError};
use self::row::{Rows, Shape};
use self::server::{Pending, Server, ServerTable, ServerTables};
use crate::TABLES;
use crate::audit::ChainAudit;
use crate::checkpoint::Checkpoint;
use crate::lake::{checkpoint_names, object_names, read_checkpoint};
use crate::source::SourceError;

/// Rows that are named, of those that differ.
pub const NAMED: usize = 10;
/// Files read side by side, and in memory at once.
const READS: usize = 8;
/// Between two looks for a checkpoint.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// What the comparison of a table found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableEquality {
    /// The table.
    pub table: String,
    /// The figures, or why it was not compared.
    pub result: Result<Figures, NotCompared>,
}

/// See [`TableEquality`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// The snapshot that was replayed.
    pub epoch: u32,
    /// Objects that were replayed.
    pub objects: u64,
    /// Changes in them that the server's snapshot shows.
    pub changes: u64,
    /// Rows that they make.
    pub replayed: u64,
    /// Rows in PostgreSQL.
    pub in_postgres: u64,
    /// Rows that were left out because the slot holds changes of them that no process has read.
    pub pending: u64,
    /// Rows that differ only in columns that they have in an earlier form: added since, or of a type
    /// that was changed.
    pub earlier_form: u64,
    /// Rows that differ.
    pub differing: u64,
    /// The first [`NAMED`] of them, by key.
    pub named: BTreeSet<Difference>,
}

/// A row that differs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Difference {
    /// Its key; that of several columns is a JSON array.
    pub key: String,
    pub how: DifferenceKind,
}

/// How a row differs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DifferenceKind {
    OnlyInLake,
    OnlyInPostgres,
    /// In these columns.
    Values(Vec<String>),
}

/// Why a table was not compared.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotCompared {
    #[error("files of it are missing, as listed above")]
    FilesMissing,
    #[error("PostgreSQL has no such table")]
    NoTable,
    #[error("it has neither a primary key nor a replica identity, so nothing names its rows")]
    NoKey,
    #[error(
        "capture is not running, and the table was emptied, or got another key, since the last checkpoint: start `ftap cdc`, then verify again"
    )]
    PendingTruncate,
    /// A change lacks what is the table's key now.
    #[error("{key}: {said}; `ftap cdc --resnapshot` copies the tables again")]
    KeyChanged {
        /// The object.
        key: String,
        said: String,
    },
}

/// Why nothing was compared.
#[derive(Debug, thiserror::Error)]
pub enum EqualityError {
    /// The lake; the only one that is a failure of the lake's.
    #[error(transparent)]
    Lake(#[from] LakeError),
    #[error(transparent)]
    Postgres(#[from] PostgresError),
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error(
        "the lake has no checkpoint of epoch {epoch}: `ftap cdc` of this version puts one as soon as it runs"
    )]
    NoCheckpoint { epoch: u32 },
    #[error(
        "the lake's changes are of the server {theirs}, that at {address} is {ours}: set POSTGRES_HOST to the right server"
    )]
    AnotherServer {
        theirs: String,
        ours: String,
        address: ServerAddress,
    },
    #[error(
        "replication slot {0} is gone, so the server no longer keeps what changed since the last checkpoint: start `ftap cdc`, whose error says what to do"
    )]
    SlotMissing(String),
    #[error("the tables are being copied again: verify again when that is done")]
    CopiedAgain,
    #[error(
        "capture is running, but has put no checkpoint after {end} within {} s (POSTGRES_STATEMENT_TIMEOUT_SECONDS): it is behind, or stuck; its log and `/metrics` say more", .limit.as_secs_f64()
    )]
    Behind { end: Lsn, limit: Duration },
    #[error(
        "capture is not running, and to read what replication slot {slot} holds took more than {} s (POSTGRES_STATEMENT_TIMEOUT_SECONDS): start `ftap cdc`, then verify again", .limit.as_secs_f64()
    )]
    TooMuchPending { slot: String, limit: Duration },
}

impl Retryable for EqualityError {
    fn retry(&self) -> Retry {
        match self {
            Self::Lake(error) => error.retry(),
            _ => Retry::Permanent,
        }
    }
}

/// Compares the newest epoch that the audit found. Writes one message into the server's log, which a
/// capture answers with a checkpoint.
pub async fn compare(
    lake: &LakeStore,
    chains: &[ChainAudit],
    settings: &PostgresSettings,
    publication: &str,
) -> Result<Vec<TableEquality>, EqualityError> {
    let epoch = chains.iter().map(|chain| chain.epoch).max();
    let epoch = epoch.unwrap_or_default();
    let newest = newest_checkpoint(lake).await?;
    let checkpoint = match newest {
        Some(checkpoint) if checkpoint.epoch == epoch => checkpoint,
        Some(checkpoint) if checkpoint.epoch > epoch => return Err(EqualityError::CopiedAgain),
        _ => return Err(EqualityError::NoCheckpoint { epoch }),
    };
    let pool = pool(settings)?;
    // Not given back: its settings are its own.
    let client = Object::take(connection(&pool, settings).await?);
    let server = Server::new(&client, settings).await?;
    let identity = server.control().identity(&checkpoint.slot).await?;
    if identity.system != checkpoint.system {
        return Err(EqualityError::AnotherServer {
            theirs: checkpoint.system,
            ours: identity.system,
            address: settings.address(),
        });
    }
    let known = checkpoint.catalog.tables.iter();
    let known = known.map(|(table, state)| (table.clone(), state.oid));
    let tables = server.read(publication, &known.collect()).await?;
    // Also makes durable what the snapshot shows, as the slot gives nothing else.
    server.control().request_checkpoint().await?;
    let pending = pending(lake, &server, &checkpoint, publication, &tables, settings).await?;

    let names = object_names(lake).await?;
    let mut results = Vec::new();
    for table in TABLES {
        let chain = chains.iter().find(|c| c.epoch == epoch && c.table == table);
        let is_whole = chain.is_some_and(|chain| chain.problems.is_empty());
        let result = match tables.tables.get(table) {
            _ if !is_whole => Err(NotCompared::FilesMissing),
            None => Err(NotCompared::NoTable),
            Some(found) if !found.shape.has_key() => Err(NotCompared::NoKey),
            Some(found) => {
                let own = names.iter();
                let own = own.filter(|name| name.epoch == epoch && name.table == table);
                let pending = pending.get(table);
                table_figures(lake, own, found, &tables, pending).await?
            }
        };
        let result = result.map(|figures| Figures { epoch, ..figures });
        results.push(TableEquality {
            table: table.to_owned(),
            result,
        });
    }
    Ok(results)
}

async fn newest_checkpoint(lake: &LakeStore) -> Result<Option<Checkpoint>, LakeError> {
    match checkpoint_names(lake).await?.pop() {
        Some(name) => read_checkpoint(lake, name).await.map(Some),
        None => Ok(None),
    }
}

/// Waits until the lake has all that the snapshot shows. If no capture runs, gives what the slot holds.
async fn pending(
    lake: &LakeStore,
    server: &Server<'_>,
    checkpoint: &Checkpoint,
    publication: &str,
    tables: &ServerTables,
    settings: &PostgresSettings,
) -> Result<BTreeMap<String, Pending>, EqualityError> {
    let (end, slot) = (tables.visibility.end, checkpoint.slot.as_str());
    let limit = settings.statement_timeout;
    let started = Instant::now();
    loop {
        let newest = checkpoint_names(lake).await?.pop();
        let newest = newest.filter(|name| name.epoch == checkpoint.epoch);
        let Some(newest) = newest else {
            return Err(EqualityError::CopiedAgain);
        };
        if newest.confirmed >= end {
            return Ok(BTreeMap::new());
        }
        let is_active = server.is_active(slot).await?;
        if !is_active.ok_or_else(|| EqualityError::SlotMissing(slot.to_owned()))? {
            let recorded = newest.confirmed;
            let pending = server.pending(slot, publication, recorded, tables).await?;
            if let Some(pending) = pending {
                return Ok(pending);
            }
        }
        if started.elapsed() >= limit {
            return Err(EqualityError::Behind { end, limit });
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

async fn table_figures(
    lake: &LakeStore,
    names: impl Iterator<Item = &ChangeObjectName>,
    found: &ServerTable,
    tables: &ServerTables,
    pending: Option<&Pending>,
) -> Result<Result<Figures, NotCompared>, LakeError> {
    if pending == Some(&Pending::All) {
        return Ok(Err(NotCompared::PendingTruncate));
    }
    let mut names: Vec<_> = names.collect();
    names.sort_by_key(|name| name.part);
    let mut replay = Replay::new(&found.shape, &tables.visibility);
    let keys: Vec<String> = names.iter().map(|name| name.key()).collect();
    let mut files = stream::iter(keys)
        .map(|key| async move {
            let bytes = lake.get(&key).await?;
            Ok::<_, LakeError>((key, bytes))
        })
        .buffered(READS);
    while let Some((key, bytes)) = files.try_next().await? {
        match replay.file(bytes) {
            Ok(()) => {}
            Err(error @ ReplayError::NoKey { .. }) => {
                let said = error.to_string();
                return Ok(Err(NotCompared::KeyChanged { key, said }));
            }
            Err(error) => return Err(LakeError::object(&key, error)),
        }
    }
    let figures = Figures {
        objects: names.len() as u64,
        changes: replay.changes,
        ..Figures::default()
    };
    let is_pending = |key: &str| match pending {
        Some(Pending::Keys(keys)) => keys.contains(key),
        Some(Pending::All) | None => false,
    };
    Ok(Ok(figures.of(
        &found.shape,
        &replay.rows,
        &found.rows,
        is_pending,
    )))
}

impl Figures {
    fn of(
        mut self,
        shape: &Shape,
        lake: &Rows,
        server: &Rows,
        is_pending: impl Fn(&str) -> bool,
    ) -> Self {
        self.replayed = lake.len() as u64;
        self.in_postgres = server.len() as u64;
        for (key, ours) in lake {
            let how = match server.get(key) {
                _ if is_pending(key) => {
                    self.pending += 1;
                    continue;
                }
                None => DifferenceKind::OnlyInLake,
                Some(theirs) => {
                    let pairs = ours.iter().zip(theirs).zip(&shape.columns);
                    let differing = pairs.filter(|((a, b), _)| !a.is_equal(**b));
                    let (earlier, differing): (Vec<_>, Vec<_>) =
                        differing.partition(|((a, _), _)| a.is_in_earlier_form());
                    if differing.is_empty() {
                        self.earlier_form += u64::from(!earlier.is_empty());
                        continue;
                    }
                    let names = differing.into_iter().map(|(_, column)| column.name.clone());
                    DifferenceKind::Values(names.collect())
                }
            };
            self.differs(key, how);
        }
        for key in server.keys().filter(|key| !lake.contains_key(*key)) {
            if is_pending(key) {
                self.pending += 1;
            } else {
                self.differs(key, DifferenceKind::OnlyInPostgres);
            }
        }
        self
    }

    fn differs(&mut self, key: &str, how: DifferenceKind) {
        self.differing += 1;
        let key = key.to_owned();
        self.named.insert(Difference { key, how });
        if self.named.len() > NAMED {
            self.named.pop_last();
        }
    }
}
