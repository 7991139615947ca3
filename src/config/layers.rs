//! Where values come from: flags over environment over `.env` over defaults.
//!
//! Each layer is read once, as text. An empty value counts as unset, because that is what a compose
//! file passes for a variable that is not set.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::Path;

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
        Ok(layers)
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
    for pair in dotenvy::from_read_iter(text.as_bytes()) {
        match pair {
            // The first of two lines wins, as with every dotenv reader.
            Ok((name, value)) => {
                values.entry(name).or_insert(value);
            }
            Err(dotenvy::Error::LineParse(line, _)) => {
                let number = text
                    .lines()
                    .position(|candidate| candidate.trim() == line.trim());
                let place =
                    number.map_or("a line".to_owned(), |index| format!("line {}", index + 1));
                return Err(format!(
                    "{place} of {shown} can't be read: write NAME=value, with single quotes around a value that has spaces, quotes, `$` or `#`"
                ));
            }
            Err(_) => return Err(format!("{shown} can't be read as NAME=value lines")),
        }
    }
    Ok(values)
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
    fn a_broken_dot_env_line_is_named_by_number_and_its_text_is_kept_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(".env");
        std::fs::write(&path, "A=1\nPOSTGRES_PASSWORD='hunter2\n").unwrap();
        let error = read_dot_env(&path).unwrap_err();
        assert!(error.contains("line 2"), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }

    #[test]
    fn a_missing_dot_env_is_not_an_error() {
        let dir = tempfile::tempdir().unwrap();
        assert!(read_dot_env(&dir.path().join(".env")).unwrap().is_empty());
    }
}
