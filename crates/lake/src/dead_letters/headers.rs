//! A record's headers as JSON: `[["name", "text"], ["name", null], ["name", {"base64": "…"}]]`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::Header;

pub(super) fn write(headers: &[Header]) -> String {
    let value = |value: &Option<Vec<u8>>| match value.as_deref().map(std::str::from_utf8) {
        None => Value::Null,
        Some(Ok(text)) => text.into(),
        Some(Err(_)) => json!({ "base64": value.as_ref().map(|bytes| STANDARD.encode(bytes)) }),
    };
    let headers = headers.iter();
    let headers: Vec<Value> = headers
        .map(|(name, header)| json!([name, value(header)]))
        .collect();
    Value::Array(headers).to_string()
}

/// `None` for what [`write`] does not write.
pub(super) fn read(text: &str) -> Option<Vec<Header>> {
    let pairs: Vec<(String, Value)> = serde_json::from_str(text).ok()?;
    let header = |(name, value): (String, Value)| match value {
        Value::Null => Some((name, None)),
        Value::String(text) => Some((name, Some(text.into_bytes()))),
        other => {
            let bytes = STANDARD.decode(other.get("base64")?.as_str()?).ok()?;
            Some((name, Some(bytes)))
        }
    };
    pairs.into_iter().map(header).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read_as_they_were() {
        let header =
            |name: &str, value: Option<&[u8]>| (name.to_owned(), value.map(<[u8]>::to_vec));
        let headers = vec![
            header("a", Some(b"x")),
            header("a", None),
            header("", Some(b"")),
            header("\"b\"", Some(b"\xff\x00")),
        ];
        let text = write(&headers);
        assert_eq!(
            text,
            r#"[["a","x"],["a",null],["",""],["\"b\"",{"base64":"/wA="}]]"#
        );
        assert_eq!(read(&text), Some(headers));
        assert_eq!(read(&write(&[])), Some(Vec::new()));
        for other in ["", "{}", "[[1,2]]", "[[\"a\",2]]", "[[\"a\"]]"] {
            assert_eq!(read(other), None, "{other}");
        }
    }
}
