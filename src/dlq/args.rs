//! The options of `ftap dlq`.

use std::path::PathBuf;

use clap::{ArgGroup, Args, Subcommand, ValueEnum};
use ftap_kafka::EntryId;

use crate::cli::whole;

/// What to do with the quarantine.
#[derive(Clone, Debug, Args)]
pub(crate) struct DlqArgs {
    /// What to do.
    #[command(subcommand)]
    pub action: DlqAction,
}

/// See [`DlqArgs`].
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum DlqAction {
    /// List rejected records, newest first, and how many there are for each reason
    ///
    /// Times are UTC. Counts by reason follow at the end and leave --state and --limit aside.
    #[command(
        after_help = "Examples:\n  ftap dlq list --limit 20\n  ftap dlq list --by-reason\n  ftap dlq list --reason missing_field --export repair.jsonl"
    )]
    List(ListArgs),
    /// Show rejected records whole: where from, why, their key, headers and payload
    #[command(
        after_help = "Examples:\n  ftap dlq show 2-1234\n  ftap dlq show 2-1234 --raw > payload.bin"
    )]
    Show(ShowArgs),
    /// Send rejected records back, repaired or as they are, each exactly once
    ///
    /// All of the file is checked before anything of it is sent: a payload that would be rejected again is
    /// named with its line. What is redriven already is skipped, so the same command may be repeated after
    /// any failure. A second redrive of the topic takes the place of one that is running.
    #[command(
        after_help = "Examples:\n  ftap dlq list --export repair.jsonl      then edit the payloads\n  ftap dlq redrive --from repair.jsonl --dry-run\n  ftap dlq redrive --from repair.jsonl\n  ftap dlq redrive --reason too_large       as they are, after MAX_MESSAGE_BYTES was raised"
    )]
    Redrive(RedriveArgs),
}

/// Which entries, by what was done about them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum State {
    /// Not redriven yet, or not known to be
    Open,
    /// Redriven
    Redriven,
    /// Both
    All,
}

/// Options of `ftap dlq list`.
#[derive(Clone, Debug, Args)]
pub(crate) struct ListArgs {
    /// Only this reason, `missing_field:user_id`, or this kind of reason, `missing_field`
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// Only records of this partition of the topic
    #[arg(long, value_name = "N", value_parser = whole(0_i32..))]
    pub partition: Option<i32>,
    /// Only entries in this state
    #[arg(long, default_value = "open")]
    pub state: State,
    /// List the newest N only
    #[arg(long, value_name = "N", value_parser = whole(0_usize..))]
    pub limit: Option<usize>,
    /// Print only the counts by reason
    #[arg(long)]
    pub by_reason: bool,
    /// Print JSON, one object a line, without the counts (or only them, with --by-reason)
    #[arg(long)]
    pub json: bool,
    /// Write the entries with their payloads to a new file, by partition and offset, to be edited and redriven; - is stdout
    #[arg(long, value_name = "FILE", conflicts_with_all = ["json", "by_reason", "limit"])]
    pub export: Option<PathBuf>,
}

/// Options of `ftap dlq show`.
#[derive(Clone, Debug, Args)]
pub(crate) struct ShowArgs {
    /// Ids of the entries: {partition}-{offset} of the rejected record
    #[arg(value_name = "ID", required = true)]
    pub ids: Vec<EntryId>,
    /// Write the payload of one entry to stdout, byte for byte
    #[arg(long, conflicts_with = "json")]
    pub raw: bool,
    /// Print JSON, one object a line, as --export writes it
    #[arg(long)]
    pub json: bool,
}

/// Options of `ftap dlq redrive`.
#[derive(Clone, Debug, Args)]
#[command(group = ArgGroup::new("what").required(true))]
pub(crate) struct RedriveArgs {
    /// Repaired entries as JSON lines, as `list --export` writes them; - is stdin
    #[arg(long, value_name = "FILE", group = "what")]
    pub from: Option<PathBuf>,
    /// These entries as they are
    #[arg(long, value_name = "ID", value_delimiter = ',', group = "what")]
    pub ids: Option<Vec<EntryId>>,
    /// The open entries of this reason as they are; those that would be rejected again stay
    #[arg(long, value_name = "TEXT", group = "what")]
    pub reason: Option<String>,
    /// All open entries as they are; those that would be rejected again stay
    #[arg(long, group = "what")]
    pub all: bool,
    /// Check everything and say what would be sent; send nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Send also what will be rejected again; it comes back as a new entry
    #[arg(long)]
    pub force: bool,
    /// Send also entries of the lake that may have been sent before: the topic no longer has all that followed their records
    #[arg(long)]
    pub unknown: bool,
    /// Print the result as one JSON object
    #[arg(long)]
    pub json: bool,
}
