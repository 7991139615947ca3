//! Keys of objects, and positions in the log.

use ftap_cdc::Lsn;
use ftap_lake::{ChangeObjectName, ChangePart};

use super::position;

#[test]
fn a_key_says_what_is_in_the_object_and_only_one_key_says_it() {
    let name = ChangeObjectName {
        table: "users".to_owned(),
        epoch: 1,
        part: ChangePart::Changes(position(0x16b_3748, 12)),
        date: "2026-11-22".parse().unwrap(),
    };
    let key = "users_changes/2026-11-22/users-000001-00000000016B3748-0000000012.parquet";
    assert_eq!(name.key(), key);
    let snapshot = ChangeObjectName {
        part: ChangePart::Snapshot(3),
        ..name.clone()
    };
    for name in [name, snapshot] {
        assert_eq!(ChangeObjectName::parse(&name.key()), Some(name));
    }
    for other in [
        "users_changes/2026-11-22/users-1-00000000016B3748-0000000012.parquet",
        "users_changes/2026-11-22/users-000001-00000000016b3748-0000000012.parquet",
        "users_changes/2026-11-22/users-000001-+0000000016B374-0000000012.parquet",
        "users_changes/2026-11-22/merchants-000001-snapshot-0001.parquet",
        "users_changes/2026-11-22/users-000001-snapshot-0001-1.parquet",
        "users_changes/2026-13-22/users-000001-snapshot-0001.parquet",
        "users_changes/users-000001-snapshot-0001.parquet",
        "transactions/2026-11-22/transactions-0-00000000000000000000.parquet",
    ] {
        assert_eq!(ChangeObjectName::parse(other), None, "{other}");
    }
}

#[test]
fn log_positions_are_read_and_written_as_postgresql_does() {
    for (text, lsn) in [("0/16B3748", 0x16b_3748), ("A/0", 0xa_0000_0000)] {
        assert_eq!(text.parse::<Lsn>(), Ok(Lsn(lsn)));
        assert_eq!(Lsn(lsn).to_string(), text);
    }
    for wrong in ["", "/", "0/", "0/123456789", "+1/2", "1", "0/0/0"] {
        assert!(wrong.parse::<Lsn>().is_err(), "{wrong}");
    }
}
