//! Text to typed values. Each parser says in its error only what the catalogue's "it may be …"
//! doesn't say already; an empty error text adds nothing.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use ftap_actors::settings::Pace;
use ftap_postgres::SslMode;
use ftap_schedule::Schedule;

use super::{DashboardAddr, LogFormat, LogLevel, PostgresUse, Secret};

/// Why a text is no such value, beyond what the catalogue says.
pub type Reason = String;

/// A whole number within a range; `_` may group digits.
pub fn whole<T>(text: &str, range: RangeInclusive<T>) -> Result<T, Reason>
where
    T: std::str::FromStr + PartialOrd,
{
    let value: T = text.replace('_', "").parse().map_err(|_| Reason::new())?;
    if range.contains(&value) {
        Ok(value)
    } else {
        Err(Reason::new())
    }
}

/// At least one, at most `max`.
pub fn non_zero(text: &str, max: usize) -> Result<NonZeroUsize, Reason> {
    NonZeroUsize::new(whole(text, 1..=max)?).ok_or_else(Reason::new)
}

/// A finite number within a range.
pub fn number(text: &str, range: RangeInclusive<f64>) -> Result<f64, Reason> {
    let value: f64 = text.parse().map_err(|_| Reason::new())?;
    if value.is_finite() && range.contains(&value) {
        Ok(value)
    } else {
        Err(Reason::new())
    }
}

/// Seconds, fractions allowed.
pub fn seconds(text: &str, range: RangeInclusive<f64>) -> Result<Duration, Reason> {
    number(text, range).map(Duration::from_secs_f64)
}

/// Whole milliseconds.
pub fn milliseconds(text: &str, range: RangeInclusive<u64>) -> Result<Duration, Reason> {
    whole(text, range).map(Duration::from_millis)
}

/// A size in bytes, with or without a suffix: `B`, `KB`, `MB`, `GB` count in thousands, `KiB`, `MiB`,
/// `GiB` (and bare `K`, `M`, `G`) in 1024s.
pub fn bytes(text: &str, range: RangeInclusive<u64>) -> Result<u64, Reason> {
    let text = text.trim().replace('_', "");
    let split = text
        .find(|c: char| !(c.is_ascii_digit() || c == '.'))
        .unwrap_or(text.len());
    let (digits, suffix) = text.split_at(split);
    let factor: f64 = match suffix.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "kb" => 1e3,
        "mb" => 1e6,
        "gb" => 1e9,
        "k" | "kib" => 1024.0,
        "m" | "mib" => 1024.0 * 1024.0,
        "g" | "gib" => 1024.0 * 1024.0 * 1024.0,
        _ => return Err(format!("`{}` is no unit of bytes", suffix.trim())),
    };
    let value = digits.parse::<f64>().map_err(|_| Reason::new())? * factor;
    if value.is_finite() && value >= 0.0 && value <= u64::MAX as f64 {
        let value = value.round() as u64;
        if range.contains(&value) {
            return Ok(value);
        }
    }
    Err(Reason::new())
}

/// `max`, or a speed; the flag says that a value of 0 or less was taken as 1, as the original does.
pub fn pace(text: &str) -> Result<(Pace, bool), Reason> {
    if text.eq_ignore_ascii_case("max") {
        return Ok((Pace::Max, false));
    }
    match text.parse::<f64>() {
        Ok(speed) if speed.is_finite() && speed > 0.0 => Ok((Pace::Speed(speed), false)),
        Ok(speed) if speed <= 0.0 => Ok((Pace::Speed(1.0), true)),
        _ => Err(Reason::new()),
    }
}

/// Bootstrap servers, comma-separated.
pub fn bootstrap_servers(text: &str) -> Result<String, Reason> {
    let mut servers = Vec::new();
    for server in text.split(',').map(str::trim) {
        let (host, port) = match server.rsplit_once(':') {
            Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, Some(port)),
            _ => (server, None),
        };
        let bad_host = host.is_empty()
            || host.contains("//")
            || !host
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "-_.[]:%".contains(c));
        if bad_host {
            return Err(format!("`{server}` is no `host:port`"));
        }
        if let Some(port) = port
            && !matches!(port.parse::<u16>(), Ok(1..))
        {
            return Err(format!("`{port}` is no port"));
        }
        servers.push(server);
    }
    Ok(servers.join(","))
}

/// A topic whose dead-letter topic is a valid name, too.
pub fn topic(text: &str) -> Result<String, Reason> {
    let fits = (1..=245).contains(&text.len())
        && text != "."
        && text != ".."
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    fits.then(|| text.to_owned()).ok_or_else(Reason::new)
}

