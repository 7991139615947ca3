//! Reads CSV records (RFC 4180, LF or CRLF) so that a broken one costs no other: a record whose
//! quoting is wrong is given back as that one line and reading continues at the next. This is why the
//! `csv` crate, which would swallow everything up to the next quote, does not read here; a property
//! test holds this reader to it on well-formed input.
//!
//! Memory is bounded by [`MAX_ROW_BYTES`], whatever the file holds.

use std::io::{self, Read};
use std::ops::Range;

use memchr::{memchr, memchr2};

/// A longer row is rejected: real rows have 300 bytes, and a quote left open must end somewhere.
pub(crate) const MAX_ROW_BYTES: usize = 64 * 1024;
/// How much of an overlong row is kept to show it.
const SAMPLE_BYTES: usize = 1024;
const BUFFER_BYTES: usize = 4 * MAX_ROW_BYTES;

/// Why a record could not be split.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Malformed {
    UnclosedQuote,
    StrayQuote,
    TooLong,
}

#[derive(Debug)]
pub(crate) struct Record<'a> {
    /// The line it begins at; the first is 1.
    pub(crate) line: u64,
    /// Its text without the line ending; of an overlong row the beginning.
    pub(crate) raw: &'a [u8],
    /// Its fields as ranges of `text`, or why there are none.
    pub(crate) fields: Result<&'a [Range<usize>], Malformed>,
    /// The fields' text, unquoted, a comma between each two.
    pub(crate) text: &'a [u8],
}

/// Reads records from `input`.
#[derive(Debug)]
pub(crate) struct RecordReader<R> {
    input: R,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    at_end: bool,
    next_line: u64,
    bytes_taken: u64,
    fields: Vec<Range<usize>>,
    unquoted: Vec<u8>,
}

impl<R: Read> RecordReader<R> {
    pub(crate) fn new(input: R) -> Self {
        Self {
            input,
            buffer: vec![0; BUFFER_BYTES],
            start: 0,
            end: 0,
            at_end: false,
            next_line: 1,
            bytes_taken: 0,
            fields: Vec::with_capacity(32),
            unquoted: Vec::new(),
        }
    }

    /// Bytes of the input behind the last record.
    pub(crate) fn bytes_taken(&self) -> u64 {
        self.bytes_taken
    }

    /// The first bytes of the input, for a look at what kind of file it is.
    pub(crate) fn peek(&mut self) -> io::Result<&[u8]> {
        while self.end - self.start < SAMPLE_BYTES && !self.at_end {
            self.fill()?;
        }
        Ok(&self.buffer[self.start..self.end])
    }

    /// Passes over `bytes` bytes that [`RecordReader::peek`] showed, such as a byte order mark.
    pub(crate) fn skip(&mut self, bytes: usize) {
        let bytes = bytes.min(self.end - self.start);
        self.start += bytes;
        self.bytes_taken += bytes as u64;
    }

