//! Connections: frames in, frames out. Each connection handles its requests in order and writes a
//! response before it reads the next request, so its memory is that of one request and one piece of a
//! response. A malformed frame closes its connection and affects no other client, and so does a
//! client that neither sends the rest of a request nor reads its response, or sends nothing for long.

use std::fmt::Display;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::{ApiKey, RequestHeader, RequestKind, ResponseHeader, ResponseKind};
use kafka_protocol::protocol::{Decodable, Encodable};
use tokio::io::{AsyncReadExt, Interest};
use tokio::net::{TcpListener, TcpStream};

use crate::api::{self, metadata, table};
use crate::broker::Shared;
use crate::buffer::ResponseBuffer;
use crate::connections::{Client, Connections};
use crate::shape;

/// Length of the part every request starts with: API, version, correlation id.
const FIXED_HEADER_BYTES: usize = 8;
/// Requests other than Produce are small; this bounds what they can make the codec allocate.
const MAX_OTHER_REQUEST_BYTES: usize = 8 << 20;
const KEPT_READ_BYTES: usize = 4 << 20;
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How often a client that sent its next request ahead is looked at for having hung up.
const HANG_UP_CHECK: Duration = Duration::from_secs(1);

/// Why a connection was closed by the broker.
#[derive(Debug, thiserror::Error)]
enum Dropped {
    #[error("a frame of {bytes} bytes; at most {most} are taken")]
    FrameSize { bytes: i64, most: usize },
    #[error("unknown request {api} version {version}")]
    Unsupported { api: i16, version: i16 },
    #[error("malformed request {api} version {version}: {problem}")]
    Malformed {
        api: i16,
        version: i16,
        problem: String,
    },
    #[error("idle for {0:?}")]
    Idle(Duration),
    #[error("the rest of a request did not come within {0:?}")]
    HalfRequest(Duration),
    #[error("a response was not read within {0:?}")]
    UnreadResponse(Duration),
    #[error("a failed write to a client that asked for no acknowledgement")]
    UnacknowledgedWrite,
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("the response could not be encoded: {0}")]
    Encode(String),
}

impl Dropped {
    fn malformed(api: i16, version: i16, problem: &dyn Display) -> Self {
        Self::Malformed {
            api,
            version,
            problem: problem.to_string(),
        }
    }
}

/// Accepts connections until the runtime ends.
pub(crate) async fn accept(shared: &Arc<Shared>, listener: TcpListener) {
    let mut connections = Connections::default();
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Most often too many open files; others may close theirs.
                tracing::warn!(event = "accept_failed", %error);
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let most = shared.options.max_connections;
        if !connections.make_room(most) {
            tracing::warn!(event = "connection_dropped", %peer, reason = "too many connections", most);
            continue;
        }
        let client = Arc::new(Client::default());
        let serving = (Arc::clone(shared), Arc::clone(&client));
        let task = tokio::spawn(async move {
            let (shared, client) = serving;
            match serve(&shared, &client, stream).await {
                Ok(()) => {}
                Err(reason @ (Dropped::Io(_) | Dropped::Idle(_))) => {
                    tracing::debug!(event = "connection_dropped", %peer, %reason)
                }
                Err(reason) => tracing::warn!(event = "connection_dropped", %peer, %reason),
            }
        });
        connections.add(client, task.abort_handle());
    }
}

async fn serve(shared: &Shared, client: &Client, mut stream: TcpStream) -> Result<(), Dropped> {
    stream.set_nodelay(true)?;
    let (idle, patience) = (shared.options.idle_timeout, shared.options.client_timeout);
    let mut received = BytesMut::new();
    loop {
        let first = client.wait_for(idle, stream.peek(&mut [0])).await;
        if first.ok_or(Dropped::Idle(idle))?? == 0 {
            return Ok(());
        }
        let most = shared.options.max_request_bytes;
        let frame = read_frame(&mut stream, &mut received, most);
        let frame = client.wait_for(patience, frame).await;
        let frame = frame.ok_or(Dropped::HalfRequest(patience))??;
        let mut out = ResponseBuffer::default();
        // Answers that need no waiting are ready at the first poll, even for a client that has
        // closed its side already.
        tokio::select! {
            biased;
            answered = answer(shared, frame, &mut out) => answered?,
            () = hung_up(&stream) => return Ok(()),
        }
        let written = client.wait_for(patience, out.write_to(&mut stream)).await;
        written.ok_or(Dropped::UnreadResponse(patience))??;
        if received.capacity() > KEPT_READ_BYTES {
            received = BytesMut::new();
        }
    }
}

/// Waits until the client is gone. A next request that was sent ahead does not mean that.
async fn hung_up(stream: &TcpStream) {
    if !matches!(stream.peek(&mut [0]).await, Ok(1..)) {
        return;
    }
    // That request stays where it is, so an end behind it shows in the socket's state alone.
    while matches!(stream.ready(Interest::READABLE).await, Ok(state) if !state.is_read_closed()) {
        tokio::time::sleep(HANG_UP_CHECK).await;
    }
}

