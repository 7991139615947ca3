//! FX rates of the days of the data, and the join that needs them.

use std::collections::BTreeSet;
use std::process::Command;

use crate::common::fx_api::{FxApi, Reply};
use crate::common::{Lab, events_file, not_run, wait_until};
use crate::readers;
use crate::shell::Place;

/// A schedule whose time does not come during a test, and is not midnight: only the run at start.
const NEVER: &str = "1 0 1 1 *";

/// A laboratory whose only job is FX rates.
fn lab(name: &str) -> Lab {
    let mut lab = Lab::new(name).without_broker();
    lab.set("INGEST_FX_SCHEDULE", NEVER);
    lab
}

/// Names of the objects of midnights.
fn midnights(lab: &Lab) -> BTreeSet<String> {
    let objects = lab.objects();
    let names = objects.iter().filter_map(|path| path.file_stem()?.to_str());
    names
        .filter(|name| name.ends_with("_000000"))
        .map(str::to_owned)
        .collect()
}

/// The same for the days of a file of events.
fn midnights_of(events: &str) -> BTreeSet<String> {
    let days = events
        .lines()
        .skip(1)
        .map(|line| line[..10].replace('-', ""));
    days.map(|day| format!("fx_rates_{day}_000000")).collect()
}

#[test]
fn each_day_of_the_events_gets_its_rates_once_whatever_is_killed_when() {
    let mut lab = lab("fx-days");
    let wanted = midnights_of(&std::fs::read_to_string(events_file()).unwrap());
    assert!(wanted.len() > 100);
    lab.set("FTAP_FAILPOINTS", "fx_days=hang@20");
    // A stop that waited for all days would be cut short, and the process fail.
    lab.set("STOP_DEADLINE_SECONDS", "9");
    let has_days = |least: usize| {
        wait_until("some of the days", || {
            (midnights(&lab).len() >= least).then_some(())
        });
    };
    let stopped = lab.start(["batch"]);
    has_days(12);
    stopped.signal(libc::SIGTERM);
    stopped.wait_for_success();
    let killed = lab.start(["batch"]);
    has_days(24);
    killed.kill();
    let before = midnights(&lab).len();
    assert!(before < wanted.len());
    lab.set("FTAP_FAILPOINTS", "");
    for written in [wanted.len() - before, 0] {
        let batch = lab.start(["batch"]);
        let filled = batch.wait_for_event("fx_days_filled");
        assert_eq!(filled["days"], wanted.len(), "{filled}");
        assert_eq!(filled["written"], written, "{filled}");
        assert_eq!(filled["provider"], "offline");
        batch.signal(libc::SIGTERM);
        batch.wait_for_success();
        assert_eq!(midnights(&lab), wanted);
        assert!(
            batch.events("fx_rates_written").len() <= 1,
            "a line per day"
        );
        assert_eq!(batch.events("fx_rates_offline").len(), 1);
    }
}

#[test]
fn an_api_is_asked_for_each_day_once_and_again_after_what_it_refused() {
    let api = FxApi::start(Reply::Rates);
    let mut lab = lab("fx-days-api");
    let events = std::fs::read_to_string(events_file()).unwrap();
    let days = ["2020-02-01", "2020-02-03", "1998-12-31", "2999-01-01"];
    let mut lines = events.lines();
    let mut few = vec![lines.next().unwrap().to_owned()];
    few.extend(
        days.iter()
            .zip(lines)
            .map(|(day, line)| format!("{day}{}", &line[10..])),
    );
    let file = lab.path("few.csv");
    std::fs::write(&file, few.join("\n") + "\n").unwrap();
    lab.set("EVENTS_FILE", &file);
    lab.set("FREECURRENCYAPI_API_KEY", "fca_live_canary_77ab");
    lab.set("FX_API_URL", &api.url);
    let asked = |day: &str| {
        let query = format!("historical?date={day}&");
        let requests = api.requests();
        requests.iter().filter(|head| head.contains(&query)).count()
    };

    api.set(Reply::Status(
        429,
        ("X-RateLimit-Remaining-Quota-Month", "0"),
    ));
    let refused = lab.start(["batch"]);
    let paused = refused.wait_for_event("fx_days_paused");
    assert_eq!(
        (&paused["left"], &paused["seconds"]),
        (&2.into(), &86_400.into())
    );
    let error = paused["error"].as_str().unwrap();
    assert!(
        error.starts_with("2020-02-01: ") && error.contains("quota"),
        "{error}"
    );
    refused.signal(libc::SIGTERM);
    refused.wait_for_success();
    assert_eq!(midnights(&lab).len(), 0);

    api.set(Reply::Rates);
    for written in [2, 0] {
        let batch = lab.start(["batch"]);
        let filled = batch.wait_for_event("fx_days_filled");
        assert_eq!(
            (&filled["days"], &filled["written"]),
            (&4.into(), &written.into())
        );
        batch.signal(libc::SIGTERM);
        batch.wait_for_success();
    }
    assert_eq!(
        midnights(&lab),
        ["fx_rates_20200201_000000", "fx_rates_20200203_000000"]
            .map(str::to_owned)
            .into()
    );
    assert_eq!(days.map(asked), [2, 1, 0, 0], "{:?}", api.requests());
}

/// Runs a statement and prints its rows as a table of Markdown.
const RUN_SQL: &str = r#"
import sys, duckdb
database = duckdb.connect()
# Days of 23 and 25 hours, which no answer depends on.
database.execute("SET TimeZone = 'America/New_York'")
for row in database.execute(sys.argv[1]).fetchall():
    print("| " + " | ".join(value if isinstance(value, str) else f"{value:,.0f}" for value in row) + " |")
"#;

#[test]
fn the_join_of_the_readme_gives_each_transaction_the_rate_of_its_day() {
    let python = match readers::python() {
        Ok(python) => python,
        Err(why) => return not_run(&why),
    };
    let readme = include_str!("../README.md");
    let blocks = readme.split("```sql\n").skip(1);
    let mut blocks = blocks.filter_map(|block| block.split_once("```"));
    let (statement, after) = blocks.find(|(block, _)| block.contains("ASOF")).unwrap();
    let place = Place::new();
    place.run(&["run", "--until-drained"]).ends_with(0);
    let output = Command::new(python)
        .args(["-c", RUN_SQL, statement])
        .current_dir(place.path(""))
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{errors}");
    let rows = String::from_utf8(output.stdout).unwrap();
    assert_eq!(rows.lines().count(), 4, "{rows}");
    for row in rows.lines() {
        let cells: Vec<_> = row.split(" | ").collect();
        assert_eq!(cells[1], cells[2], "without the rate of its day: {rows}");
    }
    assert!(after.contains(&rows), "put this into README:\n{rows}");
}
