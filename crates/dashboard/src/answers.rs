//! Answers about the lake, for the pages.
//!
//! One [`Moment`] of the lake serves all pages until the lake has changed and a page is loaded: then a new
//! one takes its place. Queries run on threads of their own. Pages that are open learn of a new moment seldom while
//! the process has other work, so that they cost it little.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ftap_lake::{LakeError, LakeLocation, LakeStore};
use ftap_query::{Engine, Limits, QueryError, STACK_BYTES, Source};
use tokio::runtime::Runtime;
use tokio::sync::{Mutex, OnceCell};
use tokio::task::JoinError;
use tokio::time::Instant;

use crate::holdings::{Held, Holdings};
use crate::rows::Rows;

/// The lake is listed at most this often.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);
const THREADS: usize = 2;
/// How many times as long as the answers of a moment took it is shown, if the process has other work.
const PACE: u32 = 50;
/// Answers that are kept: filters make new ones without end.
const MAX_KEPT: usize = 256;
/// Rows of an answer that a page shows, or a chart draws.
pub(crate) const MAX_ROWS: usize = 2_000;

/// The lake, to be asked.
pub struct Answers {
    location: LakeLocation,
    /// Once it was there.
    lake: OnceLock<LakeStore>,
    sources: Vec<Source>,
    limits: Limits,
    newest: parking_lot::Mutex<Option<Newest>>,
    /// Held by the request that looks whether the lake has changed.
    looking: Mutex<()>,
    holdings: Arc<Holdings>,
    /// `None` only while it is dropped.
    runtime: Option<Runtime>,
}

#[derive(Clone)]
struct Newest {
    moment: Arc<Moment>,
    looked: Instant,
}

/// What the lake had at one time.
pub(crate) struct Moment {
    /// Counts the moments of this process.
    pub number: u64,
    pub engine: Engine,
    taken: Instant,
    /// What its answers took so far, in microseconds.
    spent_us: AtomicU64,
    /// Answers by their statement.
    answers: parking_lot::Mutex<HashMap<String, Arc<OnceCell<Arc<Rows>>>>>,
}

impl Moment {
    fn new(number: u64, engine: Engine) -> Arc<Self> {
        Arc::new(Self {
            number,
            engine,
            taken: Instant::now(),
            spent_us: AtomicU64::new(0),
            answers: parking_lot::Mutex::default(),
        })
    }

    /// Whether another one would come so soon that answers took more than their share of the time.
    fn is_young(&self) -> bool {
        let spent = Duration::from_micros(self.spent_us.load(Ordering::Relaxed));
        is_young(self.taken.elapsed(), spent)
    }

    fn spent(&self, since: Instant) {
        let spent = u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.spent_us.fetch_add(spent, Ordering::Relaxed);
    }

    /// The answer, computed once.
    async fn rows(&self, sql: &str) -> Result<Arc<Rows>, QueryError> {
        let cell = {
            let mut answers = self.answers.lock();
            if answers.len() >= MAX_KEPT {
                answers.clear();
            }
            answers.entry(sql.to_owned()).or_default().clone()
        };
        let rows = cell
            .get_or_try_init(|| async {
                let began = Instant::now();
                let answer = self.engine.query(sql).await?;
                let rows = Rows::read(answer, MAX_ROWS).await?;
                self.spent(began);
                Ok::<_, QueryError>(Arc::new(rows))
            })
            .await?;
        Ok(rows.clone())
    }
}

