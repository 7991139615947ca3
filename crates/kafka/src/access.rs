//! Whether Kafka lets us in, and if not, which setting is wrong.
//!
//! Promises to distinguish a broker that is down, which waiting may fix, from one that refuses us: a
//! wrong password, a certificate that is not trusted, TLS spoken to a plaintext port. A refusal
//! counts only when it came [`REFUSALS`] times in a row: a broker that has just started may not
//! know its users yet. Blocking: for threads of stages and for commands.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use ftap_supervision::{Backoff, Failure};
use rdkafka::error::RDKafkaErrorCode;

use super::consumer::probe::{Heard, Probe};
use crate::{KafkaFailure, KafkaSettings};

/// As many refusals in a row are final.
pub(crate) const REFUSALS: u32 = 3;
const ATTEMPT: Duration = Duration::from_secs(5);
/// A refusal is noticed this fast.
const STEP: Duration = Duration::from_millis(500);
const LISTENER_TIMEOUT: Duration = Duration::from_secs(2);
/// Between two attempts of a command.
const COMMAND_BACKOFF: Backoff =
    Backoff::new(Duration::from_millis(500), Duration::from_millis(500));

/// Tries to get in and counts refusals.
#[derive(Debug, Default)]
pub struct Entrance {
    refusals: u32,
}

impl Entrance {
    /// One try. A failure of kind [`KafkaFailure::Refused`] is final; after any other another
    /// try may succeed.
    pub fn attempt(&mut self, settings: &KafkaSettings) -> Result<(), Failure> {
        let bootstrap = &settings.bootstrap_servers;
        match knock(settings)? {
            Outcome::In => Ok(()),
            Outcome::Unresolved(address) => {
                self.refusals = 0;
                let text = format!(
                    "Kafka at {bootstrap} advertises {address}, whose host can't be resolved here"
                );
                Err(Failure::new(KafkaFailure::Unresolved, text))
            }
            Outcome::Silent(text) => {
                self.refusals = 0;
                Err(Failure::new(KafkaFailure::Unavailable, text))
            }
            Outcome::Refused(text) => {
                self.refusals += 1;
                let kind = match self.refusals {
                    REFUSALS.. => KafkaFailure::Refused,
                    _ => KafkaFailure::Unavailable,
                };
                Err(Failure::new(
                    kind,
                    format!("no access to Kafka at {bootstrap}: {text}"),
                ))
            }
        }
    }
}

/// For commands: tries until Kafka answers, refuses for good, or does not answer at all.
pub fn check(settings: &KafkaSettings) -> Result<(), Failure> {
    let mut entrance = Entrance::default();
    let mut retries = COMMAND_BACKOFF.start();
    while let Err(error) = entrance.attempt(settings) {
        match retries.after(&error) {
            None => return Err(error),
            Some(_) if error.is(KafkaFailure::Unresolved) => return Err(error),
            Some(_) if entrance.refusals == 0 => {
                let text = format!(
                    "no Kafka broker answers at {} ({error}): start it, or set KAFKA_BROKER",
                    settings.bootstrap_servers
                );
                return Err(Failure::new(KafkaFailure::Unavailable, text).caused_by(error));
            }
            Some(pause) => std::thread::sleep(pause.length),
        }
    }
    Ok(())
}

enum Outcome {
    In,
    /// It answers, and advertises this address, whose host is not known here.
    Unresolved(String),
    /// No answer, or none that gives a reason.
    Silent(String),
    /// What is wrong, and the setting that it comes from.
    Refused(String),
}

fn knock(settings: &KafkaSettings) -> Result<Outcome, Failure> {
    let probe = Probe::open(settings)?;
    let end = Instant::now() + ATTEMPT;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let (code, heard) = match probe.ask(left.min(STEP)) {
            Ok(brokers) => {
                let unknown = brokers.into_iter().find(|broker| !can_be_resolved(broker));
                return Ok(unknown.map_or(Outcome::In, |(host, port)| {
                    Outcome::Unresolved(format!("{host}:{port}"))
                }));
            }
            Err(answer) => answer,
        };
        if let Some(text) = refusal(settings, &heard) {
            return Ok(Outcome::Refused(text));
        }
        if left > STEP {
            continue;
        }
        // Nothing listens there: no use asking what.
        let said = heard.error.map(|(_, text)| text);
        if said
            .as_ref()
            .is_some_and(|text| text.contains("in state CONNECT"))
        {
            return Ok(Outcome::Silent(said.unwrap_or_default()));
        }
        return Ok(match listener_contradicts(settings) {
            Some(text) => Outcome::Refused(text),
            None => Outcome::Silent(silence(settings, said.unwrap_or_else(|| code.to_string()))),
        });
    }
}

