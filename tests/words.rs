//! Plain English: phrases that obscure what is meant do not come back.
//!
//! Checks the text files that git tracks, comments and messages included. A phrase is found across line breaks
//! and comment markers, in whole words, ignoring case, and in the names of functions, such as tests. Otherwise a
//! word in quotes or backticks is a name and is allowed.

use std::path::Path;
use std::process::Command;

/// Phrases, separated by `|`, and what to write instead.
const REPLACEMENTS: &[(&str, &str)] = &[
    ("anew", "again; recreated; reads again"),
    ("told", "logged; reported; returned"),
    ("mend|mends|mended|mending", "fix; fixes; fixed"),
    (
        "whoever|somebody|nobody",
        "the process, the user, another client, no one: name it",
    ),
    ("for ever", "indefinitely"),
    ("go on|goes on|going on|went on", "continue; resume"),
    (
        "give up|gives up|giving up|gave up|given up",
        "stop retrying; abort; stop with an error",
    ),
    ("at the least", "at least"),
    ("comes to|came to", "leads to; results in"),
    (
        "what becomes of|what became of|what will become of",
        "what happens to; what happened to",
    ),
    ("has to be|have to be", "must be"),
    ("is to be|are to be", "must be; will be"),
    ("to be had", "available"),
    ("none there", "if none is installed; if there is none"),
    ("wanted is", "expected"),
];

/// Words after "is no" that make plain English, as in "is no longer".
const AFTER_IS_NO: &[&str] = &[
    "longer", "more", "less", "such", "greater", "larger", "later", "earlier", "one",
];

#[test]
fn documents_comments_and_messages_are_plain_english() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let listed = Command::new("git")
        .args(["ls-files", "-z"])
        .current_dir(root)
        .output()
        .expect("git runs: the files to check are those that it tracks");
    assert!(
        listed.status.success(),
        "git ls-files: {}",
        String::from_utf8_lossy(&listed.stderr)
    );
    let listed = String::from_utf8(listed.stdout).expect("paths are UTF-8");
    let mut findings = Vec::new();
    let mut files = 0;
    for path in listed.split('\0').filter(|path| is_checked(path)) {
        // Deleted, but not yet in the index.
        let Ok(content) = std::fs::read_to_string(root.join(path)) else {
            continue;
        };
        files += 1;
        findings.extend(
            check(&content)
                .into_iter()
                .map(|finding| format!("{path}:{finding}")),
        );
    }
    assert!(files > 100, "only {files} files were checked");
    assert!(
        findings.is_empty(),
        "{} phrases to replace:\n{}",
        findings.len(),
        findings.join("\n")
    );
}

#[test]
fn a_phrase_is_found_wherever_it_is_and_names_are_not() {
    let found = |text: &str| check(text).len();
    assert_eq!(found("/// Reads it Anew."), 1);
    assert_eq!(found("//! the stream goes\n//!   on by itself"), 1);
    assert_eq!(found("# waits for\n# ever"), 1);
    assert_eq!(found("| a file that is no Parquet file |"), 1);
    assert_eq!(found("there is no file, it is no longer there"), 0);
    assert_eq!(found("the account `nobody`, \"nobody\" in code"), 0);
    assert_eq!(found("event group_gave_up, renewanew, a mendicant"), 0);
    assert_eq!(found("async fn a_topic_is_made_anew() {"), 1);
    assert_eq!(
        found("fn what_is_no_row() {}\nfn what_is_no_longer_there() {}"),
        1
    );
    assert_eq!(
        check("one\ntwo\nit was told\n")[0].split(':').next(),
        Some("3")
    );
}

fn is_checked(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
    let is_text = matches!(
        extension,
        "md" | "rs" | "toml" | "yml" | "sql" | "html" | "js" | "css" | "py" | "c" | "xml" | "txt"
    );
    let is_script = path.starts_with("scripts/") || path.starts_with(".ci/");
    let is_this_list = path == file!();
    (is_text || is_script || matches!(name, "Dockerfile" | ".env.example" | "justfile"))
        && !is_this_list
}

/// One finding per phrase: `LINE: "phrase": write replacement`.
fn check(content: &str) -> Vec<String> {
    let (text, line_starts) = flatten(content);
    let line_of = |at: usize| line_starts.partition_point(|start| *start <= at);
    let in_text = phrases_in(&text)
        .into_iter()
        .map(|(at, phrase, replacement)| (line_of(at), phrase, replacement));
    let in_names = (1..).zip(content.lines()).flat_map(|(line, text)| {
        phrases_in(&function_name(text).replace('_', " "))
            .into_iter()
            .map(move |(_, phrase, replacement)| (line, phrase, replacement))
    });
    let mut findings: Vec<_> = in_text.chain(in_names).collect();
    findings.sort();
    findings
        .into_iter()
        .map(|(line, phrase, replacement)| format!("{line}: \"{phrase}\": write: {replacement}"))
        .collect()
}

/// The name of the function that begins in this line, or nothing.
fn function_name(line: &str) -> &str {
    let name = line.split_once("fn ").map_or("", |(_, name)| name);
    name.split(|c: char| !c.is_alphanumeric() && c != '_')
        .next()
        .unwrap_or("")
}

/// Where each phrase begins, the phrase, and what to write instead.
fn phrases_in(text: &str) -> Vec<(usize, String, &'static str)> {
    let mut findings = Vec::new();
    for (phrases, replacement) in REPLACEMENTS {
        for phrase in phrases.split('|') {
            for at in whole_words(text, phrase) {
                findings.push((at, phrase.to_owned(), *replacement));
            }
        }
    }
    for at in whole_words(text, "is no") {
        let before = text[..at].split_whitespace().next_back().unwrap_or("");
        let after = text[at + "is no".len()..]
            .split_whitespace()
            .next()
            .unwrap_or("");
        let after = after.trim_matches(|c: char| !c.is_alphanumeric());
        if !before.ends_with("there") && !AFTER_IS_NO.contains(&after) {
            findings.push((at, format!("is no {after}"), "is not a valid; expected"));
        }
    }
    findings
}

/// The text in lower case with line breaks, indentation and comment markers as one space, and where each line
/// begins in it.
fn flatten(content: &str) -> (String, Vec<usize>) {
    let mut text = String::with_capacity(content.len());
    let mut line_starts = Vec::new();
    for line in content.lines() {
        line_starts.push(text.len());
        let line = line
            .trim()
            .trim_start_matches(['/', '!', '#', '-', '*', '>']);
        text.push_str(line.trim_start());
        text.push(' ');
    }
    text.make_ascii_lowercase();
    (text, line_starts)
}

/// Where the phrase is in whole words, and not as a name in quotes.
fn whole_words(text: &str, phrase: &str) -> Vec<usize> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let is_quote = |c: char| c == '`' || c == '"';
    text.match_indices(phrase)
        .map(|(at, _)| at)
        .filter(|at| {
            let before = text[..*at].chars().next_back().unwrap_or(' ');
            let after = text[at + phrase.len()..].chars().next().unwrap_or(' ');
            let is_name = is_quote(before) && is_quote(after);
            !is_word(before) && !is_word(after) && !is_name
        })
        .collect()
}
