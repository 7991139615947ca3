//! `ftap fraud`: a logistic regression on the fraud features, and its scores in the lake.
//!
//! Promises: the model's file is whole or as it was before; a transaction gets one score of a model, however often the
//! command is repeated or killed.

use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use ftap_fraud::{
    Evaluation, FeatureRow, Labelled, Model, OBJECT_ROWS, Score, Training, TrainingError, file,
    rows, statement,
};
use ftap_lake::{FRAUD_SCORES, LakeStore, PutError, PutResult, ScoresObjectName, put};
use ftap_query::Engine;
use ftap_telemetry::figures::count;

use super::query::{judge, open, until_stopped};
use crate::cli::{FraudAction, FraudArgs};
use crate::config::{Config, writer_id};
use crate::data_dir::make_writable;
use crate::exit::{self, BadUsage};
use crate::output::print;

/// Trains or scores.
pub(crate) fn execute(config: &Config, args: &FraudArgs) -> anyhow::Result<u8> {
    let path = args.model.clone().unwrap_or_else(|| model_file(config));
    match args.action {
        FraudAction::Train { json, seed } => until_stopped(train(config, args, &path, seed, json)),
        FraudAction::Score => until_stopped(score(config, args, &path)),
    }
}

/// Where the model is, unless `--model` says otherwise.
pub(crate) fn model_file(config: &Config) -> PathBuf {
    config.data_dir.join("fraud").join("model.json")
}

async fn train(
    config: &Config,
    args: &FraudArgs,
    path: &Path,
    seed: u64,
    json: bool,
) -> anyhow::Result<u8> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    // Before the minutes that a fit may take.
    make_writable(folder.unwrap_or(Path::new(".")), "--model or DATA_DIR")?;
    let engine = open(config, &args.limits).await?;
    let Some((from, until)) = range(&engine).await? else {
        let what =
            "the lake has no transactions to learn from: `ftap run --until-drained` brings some";
        return Err(BadUsage(what.to_owned()).into());
    };
    let mut training = Training::new(from, until, seed);
    each_row(&engine, "where is_fraud is not null", |row| {
        let labelled = Labelled {
            id: row.id,
            user: row.user,
            at: row.at,
            is_fraud: row.is_fraud.unwrap_or_default(),
        };
        training.add(labelled, &row.transaction);
    })
    .await?;
    drop(engine);
    let model = training.finish().map_err(|error| match error {
        TrainingError::TooLittle { .. } | TrainingError::NotJudged { .. } => {
            BadUsage(format!("{error}\n  bring more transactions into the lake")).into()
        }
        error => anyhow::Error::new(error),
    })?;
    let text = model.write().context("the model can't be written")?;
    replace(path, &text).with_context(|| format!("can't write {}", path.display()))?;
    print(&if json {
        text
    } else {
        format!(
            "{}model {} is in {}\nnext: ftap fraud score\n",
            described(&model),
            model.id,
            path.display()
        )
    })?;
    Ok(exit::DONE)
}

/// The times of the first and of the last transaction whose kind is known.
async fn range(engine: &Engine) -> anyhow::Result<Option<(DateTime<Utc>, DateTime<Utc>)>> {
    let mut ends = Vec::new();
    for end in ["min", "max"] {
        let sql = format!(
            "select cast(date_part('epoch', {end}(transaction_datetime_UTC)) as bigint) as at from fct_transactions \
             where is_fraud is not null"
        );
        ends.push(engine.number(&sql).await.map_err(judge)?);
    }
    let time = |seconds: Option<i64>| DateTime::from_timestamp(seconds?, 0);
    Ok(time(ends[0]).zip(time(ends[1])))
}

/// The rows of `fraud_features`, in no order.
async fn each_row(
    engine: &Engine,
    which: &str,
    mut take: impl FnMut(FeatureRow<'_>),
) -> anyhow::Result<()> {
    let mut answer = engine.query(&statement(which)).await.map_err(judge)?;
    while let Some(batch) = answer.next().await.map_err(judge)? {
        rows(&batch)?.for_each(&mut take);
    }
    Ok(())
}

/// Writes a file next to it and moves it into its place.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}.tmp", std::process::id()));
    let written = std::fs::write(&beside, text).and_then(|()| std::fs::rename(&beside, path));
    if written.is_err() {
        let _ = std::fs::remove_file(&beside);
    }
    written
}

/// The model and its evaluation for people.
fn described(model: &Model) -> String {
    let fitted = &model.fitted_on;
    let evaluation = &model.evaluation;
    let day = |time: &DateTime<Utc>| time.format("%Y-%m-%d %H:%M");
    format!(
        "fitted on {} transactions from {} to {}, {} of them fraud\n\
         judged on {} later ones until {}, {} of them fraud\n\n{}\n{}\n",
        count(fitted.rows),
        day(&fitted.from),
        day(&fitted.until),
        count(fitted.fraud_rows),
        count(evaluation.rows),
        day(&evaluation.until),
        count(evaluation.fraud_rows),
        scores_table(evaluation),
        calibration_table(evaluation),
    )
}

