//! Connections: at most `pool_size` of them, and no wait without an end.

use std::time::Duration;

use deadpool_postgres::{Hook, HookError, Manager, ManagerConfig, Pool, RecyclingMethod, Runtime};
use tokio_postgres::Config;

use super::{PostgresError, PostgresSettings, SslMode, tls};

const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);

/// Ends limits that a role or a database may set and that not every version knows: `SET` would be
/// refused there. Each statement of ours has its own limit.
pub const NO_TIMEOUTS: &str = "SELECT set_config(name, '0', false) FROM pg_settings WHERE name IN ('transaction_timeout', 'idle_session_timeout')";

/// A pool for these settings. It connects when it is first asked for a connection.
pub fn pool(settings: &PostgresSettings) -> Result<Pool, PostgresError> {
    let manager = Manager::from_config(
        client_config(settings),
        tls::connector(settings)?,
        ManagerConfig {
            // Asks the server whether a connection that waited in the pool still lives.
            recycling_method: RecyclingMethod::Verified,
        },
    );
    let limits = format!(
        "SET statement_timeout = {statement}; SET lock_timeout = {statement}; SET idle_in_transaction_session_timeout = {idle}; SET timezone = 'UTC'; SET synchronous_commit = on; {NO_TIMEOUTS}",
        statement = settings.statement_timeout.as_millis(),
        idle = settings.statement_timeout.saturating_mul(2).as_millis(),
    );
    Pool::builder(manager)
        .max_size(settings.pool_size)
        .runtime(Runtime::Tokio1)
        .wait_timeout(Some(settings.connect_timeout))
        .create_timeout(Some(settings.connect_timeout))
        .recycle_timeout(Some(settings.connect_timeout))
        // Not as start-up options: connection poolers in between refuse those.
        .post_create(Hook::async_fn(move |client, _| {
            let limits = limits.clone();
            Box::pin(async move {
                client
                    .batch_execute(&limits)
                    .await
                    .map_err(HookError::Backend)
            })
        }))
        .build()
        .map_err(|error| PostgresError::Tls(error.to_string()))
}

/// The same for a connection outside a pool.
fn client_config(settings: &PostgresSettings) -> Config {
    let mut config = Config::new();
    config
        .host(&settings.host)
        .port(settings.port)
        .dbname(&settings.database)
        .user(&settings.user)
        .application_name("ftap")
        .connect_timeout(settings.connect_timeout)
        .keepalives_idle(KEEPALIVE_IDLE)
        .tcp_user_timeout(KEEPALIVE_IDLE)
        .ssl_mode(match settings.ssl_mode {
            _ if settings.is_socket() => tokio_postgres::config::SslMode::Disable,
            SslMode::Disable => tokio_postgres::config::SslMode::Disable,
            SslMode::Prefer => tokio_postgres::config::SslMode::Prefer,
            SslMode::Require | SslMode::VerifyFull => tokio_postgres::config::SslMode::Require,
        });
    if let Some(password) = &settings.password {
        config.password(password);
    }
    config
}
