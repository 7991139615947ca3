//! Kafka as a process of the stream watches it: whether it answers, and where the topic's partitions
//! end.
//!
//! Promises an answer or an error within [`EndsLook::LIMIT`], from a client of its own that keeps its
//! connections: what the stream's own clients last heard says nothing about a broker that is silent.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ftap_kafka::{KafkaSettings, client_config};
use ftap_telemetry::events::{KafkaUnreachable, Speaker};
use ftap_telemetry::metrics;
use parking_lot::Mutex;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use tokio::sync::oneshot;

use super::{Look, Seen, Sources, Unseen};

/// Time between two polls.
pub const ENDS_INTERVAL: Duration = Duration::from_secs(1);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);

/// By partition: the offset after the last record, those of open transactions included.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ends {
    /// Which look it is from, from 1.
    pub look: u64,
    pub by_partition: BTreeMap<i32, i64>,
}

/// See the module.
pub struct EndsLook {
    settings: Arc<KafkaSettings>,
    client: Arc<Mutex<Option<BaseConsumer>>>,
    looks: u64,
}

impl EndsLook {
    /// Looks at the cluster and the topic of the settings.
    pub fn new(settings: Arc<KafkaSettings>) -> Self {
        Self {
            settings,
            client: Arc::default(),
            looks: 0,
        }
    }
}

impl Look for EndsLook {
    type Figures = Ends;

    const SOURCE: &'static str = "kafka";

    const PLACE: &'static str = "Kafka";

    const LIMIT: Duration = Duration::from_secs(4);

    async fn look(&mut self) -> Result<Ends, Unseen> {
        let (settings, client) = (self.settings.clone(), self.client.clone());
        let (send, receive) = oneshot::channel();
        // librdkafka blocks. A thread that nothing waits for does not hold up the process' end.
        std::thread::Builder::new()
            .name("kafka-ends".to_owned())
            .spawn(move || {
                // The thread of a look that timed out may still have it.
                if let Some(mut client) = client.try_lock() {
                    let ends = ends(&settings, &mut client);
                    let _ = send.send(ends.map_err(|error| error.to_string()));
                }
            })
            .map_err(|error| format!("can't start a thread: {error}"))?;
        let by_partition = receive
            .await
            .unwrap_or_else(|_| Err("no answer yet".to_owned()))?;
        self.looks += 1;
        Ok(Ends {
            look: self.looks,
            by_partition,
        })
    }

    fn place(sources: &mut Sources) -> &mut Option<Seen<Ends>> {
        &mut sources.ends
    }

    fn export(ends: Option<&Ends>) {
        let ends = ends.iter().flat_map(|ends| &ends.by_partition);
        metrics::TOPIC_END
            .replace(ends.map(|(partition, end)| ([partition.to_string()], *end as f64)));
    }

    fn report_down(&self, error: &str, attempt: u64, speaker: Speaker) {
        // Those who wait for Kafka to answer at first log that themselves.
        if self.looks > 0 {
            KafkaUnreachable {
                bootstrap: self.settings.bootstrap_servers.clone(),
                attempt,
                error: format!("{error}; check KAFKA_BROKER and that the broker runs"),
                retry_in_ms: ENDS_INTERVAL.as_millis() as u64,
            }
            .emit(speaker);
        }
    }
}

fn ends(
    settings: &KafkaSettings,
    client: &mut Option<BaseConsumer>,
) -> Result<BTreeMap<i32, i64>, KafkaError> {
    let client = match client {
        Some(client) => client,
        None => {
            let config = client_config(settings, &[("isolation.level", "read_uncommitted")]);
            client.insert(config.create()?)
        }
    };
    // What is wrong with a connection waits here, and says more than that nothing answered.
    let mut heard = None;
    while let Some(event) = client.poll(Duration::ZERO) {
        heard = event.err();
    }
    let topic = &settings.topic;
    let metadata = client
        .fetch_metadata(Some(topic), REQUEST_TIMEOUT)
        .map_err(|error| heard.unwrap_or(error))?;
    let found = metadata.topics().iter().find(|found| found.name() == topic);
    let partitions = found.map_or(&[][..], |found| found.partitions());
    partitions
        .iter()
        .map(|partition| {
            let (_, end) = client.fetch_watermarks(topic, partition.id(), REQUEST_TIMEOUT)?;
            Ok((partition.id(), end))
        })
        .collect()
}
