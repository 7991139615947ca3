//! A lake file holds exactly the records it was given, and its footer says so.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_select::concat::concat_batches;
use bytes::Bytes;
use ftap_lake::{
    Appended, BATCH_ROWS, Checksum, ClosedFile, Compression, FileBuilder, FileError, FileSettings,
    FooterFormat as _, TransactionFooter, checksum_of,
};
use ftap_supervision::{Retry, Retryable as _};
use ftap_transaction::{
    RejectReason, RowBuilders, SourceRow, encode_json, record_fingerprint, schema,
};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

const SETTINGS: FileSettings = FileSettings {
    max_message_bytes: 4096,
    compression: Compression::Zstd(1),
};
const TIME: i64 = 1_795_391_999_000;

fn open(first_offset: i64) -> FileBuilder {
    let (topic, writer): (Arc<str>, Arc<str>) = ("transactions".into(), "test-writer".into());
    FileBuilder::open(topic, 2, first_offset, TIME, &SETTINGS, writer).unwrap()
}

fn payload(number: i64) -> Vec<u8> {
    let user = format!("user-{}", number % 50);
    let merchant = format!("fraud_Müller \"{}\"", number % 7);
    let (amt, trans_num) = (format!("{number}.25"), format!("{number:032x}"));
    let row = SourceRow {
        trans_date_trans_time: b"2019-01-01 00:00:18",
        user_id: user.as_bytes(),
        merchant: merchant.as_bytes(),
        category: b"misc_net",
        amt: amt.as_bytes(),
        trans_num: trans_num.as_bytes(),
        unix_time: b"1325376018",
        is_fraud: b"0",
    };
    let mut out = Vec::new();
    encode_json(&row, &mut out).unwrap();
    out
}

fn read(bytes: &Bytes) -> (Vec<RecordBatch>, TransactionFooter) {
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes.clone()).unwrap();
    let pairs = reader
        .metadata()
        .file_metadata()
        .key_value_metadata()
        .unwrap()
        .clone();
    let footer =
        TransactionFooter::from_pairs(pairs.iter().map(|p| (p.key.as_str(), p.value.as_deref())));
    let batches = reader.with_batch_size(777).build().unwrap();
    (batches.map(Result::unwrap).collect(), footer.unwrap())
}

#[test]
fn a_file_read_back_is_what_was_appended() {
    let rows = BATCH_ROWS as i64 * 2 + 123;
    let first = 1_000;
    let mut file = open(first);
    let mut expected = RowBuilders::with_capacity(16);
    for number in 0..rows {
        // Every tenth offset is a control record's, which no producer appends.
        let offset = first + number + number / 9;
        let payload = payload(number);
        assert_eq!(
            file.append(Some(&payload), offset, TIME + number).unwrap(),
            Appended::Row
        );
        expected
            .append(Some(&payload), 2, offset, TIME + number)
            .unwrap();
    }
    assert_eq!(file.rows(), rows as u64);
    assert_eq!(file.last_offset(), Some(first + rows - 1 + (rows - 1) / 9));
    let estimate = file.encoded_bytes() as f64;
    let ClosedFile {
        name,
        bytes,
        footer,
        ..
    } = file.close().unwrap();
    // Pages under way count unencoded: at most 20,000 rows of some 150 bytes.
    let size = bytes.len() as f64;
    assert!(
        estimate > 0.75 * size && estimate < 1.25 * size + 3e6,
        "{estimate} for {size}"
    );

    assert_eq!(
        name.key(),
        "transactions/2026-11-22/transactions-2-00000000000000001000.parquet"
    );
    let (batches, stored) = read(&bytes);
    assert_eq!(stored, footer);
    assert_eq!(footer.rows, rows as u64);
    assert_eq!(footer.rejected_records, 0);
    assert_eq!(footer.writer_id, "test-writer");
    assert_eq!(
        footer.first_record,
        record_fingerprint(Some(&payload(0)), TIME)
    );
    let batch = concat_batches(&schema(), &batches).unwrap();
    assert_eq!(batch, expected.finish().unwrap());
    assert_eq!(batch.schema(), schema(), "names, types, order, no nulls");
    assert_eq!(checksum_of(&batches).unwrap(), footer.checksum);
    assert_eq!(
        checksum_of([&batch]).unwrap(),
        footer.checksum,
        "however it is cut"
    );
}