impl Answers {
    /// Nothing is read yet: the lake may come later. Each thread begins with `on_thread_start`, such as to yield to others.
    ///
    /// # Errors
    /// If the threads can't be started.
    pub fn new(
        location: LakeLocation,
        sources: Vec<Source>,
        limits: Limits,
        on_thread_start: fn(),
    ) -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("query")
            .thread_stack_size(STACK_BYTES)
            .on_thread_start(on_thread_start)
            .enable_all()
            .build()?;
        Ok(Self {
            location,
            lake: OnceLock::new(),
            sources,
            limits,
            newest: parking_lot::Mutex::default(),
            looking: Mutex::default(),
            holdings: Arc::default(),
            runtime: Some(runtime),
        })
    }

    /// What the lake has now, as of the last look. While one request looks, the others have the moment before.
    pub(crate) async fn moment(&self) -> Result<Arc<Moment>, QueryError> {
        let last = self.newest.lock().clone();
        let _looking = match (last, self.looking.try_lock()) {
            (Some(last), _) if last.looked.elapsed() < LOOK_INTERVAL => return Ok(last.moment),
            (Some(last), Err(_busy)) => return Ok(last.moment),
            (_, Ok(looking)) => looking,
            (None, Err(_busy)) => self.looking.lock().await,
        };
        let lake = self.lake()?;
        let last = self.newest.lock().clone();
        let moment = match last {
            None => Moment::new(1, Engine::open(lake, &self.sources, self.limits).await?),
            Some(last) if last.looked.elapsed() < LOOK_INTERVAL => return Ok(last.moment),
            Some(last) if last.moment.engine.is_current(lake).await? => last.moment,
            Some(last) => {
                let (number, lake) = (last.moment.number + 1, lake.clone());
                let engine = self.spawn(async move { last.moment.engine.reopen(&lake).await });
                Moment::new(number, engine.await?)
            }
        };
        *self.newest.lock() = Some(Newest {
            moment: moment.clone(),
            looked: Instant::now(),
        });
        Ok(moment)
    }

    /// The number of the moment that open pages are to show: of the one they show already if that is young and the
    /// process `is_busy`.
    pub(crate) async fn number(&self, is_busy: bool) -> Result<u64, QueryError> {
        let newest = self.newest.lock().clone();
        match newest {
            Some(last) if is_busy && last.moment.is_young() => Ok(last.moment.number),
            _ => Ok(self.moment().await?.number),
        }
    }

    /// The lake, once it is there.
    pub(crate) fn lake(&self) -> Result<&LakeStore, LakeError> {
        Ok(match self.lake.get() {
            Some(lake) => lake,
            None => {
                let opened = LakeStore::open_to_read(&self.location)?;
                self.lake.get_or_init(|| opened)
            }
        })
    }

    /// The objects and chains of the moment.
    pub(crate) async fn held(&self) -> Result<Arc<Held>, QueryError> {
        let moment = self.moment().await?;
        let (holdings, lake) = (self.holdings.clone(), self.lake()?.clone());
        let held = self.spawn(async move { holdings.held(&moment, &lake).await });
        Ok(held.await)
    }

    /// At most [`MAX_ROWS`] rows of an answer, computed once for a moment of the lake.
    pub(crate) async fn rows(&self, sql: &str) -> Result<Arc<Rows>, QueryError> {
        let moment = self.moment().await?;
        let sql = sql.to_owned();
        self.spawn(async move { moment.rows(&sql).await }).await
    }

    /// At most `limit` rows of an answer that is not kept, since hardly another page asks the same.
    pub(crate) async fn once(&self, sql: String, limit: usize) -> Result<Rows, QueryError> {
        let moment = self.moment().await?;
        let rows = self.spawn(async move {
            let answer = moment.engine.query(&sql).await?;
            Rows::read(answer, limit).await
        });
        rows.await
    }

    /// Runs on the queries' threads.
    pub(crate) async fn spawn<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> T {
        let runtime = self.runtime.as_ref();
        let runtime = runtime.expect("the runtime is taken by drop only");
        match runtime.spawn(work).await.map_err(JoinError::try_into_panic) {
            Ok(done) => done,
            Err(Ok(panic)) => std::panic::resume_unwind(panic),
            // The process ends, and the client with it.
            Err(Err(_stopped)) => std::future::pending().await,
        }
    }
}

fn is_young(age: Duration, spent: Duration) -> bool {
    age < spent.saturating_mul(PACE)
}

impl Drop for Answers {
    fn drop(&mut self) {
        // The place it is dropped in must not wait for a query.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_that_took_a_second_are_shown_for_fifty() {
        let second = Duration::from_secs(1);
        assert!(is_young(49 * second, second));
        assert!(!is_young(50 * second, second));
        assert!(!is_young(Duration::ZERO, Duration::ZERO));
        assert!(is_young(second, Duration::MAX));
    }
}