/// Reads one frame.
async fn read_frame(
    stream: &mut TcpStream,
    received: &mut BytesMut,
    most: usize,
) -> Result<Bytes, Dropped> {
    let mut length = [0u8; 4];
    stream.read_exact(&mut length).await?;
    let length = i32::from_be_bytes(length);
    let bytes = usize::try_from(length)
        .ok()
        .filter(|n| (FIXED_HEADER_BYTES..=most).contains(n));
    let Some(bytes) = bytes else {
        return Err(Dropped::FrameSize {
            bytes: i64::from(length),
            most,
        });
    };
    received.clear();
    received.reserve(bytes);
    while received.len() < bytes {
        let missing = bytes - received.len();
        let mut rest = (&mut *received).limit(missing);
        if stream.read_buf(&mut rest).await? == 0 {
            return Err(Dropped::Io(io::ErrorKind::UnexpectedEof.into()));
        }
    }
    Ok(received.split().freeze())
}

/// A request that may be decoded.
struct Checked {
    api: ApiKey,
    version: i16,
    correlation_id: i32,
    client_id: String,
    body: Bytes,
}

/// Checks a frame down to the last length in it, so that decoding it is safe.
fn check(mut frame: Bytes) -> Result<Checked, Dropped> {
    let (Some(api), Some(version)) = (
        frame
            .get(..2)
            .and_then(|b| b.try_into().ok())
            .map(i16::from_be_bytes),
        frame
            .get(2..4)
            .and_then(|b| b.try_into().ok())
            .map(i16::from_be_bytes),
    ) else {
        return Err(Dropped::malformed(-1, -1, &"it has no header"));
    };
    let unsupported = Dropped::Unsupported { api, version };
    let Ok(key) = ApiKey::try_from(api) else {
        return Err(unsupported);
    };
    if !table::is_supported(key, version) {
        return Err(unsupported);
    }
    let header_version = key.request_header_version(version);
    let header = RequestHeader::decode(&mut frame, header_version)
        .map_err(|error| Dropped::malformed(api, version, &error))?;
    let flexible = header_version >= 2;
    shape::check(table::layout(key, version), flexible, &frame).map_err(|shape::Malformed| {
        Dropped::malformed(api, version, &"its lengths do not fit the frame")
    })?;
    if key as i16 != ApiKey::Produce as i16 && frame.len() > MAX_OTHER_REQUEST_BYTES {
        return Err(Dropped::FrameSize {
            bytes: i64::try_from(frame.len()).unwrap_or(i64::MAX),
            most: MAX_OTHER_REQUEST_BYTES,
        });
    }
    Ok(Checked {
        api: key,
        version,
        correlation_id: header.correlation_id,
        client_id: header
            .client_id
            .map(|id| id.to_string())
            .unwrap_or_default(),
        body: frame,
    })
}

/// Writes the response frame to `out`, or nothing if there is none.
async fn answer(shared: &Shared, frame: Bytes, out: &mut ResponseBuffer) -> Result<(), Dropped> {
    if let Some(correlation_id) = too_new_api_versions(&frame) {
        // A client that uses a newer version gets the list of versions in the oldest one.
        let response = metadata::api_versions(ResponseError::UnsupportedVersion.code());
        return encode(
            out,
            ApiKey::ApiVersions,
            0,
            correlation_id,
            &ResponseKind::ApiVersions(response),
        );
    }
    let checked = check(frame)?;
    let (api, version) = (checked.api, checked.version);
    let mut body = checked.body;
    let request = RequestKind::decode(api, &mut body, version)
        .map_err(|error| Dropped::malformed(api as i16, version, &error))?;
    if let RequestKind::Fetch(request) = &request {
        out.put_i32(0);
        out.put_i32(checked.correlation_id);
        api::fetch::fetch(shared, request, version, out).await;
        return finish_frame(out);
    }
    let unacknowledged = matches!(&request, RequestKind::Produce(r) if r.acks == 0);
    let response = api::handle(shared, &checked.client_id, request, version).await;
    match response {
        Some(response) => encode(out, api, version, checked.correlation_id, &response),
        None if unacknowledged => Ok(()),
        None => Err(Dropped::UnacknowledgedWrite),
    }
}

fn too_new_api_versions(frame: &Bytes) -> Option<i32> {
    let field = |range: std::ops::Range<usize>| frame.get(range);
    let api = i16::from_be_bytes(field(0..2)?.try_into().ok()?);
    let version = i16::from_be_bytes(field(2..4)?.try_into().ok()?);
    let too_new =
        api == ApiKey::ApiVersions as i16 && !table::is_supported(ApiKey::ApiVersions, version);
    let correlation_id = i32::from_be_bytes(field(4..8)?.try_into().ok()?);
    too_new.then_some(correlation_id)
}

fn encode(
    out: &mut ResponseBuffer,
    api: ApiKey,
    version: i16,
    correlation_id: i32,
    response: &ResponseKind,
) -> Result<(), Dropped> {
    let mut encoded = BytesMut::with_capacity(512);
    let header = ResponseHeader::default().with_correlation_id(correlation_id);
    header
        .encode(&mut encoded, api.response_header_version(version))
        .map_err(|error| Dropped::Encode(error.to_string()))?;
    response
        .encode(&mut encoded, version)
        .map_err(|error| Dropped::Encode(error.to_string()))?;
    out.put_i32(0);
    out.put(&encoded);
    finish_frame(out)
}

fn finish_frame(out: &mut ResponseBuffer) -> Result<(), Dropped> {
    let length =
        i32::try_from(out.len() - 4).map_err(|error| Dropped::Encode(error.to_string()))?;
    out.set_length(length);
    Ok(())
}
