//! What the server has: the tables in one snapshot, and the changes that its slot still holds.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use deadpool_postgres::tokio_postgres::error::SqlState;
use deadpool_postgres::tokio_postgres::types::{PgLsn, ToSql};
use deadpool_postgres::tokio_postgres::{Client, Error, SimpleQueryMessage};
use ftap_lake::Lsn;
use ftap_postgres::{PostgresError, PostgresSettings};
use futures::{StreamExt, TryStreamExt, pin_mut};
use pg_walstream::LogicalReplicationParser;

use super::EqualityError;
use super::row::{Rows, Shape};
use super::visibility::Visibility;
use crate::catalog::Catalog;
use crate::schema::{Column, Table};
use crate::server::{Control, quoted};
use crate::source::{Cell, Message, SESSION, Tuple, decode};

/// A table as the snapshot shows it.
pub(super) struct ServerTable {
    pub(super) oid: u32,
    pub(super) shape: Shape,
    pub(super) rows: Rows,
}

/// All of them.
pub(super) struct ServerTables {
    pub(super) visibility: Visibility,
    /// Those that are there, by the name under which they are captured.
    pub(super) tables: BTreeMap<String, ServerTable>,
}

/// The rows of a table that changes of the slot concern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Pending {
    /// The table was emptied, or a change does not name its row.
    All,
    Keys(HashSet<Box<str>>),
}

/// A connection of its own.
pub(super) struct Server<'a> {
    client: &'a Client,
    settings: &'a PostgresSettings,
}

impl<'a> Server<'a> {
    pub(super) async fn new(
        client: &'a Client,
        settings: &'a PostgresSettings,
    ) -> Result<Self, PostgresError> {
        let server = Self { client, settings };
        let session = SESSION.map(|(name, value)| format!("SET {name} = '{value}';"));
        // Policies of row-level security must not hide rows: the server then refuses to read the table.
        let sql = format!("SET row_security = off; {}", session.concat());
        server.execute(&sql).await?;
        Ok(server)
    }

    pub(super) fn control(&self) -> Control<'a> {
        Control {
            client: self.client,
            settings: self.settings,
        }
    }

    fn error(&self, error: &Error) -> PostgresError {
        PostgresError::of(self.settings, error)
    }

    async fn execute(&self, sql: &str) -> Result<(), PostgresError> {
        let done = self.client.batch_execute(sql).await;
        done.map_err(|error| self.error(&error))
    }

    /// Reads the tables in one snapshot. They are locked against being emptied or altered before it is
    /// taken, because it would not show that.
    pub(super) async fn read(
        &self,
        publication: &str,
        known: &BTreeMap<String, u32>,
    ) -> Result<ServerTables, PostgresError> {
        let catalog = self.control().catalog(publication, known).await?;
        let names = self.names(&catalog).await?;
        let locks = names
            .values()
            .map(|name| format!("LOCK TABLE {name} IN ACCESS SHARE MODE;"));
        let begin = format!(
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0; {}",
            locks.collect::<String>()
        );
        self.execute(&begin).await?;
        let sql = "SELECT pg_current_snapshot()::text, pg_current_wal_insert_lsn()";
        let row = self.client.query_one(sql, &[]).await;
        let row = row.map_err(|error| self.error(&error))?;
        let (snapshot, end): (&str, PgLsn) = (row.get(0), row.get(1));
        let visibility = Visibility::parse(snapshot, Lsn(end.into()));
        let visibility = visibility.ok_or_else(|| PostgresError::Refused {
            address: self.settings.address(),
            said: format!("pg_current_snapshot() gave {snapshot}"),
        })?;
        let catalog = self.control().catalog(publication, known).await?;
        let mut tables = BTreeMap::new();
        for (table, state) in &catalog.tables {
            let Some(name) = names.get(&state.oid) else {
                continue;
            };
            let keys = self.key_columns(state.oid).await?;
            let columns = state.columns.iter();
            let columns = columns.map(|column| Column {
                name: column.name.clone(),
                type_oid: column.type_oid,
                type_modifier: column.type_modifier,
                is_key: keys.contains(&column.number),
            });
            let shape = Shape::new(columns.collect());
            let rows = self.rows(name, &shape).await?;
            let oid = state.oid;
            tables.insert(table.clone(), ServerTable { oid, shape, rows });
        }
        self.execute("COMMIT").await?;
        Ok(ServerTables { visibility, tables })
    }

    /// How statements name the tables, by OID.
    async fn names(&self, catalog: &Catalog) -> Result<BTreeMap<u32, String>, PostgresError> {
        let oids: Vec<u32> = catalog.tables.values().map(|state| state.oid).collect();
        // Rows of tables that inherit from it are not its own.
        let sql = "SELECT c.oid, format('%s%I.%I', CASE c.relkind WHEN 'r' THEN 'ONLY ' ELSE '' END, n.nspname, c.relname)
            FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = ANY ($1)";
        let rows = self.client.query(sql, &[&oids]).await;
        let rows = rows.map_err(|error| self.error(&error))?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
    }

    /// The numbers of the columns by which changes name a row, whatever else they have of it.
    async fn key_columns(&self, table: u32) -> Result<Vec<i16>, PostgresError> {
        let sql = "SELECT (i.indkey::int2[])[0:i.indnkeyatts - 1] FROM pg_class c JOIN pg_index i ON i.indrelid = c.oid
            WHERE c.oid = $1 AND CASE c.relreplident WHEN 'i' THEN i.indisreplident ELSE i.indisprimary END";
        let row = self.client.query_opt(sql, &[&table]).await;
        let row = row.map_err(|error| self.error(&error))?;
        Ok(row.map(|row| row.get(0)).unwrap_or_default())
    }

    async fn rows(&self, name: &str, shape: &Shape) -> Result<Rows, PostgresError> {
        let mut rows = Rows::new();
        if !shape.has_key() {
            return Ok(rows);
        }
        let columns: Vec<_> = shape.columns.iter().map(|c| quoted(&c.name)).collect();
        // The simple protocol gives values as the stream does.
        let sql = format!("SELECT {} FROM {name}", columns.join(", "));
        let answer = self.client.simple_query_raw(&sql).await;
        let messages = answer.map_err(|error| self.error(&error))?;
        pin_mut!(messages);
        while let Some(message) = messages.next().await {
            let SimpleQueryMessage::Row(row) = message.map_err(|error| self.error(&error))? else {
                continue;
            };
            let values = shape.columns.iter().enumerate();
            let values = values.map(|(index, column)| column.of_server(row.get(index)));
            // A column of a primary key or a replica identity is never NULL.
            if let Ok(key) = shape.key(|index| row.get(index)) {
                rows.insert(key, values.collect());
            }
        }
        Ok(rows)
    }

    /// Whether a process reads the slot; `None` if there is no such slot.
    pub(super) async fn is_active(&self, slot: &str) -> Result<Option<bool>, PostgresError> {
        let sql = "SELECT active FROM pg_replication_slots WHERE slot_name = $1";
        let row = self.client.query_opt(sql, &[&slot]).await;
        let row = row.map_err(|error| self.error(&error))?;
        Ok(row.map(|row| row.get(0)))
    }

    /// The rows that the slot's changes after `recorded` concern, by table; the slot stays where it is.
    /// `None` if a process reads it now.
    pub(super) async fn pending(
        &self,
        slot: &str,
        publication: &str,
        recorded: Lsn,
        tables: &ServerTables,
    ) -> Result<Option<BTreeMap<String, Pending>>, EqualityError> {
        let sql = "SELECT data FROM pg_logical_slot_peek_binary_changes($1, NULL, NULL, 'proto_version', '1', 'publication_names', $2)";
        let publication = quoted(publication);
        let parameters: [&(dyn ToSql + Sync); 2] = [&slot, &publication];
        let answer = self.client.query_raw(sql, parameters).await;
        let is_read = |error: &Error| error.code() == Some(&SqlState::OBJECT_IN_USE);
        let messages = match answer {
            Ok(messages) => messages,
            Err(error) if is_read(&error) => return Ok(None),
            Err(error) => return Err(self.peek_error(slot, &error)),
        };
        pin_mut!(messages);
        let mut parser = LogicalReplicationParser::with_protocol_version(1);
        let mut reader = PendingReader::new(recorded, tables);
        loop {
            match messages.try_next().await {
                Ok(Some(row)) => {
                    let data = Bytes::copy_from_slice(row.get(0));
                    let message = decode(&mut parser, data)?;
                    reader.apply(message);
                }
                Ok(None) => return Ok(Some(reader.pending)),
                Err(error) if is_read(&error) => return Ok(None),
                Err(error) => return Err(self.peek_error(slot, &error)),
            }
        }
    }
}

