//! A private cluster that can't be used, or not any more: what is wrong is said once, and the remedy
//! is the one that helps.
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::common::postgres::{Server, old_programs, open_to_all};
use crate::common::process::Ftap;
use crate::common::{Lab, PATIENCE, not_run, real_kafka};

/// A user whom no system knows.
const NOBODYS_ID: u32 = 54_321;

/// A laboratory whose cluster is a private one. `None` where there is no PostgreSQL.
fn lab(name: &str) -> Option<Lab> {
    let mut lab = Lab::new(name).without_broker();
    // Only to learn whether there is a PostgreSQL at all.
    Server::start(&mut lab)?;
    for setting in ["POSTGRES_HOST", "POSTGRES_PASSWORD", "POSTGRES_USER"] {
        lab.set(setting, "");
    }
    lab.set("UPDATE_USERS_SCHEDULE", "* * * * * *");
    Some(lab)
}

fn is_root() -> bool {
    // SAFETY: geteuid has no arguments and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// The message of a command that fails without having started anything.
fn failure(run: &Ftap) -> String {
    let (code, message) = run.wait_for_failure();
    assert_eq!(code, 1, "{message}");
    for event in ["postgres_off", "stage_failed", "group_gave_up"] {
        assert_eq!(
            run.events(event).len(),
            0,
            "it is logged twice: {}",
            run.tail()
        );
    }
    assert_eq!(message.matches("there is no PostgreSQL to use").count(), 1);
    message
}

#[test]
fn without_postgresql_auto_warns_once_and_who_needs_it_gets_one_error() {
    if real_kafka().is_some() {
        return;
    }
    let mut lab = Lab::new("absent").without_broker();
    lab.set("POSTGRES", "auto");
    lab.set("POSTGRES_BIN_DIR", old_programs(&lab));
    let run = lab.start(["run"]);
    let warning = run.wait_for_event("postgres_off");
    let (reason, remedy) = (warning["reason"].to_string(), warning["remedy"].to_string());
    assert!(
        reason.contains("9.6.24") && reason.contains("old-programs"),
        "{reason}"
    );
    assert!(
        remedy.contains("POSTGRES_BIN_DIR") && remedy.contains("POSTGRES_HOST"),
        "{remedy}"
    );
    assert!(remedy.contains("POSTGRES=off"), "{remedy}");
    run.wait_for_event("publish_finished");
    run.signal(libc::SIGTERM);
    run.wait_for_success();
    assert_eq!(run.events("postgres_off").len(), 1);
    assert_eq!(run.events("group_gave_up").len(), 0);

    for (usage, args) in [
        ("auto", &["cdc"][..]),
        ("auto", &["batch"][..]),
        ("auto", &["batch", "--once", "users"][..]),
        ("on", &["run"][..]),
        ("on", &["run", "--until-drained"][..]),
    ] {
        lab.set("POSTGRES", usage);
        let message = failure(&lab.start(args));
        assert!(
            message.contains("POSTGRES_BIN_DIR is"),
            "{args:?}: {message}"
        );
        assert!(!message.contains("POSTGRES=off"), "{args:?}: {message}");
    }

    // Programs that are not there are a setting to correct, before anything starts.
    std::fs::create_dir(lab.path("empty")).unwrap();
    for (dir, said) in [
        ("empty", "there is no program `postgres` in it"),
        ("nowhere", "No such file or directory"),
        ("old-programs/postgres", "it is not a directory"),
    ] {
        lab.set("POSTGRES_BIN_DIR", lab.path(dir));
        let (code, message) = lab.start(["cdc"]).wait_for_failure();
        assert_eq!(code, 2, "{message}");
        assert!(
            message.contains("POSTGRES_BIN_DIR is") && message.contains(said),
            "{message}"
        );
    }
}

#[test]
fn a_cluster_of_another_owner_or_out_of_reach_is_named_with_what_helps() {
    let Some(mut lab) = lab("owner") else {
        return;
    };
    if !is_root() {
        return not_run("only root can give files to others");
    }
    let once = ["batch", "--once", "users"];
    lab.start(once).wait_for_success();
    let folder = lab.path("data/postgres").canonicalize().unwrap();
    let owner = folder.metadata().unwrap().uid();

    // As after `cp -r` by root.
    let give = |user: u32| {
        for path in [folder.clone(), folder.join("cluster")] {
            chown(path, Some(user), None).unwrap();
        }
    };
    give(0);
    let message = failure(&lab.start(once));
    assert!(
        message.contains("chown -R") && message.contains("data/postgres"),
        "{message}"
    );
    assert!(!message.contains("install"), "{message}");
    give(owner);

    // Another user's process.
    let as_user = |lab: &Lab, user: u32| {
        let mut command = lab.command(once);
        let output = command.uid(user).gid(user).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{text}");
        text
    };
    // The binary may lie where others have no way in.
    let mut probe = lab.command(["--version"]);
    if let Err(error) = probe.uid(NOBODYS_ID).gid(NOBODYS_ID).output() {
        println!("not run: no other user's process ({error})");
        return;
    }
    let open = |dir: &Path| {
        std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o777)).unwrap();
    };
    open(&lab.path("data"));
    let message = as_user(&lab, NOBODYS_ID);
    let remedy = format!("chown -R {NOBODYS_ID} {}", folder.display());
    assert!(
        message.contains(&remedy) && message.contains("DATA_DIR"),
        "{message}"
    );

    // A user without a name makes no cluster.
    std::fs::create_dir(lab.path("fresh")).unwrap();
    open(&lab.path("fresh"));
    lab.set("DATA_DIR", lab.path("fresh"));
    let message = as_user(&lab, NOBODYS_ID);
    assert!(message.contains("useradd --uid 54321"), "{message}");

    // A folder that the server's account can't enter.
    std::fs::set_permissions(lab.path("fresh"), std::fs::Permissions::from_mode(0o700)).unwrap();
    std::fs::remove_dir_all(lab.path("fresh/postgres")).unwrap();
    let message = failure(&lab.start(once));
    assert!(
        message.contains("chmod o+x") && message.contains("DATA_DIR"),
        "{message}"
    );
    open_to_all(&lab.path("fresh"));
    lab.start(once).wait_for_success();
}

