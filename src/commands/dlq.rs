//! `ftap dlq list` and `show`: what is in quarantine, for people and programs.
//!
//! Promises: nothing that a message holds reaches a terminal unescaped, except by `--raw`;
//! memory does not grow with the payloads. Reads only.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::Context as _;
use ftap_kafka::EntryId;
use ftap_telemetry::figures::{count, size};
use ftap_verify::topics::Topics;
use serde_json::json;

use crate::config::Config;
use crate::dlq::args::{DlqAction, DlqArgs, ListArgs, ShowArgs, State};
use crate::dlq::index::{Entry, Fate, Index, Original, Sight};

use crate::dlq::{line, shown};
use crate::exit::{self, BadUsage};
use crate::kafka_access::KafkaAccess;
use crate::output::print;

/// Text collected before it is printed.
const CHUNK: usize = 64 * 1024;

/// Does what was asked for.
pub(crate) fn execute(config: &Config, args: &DlqArgs) -> anyhow::Result<u8> {
    if let DlqAction::Redrive(args) = &args.action {
        super::dlq_redrive::execute(config, args)?;
        return Ok(exit::DONE);
    }
    let kafka = KafkaAccess::open_to_read(config)?;
    let settings = config.kafka_settings(kafka.bootstrap());
    let topics = Topics::new(&settings)?;
    let index = Index::read(config, &settings, &topics, Sight::Now)?;
    let nothing = index.is_nothing().then(|| index.nothing());
    match (&args.action, nothing) {
        (DlqAction::Show(_), Some(nothing)) => return Err(BadUsage(nothing).into()),
        (DlqAction::Show(args), None) => show(&index, args)?,
        (DlqAction::List(args), None) => list(&index, args)?,
        (DlqAction::List(args), Some(nothing)) => {
            let is_for_people = !args.json && args.export.is_none();
            if is_for_people {
                print(&format!("{nothing}\n"))?;
            }
        }
        (DlqAction::Redrive(_), _) => {}
    }
    Ok(exit::DONE)
}

fn list(index: &Index<'_>, args: &ListArgs) -> anyhow::Result<()> {
    let fits = |entry: &Entry| {
        args.reason
            .as_ref()
            .is_none_or(|reason| entry.has_reason(reason))
            && args
                .partition
                .is_none_or(|partition| entry.id.partition == partition)
    };
    let is_wanted = |entry: &Entry| {
        fits(entry)
            && match args.state {
                State::Open => !entry.is_redriven(),
                State::Redriven => entry.is_redriven(),
                State::All => true,
            }
    };
    if let Some(path) = &args.export {
        return export(index, path, is_wanted);
    }
    if !args.by_reason {
        let mut entries: Vec<&Entry> = index.entries.values().filter(|e| is_wanted(e)).collect();
        entries.sort_by_key(|entry| std::cmp::Reverse((entry.rejected_ms, entry.id)));
        entries.truncate(args.limit.unwrap_or(usize::MAX));
        if args.json {
            return print_all(entries.iter().map(|entry| json_of(entry)));
        }
        table(&entries)?;
    }
    let mut reasons: BTreeMap<&str, Reason> = BTreeMap::new();
    for entry in index.entries.values().filter(|entry| fits(entry)) {
        reasons.entry(&entry.reason).or_default().add(entry);
    }
    if args.json {
        print_all(reasons.iter().map(|(reason, all)| {
            let line = json!({
                "reason": reason,
                "open": all.open,
                "redriven": all.redriven,
                "unknown": all.unknown,
                "bytes": all.bytes,
            });
            shown::json(&format!("{line}\n"))
        }))
    } else {
        by_reason(index, &reasons)
    }
}

/// How many entries have a reason.
#[derive(Default)]
struct Reason {
    /// Those of unknown state included.
    open: u64,
    unknown: u64,
    redriven: u64,
    bytes: u64,
}

impl Reason {
    fn add(&mut self, entry: &Entry) {
        match entry.fate {
            Fate::Redriven => self.redriven += 1,
            Fate::Open => self.open += 1,
            Fate::Unknown => {
                self.open += 1;
                self.unknown += 1;
            }
        }
        self.bytes += entry.bytes;
    }
}

fn print_all(lines: impl Iterator<Item = String>) -> anyhow::Result<()> {
    let mut chunk = String::new();
    for line in lines {
        chunk.push_str(&line);
        if chunk.len() >= CHUNK {
            print(&chunk)?;
            chunk.clear();
        }
    }
    print(&chunk)
}

fn json_of(entry: &Entry) -> String {
    let line = json!({
        "id": entry.id.to_string(),
        "partition": entry.id.partition,
        "offset": entry.id.offset,
        "rejected_at": shown::known_time(entry.rejected_ms),
        "written_at": shown::known_time(entry.written_ms),
        "reason": &*entry.reason,
        "bytes": entry.bytes,
        "truncated": entry.is_truncated,
        "state": entry.fate.as_str(),
    });
    shown::json(&format!("{line}\n"))
}

fn table(entries: &[&Entry]) -> anyhow::Result<()> {
    let lengths = entries.iter().map(|entry| entry.id.to_string().len());
    let width = lengths.max().unwrap_or(0).max(2);
    let head = format!(
        "{:width$}  {:24}  {:8}  {:>9}  reason\n",
        "id", "rejected", "state", "size"
    );
    let line = |entry: &&Entry| {
        let size = if entry.is_truncated {
            format!(">{}", size(entry.bytes))
        } else {
            size(entry.bytes)
        };
        format!(
            "{:width$}  {:24}  {:8}  {size:>9}  {}\n",
            entry.id.to_string(),
            shown::time(entry.rejected_ms),
            entry.fate.as_str(),
            shown::text(&entry.reason),
        )
    };
    if entries.is_empty() {
        return Ok(());
    }
    print_all(std::iter::once(head).chain(entries.iter().map(line)))?;
    print("\n")
}

