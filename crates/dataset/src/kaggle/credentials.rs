//! Where Kaggle's own tools look for credentials: the environment, then `kaggle.json`. The key is
//! held in a type that does not print it, and no error carries a piece of the file.

use std::path::{Path, PathBuf};
use std::{fmt, fs, io};

use crate::error::DatasetError;

/// A Kaggle user name and API key.
#[derive(Clone, PartialEq, Eq)]
pub struct KaggleCredentials {
    username: String,
    key: String,
    source: String,
    warning: Option<String>,
}

impl fmt::Debug for KaggleCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KaggleCredentials")
            .field("username", &self.username)
            .field("key", &"***")
            .field("source", &self.source)
            .finish_non_exhaustive()
    }
}

impl KaggleCredentials {
    /// Credentials from elsewhere.
    #[must_use]
    pub fn new(username: impl Into<String>, key: impl Into<String>) -> Self {
        Self {
            username: username.into(),
            key: key.into(),
            source: "the program".to_owned(),
            warning: None,
        }
    }

    /// Finds them as Kaggle's command line does: `KAGGLE_USERNAME` with `KAGGLE_KEY`, else
    /// `$KAGGLE_CONFIG_DIR/kaggle.json` if that is set, else `~/.kaggle/kaggle.json`, else
    /// `kaggle/kaggle.json` in `$XDG_CONFIG_HOME` or `~/.config`.
    ///
    /// # Errors
    /// No credentials anywhere, one variable without the other, or a file that cannot be used.
    pub fn find() -> Result<Self, DatasetError> {
        Self::find_by(|name| std::env::var(name).ok())
    }

    /// The same with the variables from `variable`, such as a `.env` file read before.
    ///
    /// # Errors
    /// As [`KaggleCredentials::find`].
    pub fn find_by(variable: impl Fn(&str) -> Option<String>) -> Result<Self, DatasetError> {
        let set = |name: &str| {
            let value = variable(name)?.trim().to_owned();
            (!value.is_empty()).then_some(value)
        };
        match (set("KAGGLE_USERNAME"), set("KAGGLE_KEY")) {
            (Some(username), Some(key)) => {
                return Ok(Self {
                    username,
                    key,
                    source: "KAGGLE_USERNAME and KAGGLE_KEY".to_owned(),
                    warning: None,
                });
            }
            (Some(_), None) => return Err(one_variable("KAGGLE_KEY", "KAGGLE_USERNAME")),
            (None, Some(_)) => return Err(one_variable("KAGGLE_USERNAME", "KAGGLE_KEY")),
            (None, None) => {}
        }
        let places = places(set);
        for path in &places {
            match fs::read(path) {
                Ok(bytes) => return Self::from_json(path, &bytes),
                Err(e) if is_absent(&e) => {}
                Err(e) => return Err(DatasetError::io("read", path, e)),
            }
        }
        Err(DatasetError::NoCredentials {
            looked_in: places
                .into_iter()
                .next()
                .unwrap_or_else(|| PathBuf::from("~/.kaggle/kaggle.json")),
        })
    }

    fn from_json(path: &Path, bytes: &[u8]) -> Result<Self, DatasetError> {
        let bad = |problem: String| DatasetError::BadCredentials {
            place: path.display().to_string(),
            problem,
        };
        // Not into a struct: a type error of serde_json shows the value, which may be the key.
        let json: serde_json::Value = serde_json::from_slice(bytes).map_err(|e| {
            bad(format!(
                "it is not JSON (line {}, column {}); download it again from https://www.kaggle.com/settings",
                e.line(),
                e.column()
            ))
        })?;
        let field = |name: &str| {
            json.get(name)
                .and_then(serde_json::Value::as_str)
                .map(|value| value.trim().to_owned())
                .filter(|value| !value.is_empty())
                .ok_or_else(|| {
                    bad(format!(
                        "it has no text \"{name}\"; it must be like {{\"username\": \"...\", \"key\": \"...\"}}"
                    ))
                })
        };
        Ok(Self {
            username: field("username")?,
            key: field("key")?,
            source: path.display().to_string(),
            warning: warn_if_readable_by_others(path),
        })
    }

    /// The user name, which is not secret.
    #[must_use]
    pub fn username(&self) -> &str {
        &self.username
    }

    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// A warning about how they are stored, if any.
    #[must_use]
    pub fn warning(&self) -> Option<&str> {
        self.warning.as_deref()
    }

    pub(super) fn key(&self) -> &str {
        &self.key
    }
}

fn one_variable(absent: &str, present: &str) -> DatasetError {
    DatasetError::BadCredentials {
        place: "the environment".to_owned(),
        problem: format!("{present} is set but {absent} is not; set both or neither"),
    }
}

fn places(set: impl Fn(&str) -> Option<String>) -> Vec<PathBuf> {
    if let Some(dir) = set("KAGGLE_CONFIG_DIR") {
        return vec![Path::new(&dir).join("kaggle.json")];
    }
    let home = set("HOME")
        .or_else(|| set("USERPROFILE"))
        .map(PathBuf::from);
    let config = set("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .or_else(|| home.as_ref().map(|home| home.join(".config")));
    let of_home = home.map(|home| home.join(".kaggle/kaggle.json"));
    let of_config = config.map(|config| config.join("kaggle/kaggle.json"));
    of_home.into_iter().chain(of_config).collect()
}

fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

#[cfg(unix)]
fn warn_if_readable_by_others(path: &Path) -> Option<String> {
    use std::os::unix::fs::PermissionsExt;
    let mode = fs::metadata(path).ok()?.permissions().mode();
    (mode & 0o077 != 0).then(|| {
        format!(
            "{path} can be read by other users of this machine (mode {:o}): run chmod 600 {path}",
            mode & 0o777,
            path = path.display()
        )
    })
}

#[cfg(not(unix))]
fn warn_if_readable_by_others(_path: &Path) -> Option<String> {
    None
}
