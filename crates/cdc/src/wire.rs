//! The slot over the network: `pgwire-replication` behind [`ChangeSource`].
//!
//! Promises: every wait for the server has an end, and errors say what they are by the
//! server's code. The library confirms a place only after [`Wire::acknowledge`].

use std::time::Duration;

use bytes::Bytes;
use ftap_lake::Lsn;
use ftap_postgres::{NO_TIMEOUTS, PostgresError, PostgresSettings};
use pg_walstream::LogicalReplicationParser;
use pgwire_replication::{
    FeedbackObserver, Lsn as WireLsn, PgWireError, ReplicationClient, ReplicationConfig,
    ReplicationEvent,
};
use tokio::sync::watch;

use super::server::quoted;
use super::source::{
    ChangeSource, MESSAGE_PREFIX, Message, SESSION, SourceError, decode, is_unsendable, unix_micros,
};
use super::tunnel::Tunnel;

/// How long an acknowledgement may wait to be sent; a stop waits for the last one.
const STATUS_INTERVAL: Duration = Duration::from_millis(200);
/// Messages between the network and the buffer; beyond it the server waits. Few, because a message
/// holds a row, of whatever size.
const MESSAGES_IN_FLIGHT: usize = 32;
/// No message of PostgreSQL is larger: `MaxAllocSize` bounds what it can put together.
const MAX_MESSAGE_BYTES: usize = 1 << 30;
/// pgoutput's first version: whole transactions in commit order.
const PROTOCOL_VERSION: u32 = 1;

/// A session that can replicate.
pub struct Wire {
    client: ReplicationClient,
    parser: LogicalReplicationParser,
    settings: PostgresSettings,
    /// Changes when an acknowledgement was sent.
    sent: watch::Receiver<()>,
    _tunnel: Option<Tunnel>,
}

/// A slot that lives as long as its session, and the snapshot that belongs to it.
#[derive(Clone, Debug)]
pub struct TemporarySlot {
    pub name: String,
    /// Every commit before it is in the snapshot, none from it on.
    pub consistent_point: Lsn,
    /// For `SET TRANSACTION SNAPSHOT`.
    pub snapshot: String,
}

impl Wire {
    /// Logs in. Nothing is streamed yet.
    pub async fn connect(
        settings: &PostgresSettings,
        slot: &str,
        publication: &str,
    ) -> Result<Self, PostgresError> {
        let (user, database) = (settings.user.as_str(), settings.database.as_str());
        let password = settings.password.as_deref().unwrap_or_default();
        let tunnel = Tunnel::open(settings).await?;
        let host = tunnel
            .as_ref()
            .map_or_else(|| settings.host.clone(), Tunnel::host);
        let port = settings.port;
        let mut config = ReplicationConfig::new(host, user, password, database, slot, publication)
            .with_port(port);
        // The session that made a snapshot is idle, in a transaction, while it is read.
        // Its slot must not hold log for hours, as by default, after this machine is gone.
        let patience = [
            ("statement_timeout", "0"),
            ("lock_timeout", "0"),
            ("idle_in_transaction_session_timeout", "0"),
            ("tcp_keepalives_idle", "30"),
            ("tcp_keepalives_interval", "10"),
            ("tcp_keepalives_count", "3"),
        ];
        let options = SESSION.iter().chain(&patience);
        let options: Vec<_> = options
            .map(|(name, value)| format!("-c {name}={value}"))
            .collect();
        config.options = Some(options.join(" "));
        config.application_name = Some("ftap-cdc".to_owned());
        config.status_interval = STATUS_INTERVAL;
        config.buffer_events = MESSAGES_IN_FLIGHT;
        config.max_message_size = MAX_MESSAGE_BYTES;
        let (report, sent) = watch::channel(());
        config.feedback_observer = Some(FeedbackObserver::new(move |_| _ = report.send(())));
        let client = ReplicationClient::connect_gated(config)
            .await
            .map_err(|error| wire_error(settings, error))?;
        let mut wire = Self {
            client,
            parser: LogicalReplicationParser::with_protocol_version(PROTOCOL_VERSION),
            settings: settings.clone(),
            sent,
            _tunnel: tunnel,
        };
        let limit = settings.connect_timeout;
        match tokio::time::timeout(limit, wire.query(NO_TIMEOUTS)).await {
            Ok(done) => done.map(|_| wire),
            Err(_) => Err(PostgresError::Unavailable {
                address: settings.address(),
                said: format!("no answer within {} s", limit.as_secs_f64()),
            }),
        }
    }