fn by_reason(index: &Index<'_>, reasons: &BTreeMap<&str, Reason>) -> anyhow::Result<()> {
    let (mut open, mut unknown, mut redriven, mut bytes) = (0, 0, 0, 0);
    let mut out = format!("{:>9}  {:>9}  {:>9}  reason\n", "open", "redriven", "size");
    for (reason, all) in reasons {
        out.push_str(&format!(
            "{:>9}  {:>9}  {:>9}  {}\n",
            count(all.open),
            count(all.redriven),
            size(all.bytes),
            shown::text(reason)
        ));
        open += all.open;
        unknown += all.unknown;
        redriven += all.redriven;
        bytes += all.bytes;
    }
    out.push_str(&format!(
        "{:>9}  {:>9}  {:>9}  all of {}\n",
        count(open),
        count(redriven),
        size(bytes),
        index.places(),
    ));
    if unknown > 0 {
        out.push_str(&format!(
            "{} of the open ones may have been redriven before: the topic no longer has all that followed them. Their state is `unknown`, and `ftap dlq redrive` sends them only with --unknown\n",
            count(unknown)
        ));
    }
    if index.foreign > 0 {
        out.push_str(&format!(
            "{} other records of the dead-letter topic are no entries\n",
            count(index.foreign)
        ));
    }
    print(&out)
}

fn export(
    index: &Index<'_>,
    path: &Path,
    is_wanted: impl Fn(&Entry) -> bool,
) -> anyhow::Result<()> {
    let is_stdout = path == Path::new("-");
    let (mut entries, mut truncated) = (0, 0);
    let mut each = |write: &mut dyn FnMut(&str) -> anyhow::Result<()>| {
        index.in_order(&is_wanted, |entry, original| {
            entries += 1;
            truncated += u64::from(entry.is_truncated);
            write(&line::write(entry, original))
        })
    };
    if is_stdout {
        return each(&mut |line| print(line));
    }
    // Never over a file: it may hold repairs in progress.
    let file = File::create_new(path).map_err(|error| {
        BadUsage(format!(
            "--export {}: {error}: name a new file",
            path.display()
        ))
    })?;
    let mut out = BufWriter::new(file);
    let written = each(&mut |line| Ok(out.write_all(line.as_bytes())?))
        .and_then(|()| Ok(out.flush()?))
        .with_context(|| format!("writing {}", path.display()));
    if written.is_err() {
        // Half a file would pass for all of it. The error is reported whether this succeeds or not.
        let _ = std::fs::remove_file(path);
    }
    written?;
    let path = path.display();
    print(&format!(
        "{} entries in {path}: edit `payload` where it is wrong, then `ftap dlq redrive --from {path}`\n",
        count(entries),
    ))?;
    if truncated > 0 {
        print(&format!(
            "{} of them hold only the beginning of their payload (`truncated`): complete them or leave them out\n",
            count(truncated)
        ))?;
    }
    Ok(())
}

fn show(index: &Index<'_>, args: &ShowArgs) -> anyhow::Result<()> {
    if args.raw && args.ids.len() != 1 {
        return Err(BadUsage("--raw writes one entry: name one id".to_owned()).into());
    }
    let wanted: BTreeSet<EntryId> = args.ids.iter().copied().collect();
    if let Some(unknown) = wanted.iter().find(|id| !index.entries.contains_key(id)) {
        return Err(BadUsage(format!(
            "there is no entry {unknown} in {}: `ftap dlq list --state all` lists them",
            index.places()
        ))
        .into());
    }
    let mut is_first = true;
    index.in_order(
        |entry| wanted.contains(&entry.id),
        |entry, original| {
            if args.raw {
                return raw(original.payload.unwrap_or_default());
            }
            if args.json {
                return print(&line::write(entry, original));
            }
            let gap = if is_first { "" } else { "\n" };
            is_first = false;
            print(&format!("{gap}{}", whole(entry, original)))
        },
    )
}

fn raw(payload: &[u8]) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(payload).and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {
            Err(exit::OutputClosed.into())
        }
        Err(error) => Err(anyhow::Error::new(error).context("stdout can't be written")),
    }
}

/// The record as it was, and what is known of it: none of our own headers, which say just that.
fn whole(entry: &Entry, original: &Original<'_>) -> String {
    let cut = if entry.is_truncated {
        ", only the beginning of it: the topic has the rest as long as it keeps the record"
    } else {
        ""
    };
    let mut out = format!(
        "id        {}\nstate     {}\nreason    {}\nrejected  {}\nwritten   {}\nsize      {} bytes{cut}\n",
        entry.id,
        entry.fate.as_str(),
        shown::text(&entry.reason),
        shown::time(entry.rejected_ms),
        shown::time(entry.written_ms),
        count(entry.bytes),
    );
    let value = |value: Option<&[u8]>| value.map_or("none (null)".to_owned(), shown::bytes);
    out.push_str(&format!("key       {}\n", value(original.key)));
    for (name, header) in &original.headers {
        out.push_str(&format!(
            "header    {}: {}\n",
            shown::text(name),
            value(*header)
        ));
    }
    out.push_str(&format!("payload   {}\n", value(original.payload)));
    out
}
