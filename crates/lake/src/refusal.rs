//! What a store's refusal means: its text without secrets, the remedy, whether waiting helps.

use std::error::Error;
use std::io;

use ftap_supervision::Retry;
use ftap_telemetry::chain;

use crate::local;

/// Remedy, and whether waiting helps, for a folder of this machine.
pub(crate) fn judge_local(error: &object_store::Error) -> (&'static str, Retry) {
    if let object_store::Error::NotFound { .. } = error {
        return (
            "it was removed; restore it if it was a lake object",
            Retry::Transient,
        );
    }
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(io) = cause.downcast_ref::<io::Error>() {
            return local::judge(io.kind());
        }
        source = cause.source();
    }
    ("check the lake's folder", Retry::Permanent)
}

/// The same for a bucket.
pub(crate) fn judge_gcs(
    action: &str,
    error: &object_store::Error,
    detail: &str,
) -> (&'static str, Retry) {
    use object_store::Error as E;
    const NO_BUCKET: &str = "create the bucket, or correct GCS_BUCKET_NAME";
    const CREDENTIALS: &str = "check GOOGLE_APPLICATION_CREDENTIALS";
    let permission = match action {
        "write" => {
            "give the account of GOOGLE_APPLICATION_CREDENTIALS the permission storage.objects.create in the bucket"
        }
        "list" => {
            "give the account of GOOGLE_APPLICATION_CREDENTIALS the permission storage.objects.list in the bucket"
        }
        _ => {
            "give the account of GOOGLE_APPLICATION_CREDENTIALS the permission storage.objects.get in the bucket"
        }
    };
    let status = match error {
        E::NotFound { .. } => Some(404),
        E::PermissionDenied { .. } => Some(403),
        E::Unauthenticated { .. } => Some(401),
        E::InvalidPath { .. }
        | E::NotSupported { .. }
        | E::NotImplemented { .. }
        | E::UnknownConfigurationKey { .. } => return ("report this as a bug", Retry::Permanent),
        _ => status_of(detail),
    };
    match status {
        Some(404) if action == "read" && !detail.contains("NoSuchBucket") => (
            "it was removed; restore it if it was there",
            Retry::Transient,
        ),
        Some(404) => (NO_BUCKET, Retry::Permanent),
        Some(403) => (permission, Retry::Permanent),
        // A token that is at its end, or the wrong one.
        Some(401) => (CREDENTIALS, Retry::Briefly),
        // Google's token endpoint answers a revoked or unknown key with 400.
        Some(400) => (CREDENTIALS, Retry::Permanent),
        Some(408 | 409 | 425 | 429) | None => WAIT,
        Some(400..500) => ("check GCS_BUCKET_NAME and the endpoint", Retry::Permanent),
        Some(_) => WAIT,
    }
}

const WAIT: (&str, Retry) = (
    "check the network; without a credentials file this needs Google's metadata server; this is tried again",
    Retry::Transient,
);

/// The HTTP status in an error's text; `object_store` keeps the type to itself.
fn status_of(detail: &str) -> Option<u16> {
    let (_, rest) = detail.split_once("status code: ")?;
    rest.get(..3)?.parse().ok()
}

/// An error with its causes, fit to be logged.
pub fn error_text(error: &(dyn Error + 'static)) -> String {
    clean(&without_markup(&chain(error)))
}

/// Puts an XML or HTML body's words in place of its tags: `AccessDenied: no permission`.
fn without_markup(text: &str) -> String {
    let Some(start) = text.find('<') else {
        return text.to_owned();
    };
    let (mut plain, body) = (text[..start].to_owned(), &text[start..]);
    let words = body
        .split('<')
        .filter_map(|tag| tag.split_once('>'))
        .map(|(_, words)| words.trim())
        .filter(|words| !words.is_empty());
    plain.push_str(&words.collect::<Vec<_>>().join(": "));
    plain
}

/// Cuts what may hold secrets out of a text, that is user names, passwords and queries of
/// URLs, and makes it one line of bearable length.
pub(crate) fn clean(text: &str) -> String {
    const MAX_CHARS: usize = 600;
    let mut cleaned = String::new();
    for word in text.split_whitespace() {
        if !cleaned.is_empty() {
            cleaned.push(' ');
        }
        let (word, query) = match word.find('?') {
            Some(at) if word.contains("://") || word[at..].contains('=') => (&word[..at], "?…"),
            _ => (word, ""),
        };
        match word.find("://") {
            Some(at) => {
                let (scheme, rest) = word.split_at(at + 3);
                let host_end = rest.find('/').unwrap_or(rest.len());
                let host = rest[..host_end].rsplit('@').next().unwrap_or_default();
                cleaned.extend([scheme, host, &rest[host_end..]]);
            }
            None => cleaned.push_str(word),
        }
        cleaned.push_str(query);
    }
    match cleaned.char_indices().nth(MAX_CHARS) {
        Some((at, _)) => format!("{}…", &cleaned[..at]),
        None => cleaned,
    }
}

#[cfg(test)]
mod tests {
    use super::{clean, without_markup};

    #[test]
    fn of_a_body_in_xml_the_words_are_kept() {
        let text = "status code: 403: <?xml version='1.0'?><Error><Code>AccessDenied</Code><Message>no\n</Message></Error>";
        assert_eq!(without_markup(text), "status code: 403: AccessDenied: no");
        assert_eq!(without_markup("a < b"), "a ");
        assert_eq!(without_markup("none"), "none");
    }

    #[test]
    fn queries_and_passwords_of_urls_are_cut() {
        let text = "Error performing PUT https://user:pw@storage.example/b/o?X-Goog-Signature=abc&x=1 in 3s\n - HTTP error";
        assert_eq!(
            clean(text),
            "Error performing PUT https://storage.example/b/o?… in 3s - HTTP error"
        );
        assert_eq!(clean("no url: a/b?c"), "no url: a/b?c");
        assert_eq!(clean("(http://h?a=b) http://u@h"), "(http://h?… http://h");
        assert_eq!(clean(&"ü".repeat(5000)).chars().count(), 601);
    }
}
