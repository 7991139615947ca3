//! What the program knows about a setting besides its type.

use std::sync::LazyLock;

use super::layers::Layers;

/// Every setting, in the order in which they are shown.
pub(crate) static SETTINGS: LazyLock<Vec<Setting>> = LazyLock::new(super::list::list);

/// For a setting that every command uses.
pub(super) const EVERY: &str = "every command";

/// One setting.
#[derive(Debug)]
pub(crate) struct Setting {
    /// Environment variable.
    pub name: &'static str,
    /// The long flag without its dashes: `kafka-topic` for `KAFKA_TOPIC`. A secret's does not exist,
    /// because other users see the arguments of a process.
    pub flag: String,
    /// Heading in help and documents.
    pub group: &'static str,
    pub meaning: &'static str,
    pub default: Default,
    /// Completes "expected …".
    pub expected: String,
    /// How a value is shown, if not as it is.
    pub(super) show: Option<fn(&str) -> String>,
    pub is_secret: bool,
    /// In `.env.example`, instead of the default.
    pub(super) example: Option<&'static str>,
    /// The commands that use it, separated by commas, or [`EVERY`].
    pub commands: &'static str,
}

/// What happens if a setting is not set.
#[derive(Debug)]
pub(crate) enum Default {
    /// There is no value; the text says what is used instead, `$NAME` in it is another setting's value.
    Unset(&'static str),
    /// A value; `$NAME` in it is the value of a setting above.
    Text(&'static str),
    /// For the documents, and for a process.
    Depends(&'static str, fn(&Layers) -> String),
}

impl Setting {
    /// The setting with this name.
    pub(crate) fn find(name: &str) -> Option<&'static Self> {
        SETTINGS.iter().find(|setting| setting.name == name)
    }

    pub(crate) fn is_used_by(&self, command: &str) -> bool {
        self.commands == EVERY || self.commands.split(", ").any(|user| user == command)
    }

    /// For help: `example: kafka:9092`, or nothing if the default is one.
    pub(crate) fn example(&self) -> String {
        match (self.example, &self.default) {
            (Some(example), Default::Unset(_)) => format!("example: {example}"),
            _ => String::new(),
        }
    }

    /// The value as it may be shown.
    pub(crate) fn shown(&self, text: &str) -> String {
        self.show.map_or_else(|| text.to_owned(), |show| show(text))
    }
}

impl Default {
    /// For help and documents: `default: 100`, `unset: random`, or nothing.
    pub(crate) fn description(&self) -> String {
        match self {
            Self::Unset("") => String::new(),
            Self::Unset(instead) => format!("unset: {instead}"),
            Self::Text(text) => format!("default: {text}"),
            Self::Depends(description, _) => format!("default: {description}"),
        }
    }
}