    /// The next record that is not a blank line.
    pub(crate) fn next(&mut self) -> io::Result<Option<Record<'_>>> {
        loop {
            let Some(line_end) = self.find_line_end(0)? else {
                if self.start == self.end {
                    return Ok(None);
                }
                return self.overlong().map(Some);
            };
            let line = trim_line_end(&self.buffer[self.start..self.start + line_end]);
            if line.is_empty() {
                self.take(line_end, 1);
                continue;
            }
            if line.len() > MAX_ROW_BYTES {
                return self.overlong().map(Some);
            }
            if memchr(b'"', line).is_none() {
                split_plain(line, &mut self.fields);
                let raw = self.start..self.start + line.len();
                let line = self.take(line_end, 1);
                return Ok(Some(Record {
                    line,
                    raw: &self.buffer[raw.clone()],
                    fields: Ok(&self.fields),
                    text: &self.buffer[raw],
                }));
            }
            return self.quoted(line_end).map(Some);
        }
    }

    /// A record with a quote in it, which may extend over several lines.
    fn quoted(&mut self, first_line_end: usize) -> io::Result<Record<'_>> {
        let mut record_end = first_line_end;
        let mut lines = 1;
        let outcome = loop {
            let record = trim_line_end(&self.buffer[self.start..self.start + record_end]);
            match split_quoted(record, &mut self.fields, &mut self.unquoted) {
                Split::Complete => break Ok(()),
                Split::Stray if lines == 1 => break Err(Malformed::StrayQuote),
                Split::Stray => break Err(Malformed::UnclosedQuote),
                Split::Open => match self.find_line_end(record_end)? {
                    Some(end) if end > record_end && end <= MAX_ROW_BYTES => {
                        record_end = end;
                        lines += 1;
                    }
                    _ => break Err(Malformed::UnclosedQuote),
                },
            }
        };
        if outcome.is_err() {
            // Only the line with the fault is rejected; the next begins a new record.
            record_end = first_line_end;
            lines = 1;
        }
        let raw = trim_line_end(&self.buffer[self.start..self.start + record_end]);
        let raw = self.start..self.start + raw.len();
        let line = self.take(record_end, lines);
        Ok(Record {
            line,
            raw: &self.buffer[raw],
            fields: match outcome {
                Ok(()) => Ok(&self.fields),
                Err(malformed) => Err(malformed),
            },
            text: &self.unquoted,
        })
    }

    /// Passes over a line that does not fit, without keeping it.
    fn overlong(&mut self) -> io::Result<Record<'_>> {
        let sample = SAMPLE_BYTES.min(self.end - self.start);
        self.unquoted.clear();
        self.unquoted
            .extend_from_slice(&self.buffer[self.start..self.start + sample]);
        let line = self.next_line;
        self.next_line += 1;
        loop {
            let held = &self.buffer[self.start..self.end];
            let found = memchr(b'\n', held);
            let passed = found.map_or(held.len(), |at| at + 1);
            self.start += passed;
            self.bytes_taken += passed as u64;
            if found.is_some() || self.at_end {
                break;
            }
            self.fill()?;
        }
        Ok(Record {
            line,
            raw: &self.unquoted,
            fields: Err(Malformed::TooLong),
            text: &[],
        })
    }

    fn take(&mut self, bytes: usize, lines: u64) -> u64 {
        let line = self.next_line;
        self.start += bytes;
        self.bytes_taken += bytes as u64;
        self.next_line += lines;
        line
    }

    /// The end, behind its line feed, of the line that begins `from` bytes after the start; at the
    /// end of the input the end of what is there. None if that is too far away or nothing is left.
    fn find_line_end(&mut self, from: usize) -> io::Result<Option<usize>> {
        let mut searched = from;
        loop {
            let held = self.end - self.start;
            if let Some(at) = memchr(b'\n', &self.buffer[self.start + searched..self.end]) {
                return Ok(Some(searched + at + 1));
            }
            if self.at_end {
                return Ok((held > from).then_some(held));
            }
            // Two more than a row may have: its line ending does not count.
            if held > from + MAX_ROW_BYTES + 2 {
                return Ok(None);
            }
            searched = held;
            self.fill()?;
        }
    }

    fn fill(&mut self) -> io::Result<()> {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.end == self.buffer.len() {
            // Cannot be: callers stop at two rows' length. Growing keeps it correct if they change.
            self.buffer.resize(self.buffer.len() + MAX_ROW_BYTES, 0);
        }
        loop {
            match self.input.read(&mut self.buffer[self.end..]) {
                Ok(0) => {
                    self.at_end = true;
                    return Ok(());
                }
                Ok(bytes) => {
                    self.end += bytes;
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

fn trim_line_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

fn split_plain(line: &[u8], fields: &mut Vec<Range<usize>>) {
    fields.clear();
    let mut start = 0;
    for comma in memchr::memchr_iter(b',', line) {
        fields.push(start..comma);
        start = comma + 1;
    }
    fields.push(start..line.len());
}

enum Split {
    Complete,
    /// The text ends inside quotes.
    Open,
    /// A quote where none may be.
    Stray,
}

fn split_quoted(record: &[u8], fields: &mut Vec<Range<usize>>, unquoted: &mut Vec<u8>) -> Split {
    fields.clear();
    unquoted.clear();
    let mut rest = record;
    loop {
        let start = unquoted.len();
        if let Some(mut inside) = rest.strip_prefix(b"\"") {
            loop {
                let Some(quote) = memchr(b'"', inside) else {
                    return Split::Open;
                };
                unquoted.extend_from_slice(&inside[..quote]);
                inside = &inside[quote + 1..];
                let Some(escaped) = inside.strip_prefix(b"\"") else {
                    break;
                };
                unquoted.push(b'"');
                inside = escaped;
            }
            rest = inside;
            if !rest.is_empty() && rest[0] != b',' {
                return Split::Stray;
            }
        } else {
            let end = memchr2(b',', b'"', rest).unwrap_or(rest.len());
            if rest.get(end) == Some(&b'"') {
                return Split::Stray;
            }
            unquoted.extend_from_slice(&rest[..end]);
            rest = &rest[end..];
        }
        fields.push(start..unquoted.len());
        let Some(following) = rest.strip_prefix(b",") else {
            return Split::Complete;
        };
        rest = following;
        // Between fields, so that a field boundary is always a character boundary.
        unquoted.push(b',');
    }
}

/// The fields of one line, unquoted; a malformed line gives the fields before the fault.
pub(crate) fn split_line(line: &[u8]) -> Vec<Vec<u8>> {
    let (mut fields, mut text) = (Vec::new(), Vec::new());
    let _ = split_quoted(trim_line_end(line), &mut fields, &mut text);
    fields
        .into_iter()
        .map(|range| text[range].to_vec())
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Seen = (u64, Result<Vec<String>, Malformed>);

    /// Reads `input` in pieces of `piece` bytes, so that every boundary is met.
    fn read_all(input: &[u8], piece: usize) -> Vec<Seen> {
        struct Pieces<'a>(&'a [u8], usize);
        impl Read for Pieces<'_> {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                let bytes = self.1.min(self.0.len()).min(buffer.len());
                buffer[..bytes].copy_from_slice(&self.0[..bytes]);
                self.0 = &self.0[bytes..];
                Ok(bytes)
            }
        }
        let mut reader = RecordReader::new(Pieces(input, piece.max(1)));
        let mut seen = Vec::new();
        while let Some(record) = reader.next().expect("memory has no read errors") {
            let fields = record.fields.map(|fields| {
                let text = |range: &Range<usize>| {
                    String::from_utf8_lossy(&record.text[range.clone()]).into_owned()
                };
                fields.iter().map(text).collect()
            });
            seen.push((record.line, fields));
        }
        assert_eq!(reader.bytes_taken(), input.len() as u64);
        seen
    }

    fn fields(fields: &[&str]) -> Result<Vec<String>, Malformed> {
        Ok(fields.iter().map(|field| (*field).to_owned()).collect())
    }

    #[test]
    fn records_know_their_line_over_line_feeds_in_quotes_and_blank_lines() {
        let input = b"a,b\r\n\r\n\"1\n2\",\"x \"\"y\"\"\"\r\nc,\n";
        for piece in [1, 3, 1000] {
            assert_eq!(
                read_all(input, piece),
                [
                    (1, fields(&["a", "b"])),
                    (3, fields(&["1\n2", "x \"y\""])),
                    (5, fields(&["c", ""])),
                ]
            );
        }
    }

    #[test]
    fn a_quote_left_open_costs_its_own_line_only() {
        let following = "1,\"a, b\",2\n".repeat(3);
        let input = format!("x,\"open,y\n{following}z,\"open\n");
        let seen = read_all(input.as_bytes(), 7);
        assert_eq!(seen.len(), 5);
        assert_eq!(seen[0], (1, Err(Malformed::UnclosedQuote)));
        assert_eq!(seen[2], (3, fields(&["1", "a, b", "2"])));
        assert_eq!(seen[4], (5, Err(Malformed::UnclosedQuote)));
    }

    #[test]
    fn a_quote_left_open_before_a_file_without_quotes_costs_its_own_line_only() {
        let input = format!("x,\"open,y\n{}", "1,2,3\n".repeat(100_000));
        let seen = read_all(input.as_bytes(), 1 << 16);
        assert_eq!(seen.len(), 100_001);
        assert_eq!(seen[0], (1, Err(Malformed::UnclosedQuote)));
        assert_eq!(seen[100_000], (100_001, fields(&["1", "2", "3"])));
    }

    #[test]
    fn a_stray_quote_is_distinguished_from_an_open_one() {
        let seen = read_all(b"a\"b,c\n\"a\"b,c\nok,ok", 1000);
        assert_eq!(
            seen,
            [
                (1, Err(Malformed::StrayQuote)),
                (2, Err(Malformed::StrayQuote)),
                (3, fields(&["ok", "ok"])),
            ]
        );
    }

    #[test]
    fn a_row_of_the_longest_size_is_read_and_a_longer_one_passed_over() {
        for ending in ["\n", "\r\n", ""] {
            for (length, fits) in [
                (MAX_ROW_BYTES, true),
                (MAX_ROW_BYTES + 1, false),
                (10 * MAX_ROW_BYTES, false),
            ] {
                let input = format!("a,b\n{}{ending}", "x".repeat(length));
                let seen = read_all(input.as_bytes(), 50_000);
                assert_eq!(seen.len(), 2);
                assert_eq!(seen[1].1.is_ok(), fits, "{length} bytes with {ending:?}");
            }
            let input = format!("{}{ending}", "y".repeat(MAX_ROW_BYTES * 5));
            let seen = read_all(format!("{input}\nlast,row").as_bytes(), 50_000);
            assert_eq!(
                seen.last().map(|(_, row)| row.clone()),
                Some(fields(&["last", "row"]))
            );
        }
    }

    proptest! {
        /// The `csv` crate writes and reads as RFC 4180 has it; so must this reader.
        #[test]
        fn well_formed_records_are_read_as_the_csv_crate_reads_them(
            rows in prop::collection::vec(prop::collection::vec("[a-z,\"\r\n;é ]{0,8}", 2..5), 1..20),
            crlf in any::<bool>(),
            piece in 1_usize..64,
        ) {
            let terminator = if crlf { csv::Terminator::CRLF } else { csv::Terminator::Any(b'\n') };
            let mut writer = csv::WriterBuilder::new()
                .terminator(terminator)
                .flexible(true)
                .from_writer(Vec::new());
            for row in &rows {
                writer.write_record(row).expect("memory takes every record");
            }
            let text = writer.into_inner().expect("memory takes every record");
            let read: Vec<_> = read_all(&text, piece).into_iter().map(|(_, row)| row).collect();
            let expected: Vec<_> = rows.into_iter().map(Ok).collect();
            prop_assert_eq!(read, expected);
        }

        #[test]
        fn any_bytes_are_read_to_their_end(
            input in prop::collection::vec(prop_oneof![
                4 => prop::sample::select(b"\",\r\na".to_vec()),
                1 => any::<u8>(),
            ], 0..300),
            piece in 1_usize..40,
        ) {
            let lines = input.split(|b| *b == b'\n').count();
            prop_assert!(read_all(&input, piece).len() <= lines);
        }
    }
}
