//! What a batch is called and which attempt decides it.

use ftap_warehouse::batch::{
    AttemptSearch, BatchObject, ChainObject, Manifest, VERSION, done_key, fingerprint, job_id,
    manifest_key, names_key, parse_key,
};
use ftap_warehouse::schema::{Column, ColumnType};
use proptest::prelude::*;

fn manifest(writer: &str, sequence: u64, keys: &[String]) -> Manifest {
    let object = |key: &String| BatchObject {
        key: key.clone(),
        rows: 4,
        bytes: 1000,
    };
    Manifest {
        version: VERSION,
        table: "fx_rates".to_owned(),
        sequence,
        follows: String::new(),
        location: "US".to_owned(),
        writer: writer.to_owned(),
        created_ms: 1,
        columns: vec![Column::new("rate", ColumnType::Float)],
        objects: keys.iter().map(object).collect(),
    }
}

proptest! {
    /// Every loader finds the same attempt, in few requests however many have failed.
    #[test]
    fn the_first_attempt_that_has_not_failed_is_found(failed in 0u64..100_000) {
        let mut search = AttemptSearch::default();
        let mut requests = 0;
        let found = loop {
            match search.next() {
                Ok(attempt) => search.note(attempt, attempt < failed),
                Err(found) => break found,
            }
            requests += 1;
        };
        prop_assert_eq!(found, failed);
        prop_assert!(requests <= 36, "{} requests", requests);
    }

    /// What is read is what was written, and any difference makes another job.
    #[test]
    fn a_job_is_known_by_all_of_its_manifest(
        keys in prop::collection::vec("[a-z/]{1,20}", 0..5),
        other in prop::collection::vec("[a-z/]{1,20}", 0..5),
        sequence in 1u64..u64::MAX,
    ) {
        let one = manifest("a", sequence, &keys);
        let bytes = one.encode();
        prop_assert_eq!(&Manifest::decode("k", &bytes).unwrap(), &one);
        let id = |manifest: &Manifest, attempt| {
            let fingerprint = fingerprint(&manifest.encode());
            job_id(&manifest.table, manifest.sequence, &fingerprint, attempt)
        };
        let is_id = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
        prop_assert!(id(&one, 0).chars().all(is_id) && id(&one, 0).len() < 1024);
        prop_assert_eq!(id(&one, 0), id(&one.clone(), 0));
        prop_assert_ne!(id(&one, 0), id(&one, 1));
        prop_assert_ne!(id(&one, 0), id(&manifest("b", sequence, &keys), 0));
        if keys != other {
            prop_assert_ne!(id(&one, 0), id(&manifest("a", sequence, &other), 0));
        }
    }

    #[test]
    fn a_key_of_the_chain_is_read_as_it_is_written(sequence in 0u64..u64::MAX) {
        let folder = "bigquery/p/d/transactions";
        let (manifest, done) = (manifest_key(folder, sequence), done_key(folder, sequence));
        prop_assert_eq!(parse_key(folder, &manifest), Some(ChainObject::Manifest(sequence)));
        prop_assert_eq!(parse_key(folder, &done), Some(ChainObject::Done(sequence)));
        let names = names_key(folder, sequence);
        prop_assert_eq!(parse_key(folder, &names), Some(ChainObject::Names(sequence)));
        prop_assert_eq!(parse_key("bigquery/p/d/other", &manifest), None);
    }
}

#[test]
fn what_is_not_a_manifest_is_reported() {
    let key = "bigquery/p/d/t/00000000000000000001.json";
    for (bytes, says) in [
        (&b"not json"[..], "is not the manifest of a load"),
        (b"{}", "is not the manifest of a load"),
        (b"{\"version\":1}", "is not the manifest of a load"),
        (b"{\"version\":2}", "use a newer ftap"),
    ] {
        let error = Manifest::decode(key, bytes).unwrap_err().to_string();
        assert!(error.contains(key) && error.contains(says), "{error}");
    }
    for stray in [
        "",
        "/",
        "x.json",
        "1.json",
        "00000000000000000001.done",
        "+0000000000000000001.json",
    ] {
        assert_eq!(parse_key("f", &format!("f/{stray}")), None, "{stray}");
    }
}
