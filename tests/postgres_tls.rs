//! TLS to PostgreSQL, on a server with a certificate of the test's own authority.
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::common::postgres::{PASSWORD, ROLE, Server, open_to_all};
use crate::common::{Lab, changes, wait_until};
use ftap_cdc::wire::Wire;
use ftap_postgres::{PostgresError, PostgresSettings, SslMode, connection, pool};
use ftap_supervision::Retryable as _;

#[test]
fn each_sslmode_does_what_it_says() {
    if !has_openssl() {
        return;
    }
    let mut lab = Lab::new("tls").without_broker();
    open_to_all(&lab.path(""));
    // Too long a path for a socket: the server listens on 127.0.0.1.
    let folder = lab.path(&"s".repeat(100));
    let Some(server) = Server::start_in(&mut lab, &folder) else {
        return;
    };
    assert_eq!(lab.get("POSTGRES_HOST"), "127.0.0.1");
    let run = |lab: &Lab| lab.start(["batch", "--once", "users"]);

    // As it is, the server has no TLS.
    run(&lab).wait_for_success();
    lab.set("POSTGRES_SSLMODE", "require");
    let (code, message) = run(&lab).wait_for_failure();
    assert_eq!(code, 1, "{message}");
    assert!(message.contains("POSTGRES_SSLMODE"), "{message}");

    turn_on(&server, &folder);
    wait_until("prefer to take TLS", || {
        lab.set("POSTGRES_SSLMODE", "prefer");
        run(&lab).wait().success().then_some(())
    });
    lab.set("POSTGRES_SSLMODE", "require");
    run(&lab).wait_for_success();
    lab.set("POSTGRES_SSLMODE", "disable");
    let (_, message) = run(&lab).wait_for_failure();
    assert!(message.contains("pg_hba.conf"), "{message}");

    // The system knows nothing of the test's authority.
    lab.set("POSTGRES_SSLMODE", "verify-full");
    let (_, message) = run(&lab).wait_for_failure();
    assert!(
        message.contains("certificate") && message.contains("POSTGRES_SSLMODE"),
        "{message}"
    );
    lab.set("POSTGRES_SSLROOTCERT", folder.join("ca.crt"));
    run(&lab).wait_for_success();
    lab.set("POSTGRES_HOST", "localhost");
    let (_, message) = run(&lab).wait_for_failure();
    assert!(message.contains("not valid for name"), "{message}");
}

#[test]
fn the_stream_of_changes_is_encrypted_and_its_server_checked_as_the_sslmode_says() {
    if !has_openssl() {
        return;
    }
    let mut lab = Lab::new("tls-cdc").without_broker();
    open_to_all(&lab.path(""));
    let folder = lab.path(&"s".repeat(100));
    let Some(server) = Server::start_in(&mut lab, &folder) else {
        return;
    };
    server.as_superuser(&format!("ALTER ROLE {ROLE} REPLICATION"));
    turn_on(&server, &folder);
    lab.set("CDC_FLUSH_SECONDS", "0.3");
    lab.set("POSTGRES_SSLMODE", "verify-full");
    lab.set("POSTGRES_SSLROOTCERT", folder.join("ca.crt"));
    let capture = lab.start(["cdc"]);
    capture.wait_for_event("changes_streaming");
    let sql = "SELECT ssl FROM pg_stat_ssl JOIN pg_stat_replication USING (pid)";
    assert_eq!(server.superuser_sql(sql), ["t"]);
    server.superuser_sql("INSERT INTO merchants VALUES ('a', 1, 2, 3); INSERT INTO merchants SELECT 'b' || n, 1, 2, 3 FROM generate_series(1, 20000) n");
    capture.wait_for_events("changes_committed", 3);
    // The server may end it at any moment.
    server.as_superuser("SELECT pg_terminate_backend(pid) FROM pg_stat_replication");
    capture.wait_for_event("change_capture_interrupted");
    server.superuser_sql("DELETE FROM merchants WHERE merch_zipcode = 3 AND merch_lat = 1");
    capture.wait_for_events("changes_streaming", 2);
    capture.signal(libc::SIGTERM);
    capture.wait_for_success();
    lab.start(["cdc", "--until-drained"]).wait_for_success();
    let rows = changes::read(changes::lake(&lab), "merchants");
    let count = |op: &str| rows.iter().filter(|row| row.op == op).count();
    assert_eq!((count("insert"), count("delete")), (20_001, 20_001));

    // The session that replicates checks by itself, not only the one that asks.
    let settings = PostgresSettings {
        host: "127.0.0.1".to_owned(),
        port: lab.get("POSTGRES_PORT").parse().unwrap(),
        database: ROLE.to_owned(),
        user: ROLE.to_owned(),
        password: Some(PASSWORD.to_owned()),
        ssl_mode: SslMode::VerifyFull,
        ssl_root_cert: Some(folder.join("ca.crt")),
        private_folder: None,
        pool_size: 1,
        connect_timeout: Duration::from_secs(5),
        statement_timeout: Duration::from_secs(5),
    };
    replicates(&settings).unwrap();
    let (other_ca, name) = (folder.join("other-ca.crt"), "localhost".to_owned());
    let refused = |change: &dyn Fn(&mut PostgresSettings), expected: &str| {
        let mut settings = settings.clone();
        change(&mut settings);
        let error = replicates(&settings).unwrap_err();
        let said = error.to_string();
        assert!(!error.retry().helps(), "{said}");
        assert!(said.contains(expected), "{said}");
        assert!(
            !said.contains(PASSWORD) && !said.contains("not-the-password"),
            "{said}"
        );
    };
    refused(
        &|s| s.ssl_root_cert = Some(other_ca.clone()),
        "POSTGRES_SSLMODE",
    );
    refused(&|s| s.ssl_root_cert = None, "POSTGRES_SSLMODE");
    refused(&|s| s.host = name.clone(), "not valid for name");
    refused(&|s| s.ssl_mode = SslMode::Disable, "pg_hba.conf");
    refused(
        &|s| s.password = Some("not-the-password".to_owned()),
        "POSTGRES_PASSWORD",
    );
    refused(&|s| s.password = None, "POSTGRES_PASSWORD");

    // A connection that breaks while TLS is being negotiated is not a refusal: it is retried.
    for (answer, helps) in [("S", true), ("", true), ("N", false)] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let broken = PostgresSettings {
            port: listener.local_addr().unwrap().port(),
            ..settings.clone()
        };
        let serve = std::thread::spawn(move || {
            for _ in 0..2 {
                let (mut stream, _) = listener.accept().unwrap();
                stream.read_exact(&mut [0; 8]).unwrap();
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        let error = replicates(&broken).unwrap_err();
        assert_eq!(error.retry().helps(), helps, "{answer:?}: {error}");
        let error = asks(&broken).unwrap_err();
        assert_eq!(error.retry().helps(), helps, "{answer:?}: {error}");
        serve.join().unwrap();
    }
}

/// Logs in to replicate.
fn replicates(settings: &PostgresSettings) -> Result<(), PostgresError> {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let connected = runtime.block_on(async {
        let mut wire = Wire::connect(settings, "no_slot", "no_publication").await?;
        wire.create_temporary_slot("tried".to_owned()).await
    });
    connected.map(drop)
}

/// Logs in to ask.
fn asks(settings: &PostgresSettings) -> Result<(), PostgresError> {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let pool = pool(settings)?;
        connection(&pool, settings).await.map(drop)
    })
}

