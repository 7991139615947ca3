//! The download against a local fake of Kaggle's API: real sockets, real zip files, and every way
//! in which such a download is known to fail.

use std::fs;
use std::io::{Cursor, Write};
use std::time::Duration;

use ftap_dataset::DatasetError;
use ftap_dataset::kaggle::{DownloadPolicy, KaggleCredentials, download_with};
use ftap_dataset::schema::SOURCE_FILE;
use ftap_supervision::Backoff;
use ftap_testing::{Reply, Scripted};
use tempfile::{TempDir, tempdir};
use tokio::net::TcpListener;

const KEY: &str = "0123456789abcdef-secret";
/// `user:KEY` in base64.
const BASIC: &str = "Basic dXNlcjowMTIzNDU2Nzg5YWJjZGVmLXNlY3JldA==";

fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, text) in files {
        zip.start_file(*name, zip::write::SimpleFileOptions::default())
            .unwrap();
        zip.write_all(text).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// Lines that hardly compress, so that the archive spans many network packets.
fn csv_text() -> Vec<u8> {
    let mut state = 1_u64;
    let mut text = b",trans_date_trans_time\n".to_vec();
    for _ in 0..20_000 {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        writeln!(text, "{state:x},{:x}", state.rotate_left(17)).unwrap();
    }
    text
}

struct Download {
    dir: TempDir,
    result: Result<std::path::PathBuf, DatasetError>,
    progress: Vec<(u64, Option<u64>)>,
}

impl Download {
    async fn from(base_url: &str) -> Self {
        // Far longer than a busy machine takes to answer.
        Self::within(Duration::from_secs(20), base_url).await
    }

    async fn within(idle_timeout: Duration, base_url: &str) -> Self {
        let policy = DownloadPolicy {
            backoff: Backoff::new(Duration::from_millis(1), Duration::from_secs(5)).attempts(3),
            idle_timeout,
        };
        let dir = tempdir().unwrap();
        let mut progress = Vec::new();
        let credentials = KaggleCredentials::new("user", KEY);
        let result = download_with(
            &policy,
            &credentials,
            base_url,
            dir.path(),
            &mut |done, total| {
                progress.push((done, total));
            },
        )
        .await;
        Self {
            dir,
            result,
            progress,
        }
    }

    fn csv(self) -> Vec<u8> {
        let path = self.result.unwrap();
        assert_eq!(path, self.dir.path().join(SOURCE_FILE));
        let left = fs::read_dir(self.dir.path()).unwrap().count();
        assert_eq!(left, 1, "only the CSV stays");
        fs::read(path).unwrap()
    }

    /// The error, after the checks that hold for every error.
    fn error(self) -> DatasetError {
        let error = self.result.unwrap_err();
        for text in [error.to_string(), format!("{error:?}")] {
            assert!(!text.contains(KEY) && !text.contains("dXNlc"), "{text}");
        }
        let left = fs::read_dir(self.dir.path()).unwrap().count();
        assert_eq!(left, 0, "files left after {error}");
        error
    }
}

#[tokio::test]
async fn the_csv_is_downloaded_with_credentials_and_progress() {
    let text = csv_text();
    let zip = archive(&[("readme.txt", b"x"), (SOURCE_FILE, &text)]);
    let server = Scripted::start(vec![Reply::ok(zip.clone())]).await;
    let download = Download::from(&format!("{}/api/v1/", server.address())).await;
    let size = zip.len() as u64;
    assert_eq!(download.progress.first(), Some(&(0, Some(size))));
    assert_eq!(download.progress.last(), Some(&(size, Some(size))));
    assert!(download.progress.is_sorted());
    assert_eq!(download.csv(), text);
    let request = server.requests().remove(0);
    let path =
        "GET /api/v1/datasets/download/priyamchoksi/credit-card-transactions-dataset HTTP/1.1";
    assert!(request.starts_with(path), "{request}");
    assert!(request.contains(BASIC), "{request}");
}

#[tokio::test]
async fn a_redirect_to_another_host_gets_no_credentials() {
    let text = csv_text();
    let storage = Scripted::start(vec![Reply::ok(archive(&[(SOURCE_FILE, &text)]))]).await;
    let location = format!("{}/signed?signature=s3cr3t", storage.address());
    let api = Scripted::start(vec![Reply::status(302).header("location", location)]).await;
    assert_eq!(Download::from(api.address()).await.csv(), text);
    assert!(api.requests()[0].contains(BASIC));
    let request = storage.requests().remove(0).to_lowercase();
    assert!(request.starts_with("get /signed"), "{request}");
    assert!(!request.contains("authorization"), "{request}");
}

/// Also at the second redirect, which stays at that host, and at one that leads back.
#[tokio::test]
async fn credentials_never_leave_the_first_host_however_many_redirects_follow() {
    let text = csv_text();
    let end = Scripted::start(vec![Reply::ok(archive(&[(SOURCE_FILE, &text)]))]).await;
    let to = |location: String| Reply::status(302).header("location", location);
    let storage = Scripted::start(vec![
        to("/second".to_owned()),
        to(format!("{}/third", end.address())),
    ])
    .await;
    let api = Scripted::start(vec![
        to("/moved".to_owned()),
        to(format!("{}/first", storage.address())),
    ])
    .await;
    assert_eq!(Download::from(api.address()).await.csv(), text);
    assert_eq!(api.requests().len(), 2);
    for request in api.requests() {
        assert!(request.contains(BASIC), "{request}");
    }
    let elsewhere = [storage.requests(), end.requests()].concat();
    assert_eq!(elsewhere.len(), 3);
    for request in elsewhere {
        assert!(
            !request.to_lowercase().contains("authorization"),
            "{request}"
        );
    }
}

#[tokio::test]
async fn a_signed_address_is_in_no_error() {
    // The storage behind the redirect cuts the body, redirects endlessly or refuses the connection.
    let cut = Reply::ok(archive(&[(SOURCE_FILE, &csv_text())])).cut();
    let storage = Scripted::start(vec![cut]).await;
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let unreachable = format!("http://{}", gone.local_addr().unwrap());
    drop(gone);
    let again = "/signed?signature=s3cr3t";
    let in_circles = Scripted::start(vec![Reply::status(302).header("location", again)]).await;
    for host in [storage.address(), in_circles.address(), &unreachable] {
        let location = format!("{host}/signed?signature=s3cr3t");
        let api = Scripted::start(vec![Reply::status(302).header("location", location)]).await;
        let error = Download::from(api.address()).await.error();
        assert!(
            matches!(error, DatasetError::Network { attempts: 3, .. }),
            "{error:?}"
        );
        assert!(
            !format!("{error:?} {error}").contains("s3cr3t"),
            "{error:?}"
        );
    }
}

#[tokio::test]
async fn what_may_pass_is_tried_again() {
    let text = csv_text();
    let good = Reply::ok(archive(&[(SOURCE_FILE, &text)]));
    for passing in [
        Reply::status(503).body("later"),
        Reply::status(429).header("retry-after", "0"),
        Reply::status(408),
        good.clone().cut(),
        Reply::disconnect(),
    ] {
        let server = Scripted::start(vec![passing.clone(), passing, good.clone()]).await;
        assert_eq!(Download::from(server.address()).await.csv(), text);
        assert_eq!(server.requests().len(), 3);
    }
}

#[tokio::test]
async fn what_does_not_pass_ends_in_an_error_that_says_so() {
    let server = Scripted::start(vec![Reply::status(502)]).await;
    let error = Download::from(server.address()).await.error();
    assert!(
        matches!(error, DatasetError::HttpStatus { status: 502, .. }),
        "{error:?}"
    );
    assert_eq!(server.requests().len(), 3);

    let cut = Reply::ok(archive(&[(SOURCE_FILE, &csv_text())])).cut();
    let server = Scripted::start(vec![cut]).await;
    let error = Download::from(server.address()).await.error();
    assert!(
        matches!(error, DatasetError::Network { attempts: 3, .. }),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_server_that_never_answers_is_an_error_after_a_limit() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", silent.local_addr().unwrap());
    let idle_timeout = Duration::from_millis(200);
    let error = Download::within(idle_timeout, &address).await.error();
    assert!(
        matches!(error, DatasetError::Network { attempts: 3, .. }),
        "{error:?}"
    );
}

#[tokio::test]
async fn refusals_are_distinguished_and_not_repeated() {
    for (status, expected) in [
        (401, "refused the credentials of user (HTTP 401)"),
        (403, "accept its terms"),
        (404, "does not know"),
        (400, "HTTP 400"),
    ] {
        let server =
            Scripted::start(vec![Reply::status(status).body("{\"message\": \"no\"}")]).await;
        let error = Download::from(server.address()).await.error();
        assert!(error.to_string().contains(expected), "{error}");
        assert_eq!(server.requests().len(), 1);
    }
}

#[tokio::test]
async fn a_long_wait_is_an_error_rather_than_waited_for() {
    let server = Scripted::start(vec![Reply::status(429).header("retry-after", "3600")]).await;
    let error = Download::from(server.address()).await.error();
    assert!(error.to_string().contains("wait 3600 seconds"), "{error}");
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn an_answer_that_is_not_an_archive_is_described() {
    for (body, expected) in [
        (
            b"<!DOCTYPE html><title>Login</title>".as_slice(),
            "an HTML page",
        ),
        (b"{\"code\": 1}", "a JSON message"),
        (b"a,b\n1,2\n", "something else"),
        (b"", "empty"),
        (b"PK", "something else"),
    ] {
        let server = Scripted::start(vec![Reply::ok(body)]).await;
        let error = Download::from(server.address()).await.error();
        assert!(
            matches!(error, DatasetError::NotAnArchive { .. }),
            "{error:?}"
        );
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[tokio::test]
async fn a_damaged_archive_or_one_without_the_csv_leaves_nothing() {
    let good = archive(&[(SOURCE_FILE, &csv_text())]);
    let mut damaged = good.clone();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 0xff;
    let cut_without_length = good[..good.len() - 40].to_vec();
    for body in [damaged, cut_without_length] {
        let server = Scripted::start(vec![Reply::ok(body)]).await;
        let error = Download::from(server.address()).await.error();
        assert!(
            matches!(error, DatasetError::DamagedArchive { .. }),
            "{error:?}"
        );
    }
    let other = archive(&[("other.csv", b"a,b\n")]);
    let server = Scripted::start(vec![Reply::ok(other)]).await;
    let error = Download::from(server.address()).await.error();
    assert!(error.to_string().contains("it has other.csv"), "{error}");
}

#[tokio::test]
async fn credentials_are_not_sent_in_the_clear() {
    for (base_url, part) in [
        ("http://kaggle.example/api/v1", "https only"),
        ("ftp://127.0.0.1/", "https only"),
        ("kaggle", "not an address"),
        (
            "https://user:hidden@kaggle.example",
            "take the user and password out",
        ),
    ] {
        let error = Download::from(base_url).await.error();
        assert!(
            matches!(error, DatasetError::BadBaseUrl { .. }),
            "{error:?}"
        );
        assert!(error.to_string().contains(part), "{error}");
        assert!(!error.to_string().contains("hidden"), "{error}");
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_full_disk_is_reported() {
    let zip = archive(&[(SOURCE_FILE, &csv_text())]);
    let server = Scripted::start(vec![Reply::ok(zip)]).await;
    for name in [
        "credit_card_transactions.zip.part",
        "credit_card_transactions.csv.part",
    ] {
        let dir = tempdir().unwrap();
        std::os::unix::fs::symlink("/dev/full", dir.path().join(name)).unwrap();
        let credentials = KaggleCredentials::new("user", KEY);
        let policy = DownloadPolicy::default();
        let error = download_with(
            &policy,
            &credentials,
            server.address(),
            dir.path(),
            &mut |_, _| {},
        )
        .await
        .unwrap_err();
        assert!(matches!(error, DatasetError::DiskFull { .. }), "{error:?}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
