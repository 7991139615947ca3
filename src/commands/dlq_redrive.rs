//! `ftap dlq redrive`, and the same from the page of messages: rejected records go back, each exactly once.
//!
//! Promises: whatever is checked is checked before anything is sent. Both topics are
//! read only after every other redrive of the topic is fenced off, so nothing that is sent
//! here was sent by another, killed or alive, before.

use std::collections::BTreeSet;
use std::time::Instant;

use anyhow::Context as _;
use ftap_kafka::EntryId;
use ftap_kafka::KafkaSettings;
use ftap_lake::LakeStore;
use ftap_telemetry::events::{RedriveFinished, Speaker};
use ftap_telemetry::figures::count;
use ftap_verify::topics::Topics;
use serde_json::json;

use crate::config::Config;
use crate::dlq::args::RedriveArgs;
use crate::dlq::index::{Index, Original, Sight};
use crate::dlq::plan::{self, Counts, Refusals, Wanted};
use crate::dlq::sender::Sender;
use crate::dlq::settled;
use crate::exit::BadUsage;
use crate::kafka_access::KafkaAccess;
use crate::output::print;

/// Redrives, and reports what happened to each requested entry.
pub(crate) fn execute(config: &Config, args: &RedriveArgs) -> anyhow::Result<()> {
    let began = Instant::now();
    let mut counts = Counts::default();
    let wanted = wanted(config, args, &mut counts)?;
    let kafka = KafkaAccess::open(config)?;
    let settings = config.kafka_settings(kafka.bootstrap());
    let options = Options {
        force: args.force,
        unknown: args.unknown,
        dry_run: args.dry_run,
    };
    let transactions = redrive(config, &settings, &wanted, options, &mut counts).map_err(usage)?;
    if args.json {
        print(&format!(
            "{}\n",
            json!({
                "dry_run": args.dry_run,
                "entries": counts,
                "transactions": transactions,
                "duration_ms": began.elapsed().as_millis() as u64,
            })
        ))
    } else {
        print(&summary(&counts, args.dry_run))
    }
}

/// How entries are redriven.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Options {
    /// Also what will be rejected again.
    pub force: bool,
    /// Also what may have been redriven before.
    pub unknown: bool,
    /// Only says what would be sent.
    pub dry_run: bool,
}

/// Redrives what is wanted; returns the number of transactions. What can't be sent although it was named are
/// [`Refusals`], and then nothing is.
pub(crate) fn redrive(
    config: &Config,
    settings: &KafkaSettings,
    wanted: &Wanted,
    options: Options,
    counts: &mut Counts,
) -> anyhow::Result<u64> {
    let began = Instant::now();
    let topics = Topics::new(settings)?;
    let partitions = topics.watermarks(&settings.topic)?.with_context(|| {
        format!(
            "there is no topic {} at {}: check KAFKA_TOPIC",
            settings.topic, settings.bootstrap_servers
        )
    })?;
    // A dry run must not end a redrive that is under way.
    let mut sender = if options.dry_run {
        None
    } else {
        Some(Sender::open(settings, config.transaction_rows)?)
    };
    let redrive = Redrive {
        config,
        settings,
        wanted,
        options,
    };
    let sight = if options.dry_run {
        Sight::Now
    } else {
        Sight::Whole
    };
    let index = Index::read(config, settings, &topics, sight)?;
    let mut transactions = 0;
    if !index.is_nothing() {
        let chosen = redrive.choose(&index, partitions.len(), counts)?;
        match &mut sender {
            Some(sender) => {
                redrive.send(&index, &chosen, sender)?;
                counts.redriven = sender.sent;
                transactions = sender.transactions;
            }
            None => counts.redriven = chosen.len() as u64,
        }
    } else if !matches!(wanted, Wanted::Open(_)) {
        return Err(BadUsage(index.nothing()).into());
    }
    if !options.dry_run {
        RedriveFinished {
            topic: settings.topic.clone(),
            redriven: counts.redriven,
            already_redriven: counts.already_redriven,
            left: counts.left(),
            transactions,
            duration_ms: began.elapsed().as_millis() as u64,
        }
        .emit(Speaker::PROCESS);
    }
    Ok(transactions)
}

/// What was named and can't be sent is wrong usage.
fn usage(error: anyhow::Error) -> anyhow::Error {
    match error.downcast::<Refusals>() {
        Ok(refusals) => BadUsage(refusals.to_string()).into(),
        Err(other) => other,
    }
}

