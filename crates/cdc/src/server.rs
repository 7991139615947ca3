//! What the server has and has to have: publication, slot, place in its log.
//!
//! Promises: nothing of others is changed; errors name what to set.

use std::collections::BTreeMap;

use deadpool_postgres::tokio_postgres::types::PgLsn;
use deadpool_postgres::tokio_postgres::{Client, Row};
use ftap_lake::Lsn;
use ftap_postgres::{PostgresError, PostgresSettings};

use super::chain::{PublicationState, ServerState, SlotState};
use super::schema::Column;
use super::{SCHEMA, TABLES};

/// The publication that is ours unless the user chose another.
const OWN_PUBLICATION: &str = "ftap_publication";

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
    /// The server's clock, in microseconds since 1970.
    pub server_time_us: i64,
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
        Ok(ServerState {
            publication: self.publication(publication).await?,
            oids: self.oids().await?,
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

    /// Of each captured table that is there its object identifier.
    pub async fn oids(&self) -> Result<BTreeMap<String, u32>, PostgresError> {
        let sql = "SELECT to_regclass(name)::oid FROM unnest($1::text[]) name";
        let tables = TABLES.map(qualified).to_vec();
        let found = self.client.query(sql, &[&tables]).await;
        let found = found.map_err(|error| self.error(&error))?;
        let oids = found.iter().map(|row| row.get::<_, Option<u32>>(0));
        let known = TABLES.into_iter().zip(oids);
        Ok(known
            .filter_map(|(table, oid)| Some((table.to_owned(), oid?)))
            .collect())
    }

    /// Whether all captured tables are there.
    pub(crate) async fn has_tables(&self) -> Result<bool, PostgresError> {
        let sql = "SELECT count(to_regclass(name)) FROM unnest($1::text[]) name";
        let tables = TABLES.map(qualified).to_vec();
        let found = self.client.query_one(sql, &[&tables]).await;
        let found: i64 = found.map_err(|error| self.error(&error))?.get(0);
        Ok(found == TABLES.len() as i64)
    }

    /// Whether the publication is there, and gives all changes of our tables.
    pub async fn publication(&self, publication: &str) -> Result<PublicationState, PostgresError> {
        // Row filters and column lists came with version 15: by name they need not be there.
        let rows = self
            .client
            .query(
                "SELECT p.pubinsert AND p.pubupdate AND p.pubdelete AND p.pubtruncate,
                   t.tablename::text,
                   to_jsonb(t) ->> 'rowfilter' IS NOT NULL,
                   (SELECT string_agg(a.attname, ', ') FROM pg_attribute a
                    WHERE a.attrelid = to_regclass(format('%I.%I', t.schemaname, t.tablename))
                    AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
                    AND NOT to_jsonb(t) -> 'attnames' ? a.attname::text)
                 FROM pg_publication p LEFT JOIN pg_publication_tables t ON t.pubname = p.pubname AND t.schemaname = $2
                 WHERE p.pubname = $1",
                &[&publication, &SCHEMA],
            )
            .await
            .map_err(|error| self.error(&error))?;
        let Some(first) = rows.first() else {
            return Ok(PublicationState::Missing);
        };
        let alter = |how: String| format!("ALTER PUBLICATION {} {how}", quoted(publication));
        if !first.get::<_, bool>(0) {
            return Ok(PublicationState::Lacks {
                what: "some kinds of changes".to_owned(),
                remedy: alter("SET (publish = 'insert, update, delete, truncate')".to_owned()),
            });
        }
        for table in TABLES {
            let is_it = |row: &&Row| row.get::<_, Option<&str>>(1) == Some(table);
            let (what, verb) = match rows.iter().find(is_it) {
                None => (format!("table {table}"), "ADD"),
                Some(row) if row.get(2) => (format!("rows of table {table}"), "SET"),
                Some(row) => match row.get::<_, Option<&str>>(3) {
                    Some(columns) => (format!("columns of table {table}: {columns}"), "SET"),
                    None => continue,
                },
            };
            let names = match verb {
                "ADD" => qualified(table),
                _ => TABLES.map(qualified).join(", "),
            };
            let remedy = alter(format!("{verb} TABLE {names}"));
            return Ok(PublicationState::Lacks { what, remedy });
        }
        Ok(PublicationState::Whole)
    }

    /// Makes the publication of our tables if it is not there; before the slot, because a
    /// slot can't see a publication that is younger than itself.
    /// With `may_fix` the one that is ours by its name gets what it lacks.
    pub(crate) async fn ensure_publication(
        &self,
        publication: &str,
        may_fix: bool,
    ) -> Result<bool, PostgresError> {
        match self.publication(publication).await? {
            PublicationState::Whole => Ok(false),
            // A table that was dropped and created again has left it.
            PublicationState::Lacks { remedy, .. } if may_fix && publication == OWN_PUBLICATION => {
                let fixed = self.client.batch_execute(&remedy).await;
                fixed.map_err(|error| self.error(&error))?;
                // There may be more that is missing.
                match self.publication(publication).await? {
                    PublicationState::Whole => Ok(false),
                    _ => Err(PostgresError::Publication {
                        address: self.settings.address(),
                        said: format!(
                            "{publication} does not give all changes of all tables, also after {remedy}: drop it, it is created again"
                        ),
                    }),
                }
            }
            PublicationState::Lacks { what, remedy } => Err(PostgresError::Publication {
                address: self.settings.address(),
                said: format!(
                    "{publication} lacks {what}: {remedy}, or set CDC_PUBLICATION to a name that is free"
                ),
            }),
            PublicationState::Missing => {
                let sql = format!(
                    "CREATE PUBLICATION {} FOR TABLE {}",
                    quoted(publication),
                    TABLES.map(qualified).join(", ")
                );
                let made = self.client.batch_execute(&sql).await;
                made.map(|()| true)
                    .map_err(|error| match self.error(&error) {
                        PostgresError::NotPermitted { address, said } => {
                            let said = format!("{said}; let the owner of the tables run {sql}");
                            PostgresError::NotPermitted { address, said }
                        }
                        error => error,
                    })
            }
        }
    }

    /// Fails if a process reads the slot, and names it.
    pub(crate) async fn slot_is_idle(&self, slot: &str) -> Result<(), PostgresError> {
        let sql = "SELECT active_pid FROM pg_replication_slots WHERE slot_name = $1 AND active_pid IS NOT NULL";
        let reader = self.client.query_opt(sql, &[&slot]).await;
        match reader.map_err(|error| self.error(&error))? {
            None => Ok(()),
            Some(row) => Err(PostgresError::Conflict {
                address: self.settings.address(),
                said: format!(
                    "replication slot {slot} is being read, by process {} of the server: stop the other `ftap cdc`, or give each its own CDC_SLOT and lake",
                    row.get::<_, i32>(0)
                ),
            }),
        }
    }

    /// Drops the slot if there is one.
    pub(crate) async fn drop_slot(&self, slot: &str) -> Result<(), PostgresError> {
        let sql = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = $1";
        let dropped = self.client.execute(sql, &[&slot]).await;
        dropped.map(drop).map_err(|error| self.error(&error))
    }

    /// How far the slot is behind; `None` if there is no such slot.
    pub async fn sample(&self, slot: &str) -> Result<Option<SlotSample>, PostgresError> {
        let sql = "SELECT pg_current_wal_flush_lsn(), confirmed_flush_lsn, restart_lsn, wal_status = 'lost', (extract(epoch FROM clock_timestamp()) * 1000000)::bigint FROM pg_replication_slots WHERE slot_name = $1";
        let row = self.client.query_opt(sql, &[&slot]).await;
        let row = row.map_err(|error| self.error(&error))?;
        let at = |value: Option<PgLsn>| value.map(lsn).unwrap_or_default();
        Ok(row.map(|row| SlotSample {
            flushed: lsn(row.get(0)),
            confirmed: at(row.get(1)),
            restart: at(row.get(2)),
            is_lost: row.get::<_, Option<bool>>(3).unwrap_or(false),
            server_time_us: row.get(4),
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
        let column = |row: &Row| Column {
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
pub(crate) fn qualified(table: &str) -> String {
    format!("{}.{}", quoted(SCHEMA), quoted(table))
}

/// A name as an SQL identifier.
pub fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
