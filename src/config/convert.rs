//! The settings as the actors want them.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::num::NonZeroU32;
use std::path::Path;

use ftap_actors::settings::{IngestSettings, PublishSettings};
use ftap_cdc::CaptureSettings;
use ftap_dataset::schema::{MERCHANTS_FILE, USERS_FILE};
use ftap_fx::{ApiKey, FxSettings, RequestPolicy};
use ftap_kafka::KafkaSettings;
use ftap_lake::{LakeLocation, RollingSettings};
use ftap_postgres::UpdateSettings;
use ftap_postgres::{PostgresSettings, Preparation};
use ftap_supervision::SupervisionSettings;
use ftap_warehouse::{BigQuerySettings, LoadPolicy};

use super::Config;

/// Which half of the platform this process is; the original's halves differ in their defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Both halves.
    Run,
    /// CSV to Kafka.
    Produce,
    /// Kafka to the lake.
    Consume,
}

/// Tries of the original's producer; its consumer tries for ever.
const PRODUCER_MAX_RETRIES: u32 = 10;

impl Config {
    /// How to reach Kafka.
    pub fn kafka_settings(&self, bootstrap_servers: &str, role: Role) -> KafkaSettings {
        let max_retries = self.kafka_max_retries.unwrap_or(match role {
            Role::Produce => PRODUCER_MAX_RETRIES,
            Role::Run | Role::Consume => 0,
        });
        KafkaSettings {
            bootstrap_servers: bootstrap_servers.to_owned(),
            topic: self.kafka_topic.clone(),
            partitions: self.kafka_partitions,
            consumer_group: self.kafka_consumer_group.clone(),
            retry_delay: self.kafka_retry_delay,
            max_retries: NonZeroU32::new(max_retries),
            session_timeout: self.kafka_session_timeout,
            extra: self.kafka_properties(),
        }
    }

    /// Further librdkafka properties, in the clear: never log them.
    pub fn kafka_properties(&self) -> Vec<(String, String)> {
        self.kafka_extra
            .iter()
            .map(|(name, value)| (name.clone(), value.expose().to_owned()))
            .collect()
    }

    /// The publish side.
    pub fn publish_settings(&self, row_limit: Option<u64>) -> PublishSettings {
        PublishSettings {
            events_file: self.events_file.clone(),
            checkpoint_file: self.data_dir.join("checkpoint.json"),
            checkpoint_rows: self.checkpoint_interval,
            pace: self.pace,
            row_limit,
            transactional_id: self.kafka_transactional_id.clone(),
            transaction_interval: self.transaction_interval,
            transaction_rows: self.transaction_rows,
        }
    }

    /// Where the lake is.
    pub fn lake(&self) -> LakeLocation {
        match &self.gcs_bucket {
            None => LakeLocation::Local(self.lake_dir.clone()),
            Some(bucket) => LakeLocation::Gcs {
                bucket: bucket.clone(),
                credentials_file: self.gcs_credentials_file.clone(),
                endpoint: self.gcs_endpoint.clone(),
            },
        }
    }

    /// The ingest side.
    pub fn ingest_settings(&self) -> IngestSettings {
        IngestSettings {
            lake: self.lake(),
            rolling: RollingSettings {
                max_rows: self.file_max_rows,
                max_bytes: self.file_max_bytes,
                max_age: self.flush_interval,
            },
            workers: self.ingest_workers,
            memory_budget_bytes: self.ingest_memory_bytes,
            max_message_bytes: self.max_message_bytes,
            zstd_level: self.zstd_level,
            writer_id: writer_id(),
        }
    }

    /// PostgreSQL of POSTGRES_HOST; `None` means the private cluster.
    pub fn postgres_settings(&self) -> Option<PostgresSettings> {
        let postgres = &self.postgres;
        let host = postgres.host.clone()?;
        let database = postgres.database.clone();
        let password = postgres.password.as_ref();
        Some(self.postgres_at(
            (host, postgres.port),
            database.unwrap_or_else(|| postgres.user.clone()),
            postgres.user.clone(),
            password.map(|password| password.expose().to_owned()),
        ))
    }

    /// PostgreSQL at another address, limits as set.
    pub fn postgres_at(
        &self,
        (host, port): (String, u16),
        database: String,
        user: String,
        password: Option<String>,
    ) -> PostgresSettings {
        PostgresSettings {
            host,
            port,
            database,
            user,
            password,
            ssl_mode: self.postgres.ssl_mode,
            ssl_root_cert: self.postgres.ssl_root_cert.clone(),
            private_folder: None,
            pool_size: self.postgres.pool_size,
            connect_timeout: self.postgres.connect_timeout,
            statement_timeout: self.postgres.statement_timeout,
        }
    }

    /// What is to be in PostgreSQL: users and merchants lie beside the events.
    pub fn preparation(&self) -> Preparation {
        let folder = self.events_file.parent().unwrap_or(Path::new(""));
        Preparation {
            users_file: folder.join(USERS_FILE),
            merchants_file: folder.join(MERCHANTS_FILE),
            airbyte_slot: self.postgres.airbyte_slot,
        }
    }

