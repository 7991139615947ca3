//! Puts files into the lake, each partition's chain in order, one at a time.
//!
//! Promises: a file is put only after its predecessor is durable, and an offset
//! is reported to the subscriber only after its file is; what the file lists as rejected is
//! durable before. A lake that does not answer
//! is tried again indefinitely; meanwhile the memory budget stops the consumer.
//! `AlreadyExists` is not a failure: the footer of the existing object decides. Where a
//! chain ends is answered only while no put into it is under way: a partition that was
//! taken away and came back would else start without the file that is about to land.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use actix::prelude::*;
use ftap_lake::{
    ChainEnd, CloseReason, ClosedFile, DeadLetterFooter, LakeError, LakeStore, PutQueue, PutResult,
    StageLake, TRANSACTIONS, TransactionFooter, check_topic,
};
use ftap_supervision::{Failure, Handed, Health, Internal, Outbox, Stage, Work, failpoint};
use ftap_telemetry::events::{DeadLettersCommitted, FileAdopted, FileCommitted, LeftoversCleared};
use ftap_telemetry::metrics;
use parking_lot::Mutex;

use crate::messages::{
    ChainEnds, DurableUpTo, FindChainEnds, NEIGHBOUR_GRACE, Rewind, ToSubscriber, ToUploader,
    Upload,
};

/// Puts whose end was not seen: a generation can be over before its put is answered, and the
/// file be in the lake all the same. The one who meets the file counts it, so that this process's
/// figures say what it brought. Clones share them, those of later generations, too.
#[derive(Clone, Default)]
pub struct Unanswered(Arc<Mutex<Vec<UnderWay>>>);

/// What is reported of a file when it is in the lake.
struct UnderWay {
    key: String,
    footer: TransactionFooter,
    bytes: u64,
    reason: CloseReason,
    closed_at: Instant,
}

impl Unanswered {
    fn begin(&self, upload: &Upload) {
        self.0.lock().push(UnderWay {
            key: upload.file.key(),
            footer: upload.file.footer.clone(),
            bytes: upload.file.bytes.len() as u64,
            reason: upload.reason,
            closed_at: upload.closed_at,
        });
    }

    /// The lake has this file: counts it if it is one of these. Others that begin at its offset
    /// or before it can't come any more.
    fn found(&self, stage: &Stage, footer: &TransactionFooter) {
        let mut puts = self.0.lock();
        if let Some(put) = puts.iter().find(|put| put.footer == *footer) {
            report_committed(stage, put);
        }
        puts.retain(|put| {
            let own = &put.footer;
            own.partition != footer.partition || own.first_offset > footer.first_offset
        });
    }
}

/// The actor.
pub struct GcsUploader {
    stage: Stage,
    lake: StageLake,
    unanswered: Unanswered,
    subscriber: Outbox<ToSubscriber>,
    chains: HashMap<i32, PutQueue<(Upload, Work)>>,
    /// Questions that wait for a put into their chains.
    questions: Vec<(FindChainEnds, Work)>,
}

impl GcsUploader {
    /// Creates an idle uploader.
    pub fn new(
        stage: Stage,
        lake: LakeStore,
        subscriber: Outbox<ToSubscriber>,
        health: Arc<Health>,
        unanswered: Unanswered,
    ) -> Self {
        let lake = StageLake::new(stage.clone(), lake, health);
        Self {
            stage,
            lake,
            unanswered,
            subscriber,
            chains: HashMap::new(),
            questions: Vec::new(),
        }
    }

    fn pump(&mut self, partition: i32, context: &mut Context<Self>) {
        let next = self.chains.get_mut(&partition).and_then(PutQueue::start);
        let Some((mut upload, work)) = next else {
            return;
        };
        let (stage, lake) = (self.stage.clone(), self.lake.clone());
        let unanswered = self.unanswered.clone();
        let task = async move {
            let outcome = put(&stage, &lake, &unanswered, &mut upload).await;
            (upload, work, outcome)
        };
        context.spawn(task.into_actor(self).map(
            move |(upload, work, outcome), uploader, context| {
                uploader.settle(partition, &upload, outcome);
                drop((upload, work));
                uploader.pump(partition, context);
                uploader.answer_what_can_be(context);
            },
        ));
    }