/// A consumer group or transactional id.
pub fn identifier(text: &str) -> Result<String, Reason> {
    let fits = (1..=249).contains(&text.len()) && !text.chars().any(char::is_control);
    fits.then(|| text.to_owned()).ok_or_else(Reason::new)
}

/// A replication slot's name, by PostgreSQL's rules; a suffix of ours has to fit in, too.
pub fn slot(text: &str) -> Result<String, Reason> {
    let fits = (1..=40).contains(&text.len())
        && text
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    fits.then(|| text.to_owned()).ok_or_else(Reason::new)
}

/// A GCS bucket, by <https://cloud.google.com/storage/docs/buckets#naming>.
pub fn bucket(text: &str) -> Result<String, Reason> {
    let alphanumeric = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    let fits = (3..=222).contains(&text.len())
        && alphanumeric(text.chars().next())
        && alphanumeric(text.chars().last())
        && text
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c));
    fits.then(|| text.to_owned()).ok_or_else(Reason::new)
}

/// An endpoint without a trailing slash.
pub fn endpoint(text: &str) -> Result<String, Reason> {
    let rest = text
        .strip_prefix("http://")
        .or_else(|| text.strip_prefix("https://"))
        .ok_or_else(Reason::new)?;
    if rest.contains('@') {
        return Err("take the user and password out of it".to_owned());
    }
    if rest.is_empty() || rest.contains(char::is_whitespace) {
        return Err(Reason::new());
    }
    Ok(text.trim_end_matches('/').to_owned())
}

/// A project id; those of a domain have its name before a colon.
pub fn project(text: &str) -> Result<String, Reason> {
    let fits = (1..=200).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && !text.contains("..")
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || ".:-".contains(c));
    fits.then(|| text.to_owned()).ok_or_else(Reason::new)
}

/// A dataset, by <https://cloud.google.com/bigquery/docs/datasets#dataset-naming>.
pub fn dataset(text: &str) -> Result<String, Reason> {
    let fits = (1..=1024).contains(&text.len())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    fits.then(|| text.to_owned()).ok_or_else(Reason::new)
}

/// A location of Google's.
pub fn location(text: &str) -> Result<String, Reason> {
    let fits = (1..=63).contains(&text.len())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    fits.then(|| text.to_owned()).ok_or_else(Reason::new)
}

/// A cron expression; `None` for a job that never runs.
pub fn schedule(text: &str) -> Result<Option<Schedule>, Reason> {
    match text.eq_ignore_ascii_case("off") {
        true => Ok(None),
        false => text.parse().map(Some),
    }
}

/// `true` or `false`, and what other programs write for them.
pub fn boolean(text: &str) -> Result<bool, Reason> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" => Ok(false),
        _ => Err(Reason::new()),
    }
}

/// Whether PostgreSQL is used.
pub fn postgres_use(text: &str) -> Result<PostgresUse, Reason> {
    match text.to_ascii_lowercase().as_str() {
        "auto" => Ok(PostgresUse::Auto),
        "on" => Ok(PostgresUse::On),
        "off" => Ok(PostgresUse::Off),
        _ => Err(Reason::new()),
    }
}

/// A host without port or user, or an absolute path.
pub fn postgres_host(text: &str) -> Result<String, Reason> {
    let is_path = text.starts_with('/') && !text.contains('\0');
    let is_host = text
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || "-_.:%".contains(c));
    let has_port = text.matches(':').count() == 1;
    match is_path || (is_host && !has_port) {
        true => Ok(text.to_owned()),
        false if has_port => Err("the port goes into POSTGRES_PORT".to_owned()),
        false => Err(Reason::new()),
    }
}

/// A database or role: PostgreSQL cuts longer names off.
pub fn postgres_name(text: &str) -> Result<String, Reason> {
    let fits = (1..=63).contains(&text.len()) && !text.chars().any(char::is_control);
    fits.then(|| text.to_owned()).ok_or_else(Reason::new)
}

/// Encryption, by libpq's names.
pub fn ssl_mode(text: &str) -> Result<SslMode, Reason> {
    match text.to_ascii_lowercase().as_str() {
        "disable" => Ok(SslMode::Disable),
        "prefer" => Ok(SslMode::Prefer),
        "require" => Ok(SslMode::Require),
        "verify-full" => Ok(SslMode::VerifyFull),
        _ => Err(Reason::new()),
    }
}

