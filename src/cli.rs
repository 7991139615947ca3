//! The command line: subcommands by derive, and a flag for every setting that is not a secret.
//!
//! The setting flags follow from the list of settings. `-h` omits them, `--help` lists those of the subcommand.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Display;
use std::ops::RangeBounds;
use std::path::PathBuf;
use std::str::FromStr;

use chrono::{DateTime, NaiveDate, ParseError, Utc};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

use crate::commands::verify::VerifyArgs;
use crate::config::{SETTINGS, kind};
use crate::dlq::args::DlqArgs;

#[derive(Debug, Parser)]
#[command(
    name = "ftap",
    version,
    about = "Replays card transactions through Kafka into an exactly-once Parquet lake",
    after_help = "Examples:\n  \
        ftap                                   everything in one process, with generated data\n  \
        ftap run --until-drained               the same, ends when everything is in the lake\n  \
        ftap verify                            proves that every row is in the lake exactly once\n  \
        ftap prepare fraud_data.csv            splits the Kaggle file for `ftap run`\n  \
        KAFKA_BROKER=kafka:9092 ftap produce   one half, against your own Kafka\n\n\
        Settings come from flags, the environment, `.env` and defaults, in this order:\n\
        `ftap --help` lists them as flags, `ftap config` shows what is in effect.\n\n\
        Logs go to stderr, results to stdout.\n\
        Exit codes: 0 done, 1 a stage failed for good or a drain was stopped, 2 bad usage or settings, 3 `verify` found loss, duplication or a difference.",
    max_term_width = 110
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

