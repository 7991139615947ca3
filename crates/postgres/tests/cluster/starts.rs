//! What a cluster is like, first start and second.

use std::os::unix::fs::PermissionsExt;

use ftap_postgres::cluster::{PostgresClusterError, PrivateCluster, PrivateClusterOptions};

use crate::common::{is_running, open_folder, sql, start, wait_until};

#[test]
fn a_cluster_is_durable_logical_private_and_keeps_its_data() {
    let dir = open_folder();
    let folder = dir.path().join("postgres");
    let Some(cluster) = start(&folder) else {
        return;
    };
    let address = cluster.address().clone();
    let show = |name: &str| sql(&address, &format!("SHOW {name}")).unwrap().remove(0);
    for (name, value) in [
        ("wal_level", "logical"),
        ("fsync", "on"),
        ("listen_addresses", ""),
        ("max_slot_wal_keep_size", "1GB"),
        ("password_encryption", "scram-sha-256"),
        ("server_encoding", "UTF8"),
        ("TimeZone", "UTC"),
    ] {
        assert_eq!(show(name), value, "{name}");
    }
    for secret in ["password", "pgpass"] {
        let mode = folder.join(secret).metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{secret}");
    }
    assert_eq!(
        folder.metadata().unwrap().permissions().mode() & 0o777,
        0o700
    );

    let mut wrong = address.clone();
    wrong.password = "guess".to_owned();
    let refused = sql(&wrong, "SELECT 1").unwrap_err();
    assert_eq!(refused.code().unwrap().code(), "28P01", "{refused}");

    sql(&address, "CREATE TABLE kept (n int)").unwrap();
    sql(&address, "INSERT INTO kept VALUES (7)").unwrap();
    let pid = cluster.pid();
    drop(cluster);
    assert!(!is_running(pid), "the server outlived its cluster");
    let log = std::fs::read_to_string(folder.join("server.log")).unwrap();
    assert!(log.contains("database system is shut down"), "{log}");

    let again = start(&folder).unwrap();
    assert_eq!(sql(again.address(), "SELECT n FROM kept").unwrap(), ["7"]);
    assert_eq!(again.address(), &address);
}

#[test]
fn a_second_process_is_refused_and_can_find_the_first_ones_server() {
    let dir = open_folder();
    let Some(cluster) = start(dir.path()) else {
        return;
    };
    let second = PrivateCluster::start(PrivateClusterOptions::new(dir.path())).unwrap_err();
    assert!(
        matches!(second, PostgresClusterError::InUse { .. }),
        "{second}"
    );
    let found = PrivateCluster::running(dir.path()).unwrap();
    assert_eq!(&found, cluster.address());
    assert_eq!(sql(&found, "SELECT 1").unwrap(), ["1"]);
}

#[test]
fn a_first_start_that_was_cut_short_leaves_nothing_half_made() {
    let dir = open_folder();
    // What a killed initdb leaves: a folder with a version and nothing that starts.
    let half = dir.path().join("cluster.tmp");
    std::fs::create_dir_all(&half).unwrap();
    std::fs::write(half.join("PG_VERSION"), "15\n").unwrap();
    let Some(cluster) = start(dir.path()) else {
        return;
    };
    assert_eq!(sql(cluster.address(), "SELECT 1").unwrap(), ["1"]);
    assert!(!half.exists());
}

#[test]
fn the_servers_log_is_bounded() {
    let dir = open_folder();
    std::fs::write(dir.path().join("server.log"), vec![b'x'; 9_000_000]).unwrap();
    let Some(_cluster) = start(dir.path()) else {
        return;
    };
    let log = dir.path().join("server.log");
    let bytes = wait_until("an emptied log", || {
        log.metadata().ok().map(|m| m.len()).filter(|len| *len > 0)
    });
    assert!(bytes < 1_000_000, "{bytes}");
    assert!(dir.path().join("server.log.1").is_file());
}
