//! Puts files into the lake, each partition's chain in order, one at a time.
//!
//! Promises: a file is put only after its predecessor is durable, and an offset
//! is reported as committed only after its file is. A lake that does not answer
//! is tried again indefinitely; meanwhile the memory budget stops the consumer.
//! `AlreadyExists` is no failure: the footer of what is there decides.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use actix::prelude::*;
use ftap_lake::chain::{Adoption, on_already_exists};
use ftap_lake::queue::PutQueue;
use ftap_lake::store::{ChainEnd, LakeStore, PutOutcome};
use ftap_lake::{Footer, LakeError, LakeOutage, Retries};
use ftap_supervision::{Failure, Handed, Health, Internal, Outbox, Stage, Work, failpoint};
use ftap_telemetry::events::{FileAdopted, FileCommitted, LeftoversCleared};
use ftap_telemetry::metrics;

use crate::messages::{
    ChainEnds, Committed, FindChainEnds, Rewind, ToSubscriber, ToUploader, Upload,
};

/// The actor.
pub struct GcsUploader {
    stage: Stage,
    lake: LakeStore,
    subscriber: Outbox<ToSubscriber>,
    outage: LakeOutage,
    chains: HashMap<i32, PutQueue<(Upload, Work)>>,
}

/// What happened to a file.
enum Outcome {
    /// It, or its equal, is in the lake.
    Durable { next_offset: i64 },
    /// Another run from the same offset is in the lake.
    Overtaken { resume_at: i64 },
    /// The generation ended meanwhile.
    Fenced,
}

impl GcsUploader {
    pub fn new(
        stage: Stage,
        lake: LakeStore,
        subscriber: Outbox<ToSubscriber>,
        health: Arc<Health>,
    ) -> Self {
        Self {
            stage,
            lake,
            subscriber,
            outage: LakeOutage::new(health),
            chains: HashMap::new(),
        }
    }

    fn pump(&mut self, partition: i32, context: &mut Context<Self>) {
        let next = self.chains.get_mut(&partition).and_then(PutQueue::start);
        let Some((mut upload, work)) = next else {
            return;
        };
        let (stage, lake) = (self.stage.clone(), self.lake.clone());
        let outage = self.outage.clone();
        let task = async move {
            let outcome = put(&stage, &lake, &outage, &mut upload).await;
            (upload, work, outcome)
        };
        context.spawn(task.into_actor(self).map(
            move |(upload, work, outcome), uploader, context| {
                uploader.settle(partition, &upload, outcome);
                drop((upload, work));
                uploader.pump(partition, context);
            },
        ));
    }

    fn settle(&mut self, partition: i32, upload: &Upload, outcome: Result<Outcome, Failure>) {
        let chain = self.chains.entry(partition).or_default();
        chain.settled();
        match outcome {
            Ok(Outcome::Durable { next_offset }) => {
                if !self.stage.is_fenced() {
                    self.subscriber.hand(ToSubscriber::Committed(Committed {
                        partition,
                        epoch: upload.epoch,
                        next_offset,
                    }));
                }
            }
            Ok(Outcome::Overtaken { resume_at }) => {
                // What follows it, here or still on its way, continues a run that is not in
                // the lake.
                chain.end(upload.epoch);
                self.subscriber.hand(ToSubscriber::Rewind(Rewind {
                    partition,
                    epoch: upload.epoch,
                    offset: resume_at,
                }));
            }
            Ok(Outcome::Fenced) => {}
            Err(error) => {
                // The fence comes down a moment later; the next file must not be put without
                // this one.
                chain.fail();
                self.stage.fail(error);
            }
        }
    }

    fn answer(&self, request: FindChainEnds, work: Work, context: &mut Context<Self>) {
        let (stage, lake) = (self.stage.clone(), self.lake.clone());
        let (outage, subscriber) = (self.outage.clone(), self.subscriber.clone());
        let task = async move {
            let _work = work;
            let FindChainEnds {
                topic,
                partitions,
                request,
            } = request;
            match find_chain_ends(&stage, &lake, &outage, &topic, &partitions).await {
                Ok(footers) => {
                    subscriber.hand(ToSubscriber::ChainEnds(ChainEnds { request, footers }));
                }
                Err(error) => stage.fail(error),
            }
        };
        context.spawn(task.into_actor(self));
    }
}

/// Tries until the file, or another one in its place, is in the lake.
async fn put(
    stage: &Stage,
    lake: &LakeStore,
    outage: &LakeOutage,
    upload: &mut Upload,
) -> Result<Outcome, Failure> {
    {
        let _waiting = stage.progress().waiting();
        for durable in upload.rejections.drain(..) {
            durable.await.map_err(|_| {
                Failure::new(Internal::NeighbourGone, "dead_letters dropped a rejection")
            })?;
        }
    }
    let footer = &upload.file.footer;
    let key = upload.file.name.key();
    let mut retries = Retries::new(stage, outage, &key);
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
            Ok(theirs) => {
                outage.answered(stage);
                theirs
            }
            Err(error) => {
                retries.wait(error).await?;
                continue;
            }
        };
        let took = upload.closed_at.elapsed();
        let bytes = upload.file.bytes.len() as u64;
        if let Some(theirs) = theirs {
            let adoption = on_already_exists(footer, &theirs).map_err(LakeError::from)?;
            if let Adoption::Adopt { resume_at } = adoption {
                metrics::FILES_ADOPTED.add(1);
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
        metrics::ROWS_COMMITTED.add(footer.rows);
        metrics::REJECTIONS_COMMITTED.add(footer.rejected_records);
        metrics::FILES_COMMITTED.add(1);
        metrics::BYTES_COMMITTED.add(bytes);
        metrics::FLUSH_SECONDS.record(took);
        metrics::LAST_COMMIT.set(unix_seconds());
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
    outage: &LakeOutage,
    topic: &str,
    partitions: &[i32],
) -> Result<BTreeMap<i32, Option<Footer>>, Failure> {
    let what = format!("the chain ends of {topic}");
    let mut retries = Retries::new(stage, outage, &what);
    loop {
        let answer = {
            let _waiting = stage.progress().waiting();
            chain_ends(lake, topic, partitions).await
        };
        match answer {
            Ok(mut ends) => {
                outage.answered(stage);
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

/// The chains' ends. Where there is none yet, the lake must not be another topic's.
async fn chain_ends(
    lake: &LakeStore,
    topic: &str,
    partitions: &[i32],
) -> Result<BTreeMap<i32, ChainEnd>, LakeError> {
    let ends = lake.chain_ends(topic, partitions).await?;
    if ends.is_empty() && !partitions.is_empty() {
        lake.check_topic(topic).await?;
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
            if let Ok(files @ 1..) = lake.clear_leftovers().await {
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
                drop(chain.push(upload.epoch, (*upload, work)));
                self.pump(partition, context);
            }
            ToUploader::FindChainEnds(request) => self.answer(request, work, context),
            ToUploader::Close(closing) => {
                for partition in &closing.partitions {
                    let chain = self.chains.entry(*partition).or_default();
                    chain.end(closing.last_epoch);
                }
            }
        }
    }
}
