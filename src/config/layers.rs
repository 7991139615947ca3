//! Where values come from: flags over environment over `.env` over defaults.
//!
//! Each layer is read once, as text. An empty value counts as unset, because that is what a compose
//! file passes for a variable that is not set.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::Path;

use super::setting::SETTINGS;

/// Where a value came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Flag,
    Environment,
    DotEnv,
    /// It is not set.
    Default,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Flag => "flag",
            Self::Environment => "environment",
            Self::DotEnv => ".env",
            Self::Default => "default",
        })
    }
}

/// The texts of all layers. Never print them: they include secrets.
#[derive(Clone, Default)]
pub(crate) struct Layers {
    /// By setting name.
    pub flags: BTreeMap<String, String>,
    /// By variable name.
    pub environment: BTreeMap<String, String>,
    /// By variable name.
    pub dot_env: BTreeMap<String, String>,
    /// Names of variables that are not valid Unicode.
    pub undecodable: Vec<String>,
    /// The subcommand that the settings are for.
    pub command: String,
}

impl Layers {
    /// The flags, the environment and `.env`.
    pub(crate) fn load(
        command: &str,
        flags: BTreeMap<String, String>,
        environment: impl Iterator<Item = (OsString, OsString)>,
        dot_env_file: &Path,
    ) -> Result<Self, String> {
        let mut layers = Self {
            command: command.to_owned(),
            flags,
            dot_env: read_dot_env(dot_env_file)?,
            ..Self::default()
        };
        for (name, value) in environment {
            let Some(name) = name.to_str() else { continue };
            match value.into_string() {
                Ok(value) => {
                    layers.environment.insert(name.to_owned(), value);
                }
                Err(_) => layers.undecodable.push(name.to_owned()),
            }
        }
        layers.read_secret_files()?;
        Ok(layers)
    }

    /// `NAME_FILE` is a file with the value of the secret NAME, as container images have it.
    fn read_secret_files(&mut self) -> Result<(), String> {
        for setting in SETTINGS.iter().filter(|setting| setting.is_secret) {
            let variable = format!("{}_FILE", setting.name);
            let Some((path, source)) = self.get(&variable) else {
                continue;
            };
            let (name, path) = (setting.name, path.to_owned());
            if self.is_given(name) {
                return Err(format!("{name} and {variable} are both set: remove one"));
            }
            let text = std::fs::read_to_string(&path).map_err(|error| {
                format!(
                    "{variable} is {path:?}, from {source}, and can't be read: {error}; \
                     name a readable file that contains only {}",
                    setting.expected
                )
            })?;
            let value = text.trim_end_matches(['\r', '\n']).to_owned();
            if value.trim().is_empty() {
                return Err(format!(
                    "{variable} is {path:?}, from {source}, which is empty"
                ));
            }
            self.environment.insert(name.to_owned(), value);
        }
        Ok(())
    }

    /// Whether a layer has a value, valid or not.
    pub(crate) fn is_given(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// The value that wins, and where it comes from.
    pub(crate) fn get(&self, name: &str) -> Option<(&str, Source)> {
        let layers = [
            (&self.flags, Source::Flag),
            (&self.environment, Source::Environment),
            (&self.dot_env, Source::DotEnv),
        ];
        layers.into_iter().find_map(|(layer, source)| {
            let value = layer.get(name)?.trim();
            (!value.is_empty()).then_some((value, source))
        })
    }
}

/// Reads `.env`. Its lines may hold secrets, so an error names a line's number, never its text.
///
/// Docker Compose reads the same file for the containers. So a line means here what it means there,
/// or is refused.
fn read_dot_env(path: &Path) -> Result<BTreeMap<String, String>, String> {
    let shown = path.display();
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => {
            return Err(format!(
                "{shown} can't be read: {error}; fix its permissions and encoding, or remove it"
            ));
        }
    };
    let mut values = BTreeMap::new();
    let mut lines_by_name = BTreeMap::new();
    for (number, line) in (1..).zip(text.trim_start_matches('\u{feff}').lines()) {
        let refused =
            |problem: String| Err(format!("line {number} of {shown} can't be read: {problem}"));
        let pair = match parse_line(line) {
            Ok(Some(pair)) => pair,
            Ok(None) => continue,
            Err(problem) => return refused(problem.to_owned()),
        };
        if let Some(first) = lines_by_name.insert(pair.0, number) {
            return refused(format!("{} is set in line {first} already", pair.0));
        }
        values.insert(pair.0.to_owned(), pair.1.to_owned());
    }
    Ok(values)
}

/// Name and value of a line, or nothing of a blank line or a comment.
fn parse_line(line: &str) -> Result<Option<(&str, &str)>, &'static str> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let line = line.strip_prefix("export ").unwrap_or(line);
    let (name, value) = line.split_once('=').ok_or("write NAME=value")?;
    let name = name.trim();
    if name.is_empty() || name.contains(|c: char| !c.is_ascii_alphanumeric() && c != '_') {
        return Err("write NAME=value, the name in letters, digits and `_`");
    }
    parse_value(value.trim()).map(|value| Some((name, value)))
}

