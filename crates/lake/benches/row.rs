//! Speed of one core on the way from a CSV row to a Parquet file, each step with the
//! ceiling beside it that was measured in the same run: on a busy machine only the ratio
//! means something.
//!
//! `cargo bench -p ftap-lake --bench row [-- ROWS]`

#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow_array::RecordBatch;
use ftap_lake::{
    BATCH_ROWS, Compression, FileBuilder, FileSettings, TRANSACTIONS, checksum_of, properties,
};
use ftap_transaction::{RowBuilders, SourceRow, encode_json, schema};
use parquet::arrow::ArrowWriter;

const ROUNDS: usize = 5;

fn main() {
    let rows: usize = std::env::args()
        .find_map(|arg| arg.parse().ok())
        .unwrap_or(400_000);
    let source = Source::new(rows);
    let payloads = source.encoded();
    let bytes: usize = payloads.iter().map(Vec::len).sum();
    println!(
        "{rows} rows, {} bytes a message, best of {ROUNDS}",
        bytes / rows
    );

    let copy = best(|| {
        let mut out = Vec::with_capacity(1 << 20);
        for payload in &payloads {
            if out.len() > 1 << 19 {
                out.clear();
            }
            assert!(std::str::from_utf8(payload).is_ok());
            out.extend_from_slice(payload);
        }
        black_box(out.len());
    });
    report("ceiling: check UTF-8 and copy", rows, copy, copy);
    let encode = best(|| {
        let mut out = Vec::with_capacity(1 << 20);
        for row in &source.rows {
            if out.len() > 1 << 19 {
                out.clear();
            }
            encode_json(&row.as_source(), &mut out).unwrap();
        }
        black_box(out.len());
    });
    report("encode", rows, encode, copy);
    let decode = best(|| {
        black_box(batches(&payloads).len());
    });
    report("decode into Arrow", rows, decode, copy);
    let spaced: Vec<Vec<u8>> = payloads.iter().map(|payload| spaced(payload)).collect();
    let general = best(|| {
        black_box(batches(&spaced).len());
    });
    report(
        "decode into Arrow, other writer's form",
        rows,
        general,
        copy,
    );

    let batches = batches(&payloads);
    let checksum = best(|| {
        black_box(checksum_of(&batches).unwrap());
    });
    report("checksum", rows, checksum, copy);
    let mut size = 0;
    let parquet = best(|| {
        let properties = properties(&TRANSACTIONS, Compression::Zstd(1)).unwrap();
        let mut writer = ArrowWriter::try_new(Vec::new(), schema(), Some(properties)).unwrap();
        for batch in &batches {
            writer.write(batch).unwrap();
        }
        size = writer.into_inner().unwrap().len();
    });
    report("ceiling: Parquet of ready batches", rows, parquet, parquet);
    println!("    {:.1} bytes a row", size as f64 / rows as f64);
    let mut peak = 0;
    let whole = best(|| {
        let settings = FileSettings {
            max_message_bytes: 1 << 20,
            compression: Compression::Zstd(1),
        };
        let (topic, writer): (Arc<str>, Arc<str>) = ("transactions".into(), "bench".into());
        let mut file = FileBuilder::open(topic, 0, 0, TIME, &settings, writer).unwrap();
        for (offset, payload) in payloads.iter().enumerate() {
            let offset = offset as i64;
            file.append(Some(payload), offset, TIME + offset / 500)
                .unwrap();
            if offset % 1000 == 0 {
                peak = peak.max(file.memory_bytes());
            }
        }
        black_box(file.close().unwrap().bytes.len());
    });
    report("decode and Parquet: FileBuilder", rows, whole, parquet);
    println!("    peak memory of a file {:.1} MB", peak as f64 / 1e6);
    println!(
        "    checksum's share {:.1} %",
        100.0 * checksum.as_secs_f64() / whole.as_secs_f64()
    );
}

const TIME: i64 = 1_795_000_000_000;

fn best(mut work: impl FnMut()) -> Duration {
    let time = |work: &mut dyn FnMut()| {
        let start = Instant::now();
        work();
        start.elapsed()
    };
    (0..ROUNDS)
        .map(|_| time(&mut work))
        .min()
        .unwrap_or_default()
}

