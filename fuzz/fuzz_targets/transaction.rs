//! A message: the quick parser and the general one give the same row or the same reason.

#![no_main]

use ftap_transaction::{RejectReason, RowBuilders, check};
use libfuzzer_sys::fuzz_target;

/// More than any input.
const MAX_MESSAGE_BYTES: usize = 1 << 20;

fn row(payload: &[u8]) -> Result<arrow_array::RecordBatch, RejectReason> {
    let mut rows = RowBuilders::with_capacity(1);
    rows.append(Some(payload), 0, 0, 0)?;
    Ok(rows.finish().expect("the columns have one length"))
}

fuzz_target!(|payload: &[u8]| {
    if payload.is_empty() {
        return;
    }
    let quick = row(payload);
    assert_eq!(
        quick.as_ref().map(|_| ()).map_err(|reason| *reason),
        check(Some(payload), MAX_MESSAGE_BYTES)
    );
    // The quick parser takes no blanks.
    let general = row(&[b" ", payload].concat());
    assert_eq!(quick, general);
});
