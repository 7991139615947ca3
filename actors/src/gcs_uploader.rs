//! Puts files into the lake, each partition's chain in order, one at a time.
//!
//! Promises: a file is put only after its predecessor is durable, and an offset
//! is reported as committed only after its file is. A lake that does not answer
//! is tried again for ever; meanwhile the memory budget stops the consumer.
//! `AlreadyExists` is no failure: the footer of what is there decides.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use actix::prelude::*;

use crate::events::{FileAdopted, FileCommitted, LakeUnavailable};
use crate::failpoint;
use crate::kafka_subscriber::KafkaSubscriber;
use crate::lake::chain::{Adoption, on_already_exists};
use crate::lake::store::{LakeStore, PutOutcome};
use crate::lake::{Footer, LakeError, RetryHint};
use crate::messages::{ChainEnds, ClosePartitions, Committed, FindChainEnds, Rewind, Upload};
use crate::meters::Meters;
use crate::parquet_buffer::stage_error;
use crate::supervision::{ErrorKind, Stage, StageError};

const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// The actor.
pub struct GcsUploader {
    stage: Stage,
    lake: LakeStore,
    subscriber: Addr<KafkaSubscriber>,
    meters: Arc<Meters>,
    chains: HashMap<i32, Chain>,
}

/// Files of one partition, oldest first.
#[derive(Default)]
struct Chain {
    waiting: VecDeque<Upload>,
    is_busy: bool,
}

/// What became of a file.
enum Outcome {
    /// It, or its equal, is in the lake.
    Durable { next_offset: i64 },
    /// Another run from the same offset is in the lake.
    Overtaken { resume_at: i64 },
    /// The generation ended meanwhile.
    Fenced,
}

impl GcsUploader {
    /// An uploader without work.
    pub fn new(
        stage: Stage,
        lake: LakeStore,
        subscriber: Addr<KafkaSubscriber>,
        meters: Arc<Meters>,
    ) -> Self {
        Self {
            stage,
            lake,
            subscriber,
            meters,
            chains: HashMap::new(),
        }
    }

    fn pump(&mut self, partition: i32, context: &mut Context<Self>) {
        let Some(chain) = self.chains.get_mut(&partition) else {
            return;
        };
        if chain.is_busy {
            return;
        }
        let Some(mut upload) = chain.waiting.pop_front() else {
            return;
        };
        chain.is_busy = true;
        let (stage, lake, meters) = (self.stage.clone(), self.lake.clone(), self.meters.clone());
        let task = async move {
            let outcome = put(&stage, &lake, &meters, &mut upload).await;
            (upload, outcome)
        };
        context.spawn(
            task.into_actor(self)
                .map(move |(upload, outcome), uploader, context| {
                    uploader.settle(partition, &upload, outcome);
                    drop(upload);
                    uploader.stage.progress().finish_work(1);
                    uploader.pump(partition, context);
                }),
        );
    }

    fn settle(&mut self, partition: i32, upload: &Upload, outcome: Result<Outcome, StageError>) {
        let chain = self.chains.entry(partition).or_default();
        chain.is_busy = false;
        match outcome {
            Ok(Outcome::Durable { next_offset }) => {
                if !self.stage.is_fenced() {
                    self.subscriber.do_send(Committed {
                        partition,
                        epoch: upload.epoch,
                        next_offset,
                    });
                }
            }
            Ok(Outcome::Overtaken { resume_at }) => {
                // What waits behind it continues a run that is not in the lake.
                let stale = chain
                    .waiting
                    .iter()
                    .filter(|waiting| waiting.epoch == upload.epoch)
                    .count();
                chain
                    .waiting
                    .retain(|waiting| waiting.epoch != upload.epoch);
                self.stage.progress().finish_work(stale as u64);
                self.subscriber.do_send(Rewind {
                    partition,
                    epoch: upload.epoch,
                    offset: resume_at,
                });
            }
            Ok(Outcome::Fenced) => {}
            Err(error) => self.stage.fail(error),
        }
    }
}

