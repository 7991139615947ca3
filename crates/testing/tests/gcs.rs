//! `object_store` finds a bucket in the test server, with every fault as it was ordered.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use ftap_testing::gcs::{Fault, Operation, Options, Rule, Server, Times};
use futures::TryStreamExt;
use object_store::gcp::{GcpCredential, GoogleCloudStorage, GoogleCloudStorageBuilder};
use object_store::path::Path;
use object_store::{
    ClientOptions, Error, GetOptions, GetRange, ObjectStore, ObjectStoreExt, PutMode, PutOptions,
    PutPayload, RetryConfig, StaticCredentialProvider,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A client that tries once, so that each fault is seen.
fn client(server: &Server) -> GoogleCloudStorage {
    let bearer = "token".to_owned();
    GoogleCloudStorageBuilder::new()
        .with_bucket_name(server.bucket())
        .with_base_url(server.endpoint())
        .with_retry(RetryConfig {
            max_retries: 0,
            ..RetryConfig::default()
        })
        .with_credentials(Arc::new(StaticCredentialProvider::new(GcpCredential {
            bearer,
        })))
        .with_client_options(ClientOptions::new().with_allow_http(true))
        .build()
        .unwrap()
}

async fn create(store: &dyn ObjectStore, key: &str, bytes: &'static [u8]) -> Result<(), Error> {
    let payload = PutPayload::from_static(bytes);
    let options = PutOptions::from(PutMode::Create);
    store.put_opts(&Path::from(key), payload, options).await?;
    Ok(())
}

async fn keys(store: &dyn ObjectStore, prefix: &str) -> Result<BTreeSet<String>, Error> {
    let listed = store.list(Some(&Path::from(prefix)));
    listed
        .map_ok(|object| object.location.into())
        .try_collect()
        .await
}

async fn start(options: Options) -> (Server, GoogleCloudStorage) {
    let server = Server::start(options).await.unwrap();
    let store = client(&server);
    (server, store)
}

#[tokio::test]
async fn a_client_writes_once_reads_ranges_and_lists_in_pages() {
    let folder = tempfile::TempDir::new().unwrap();
    for data_dir in [None, Some(folder.path().to_owned())] {
        let is_folder = data_dir.is_some();
        let options = Options {
            data_dir,
            page_items: 2,
            ..Options::default()
        };
        let (server, store) = start(options.clone()).await;
        for key in ["a/1/x", "a/1/y", "a/2/x", "a/b&<é>", "a/c", "a/d", "ab"] {
            create(&store, key, b"0123456789").await.unwrap();
        }
        let again = create(&store, "a/c", b"other").await.unwrap_err();
        assert!(matches!(again, Error::AlreadyExists { .. }), "{again}");
        let path = Path::from("a/c");
        assert_eq!(
            store.get(&path).await.unwrap().bytes().await.unwrap(),
            b"0123456789".as_slice()
        );
        let range = GetOptions::new().with_range(Some(GetRange::Suffix(3)));
        let tail = store.get_opts(&path, range).await.unwrap();
        assert_eq!((tail.range.clone(), tail.meta.size), (7..10, 10));
        assert_eq!(tail.bytes().await.unwrap(), b"789".as_slice());
        assert_eq!(
            store.get_range(&path, 2..4).await.unwrap(),
            b"23".as_slice()
        );
        assert!(store.get_range(&path, 10..12).await.is_err());
        assert_eq!(store.head(&path).await.unwrap().size, 10);
        let missing = store.get(&Path::from("none")).await.unwrap_err();
        assert!(matches!(missing, Error::NotFound { .. }), "{missing}");

        let under_a = keys(&store, "a").await.unwrap();
        let expected = ["a/1/x", "a/1/y", "a/2/x", "a/b&<é>", "a/c", "a/d"];
        assert_eq!(under_a, expected.map(|key| Path::from(key).into()).into());
        let level = store.list_with_delimiter(Some(&Path::from("a"))).await;
        let level = level.unwrap();
        assert_eq!(level.common_prefixes, ["a/1", "a/2"].map(Path::from));
        assert_eq!(level.objects.len(), 3);
        let counts = server.counts();
        assert_eq!((counts.puts, counts.creates, counts.overwrites), (8, 7, 0));
        assert_eq!((counts.preconditions_failed, counts.heads), (1, 1));
        assert!(counts.lists >= 5, "pages of two: {counts:?}");

        drop(store);
        drop(server);
        if is_folder {
            let file = folder.path().join("a/1/x");
            assert_eq!(std::fs::read(file).unwrap(), b"0123456789");
            let (server, store) = start(options).await;
            assert_eq!(server.keys().len(), 7, "what a server left is there");
            let again = create(&store, "a/c", b"other").await.unwrap_err();
            assert!(matches!(again, Error::AlreadyExists { .. }), "{again}");
            assert_eq!(server.object("a/c").unwrap(), b"0123456789");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_create_only_puts_one_wins() {
    let folder = tempfile::TempDir::new().unwrap();
    for data_dir in [None, Some(folder.path().to_owned())] {
        let options = Options {
            data_dir,
            ..Options::default()
        };
        let (server, store) = start(options).await;
        let store = Arc::new(store);
        let tasks = (0..20).map(|_| {
            let store = Arc::clone(&store);
            tokio::spawn(async move { create(&*store, "a/b", b"x").await.is_ok() })
        });
        let won = futures::future::join_all(tasks).await;
        assert_eq!(
            won.into_iter().filter(|won| *won.as_ref().unwrap()).count(),
            1
        );
        assert_eq!(server.counts().preconditions_failed, 19);
    }
}

/// What one put, one read and one listing meet, and whether the put was done.
async fn meets(fault: Fault) -> ([String; 3], bool, Server) {
    let (server, store) = start(Options::default()).await;
    create(&store, "old/x", b"0123456789").await.unwrap();
    server.set_rules(vec![Rule::new(Operation::Any, Times::Always, fault)]);
    let text = |result: Result<(), Error>| match result {
        Ok(()) => "ok".to_owned(),
        Err(error) => format!("{error:?}"),
    };
    let put = text(create(&store, "new/x", b"0123456789").await);
    let get = async { store.get(&Path::from("old/x")).await?.bytes().await };
    let get = text(get.await.map(|_| ()));
    let list = text(keys(&store, "old").await.map(|_| ()));
    server.clear_rules();
    assert_eq!(keys(&store, "old").await.unwrap().len(), 1, "it is over");
    let done = server.object("new/x").is_some();
    assert_eq!(server.counts().faults[fault.kind()], 3, "{fault:?}");
    ([put, get, list], done, server)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_fault_is_given_as_ordered() {
    for (fault, says, is_put) in [
        (Fault::Status(503), "503", false),
        (Fault::Status(403), "403", false),
        (Fault::CommitThenStatus(500), "500", true),
        (Fault::CommitThenCut, "", true),
        (Fault::Cut, "", false),
        (Fault::CutBody, "", false),
        (Fault::TokenExpired, "401", false),
        (Fault::PreconditionFailed, "", false),
    ] {
        let (texts, done, _server) = meets(fault).await;
        for text in &texts {
            assert!(text != "ok" && text.contains(says), "{fault:?}: {text}");
        }
        assert_eq!(done, is_put, "{fault:?}");
    }
    let (texts, done, _server) = meets(Fault::Delay(Duration::from_millis(10))).await;
    assert_eq!((texts, done), (["ok"; 3].map(str::to_owned), true));

    let (texts, done, server) = meets(Fault::LateCommit {
        status: 503,
        after: Duration::from_millis(50),
    })
    .await;
    assert!(texts.iter().all(|text| text.contains("503")) && !done);
    while server.object("new/x").is_none() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_rule_strikes_only_what_it_names() {
    let (server, store) = start(Options::default()).await;
    server.set_rules(vec![Rule {
        key_contains: Some("b".into()),
        ..Rule::new(Operation::Put, Times::Next(1), Fault::Status(429))
    }]);
    create(&store, "a", b"x").await.unwrap();
    create(&store, "b", b"x").await.unwrap_err();
    create(&store, "b", b"x").await.unwrap();
    let asked = server.asked();
    let struck = asked.iter().map(|asked| (asked.key.as_str(), asked.fault));
    let expected = [("a", None), ("b", Some("status")), ("b", None)];
    assert_eq!(struck.collect::<Vec<_>>(), expected);
    assert!(asked.iter().all(|asked| asked.create_only));
}

/// Sends these bytes and gives what comes back.
async fn raw(server: &Server, request: &[u8]) -> String {
    let address = server.endpoint().trim_start_matches("http://");
    let mut stream = TcpStream::connect(address).await.unwrap();
    // It may have answered and closed before all is sent.
    let _ = stream.write_all(request).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn what_is_malformed_too_large_or_unknown_is_refused() {
    let options = Options {
        max_object_bytes: 10,
        ..Options::default()
    };
    let server = Server::start(options).await.unwrap();
    let end = "HTTP/1.1\r\nHost: x\r\nConnection: close\r\n";
    let long = "x".repeat(2_000_000);
    for (request, status) in [
        ("nonsense\r\n\r\n".to_owned(), 400),
        (format!("GET /lake/a {end}Range: bytes=x\r\n\r\n"), 404),
        (format!("GET /lake?max-keys=x {end}\r\n"), 400),
        (format!("GET /lake?continuation-token=x {end}\r\n"), 400),
        (format!("GET /lake?list-type=2&versions=1 {end}\r\n"), 400),
        (format!("GET /%ff/a {end}\r\n"), 400),
        (format!("GET /lake/../../etc/passwd {end}\r\n"), 400),
        (format!("GET /lake/%2e%2e/secret {end}\r\n"), 400),
        (format!("GET /lake/.staging/1 {end}\r\n"), 400),
        (format!("GET /lake//a {end}\r\n"), 400),
        (
            format!("PUT /lake/a {end}Content-Length: 11\r\n\r\n01234567890"),
            400,
        ),
        (
            format!("PUT /lake/a {end}x-goog-if-generation-match: x\r\nContent-Length: 0\r\n\r\n"),
            400,
        ),
        (format!("PUT /lake/a {end}Content-Length: x\r\n\r\n"), 400),
        (format!("GET /lake/a {end}X: {long}\r\n\r\n"), 431),
        (format!("GET /other/a {end}\r\n"), 404),
        (format!("GET /lake/a?acl {end}\r\n"), 501),
        (format!("DELETE /lake/a {end}\r\n"), 501),
        (
            format!("POST /lake/a?uploads {end}Content-Length: 0\r\n\r\n"),
            501,
        ),
    ] {
        let answer = raw(&server, request.as_bytes()).await;
        let shown = &request[..request.len().min(80)];
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{shown:?}: {answer:?}"
        );
    }
    let counts = server.counts();
    assert_eq!((counts.multiparts, counts.creates), (1, 0));
    assert!(counts.malformed >= 11, "{counts:?}");
}

#[tokio::test]
async fn a_server_that_is_dropped_is_gone_and_its_port_is_free_again() {
    let (server, store) = start(Options::default()).await;
    create(&store, "a", b"x").await.unwrap();
    let port = server
        .endpoint()
        .rsplit(':')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    drop(server);
    create(&store, "b", b"x").await.unwrap_err();
    let (server, store) = start(Options {
        port,
        ..Options::default()
    })
    .await;
    create(&store, "b", b"x").await.unwrap();
    assert_eq!(server.keys(), ["b"]);
}
