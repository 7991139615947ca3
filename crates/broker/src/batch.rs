//! Record batches (Kafka's message format 2). Promises: no input panics; a batch that passes
//! [`check_produced`] can be read, down to its last record. Layout: <https://kafka.apache.org/documentation/#recordbatch>.

use kafka_protocol::ResponseError;

use crate::records;

/// Bytes before the first record.
pub(crate) const HEADER_BYTES: usize = 61;
/// Base offset, length and leader epoch: what lies before the part that the checksum covers and
/// what a broker may rewrite.
pub(crate) const PREFIX_BYTES: usize = 16;
/// Base offset and length, which the length field does not count.
const LENGTH_OVERHEAD: usize = 12;
const CRC_COVERS_FROM: usize = 21;
const TRANSACTIONAL: i16 = 0x10;
const CONTROL: i16 = 0x20;
const COMPRESSION: i16 = 0x07;
/// Set by a broker that sets the timestamps itself, which this one never does.
const LOG_APPEND_TIME: i16 = 0x08;

/// The fields of a batch header this broker uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BatchHeader {
    pub base_offset: i64,
    /// Size of the whole batch.
    pub bytes: usize,
    pub magic: i8,
    pub crc: u32,
    pub attributes: i16,
    pub last_offset_delta: i32,
    pub base_timestamp_ms: i64,
    pub max_timestamp_ms: i64,
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
    pub records: i32,
}

fn take<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}

impl BatchHeader {
    /// Reads a header; `None` when there are too few bytes or a length no batch can have.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        if bytes.len() < HEADER_BYTES {
            return None;
        }
        let length = usize::try_from(i32::from_be_bytes(take(bytes, 8))).ok()?;
        let total = length.checked_add(LENGTH_OVERHEAD)?;
        if total < HEADER_BYTES {
            return None;
        }
        let header = Self {
            base_offset: i64::from_be_bytes(take(bytes, 0)),
            bytes: total,
            magic: i8::from_be_bytes(take(bytes, 16)),
            crc: u32::from_be_bytes(take(bytes, 17)),
            attributes: i16::from_be_bytes(take(bytes, 21)),
            last_offset_delta: i32::from_be_bytes(take(bytes, 23)),
            base_timestamp_ms: i64::from_be_bytes(take(bytes, 27)),
            max_timestamp_ms: i64::from_be_bytes(take(bytes, 35)),
            producer_id: i64::from_be_bytes(take(bytes, 43)),
            producer_epoch: i16::from_be_bytes(take(bytes, 51)),
            base_sequence: i32::from_be_bytes(take(bytes, 53)),
            records: i32::from_be_bytes(take(bytes, 57)),
        };
        (header.last_offset_delta >= 0).then_some(header)
    }

    pub(crate) fn last_offset(&self) -> i64 {
        self.base_offset
            .saturating_add(i64::from(self.last_offset_delta))
    }

    /// The sequence number of the last record; sequences wrap from `i32::MAX` to 0.
    pub(crate) fn last_sequence(&self) -> i32 {
        sequence_after(self.base_sequence, self.last_offset_delta)
    }

    pub(crate) fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL != 0
    }

    pub(crate) fn is_control(&self) -> bool {
        self.attributes & CONTROL != 0
    }

    /// How the records are compressed; 0 for not at all.
    pub(crate) fn codec(&self) -> i16 {
        self.attributes & COMPRESSION
    }
}

/// `sequence + by` in the ring of sequence numbers 0..=i32::MAX.
pub(crate) fn sequence_after(sequence: i32, by: i32) -> i32 {
    let sum = (i64::from(sequence) + i64::from(by)).rem_euclid(i64::from(i32::MAX) + 1);
    i32::try_from(sum).unwrap_or(0)
}

/// Whether the checksum of a complete batch is right.
pub(crate) fn checksum_holds(header: &BatchHeader, batch: &[u8]) -> bool {
    batch.len() == header.bytes && crc32c::crc32c(&batch[CRC_COVERS_FROM..]) == header.crc
}

