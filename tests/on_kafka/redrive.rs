//! Repaired messages go back exactly once, whatever is killed when, and `verify` counts them.

use std::time::Duration;

use crate::common::dlq::{
    assert_each_once, drain, good, lines, poison, poisoned, redrive, redriven_ids, repaired, said,
};
use crate::common::process::Ftap;
use crate::common::{Lab, ROWS, Random, kafka};
use serde_json::json;

#[test]
fn a_thousand_repaired_messages_redriven_twice_are_in_the_lake_once() {
    let lab = poisoned("redrive", 1000);
    let (file, entries) = repaired(&lab);
    assert_eq!(entries.len(), 1000);
    let from = ["--from", file.to_str().unwrap()];

    let dry = redrive(&lab, &[&from[..], &["--dry-run"]].concat());
    assert_eq!(dry["redriven"], 1000);
    assert!(redriven_ids(&lab).is_empty(), "a dry run sends nothing");

    assert_eq!(redrive(&lab, &from)["redriven"], 1000);
    let second = redrive(&lab, &from);
    assert_eq!(second["redriven"], 0);
    assert_eq!(second["already_redriven"], 1000);
    assert_each_once(&lab, 1000);

    let table = lab.command(["verify"]).output().unwrap();
    let table = String::from_utf8(table.stdout).unwrap();
    assert!(
        table.contains("1,000 rejected records were repaired and redriven"),
        "{table}"
    );
    assert_eq!(said(&lab, &["list", "--json"]), "");
    let redriven = lines(&lab, &["list", "--json", "--state", "redriven"]);
    assert_eq!(redriven.len(), 1000);

    let id = entries[0]["id"].as_str().unwrap();
    send_as_redriven(&lab, id);
    drain(&lab);
    let verdict = lab.verify();
    assert_eq!(verdict.code, 3, "{verdict}");
    assert_eq!(verdict.kinds(), ["redriven_twice"], "{verdict}");
    assert_eq!(verdict.total("doubled"), 1, "{verdict}");
}

/// A message of an entry's id without its mark.
fn send_as_redriven(lab: &Lab, id: &str) {
    let partition = id.split_once('-').unwrap().0.parse().unwrap();
    let payload = good(7);
    let headers = [("redrive", id)];
    kafka::produce_one(
        lab.broker(),
        lab.topic(),
        partition,
        None,
        payload.as_bytes(),
        &headers,
    );
}

#[test]
fn marks_and_messages_that_lack_each_other_are_found() {
    let lab = poisoned("unpaired", 9);
    let open = lines(&lab, &["list", "--json"]);
    let id = |index: usize| open[index]["id"].as_str().unwrap();
    let letters = format!("{}.dlq", lab.topic());
    let mark = [("redriven", "true")];
    kafka::produce_one(lab.broker(), &letters, 0, Some(id(0)), b"", &mark);
    send_as_redriven(&lab, id(1));
    drain(&lab);
    let verdict = lab.verify();
    assert_eq!(verdict.code, 3, "{verdict}");
    assert_eq!(
        verdict.kinds(),
        ["redrive_missing", "redrive_unmarked"],
        "{verdict}"
    );
    let offset = &open[0]["offset"];
    let missing = verdict.problems("redrive_missing")[0];
    assert_eq!(missing["ranges"], json!([[offset, offset]]), "{verdict}");
}

#[test]
fn kill_nine_at_random_moments_of_a_redrive_loses_and_doubles_nothing() {
    let mut lab = poisoned("redrive-kill", 600);
    lab.set("LOG_LEVEL", "DEBUG");
    lab.set("TRANSACTION_ROWS", "40");
    let (file, _) = repaired(&lab);
    let from = ["--from", file.to_str().unwrap()];
    let mut random = Random(20_261_122);
    let mut cut_short = 0;
    for kill in 0..6 {
        let mut command = lab.command([&["dlq", "redrive"], &from[..]].concat());
        // In turn: between a message and its mark, before a commit and after one, each time
        // with a transaction or two done before; and at any time at all.
        let done = 1 + random.below(2);
        let point = match kill % 4 {
            0 => Some(("redrive.send", done * 40 + 1 + random.below(40))),
            1 => Some(("redrive.commit", done + 1)),
            2 => Some(("redrive.committed", done + 1)),
            _ => None,
        };
        if let Some((name, hit)) = point {
            command.env("FTAP_FAILPOINTS", format!("{name}=hang@{hit}"));
        }
        let run = Ftap::start(command);
        if point.is_some() {
            run.wait_for_events("entries_redriven", done as usize);
        }
        std::thread::sleep(Duration::from_millis(random.below(300)));
        cut_short += usize::from(!run.has_ended());
        run.kill();
    }
    assert!(
        cut_short >= 5,
        "only {cut_short} were alive when they were killed"
    );
    let last = redrive(&lab, &from);
    let (new, before) = (&last["redriven"], &last["already_redriven"]);
    assert_eq!(new.as_u64().unwrap() + before.as_u64().unwrap(), 600);
    assert!(before.as_u64().unwrap() > 0, "{last}");
    assert_each_once(&lab, 600);
}

