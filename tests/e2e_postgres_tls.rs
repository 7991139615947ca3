//! TLS to PostgreSQL, on a server with a certificate of the test's own authority.
#![allow(clippy::unwrap_used)]

mod common;

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::process::{Command, Stdio};

use common::postgres::{Server, open_to_all};
use common::{Lab, wait_until};

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

    make_certificates(&folder);
    for setting in [
        "ssl_cert_file = '../server.crt'",
        "ssl_key_file = '../server.key'",
        "ssl = on",
    ] {
        server.as_superuser(&format!("ALTER SYSTEM SET {setting}"));
    }
    server.as_superuser("SELECT pg_reload_conf()");
    wait_until("TLS", || (server.sql("SHOW ssl") == ["on"]).then_some(()));
    // Whoever comes without it is refused from now on.
    let hba = folder.join("cluster/pg_hba.conf");
    std::fs::write(&hba, "hostssl all all 127.0.0.1/32 scram-sha-256\nhostnossl ftap all 127.0.0.1/32 scram-sha-256\n").unwrap();
    server.as_superuser("SELECT pg_reload_conf()");

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
