//! Turns the layers' texts into typed values, one setting at a time, and keeps a list of what was
//! wrong instead of stopping at the first.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use super::ConfigError;
use super::catalogue::{SETTINGS, Spec, spec};
use super::doubts::Doubt;
use super::layers::{Layers, Source};
use super::parse::{self, Reason};
use super::secret::{MASK, Secret};
use super::show::Effective;

/// Reads settings off the layers.
pub struct Reader<'a> {
    layers: &'a Layers,
    problems: Vec<String>,
    doubts: Vec<Doubt>,
    effective: Vec<Effective>,
}

impl<'a> Reader<'a> {
    /// Starts with nothing read.
    pub fn new(layers: &'a Layers) -> Self {
        Self {
            layers,
            problems: Vec::new(),
            doubts: Vec::new(),
            effective: Vec::new(),
        }
    }

    /// A setting with a default in the catalogue. After a wrong value the default stands in, so that
    /// the settings after it are checked, too.
    pub fn value<T>(&mut self, name: &'static str, parse: impl Fn(&str) -> Result<T, Reason>) -> T {
        let default = known(name)
            .literal_default()
            .expect("settings read by `value` have a default in the catalogue");
        match self.optional(name, &parse) {
            Some(value) => value,
            None => parse(default).unwrap_or_else(|_| {
                unreachable!("a test loads all defaults, {name}={default} among them")
            }),
        }
    }

    /// A setting that may stay unset, or whose default is computed by the caller.
    pub fn optional<T>(
        &mut self,
        name: &'static str,
        parse: impl Fn(&str) -> Result<T, Reason>,
    ) -> Option<T> {
        let spec = known(name);
        let Some((text, source)) = self.layers.get(name) else {
            self.note(spec, spec.default.trim_matches(['<', '>']), Source::Default);
            return None;
        };
        self.note(spec, text, source);
        match parse(text) {
            Ok(value) => Some(value),
            Err(reason) => {
                self.problem(spec, text, source, &reason);
                None
            }
        }
    }

    /// A setting that nobody may see.
    pub fn secret(&mut self, name: &'static str) -> Option<Secret> {
        self.optional(name, |text| Ok(Secret::new(text)))
    }

    /// Whether somebody gave it a value, right or wrong.
    pub fn is_given(&self, name: &str) -> bool {
        self.layers.get(name).is_some()
    }

    /// Whether the process serves nothing itself.
    pub fn only_asks(&self) -> bool {
        self.layers.only_asks
    }

    /// A value that is right by itself and wrong beside others.
    pub fn fault(&mut self, name: &'static str, reason: &str) {
        match self.layers.get(name) {
            Some((text, source)) => self.problem(known(name), text, source, reason),
            None => self.missing(name, reason),
        }
    }

    /// A value that another setting calls for.
    pub fn missing(&mut self, name: &'static str, reason: &str) {
        let may_be = known(name).may_be;
        self.problems
            .push(format!("{name} is not set ({reason}): it may be {may_be}"));
    }

    /// How many things are wrong so far.
    pub fn problem_count(&self) -> usize {
        self.problems.len()
    }

    /// A path with a computed default.
    pub fn path(&mut self, name: &'static str, default: impl FnOnce() -> PathBuf) -> PathBuf {
        match self.optional(name, parse::path) {
            Some(path) => path,
            None => {
                let path = default();
                self.note(known(name), &path.display().to_string(), Source::Default);
                path
            }
        }
    }

