//! The actors of ftap and the messages between them.
pub mod bigquery_loader;
pub mod change_capture;
pub mod clock;
pub mod cron_clock;
pub mod csv_reader;
pub mod dead_letters;
pub mod fx_days;
pub mod fx_fetcher;
pub mod gcs_uploader;
pub mod kafka_publisher;
pub mod kafka_subscriber;
pub mod messages;
pub mod parquet_buffer;
pub mod reporter;
pub mod settings;
pub mod user_mutator;
pub mod watcher;