impl Server<'_> {
    fn peek_error(&self, slot: &str, error: &Error) -> EqualityError {
        if error.code() == Some(&SqlState::QUERY_CANCELED) {
            return EqualityError::TooMuchPending {
                slot: slot.to_owned(),
                limit: self.settings.statement_timeout,
            };
        }
        self.error(error).into()
    }
}

/// Collects the rows that the messages of a slot concern.
struct PendingReader<'a> {
    recorded: Lsn,
    tables: &'a ServerTables,
    /// Whether the transaction was recorded in the lake.
    is_recorded: bool,
    /// Columns of the tables as they were, by OID.
    relations: HashMap<u32, Arc<Table>>,
    pending: BTreeMap<String, Pending>,
}

impl<'a> PendingReader<'a> {
    fn new(recorded: Lsn, tables: &'a ServerTables) -> Self {
        Self {
            recorded,
            tables,
            is_recorded: false,
            relations: HashMap::new(),
            pending: BTreeMap::new(),
        }
    }

    fn apply(&mut self, message: Message) {
        match message {
            Message::Begin { lsn, .. } => self.is_recorded = lsn <= self.recorded,
            Message::Relation { id, table } => {
                self.relations.insert(id, table);
            }
            Message::Change { relation, change } if !self.is_recorded => {
                let (after, before) = change.rows();
                for row in [after, before].into_iter().flatten() {
                    self.note(relation, Some(row));
                }
            }
            Message::Truncate { relations } if !self.is_recorded => {
                for relation in relations {
                    self.note(relation, None);
                }
            }
            _ => {}
        }
    }

    fn note(&mut self, relation: u32, row: Option<&Tuple>) {
        let mut tables = self.tables.tables.iter();
        let Some((name, table)) = tables.find(|(_, table)| table.oid == relation) else {
            return;
        };
        let columns = self.relations.get(&relation);
        let key = row.zip(columns).and_then(|(row, columns)| {
            let text = |index: usize| {
                let name = &table.shape.columns[index].name;
                let mut columns = columns.columns.iter();
                match row.cell(columns.position(|column| column.name == *name)?) {
                    Cell::Text(text) => Some(&**text),
                    Cell::Null | Cell::NotSent => None,
                }
            };
            table.shape.key(text).ok()
        });
        let pending = self.pending.entry(name.clone());
        let pending = pending.or_insert_with(|| Pending::Keys(HashSet::new()));
        match (key, &mut *pending) {
            (Some(key), Pending::Keys(keys)) => _ = keys.insert(key),
            (Some(_), Pending::All) => {}
            (None, pending) => *pending = Pending::All,
        }
    }
}
