//! What a session reads from the slot, from its first message to its end.
//!
//! Promises: a flush puts all objects, then the checkpoint, and only then is the slot acknowledged.
//! The catalogue is compared, and an idle slot moved on, while the stream is read.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use ftap_lake::{Adoption, CloseReason};
use ftap_postgres::PostgresError;
use ftap_supervision::{Failure, Internal, failpoint};
use ftap_telemetry::events::{HeartbeatRefused, TimelineChanged};
use futures::FutureExt as _;
use futures::future::LocalBoxFuture;

use super::heartbeat::Heartbeat;
use super::lag::LagClock;
use super::put::{put, put_checkpoint};
use super::session::{Session, SessionEnd, SessionError};
use super::tables::KnownTables;
use crate::buffer::{BufferError, ChangeBuffer, Flow, Proof};
use crate::catalog::Catalog;
use crate::chain::PublicationState;
use crate::checkpoint::Checkpoint;
use crate::file::Origin;
use crate::server::{Control, SlotSample};
use crate::source::{ChangeSource, SourceError};
use crate::wire::Wire;
use crate::{ChangeFile, Lsn, Message};

/// Between two looks at how far the slot is behind; a server that does not answer them
/// ends the session, too: a connection that is only half there would else look idle.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);
/// How long the last acknowledgement may take at a stop.
const LAST_WORD: Duration = Duration::from_secs(2);

/// How far the slot is behind, and what the catalogue says.
struct Look {
    sample: SlotSample,
    catalog: Catalog,
}

type Looking<'a> = LocalBoxFuture<'a, Result<Option<Look>, PostgresError>>;

enum Event {
    Message(Result<Message, SourceError>),
    Looked(Result<Option<Look>, PostgresError>),
    Flush(CloseReason),
    Report,
    Stop,
}

/// What a stream knows.
pub(super) struct Streaming {
    pub(super) origin: Origin,
    pub(super) buffer: ChangeBuffer,
    pub(super) tables: KnownTables,
    /// The position of the newest checkpoint.
    pub(super) recorded: Lsn,
    pub(super) heartbeat: Rc<Heartbeat>,
    /// The timeline of the last checkpoint.
    pub(super) timeline: u32,
}

impl Streaming {
    /// The checkpoint that is due when everything handed out is in the lake.
    fn checkpoint(&self, proof: Option<Proof>) -> Option<Checkpoint> {
        let proof = proof.filter(|proof| proof.witness.lsn > self.recorded)?;
        let parts = self.origin.checkpoint(proof.ends, self.tables.catalog());
        Some(Checkpoint::after(proof.witness, proof.partial, parts))
    }

    fn oids(&self) -> BTreeMap<String, u32> {
        let tables = self.tables.catalog().tables.iter();
        tables
            .map(|(table, state)| (table.clone(), state.oid))
            .collect()
    }
}

impl Session<'_> {
    /// Reads the slot until the session ends.
    pub(super) async fn stream(
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
        let mut flushes = self.stage.generation().control().flushes();
        loop {
            let flush_at = streaming.buffer.opened_at().map(|opened| opened + max_age);
            let event = tokio::select! {
                biased;
                () = self.stage.generation().stop_request() => Event::Stop,
                () = sleep_until(flush_at) => Event::Flush(CloseReason::Age),
                () = flushes.next() => Event::Flush(CloseReason::Requested),
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
                            if !self.compare(&mut streaming, look.catalog) {
                                return Ok(SessionEnd::Again);
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
                Event::Flush(reason) => flush = Some(reason),
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

    /// Reports what is new in the catalogue and has it recorded. Returns `false` where changes may
    /// be missing, which the next plan reports.
    fn compare(&self, streaming: &mut Streaming, now: Catalog) -> bool {
        let before = streaming.tables.catalog();
        if now.break_since(before).is_some() {
            return false;
        }
        if now.differs_from(before) {
            streaming.heartbeat.want();
        }
        for report in streaming.tables.look(now) {
            report.emit(self.stage.speaker());
        }
        true
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
                control.check_tables(&settings.publication, &known).await?;
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
    pub(super) async fn beat(
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
