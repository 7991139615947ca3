//! Kafka with TLS and SASL: delivery over every kind of listener, and each refusal reported with its setting.
//!
//! Starts an Apache Kafka of its own by `scripts/kafka start --tls`, whatever KAFKA_BROKER says,
//! and needs a JDK, Maven and openssl for it; the refusals of certificates need openssl alone.

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::common::{Lab, ROWS, process::Ftap, wait_until};
use crate::{policies, rights};

const USER: &str = "alice";
const PASSWORD: &str = "canary-8f14e45f-password";

/// Whether the tools are installed; reports it if not, and fails where all tools are required.
fn have(tools: &[&str]) -> bool {
    let missing: Vec<_> = tools
        .iter()
        .filter(|tool| {
            let path = std::env::var_os("PATH").unwrap_or_default();
            !std::env::split_paths(&path).any(|dir| dir.join(tool).is_file())
        })
        .collect();
    if missing.is_empty() {
        return true;
    }
    let why = format!("not run: {missing:?} not installed");
    assert!(
        std::env::var("FTAP_REQUIRE_TOOLS").as_deref() != Ok("1"),
        "{why}"
    );
    eprintln!("{why}");
    false
}

fn script(dir: &Path, action: &str, settings: &[(&str, String)]) -> String {
    let output = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/kafka"))
        .args([action, "--dir"])
        .arg(dir)
        .args(if action == "start" {
            &["--port", "0", "--tls"][..]
        } else {
            &[]
        })
        .env("KAFKA_TLS_USER", USER)
        .env("KAFKA_TLS_PASSWORD", PASSWORD)
        .env("KAFKA_HEAP_MB", "300")
        .envs(settings.iter().map(|(name, value)| (name, value)))
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "scripts/kafka {action}: {errors}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// An Apache Kafka with listeners of every kind; stopped when dropped.
pub(crate) struct Kafka {
    dir: tempfile::TempDir,
    settings: Vec<(&'static str, String)>,
    pub(crate) plain: String,
}

impl Kafka {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let settings = policies::compiled(dir.path()).to_vec();
        let plain = script(dir.path(), "start", &settings);
        Self {
            dir,
            settings,
            plain,
        }
    }

    fn tls(&self, file: &str) -> String {
        let path = self
            .dir
            .path()
            .canonicalize()
            .unwrap()
            .join("tls")
            .join(file);
        path.to_str().unwrap().to_owned()
    }

    /// What `scripts/kafka` says that a client of that listener needs.
    fn settings(&self, listener: &str) -> Vec<(String, String)> {
        let text = std::fs::read_to_string(self.tls(&format!("{listener}.env"))).unwrap();
        let pairs = text.lines().map(|line| line.split_once('=').unwrap());
        pairs
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect()
    }

    /// A lab whose processes talk to that listener.
    pub(crate) fn lab(&self, listener: &str) -> Lab {
        let mut lab = Lab::new(listener).without_broker();
        for (name, value) in self.settings(listener) {
            lab.set(&name, value);
        }
        lab
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        script(self.dir.path(), "stop", &[]);
    }
}

/// Everything that the lab's processes have logged and said, in its directory's files.
fn all_output(lab: &Lab) -> String {
    let entries = std::fs::read_dir(lab.path(".")).unwrap();
    let logs = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|kind| kind == "log"));
    logs.map(|path| std::fs::read_to_string(path).unwrap())
        .collect()
}

#[track_caller]
fn assert_no_secret(text: &str) {
    assert!(!text.is_empty());
    for secret in [PASSWORD, "wrong-password"] {
        let hidden = text.find(secret);
        assert!(
            hidden.is_none(),
            "{secret} in {}",
            &text[hidden.unwrap().saturating_sub(200)..]
        );
    }
}

fn delivers_exactly(lab: &Lab) {
    let mut run = lab.run_until_drained();
    let mut said = run.printed();
    lab.assert_exact(ROWS);
    let mut tap = lab.start(["tap", "--from", "beginning", "--count", "3", "--rate", "0"]);
    tap.wait_for_success();
    let tapped = tap.printed();
    assert_eq!(tapped.lines().count(), 3, "{tapped}");
    let config = lab.command(["config"]).output().unwrap();
    assert!(config.status.success());
    said += &(String::from_utf8_lossy(&config.stdout).into_owned() + &all_output(lab));
    assert_no_secret(&said);
}

