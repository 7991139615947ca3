//! Values that must never be seen: they print as `***`, whatever prints them.

use std::borrow::Cow;
use std::fmt;

use zeroize::Zeroizing;

/// What is shown in a secret's place.
pub(super) const MASK: &str = "***";
/// What comes after one of these in an address may be a key.
const QUERY: [char; 2] = ['?', '#'];

/// A password, key or token. `Debug` and `Display` show `***`; only [`Secret::expose`] gives it
/// out. Its memory is overwritten when it goes; the process' environment keeps its own copy.
#[derive(Clone)]
pub(crate) struct Secret(Zeroizing<String>);

impl Secret {
    /// Wraps a value.
    pub(crate) fn new(value: impl Into<String>) -> Self {
        Self(Zeroizing::new(value.into()))
    }

    /// The value itself, for the one call that needs it. Never print it.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

/// An address without the user, password, query and fragment that it may contain.
pub(super) fn without_credentials(text: &str) -> Cow<'_, str> {
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) => (format!("{scheme}://"), rest),
        None => (String::new(), text),
    };
    let login = rest.rsplit_once('@');
    if login.is_none() && !rest.contains(QUERY) {
        return Cow::Borrowed(text);
    }
    let host = login.map_or(rest, |(_, host)| host);
    let (host, hidden) = match host.find(QUERY) {
        Some(at) => (&host[..at], format!("{}{MASK}", &host[at..=at])),
        None => (host, String::new()),
    };
    let login = if login.is_some() {
        format!("{MASK}@")
    } else {
        String::new()
    };
    Cow::Owned(format!("{scheme}{login}{host}{hidden}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_without_user_password_and_query() {
        for (given, shown) in [
            ("https://u:p@host:1/v1", "https://***@host:1/v1"),
            ("https://host/v1?apikey=p@q", "https://***@q"),
            ("https://host/v1?apikey=p", "https://host/v1?***"),
            ("https://host/v1#apikey=p", "https://host/v1#***"),
            ("https://host/v1#a?apikey=p", "https://host/v1#***"),
            ("user:p@ss@host:9092", "***@host:9092"),
            ("host:9092,other:9092", "host:9092,other:9092"),
        ] {
            assert_eq!(without_credentials(given), shown);
        }
    }

    #[test]
    fn a_secret_prints_as_stars_in_every_format() {
        let secret = Secret::new("hunter2");
        let shown = format!("{secret} {secret:?} {:#?} {:?}", secret, Some(&secret));
        assert!(!shown.contains("hunter2"), "{shown}");
        assert_eq!(secret.expose(), "hunter2");
    }
}
