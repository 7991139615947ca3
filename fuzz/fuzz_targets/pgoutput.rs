//! Messages of a replication slot: each is read or refused, and what was read becomes files whose
//! footers say what is in them.

#![no_main]

use std::time::Duration;

use bytes::Bytes;
use ftap_cdc::ChangeFooter;
use ftap_cdc::buffer::ChangeBuffer;
use ftap_cdc::chain::Resume;
use ftap_cdc::file::Origin;
use ftap_cdc::source::decode;
use ftap_lake::{Compression, FooterFormat as _, RollingSettings};
use libfuzzer_sys::fuzz_target;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use pg_walstream::LogicalReplicationParser;

// An input is a list of messages, each after its length in two bytes.
fuzz_target!(|data: &[u8]| {
    let mut parser = LogicalReplicationParser::with_protocol_version(1);
    let origin = Origin {
        system: "7713385336675261491".into(),
        slot: "ftap_changes".into(),
        writer_id: "fuzz".into(),
        epoch: 1,
        compression: Compression::Zstd(1),
    };
    let rolling = RollingSettings {
        max_rows: 100,
        max_bytes: 1 << 20,
        max_age: Duration::from_secs(60),
    };
    let mut buffer = ChangeBuffer::new(origin, rolling, Resume::default());
    let mut rest = data;
    while let Some((length, after)) = rest.split_first_chunk() {
        let length = usize::from(u16::from_be_bytes(*length));
        let (message, after) = after.split_at(length.min(after.len()));
        rest = after;
        let Ok(message) = decode(&mut parser, Bytes::copy_from_slice(message)) else {
            break;
        };
        if buffer.apply(message).is_err() {
            break;
        }
    }
    let Ok(flush) = buffer.take() else {
        return;
    };
    for file in flush.files {
        let pairs = file.footer.to_pairs();
        let pairs = pairs
            .iter()
            .map(|(key, value)| (*key, Some(value.as_str())));
        assert_eq!(ChangeFooter::from_pairs(pairs).as_ref(), Ok(&file.footer));
        let reader = ParquetRecordBatchReaderBuilder::try_new(file.bytes).expect("a Parquet file");
        let rows = reader.build().expect("a reader");
        let rows: usize = rows.map(|batch| batch.expect("a batch").num_rows()).sum();
        assert_eq!(rows as u64, file.footer.rows);
    }
});