/// The command fails for good, soon, and says what is wrong; no secret is shown.
#[track_caller]
fn assert_refused(lab: &Lab, args: &[&str], code: i32, parts: &[&str]) {
    let began = Instant::now();
    let command = lab.start(args);
    let (found, said) = command.wait_for_failure();
    let took = began.elapsed();
    let tail = command.tail();
    assert_eq!(found, code, "{args:?}: {said}\n{tail}");
    for part in parts {
        assert!(
            said.contains(part),
            "{args:?}: no {part:?} in {said}\n{tail}"
        );
    }
    assert!(took < Duration::from_secs(60), "{args:?}: {took:?}");
    assert_no_secret(&(said + &all_output(lab)));
}

#[test]
fn delivery_is_exact_over_every_kind_of_listener() {
    if !have(&["java", "javac", "mvn", "openssl"]) {
        return;
    }
    let kafka = Kafka::start();
    std::thread::scope(|scope| {
        for listener in [
            "ssl",
            "mutual",
            "sasl_ssl-PLAIN",
            "sasl_ssl-SCRAM-SHA-256",
            "sasl_ssl-SCRAM-SHA-512",
            "sasl_plaintext",
        ] {
            let kafka = &kafka;
            scope.spawn(move || delivers_exactly(&kafka.lab(listener)));
        }
        scope.spawn(|| in_librdkafkas_own_words(&kafka));
        scope.spawn(|| rights::exactly_those_of_the_readme(&kafka));
        scope.spawn(|| policies::are_obeyed_and_named(&kafka));
    });
    refusals(&kafka);
    a_password_changed_under_a_running_consumer(&kafka);
}

fn in_librdkafkas_own_words(kafka: &Kafka) {
    let mut lab = kafka.lab("ssl");
    lab.set("KAFKA_SECURITY_PROTOCOL", "");
    lab.set("KAFKA_SSL_CA_LOCATION", "");
    let (ca, key) = (kafka.tls("ca.pem"), kafka.tls("client.key"));
    let certificate = kafka.tls("client.pem");
    lab.set(
        "KAFKA_EXTRA",
        format!("security.protocol=ssl,ssl.ca.location={ca},ssl.key.location={key},ssl.certificate.location={certificate}"),
    );
    delivers_exactly(&lab);
}

