//! Kinds of values: each parses a text and states what is expected, so that a range or a list of
//! allowed values stands in one place, the [list of settings](super::list).

use std::collections::HashSet;
use std::fmt::Display;
use std::net::SocketAddr;
use std::ops::{Bound, RangeBounds};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use ftap_actors::settings::Pace;
use ftap_http_client::without_path;
use ftap_schedule::Schedule;

use super::secret::{MASK, Secret, without_credentials};

/// What is wrong with a text, beyond what is expected; often empty.
pub(crate) type Reason = String;

/// librdkafka properties by name.
pub(crate) type Properties = Vec<(String, Secret)>;

type Parse<T> = dyn Fn(&str) -> Result<T, Reason>;

/// What a setting may be.
pub(crate) struct Kind<T> {
    /// Completes "expected …".
    pub expected: String,
    /// How a value is shown, if not as it is.
    pub show: Option<fn(&str) -> String>,
    pub is_secret: bool,
    parse: Box<Parse<T>>,
}

impl<T> Kind<T> {
    /// Of values that are wrong for no other reason than that they are not as expected.
    pub(crate) fn new(
        expected: impl Into<String>,
        parse: impl Fn(&str) -> Option<T> + 'static,
    ) -> Self {
        Self::with_reasons(expected, move |text| parse(text).ok_or_else(Reason::new))
    }

    fn with_reasons(
        expected: impl Into<String>,
        parse: impl Fn(&str) -> Result<T, Reason> + 'static,
    ) -> Self {
        Self {
            expected: expected.into(),
            show: None,
            is_secret: false,
            parse: Box::new(parse),
        }
    }

    pub(crate) fn parse(&self, text: &str) -> Result<T, Reason> {
        (self.parse)(text)
    }

    /// Completes "X is wrong…": the reason, if there is one, and what is expected.
    pub(crate) fn complaint(&self, reason: &str) -> String {
        match reason {
            "" => format!("; expected {}", self.expected),
            reason => format!(": {reason}; expected {}", self.expected),
        }
    }

    fn masked(self, mask: fn(&str) -> String) -> Self {
        Self {
            is_secret: true,
            ..self.shown_as(mask)
        }
    }

    fn shown_as(self, show: fn(&str) -> String) -> Self {
        Self {
            show: Some(show),
            ..self
        }
    }
}

/// "from 1 to 1000", "from 1".
fn from_to<T>(range: &impl RangeBounds<T>, shown: impl Fn(&T) -> String) -> String {
    let bound = |word: &str, bound: Bound<&T>| match bound {
        Bound::Included(value) | Bound::Excluded(value) => format!("{word} {}", shown(value)),
        Bound::Unbounded => String::new(),
    };
    bound("from", range.start_bound()) + &bound(" to", range.end_bound())
}