/// A subcommand; without one it is `run`.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// All stages in one process: CSV, Kafka, Parquet lake (the default)
    ///
    /// Without KAFKA_BROKER an embedded Kafka broker runs, with its data in DATA_DIR. Without an events file,
    /// 200,000 transactions are generated and prepared first. Ctrl-C flushes and stops; the next run
    /// resumes where this one stopped. A summary is printed at the end.
    Run(RunArgs),
    /// Publish the events file to Kafka, then end
    ///
    /// Ends at the end of the file. After a crash it resumes with the first row that the topic does not
    /// have; two publishers of one topic fence each other off.
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
    /// (INGEST_FX_SCHEDULE), each once at startup and then by cron. A completed run is not repeated, not
    /// even after a crash. With BIGQUERY_PROJECT it also loads what all processes put into the lake, every
    /// BIGQUERY_LOAD_SECONDS. Without PostgreSQL the other jobs run alone.
    #[command(
        after_help = "Examples:\n  POSTGRES_HOST=db POSTGRES_PASSWORD=secret ftap batch\n  ftap batch --once users\n  FREECURRENCYAPI_API_KEY=... ftap batch --once fx"
    )]
    Batch(BatchArgs),
    /// Generate a data set in the format of the Kaggle file; the same seed gives the same bytes
    #[command(after_help = "Example:\n  ftap generate --rows 1296675 --seed 1 --out big")]
    Generate(GenerateArgs),
    /// Split the Kaggle CSV into events, users and merchants
    ///
    /// Malformed rows go to `rejected.csv` in the same folder, with line number and reason.
    #[command(
        after_help = "Examples:\n  ftap prepare credit_card_transactions.csv\n  ftap prepare --kaggle\n  ftap prepare --generate 200000    unless the prepared files are there"
    )]
    Prepare(PrepareArgs),
    /// Start over: remove the topic, the lake, the checkpoint and the tables of this DATA_DIR
    ///
    /// Prepared and generated files are kept. Shows what it removes and asks first. Of a real Kafka and a
    /// PostgreSQL server it removes what ftap made there; a bucket and BigQuery are left alone, with the
    /// command that removes them. Refuses while an ftap process uses DATA_DIR.
    #[command(after_help = "Example:\n  ftap reset --yes && ftap prepare new.csv && ftap run")]
    Reset(ResetArgs),
    /// Account for every row and every offset: source file, topic, lake
    ///
    /// Reads all three and trusts no counter. Exit code 0 only if every row is in the lake exactly once.
    Verify(VerifyArgs),
    /// Print a sample of the topic's live messages as JSON lines
    #[command(
        after_help = "Examples:\n  ftap tap\n  ftap tap --rate 100 --from beginning --count 1000 | jq .message.currency"
    )]
    Tap(TapArgs),
    /// Ask the lake in SQL
    ///
    /// Each data set is a table: transactions, fx_rates, fraud_scores, users_changes, merchants_changes, dead_letters; each model of
    /// `dbt/` is a view, such as mart_daily. Reads what is there when it starts; nothing is changed.
    #[command(
        after_help = "Examples:\n  ftap query \"SELECT currency, count(*) FROM transactions GROUP BY currency\"\n  ftap query \"SHOW TABLES\"\n  ftap query \"DESCRIBE transactions\"\n  ftap query --file report.sql --out report.csv"
    )]
    Query(QueryArgs),
    /// List, show, write or test the models of `dbt/`
    ///
    /// The same dimensions, facts and key figures that dbt builds in DuckDB or BigQuery, computed from the lake
    /// by `ftap` itself. `ftap query` has each of them as a view.
    #[command(
        after_help = "Examples:\n  ftap models list\n  ftap models show fct_transactions\n  ftap models run --out marts mart_daily mart_hourly\n  ftap models test\n  ftap query \"SELECT * FROM mart_daily ORDER BY date_day\""
    )]
    Models(ModelsArgs),
    /// Train a model that tells how suspicious transactions are, and score them
    ///
    /// A logistic regression on the model `fraud_features`, fitted on the first 80 % of time and judged on the rest.
    /// Scores are a data set of the lake, the table fraud_scores; each transaction has one of each model.
    #[command(
        after_help = "Examples:\n  ftap fraud train\n  ftap fraud score\n  ftap query \"SELECT * FROM fraud_scores WHERE is_out_of_sample ORDER BY score DESC LIMIT 10\""
    )]
    Fraud(FraudArgs),
    /// Inspect rejected messages, and send them back repaired
    ///
    /// A message that can't become a row is kept in the dead-letter topic {KAFKA_TOPIC}.dlq, or in the lake (DEAD_LETTERS).
    #[command(
        after_help = "Examples:\n  ftap dlq list --by-reason\n  ftap dlq show 2-1234\n  ftap dlq list --export repair.jsonl && ftap dlq redrive --from repair.jsonl"
    )]
    Dlq(DlqArgs),
    /// Write the FX rates of past days to the lake, one object a day
    ///
    /// From the API's historical endpoint, one request for each day; without FREECURRENCYAPI_API_KEY rates are
    /// made up and marked `offline`. Days that are in the lake are skipped, so the command can be repeated.
    #[command(after_help = "Example:\n  ftap fx --date 2019-01-01 --to 2020-06-21")]
    Fx(FxArgs),
    /// Load what is in the lake but not yet in BigQuery, then end
    ///
    /// `ftap run` and `ftap batch` do the same continuously if BIGQUERY_PROJECT and BIGQUERY_DATASET are set.
    /// Each object is loaded exactly once, even if several processes load.
    #[command(
        after_help = "Example:\n  GCS_BUCKET_NAME=my-lake BIGQUERY_PROJECT=my-project BIGQUERY_DATASET=platform ftap load"
    )]
    Load(LoadArgs),
    /// Show the settings in effect and where each came from, secrets masked
    ///
    /// Also shows what is used in place of settings that are unset, such as the embedded broker.
    Config(ConfigArgs),
    /// Ask the process that serves DASHBOARD_ADDR whether it is alive: exit code 0 if it is, 1 if not
    ///
    /// For health checks of containers. Needs no DASHBOARD_TOKEN.
    Health(HealthArgs),
    /// Watch Kafka, the lake and PostgreSQL, and show them on DASHBOARD_ADDR, until stopped
    ///
    /// Starts nothing and changes nothing. A service that does not respond is shown as down, with the reason.
    #[command(
        after_help = "Examples:\n  KAFKA_BROKER=kafka:9092 POSTGRES_HOST=db POSTGRES_PASSWORD=secret ftap serve\n  DATA_DIR=data ftap serve     alongside `ftap batch`, `ftap cdc` and `ftap kafka`"
    )]
    Serve,
    /// Capture the changes of users and merchants in PostgreSQL into the lake, until stopped
    ///
    /// The first start copies the tables, then every insert, update and delete follows, each exactly once and
    /// in the order of the commits. After a stop or a crash the next start resumes where the lake ends.
    #[command(
        after_help = "Examples:\n  POSTGRES_HOST=db POSTGRES_USER=ftap POSTGRES_PASSWORD=... ftap cdc\n  ftap cdc --resnapshot     after the slot was lost or the server was replaced"
    )]
    Cdc(CdcArgs),
    /// Serve the embedded Kafka broker on a port, until stopped
    #[command(
        after_help = "Example:\n  ftap kafka --port 9092 &\n  KAFKA_BROKER=127.0.0.1:9092 ftap produce"
    )]
    Kafka(KafkaArgs),
}

