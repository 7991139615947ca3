//! The rejected records that the lake keeps.

use std::time::Duration;

use anyhow::Context as _;
use ftap_kafka::EntryId;
use ftap_lake::{
    DeadLetterFooter, DeadLetterName, LakeLocation, LakeStore, RejectedRecord, dead_letters_of,
    read_dead_letters,
};
use tokio::runtime::{Builder, Runtime};

use crate::config::Config;

/// The objects of dead letters that count, at one moment.
pub(crate) struct LakeLetters {
    runtime: Runtime,
    /// `None` as long as there is no lake.
    store: Option<LakeStore>,
    objects: Vec<(DeadLetterName, DeadLetterFooter)>,
}

impl LakeLetters {
    /// Looks for them; none is read. An error if that takes longer than `patience`.
    pub(crate) fn find(config: &Config, patience: Duration) -> anyhow::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.context("the runtime can't be started")?;
        let location = config.lake();
        let is_there = match &location {
            LakeLocation::Local(folder) => folder.exists(),
            LakeLocation::Gcs { .. } => true,
        };
        if !is_there {
            return Ok(Self {
                runtime,
                store: None,
                objects: Vec::new(),
            });
        }
        let store = LakeStore::open_to_read(&location)?;
        let objects = runtime
            .block_on(async {
                tokio::time::timeout(patience, dead_letters_of(&store, &config.kafka_topic)).await
            })
            .with_context(|| {
                format!(
                    "{} was not listed within {} s",
                    store.describe(),
                    patience.as_secs()
                )
            })??;
        Ok(Self {
            runtime,
            store: Some(store),
            objects,
        })
    }

    /// How many objects there are, which are numbered from 0.
    pub(crate) fn count(&self) -> usize {
        self.objects.len()
    }

    /// The object's key.
    pub(crate) fn key(&self, object: usize) -> String {
        let found = self.objects.get(object);
        found.map_or_else(String::new, |(name, _)| name.key())
    }

    /// Hands over the records of an object, in order.
    pub(crate) fn each(
        &self,
        object: usize,
        mut take: impl FnMut(EntryId, &RejectedRecord<'_>) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let (Some(store), Some((name, footer))) = (&self.store, self.objects.get(object)) else {
            return Ok(());
        };
        let partition = name.file().partition();
        let read = read_dead_letters(store, name, footer, |record| {
            let offset = record.offset;
            take(EntryId { partition, offset }, record)
        });
        self.runtime.block_on(read)
    }
}
