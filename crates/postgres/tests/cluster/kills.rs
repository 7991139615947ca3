//! `kill -9` of the process that has the cluster, of the server, and of both.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;

use crate::common::{
    Holder, connect, is_running, kill, open_folder, runtime, sql, start, wait_until,
};

#[test]
fn a_killed_process_leaves_no_server_and_no_acknowledged_row_is_lost() {
    let dir = open_folder();
    if start(dir.path()).is_none() {
        return;
    }
    let mut written = 0;
    for _ in 0..3 {
        let holder = Holder::start(dir.path());
        written += write_until_killed(holder, |holder| holder.kill());
    }
    let cluster = start(dir.path()).unwrap();
    let rows = sql(cluster.address(), "SELECT count(*) FROM kept").unwrap();
    let rows: u64 = rows[0].parse().unwrap();
    // A commit may be durable whose answer did not arrive: one a round.
    assert!(
        (written..=written + 3).contains(&rows),
        "{rows} of {written}"
    );
}

/// Writes rows one by one, has everything killed in between, waits until no server is left.
fn write_until_killed(holder: Holder, end: impl FnOnce(Holder)) -> u64 {
    let (server, address) = (holder.server, holder.address.clone());
    sql(&address, "CREATE TABLE IF NOT EXISTS kept (n int)").unwrap();
    let acknowledged = Arc::new(AtomicU64::new(0));
    let counter = acknowledged.clone();
    let writer = std::thread::spawn(move || {
        runtime().block_on(async {
            let client = connect(&address).await.unwrap();
            let insert = "INSERT INTO kept VALUES (1)";
            while client.execute(insert, &[]).await.is_ok() {
                counter.fetch_add(1, SeqCst);
            }
        });
    });
    wait_until("rows", || (acknowledged.load(SeqCst) >= 20).then_some(()));
    end(holder);
    writer.join().unwrap();
    if cfg!(target_os = "linux") {
        wait_until("the end of the server", || {
            (!is_running(server)).then_some(())
        });
    }
    acknowledged.load(SeqCst)
}

#[test]
fn a_killed_server_comes_back_by_itself_with_all_that_was_committed() {
    let dir = open_folder();
    let Some(cluster) = start(dir.path()) else {
        return;
    };
    let address = cluster.address().clone();
    sql(&address, "CREATE TABLE kept (n int)").unwrap();
    for round in 1..=2_u64 {
        sql(&address, "INSERT INTO kept VALUES (1)").unwrap();
        let killed = cluster.pid();
        kill(killed, libc::SIGKILL);
        wait_until("another server", || (cluster.pid() != killed).then_some(()));
        let rows = sql(&address, "SELECT count(*) FROM kept").unwrap();
        assert_eq!(rows[0], round.to_string());
    }
}

#[test]
fn after_both_were_killed_the_next_start_recovers() {
    let dir = open_folder();
    if start(dir.path()).is_none() {
        return;
    }
    let holder = Holder::start(dir.path());
    let server = holder.server;
    let written = write_until_killed(holder, |holder| {
        // The process first, or it would start the server again.
        let server = holder.server;
        holder.kill();
        kill(server, libc::SIGKILL);
    });
    assert!(!is_running(server));
    let cluster = start(dir.path()).unwrap();
    let rows = sql(cluster.address(), "SELECT count(*) FROM kept").unwrap();
    let rows: u64 = rows[0].parse().unwrap();
    assert!(
        (written..=written + 1).contains(&rows),
        "{rows} of {written}"
    );
}

#[test]
fn a_server_that_was_left_behind_is_stopped_and_replaced() {
    let dir = open_folder();
    let Some(first) = start(dir.path()) else {
        return;
    };
    // As on a system where a server does not end with its starter: started by hand, off our books.
    let settings = first.address().clone();
    drop(first);
    let orphan = crate::places::start_by_hand(dir.path());
    wait_until("the orphan", || sql(&settings, "SELECT 1").ok());
    let second = start(dir.path()).unwrap();
    assert_ne!(second.pid(), orphan.id());
    assert!(!is_running(orphan.id()));
    assert_eq!(sql(second.address(), "SELECT 1").unwrap(), ["1"]);
    crate::places::reap(orphan);
}

#[test]
fn a_pid_file_that_names_a_stranger_does_not_keep_the_server_from_starting() {
    let dir = open_folder();
    let Some(cluster) = start(dir.path()) else {
        return;
    };
    drop(cluster);
    // After a reboot or in a new container the id belongs to another process: here, to this test.
    let file = dir.path().join("cluster/postmaster.pid");
    std::fs::write(&file, format!("{}\n/elsewhere\n", std::process::id())).unwrap();
    let cluster = start(dir.path()).unwrap();
    assert_eq!(sql(cluster.address(), "SELECT 1").unwrap(), ["1"]);
}
