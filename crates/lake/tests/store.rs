//! The store writes an object once, finds the ends of the chains again, and says what is
//! wrong: on a folder of this machine and on Google Cloud Storage's protocol.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use ftap_lake::{
    ClosedFile, Compression, FileBuilder, FileSettings, LakeError, LakeLocation, LakeStore,
    ObjectName, PutOutcome, PutResult, TransactionFooter, chain_ends, objects_of, put, read_footer,
    read_footers,
};
use ftap_supervision::{Retry, Retryable as _};
use ftap_testing::gcs::{Fault, Operation, Options, Rule, Server, Times};
use futures::TryStreamExt as _;
use tempfile::TempDir;

type File = ClosedFile<TransactionFooter>;

const DAY: i64 = 86_400_000;

/// A file of rejected records from `first` to `last`, on the given day since 1970.
fn file(topic: &str, partition: i32, first: i64, last: i64, day: i64) -> File {
    let settings = FileSettings {
        max_message_bytes: 100,
        compression: Compression::Zstd(1),
    };
    let time = day * DAY;
    let mut file =
        FileBuilder::open(topic.into(), partition, first, time, &settings, "w".into()).unwrap();
    for offset in first..=last {
        file.append(Some(b"x"), offset, time).unwrap();
    }
    file.close().unwrap()
}

async fn put_bytes(store: &LakeStore, file: &File) -> PutOutcome {
    store
        .put_create(&file.name.key(), file.bytes.clone())
        .await
        .unwrap()
}

fn local(folder: &Path) -> LakeStore {
    LakeStore::open(&LakeLocation::Local(folder.to_owned())).unwrap()
}

/// With pages of two, so that paging is seen to work.
async fn server() -> Server {
    let options = Options {
        page_items: 2,
        ..Options::default()
    };
    Server::start(options).await.unwrap()
}

fn on_put(times: Times, fault: Fault) -> Vec<Rule> {
    vec![Rule::new(Operation::Put, times, fault)]
}

fn gcs(server: &Server, bucket: &str) -> LakeStore {
    LakeStore::open(&LakeLocation::Gcs {
        bucket: bucket.to_owned(),
        credentials_file: None,
        endpoint: Some(server.endpoint().to_owned()),
    })
    .unwrap()
}

