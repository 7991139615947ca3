//! What applications do to users and merchants, for as long as it is asked: rows and keys change,
//! amounts move between merchants, tables get other names and columns.
//!
//! Promises: each transaction of merchants keeps the sum of their amounts, [`TOTAL`]; at the end the
//! tables have their names again.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, bail};
use ftap_postgres::cluster::ClusterAddress;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

const SCHEMA: &str = include_str!("../../init/01_schema.sql");
const MERCHANTS: u32 = 40;
const AMOUNT: u32 = 1_000;
/// What all merchants have together.
pub(crate) const TOTAL: u32 = MERCHANTS * AMOUNT;
const USERS: u32 = 300;
const PAUSE: Duration = Duration::from_millis(15);
/// Columns that are added at most.
const MOST_COLUMNS: u32 = 6;
/// Undoes what a killed server left half done.
const REPAIR: &str = "ALTER TABLE IF EXISTS public.users_away RENAME TO users";

/// See the module.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<Mutex<BTreeMap<&'static str, u64>>>,
    thread: Option<JoinHandle<()>>,
}

impl Load {
    /// Makes the tables and begins.
    pub(crate) fn start(address: ClusterAddress, seed: u64) -> anyhow::Result<Self> {
        let rows = format!(
            "{SCHEMA};
            INSERT INTO public.users (user_id, first_name, city, zip, dob) SELECT gen_random_uuid(),
                'n' || i, 'c' || i % 7, i, date '1970-01-01' + i FROM generate_series(1, {USERS}) i;
            INSERT INTO public.merchants (merchant, merch_zipcode) SELECT 'm' || i, {AMOUNT}
                FROM generate_series(1, {MERCHANTS}) i"
        );
        sql(&address, &rows)?;
        let stop = Arc::new(AtomicBool::new(false));
        let done: Arc<Mutex<BTreeMap<&'static str, u64>>> = Arc::default();
        let (asked, counts) = (Arc::clone(&stop), Arc::clone(&done));
        let thread = std::thread::spawn(move || {
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            while !asked.load(SeqCst) {
                // A server that is away comes back.
                let _ = with_client(&address, async |client| {
                    client.batch_execute(REPAIR).await?;
                    while !asked.load(SeqCst) {
                        let (kind, statements) = transaction(&mut random);
                        match client.batch_execute(&statements).await {
                            Ok(()) => {
                                let mut counts = counts.lock().unwrap_or_else(|e| e.into_inner());
                                *counts.entry(kind).or_default() += 1;
                            }
                            Err(error) if client.is_closed() => return Err(error),
                            // Such as two merchants of one name.
                            Err(_) => client.batch_execute("ROLLBACK").await?,
                        }
                        tokio::time::sleep(PAUSE).await;
                    }
                    client.batch_execute(REPAIR).await
                });
                std::thread::sleep(PAUSE);
            }
        });
        Ok(Self {
            stop,
            done,
            thread: Some(thread),
        })
    }

    /// How many transactions of each kind were committed.
    pub(crate) fn done(&self) -> BTreeMap<&'static str, u64> {
        self.done.lock().unwrap_or_else(|e| e.into_inner()).clone()
    }

    /// Ends it. The server must be there.
    pub(crate) fn stop(&mut self) -> anyhow::Result<()> {
        self.stop.store(true, SeqCst);
        match self.thread.take().map(JoinHandle::join) {
            Some(Err(_)) => bail!("the load on PostgreSQL panicked"),
            _ => Ok(()),
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, SeqCst);
    }
}

/// One transaction, and what it does.
fn transaction(random: &mut ChaCha8Rng) -> (&'static str, String) {
    let some_user = "(SELECT user_id FROM public.users ORDER BY random() LIMIT 1)";
    let number: u32 = random.random_range(0..1_000_000);
    match random.random_range(0..200) {
        0..50 => {
            let amount = random.random_range(1..50);
            let change = |sign: char, order: &str| {
                format!(
                    "UPDATE public.merchants SET merch_zipcode = merch_zipcode {sign} {amount}
                    WHERE merchant = (SELECT merchant FROM public.merchants ORDER BY {order} LIMIT 1);"
                )
            };
            let (from, to) = (change('-', "random()"), change('+', "random()"));
            ("transfer", format!("BEGIN; {from} {to} COMMIT"))
        }
        50..90 => (
            "insert",
            format!("INSERT INTO public.users (user_id, first_name, city, zip, dob) VALUES (gen_random_uuid(), 'i{number}', NULL, {number}, '2001-02-03')"),
        ),
        90..140 => (
            "update",
            format!("UPDATE public.users SET city = 'u{number}' WHERE user_id = {some_user}"),
        ),
        140..165 => (
            "delete",
            format!("DELETE FROM public.users WHERE user_id = {some_user}"),
        ),
        165..178 => (
            "key_change",
            format!("UPDATE public.users SET user_id = gen_random_uuid() WHERE user_id = {some_user}"),
        ),
        178..184 => (
            "key_change",
            format!("UPDATE public.merchants SET merchant = 'k{number}' WHERE merchant = (SELECT merchant FROM public.merchants ORDER BY random() LIMIT 1)"),
        ),
        184..188 => (
            "large_transaction",
            format!("UPDATE public.users SET job = 'j{number}'"),
        ),
        188..192 => (
            "rename",
            format!("ALTER TABLE public.users RENAME TO users_away; UPDATE public.users_away SET city = 'away{number}' WHERE user_id IN (SELECT user_id FROM public.users_away LIMIT 3); ALTER TABLE public.users_away RENAME TO users"),
        ),
        192..196 => (
            "rename",
            "BEGIN; ALTER TABLE public.users RENAME TO users_away; COMMIT; BEGIN; ALTER TABLE public.users_away RENAME TO users; COMMIT".to_owned(),
        ),
        196..198 => {
            let column = format!("extra_{}", number % MOST_COLUMNS);
            (
                "add_column",
                format!("ALTER TABLE public.users ADD COLUMN IF NOT EXISTS {column} TEXT; UPDATE public.users SET {column} = 'x{number}' WHERE user_id = {some_user}"),
            )
        }
        _ => {
            let kind = if number.is_multiple_of(2) { "BIGINT" } else { "INTEGER" };
            ("retype", format!("ALTER TABLE public.users ALTER COLUMN zip TYPE {kind}"))
        }
    }
}

/// A row as text, NULL as `None`.
pub(crate) type TextRow = Vec<Option<String>>;

/// Runs statements in a connection of their own; every row of all of them.
pub(crate) fn sql(address: &ClusterAddress, statements: &str) -> anyhow::Result<Vec<TextRow>> {
    let rows = with_client(address, async |client| {
        let messages = client.simple_query(statements).await?;
        let rows = messages.into_iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => {
                let values = (0..row.len()).map(|index| row.get(index).map(str::to_owned));
                Some(values.collect())
            }
            _ => None,
        });
        Ok(rows.collect())
    });
    rows.with_context(|| statements.chars().take(200).collect::<String>())
}

fn with_client<T>(
    address: &ClusterAddress,
    work: impl AsyncFnOnce(&Client) -> Result<T, tokio_postgres::Error>,
) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("a client of PostgreSQL")?;
    let mut config = tokio_postgres::Config::new();
    config
        .host(&address.host)
        .port(address.port)
        .user(&address.user)
        .password(&address.password)
        .dbname(&address.database)
        .connect_timeout(Duration::from_secs(5));
    let done = runtime.block_on(async {
        let (client, connection) = config.connect(NoTls).await?;
        tokio::spawn(connection);
        work(&client).await
    });
    Ok(done?)
}