/// Most of their time is waiting, so they go side by side.
fn refusals(kafka: &Kafka) {
    let wrong_password = |listener: &str, commands: &[&str]| {
        let mut lab = kafka.lab(listener);
        lab.set("KAFKA_SASL_PASSWORD", "wrong-password");
        // librdkafka then logs what it does with its settings.
        lab.set("KAFKA_EXTRA", "debug=security\\,broker\\,conf");
        for command in commands {
            let says = ["KAFKA_SASL_USERNAME=alice", "KAFKA_SASL_PASSWORD"];
            assert_refused(&lab, &[command], 1, &says);
        }
    };
    let consume = |listener: &str, changes: &[(&str, &str)], parts: &[&str]| {
        let mut lab = kafka.lab(listener);
        for (name, value) in changes {
            lab.set(name, value);
        }
        assert_refused(&lab, &["consume"], 1, parts);
    };
    let plain = kafka.plain.as_str();
    std::thread::scope(|scope| {
        scope.spawn(|| wrong_password("sasl_ssl-SCRAM-SHA-512", &["run", "produce"]));
        scope.spawn(|| wrong_password("sasl_ssl-SCRAM-SHA-256", &["verify", "consume"]));
        scope.spawn(|| wrong_password("sasl_ssl-PLAIN", &["consume", "tap"]));
        scope.spawn(|| {
            let says = ["not trusted", "KAFKA_SSL_CA_LOCATION"];
            consume("ssl", &[("KAFKA_SSL_CA_LOCATION", "")], &says);
        });
        scope.spawn(|| {
            let says = ["KAFKA_SECURITY_PROTOCOL is SSL", "neither TLS nor SASL"];
            consume("ssl", &[("KAFKA_BROKER", plain)], &says);
        });
        scope.spawn(|| {
            let changes = [
                ("KAFKA_SECURITY_PROTOCOL", ""),
                ("KAFKA_SSL_CA_LOCATION", ""),
            ];
            consume(
                "ssl",
                &changes,
                &["KAFKA_SECURITY_PROTOCOL is PLAINTEXT", "speaks TLS"],
            );
        });
        scope.spawn(|| {
            let changes = [
                "SECURITY_PROTOCOL",
                "SASL_MECHANISM",
                "SASL_USERNAME",
                "SASL_PASSWORD",
            ]
            .map(|name| (format!("KAFKA_{name}"), ""));
            let changes = changes
                .each_ref()
                .map(|(name, value)| (name.as_str(), *value));
            let says = ["KAFKA_SECURITY_PROTOCOL is PLAINTEXT", "speaks SASL"];
            consume("sasl_plaintext", &changes, &says);
        });
        scope.spawn(|| {
            let says = ["takes no SASL", "KAFKA_SECURITY_PROTOCOL"];
            consume("sasl_plaintext", &[("KAFKA_BROKER", plain)], &says);
        });
        scope.spawn(|| {
            let changes = [
                ("KAFKA_SSL_CERTIFICATE_LOCATION", ""),
                ("KAFKA_SSL_KEY_LOCATION", ""),
                ("KAFKA_SSL_KEY_PASSWORD", ""),
            ];
            let says = ["KAFKA_SSL_CERTIFICATE_LOCATION", "client certificate"];
            consume("mutual", &changes, &says);
        });
    });
    // Only the keys of TLS would tell this one from a broker that hangs.
    let mut lab = kafka.lab("ssl");
    let login = kafka.settings("sasl_ssl-PLAIN");
    lab.set(
        "KAFKA_BROKER",
        &login
            .iter()
            .find(|(name, _)| name == "KAFKA_BROKER")
            .unwrap()
            .1,
    );
    let unreachable = lab.start(["consume"]).wait_for_event("kafka_unreachable");
    let error = unreachable["error"].as_str().unwrap();
    assert!(
        error.contains("KAFKA_SECURITY_PROTOCOL=SASL_SSL"),
        "{error}"
    );

    let mut lab = kafka.lab("mutual");
    lab.set("KAFKA_SSL_KEY_PASSWORD", "wrong-password");
    let says = ["KAFKA_SSL_KEY_LOCATION", "KAFKA_SSL_KEY_PASSWORD"];
    assert_refused(&lab, &["consume"], 2, &says);
}

/// A login that was accepted once and is refused after the broker comes back ends the process.
fn a_password_changed_under_a_running_consumer(kafka: &Kafka) {
    let lab = kafka.lab("sasl_ssl-PLAIN");
    let consumer = lab.start(["consume"]);
    lab.start(["produce"]).wait_for_success();
    consumer.wait_for_event("file_committed");
    script(kafka.dir.path(), "stop", &[]);
    let properties = kafka.dir.path().join("server.properties");
    let text = std::fs::read_to_string(&properties).unwrap();
    std::fs::write(
        &properties,
        text.replace(&format!("=\"{PASSWORD}\""), "=\"another-one\""),
    )
    .unwrap();
    script(kafka.dir.path(), "start", &kafka.settings);
    let (code, said) = consumer.wait_for_failure();
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("KAFKA_SASL_PASSWORD"), "{said}");
    assert_no_secret(&(said + &all_output(&lab)));
}

/// `openssl`, run in a directory.
fn openssl(dir: &Path, args: &[&str]) {
    let output = Command::new("openssl")
        .args(args)
        .current_dir(dir)
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "openssl {args:?}: {errors}");
}

/// A TLS server with a certificate; killed when dropped.
struct TlsServer {
    child: Child,
    address: String,
}

