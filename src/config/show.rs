//! The settings in effect, for `ftap config`. Values are masked before they get here.

use std::fmt::Write as _;

use super::layers::Source;

/// One setting in effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effective {
    /// Environment variable.
    pub name: &'static str,
    /// Its value, `***` if it is secret, empty if it is unset.
    pub value: String,
    /// Where the value is from.
    pub source: Source,
}

/// An aligned table.
pub fn table(settings: &[Effective]) -> String {
    let width = |text: fn(&Effective) -> usize, heading: usize| {
        settings.iter().map(text).max().unwrap_or(0).max(heading)
    };
    let name_width = width(|s| s.name.len(), "setting".len());
    // One very long value must not push the last column off every line.
    let value_width = width(|s| s.value.chars().count(), "value".len()).min(64);
    let mut out = String::new();
    let _ = writeln!(
        out,
        "{:name_width$}  {:value_width$}  source",
        "setting", "value"
    );
    for setting in settings {
        let value = match setting.value.as_str() {
            "" => "-",
            value => value,
        };
        let _ = writeln!(
            out,
            "{:name_width$}  {value:value_width$}  {}",
            setting.name, setting.source
        );
    }
    out
}

/// A JSON array of `{"setting", "value", "source"}`; an unset value is null.
pub fn json(settings: &[Effective]) -> serde_json::Value {
    settings
        .iter()
        .map(|setting| {
            serde_json::json!({
                "setting": setting.name,
                "value": (!setting.value.is_empty()).then_some(&setting.value),
                "source": setting.source.to_string(),
            })
        })
        .collect()
}
