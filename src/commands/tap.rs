//! `ftap tap`: live messages of the topic as JSON lines, sampled.
//!
//! Reads without a group and commits nothing, so it never disturbs the pipeline; it sees only
//! committed messages, as the lake does. A message that is not JSON is shown as text.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use ftap_kafka::access;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use serde::de::IgnoredAny;
use tokio::sync::watch;

use crate::cli::{TapArgs, TapStart};
use crate::config::Config;
use crate::exit::{self, BadUsage};
use crate::kafka_access::KafkaAccess;
use crate::output;
use crate::signals;

/// How long a broker may take to tell about the topic.
const METADATA_TIMEOUT: Duration = Duration::from_secs(5);
/// How soon a signal is noticed.
const POLL: Duration = Duration::from_millis(100);

/// Prints until stopped, counted out, or the reader of the output is gone.
pub(crate) fn execute(config: &Config, args: &TapArgs) -> anyhow::Result<u8> {
    let kafka = KafkaAccess::open_to_read(config)?;
    let shutdown = signals::listen()?;
    let consumer = connect(config, kafka.bootstrap(), args.from)?;
    follow(&consumer, args, &shutdown)?;
    Ok(exit::DONE)
}

fn connect(config: &Config, bootstrap: &str, from: TapStart) -> anyhow::Result<BaseConsumer> {
    access::check(&config.kafka_settings(bootstrap))?;
    let mut client = ClientConfig::new();
    client
        .set("bootstrap.servers", bootstrap)
        // Never joined: librdkafka wants a name all the same.
        .set("group.id", "ftap-tap")
        .set("enable.auto.commit", "false")
        .set("isolation.level", "read_committed")
        .set("fetch.queue.backoff.ms", "5")
        .set("allow.auto.create.topics", "false");
    for (name, value) in config.kafka_properties() {
        client.set(name, value);
    }
    let consumer: BaseConsumer = client.create().context("the Kafka client can't be made")?;
    let topic = &config.kafka_topic;
    let metadata = consumer
        .fetch_metadata(Some(topic), METADATA_TIMEOUT)
        .with_context(|| format!("{bootstrap} does not tell about topic {topic}"))?;
    let partitions = metadata
        .topics()
        .iter()
        .find(|found| found.name() == topic && found.error().is_none())
        .map(|found| found.partitions())
        .filter(|partitions| !partitions.is_empty())
        .ok_or_else(|| {
            BadUsage(format!(
                "{bootstrap} has no topic {topic}: publish with `ftap run` or `ftap produce`, or set KAFKA_TOPIC"
            ))
        })?;
    let offset = match from {
        TapStart::Latest => Offset::End,
        TapStart::Beginning => Offset::Beginning,
    };
    let mut assignment = TopicPartitionList::new();
    for partition in partitions {
        assignment
            .add_partition_offset(topic, partition.id(), offset)
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
    shutdown: &watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let mut sampler = Sampler::new(args.rate, Instant::now());
    let mut printed = 0;
    while !*shutdown.borrow() && args.count.is_none_or(|count| printed < count) {
        match consumer.poll(POLL) {
            Some(Ok(message)) if sampler.takes(Instant::now()) => {
                output::print(&line(&message))?;
                printed += 1;
            }
            None | Some(Ok(_)) => {}
            Some(Err(error)) if is_fatal(&error) => {
                return Err(error).context("the topic can't be read any more");
            }
            // A broker that is away is waited for, as the pipeline does.
            Some(Err(_)) => {}
        }
    }
    Ok(())
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
    let payload = message.payload().unwrap_or_default();
    let text = String::from_utf8_lossy(payload);
    // As it is in the topic, number for number, if it is one JSON value on one line.
    let is_json_line =
        serde_json::from_str::<IgnoredAny>(&text).is_ok() && !text.trim().contains(['\n', '\r']);
    let shown = if is_json_line {
        text.trim().to_owned()
    } else {
        serde_json::Value::from(text.as_ref()).to_string()
    };
    let row = message
        .headers()
        .and_then(|headers| headers.iter().find(|header| header.key == "row"))
        .and_then(|header| std::str::from_utf8(header.value?).ok()?.parse::<u64>().ok())
        .map_or(String::new(), |row| format!(r#","row":{row}"#));
    format!(
        "{{\"partition\":{},\"offset\":{},\"timestamp_ms\":{}{row},\"message\":{shown}}}\n",
        message.partition(),
        message.offset(),
        message.timestamp().to_millis().unwrap_or(-1),
    )
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
