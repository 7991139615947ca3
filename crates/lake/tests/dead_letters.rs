//! Rejected records in the lake: whole, and of the objects only those count that a file lists.

use std::path::Path;

use ftap_lake::{
    ClosedFile, Compression, DEAD_LETTERS, DeadLetterBuilder, DeadLetterFooter, DeadLetterName,
    FileBuilder, FileSettings, FooterFormat as _, Header, LakeError, LakeLocation, LakeStore,
    PutResult, RejectedRecord, TransactionFooter, dead_letters_of, footer_if_it_counts,
    footer_table, list_dead_letters, put, read_dead_letters,
};

const TIME: i64 = 1_763_769_600_000;

/// A rejected record of its own memory.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Owned {
    offset: i64,
    timestamp_ms: i64,
    reason: String,
    key: Option<Vec<u8>>,
    headers: Vec<Header>,
    payload: Option<Vec<u8>>,
    rejected_ms: i64,
}

impl Owned {
    fn of(record: &RejectedRecord<'_>) -> Self {
        Self {
            offset: record.offset,
            timestamp_ms: record.timestamp_ms,
            reason: record.reason.to_owned(),
            key: record.key.map(<[u8]>::to_vec),
            headers: record.headers.to_vec(),
            payload: record.payload.map(<[u8]>::to_vec),
            rejected_ms: record.rejected_ms,
        }
    }

    fn record(&self) -> RejectedRecord<'_> {
        RejectedRecord {
            offset: self.offset,
            timestamp_ms: self.timestamp_ms,
            reason: &self.reason,
            key: self.key.as_deref(),
            headers: &self.headers,
            payload: self.payload.as_deref(),
            rejected_ms: self.rejected_ms,
        }
    }
}

fn payload(offset: i64) -> Vec<u8> {
    format!("no transaction {offset}").into_bytes()
}

/// What a reader makes of the offsets from `first` to `last`: a file, and what it lists.
fn run(
    (first, last): (i64, i64),
    payload: impl Fn(i64) -> Vec<u8>,
    max_message_bytes: usize,
) -> (ClosedFile<TransactionFooter>, ClosedFile<DeadLetterFooter>) {
    let compression = Compression::Zstd(1);
    let settings = FileSettings {
        max_message_bytes,
        compression,
    };
    let mut file = FileBuilder::open("t".into(), 0, first, TIME, &settings, "w".into()).unwrap();
    let mut letters = DeadLetterBuilder::open(file.name().clone(), compression).unwrap();
    for offset in first..=last {
        let payload = payload(offset);
        let appended = file.append(Some(&payload), offset, TIME).unwrap();
        let ftap_lake::Appended::Rejected(reason) = appended else {
            continue;
        };
        let reason = reason.code();
        letters
            .append(&RejectedRecord {
                offset,
                timestamp_ms: TIME,
                reason: &reason,
                key: None,
                headers: &[],
                payload: Some(&payload),
                rejected_ms: 1,
            })
            .unwrap();
    }
    let file = file.close().unwrap();
    let letters = letters.close(&file.footer).unwrap();
    (file, letters)
}

fn local(folder: &Path) -> LakeStore {
    LakeStore::open(&LakeLocation::Local(folder.to_owned())).unwrap()
}

async fn read(
    lake: &LakeStore,
    name: &DeadLetterName,
    footer: &DeadLetterFooter,
) -> Result<Vec<Owned>, LakeError> {
    let mut records = Vec::new();
    read_dead_letters(lake, name, footer, |record| {
        records.push(Owned::of(record));
        Ok::<_, LakeError>(())
    })
    .await?;
    Ok(records)
}

