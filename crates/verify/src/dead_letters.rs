//! Reads the rejected records that the lake keeps.
//!
//! Promises: of the objects only those are read that count, each whole; one row group of one is in
//! memory at a time. What can't be read is a problem, and what it held is then missing.

use ftap_lake::{
    DeadLetterName, LakeError, LakeStore, RejectedRecord, footer_if_it_counts, list_dead_letters,
    read_dead_letters,
};
use ftap_telemetry::chain;
use tokio::runtime::Handle;

use crate::BACKOFF;
use crate::content;
use crate::items::{DeadLetter, TOO_LARGE};
use crate::ledger::Ledger;
use crate::problem::Kind;
use crate::topic::content_of_rejected;

/// Tells the ledger what is kept in the lake.
pub(crate) fn read(
    store: &LakeStore,
    topic: &str,
    runtime: &Handle,
    ledger: &mut Ledger,
) -> anyhow::Result<()> {
    let list = async || list_dead_letters(store, topic).await;
    let names = runtime.block_on(BACKOFF.retry(list, |_, _| {}))?;
    for name in names {
        let result = runtime.block_on(read_object(store, &name, ledger));
        match result {
            Err(error @ LakeError::Object { .. }) => {
                let partition = Some(name.file().partition());
                let detail = chain(&error);
                ledger.object_problem(Kind::UnreadableObject, partition, &name.key(), detail);
            }
            other => other?,
        }
    }
    Ok(())
}

async fn read_object(
    store: &LakeStore,
    name: &DeadLetterName,
    ledger: &mut Ledger,
) -> Result<(), LakeError> {
    let look = async || footer_if_it_counts(store, name).await;
    let Some(footer) = BACKOFF.retry(look, |_, _| {}).await? else {
        return Ok(());
    };
    let partition = name.file().partition();
    let read = async || {
        let mut letters = Vec::new();
        read_dead_letters(store, name, &footer, |record| {
            letters.push(letter(partition, record));
            Ok::<_, LakeError>(())
        })
        .await?;
        Ok::<_, LakeError>(letters)
    };
    for letter in BACKOFF.retry(read, |_, _| {}).await? {
        ledger.dead_letter(letter);
    }
    Ok(())
}

fn letter(partition: i32, record: &RejectedRecord<'_>) -> DeadLetter {
    let payload = record.payload;
    let is_too_large = record.reason == TOO_LARGE;
    DeadLetter {
        partition,
        offset: record.offset,
        reason: record.reason.to_owned(),
        raw: Some(content::raw_hash(payload)),
        content: is_too_large
            .then(|| content_of_rejected(payload, record.timestamp_ms))
            .flatten(),
        is_in_lake: true,
    }
}
