//! The tables, the slot and the publication on a PostgreSQL that is not of DATA_DIR.

use anyhow::Context as _;
use ftap_postgres::{PostgresError, PostgresSettings, connection, pool};

use crate::config::Config;
use crate::exit::BadUsage;

/// Of the tables named, the ones that ftap loaded, and its own bookkeeping.
const TABLES: &str = "SELECT format('%I.%I', n.nspname, c.relname) \
    FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace \
    WHERE (n.nspname, c.relname) IN (('public', 'users'), ('public', 'merchants'), \
        ('ftap', 'job_runs'), ('ftap', 'loads')) \
        AND to_regclass('ftap.loads') IS NOT NULL \
    ORDER BY 1";
/// Ours, and the one for Airbyte as long as it has our tables alone: the schema's scripts make both.
const PUBLICATIONS: &str = "SELECT pubname::text FROM pg_publication AS p \
    WHERE NOT puballtables AND (pubname = $1 OR pubname = 'airbyte_publication') \
        AND NOT EXISTS (SELECT FROM pg_publication_tables AS t WHERE t.pubname = p.pubname \
            AND (t.schemaname, t.tablename) NOT IN (('public', 'users'), ('public', 'merchants'))) \
    ORDER BY 1";
const SLOT: &str = "SELECT active FROM pg_replication_slots WHERE slot_name = $1";
const AIRBYTE_SLOT: &str = "airbyte_slot";

/// What ftap made there.
pub(super) struct RemoteTables {
    settings: PostgresSettings,
    tables: Vec<String>,
    publications: Vec<String>,
    slot: Option<String>,
}

impl RemoteTables {
    /// Looks for them; the second value says what stays and why. An error if the server does not
    /// answer or the slot is being read.
    pub(super) fn find(
        config: &Config,
        settings: PostgresSettings,
    ) -> anyhow::Result<(Option<Self>, Option<String>)> {
        let (tables, publications, slot, airbyte_slot) = run(&settings, async |client| {
            let names = |rows: Vec<tokio_postgres::Row>| -> Vec<String> {
                rows.iter().map(|row| row.get(0)).collect()
            };
            let tables = names(client.query(TABLES, &[]).await?);
            let publications = if tables.is_empty() {
                Vec::new()
            } else {
                names(
                    client
                        .query(PUBLICATIONS, &[&config.cdc_publication])
                        .await?,
                )
            };
            let slot = client.query_opt(SLOT, &[&config.cdc_slot]).await?;
            let slot = slot.map(|row| row.get::<_, bool>(0));
            let airbyte_slot = client.query_opt(SLOT, &[&AIRBYTE_SLOT]).await?;
            Ok((tables, publications, slot, airbyte_slot.is_some()))
        })?;
        if slot == Some(true) {
            return Err(BadUsage(format!(
                "the slot {} at {} is being read: stop `ftap cdc` or `ftap run` there first",
                config.cdc_slot,
                settings.address()
            ))
            .into());
        }
        let found = Self {
            slot: slot.map(|_| config.cdc_slot.clone()),
            settings,
            tables,
            publications,
        };
        let left = airbyte_slot.then(|| {
            format!(
                "slot {AIRBYTE_SLOT} at {}, which Airbyte reads\n    psql -c \"SELECT pg_drop_replication_slot('{AIRBYTE_SLOT}')\"",
                found.settings.address()
            )
        });
        let any = found.slot.is_some() || !found.tables.is_empty();
        Ok((any.then_some(found), left))
    }

    /// One line about them.
    pub(super) fn describe(&self) -> String {
        let mut parts = self.tables.clone();
        parts.extend(
            self.publications
                .iter()
                .map(|name| format!("publication {name}")),
        );
        parts.extend(self.slot.iter().map(|name| format!("slot {name}")));
        format!(
            "PostgreSQL at {}: {}",
            self.settings.address(),
            parts.join(", ")
        )
    }

    /// Drops them.
    pub(super) fn remove(self) -> anyhow::Result<()> {
        let mut statements = String::new();
        for name in &self.publications {
            statements.push_str(&format!("DROP PUBLICATION IF EXISTS \"{name}\";"));
        }
        if !self.tables.is_empty() {
            statements.push_str(&format!("DROP TABLE {};", self.tables.join(", ")));
            statements.push_str("DROP SCHEMA IF EXISTS ftap;");
        }
        run(&self.settings, async |client| {
            // One transaction: all of it or nothing.
            client.batch_execute(&statements).await?;
            if let Some(slot) = &self.slot {
                let drop = "SELECT pg_drop_replication_slot($1)";
                client.execute(drop, &[slot]).await?;
            }
            Ok(())
        })
    }
}

/// Runs statements on one connection.
fn run<T>(
    settings: &PostgresSettings,
    work: impl AsyncFnOnce(&tokio_postgres::Client) -> Result<T, tokio_postgres::Error>,
) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the runtime can't be started")?
        .block_on(async {
            let pool = pool(settings)?;
            let client = connection(&pool, settings).await?;
            let done = work(&client).await;
            done.map_err(|error| PostgresError::of(settings, &error).into())
        })
}
