//! Which transactions a snapshot of the server shows.

use ftap_lake::Lsn;

/// Transaction numbers have 32 bits in the lake, and come again. Half of them take more log than
/// this, for each commit record has at least 16 bytes: closer to the snapshot no number has come twice.
const REUSE_BYTES: u64 = 16 << 31;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Visibility {
    /// The first transaction that had not ended, nor any after it.
    next: u32,
    /// Those before it that had not ended either.
    running: Vec<u32>,
    /// End of the log after the snapshot was taken: all that it shows was committed before.
    pub(super) end: Lsn,
}

impl Visibility {
    /// From the text of a `pg_snapshot`, such as `10:20:10,14,15`.
    pub(super) fn parse(text: &str, end: Lsn) -> Option<Self> {
        let number = |digits: &str| digits.parse::<u64>().ok().map(|number| number as u32);
        let mut parts = text.split(':');
        let (_, next, running) = (parts.next()?, parts.next()?, parts.next()?);
        let running = running.split(',').filter(|digits| !digits.is_empty());
        Some(Self {
            next: number(next)?,
            running: running.map(number).collect::<Option<_>>()?,
            end,
        })
    }

    /// Whether the snapshot shows a transaction that was committed at `commit`.
    pub(super) fn shows(&self, xid: u32, commit: Lsn) -> bool {
        if commit.0.saturating_add(REUSE_BYTES) < self.end.0 {
            return true;
        }
        let is_older = (self.next.wrapping_sub(xid) as i32) > 0;
        is_older && !self.running.contains(&xid)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_snapshot_shows_what_ended_before_it_also_across_the_end_of_the_numbers() {
        let end = Lsn(1 << 40);
        let near = Lsn(end.0 - 100);
        // 2^32 + 3 is the next number; 2 and 4294967290 had not ended.
        let seen = Visibility::parse("4294967290:4294967299:4294967290,4294967298", end).unwrap();
        for (xid, is_shown) in [
            (u32::MAX - 6, true),
            (u32::MAX - 5, false),
            (u32::MAX, true),
            (1, true),
            (2, false),
            (3, false),
            (4, false),
        ] {
            assert_eq!(seen.shows(xid, near), is_shown, "{xid}");
        }
        // The same number long ago was another transaction.
        assert!(seen.shows(4, Lsn(1)));
        assert!(Visibility::parse("7:7:", end).unwrap().shows(6, near));
        assert_eq!(Visibility::parse("7:7", end), None);
        assert_eq!(Visibility::parse("7:x:", end), None);
    }
}
