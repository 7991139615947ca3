//! Takes a snapshot and creates the slot that continues where it ends.
//!
//! Promises: an epoch is whole in the lake only if the slot begins at its snapshot. The epoch's first
//! checkpoint and then its last object are put after the slot is kept, so whatever is killed when, and whichever other process reads or
//! makes the slot meanwhile, a whole epoch misses no change. One process does this at a time, by
//! a lock that ends with its connection.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use deadpool_postgres::Object;
use deadpool_postgres::tokio_postgres::Client;
use ftap_lake::Adoption;
use ftap_postgres::PostgresError;
use ftap_supervision::failpoint;
use ftap_telemetry::events::{
    ChangesSnapshotStarted, ChangesSnapshotTaken, ChangesSnapshotWaits, PublicationCreated,
};

use super::CaptureFailure;
use super::put::{put, put_checkpoint};
use super::session::{Session, SessionError};
use crate::chain::SnapshotReason;
use crate::checkpoint::{Checkpoint, CheckpointParts};
use crate::file::{ChangeFile, Origin};
use crate::footer::Content;
use crate::server::Control;
use crate::snapshot::SnapshotReader;
use crate::wire::Wire;
use crate::{Plan, Position, TABLES};

/// After this a slot that is not made yet is explained.
const SLOT_PATIENCE: Duration = Duration::from_secs(10);
/// Keeps two processes from taking a snapshot at a time; any number that no other program uses.
const ADVISORY_LOCK: i64 = 0x0066_7461_7000_0002;

