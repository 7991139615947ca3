//! What values are of use in a query. One set of rules for whatever writes or takes them: `prepare`, the publisher and
//! the consumer. Amounts are finite numbers: see [`original_amount`](super::original_amount).

use chrono::NaiveDate;

/// What [`event_time`] takes, for errors.
pub const EVENT_TIME_FORM: &str = "YYYY-MM-DD HH:MM:SS";

/// Microseconds since 1970 of a time of the calendar, UTC, written as `YYYY-MM-DD HH:MM:SS`, from
/// year 1 on: databases have no year 0.
#[inline]
pub fn event_time(text: &[u8]) -> Option<i64> {
    let (day, &[b' ', h1, h2, b':', m1, m2, b':', s1, s2]) = text.split_at_checked(10)? else {
        return None;
    };
    let time = date(day)?.and_hms_opt(two(h1, h2)?, two(m1, m2)?, two(s1, s2)?)?;
    Some(time.and_utc().timestamp_micros())
}

/// A day of the calendar, written as `YYYY-MM-DD`, from year 1 on.
#[inline]
pub fn date(text: &[u8]) -> Option<NaiveDate> {
    let &[y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2] = text else {
        return None;
    };
    let year = two(y1, y2)? * 100 + two(y3, y4)?;
    let date = NaiveDate::from_ymd_opt(year as i32, two(m1, m2)?, two(d1, d2)?)?;
    (year > 0).then_some(date)
}

/// The number that two digits are.
#[inline(always)]
fn two(tens: u8, ones: u8) -> Option<u32> {
    let (tens, ones) = (tens.wrapping_sub(b'0'), ones.wrapping_sub(b'0'));
    (tens < 10 && ones < 10).then(|| u32::from(tens) * 10 + u32::from(ones))
}

/// Whether a text has nothing but white space.
#[inline]
pub fn is_blank(text: &str) -> bool {
    let begins_plainly = |byte: &u8| (b'!'..0x80).contains(byte);
    !text.as_bytes().first().is_some_and(begins_plainly) && text.trim().is_empty()
}

/// Whether a text says something, and databases take it: none takes a zero byte.
#[inline]
pub(super) fn is_text(text: &str) -> bool {
    !is_blank(text) && !text.as_bytes().contains(&0)
}

/// Whether a number is one of the two that `is_fraud` has.
pub(super) fn is_flag(number: i64) -> bool {
    matches!(number, 0 | 1)
}

/// Whether a text has the form of an ISO 4217 code.
pub(super) fn is_currency(text: &str) -> bool {
    text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_time_is_a_time_of_the_calendar() {
        for (text, micros) in [
            ("1970-01-01 00:00:00", 0),
            ("2019-01-01 00:00:18", 1_546_300_818_000_000),
            ("2020-02-29 23:59:59", 1_583_020_799_000_000),
            ("0001-01-01 00:00:00", -62_135_596_800_000_000),
            ("9999-12-31 23:59:59", 253_402_300_799_000_000),
        ] {
            assert_eq!(event_time(text.as_bytes()), Some(micros), "{text}");
        }
        for text in [
            "",
            "yesterday",
            "2019-02-29 00:00:00",
            "2019-01-01",
            "2019-01-01T00:00:00",
            "2019-13-01 00:00:00",
            "2019-01-01 24:00:00",
            "2019-01-01 00:60:00",
            "2019-01-01 00:00:60",
            "2019-01-01 00:00:00Z",
            "2019-1-1 0:0:0",
            "2019-00-10 00:00:00",
            "2019-04-31 00:00:00",
            "0000-01-01 00:00:00",
            "äöü9-04-31 00:00:00",
        ] {
            assert_eq!(event_time(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn a_text_is_not_blank_and_has_no_zero_byte() {
        for text in ["a", " a", "\u{a0}a", "ä", "\u{1}"] {
            assert!(is_text(text), "{text:?}");
        }
        for text in ["", " ", "\t\n", "\u{a0}\u{2003}", "\0", "a\0"] {
            assert!(!is_text(text), "{text:?}");
        }
    }

    #[test]
    fn a_currency_is_three_capital_letters() {
        assert!(is_currency("EUR"));
        for text in ["", "EU", "EURO", "eur", "E R", "ÄÖ", "123"] {
            assert!(!is_currency(text), "{text}");
        }
    }
}
