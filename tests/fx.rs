//! `ftap fx` as a process.
use std::process::Stdio;

use crate::common::Lab;

fn ftap(lab: &Lab, args: &[&str]) -> (i32, String) {
    let mut command = lab.command(args);
    let output = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8(text).unwrap();
    (output.status.code().unwrap(), text)
}

#[test]
fn days_are_backfilled_once_and_marked_as_made_up() {
    let lab = Lab::new("fx").without_broker();
    let days = ["fx", "--date", "2019-12-30", "--to", "2020-01-02"];
    let (code, text) = ftap(&lab, &days);
    assert_eq!(code, 0, "{text}");
    assert!(
        text.contains("4 days of FX rates written, 0 were there"),
        "{text}"
    );
    assert!(text.contains("fx_rates_offline"), "{text}");
    let objects = lab.objects();
    assert_eq!(objects.len(), 4);
    assert!(objects[0].ends_with("fx_rates/2019/12/30/fx_rates_20191230_000000.parquet"));
    let (code, text) = ftap(&lab, &days);
    assert_eq!(code, 0, "{text}");
    assert!(
        text.contains("0 days of FX rates written, 4 were there"),
        "{text}"
    );
}

#[test]
fn what_was_mistyped_is_named() {
    let lab = Lab::new("fx").without_broker();
    for (args, wanted) in [
        (
            &["fx", "--date", "2020-02-30"][..],
            "'2020-02-30' for '--date <YYYY-MM-DD>': expected a day of the calendar, such as 2026-01-31",
        ),
        (
            &["batch", "--once", "fx", "--tick", "yesterday"],
            "expected a time with its zone, such as 2026-01-31T12:00:00Z",
        ),
        (
            &["fx", "--date", "2020-02-02", "--to", "2020-02-01"],
            "is before --date",
        ),
        (&["fx", "--date", "2999-01-01"], "in the future"),
    ] {
        let (code, text) = ftap(&lab, args);
        assert_eq!(code, 2, "{text}");
        assert!(text.contains(wanted), "{text}");
    }
}

#[test]
fn a_wrong_key_is_in_no_output() {
    const KEY: &str = "fca_live_canary_9d3e";
    let mut lab = Lab::new("fx").without_broker();
    lab.set("FREECURRENCYAPI_API_KEY", KEY);
    // Nothing listens there.
    lab.set("FX_API_URL", "http://127.0.0.1:1/v1");
    lab.set("LOG_LEVEL", "DEBUG");
    let shown = ftap(&lab, &["config"]).1;
    assert!(
        shown.contains("FREECURRENCYAPI_API_KEY") && !shown.contains(KEY),
        "{shown}"
    );
    lab.set("FX_API_URL", format!("http://{KEY}@127.0.0.1:1/v1"));
    let (code, text) = ftap(&lab, &["fx", "--date", "2020-01-01"]);
    assert_eq!(code, 2, "{text}");
    assert!(text.contains("FX_API_URL"), "{text}");
}