fn scores_table(evaluation: &Evaluation) -> String {
    let recall = format!("recall at {} % alerts", evaluation.alert_share * 100.0);
    let mut text = format!(
        "{:<22}{:>9}{:>9}  {recall}, 95 % interval\n",
        "", "ROC-AUC", "PR-AUC"
    );
    for score in &evaluation.scores {
        let interval = score.recall_interval.map_or_else(
            || "too few cards with fraud".to_owned(),
            |interval| format!("{:.3} to {:.3}", interval.low, interval.high),
        );
        text += &format!(
            "{:<22}{:>9.4}{:>9.4}  {:.3}, {interval}\n",
            score.name, score.roc_auc, score.pr_auc, score.recall
        );
    }
    text
}

fn calibration_table(evaluation: &Evaluation) -> String {
    let mut text = format!(
        "{:<8}{:>12}{:>10}{:>14}{:>14}\n",
        "decile", "rows", "fraud", "predicted", "observed"
    );
    for (number, group) in evaluation.calibration.iter().enumerate() {
        text += &format!(
            "{:<8}{:>12}{:>10}{:>12.4} %{:>12.4} %\n",
            number + 1,
            count(group.rows),
            count(group.fraud_rows),
            group.predicted * 100.0,
            group.observed * 100.0
        );
    }
    text
}

/// Reads the model's file.
fn read_model(path: &Path) -> anyhow::Result<Model> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| {
        let remedy = match error.kind() {
            io::ErrorKind::NotFound => "`ftap fraud train` writes a model",
            _ => "give a model that `ftap fraud train` wrote",
        };
        BadUsage(format!("--model {shown}: {error}: {remedy}"))
    })?;
    Ok(Model::read(&text).map_err(|error| {
        BadUsage(format!(
            "--model {shown}: {error}; `ftap fraud train` writes a new one"
        ))
    })?)
}

async fn score(config: &Config, args: &FraudArgs, path: &Path) -> anyhow::Result<u8> {
    let model = read_model(path)?;
    let scorer = model.scorer()?;
    if config.gcs_bucket.is_none() {
        make_writable(&config.lake_dir, "LAKE_DIR")?;
    }
    let engine = open(config, &args.limits).await?;
    let without = format!(
        "where not exists (select 1 from fraud_scores as known where known.model = '{}' and known.transaction_id = {{}}.transaction_id)",
        model.id
    );
    // Cheaper than the features, if nothing is new.
    let new = format!(
        "select count(*) as n from fct_transactions {}",
        without.replace("{}", "fct_transactions")
    );
    let mut scores = Vec::new();
    if engine.count(&new).await.map_err(judge)? > 0 {
        let which = without.replace("{}", "fraud_features");
        each_row(&engine, &which, |row| {
            scores.push(Score {
                transaction_id: row.id.to_owned(),
                at: row.at,
                score: scorer.score(&row.transaction),
            });
        })
        .await?;
    }
    // A transaction that is in the lake twice has one score.
    scores.sort_by(|one, two| (&one.transaction_id, one.at).cmp(&(&two.transaction_id, two.at)));
    scores.dedup_by(|one, two| one.transaction_id == two.transaction_id);
    scores.sort_by_key(|score| score.at);
    let lake = LakeStore::open(&config.lake())?;
    let mut number = last_number(&engine, &model);
    let (compression, writer_id) = (config.compression(), writer_id());
    for part in scores.chunks(OBJECT_ROWS) {
        number += 1;
        let file = file(&model, number, part, compression, &writer_id)?;
        match put(&lake, &file).await {
            Ok(PutResult::Created | PutResult::Same) => {}
            Ok(PutResult::Overtaken(_)) => {
                anyhow::bail!(
                    "another process writes scores of the model {}, too: run `ftap fraud score` again when it is done",
                    model.id
                );
            }
            Err(PutError::Lake(error)) => return Err(error.into()),
            Err(PutError::Conflict(never)) => match never {},
        }
    }
    print(&match scores.len() {
        0 => format!(
            "nothing new: every transaction has a score of the model {}\n",
            model.id
        ),
        rows => format!(
            "{} scores of the model {} are new in the lake\nquery it:\n  ftap query \"SELECT transaction_id, score FROM fraud_scores ORDER BY score DESC LIMIT 10\"\n",
            count(rows as u64),
            model.id
        ),
    })?;
    Ok(exit::DONE)
}

/// How many objects the model has.
fn last_number(engine: &Engine, model: &Model) -> u32 {
    let names = engine.objects(&FRAUD_SCORES).iter();
    let names = names.filter_map(|object| ScoresObjectName::parse(&object.key));
    let own = names.filter(|name| name.model == model.weights.fingerprint());
    own.map(|name| name.number).max().unwrap_or_default()
}
