//! What lake and server hold decides what to do.

use std::collections::BTreeMap;

use ftap_cdc::Lsn;
use ftap_cdc::catalog::{Catalog, PublicationEntry, PublicationIdentity, TableState};
use ftap_cdc::chain::{
    LakeEpoch, Plan, PlanError, PublicationState, Resume, ServerState, SlotState, SnapshotReason,
    plan,
};
use ftap_cdc::checkpoint::{Checkpoint, CheckpointName, Witness};
use serde_json::json;

use super::position;

fn slot() -> SlotState {
    SlotState {
        plugin: Some("pgoutput".to_owned()),
        database: Some("d".to_owned()),
        wal_status: Some("reserved".to_owned()),
        confirmed: Some(Lsn(80)),
        lost_by: None,
    }
}

fn catalog() -> Catalog {
    let users = TableState {
        oid: 16_385,
        name: "public.users".to_owned(),
        publication_entry: Some(PublicationEntry {
            oid: 20_000,
            xmin: 700,
            moved_by: None,
        }),
        ..TableState::default()
    };
    Catalog {
        timeline: 1,
        read_at: Lsn(70),
        publication: Some(PublicationIdentity {
            oid: 19_999,
            xmin: 700,
            options: String::new(),
        }),
        tables: BTreeMap::from([("users".to_owned(), users)]),
    }
}

fn server(slot: Option<SlotState>) -> ServerState {
    ServerState {
        system: "7".to_owned(),
        database: "d".to_owned(),
        flushed: Lsn(100),
        slot,
        publication: PublicationState::Whole,
        catalog: catalog(),
    }
}

const WITNESS: Witness = Witness {
    lsn: Lsn(80),
    xid: 800,
    time_us: 1_000_000,
};

pub(crate) fn epoch() -> LakeEpoch {
    let ends = BTreeMap::from([
        ("users".to_owned(), position(80, 2)),
        ("merchants".to_owned(), position(40, 0)),
    ]);
    let checkpoint = json!({
        "version": 1, "epoch": 4, "slot": "s", "system": "7", "confirmed": "0/50",
        "witness": WITNESS, "ends": ends, "writer_id": "w", "written_at": "2026-11-29T00:00:00Z",
        "timeline": 1, "read_at": "0/46", "publication": catalog().publication,
        "tables": catalog().tables,
    });
    let name = CheckpointName {
        epoch: 4,
        confirmed: Lsn(80),
    };
    let checkpoint = Checkpoint::read(name, checkpoint.to_string().as_bytes()).unwrap();
    LakeEpoch {
        number: 4,
        system: "7".to_owned(),
        slot: "s".to_owned(),
        is_complete: true,
        ends,
        oids: BTreeMap::from([("users".to_owned(), 16_385)]),
        checkpoint: Some(checkpoint),
        has_checkpoints: true,
        unrecorded: BTreeMap::new(),
    }
}

/// Where a stream continues that epoch.
fn resumed() -> Resume {
    Resume {
        confirmed: Lsn(80),
        awaited: vec![WITNESS],
        ends: epoch().ends,
        unrecorded: BTreeMap::new(),
        catalog: Some(catalog()),
    }
}

fn decide(lake: Option<LakeEpoch>, server: &ServerState) -> Result<Plan, PlanError> {
    plan("s", lake.as_ref(), server, false)
}

fn snapshot(epoch: u32, reason: SnapshotReason) -> Result<Plan, PlanError> {
    Ok(Plan::Snapshot { epoch, reason })
}

fn stream(resume: Resume) -> Result<Plan, PlanError> {
    Ok(Plan::Stream {
        epoch: 4,
        resume: Box::new(resume),
    })
}

#[test]
fn what_lake_and_server_hold_decides_what_to_do() {
    let streams = stream(resumed());
    assert_eq!(decide(Some(epoch()), &server(Some(slot()))), streams);
    assert_eq!(
        decide(None, &server(None)),
        snapshot(1, SnapshotReason::First)
    );

    // A kill during the snapshot, or between it and its slot.
    let mut half = LakeEpoch {
        is_complete: false,
        ..epoch()
    };
    let removed = decide(Some(half.clone()), &server(Some(slot())));
    assert_eq!(removed, Err(PlanError::SnapshotRemoved { epoch: 4 }));
    half.checkpoint.as_mut().unwrap().witness = None;
    let again = snapshot(5, SnapshotReason::Interrupted);
    assert_eq!(decide(Some(half.clone()), &server(None)), again);
    assert_eq!(decide(Some(half), &server(Some(slot()))), again);
    let lost = decide(Some(epoch()), &server(None));
    assert!(matches!(lost, Err(PlanError::SlotMissing { .. })));

    let asked = plan("s", Some(&epoch()), &server(None), true);
    assert_eq!(asked, snapshot(5, SnapshotReason::Asked));

    // Of a version without checkpoints.
    let earlier = LakeEpoch {
        checkpoint: None,
        has_checkpoints: false,
        ..epoch()
    };
    let accepted = Resume {
        confirmed: Lsn(80),
        ends: epoch().ends,
        ..Resume::default()
    };
    assert_eq!(
        decide(Some(earlier), &server(Some(slot()))),
        stream(accepted)
    );
}

