//! `ftap models list` and `show`: every model with its purpose and its columns, and SQL that `ftap query` answers.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::common::Lab;
use crate::shell::Done;

fn ftap(lab: &Lab, args: &[&str]) -> Done {
    Done::from(lab.command(args).output().unwrap())
}

/// A lab whose lake has no object yet.
fn empty_lake(name: &str) -> Lab {
    let lab = Lab::new(name);
    std::fs::create_dir_all(lab.path("lake")).unwrap();
    lab
}

/// The models in `dbt/`, by name, with their layers.
fn files() -> BTreeMap<String, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("dbt/models");
    let layers = std::fs::read_dir(root).unwrap().map(Result::unwrap);
    let layers = layers.filter(|entry| entry.file_type().unwrap().is_dir());
    let files = layers.flat_map(|layer| {
        let name = layer.file_name().into_string().unwrap();
        let files = std::fs::read_dir(layer.path()).unwrap();
        files.map(move |file| (file.unwrap().path(), name.clone()))
    });
    files
        .filter(|(path, _)| path.extension().is_some_and(|end| end == "sql"))
        .map(|(path, layer)| {
            let name = path.file_stem().unwrap().to_str().unwrap();
            (name.to_owned(), layer)
        })
        .collect()
}

#[test]
fn the_list_has_every_model_with_its_layer_and_what_it_is() {
    // No lake is needed.
    let lab = Lab::new("models-list");
    let listed = ftap(&lab, &["models", "list"]).ends_with(0);
    let mut found = BTreeMap::new();
    for line in listed.stdout.lines() {
        let mut words = line.split_whitespace();
        let (name, layer) = (words.next().unwrap(), words.next().unwrap());
        assert!(words.count() >= 3, "no description: {line}");
        found.insert(name.to_owned(), layer.to_owned());
    }
    assert_eq!(found, files());
}

#[test]
fn what_is_shown_of_a_model_can_be_pasted_into_a_query_and_has_its_columns() {
    let lab = empty_lake("models-show");
    for name in files().keys() {
        let shown = ftap(&lab, &["models", "show", name]).ends_with(0).stdout;
        let mut comments = shown.lines().map_while(|line| line.strip_prefix("-- "));
        let description = comments.next().unwrap();
        assert!(description.len() > 10, "{name}: {description}");
        let described: BTreeSet<String> = comments
            .filter_map(|line| line.split_once(": "))
            .filter(|(column, _)| !column.contains(char::is_whitespace))
            .map(|(column, _)| column.to_ascii_lowercase())
            .collect();
        // Comments and all.
        let answer = ftap(&lab, &["query", &shown, "--format", "csv"]).ends_with(0);
        let header = answer.stdout.lines().next().unwrap();
        let columns: BTreeSet<String> = header.split(',').map(str::to_owned).collect();
        assert_eq!(columns, described, "{name}");
    }
}

#[test]
fn a_model_that_does_not_exist_is_answered_with_the_one_that_was_meant() {
    let lab = empty_lake("models-unknown");
    let marts = lab.path("marts");
    let run = [
        "models",
        "run",
        "--out",
        marts.to_str().unwrap(),
        "mart_daly",
    ];
    for args in [&["models", "show", "mart_daly"][..], &run] {
        ftap(&lab, args)
            .ends_with(2)
            .says(&["no model mart_daly", "did you mean 'mart_daily'?"]);
    }
    ftap(&lab, &["models", "show", "xyz"])
        .ends_with(2)
        .says(&["no model xyz", "ftap models list"]);
    assert!(!marts.exists());
}