fn parse_value(value: &str) -> Result<&str, &'static str> {
    let Some(quote) = value.chars().next().filter(|c| matches!(c, '\'' | '"')) else {
        let value = value.find(" #").map_or(value, |at| &value[..at]).trim_end();
        return if value.starts_with('#') || value.contains(['$', '"', '\'']) {
            Err("put single quotes around a value that has quotes or `$`, or begins with `#`")
        } else {
            Ok(value)
        };
    };
    let (value, rest) = value[1..]
        .split_once(quote)
        .ok_or("its quote is not closed in that line")?;
    let rest = rest.trim_start();
    if !rest.is_empty() && !rest.starts_with('#') {
        return Err("text follows the closing quote");
    }
    if value.ends_with('\\') || quote == '"' && value.contains(['$', '\\']) {
        return Err("put single quotes around a value that has `$` or `\\`, not at its end");
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .collect()
    }

    #[test]
    fn flags_win_over_environment_over_dot_env_and_empty_is_unset() {
        let layers = Layers {
            flags: map(&[("A", "flag")]),
            environment: map(&[("A", "env"), ("B", "env"), ("C", " ")]),
            dot_env: map(&[("A", "file"), ("B", "file"), ("C", "file")]),
            ..Layers::default()
        };
        assert_eq!(layers.get("A"), Some(("flag", Source::Flag)));
        assert_eq!(layers.get("B"), Some(("env", Source::Environment)));
        assert_eq!(layers.get("C"), Some(("file", Source::DotEnv)));
        assert_eq!(layers.get("D"), None);
    }

    #[test]
    fn a_secret_is_read_from_the_file_that_a_variable_names() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("password");
        std::fs::write(&file, " pass word\r\n").unwrap();
        let load = |pairs: &[(&str, &str)]| {
            let pairs = pairs
                .iter()
                .map(|(name, value)| (name.into(), value.into()));
            Layers::load("run", map(&[]), pairs, &dir.path().join(".env"))
        };
        let named = ("POSTGRES_PASSWORD_FILE", file.to_str().unwrap());
        let layers = load(&[named]).unwrap();
        assert_eq!(
            layers.get("POSTGRES_PASSWORD"),
            Some(("pass word", Source::Environment))
        );
        let refused = |pairs: &[(&str, &str)]| load(pairs).err().unwrap();
        let both = refused(&[named, ("POSTGRES_PASSWORD", "x")]);
        assert!(both.contains("are both set"), "{both}");
        let missing = refused(&[("POSTGRES_PASSWORD_FILE", "/nothing/here")]);
        assert!(missing.contains("/nothing/here"), "{missing}");
        std::fs::write(&file, "\n").unwrap();
        assert!(refused(&[named]).contains("empty"));
    }

    #[test]
    fn a_broken_dot_env_line_is_named_by_number_and_its_text_is_kept_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(".env");
        std::fs::write(&path, "A=1\nPOSTGRES_PASSWORD='hunter2\n").unwrap();
        let error = read_dot_env(&path).unwrap_err();
        assert!(error.contains("line 2"), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }

    /// Expected values are those of Docker Compose (compose-go 2.16).
    #[test]
    fn a_line_of_dot_env_means_what_docker_compose_takes_it_for() {
        for (line, value) in [
            ("A=plain", "plain"),
            ("\u{feff}A=after a mark", "after a mark"),
            ("export A=x", "x"),
            ("A = x", "x"),
            ("A=", ""),
            ("A=two words", "two words"),
            ("A=x # comment", "x"),
            ("A=x#y", "x#y"),
            ("A=C:\\dir\\new", "C:\\dir\\new"),
            ("A='a$$b \\n \"x\"'", "a$$b \\n \"x\""),
            ("A=\"two words\" # comment", "two words"),
            ("A='x=y'", "x=y"),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join(".env");
            std::fs::write(&path, format!("{line}\r\n#A=no\n\n")).unwrap();
            assert_eq!(read_dot_env(&path).unwrap(), map(&[("A", value)]), "{line}");
        }
    }

    #[test]
    fn a_line_of_dot_env_that_could_mean_something_else_to_docker_compose_is_refused() {
        for (text, part) in [
            ("A=a$$b", "line 1"),
            ("A=1\nB=${UNSET:-x}", "line 2"),
            ("A=x\"y\"z", "single quotes"),
            ("A=\"a$b\"", "single quotes"),
            ("A=\"a\\tb\"", "single quotes"),
            ("A='x\\'", "not at its end"),
            ("A=#x", "single quotes"),
            ("A='x' y", "closing quote"),
            ("A='x", "not closed"),
            ("A=first\nA=second", "line 2"),
            ("A=first\nA=second", "A is set in line 1 already"),
            ("A", "NAME=value"),
            ("A: x", "NAME=value"),
            ("A B=x", "letters, digits"),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join(".env");
            std::fs::write(&path, text).unwrap();
            let error = read_dot_env(&path).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn a_missing_dot_env_is_not_an_error() {
        let dir = tempfile::tempdir().unwrap();
        assert!(read_dot_env(&dir.path().join(".env")).unwrap().is_empty());
    }
}
