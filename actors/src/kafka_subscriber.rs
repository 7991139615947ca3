//! Reads the topic as a member of a consumer group and deals its records to the
//! ParquetBuffers.
//!
//! Where a partition starts is decided by the lake (docs/DESIGN.md: the lake is the
//! truth, a committed offset a hint). The consumer's thread never blocks on the
//! lake: it asks the uploader for the chain's end and goes on polling, and it
//! commits an offset only after the uploader said that the file is durable.

pub mod partition;
mod thread;

use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};

use actix::prelude::*;
use ftap_kafka::KafkaSettings;
use ftap_supervision::Stage;
use tokio::sync::watch;

use crate::gcs_uploader::GcsUploader;
use crate::memory::MemoryBudget;
use crate::messages::{ChainEnds, Committed, Rewind};
use crate::parquet_buffer::ParquetBuffer;

/// What the other stages tell the consumer's thread.
enum Command {
    Committed(Committed),
    Rewind(Rewind),
    ChainEnds(ChainEnds),
}

/// What the consumer's thread works with.
pub struct SubscriberParts {
    /// How to reach Kafka.
    pub kafka: Arc<KafkaSettings>,
    /// Decoders; partition `p` belongs to number `p % len`.
    pub buffers: Vec<(Addr<ParquetBuffer>, Stage)>,
    /// Knows the lake.
    pub uploader: Addr<GcsUploader>,
    /// Files, open or waiting for the lake, and what was rejected. Beyond it the
    /// partitions are paused.
    pub budget: MemoryBudget,
    /// Records that wait for a decoder. Beyond it the consumer does not poll.
    pub backlog: MemoryBudget,
    /// Turns true when the topic's present end is to be reached and flushed.
    pub drain: watch::Receiver<bool>,
}

/// The actor: passes word to the thread that owns the consumer.
pub struct KafkaSubscriber {
    commands: Sender<Command>,
}

impl KafkaSubscriber {
    /// Starts the consumer's thread; `address` is this actor's own.
    pub fn new(stage: Stage, parts: SubscriberParts, address: Addr<Self>) -> Self {
        let (commands, inbox) = channel();
        stage.progress().add_work(1);
        let for_thread = stage.clone();
        stage.spawn_thread("kafka-subscriber", move || {
            thread::run(for_thread, parts, address, &inbox)
        });
        Self { commands }
    }

    fn tell(&self, command: Command) {
        // A thread that has ended has its own fault; nobody is left to be told.
        let _ = self.commands.send(command);
    }
}

impl Actor for KafkaSubscriber {
    type Context = Context<Self>;
}

impl Handler<Committed> for KafkaSubscriber {
    type Result = ();

    fn handle(&mut self, message: Committed, _: &mut Context<Self>) {
        self.tell(Command::Committed(message));
    }
}

impl Handler<Rewind> for KafkaSubscriber {
    type Result = ();

    fn handle(&mut self, message: Rewind, _: &mut Context<Self>) {
        self.tell(Command::Rewind(message));
    }
}

impl Handler<ChainEnds> for KafkaSubscriber {
    type Result = ();

    fn handle(&mut self, message: ChainEnds, _: &mut Context<Self>) {
        self.tell(Command::ChainEnds(message));
    }
}