/// What was asked for; of a file, every line is read and checked.
fn wanted(config: &Config, args: &RedriveArgs, counts: &mut Counts) -> anyhow::Result<Wanted> {
    if let Some(path) = &args.from {
        let mut refusals = Refusals::default();
        let limit = config.max_message_bytes;
        let repairs =
            plan::read_repairs(plan::open(path)?, limit, args.force, counts, &mut refusals)
                .with_context(|| format!("reading {}", path.display()))?;
        refuse(refusals).map_err(usage)?;
        return Ok(Wanted::Repaired(repairs));
    }
    Ok(match &args.ids {
        Some(ids) => Wanted::Ids(ids.iter().copied().collect()),
        None => Wanted::Open(args.reason.clone()),
    })
}

fn refuse(refusals: Refusals) -> anyhow::Result<()> {
    if refusals.is_empty() {
        Ok(())
    } else {
        Err(refusals.into())
    }
}

struct Redrive<'a> {
    config: &'a Config,
    settings: &'a KafkaSettings,
    wanted: &'a Wanted,
    options: Options,
}

impl Redrive<'_> {
    /// The entries to send; an error if one that was named can't be.
    fn choose(
        &self,
        index: &Index<'_>,
        partitions: usize,
        counts: &mut Counts,
    ) -> anyhow::Result<BTreeSet<EntryId>> {
        let mut refusals = Refusals::default();
        let unknown = self.options.unknown;
        let mut chosen = self
            .wanted
            .choose(index, partitions, unknown, counts, &mut refusals);
        let store = LakeStore::open(&self.config.lake())?;
        let settled = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("the runtime can't be started")?
            .block_on(settled::look_up(&store, &self.settings.topic, &chosen))?;
        self.wanted
            .settle(&mut chosen, &settled, counts, &mut refusals);
        if !self.options.force && !matches!(self.wanted, Wanted::Repaired(_)) {
            let limit = self.config.max_message_bytes;
            let mut good = BTreeSet::new();
            index.payloads(
                |entry| chosen.contains(&entry.id),
                |entry, original| {
                    let payload = original.payload;
                    let own =
                        self.wanted
                            .check_own(entry.id, payload, limit, counts, &mut refusals);
                    if own {
                        good.insert(entry.id);
                    }
                    Ok(())
                },
            )?;
            chosen = good;
        }
        refuse(refusals)?;
        Ok(chosen)
    }

    fn send(
        &self,
        index: &Index<'_>,
        chosen: &BTreeSet<EntryId>,
        sender: &mut Sender,
    ) -> anyhow::Result<()> {
        index.payloads(
            |entry| chosen.contains(&entry.id),
            |entry, original| match self.wanted.repaired(entry.id) {
                Some(repaired) => sender.send(
                    entry,
                    &Original {
                        payload: repaired.payload.as_deref(),
                        key: original.key,
                        headers: original.headers.clone(),
                    },
                ),
                None => sender.send(entry, original),
            },
        )?;
        sender.close()
    }
}

fn summary(counts: &Counts, dry_run: bool) -> String {
    let sent = if dry_run {
        "would be redriven; nothing was sent"
    } else {
        "redriven"
    };
    if *counts == Counts::default() {
        return "nothing to redrive: no entry asked for is open; `ftap dlq list --by-reason` shows what there is\n".to_owned();
    }
    let mut out = format!("{} {sent}\n", count(counts.redriven));
    for (number, what) in [
        (counts.already_redriven, "were redriven before: skipped"),
        (
            counts.rows_of_the_lake,
            "are rows of the lake already: skipped",
        ),
        (counts.repeated_lines, "lines repeat another one: skipped"),
        (
            counts.left_invalid,
            "would be rejected again: left (`ftap dlq list --export` writes them for repair)",
        ),
        (
            counts.left_truncated,
            "hold only the beginning of their payload: left",
        ),
        (
            counts.left_unsettled,
            "are in no file of the lake yet: left; `ftap consume --until-drained` writes them",
        ),
        (
            counts.left_unknown,
            "may have been redriven before, the topic no longer has all that followed them: left (--unknown sends them)",
        ),
    ] {
        if number > 0 {
            out.push_str(&format!("{} {what}\n", count(number)));
        }
    }
    out
}
