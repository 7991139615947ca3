//! What the server has and has to have: publication, slot, place in its log.
//!
//! Promises: nothing of others is changed; errors name what to set.

use deadpool_postgres::tokio_postgres::{Client, types::PgLsn};

use super::chain::{ServerState, SlotState};
use super::position::Lsn;
use super::schema::Column;
use super::{SCHEMA, TABLES};
use crate::postgres::{PostgresError, PostgresSettings};

/// A connection for questions, beside the one that streams.
pub struct Control<'a> {
    /// The connection.
    pub client: &'a Client,
    /// How it was made.
    pub settings: &'a PostgresSettings,
}

/// How far the slot is behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotSample {
    /// End of the log that is durable on the server.
    pub flushed: Lsn,
    /// What was acknowledged.
    pub confirmed: Lsn,
    /// From where on the server keeps its log for the slot.
    pub restart: Lsn,
    /// Whether the server has given the slot up.
    pub is_lost: bool,
}

impl Control<'_> {
    fn error(&self, error: &deadpool_postgres::tokio_postgres::Error) -> PostgresError {
        PostgresError::of(self.settings, error)
    }

    /// Checks that the server can decode its log, and says what it has.
    pub async fn state(&self, slot: &str, publication: &str) -> Result<ServerState, PostgresError> {
        let row = self
            .client
            .query_one(
                "SELECT s.system_identifier::text, current_database()::text, pg_current_wal_flush_lsn(), current_setting('wal_level') FROM pg_control_system() s",
                &[],
            )
            .await
            .map_err(|error| self.error(&error))?;
        let wal_level: String = row.get(3);
        if wal_level != "logical" {
            return Err(PostgresError::WalLevel {
                address: self.settings.address(),
                said: format!("its wal_level is {wal_level}"),
            });
        }
        let found = self
            .client
            .query_opt(
                "SELECT plugin::text, database::text, wal_status, confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = $1",
                &[&slot],
            )
            .await
            .map_err(|error| self.error(&error))?;
        let sql = "SELECT count(*) > 0 FROM pg_publication WHERE pubname = $1";
        let has_publication = self.client.query_one(sql, &[&publication]).await;
        let has_publication = has_publication.map_err(|error| self.error(&error))?;
        Ok(ServerState {
            has_publication: has_publication.get(0),
            system: row.get(0),
            database: row.get(1),
            flushed: lsn(row.get(2)),
            slot: found.map(|slot| SlotState {
                plugin: slot.get(0),
                database: slot.get(1),
                wal_status: slot.get(2),
                confirmed: slot.get::<_, Option<PgLsn>>(3).map(lsn),
            }),
        })
    }

    /// Whether all captured tables are there.
    pub async fn has_tables(&self) -> Result<bool, PostgresError> {
        let sql = "SELECT count(to_regclass(name)) FROM unnest($1::text[]) name";
        let tables = TABLES.map(qualified).to_vec();
        let found = self.client.query_one(sql, &[&tables]).await;
        let found: i64 = found.map_err(|error| self.error(&error))?.get(0);
        Ok(found == TABLES.len() as i64)
    }

    /// Makes the publication of our tables if it is not there; before the slot, because a
    /// slot can't see a publication that is younger than itself.
    pub async fn ensure_publication(&self, publication: &str) -> Result<bool, PostgresError> {
        let rows = self
            .client
            .query(
                "SELECT t.tablename::text FROM pg_publication p LEFT JOIN pg_publication_tables t ON t.pubname = p.pubname AND t.schemaname = $2 WHERE p.pubname = $1",
                &[&publication, &SCHEMA],
            )
            .await
            .map_err(|error| self.error(&error))?;
        if rows.is_empty() {
            let sql = format!(
                "CREATE PUBLICATION {} FOR TABLE {}",
                quoted(publication),
                TABLES.map(qualified).join(", ")
            );
            self.client
                .batch_execute(&sql)
                .await
                .map_err(|error| self.error(&error))?;
            return Ok(true);
        }
        let has = |table: &str| {
            let mut names = rows.iter().map(|row| row.get::<_, Option<String>>(0));
            names.any(|name| name.as_deref() == Some(table))
        };
        match TABLES.iter().find(|table| !has(table)) {
            None => Ok(false),
            Some(table) => Err(PostgresError::OtherSchema {
                address: self.settings.address(),
                said: format!(
                    "publication {publication} lacks table {table}: ALTER PUBLICATION {publication} ADD TABLE {SCHEMA}.{table}, or set CDC_PUBLICATION to a name that is free"
                ),
            }),
        }
    }

    /// Drops the slot if there is one.
    pub async fn drop_slot(&self, slot: &str) -> Result<(), PostgresError> {
        let sql = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = $1";
        let dropped = self.client.execute(sql, &[&slot]).await;
        dropped.map(drop).map_err(|error| self.error(&error))
    }

    /// How far the slot is behind; `None` if there is no such slot.
    pub async fn sample(&self, slot: &str) -> Result<Option<SlotSample>, PostgresError> {
        let sql = "SELECT pg_current_wal_flush_lsn(), confirmed_flush_lsn, restart_lsn, wal_status = 'lost' FROM pg_replication_slots WHERE slot_name = $1";
        let row = self.client.query_opt(sql, &[&slot]).await;
        let row = row.map_err(|error| self.error(&error))?;
        let at = |value: Option<PgLsn>| value.map(lsn).unwrap_or_default();
        Ok(row.map(|row| SlotSample {
            flushed: lsn(row.get(0)),
            confirmed: at(row.get(1)),
            restart: at(row.get(2)),
            is_lost: row.get::<_, Option<bool>>(3).unwrap_or(false),
        }))
    }

    /// End of the log that is durable on the server.
    pub async fn flushed(&self) -> Result<Lsn, PostgresError> {
        let row = self
            .client
            .query_one("SELECT pg_current_wal_flush_lsn()", &[]);
        let row = row.await.map_err(|error| self.error(&error))?;
        Ok(lsn(row.get(0)))
    }

    /// The columns of a table that are published.
    pub async fn columns(&self, table: &str) -> Result<Vec<Column>, PostgresError> {
        let rows = self
            .client
            .query(
                "SELECT a.attname::text, a.atttypid, a.atttypmod, c.relreplident = 'f' OR coalesce(a.attnum = ANY (i.indkey), false)
                 FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
                 LEFT JOIN pg_index i ON i.indrelid = c.oid AND CASE c.relreplident WHEN 'i' THEN i.indisreplident ELSE i.indisprimary END
                 WHERE c.oid = to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
                 ORDER BY a.attnum",
                &[&qualified(table)],
            )
            .await
            .map_err(|error| self.error(&error))?;
        let column = |row: &deadpool_postgres::tokio_postgres::Row| Column {
            name: row.get(0),
            type_oid: row.get(1),
            type_modifier: row.get(2),
            is_key: row.get(3),
        };
        Ok(rows.iter().map(column).collect())
    }
}

fn lsn(value: PgLsn) -> Lsn {
    Lsn(value.into())
}

/// A captured table as an SQL identifier.
pub fn qualified(table: &str) -> String {
    format!("{}.{}", quoted(SCHEMA), quoted(table))
}

/// A name as an SQL identifier.
pub fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
