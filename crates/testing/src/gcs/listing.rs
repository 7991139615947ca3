//! Listings: prefix, delimiter, pages.

use std::fmt::Write as _;

use chrono::SecondsFormat;

use super::objects::{Meta, Objects};

/// What a listing asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub prefix: String,
    pub delimiter: String,
    /// Keys after this one only.
    pub start_after: String,
    /// From the page before.
    pub token: Option<String>,
    pub max_keys: usize,
}

enum Item {
    Object(String, Meta),
    Folder(String),
}

impl Item {
    fn name(&self) -> &str {
        match self {
            Self::Object(name, _) | Self::Folder(name) => name,
        }
    }
}

impl Wanted {
    /// From the pairs of a query; `Err` says what is wrong. Pages have `page` items at most.
    pub(crate) fn parse(query: &str, page: usize) -> Result<Self, String> {
        let mut wanted = Self {
            max_keys: page,
            ..Self::default()
        };
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let value = value.into_owned();
            match name.as_ref() {
                "list-type" if value == "2" => {}
                "prefix" => wanted.prefix = value,
                "delimiter" => wanted.delimiter = value,
                "start-after" => wanted.start_after = value,
                "continuation-token" => {
                    let token = value.strip_prefix(TOKEN).map(str::to_owned);
                    wanted.token =
                        Some(token.ok_or(format!("continuation-token {value:?} is none"))?);
                }
                "max-keys" => {
                    let keys: usize = value
                        .parse()
                        .map_err(|error| format!("max-keys is {value:?}: {error}"))?;
                    wanted.max_keys = keys.clamp(1, page);
                }
                _ => return Err(format!("{name}={value} is not known in a listing")),
            }
        }
        Ok(wanted)
    }

    /// One page as XML.
    pub(crate) fn page(&self, bucket: &str, objects: &Objects) -> String {
        let mut items: Vec<Item> = Vec::new();
        let token = self.token.as_deref().unwrap_or_default();
        let after = token.max(self.start_after.as_str());
        objects.scan(&self.prefix, after, |key, meta| {
            let rest = &key[self.prefix.len()..];
            let folder = match self.delimiter.as_str() {
                "" => None,
                delimiter => rest.find(delimiter).map(|at| at + delimiter.len()),
            };
            match folder {
                Some(length) => {
                    let folder = &key[..self.prefix.len() + length];
                    // On the previous page, or already listed.
                    let listed =
                        folder == token || items.last().is_some_and(|i| i.name() == folder);
                    if !listed {
                        items.push(Item::Folder(folder.to_owned()));
                    }
                }
                None => items.push(Item::Object(key.to_owned(), meta.clone())),
            }
            items.len() <= self.max_keys
        });
        let more = items.len() > self.max_keys;
        items.truncate(self.max_keys);

        let mut xml = format!(
            "<?xml version='1.0' encoding='UTF-8'?><ListBucketResult><Name>{}</Name><Prefix>{}</Prefix><IsTruncated>{more}</IsTruncated>",
            escape(bucket),
            escape(&self.prefix)
        );
        if let (true, Some(last)) = (more, items.last()) {
            let token = format!("{TOKEN}{}", last.name());
            let _ = write!(
                xml,
                "<NextContinuationToken>{}</NextContinuationToken>",
                escape(&token)
            );
        }
        for item in &items {
            let _ = match item {
                Item::Object(key, meta) => write!(
                    xml,
                    "<Contents><Key>{}</Key><Generation>{}</Generation><LastModified>{}</LastModified><ETag>{}</ETag><Size>{}</Size></Contents>",
                    escape(key),
                    meta.generation,
                    meta.modified.to_rfc3339_opts(SecondsFormat::Millis, true),
                    escape(&meta.etag()),
                    meta.size
                ),
                Item::Folder(folder) => write!(
                    xml,
                    "<CommonPrefixes><Prefix>{}</Prefix></CommonPrefixes>",
                    escape(folder)
                ),
            };
        }
        xml + "</ListBucketResult>"
    }
}

/// A token is the last name of its page behind this, so that it is not mistaken for a key.
const TOKEN: &str = "after:";

/// Text inside an XML element.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            _ => escaped.push(character),
        }
    }
    escaped
}
