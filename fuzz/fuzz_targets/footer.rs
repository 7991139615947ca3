//! The footer of a file in the lake: its pairs, its Parquet metadata, and any bytes as a file.

#![no_main]

use std::path::PathBuf;
use std::sync::LazyLock;

use chrono::NaiveDate;
use ftap_cdc::ChangeFooter;
use ftap_lake::{
    ChangeObjectName, ChangePart, Footer, FooterFormat, LakeLocation, LakeStore, ObjectName,
    TransactionFooter, read_footer,
};
use libfuzzer_sys::fuzz_target;
use tokio::runtime::Runtime;

struct Lake {
    folder: PathBuf,
    store: LakeStore,
    runtime: Runtime,
}

static LAKE: LazyLock<Lake> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a temporary folder").keep();
    let store = LakeStore::open(&LakeLocation::Local(folder.clone())).expect("a lake");
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    Lake {
        folder,
        store,
        runtime: runtime.expect("a runtime"),
    }
});

/// What can be read is written as it was read.
fn read_pairs<F: FooterFormat + PartialEq + std::fmt::Debug>(pairs: &[(&str, Option<&str>)]) {
    if let Ok(footer) = F::from_pairs(pairs.iter().copied()) {
        check(&footer);
    }
}

fn check<F: FooterFormat + PartialEq + std::fmt::Debug>(footer: &F) {
    let written = footer.to_pairs();
    let written = written
        .iter()
        .map(|(key, value)| (*key, Some(value.as_str())));
    assert_eq!(F::from_pairs(written).as_ref(), Ok(footer));
}

fn read_file<F: Footer + PartialEq + std::fmt::Debug>(name: &F::Name, bytes: &[u8]) {
    let lake = &*LAKE;
    let path = lake.folder.join(name.to_string());
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    std::fs::write(path, bytes).expect("a file");
    if let Ok(footer) = lake.runtime.block_on(read_footer::<F>(&lake.store, name)) {
        check(&footer);
    }
}

fn read_files(bytes: &[u8]) {
    let date = NaiveDate::from_ymd_opt(2024, 1, 1).expect("a day");
    let name =
        ObjectName::parse("transactions/2024-01-01/transactions-0-00000000000000000000.parquet");
    read_file::<TransactionFooter>(&name.expect("a key"), bytes);
    let name = ChangeObjectName {
        table: "users".to_owned(),
        epoch: 1,
        part: ChangePart::Snapshot(1),
        date,
    };
    read_file::<ChangeFooter>(&name, bytes);
}

fuzz_target!(|data: &[u8]| {
    let Some((kind, rest)) = data.split_first() else {
        return;
    };
    match kind {
        b'p' => {
            let text = String::from_utf8_lossy(rest);
            let pairs = text.lines().filter_map(|line| line.split_once('='));
            let pairs: Vec<_> = pairs.map(|(key, value)| (key, Some(value))).collect();
            read_pairs::<TransactionFooter>(&pairs);
            read_pairs::<ChangeFooter>(&pairs);
        }
        b'm' => {
            let length = (rest.len() as u32).to_le_bytes();
            read_files(&[b"PAR1", rest, &length, b"PAR1"].concat());
        }
        _ => read_files(rest),
    }
});
