//! `ftap tap`: live messages of the topic as JSON lines, sampled.
//!
//! Reads without a group and commits nothing, so it never disturbs the pipeline; it sees only
//! committed messages, as the lake does. A line has the value as `message` if it is JSON, else as
//! `payload` or `payload_base64`, as `ftap dlq` has it.

use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ftap_kafka::admin::partition_count_within;
use ftap_kafka::{Reader, access};
use ftap_supervision::Retryable as _;
use ftap_telemetry::events::{Speaker, TapWaiting};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use serde_json::Value;
use tokio::sync::watch;

use crate::cli::{TapArgs, TapStart};
use crate::config::Config;
use crate::dlq::shown;
use crate::exit::{self, BadUsage};
use crate::kafka_access::{self, KafkaAccess};
use crate::output;
use crate::signals;

/// How long a broker may take to tell about the topic.
const METADATA_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a topic is looked for that is not there.
const TOPIC_INTERVAL: Duration = Duration::from_secs(1);
/// How soon a signal is noticed.
const POLL: Duration = Duration::from_millis(100);
/// Messages a second of the live topic, unless `--rate` or `--count` says otherwise.
const RATE: f64 = 10.0;
/// How long nothing comes before that is said.
const SILENCE: Duration = Duration::from_secs(2);

/// Prints until stopped, counted out, or the reader of the output is gone.
pub(crate) fn execute(config: &Config, args: &TapArgs) -> anyhow::Result<u8> {
    if config.kafka_broker.is_none() && !kafka_access::has_embedded(config) {
        return Err(nothing_runs(config).into());
    }
    let kafka = KafkaAccess::open_to_read(config)?;
    let shutdown = signals::listen()?;
    let settings = config.kafka_settings(kafka.bootstrap());
    access::check(&settings)?;
    let Some((partitions, start)) = wait_for_topic(config, &kafka, args.from, &shutdown)? else {
        return Ok(exit::DONE);
    };
    let consumer = connect(config, kafka.bootstrap(), partitions, start)?;
    follow(&consumer, args, &config.kafka_topic, &shutdown)?;
    Ok(exit::DONE)
}

fn nothing_runs(config: &Config) -> BadUsage {
    BadUsage(format!(
        "there is no topic {} in {}, and nothing runs that would publish to it: start `ftap run` in another terminal, or set KAFKA_BROKER, KAFKA_TOPIC or DATA_DIR",
        config.kafka_topic,
        config.data_dir.join("kafka").display()
    ))
}

/// The number of partitions, and where to start: a topic that comes meanwhile has only new messages.
/// `None` if a stop was asked for.
fn wait_for_topic(
    config: &Config,
    kafka: &KafkaAccess,
    from: TapStart,
    shutdown: &watch::Receiver<bool>,
) -> anyhow::Result<Option<(i32, Offset)>> {
    let settings = config.kafka_settings(kafka.bootstrap());
    let topic = &settings.topic;
    let mut said = false;
    loop {
        let found = partition_count_within(METADATA_TIMEOUT, &settings, topic);
        let found = match found {
            // A broker that goes away is waited for, too.
            Err(error) if said && error.retry().helps() => None,
            found => found.map_err(|error| anyhow!("{error}\n  {}", error.entry().remedy))?,
        };
        match found {
            Some(partitions) if said || from == TapStart::Beginning => {
                return Ok(Some((partitions, Offset::Beginning)));
            }
            Some(partitions) => return Ok(Some((partitions, Offset::End))),
            None if kafka.is_served_here() => return Err(nothing_runs(config).into()),
            None if !said => TapWaiting {
                topic: topic.clone(),
                printed: 0,
                reason: format!(
                    "{} has no topic {topic} yet: `ftap run` or `ftap produce` creates it; KAFKA_TOPIC names another one",
                    settings.bootstrap_servers
                ),
            }
            .emit(Speaker::PROCESS),
            None => {}
        }
        said = true;
        let again = Instant::now() + TOPIC_INTERVAL;
        while Instant::now() < again {
            if *shutdown.borrow() {
                return Ok(None);
            }
            std::thread::sleep(POLL);
        }
    }
}

fn connect(
    config: &Config,
    bootstrap: &str,
    partitions: i32,
    start: Offset,
) -> anyhow::Result<Reader> {
    let settings = config.kafka_settings(bootstrap);
    // It stays for what comes.
    let own = [
        ("enable.partition.eof", "false"),
        ("fetch.wait.max.ms", "500"),
    ];
    let consumer = Reader::new(&settings, "ftap-tap", &own);
    let consumer = consumer.context("the Kafka client can't be made")?;
    let mut assignment = TopicPartitionList::new();
    for partition in 0..partitions {
        assignment
            .add_partition_offset(&config.kafka_topic, partition, start)
            .context("the start can't be set")?;
    }
    consumer
        .assign(&assignment)
        .context("the topic can't be read")?;
    Ok(consumer)
}