/// Checks what a producer sent for one partition: exactly one batch, as Kafka demands for this
/// format, of the right format, size and checksum, no control batch, and with the records that its
/// header says.
pub(crate) fn check_produced(
    records: &[u8],
    max_bytes: usize,
) -> Result<BatchHeader, ResponseError> {
    // The magic byte is at the same place in all formats, so old formats are recognised.
    if records.len() > PREFIX_BYTES && records[PREFIX_BYTES] != 2 {
        return Err(ResponseError::UnsupportedForMessageFormat);
    }
    let header = BatchHeader::parse(records).ok_or(ResponseError::CorruptMessage)?;
    if header.bytes > max_bytes {
        return Err(ResponseError::MessageTooLarge);
    }
    if header.bytes > records.len() {
        return Err(ResponseError::CorruptMessage);
    }
    if header.bytes < records.len() {
        return Err(ResponseError::InvalidRecord);
    }
    if !checksum_holds(&header, records) {
        return Err(ResponseError::CorruptMessage);
    }
    let counted = i64::from(header.records) == i64::from(header.last_offset_delta) + 1;
    let sequenced =
        header.producer_id < 0 || (header.base_sequence >= 0 && header.producer_epoch >= 0);
    let is_brokers = header.is_control() || header.attributes & LOG_APPEND_TIME != 0;
    if is_brokers || !counted || !sequenced {
        return Err(ResponseError::InvalidRecord);
    }
    records::check(&header, &records[HEADER_BYTES..])?;
    Ok(header)
}

/// How a transaction ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    Abort,
    Commit,
}

/// Builds the control batch that ends a producer's transaction in one partition. The base offset is
/// set when it is appended.
pub(crate) fn marker(
    producer_id: i64,
    producer_epoch: i16,
    decision: Decision,
    now_ms: i64,
) -> Vec<u8> {
    let kind: i16 = match decision {
        Decision::Abort => 0,
        Decision::Commit => 1,
    };
    let mut body = Vec::with_capacity(40);
    body.extend((TRANSACTIONAL | CONTROL).to_be_bytes());
    body.extend(0i32.to_be_bytes()); // last offset delta
    body.extend(now_ms.to_be_bytes());
    body.extend(now_ms.to_be_bytes());
    body.extend(producer_id.to_be_bytes());
    body.extend(producer_epoch.to_be_bytes());
    body.extend((-1i32).to_be_bytes()); // control batches carry no sequence
    body.extend(1i32.to_be_bytes());
    // One record: length 16, attributes, deltas, key (version, kind), value (version, coordinator
    // epoch), no headers; lengths are zigzag varints.
    body.extend([32, 0, 0, 0, 8]);
    body.extend(0i16.to_be_bytes());
    body.extend(kind.to_be_bytes());
    body.push(12);
    body.extend(0i16.to_be_bytes());
    body.extend(0i32.to_be_bytes());
    body.push(0);

    let mut batch = Vec::with_capacity(HEADER_BYTES + 17);
    batch.extend(0i64.to_be_bytes());
    let length = i32::try_from(body.len() + 9).unwrap_or(0);
    batch.extend(length.to_be_bytes());
    batch.extend(0i32.to_be_bytes()); // leader epoch
    batch.push(2);
    batch.extend(crc32c::crc32c(&body).to_be_bytes());
    batch.extend(body);
    batch
}

/// What a control batch says; `None` when it is not an end-of-transaction marker.
pub(crate) fn decision_of(batch: &[u8]) -> Option<Decision> {
    // The record starts with its varint length; up to the key's length all fields of a marker are
    // single bytes: length, attributes, timestamp delta, offset delta, key length.
    let key = batch.get(HEADER_BYTES + 5..HEADER_BYTES + 9)?;
    match i16::from_be_bytes(take(key, 2)) {
        0 => Some(Decision::Abort),
        1 => Some(Decision::Commit),
        _ => None,
    }
}

