//! Makes the tables and loads users and merchants, as often as it is asked: a repeat changes nothing.

use std::path::PathBuf;

use deadpool_postgres::{Object, Pool};

use super::load::{self, Loaded, MERCHANTS, USERS};
use super::{PostgresError, PostgresFailure, PostgresSettings, shape};

/// What the container of docker compose runs as well, in the same order.
const SCRIPTS: [&str; 2] = [
    include_str!("../../../init/01_schema.sql"),
    include_str!("../../../init/02_publication.sql"),
];
/// Keeps two processes from preparing at once; an arbitrary number that other programs do not use.
const ADVISORY_LOCK: i64 = 0x0066_7461_7000_0001;
const AIRBYTE_SLOT: &str = "airbyte_slot";

/// What must exist.
#[derive(Clone, Debug, Default)]
pub struct Preparation {
    /// Prepared users; a file that does not exist is passed over.
    pub users_file: PathBuf,
    /// Prepared merchants; a file that does not exist is passed over.
    pub merchants_file: PathBuf,
    pub airbyte_slot: bool,
}

/// What a preparation did.
#[derive(Debug, Default)]
pub struct Prepared {
    pub server_version: String,
    /// What was loaded into which table; nothing if it was loaded before.
    pub loaded: Vec<Loaded>,
    /// Why the files could not be loaded, if one of them is to blame: the tables are there all the same.
    pub refused: Option<PostgresError>,
}

/// Makes schema, tables, publication and, if asked for, the slot; then loads the files, without which
/// the tables are of use as well.
pub async fn prepare(
    pool: &Pool,
    settings: &PostgresSettings,
    preparation: &Preparation,
) -> Result<Prepared, PostgresError> {
    let mut client = connection(pool, settings).await?;
    let failed = |error: tokio_postgres::Error| PostgresError::of(settings, &error);
    let version = client
        .query_one("SHOW server_version", &[])
        .await
        .map_err(failed)?;
    let transaction = client.transaction().await.map_err(failed)?;
    transaction
        .execute("SELECT pg_advisory_xact_lock($1)", &[&ADVISORY_LOCK])
        .await
        .map_err(failed)?;
    for script in SCRIPTS {
        transaction.batch_execute(script).await.map_err(failed)?;
    }
    transaction.commit().await.map_err(failed)?;
    if preparation.airbyte_slot {
        create_slot(&client, settings).await?;
    }
    let (loaded, refused) = match load_files(&mut client, settings, preparation).await {
        Ok(loaded) => (loaded, None),
        Err(error) if error.kind() == PostgresFailure::BadFile => (Vec::new(), Some(error)),
        Err(error) => return Err(error),
    };
    Ok(Prepared {
        server_version: version.get(0),
        loaded,
        refused,
    })
}

/// Loads the files that were not loaded yet, in one transaction; for one that appears later, too.
pub async fn load(
    pool: &Pool,
    settings: &PostgresSettings,
    preparation: &Preparation,
) -> Result<Vec<Loaded>, PostgresError> {
    let mut client = connection(pool, settings).await?;
    load_files(&mut client, settings, preparation).await
}

async fn load_files(
    client: &mut Object,
    settings: &PostgresSettings,
    preparation: &Preparation,
) -> Result<Vec<Loaded>, PostgresError> {
    let files = [
        (&USERS, &preparation.users_file),
        (&MERCHANTS, &preparation.merchants_file),
    ];
    let failed = |error: tokio_postgres::Error| PostgresError::of(settings, &error);
    let transaction = client.transaction().await.map_err(failed)?;
    transaction
        .execute("SELECT pg_advisory_xact_lock($1)", &[&ADVISORY_LOCK])
        .await
        .map_err(failed)?;
    for (table, _) in files {
        shape::check(&transaction, settings, table).await?;
    }
    let mut all = Vec::new();
    for (table, file) in files {
        all.extend(load::load(&transaction, settings, table, file).await?);
    }
    transaction.commit().await.map_err(failed)?;
    Ok(all)
}

pub async fn connection(pool: &Pool, settings: &PostgresSettings) -> Result<Object, PostgresError> {
    pool.get()
        .await
        .map_err(|error| PostgresError::of_pool(settings, &error))
}

/// A slot can't be made in a transaction that has written something.
async fn create_slot(client: &Object, settings: &PostgresSettings) -> Result<(), PostgresError> {
    let created = client
        .execute(
            "SELECT pg_create_logical_replication_slot($1::name, 'pgoutput') \
             WHERE NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = $1::name)",
            &[&AIRBYTE_SLOT],
        )
        .await;
    match created {
        Ok(_) => Ok(()),
        // Another process was quicker.
        Err(error) if error.code() == Some(&tokio_postgres::error::SqlState::DUPLICATE_OBJECT) => {
            Ok(())
        }
        Err(error) => Err(PostgresError::of(settings, &error)),
    }
}
