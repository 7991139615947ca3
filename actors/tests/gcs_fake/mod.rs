//! A small part of Google Cloud Storage's XML API in memory: create-only puts, reads with
//! ranges, listings; with faults.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// What happens to a request instead of the usual.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// This status, and nothing is done.
    Status(u16),
    /// The object is stored, then 503.
    CommitThen503,
    /// The object is stored, then the connection is cut.
    CommitThenCut,
}

#[derive(Default)]
struct State {
    objects: BTreeMap<String, Vec<u8>>,
    faults: VecDeque<Fault>,
    requests: Vec<String>,
}

/// A bucket named `bucket` on a free port of this machine.
#[derive(Clone)]
pub struct Fake {
    pub endpoint: String,
    state: Arc<Mutex<State>>,
}

impl Fake {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let fake = Self {
            endpoint: format!("http://{}", listener.local_addr().unwrap()),
            state: Arc::default(),
        };
        let state = Arc::clone(&fake.state);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&state)));
            }
        });
        fake
    }

    /// The next requests fail, one each.
    pub fn fail_next(&self, faults: impl IntoIterator<Item = Fault>) {
        self.state.lock().unwrap().faults.extend(faults);
    }

    /// Heads of the requests so far.
    pub fn requests(&self) -> Vec<String> {
        self.state.lock().unwrap().requests.clone()
    }

    pub fn object(&self, key: &str) -> Option<Vec<u8>> {
        self.state.lock().unwrap().objects.get(key).cloned()
    }
}

struct Request {
    method: String,
    target: String,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

async fn read(stream: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut line = String::new();
    stream.read_line(&mut line).await.ok()?;
    let mut words = line.split_whitespace();
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            break;
        };
        headers.insert(name.to_lowercase(), value.trim().to_owned());
    }
    let length = headers
        .get("content-length")
        .map_or(0, |n| n.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some(Request {
        method,
        target,
        headers,
        body,
    })
}

async fn serve(stream: TcpStream, state: Arc<Mutex<State>>) {
    let mut stream = BufReader::new(stream);
    while let Some(request) = read(&mut stream).await {
        let Some((status, headers, body)) = answer(&request, &mut state.lock().unwrap()) else {
            return;
        };
        let length = body.len();
        let head = format!("HTTP/1.1 {status} X\r\n{headers}Content-Length: {length}\r\n\r\n");
        let written = stream.write_all(&[head.as_bytes(), &body].concat()).await;
        if written.is_err() {
            return;
        }
    }
}

fn decoded(text: &str) -> String {
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap().as_bytes().to_vec();
    for part in parts {
        bytes.push(u8::from_str_radix(&part[..2], 16).unwrap());
        bytes.extend_from_slice(&part.as_bytes()[2..]);
    }
    String::from_utf8(bytes).unwrap()
}

type Answer = (u16, String, Vec<u8>);

fn error(status: u16, code: &str) -> Option<Answer> {
    let body = format!("<Error><Code>{code}</Code><Message>{code}</Message></Error>");
    Some((status, String::new(), body.into_bytes()))
}

const TIMES: &str =
    "ETag: \"1\"\r\nx-goog-generation: 1\r\nLast-Modified: Thu, 01 Jan 2026 00:00:00 GMT\r\n";

fn answer(request: &Request, state: &mut State) -> Option<Answer> {
    let Request {
        method,
        target,
        headers,
        body,
    } = request;
    let condition = headers.get("x-goog-if-generation-match");
    let range = headers.get("range");
    state
        .requests
        .push(format!("{method} {target} {condition:?} {range:?}"));
    let fault = state.faults.pop_front();
    if let Some(Fault::Status(status)) = fault {
        return error(status, "Fault");
    }
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let path = decoded(path.trim_start_matches('/'));
    let (bucket, key) = path.split_once('/').unwrap_or((&path, ""));
    if bucket != "bucket" {
        return error(404, "NoSuchBucket");
    }
    match method.as_str() {
        "PUT" => {
            assert!(
                !query.contains("upload"),
                "a conditional put is never multipart"
            );
            if condition.map(String::as_str) == Some("0") && state.objects.contains_key(key) {
                return error(412, "PreconditionFailed");
            }
            state.objects.insert(key.to_owned(), body.clone());
            match fault {
                Some(Fault::CommitThenCut) => None,
                Some(_) => error(503, "ServiceUnavailable"),
                None => Some((200, TIMES.to_owned(), Vec::new())),
            }
        }
        "GET" if key.is_empty() => Some((200, String::new(), list(query, state).into_bytes())),
        "GET" => {
            let Some(object) = state.objects.get(key) else {
                return error(404, "NoSuchKey");
            };
            let Some(range) = range.and_then(|r| r.strip_prefix("bytes=")) else {
                return Some((200, TIMES.to_owned(), object.clone()));
            };
            let (from, to) = range.split_once('-').unwrap();
            let size = object.len();
            let (from, to) = match (from.parse::<usize>(), to.parse::<usize>()) {
                (Err(_), Ok(last)) => (size.saturating_sub(last), size),
                (Ok(from), Ok(to)) => (from, size.min(to + 1)),
                (Ok(from), Err(_)) => (from, size),
                _ => return error(400, "InvalidArgument"),
            };
            if from >= to {
                return error(416, "InvalidRange");
            }
            let last = to - 1;
            let headers = format!("{TIMES}Content-Range: bytes {from}-{last}/{size}\r\n");
            Some((206, headers, object[from..to].to_vec()))
        }
        _ => error(501, "NotImplemented"),
    }
}

/// Pages of two keys each, so that paging is seen to work.
fn list(query: &str, state: &State) -> String {
    let of = |name: &str| {
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        let value = pairs
            .into_iter()
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value);
        decoded(value.unwrap_or_default())
    };
    let (prefix, delimiter, after) = (of("prefix"), of("delimiter"), of("continuation-token"));
    let mut folders = std::collections::BTreeSet::new();
    let mut items = Vec::new();
    for (key, object) in &state.objects {
        if !key.starts_with(&prefix) || *key <= after {
            continue;
        }
        match key[prefix.len()..].split_once('/') {
            Some((folder, _)) if delimiter == "/" => {
                folders.insert(format!("{prefix}{folder}/"));
            }
            _ => items.push((key, object.len())),
        }
    }
    let more = items.len() > 2;
    items.truncate(2);
    let mut xml = format!("<ListBucketResult><Name>bucket</Name><IsTruncated>{more}</IsTruncated>");
    if more {
        let token = items[1].0;
        xml += &format!("<NextContinuationToken>{token}</NextContinuationToken>");
    }
    for (key, size) in items {
        xml += &format!(
            "<Contents><Key>{key}</Key><Size>{size}</Size><LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>\"1\"</ETag></Contents>"
        );
    }
    for folder in folders {
        xml += &format!("<CommonPrefixes><Prefix>{folder}</Prefix></CommonPrefixes>");
    }
    xml + "</ListBucketResult>"
}
