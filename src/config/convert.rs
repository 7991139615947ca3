//! The settings in the form in which the crates take them.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::Path;

use ftap_actors::settings::{IngestSettings, PublishSettings};
use ftap_cdc::CaptureSettings;
use ftap_dataset::schema::{MERCHANTS_FILE, USERS_FILE};
use ftap_fx::{ApiKey, FxSettings, RequestPolicy};
use ftap_kafka::KafkaSettings;
use ftap_lake::{Compression, LakeLocation, RollingSettings};
use ftap_postgres::UpdateSettings;
use ftap_postgres::{PostgresSettings, Preparation};
use ftap_supervision::SupervisionSettings;
use ftap_warehouse::{BigQuerySettings, LoadPolicy};

use super::Config;

impl Config {
    pub(crate) fn kafka_settings(&self, bootstrap_servers: &str) -> KafkaSettings {
        KafkaSettings {
            bootstrap_servers: bootstrap_servers.to_owned(),
            topic: self.kafka_topic.clone(),
            dead_letter_topic: self.kafka_dead_letter_topic.clone(),
            partitions: self.kafka_partitions,
            consumer_group: self.kafka_consumer_group.clone(),
            retry_delay: self.kafka_retry_delay,
            max_retries: NonZeroU32::new(self.kafka_max_retries),
            session_timeout: self.kafka_session_timeout,
            open_transaction_timeout: self.open_transaction_timeout,
            extra: self.kafka_properties(),
        }
    }

    /// Further librdkafka properties, in the clear: never log them.
    pub(crate) fn kafka_properties(&self) -> Vec<(String, String)> {
        self.security_properties()
            .into_iter()
            .map(|(name, value)| (name, value.expose().to_owned()))
            .collect()
    }

    pub(crate) fn publish_settings(&self, row_limit: Option<u64>) -> PublishSettings {
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

    pub(crate) fn lake(&self) -> LakeLocation {
        match &self.gcs_bucket {
            None => LakeLocation::Local(self.lake_dir.clone()),
            Some(bucket) => LakeLocation::Gcs {
                bucket: bucket.clone(),
                credentials_file: self.gcs_credentials_file.clone(),
                endpoint: self.gcs_endpoint.clone(),
            },
        }
    }

    /// How Parquet files are compressed.
    pub(crate) fn compression(&self) -> Compression {
        match self.parquet_codec {
            Compression::Zstd(_) => Compression::Zstd(self.zstd_level),
            other => other,
        }
    }

    pub(crate) fn ingest_settings(&self) -> IngestSettings {
        IngestSettings {
            lake: self.lake(),
            rolling: RollingSettings {
                max_rows: self.file_max_rows,
                max_bytes: self.file_max_bytes,
                max_age: self.flush_interval,
            },
            workers: NonZeroUsize::new(self.ingest_workers).unwrap_or(NonZeroUsize::MIN),
            memory_budget_bytes: self.ingest_memory_bytes,
            dead_letters: self.dead_letters,
            max_message_bytes: self.max_message_bytes,
            compression: self.compression(),
            writer_id: writer_id(),
        }
    }

    /// PostgreSQL of POSTGRES_HOST; `None` means the private cluster.
    pub(crate) fn postgres_settings(&self) -> Option<PostgresSettings> {
        let password = self.postgres_password.as_ref();
        Some(self.postgres_at(
            (self.postgres_host.clone()?, self.postgres_port),
            self.postgres_database.clone(),
            self.postgres_user.clone(),
            password.map(|password| password.expose().to_owned()),
        ))
    }

    /// PostgreSQL at another address, with the limits that are set.
    pub(crate) fn postgres_at(
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
            ssl_mode: self.postgres_ssl_mode,
            ssl_root_cert: self.postgres_ssl_root_cert.clone(),
            private_folder: None,
            pool_size: self.postgres_pool_size,
            connect_timeout: self.postgres_connect_timeout,
            statement_timeout: self.postgres_statement_timeout,
        }
    }

    /// What PostgreSQL must contain: users and merchants, whose files are in the folder of the events file.
    pub(crate) fn preparation(&self) -> Preparation {
        let folder = self.events_file.parent().unwrap_or(Path::new(""));
        Preparation {
            users_file: folder.join(USERS_FILE),
            merchants_file: folder.join(MERCHANTS_FILE),
            airbyte_slot: self.airbyte_slot,
        }
    }

    pub(crate) fn update_settings(&self) -> UpdateSettings {
        UpdateSettings {
            share: self.update_percentage,
            seed: self.update_seed,
        }
    }

