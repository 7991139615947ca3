//! Where Kaggle's own tools look for credentials: the environment, then files. What is secret is held
//! in a type that does not print it, and no error carries a piece of a file.

use std::path::{Path, PathBuf};
use std::{fmt, fs, io};

use reqwest::RequestBuilder;

use crate::error::DatasetError;

/// What proves to Kaggle who asks.
#[derive(Clone, PartialEq, Eq)]
pub struct KaggleCredentials {
    proof: Proof,
    source: String,
    warning: Option<String>,
}

#[derive(Clone, PartialEq, Eq)]
enum Proof {
    Key { username: String, key: String },
    Token(String),
}

impl fmt::Debug for KaggleCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KaggleCredentials")
            .field("owner", &self.owner())
            .field("secret", &"***")
            .field("source", &self.source)
            .finish_non_exhaustive()
    }
}

impl KaggleCredentials {
    /// Credentials from elsewhere.
    #[must_use]
    pub fn new(username: impl Into<String>, key: impl Into<String>) -> Self {
        Self {
            proof: Proof::Key {
                username: username.into(),
                key: key.into(),
            },
            source: "the program".to_owned(),
            warning: None,
        }
    }

    /// Finds them as Kaggle's command line does: `KAGGLE_API_TOKEN` (a token, or a file with one),
    /// else `KAGGLE_USERNAME` with `KAGGLE_KEY`, else the file `access_token` or `kaggle.json` in
    /// `$KAGGLE_CONFIG_DIR` if that is set, else in `~/.kaggle`, else in `kaggle` below
    /// `$XDG_CONFIG_HOME` or `~/.config`.
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
        if let Some(token) = set("KAGGLE_API_TOKEN") {
            let path = Path::new(&token);
            if path.is_file() {
                let bytes = fs::read(path).map_err(|e| DatasetError::io("read", path, e))?;
                return Self::from_token_file(path, &bytes);
            }
            return Ok(Self {
                proof: Proof::Token(token),
                source: "KAGGLE_API_TOKEN".to_owned(),
                warning: None,
            });
        }
        match (set("KAGGLE_USERNAME"), set("KAGGLE_KEY")) {
            (Some(username), Some(key)) => {
                return Ok(Self {
                    proof: Proof::Key { username, key },
                    source: "KAGGLE_USERNAME and KAGGLE_KEY".to_owned(),
                    warning: None,
                });
            }
            (Some(_), None) => return Err(one_variable("KAGGLE_KEY", "KAGGLE_USERNAME")),
            (None, Some(_)) => return Err(one_variable("KAGGLE_USERNAME", "KAGGLE_KEY")),
            (None, None) => {}
        }
        let folders = folders(set);
        for folder in &folders {
            for name in ["access_token", "kaggle.json"] {
                let path = folder.join(name);
                match fs::read(&path) {
                    Ok(bytes) if name == "kaggle.json" => return Self::from_json(&path, &bytes),
                    Ok(bytes) => return Self::from_token_file(&path, &bytes),
                    Err(e) if is_absent(&e) => {}
                    Err(e) => return Err(DatasetError::io("read", &path, e)),
                }
            }
        }
        Err(DatasetError::NoCredentials {
            looked_in: folders
                .into_iter()
                .next()
                .unwrap_or_else(|| PathBuf::from("~/.kaggle")),
        })
    }

    fn from_token_file(path: &Path, bytes: &[u8]) -> Result<Self, DatasetError> {
        let token = std::str::from_utf8(bytes).unwrap_or_default().trim();
        if token.is_empty() || token.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(DatasetError::BadCredentials {
                place: path.display().to_string(),
                problem: "it must hold an API token and nothing else".to_owned(),
            });
        }
        Ok(Self {
            proof: Proof::Token(token.to_owned()),
            source: path.display().to_string(),
            warning: warn_if_readable_by_others(path),
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
            proof: Proof::Key {
                username: field("username")?,
                key: field("key")?,
            },
            source: path.display().to_string(),
            warning: warn_if_readable_by_others(path),
        })
    }

    /// Whose they are, as far as that is known: nothing secret.
    #[must_use]
    pub fn owner(&self) -> &str {
        match &self.proof {
            Proof::Key { username, .. } => username,
            Proof::Token(_) => "the token's account",
        }
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

    pub(super) fn authorize(&self, request: RequestBuilder) -> RequestBuilder {
        match &self.proof {
            Proof::Key { username, key } => request.basic_auth(username, Some(key)),
            Proof::Token(token) => request.bearer_auth(token),
        }
    }
}

fn one_variable(absent: &str, present: &str) -> DatasetError {
    DatasetError::BadCredentials {
        place: "the environment".to_owned(),
        problem: format!("{present} is set but {absent} is not; set both or neither"),
    }
}

fn folders(set: impl Fn(&str) -> Option<String>) -> Vec<PathBuf> {
    if let Some(dir) = set("KAGGLE_CONFIG_DIR") {
        return vec![PathBuf::from(dir)];
    }
    let home = set("HOME")
        .or_else(|| set("USERPROFILE"))
        .map(PathBuf::from);
    let config = set("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .or_else(|| home.as_ref().map(|home| home.join(".config")));
    let of_home = home.map(|home| home.join(".kaggle"));
    let of_config = config.map(|config| config.join("kaggle"));
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
