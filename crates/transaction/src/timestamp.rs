//! What the lake keeps of a record's Kafka timestamp.

/// What Kafka gives for a record without a timestamp.
pub const NO_TIMESTAMP: i64 = -1;
/// 1900-01-01: Spark refuses what is older, as it may be of another calendar.
const OLDEST_MS: i64 = -2_208_988_800_000;
/// 2262-01-01: readers that count nanoseconds in 64 bits end in that year, Python's in the year 9999.
const END_MS: i64 = 9_214_646_400_000;

/// The timestamp, in Unix milliseconds, if the record has one and every reader of the lake can show it.
/// A producer that counts microseconds or nanoseconds gives others.
pub fn plausible_timestamp(timestamp_ms: i64) -> Option<i64> {
    let is_one = (OLDEST_MS..END_MS).contains(&timestamp_ms) && timestamp_ms != NO_TIMESTAMP;
    is_one.then_some(timestamp_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_readers_can_show_is_kept_and_nothing_else() {
        let (day_before_1970, now) = (-86_400_000, 1_700_000_000_000);
        for kept in [OLDEST_MS, day_before_1970, -2, 0, 1, now, END_MS - 1] {
            assert_eq!(plausible_timestamp(kept), Some(kept));
        }
        let in_microseconds = now * 1000;
        let beyond = [
            i64::MIN,
            OLDEST_MS - 1,
            END_MS,
            in_microseconds,
            1 << 62,
            i64::MAX,
        ];
        for refused in beyond.into_iter().chain([NO_TIMESTAMP]) {
            assert_eq!(plausible_timestamp(refused), None);
        }
    }
}
