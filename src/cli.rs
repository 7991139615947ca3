//! The command line: subcommands by derive, and one flag for every setting that is no secret.
//!
//! The setting flags are made from the settings' own table, so that a new setting has its flag and
//! its help text at once. `-h` leaves them out, `--help` lists them.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use chrono::{DateTime, NaiveDate, Utc};
use clap::{Arg, Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

use crate::config::catalogue::SETTINGS;
use crate::dlq::args::DlqArgs;
use crate::verify::VerifyArgs;

/// What the user asked for.
#[derive(Debug, Parser)]
#[command(
    name = "ftap",
    version,
    about = "Replays card transactions through Kafka into an exactly-once Parquet lake",
    after_help = "Examples:\n  \
        ftap                                   everything in one process, with data made on the spot\n  \
        ftap run --until-drained               the same, ends when all of it is in the lake\n  \
        ftap verify                            proves that every row is there exactly once\n  \
        ftap prepare fraud_data.csv            splits the Kaggle file for `ftap run`\n  \
        KAFKA_BROKER=kafka:9092 ftap produce   one half, against your own Kafka\n\n\
        Settings come from flags, the environment, `.env` and defaults, in this order:\n\
        `ftap --help` lists them as flags, `ftap config` shows what is in effect.\n\n\
        Logs go to stderr, results to stdout.\n\
        Exit codes: 0 done, 1 a stage gave up, 2 bad usage or settings, 3 `verify` found loss or duplication.",
    max_term_width = 110
)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

