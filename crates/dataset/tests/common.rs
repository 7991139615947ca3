//! What several test files need; each uses a part.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const CHILD_DIR: &str = "FTAP_DATASET_TEST_CHILD_DIR";

/// A test that runs itself as a process of its own, to be killed for real.
pub(crate) struct Killed;

impl Killed {
    /// Whether this is the process that will be killed.
    pub(crate) fn is_child() -> bool {
        std::env::var_os(CHILD_DIR).is_some()
    }

    /// Where that process writes.
    pub(crate) fn dir() -> PathBuf {
        PathBuf::from(std::env::var_os(CHILD_DIR).unwrap())
    }
}

/// Runs the test `name` of this binary as a child and kills it when `file` has bytes.
pub(crate) fn kill_once_written(name: &str, dir: &Path, file: &Path) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name])
        .env(CHILD_DIR, dir)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let patience = Instant::now() + Duration::from_secs(60);
    while !file.metadata().is_ok_and(|metadata| metadata.len() > 0) {
        assert!(
            child.try_wait().unwrap().is_none(),
            "{name} ended by itself"
        );
        assert!(Instant::now() < patience, "{} never came", file.display());
        std::thread::yield_now();
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

/// The header of the Kaggle file.
pub(crate) const HEADER: &str = ",trans_date_trans_time,cc_num,merchant,category,amt,first,last,gender,street,city,state,zip,lat,long,city_pop,job,dob,trans_num,unix_time,merch_lat,merch_long,is_fraud,merch_zipcode";

/// A row in the Kaggle file's form.
pub(crate) const ROW: &str = "0,2019-01-01 00:00:18,2703186189652095,\"fraud_Rippin, Kub and Mann\",misc_net,4.97,Jennifer,Banks,F,561 Perry Cove,Moravian Falls,NC,28654,36.0788,-81.1781,3495,\"Psychologist, counselling\",1988-03-09,0b242abb623afc578575680df30655b9,1325376018,36.011293,-82.048315,0,28705.0";

/// [`ROW`] with the text of one column replaced as it is, quotes and all.
pub(crate) fn with_field(column: &str, text: &str) -> String {
    let at = HEADER.split(',').position(|name| name == column).unwrap();
    let mut fields: Vec<String> = csv::ReaderBuilder::new()
        .has_headers(false)
        .from_reader(ROW.as_bytes())
        .records()
        .next()
        .unwrap()
        .unwrap()
        .iter()
        .map(|field| {
            if field.contains(',') {
                format!("\"{field}\"")
            } else {
                field.to_owned()
            }
        })
        .collect();
    fields[at] = text.to_owned();
    fields.join(",")
}
