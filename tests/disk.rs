//! A disk that is full, read-only or gone stops the stream, not the program: it resumes by itself.

use std::time::Duration;

use crate::common;
use crate::common::clock;
use crate::common::disk::Disk;
use crate::common::process::Ftap;
use crate::common::{Lab, ROWS, kafka, speed_for};
use serde_json::Value;

/// Waits until the lake refuses for a reason with that text, and then some tries more.
fn wait_for_outage(run: &Ftap, reason: &str) {
    run.wait_for(reason, |lines| {
        let mut refused = lines
            .iter()
            .filter(|line| line["event"] == "lake_unavailable");
        refused
            .any(|line| line["error"].as_str().unwrap().contains(reason))
            .then_some(())
    });
    // The outage is logged once; several attempts fall into this time.
    std::thread::sleep(Duration::from_secs(3));
    assert_unharmed(run);
    // A put that was under way when the lake went may still have been answered.
    let (down, up) = (run.events("lake_unavailable"), run.events("lake_recovered"));
    assert!(down.len() > up.len(), "{down:?} {up:?}");
}

fn assert_unharmed(run: &Ftap) {
    assert!(!run.has_ended(), "{}", run.tail());
    assert_eq!(run.events("stage_failed"), [] as [Value; 0]);
}

#[test]
fn a_full_lake_disk_pauses_the_stream_until_there_is_space() {
    let mut lab = Lab::new("lake-full");
    let Some(disk) = Disk::mount(lab.path("lake"), 200_000) else {
        return;
    };
    lab.set("FILE_MAX_ROWS", "1500");
    let run = lab.start(["run", "--until-drained"]);
    wait_for_outage(&run, "free some space on that disk");
    let refused = run.wait_for_event("lake_unavailable");
    let path = disk.path().to_str().unwrap();
    assert!(
        refused["error"].as_str().unwrap().contains(path),
        "{refused}"
    );
    disk.remount("size=64m");
    run.wait_for_success();
    assert_eq!(run.events("stage_failed"), [] as [Value; 0]);
    lab.assert_exact(ROWS);
}

#[test]
fn a_start_on_a_full_disk_is_a_failure_and_no_bad_usage() {
    let mut lab = Lab::new("start-full").without_broker();
    let Some(disk) = Disk::mount(lab.path("disk"), 400_000) else {
        return;
    };
    // As much of it as fits.
    let _ = std::fs::write(disk.path().join("filler"), vec![1; 400_000]);
    for (command, setting) in [
        ("run", "DATA_DIR"),
        ("kafka", "DATA_DIR"),
        ("consume", "LAKE_DIR"),
        ("cdc", "LAKE_DIR"),
    ] {
        let folder = disk.path().join("new");
        let before = lab.get(setting).to_owned();
        lab.set(setting, folder.to_str().unwrap());
        lab.set("POSTGRES", "auto");
        let (code, said) = lab.start([command]).wait_for_failure();
        assert_eq!(code, 1, "{command}: {said}");
        for expected in [
            "no space is left",
            folder.to_str().unwrap(),
            &format!("from {setting}"),
            "there 0 B are free",
            "free some space on that disk",
        ] {
            assert!(said.contains(expected), "{command}, {expected}: {said}");
        }
        lab.set(setting, before);
    }
}

#[test]
fn a_lake_that_turns_read_only_and_back_loses_and_doubles_nothing() {
    let mut lab = Lab::new("read-only");
    let Some(disk) = Disk::mount(lab.path("lake"), 64 << 20) else {
        return;
    };
    lab.set("GCS_FLUSH_SECONDS", "0.3");
    lab.set("PRODUCE_SPEED", speed_for(6));
    let run = lab.start(["run", "--until-drained"]);
    run.wait_for_event("file_committed");
    disk.remount("ro");
    wait_for_outage(&run, "mount that file system writable");
    disk.remount("rw");
    run.wait_for_success();
    lab.assert_exact(ROWS);
}