/// A file that is there.
pub fn existing_file(text: &str) -> Result<PathBuf, Reason> {
    let file = path(text)?;
    match std::fs::metadata(&file) {
        Ok(metadata) if metadata.is_file() => Ok(file),
        Ok(_) => Err("it is not a file".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// A folder with PostgreSQL's server programs.
pub fn postgres_bin_dir(text: &str) -> Result<PathBuf, Reason> {
    let dir = path(text)?;
    match std::fs::metadata(&dir) {
        Ok(metadata) if !metadata.is_dir() => return Err("it is not a directory".to_owned()),
        Ok(_) => {}
        Err(error) => return Err(error.to_string()),
    }
    match ["postgres", "initdb"]
        .into_iter()
        .find(|name| !dir.join(name).is_file())
    {
        Some(absent) => Err(format!("there is no program `{absent}` in it")),
        None => Ok(dir),
    }
}

/// Any text.
pub fn text(text: &str) -> Result<String, Reason> {
    Ok(text.to_owned())
}

/// Any path without a NUL.
pub fn path(text: &str) -> Result<PathBuf, Reason> {
    if text.contains('\0') {
        return Err("it contains a NUL character".to_owned());
    }
    Ok(PathBuf::from(text))
}

/// A level by the original's (Python's) names.
pub fn log_level(text: &str) -> Result<LogLevel, Reason> {
    use tracing::Level;
    Ok(LogLevel(match text.to_ascii_uppercase().as_str() {
        "TRACE" => Level::TRACE,
        "DEBUG" => Level::DEBUG,
        "INFO" => Level::INFO,
        "WARNING" | "WARN" => Level::WARN,
        "ERROR" | "CRITICAL" => Level::ERROR,
        _ => return Err(Reason::new()),
    }))
}

/// The shape of log lines.
pub fn log_format(text: &str) -> Result<LogFormat, Reason> {
    match text.to_ascii_lowercase().as_str() {
        "auto" => Ok(LogFormat::Auto),
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err(Reason::new()),
    }
}

/// An address, or `off`.
pub fn dashboard_addr(text: &str) -> Result<DashboardAddr, Reason> {
    if text.eq_ignore_ascii_case("off") {
        return Ok(DashboardAddr::Off);
    }
    let text = match text.strip_prefix("localhost:") {
        Some(port) => format!("127.0.0.1:{port}"),
        None => text.to_owned(),
    };
    let addr: SocketAddr = text.parse().map_err(|_| Reason::new())?;
    Ok(DashboardAddr::On(addr))
}

/// A token that fits into a header and can't be guessed by trying.
pub fn token(text: &str) -> Result<Secret, Reason> {
    if !(16..=512).contains(&text.len()) {
        return Err(format!("it is {} long", text.len()));
    }
    match text.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => Ok(Secret::new(text)),
        false => Err(Reason::new()),
    }
}

/// Properties that the delivery protocol sets itself: another value would lose or double rows.
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
];

/// Whether a librdkafka property's value must not be seen.
pub fn is_secret_property(name: &str) -> bool {
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

/// `k=v,k=v` with `\,` for a comma inside a value; librdkafka itself checks names and values.
pub fn kafka_extra(text: &str) -> Result<Vec<(String, String)>, Reason> {
    let mut parts = vec![String::new()];
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' if chars.peek() == Some(&',') => {
                chars.next();
                parts.last_mut().expect("it starts with one").push(',');
            }
            ',' => parts.push(String::new()),
            c => parts.last_mut().expect("it starts with one").push(c),
        }
    }
    let mut properties: Vec<(String, String)> = Vec::new();
    let mut seen = HashSet::new();
    for part in parts
        .iter()
        .map(|part| part.trim())
        .filter(|part| !part.is_empty())
    {
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
        // One at a time, so that the error can name the property without showing a value.
        let mut client = rdkafka::ClientConfig::new();
        client.set(name, value);
        if let Err(error) = client.create_native_config() {
            // Its text quotes the value, so only what it says about the name is passed on.
            let said = error.to_string();
            return Err(if said.contains("No such configuration property") {
                format!("librdkafka has no property `{name}`")
            } else if said.contains("not supported in this build") {
                format!(
                    "`{name}` needs a part of librdkafka that this build of ftap leaves out, such as Kerberos"
                )
            } else if is_secret_property(name) {
                format!("librdkafka refuses the value of `{name}`")
            } else {
                format!("librdkafka refuses `{name}={value}`")
            });
        }
        properties.push((name.to_owned(), value.to_owned()));
    }
    Ok(properties)
}