    /// A key file: found beside the working directory or in `credentials/`, and JSON. Looked at only
    /// when it is needed, since the variable is often set for other programs.
    pub fn credentials_file(&mut self, name: &'static str, needed: bool) -> Option<PathBuf> {
        let path = self.optional(name, parse::path)?;
        if !needed {
            return Some(path);
        }
        let beside = Path::new("credentials").join(&path);
        let found = if path.is_relative() && !path.exists() && beside.exists() {
            beside
        } else {
            path
        };
        let (text, source) = self.layers.get(name)?;
        let reason = match std::fs::read(&found) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                format!(
                    "there is no such file, in `credentials/` neither; put the key file there, or unset {name} on a machine of Google Cloud"
                )
            }
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => format!(
                "{} can't be read by user {}: {error}; make that user its owner",
                found.display(),
                crate::process::user_id(),
            ),
            Err(error) => format!("{} can't be read: {error}", found.display()),
            Ok(bytes) => match serde_json::from_slice::<serde_json::Value>(&bytes) {
                Ok(serde_json::Value::Object(_)) => return Some(found),
                // The parser's message could quote the file.
                _ => format!(
                    "{} is not a JSON object; download the key again",
                    found.display()
                ),
            },
        };
        self.problem(known(name), text, source, &reason);
        None
    }

    /// Notes that a value is probably not what was meant.
    pub fn doubt(&mut self, name: &str, detail: &str) {
        self.doubts.push(Doubt::new(name, detail));
    }

    /// What was read, unless something was wrong.
    pub fn finish(mut self) -> Result<(Vec<Effective>, Vec<Doubt>), ConfigError> {
        for name in &self.layers.undecodable {
            if spec(name).is_some() {
                self.problems.push(format!("{name} is not valid UTF-8"));
            }
        }
        if !self.problems.is_empty() {
            return Err(ConfigError(self.problems));
        }
        debug_assert_eq!(
            self.effective.len(),
            SETTINGS.len(),
            "every setting is read"
        );
        self.effective
            .sort_by_key(|setting| SETTINGS.iter().position(|spec| spec.name == setting.name));
        Ok((self.effective, self.doubts))
    }

    fn note(&mut self, spec: &Spec, shown: &str, source: Source) {
        let value = match (spec.name, spec.secret) {
            _ if shown.is_empty() => String::new(),
            ("KAFKA_EXTRA", _) => mask_properties(shown),
            (_, true) => MASK.to_owned(),
            (_, false) => shown.to_owned(),
        };
        self.effective.retain(|setting| setting.name != spec.name);
        self.effective.push(Effective {
            name: spec.name,
            value,
            source,
        });
    }

    fn problem(&mut self, spec: &Spec, text: &str, source: Source, reason: &str) {
        let value = if spec.secret {
            MASK.to_owned()
        } else {
            format!("{:?}", without_login(text))
        };
        let reason = match reason {
            "" => String::new(),
            reason => format!(" ({reason})"),
        };
        self.problems.push(format!(
            "{} is {value}, from {}{reason}: it may be {}",
            spec.name,
            place(spec, source),
            spec.may_be
        ));
    }
}

/// Where the user finds the value that is wrong.
fn place(spec: &Spec, source: Source) -> String {
    match (source, spec.flag()) {
        (Source::Flag, Some(flag)) => format!("the flag --{flag}"),
        (Source::Environment, _) => "the environment".to_owned(),
        (other, _) => other.to_string(),
    }
}

/// An address without the user and password that somebody wrote into it.
fn without_login(text: &str) -> Cow<'_, str> {
    let parts = text
        .split_once("://")
        .and_then(|(scheme, rest)| Some((scheme, rest.rsplit_once('@')?.1)));
    match parts {
        Some((scheme, host)) => Cow::Owned(format!("{scheme}://{MASK}@{host}")),
        None => Cow::Borrowed(text),
    }
}

/// Property names with the secret values masked; all of it when it can't be told apart.
fn mask_properties(text: &str) -> String {
    let Ok(properties) = parse::kafka_extra(text) else {
        return MASK.to_owned();
    };
    properties
        .iter()
        .map(|(name, value)| match parse::is_secret_property(name) {
            true => format!("{name}={MASK}"),
            false => format!("{name}={value}"),
        })
        .collect::<Vec<_>>()
        .join(",")
}

fn known(name: &str) -> &'static Spec {
    spec(name).unwrap_or_else(|| unreachable!("{name} is in the catalogue, a test loads it"))
}
