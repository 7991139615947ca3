//! What the server has and has to have: publication, slot, place in its log.
//!
//! Promises: nothing of others is changed; errors name what to set.

use std::collections::BTreeMap;

use deadpool_postgres::tokio_postgres::types::PgLsn;
use deadpool_postgres::tokio_postgres::{Client, Row};
use ftap_lake::Lsn;
use ftap_postgres::{PostgresError, PostgresSettings};

use super::catalog::{Catalog, ColumnState, PublicationEntry, PublicationIdentity, TableState};
use super::chain::{PublicationState, SlotState};
use super::requirements::{IS_PUBLISHED, PARTITIONS};
use super::schema::Column;
use super::source::MESSAGE_PREFIX;
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

/// A server and our slot there.
pub(crate) struct Identity {
    /// System identifier.
    pub(crate) system: String,
    /// The database we read.
    pub(crate) database: String,
    /// End of the log that is durable there.
    pub(crate) flushed: Lsn,
    /// Our slot, if there is one.
    pub(crate) slot: Option<SlotState>,
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

    /// Checks that the server can decode its log, and returns what it is and our slot there.
    pub(crate) async fn identity(&self, slot: &str) -> Result<Identity, PostgresError> {
        let row = self
            .client
            .query_one("SELECT pg_is_in_recovery()", &[])
            .await;
        if row.map_err(|error| self.error(&error))?.get(0) {
            return Err(PostgresError::ReadOnly {
                address: self.settings.address(),
                said: "it is a standby, or was not promoted yet".to_owned(),
            });
        }
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
                // Reasons came with version 17: by name they need not be there.
                "SELECT plugin::text, database::text, wal_status, confirmed_flush_lsn, to_jsonb(s) ->> 'invalidation_reason' FROM pg_replication_slots s WHERE slot_name = $1",
                &[&slot],
            )
            .await
            .map_err(|error| self.error(&error))?;
        Ok(Identity {
            system: row.get(0),
            database: row.get(1),
            flushed: lsn(row.get(2)),
            slot: found.map(|slot| SlotState {
                plugin: slot.get(0),
                database: slot.get(1),
                wal_status: slot.get(2),
                confirmed: slot.get::<_, Option<PgLsn>>(3).map(lsn),
                lost_by: slot.get(4),
            }),
        })
    }

    /// The catalogue of the captured tables. Those of which an OID is known are found by it under
    /// any name, unless another table has their name.
    pub(crate) async fn catalog(
        &self,
        publication: &str,
        known: &BTreeMap<String, u32>,
    ) -> Result<Catalog, PostgresError> {
        let error = |error| self.error(&error);
        let sql = "SELECT ('x' || substr(pg_walfile_name(pg_current_wal_flush_lsn()), 1, 8))::bit(32)::int,
              pg_current_wal_flush_lsn(), to_regclass('pg_catalog.pg_publication_namespace') IS NOT NULL,
              p.oid, p.xmin::text::bigint, (to_jsonb(p) - '{oid,pubname,pubowner}'::text[])::text
            FROM (SELECT) one LEFT JOIN pg_publication p ON p.pubname = $1";
        let row = self.client.query_one(sql, &[&publication]).await;
        let row = row.map_err(error)?;
        let mut catalog = Catalog {
            timeline: row.get::<_, i32>(0) as u32,
            read_at: lsn(row.get(1)),
            publication: row.get::<_, Option<u32>>(3).map(|oid| PublicationIdentity {
                oid,
                xmin: xid(row.get(4)),
                options: row.get(5),
            }),
            tables: BTreeMap::new(),
        };
        let has_schemas: bool = row.get(2);
        let (names, oids) = sought(known);
        let sql = format!(
            "SELECT t.number, c.oid, n.nspname || '.' || c.relname, c.relfilenode, r.oid, r.xmin::text::bigint,
              coalesce((SELECT array_agg(p.relid ORDER BY p.relid) FROM {PARTITIONS} p), '{{}}'),
              coalesce((SELECT array_agg(p.relid ORDER BY p.relid) FROM {PARTITIONS} p JOIN pg_inherits i ON i.inhrelid = p.relid
                WHERE NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = p.relid AND a.attnum = -6 AND a.xmin = i.xmin)), '{{}}')
            FROM unnest($1::text[], $2::oid[]) WITH ORDINALITY AS t(name, known, number)
            JOIN pg_class c ON c.oid = coalesce(to_regclass(t.name)::oid, t.known) AND c.relkind IN ('r', 'p')
            JOIN pg_namespace n ON n.oid = c.relnamespace
            LEFT JOIN pg_publication_rel r ON r.prrelid = c.oid AND r.prpubid = (SELECT oid FROM pg_publication WHERE pubname = $3)"
        );
        let rows = self
            .client
            .query(&sql, &[&names, &oids, &publication])
            .await;
        for row in rows.map_err(error)? {
            let number = row.get::<_, i64>(0) as usize - 1;
            let oid: u32 = row.get(1);
            let entry = match row.get::<_, Option<u32>>(4) {
                Some(oid) => Some(PublicationEntry {
                    oid,
                    xmin: xid(row.get(5)),
                    moved_by: None,
                }),
                None if has_schemas => self.schema_entry(publication, oid).await?,
                None => None,
            };
            let state = TableState {
                oid,
                name: row.get(2),
                relfilenode: row.get(3),
                columns: self.column_states(publication, oid).await?,
                publication_entry: entry,
                partitions: row.get(6),
                attached: row.get(7),
            };
            catalog.tables.insert(TABLES[number].to_owned(), state);
        }
        Ok(catalog)
    }

    /// What publishes a table by its schema.
    async fn schema_entry(
        &self,
        publication: &str,
        table: u32,
    ) -> Result<Option<PublicationEntry>, PostgresError> {
        // A table that moves to another schema gets another row of `pg_depend`.
        let sql = "SELECT s.oid, s.xmin::text::bigint, d.xmin::text::bigint
            FROM pg_class c JOIN pg_publication_namespace s ON s.pnnspid = c.relnamespace
            JOIN pg_publication p ON p.oid = s.pnpubid
            LEFT JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.objsubid = 0
              AND d.refclassid = 'pg_namespace'::regclass
            WHERE c.oid = $1 AND p.pubname = $2";
        let row = self.client.query_opt(sql, &[&table, &publication]).await;
        let row = row.map_err(|error| self.error(&error))?;
        Ok(row.map(|row| PublicationEntry {
            oid: row.get(0),
            xmin: xid(row.get(1)),
            moved_by: row.get::<_, Option<i64>>(2).map(xid),
        }))
    }

    /// The columns of a table that are published.
    async fn column_states(
        &self,
        publication: &str,
        table: u32,
    ) -> Result<Vec<ColumnState>, PostgresError> {
        let sql = format!(
            "SELECT a.attname::text, a.attnum, a.atttypid, a.atttypmod, a.xmin::text::bigint
            FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid
            LEFT JOIN pg_publication_tables t ON t.pubname = $2 AND t.schemaname = n.nspname AND t.tablename = c.relname
            WHERE c.oid = $1 AND a.attnum > 0 AND NOT a.attisdropped AND {IS_PUBLISHED}
            ORDER BY a.attnum"
        );
        let rows = self.client.query(&sql, &[&table, &publication]).await;
        let rows = rows.map_err(|error| self.error(&error))?;
        let column = |row: &Row| ColumnState {
            name: row.get(0),
            number: row.get(1),
            type_oid: row.get(2),
            type_modifier: row.get(3),
            xmin: xid(row.get(4)),
        };
        Ok(rows.iter().map(column).collect())
    }

    /// Writes a message into the log that a capture answers with a checkpoint.
    pub async fn request_checkpoint(&self) -> Result<(), PostgresError> {
        let statement = format!("SELECT pg_logical_emit_message(true, '{MESSAGE_PREFIX}', '')");
        self.alter(&statement).await
    }

    /// The OID of a captured table.
    pub(crate) async fn oid(&self, table: &str) -> Result<Option<u32>, PostgresError> {
        let sql = "SELECT to_regclass($1)::oid";
        let row = self.client.query_one(sql, &[&qualified(table)]).await;
        Ok(row.map_err(|error| self.error(&error))?.get(0))
    }

    /// Whether the publication is there, and gives all changes of our tables. Those whose OID is
    /// given are found by it under any name.
    pub async fn publication(
        &self,
        publication: &str,
        known: &BTreeMap<String, u32>,
    ) -> Result<PublicationState, PostgresError> {
        let (names, oids) = sought(known);
        // Row filters and column lists came with version 15: by name they need not be there.
        let rows = self
            .client
            .query(
                "SELECT p.pubinsert AND p.pubupdate AND p.pubdelete AND p.pubtruncate,
                   k.number,
                   to_jsonb(t) ->> 'rowfilter' IS NOT NULL,
                   (SELECT string_agg(a.attname, ', ') FROM pg_attribute a
                    WHERE a.attrelid = c.oid
                    AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
                    AND NOT to_jsonb(t) -> 'attnames' ? a.attname::text),
                   (SELECT min(k.name) FROM unnest($2::text[], $3::oid[]) AS k(name, known)
                    JOIN pg_class c ON c.oid = coalesce(to_regclass(k.name)::oid, k.known)
                    WHERE c.relkind = 'p' AND NOT p.pubviaroot)
                 FROM pg_publication p LEFT JOIN (
                   unnest($2::text[], $3::oid[]) WITH ORDINALITY AS k(name, known, number)
                   JOIN pg_class c ON c.oid = coalesce(to_regclass(k.name)::oid, k.known)
                   JOIN pg_namespace n ON n.oid = c.relnamespace
                   JOIN pg_publication_tables t ON t.schemaname = n.nspname AND t.tablename = c.relname
                 ) ON t.pubname = p.pubname
                 WHERE p.pubname = $1",
                &[&publication, &names, &oids],
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
        if let Some(table) = first.get::<_, Option<&str>>(4) {
            return Ok(PublicationState::Lacks {
                what: format!("changes of {table} under its own name, because it is partitioned"),
                remedy: alter("SET (publish_via_partition_root = true)".to_owned()),
            });
        }
        for (table, number) in TABLES.into_iter().zip(1..) {
            let is_it = |row: &&Row| row.get::<_, Option<i64>>(1) == Some(number);
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
        let is_ours = publication == OWN_PUBLICATION;
        let mut is_created = false;
        let mut last_fix = None;
        loop {
            let said = match self.publication(publication, &BTreeMap::new()).await? {
                PublicationState::Whole => return Ok(is_created),
                PublicationState::Missing => {
                    is_created = true;
                    self.create_publication(publication).await?;
                    continue;
                }
                // A table that was dropped and created again has left it. There may be more that
                // is missing.
                PublicationState::Lacks { remedy, .. }
                    if may_fix && is_ours && last_fix.as_ref() != Some(&remedy) =>
                {
                    self.alter(&remedy).await?;
                    last_fix = Some(remedy);
                    continue;
                }
                PublicationState::Lacks { what, remedy } => match last_fix {
                    Some(fix) => format!(
                        "{publication} lacks {what}, also after {fix}: drop it, it is created again"
                    ),
                    None => format!(
                        "{publication} lacks {what}: {remedy}, or set CDC_PUBLICATION to a name that is free"
                    ),
                },
            };
            return Err(PostgresError::Publication {
                address: self.settings.address(),
                said,
            });
        }
    }

    async fn create_publication(&self, publication: &str) -> Result<(), PostgresError> {
        // Without the option the changes of a partitioned table are those of its partitions.
        let sql = format!(
            "CREATE PUBLICATION {} FOR TABLE {} WITH (publish_via_partition_root = true)",
            quoted(publication),
            TABLES.map(qualified).join(", ")
        );
        self.alter(&sql).await.map_err(|error| match error {
            PostgresError::NotPermitted { address, said } => {
                let said = format!("{said}; let the owner of the tables run {sql}");
                PostgresError::NotPermitted { address, said }
            }
            error => error,
        })
    }

    /// Runs a statement that writes, whatever `default_transaction_read_only` is.
    async fn alter(&self, statement: &str) -> Result<(), PostgresError> {
        let sql = format!("START TRANSACTION READ WRITE; {statement}; COMMIT");
        let done = self.client.batch_execute(&sql).await;
        if done.is_err() {
            // The connection is another's afterwards.
            let _ = self.client.batch_execute("ROLLBACK").await;
        }
        done.map_err(|error| self.error(&error))
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

    /// Fails if the slots of a snapshot would find no place: the temporary one that exports it, and
    /// beside that the one that stays, which replaces an older one of its name.
    pub(crate) async fn check_free_slots(&self, slot: &str) -> Result<(), PostgresError> {
        let sql = "SELECT current_setting('max_replication_slots')::bigint, coalesce(array_agg(slot_name::text ORDER BY slot_name), '{}') FROM pg_replication_slots";
        let row = self.client.query_one(sql, &[]).await;
        let row = row.map_err(|error| self.error(&error))?;
        let (most, used): (i64, Vec<String>) = (row.get(0), row.get(1));
        let needed = if used.iter().any(|name| name == slot) {
            1
        } else {
            2
        };
        if used.len() as i64 + needed <= most {
            return Ok(());
        }
        Err(PostgresError::OutOfSlots {
            address: self.settings.address(),
            said: format!(
                "its max_replication_slots is {most}, a snapshot needs {needed} free ones, and in use are {}",
                match used.join(", ") {
                    none if none.is_empty() => "none".to_owned(),
                    names => names,
                }
            ),
        })
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
    pub(crate) async fn columns(
        &self,
        publication: &str,
        table: &str,
    ) -> Result<Vec<Column>, PostgresError> {
        let sql = format!(
            "SELECT a.attname::text, a.atttypid, a.atttypmod, c.relreplident = 'f' OR coalesce(a.attnum = ANY (i.indkey), false)
             FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid
             LEFT JOIN pg_index i ON i.indrelid = c.oid AND CASE c.relreplident WHEN 'i' THEN i.indisreplident ELSE i.indisprimary END
             LEFT JOIN pg_publication_tables t ON t.pubname = $2 AND t.schemaname = n.nspname AND t.tablename = c.relname
             WHERE c.oid = to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped AND {IS_PUBLISHED}
             ORDER BY a.attnum"
        );
        let name = qualified(table);
        let rows = self.client.query(&sql, &[&name, &publication]).await;
        let rows = rows.map_err(|error| self.error(&error))?;
        let column = |row: &Row| Column {
            name: row.get(0),
            type_oid: row.get(1),
            type_modifier: row.get(2),
            is_key: row.get(3),
        };
        Ok(rows.iter().map(column).collect())
    }
}

/// A transaction's number; it has 32 bits, and no type of its own in the client.
fn xid(value: i64) -> u32 {
    value as u32
}

fn lsn(value: PgLsn) -> Lsn {
    Lsn(value.into())
}

/// The captured tables by name, and their OIDs where they are known, else 0.
pub(crate) fn sought(known: &BTreeMap<String, u32>) -> (Vec<String>, Vec<u32>) {
    let oid = |table| known.get(table).copied().unwrap_or_default();
    (TABLES.map(qualified).to_vec(), TABLES.map(oid).to_vec())
}

/// A captured table as an SQL identifier.
pub(crate) fn qualified(table: &str) -> String {
    format!("{}.{}", quoted(SCHEMA), quoted(table))
}

/// A name as an SQL identifier.
pub fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