const ABSENT: &str = "mount or move the lake's folder back";

/// Takes the lake away while it is written to, and puts it back.
fn take_away(lab: &mut Lab, meanwhile: impl FnOnce(&Lab, &Ftap)) {
    lab.set("GCS_FLUSH_SECONDS", "0.3");
    lab.set("PRODUCE_SPEED", speed_for(6));
    let run = lab.start(["run", "--until-drained"]);
    run.wait_for_event("file_committed");
    std::fs::rename(lab.path("lake"), lab.path("away")).unwrap();
    meanwhile(lab, &run);
    assert_eq!(lab.objects(), [] as [std::path::PathBuf; 0]);
    std::fs::rename(lab.path("away"), lab.path("lake")).unwrap();
    run.wait_for_success();
    lab.assert_exact(ROWS);
}

#[test]
fn a_lake_that_is_moved_away_is_waited_for_and_not_recreated() {
    let mut lab = Lab::new("moved-away");
    take_away(&mut lab, |lab, run| {
        wait_for_outage(run, ABSENT);
        assert!(!lab.path("lake").exists());
    });
}

/// What is left when a disk is unmounted.
#[test]
fn an_empty_folder_in_the_lakes_place_is_left_empty() {
    let mut lab = Lab::new("unmounted");
    take_away(&mut lab, |lab, run| {
        std::fs::create_dir(lab.path("lake")).unwrap();
        wait_for_outage(run, ABSENT);
        // Putting the lake back by a rename replaces an empty folder only.
    });
}

#[test]
fn a_full_disk_of_the_embedded_broker_stops_the_publisher_until_there_is_space() {
    if common::real_kafka().is_some() {
        return;
    }
    let mut lab = Lab::new("broker-full").without_broker();
    let Some(disk) = Disk::mount(lab.path("broker"), 3 << 20) else {
        return;
    };
    let mut kafka = lab.command(["kafka", "--port", "0"]);
    kafka
        .env("DATA_DIR", disk.path())
        .env_remove("KAFKA_BROKER");
    let kafka = Ftap::start(kafka);
    let started = kafka.wait_for_event("embedded_kafka_started");
    let broker = started["bootstrap"].as_str().unwrap();
    lab.set("KAFKA_BROKER", broker);
    lab.set("TRANSACTION_ROWS", "2000");
    let produce = lab.start(["produce"]);
    let error = kafka.wait_for_event("storage_error");
    let remedy = error["remedy"].as_str().unwrap();
    assert!(remedy.contains("free some space"), "{error}");
    let path = error["path"].as_str().unwrap();
    assert!(path.starts_with(disk.path().to_str().unwrap()), "{error}");
    // Long enough for a flood: clients repeat what was refused ten times a second.
    std::thread::sleep(Duration::from_secs(8));
    let errors = kafka.events("storage_error").len();
    assert!(errors <= 8, "{errors} in 8 s");
    assert!(!kafka.has_ended(), "{}", kafka.tail());
    assert!(!produce.has_ended(), "{}", produce.tail());
    assert_eq!(produce.events("group_restarting"), [] as [Value; 0]);

    disk.remount("size=256m");
    produce.wait_for_success();
    assert!(!kafka::read_all(broker, lab.topic()).is_empty());
    lab.start(["consume", "--until-drained"]).wait_for_success();
    lab.assert_exact(ROWS);
}

#[test]
fn a_folder_without_hard_links_is_refused_with_the_remedy() {
    let lab = Lab::new("no-links");
    let Some(library) = clock::library(&lab, "no_links.c") else {
        return;
    };
    let mut command = lab.command(["fx", "--date", "2024-01-01"]);
    command.env("LD_PRELOAD", &library);
    let (code, said) = Ftap::start(command).wait_for_failure();
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("a file system with hard links"), "{said}");
}