    fn settle(
        &mut self,
        partition: i32,
        upload: &Upload,
        outcome: Result<Option<TransactionFooter>, Failure>,
    ) {
        let chain = self.chains.entry(partition).or_default();
        chain.settled();
        match outcome {
            Ok(None) => {
                if !self.stage.is_fenced() {
                    self.subscriber.hand(ToSubscriber::DurableUpTo(DurableUpTo {
                        partition,
                        assignment: upload.assignment,
                        next_offset: upload.file.footer.next_offset(),
                    }));
                }
            }
            Ok(Some(theirs)) => {
                // What follows it, here or still on its way, continues a run that is not in
                // the lake.
                chain.end(upload.assignment);
                self.subscriber.hand(ToSubscriber::Rewind(Rewind {
                    partition,
                    assignment: upload.assignment,
                    offset: theirs.next_offset(),
                }));
            }
            Err(error) => {
                // The fence comes down a moment later; the next file must not be put without
                // this one.
                chain.fail();
                self.stage.fail(error);
            }
        }
    }

    fn answer_what_can_be(&mut self, context: &mut Context<Self>) {
        let is_busy = |partition: &i32| self.chains.get(partition).is_some_and(PutQueue::is_busy);
        let questions = self
            .questions
            .extract_if(.., |(question, _)| !question.partitions.iter().any(is_busy));
        for (question, work) in questions.collect::<Vec<_>>() {
            self.answer(question, work, context);
        }
    }

    fn answer(&self, request: FindChainEnds, work: Work, context: &mut Context<Self>) {
        let (stage, lake) = (self.stage.clone(), self.lake.clone());
        let (subscriber, unanswered) = (self.subscriber.clone(), self.unanswered.clone());
        let task = async move {
            let _work = work;
            let FindChainEnds {
                topic,
                partitions,
                request,
            } = request;
            match find_chain_ends(&lake, &topic, &partitions).await {
                Ok(footers) => {
                    for footer in footers.values().flatten() {
                        unanswered.found(&stage, footer);
                    }
                    subscriber.hand(ToSubscriber::ChainEnds(ChainEnds { request, footers }));
                }
                Err(error) => stage.fail(error),
            }
        };
        context.spawn(task.into_actor(self));
    }
}

/// Tries until the file, or another one in its place, is in the lake; the footer of the other one.
async fn put(
    stage: &Stage,
    lake: &StageLake,
    unanswered: &Unanswered,
    upload: &mut Upload,
) -> Result<Option<TransactionFooter>, Failure> {
    wait_for_rejections(stage, upload).await?;
    if let Some(dead_letters) = &upload.dead_letters {
        put_dead_letters(stage, lake, dead_letters).await?;
    }
    unanswered.begin(upload);
    if let PutResult::Overtaken(theirs) = lake.put("gcs_uploader", &upload.file).await? {
        report_adopted(stage, &upload.file.key(), &theirs);
        unanswered.found(stage, &theirs);
        return Ok(Some(theirs));
    }
    failpoint::hit("gcs_uploader.committed")?;
    unanswered.found(stage, &upload.file.footer);
    Ok(None)
}

/// Under their name there can be nothing else than the same records: by another writer, or by an earlier
/// try whose reply was lost.
async fn put_dead_letters(
    stage: &Stage,
    lake: &StageLake,
    file: &ClosedFile<DeadLetterFooter>,
) -> Result<(), Failure> {
    let began = Instant::now();
    let result = lake.put("gcs_uploader.dead_letters", file).await?;
    failpoint::hit("gcs_uploader.dead_letters_committed")?;
    if result == PutResult::Created {
        DeadLettersCommitted {
            key: file.key(),
            partition: file.footer.partition,
            records: file.footer.records(),
            bytes: file.bytes.len() as u64,
            duration_ms: began.elapsed().as_millis() as u64,
        }
        .emit(stage.speaker());
    }
    Ok(())
}