/// A subcommand; without one it is `run`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// All stages in one process: CSV, Kafka, Parquet lake (the default)
    ///
    /// Without KAFKA_BROKER an embedded Kafka broker serves, its data in DATA_DIR. Without an events file,
    /// 200,000 transactions are generated and prepared first. Ctrl-C flushes and stops; the next run
    /// goes on where this one stopped. At the end a summary is printed.
    Run(RunArgs),
    /// Publish the events file to Kafka, then end
    ///
    /// Ends by itself at the end of the file. After a crash it goes on with the first row that the topic
    /// lacks; two of them for one topic fence each other off.
    #[command(after_help = "Example:\n  KAFKA_BROKER=kafka:9092 PRODUCE_SPEED=max ftap produce")]
    Produce(ProduceArgs),
    /// Write the topic to the lake, until stopped
    ///
    /// Any number of processes with the same KAFKA_CONSUMER_GROUP share the topic's partitions.
    #[command(
        after_help = "Example:\n  KAFKA_BROKER=kafka:9092 GCS_BUCKET_NAME=my-lake ftap consume"
    )]
    Consume(ConsumeArgs),
    /// Run the batch jobs by their schedules, until stopped
    ///
    /// Changes some users in PostgreSQL (UPDATE_USERS_SCHEDULE) and writes FX rates to the lake
    /// (INGEST_FX_SCHEDULE), each once at start and then by cron. A run that was done is not done again,
    /// whoever was killed when. With BIGQUERY_PROJECT it also loads what all processes put into the lake, every
    /// BIGQUERY_LOAD_SECONDS. Without PostgreSQL the others go on alone.
    #[command(
        after_help = "Examples:\n  POSTGRES_HOST=db POSTGRES_PASSWORD=secret ftap batch\n  ftap batch --once users\n  FREECURRENCYAPI_API_KEY=... ftap batch --once fx"
    )]
    Batch(BatchArgs),
    /// Generate a data set of the Kaggle file's shape; same seed, same bytes
    #[command(after_help = "Example:\n  ftap generate --rows 1296675 --seed 1 --out big")]
    Generate(GenerateArgs),
    /// Split the Kaggle CSV into events, users and merchants
    ///
    /// Broken rows go to `rejected.csv` beside them, with line number and reason.
    #[command(
        after_help = "Examples:\n  ftap prepare credit_card_transactions.csv\n  ftap prepare --kaggle\n  ftap prepare --generate 200000    unless the prepared files are there"
    )]
    Prepare(PrepareArgs),
    /// Account for every row and every offset: source file, topic, lake
    ///
    /// Reads all three itself and trusts no counter. Exit code 0 only if every row is in the lake exactly once.
    Verify(VerifyArgs),
    /// Print the topic's live messages, a sample of them, as JSON lines
    #[command(
        after_help = "Examples:\n  ftap tap\n  ftap tap --rate 100 --from beginning --count 1000 | jq .message.currency"
    )]
    Tap(TapArgs),
    /// Look at what was rejected, and send it back repaired
    ///
    /// A message that can't become a row is kept in the topic {KAFKA_TOPIC}.dlq, its quarantine.
    #[command(
        after_help = "Examples:\n  ftap dlq list --by-reason\n  ftap dlq show 2-1234\n  ftap dlq list --export repair.jsonl && ftap dlq redrive --from repair.jsonl"
    )]
    Dlq(DlqArgs),
    /// Write the FX rates of past days to the lake, one object a day
    ///
    /// From the API's historical endpoint, one request a day; without FREECURRENCYAPI_API_KEY rates are made
    /// up and marked `offline`. Days that are there already cost nothing, so it can be run again.
    #[command(after_help = "Example:\n  ftap fx --date 2019-01-01 --to 2020-06-21")]
    Fx(FxArgs),
    /// Load what is in the lake and not yet in BigQuery, and end
    ///
    /// `ftap run` and `ftap batch` do the same all the time where BIGQUERY_PROJECT and BIGQUERY_DATASET are
    /// set. Each object is loaded exactly once, whoever loads it and however often this is run.
    #[command(
        after_help = "Example:\n  GCS_BUCKET_NAME=my-lake BIGQUERY_PROJECT=my-project BIGQUERY_DATASET=platform ftap load"
    )]
    Load(LoadArgs),
    /// Show the settings in effect and where each came from, secrets masked
    Config(ConfigArgs),
    /// Ask the process that serves DASHBOARD_ADDR whether it is alive: exit code 0 for yes, 1 for no
    ///
    /// For health checks of containers. Needs no DASHBOARD_TOKEN.
    Health(HealthArgs),
    /// Watch Kafka, the lake and PostgreSQL, and show them on DASHBOARD_ADDR, until stopped
    ///
    /// Starts nothing and changes nothing. What does not answer is shown as down, with the reason.
    #[command(
        after_help = "Examples:\n  KAFKA_BROKER=kafka:9092 POSTGRES_HOST=db POSTGRES_PASSWORD=secret ftap serve\n  DATA_DIR=data ftap serve     beside `ftap batch`, `ftap cdc` and `ftap kafka`"
    )]
    Serve,
    /// Capture the changes of users and merchants in PostgreSQL into the lake, until stopped
    ///
    /// The first start copies the tables, then every insert, update and delete follows, each exactly once and
    /// in the order of the commits. Stopped or killed, the next start goes on where the lake ends.
    #[command(
        after_help = "Examples:\n  POSTGRES_HOST=db POSTGRES_USER=ftap POSTGRES_PASSWORD=... ftap cdc\n  ftap cdc --resnapshot     when the slot was lost, or the server was replaced"
    )]
    Cdc(CdcArgs),
    /// Serve the embedded Kafka broker on a port, until stopped
    #[command(
        after_help = "Example:\n  ftap kafka --port 9092 &\n  KAFKA_BROKER=127.0.0.1:9092 ftap produce"
    )]
    Kafka(KafkaArgs),
}

/// See [`Command::Run`].
#[derive(Clone, Debug, Default, Args)]
pub struct RunArgs {
    /// End when everything published is in the lake
    #[arg(long)]
    pub until_drained: bool,
    /// Publish only the first N rows of the events file (and generate N, when there is none)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub rows: Option<u64>,
    /// Print the summary as one JSON object
    #[arg(long)]
    pub json: bool,
}

/// See [`Command::Produce`].
#[derive(Clone, Debug, Default, Args)]
pub struct ProduceArgs {
    /// Publish only the first N rows of the events file
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub rows: Option<u64>,
    /// Print the summary as one JSON object
    #[arg(long)]
    pub json: bool,
}

/// See [`Command::Consume`].
#[derive(Clone, Debug, Default, Args)]
pub struct ConsumeArgs {
    /// End when everything that is in the topic now is in the lake
    #[arg(long)]
    pub until_drained: bool,
    /// Print the summary as one JSON object
    #[arg(long)]
    pub json: bool,
}

