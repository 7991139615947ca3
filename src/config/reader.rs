//! Turns the layers' texts into typed values, one setting at a time, and collects everything that is
//! wrong instead of stopping at the first.

use super::kind::Kind;
use super::layers::{Layers, Source};
use super::secret::{MASK, without_credentials};
use super::setting::{Default, Setting};
use super::show::Effective;

pub(super) struct Reader<'a> {
    pub layers: &'a Layers,
    /// What has been read so far.
    pub effective: Vec<Effective>,
    problems: Vec<String>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(layers: &'a Layers) -> Self {
        Self {
            layers,
            effective: Vec::new(),
            problems: Vec::new(),
        }
    }

    /// A setting with a default. The default also replaces a wrong value, so that the settings after
    /// it are checked as well; `None` if the default itself can't be used.
    pub(super) fn value<T>(&mut self, name: &'static str, kind: &Kind<T>) -> Option<T> {
        if let Some(value) = self.given(name, kind) {
            return Some(value);
        }
        let default = match &Setting::find(name)?.default {
            Default::Unset(_) => return None,
            Default::Text(text) => self.expand(text),
            Default::Depends(_, of) => of(self.layers),
        };
        match kind.parse(&default) {
            Ok(value) => {
                self.note(name, Some(default), Source::Default);
                Some(value)
            }
            Err(reason) => {
                let complaint = kind.complaint(&reason);
                self.problems
                    .push(format!("{name} is {default:?}, by default{complaint}"));
                None
            }
        }
    }

    /// A setting without a default.
    pub(super) fn optional<T>(&mut self, name: &'static str, kind: &Kind<T>) -> Option<T> {
        let value = self.given(name, kind);
        if value.is_none() {
            self.note(name, None, Source::Default);
        }
        value
    }

    fn given<T>(&mut self, name: &'static str, kind: &Kind<T>) -> Option<T> {
        let (text, source) = self.layers.get(name)?;
        match kind.parse(text) {
            Ok(value) => {
                self.note(name, Some(text.to_owned()), source);
                Some(value)
            }
            Err(reason) => {
                self.fault(name, &kind.complaint(&reason));
                None
            }
        }
    }

    /// A value that is wrong: `complaint` completes "NAME is VALUE, from SOURCE".
    pub(super) fn fault(&mut self, name: &str, complaint: &str) {
        let problem = match (self.layers.get(name), Setting::find(name)) {
            (Some((text, source)), Some(setting)) => {
                let value = if setting.is_secret {
                    MASK.to_owned()
                } else {
                    format!("{:?}", setting.shown(&without_credentials(text)))
                };
                let place = match source {
                    Source::Flag => format!("the flag --{}", setting.flag),
                    Source::Environment => "the environment".to_owned(),
                    other => other.to_string(),
                };
                format!("{name} is {value}, from {place}{complaint}")
            }
            _ => format!("{name} is not set{complaint}"),
        };
        self.problems.push(problem);
    }

    /// A value that another setting requires.
    pub(super) fn missing(&mut self, name: &str, reason: &str) {
        let expected = Setting::find(name).map_or("", |setting| setting.expected.as_str());
        self.fault(name, &format!(": {reason}; expected {expected}"));
    }

    pub(super) fn problem_count(&self) -> usize {
        self.problems.len()
    }

    /// What was read, and what is wrong with it.
    pub(super) fn finish(mut self) -> (Vec<Effective>, Vec<String>) {
        for name in &self.layers.undecodable {
            if Setting::find(name).is_some() {
                self.problems.push(format!("{name} is not valid UTF-8"));
            }
        }
        (self.effective, self.problems)
    }

    fn note(&mut self, name: &'static str, text: Option<String>, source: Source) {
        let Some(setting) = Setting::find(name) else {
            return;
        };
        let instead = match &setting.default {
            Default::Unset(instead) if text.is_none() => self.expand(instead),
            _ => String::new(),
        };
        self.effective.push(Effective {
            name,
            value: text.map(|text| setting.shown(&text)),
            instead,
            source,
        });
    }

    /// Replaces `$NAME` by the value of that setting, which has been read before.
    fn expand(&self, template: &str) -> String {
        let mut parts = template.split('$');
        let mut text = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let end = part.find(|c: char| !(c.is_ascii_uppercase() || c == '_'));
            let (name, rest) = part.split_at(end.unwrap_or(part.len()));
            let mut known = self.effective.iter();
            let value = known.find(|setting| setting.name == name);
            text += value
                .and_then(|setting| setting.value.as_deref())
                .unwrap_or_default();
            text += rest;
        }
        text
    }
}