/// Turns TLS on; clients without it are refused from now on.
fn turn_on(server: &Server, folder: &Path) {
    make_certificates(folder);
    for setting in [
        "ssl_cert_file = '../server.crt'",
        "ssl_key_file = '../server.key'",
        "ssl = on",
    ] {
        server.as_superuser(&format!("ALTER SYSTEM SET {setting}"));
    }
    server.as_superuser("SELECT pg_reload_conf()");
    wait_until("TLS", || (server.sql("SHOW ssl") == ["on"]).then_some(()));
    let hba = folder.join("cluster/pg_hba.conf");
    std::fs::write(&hba, "hostssl all all 127.0.0.1/32 scram-sha-256\nhostnossl all ftap 127.0.0.1/32 scram-sha-256\n").unwrap();
    server.as_superuser("SELECT pg_reload_conf()");
}

fn has_openssl() -> bool {
    let found = Command::new("openssl").arg("version").output().is_ok();
    assert!(
        found || std::env::var_os("FTAP_REQUIRE_TOOLS").is_none(),
        "FTAP_REQUIRE_TOOLS is set, and openssl is missing"
    );
    if !found {
        eprintln!("NOT RUN: openssl is missing");
    }
    found
}

/// An authority `ca.crt`, and `server.crt` for 127.0.0.1 with its key.
fn make_certificates(folder: &Path) {
    let openssl = |line: &str| {
        let status = Command::new("openssl")
            .args(line.split(' '))
            .current_dir(folder)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap();
        assert!(status.success(), "openssl {line}");
    };
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    openssl(&format!(
        "req -x509 {key} -days 2 -subj /CN=test-ca -keyout ca.key -out ca.crt"
    ));
    openssl(&format!(
        "req -x509 {key} -days 2 -subj /CN=other-ca -keyout other-ca.key -out other-ca.crt"
    ));
    openssl(&format!(
        "req {key} -subj /CN=127.0.0.1 -keyout server.key -out server.csr"
    ));
    std::fs::write(folder.join("names"), "subjectAltName=IP:127.0.0.1\n").unwrap();
    openssl(
        "x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile names -out server.crt",
    );
    let owner = folder.join("cluster").metadata().unwrap();
    for file in ["server.crt", "server.key"] {
        let path = folder.join(file);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        // Only root has to, and may.
        if owner.uid() != path.metadata().unwrap().uid() {
            chown(&path, Some(owner.uid()), Some(owner.gid())).unwrap();
        }
    }
}
