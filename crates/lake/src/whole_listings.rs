//! An HTTP client that believes a bucket's listing only if it is one, and whole.
//!
//! `object_store` takes every XML document for a listing, a network's sign-in page for one of
//! an empty bucket. An empty answer would let a chain start again from the group's offset.

use async_trait::async_trait;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService,
    ReqwestConnector,
};

use crate::patience::Patient;

/// Makes such clients.
#[derive(Debug, Default)]
pub(crate) struct WholeListings(ReqwestConnector);

#[derive(Debug)]
struct Checked(HttpClient);

#[derive(Debug, thiserror::Error)]
#[error(
    "the answer is not a complete listing; a proxy between here and the bucket may have sent it"
)]
struct NoListing;

impl HttpConnector for WholeListings {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let client = HttpClient::new(Patient::new(self.0.connect(options)?));
        Ok(HttpClient::new(Checked(client)))
    }
}

#[async_trait]
impl HttpService for Checked {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let query = request.uri().query().unwrap_or_default();
        let is_listing = query.split('&').any(|pair| pair.starts_with("list-type="));
        let response = self.0.execute(request).await?;
        if !is_listing || !response.status().is_success() {
            return Ok(response);
        }
        let (head, body) = response.into_parts();
        let body = body.bytes().await?;
        if !is_whole(&body) {
            return Err(HttpError::new(HttpErrorKind::Decode, NoListing));
        }
        Ok(HttpResponse::from_parts(head, body.into()))
    }
}

fn is_whole(body: &[u8]) -> bool {
    let start = String::from_utf8_lossy(&body[..body.len().min(300)]);
    start.contains("<ListBucketResult") && body.trim_ascii_end().ends_with(b"</ListBucketResult>")
}

#[cfg(test)]
mod tests {
    use super::is_whole;

    #[test]
    fn only_a_whole_listing_is_one() {
        let whole = b"<?xml version='1.0'?><ListBucketResult xmlns='x'></ListBucketResult>\n";
        assert!(is_whole(whole));
        assert!(!is_whole(&whole[..whole.len() / 2]));
        assert!(!is_whole(b"<html><body>Sign in</body></html>"));
        assert!(!is_whole(b""));
    }
}