fn report(what: &str, rows: usize, took: Duration, ceiling: Duration) {
    let seconds = took.as_secs_f64();
    println!(
        "{what:40} {:6.2} M rows/s {:6.0} ns/row {:6.3} of its ceiling's speed",
        rows as f64 / seconds / 1e6,
        seconds * 1e9 / rows as f64,
        ceiling.as_secs_f64() / seconds
    );
}

fn batches(payloads: &[Vec<u8>]) -> Vec<RecordBatch> {
    let mut builders = RowBuilders::with_capacity(BATCH_ROWS);
    let mut batches = Vec::new();
    for (offset, payload) in payloads.iter().enumerate() {
        let offset = offset as i64;
        builders
            .append(Some(payload), 0, offset, TIME + offset / 500)
            .unwrap();
        if builders.len() == BATCH_ROWS {
            batches.push(builders.finish().unwrap());
        }
    }
    batches.push(builders.finish().unwrap());
    batches
}

/// The form of Python's `json.dumps`.
fn spaced(payload: &[u8]) -> Vec<u8> {
    let text = String::from_utf8(payload.to_vec()).unwrap();
    let text = text.replace("\":", "\": ").replace(",\"", ", \"");
    text.into_bytes()
}

struct Row {
    date: String,
    user: String,
    merchant: String,
    category: &'static str,
    amt: String,
    number: String,
    unix_time: String,
    is_fraud: &'static str,
}

impl Row {
    fn as_source(&self) -> SourceRow<'_> {
        SourceRow {
            trans_date_trans_time: self.date.as_bytes(),
            user_id: self.user.as_bytes(),
            merchant: self.merchant.as_bytes(),
            category: self.category.as_bytes(),
            amt: self.amt.as_bytes(),
            trans_num: self.number.as_bytes(),
            unix_time: self.unix_time.as_bytes(),
            is_fraud: self.is_fraud.as_bytes(),
        }
    }
}

/// Rows with the real data's cardinalities and lengths.
struct Source {
    rows: Vec<Row>,
}

impl Source {
    fn new(rows: usize) -> Self {
        const CATEGORIES: [&str; 14] = [
            "gas_transport",
            "grocery_pos",
            "home",
            "shopping_pos",
            "kids_pets",
            "shopping_net",
            "entertainment",
            "food_dining",
            "personal_care",
            "health_fitness",
            "misc_pos",
            "misc_net",
            "grocery_net",
            "travel",
        ];
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        let users: Vec<String> = (0..983)
            .map(|_| {
                let (a, b) = (next(), next());
                let (c, d, e, f) = (a >> 32, a as u16, b >> 48, b & 0xffff_ffff_ffff);
                format!("{c:08x}-{d:04x}-5{:03x}-{e:04x}-{f:012x}", b % 4096)
            })
            .collect();
        let merchants: Vec<String> = (0..693)
            .map(|_| {
                let length = 4 + (next() % 24) as usize;
                let name: String = (0..length)
                    .map(|_| char::from(b'a' + (next() % 26) as u8))
                    .collect();
                format!("fraud_{name}")
            })
            .collect();
        let rows = (0..rows)
            .map(|index| {
                let second = index as u64 * 34;
                let unix_time = 1_546_300_818 + second;
                let (day, time) = (second / 86_400, second % 86_400);
                let (month, day) = (1 + day / 28 % 12, 1 + day % 28);
                let (hour, minute, second) = (time / 3600, time / 60 % 60, time % 60);
                Row {
                    date: format!("2019-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}"),
                    user: users[(next() % 983) as usize].clone(),
                    merchant: merchants[(next() % 693) as usize].clone(),
                    category: CATEGORIES[(next() % 14) as usize],
                    amt: format!("{}.{:02}", 1 + next() % 200, next() % 100),
                    number: format!("{:016x}{:016x}", next(), next()),
                    unix_time: unix_time.to_string(),
                    is_fraud: if next() % 172 == 0 { "1" } else { "0" },
                }
            })
            .collect();
        Self { rows }
    }

    fn encoded(&self) -> Vec<Vec<u8>> {
        self.rows
            .iter()
            .map(|row| {
                let mut out = Vec::new();
                encode_json(&row.as_source(), &mut out).unwrap();
                out
            })
            .collect()
    }
}
