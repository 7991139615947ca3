//! A CSV file: every line becomes an event or a rejected line, and every event a message that the
//! lake takes.

#![no_main]

use std::path::PathBuf;
use std::sync::LazyLock;

use ftap_dataset::prepare::prepare;
use ftap_transaction::{SourceRow, check, encode_json};
use libfuzzer_sys::fuzz_target;

static FOLDER: LazyLock<PathBuf> =
    LazyLock::new(|| tempfile::tempdir().expect("a temporary folder").keep());

fuzz_target!(|data: &[u8]| {
    let input = FOLDER.join("input.csv");
    std::fs::write(&input, data).expect("a file");
    let Ok(report) = prepare(&input, &FOLDER.join("out"), &mut |_, _| {}) else {
        return;
    };
    assert_eq!(report.rejected > 0, report.rejected_path.is_some());
    let mut events = csv::ReaderBuilder::new()
        .delimiter(b';')
        .from_path(&report.events_path)
        .expect("an events file");
    let mut count = 0;
    for event in events.byte_records() {
        let event = event.expect("a row");
        let row = SourceRow {
            trans_date_trans_time: &event[0],
            user_id: &event[1],
            merchant: &event[2],
            category: &event[3],
            amt: &event[4],
            trans_num: &event[5],
            unix_time: &event[6],
            is_fraud: &event[7],
        };
        let mut message = Vec::new();
        encode_json(&row, &mut message).expect("a message");
        check(Some(&message), 1 << 20).expect("a row");
        count += 1;
    }
    assert_eq!(count, report.events);
});