    /// Makes a slot that ends with this session, and exports its snapshot. Waits for the
    /// transactions that are open on the server.
    pub async fn create_temporary_slot(
        &mut self,
        name: String,
    ) -> Result<TemporarySlot, PostgresError> {
        let sql = format!(
            "CREATE_REPLICATION_SLOT \"{name}\" TEMPORARY LOGICAL pgoutput EXPORT_SNAPSHOT"
        );
        let rows = self.query(&sql).await?;
        let field = |index: usize| {
            let value = rows.first()?.get(index)?.as_ref()?;
            Some(String::from_utf8_lossy(value).into_owned())
        };
        let parsed = field(1).and_then(|point| point.parse().ok());
        match (parsed, field(2)) {
            (Some(consistent_point), Some(snapshot)) => Ok(TemporarySlot {
                name,
                consistent_point,
                snapshot,
            }),
            _ => Err(self.unexpected("CREATE_REPLICATION_SLOT")),
        }
    }

    /// Makes the slot that stays, at the place where the temporary one is.
    pub(crate) async fn keep_slot(
        &mut self,
        slot: &TemporarySlot,
        name: &str,
    ) -> Result<(), PostgresError> {
        let sql = format!(
            "SELECT slot_name FROM pg_copy_logical_replication_slot('{}', '{name}', false)",
            slot.name
        );
        match self.query(&sql).await?.len() {
            1 => Ok(()),
            _ => Err(self.unexpected("pg_copy_logical_replication_slot")),
        }
    }

    /// Starts the stream where the slot was acknowledged last.
    pub async fn start(&mut self) -> Result<(), PostgresError> {
        let limit = self.settings.connect_timeout;
        let started = tokio::time::timeout(limit, async {
            self.client.start().await?;
            self.client.wait_started().await
        });
        match started.await {
            Ok(result) => result.map_err(|error| wire_error(&self.settings, error)),
            Err(_) => Err(PostgresError::Unavailable {
                address: self.settings.address(),
                said: format!("the slot was not opened within {} s", limit.as_secs_f64()),
            }),
        }
    }

    /// Waits until everything before this place is acknowledged to the server, or the connection
    /// is gone.
    pub async fn acknowledged(&mut self, durable: Lsn) {
        while self.client.metrics().last_applied_lsn().as_u64() < durable.0
            && self.sent.changed().await.is_ok()
        {}
    }

    async fn query(&mut self, sql: &str) -> Result<Vec<Vec<Option<Bytes>>>, PostgresError> {
        let answer = self.client.simple_query(sql).await;
        answer.map_err(|error| wire_error(&self.settings, error))
    }

    fn unexpected(&self, command: &str) -> PostgresError {
        PostgresError::Refused {
            address: self.settings.address(),
            said: format!("it answered {command} with something else"),
        }
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        // Ends a connect that hangs as well, which asking to stop would not.
        self.client.abort();
    }
}

