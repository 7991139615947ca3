//! TLS and SASL to Kafka: checks of the settings together.
//!
//! Promises that a combination which can't work, or which would send a password or data in the
//! clear although the user set up something better, is refused at start by name. KAFKA_EXTRA may
//! say the same things in librdkafka's words, but not both. Whether files and passwords match is left
//! to librdkafka, which loads them once.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::Config;
use super::kind::{Properties, is_secret_property};
use super::reader::Reader;
use super::secret::{MASK, Secret};
use super::warnings::Warning;

/// Each setting with librdkafka's names for it; the first one is set.
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

impl Config {
    /// librdkafka's properties for the settings above, and those of KAFKA_EXTRA.
    pub(super) fn security_properties(&self) -> Properties {
        let path = |path: &Option<PathBuf>| path.as_ref().map(|p| p.to_string_lossy().into_owned());
        let secret = |secret: &Option<Secret>| secret.as_ref().map(|s| s.expose().to_owned());
        let values = [
            self.kafka_security_protocol.map(str::to_owned),
            self.kafka_sasl_mechanism.map(str::to_owned),
            self.kafka_sasl_username.clone(),
            secret(&self.kafka_sasl_password),
            path(&self.kafka_ssl_ca),
            path(&self.kafka_ssl_certificate),
            path(&self.kafka_ssl_key),
            secret(&self.kafka_ssl_key_password),
        ];
        let set = PROPERTIES
            .iter()
            .zip(values)
            .filter_map(|((_, names), value)| Some((names[0].to_owned(), Secret::new(value?))));
        set.chain(self.kafka_extra.clone().unwrap_or_default())
            .collect()
    }

    /// A value in KAFKA_EXTRA.
    fn extra(&self, names: &[&str]) -> Option<&str> {
        let mut extra = self.kafka_extra.iter().flatten();
        let found = extra.find(|(name, _)| names.contains(&name.as_str()));
        found.map(|(_, value)| value.expose())
    }

    fn security_protocol(&self) -> String {
        let protocol = self.kafka_security_protocol;
        let protocol = protocol.or_else(|| self.extra(&["security.protocol"]));
        protocol.unwrap_or("PLAINTEXT").to_ascii_uppercase()
    }
}

fn has_tls(protocol: &str) -> bool {
    protocol.ends_with("SSL")
}

fn has_sasl(protocol: &str) -> bool {
    protocol.starts_with("SASL_")
}

pub(super) fn check(r: &mut Reader<'_>, config: &Config) {
    let before = r.problem_count();
    said_twice(r, config);
    of_no_use(r, config);
    missing(r, config);
    let properties = config.security_properties();
    if r.problem_count() == before && properties.iter().any(|(name, _)| name.starts_with("ssl.")) {
        load(r, &properties);
    }
}

fn said_twice(r: &mut Reader<'_>, config: &Config) {
    for (setting, names) in PROPERTIES {
        let mut names = names.iter();
        if r.layers.is_given(setting)
            && let Some(name) = names.find(|name| config.extra(&[**name]).is_some())
        {
            r.fault(
                setting,
                &format!(", and KAFKA_EXTRA also sets `{name}`: keep one of the two"),
            );
        }
    }
}

fn of_no_use(r: &mut Reader<'_>, config: &Config) {
    let protocol = config.security_protocol();
    if protocol != "PLAINTEXT" && !r.layers.is_given("KAFKA_BROKER") {
        r.missing(
            "KAFKA_BROKER",
            &format!("the embedded broker does not support KAFKA_SECURITY_PROTOCOL={protocol}"),
        );
    }
    let families = [
        (
            "KAFKA_SASL_",
            has_sasl(&protocol),
            "SASL_SSL or SASL_PLAINTEXT",
        ),
        ("KAFKA_SSL_", has_tls(&protocol), "SSL or SASL_SSL"),
    ];
    for (prefix, is_used, instead) in families {
        // One of a family is enough.
        let mut names = PROPERTIES.iter().map(|(setting, _)| *setting);
        if !is_used
            && let Some(setting) =
                names.find(|name| name.starts_with(prefix) && r.layers.is_given(name))
        {
            r.fault(
                setting,
                &format!(": it is of no use with KAFKA_SECURITY_PROTOCOL={protocol}; set that to {instead}, or unset this"),
            );
        }
    }
}