    pub(crate) fn capture_settings(&self) -> CaptureSettings {
        CaptureSettings {
            slot: self.cdc_slot.clone(),
            publication: self.cdc_publication.clone(),
            rolling: RollingSettings {
                max_rows: self.file_max_rows,
                max_bytes: self.file_max_bytes,
                max_age: self.cdc_flush_interval,
            },
            compression: self.compression(),
            writer_id: writer_id(),
        }
    }

    pub(crate) fn fx_settings(&self) -> FxSettings {
        let key = self.freecurrencyapi_key.as_ref();
        FxSettings {
            api_url: self.fx_api_url.clone(),
            api_key: key.map(|key| ApiKey::new(key.expose())),
            cache_time: self.fx_cache_time,
            cache_file: self.data_dir.join("fx_cache.json"),
            offline_seed: self.fx_offline_seed,
            compression: self.compression(),
            writer_id: writer_id(),
            policy: RequestPolicy {
                timeout: self.fx_timeout,
                ..RequestPolicy::default()
            },
        }
    }

    /// `None` if nothing is loaded.
    pub(crate) fn bigquery_settings(&self) -> Option<BigQuerySettings> {
        Some(BigQuerySettings {
            project: self.bigquery_project.clone()?,
            dataset: self.bigquery_dataset.clone()?,
            location: self.bigquery_location.clone(),
            api_url: self.bigquery_api_url.clone(),
            bucket: self.gcs_bucket.clone()?,
            credentials_file: self.gcs_credentials_file.clone(),
            window: self.bigquery_load_interval,
            writer_id: writer_id(),
            policy: LoadPolicy::default(),
        })
    }

    pub(crate) fn supervision_settings(&self) -> SupervisionSettings {
        SupervisionSettings {
            stall_timeout: self.stall_timeout,
            stop_deadline: self.stop_deadline,
            backoff: SupervisionSettings::backoff(
                self.restart_initial_backoff,
                self.restart_max_backoff,
            ),
            max_restarts: self.restart_limit,
            restart_window: self.restart_window,
        }
    }
}

/// `ftap-{pid}-{random}`: differs between any two processes, on any machines, even after a reboot.
pub(crate) fn writer_id() -> String {
    let random = RandomState::new().build_hasher().finish();
    format!("ftap-{}-{:08x}", std::process::id(), random as u32)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use ftap_actors::settings::Pace;

    use super::super::layers::Layers;
    use super::*;

    fn config(command: &str, environment: &[(&str, &str)]) -> Config {
        let environment = environment
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_string()));
        let layers = Layers {
            command: command.to_owned(),
            environment: environment.collect(),
            ..Layers::default()
        };
        Config::from_layers(&layers).unwrap()
    }

    #[test]
    fn the_producer_stops_retrying_after_ten_attempts_and_the_others_never() {
        let attempts = |command| config(command, &[]).kafka_settings("k:9092").max_retries;
        assert_eq!(attempts("produce"), NonZeroU32::new(10));
        assert_eq!(attempts("consume"), None);
        assert_eq!(attempts("run"), None);
    }

    #[test]
    fn run_is_fast_by_default_and_shows_files_soon_if_the_lake_is_on_this_machine() {
        let of = |command, environment: &[_]| {
            let config = config(command, environment);
            (config.pace, config.flush_interval.as_secs())
        };
        assert_eq!(of("run", &[]), (Pace::Max, 5));
        assert_eq!(of("run", &[("GCS_BUCKET_NAME", "lake")]), (Pace::Max, 600));
        assert_eq!(of("run", &[("PRODUCE_SPEED", "7")]), (Pace::Speed(7.0), 5));
        assert_eq!(of("consume", &[]), (Pace::Speed(100.0), 600));
    }

    #[test]
    fn settings_print_without_their_secrets() {
        let environment = [
            ("KAFKA_BROKER", "k:9092"),
            ("KAFKA_SECURITY_PROTOCOL", "SASL_SSL"),
            ("KAFKA_SASL_MECHANISM", "scram-sha-512"),
            ("KAFKA_SASL_USERNAME", "me"),
            ("KAFKA_SASL_PASSWORD", "hunter2"),
            ("KAFKA_EXTRA", "ssl.keystore.password=hunter2"),
            ("DASHBOARD_TOKEN", "hunter2hunter2hunter2"),
            ("POSTGRES_PASSWORD", "hunter2"),
        ];
        let config = config("run", &environment);
        let kafka = config.kafka_settings("k:9092");
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
        let lake = config("run", &[]).lake();
        assert!(matches!(lake, LakeLocation::Local(dir) if dir.ends_with("data/lake")));
        let lake = config("run", &[("GCS_BUCKET_NAME", "lake-bucket")]).lake();
        assert!(matches!(lake, LakeLocation::Gcs { bucket, .. } if bucket == "lake-bucket"));
    }
}