#[test]
fn of_two_redrives_at_the_same_time_one_gives_way_and_each_message_is_sent_once() {
    let mut lab = poisoned("two-redrives", 600);
    lab.set("LOG_LEVEL", "DEBUG");
    lab.set("TRANSACTION_ROWS", "20");
    let (file, _) = repaired(&lab);
    let args = ["dlq", "redrive", "--from", file.to_str().unwrap()];

    // One is stopped in the middle and wakes up when the other has done all of it.
    let stopped = lab.start(args);
    stopped.wait_for_event("entries_redriven");
    stopped.signal(libc::SIGSTOP);
    // Three side by side: each succeeds or reports that another took its place.
    let others = [(); 3].map(|()| lab.start(args));
    let mut done = 0;
    for other in &others {
        if other.wait().success() {
            done += 1;
        } else {
            assert_gave_way(other)
        }
    }
    assert!(done > 0, "one of them goes through");
    stopped.signal(libc::SIGCONT);
    assert!(!stopped.wait().success(), "{}", stopped.tail());
    assert_gave_way(&stopped);
    assert_each_once(&lab, 600);
}

fn assert_gave_way(redrive: &Ftap) {
    let (code, said) = redrive.wait_for_failure();
    assert_eq!(code, 1, "{said}");
    assert!(
        said.contains("another `ftap dlq redrive`") && said.contains("took the place"),
        "{said}"
    );
}

#[test]
fn publishing_resumes_after_thousands_of_redriven_messages() {
    let mut lab = Lab::shared("publish-on");
    lab.set("LOG_LEVEL", "DEBUG");
    lab.set("TRANSACTION_ROWS", "500");
    // The data runs over 18 months: some ten seconds.
    lab.set("PRODUCE_SPEED", "4600000");
    let produce = lab.start(["produce"]);
    produce.wait_for_events("rows_published", 3);
    produce.kill();
    poison(&lab, 6000);
    drain(&lab);
    let (file, _) = repaired(&lab);
    let from = ["--from", file.to_str().unwrap()];
    assert_eq!(redrive(&lab, &from)["redriven"], 6000);
    lab.set("PRODUCE_SPEED", "max");
    let produce = lab.start(["produce"]);
    produce.wait_for_success();
    let resumed = produce.wait_for_event("publish_resumed");
    assert!(resumed["first_row"].as_u64().unwrap() > 0, "{resumed}");
    assert_each_once(&lab, 6000);
}

#[test]
fn messages_once_too_large_go_back_as_they_are_when_the_limit_is_raised() {
    let mut lab = Lab::shared("once-too-large");
    lab.start(["produce"]).wait_for_success();
    let padded = good(1).replace('{', &format!("{{{}", " ".repeat(5000)));
    kafka::produce(lab.broker(), lab.topic(), 0, &[Some(padded.into_bytes())]);
    kafka::produce(lab.broker(), lab.topic(), 1, &[Some(b"no json".to_vec())]);
    lab.set("MAX_MESSAGE_BYTES", "4000");
    drain(&lab);
    lab.assert_exact(ROWS);
    let left = redrive(&lab, &["--all"]);
    assert_eq!(
        (&left["redriven"], &left["left_invalid"]),
        (&json!(0), &json!(2))
    );

    lab.set("MAX_MESSAGE_BYTES", "1000000");
    let verdict = lab.verify();
    verdict.assert_exact();
    let sent = redrive(&lab, &["--reason", "too_large"]);
    assert_eq!(
        (&sent["redriven"], &sent["left_invalid"]),
        (&json!(1), &json!(0))
    );
    drain(&lab);
    let verdict = lab.assert_exact(ROWS);
    assert_eq!(verdict.total("redriven"), 1, "{verdict}");
    assert_eq!(verdict.total("lake"), ROWS + 1, "{verdict}");
}

#[test]
fn what_is_rejected_again_by_force_is_a_new_entry() {
    let lab = poisoned("forced", 3);
    assert_eq!(redrive(&lab, &["--all", "--force"])["redriven"], 3);
    drain(&lab);
    let verdict = lab.assert_exact(ROWS);
    assert_eq!(verdict.total("redriven"), 3, "{verdict}");
    assert_eq!(verdict.total("rejected"), 6, "{verdict}");
    let open = lines(&lab, &["list", "--json"]);
    let all = lines(&lab, &["list", "--json", "--state", "all"]);
    assert_eq!((open.len(), all.len()), (3, 6));
}

#[test]
fn retention_of_redriven_messages_is_not_a_loss() {
    let lab = poisoned("expired-redrive", 30);
    let (file, _) = repaired(&lab);
    redrive(&lab, &["--from", file.to_str().unwrap()]);
    drain(&lab);
    // Something younger stays.
    let younger = vec![Some(good(99).into_bytes()); 3];
    kafka::produce(lab.broker(), lab.topic(), 0, &younger);
    drain(&lab);
    kafka::keep_newest(lab.broker(), lab.topic(), 0, 2);
    let verdict = lab.verify();
    assert_eq!(verdict.kinds(), ["expired_not_in_file"], "{verdict}");
    // The one younger message that has expired is of foreign origin; the ten redriven are not.
    let unknown = verdict.problems("expired_not_in_file")[0];
    assert_eq!(unknown["detail"], "1 rows", "{verdict}");
}
