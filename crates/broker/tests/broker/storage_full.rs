//! No room for more: writes fail with an error, what was acknowledged stays, and the broker continues
//! when there is room again. A limit on the size of files stands for the full disk.

use std::os::unix::process::CommandExt;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rdkafka::producer::Producer;

use crate::common::*;

const LIMIT_BYTES: u64 = 300_000;

fn limit(bytes: u64) -> libc::rlimit {
    libc::rlimit {
        rlim_cur: bytes,
        rlim_max: libc::RLIM_INFINITY,
    }
}

#[test]
fn a_failed_write_is_answered_and_the_log_continues_when_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let mut process = BrokerProcess::start_prepared(dir.path(), 0, |command| {
        // SAFETY: both calls are async-signal-safe and touch only the child about to be.
        unsafe {
            command.pre_exec(|| {
                libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
                libc::setrlimit(libc::RLIMIT_FSIZE, &limit(LIMIT_BYTES));
                Ok(())
            });
        }
    });
    let mut config = client(&process.bootstrap);
    config
        .set("message.timeout.ms", "1500")
        .set("retries", "1")
        .set("batch.num.messages", "7");
    let (producer_full, acks) = producer(&config);
    for number in 0..500 {
        send(
            &producer_full,
            "t",
            0,
            &format!("{number:04}{}", "x".repeat(1_000)),
        );
    }
    producer_full.flush(PATIENCE).unwrap();
    let acknowledged = acks.acknowledged.lock().unwrap().len();
    assert!(
        acknowledged > 100 && acknowledged < 300,
        "{acknowledged} acknowledged"
    );
    assert_eq!(
        acks.failed.load(Ordering::Relaxed),
        500 - acknowledged as u64
    );
    assert_eq!(
        read_all(&process.bootstrap, "t", 1, "read_committed").len(),
        acknowledged
    );

    // SAFETY: the limit outlives the call, and the null pointer asks for nothing.
    let raised = unsafe {
        libc::prlimit(
            process.pid(),
            libc::RLIMIT_FSIZE,
            &limit(libc::RLIM_INFINITY),
            std::ptr::null_mut(),
        )
    };
    assert_eq!(raised, 0);
    let (producer, acks) = producer(&client(&process.bootstrap));
    for number in 0..100 {
        send(&producer, "t", 0, &number.to_string());
    }
    producer.flush(Duration::from_secs(20)).unwrap();
    assert_eq!(acks.acknowledged.lock().unwrap().len(), 100);
    assert_eq!(
        read_all(&process.bootstrap, "t", 1, "read_committed").len(),
        acknowledged + 100
    );
    let port = process.port();
    process.kill();
    let process = BrokerProcess::start(dir.path(), port);
    assert_eq!(
        read_all(&process.bootstrap, "t", 1, "read_committed").len(),
        acknowledged + 100
    );
}