fn missing(r: &mut Reader<'_>, config: &Config) {
    let protocol = config.security_protocol();
    let has = |setting: &str| {
        let names = PROPERTIES.iter().find(|(name, _)| *name == setting);
        r.layers.is_given(setting) || names.is_some_and(|(_, names)| config.extra(names).is_some())
    };
    let mut missing = Vec::new();
    if has_sasl(&protocol) {
        // Kerberos and OAuth have properties of their own.
        let other = config
            .extra(&["sasl.mechanism", "sasl.mechanisms"])
            .map(str::to_ascii_uppercase)
            .is_some_and(|mechanism| mechanism != "PLAIN" && !mechanism.starts_with("SCRAM-"));
        for setting in [
            "KAFKA_SASL_MECHANISM",
            "KAFKA_SASL_USERNAME",
            "KAFKA_SASL_PASSWORD",
        ] {
            if !has(setting) && !other {
                let why = format!("KAFKA_SECURITY_PROTOCOL={protocol} needs it");
                missing.push((setting, why));
            }
        }
    }
    if has_tls(&protocol) {
        for (one, other) in [
            ("KAFKA_SSL_CERTIFICATE_LOCATION", "KAFKA_SSL_KEY_LOCATION"),
            ("KAFKA_SSL_KEY_LOCATION", "KAFKA_SSL_CERTIFICATE_LOCATION"),
            ("KAFKA_SSL_KEY_PASSWORD", "KAFKA_SSL_KEY_LOCATION"),
        ] {
            if r.layers.is_given(one) && !has(other) {
                missing.push((other, format!("{one} is of no use without it")));
            }
        }
        missing.dedup_by_key(|(setting, _)| *setting);
    }
    for (setting, why) in missing {
        r.missing(setting, &why);
    }
}

/// librdkafka reads certificates and keys when it creates a client; this one connects to nothing.
fn load(r: &mut Reader<'_>, properties: &Properties) {
    let mut client = rdkafka::ClientConfig::new();
    client.set("log_level", "0");
    for (name, value) in properties {
        client.set(name, value.expose());
    }
    let Err(error) = client.create::<rdkafka::producer::BaseProducer<_>>() else {
        return;
    };
    let mut text = match error {
        rdkafka::error::KafkaError::ClientCreation(text) => text,
        // Its text could quote a value; each value has been checked already.
        _ => "librdkafka refuses the settings".to_owned(),
    };
    for (name, value) in properties {
        if is_secret_property(name) {
            text = text.replace(value.expose(), MASK);
        }
    }
    let named = |(setting, names): &&(&str, &[&str])| {
        r.layers.is_given(setting) && names.iter().any(|name| text.contains(name))
    };
    let setting = PROPERTIES.iter().find(named);
    let setting = setting.map_or("KAFKA_EXTRA", |(setting, _)| setting);
    let hint = match setting {
        "KAFKA_SSL_KEY_LOCATION" if r.layers.is_given("KAFKA_SSL_KEY_PASSWORD") => {
            "; check that it is a PEM key, and KAFKA_SSL_KEY_PASSWORD"
        }
        "KAFKA_SSL_KEY_LOCATION" => {
            "; check that it is a PEM key, and whether it needs KAFKA_SSL_KEY_PASSWORD"
        }
        _ => "",
    };
    r.fault(setting, &format!(": {text}{hint}"));
}

/// What works and is weak.
pub(super) fn warnings(config: &Config) -> Vec<Warning> {
    let mut warnings = Vec::new();
    let servers = config.kafka_broker.as_deref();
    let is_remote = servers.is_some_and(|servers| !servers.split(',').all(is_loopback));
    if config.security_protocol() == "SASL_PLAINTEXT" && is_remote {
        warnings.push(Warning::new(
            "KAFKA_SECURITY_PROTOCOL",
            "SASL_PLAINTEXT does not encrypt: anyone on the network can read the data, and the password with KAFKA_SASL_MECHANISM=PLAIN; use SASL_SSL",
        ));
    }
    let is_on = |value: &str| matches!(value.to_ascii_lowercase().as_str(), "true" | "t" | "1");
    let verification = config.extra(&["enable.ssl.certificate.verification"]);
    let identification = config.extra(&["ssl.endpoint.identification.algorithm"]);
    if verification.is_some_and(|value| !is_on(value)) {
        warnings.push(Warning::new("KAFKA_EXTRA", "enable.ssl.certificate.verification is off: any server can impersonate the broker; set KAFKA_SSL_CA_LOCATION instead"));
    } else if identification.is_some_and(|value| value.eq_ignore_ascii_case("none")) {
        warnings.push(Warning::new("KAFKA_EXTRA", "ssl.endpoint.identification.algorithm=none: the holder of any certificate of the authority can impersonate the broker; give the broker a certificate with its host name instead"));
    }
    if let Some(path) = &config.kafka_ssl_key
        && let Some(mode) = open_to_others(path)
    {
        warnings.push(Warning::new(
            "KAFKA_SSL_KEY_LOCATION",
            &format!(
                "{path} can be read by other users (mode {mode:o}): chmod 600 {path}",
                path = path.display()
            ),
        ));
    }
    warnings
}

/// Whether a `host:port` is this machine.
fn is_loopback(server: &str) -> bool {
    let host = server.rsplit_once(':').map_or(server, |(host, _)| host);
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare.eq_ignore_ascii_case("localhost")
        || bare.parse::<IpAddr>().is_ok_and(|addr| addr.is_loopback())
}

/// The file's permissions, if users other than its owner and group may read it.
pub(super) fn open_to_others(path: &Path) -> Option<u32> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = std::fs::metadata(path).ok()?.permissions().mode() & 0o777;
    (mode & 0o004 != 0).then_some(mode)
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
