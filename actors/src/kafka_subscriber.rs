//! Reads the topic as a member of a consumer group and deals its records to the
//! ParquetBuffers.
//!
//! Where a partition starts is decided by the lake (docs/DESIGN.md: the lake is the
//! truth, a committed offset a hint). The consumer's thread never blocks on the
//! lake: it asks the uploader for the chain's end and continues to poll, and it
//! commits an offset only after the uploader said that the file is durable.

mod thread;

use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};

use actix::prelude::*;
use ftap_kafka::KafkaSettings;
use ftap_supervision::{Handed, Outbox, Stage};
use tokio::sync::watch;

use crate::memory::MemoryBudget;
use crate::messages::{ToBuffer, ToSubscriber, ToUploader};

/// What the consumer's thread works with.
pub struct SubscriberParts {
    /// How to reach Kafka.
    pub kafka: Arc<KafkaSettings>,
    /// Decoders; partition `p` belongs to number `p % len`.
    pub buffers: Vec<Outbox<ToBuffer>>,
    /// Knows the lake.
    pub uploader: Outbox<ToUploader>,
    /// Files, open or waiting for the lake, and what was rejected. Beyond it the
    /// partitions are paused.
    pub budget: MemoryBudget,
    /// Records that wait for a decoder. Beyond it the consumer does not poll.
    pub backlog: MemoryBudget,
    /// Turns true when the topic's current end must be reached and flushed.
    pub drain: watch::Receiver<bool>,
}

/// The actor: passes messages to the thread that owns the consumer.
pub struct KafkaSubscriber {
    inbox: Sender<Handed<ToSubscriber>>,
}

impl KafkaSubscriber {
    /// Starts the consumer's thread.
    pub fn new(stage: Stage, parts: SubscriberParts) -> Self {
        let (inbox, messages) = channel();
        // Reading never ends by itself: a thread that makes no step is stuck.
        let reading = stage.progress().begin();
        let for_thread = stage.clone();
        stage.spawn_thread("kafka-subscriber", move || {
            let _reading = reading;
            thread::run(for_thread, parts, &messages)
        });
        Self { inbox }
    }
}

impl Actor for KafkaSubscriber {
    type Context = Context<Self>;
}

impl Handler<Handed<ToSubscriber>> for KafkaSubscriber {
    type Result = ();

    fn handle(&mut self, message: Handed<ToSubscriber>, _: &mut Context<Self>) {
        // A thread that has ended has reported its own fault.
        let _ = self.inbox.send(message);
    }
}
