//! The lake's page: its numbers are those of `ftap query` and the events, and keys come from the listing only.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::shell::{PATIENCE, Place, Running, get};

/// Fetches until the answer has all of these.
#[track_caller]
fn get_with(url: &str, path: &str, parts: &[&str]) -> String {
    let end = Instant::now() + PATIENCE;
    loop {
        let answer = get(url, path);
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        let missing = parts.iter().find(|part| !answer.body.contains(**part));
        let Some(missing) = missing else {
            return answer.body;
        };
        assert!(Instant::now() < end, "no {missing:?} in {}", answer.body);
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn query(place: &Place, sql: &str) -> Value {
    let done = place.run(&["query", "--format", "json", sql]).ends_with(0);
    serde_json::from_str(done.stdout.lines().next().unwrap()).unwrap()
}

/// A lake of one run and a process that shows it.
fn shown(place: &Place) -> (Running, String) {
    let mut run = place.ftap(&["run", "--rows", "3000", "--until-drained"]);
    run.env("POSTGRES", "off");
    run.env("GCS_FLUSH_SECONDS", "0.2");
    assert!(run.output().unwrap().status.success());
    place.serve()
}

fn objects(place: &Place, folder: &str) -> Vec<String> {
    let lake = place.path("data/lake");
    let mut folders = vec![lake.join(folder)];
    let mut keys = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let key = path.strip_prefix(&lake).unwrap();
                keys.push(key.to_str().unwrap().to_owned());
            }
        }
    }
    keys.sort();
    keys
}

#[test]
fn the_lakes_page_has_the_numbers_of_the_query_and_of_the_folders() {
    let place = Place::new();
    let (_serve, url) = shown(&place);
    assert!(
        get(&url, "/lake")
            .body
            .contains("data-card=\"lake_chains\"")
    );
    let (transactions, rates) = (objects(&place, "transactions"), objects(&place, "fx_rates"));
    let rate_rows = query(&place, "select count(*) as n from fx_rates")["n"].clone();
    let row = |name: &str, objects: usize, rows: &str| {
        format!(
            "<tr><td>{name}</td><td class=\"number\">{objects}</td><td class=\"number\">{rows}</td>"
        )
    };
    let rate_rows = rate_rows.as_u64().unwrap();
    let rate_rows = match rate_rows / 1000 {
        0 => rate_rows.to_string(),
        thousands => format!("{thousands},{:03}", rate_rows % 1000),
    };
    get_with(
        &url,
        "/cards/lake_sets",
        &[
            &row("transactions", transactions.len(), "3,000"),
            &row("fx_rates", rates.len(), &rate_rows),
            &row("users_changes", 0, "0"),
        ],
    );
    let lists = get_with(&url, "/cards/lake_objects", &["users_changes: 0 of 0"]);
    let summary = format!("fx_rates: {} of {}", rates.len().min(50), rates.len());
    assert!(lists.contains(&summary), "{lists}");

    let chains = get(&url, "/cards/lake_chains").body;
    assert_eq!(chains.matches("<article>").count(), 3, "{chains}");
    for partition in 0..3 {
        let sql = format!(
            "select count(*) as n, max(_kafka_offset) as last from transactions where _kafka_partition = {partition}"
        );
        let n = query(&place, &sql)["n"].as_u64().unwrap();
        let shown = match n / 1000 {
            0 => n.to_string(),
            thousands => format!("{thousands},{:03}", n % 1000),
        };
        let said = format!(" {shown} rows, 0 rejected, no gap");
        assert!(chains.contains(&said), "no {said:?} in {chains}");
    }
    for key in &transactions {
        assert!(chains.contains(&format!("/lake/file?key={key}\"")), "{key}");
    }
}

#[test]
fn a_gap_in_a_chain_is_marked_with_its_offsets() {
    let place = Place::new();
    let mut run = place.ftap(&["run", "--rows", "60000", "--until-drained"]);
    run.env("POSTGRES", "off");
    run.env("FILE_MAX_ROWS", "1000");
    assert!(run.output().unwrap().status.success());
    let keys = objects(&place, "transactions");
    let of_first: Vec<_> = keys.iter().filter(|key| key.contains("-0-0")).collect();
    assert!(of_first.len() > 3, "{keys:?}");
    std::fs::remove_file(place.path("data/lake").join(of_first[1])).unwrap();
    let offset = |key: &str| -> i64 {
        let digits = key.rsplit('-').next().unwrap().trim_end_matches(".parquet");
        digits.parse().unwrap()
    };
    let (first, last) = (offset(of_first[1]), offset(of_first[2]) - 1);
    let (_serve, url) = place.serve();
    let chains = get(&url, "/cards/lake_chains").body;
    let gap = format!("gap: no object has the offsets {first} to {last};");
    assert!(chains.contains(&gap), "no {gap:?} in {chains}");
    assert_eq!(chains.matches("class=\"gap\"").count(), 1);
    assert_eq!(chains.matches(", no gap").count(), 2);
}

#[test]
fn a_files_page_shows_what_is_in_it_and_other_keys_are_not_found() {
    let place = Place::new();
    let (_serve, url) = shown(&place);
    let key = objects(&place, "transactions").remove(0);
    let page = get(&url, &format!("/lake/file?key={key}"));
    assert_eq!(page.status, 200, "{}", page.body);
    let sql = "select count(*) as n, min(trans_num) as first from (select * from transactions where _kafka_partition = 0 and _kafka_offset < 20)";
    let first = query(&place, sql)["first"].as_str().unwrap().to_owned();
    for part in [
        "<td>ftap.first_offset</td><td>0</td>",
        "<td>ftap.partition</td><td>0</td>",
        "<td>_kafka_offset</td><td>INT64</td>",
        "1 of 1",
        &first,
    ] {
        assert!(page.body.contains(part), "no {part:?} in {}", page.body);
    }
    let rates = objects(&place, "fx_rates").remove(0);
    assert_eq!(get(&url, &format!("/lake/file?key={rates}")).status, 200);

    // Files that are there, but not of the listing, and what was never there.
    std::fs::write(place.path("secret.parquet"), "no").unwrap();
    std::fs::write(place.path("data/lake/transactions/other.parquet"), "no").unwrap();
    let missing = key.replace("-0-0", "-7-0");
    for other in [
        "",
        "transactions",
        "transactions/other.parquet",
        "../../secret.parquet",
        "transactions/../../../secret.parquet",
        "/etc/passwd",
        "transactions/%2e%2e/%2e%2e/secret.parquet",
        missing.as_str(),
        &format!("{key}/"),
        &format!("/{key}"),
        &format!("{key}%00"),
    ] {
        let answer = get(&url, &format!("/lake/file?key={other}"));
        assert_eq!(answer.status, 404, "{other}: {}", answer.body);
        assert!(!answer.body.contains("secret"), "{}", answer.body);
    }
    assert_eq!(get(&url, "/lake/file").status, 404);
}