/// What a file lists as rejected must be durable before the file is.
async fn wait_for_rejections(stage: &Stage, upload: &mut Upload) -> Result<(), Failure> {
    let _waiting = stage.progress().waiting();
    for durable in upload.rejections.drain(..) {
        if durable.await.is_err() {
            // Its thread reports its own fault, which is the root cause; this one is only for the case that it does not.
            tokio::time::sleep(NEIGHBOUR_GRACE).await;
            let what = "dead_letters dropped a rejection";
            return Err(Failure::new(Internal::NeighbourGone, what));
        }
    }
    Ok(())
}

fn report_adopted(stage: &Stage, key: &str, theirs: &TransactionFooter) {
    metrics::FILES_ADOPTED.add(1);
    FileAdopted {
        key: key.to_owned(),
        partition: theirs.partition,
        first_offset: theirs.first_offset,
        last_offset: theirs.last_offset,
        writer: theirs.writer_id.clone(),
        resume_at: theirs.next_offset(),
    }
    .emit(stage.speaker());
}

fn report_committed(stage: &Stage, put: &UnderWay) {
    let footer = &put.footer;
    let took = put.closed_at.elapsed();
    metrics::ROWS_COMMITTED.add(footer.rows);
    metrics::REJECTIONS_COMMITTED.add(footer.rejected_records);
    metrics::FILES_COMMITTED.add(1);
    metrics::BYTES_COMMITTED.add(put.bytes);
    metrics::FLUSH_SECONDS.record(took);
    metrics::LAKE_NEWEST.set_for([TRANSACTIONS.name], unix_seconds());
    FileCommitted {
        key: put.key.clone(),
        partition: footer.partition,
        first_offset: footer.first_offset,
        last_offset: footer.last_offset,
        rows: footer.rows,
        rejected: footer.rejected_records,
        bytes: put.bytes,
        reason: put.reason.as_str().to_owned(),
        duration_ms: took.as_millis() as u64,
    }
    .emit(stage.speaker());
}

async fn find_chain_ends(
    lake: &StageLake,
    topic: &str,
    partitions: &[i32],
) -> Result<BTreeMap<i32, Option<TransactionFooter>>, Failure> {
    let find = async |lake: &LakeStore| chain_ends(lake, topic, partitions).await;
    let mut ends = lake
        .ask(&format!("the chain ends of {topic}"), find)
        .await?;
    let mut footer = |partition| Some(ends.remove(partition)?.footer);
    let footers = partitions.iter();
    Ok(footers
        .map(|partition| (*partition, footer(partition)))
        .collect())
}

/// The chains' ends, durable. Where there is none yet, the lake must not be another topic's.
async fn chain_ends(
    lake: &LakeStore,
    topic: &str,
    partitions: &[i32],
) -> Result<BTreeMap<i32, ChainEnd>, LakeError> {
    let ends = ftap_lake::chain_ends(lake, topic, partitions).await?;
    if ends.is_empty() && !partitions.is_empty() {
        check_topic(lake, topic).await?;
    }
    // Their offsets are committed without another put.
    for end in ends.values() {
        lake.make_durable(&end.name.to_string()).await?;
    }
    Ok(ends)
}

fn unix_seconds() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0.0, |now| now.as_secs_f64())
}

impl Actor for GcsUploader {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        let (stage, lake) = (self.stage.clone(), self.lake.clone());
        let task = async move {
            // What can't be cleared away does no harm.
            if let Ok(files @ 1..) = lake.store().clear_leftovers().await {
                LeftoversCleared { files }.emit(stage.speaker());
            }
        };
        context.spawn(task.into_actor(self));
    }
}

impl Handler<Handed<ToUploader>> for GcsUploader {
    type Result = ();

    fn handle(&mut self, handed: Handed<ToUploader>, context: &mut Context<Self>) {
        let Handed { message, work } = handed;
        match message {
            ToUploader::Upload(upload) => {
                let partition = upload.file.footer.partition;
                let chain = self.chains.entry(partition).or_default();
                drop(chain.push(upload.assignment, (*upload, work)));
                self.pump(partition, context);
            }
            ToUploader::FindChainEnds(question) => {
                self.questions.push((question, work));
                self.answer_what_can_be(context);
            }
            ToUploader::Close(closing) => {
                for partition in &closing.partitions {
                    let chain = self.chains.entry(*partition).or_default();
                    chain.end(closing.last_assignment);
                }
            }
        }
    }
}
