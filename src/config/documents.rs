//! `docs/SETTINGS.md` and `.env.example`, made from the list of settings. With FTAP_UPDATE_DOCS set, the
//! tests write them.

#![allow(clippy::unwrap_used)]

use std::fmt::Write as _;

use super::layers::Layers;
use super::setting::{Default, EVERY, SETTINGS, Setting};
use super::{Config, Effective};
use crate::cli;

fn markdown() -> String {
    let mut out = String::from(
        "# Settings\n\n\
         Flags win over the environment, the environment over `.env` in the working directory, and\n\
         that over the defaults. An empty value counts as unset. The flag of a setting is its name in\n\
         lower case with dashes, `--kafka-topic` for `KAFKA_TOPIC`; secrets have no flag, because other\n\
         users of the machine see the arguments of a process. A secret can be in a file that `NAME_FILE`\n\
         names, `POSTGRES_PASSWORD_FILE` for instance. `ftap config` shows what is in effect and\n\
         where it came from, secrets masked; `ftap config produce` shows what that command uses. All\n\
         settings are checked at start; a wrong one ends the program with exit code 2 and a message that\n\
         states what is expected.\n\n\
         Sizes: KB, MB and GB are powers of 1000, KiB, MiB and GiB powers of 1024. Whole numbers may be\n\
         written as `1_000_000` or `1e6`.\n\n\
         Made from `src/config/list.rs` by `FTAP_UPDATE_DOCS=1 cargo test --bin ftap`.\n",
    );
    let mut group = "";
    for setting in SETTINGS.iter() {
        if setting.group != group {
            group = setting.group;
            let _ = write!(
                out,
                "\n## {group}\n\n| setting | default | meaning | expected | used by |\n|---|---|---|---|---|\n"
            );
        }
        let default = match &setting.default {
            Default::Text(text) => format!("`{text}`"),
            Default::Depends(description, _) => description.to_string(),
            unset => unset.description(),
        };
        let secret = if setting.is_secret { " (secret)" } else { "" };
        let Setting {
            name,
            meaning,
            expected,
            commands,
            ..
        } = setting;
        let _ = writeln!(
            out,
            "| `{name}`{secret} | {default} | {meaning} | {expected} | {commands} |"
        );
    }
    out
}

fn example() -> String {
    let mut out = String::from(
        "# Copy to `.env`, which git ignores, and set what you need: everything is optional.\n\
         # Flags win over the environment, the environment wins over this file. Values with spaces, quotes, `$` or `#`\n\
         # need single quotes. docs/SETTINGS.md explains every setting, `ftap config` shows what is in effect.\n",
    );
    let mut group = "";
    for (setting, effective) in SETTINGS.iter().zip(defaults()) {
        if setting.group != group {
            group = setting.group;
            let _ = writeln!(out, "\n# --- {group} ---");
        }
        let default = effective.value.unwrap_or_default();
        let value = setting.example.unwrap_or(&default);
        let quote = if value.contains(' ') { "'" } else { "" };
        let first_sentence = setting.meaning.split(". ").next().unwrap_or_default();
        for line in wrapped(first_sentence) {
            let _ = writeln!(out, "# {line}");
        }
        let _ = writeln!(out, "#{}={quote}{value}{quote}", setting.name);
    }
    out
}

/// Lines that fit on a screen.
fn wrapped(text: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut().unwrap();
        if line.is_empty() {
            line.push_str(word);
        } else if line.len() + word.len() < 100 {
            *line += &format!(" {word}");
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

fn defaults() -> Vec<Effective> {
    let config = Config::from_layers(&Layers::default()).unwrap();
    config.effective().to_vec()
}

#[track_caller]
fn assert_document(name: &str, text: &str) {
    let path = format!("{}/{name}", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("FTAP_UPDATE_DOCS").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == text,
        "{name} is out of date: run FTAP_UPDATE_DOCS=1 cargo test --bin ftap"
    );
}

#[test]
fn the_documents_are_up_to_date() {
    assert_document("docs/SETTINGS.md", &markdown());
    assert_document(".env.example", &example());
}

#[test]
fn every_setting_has_a_name_of_its_own_and_commands_that_exist() {
    let mut names: Vec<_> = SETTINGS.iter().map(|setting| setting.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), SETTINGS.len());
    let commands = cli::command_names();
    for setting in SETTINGS.iter().filter(|setting| setting.commands != EVERY) {
        for command in setting.commands.split(", ") {
            assert!(
                commands.iter().any(|name| name == command),
                "{}",
                setting.name
            );
        }
    }
}

#[test]
fn every_default_is_usable_for_every_command_and_complete() {
    for command in cli::command_names() {
        let layers = Layers {
            command,
            ..Layers::default()
        };
        let config = Config::from_layers(&layers).unwrap();
        assert_eq!(config.effective().len(), SETTINGS.len());
        for setting in config.effective() {
            let shown = format!("{:?} {}", setting.value, setting.instead);
            assert!(!shown.contains('$'), "{}: {shown}", setting.name);
        }
    }
}