/// What has to hold on any store.
async fn behaves_as_a_lake(store: &LakeStore) {
    assert_eq!(objects_of(store, "t").await.unwrap(), []);
    assert!(chain_ends(store, "t", &[0, 1]).await.unwrap().is_empty());

    let first = file("t", 0, 0, 9, 20_000);
    assert_eq!(put_bytes(store, &first).await, PutOutcome::Created);
    assert_eq!(put_bytes(store, &first).await, PutOutcome::AlreadyExists);
    let other = file("t", 0, 0, 4, 20_000);
    assert_eq!(put_bytes(store, &other).await, PutOutcome::AlreadyExists);
    let key = first.name.key();
    assert_eq!(
        store.get(&key).await.unwrap(),
        first.bytes,
        "it is untouched"
    );
    let stored: TransactionFooter = read_footer(store, &first.name).await.unwrap();
    assert_eq!(stored, first.footer);
    assert_eq!(put(store, &first).await.unwrap(), PutResult::Same);
    let theirs = PutResult::Overtaken(first.footer.clone());
    assert_eq!(put(store, &other).await.unwrap(), theirs);
    assert_eq!(first.footer.next_offset(), 10);

    // Partition 0 continues, then its clock goes back over a midnight; partition 1 is old;
    // partition 2 has nothing; another topic's name starts like ours.
    for more in [
        file("t", 0, 10, 19, 20_001),
        file("t", 0, 20, 29, 20_000),
        file("t", 1, 5, 6, 19_000),
        file("t", 1, 0, 4, 18_999),
        file("t-0", 0, 0, 99, 20_005),
    ] {
        assert_eq!(put_bytes(store, &more).await, PutOutcome::Created);
    }
    let strange = "transactions/2026-11-22/notes.txt";
    store
        .put_create(strange, Bytes::from_static(b"x"))
        .await
        .unwrap();
    let ends = chain_ends(store, "t", &[0, 1, 2]).await.unwrap();
    let ends: Vec<_> = ends
        .into_iter()
        .map(|(partition, end)| (partition, end.name.first_offset(), end.footer.last_offset))
        .collect();
    assert_eq!(ends, [(0, 20, 29), (1, 5, 6)]);
    let ends = chain_ends(store, "t", &[0]).await.unwrap();
    assert_eq!(ends[&0].footer.last_offset, 29);

    let listed = objects_of(store, "t").await.unwrap();
    let offsets: Vec<_> = listed
        .iter()
        .map(|name| (name.partition(), name.first_offset()))
        .collect();
    assert_eq!(offsets, [(0, 0), (0, 10), (0, 20), (1, 0), (1, 5)]);
    let all: Vec<_> = store.list("transactions").try_collect().await.unwrap();
    assert_eq!(all.len(), 7, "whatever is there is listed: {all:?}");
    let listed = all.iter().find(|object| object.key == key).unwrap();
    assert_eq!(listed.bytes, first.bytes.len() as u64);
    let mut folders = store.folders("transactions").await.unwrap();
    folders.sort();
    assert_eq!(folders.len(), 6, "{folders:?}");
    assert!(store.exists(&key).await.unwrap());
    assert!(!store.exists("transactions/none").await.unwrap());

    let tasks = (0..16i64).map(|last| {
        let (store, file) = (store.clone(), file("race", 0, 0, last, 20_000));
        tokio::spawn(async move { put_bytes(&store, &file).await })
    });
    let outcomes = futures::future::join_all(tasks).await;
    let created = outcomes
        .into_iter()
        .filter(|o| *o.as_ref().unwrap() == PutOutcome::Created);
    assert_eq!(created.count(), 1, "one writer of a run wins");

    // 2,000 ranges make a footer that does not fit the first read.
    let settings = FileSettings {
        max_message_bytes: 100,
        compression: Compression::Zstd(1),
    };
    let mut large = FileBuilder::open("large".into(), 0, 0, 0, &settings, "w".into()).unwrap();
    for offset in 0..8_000 {
        large.append(Some(b"x"), 2 * offset, 0).unwrap();
    }
    let large = large.close().unwrap();
    assert!(large.bytes.len() > 100_000, "{}", large.bytes.len());
    put_bytes(store, &large).await;
    let footer: TransactionFooter = read_footer(store, &large.name).await.unwrap();
    assert_eq!(footer, large.footer);

    let absent = ObjectName::new("absent", 0, 0, 0).unwrap();
    let missing = read_footer::<TransactionFooter>(store, &absent).await;
    let missing = missing.unwrap_err();
    assert_eq!(missing.retry(), Retry::Transient, "{missing}");
    let error = store
        .put_create("transactions/../x", Bytes::new())
        .await
        .unwrap_err();
    assert_eq!(error.retry(), Retry::Permanent, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_behaves_as_a_lake() {
    let folder = TempDir::new().unwrap();
    behaves_as_a_lake(&local(&folder.path().join("new/lake"))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_behaves_as_a_lake() {
    let server = server().await;
    behaves_as_a_lake(&gcs(&server, "lake")).await;
    let counts = server.counts();
    assert!(
        counts.puts > 0 && counts.puts_not_create_only == 0,
        "{counts:?}"
    );
    assert_eq!(
        (counts.overwrites, counts.multiparts, counts.others),
        (0, 0, 0)
    );
    let tail = Some("bytes=-65536".to_owned());
    assert!(
        server.asked().iter().any(|asked| asked.range == tail),
        "footers are read from the end"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_put_whose_reply_is_lost_meets_its_own_object() {
    for fault in [Fault::CommitThenStatus(503), Fault::CommitThenCut] {
        let server = server().await;
        let store = gcs(&server, "lake");
        let file = file("t", 0, 0, 9, 20_000);
        server.set_rules(on_put(Times::Next(1), fault));
        assert_eq!(put_bytes(&store, &file).await, PutOutcome::AlreadyExists);
        let again = put(&store, &file).await.unwrap();
        assert_eq!(again, PutResult::Same);
        assert_eq!(server.object(&file.name.key()).unwrap(), file.bytes);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_answer_of_a_bucket_says_whether_waiting_helps() {
    let file = file("t", 0, 0, 9, 20_000);
    let key = file.name.key();
    for (status, retry) in [
        (503, Retry::Transient),
        (500, Retry::Transient),
        (429, Retry::Transient),
        (403, Retry::Permanent),
        (401, Retry::Briefly),
        (400, Retry::Permanent),
    ] {
        let server = server().await;
        let store = gcs(&server, "lake");
        server.set_rules(on_put(Times::Always, Fault::Status(status)));
        let error = store
            .put_create(&key, file.bytes.clone())
            .await
            .unwrap_err();
        assert_eq!(error.retry(), retry, "{status}: {error}");
        let text = error.to_string();
        assert!(
            text.contains(&key) && text.contains("gs://lake") && !text.contains("?"),
            "{text}"
        );
    }
    let server = server().await;
    let store = gcs(&server, "no-such-bucket");
    for error in [
        store
            .put_create(&key, file.bytes.clone())
            .await
            .unwrap_err(),
        chain_ends(&store, "t", &[0]).await.unwrap_err(),
        read_footer::<TransactionFooter>(&store, &file.name)
            .await
            .unwrap_err(),
    ] {
        assert_eq!(error.retry(), Retry::Permanent, "{error}");
        assert!(error.to_string().contains("GCS_BUCKET_NAME"), "{error}");
    }
    // No server listens there.
    let dead = LakeStore::open(&LakeLocation::Gcs {
        bucket: "bucket".into(),
        credentials_file: None,
        endpoint: Some("http://user:secret@127.0.0.1:1".into()),
    })
    .unwrap();
    let error = dead.get(&key).await.unwrap_err();
    assert_eq!(error.retry(), Retry::Transient, "{error}");
    assert!(error.to_string().contains("refused"), "{error}");
    assert!(!error.to_string().contains("secret"), "{error}");
}

#[test]
fn a_credentials_file_is_checked_before_anything_else() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("key.json");
    let open = || {
        LakeStore::open(&LakeLocation::Gcs {
            bucket: "bucket".into(),
            credentials_file: Some(path.clone()),
            endpoint: None,
        })
    };
    for (content, problem) in [
        (None, "can't be read"),
        (Some(""), "is not JSON"),
        (Some("{\"private_key\": SECRET}"), "is not JSON"),
        (Some("[\"SECRET\"]"), "has no client_email"),
        (Some("{\"client_email\":\"SECRET\"}"), "has no private_key"),
        (
            Some(
                "{\"client_email\":\"a\",\"private_key\":\"SECRET\",\"private_key_id\":\"SECRET\"}",
            ),
            "has no usable private key",
        ),
        (
            Some("{\"type\":\"authorized_user\",\"client_id\":\"SECRET\"}"),
            "has no refresh_token",
        ),
        (
            Some("{\"type\":\"external_account\",\"audience\":\"SECRET\"}"),
            "is of the type external_account, which is not supported; set",
        ),
        (
            Some("{\"type\":\"impersonated_service_account\"}"),
            "impersonated_service_account",
        ),
        (
            Some("{\"installed\":{\"client_secret\":\"SECRET\"}}"),
            "is of the type installed",
        ),
    ] {
        match content {
            Some(content) => std::fs::write(&path, content).unwrap(),
            None => assert!(!path.exists()),
        }
        let error = open().err().unwrap();
        assert!(matches!(error, LakeError::Credentials { .. }), "{error}");
        assert_eq!(error.retry(), Retry::Permanent);
        let text = error.to_string();
        assert!(
            text.contains(problem) && text.contains("key.json"),
            "{text}"
        );
        assert!(!text.contains("SECRET"), "{text}");
        // One remedy, which names all that works.
        let remedies = text.matches("service account").count();
        assert!(remedies == 1 && text.contains("your own login"), "{text}");
    }
    for bucket in ["", "gs://bucket", "bucket/folder"] {
        let error = LakeStore::open(&LakeLocation::Gcs {
            bucket: bucket.into(),
            credentials_file: None,
            endpoint: Some("http://127.0.0.1:1".into()),
        });
        assert!(error.err().unwrap().to_string().contains("GCS_BUCKET_NAME"));
    }
}

#[tokio::test]
async fn what_a_killed_put_left_behind_is_not_an_object() {
    let folder = TempDir::new().unwrap();
    let store = local(folder.path());
    let whole = file("t", 0, 0, 9, 20_000);
    put_bytes(&store, &whole).await;
    let path = folder.path().join(file("t", 0, 10, 19, 20_000).name.key());
    let mut leftover = path.clone().into_os_string();
    leftover.push("#1234000001");
    std::fs::write(&leftover, b"half a fi").unwrap();
    assert_eq!(objects_of(&store, "t").await.unwrap().len(), 1);
    assert_eq!(
        chain_ends(&store, "t", &[0]).await.unwrap()[&0]
            .footer
            .last_offset,
        9
    );
    // Nor does it keep the next put from its name.
    assert_eq!(
        put_bytes(&store, &file("t", 0, 10, 19, 20_000)).await,
        PutOutcome::Created
    );
    let names: Vec<_> = std::fs::read_dir(path.parent().unwrap())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains('#'))
        .collect();
    assert_eq!(
        names,
        ["t-0-00000000000000000010.parquet#1234000001"],
        "a put leaves none itself"
    );
}

#[tokio::test]
async fn a_damaged_or_misplaced_object_at_a_chains_end_is_an_error() {
    let folder = TempDir::new().unwrap();
    let store = local(folder.path());
    let good = file("t", 0, 0, 9, 20_000);
    put_bytes(&store, &good).await;
    let key = ObjectName::new("t", 0, 10, 20_000 * DAY).unwrap().key();
    let empty_parquet = {
        let schema = ftap_transaction::schema();
        let writer = parquet::arrow::ArrowWriter::try_new(Vec::new(), schema, None).unwrap();
        writer.into_inner().unwrap()
    };
    for (bytes, says) in [
        (Vec::new(), "key"),
        (b"PAR1".to_vec(), "not a readable lake file"),
        (
            good.bytes[..good.bytes.len() - 1].to_vec(),
            "not a readable lake file",
        ),
        (vec![0xff; 100_000], "not a readable lake file"),
        (empty_parquet, "ftap.format_version"),
        (good.bytes.to_vec(), "footer is that of t-0 from offset 0"),
    ] {
        std::fs::write(folder.path().join(&key), &bytes).unwrap();
        let error = chain_ends(&store, "t", &[0]).await.unwrap_err();
        assert_eq!(error.retry(), Retry::Permanent, "{error}");
        assert!(error.to_string().contains(&key), "{error}");
        assert!(says == "key" || error.to_string().contains(says), "{error}");
    }
}

#[tokio::test]
async fn a_folder_that_cant_be_used_is_a_clear_error() {
    let folder = TempDir::new().unwrap();
    let file_path = folder.path().join("file");
    std::fs::write(&file_path, b"").unwrap();
    for path in [file_path.clone(), file_path.join("below")] {
        let error = LakeStore::open(&LakeLocation::Local(path.clone()))
            .err()
            .unwrap();
        assert_eq!(error.retry(), Retry::Permanent, "{error}");
        assert!(
            error.to_string().contains(path.to_str().unwrap()),
            "{error}"
        );
        assert!(
            error.to_string().contains("choose another folder"),
            "{error}"
        );
    }
    let store = local(folder.path());
    store.check_writable().await.unwrap();
    assert_eq!(
        std::fs::read_dir(folder.path()).unwrap().count(),
        1,
        "the probe is gone"
    );
    // A file where the date folder must be.
    std::fs::write(folder.path().join("transactions"), b"").unwrap();
    let object = file("t", 0, 0, 0, 0);
    let error = store
        .put_create(&object.name.key(), object.bytes)
        .await
        .unwrap_err();
    assert_eq!(error.retry(), Retry::Permanent, "{error}");

    // Permissions mean nothing to root.
    let locked = folder.path().join("locked");
    std::fs::create_dir(&locked).unwrap();
    let store = local(&locked);
    let mut permissions = std::fs::metadata(&locked).unwrap().permissions();
    permissions.set_readonly(true);
    std::fs::set_permissions(&locked, permissions).unwrap();
    match store.check_writable().await {
        Ok(()) => println!("not shown: this user may write anywhere"),
        Err(error) => {
            assert_eq!(error.retry(), Retry::Transient, "{error}");
            assert!(error.to_string().contains("permission"), "{error}");
        }
    }
}

#[tokio::test]
async fn what_dead_writers_left_is_cleared_away_and_a_living_ones_is_not() {
    let folder = TempDir::new().unwrap();
    let store = local(folder.path());
    let whole = file("t", 0, 0, 9, 20_000);
    put_bytes(&store, &whole).await;
    let day = folder.path().join(whole.name.key());
    let day = day.parent().unwrap();
    let long_ago = std::time::SystemTime::now() - Duration::from_secs(3600);
    let make = |path: std::path::PathBuf, modified: std::time::SystemTime| {
        let file = std::fs::File::create(path).unwrap();
        file.set_modified(modified).unwrap();
        file
    };
    let (dead, alive) = (
        day.join("t-0-1.parquet#1000001"),
        day.join("t-0-2.parquet#1000002"),
    );
    make(dead.clone(), long_ago);
    make(folder.path().join("probe#1000003"), long_ago);
    let writer = make(alive.clone(), long_ago);
    writer.lock().unwrap();
    let young = day.join("t-0-3.parquet#1000004");
    make(young.clone(), std::time::SystemTime::now());
    let foreign = day.join("notes#1");
    make(foreign.clone(), long_ago);

    assert_eq!(store.clear_leftovers().await.unwrap(), 2);
    assert!(!dead.exists() && alive.exists() && young.exists() && foreign.exists());
    drop(writer);
    assert_eq!(store.clear_leftovers().await.unwrap(), 1);
    assert!(!alive.exists() && objects_of(&store, "t").await.unwrap().len() == 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_incomplete_listing_is_not_taken_for_an_empty_lake() {
    let server = server().await;
    let store = gcs(&server, "lake");
    put_bytes(&store, &file("t", 0, 0, 9, 20_000)).await;
    for fault in [Fault::WebPage, Fault::HalfAnswer, Fault::CutBody] {
        server.set_rules(vec![Rule::new(Operation::List, Times::Always, fault)]);
        for error in [
            chain_ends(&store, "t", &[0]).await.err().unwrap(),
            objects_of(&store, "t").await.unwrap_err(),
        ] {
            assert_eq!(error.retry(), Retry::Transient, "{fault:?}: {error}");
        }
    }
    server.clear_rules();
    assert_eq!(chain_ends(&store, "t", &[0]).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_lake_that_is_away_is_not_an_empty_one() {
    let folder = TempDir::new().unwrap();
    let place = folder.path().join("lake");
    let store = local(&place);
    let whole = file("t", 0, 0, 9, 20_000);
    put_bytes(&store, &whole).await;
    let key = whole.name.key();
    let away = async |store: &LakeStore| {
        let listed = store.list("transactions").try_collect::<Vec<_>>().await;
        for error in [
            listed.unwrap_err(),
            store.folders("transactions").await.unwrap_err(),
            store.exists(&key).await.unwrap_err(),
            store.get_if_there(&key).await.unwrap_err(),
            objects_of(store, "t").await.unwrap_err(),
            chain_ends(store, "t", &[0]).await.unwrap_err(),
        ] {
            assert_eq!(error.retry(), Retry::Transient, "{error}");
            assert!(error.to_string().contains("mount or move"), "{error}");
        }
    };
    std::fs::rename(&place, folder.path().join("moved")).unwrap();
    away(&store).await;
    // As an unmounted disk leaves it.
    std::fs::create_dir(&place).unwrap();
    away(&store).await;
    std::fs::remove_dir(&place).unwrap();
    std::fs::rename(folder.path().join("moved"), &place).unwrap();
    assert_eq!(objects_of(&store, "t").await.unwrap().len(), 1);

    // While a listing is under way.
    let mut listed = store.list("transactions");
    listed.try_next().await.unwrap().unwrap();
    std::fs::rename(&place, folder.path().join("moved")).unwrap();
    assert!(listed.try_next().await.is_err());
}

#[tokio::test]
async fn footers_are_asked_for_side_by_side_and_come_in_order() {
    let server = server().await;
    let store = gcs(&server, server.bucket());
    let files: Vec<File> = (0..5).map(|n| file("t", 0, n, n, 20_000)).collect();
    for file in &files {
        assert_eq!(put_bytes(&store, file).await, PutOutcome::Created);
    }
    let names: Vec<ObjectName> = files.iter().map(|file| file.name.clone()).collect();
    let first = format!("get@{}:always:delay=300", names[0]);
    server.set_rules(vec![first.parse().unwrap()]);
    let read = read_footers::<TransactionFooter>(&store, names.clone());
    let read: Vec<_> = read.map_ok(|(name, _)| name).try_collect().await.unwrap();
    assert_eq!(read, names);

    let before = server.counts().gets;
    server.set_rules(vec![Rule::new(Operation::Get, Times::Always, Fault::Hang)]);
    let read = read_footers::<TransactionFooter>(&store, names).try_collect::<Vec<_>>();
    let all_are_asked_for = async {
        while server.counts().gets < before + 5 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        _ = read => panic!("nothing was answered"),
        done = tokio::time::timeout(Duration::from_secs(5), all_are_asked_for) => done.unwrap(),
    }
}
