//! One connection's life: plan, snapshot if need be, stream.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use deadpool_postgres::{Object, Pool};

use super::CaptureParts;
use super::lag::LagClock;
use super::put::put;
use crate::changes::buffer::{BufferError, ChangeBuffer, Flow};
use crate::changes::chain::{Adoption, SnapshotReason};
use crate::changes::file::Origin;
use crate::changes::lake::newest_epoch;
use crate::changes::server::{Control, SlotSample};
use crate::changes::snapshot::{SnapshotError, SnapshotReader};
use crate::changes::source::{ChangeSource, SourceError};
use crate::changes::wire::Wire;
use crate::changes::{Lsn, Plan, Position, TABLES, plan};
use crate::events::{
    ChangesSnapshotStarted, ChangesSnapshotTaken, ChangesSnapshotWaits, ChangesStreaming,
    PublicationCreated,
};
use crate::gcs_uploader::Retries;
use crate::lake::rolling::CloseReason;
use crate::lake_outage::LakeOutage;
use crate::parquet_buffer::stage_error;
use crate::postgres::{PostgresError, PostgresSettings, connection, prepare};
use crate::supervision::{ErrorKind, Stage, StageError};

/// Between two looks at how far the slot is behind; a server that does not answer them
/// ends the session, too: a connection that is only half there would else look idle.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(5);
/// How long the last acknowledgement may take at a stop.
const LAST_WORD: Duration = Duration::from_secs(2);
/// After this a slot that is not made yet is explained.
const SLOT_PATIENCE: Duration = Duration::from_secs(10);
/// Keeps two processes from taking a snapshot at a time; any number that nobody else uses.
const ADVISORY_LOCK: i64 = 0x0066_7461_7000_0002;

/// How a session ended well.
pub(super) enum SessionEnd {
    /// There is nothing more to do.
    Finished,
    /// Plan anew.
    Again,
}

/// Why a session ended.
pub(super) enum SessionError {
    /// The server; the error says whether to try again.
    Postgres(PostgresError),
    /// The stream.
    Source(SourceError),
    /// No other session can help.
    Stage(StageError),
}

impl From<PostgresError> for SessionError {
    fn from(error: PostgresError) -> Self {
        Self::Postgres(error)
    }
}

impl From<StageError> for SessionError {
    fn from(error: StageError) -> Self {
        Self::Stage(error)
    }
}

impl From<SnapshotError> for SessionError {
    fn from(error: SnapshotError) -> Self {
        match error {
            SnapshotError::Postgres(error) => Self::Postgres(error),
            SnapshotError::Lake(error) => Self::Stage(stage_error(&error)),
        }
    }
}

/// What a session needs.
pub(super) struct Session<'a> {
    pub(super) stage: &'a Stage,
    pub(super) pool: Pool,
    pub(super) postgres: &'a PostgresSettings,
    pub(super) parts: &'a CaptureParts,
    pub(super) outage: &'a LakeOutage,
}

enum Event {
    Message(Result<crate::changes::Message, SourceError>),
    Sampled(Result<Option<SlotSample>, PostgresError>),
    Flush,
    Stop,
}

