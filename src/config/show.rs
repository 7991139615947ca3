//! The settings in effect, for `ftap config`. Values are masked before they get here.

use std::fmt::Write as _;

use super::layers::Source;

/// One setting in effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Effective {
    pub name: &'static str,
    /// Its value; masked if it is secret.
    pub value: Option<String>,
    /// What is used in place of a value; may be empty.
    pub instead: String,
    pub source: Source,
}

impl Effective {
    fn shown(&self) -> String {
        match (&self.value, self.instead.as_str()) {
            (Some(value), _) => value.clone(),
            (None, "") => "-".to_owned(),
            (None, instead) => format!("({instead})"),
        }
    }
}

/// An aligned table.
pub(crate) fn table(settings: &[Effective]) -> String {
    let names = settings.iter().map(|setting| setting.name.len());
    let values = settings
        .iter()
        .map(|setting| setting.shown().chars().count());
    let name_width = names.max().unwrap_or(0);
    // One very long value must not push the last column off every line.
    let value_width = values.max().unwrap_or(0).min(64);
    let mut out = format!(
        "{:name_width$}  {:value_width$}  source\n",
        "setting", "value"
    );
    for setting in settings {
        let (name, value, source) = (setting.name, setting.shown(), setting.source);
        let _ = writeln!(out, "{name:name_width$}  {value:value_width$}  {source}");
    }
    out
}

/// A JSON array of `{"setting", "value", "instead", "source"}`. `value` is null if the setting is unset;
/// `instead` then states what is used, if anything.
pub(crate) fn json(settings: &[Effective]) -> serde_json::Value {
    let objects = settings.iter().map(|setting| {
        serde_json::json!({
            "setting": setting.name,
            "value": setting.value,
            "instead": (!setting.instead.is_empty()).then_some(&setting.instead),
            "source": setting.source.to_string(),
        })
    });
    objects.collect()
}