/// A batch job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BatchJob {
    /// Load users and merchants, then change some users
    Users,
    /// Write FX rates to the lake
    Fx,
}

/// See [`Command::Batch`].
#[derive(Clone, Debug, Default, Args)]
pub struct BatchArgs {
    /// Run this job once, now, and end: 0 done, 1 failed
    #[arg(long, value_name = "JOB")]
    pub once: Option<BatchJob>,
    /// The run's identity, 2026-01-31T12:00:00Z; a run that was done is not done again [default: now]
    #[arg(long, value_name = "TIME", requires = "once", value_parser = tick)]
    pub tick: Option<DateTime<Utc>>,
}

/// See [`Command::Cdc`].
#[derive(Clone, Debug, Default, Args)]
pub struct CdcArgs {
    /// Make the slot anew and copy the tables again, as a new epoch in the lake
    #[arg(long)]
    pub resnapshot: bool,
    /// End when everything that the server has now is in the lake
    #[arg(long)]
    pub until_drained: bool,
}

/// See [`Command::Generate`].
#[derive(Clone, Debug, Args)]
pub struct GenerateArgs {
    /// Rows
    #[arg(long, default_value_t = 1_296_675, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub rows: u64,
    /// Seed; the same seed gives the same bytes
    #[arg(long, default_value_t = 1, value_name = "S")]
    pub seed: u64,
    /// Directory for the file [default: $DATA_DIR/generated]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Mix in this many rows that are broken in different ways, for tests
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub bad_rows: u64,
}

/// See [`Command::Prepare`].
#[derive(Clone, Debug, Args)]
pub struct PrepareArgs {
    /// The Kaggle CSV
    #[arg(required_unless_present_any = ["kaggle", "generate"])]
    pub file: Option<PathBuf>,
    /// Download it first, with KAGGLE_USERNAME and KAGGLE_KEY or `~/.kaggle/kaggle.json`
    #[arg(long, conflicts_with = "file")]
    pub kaggle: bool,
    /// Generate this many rows first; if the prepared files are there already, do nothing
    #[arg(long, value_name = "N", conflicts_with_all = ["file", "kaggle"], value_parser = clap::value_parser!(u64).range(1..))]
    pub generate: Option<u64>,
    /// Directory for the prepared files [default: $DATA_DIR/prepared]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

/// Where `tap` starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TapStart {
    /// Messages that arrive from now on
    Latest,
    /// All messages that Kafka still has
    Beginning,
}

/// See [`Command::Tap`].
#[derive(Clone, Debug, Args)]
pub struct TapArgs {
    /// At most this many messages a second; the rest is passed over. 0 prints all
    #[arg(long, default_value_t = 10.0, value_name = "PER_SECOND", value_parser = rate)]
    pub rate: f64,
    /// Where to start
    #[arg(long, default_value = "latest")]
    pub from: TapStart,
    /// End after this many messages
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if rate.is_finite() && rate >= 0.0 => Ok(rate),
        _ => Err("it may be a number from 0, fractions allowed".to_owned()),
    }
}

fn tick(text: &str) -> Result<DateTime<Utc>, String> {
    text.parse()
        .map_err(|_| "it may be a time with its zone, for instance 2026-01-31T12:00:00Z".to_owned())
}

fn day(text: &str) -> Result<NaiveDate, String> {
    text.parse()
        .map_err(|_| "it may be a day of the calendar, for instance 2026-01-31".to_owned())
}

/// See [`Command::Fx`].
#[derive(Clone, Debug, Args)]
pub struct FxArgs {
    /// The day, or the first of several
    #[arg(long, value_name = "YYYY-MM-DD", value_parser = day)]
    pub date: NaiveDate,
    /// The last day [default: the first]
    #[arg(long, value_name = "YYYY-MM-DD", value_parser = day)]
    pub to: Option<NaiveDate>,
}

/// See [`Command::Load`].
#[derive(Clone, Debug, Args)]
pub struct LoadArgs {
    /// Print what was loaded as one JSON object
    #[arg(long)]
    pub json: bool,
}

