//! PostgreSQL from outside: rows of the tables, and the replication slot of change capture.

use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::{Object, Pool};
use ftap_lake::CAPTURED_TABLES;
use ftap_postgres::{PostgresError, PostgresSettings, connection, pool};
use ftap_telemetry::{chain, metrics};
use tokio_postgres::types::ToSql;

use super::{Locate, Look, Seen, Sources, Unseen};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotFigures {
    pub name: String,
    /// Whether a client reads it.
    pub is_active: bool,
    /// Log that is not acknowledged, in bytes.
    pub lag_bytes: i64,
    /// Log that the server keeps for it, in bytes.
    pub retained_bytes: i64,
    /// `reserved`, `extended`, `unreserved` or `lost`.
    pub wal_status: String,
}

/// The server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostgresFigures {
    /// `user@host:port/database`.
    pub address: String,
    /// Rows of each table that is there.
    pub rows: Vec<(&'static str, i64)>,
    /// The slot, once there is one.
    pub slot: Option<SlotFigures>,
}

/// See the module.
pub struct PostgresLook {
    locate: Locate<PostgresSettings>,
    slot: String,
    open: Option<(Arc<PostgresSettings>, Pool)>,
}

impl PostgresLook {
    /// Looks at the server that is found and the slot of that name.
    pub fn new(locate: Locate<PostgresSettings>, slot: String) -> Self {
        Self {
            locate,
            slot,
            open: None,
        }
    }
}

impl Look for PostgresLook {
    type Figures = PostgresFigures;

    const SOURCE: &'static str = "postgres";

    const PLACE: &'static str = "PostgreSQL";

    const LIMIT: Duration = Duration::from_secs(30);

    async fn look(&mut self) -> Result<PostgresFigures, Unseen> {
        let settings = PostgresSettings {
            // One look at a time.
            pool_size: 1,
            ..(self.locate)()?
        };
        let is_known = self
            .open
            .as_ref()
            .is_some_and(|(open, _)| **open == settings);
        if !is_known {
            let pool = pool(&settings).map_err(|error| chain(&error))?;
            self.open = Some((Arc::new(settings), pool));
        }
        let Some((settings, pool)) = &self.open else {
            return Err("there is no connection pool".to_owned().into());
        };
        let looked = look(settings, pool, &self.slot).await;
        Ok(looked.map_err(|error| chain(&error))?)
    }

    fn place(sources: &mut Sources) -> &mut Option<Seen<PostgresFigures>> {
        &mut sources.postgres
    }

    fn export(figures: Option<&PostgresFigures>) {
        let rows = figures.iter().flat_map(|figures| &figures.rows);
        metrics::TABLE_ROWS
            .replace(rows.map(|(table, rows)| ([(*table).to_owned()], *rows as f64)));
        let slot = figures.and_then(|figures| figures.slot.as_ref());
        let set = |gauge: &metrics::Gauge<0>, value: fn(&SlotFigures) -> f64| {
            gauge.replace(slot.map(|slot| ([], value(slot))));
        };
        set(&metrics::SLOT_CONNECTED, |slot| f64::from(slot.is_active));
        set(&metrics::SLOT_LAG_BYTES, |slot| slot.lag_bytes as f64);
        set(&metrics::SLOT_RETAINED_BYTES, |slot| {
            slot.retained_bytes as f64
        });
    }
}

async fn look(
    settings: &PostgresSettings,
    pool: &Pool,
    slot: &str,
) -> Result<PostgresFigures, PostgresError> {
    let client = connection(pool, settings).await?;
    let failed = |error: tokio_postgres::Error| PostgresError::of(settings, &error);
    let mut rows = Vec::new();
    for table in CAPTURED_TABLES {
        let is_there = "SELECT to_regclass('public.' || $1::text) IS NOT NULL";
        if first(&client, is_there, &[&table]).await.map_err(failed)? == Some(true) {
            // The name is one of ours.
            let count = format!("SELECT count(*) FROM public.{table}");
            let count = first(&client, &count, &[]).await.map_err(failed)?;
            rows.push((table, count.unwrap_or(0)));
        }
    }
    let slot = client
        .query_opt(
            "SELECT active, pg_wal_lsn_diff(pg_current_wal_lsn(), confirmed_flush_lsn)::bigint, \
             pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::bigint, wal_status \
             FROM pg_replication_slots WHERE slot_name = $1",
            &[&slot],
        )
        .await
        .map_err(failed)?
        .map(|row| SlotFigures {
            name: slot.to_owned(),
            is_active: row.get(0),
            lag_bytes: row.get::<_, Option<i64>>(1).unwrap_or(0).max(0),
            retained_bytes: row.get::<_, Option<i64>>(2).unwrap_or(0).max(0),
            wal_status: row.get::<_, Option<String>>(3).unwrap_or_default(),
        });
    Ok(PostgresFigures {
        address: settings.address().to_string(),
        rows,
        slot,
    })
}

/// The first value of the only row.
async fn first<T: for<'a> tokio_postgres::types::FromSql<'a>>(
    client: &Object,
    query: &str,
    parameters: &[&(dyn ToSql + Sync)],
) -> Result<Option<T>, tokio_postgres::Error> {
    let row = client.query_one(query, parameters).await?;
    row.try_get(0)
}