#[derive(Clone, Debug, Default, Args)]
pub(crate) struct RunArgs {
    /// End when everything published is in the lake
    #[arg(long)]
    pub until_drained: bool,
    /// Publish only the first N rows of the events file (or generate N, if there is none)
    #[arg(long, value_name = "N", value_parser = whole(1_u64..))]
    pub rows: Option<u64>,
    /// Print the summary as one JSON object
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, Debug, Default, Args)]
pub(crate) struct ProduceArgs {
    /// Publish only the first N rows of the events file
    #[arg(long, value_name = "N", value_parser = whole(1_u64..))]
    pub rows: Option<u64>,
    /// Print the summary as one JSON object
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, Debug, Default, Args)]
pub(crate) struct ConsumeArgs {
    /// End when everything that is now in the topic is in the lake
    #[arg(long)]
    pub until_drained: bool,
    /// Print the summary as one JSON object
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum BatchJob {
    /// Load users and merchants, then change some users
    Users,
    /// Write FX rates to the lake
    Fx,
}

#[derive(Clone, Debug, Default, Args)]
pub(crate) struct BatchArgs {
    /// Run this job once, now, then end: exit code 0 if it is done, 1 if it failed
    #[arg(long, value_name = "JOB")]
    pub once: Option<BatchJob>,
    /// Identity of the run, 2026-01-31T12:00:00Z; a completed run is not repeated [default: now]
    #[arg(long, value_name = "TIME", requires = "once", value_parser = tick)]
    pub tick: Option<DateTime<Utc>>,
}

#[derive(Clone, Debug, Default, Args)]
pub(crate) struct CdcArgs {
    /// Recreate the slot and copy the tables again, as a new epoch in the lake
    #[arg(long)]
    pub resnapshot: bool,
    /// End when everything that is now in the server is in the lake
    #[arg(long)]
    pub until_drained: bool,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct GenerateArgs {
    /// Rows
    #[arg(long, default_value_t = 1_296_675, value_name = "N", value_parser = whole(1_u64..))]
    pub rows: u64,
    /// Seed; the same seed gives the same bytes
    #[arg(long, default_value_t = 1, value_name = "S", value_parser = whole(0_u64..))]
    pub seed: u64,
    /// Directory for the file [default: $DATA_DIR/generated]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Add this many malformed rows of different kinds, for tests
    #[arg(long, default_value_t = 0, value_name = "N", value_parser = whole(0_u64..))]
    pub bad_rows: u64,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct PrepareArgs {
    /// The Kaggle CSV
    #[arg(required_unless_present_any = ["kaggle", "generate"])]
    pub file: Option<PathBuf>,
    /// Download it first, with KAGGLE_API_TOKEN, KAGGLE_USERNAME and KAGGLE_KEY, or the files in `~/.kaggle`
    #[arg(long, conflicts_with = "file")]
    pub kaggle: bool,
    /// Generate this many rows first; if the prepared files already exist, do nothing
    #[arg(long, value_name = "N", conflicts_with_all = ["file", "kaggle"], value_parser = whole(1_u64..))]
    pub generate: Option<u64>,
    /// Directory for the prepared files [default: $DATA_DIR/prepared]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct ResetArgs {
    /// Remove without asking
    #[arg(long)]
    pub yes: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum QueryFormat {
    /// For people; the first 100 rows, unless --limit says otherwise
    Table,
    /// With a header; NULL is empty
    Csv,
    /// One object a row, a line each
    Json,
    Parquet,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct QueryArgs {
    /// One statement; without it, or with `-`, standard input is read
    #[arg(value_name = "SQL", allow_hyphen_values = true, value_parser = sql)]
    pub sql: Option<String>,
    /// Read the statement from this file
    #[arg(long, value_name = "PATH", conflicts_with = "sql")]
    pub file: Option<PathBuf>,
    /// How the answer is written [default: by the name of --out, else a table]
    #[arg(long)]
    pub format: Option<QueryFormat>,
    /// Write the answer to this new file
    #[arg(long, value_name = "PATH")]
    pub out: Option<PathBuf>,
    /// At most so many rows
    #[arg(long, value_name = "N", value_parser = whole(1_usize..))]
    pub limit: Option<usize>,
    #[command(flatten)]
    pub limits: LimitArgs,
}

/// What a query may take.
#[derive(Clone, Debug, Args)]
pub(crate) struct LimitArgs {
    /// Memory for sorting, joining and grouping, in MB; beyond it temporary files are used where possible
    #[arg(long, value_name = "MB", default_value = "512", value_parser = whole(16_usize..=1_000_000), global = true)]
    pub memory: usize,
    /// How long a query, a model or a test may take, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "300", value_parser = whole(1_u64..=86_400), global = true)]
    pub timeout: u64,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct ModelsArgs {
    #[command(subcommand)]
    pub action: ModelsAction,
    #[command(flatten)]
    pub limits: LimitArgs,
}

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum ModelsAction {
    /// Names, layers and what each is
    List,
    /// A model's columns and its statement
    Show { name: String },
    /// Write models as Parquet files, NAME.parquet each
    Run {
        /// The folder
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// Which ones [default: all]
        names: Vec<String>,
    },
    /// Run every test of the project: exit code 1 if rows contradict one
    Test,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct FraudArgs {
    #[command(subcommand)]
    pub action: FraudAction,
    /// The model's file [default: $DATA_DIR/fraud/model.json]
    #[arg(long, value_name = "PATH", global = true)]
    pub model: Option<PathBuf>,
    #[command(flatten)]
    pub limits: LimitArgs,
}

#[derive(Clone, Copy, Debug, Subcommand)]
pub(crate) enum FraudAction {
    /// Fit a model, judge it, and write it to its file
    Train {
        /// Print the model with its evaluation as one JSON object
        #[arg(long)]
        json: bool,
        /// Seed of what is drawn: legitimate transactions for the fit, cards for the intervals
        #[arg(long, value_name = "N", default_value = "1", value_parser = whole(0_u64..))]
        seed: u64,
    },
    /// Write a score of each transaction that has none of this model
    Score,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TapStart {
    /// Messages from now on
    Latest,
    /// All messages that are still in Kafka
    Beginning,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct TapArgs {
    /// Maximum messages per second; the others are skipped. 0 prints all [default: 10, and all with
    /// --count or --from beginning]
    #[arg(long, value_name = "PER_SECOND", value_parser = rate)]
    pub rate: Option<f64>,
    /// Where to start
    #[arg(long, default_value = "latest")]
    pub from: TapStart,
    /// End after this many messages
    #[arg(long, value_name = "N", value_parser = whole(1_u64..))]
    pub count: Option<u64>,
    /// Only JSON messages whose field has this value; all, if given several times
    #[arg(long, value_name = "FIELD=VALUE", value_parser = field)]
    pub filter: Vec<(String, String)>,
}

fn field(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').filter(|(name, _)| !name.is_empty());
    pair.map(|(name, value)| (name.to_owned(), value.to_owned()))
        .ok_or_else(|| "expected FIELD=VALUE, such as category=travel".to_owned())
}

/// Parses a whole number as settings do: `200000`, `200_000` or `2e5`.
pub(crate) fn whole<T>(
    range: impl RangeBounds<T> + Clone + Send + Sync + 'static,
) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static
where
    T: FromStr + PartialOrd + Display,
{
    move |text| {
        let kind = kind::whole(range.clone());
        kind.parse(text)
            .map_err(|_always_empty| format!("expected {}", kind.expected))
    }
}

fn rate(text: &str) -> Result<f64, String> {
    let kind = kind::number(0.0..=f64::MAX);
    kind.parse(text)
        .map_err(|_always_empty| "expected a number from 0, fractions allowed".to_owned())
}

/// A statement may begin with a comment, and an option that does not exist must not become one.
fn sql(text: &str) -> Result<String, String> {
    let is_comment = |rest: &str| rest.starts_with(char::is_whitespace);
    let is_option =
        text.len() > 1 && text.starts_with('-') && !text.strip_prefix("--").is_some_and(is_comment);
    if is_option {
        return Err("it is not an option of `ftap query`: --help lists them".to_owned());
    }
    Ok(text.to_owned())
}

fn tick(text: &str) -> Result<DateTime<Utc>, String> {
    text.parse().map_err(|error: ParseError| {
        format!("expected a time with its zone, such as 2026-01-31T12:00:00Z ({error})")
    })
}

fn day(text: &str) -> Result<NaiveDate, String> {
    text.parse().map_err(|error: ParseError| {
        format!("expected a day of the calendar, such as 2026-01-31 ({error})")
    })
}

fn command_name(text: &str) -> Result<String, String> {
    let names = command_names();
    let expected = || format!("expected one of {}", names.join(", "));
    let found = names.iter().find(|name| *name == text);
    found.cloned().ok_or_else(expected)
}

/// The name of every subcommand.
pub(crate) fn command_names() -> Vec<String> {
    let cli = Cli::command();
    let names = cli.get_subcommands().map(clap::Command::get_name);
    names.map(str::to_owned).collect()
}

#[derive(Clone, Debug, Args)]
pub(crate) struct FxArgs {
    /// The day, or the first of several
    #[arg(long, value_name = "YYYY-MM-DD", value_parser = day)]
    pub date: NaiveDate,
    /// The last day [default: the first]
    #[arg(long, value_name = "YYYY-MM-DD", value_parser = day)]
    pub to: Option<NaiveDate>,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct LoadArgs {
    /// Print what was loaded as one JSON object
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct ConfigArgs {
    /// Only the settings that this command uses [default: all, as `ftap run` uses them]
    #[arg(value_name = "COMMAND", value_parser = command_name)]
    pub command: Option<String>,
    /// Print a JSON array
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct HealthArgs {
    /// Ask whether it is ready: every group of stages runs
    #[arg(long)]
    pub ready: bool,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct KafkaArgs {
    /// Port on 127.0.0.1; 0 chooses a free one
    #[arg(long, default_value_t = 9092, value_parser = whole(0..=u16::MAX))]
    pub port: u16,
}

/// A parsed command line.
pub(crate) struct Parsed {
    pub command: Command,
    /// The command's name.
    pub name: String,
    /// Setting flags by setting name.
    pub flags: BTreeMap<String, String>,
}

/// Parses the command line. `--help` and `--version` are errors, too.
pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Parsed, clap::Error> {
    let args: Vec<OsString> = args.into_iter().collect();
    let matches = command_with_help_for(named_command(&args).as_deref())
        .try_get_matches_from(args)
        .map_err(explain)?;
    let given = |name: &'static str| {
        let value = matches.try_get_one::<String>(name).ok()??;
        Some((name.to_owned(), value.clone()))
    };
    let command = Cli::from_arg_matches(&matches)?.command;
    Ok(Parsed {
        command: command.unwrap_or_else(|| Command::Run(RunArgs::default())),
        name: matches.subcommand_name().unwrap_or("run").to_owned(),
        flags: SETTINGS
            .iter()
            .filter_map(|setting| given(setting.name))
            .collect(),
    })
}

/// A secret given as a flag is an unknown flag to clap; the user needs to know where it belongs.
fn explain(error: clap::Error) -> clap::Error {
    let Some(ContextValue::String(flag)) = error.get(ContextKind::InvalidArg) else {
        return error;
    };
    let is_meant = |name: &str| flag.trim_start_matches("--") == name;
    let mut secrets = SETTINGS.iter().filter(|setting| setting.is_secret);
    match secrets.find(|setting| is_meant(&setting.flag)) {
        Some(setting) if error.kind() == ErrorKind::UnknownArgument => command().error(
            ErrorKind::UnknownArgument,
            format!(
                "{} is a secret and has no flag, because other users of this machine see the arguments of a process: set it in the environment or in `.env`",
                setting.name
            ),
        ),
        _ => error,
    }
}

/// The subcommand among the arguments, if one of them is its name.
fn named_command(args: &[OsString]) -> Option<String> {
    let known = Cli::command();
    let is_known = |name: &&str| known.find_subcommand(name).is_some();
    let mut names = args.iter().skip(1).filter_map(|arg| arg.to_str());
    names.find(is_known).map(str::to_owned)
}

/// The whole command line, setting flags included.
pub(crate) fn command() -> clap::Command {
    command_with_help_for(None)
}

/// The whole command line; the help has the settings of that subcommand only.
fn command_with_help_for(name: Option<&str>) -> clap::Command {
    let open = SETTINGS.iter().filter(|setting| !setting.is_secret);
    open.fold(Cli::command(), |command, setting| {
        let mut help = format!("{}. Expected: {}", setting.meaning, setting.expected);
        for note in [setting.default.description(), setting.example()] {
            if !note.is_empty() {
                help += &format!(" [{note}]");
            }
        }
        let mut arg = Arg::new(setting.name)
            .long(setting.flag.as_str())
            .value_name("VALUE")
            .global(true)
            .help(help)
            .help_heading(setting.group)
            .allow_hyphen_values(true)
            .hide_short_help(true)
            .hide_long_help(name.is_some_and(|name| !setting.is_used_by(name)));
        if setting.name == "EVENTS_FILE" {
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
        let parsed = parsed(&[]);
        assert!(matches!(parsed.command, Command::Run(args) if !args.until_drained));
        assert_eq!(parsed.name, "run");
    }

    #[test]
    fn setting_flags_are_accepted_before_and_after_the_subcommand() {
        for args in [
            &["--kafka-topic", "cards", "run"][..],
            &["run", "--kafka-topic", "cards"][..],
            &["run", "--kafka-topic=cards"][..],
        ] {
            assert_eq!(parsed(args).flags["KAFKA_TOPIC"], "cards");
        }
        let flags = parsed(&["run", "--events", "a.csv", "--produce-speed", "-1"]).flags;
        assert_eq!(flags["EVENTS_FILE"], "a.csv");
        assert_eq!(flags["PRODUCE_SPEED"], "-1");
    }

    #[test]
    fn the_help_of_a_subcommand_has_its_own_settings_only() {
        let help = |args: &[&str]| {
            let args = std::iter::once("ftap").chain(args.iter().copied());
            let shown = parse(args.map(OsString::from));
            shown.err().unwrap().to_string()
        };
        let query = help(&["query", "--help"]);
        assert!(query.contains("--lake-dir") && query.contains("--memory"));
        assert!(!query.contains("--kafka-broker"), "{query}");
        assert!(help(&["--help"]).contains("--kafka-broker"));
        assert!(help(&["run", "--help"]).contains("--kafka-broker"));
    }

    #[test]
    fn a_number_of_rows_may_have_an_exponent() {
        let command = parsed(&["run", "--rows", "1e6"]).command;
        assert!(matches!(command, Command::Run(args) if args.rows == Some(1_000_000)));
    }
}