/// See [`Command::Config`].
#[derive(Clone, Debug, Args)]
pub struct ConfigArgs {
    /// As a JSON array
    #[arg(long)]
    pub json: bool,
}

/// See [`Command::Health`].
#[derive(Clone, Debug, Args)]
pub struct HealthArgs {
    /// Whether it is ready: every group of stages runs
    #[arg(long)]
    pub ready: bool,
}

/// See [`Command::Kafka`].
#[derive(Clone, Debug, Args)]
pub struct KafkaArgs {
    /// Port on 127.0.0.1; 0 takes a free one
    #[arg(long, default_value_t = 9092)]
    pub port: u16,
}

impl Command {
    /// Its name as typed.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Run(_) => "run",
            Self::Produce(_) => "produce",
            Self::Consume(_) => "consume",
            Self::Batch(_) => "batch",
            Self::Generate(_) => "generate",
            Self::Prepare(_) => "prepare",
            Self::Verify(_) => "verify",
            Self::Tap(_) => "tap",
            Self::Dlq(_) => "dlq",
            Self::Fx(_) => "fx",
            Self::Load(_) => "load",
            Self::Config(_) => "config",
            Self::Health(_) => "health",
            Self::Cdc(_) => "cdc",
            Self::Kafka(_) => "kafka",
            Self::Serve => "serve",
        }
    }
}

/// A parsed command line: the command, and setting flags by setting name.
pub type Parsed = (Command, BTreeMap<String, String>);

/// Parses the command line. The error is also how `--help` and `--version` come out.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Parsed, clap::Error> {
    let matches = command().try_get_matches_from(args)?;
    let flags = SETTINGS
        .iter()
        .filter(|spec| !spec.secret)
        .filter_map(|spec| {
            let value = matches.get_one::<String>(spec.name)?;
            Some((spec.name.to_owned(), value.clone()))
        })
        .collect();
    let command = Cli::from_arg_matches(&matches)?
        .command
        .unwrap_or_else(|| Command::Run(RunArgs::default()));
    Ok((command, flags))
}

/// The whole command line, setting flags included.
pub fn command() -> clap::Command {
    SETTINGS.iter().fold(Cli::command(), |command, spec| {
        let Some(flag) = spec.flag() else {
            return command;
        };
        // clap wants names that live as long as the program, which these do.
        let flag: &'static str = flag.leak();
        let default = match spec.default.trim_matches(['<', '>']) {
            "" => String::new(),
            default => format!(" [default: {default}]"),
        };
        let help = format!("{}. It may be {}{default}", spec.meaning, spec.may_be);
        let mut arg = Arg::new(spec.name)
            .long(flag)
            .value_name("VALUE")
            .global(true)
            .help(help)
            .help_heading(spec.group)
            .allow_hyphen_values(true)
            .hide_short_help(true);
        if spec.name == "EVENTS_FILE" {
            arg = arg.visible_alias("events").hide_short_help(false);
        }
        command.arg(arg)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn parsed(args: &[&str]) -> Parsed {
        parse(
            std::iter::once("ftap")
                .chain(args.iter().copied())
                .map(OsString::from),
        )
        .unwrap()
    }

    #[test]
    fn the_command_line_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn without_a_subcommand_it_runs() {
        assert!(matches!(parsed(&[]).0, Command::Run(args) if !args.until_drained));
    }

    #[test]
    fn setting_flags_are_taken_before_and_after_the_subcommand() {
        for args in [
            &["--kafka-topic", "cards", "run"][..],
            &["run", "--kafka-topic", "cards"][..],
            &["run", "--kafka-topic=cards"][..],
        ] {
            let (_, flags) = parsed(args);
            assert_eq!(flags.get("KAFKA_TOPIC").map(String::as_str), Some("cards"));
        }
        let (_, flags) = parsed(&["run", "--events", "a.csv", "--produce-speed", "-1"]);
        assert_eq!(flags["EVENTS_FILE"], "a.csv");
        assert_eq!(flags["PRODUCE_SPEED"], "-1");
    }

    #[test]
    fn secrets_have_no_flag() {
        let args = ["ftap", "--kaggle-key", "x"].map(OsString::from);
        assert!(parse(args).is_err());
    }
}