fn follow(
    consumer: &BaseConsumer,
    args: &TapArgs,
    topic: &str,
    shutdown: &watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let sampled = args.from == TapStart::Latest && args.count.is_none();
    let rate = args.rate.unwrap_or(if sampled { RATE } else { 0.0 });
    let mut sampler = Sampler::new(rate, Instant::now());
    let mut printed = 0;
    let mut heard = Instant::now();
    let mut said = false;
    let mut trouble = None;
    while !*shutdown.borrow() && args.count.is_none_or(|count| printed < count) {
        match consumer.poll(POLL) {
            Some(Ok(message)) => {
                (heard, said, trouble) = (Instant::now(), false, None);
                if has_fields(&message, &args.filter) && sampler.takes(heard) {
                    output::print(&line(&message))?;
                    printed += 1;
                }
            }
            None => {}
            Some(Err(error)) if is_fatal(&error) => {
                return Err(error).context("the topic can't be read any more");
            }
            // A broker that is away is waited for, as the pipeline does.
            Some(Err(error)) => trouble = Some(error.to_string()),
        }
        if heard.elapsed() > SILENCE && !said {
            said = true;
            TapWaiting {
                topic: topic.to_owned(),
                printed,
                reason: trouble.take().unwrap_or_else(|| match args.from {
                    TapStart::Latest => {
                        "no new message has come; --from beginning shows those in Kafka".to_owned()
                    }
                    TapStart::Beginning if !args.filter.is_empty() => {
                        "no other message with these values is in Kafka".to_owned()
                    }
                    TapStart::Beginning => "no other message is in Kafka".to_owned(),
                }),
            }
            .emit(Speaker::PROCESS);
        }
    }
    Ok(())
}

/// Whether each field has its value: a string's text, or another value in JSON.
fn has_fields(message: &BorrowedMessage<'_>, filter: &[(String, String)]) -> bool {
    if filter.is_empty() {
        return true;
    }
    let payload = message.payload().unwrap_or_default();
    let Ok(value) = serde_json::from_slice::<Value>(payload) else {
        return false;
    };
    filter.iter().all(|(name, wanted)| match value.get(name) {
        Some(Value::String(text)) => text == wanted,
        Some(value) => serde_json::from_str::<Value>(wanted).is_ok_and(|wanted| wanted == *value),
        None => false,
    })
}

fn is_fatal(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::UnknownTopicOrPartition
                | RDKafkaErrorCode::UnknownPartition
                | RDKafkaErrorCode::UnknownTopic
                | RDKafkaErrorCode::TopicAuthorizationFailed
                | RDKafkaErrorCode::SaslAuthenticationFailed
                | RDKafkaErrorCode::Fatal
        )
    )
}

fn line(message: &BorrowedMessage<'_>) -> String {
    let headers: Vec<Value> = message.headers().map_or(Vec::new(), |headers| {
        headers
            .iter()
            .map(|header| Value::from(vec![header.key.into(), shown::value(header.value)]))
            .collect()
    });
    let line = format!(
        r#"{{"partition":{},"offset":{},"timestamp_ms":{},"key":{},"headers":{},{}}}"#,
        message.partition(),
        message.offset(),
        Value::from(message.timestamp().to_millis()),
        shown::value(message.key()),
        Value::from(headers),
        payload(message.payload()),
    );
    shown::json(&line) + "\n"
}

fn payload(payload: Option<&[u8]>) -> String {
    let Some(payload) = payload else {
        return r#""payload":null"#.to_owned();
    };
    let Ok(text) = std::str::from_utf8(payload) else {
        return format!(r#""payload_base64":"{}""#, STANDARD.encode(payload));
    };
    // As it is in the topic, number for number, if it is one JSON value on one line.
    let is_json_line = serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
        && !text.trim().contains(['\n', '\r']);
    if is_json_line {
        format!(r#""message":{}"#, text.trim())
    } else {
        format!(r#""payload":{}"#, Value::from(text))
    }
}

/// Lets through at most a number of messages a second, evenly.
struct Sampler {
    interval: Duration,
    next: Instant,
}

impl Sampler {
    fn new(per_second: f64, now: Instant) -> Self {
        let interval = match per_second {
            rate if rate > 0.0 => {
                Duration::try_from_secs_f64(rate.recip()).unwrap_or(Duration::MAX)
            }
            _ => Duration::ZERO,
        };
        Self {
            interval,
            next: now,
        }
    }

    fn takes(&mut self, now: Instant) -> bool {
        if now < self.next {
            return false;
        }
        self.next = now.checked_add(self.interval).unwrap_or(now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_empty_binary_and_json_payloads_differ() {
        let shown: [(Option<&[u8]>, &str); 7] = [
            (None, r#""payload":null"#),
            (Some(b""), r#""payload":"""#),
            (Some(b"null"), r#""message":null"#),
            (Some(b" {\"a\": 1.10} \n"), r#""message":{"a": 1.10}"#),
            (Some(b"{\n}"), r#""payload":"{\n}""#),
            (Some(b"\xff"), r#""payload_base64":"/w==""#),
            (Some(b"a,b"), r#""payload":"a,b""#),
        ];
        for (given, wanted) in shown {
            assert_eq!(payload(given), wanted, "{given:?}");
        }
    }

    #[test]
    fn the_sample_keeps_to_its_rate() {
        let start = Instant::now();
        let mut sampler = Sampler::new(10.0, start);
        let taken = (0..1000)
            .filter(|ms| sampler.takes(start + Duration::from_millis(*ms)))
            .count();
        assert_eq!(taken, 10);
        let mut all = Sampler::new(0.0, start);
        assert!((0..100).all(|_| all.takes(start)));
        let mut rare = Sampler::new(f64::MIN_POSITIVE, start);
        assert!(rare.takes(start));
    }
}
