//! The records in a batch, checked as Apache Kafka does (its LogValidator) before they are
//! acknowledged, so that what is in the log can be read. Promises: no input panics or makes this take
//! more memory than a decoder's window.
//!
//! Unlike Kafka, whose limit for timestamps is one hour ahead of its clock, this broker takes any that
//! readers can show: it runs on the clock of its clients.

use std::io::{self, BufRead, BufReader, Read};
use std::ops::ControlFlow;

use kafka_protocol::ResponseError;

use crate::batch::BatchHeader;

/// The last millisecond of the year 9999: beyond it Parquet's readers fail.
const NEWEST_MS: i64 = 253_402_300_799_999;
/// A batch that unpacks to more is a trap for its readers.
const MAX_UNPACKED_BYTES: u64 = 256 << 20;
/// How a snappy stream begins that is framed as Java's library does it.
const XERIAL: &[u8] = b"\x82SNAPPY\0";
const XERIAL_HEADER_BYTES: usize = 16;

/// Checks the records of a batch whose header is `header`; `payload` is what follows that.
pub(crate) fn check(header: &BatchHeader, payload: &[u8]) -> Result<(), ResponseError> {
    let late = each(header, payload, |_, timestamp_ms| match timestamp_ms {
        ..=NEWEST_MS => ControlFlow::Continue(()),
        _ => ControlFlow::Break(()),
    })?;
    if late.is_some() || header.max_timestamp_ms > NEWEST_MS {
        return Err(ResponseError::InvalidTimestamp);
    }
    Ok(())
}

/// The offset and timestamp of the first record at or after `timestamp_ms`.
pub(crate) fn first_at(
    header: &BatchHeader,
    payload: &[u8],
    timestamp_ms: i64,
) -> Option<(i64, i64)> {
    let found = each(header, payload, |delta, found_ms| {
        if found_ms < timestamp_ms {
            return ControlFlow::Continue(());
        }
        ControlFlow::Break((header.base_offset.saturating_add(delta), found_ms))
    });
    found.ok().flatten()
}

/// Shows `visit` each record's offset delta and timestamp until it breaks. Only as many records as the
/// header counts, each as long as it says, and nothing after them, are no error.
fn each<B>(
    header: &BatchHeader,
    payload: &[u8],
    visit: impl FnMut(i64, i64) -> ControlFlow<B>,
) -> Result<Option<B>, ResponseError> {
    let walked = match header.codec() {
        0 => walk(header, payload, visit),
        1..=4 => unpack(header.codec(), payload).and_then(|records| walk(header, records, visit)),
        _ => return Err(ResponseError::UnsupportedCompressionType),
    };
    walked.map_err(|_broken| ResponseError::InvalidRecord)
}

fn unpack(codec: i16, payload: &[u8]) -> io::Result<impl BufRead> {
    let decoder: Box<dyn Read + '_> = match codec {
        1 => Box::new(flate2::bufread::MultiGzDecoder::new(payload)),
        2 if payload.starts_with(XERIAL) => Box::new(Xerial::new(payload)),
        2 => Box::new(io::Cursor::new(unpack_snappy(payload)?)),
        3 => Box::new(lz4_flex::frame::FrameDecoder::new(payload)),
        _ => Box::new(zstd::stream::read::Decoder::with_buffer(payload)?),
    };
    Ok(BufReader::new(decoder.take(MAX_UNPACKED_BYTES)))
}

fn walk<B>(
    header: &BatchHeader,
    records: impl BufRead,
    mut visit: impl FnMut(i64, i64) -> ControlFlow<B>,
) -> io::Result<Option<B>> {
    let mut records = Records {
        rest: records,
        taken: 0,
    };
    for index in 0..i64::from(header.records) {
        let delta = records.record(index)?;
        let timestamp_ms = header.base_timestamp_ms.saturating_add(delta);
        if let ControlFlow::Break(found) = visit(index, timestamp_ms) {
            return Ok(Some(found));
        }
    }
    if records.rest.fill_buf()?.is_empty() {
        return Ok(None);
    }
    Err(invalid())
}

/// Reads records' fields and counts their bytes.
struct Records<R> {
    rest: R,
    taken: u64,
}

