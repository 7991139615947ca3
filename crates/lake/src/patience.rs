//! Trying a request of the lake again, for callers that are not actors.

use std::time::{Duration, Instant};

use crate::error::LakeError;

const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Repeats `request` until it succeeds, fails with an error that no retry can fix, or `limit` has
/// passed; then the last error is returned.
pub async fn patiently<T, F>(
    limit: Duration,
    mut request: impl FnMut() -> F,
) -> Result<T, LakeError>
where
    F: Future<Output = Result<T, LakeError>>,
{
    let end = Instant::now() + limit;
    let mut pause = FIRST_PAUSE;
    loop {
        match request().await {
            Err(error) if error.retry().helps() && Instant::now() + pause < end => {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            done => return done,
        }
    }
}