/// A broker is reached at the address that it advertises, not at the one that was asked.
fn can_be_resolved((host, port): &(String, u16)) -> bool {
    let found = (host.as_str(), *port).to_socket_addrs();
    found.is_ok_and(|mut addresses| addresses.next().is_some())
}

/// Nothing that decides was said. One listener that wants more than we offer can't be distinguished from a broker that
/// hangs, because its answer to the question is encrypted.
fn silence(settings: &KafkaSettings, said: String) -> String {
    match protocol(settings).as_str() {
        "SSL" => format!(
            "{said}; if the listener wants a login over TLS, set KAFKA_SECURITY_PROTOCOL=SASL_SSL"
        ),
        _ => said,
    }
}

/// `security.protocol` in upper case.
fn protocol(settings: &KafkaSettings) -> String {
    settings
        .property("security.protocol")
        .unwrap_or("PLAINTEXT")
        .to_ascii_uppercase()
}

/// A broker's refusal in the words of our settings; `None` for what waiting may fix.
fn refusal(settings: &KafkaSettings, heard: &Heard) -> Option<String> {
    if let Some(number) = heard.certificate_error {
        return Some(certificate_refusal(number));
    }
    let (code, text) = heard.error.as_ref()?;
    let text = without_noise(text);
    if *code == RDKafkaErrorCode::Authentication {
        return Some(authentication_refusal(settings, text));
    }
    if text.contains("SSL alert number") {
        return Some(format!(
            "it refuses our end of TLS, most likely because it wants a client certificate that it trusts: set KAFKA_SSL_CERTIFICATE_LOCATION and KAFKA_SSL_KEY_LOCATION ({text})"
        ));
    }
    if *code == RDKafkaErrorCode::SSL {
        return Some(format!(
            "TLS can't be agreed on: check KAFKA_SECURITY_PROTOCOL and the KAFKA_SSL_ settings ({text})"
        ));
    }
    None
}

fn authentication_refusal(settings: &KafkaSettings, text: &str) -> String {
    let property = |names: &[&str]| {
        let mut all = settings.extra.iter();
        all.find(|(name, _)| names.contains(&name.as_str()))
            .map_or("", |(_, value)| value.as_str())
    };
    if text.contains("not valid in current SASL state") {
        return format!(
            "the listener takes no SASL: set KAFKA_SECURITY_PROTOCOL to SSL or PLAINTEXT, or KAFKA_BROKER to its SASL port ({text})"
        );
    }
    if text.contains("Unsupported SASL mechanism") {
        let mechanism = property(&["sasl.mechanism", "sasl.mechanisms"]);
        return format!(
            "it does not take KAFKA_SASL_MECHANISM={mechanism}: choose one that it supports ({text})"
        );
    }
    let user = property(&["sasl.username"]);
    format!(
        "it does not accept KAFKA_SASL_USERNAME={user} with this KAFKA_SASL_PASSWORD and KAFKA_SASL_MECHANISM ({text})"
    )
}

/// Numbers are OpenSSL's, see `openssl/x509_vfy.h`; they are part of its stable interface.
fn certificate_refusal(number: i32) -> String {
    match number {
        10 => "its certificate has expired: renew it on the broker (and check this machine's clock)"
            .to_owned(),
        9 => "its certificate is not valid yet: check this machine's clock and the broker's certificate"
            .to_owned(),
        62 | 64 => "its certificate was issued for another host name: set KAFKA_BROKER, and the broker's advertised listeners, to a name or address that the certificate has"
            .to_owned(),
        18..=21 => format!(
            "its certificate was issued by an authority that is not trusted here (OpenSSL's error {number}): set KAFKA_SSL_CA_LOCATION to the authority's certificate as a PEM file"
        ),
        23 => "its certificate has been revoked: it needs another".to_owned(),
        _ => format!(
            "its certificate is refused (OpenSSL's error {number}): check it, and KAFKA_SSL_CA_LOCATION"
        ),
    }
}

