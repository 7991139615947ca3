//! Another producer's open transaction hides the rows after it: they count as lag, draining waits for
//! them, and `verify` knows where they are.

use std::time::Duration;

use crate::common::http::{address_of, get};
use crate::common::kafka::{self, OpenTransaction};
use crate::common::process::Ftap;
use crate::common::verdict::Verdict;
use crate::common::{Lab, wait_until};
use serde_json::Value;

fn lab(name: &str) -> Lab {
    let mut lab = Lab::shared(name);
    lab.set("DASHBOARD_ADDR", "127.0.0.1:0");
    lab.set("DASHBOARD_LOOK_SECONDS", "0.5");
    lab
}

fn status(of: &Ftap) -> Value {
    get(&address_of(of), "localhost", "/api/status")
        .unwrap()
        .body
}

fn verify(lab: &Lab) -> Verdict {
    Verdict::of(lab.command(["verify", "--json", "--rows", "3000"]))
}

#[test]
fn rows_behind_an_open_transaction_are_lag_and_are_waited_for() {
    let mut lab = lab("open-transaction");
    let run = |lab: &Lab, rows| lab.start(["run", "--until-drained", "--rows", rows]);
    run(&lab, "1000").wait_for_success();
    let foreign = OpenTransaction::begin(lab.broker(), lab.topic(), 3);

    lab.set("OPEN_TRANSACTION_TIMEOUT_SECONDS", "12");
    let waiting = run(&lab, "3000");
    let hidden = waiting.wait_for_event("records_hidden");
    assert!(hidden["since"].is_string(), "{hidden}");
    let (code, error) = waiting.wait_for_failure();
    assert_eq!(code, 1);
    let said = [
        lab.topic(),
        "is open since offset",
        "kafka-transactions.sh abort",
    ];
    assert!(said.iter().all(|part| error.contains(part)), "{error}");

    let verdict = verify(&lab);
    assert_eq!(
        verdict.kinds(),
        ["row_behind_open_transaction"],
        "{verdict}"
    );
    assert_eq!(
        (verdict.code, verdict.total("missing")),
        (3, 2000),
        "{verdict}"
    );

    let (consume, serve) = (lab.start(["consume"]), lab.start(["serve"]));
    consume.wait_for_events("records_hidden", 3);
    let lag = status(&consume)["meters"]["lag_records"].as_i64().unwrap();
    assert!(lag >= 2000, "{lag}");
    wait_until("lag that serve sees", || {
        let lag = &status(&serve)["platform"]["kafka"]["figures"]["lag"];
        (lag.as_i64().unwrap_or(0) >= 2000).then_some(())
    });

    foreign.abort();
    wait_until("the rows to arrive", || {
        let (own, seen) = (status(&consume), status(&serve));
        let lags = [
            &own["meters"]["lag_records"],
            &seen["platform"]["kafka"]["figures"]["lag"],
        ];
        lags.iter().all(|lag| lag.as_i64() == Some(0)).then_some(())
    });
    verify(&lab).assert_exact();
}

#[test]
fn draining_ends_as_soon_as_the_transaction_does() {
    let lab = lab("transaction-ends");
    lab.start(["produce", "--rows", "3000"]).wait_for_success();
    let foreign = OpenTransaction::begin(lab.broker(), lab.topic(), 3);
    kafka::produce(lab.broker(), lab.topic(), 0, &[Some(b"x".to_vec())]);
    let consume = lab.start(["consume", "--until-drained"]);
    consume.wait_for_event("records_hidden");
    assert!(!consume.has_ended());
    foreign.abort();
    consume.wait_at_most(Duration::from_secs(60));
    consume.wait_for_success();
    let verdict = verify(&lab);
    assert_eq!(
        (verdict.total("lake"), verdict.total("rejected")),
        (3000, 1),
        "{verdict}"
    );
    verdict.assert_exact();
}
