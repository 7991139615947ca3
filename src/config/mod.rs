//! The settings of the program: one typed struct, read once at start, all of it checked.
//!
//! Promises that a `Config` that exists is usable, that every wrong setting is reported at once and
//! by name, and that secrets print as `***`. To add a setting, add it to the [`list`].

mod check;
mod convert;
#[cfg(test)]
mod documents;
mod kafka_security;
pub(crate) mod kind;
#[cfg(test)]
mod kind_tests;
mod layers;
mod list;
mod reader;
mod secret;
mod setting;
pub(crate) mod show;
mod warnings;

use std::collections::BTreeMap;
use std::fmt;
use std::io::IsTerminal as _;
use std::path::Path;

pub(crate) use convert::writer_id;
use layers::{Layers, Source};
pub(crate) use list::Config;
use reader::Reader;
pub(crate) use setting::{SETTINGS, Setting};
pub(crate) use show::Effective;
pub(crate) use warnings::Warning;

/// The shape of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// Text on a terminal, otherwise JSON.
    Auto,
    Text,
    Json,
}

impl LogFormat {
    /// What it means for this process.
    pub(crate) fn is_json(self) -> bool {
        match self {
            Self::Auto => !std::io::stderr().is_terminal(),
            Self::Text => false,
            Self::Json => true,
        }
    }
}

/// Whether PostgreSQL is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PostgresUse {
    /// If there is one, and where it makes sense.
    Auto,
    On,
    Off,
}

/// Everything that is wrong with the settings, one problem a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ConfigError(pub Vec<String>);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_slice() {
            [one] => f.write_str(one),
            many => {
                write!(f, "{} settings can't be used:", many.len())?;
                many.iter()
                    .try_for_each(|problem| write!(f, "\n  {problem}"))
            }
        }
    }
}

impl std::error::Error for ConfigError {}

impl Config {
    /// Reads the flags, which are keyed by setting name, the environment and `.env`. Some defaults
    /// depend on the command.
    pub(crate) fn load(
        command: &str,
        flags: BTreeMap<String, String>,
    ) -> Result<Self, ConfigError> {
        let dot_env = Path::new(".env");
        let layers = Layers::load(command, flags, std::env::vars_os(), dot_env)
            .map_err(|problem| ConfigError(vec![problem]))?;
        let mut config = Self::from_layers(&layers)?;
        config.warnings = warnings::all(&config, &layers, dot_env);
        Ok(config)
    }

    /// Whether LOG_FORMAT makes every line of stderr JSON, however wrong the other settings are.
    pub(crate) fn wants_json(flags: &BTreeMap<String, String>) -> bool {
        let dot_env = Path::new(".env");
        let layers = Layers::load("", flags.clone(), std::env::vars_os(), dot_env);
        let layers = layers.unwrap_or_else(|_told_later| Layers {
            flags: flags.clone(),
            environment: std::env::vars().collect(),
            ..Layers::default()
        });
        let format = layers.get("LOG_FORMAT").map_or("auto", |(text, _)| text);
        match format.to_ascii_lowercase().as_str() {
            "json" => true,
            "text" => false,
            _ => LogFormat::Auto.is_json(),
        }
    }

    /// Types and checks the values of all layers.
    fn from_layers(layers: &Layers) -> Result<Self, ConfigError> {
        let mut r = Reader::new(layers);
        let mut config = Self::read(&mut r);
        if let Some(config) = &mut config {
            check::all(&mut r, config);
        }
        let (effective, problems) = r.finish();
        match config {
            Some(config) if problems.is_empty() => Ok(Self {
                effective,
                ..config
            }),
            _ => Err(ConfigError(problems)),
        }
    }

    /// Whether a flag, the environment or `.env` sets it.
    pub(crate) fn is_set(&self, name: &str) -> bool {
        self.layer(name) != Source::Default
    }

    /// Where a setting's value comes from, in words: completes "it is VALUE, from …".
    pub(crate) fn source(&self, name: &str) -> String {
        match self.layer(name) {
            Source::Environment => "the environment".to_owned(),
            Source::Flag => "a flag".to_owned(),
            other => other.to_string(),
        }
    }

    /// The flag that set it, as `--lake-dir=PATH`; `None` if no flag did.
    pub(crate) fn flag(&self, name: &str) -> Option<String> {
        let mut settings = self.effective.iter();
        let setting = settings.find(|setting| setting.name == name)?;
        let value = setting.value.as_deref()?;
        let flag = &Setting::find(name)?.flag;
        (setting.source == Source::Flag).then(|| format!("--{flag}={value}"))
    }

    fn layer(&self, name: &str) -> Source {
        let mut settings = self.effective.iter();
        let setting = settings.find(|setting| setting.name == name);
        setting.map_or(Source::Default, |setting| setting.source)
    }

    /// Every setting with its value, masked if it is secret, and its source.
    pub(crate) fn effective(&self) -> &[Effective] {
        &self.effective
    }

    /// Values that are valid but probably not what was meant.
    pub(crate) fn warnings(&self) -> &[Warning] {
        &self.warnings
    }
}