/// A whole number; `_` may group digits, and `1e6` is a million.
pub(crate) fn whole<T>(range: impl RangeBounds<T> + 'static) -> Kind<T>
where
    T: FromStr + PartialOrd + Display,
{
    let expected = format!("a whole number {}", from_to(&range, T::to_string));
    Kind::new(expected, move |text| {
        let digits = text.replace('_', "");
        let number = match digits.split_once(['e', 'E']) {
            // More zeros would fit no type.
            Some((digits, zeros)) if !digits.is_empty() => {
                let zeros = zeros.parse().ok().filter(|zeros| *zeros <= 20)?;
                digits.to_owned() + &"0".repeat(zeros)
            }
            _ => digits,
        };
        number.parse().ok().filter(|value| range.contains(value))
    })
}

pub(crate) fn number(range: impl RangeBounds<f64> + 'static) -> Kind<f64> {
    let expected = format!("a number {}", from_to(&range, f64::to_string));
    Kind::new(expected, move |text| {
        text.parse().ok().filter(|value| range.contains(value))
    })
}

pub(crate) fn seconds(range: impl RangeBounds<f64> + 'static) -> Kind<Duration> {
    let range_text = from_to(&range, f64::to_string);
    let number = number(range);
    Kind::new(
        format!("seconds {range_text}, fractions allowed"),
        move |text| Duration::try_from_secs_f64(number.parse(text).ok()?).ok(),
    )
}

pub(crate) fn milliseconds(range: impl RangeBounds<u64> + 'static) -> Kind<Duration> {
    let expected = format!("milliseconds {}", from_to(&range, u64::to_string));
    let number = whole(range);
    Kind::new(expected, move |text| {
        number.parse(text).ok().map(Duration::from_millis)
    })
}

/// Suffixes of sizes and their factors; bare `K`, `M` and `G` count in 1024s.
const UNITS: &[(&[&str], u64)] = &[
    (&["", "B"], 1),
    (&["KB"], 1000),
    (&["MB"], 1_000_000),
    (&["GB"], 1_000_000_000),
    (&["KiB", "K"], 1 << 10),
    (&["MiB", "M"], 1 << 20),
    (&["GiB", "G"], 1 << 30),
];

/// A size in bytes, with or without a suffix.
pub(crate) fn bytes<T: TryFrom<u64>>(range: impl RangeBounds<u64> + 'static) -> Kind<T> {
    let shown = |bytes: &u64| {
        let mut units = UNITS[..4].iter();
        match units.rfind(|(_, factor)| bytes.is_multiple_of(*factor)) {
            Some((names, factor)) => format!("{}{}", bytes / factor, names[0]),
            None => bytes.to_string(),
        }
    };
    let expected = format!(
        "bytes {}, with a suffix such as KB, MB, MiB or GB",
        from_to(&range, shown)
    );
    Kind::with_reasons(expected, move |text| {
        let text = text.replace('_', "");
        let split = text.find(|c: char| !(c.is_ascii_digit() || c == '.'));
        let (digits, suffix) = text.split_at(split.unwrap_or(text.len()));
        let suffix = suffix.trim();
        let has_suffix = |names: &[&str]| names.iter().any(|n| n.eq_ignore_ascii_case(suffix));
        let Some((_, factor)) = UNITS.iter().find(|(names, _)| has_suffix(names)) else {
            return Err(format!("`{suffix}` is not a unit of bytes"));
        };
        let value = digits.parse::<f64>().map(|value| value * *factor as f64);
        let value = value.ok().filter(|value| value.is_finite());
        let value = value.map(|value| value.round() as u64);
        let value = value.filter(|value| range.contains(value));
        value
            .and_then(|value| T::try_from(value).ok())
            .ok_or_else(Reason::new)
    })
}

/// One of some words in upper or lower case; `|` stands between names of the same thing, of which
/// only the first is shown.
pub(crate) fn one_of<T: Copy + 'static>(words: &'static [(&'static str, T)]) -> Kind<T> {
    let names = words.iter().map(|(names, _)| names.split('|').next());
    let names: Vec<String> = names.flatten().map(|name| format!("`{name}`")).collect();
    let expected = match names.split_last() {
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
        None => String::new(),
    };
    Kind::new(expected, move |text| {
        let is = |names: &str| names.split('|').any(|name| name.eq_ignore_ascii_case(text));
        let found = words.iter().find(|(names, _)| is(names));
        found.map(|(_, value)| *value)
    })
}

pub(crate) fn boolean() -> Kind<bool> {
    one_of(&[("true|1|yes|on", true), ("false|0|no|off", false)])
}

/// `off`, or what `parse` accepts.
fn or_off<T>(
    expected: &str,
    parse: impl Fn(&str) -> Result<T, Reason> + 'static,
) -> Kind<Option<T>> {
    Kind::with_reasons(format!("{expected}, or `off`"), move |text| {
        let is_off = text.eq_ignore_ascii_case("off");
        (!is_off).then(|| parse(text)).transpose()
    })
}

pub(crate) fn schedule() -> Kind<Option<Schedule>> {
    let expected = "a cron expression of five fields, or of six with the seconds first";
    or_off(expected, str::parse)
}

pub(crate) fn listen_addr() -> Kind<Option<SocketAddr>> {
    or_off("an `address:port` such as 127.0.0.1:8080", |text| {
        let addr = match text.strip_prefix("localhost:") {
            Some(port) => format!("127.0.0.1:{port}").parse(),
            None => text.parse(),
        };
        addr.map_err(|_not_an_address| Reason::new())
    })
}

/// `max`, or a speed. A speed of 0 or less counts as 1, as in the original; there is a warning.
pub(crate) fn pace() -> Kind<Pace> {
    Kind::new("a number above 0, or `max`", |text| {
        if text.eq_ignore_ascii_case("max") {
            return Some(Pace::Max);
        }
        match text.parse() {
            Ok(speed) if speed <= 0.0 => Some(Pace::Speed(1.0)),
            Ok(speed) if speed < f64::INFINITY => Some(Pace::Speed(speed)),
            _ => None,
        }
    })
}

/// A text that follows a rule.
pub(crate) fn text(
    expected: impl Into<String>,
    rule: impl Fn(&str) -> bool + 'static,
) -> Kind<String> {
    Kind::new(expected, move |text| rule(text).then(|| text.to_owned()))
}

/// Whether a text is at most `max` long and consists of letters, digits and these characters.
pub(crate) fn is_word(text: &str, max: usize, others: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || others.contains(c);
    (1..=max).contains(&text.len()) && text.chars().all(allowed)
}

pub(crate) fn has_upper_case(text: &str) -> bool {
    text.contains(|c: char| c.is_ascii_uppercase())
}

pub(crate) fn is_printable(text: &str, max: usize) -> bool {
    text.len() <= max && !text.chars().any(char::is_control)
}

/// A replication slot's or publication's name, by PostgreSQL's rules, with room for our suffixes.
pub(crate) fn slot() -> Kind<String> {
    text(
        "1 to 40 lower-case letters, digits and underscores",
        |text| is_word(text, 40, "_") && !has_upper_case(text),
    )
}

/// A host without port or user, or an absolute path.
pub(crate) fn postgres_host() -> Kind<String> {
    let expected = "a host name, an address, or the folder of a socket";
    Kind::with_reasons(expected, |text| {
        let is_path = text.starts_with('/') && !text.contains('\0');
        match is_word(text, usize::MAX, "-_.:%") {
            true if text.matches(':').count() == 1 => {
                Err("put the port into POSTGRES_PORT".to_owned())
            }
            false if !is_path => Err(Reason::new()),
            _ => Ok(text.to_owned()),
        }
    })
}

pub(crate) fn bootstrap_servers() -> Kind<String> {
    Kind::with_reasons("`host:port`, several separated by commas", |text| {
        let mut servers = Vec::new();
        for server in text.split(',').map(str::trim) {
            let (host, port) = match server.rsplit_once(':') {
                Some((host, port)) if !host.contains(':') || host.ends_with(']') => {
                    (host, Some(port))
                }
                _ => (server, None),
            };
            if server.contains('@') {
                return Err(
                    "take the user and password out of it, into KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD".to_owned(),
                );
            }
            if !is_word(host, usize::MAX, "-_.[]:%") {
                let server = without_credentials(server);
                return Err(format!("`{server}` is not a valid server"));
            }
            if let Some(port) = port
                && !matches!(port.parse::<u16>(), Ok(1..))
            {
                let port = without_credentials(port);
                return Err(format!("`{port}` is not a valid port"));
            }
            servers.push(server);
        }
        Ok(servers.join(","))
    })
}

/// An address, without a trailing slash.
pub(crate) fn url() -> Kind<String> {
    Kind::with_reasons("an `http://` or `https://` address", |text| {
        let rest = text
            .strip_prefix("http://")
            .or_else(|| text.strip_prefix("https://"));
        match rest {
            Some(rest) if rest.contains('@') => {
                Err("take the user and password out of it".to_owned())
            }
            // Paths are appended to it.
            Some(rest) if rest.contains(['?', '#']) => Err(
                "take what follows `?` or `#` out of it; a key has a setting of its own".to_owned(),
            ),
            Some(rest) if !rest.is_empty() && !rest.contains(char::is_whitespace) => {
                Ok(text.trim_end_matches('/').to_owned())
            }
            _ => Err(Reason::new()),
        }
    })
    .shown_as(|text| without_path(&without_credentials(text)))
}

/// A path, whether or not something is there.
pub(crate) fn path(expected: &str) -> Kind<PathBuf> {
    Kind::with_reasons(expected, |text| {
        if text.contains('\0') {
            Err("it contains a NUL character".to_owned())
        } else {
            Ok(PathBuf::from(text))
        }
    })
}

/// A file that can be opened.
pub(crate) fn readable_file(expected: &str) -> Kind<PathBuf> {
    let path = path(expected);
    Kind::with_reasons(expected, move |text| {
        let path = path.parse(text)?;
        match std::fs::File::open(&path).and_then(|file| file.metadata()) {
            Err(error) => Err(format!("it can't be read: {error}")),
            Ok(metadata) if !metadata.is_file() => Err("it is not a file".to_owned()),
            Ok(_) => Ok(path),
        }
    })
}

/// A folder with PostgreSQL's server programs.
pub(crate) fn postgres_bin_dir() -> Kind<PathBuf> {
    let path = path("");
    Kind::with_reasons("a directory that contains both programs", move |text| {
        let dir = path.parse(text)?;
        match std::fs::metadata(&dir) {
            Ok(metadata) if metadata.is_dir() => {}
            Ok(_) => return Err("it is not a directory".to_owned()),
            Err(error) => return Err(error.to_string()),
        }
        let is_absent = |name: &&str| !dir.join(name).is_file();
        match ["postgres", "initdb"].into_iter().find(is_absent) {
            Some(absent) => Err(format!("there is no program `{absent}` in it")),
            None => Ok(dir),
        }
    })
}

/// Any text that must not be seen.
pub(crate) fn secret(expected: &str) -> Kind<Secret> {
    Kind::new(expected, |text| Some(Secret::new(text))).masked(|_| MASK.to_owned())
}

/// A token that fits into a header and can't be guessed by trying.
pub(crate) fn token() -> Kind<Secret> {
    let expected = "16 to 512 letters, digits and other ASCII signs without spaces, such as `openssl rand -hex 24` prints";
    let token = Kind::with_reasons(expected, |text| {
        if !(16..=512).contains(&text.len()) {
            return Err(format!("it is {} long", text.len()));
        }
        let is_graphic = text.bytes().all(|byte| byte.is_ascii_graphic());
        is_graphic
            .then(|| Secret::new(text))
            .ok_or_else(Reason::new)
    });
    token.masked(|_| MASK.to_owned())
}

/// Properties that the delivery protocol sets itself: another value would lose or duplicate rows.
const RESERVED_PROPERTIES: &[&str] = &[
    "bootstrap.servers",
    "metadata.broker.list",
    "group.id",
    "transactional.id",
    "enable.idempotence",
    "acks",
    "request.required.acks",
    "isolation.level",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "auto.offset.reset",
    "session.timeout.ms",
    "partition.assignment.strategy",
    "group.protocol",
    "group.remote.assignor",
];

/// Whether a librdkafka property's value must not be seen.
pub(crate) fn is_secret_property(name: &str) -> bool {
    [
        "password",
        "secret",
        "pem",
        "jaas",
        "oauthbearer.config",
        "token",
    ]
    .iter()
    .any(|part| name.contains(part))
}

/// `k=v,k=v`; librdkafka itself checks names and values.
pub(crate) fn properties() -> Kind<Properties> {
    let expected = "`property=value`, several separated by commas, without the properties that exactly-once delivery rests on";
    Kind::with_reasons(expected, parse_properties).masked(|text| match parse_properties(text) {
        Ok(properties) => {
            let shown = properties.iter().map(|(name, value)| {
                if is_secret_property(name) {
                    return format!("{name}={MASK}");
                }
                format!("{name}={}", without_credentials(value.expose()))
            });
            shown.collect::<Vec<_>>().join(",")
        }
        Err(_) => MASK.to_owned(),
    })
}

fn parse_properties(text: &str) -> Result<Properties, Reason> {
    // `\,` is a comma inside a value; no value contains a NUL.
    let text = text.replace("\\,", "\0");
    let parts = text.split(',').map(|part| part.trim().replace('\0', ","));
    let mut properties = Properties::new();
    let mut seen = HashSet::new();
    let mut is_after_secret = false;
    for part in parts.filter(|part| !part.is_empty()) {
        let Some((name, value)) = part.split_once('=') else {
            // The text may be the second half of a password with a comma in it.
            return Err("one part has no `=` (a comma inside a value is written `\\,`)".to_owned());
        };
        let (name, value) = (name.trim(), value.trim());
        if RESERVED_PROPERTIES.contains(&name) {
            return Err(format!("`{name}` is set by ftap itself"));
        }
        if !seen.insert(name.to_owned()) {
            return Err(format!("`{name}` is given twice"));
        }
        check_property(name, value).map_err(|reason| {
            // So may this name.
            if is_after_secret && reason.contains("has no property") {
                "what follows the value of a secret property is not a property (a comma inside a value is written `\\,`)".to_owned()
            } else {
                reason
            }
        })?;
        is_after_secret = is_secret_property(name);
        properties.push((name.to_owned(), Secret::new(value)));
    }
    Ok(properties)
}

/// One at a time, so that the error can name the property without showing a value.
fn check_property(name: &str, value: &str) -> Result<(), Reason> {
    let mut client = rdkafka::ClientConfig::new();
    let Err(error) = client.set(name, value).create_native_config() else {
        return Ok(());
    };
    // Its text quotes the value, so only what it says about the name is passed on.
    let text = error.to_string();
    Err(if text.contains("No such configuration property") {
        format!("librdkafka has no property `{name}`")
    } else if text.contains("not supported in this build") {
        format!(
            "`{name}` needs a part of librdkafka that this build of ftap leaves out, such as Kerberos"
        )
    } else if is_secret_property(name) {
        format!("librdkafka refuses the value of `{name}`")
    } else {
        let value = without_credentials(value);
        format!("librdkafka refuses `{name}={value}`")
    })
}
