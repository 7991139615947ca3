//! TLS and SASL to Kafka: the typed settings, checked together.
//!
//! Promises that a combination which can't work, or which would send a password or data in the
//! clear although the user set up something better, is refused at start by name. KAFKA_EXTRA may
//! say the same things in librdkafka's words, but not both. That files and passwords fit together
//! is left to librdkafka, which is asked to load them once.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::parse::{self, Reason};
use super::reader::Reader;
use super::secret::Secret;

/// How to talk to a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Nothing is encrypted, nobody is asked who they are.
    Plaintext,
    /// TLS.
    Ssl,
    /// A login, unencrypted.
    SaslPlaintext,
    /// A login over TLS.
    SaslSsl,
}

impl Protocol {
    /// Its name, as Kafka writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Plaintext => "PLAINTEXT",
            Self::Ssl => "SSL",
            Self::SaslPlaintext => "SASL_PLAINTEXT",
            Self::SaslSsl => "SASL_SSL",
        }
    }

    /// Text to protocol, in upper or lower case.
    pub fn parse(text: &str) -> Result<Self, Reason> {
        [
            Self::Plaintext,
            Self::Ssl,
            Self::SaslPlaintext,
            Self::SaslSsl,
        ]
        .into_iter()
        .find(|protocol| protocol.as_str().eq_ignore_ascii_case(text))
        .ok_or_else(Reason::new)
    }

    fn has_tls(self) -> bool {
        matches!(self, Self::Ssl | Self::SaslSsl)
    }

    fn has_sasl(self) -> bool {
        matches!(self, Self::SaslPlaintext | Self::SaslSsl)
    }
}

fn mechanism(text: &str) -> Result<&'static str, Reason> {
    ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]
        .into_iter()
        .find(|known| known.eq_ignore_ascii_case(text))
        .ok_or_else(Reason::new)
}

/// Each setting with what librdkafka calls it; the first name is the one that is set.
const PROPERTIES: &[(&str, &[&str])] = &[
    ("KAFKA_SECURITY_PROTOCOL", &["security.protocol"]),
    (
        "KAFKA_SASL_MECHANISM",
        &["sasl.mechanism", "sasl.mechanisms"],
    ),
    ("KAFKA_SASL_USERNAME", &["sasl.username"]),
    ("KAFKA_SASL_PASSWORD", &["sasl.password"]),
    ("KAFKA_SSL_CA_LOCATION", &["ssl.ca.location", "ssl.ca.pem"]),
    (
        "KAFKA_SSL_CERTIFICATE_LOCATION",
        &["ssl.certificate.location", "ssl.certificate.pem"],
    ),
    (
        "KAFKA_SSL_KEY_LOCATION",
        &["ssl.key.location", "ssl.key.pem"],
    ),
    ("KAFKA_SSL_KEY_PASSWORD", &["ssl.key.password"]),
];

/// The typed settings as they were given.
struct Given {
    protocol: Option<Protocol>,
    mechanism: Option<&'static str>,
    username: Option<String>,
    password: Option<Secret>,
    ca: Option<PathBuf>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    key_password: Option<Secret>,
}

/// Reads and checks all of them; gives librdkafka's properties, those of KAFKA_EXTRA included.
pub fn read(
    r: &mut Reader<'_>,
    extra: Vec<(String, Secret)>,
    broker: Option<&str>,
) -> Vec<(String, Secret)> {
    let given = Given {
        protocol: r.optional("KAFKA_SECURITY_PROTOCOL", Protocol::parse),
        mechanism: r.optional("KAFKA_SASL_MECHANISM", mechanism),
        username: r.optional("KAFKA_SASL_USERNAME", parse::text),
        password: r.secret("KAFKA_SASL_PASSWORD"),
        ca: r.optional("KAFKA_SSL_CA_LOCATION", readable),
        certificate: r.optional("KAFKA_SSL_CERTIFICATE_LOCATION", readable),
        key: r.optional("KAFKA_SSL_KEY_LOCATION", readable),
        key_password: r.secret("KAFKA_SSL_KEY_PASSWORD"),
    };
    let before = r.problem_count();
    check(r, &given, &extra, broker);
    doubt(r, &given, &extra, broker);
    let mut properties = given.properties();
    properties.extend(extra);
    if r.problem_count() == before && properties.iter().any(|(name, _)| name.starts_with("ssl.")) {
        load(r, &properties);
    }
    properties
}

