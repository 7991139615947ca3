//! Clients written by others, as programs of their own: kcat, confluent-kafka and kafka-python. A
//! machine without them gets a message; with FTAP_REQUIRE_TOOLS=1 their absence is a failure. Python
//! packages are looked for in the interpreter FTAP_TEST_PYTHON names, python3 otherwise.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::common::*;

fn available(name: &str, probe: &mut Command) -> bool {
    let found = probe.stdout(Stdio::null()).stderr(Stdio::null()).status();
    let found = found.is_ok_and(|status| status.success());
    let required = std::env::var("FTAP_REQUIRE_TOOLS").is_ok_and(|value| value == "1");
    assert!(
        found || !required,
        "{name} is not installed, and FTAP_REQUIRE_TOOLS=1"
    );
    if !found {
        eprintln!("NOT RUN: {name} is not installed");
    }
    found
}

fn run(command: &mut Command, input: &str) -> String {
    // Cargo's library path would slip our librdkafka under programs that have one of their own.
    let child = command
        .env_remove("LD_LIBRARY_PATH")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = child.unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}

fn python() -> Command {
    Command::new(std::env::var_os("FTAP_TEST_PYTHON").unwrap_or_else(|| "python3".into()))
}

fn run_python(module: &str, script: &str) {
    if !available(
        &format!("Python's {module}"),
        python().args(["-c", &format!("import {module}")]),
    ) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let broker = start_with(dir.path(), |o| o.default_partitions = 2);
    let out = run(python().args(["-c", script]).arg(broker.bootstrap()), "");
    assert!(out.ends_with("done\n"), "{out}");
}

#[test]
fn kcat_produces_consumes_and_joins_a_group() {
    if !available("kcat", Command::new("kcat").arg("-V")) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let broker = start_with(dir.path(), |o| o.default_partitions = 2);
    let at = broker.bootstrap();
    let kcat =
        |args: &[&str], input: &str| run(Command::new("kcat").args(["-b", &at]).args(args), input);
    let lines: String = (0..1_000).map(|n| format!("key{}:{n}\n", n % 7)).collect();
    for compression in ["none", "gzip", "snappy", "lz4"] {
        kcat(&["-P", "-t", "t", "-K", ":", "-z", compression], &lines);
    }
    let read = kcat(&["-C", "-t", "t", "-e", "-q"], "");
    assert_eq!(read.lines().count(), 4_000);
    let metadata = kcat(&["-L"], "");
    assert!(
        metadata.contains("topic \"t\" with 2 partitions"),
        "{metadata}"
    );
    let group = kcat(
        &[
            "-G",
            "g",
            "-e",
            "-q",
            "-X",
            "auto.offset.reset=earliest",
            "t",
        ],
        "",
    );
    assert_eq!(group.lines().count(), 4_000);
    let again = kcat(
        &[
            "-G",
            "g",
            "-e",
            "-q",
            "-X",
            "auto.offset.reset=earliest",
            "t",
        ],
        "",
    );
    assert_eq!(
        again.lines().count(),
        0,
        "the group's positions were not kept"
    );
}

#[test]
fn confluent_kafka_uses_every_part() {
    run_python(
        "confluent_kafka",
        r#"
import sys
from confluent_kafka import Producer, Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
b = {"bootstrap.servers": sys.argv[1]}
admin = AdminClient(b)
for f in admin.create_topics([NewTopic("t", 3, 1)]).values(): f.result(20)
p = Producer(b | {"transactional.id": "x"})
p.init_transactions(20)
p.begin_transaction()
for i in range(100): p.produce("t", str(i).encode(), key=str(i % 5).encode())
p.commit_transaction(20)
p.begin_transaction()
for i in range(50): p.produce("t", b"no")
p.flush(20)
p.abort_transaction(20)
c = Consumer(b | {"group.id": "g", "auto.offset.reset": "earliest", "enable.auto.commit": False, "isolation.level": "read_committed"})
c.subscribe(["t"])
got = []
while len(got) < 100:
    m = c.poll(20)
    assert m is not None and not m.error(), m
    got.append(int(m.value()))
assert sorted(got) == list(range(100)), got
assert c.poll(0.5) is None
c.commit(asynchronous=False)
groups = admin.list_consumer_groups().result(20)
assert [g.group_id for g in groups.valid] == ["g"], groups.valid
d = admin.describe_consumer_groups(["g"])["g"].result(20)
assert d.state.name == "STABLE" and len(d.members) == 1, d.state
p.begin_transaction()
p.send_offsets_to_transaction([TopicPartition("t", 0, 5)], c.consumer_group_metadata(), 20)
p.commit_transaction(20)
assert c.committed([TopicPartition("t", 0)], 20)[0].offset == 5
c.close()
for f in admin.delete_consumer_groups(["g"]).values(): f.result(20)
for f in admin.delete_topics(["t"]).values(): f.result(20)
assert "t" not in admin.list_topics(timeout=20).topics
print("done")
"#,
    );
}

#[test]
fn kafka_python_uses_every_part() {
    run_python(
        "kafka",
        r#"
import sys
from kafka import KafkaProducer, KafkaConsumer, TopicPartition
from kafka.admin import KafkaAdminClient, NewTopic
b = sys.argv[1]
admin = KafkaAdminClient(bootstrap_servers=b)
admin.create_topics([NewTopic(name="t", num_partitions=2, replication_factor=1)])
p = KafkaProducer(bootstrap_servers=b, enable_idempotence=True)
for i in range(200): p.send("t", str(i).encode(), partition=i % 2)
p.flush(20)
p.close()
c = KafkaConsumer("t", bootstrap_servers=b, group_id="g", auto_offset_reset="earliest", enable_auto_commit=False, consumer_timeout_ms=20000)
got = []
for m in c:
    got.append((m.partition, int(m.value)))
    if len(got) == 200: break
for q in (0, 1): assert [n for (r, n) in got if r == q] == list(range(q, 200, 2)), got
c.commit()
assert c.committed(TopicPartition("t", 0)) == 100
assert c.end_offsets([TopicPartition("t", 1)])[TopicPartition("t", 1)] == 100
assert c.beginning_offsets([TopicPartition("t", 1)])[TopicPartition("t", 1)] == 0
assert "g" in str(admin.list_consumer_groups() if hasattr(admin, "list_consumer_groups") else admin.list_groups())
c.close()
p = KafkaProducer(bootstrap_servers=b, transactional_id="x")
p.init_transactions()
for commit in (False, True):
    p.begin_transaction()
    p.send("t", b"1000", partition=0)
    p.flush(20)
    p.commit_transaction() if commit else p.abort_transaction()
p.close()
c = KafkaConsumer(bootstrap_servers=b, isolation_level="read_committed", auto_offset_reset="earliest", consumer_timeout_ms=3000)
c.assign([TopicPartition("t", 0)])
assert len(list(c)) == 101
c.close()
admin.delete_topics(["t"])
print("done")
"#,
    );
}
