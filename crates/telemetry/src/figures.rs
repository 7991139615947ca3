//! How figures look to people.

use std::time::Duration;

/// `1,296,675`
pub fn count(value: u64) -> String {
    grouped(&value.to_string())
}

/// The digits of a whole number, which may have a sign, with separators.
pub fn grouped(digits: &str) -> String {
    let (sign, digits) = match digits.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", digits),
    };
    let mut text = sign.to_owned();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `37.1 MB`, in powers of 1000.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["kB", "MB", "GB", "TB", "PB"];
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1000.0;
    let mut unit = 0;
    while value >= 999.95 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// `42 %`, rounded down and three digits wide: 100 only when all is done.
pub fn percent(done: u64, total: u64) -> String {
    let share = match total {
        0 => 100,
        total => u128::from(done.min(total)) * 100 / u128::from(total),
    };
    format!("{share:>3} %")
}

/// `5 d 3 h`, `12 min`, `45 s`: the two largest units at most.
pub fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, minutes) => format!("{minutes} min"),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, hours, _) => format!("{} d {hours} h", count(days)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_grouped_and_scaled() {
        assert_eq!(count(0), "0");
        assert_eq!(count(999), "999");
        assert_eq!(count(1_296_675), "1,296,675");
        assert_eq!(grouped("-1234567"), "-1,234,567");
        assert_eq!(size(999), "999 B");
        assert_eq!(size(37_100_000), "37.1 MB");
        assert_eq!(size(999_999), "1.0 MB");
        assert_eq!(size(u64::MAX), "18446.7 PB");
        assert_eq!(percent(1, 1_296_675), "  0 %");
        assert_eq!(percent(1_296_674, 1_296_675), " 99 %");
        assert_eq!(percent(0, 0), "100 %");
        assert_eq!(duration(Duration::from_secs(59)), "59 s");
        assert_eq!(duration(Duration::from_secs(3_660)), "1 h 1 min");
        assert_eq!(duration(Duration::from_secs(463_000)), "5 d 8 h");
    }
}