impl<R: BufRead> Records<R> {
    /// Reads over one record, whose offset delta must be `index`; returns its timestamp delta.
    fn record(&mut self, index: i64) -> io::Result<i64> {
        let length = self.varint()?;
        let begin = self.taken;
        self.skip(1)?; // attributes
        let timestamp_delta = self.varint()?;
        let offset_delta = self.varint()?;
        self.bytes(-1)?; // key
        self.bytes(-1)?; // value
        let headers = self.varint()?;
        for _ in 0..headers {
            self.bytes(0)?; // a header's key
            self.bytes(-1)?;
        }
        let is_whole = u64::try_from(length) == Ok(self.taken - begin);
        if is_whole && offset_delta == index && headers >= 0 {
            return Ok(timestamp_delta);
        }
        Err(invalid())
    }

    /// Skips a length and as many bytes; -1 stands for none at all, where that is allowed.
    fn bytes(&mut self, least: i64) -> io::Result<()> {
        let length = self.varint()?;
        if length < least {
            return Err(invalid());
        }
        self.skip(usize::try_from(length).unwrap_or(0))
    }

    fn skip(&mut self, count: usize) -> io::Result<()> {
        let mut missing = count;
        while missing > 0 {
            let ready = self.rest.fill_buf()?.len();
            if ready == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let step = ready.min(missing);
            self.rest.consume(step);
            missing -= step;
        }
        self.taken += count as u64;
        Ok(())
    }

    /// A zigzag varint of at most ten bytes.
    fn varint(&mut self) -> io::Result<i64> {
        let mut value = 0u64;
        for shift in (0..70).step_by(7) {
            let Some(byte) = self.rest.fill_buf()?.first().copied() else {
                return Err(io::ErrorKind::UnexpectedEof.into());
            };
            self.rest.consume(1);
            self.taken += 1;
            value |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
            if byte & 0x80 == 0 {
                return Ok(((value >> 1) as i64) ^ -((value & 1) as i64));
            }
        }
        Err(invalid())
    }
}

fn invalid() -> io::Error {
    io::ErrorKind::InvalidData.into()
}

/// One block of snappy: its length comes first and is checked before memory is taken for it. Snappy
/// packs at most 64 bytes into three.
fn unpack_snappy(block: &[u8]) -> io::Result<Vec<u8>> {
    if snap::raw::decompress_len(block)? > block.len().saturating_mul(32) {
        return Err(invalid());
    }
    Ok(snap::raw::Decoder::new().decompress_vec(block)?)
}

/// The blocks of a snappy stream as Java's library frames them: each after its length.
struct Xerial<'a> {
    rest: &'a [u8],
    block: io::Cursor<Vec<u8>>,
}

impl<'a> Xerial<'a> {
    fn new(stream: &'a [u8]) -> Self {
        Self {
            rest: stream.get(XERIAL_HEADER_BYTES..).unwrap_or_default(),
            block: io::Cursor::default(),
        }
    }
}

