//! `ftap fraud`: a model is fitted on the first part of time and judged on the rest; its scores are in the lake once.

use std::time::Instant;

use serde_json::Value;

use crate::shell::{PATIENCE, Place, request};

/// Rows of the events file, and those that are in the lake when the model is fitted.
const ROWS: u64 = 25_000;
const BEFORE: u64 = 20_000;

/// Brings the first rows of the events file into the lake, or all of them.
fn run(place: &Place, rows: Option<u64>) {
    let rows = rows.map(|rows| rows.to_string());
    let mut args = vec!["run", "--until-drained"];
    args.extend(rows.iter().flat_map(|rows| ["--rows", rows]));
    let mut run = place.ftap(&args);
    run.env("POSTGRES", "off");
    assert!(run.output().unwrap().status.success());
}

fn ask(place: &Place, sql: &str) -> Value {
    let done = place.run(&["query", "--format", "json", sql]).ends_with(0);
    serde_json::from_str(done.stdout.lines().next().unwrap()).unwrap()
}

fn train(place: &Place) -> Value {
    let done = place.run(&["fraud", "train", "--json"]).ends_with(0);
    serde_json::from_str(&done.stdout).unwrap()
}

/// Asks until there is an answer in time: the first question of a process computes what all need.
#[track_caller]
fn card(url: &str, name: &str, part: &str) {
    let end = Instant::now() + PATIENCE;
    loop {
        let answer = request(url, "GET", &format!("/cards/{name}"), "localhost");
        if answer.status == 504 && Instant::now() < end {
            continue;
        }
        assert_eq!(answer.status, 200, "{}", answer.body);
        assert!(answer.body.contains(part), "no {part:?} in {}", answer.body);
        return;
    }
}

/// Runs to the end, and fails unless stdout has all of these.
#[track_caller]
fn prints(place: &Place, args: &[&str], parts: &[&str]) {
    let done = place.run(args).ends_with(0);
    for part in parts {
        assert!(done.stdout.contains(part), "no {part:?} in {}", done.stdout);
    }
}

#[track_caller]
fn close(one: &Value, two: &Value) {
    let difference = one.as_f64().unwrap() - two.as_f64().unwrap();
    assert!(difference.abs() < 1e-9, "{one} is not {two}");
}

#[test]
fn a_model_is_judged_on_later_rows_and_each_transaction_is_scored_once() {
    let place = Place::prepared(ROWS);
    run(&place, Some(BEFORE));
    let (serve, url) = place.serve();
    card(&url, "fraud_evaluation", "ftap fraud train");
    for name in ["fraud_calibration", "fraud_suspicious"] {
        card(&url, name, "the first card says what to do");
    }

    let model = train(&place);
    let file = place.path("data/fraud/model.json");
    let written = std::fs::read(&file).unwrap();
    let table = [
        "logistic regression",
        "amount alone",
        "night and category",
        "decile",
    ];
    prints(&place, &["fraud", "train"], &table);
    assert!(
        std::fs::read(&file).unwrap() == written,
        "the same rows give the same model"
    );
    let (fitted, judged) = (&model["fitted_on"], &model["evaluation"]);
    let rows = |part: &Value| part["rows"].as_u64().unwrap();
    assert_eq!(rows(fitted) + rows(judged), BEFORE);
    assert_eq!(fitted["until"], judged["from"]);
    let [ours, amount, cell] = &judged["scores"].as_array().unwrap()[..] else {
        panic!("{judged}");
    };
    for other in [amount, cell] {
        for figure in ["roc_auc", "pr_auc", "recall"] {
            let (ours, other) = (ours[figure].as_f64(), other[figure].as_f64());
            assert!(ours > other, "{figure} of {judged}");
        }
    }
    let (low, high) = (
        &ours["recall_interval"]["low"],
        &ours["recall_interval"]["high"],
    );
    assert!(low.as_f64() <= ours["recall"].as_f64() && ours["recall"].as_f64() <= high.as_f64());
    let groups = judged["calibration"].as_array().unwrap();
    assert_eq!(groups.iter().map(rows).sum::<u64>(), rows(judged));
    card(&url, "fraud_evaluation", "logistic regression");
    card(&url, "fraud_calibration", "<table>");
    card(&url, "fraud_suspicious", "ftap fraud score");

    prints(&place, &["fraud", "score"], &["20,000 scores"]);
    let scores = ask(
        &place,
        "select count(*) as n, count(distinct transaction_id) as ids, min(score) >= 0 and max(score) <= 1 as fits, \
         count(case when is_out_of_sample then 1 end) as later, max(model) as model from fraud_scores",
    );
    assert_eq!(
        (&scores["n"], &scores["ids"]),
        (&BEFORE.into(), &BEFORE.into())
    );
    assert_eq!(
        (&scores["fits"], &scores["later"]),
        (&true.into(), &judged["rows"])
    );
    assert_eq!(scores["model"], model["id"]);
    // The figure of the evaluation, by ranks, from the scores in the lake.
    let area = ask(
        &place,
        "with ranked as (select t.is_fraud, rank() over (order by s.score) + (count(*) over (partition by s.score) - 1) / 2.0 as place \
         from fraud_scores as s inner join fct_transactions as t on t.transaction_id = s.transaction_id where s.is_out_of_sample), \
         sums as (select sum(case when is_fraud = 1 then place end) as places, cast(sum(is_fraud) as double) as fraud, \
         cast(count(*) as double) as n from ranked) \
         select (places - fraud * (fraud + 1) / 2) / (fraud * (n - fraud)) as roc_auc from sums",
    );
    close(&area["roc_auc"], &ours["roc_auc"]);

    prints(&place, &["fraud", "score"], &["nothing new"]);
    run(&place, None);
    prints(&place, &["fraud", "score"], &["5,000 scores"]);
    let scores = ask(
        &place,
        "select count(*) as n, count(distinct transaction_id) as ids from fraud_scores",
    );
    assert_eq!((&scores["n"], &scores["ids"]), (&ROWS.into(), &ROWS.into()));
    drop(serve);
    // A new process has the lake as it is now.
    let (_serve, url) = place.serve();
    card(&url, "fraud_suspicious", "<table>");
}

#[test]
fn without_a_model_or_fraud_to_learn_from_the_remedy_is_named() {
    let place = Place::prepared(3_000);
    std::fs::create_dir_all(place.path("data/lake")).unwrap();
    place
        .run(&["fraud", "train"])
        .ends_with(2)
        .says(&["no transactions to learn from", "ftap run --until-drained"]);
    place
        .run(&["fraud", "score"])
        .ends_with(2)
        .says(&["data/fraud/model.json", "`ftap fraud train` writes a model"]);
    place.write("odd.json", "{\"format_version\": 1}");
    place
        .run(&["fraud", "score", "--model", "odd.json"])
        .ends_with(2)
        .says(&["--model odd.json: it is not a model", "missing field"]);

    // No row is known to be fraud.
    let events = place.path("data/prepared/credit_card_transactions_events.csv");
    let text = std::fs::read_to_string(&events).unwrap();
    assert!(text.contains(";1\n"));
    std::fs::write(&events, text.replace(";1\n", ";0\n")).unwrap();
    run(&place, None);
    place
        .run(&["fraud", "train"])
        .ends_with(2)
        .says(&["0 are fraud: a fit needs 30", "bring more transactions"]);
    assert!(!place.path("data/fraud/model.json").exists());
}