impl TlsServer {
    fn start(dir: &Path, name: &str) -> Self {
        // The port could be taken between the two lines; it has not been seen.
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let address = format!("127.0.0.1:{port}");
        let child = Command::new("openssl")
            .args(["s_server", "-quiet", "-accept", &address])
            .args(["-cert", &format!("{name}.pem"), "-key", "server.key"])
            .current_dir(dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        wait_until("the TLS server", || TcpStream::connect(&address).ok());
        Self { child, address }
    }
}

impl Drop for TlsServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A CA and certificates of one key: good, expired, for another host.
fn certificates(dir: &Path) -> PathBuf {
    openssl(
        dir,
        &[
            "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj", "/CN=ca",
            "-keyout", "ca.key", "-out", "ca.pem",
        ],
    );
    openssl(
        dir,
        &[
            "req",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-subj",
            "/CN=server",
            "-keyout",
            "server.key",
            "-out",
            "server.csr",
        ],
    );
    std::fs::write(dir.join("here.ext"), "subjectAltName=IP:127.0.0.1\n").unwrap();
    std::fs::write(
        dir.join("elsewhere.ext"),
        "subjectAltName=DNS:kafka.example\n",
    )
    .unwrap();
    for (name, names, days) in [
        ("good", "here", "30"),
        ("expired", "here", "-1"),
        ("elsewhere", "elsewhere", "30"),
    ] {
        openssl(
            dir,
            &[
                "x509",
                "-req",
                "-in",
                "server.csr",
                "-CA",
                "ca.pem",
                "-CAkey",
                "ca.key",
                "-CAcreateserial",
                "-days",
                days,
                "-extfile",
                &format!("{names}.ext"),
                "-out",
                &format!("{name}.pem"),
            ],
        );
    }
    dir.join("ca.pem")
}

#[test]
fn certificates_that_are_expired_untrusted_or_anothers_are_refused_by_name() {
    if !have(&["openssl"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let ca = certificates(dir.path());
    let refused = |certificate: &str, more: &[(&str, &str)], parts: &[&str]| {
        let server = TlsServer::start(dir.path(), certificate);
        let mut lab = Lab::new(certificate).without_broker();
        lab.set("KAFKA_BROKER", &server.address);
        lab.set("KAFKA_SECURITY_PROTOCOL", "SSL");
        lab.set("KAFKA_SSL_CA_LOCATION", &ca);
        for (name, value) in more {
            lab.set(name, value);
        }
        assert_refused(&lab, &["consume"], 1, parts);
    };
    refused("expired", &[], &["has expired"]);
    refused("elsewhere", &[], &["another host name", "KAFKA_BROKER"]);
    refused(
        "good",
        &[("KAFKA_SSL_CA_LOCATION", "")],
        &["not trusted", "KAFKA_SSL_CA_LOCATION"],
    );

    // What is asked for in librdkafka's words goes its way, with a warning.
    let server = TlsServer::start(dir.path(), "elsewhere");
    let mut lab = Lab::new("unverified").without_broker();
    lab.set("KAFKA_BROKER", &server.address);
    lab.set("KAFKA_SECURITY_PROTOCOL", "SSL");
    lab.set("KAFKA_EXTRA", "enable.ssl.certificate.verification=false");
    let consumer: Ftap = lab.start(["consume"]);
    let doubt = consumer.wait_for_event("setting_doubtful");
    assert_eq!(doubt["setting"], "KAFKA_EXTRA");
    // No Kafka answers behind the handshake, which is as a broker that is down.
    let unreachable = consumer.wait_for_event("kafka_unreachable");
    let error = unreachable["error"].as_str().unwrap();
    assert!(!error.contains("certificate"), "{error}");
}

#[test]
fn a_broker_that_is_down_is_waited_for_with_tls_as_without() {
    let closed = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .to_string();
    let mut lab = Lab::new("down").without_broker();
    lab.set("KAFKA_BROKER", &closed);
    lab.set("KAFKA_SECURITY_PROTOCOL", "SSL");
    let consumer = lab.start(["consume"]);
    let unreachable = consumer.wait_for_events("kafka_unreachable", 4);
    assert_eq!(unreachable[3]["attempt"], 4);
    assert!(!consumer.has_ended());
}
