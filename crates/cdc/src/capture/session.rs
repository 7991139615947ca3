//! One connection's life: plan, snapshot if need be, stream.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::lake::newest_epoch;
use crate::source::{ChangeSource, SourceError};
use deadpool_postgres::{Object, Pool};
use ftap_lake::{Adoption, CloseReason, LakeStore, StageLake};
use ftap_postgres::{PostgresError, PostgresSettings, connection, prepare, report_loaded};
use ftap_supervision::{Failure, Internal, Retry, Retryable, Stage, failpoint};
use ftap_telemetry::events::{
    ChangesStreaming, ContinuityUnproven, HeartbeatRefused, TimelineChanged,
};
use futures::FutureExt as _;
use futures::future::LocalBoxFuture;

use super::CaptureParts;
use super::heartbeat::Heartbeat;
use super::lag::LagClock;
use super::put::{put, put_checkpoint};
use super::tables::KnownTables;
use crate::buffer::{BufferError, ChangeBuffer, Flow, Proof};
use crate::catalog::Catalog;
use crate::chain::{PublicationState, Resume, ServerState};
use crate::checkpoint::{Checkpoint, CheckpointParts};
use crate::file::Origin;
use crate::server::{Control, SlotSample};
use crate::snapshot::SnapshotError;
use crate::wire::Wire;
use crate::{ChangeFile, Lsn, Message, Plan, Position, TABLES, plan};

/// Between two looks at how far the slot is behind; a server that does not answer them
/// ends the session, too: a connection that is only half there would else look idle.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);
/// How long the last acknowledgement may take at a stop.
const LAST_WORD: Duration = Duration::from_secs(2);