/// Tries until the file, or another one in its place, is in the lake.
async fn put(
    stage: &Stage,
    lake: &LakeStore,
    meters: &Meters,
    upload: &mut Upload,
) -> Result<Outcome, StageError> {
    {
        let _waiting = stage.progress().waiting();
        for durable in upload.rejections.drain(..) {
            durable.await.map_err(|_| {
                StageError::new(ErrorKind::NeighbourGone, "dead_letters dropped a rejection")
            })?;
        }
    }
    let footer = &upload.file.footer;
    let key = upload.file.name.key();
    let mut retries = Retries::new(stage, meters, &key);
    loop {
        if stage.is_fenced() {
            return Ok(Outcome::Fenced);
        }
        failpoint::hit("gcs_uploader")?;
        let result = {
            // A slow store is no stall: its client has limits of its own.
            let _waiting = stage.progress().waiting();
            match lake.put_create(&key, upload.file.bytes.clone()).await {
                Ok(PutOutcome::Created) => Ok(None),
                Ok(PutOutcome::AlreadyExists) => lake.read_footer(&key).await.map(Some),
                Err(error) => Err(error),
            }
        };
        let theirs = match result {
            Ok(theirs) => theirs,
            Err(error) => {
                retries.wait(error).await?;
                continue;
            }
        };
        let took = upload.closed_at.elapsed();
        let bytes = upload.file.bytes.len() as u64;
        if let Some(theirs) = theirs {
            let adoption =
                on_already_exists(footer, &theirs).map_err(|error| stage_error(&error.into()))?;
            if let Adoption::Adopt { resume_at } = adoption {
                meters.file_adopted();
                FileAdopted {
                    key,
                    partition: theirs.partition,
                    first_offset: theirs.first_offset,
                    last_offset: theirs.last_offset,
                    writer: theirs.writer_id,
                    resume_at,
                }
                .emit(stage.speaker());
                return Ok(Outcome::Overtaken { resume_at });
            }
        }
        failpoint::hit("gcs_uploader.committed")?;
        meters.file_committed(footer.rows, footer.rejected_records, bytes, took);
        meters.set_last_commit_timestamp_ms(unix_ms());
        FileCommitted {
            key,
            partition: footer.partition,
            first_offset: footer.first_offset,
            last_offset: footer.last_offset,
            rows: footer.rows,
            rejected: footer.rejected_records,
            bytes,
            duration_ms: took.as_millis() as u64,
        }
        .emit(stage.speaker());
        return Ok(Outcome::Durable {
            next_offset: footer.last_offset + 1,
        });
    }
}

async fn find_chain_ends(
    stage: &Stage,
    lake: &LakeStore,
    meters: &Meters,
    topic: &str,
    partitions: &[i32],
) -> Result<BTreeMap<i32, Option<Footer>>, StageError> {
    let what = format!("the chain ends of {topic}");
    let mut retries = Retries::new(stage, meters, &what);
    loop {
        let answer = {
            let _waiting = stage.progress().waiting();
            lake.chain_ends(topic, partitions).await
        };
        match answer {
            Ok(mut ends) => {
                let mut footer = |partition| Some(ends.remove(partition)?.footer);
                return Ok(partitions
                    .iter()
                    .map(|partition| (*partition, footer(partition)))
                    .collect());
            }
            Err(error) => retries.wait(error).await?,
        }
    }
}

/// The pauses between tries of one request.
pub(crate) struct Retries<'a> {
    stage: &'a Stage,
    meters: &'a Meters,
    what: &'a str,
    attempt: u64,
    pause: Duration,
}

impl<'a> Retries<'a> {
    pub(crate) fn new(stage: &'a Stage, meters: &'a Meters, what: &'a str) -> Self {
        Self {
            stage,
            meters,
            what,
            attempt: 0,
            pause: FIRST_PAUSE,
        }
    }

    /// Sleeps before the next try; fails when no try can help.
    pub(crate) async fn wait(&mut self, error: LakeError) -> Result<(), StageError> {
        if error.retry() == RetryHint::Fatal {
            return Err(stage_error(&error));
        }
        self.attempt += 1;
        self.meters.lake_retry();
        LakeUnavailable {
            key: self.what.to_owned(),
            attempt: self.attempt,
            error: error.to_string(),
            retry_in_ms: self.pause.as_millis() as u64,
        }
        .emit(self.stage.speaker());
        let _waiting = self.stage.progress().waiting();
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        Ok(())
    }
}

fn unix_ms() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |now| i64::try_from(now.as_millis()).unwrap_or(i64::MAX))
}

impl Actor for GcsUploader {
    type Context = Context<Self>;
}

impl Handler<Upload> for GcsUploader {
    type Result = ();

    fn handle(&mut self, upload: Upload, context: &mut Context<Self>) {
        let partition = upload.file.footer.partition;
        self.chains
            .entry(partition)
            .or_default()
            .waiting
            .push_back(upload);
        self.pump(partition, context);
    }
}

impl Handler<ClosePartitions> for GcsUploader {
    type Result = ();

    fn handle(&mut self, message: ClosePartitions, _: &mut Context<Self>) {
        for partition in &message.partitions {
            if let Some(chain) = self.chains.get_mut(partition) {
                let dropped = chain.waiting.len() as u64;
                chain.waiting.clear();
                self.stage.progress().finish_work(dropped);
            }
        }
    }
}

impl Handler<FindChainEnds> for GcsUploader {
    type Result = ();

    fn handle(&mut self, message: FindChainEnds, context: &mut Context<Self>) {
        let (stage, lake, meters) = (self.stage.clone(), self.lake.clone(), self.meters.clone());
        stage.progress().add_work(1);
        let task = async move {
            let FindChainEnds {
                topic,
                partitions,
                reply_to,
            } = message;
            match find_chain_ends(&stage, &lake, &meters, &topic, &partitions).await {
                Ok(footers) => reply_to.do_send(ChainEnds { footers }),
                Err(error) => stage.fail(error),
            }
            stage.progress().finish_work(1);
        };
        context.spawn(task.into_actor(self));
    }
}