    /// How users are changed.
    pub fn update_settings(&self) -> UpdateSettings {
        UpdateSettings {
            share: self.batch.update_percentage,
            seed: self.batch.update_seed,
        }
    }

    /// The change capture.
    pub fn capture_settings(&self) -> CaptureSettings {
        CaptureSettings {
            slot: self.cdc_slot.clone(),
            publication: self.cdc_publication.clone(),
            rolling: RollingSettings {
                max_rows: self.file_max_rows,
                max_bytes: self.file_max_bytes,
                max_age: self.cdc_flush_interval.unwrap_or(self.flush_interval),
            },
            zstd_level: self.zstd_level,
            writer_id: writer_id(),
        }
    }

    /// FX rates.
    pub fn fx_settings(&self) -> FxSettings {
        let key = self.batch.freecurrencyapi_key.as_ref();
        FxSettings {
            api_url: self.fx.api_url.clone(),
            api_key: key.map(|key| ApiKey::new(key.expose())),
            cache_time: self.fx.cache_time,
            cache_file: self.data_dir.join("fx_cache.json"),
            offline_seed: self.fx.offline_seed,
            policy: RequestPolicy {
                timeout: self.fx.timeout,
                ..RequestPolicy::default()
            },
        }
    }

    /// BigQuery; `None` loads nothing.
    pub fn bigquery_settings(&self) -> Option<BigQuerySettings> {
        let (project, dataset) = self.bigquery.target.clone()?;
        Some(BigQuerySettings {
            project,
            dataset,
            location: self.bigquery.location.clone(),
            api_url: self.bigquery.api_url.clone(),
            bucket: self.gcs_bucket.clone()?,
            credentials_file: self.gcs_credentials_file.clone(),
            window: self.bigquery.window,
            writer_id: writer_id(),
            policy: LoadPolicy::default(),
        })
    }

    /// When supervision acts.
    pub fn supervision_settings(&self) -> SupervisionSettings {
        SupervisionSettings {
            stall_timeout: self.stall_timeout,
            stop_deadline: self.stop_deadline,
            initial_backoff: self.restart_initial_backoff,
            max_backoff: self.restart_max_backoff,
            max_restarts: self.restart_limit,
            restart_window: self.restart_window,
            ..SupervisionSettings::default()
        }
    }
}

/// `ftap-{pid}-{random}`: two processes of any two machines differ, also after a reboot.
fn writer_id() -> String {
    let random = RandomState::new().build_hasher().finish();
    format!("ftap-{}-{:08x}", std::process::id(), random as u32)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::layers::Layers;
    use super::*;

    #[test]
    fn the_producer_gives_up_after_ten_tries_and_the_rest_never() {
        let config = Config::from_layers(&Layers::default()).unwrap();
        let tries = |role| config.kafka_settings("k:9092", role).max_retries;
        assert_eq!(tries(Role::Produce), NonZeroU32::new(10));
        assert_eq!(tries(Role::Consume), None);
        assert_eq!(tries(Role::Run), None);
    }

    #[test]
    fn settings_print_without_their_secrets() {
        let mut layers = Layers::default();
        for (name, value) in [
            ("KAFKA_BROKER", "k:9092"),
            ("KAFKA_SECURITY_PROTOCOL", "SASL_SSL"),
            ("KAFKA_SASL_MECHANISM", "scram-sha-512"),
            ("KAFKA_SASL_USERNAME", "me"),
            ("KAFKA_SASL_PASSWORD", "hunter2"),
            ("KAFKA_EXTRA", "ssl.keystore.password=hunter2"),
            ("DASHBOARD_TOKEN", "hunter2hunter2hunter2"),
            ("POSTGRES_PASSWORD", "hunter2"),
        ] {
            layers.environment.insert(name.into(), value.into());
        }
        let config = Config::from_layers(&layers).unwrap();
        let kafka = config.kafka_settings("k:9092", Role::Run);
        let property = |name: &str| kafka.extra.iter().find(|(found, _)| found == name);
        assert_eq!(property("sasl.password").unwrap().1, "hunter2");
        assert_eq!(property("sasl.mechanism").unwrap().1, "SCRAM-SHA-512");
        let shown = format!("{config:?} {config:#?} {kafka:?} {kafka:#?}");
        assert!(
            shown.contains("sasl.password") && !shown.contains("hunter2"),
            "{shown}"
        );
    }

    #[test]
    fn two_writers_never_share_an_id() {
        assert_ne!(writer_id(), writer_id());
    }

    #[test]
    fn the_lake_is_local_until_a_bucket_is_named() {
        let mut layers = Layers::default();
        let config = Config::from_layers(&layers).unwrap();
        assert!(matches!(config.lake(), LakeLocation::Local(dir) if dir.ends_with("data/lake")));
        layers
            .environment
            .insert("GCS_BUCKET_NAME".into(), "lake-bucket".into());
        let config = Config::from_layers(&layers).unwrap();
        assert!(
            matches!(config.lake(), LakeLocation::Gcs { bucket, .. } if bucket == "lake-bucket")
        );
    }
}