impl Given {
    fn properties(&self) -> Vec<(String, Secret)> {
        let path = |path: &Option<PathBuf>| path.as_ref().map(|p| p.to_string_lossy().into_owned());
        let values = [
            self.protocol.map(|protocol| protocol.as_str().to_owned()),
            self.mechanism.map(str::to_owned),
            self.username.clone(),
            self.password
                .as_ref()
                .map(|secret| secret.expose().to_owned()),
            path(&self.ca),
            path(&self.certificate),
            path(&self.key),
            self.key_password
                .as_ref()
                .map(|secret| secret.expose().to_owned()),
        ];
        PROPERTIES
            .iter()
            .zip(values)
            .filter_map(|((_, names), value)| Some((names[0].to_owned(), Secret::new(value?))))
            .collect()
    }
}

fn value_in<'a>(extra: &'a [(String, Secret)], names: &[&str]) -> Option<&'a str> {
    extra
        .iter()
        .find(|(name, _)| names.contains(&name.as_str()))
        .map(|(_, value)| value.expose())
}

fn protocol_of(given: &Given, extra: &[(String, Secret)]) -> Protocol {
    given
        .protocol
        .or_else(|| Protocol::parse(value_in(extra, &["security.protocol"])?).ok())
        .unwrap_or(Protocol::Plaintext)
}

fn check(r: &mut Reader<'_>, given: &Given, extra: &[(String, Secret)], broker: Option<&str>) {
    for (setting, names) in PROPERTIES {
        if r.is_given(setting)
            && let Some(name) = names
                .iter()
                .find(|name| value_in(extra, &[**name]).is_some())
        {
            r.fault(
                setting,
                &format!("KAFKA_EXTRA says the same as `{name}`: keep one of the two"),
            );
        }
    }
    let protocol = protocol_of(given, extra);
    if protocol != Protocol::Plaintext && broker.is_none() {
        r.missing(
            "KAFKA_BROKER",
            &format!(
                "the embedded broker takes no KAFKA_SECURITY_PROTOCOL={}",
                protocol.as_str()
            ),
        );
    }
    let shown = protocol.as_str();
    for (prefix, is_used, instead) in [
        (
            "KAFKA_SASL_",
            protocol.has_sasl(),
            "SASL_SSL or SASL_PLAINTEXT",
        ),
        ("KAFKA_SSL_", protocol.has_tls(), "SSL or SASL_SSL"),
    ] {
        // One is enough to say it.
        let mut names = PROPERTIES.iter().map(|(setting, _)| *setting);
        if let Some(setting) = names.find(|name| name.starts_with(prefix) && r.is_given(name))
            && !is_used
        {
            r.fault(
                setting,
                &format!("it is of no use with KAFKA_SECURITY_PROTOCOL={shown}: set that to {instead}, or unset this"),
            );
        }
    }
    let has = |setting: &str| {
        let names = PROPERTIES.iter().find(|(name, _)| *name == setting);
        r.is_given(setting) || names.is_some_and(|(_, names)| value_in(extra, names).is_some())
    };
    let mut lacks = Vec::new();
    if protocol.has_sasl() {
        let why = format!("KAFKA_SECURITY_PROTOCOL={shown} needs it");
        // Kerberos and OAuth are set up by properties of their own.
        let other = value_in(extra, &["sasl.mechanism", "sasl.mechanisms"])
            .is_some_and(|text| mechanism(text).is_err());
        for setting in [
            "KAFKA_SASL_MECHANISM",
            "KAFKA_SASL_USERNAME",
            "KAFKA_SASL_PASSWORD",
        ] {
            if !has(setting) && !other {
                lacks.push((setting, why.clone()));
            }
        }
    }
    if protocol.has_tls() {
        for (one, other) in [
            ("KAFKA_SSL_CERTIFICATE_LOCATION", "KAFKA_SSL_KEY_LOCATION"),
            ("KAFKA_SSL_KEY_LOCATION", "KAFKA_SSL_CERTIFICATE_LOCATION"),
            ("KAFKA_SSL_KEY_PASSWORD", "KAFKA_SSL_KEY_LOCATION"),
        ] {
            if r.is_given(one) && !has(other) {
                lacks.push((other, format!("{one} is of no use without it")));
            }
        }
        lacks.dedup_by_key(|(setting, _)| *setting);
    }
    for (setting, why) in lacks {
        r.missing(setting, &why);
    }
}