/// How a session ended well.
pub(super) enum SessionEnd {
    /// There is nothing more to do.
    Finished,
    /// Plan again.
    Again,
}

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub(super) enum SessionError {
    /// The server; the error says whether to try again.
    Postgres(#[from] PostgresError),
    /// The stream.
    Source(#[from] SourceError),
    /// No other session can help.
    Stage(#[from] Failure),
}

impl Retryable for SessionError {
    fn retry(&self) -> Retry {
        match self {
            // Tables that are missing are waited for: the process that creates them starts at the
            // same time.
            Self::Postgres(PostgresError::OtherSchema { .. }) => Retry::Transient,
            Self::Postgres(error) => error.retry(),
            Self::Source(SourceError::Gone(_) | SourceError::Refused(_)) => Retry::Transient,
            Self::Source(SourceError::Garbled(_)) | Self::Stage(_) => Retry::Permanent,
        }
    }
}

impl From<SessionError> for Failure {
    fn from(error: SessionError) -> Self {
        match error {
            SessionError::Postgres(error) => error.into(),
            SessionError::Source(error) => Self::from_error(Internal::Bug, error),
            SessionError::Stage(error) => error,
        }
    }
}

impl From<SnapshotError> for SessionError {
    fn from(error: SnapshotError) -> Self {
        match error {
            SnapshotError::Postgres(error) => Self::Postgres(error),
            SnapshotError::File(error) => Self::Stage(error.into()),
        }
    }
}

/// What a session needs.
pub(super) struct Session<'a> {
    pub(super) stage: &'a Stage,
    pub(super) pool: Pool,
    pub(super) postgres: &'a PostgresSettings,
    pub(super) parts: &'a CaptureParts,
    pub(super) lake: &'a StageLake,
}

/// How far the slot is behind, and what the catalogue says.
struct Look {
    sample: SlotSample,
    catalog: Catalog,
}

type Looking<'a> = LocalBoxFuture<'a, Result<Option<Look>, PostgresError>>;

enum Event {
    Message(Result<Message, SourceError>),
    Looked(Result<Option<Look>, PostgresError>),
    Flush,
    Report,
    Stop,
}

/// A plan, and the server that it was made for.
struct Planned {
    plan: Plan,
    origin: Origin,
    catalog: Catalog,
}

/// What a stream knows.
struct Streaming {
    origin: Origin,
    buffer: ChangeBuffer,
    tables: KnownTables,
    /// The position of the newest checkpoint.
    recorded: Lsn,
    heartbeat: Rc<Heartbeat>,
    /// The timeline of the last checkpoint.
    timeline: u32,
}

impl Streaming {
    /// The checkpoint that is due when everything handed out is in the lake.
    fn checkpoint(&self, proof: Option<Proof>) -> Option<Checkpoint> {
        let proof = proof.filter(|proof| proof.witness.lsn > self.recorded)?;
        let parts = self.origin.checkpoint(proof.ends, self.tables.catalog());
        Some(Checkpoint::after(proof.witness, parts))
    }

    fn oids(&self) -> BTreeMap<String, u32> {
        let tables = self.tables.catalog().tables.iter();
        tables
            .map(|(table, state)| (table.clone(), state.oid))
            .collect()
    }
}

impl Origin {
    fn checkpoint(
        &self,
        ends: BTreeMap<String, Position>,
        catalog: &Catalog,
    ) -> CheckpointParts<'_> {
        CheckpointParts {
            epoch: self.epoch,
            slot: &self.slot,
            system: &self.system,
            writer_id: &self.writer_id,
            ends,
            catalog: catalog.clone(),
        }
    }
}

impl Session<'_> {
    /// Plans, and does one step of the plan.
    pub(super) async fn run(&self, lag: &mut LagClock) -> Result<SessionEnd, SessionError> {
        let prepare = async {
            let Planned {
                plan,
                origin,
                catalog,
            } = self.plan().await?;
            match plan {
                Plan::Snapshot { epoch, reason } => {
                    self.snapshot(origin, epoch, reason).await?;
                    Ok(None)
                }
                Plan::Stream { epoch, resume } => {
                    let origin = Origin { epoch, ..origin };
                    let Some((wire, sample)) = self.open(&origin, &resume).await? else {
                        return Ok(None);
                    };
                    let streaming = self.resume(origin, *resume, catalog, sample).await?;
                    Ok(Some((wire, sample, streaming)))
                }
            }
        };
        let prepared: Result<_, SessionError> = tokio::select! {
            prepared = prepare => prepared,
            () = self.stage.generation().stop_request() => return Ok(SessionEnd::Finished),
        };
        match prepared? {
            None => Ok(SessionEnd::Again),
            Some((wire, sample, streaming)) => {
                lag.sample(sample, Instant::now());
                self.stream(wire, streaming, lag).await
            }
        }
    }

    /// Compares lake and server. The slot is asked for before the lake is read: a checkpoint is put
    /// before the slot is acknowledged, so the lake then has the checkpoint of what the slot says.
    async fn plan(&self) -> Result<Planned, SessionError> {
        let settings = &self.parts.settings;
        let client = self.connection().await?;
        let control = self.control(&client);
        let identity = control.identity(&settings.slot).await?;
        let newest = async |lake: &LakeStore| newest_epoch(lake).await;
        let lake = self.lake.ask("the lake's changes", newest).await?;
        let known = lake.as_ref().map(|lake| lake.oids.clone());
        let known = known.unwrap_or_default();
        let mut catalog = control.catalog(&settings.publication, &known).await?;
        // Known tables that have another name are there.
        if catalog.tables.len() < TABLES.len() {
            let prepared = prepare(&self.pool, self.postgres, &self.parts.preparation).await?;
            report_loaded(&prepared.loaded, self.stage.speaker());
            catalog = control.catalog(&settings.publication, &known).await?;
        }
        let server = ServerState {
            publication: control.publication(&settings.publication, &known).await?,
            system: identity.system,
            database: identity.database,
            flushed: identity.flushed,
            slot: identity.slot,
            catalog,
        };
        let asked = self.parts.snapshot_was_asked();
        let plan = plan(&settings.slot, lake.as_ref(), &server, asked).map_err(Failure::from)?;
        let origin = Origin {
            system: server.system.into(),
            slot: settings.slot.as_str().into(),
            writer_id: settings.writer_id.as_str().into(),
            epoch: 0,
            zstd_level: settings.zstd_level,
        };
        Ok(Planned {
            plan,
            origin,
            catalog: server.catalog,
        })
    }

    /// Starts to read the slot. `None` if it was moved since it was asked for.
    async fn open(
        &self,
        origin: &Origin,
        resume: &Resume,
    ) -> Result<Option<(Wire, SlotSample)>, SessionError> {
        let settings = &self.parts.settings;
        let mut wire = Wire::connect(self.postgres, &settings.slot, &settings.publication).await?;
        wire.start().await?;
        let client = self.connection().await?;
        let sample = self.control(&client).sample(&settings.slot).await?;
        // From now on no other client can move it.
        let Some(sample) = sample.filter(|sample| sample.confirmed <= resume.confirmed) else {
            return Ok(None);
        };
        ChangesStreaming {
            slot: settings.slot.clone(),
            epoch: origin.epoch,
            confirmed_lsn: sample.confirmed.to_string(),
            lake_end: resume
                .ends
                .values()
                .max()
                .copied()
                .unwrap_or_default()
                .to_string(),
        }
        .emit(self.stage.speaker());
        self.stage.generation().ready();
        Ok(Some((wire, sample)))
    }

    /// Reports what is new in the catalogue, and has it recorded.
    async fn resume(
        &self,
        origin: Origin,
        resume: Resume,
        now: Catalog,
        sample: SlotSample,
    ) -> Result<Streaming, SessionError> {
        let settings = &self.parts.settings;
        let speaker = self.stage.speaker();
        let heartbeat = Heartbeat::new(resume.confirmed, settings.rolling.max_age);
        let before = match &resume.catalog {
            Some(before) => before.clone(),
            None => {
                ContinuityUnproven {
                    slot: settings.slot.clone(),
                    confirmed_lsn: resume.confirmed.to_string(),
                    remedy: "if another client may have read or advanced the slot, copy the tables again: `ftap cdc --resnapshot`".to_owned(),
                }
                .emit(speaker);
                let parts = origin.checkpoint(resume.ends.clone(), &now);
                let checkpoint = Checkpoint::first(resume.confirmed, parts);
                put_checkpoint(self.lake, &checkpoint).await?;
                now.clone()
            }
        };
        if resume.witness.is_none()
            || now.differs_from(&before)
            || heartbeat.has_grown(sample.flushed)
        {
            heartbeat.want();
        }
        let timeline = before.timeline;
        let mut tables = KnownTables::new(before);
        for report in tables.look(now) {
            report.emit(speaker);
        }
        if heartbeat.is_due(sample.flushed) {
            let client = self.connection().await?;
            self.beat(&self.control(&client), &heartbeat).await?;
        }
        Ok(Streaming {
            recorded: resume.confirmed,
            buffer: ChangeBuffer::new(origin.clone(), settings.rolling, resume),
            origin,
            tables,
            heartbeat: Rc::new(heartbeat),
            timeline,
        })
    }

    async fn stream(
        &self,
        mut wire: Wire,
        mut streaming: Streaming,
        lag: &mut LagClock,
    ) -> Result<SessionEnd, SessionError> {
        let max_age = self.parts.settings.rolling.max_age;
        let drain_to = if self.parts.until_drained {
            Some(self.control(&self.connection().await?).flushed().await?)
        } else {
            None
        };
        let mut acknowledged = Lsn::default();
        let mut looking = self.look(&streaming, LOOK_INTERVAL);
        let mut is_asked = false;
        loop {
            let flush_at = streaming.buffer.opened_at().map(|opened| opened + max_age);
            let event = tokio::select! {
                biased;
                () = self.stage.generation().stop_request() => Event::Stop,
                () = sleep_until(flush_at) => Event::Flush,
                looked = &mut looking => Event::Looked(looked),
                message = wire.next() => Event::Message(message),
                // A server that hangs sends nothing, and how far we are behind grows all the same.
                () = tokio::time::sleep(LOOK_INTERVAL) => Event::Report,
            };
            let mut flush = None;
            match event {
                Event::Message(Ok(message)) => {
                    // A server that stops waits for the acknowledgement of what it has sent. It
                    // answers no question, which ends the session; any other server does.
                    if matches!(message, Message::KeepAlive { is_urgent, .. } if is_urgent)
                        && !is_asked
                    {
                        looking = self.look(&streaming, Duration::ZERO);
                        is_asked = true;
                    }
                    match self.apply(&mut streaming, message)? {
                        Flow::Continue => {}
                        Flow::Flush(reason) => flush = Some(reason),
                    }
                }
                Event::Message(Err(error)) => {
                    // What was read needs no server to become durable, and a connection
                    // that breaks again and again must not keep it from that.
                    self.flush(&mut streaming, CloseReason::Requested, &mut looking, lag)
                        .await?;
                    return Err(error.into());
                }
                Event::Looked(looked) => {
                    match looked {
                        Ok(Some(look)) if !look.sample.is_lost => {
                            lag.sample(look.sample, Instant::now());
                            let before = streaming.tables.catalog();
                            if look.catalog.break_since(before).is_some() {
                                return Ok(SessionEnd::Again);
                            }
                            if look.catalog.differs_from(before) {
                                streaming.heartbeat.want();
                            }
                            for report in streaming.tables.look(look.catalog) {
                                report.emit(self.stage.speaker());
                            }
                        }
                        // An answer, too: the server lives, and the stream needs no other
                        // connection.
                        Err(PostgresError::OutOfConnections { .. }) => {}
                        // The next plan says what to do.
                        Ok(_) => return Ok(SessionEnd::Again),
                        Err(error) => return Err(error.into()),
                    }
                    is_asked = false;
                    looking = self.look(&streaming, LOOK_INTERVAL);
                }
                Event::Flush => flush = Some(CloseReason::Age),
                Event::Report => {}
                Event::Stop => {
                    self.flush(&mut streaming, CloseReason::Shutdown, &mut looking, lag)
                        .await?;
                    if streaming.buffer.is_proven() {
                        wire.acknowledge(streaming.recorded);
                        last_word(&mut wire, streaming.recorded).await;
                    }
                    return Ok(SessionEnd::Finished);
                }
            }
            let is_drained = |at: Lsn| drain_to.is_some_and(|target| at >= target);
            if is_drained(streaming.buffer.received()) && streaming.buffer.holds_rows() {
                flush = Some(CloseReason::Drain);
            }
            if let Some(reason) = flush
                && !self
                    .flush(&mut streaming, reason, &mut looking, lag)
                    .await?
            {
                return Ok(SessionEnd::Again);
            }
            let Streaming {
                buffer, recorded, ..
            } = &streaming;
            if buffer.is_proven() && *recorded > acknowledged {
                wire.acknowledge(*recorded);
                acknowledged = *recorded;
                failpoint::hit("change_capture.acknowledged")?;
            }
            if let Some(durable) = buffer.idle_at() {
                lag.durable(durable);
            }
            lag.holds_since(buffer.oldest_commit_us());
            lag.report(true, Instant::now());
            if buffer.idle_at().is_some_and(is_drained) {
                last_word(&mut wire, acknowledged).await;
                return Ok(SessionEnd::Finished);
            }
        }
    }

    fn apply(&self, streaming: &mut Streaming, message: Message) -> Result<Flow, SessionError> {
        let message = match message {
            Message::Relation { id, table } => {
                let met = streaming.tables.meet(&table).map_err(Failure::from)?;
                let (table, report) = met;
                if let Some(report) = report {
                    report.emit(self.stage.speaker());
                }
                Message::Relation { id, table }
            }
            message => message,
        };
        let was_proven = streaming.buffer.is_proven();
        let flow = streaming.buffer.apply(message).map_err(buffer_error)?;
        if !was_proven && streaming.buffer.is_proven() {
            let (before, now) = (streaming.timeline, streaming.tables.catalog().timeline);
            if before != now {
                TimelineChanged { before, now }.emit(self.stage.speaker());
            }
        }
        Ok(flow)
    }

    /// Puts everything that is buffered and a checkpoint, and reports meanwhile how far the slot is
    /// behind, which matters most while the lake does not answer. Returns `false` if another writer
    /// was quicker.
    async fn flush<'a>(
        &'a self,
        streaming: &mut Streaming,
        reason: CloseReason,
        looking: &mut Looking<'a>,
        lag: &mut LagClock,
    ) -> Result<bool, SessionError> {
        lag.holds_since(streaming.buffer.oldest_commit_us());
        let flush = streaming.buffer.take().map_err(Failure::from)?;
        let checkpoint = streaming.checkpoint(flush.proof);
        let recorded = checkpoint.as_ref().map(|checkpoint| checkpoint.confirmed);
        let is_ours = {
            let putting = self.put_all(flush.files, checkpoint, reason);
            tokio::pin!(putting);
            loop {
                tokio::select! {
                    biased;
                    put = &mut putting => break put?,
                    looked = &mut *looking => {
                        // A problem of the server is found by the stream itself.
                        let sample = looked.ok().flatten().map(|look| look.sample);
                        let now = Instant::now();
                        if let Some(sample) = sample {
                            lag.sample(sample, now);
                        }
                        lag.report(sample.is_some(), now);
                        *looking = self.look(streaming, LOOK_INTERVAL);
                    }
                }
            }
        };
        if is_ours && let Some(recorded) = recorded {
            streaming.recorded = recorded;
            streaming.heartbeat.recorded(recorded);
        }
        Ok(is_ours)
    }

    async fn put_all(
        &self,
        files: Vec<ChangeFile>,
        checkpoint: Option<Checkpoint>,
        reason: CloseReason,
    ) -> Result<bool, SessionError> {
        let _work = self.stage.progress().begin();
        for file in &files {
            if self.stage.is_fenced() {
                return Ok(false);
            }
            if put(self.stage, self.lake, file, reason.as_str()).await? == Adoption::Overtaken {
                return Ok(false);
            }
        }
        if let Some(checkpoint) = checkpoint {
            put_checkpoint(self.lake, &checkpoint).await?;
        }
        Ok(true)
    }

    /// How far the slot is behind and what the catalogue says, after a while; `None` where the next
    /// plan will report an error. The stream itself does not fail when the publication is reduced:
    /// it would continue without those changes.
    fn look<'a>(&'a self, streaming: &Streaming, after: Duration) -> Looking<'a> {
        let known = streaming.oids();
        let heartbeat = Rc::clone(&streaming.heartbeat);
        async move {
            tokio::time::sleep(after).await;
            let asked = async {
                let client = self.connection().await?;
                let control = self.control(&client);
                let settings = &self.parts.settings;
                let catalog = control.catalog(&settings.publication, &known).await?;
                match control.publication(&settings.publication, &known).await? {
                    PublicationState::Whole => {}
                    PublicationState::Missing | PublicationState::Lacks { .. } => return Ok(None),
                }
                let sample = control.sample(&settings.slot).await?;
                if let Some(sample) = sample
                    && heartbeat.is_due(sample.flushed)
                {
                    self.beat(&control, &heartbeat).await?;
                }
                Ok(sample.map(|sample| Look { sample, catalog }))
            };
            let limit = self.postgres.connect_timeout + self.postgres.statement_timeout;
            match tokio::time::timeout(limit, asked).await {
                Ok(look) => look,
                Err(_) => Err(PostgresError::Unavailable {
                    address: self.postgres.address(),
                    said: format!("no answer within {} s", limit.as_secs_f64()),
                }),
            }
        }
        .boxed_local()
    }

    /// Writes the message that moves the slot on. Capture continues where the server refuses it.
    async fn beat(
        &self,
        control: &Control<'_>,
        heartbeat: &Heartbeat,
    ) -> Result<(), PostgresError> {
        heartbeat.requested();
        match control.request_checkpoint().await {
            Err(error @ PostgresError::Unavailable { .. }) => Err(error),
            Err(error) => {
                if heartbeat.is_newly_refused() {
                    HeartbeatRefused {
                        error: error.to_string(),
                    }
                    .emit(self.stage.speaker());
                }
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    pub(super) async fn connection(&self) -> Result<Object, PostgresError> {
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
async fn last_word(wire: &mut Wire, durable: Lsn) {
    let _ = tokio::time::timeout(LAST_WORD, wire.acknowledged(durable)).await;
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

fn buffer_error(error: BufferError) -> SessionError {
    SessionError::Stage(match error {
        BufferError::OutOfOrder(_) => Failure::from_error(Internal::Bug, error),
        BufferError::History(error) => error.into(),
        BufferError::File(error) => error.into(),
    })
}