#[test]
fn a_private_cluster_that_is_down_or_damaged_is_logged_once_with_its_folder() {
    let Some(mut lab) = lab("damaged") else {
        return;
    };
    // As users have it: the libraries' own words are for debugging.
    lab.set("LOG_LEVEL", "INFO");
    lab.set("POSTGRES_CONNECT_TIMEOUT_SECONDS", "1");
    let log = "data/postgres/server.log";
    let is_private = |said: &str| {
        assert!(said.contains(log), "{said}");
        assert!(
            !said.contains("POSTGRES_"),
            "no setting leads there: {said}"
        );
    };
    let run = lab.start(["run"]);
    let server = run.wait_for_event("private_postgres_started")["pid"]
        .as_i64()
        .unwrap();
    run.wait_for_event("users_updated");
    run.wait_for_event("changes_streaming");
    // A server that can't start again, until the folder is back.
    let cluster = lab.path("data/postgres/cluster");
    std::fs::rename(cluster.join("global"), cluster.join("gone")).unwrap();
    // SAFETY: kill has no memory effects.
    unsafe { libc::kill(server as libc::pid_t, libc::SIGKILL) };
    let waits = run.wait_for_event("postgres_unavailable");
    is_private(waits["error"].as_str().unwrap());
    std::fs::rename(cluster.join("gone"), cluster.join("global")).unwrap();
    run.wait_for_event("private_postgres_restarted");
    let updates = run.events("users_updated").len();
    run.wait_for_events("users_updated", updates + 1);
    run.signal(libc::SIGTERM);
    run.wait_for_success();
    assert_eq!(run.events("library_message"), [] as [serde_json::Value; 0]);

    std::fs::remove_dir_all(cluster.join("base")).unwrap();
    let (code, message) = lab.start(["batch", "--once", "users"]).wait_for_failure();
    assert_eq!(code, 1, "{message}");
    assert!(
        message.contains("is damaged") && message.contains("move"),
        "{message}"
    );
    is_private(&message);
}

/// Waits until the process shows all of these to Prometheus.
fn wait_for_metrics(process: &Ftap, series: &[&str]) {
    let end = Instant::now() + PATIENCE;
    loop {
        let shown = process.metrics();
        let is_there = |wanted: &&&str| !shown.lines().any(|line| line == **wanted);
        let missing: Vec<_> = series.iter().filter(is_there).collect();
        if missing.is_empty() {
            return;
        }
        assert!(Instant::now() < end, "no {missing:?} in\n{shown}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_server_that_no_job_reaches_is_down_for_prometheus() {
    if real_kafka().is_some() {
        return;
    }
    let mut lab = Lab::new("unreachable").without_broker();
    lab.set("DASHBOARD_ADDR", "127.0.0.1:0");
    lab.set("POSTGRES", "on");
    lab.set("POSTGRES_HOST", "127.0.0.1");
    lab.set("POSTGRES_PORT", "1");
    lab.set("UPDATE_USERS_SCHEDULE", "* * * * * *");
    let down = "ftap_service_up{service=\"postgres\"} 0";
    let failed = "ftap_job_runs_total{job=\"update_users\",outcome=\"failed\"} 1";
    for (command, series) in [
        ("batch", [down, failed]),
        ("cdc", [down, "ftap_slot_connected 0"]),
    ] {
        let process = lab.start([command]);
        wait_for_metrics(&process, &series);
        process.signal(libc::SIGTERM);
        process.wait_for_success();
    }
}