/// What librdkafka adds about itself.
fn without_noise(text: &str) -> &str {
    text.split_once(" (after ").map_or(text, |(said, _)| said)
}

/// What a listener speaks, as far as it can be found out without its keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Listener {
    Plaintext,
    SaslPlaintext,
    Tls,
}

/// A listener that speaks something else only closes the connection, as one does that is just
/// going down. So we ask it in the one way that each of them answers differently.
fn listener_contradicts(settings: &KafkaSettings) -> Option<String> {
    let set = protocol(settings);
    let found = settings.bootstrap_servers.split(',').find_map(listener)?;
    let wants = match (set.as_str(), found) {
        ("PLAINTEXT" | "SASL_PLAINTEXT", Listener::Tls) => "TLS: set it to SSL or SASL_SSL",
        ("SSL" | "SASL_SSL", Listener::Plaintext) => {
            "neither TLS nor SASL: set it to PLAINTEXT, or KAFKA_BROKER to its TLS port"
        }
        ("SSL" | "SASL_SSL", Listener::SaslPlaintext) => {
            "SASL without TLS: set it to SASL_PLAINTEXT, or KAFKA_BROKER to its TLS port"
        }
        ("PLAINTEXT", Listener::SaslPlaintext) => "SASL: set it to SASL_PLAINTEXT",
        _ => return None,
    };
    Some(format!(
        "KAFKA_SECURITY_PROTOCOL is {set}, but the listener speaks {wants}"
    ))
}

/// Sends a SaslHandshake request (key 17, version 1) for a mechanism that does not exist: error 33
/// comes from a listener with SASL, 34 from one without, a TLS alert from one with TLS.
fn listener(address: &str) -> Option<Listener> {
    const CORRELATION: [u8; 4] = *b"ftap";
    let with_port = match address.rsplit_once(':') {
        Some((_, port)) if port.parse::<u16>().is_ok() => address.to_owned(),
        _ => format!("{address}:9092"),
    };
    let address = with_port.to_socket_addrs().ok()?.next()?;
    let mut stream = TcpStream::connect_timeout(&address, LISTENER_TIMEOUT).ok()?;
    stream.set_read_timeout(Some(LISTENER_TIMEOUT)).ok()?;
    stream.set_write_timeout(Some(LISTENER_TIMEOUT)).ok()?;
    let mut request = vec![0, 17, 0, 1];
    request.extend(CORRELATION);
    for text in ["ftap", "NONE"] {
        request.extend((text.len() as u16).to_be_bytes());
        request.extend(text.as_bytes());
    }
    stream
        .write_all(&(request.len() as u32).to_be_bytes())
        .ok()?;
    stream.write_all(&request).ok()?;
    let mut head = [0; 5];
    stream.read_exact(&mut head).ok()?;
    // An alert of TLS: type 21, version 3.x.
    if head[0] == 21 && head[1] == 3 {
        return Some(Listener::Tls);
    }
    let mut rest = [0; 5];
    stream.read_exact(&mut rest).ok()?;
    if [head[4], rest[0], rest[1], rest[2]] != CORRELATION {
        return None;
    }
    match u16::from_be_bytes([rest[3], rest[4]]) {
        33 => Some(Listener::SaslPlaintext),
        34 => Some(Listener::Plaintext),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::net::TcpListener;

    use super::*;

    /// A listener that answers one request with these bytes.
    fn answering(answer: &'static [u8]) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 24];
            stream.read_exact(&mut request).unwrap();
            stream.write_all(answer).unwrap();
        });
        address
    }

    #[test]
    fn a_listener_is_known_by_what_it_answers() {
        let with = |answer| listener(&answering(answer));
        assert_eq!(with(b"\x15\x03\x03\x00\x02\x02\x46"), Some(Listener::Tls));
        let plain = b"\x00\x00\x00\x0aftap\x00\x22\x00\x00\x00\x00";
        assert_eq!(with(plain), Some(Listener::Plaintext));
        let sasl = b"\x00\x00\x00\x0aftap\x00\x21\x00\x00\x00\x00";
        assert_eq!(with(sasl), Some(Listener::SaslPlaintext));
        for nonsense in [&b""[..], b"HTTP/1.1 400 Bad Request\r\n", b"\x00\x00"] {
            assert_eq!(with(nonsense), None, "{nonsense:?}");
        }
    }
}