fn doubt(r: &mut Reader<'_>, given: &Given, extra: &[(String, Secret)], broker: Option<&str>) {
    let is_remote = broker.is_some_and(|servers| !servers.split(',').all(is_loopback));
    if protocol_of(given, extra) == Protocol::SaslPlaintext && is_remote {
        r.doubt(
            "KAFKA_SECURITY_PROTOCOL",
            "SASL_PLAINTEXT: whoever is on the line can read the data, and the password with KAFKA_SASL_MECHANISM=PLAIN; use SASL_SSL",
        );
    }
    if value_in(extra, &["enable.ssl.certificate.verification"])
        .is_some_and(|value| !matches!(value.to_ascii_lowercase().as_str(), "true" | "t" | "1"))
    {
        r.doubt("KAFKA_EXTRA", "enable.ssl.certificate.verification is off: anybody can pass for the broker; set KAFKA_SSL_CA_LOCATION instead");
    } else if value_in(extra, &["ssl.endpoint.identification.algorithm"])
        .is_some_and(|value| value.eq_ignore_ascii_case("none"))
    {
        r.doubt("KAFKA_EXTRA", "ssl.endpoint.identification.algorithm=none: any certificate of the authority can pass for the broker; give the broker one with its host name instead");
    }
    if let Some(path) = &given.key
        && let Some(mode) = open_to_others(path)
    {
        r.doubt(
            "KAFKA_SSL_KEY_LOCATION",
            &format!(
                "{} can be read by other users (mode {mode:o}): chmod 600",
                path.display()
            ),
        );
    }
}

/// Whether a `host:port` is this machine.
fn is_loopback(server: &str) -> bool {
    let host = server.rsplit_once(':').map_or(server, |(host, _)| host);
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare.eq_ignore_ascii_case("localhost")
        || bare.parse::<IpAddr>().is_ok_and(|addr| addr.is_loopback())
}

/// The file's permissions, if somebody beside its owner and group may read it.
pub fn open_to_others(path: &Path) -> Option<u32> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = std::fs::metadata(path).ok()?.permissions().mode() & 0o777;
    (mode & 0o004 != 0).then_some(mode)
}

/// The path of a file that can be read.
fn readable(text: &str) -> Result<PathBuf, Reason> {
    let path = parse::path(text)?;
    match std::fs::File::open(&path).and_then(|file| file.metadata()) {
        Err(error) => Err(format!("it can't be read: {error}")),
        Ok(metadata) if !metadata.is_file() => Err("it is no file".to_owned()),
        Ok(_) => Ok(path),
    }
}

/// librdkafka reads certificates and keys when a client is made; this one connects to nothing.
fn load(r: &mut Reader<'_>, properties: &[(String, Secret)]) {
    let mut client = rdkafka::ClientConfig::new();
    client.set("log_level", "0");
    for (name, value) in properties {
        client.set(name, value.expose());
    }
    let made = client.create::<rdkafka::producer::BaseProducer<_>>();
    let Err(error) = made else { return };
    let mut said = match error {
        rdkafka::error::KafkaError::ClientCreation(text) => text,
        // Its text could quote a value; the parsers have checked each value already.
        _ => "librdkafka refuses the settings".to_owned(),
    };
    for (_, value) in properties
        .iter()
        .filter(|(name, _)| parse::is_secret_property(name))
    {
        said = said.replace(value.expose(), super::secret::MASK);
    }
    let setting = PROPERTIES
        .iter()
        .find(|(setting, names)| {
            r.is_given(setting) && names.iter().any(|name| said.contains(name))
        })
        .map_or("KAFKA_EXTRA", |(setting, _)| setting);
    let hint = match setting {
        "KAFKA_SSL_KEY_LOCATION" if r.is_given("KAFKA_SSL_KEY_PASSWORD") => {
            "; is it a PEM key, and KAFKA_SSL_KEY_PASSWORD right?"
        }
        "KAFKA_SSL_KEY_LOCATION" => "; is it a PEM key, and does it need KAFKA_SSL_KEY_PASSWORD?",
        _ => "",
    };
    r.fault(setting, &format!("{said}{hint}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_loopback() {
        for here in ["localhost:9092", "127.0.0.1", "127.1.2.3:1", "[::1]:9092"] {
            assert!(is_loopback(here), "{here}");
        }
        for there in ["kafka:9092", "10.0.0.1:9092", "localhost.evil:1", "[::2]:1"] {
            assert!(!is_loopback(there), "{there}");
        }
    }
}
