//! The topics and the consumer group on a Kafka that is not of DATA_DIR.

use std::time::Duration;

use anyhow::{Context as _, anyhow};
use ftap_kafka::{KafkaSettings, access, client_config};
use ftap_verify::topics::Topics;
use futures::executor::block_on;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::RDKafkaErrorCode;

use crate::config::Config;
use crate::exit::BadUsage;

const TIMEOUT: Duration = Duration::from_secs(15);

/// What ftap made there.
pub(super) struct RemoteTopics {
    settings: KafkaSettings,
    /// The transactions and their dead letters, as far as they are there.
    topics: Vec<String>,
    has_group: bool,
}

impl RemoteTopics {
    /// Looks for them; the second value says what stays and why. An error if Kafka does not answer or
    /// a consumer runs.
    pub(super) fn find(
        config: &Config,
        bootstrap: &str,
    ) -> anyhow::Result<(Option<Self>, Option<String>)> {
        let settings = config.kafka_settings(bootstrap);
        access::check(&settings)?;
        let topic = &config.kafka_topic;
        let topics = Topics::new(&settings)?;
        let mut found = Vec::new();
        let mut left = None;
        if let Some(bounds) = topics.watermarks(topic)? {
            let is_empty = bounds.iter().all(|(low, high)| low == high);
            if is_empty || topics.first_source(topic, &bounds)?.is_some() {
                found.push(topic.clone());
            } else {
                left = Some(format!(
                    "topic {topic} at {bootstrap}: its oldest messages are not from ftap\n    kafka-topics.sh --bootstrap-server {bootstrap} --delete --topic {topic}"
                ));
            }
        }
        let letters = config.kafka_dead_letter_topic.clone();
        if topics.dead_letters(config.dead_letters)?.is_some() {
            found.push(letters);
        }
        let has_group = has_group(&settings)?;
        let any = !found.is_empty() || has_group;
        let remote = any.then_some(Self {
            settings,
            topics: found,
            has_group,
        });
        Ok((remote, left))
    }

    /// One line about them.
    pub(super) fn describe(&self) -> String {
        let mut parts = self.topics.clone();
        if self.has_group {
            parts.push(format!("consumer group {}", self.settings.consumer_group));
        }
        format!(
            "Kafka at {}: {}",
            self.settings.bootstrap_servers,
            parts.join(", ")
        )
    }

    /// Deletes them.
    pub(super) fn remove(self) -> anyhow::Result<()> {
        let admin: AdminClient<DefaultClientContext> = client_config(&self.settings, &[])
            .create()
            .context("the Kafka client can't be made")?;
        let options = AdminOptions::new().operation_timeout(Some(TIMEOUT));
        let group = self.settings.consumer_group.as_str();
        if self.has_group {
            let results = block_on(admin.delete_groups(&[group], &options))
                .with_context(|| format!("consumer group {group} can't be deleted"))?;
            for result in results {
                settle("consumer group", result, RDKafkaErrorCode::GroupIdNotFound)?;
            }
        }
        let names: Vec<&str> = self.topics.iter().map(String::as_str).collect();
        if !names.is_empty() {
            let results = block_on(admin.delete_topics(&names, &options))
                .with_context(|| format!("{} can't be deleted", names.join(", ")))?;
            for result in results {
                settle("topic", result, RDKafkaErrorCode::UnknownTopicOrPartition)?;
            }
        }
        Ok(())
    }
}

/// What is gone already is as good as deleted.
fn settle(
    what: &str,
    result: Result<String, (String, RDKafkaErrorCode)>,
    gone: RDKafkaErrorCode,
) -> anyhow::Result<()> {
    match result {
        Ok(_) => Ok(()),
        Err((_, code)) if code == gone => Ok(()),
        Err((name, code)) => Err(anyhow!("{what} {name} can't be deleted: {code}")),
    }
}

/// Whether the group is there; one with members is an error.
fn has_group(settings: &KafkaSettings) -> anyhow::Result<bool> {
    let consumer: BaseConsumer = client_config(settings, &[])
        .create()
        .context("the Kafka client can't be made")?;
    let name = &settings.consumer_group;
    let groups = consumer
        .fetch_group_list(Some(name), TIMEOUT)
        .with_context(|| format!("consumer group {name} can't be looked up"))?;
    let Some(group) = groups.groups().iter().find(|group| group.name() == name) else {
        return Ok(false);
    };
    if !group.members().is_empty() {
        return Err(BadUsage(format!(
            "{} consumers of group {name} run at {}: stop them first",
            group.members().len(),
            settings.bootstrap_servers
        ))
        .into());
    }
    // An unknown group is listed as dead.
    Ok(!matches!(group.state(), "Dead" | ""))
}
