//! One run: the ledger's row and the changes in one transaction.

use ftap_schedule::JobTick;
use ftap_supervision::failpoint;
use rand::seq::index;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio_postgres::Transaction;
use uuid::Uuid;
use xxhash_rust::xxh3::xxh3_64;

use super::values::{self, Field};
use super::{JOB, UpdateSettings};
use crate::{OpenDatabase, PostgresError};

/// Runs older than this are forgotten: no tick comes so late.
const LEDGER_DAYS: i32 = 90;

/// The result of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Applied {
    /// It changed users.
    Now {
        /// Which column.
        field: &'static str,
        /// Users changed.
        count: u64,
        users: u64,
    },
    /// This tick had been applied before.
    Before,
    NoUsers,
}

/// Applies a tick, unless it has been applied.
pub(super) async fn apply(
    database: &OpenDatabase,
    settings: UpdateSettings,
    tick: JobTick,
) -> Result<Applied, PostgresError> {
    let mut client = database.connection().await?;
    let failed = |error| database.error(&error);
    let transaction = client.transaction().await.map_err(failed)?;
    // A run of the same tick elsewhere makes this wait for its end; its row decides.
    let entered = transaction
        .execute(
            "INSERT INTO ftap.job_runs (job, tick, rows_changed, detail) VALUES ($1, $2, 0, '') ON CONFLICT DO NOTHING",
            &[&JOB, &tick.scheduled],
        )
        .await
        .map_err(failed)?;
    if entered == 0 {
        return Ok(Applied::Before);
    }
    // In an order of its own, so that the choice follows from the seed and two runs lock alike.
    let rows = transaction
        .query("SELECT user_id FROM public.users ORDER BY user_id", &[])
        .await
        .map_err(failed)?;
    let users: Vec<Uuid> = rows
        .iter()
        .map(|row| row.try_get(0))
        .collect::<Result<_, _>>()
        .map_err(|error| database.other_schema("users.user_id", &error))?;
    if users.is_empty() {
        // Rolled back with the ledger's row: the tick counts once there are users to change.
        return Ok(Applied::NoUsers);
    }
    let mut random = random(settings.seed, tick);
    let field = Field::ALL[random.random_range(0..Field::ALL.len())];
    let chosen = choose(&users, settings.share, &mut random);
    let changed = change(&transaction, field, &chosen, &mut random)
        .await
        .map_err(failed)?;
    if changed != chosen.len() as u64 {
        // Users were deleted in between; the next try sees the table as it is then.
        return Err(database.conflict("users were deleted while they were changed"));
    }
    let detail = field.column();
    transaction
        .execute(
            "UPDATE ftap.job_runs SET rows_changed = $3, detail = $4 WHERE job = $1 AND tick = $2",
            &[
                &JOB,
                &tick.scheduled,
                &i64::try_from(changed).unwrap_or(i64::MAX),
                &detail,
            ],
        )
        .await
        .map_err(failed)?;
    transaction
        .execute(
            "DELETE FROM ftap.job_runs WHERE job = $1 AND applied_at < now() - make_interval(days => $2)",
            &[&JOB, &LEDGER_DAYS],
        )
        .await
        .map_err(failed)?;
    failpoint::hit("user_mutator_before_commit").map_err(PostgresError::Injected)?;
    transaction.commit().await.map_err(failed)?;
    failpoint::hit("user_mutator_after_commit").map_err(PostgresError::Injected)?;
    Ok(Applied::Now {
        field: field.column(),
        count: changed,
        users: users.len() as u64,
    })
}

fn random(seed: Option<u64>, tick: JobTick) -> ChaCha8Rng {
    match seed {
        Some(seed) => {
            let text = format!("{seed}/{JOB}/{}", tick.id());
            ChaCha8Rng::seed_from_u64(xxh3_64(text.as_bytes()))
        }
        None => ChaCha8Rng::seed_from_u64(rand::random()),
    }
}

/// The original's number: a share of the users rounded down, but one at least.
fn choose(users: &[Uuid], share: f64, random: &mut ChaCha8Rng) -> Vec<Uuid> {
    let wanted = (users.len() as f64 * share).floor() as usize;
    let wanted = wanted.clamp(1, users.len());
    let mut chosen = index::sample(random, users.len(), wanted).into_vec();
    chosen.sort_unstable();
    chosen.into_iter().map(|at| users[at]).collect()
}

async fn change(
    transaction: &Transaction<'_>,
    field: Field,
    users: &[Uuid],
    random: &mut ChaCha8Rng,
) -> Result<u64, tokio_postgres::Error> {
    let column = field.column();
    let statement = |kind: &str| {
        format!(
            "UPDATE public.users SET {column} = fresh.value FROM unnest($1::uuid[], $2::{kind}[]) AS fresh(user_id, value) \
             WHERE users.user_id = fresh.user_id"
        )
    };
    match field {
        Field::Zip => {
            let zips: Vec<i32> = users.iter().map(|_| values::zip(random)).collect();
            transaction
                .execute(&statement("int"), &[&users, &zips])
                .await
        }
        Field::City | Field::Job => {
            let texts: Vec<&str> = users.iter().map(|_| field.text(random)).collect();
            transaction
                .execute(&statement("text"), &[&users, &texts])
                .await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(users: usize, share: f64) -> usize {
        let users: Vec<_> = (0..users as u128).map(Uuid::from_u128).collect();
        let chosen = choose(&users, share, &mut ChaCha8Rng::seed_from_u64(1));
        let mut unique = chosen.clone();
        unique.dedup();
        assert_eq!(unique, chosen, "no user is chosen twice");
        chosen.len()
    }

    #[test]
    fn as_many_are_chosen_as_in_the_original() {
        assert_eq!(count(983, 0.01), 9);
        assert_eq!(count(983, 0.0), 1);
        assert_eq!(count(983, 1.0), 983);
        assert_eq!(count(50, 0.01), 1);
        assert_eq!(count(1, 0.5), 1);
    }
}