impl Session<'_> {
    /// Plans, and does one step of the plan.
    pub(super) async fn run(&self, lag: &mut LagClock) -> Result<SessionEnd, SessionError> {
        let prepare = async {
            let (plan, origin) = self.plan().await?;
            match plan {
                Plan::Snapshot { epoch, reason } => {
                    self.snapshot(origin, epoch, reason).await?;
                    Ok(None)
                }
                Plan::Stream { epoch, ends } => {
                    let origin = Origin { epoch, ..origin };
                    Ok(Some((self.open(&origin, &ends).await?, origin, ends)))
                }
            }
        };
        let prepared: Result<_, SessionError> = tokio::select! {
            prepared = prepare => prepared,
            () = self.stage.generation().stop_request() => return Ok(SessionEnd::Finished),
        };
        match prepared? {
            None => Ok(SessionEnd::Again),
            Some((wire, origin, ends)) => {
                let buffer = ChangeBuffer::new(origin, self.parts.settings.rolling, ends);
                self.stream(wire, buffer, lag).await
            }
        }
    }

    async fn plan(&self) -> Result<(Plan, Origin), SessionError> {
        let settings = &self.parts.settings;
        let mut retries = Retries::new(
            self.stage,
            &self.parts.meters,
            self.outage,
            "the lake's changes",
        );
        let lake = loop {
            match newest_epoch(&self.parts.lake).await {
                Ok(lake) => {
                    self.outage.answered(self.stage);
                    break lake;
                }
                Err(error) => retries.wait(error).await?,
            }
        };
        let client = self.connection().await?;
        let control = self.control(&client);
        if !control.has_tables().await? {
            prepare(&self.pool, self.postgres, &self.parts.preparation).await?;
        }
        let server = control.state(&settings.slot, &settings.publication).await?;
        let asked = self.parts.snapshot_was_asked();
        let plan = plan(&settings.slot, lake.as_ref(), &server, asked)
            .map_err(|error| StageError::new(ErrorKind::ChangesConflict, error.to_string()))?;
        let origin = Origin {
            system: server.system.into(),
            slot: settings.slot.as_str().into(),
            writer_id: settings.writer_id.as_str().into(),
            epoch: 0,
            zstd_level: settings.zstd_level,
        };
        Ok((plan, origin))
    }

    /// Copies the tables at the place where a slot starts, then keeps the slot. In this
    /// order a slot without a whole snapshot can't be left behind by whatever kill.
    async fn snapshot(
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
        if control.ensure_publication(&settings.publication).await? {
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
        let reader = SnapshotReader::begin(&client, self.postgres, &slot).await?;
        let mut rows = 0;
        for table in TABLES {
            let put_part = |file| async move {
                let (lake, meters) = (&self.parts.lake, &self.parts.meters);
                match put(self.stage, lake, meters, self.outage, &file, "snapshot").await? {
                    Adoption::Same => Ok(()),
                    Adoption::Overtaken => Err(self.somebody_else("has written this snapshot")),
                }
            };
            rows += reader
                .copy::<_, SessionError>(table, &origin, &settings.rolling, put_part)
                .await?;
        }
        reader.end().await?;
        control.drop_slot(&settings.slot).await?;
        wire.keep_slot(&slot, &settings.slot).await?;
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

    async fn be_the_only_one(
        &self,
        client: &deadpool_postgres::tokio_postgres::Client,
    ) -> Result<(), SessionError> {
        let sql = "SELECT pg_try_advisory_lock($1)";
        let locked = client.query_one(sql, &[&ADVISORY_LOCK]).await;
        let locked = locked.map_err(|error| PostgresError::of(self.postgres, &error))?;
        match locked.get(0) {
            true => Ok(()),
            false => Err(self.somebody_else("is taking the snapshot")),
        }
    }

    fn somebody_else(&self, does: &str) -> SessionError {
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

    async fn open(
        &self,
        origin: &Origin,
        ends: &BTreeMap<String, Position>,
    ) -> Result<Wire, SessionError> {
        let settings = &self.parts.settings;
        let mut wire = Wire::connect(self.postgres, &settings.slot, &settings.publication).await?;
        wire.start().await?;
        let client = self.connection().await?;
        let sample = self.control(&client).sample(&settings.slot).await?;
        ChangesStreaming {
            slot: settings.slot.clone(),
            epoch: origin.epoch,
            confirmed_lsn: sample.map_or(Lsn::default(), |s| s.confirmed).to_string(),
            lake_end: ends.values().max().copied().unwrap_or_default().to_string(),
        }
        .emit(self.stage.speaker());
        self.stage.generation().ready();
        Ok(wire)
    }

    async fn stream(
        &self,
        mut wire: Wire,
        mut buffer: ChangeBuffer,
        lag: &mut LagClock,
    ) -> Result<SessionEnd, SessionError> {
        let max_age = self.parts.settings.rolling.max_age;
        let drain_to = match self.parts.until_drained {
            true => Some(self.control(&self.connection().await?).flushed().await?),
            false => None,
        };
        let mut acknowledged = Lsn::default();
        let mut sampling = Box::pin(self.sample());
        loop {
            let flush_at = buffer.opened_at().map(|opened| opened + max_age);
            let event = tokio::select! {
                biased;
                () = self.stage.generation().stop_request() => Event::Stop,
                () = sleep_until(flush_at) => Event::Flush,
                sampled = &mut sampling => Event::Sampled(sampled),
                message = wire.next() => Event::Message(message),
            };
            let mut flush = None;
            match event {
                Event::Message(Ok(message)) => match buffer.apply(message) {
                    Ok(Flow::Continue) => {}
                    Ok(Flow::Flush(reason)) => flush = Some(reason),
                    Err(error) => return Err(buffer_error(error)),
                },
                Event::Message(Err(error)) => {
                    // What was read needs no server to become durable, and a connection
                    // that breaks again and again must not keep it from that.
                    self.flush(&mut buffer, CloseReason::Requested).await?;
                    return Err(SessionError::Source(error));
                }
                Event::Sampled(sampled) => {
                    match sampled? {
                        Some(sample) if !sample.is_lost => lag.sample(sample, Instant::now()),
                        // The next plan says what to do.
                        _ => return Ok(SessionEnd::Again),
                    }
                    sampling.set(self.sample());
                }
                Event::Flush => flush = Some(CloseReason::Age),
                Event::Stop => {
                    if let Some(safe) = self.flush(&mut buffer, CloseReason::Shutdown).await? {
                        wire.acknowledge(safe);
                        last_word(&wire, safe).await;
                    }
                    return Ok(SessionEnd::Finished);
                }
            }
            if drain_to.is_some_and(|target| buffer.received() >= target) && buffer.holds_rows() {
                flush = Some(CloseReason::Drain);
            }
            if let Some(reason) = flush
                && self.flush(&mut buffer, reason).await?.is_none()
            {
                return Ok(SessionEnd::Again);
            }
            if let Some(durable) = buffer.idle_at()
                && durable > acknowledged
            {
                wire.acknowledge(durable);
                acknowledged = durable;
                lag.acknowledged(durable);
            }
            lag.report(&self.parts.meters, true, Instant::now());
            if drain_to.is_some_and(|target| acknowledged >= target) {
                last_word(&wire, acknowledged).await;
                return Ok(SessionEnd::Finished);
            }
        }
    }

    /// Puts everything that is buffered. Gives what may be acknowledged, `None` if another
    /// writer was quicker.
    async fn flush(
        &self,
        buffer: &mut ChangeBuffer,
        reason: CloseReason,
    ) -> Result<Option<Lsn>, SessionError> {
        self.stage.progress().add_work(1);
        let flush = buffer.take().map_err(|error| stage_error(&error))?;
        let mut is_ours = true;
        for file in &flush.files {
            if self.stage.is_fenced() {
                return Ok(None);
            }
            let (lake, meters) = (&self.parts.lake, &self.parts.meters);
            if put(self.stage, lake, meters, self.outage, file, reason.as_str()).await?
                == Adoption::Overtaken
            {
                is_ours = false;
                break;
            }
        }
        self.stage.progress().finish_work(1);
        Ok(is_ours.then_some(flush.safe))
    }

    /// How far the slot is behind, after a while.
    async fn sample(&self) -> Result<Option<SlotSample>, PostgresError> {
        tokio::time::sleep(SAMPLE_INTERVAL).await;
        let asked = async {
            let client = self.connection().await?;
            self.control(&client)
                .sample(&self.parts.settings.slot)
                .await
        };
        let limit = self.postgres.connect_timeout + self.postgres.statement_timeout;
        match tokio::time::timeout(limit, asked).await {
            Ok(sample) => sample,
            Err(_) => Err(PostgresError::Unavailable {
                address: self.postgres.address(),
                said: format!("no answer within {} s", limit.as_secs_f64()),
            }),
        }
    }

    async fn connection(&self) -> Result<Object, PostgresError> {
        connection(&self.pool, self.postgres).await
    }

    fn control<'c>(&'c self, client: &'c Object) -> Control<'c> {
        Control {
            client,
            settings: self.postgres,
        }
    }
}

/// Waits until the last acknowledgement was sent; it is only a hint, so not for long.
async fn last_word(wire: &Wire, durable: Lsn) {
    let sent = async {
        while wire.acknowledged() < durable {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let _ = tokio::time::timeout(LAST_WORD, sent).await;
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

fn buffer_error(error: BufferError) -> SessionError {
    SessionError::Stage(match error {
        BufferError::OutOfOrder(_) => StageError::new(ErrorKind::Bug, error.to_string()),
        BufferError::Lake(error) => stage_error(&error),
    })
}