#[tokio::test]
async fn every_record_is_read_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let lake = local(folder.path());
    let header = |name: &str, value: Option<&[u8]>| (name.to_owned(), value.map(<[u8]>::to_vec));
    let whole = Owned {
        offset: 0,
        timestamp_ms: TIME,
        reason: "not_json".to_owned(),
        key: Some(b"\xff".to_vec()),
        headers: vec![header("a", None), header("a", Some(b"\x00\xff"))],
        payload: Some(b"{".to_vec()),
        rejected_ms: TIME + 1,
    };
    let mut records = vec![
        whole.clone(),
        Owned {
            key: None,
            headers: Vec::new(),
            payload: None,
            timestamp_ms: -1,
            reason: "empty_payload".to_owned(),
            ..whole.clone()
        },
        Owned {
            key: Some(Vec::new()),
            payload: Some(Vec::new()),
            reason: "empty_payload".to_owned(),
            ..whole.clone()
        },
    ];
    // Several row groups, one of them of one record.
    for bytes in [20_000_000, 40_000_000, 1, 20_000_000] {
        records.push(Owned {
            payload: Some(vec![b'x'; bytes]),
            ..whole.clone()
        });
    }
    let settings = FileSettings {
        max_message_bytes: 100,
        compression: Compression::Zstd(1),
    };
    let mut file = FileBuilder::open("t".into(), 0, 0, TIME, &settings, "w".into()).unwrap();
    let mut letters = DeadLetterBuilder::open(file.name().clone(), settings.compression).unwrap();
    for (offset, record) in (0..).zip(&mut records) {
        record.offset = offset;
        let appended = file
            .append(record.payload.as_deref(), offset, TIME)
            .unwrap();
        let ftap_lake::Appended::Rejected(reason) = appended else {
            panic!("{record:?}");
        };
        record.reason = reason.code();
        letters.append(&record.record()).unwrap();
    }
    let file = file.close().unwrap();
    let letters = letters.close(&file.footer).unwrap();
    assert!(DEAD_LETTERS.owns(&letters.key()), "{}", letters.key());
    put(&lake, &letters).await.unwrap();
    let metadata = lake.parquet_metadata(&letters.key()).await.unwrap();
    assert!(metadata.num_row_groups() > 2);
    let found = read(&lake, &letters.name, &letters.footer).await.unwrap();
    assert!(found == records, "they differ");
}

#[tokio::test]
async fn of_what_several_writers_left_only_what_the_file_lists_counts() {
    let folder = tempfile::tempdir().unwrap();
    let lake = local(folder.path());
    let (file, letters) = run((0, 9), payload, 100);
    let (_, shorter) = run((0, 6), payload, 100);
    let (_, stricter) = run((0, 9), payload, 10);
    let (_, of_another_life) = run((0, 9), |offset| payload(offset + 1000), 100);
    let all = [&shorter, &letters, &stricter, &of_another_life];
    for one in all {
        assert!(matches!(put(&lake, one).await, Ok(PutResult::Created)));
    }
    // The same again, by another writer and at another time, is the same object.
    let (_, again) = run((0, 9), payload, 100);
    assert!(matches!(put(&lake, &again).await, Ok(PutResult::Same)));
    let names = list_dead_letters(&lake, "t").await.unwrap();
    assert_eq!(names.len(), 4, "{names:?}");
    assert!(dead_letters_of(&lake, "t").await.unwrap().is_empty());

    put(&lake, &file).await.unwrap();
    let counted = dead_letters_of(&lake, "t").await.unwrap();
    let (name, footer) = &counted[0];
    assert_eq!((counted.len(), name), (1, &letters.name));
    assert_eq!(footer.records(), 10);
    assert!(dead_letters_of(&lake, "another").await.unwrap().is_empty());
    for one in [&shorter, &stricter, &of_another_life] {
        let footer = footer_if_it_counts(&lake, &one.name).await.unwrap();
        assert_eq!(footer, None, "{}", one.key());
    }
}

#[tokio::test]
async fn an_object_that_does_not_hold_what_its_footer_lists_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let lake = local(folder.path());
    let (_, letters) = run((0, 9), payload, 100);
    put(&lake, &letters).await.unwrap();
    let read = async |change: &dyn Fn(&mut DeadLetterFooter)| {
        let mut footer = letters.footer.clone();
        change(&mut footer);
        read(&lake, &letters.name, &footer).await
    };
    assert_eq!(read(&|_| {}).await.unwrap().len(), 10);
    let said = |result: Result<Vec<Owned>, LakeError>| result.unwrap_err().to_string();
    let more = said(read(&|footer| footer.rejected[0].last_offset = 10).await);
    assert!(
        more.contains("offset 10") && more.contains(&letters.key()),
        "{more}"
    );
    let fewer = said(read(&|footer| footer.rejected[0].last_offset = 8).await);
    assert!(fewer.contains("offset 9"), "{fewer}");
    let other = said(read(&|footer| footer.rejected[0].reason = "x".into()).await);
    assert!(other.contains("offset 0"), "{other}");
    let hash = said(read(&|footer| footer.checksum += 1).await);
    assert!(hash.contains("checksum"), "{hash}");

    std::fs::write(folder.path().join(letters.key()), b"PAR1").unwrap();
    let broken = said(read(&|_| {}).await);
    assert!(broken.contains(&letters.key()), "{broken}");
}

#[test]
fn the_document_has_the_footers_table() {
    let document = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/DATA.md");
    let document = std::fs::read_to_string(document).unwrap();
    let table = footer_table(DeadLetterFooter::FIELDS);
    assert!(document.contains(&table), "put this into it:\n{table}");
}
