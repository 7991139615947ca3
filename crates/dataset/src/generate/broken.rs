//! Rows that are broken in the ways files are broken in practice, each made from a valid row by one
//! fault. `prepare` rejects every one of them and nothing beside them.

use crate::prepare::split_line;

/// Longer than a row of `prepare` may be.
const OVERLONG_BYTES: usize = 70_000;

const MERCHANT: usize = 3;
const AMT: usize = 5;
const FIRST: usize = 6;
const STREET: usize = 9;
const TRANS_NUM: usize = 18;
const UNIX_TIME: usize = 19;
const IS_FRAUD: usize = 22;

type Fault = fn(&mut Vec<Vec<u8>>);

const FAULTS: [Fault; 16] = [
    |fields| fields.truncate(20),
    |fields| fields.extend([b"1".to_vec(), b"2".to_vec()]),
    |fields| fields[AMT] = b"12.3.4".to_vec(),
    |fields| fields[AMT].clear(),
    |fields| fields[AMT] = b"5,0 $".to_vec(),
    |fields| fields[AMT] = b"NaN".to_vec(),
    |fields| fields[AMT] = b"inf".to_vec(),
    |fields| fields[TRANS_NUM].clear(),
    |fields| fields[1] = b"2019-02-30 25:61:00".to_vec(),
    |fields| fields[UNIX_TIME] = b"15463oo818".to_vec(),
    |fields| fields[IS_FRAUD] = b"2".to_vec(),
    |fields| fields[MERCHANT] = b"fraud_\xff\xfe".to_vec(),
    |fields| fields[FIRST].clear(),
    |fields| fields[STREET] = b"12 \"Old\" Mill Lane".to_vec(),
    |fields| fields[STREET] = vec![b'x'; OVERLONG_BYTES],
    // A quote that is never closed.
    |fields| fields[STREET] = b"\"12 Mill Lane".to_vec(),
];

/// Appends the `ordinal`-th broken row, made from the text of a valid one.
pub(super) fn write(out: &mut Vec<u8>, valid_row: &[u8], ordinal: u64) {
    let mut fields = split_line(valid_row);
    if let Some(trans_num) = fields.get_mut(TRANS_NUM) {
        // Never the number of a valid row, should a reader be more lenient than ours.
        *trans_num = format!("broken{ordinal:026}").into_bytes();
    }
    FAULTS[(ordinal % FAULTS.len() as u64) as usize](&mut fields);
    for (at, field) in fields.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        // The quotes of the faults above stay as they are.
        if field.contains(&b',') {
            out.push(b'"');
            out.extend_from_slice(field);
            out.push(b'"');
        } else {
            out.extend_from_slice(field);
        }
    }
    out.push(b'\n');
}