#[test]
fn each_offset_is_a_row_or_a_listed_rejection() {
    let mut file = open(7);
    let bad: [(Option<&[u8]>, RejectReason); 6] = [
        (Some(b"x"), RejectReason::NotJson),
        (Some(b"y"), RejectReason::NotJson),
        (
            Some(b"{}"),
            RejectReason::MissingField("trans_date_trans_time"),
        ),
        (None, RejectReason::EmptyPayload),
        (Some(&[b'a'; 4097]), RejectReason::TooLarge),
        (Some(b"z"), RejectReason::NotJson),
    ];
    for (offset, (payload, reason)) in (7..).zip(bad) {
        let appended = file.append(payload, offset, TIME).unwrap();
        assert_eq!(appended, Appended::Rejected(reason));
    }
    for offset in 13..20 {
        file.append(Some(&payload(offset)), offset, TIME).unwrap();
    }
    // The same reason, but not the next offset.
    file.append(Some(b"x"), 20, TIME).unwrap();
    file.append(Some(b"x"), 22, TIME).unwrap();
    assert_eq!(
        (file.rows(), file.rejected_records(), file.rejected_ranges()),
        (7, 8, 7)
    );
    let closed = file.close().unwrap();
    let (batches, footer) = read(&closed.bytes);
    let ranges: Vec<_> = footer
        .rejected
        .iter()
        .map(|r| (r.first_offset, r.last_offset, r.reason.as_ref()))
        .collect();
    assert_eq!(
        ranges,
        [
            (7, 8, "not_json"),
            (9, 9, "missing_field:trans_date_trans_time"),
            (10, 10, "empty_payload"),
            (11, 11, "too_large"),
            (12, 12, "not_json"),
            (20, 20, "not_json"),
            (22, 22, "not_json"),
        ]
    );
    assert_eq!(
        (footer.first_offset, footer.last_offset, footer.rows),
        (7, 22, 7)
    );
    let offsets = batches[0].column_by_name("_kafka_offset").unwrap();
    let offsets = offsets.as_primitive::<Int64Type>().values();
    assert_eq!(offsets, &[13, 14, 15, 16, 17, 18, 19]);
}

#[test]
fn a_file_of_rejections_only_is_a_file() {
    let mut file = open(0);
    for offset in 0..5 {
        file.append(Some(b"[]"), offset, TIME).unwrap();
    }
    let closed = file.close().unwrap();
    let (batches, footer) = read(&closed.bytes);
    assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 0);
    assert_eq!((footer.rows, footer.rejected_records), (0, 5));
    assert_eq!(footer.checksum, checksum_of(&batches).unwrap());
    let reader = ParquetRecordBatchReaderBuilder::try_new(closed.bytes).unwrap();
    assert_eq!(reader.schema().fields(), schema().fields());
}

#[test]
fn offsets_out_of_order_are_refused() {
    let order = |result: Result<Appended, FileError>| {
        let error = result.unwrap_err();
        assert!(matches!(error, FileError::OffsetOrder { .. }), "{error}");
        assert_eq!(error.retry(), Retry::Transient);
    };
    let mut file = open(5);
    order(file.append(Some(&payload(0)), 6, TIME));
    file.append(Some(&payload(0)), 5, TIME).unwrap();
    order(file.append(Some(&payload(0)), 5, TIME));
    order(file.append(Some(&payload(0)), 4, TIME));
    file.append(Some(&payload(1)), 6, TIME).unwrap();
    assert_eq!(file.close().unwrap().footer.rows, 2);
    assert!(matches!(open(0).close(), Err(FileError::EmptyFile(_))));
}

