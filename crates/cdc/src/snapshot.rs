//! The tables as they were at one place of the server's log.
//!
//! Promises: the rows handed out are exactly those that every commit before the slot's
//! consistent point has left behind. Relies on the snapshot that the server exports with
//! the slot.

use std::collections::BTreeMap;
use std::sync::Arc;

use deadpool_postgres::tokio_postgres::{Client, SimpleQueryMessage};
use ftap_lake::{FileError, Position, RollingSettings};
use ftap_postgres::{PostgresError, PostgresSettings};
use futures::{StreamExt, pin_mut};

use super::SCHEMA;
use super::catalog::Catalog;
use super::file::{ChangeFile, ChangeFileBuilder, Commit, Origin};
use super::footer::Content;
use super::schema::Table;
use super::server::{Control, qualified, quoted};
use super::source::{Cell, SESSION, Tuple, is_unsendable};
use super::wire::TemporarySlot;

#[derive(Debug, thiserror::Error)]
pub(crate) enum SnapshotError {
    /// The server.
    #[error(transparent)]
    Postgres(#[from] PostgresError),
    /// The files.
    #[error(transparent)]
    File(#[from] FileError),
}

/// A transaction that sees the tables as they were when the slot was made. It ends with
/// its connection, or with [`end`](Self::end).
pub(crate) struct SnapshotReader<'a> {
    client: &'a Client,
    settings: &'a PostgresSettings,
    at: Position,
    commit: Commit,
}

impl<'a> SnapshotReader<'a> {
    /// Opens the transaction. The session that created the slot must have been idle since.
    pub(crate) async fn begin(
        client: &'a Client,
        settings: &'a PostgresSettings,
        slot: &TemporarySlot,
    ) -> Result<Self, PostgresError> {
        let error = |error| PostgresError::of(settings, &error);
        let session = SESSION.map(|(name, value)| format!("SET LOCAL {name} = '{value}';"));
        // Policies of row-level security don't filter the stream, so they must not filter the copy:
        // the server refuses to read a table whose policies apply to this role.
        let begin = format!(
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT '{}'; SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0; SET LOCAL row_security = off; {}",
            slot.snapshot,
            session.concat()
        );
        client.batch_execute(&begin).await.map_err(error)?;
        let sql = "SELECT (extract(epoch FROM transaction_timestamp()) * 1000000)::bigint";
        let row = client.query_one(sql, &[]).await.map_err(error)?;
        Ok(Self {
            client,
            settings,
            at: Position::snapshot(slot.consistent_point),
            commit: Commit {
                time_us: row.get(0),
                xid: None,
            },
        })
    }

    /// Copies a table. `put` takes each object before more is read than one object holds.
    pub(crate) async fn copy<F, E>(
        &self,
        name: &str,
        publication: &str,
        origin: &Origin,
        rolling: &RollingSettings,
        mut put: impl FnMut(ChangeFile) -> F,
    ) -> Result<u64, E>
    where
        F: Future<Output = Result<(), E>>,
        E: From<SnapshotError>,
    {
        let table = Arc::new(self.table(name, publication).await?);
        let open = |number| {
            let (table, origin) = (table.clone(), origin.clone());
            ChangeFileBuilder::snapshot(table, origin, number, self.at, self.commit)
                .map_err(SnapshotError::from)
        };
        let mut number = 1;
        let mut rows = 0;
        let mut builder = open(number)?;
        let columns: Vec<_> = table.columns.iter().map(|c| quoted(&c.name)).collect();
        // The simple protocol gives values as the stream does; a cast to text would not:
        // it cuts the blanks off a `char(n)`.
        let sql = format!("SELECT {} FROM {}", columns.join(", "), qualified(name));
        let answer = self.client.simple_query_raw(&sql).await;
        let messages = answer.map_err(|error| self.error(&error))?;
        pin_mut!(messages);
        while let Some(message) = messages.next().await {
            let message = message.map_err(|error| self.error(&error))?;
            let SimpleQueryMessage::Row(row) = message else {
                continue;
            };
            let cell = |index| {
                row.get(index)
                    .map_or(Cell::Null, |text| Cell::Text(text.into()))
            };
            let tuple = Tuple((0..columns.len()).map(cell).collect());
            builder
                .append_snapshot(&tuple, self.commit)
                .map_err(SnapshotError::from)?;
            rows += 1;
            if builder.rows() >= rolling.max_rows || builder.encoded_bytes() >= rolling.max_bytes {
                number += 1;
                let full = std::mem::replace(&mut builder, open(number)?);
                let file = full.close(Content::SnapshotPart, false);
                put(file.map_err(SnapshotError::from)?).await?;
            }
        }
        let file = builder.close(Content::SnapshotEnd, false);
        put(file.map_err(SnapshotError::from)?).await?;
        Ok(rows)
    }

    /// The catalogue as the snapshot sees it.
    pub(crate) async fn catalog(&self, publication: &str) -> Result<Catalog, PostgresError> {
        let catalog = self
            .control()
            .catalog(publication, &BTreeMap::new())
            .await?;
        Ok(Catalog {
            read_at: self.at.lsn,
            ..catalog
        })
    }

    fn control(&self) -> Control<'a> {
        Control {
            client: self.client,
            settings: self.settings,
        }
    }

    async fn table(&self, name: &str, publication: &str) -> Result<Table, SnapshotError> {
        let (control, settings) = (self.control(), self.settings);
        let columns = control.columns(publication, name).await?;
        if columns.is_empty() {
            return Err(SnapshotError::Postgres(PostgresError::OtherSchema {
                address: settings.address(),
                said: format!("there is no table {name}, or it has no columns"),
            }));
        }
        Ok(Table {
            oid: control.oid(name).await?.unwrap_or_default(),
            schema: SCHEMA.to_owned(),
            name: name.to_owned(),
            columns,
        })
    }

    /// Ends the transaction.
    pub(crate) async fn end(self) -> Result<(), PostgresError> {
        let ended = self.client.batch_execute("COMMIT").await;
        ended.map_err(|error| PostgresError::of(self.settings, &error))
    }

    fn error(&self, error: &deadpool_postgres::tokio_postgres::Error) -> SnapshotError {
        let said = error.as_db_error();
        let is_unsendable =
            said.is_some_and(|said| is_unsendable(said.code().code(), said.message()));
        SnapshotError::Postgres(match PostgresError::of(self.settings, error) {
            PostgresError::NotPermitted { address, said }
                if said.contains("row-level security") =>
            {
                let user = quoted(&self.settings.user);
                let said = format!(
                    "{said}, and the role would see only a part of the table: ALTER ROLE {user} BYPASSRLS, or capture as the table's owner"
                );
                PostgresError::NotPermitted { address, said }
            }
            PostgresError::Refused { address, said } if is_unsendable => PostgresError::Refused {
                address,
                said: format!(
                    "it can't send a row: {said}; correct the row there. If its text is not UTF-8, a database with another encoding than SQL_ASCII would have refused it"
                ),
            },
            error => error,
        })
    }
}
