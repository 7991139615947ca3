//! A broker that can't start says what is wrong, with the value and the remedy.

use std::fs;
use std::net::TcpListener;
use std::path::Path;

use ftap_broker::{Broker, BrokerError, BrokerOptions};

use crate::common::*;

fn refused(dir: &Path, edit: impl FnOnce(&mut BrokerOptions)) -> BrokerError {
    let mut options = BrokerOptions {
        data_dir: dir.to_path_buf(),
        ..BrokerOptions::default()
    };
    edit(&mut options);
    Broker::start(options).unwrap_err()
}

#[test]
fn a_directory_serves_one_broker_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let mut process = BrokerProcess::start(dir.path(), 0);
    let error = refused(dir.path(), |_| {});
    assert!(matches!(error, BrokerError::InUse { .. }), "{error}");
    assert!(
        error
            .to_string()
            .contains(&dir.path().display().to_string())
    );
    process.kill();
    let broker = start(dir.path());
    drop(broker);
    start(dir.path()).shutdown().unwrap();
}

#[test]
fn only_loopback_addresses_are_served() {
    let dir = tempfile::tempdir().unwrap();
    for addr in ["0.0.0.0:0", "192.168.0.1:9092", "[::]:0"] {
        let error = refused(dir.path(), |o| o.addr = addr.parse().unwrap());
        assert!(matches!(error, BrokerError::NotLoopback { .. }), "{error}");
        assert!(error.to_string().contains("127.0.0.1"), "{error}");
    }
}

#[test]
fn a_port_in_use_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = other.local_addr().unwrap();
    let error = refused(dir.path(), |o| o.addr = addr);
    assert!(matches!(error, BrokerError::Bind { .. }), "{error}");
    assert!(error.to_string().contains(&addr.to_string()), "{error}");
}

#[test]
fn foreign_files_in_the_place_of_its_own_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    start(dir.path()).shutdown().unwrap();
    for (file, content) in [
        ("meta", "a diary"),
        ("coordinator.journal", "a diary, long enough to be one"),
    ] {
        let path = dir.path().join(file);
        let before = fs::read(&path).unwrap();
        fs::write(&path, content).unwrap();
        let error = refused(dir.path(), |_| {});
        assert!(matches!(error, BrokerError::Corrupt { .. }), "{error}");
        assert!(error.to_string().contains(file), "{error}");
        fs::write(&path, before).unwrap();
    }
    start(dir.path()).shutdown().unwrap();
}

#[test]
fn a_directory_that_cannot_be_made_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let error = refused(&file.join("kafka"), |_| {});
    assert!(matches!(error, BrokerError::DataDir { .. }), "{error}");
    assert!(error.to_string().contains("file/kafka"), "{error}");
}

#[test]
fn impossible_options_are_named_with_their_values() {
    let dir = tempfile::tempdir().unwrap();
    let error = refused(dir.path(), |o| o.default_partitions = 0);
    assert_eq!(
        error.to_string(),
        "option default_partitions is 0, it must be between 1 and 10000"
    );
    let error = refused(dir.path(), |o| o.max_batch_bytes = o.max_request_bytes + 1);
    assert!(error.to_string().contains("max_batch_bytes"), "{error}");
}

#[test]
fn a_handle_can_be_shared_between_threads() {
    fn shareable<T: Send + Sync>() {}
    shareable::<ftap_broker::BrokerHandle>();
}

#[test]
fn it_can_be_started_and_stopped_inside_an_async_runtime() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let broker = start(dir.path());
        assert!(broker.bootstrap().starts_with("127.0.0.1:"));
        assert_eq!(broker.addr().to_string(), broker.bootstrap());
        broker.shutdown().unwrap();
        drop(start(dir.path()));
    });
}