impl Session<'_> {
    /// Copies the tables at the place where a slot starts, keeps the slot, and only then makes
    /// the copy whole.
    pub(super) async fn snapshot(
        &self,
        origin: Origin,
        epoch: u32,
        reason: SnapshotReason,
    ) -> Result<(), SessionError> {
        let settings = &self.parts.settings;
        let started = Instant::now();
        // Not given back to the pool: it may end within a transaction.
        let client = Object::take(self.connection().await?);
        let control = Control {
            client: &client,
            settings: self.postgres,
        };
        self.be_the_only_one(&client).await?;
        // Another process may have taken a snapshot, or made the slot, since this was planned.
        if self.plan().await?.plan != (Plan::Snapshot { epoch, reason }) {
            return Ok(());
        }
        // Before anything is copied in vain.
        control.slot_is_idle(&settings.slot).await?;
        control.check_free_slots(&settings.slot).await?;
        let may_mend = reason == SnapshotReason::Asked;
        let made = control
            .ensure_publication(&settings.publication, may_mend)
            .await?;
        if made {
            PublicationCreated {
                publication: settings.publication.clone(),
            }
            .emit(self.stage.speaker());
        }
        ChangesSnapshotStarted {
            reason: reason.as_str().to_owned(),
            epoch,
            slot: settings.slot.clone(),
        }
        .emit(self.stage.speaker());
        let mut wire = Wire::connect(self.postgres, &settings.slot, &settings.publication).await?;
        let slot = {
            let name = format!("{}_snapshot_{}", settings.slot, std::process::id());
            let making = wire.create_temporary_slot(name);
            self.explain_waiting(making).await?
        };
        let origin = Origin { epoch, ..origin };
        let mut ends = BTreeMap::new();
        let reader = SnapshotReader::begin(&client, self.postgres, &slot).await?;
        let mut rows = 0;
        let last_file = RefCell::new(None);
        for table in TABLES {
            ends.insert(table.to_owned(), Position::snapshot(slot.consistent_point));
            let is_last = Some(&table) == TABLES.last();
            let last_file = &last_file;
            let put_part = |file: ChangeFile| async move {
                if is_last && file.footer.content == Content::SnapshotEnd {
                    last_file.replace(Some(file));
                    return Ok(());
                }
                self.put_part(&file).await
            };
            rows += reader
                .copy::<_, SessionError>(
                    table,
                    &settings.publication,
                    &origin,
                    &settings.rolling,
                    put_part,
                )
                .await?;
        }
        let catalog = reader.catalog(&settings.publication).await?;
        reader.end().await?;
        control.drop_slot(&settings.slot).await?;
        failpoint::hit("change_capture.slot")?;
        let kept = wire.keep_slot(&slot, &settings.slot).await;
        kept.map_err(slot_was_lost)?;
        failpoint::hit("change_capture.slot_kept")?;
        let parts = CheckpointParts {
            epoch,
            slot: &settings.slot,
            system: &origin.system,
            writer_id: &settings.writer_id,
            ends,
            catalog,
        };
        let checkpoint = Checkpoint::first(slot.consistent_point, parts);
        put_checkpoint(self.lake, &checkpoint).await?;
        if let Some(file) = last_file.take() {
            self.put_part(&file).await?;
        }
        self.parts.snapshot_was_taken();
        ChangesSnapshotTaken {
            epoch,
            lsn: slot.consistent_point.to_string(),
            rows,
            duration_ms: started.elapsed().as_millis() as u64,
        }
        .emit(self.stage.speaker());
        Ok(())
    }

    /// Another object in the place of a part is another process' of the same epoch: its
    /// snapshot is of another moment, so both start again.
    async fn put_part(&self, file: &ChangeFile) -> Result<(), SessionError> {
        match put(self.stage, self.lake, file, "snapshot").await {
            Ok(Adoption::Same) => Ok(()),
            Ok(Adoption::Overtaken) => Err(self.another_process("has written this snapshot")),
            Err(error) if error.is(CaptureFailure::Conflict) => {
                Err(self.another_process("has written another snapshot"))
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn be_the_only_one(&self, client: &Client) -> Result<(), SessionError> {
        let said = |error| PostgresError::of(self.postgres, &error);
        // A process whose machine is gone must not keep the lock for hours, as by default.
        let keepalive = "SET tcp_keepalives_idle = 30; SET tcp_keepalives_interval = 10; SET tcp_keepalives_count = 3";
        client.batch_execute(keepalive).await.map_err(said)?;
        let sql = "SELECT pg_try_advisory_lock($1)";
        let locked = client.query_one(sql, &[&ADVISORY_LOCK]).await;
        if locked.map_err(said)?.get(0) {
            return Ok(());
        }
        let sql = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND (classid::bigint << 32) + objid::bigint = $1";
        let holder = client.query_opt(sql, &[&ADVISORY_LOCK]).await;
        let holder: Option<i32> = holder.map_err(said)?.and_then(|row| row.get(0));
        Err(self.another_process(&match holder {
            Some(pid) => format!("is taking the snapshot; if it hangs, end it, or its session there: SELECT pg_terminate_backend({pid})"),
            None => "was taking the snapshot".to_owned(),
        }))
    }

    fn another_process(&self, does: &str) -> SessionError {
        SessionError::Postgres(PostgresError::Conflict {
            address: self.postgres.address(),
            said: format!("another `ftap cdc` {does}"),
        })
    }

    async fn explain_waiting<T>(&self, work: impl Future<Output = T>) -> T {
        let started = Instant::now();
        tokio::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                () = tokio::time::sleep(SLOT_PATIENCE) => ChangesSnapshotWaits {
                    waited_ms: started.elapsed().as_millis() as u64,
                    remedy: "end the transactions that are open on the server: SELECT pid, xact_start, query FROM pg_stat_activity ORDER BY xact_start".to_owned(),
                }
                .emit(self.stage.speaker()),
            }
        }
    }
}

/// The server gives a slot up, and ends its session, when it holds back too much log.
fn slot_was_lost(error: PostgresError) -> PostgresError {
    match error {
        PostgresError::Unavailable { address, said } | PostgresError::Refused { address, said } => {
            PostgresError::Unavailable {
                address,
                said: format!(
                    "the slot was lost while the tables were copied ({said}); if that comes again, raise max_slot_wal_keep_size there"
                ),
            }
        }
        error => error,
    }
}
