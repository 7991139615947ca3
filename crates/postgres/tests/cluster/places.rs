//! Folders and machines that don't fit: what is said, and what is done.

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use ftap_postgres::cluster::{PostgresClusterError, PrivateCluster, PrivateClusterOptions};

use crate::common::{open_folder, sql, start};

#[test]
fn a_path_too_long_for_a_socket_gets_a_loopback_port() {
    let dir = open_folder();
    let deep = dir.path().join("d".repeat(100));
    let Some(cluster) = start(&deep) else {
        return;
    };
    assert_eq!(cluster.host(), "127.0.0.1");
    let shown = sql(cluster.address(), "SHOW listen_addresses").unwrap();
    assert_eq!(shown, ["127.0.0.1"]);
    let mut wrong = cluster.address().clone();
    wrong.password = String::new();
    assert!(
        sql(&wrong, "SELECT 1").is_err(),
        "no password, and it let us in"
    );
}

#[test]
fn without_binaries_the_error_says_what_to_install() {
    let dir = open_folder();
    let mut options = PrivateClusterOptions::new(dir.path().join("postgres"));
    options.bin_dir = Some(dir.path().join("empty"));
    let error = PrivateCluster::start(options).unwrap_err().to_string();
    assert!(error.contains("apt-get install postgresql"), "{error}");
    assert!(error.contains("empty"), "{error}");
}

#[test]
fn another_major_version_is_named_with_the_remedy_and_nothing_is_touched() {
    let dir = open_folder();
    let Some(cluster) = start(dir.path()) else {
        return;
    };
    drop(cluster);
    let version = dir.path().join("cluster/PG_VERSION");
    let before = std::fs::read_to_string(&version).unwrap();
    std::fs::write(&version, "13\n").unwrap();
    let error = PrivateCluster::start(PrivateClusterOptions::new(dir.path())).unwrap_err();
    assert!(
        matches!(error, PostgresClusterError::OtherVersion { .. }),
        "{error}"
    );
    let error = error.to_string();
    assert!(
        error.contains("PostgreSQL 13") && error.contains("move"),
        "{error}"
    );
    std::fs::write(&version, before).unwrap();
    assert!(start(dir.path()).is_some());
}

#[test]
fn a_folder_that_the_account_cannot_enter_is_named() {
    // SAFETY: geteuid has no arguments and cannot fail.
    if unsafe { libc::geteuid() } != 0 {
        eprintln!("NOT RUN: only root runs the server as another account");
        return;
    }
    let closed = open_folder();
    std::fs::set_permissions(closed.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    let folder = closed.path().join("postgres");
    let error = PrivateCluster::start(PrivateClusterOptions::new(&folder)).unwrap_err();
    assert!(
        matches!(error, PostgresClusterError::Unreachable { .. }),
        "{error}"
    );
    let path = closed.path().canonicalize().unwrap();
    let remedy = format!("chmod o+x {}", path.display());
    assert!(error.to_string().contains(&remedy), "{error}");
}

#[test]
fn a_cluster_that_was_copied_by_root_is_refused_with_its_owner() {
    // SAFETY: geteuid has no arguments and cannot fail.
    if unsafe { libc::geteuid() } != 0 {
        eprintln!("NOT RUN: only root can give files to others");
        return;
    }
    let dir = open_folder();
    if start(dir.path()).is_none() {
        return;
    }
    chown(dir.path().join("cluster"), Some(0), Some(0)).unwrap();
    let error = PrivateCluster::start(PrivateClusterOptions::new(dir.path())).unwrap_err();
    let PostgresClusterError::OtherOwner {
        owner: 0,
        account,
        path,
    } = &error
    else {
        panic!("{error}");
    };
    let remedy = format!("chown -R {account} {}", path.display());
    assert!(error.remedy().contains(&remedy), "{error}");
}

#[test]
fn programs_that_are_too_old_are_named_with_their_version() {
    let dir = open_folder();
    for name in ["postgres", "initdb"] {
        let program = dir.path().join(name);
        std::fs::write(&program, "#!/bin/sh\necho 'postgres (PostgreSQL) 9.6.24'\n").unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let mut options = PrivateClusterOptions::new(dir.path().join("cluster"));
    options.bin_dir = Some(dir.path().to_path_buf());
    let error = PrivateCluster::start(options).unwrap_err();
    assert!(error.reason().contains("there is 9.6.24"), "{error}");
}

#[test]
fn a_file_in_the_way_is_an_error_and_no_crash() {
    let dir = open_folder();
    let file = dir.path().join("postgres");
    std::fs::write(&file, "").unwrap();
    let error = PrivateCluster::start(PrivateClusterOptions::new(&file)).unwrap_err();
    assert!(error.to_string().contains("postgres"), "{error}");
}

/// The server of this folder, started as another program would.
pub(crate) fn start_by_hand(folder: &Path) -> Child {
    let cluster = folder.canonicalize().unwrap().join("cluster");
    let owner = cluster.metadata().unwrap();
    let mut command = Command::new(program());
    command
        .arg("-D")
        .arg(&cluster)
        .args(["-c", "listen_addresses=", "-c", "wal_level=logical", "-c"])
        .arg(format!(
            "unix_socket_directories={}",
            cluster.parent().unwrap().display()
        ))
        .current_dir(&cluster)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    // SAFETY: geteuid has no arguments and cannot fail.
    if unsafe { libc::geteuid() } == 0 {
        command.uid(owner.uid()).gid(owner.gid());
    }
    command.spawn().unwrap()
}

pub(crate) fn reap(mut child: Child) {
    let _ = child.kill();
    let _ = child.wait();
}

/// The newest server program of the usual places; a cluster has been started, so there is one.
fn program() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten();
    let mut found: Vec<_> = versions
        .map(|entry| entry.unwrap().path().join("bin/postgres"))
        .filter(|path| {
            path.metadata()
                .is_ok_and(|m| m.permissions().mode() & 0o111 != 0)
        })
        .collect();
    found.sort();
    found.pop().unwrap_or_else(|| PathBuf::from("postgres"))
}