impl ChangeSource for Wire {
    async fn next(&mut self) -> Result<Message, SourceError> {
        let event = match self.client.recv().await {
            Ok(Some(event)) => event,
            Ok(None) => return Err(SourceError::Gone("the server ended it".to_owned())),
            Err(PgWireError::Server(said)) => return Err(SourceError::of_code(said)),
            Err(error @ PgWireError::MessageTooLarge { .. }) => {
                return Err(SourceError::Garbled(error.to_string()));
            }
            Err(error) => return Err(SourceError::Gone(error.to_string())),
        };
        Ok(match event {
            ReplicationEvent::Begin {
                final_lsn,
                xid,
                commit_time_micros,
            } => Message::Begin {
                lsn: Lsn(final_lsn.as_u64()),
                time_us: unix_micros(commit_time_micros),
                xid,
            },
            ReplicationEvent::Commit { end_lsn, .. } => Message::Commit {
                end: Lsn(end_lsn.as_u64()),
            },
            ReplicationEvent::XLogData { data, .. } => decode(&mut self.parser, data)?,
            ReplicationEvent::KeepAlive {
                wal_end,
                reply_requested,
                ..
            } => Message::KeepAlive {
                at: Lsn(wal_end.as_u64()),
                is_urgent: reply_requested,
            },
            ReplicationEvent::Message {
                transactional: true,
                prefix,
                ..
            } if prefix == MESSAGE_PREFIX => Message::CheckpointRequest,
            ReplicationEvent::Message { .. } | ReplicationEvent::StoppedAt { .. } => Message::Other,
        })
    }

    fn acknowledge(&mut self, durable: Lsn) {
        self.client.update_applied_lsn(WireLsn::from_u64(durable.0));
    }
}

impl SourceError {
    /// Sorts a refusal of the server by its code.
    fn of_code(said: String) -> Self {
        if is_unsendable(code(&said), &said) {
            Self::Unsendable(said)
        } else {
            Self::Refused(said)
        }
    }
}

/// The SQLSTATE that the library's text of a server's error ends with.
fn code(said: &str) -> &str {
    let code = said.rsplit_once("(SQLSTATE ").map_or("", |(_, code)| code);
    code.trim_end_matches(')')
}

/// Sorts an error of the library by the server's code.
fn wire_error(settings: &PostgresSettings, error: PgWireError) -> PostgresError {
    let address = settings.address();
    let said = match error {
        // PgBouncer's words; PostgreSQL knows both parameters that it may name.
        PgWireError::Server(said) | PgWireError::Auth(said)
            if said.contains("unsupported startup parameter") =>
        {
            return PostgresError::Pooler { address, said };
        }
        PgWireError::Server(said) => said,
        PgWireError::Auth(said) => return PostgresError::LoginRefused { address, said },
        other => {
            let said = other.to_string();
            return PostgresError::Unavailable { address, said };
        }
    };
    let code = code(&said).to_owned();
    match code.as_str() {
        // From version 16 on: "permission denied to start WAL sender".
        "42501" if said.contains("replication") || said.contains("WAL sender") => {
            PostgresError::NotPermitted {
                said: format!("{said}: ALTER ROLE {} REPLICATION", quoted(&settings.user)),
                address,
            }
        }
        // Another process is creating the slot.
        "42710" => PostgresError::Conflict { address, said },
        code => PostgresError::of_code(address, code, said),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    use ftap_postgres::SslMode;

    use super::*;

    #[tokio::test]
    async fn a_pooler_that_does_not_replicate_is_called_one() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let pooler = std::thread::spawn(move || {
            let (mut client, _) = listener.accept().unwrap();
            let read = client.read(&mut [0; 4096]).unwrap();
            assert!(read > 0);
            let fields = b"SFATAL\0VFATAL\0C08P01\0Munsupported startup parameter: replication\0\0";
            client.write_all(b"E").unwrap();
            let length = u32::try_from(fields.len() + 4).unwrap();
            client.write_all(&length.to_be_bytes()).unwrap();
            client.write_all(fields).unwrap();
        });
        let settings = PostgresSettings {
            host: "127.0.0.1".to_owned(),
            port,
            database: "d".to_owned(),
            user: "u".to_owned(),
            password: None,
            ssl_mode: SslMode::Disable,
            ssl_root_cert: None,
            private_folder: None,
            pool_size: 1,
            connect_timeout: Duration::from_secs(30),
            statement_timeout: Duration::from_secs(30),
        };
        let error = Wire::connect(&settings, "slot", "publication").await.err();
        pooler.join().unwrap();
        let error = error.unwrap();
        assert!(matches!(error, PostgresError::Pooler { .. }), "{error}");
        let said = error.to_string();
        for expected in ["connection pooler", "POSTGRES_HOST", "replication"] {
            assert!(said.contains(expected), "{said}");
        }
    }
}
