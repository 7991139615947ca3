//! Retention that overtakes a reader costs what the topic lost, never what was read before.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::common::{Lab, kafka, wait_until};

fn get(url: &str, path: &str) -> String {
    let address = url.strip_prefix("http://").unwrap().trim_end_matches('/');
    let mut stream = TcpStream::connect(address).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn rows_that_were_read_reach_the_lake_when_retention_has_overtaken_their_reader() {
    let mut lab = Lab::shared("overtaken");
    lab.set("GCS_FLUSH_SECONDS", "3600");
    lab.set("DASHBOARD_ADDR", "127.0.0.1:0");
    lab.set("RESTART_INITIAL_BACKOFF_MS", "20");
    lab.start(["produce", "--rows", "3000"]).wait_for_success();
    let consume = lab.start(["consume"]);
    let url = consume.wait_for_event("http_listening")["url"]
        .as_str()
        .unwrap()
        .to_owned();
    wait_until("the rows to be read", || {
        get(&url, "/metrics")
            .contains("ftap_records_consumed_total 3000")
            .then_some(())
    });

    consume.signal(libc::SIGSTOP);
    // The fetch that is under way takes the first ones along; after its 100 ms at the broker
    // the stopped client asks for nothing more.
    let junk = |count| vec![Some(b"junk".to_vec()); count];
    kafka::produce(lab.broker(), lab.topic(), 0, &junk(5));
    std::thread::sleep(Duration::from_secs(1));
    kafka::produce(lab.broker(), lab.topic(), 0, &junk(100));
    let first_left = kafka::keep_newest(lab.broker(), lab.topic(), 0, 10);
    consume.signal(libc::SIGCONT);

    let skipped = consume.wait_for_event("offsets_skipped");
    assert_eq!(skipped["partition"], 0);
    assert_eq!(skipped["last_offset"], first_left - 1);
    // Only junk and a control record: the reader had got to the end of the rows.
    let first = skipped["first_offset"].as_i64().unwrap();
    assert!(first >= first_left - 105, "{skipped}");
    consume.signal(libc::SIGTERM);
    consume.wait_for_success();
    let rows: u64 = consume
        .events("file_committed")
        .iter()
        .map(|file| file["rows"].as_u64().unwrap())
        .sum();
    assert_eq!(rows, 3000);
}

#[test]
fn a_topic_whose_retention_took_the_publishers_marks_is_not_published_again() {
    let lab = Lab::shared("marks-expired");
    lab.start(["produce"]).wait_for_success();
    lab.start(["consume", "--until-drained"]).wait_for_success();
    kafka::keep_newest(lab.broker(), lab.topic(), 1, 0);
    let before = kafka::read_all(lab.broker(), lab.topic()).len();
    let (code, said) = lab.start(["produce"]).wait_for_failure();
    assert_eq!(code, 1, "{said}");
    assert!(
        said.contains("partition 1") && said.contains("unknown how far"),
        "{said}"
    );
    let after = kafka::read_all(lab.broker(), lab.topic()).len();
    assert_eq!(before, after, "nothing is published twice");
    assert_eq!(lab.verify().code, 0, "{}", lab.verify());
}
