//! How long a replay of the events file takes: its rows and the time they cover.
//!
//! The file is counted on a thread of its own while rows are published already.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ftap_actors::settings::Pace;
use ftap_telemetry::metrics;

/// The replay of one events file.
#[derive(Clone, Debug)]
pub(crate) struct Replay {
    /// How fast it goes.
    pub pace: Pace,
    /// Known when the file has been counted.
    figures: Arc<OnceLock<Figures>>,
}

/// What an events file holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Figures {
    rows: u64,
    /// From the first row's `unix_time` to the last one's, in seconds.
    seconds: u64,
}

impl Replay {
    /// Counts the file; this many of its rows will be published, `limit` at most.
    pub(crate) fn start(file: PathBuf, pace: Pace, limit: Option<u64>) -> Self {
        let figures = Arc::<OnceLock<Figures>>::default();
        let counted = figures.clone();
        // A file that can't be counted is reported by the stage that publishes it.
        let _ = std::thread::Builder::new()
            .name("count-events".to_owned())
            .spawn(move || {
                if let Ok(figures) = count(&file) {
                    let total = figures.rows.min(limit.unwrap_or(u64::MAX));
                    metrics::PUBLISH_TOTAL.set(total as f64);
                    let _ = counted.set(figures);
                }
            });
        Self { pace, figures }
    }

    /// Time until `total` rows of the file are published, at the pace that is set or, at full
    /// speed, at so many rows per second. `None` while it is unknown.
    pub(crate) fn time_left(&self, done: u64, total: u64, per_second: u64) -> Option<Duration> {
        let figures = self.figures.get()?;
        let left = total.checked_sub(done).filter(|left| *left > 0)?;
        let seconds = match self.pace {
            Pace::Max if per_second == 0 => return None,
            Pace::Max => left as f64 / per_second as f64,
            // The rows that are left are taken to be spread over the time as all of them are.
            Pace::Speed(speed) => {
                left as f64 / figures.rows.max(1) as f64 * figures.seconds as f64 / speed
            }
        };
        Duration::try_from_secs_f64(seconds).ok()
    }
}

/// Longer than any row.
const EDGE_BYTES: u64 = 64 * 1024;

fn count(path: &Path) -> io::Result<Figures> {
    let mut file = File::open(path)?;
    let size = file.metadata()?.len();
    let (head, tail) = (
        edge(&mut file, 0)?,
        edge(&mut file, size.saturating_sub(EDGE_BYTES))?,
    );
    file.seek(SeekFrom::Start(0))?;
    let mut buffer = vec![0; 256 * 1024];
    let mut lines = 0;
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            length => lines += memchr::memchr_iter(b'\n', &buffer[..length]).count() as u64,
        }
    }
    // The last row may lack its line end; the first line is the header.
    let has_end = tail.last().is_none_or(|byte| *byte == b'\n');
    let rows = (lines + u64::from(!has_end)).saturating_sub(1);
    let first = head.split(|byte| *byte == b'\n').nth(1).and_then(unix_time);
    let last = tail
        .rsplit(|byte| *byte == b'\n')
        .find(|line| !line.is_empty());
    let seconds = match (first, last.and_then(unix_time)) {
        (Some(first), Some(last)) => last.saturating_sub(first).max(0).unsigned_abs(),
        _ => 0,
    };
    Ok(Figures { rows, seconds })
}

/// The bytes from `start` on, [`EDGE_BYTES`] at most.
fn edge(file: &mut File, start: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(start))?;
    file.take(EDGE_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The last but one field.
fn unix_time(row: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(row).ok()?;
    text.trim_end().rsplit(';').nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_time_left_follows_from_the_pace_and_the_time_that_the_rows_cover() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let row = |time: u64| format!("2019-01-01 00:00:18;u;m;c;1.5;n;{time};0\n");
        let text: String = (0..=100).map(|step| row(1_000_000 + step * 864)).collect();
        std::fs::write(file.path(), format!("header\n{}", text.trim_end())).unwrap();
        let figures = count(file.path()).unwrap();
        assert_eq!(
            figures,
            Figures {
                rows: 101,
                seconds: 86_400
            }
        );
        let replay = |pace| Replay {
            pace,
            figures: Arc::new(OnceLock::from(figures)),
        };
        let slow = replay(Pace::Speed(1.0));
        assert_eq!(slow.time_left(0, 101, 0), Some(Duration::from_secs(86_400)));
        assert_eq!(slow.time_left(101, 101, 0), None);
        let fast = replay(Pace::Max);
        assert_eq!(fast.time_left(1, 101, 10), Some(Duration::from_secs(10)));
        assert_eq!(fast.time_left(1, 101, 0), None);
    }
}