impl Read for Xerial<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = self.block.read(into)?;
            if read > 0 || self.rest.is_empty() {
                return Ok(read);
            }
            let (length, rest) = self.rest.split_first_chunk().ok_or_else(invalid)?;
            let length = usize::try_from(u32::from_be_bytes(*length)).map_err(io::Error::other)?;
            let (block, rest) = rest.split_at_checked(length).ok_or_else(invalid)?;
            self.block = io::Cursor::new(unpack_snappy(block)?);
            self.rest = rest;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::batch::HEADER_BYTES;
    use crate::batch::tests::batch_of;

    const COUNT: i32 = 200;

    fn good() -> (BatchHeader, Vec<u8>) {
        let batch = batch_of(COUNT, (-1, -1, -1), false, 1_000);
        let header = BatchHeader::parse(&batch).unwrap();
        (header, batch[HEADER_BYTES..].to_vec())
    }

    fn pack(codec: i16, records: &[u8]) -> Vec<u8> {
        match codec {
            1 => {
                let mut packer =
                    flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                packer.write_all(records).unwrap();
                packer.finish().unwrap()
            }
            2 => snap::raw::Encoder::new().compress_vec(records).unwrap(),
            3 => {
                let mut packer = lz4_flex::frame::FrameEncoder::new(Vec::new());
                packer.write_all(records).unwrap();
                packer.finish().unwrap()
            }
            _ => zstd::stream::encode_all(records, 1).unwrap(),
        }
    }

    fn xerial(records: &[u8]) -> Vec<u8> {
        let mut packed = [XERIAL, &[0, 0, 0, 1, 0, 0, 0, 1]].concat();
        for part in records.chunks(50) {
            let block = pack(2, part);
            packed.extend(u32::try_from(block.len()).unwrap().to_be_bytes());
            packed.extend(block);
        }
        packed
    }

    #[test]
    fn good_records_pass_in_every_codec_and_damaged_ones_in_none() {
        let (plain, records) = good();
        assert_eq!(check(&plain, &records), Ok(()));
        let packed = (1..=4).map(|codec| (codec, pack(codec, &records)));
        for (codec, packed) in packed.chain([(2, xerial(&records))]) {
            let header = BatchHeader {
                attributes: codec,
                ..plain
            };
            assert_eq!(check(&header, &packed), Ok(()), "codec {codec}");
            let cut = &packed[..packed.len() / 2];
            let longer = [&records[..], &[0]].concat();
            let longer = if codec == 2 {
                pack(2, &longer)
            } else {
                pack(codec, &longer)
            };
            for bad in [cut, &longer, &[0xaa; 50], &[]] {
                assert_eq!(
                    check(&header, bad),
                    Err(ResponseError::InvalidRecord),
                    "codec {codec}"
                );
            }
            assert_eq!(
                first_at(&header, &packed, 1_150),
                Some((150, 1_150)),
                "codec {codec}"
            );
        }
        for attributes in 5..=7 {
            let header = BatchHeader {
                attributes,
                ..plain
            };
            let refused = Err(ResponseError::UnsupportedCompressionType);
            assert_eq!(check(&header, &records), refused);
        }
    }

    #[test]
    fn records_that_contradict_the_header_or_themselves_are_refused() {
        let (plain, records) = good();
        for claimed in [1, COUNT - 1, COUNT + 1] {
            let header = BatchHeader {
                records: claimed,
                ..plain
            };
            assert_eq!(check(&header, &records), Err(ResponseError::InvalidRecord));
        }
        // Length, offset delta, key, value, headers of the first record.
        for at in [0, 3, 4, 5, 6] {
            let mut bad = records.clone();
            bad[at] += 2;
            assert_eq!(
                check(&plain, &bad),
                Err(ResponseError::InvalidRecord),
                "byte {at}"
            );
        }
        assert_eq!(
            check(&plain, &[0xaa; 50]),
            Err(ResponseError::InvalidRecord)
        );
    }

    #[test]
    fn timestamps_that_no_reader_can_show_are_refused() {
        let (plain, records) = good();
        for base_timestamp_ms in [1 << 62, i64::MAX, NEWEST_MS - 100] {
            let header = BatchHeader {
                base_timestamp_ms,
                ..plain
            };
            assert_eq!(
                check(&header, &records),
                Err(ResponseError::InvalidTimestamp)
            );
        }
        for base_timestamp_ms in [-1, i64::MIN, NEWEST_MS - i64::from(COUNT)] {
            let header = BatchHeader {
                base_timestamp_ms,
                ..plain
            };
            assert_eq!(check(&header, &records), Ok(()));
        }
    }

    #[test]
    fn a_batch_that_unpacks_to_more_than_it_may_is_refused_in_little_memory() {
        let (plain, _) = good();
        // One record whose value is as long as it may be, and `more`; its lengths take five bytes.
        let packed = |more: i32| {
            let value = i32::try_from(MAX_UNPACKED_BYTES).unwrap() - 15 + more;
            let length = |bytes: i32| {
                let zigzag = u32::try_from(bytes).unwrap() << 1;
                let group = |index: u32| (zigzag >> (7 * index)) as u8 & 0x7f;
                [0, 1, 2, 3, 4].map(|index| group(index) | if index < 4 { 0x80 } else { 0 })
            };
            let lead = [&length(value + 10)[..], &[0, 0, 0, 1], &length(value)].concat();
            let rest = io::repeat(0).take(u64::try_from(value).unwrap() + 1);
            zstd::stream::encode_all(lead.chain(rest), 1).unwrap()
        };
        let header = BatchHeader {
            attributes: 4,
            records: 1,
            ..plain
        };
        assert_eq!(check(&header, &packed(0)), Ok(()));
        assert_eq!(
            check(&header, &packed(1)),
            Err(ResponseError::InvalidRecord)
        );
        // A block of snappy that claims to be 4 GB.
        let claim = [0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0];
        let header = BatchHeader {
            attributes: 2,
            ..plain
        };
        assert_eq!(check(&header, &claim), Err(ResponseError::InvalidRecord));
    }
}
