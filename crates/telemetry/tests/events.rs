//! The event catalogue: the document says what the code logs, and nothing else is logged.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use ftap_telemetry::events::{OTHERS, catalogue, catalogue_markdown};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .unwrap()
        .to_owned()
}

/// Rust files of the program; without tests, the events themselves and the embedded services.
fn sources() -> Vec<(PathBuf, String)> {
    let mut folders = vec![root().join("src"), root().join("actors/src")];
    let crates = std::fs::read_dir(root().join("crates")).unwrap();
    folders.extend(
        crates
            .map(|entry| entry.unwrap().path())
            .filter(|path| !path.ends_with("telemetry") && !path.ends_with("broker"))
            .map(|path| path.join("src")),
    );
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.ends_with("postgres/src/cluster") {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push((path.clone(), std::fs::read_to_string(&path).unwrap()));
            }
        }
    }
    files
}

#[test]
fn the_document_is_the_catalogue() {
    let path = root().join("docs/EVENTS.md");
    let wanted = catalogue_markdown();
    if std::env::var_os("FTAP_UPDATE_DOCS").is_some() {
        std::fs::write(&path, &wanted).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap();
    assert!(
        written == wanted,
        "docs/EVENTS.md is not what the code says; update it: FTAP_UPDATE_DOCS=1 cargo test -p ftap-telemetry --test events"
    );
}

#[test]
fn every_event_of_the_catalogue_is_logged_somewhere() {
    let sources = sources();
    let unused: Vec<_> = catalogue()
        .filter(|event| {
            let made = format!("{} {{", event.type_name);
            !sources.iter().any(|(_, text)| text.contains(&made))
        })
        .map(|event| event.name)
        .collect();
    assert!(unused.is_empty(), "never logged: {unused:?}");
}

#[test]
fn what_the_embedded_services_log_is_in_the_catalogue_and_no_more() {
    let mut folders = vec![
        root().join("crates/broker/src"),
        root().join("crates/postgres/src/cluster"),
    ];
    let mut logged = std::collections::BTreeSet::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            let names = text.split("event = \"").skip(1);
            logged.extend(names.filter_map(|rest| Some(rest.split_once('"')?.0.to_owned())));
        }
    }
    let own = ["panicked", "command_failed", "library_message"];
    let mut documented: std::collections::BTreeSet<_> = OTHERS
        .iter()
        .map(|event| event.name.to_owned())
        .filter(|name| !own.contains(&name.as_str()))
        .collect();
    documented.insert("topic_created".to_owned());
    assert_eq!(logged, documented);
}

#[test]
fn nothing_is_logged_past_the_catalogue() {
    for (path, text) in sources() {
        // Other libraries' lines pass through here, under their own target.
        if path.ends_with("src/telemetry.rs") {
            continue;
        }
        for level in ["trace", "debug", "info", "warn", "error", "event"] {
            // By whatever path it was imported.
            let call = format!("{level}!(");
            let mut calls = text.match_indices(&call).map(|(at, _)| &text[..at]);
            assert!(
                calls.all(|before| before.ends_with(|c: char| c.is_alphanumeric() || c == '_')),
                "{} calls {call}: use a struct of ftap_telemetry::events",
                path.display()
            );
        }
    }
}

#[test]
fn names_are_unique_and_snake_case() {
    let mut names: Vec<_> = catalogue().chain(OTHERS).map(|event| event.name).collect();
    names.sort_unstable();
    assert!(names.windows(2).all(|pair| pair[0] != pair[1]));
    for name in names {
        assert!(
            name.chars()
                .all(|character| character.is_ascii_lowercase() || character == '_'),
            "{name}"
        );
    }
}

#[test]
fn a_field_name_has_one_type_in_all_events() {
    let mut kinds = std::collections::BTreeMap::new();
    for event in catalogue().chain(OTHERS) {
        for field in event.fields {
            let known = *kinds.entry(field.name).or_insert(field.kind);
            assert_eq!(known, field.kind, "{} of {}", field.name, event.name);
        }
    }
}
