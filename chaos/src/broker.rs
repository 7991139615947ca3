//! The broker of a run: Apache Kafka or the embedded one, as a process of the runner's.
//!
//! It keeps its port and its data over every restart. Relies on `scripts/kafka run`, which
//! turns itself into the broker, so that a signal reaches the broker itself.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::ValueEnum;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use serde::Serialize;

use crate::process::{Process, describe};
use crate::signals::Interrupt;

/// How long it may take until it answers.
const START_LIMIT: Duration = Duration::from_secs(90);
const STOP_LIMIT: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum BrokerKind {
    /// Apache Kafka, by `scripts/kafka`
    Kafka,
    /// `ftap kafka`
    Embedded,
}

enum State {
    Up,
    /// It was asked to stop; then it stays away for so long.
    Stopping(Duration),
    Down {
        until: Instant,
    },
    /// Started, and did not answer yet.
    Starting {
        since: Instant,
    },
}

/// See the module.
pub(crate) struct Broker {
    kind: BrokerKind,
    ftap: PathBuf,
    dir: PathBuf,
    logs: PathBuf,
    port: u16,
    starts: u32,
    process: Option<Process>,
    state: State,
}

impl Broker {
    /// Starts it and waits until it answers.
    pub(crate) fn start(
        kind: BrokerKind,
        ftap: &Path,
        run_dir: &Path,
        interrupt: &Interrupt,
    ) -> anyhow::Result<Self> {
        let mut broker = Self {
            kind,
            ftap: ftap.to_owned(),
            dir: run_dir.join("broker"),
            logs: run_dir.join("logs"),
            port: free_port()?,
            starts: 0,
            process: None,
            state: State::Up,
        };
        broker.launch()?;
        let client: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", broker.bootstrap())
            .set("reconnect.backoff.max.ms", "500")
            .create()
            .context("no Kafka client")?;
        let began = Instant::now();
        while client.fetch_metadata(None, Duration::from_secs(1)).is_err() {
            interrupt.check()?;
            broker.assert_runs()?;
            if began.elapsed() > START_LIMIT {
                bail!("the broker does not answer: {}", broker.last_lines());
            }
        }
        broker.state = State::Up;
        Ok(broker)
    }

    /// `host:port`.
    pub(crate) fn bootstrap(&self) -> String {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port)).to_string()
    }

    /// Whether it is there for clients, as far as is known.
    pub(crate) fn is_up(&self) -> bool {
        matches!(self.state, State::Up)
    }

    /// SIGKILL; it comes back after `down`.
    pub(crate) fn kill(&mut self, down: Duration) -> anyhow::Result<()> {
        if let Some(mut process) = self.process.take() {
            process.kill()?;
        }
        self.state = State::Down {
            until: Instant::now() + down,
        };
        Ok(())
    }

    /// SIGTERM; it comes back after it has ended and `down` has passed.
    pub(crate) fn restart(&mut self, down: Duration) {
        if let Some(process) = &self.process {
            process.signal(libc::SIGTERM);
        }
        self.state = State::Stopping(down);
    }

    /// Brings it back when it is time. `answered` is when a client last began to ask something
    /// that was answered. True at the moment at which it is up again.
    pub(crate) fn tick(&mut self, answered: Option<Instant>) -> anyhow::Result<bool> {
        match self.state {
            State::Up => self.assert_runs()?,
            State::Stopping(down) => {
                let ended = match &mut self.process {
                    Some(process) => process.ended()?.is_some(),
                    None => true,
                };
                if ended {
                    self.process = None;
                    self.state = State::Down {
                        until: Instant::now() + down,
                    };
                }
            }
            State::Down { until } if Instant::now() >= until => self.launch()?,
            State::Down { .. } => {}
            State::Starting { since } => {
                self.assert_runs()?;
                if answered.is_some_and(|at| at > since) {
                    self.state = State::Up;
                    return Ok(true);
                }
                if since.elapsed() > START_LIMIT {
                    bail!(
                        "the broker does not answer after a restart: {}",
                        self.last_lines()
                    );
                }
            }
        }
        Ok(false)
    }

    /// Ends it in good order, or not.
    pub(crate) fn stop(mut self) -> anyhow::Result<()> {
        if let Some(process) = &mut self.process {
            process.signal(libc::SIGTERM);
            process.wait(STOP_LIMIT)?;
        }
        Ok(())
    }

    fn launch(&mut self) -> anyhow::Result<()> {
        self.starts += 1;
        let port = self.port.to_string();
        let command = match self.kind {
            BrokerKind::Kafka => {
                let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/kafka");
                let mut command = Command::new(script);
                command.args(["run", "--port", &port, "--dir"]);
                command.arg(&self.dir);
                command
            }
            BrokerKind::Embedded => {
                let mut command = Command::new(&self.ftap);
                command
                    .args(["kafka", "--port", &port])
                    .env("DATA_DIR", &self.dir)
                    .env("LOG_FORMAT", "json")
                    .current_dir(&self.logs);
                command
            }
        };
        let name = format!("broker.{}", self.starts);
        self.process = Some(Process::start(name, command, &self.logs)?);
        self.state = State::Starting {
            since: Instant::now(),
        };
        Ok(())
    }

    fn assert_runs(&mut self) -> anyhow::Result<()> {
        let Some(process) = &mut self.process else {
            return Ok(());
        };
        if let Some(status) = process.ended()? {
            let (ended, lines) = (describe(status), self.last_lines());
            bail!("the broker ended by itself ({ended}):\n{lines}");
        }
        Ok(())
    }

    fn last_lines(&self) -> String {
        let process = self.process.as_ref();
        process.map_or_else(String::new, |process| {
            format!("{}\n{}", process.last_lines(15), process.printed())
        })
    }
}

/// Below the range that systems use for outgoing connections: the port is released at each restart.
fn free_port() -> anyhow::Result<u16> {
    // Two runs side by side begin at different places.
    let first = u64::from(std::process::id()) * 37;
    for tried in 0..100 {
        let port = 20_000 + ((first + tried * 101) % 10_000) as u16;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no free port found between 20000 and 29999 on 127.0.0.1")
}