/// The offset and timestamp of a batch's first record at or after `timestamp_ms`.
pub(crate) fn first_record_at(batch: &[u8], timestamp_ms: i64) -> Option<(i64, i64)> {
    let header = BatchHeader::parse(batch)?;
    records::first_at(&header, batch.get(HEADER_BYTES..)?, timestamp_ms)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    fn put_varint(into: &mut Vec<u8>, value: i32) {
        let mut rest = u32::try_from(value).unwrap() << 1;
        while rest > 0x7f {
            into.push(u8::try_from(rest & 0x7f).unwrap() | 0x80);
            rest >>= 7;
        }
        into.push(u8::try_from(rest).unwrap());
    }

    /// An uncompressed batch of `records` empty records; `edit` may change the header before the
    /// checksum is set.
    pub(crate) fn batch_of(
        records: i32,
        producer: (i64, i16, i32),
        transactional: bool,
        timestamp_ms: i64,
    ) -> Vec<u8> {
        let mut body = Vec::new();
        body.extend(if transactional { TRANSACTIONAL } else { 0 }.to_be_bytes());
        body.extend((records - 1).to_be_bytes());
        body.extend(timestamp_ms.to_be_bytes());
        body.extend((timestamp_ms + i64::from(records) - 1).to_be_bytes());
        body.extend(producer.0.to_be_bytes());
        body.extend(producer.1.to_be_bytes());
        body.extend(producer.2.to_be_bytes());
        body.extend(records.to_be_bytes());
        for i in 0..records {
            let mut record = vec![0];
            put_varint(&mut record, i);
            put_varint(&mut record, i);
            record.extend([1, 1, 0]); // no key, no value, no headers
            put_varint(&mut body, i32::try_from(record.len()).unwrap());
            body.extend(record);
        }
        let mut batch = Vec::new();
        batch.extend(0i64.to_be_bytes());
        batch.extend(i32::try_from(body.len() + 9).unwrap().to_be_bytes());
        batch.extend((-1i32).to_be_bytes());
        batch.push(2);
        batch.extend(crc32c::crc32c(&body).to_be_bytes());
        batch.extend(body);
        batch
    }

    #[test]
    fn a_marker_is_a_valid_control_batch() {
        for decision in [Decision::Abort, Decision::Commit] {
            let batch = marker(7, 3, decision, 1_000);
            let header = BatchHeader::parse(&batch).unwrap();
            assert_eq!(header.bytes, batch.len());
            assert!(checksum_holds(&header, &batch));
            assert!(header.is_control() && header.is_transactional());
            assert_eq!((header.producer_id, header.producer_epoch), (7, 3));
            assert_eq!(decision_of(&batch), Some(decision));
            assert_eq!(
                check_produced(&batch, 1 << 20),
                Err(ResponseError::InvalidRecord)
            );
        }
    }

    #[test]
    fn a_flipped_bit_anywhere_in_a_batch_is_refused_or_harmless() {
        let good = batch_of(3, (1, 0, 0), false, 50);
        assert!(check_produced(&good, 1 << 20).is_ok());
        // Base offset and leader epoch are rewritten by the broker and not covered.
        for at in (8..12).chain(16..good.len()) {
            for bit in 0..8 {
                let mut bad = good.clone();
                bad[at] ^= 1 << bit;
                assert!(
                    check_produced(&bad, 1 << 20).is_err(),
                    "byte {at} bit {bit}"
                );
            }
        }
    }

    #[test]
    fn a_batch_that_lies_about_its_records_is_refused_although_its_checksum_holds() {
        let lie = |at: usize, bytes: &[u8]| {
            let mut batch = batch_of(2, (-1, -1, -1), false, 1_000);
            batch[at..at + bytes.len()].copy_from_slice(bytes);
            let crc = crc32c::crc32c(&batch[CRC_COVERS_FROM..]);
            batch[17..21].copy_from_slice(&crc.to_be_bytes());
            check_produced(&batch, 1 << 20).map(|header| header.records)
        };
        assert_eq!(lie(HEADER_BYTES, &[]), Ok(2));
        let whole = batch_of(2, (-1, -1, -1), false, 1_000);
        let counts_one = [&[0; 4][..], &whole[27..57], &[0, 0, 0, 1]].concat();
        assert_eq!(lie(23, &counts_one), Err(ResponseError::InvalidRecord));
        assert_eq!(
            lie(HEADER_BYTES, &[0xaa; 14]),
            Err(ResponseError::InvalidRecord)
        );
        let codec = lie(22, &[7]);
        assert_eq!(codec, Err(ResponseError::UnsupportedCompressionType));
        assert_eq!(lie(22, &[4]), Err(ResponseError::InvalidRecord));
        assert_eq!(lie(22, &[8]), Err(ResponseError::InvalidRecord));
        for at in [27, 35] {
            let late = lie(at, &(1i64 << 62).to_be_bytes());
            assert_eq!(late, Err(ResponseError::InvalidTimestamp));
        }
    }

    #[test]
    fn old_formats_and_large_batches_get_their_own_errors() {
        let mut old = batch_of(1, (-1, -1, -1), false, 0);
        old[16] = 1;
        assert_eq!(
            check_produced(&old, 1 << 20),
            Err(ResponseError::UnsupportedForMessageFormat)
        );
        let large = batch_of(50, (-1, -1, -1), false, 0);
        assert_eq!(
            check_produced(&large, 100),
            Err(ResponseError::MessageTooLarge)
        );
    }

    #[test]
    fn a_record_is_found_by_its_timestamp() {
        let batch = batch_of(5, (-1, -1, -1), false, 1_000);
        assert_eq!(first_record_at(&batch, 0), Some((0, 1_000)));
        assert_eq!(first_record_at(&batch, 1_003), Some((3, 1_003)));
        assert_eq!(first_record_at(&batch, 1_005), None);
    }

    #[test]
    fn sequences_wrap_to_zero() {
        assert_eq!(sequence_after(i32::MAX, 1), 0);
        assert_eq!(sequence_after(i32::MAX - 1, 3), 1);
    }
}
