//! What may know what, read from the sources: actors know messages and not each other; domain
//! crates know neither actors nor actix.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Files of `actors/src` that are no actors: any file there may import them.
const SHARED: [&str; 2] = ["messages", "settings"];

/// The modules that each module of `actors/src` names. A folder belongs to the file of its name.
fn imports() -> BTreeMap<String, BTreeSet<String>> {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut imports: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut files = rust_files(&sources);
    files.retain(|file| !file.ends_with("lib.rs"));
    for file in files {
        let inside = file.strip_prefix(&sources).unwrap();
        let module = inside.iter().next().unwrap().to_str().unwrap();
        let module = module.trim_end_matches(".rs").to_owned();
        let text = fs::read_to_string(&file).unwrap();
        let mut named = named_after("crate::", &text);
        if inside.iter().count() == 1 {
            named.extend(named_after("super::", &text));
        }
        named.remove(&module);
        imports.entry(module).or_default().extend(named);
    }
    let modules: BTreeSet<String> = imports.keys().cloned().collect();
    for named in imports.values_mut() {
        named.retain(|name| modules.contains(name));
    }
    imports
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

/// The first name of each path after `root`, of each branch where the path begins with braces.
fn named_after(root: &str, text: &str) -> BTreeSet<String> {
    let identifier = |text: &str| -> String {
        let is_part = |c: &char| c.is_alphanumeric() || *c == '_';
        text.trim_start().chars().take_while(is_part).collect()
    };
    let mut names = BTreeSet::new();
    for (at, _) in text.match_indices(root) {
        let path = &text[at + root.len()..];
        let Some(branches) = path.strip_prefix('{') else {
            names.insert(identifier(path));
            continue;
        };
        let (mut depth, mut branch) = (0, String::new());
        for c in branches.chars() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    names.insert(identifier(&branch));
                    branch.clear();
                    continue;
                }
                _ => {}
            }
            branch.push(c);
        }
        names.insert(identifier(&branch));
    }
    names
}

#[test]
fn no_actor_file_imports_another_actor() {
    let imports = imports();
    assert!(
        imports.len() > 10,
        "the sources were not found: {imports:?}"
    );
    assert!(
        imports["parquet_buffer"].contains("messages"),
        "{imports:?}"
    );
    for (module, named) in &imports {
        let actors: Vec<_> = named
            .iter()
            .filter(|name| !SHARED.contains(&name.as_str()))
            .collect();
        assert!(
            actors.is_empty(),
            "actors/src/{module}.rs names {actors:?}: send a message through an Outbox instead"
        );
    }
}

#[test]
fn the_files_of_actors_import_each_other_in_no_circle() {
    let mut left = imports();
    while !left.is_empty() {
        let free: BTreeSet<String> = left
            .iter()
            .filter(|(_, named)| named.is_empty())
            .map(|(module, _)| module.clone())
            .collect();
        assert!(!free.is_empty(), "a circle of imports: {left:?}");
        left.retain(|module, _| !free.contains(module));
        for named in left.values_mut() {
            named.retain(|name| !free.contains(name));
        }
    }
}

/// Names of the crates that a manifest depends on, for whatever purpose.
fn dependencies(manifest: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut section = "";
    for line in manifest.lines().map(str::trim) {
        if let Some(header) = line.strip_prefix('[') {
            section = header.trim_end_matches(']');
            if let Some((_, name)) = section.split_once("dependencies.") {
                names.insert(name.to_owned());
            }
        } else if section.contains("dependencies") && !line.starts_with('#') {
            let name = line.split(['.', '=', ' ']).next().unwrap_or_default();
            names.insert(name.to_owned());
            if let Some((_, package)) = line.split_once("package = \"") {
                names.insert(package.split('"').next().unwrap().to_owned());
            }
        }
    }
    names
}

#[test]
fn domain_crates_know_neither_actors_nor_actix() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates");
    let mut seen = 0;
    for entry in fs::read_dir(crates).unwrap() {
        let folder = entry.unwrap().path();
        let Ok(manifest) = fs::read_to_string(folder.join("Cargo.toml")) else {
            continue;
        };
        let name = folder.file_name().unwrap().to_str().unwrap();
        let depends = dependencies(&manifest);
        seen += 1;
        assert!(!depends.contains("ftap-actors"), "crates/{name}");
        // Supervision is what runs actors.
        let uses_actix = depends.contains("actix");
        assert_eq!(uses_actix, name == "supervision", "crates/{name}: actix");
    }
    assert!(seen > 10, "only {seen} crates were found");
}

/// The manifest's dependencies on our crates, those of tests alone left out.
fn edges(manifest: &str) -> BTreeSet<String> {
    manifest
        .lines()
        .skip_while(|line| line.trim() != "[dependencies]")
        .skip(1)
        .take_while(|line| !line.starts_with('['))
        .filter_map(|line| line.strip_prefix("ftap-"))
        .filter_map(|line| line.split(['.', ' ', '=']).next())
        .map(str::to_owned)
        .collect()
}

#[test]
fn the_picture_of_the_crates_in_design_md_is_true() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut folders = vec![
        ("ftap".to_owned(), root.clone()),
        ("actors".to_owned(), root.join("actors")),
        ("bench".to_owned(), root.join("bench")),
        ("chaos".to_owned(), root.join("chaos")),
    ];
    for entry in fs::read_dir(root.join("crates")).unwrap() {
        let folder = entry.unwrap().path();
        let name = folder.file_name().unwrap().to_str().unwrap().to_owned();
        folders.push((name, folder));
    }
    let built: BTreeMap<String, BTreeSet<String>> = folders
        .into_iter()
        .filter_map(|(name, folder)| {
            let manifest = fs::read_to_string(folder.join("Cargo.toml")).ok()?;
            Some((name, edges(&manifest)))
        })
        .collect();
    let design = fs::read_to_string(root.join("docs/DESIGN.md")).unwrap();
    let (_, picture) = design.split_once("```crates\n").unwrap();
    let (picture, _) = picture.split_once("```").unwrap();
    let drawn: BTreeMap<String, BTreeSet<String>> = picture
        .lines()
        .map(|line| {
            let (name, depends) = line.split_once("->").unwrap();
            let depends = depends.split(',').map(|name| name.trim().to_owned());
            let depends = depends.filter(|name| !name.is_empty()).collect();
            (name.trim().to_owned(), depends)
        })
        .collect();
    for (name, depends) in &built {
        assert_eq!(
            drawn.get(name),
            Some(depends),
            "docs/DESIGN.md, `crates`: {name}"
        );
    }
    assert_eq!(drawn.len(), built.len(), "docs/DESIGN.md draws {drawn:?}");
}
