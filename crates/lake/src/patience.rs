//! An HTTP client that waits as long as the bucket's answer may still be on its way.
//!
//! Promises: an upload has time by its size, so that a slow line gets a large file through; each part
//! of an answer has time of its own. Relies on `reqwest` for connections that stand still: it sets
//! TCP_USER_TIMEOUT to 30 seconds and keepalives to 15, so the system notices within a minute that
//! nothing moves any more.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use object_store::client::{
    HttpClient, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpResponseBody, HttpService,
};
use tokio::time::{Instant, Sleep, sleep, timeout};

/// How long the bucket may be silent.
const SILENCE: Duration = Duration::from_secs(120);
/// A slower line gets nothing through.
const SLOWEST_BYTES_PER_SECOND: f64 = 5_000.0;

/// See the module.
#[derive(Debug)]
pub(crate) struct Patient {
    client: HttpClient,
    silence: Duration,
}

impl Patient {
    pub(crate) fn new(client: HttpClient) -> Self {
        Self {
            client,
            silence: SILENCE,
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("no answer for {} s", .0.as_secs())]
struct Silent(Duration);

fn silent(limit: Duration) -> HttpError {
    HttpError::new(HttpErrorKind::Timeout, Silent(limit))
}

#[async_trait]
impl HttpService for Patient {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let bytes = request.body().content_length() as f64;
        let limit = self.silence + Duration::from_secs_f64(bytes / SLOWEST_BYTES_PER_SECOND);
        let answer = timeout(limit, self.client.execute(request)).await;
        let (head, body) = answer.map_err(|_elapsed| silent(limit))??.into_parts();
        let body = PatientBody {
            body,
            silence: self.silence,
            over: Box::pin(sleep(self.silence)),
        };
        Ok(HttpResponse::from_parts(head, HttpResponseBody::new(body)))
    }
}

struct PatientBody {
    body: HttpResponseBody,
    silence: Duration,
    over: Pin<Box<Sleep>>,
}

impl Body for PatientBody {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            let end = Instant::now() + self.silence;
            self.over.as_mut().reset(end);
            return Poll::Ready(frame);
        }
        let silence = self.silence;
        let over = self.over.as_mut().poll(cx);
        over.map(|()| Some(Err(silent(silence))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use futures::stream;
    use http_body_util::StreamBody;
    use object_store::PutPayload;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const NEVER: Duration = Duration::from_secs(3600);

    /// A bucket whose answer takes the first time, and each of its parts the second.
    #[derive(Debug)]
    struct Slow(Duration, Duration);

    #[async_trait]
    impl HttpService for Slow {
        async fn call(&self, _: HttpRequest) -> Result<HttpResponse, HttpError> {
            sleep(self.0).await;
            let (parts, mut body) = tokio::sync::mpsc::channel(1);
            let part_after = self.1;
            tokio::spawn(async move {
                for part in ["a", "b", "c"] {
                    sleep(part_after).await;
                    let _ = parts.send(Ok(Frame::data(Bytes::from(part)))).await;
                }
            });
            let body = StreamBody::new(stream::poll_fn(move |cx| body.poll_recv(cx)));
            Ok(HttpResponse::new(HttpResponseBody::new(body)))
        }
    }

    async fn put(bytes: usize, bucket: Slow) -> Result<Bytes, HttpErrorKind> {
        let client = Patient {
            client: HttpClient::new(bucket),
            silence: SECOND,
        };
        let body = PutPayload::from(vec![0; bytes]);
        let answer = client.call(HttpRequest::new(body.into())).await;
        let body = answer.map_err(|error| error.kind())?.into_body();
        body.bytes().await.map_err(|error| error.kind())
    }

    #[tokio::test]
    async fn a_large_file_has_the_time_that_a_slow_line_needs_and_silence_has_an_end() {
        let (answer, silence) = (Ok(Bytes::from("abc")), Err(HttpErrorKind::Timeout));
        // Longer than a bucket may be silent, in the time that the size needs; so are all parts together.
        let large = put(1_000_000, Slow(2 * SECOND, SECOND / 2));
        let unanswered = put(100, Slow(NEVER, NEVER));
        let cut_short = put(1_000_000, Slow(Duration::ZERO, NEVER));
        let (large, unanswered, cut_short) = tokio::join!(large, unanswered, cut_short);
        assert_eq!(large, answer);
        assert_eq!(unanswered, silence);
        assert_eq!(cut_short, silence);
    }
}
