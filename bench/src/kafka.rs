//! The broker that commands are measured with: Apache Kafka by `scripts/kafka`, or one that is there.
//!
//! Promises that the broker that it started ends with it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use futures::executor::block_on;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};

use crate::child;

const START_LIMIT: Duration = Duration::from_secs(120);
const STOP_LIMIT: Duration = Duration::from_secs(30);
const PATIENCE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(200);

/// See the module.
pub(crate) struct Kafka {
    /// `host:port`.
    pub address: String,
    process: Option<Child>,
}

impl Kafka {
    /// A broker that runs already; its CPU time is not known.
    pub(crate) fn at(address: &str) -> anyhow::Result<Self> {
        let kafka = Self {
            address: address.to_owned(),
            process: None,
        };
        let answer = kafka.consumer()?.fetch_metadata(None, PATIENCE);
        answer.with_context(|| format!("--broker {address} does not answer"))?;
        Ok(kafka)
    }

    /// Starts Apache Kafka with its data in a folder.
    pub(crate) fn start(dir: &Path) -> anyhow::Result<Self> {
        let script = || Command::new(script());
        let mut run = script();
        run.args(["run", "--port", "0", "--dir"]).arg(dir);
        // A deleted topic leaves the disk at once.
        run.env("KAFKA_BROKER_SETTINGS", "log.segment.delete.delay.ms=1000");
        let mut kafka = Self {
            address: String::new(),
            process: Some(child::start(&mut run, dir)?),
        };
        let began = Instant::now();
        loop {
            if let Some(process) = &mut kafka.process
                && let Some(status) = process
                    .try_wait()
                    .context("the broker can't be waited for")?
            {
                kafka.process = None;
                bail!("{status}: {}", child::last_lines(&dir.join("stderr")));
            }
            let status = script().args(["status", "--dir"]).arg(dir).output();
            let status = status.context("scripts/kafka can't be started")?;
            let address = String::from_utf8_lossy(&status.stdout);
            if status.status.success() && !address.trim().is_empty() {
                address.trim().clone_into(&mut kafka.address);
                let consumer = kafka.consumer()?;
                if consumer
                    .fetch_metadata(None, Duration::from_secs(1))
                    .is_ok()
                {
                    return Ok(kafka);
                }
            }
            if began.elapsed() > START_LIMIT {
                bail!("it does not answer within {} s", START_LIMIT.as_secs());
            }
            child::pause(POLL)?;
        }
    }

    /// CPU time that the broker has used so far, if it is ours.
    pub(crate) fn cpu_seconds(&self) -> Option<f64> {
        child::cpu_seconds_of(self.process.as_ref()?.id())
    }

    /// Creates a topic; it is removed when the value is dropped.
    pub(crate) fn topic(&self, name: &str, partitions: i32) -> anyhow::Result<Topic<'_>> {
        let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
        let (admin, options) = self.admin()?;
        for made in block_on(admin.create_topics([&topic], &options)).context("no topic")? {
            made.map_err(|(name, code)| anyhow::anyhow!("topic {name} was not created: {code}"))?;
        }
        let name = name.to_owned();
        Ok(Topic { kafka: self, name })
    }

    fn consumer(&self) -> anyhow::Result<BaseConsumer> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.address);
        // While it starts, refused connections are no news.
        config
            .set("log_level", "2")
            .set_log_level(rdkafka::config::RDKafkaLogLevel::Critical);
        config.create().context("no Kafka client")
    }

    fn admin(&self) -> anyhow::Result<(AdminClient<DefaultClientContext>, AdminOptions)> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.address);
        let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
        Ok((config.create().context("no Kafka client")?, options))
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        let Some(process) = &mut self.process else {
            return;
        };
        child::signal_group(process, libc::SIGTERM);
        let began = Instant::now();
        while began.elapsed() < STOP_LIMIT {
            if !matches!(process.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(POLL);
        }
        child::signal_group(process, libc::SIGKILL);
        // Fails only if it has ended already.
        let _ = process.wait();
    }
}

/// A topic of the benchmark's own.
pub(crate) struct Topic<'a> {
    kafka: &'a Kafka,
    pub name: String,
}

impl Topic<'_> {
    /// Messages in it, those that mark the ends of transactions included.
    pub(crate) fn messages(&self) -> anyhow::Result<u64> {
        let consumer = self.kafka.consumer()?;
        let metadata = consumer.fetch_metadata(Some(&self.name), PATIENCE)?;
        let mut messages = 0;
        for partition in metadata
            .topics()
            .iter()
            .flat_map(|topic| topic.partitions())
        {
            let (low, high) = consumer.fetch_watermarks(&self.name, partition.id(), PATIENCE)?;
            messages += u64::try_from(high - low).context("watermarks")?;
        }
        Ok(messages)
    }
}

impl Drop for Topic<'_> {
    fn drop(&mut self) {
        // One that is left goes with the broker's folder; on another's broker the user sees it.
        if let Ok((admin, options)) = self.kafka.admin() {
            let _ = block_on(admin.delete_topics(&[&self.name], &options));
        }
    }
}

pub(crate) fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/kafka")
}
