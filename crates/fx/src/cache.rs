//! The last answer, kept over restarts: rates change daily, schedules run every few minutes.
//!
//! Losing the file costs one request, nothing else; a file that can't be read counts as none.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::Path;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{CURRENCIES, Provider, Rates};

#[derive(Serialize, Deserialize)]
struct Entry {
    /// A hash of the address that it is from: another address' answer is not ours. The address itself
    /// may contain a key. Another version of the program may hash otherwise, which costs a request.
    api: u64,
    at: i64,
    rates: [f64; CURRENCIES.len()],
}

fn hash(api_url: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    api_url.hash(&mut hasher);
    hasher.finish()
}

/// The answer of `api_url` if it is younger than `cache_time`.
pub fn load(path: &Path, api_url: &str, cache_time: Duration, now: DateTime<Utc>) -> Option<Rates> {
    let entry: Entry = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
    let age = now.timestamp().checked_sub(entry.at)?;
    // An answer of the future: the clock was wrong then, or is now.
    let is_young = u64::try_from(age).is_ok_and(|age| age < cache_time.as_secs());
    if !is_young || entry.api != hash(api_url) {
        return None;
    }
    Rates::new(entry.rates, Provider::FreeCurrencyApi).ok()
}

/// Keeps an answer, by rename.
pub fn save(path: &Path, api_url: &str, rates: &Rates, now: DateTime<Utc>) -> std::io::Result<()> {
    let mut values = [0.0; CURRENCIES.len()];
    for (value, (_, rate)) in values.iter_mut().zip(rates.iter()) {
        *value = rate;
    }
    let text = serde_json::to_vec(&Entry {
        api: hash(api_url),
        at: now.timestamp(),
        rates: values,
    })?;
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let temporary = path.with_extension("json.tmp");
    std::fs::write(&temporary, text)?;
    std::fs::rename(&temporary, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_stands_for_its_time_and_its_address() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("sub/fx.json");
        let rates =
            Rates::new([0.9, 6.8, 10.5, 10.4], Provider::FreeCurrencyApi).expect("positive");
        let now = DateTime::from_timestamp(1_000_000, 0).expect("in range");
        let hour = Duration::from_secs(3600);
        save(&path, "https://a", &rates, now).expect("written");
        let text = std::fs::read_to_string(&path).expect("written");
        assert!(!text.contains("https"), "{text}");
        let after = |seconds| now + chrono::TimeDelta::seconds(seconds);
        assert_eq!(load(&path, "https://a", hour, after(3599)), Some(rates));
        assert_eq!(load(&path, "https://a", hour, after(3600)), None);
        assert_eq!(load(&path, "https://a", hour, after(-1)), None);
        assert_eq!(load(&path, "https://b", hour, now), None);
        assert_eq!(load(&path, "https://a", Duration::ZERO, now), None);
        std::fs::write(&path, "{").expect("written");
        assert_eq!(load(&path, "https://a", hour, now), None);
    }
}