#[test]
fn what_was_skipped_since_the_last_checkpoint_is_an_error_with_its_range() {
    let decide = |change: &dyn Fn(&mut LakeEpoch, &mut ServerState)| {
        let (mut lake, mut server) = (epoch(), server(Some(slot())));
        change(&mut lake, &mut server);
        decide(Some(lake), &server)
    };
    let confirmed_at = |lsn| {
        move |_: &mut LakeEpoch, server: &mut ServerState| {
            server.slot.as_mut().unwrap().confirmed = Some(Lsn(lsn));
        }
    };
    assert!(decide(&confirmed_at(80)).is_ok());
    assert!(
        decide(&confirmed_at(79)).is_ok(),
        "an acknowledgement was lost"
    );
    type Change = dyn Fn(&mut LakeEpoch, &mut ServerState);
    let cases: [(&Change, &[&str]); 7] = [
        (&confirmed_at(81), &["after 0/50 up to 0/51", "CDC_SLOT"]),
        (
            &|lake, _| {
                lake.checkpoint = None;
            },
            &["no checkpoint", "0/50#2"],
        ),
        (
            &|lake, _| {
                lake.ends.insert("users".to_owned(), position(60, 1));
            },
            &["users end at 0/3C#1", "up to 0/50#2", "users_changes/"],
        ),
        (
            &|_, server| server.catalog.publication.as_mut().unwrap().xmin = 701,
            &["publication was altered", "after 0/46 up to 0/64"],
        ),
        (
            &|_, server| {
                let users = server.catalog.tables.get_mut("users").unwrap();
                users.publication_entry.as_mut().unwrap().oid = 20_001;
            },
            &["table users was taken out", "after 0/46 up to 0/64"],
        ),
        (
            &|_, server| {
                let users = server.catalog.tables.get_mut("users").unwrap();
                users.attached.push(9);
            },
            &["partition with rows of its own", "after 0/46 up to 0/64"],
        ),
        (
            &|lake, server| {
                lake.checkpoint.as_mut().unwrap().witness = None;
                server.catalog.timeline = 2;
            },
            &["timeline is 2"],
        ),
    ];
    for (change, expected) in cases {
        let error = decide(change).unwrap_err().to_string();
        for expected in expected.iter().chain(&["`ftap cdc --resnapshot`"]) {
            assert!(error.contains(expected), "{expected}: {error}");
        }
    }
    // Another timeline that has the witness continues it, under whatever name the table has.
    let continues = decide(&|_, server| {
        server.catalog.timeline = 2;
        server.catalog.tables.get_mut("users").unwrap().name = "other.users_x".to_owned();
    });
    assert_eq!(continues, stream(resumed()));
}

#[test]
fn a_slot_that_may_be_another_lakes_is_never_dropped() {
    for resnapshot in [false, true] {
        let of_another = LakeEpoch {
            slot: "another".to_owned(),
            ..epoch()
        };
        for lake in [None, Some(of_another)] {
            let error = plan("s", lake.as_ref(), &server(Some(slot())), resnapshot);
            let error = error.unwrap_err().to_string();
            assert!(error.contains("pg_drop_replication_slot('s')"), "{error}");
            assert!(!error.contains("--resnapshot"), "{error}");
        }
    }
    let renamed = |server: &mut ServerState| {
        server.catalog.tables.get_mut("users").unwrap().name = "public.users_x".to_owned();
    };
    let mut server = server(Some(slot()));
    renamed(&mut server);
    let error = plan("s", Some(&epoch()), &server, true).unwrap_err();
    assert!(error.to_string().contains("public.users_x"), "{error}");
}

#[test]
fn what_contradicts_itself_is_an_error_that_says_what_to_do() {
    let lost = SlotState {
        wal_status: Some("lost".to_owned()),
        ..slot()
    };
    let foreign = SlotState {
        plugin: Some("wal2json".to_owned()),
        ..slot()
    };
    let elsewhere = SlotState {
        database: Some("other".to_owned()),
        ..slot()
    };
    let another = LakeEpoch {
        system: "8".to_owned(),
        ..epoch()
    };
    let ahead = LakeEpoch {
        ends: BTreeMap::from([("users".to_owned(), position(101, 1))]),
        ..epoch()
    };
    let unpublished = ServerState {
        publication: PublicationState::Missing,
        ..server(Some(slot()))
    };
    let mut remade = server(Some(slot()));
    remade.catalog.tables.get_mut("users").unwrap().oid = 16_999;
    let cases = [
        (Some(epoch()), remade, "created again"),
        (
            Some(epoch()),
            server(None),
            "up to 0/64 are lost as changes",
        ),
        (Some(epoch()), server(Some(lost)), "max_slot_wal_keep_size"),
        (Some(epoch()), server(Some(foreign)), "CDC_SLOT"),
        (Some(epoch()), server(Some(elsewhere)), "CDC_SLOT"),
        (None, server(Some(slot())), "CDC_SLOT"),
        (Some(another), server(Some(slot())), "POSTGRES_HOST"),
        (Some(ahead), server(Some(slot())), "--resnapshot"),
        (Some(epoch()), unpublished, "publication"),
    ];
    for (lake, server, expected) in cases {
        let error = decide(lake, &server).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}