#[test]
fn a_checksum_tells_rows_apart() {
    let batch = |payloads: &[(i64, i64)]| {
        let mut builders = RowBuilders::with_capacity(4);
        for (number, offset) in payloads {
            builders
                .append(Some(&payload(*number)), 0, *offset, TIME)
                .unwrap();
        }
        builders.finish().unwrap()
    };
    let sum = |batch: &RecordBatch| checksum_of([batch]).unwrap();
    let base = sum(&batch(&[(1, 0), (2, 1)]));
    assert_eq!(base, sum(&batch(&[(1, 0), (2, 1)])));
    assert_ne!(base, sum(&batch(&[(2, 0), (1, 1)])), "order");
    assert_ne!(base, sum(&batch(&[(1, 0)])), "a row less");
    assert_ne!(base, sum(&batch(&[(1, 0), (2, 2)])), "an offset");
    // Slices start within their buffers.
    let three = batch(&[(0, 0), (1, 0), (2, 1)]);
    assert_eq!(base, sum(&three.slice(1, 2)));
    // Text that moves from one value into the next.
    let shifted = |a: &str, b: &str| {
        let line = |user: &str| {
            String::from_utf8(payload(1))
                .unwrap()
                .replace("user-1", user)
        };
        let mut builders = RowBuilders::with_capacity(2);
        builders
            .append(Some(line(a).as_bytes()), 0, 0, TIME)
            .unwrap();
        builders
            .append(Some(line(b).as_bytes()), 0, 1, TIME)
            .unwrap();
        sum(&builders.finish().unwrap())
    };
    assert_ne!(shifted("ab", "c"), shifted("a", "bc"));
    // Part of the file format: a change needs a new format version.
    assert_eq!(base, 6_771_557_133_112_616_755);
    assert_eq!(Checksum::new().digest(), 6_264_978_508_400_086_705);
    let missing = batch(&[(1, 0)]).project(&[0, 1]).unwrap();
    assert!(
        checksum_of([&missing])
            .unwrap_err()
            .to_string()
            .contains("merchant")
    );
}

#[test]
fn memory_stays_near_the_encoded_size() {
    let mut file = open(0);
    let mut peak = 0;
    for offset in 0..100_000 {
        file.append(Some(&payload(offset)), offset, TIME + offset)
            .unwrap();
        peak = peak.max(file.memory_bytes());
    }
    let bytes = file.close().unwrap().bytes.len();
    assert!(peak < bytes + (6 << 20), "{peak} for a file of {bytes}");
}

#[test]
fn long_messages_are_encoded_before_many_pile_up() {
    let mut settings = SETTINGS;
    settings.max_message_bytes = 2 << 20;
    let mut file = FileBuilder::open("t".into(), 0, 0, TIME, &settings, "w".into()).unwrap();
    let long = String::from_utf8(payload(1))
        .unwrap()
        .replace("user-1", &"u".repeat(1 << 20));
    for offset in 0..40 {
        file.append(Some(long.as_bytes()), offset, TIME).unwrap();
    }
    assert!(file.memory_bytes() < 24 << 20, "{}", file.memory_bytes());
    let closed = file.close().unwrap();
    assert_eq!(
        closed.footer.checksum,
        checksum_of(&read(&closed.bytes).0).unwrap()
    );
}

#[test]
fn the_pages_of_a_column_chunk_have_one_encoding_however_many_values_there_are() {
    let mut file = open(0);
    for number in 0..60_000 {
        // Far more users than a dictionary page usually has room for.
        let row = String::from_utf8(payload(number)).unwrap();
        let row = row.replacen("user-", &format!("user-{number:030}-"), 1);
        file.append(Some(row.as_bytes()), number, TIME).unwrap();
    }
    let bytes = file.close().unwrap().bytes;
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap();
    for column in reader.metadata().row_group(0).columns() {
        let of_data_pages = column.page_encoding_stats_mask().unwrap();
        let encodings: Vec<_> = of_data_pages.encodings().collect();
        assert_eq!(
            encodings.len(),
            1,
            "{}: {encodings:?}",
            column.column_path()
        );
    }
}

#[test]
fn a_wrong_compression_level_is_a_clear_error() {
    let mut settings = SETTINGS;
    settings.compression = Compression::Zstd(99);
    let error = FileBuilder::open("t".into(), 0, 0, TIME, &settings, "w".into())
        .err()
        .unwrap();
    assert!(error.to_string().contains("99"), "{error}");
    assert_eq!(error.retry(), Retry::Permanent);
}
