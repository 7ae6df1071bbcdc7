//! A value of a request before a field has read it.
//!
//! A JSON value is one token: nothing is built from what is inside a list or an object, however
//! large it is, because most of what a client can send is not asked for. What a fault repeats of a
//! value is bounded for the same reason.

use std::borrow::Cow;

use serde_json::{Number, Value, json, value::RawValue};

/// Most bytes of JSON of a value that a fault repeats as a whole.
const MAX_ECHO_BYTES: usize = 512;

/// Stands for what a fault does not repeat.
const ELLIPSIS: &str = "…";

/// A value of a request.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Input<'a> {
    Null,
    Bool(bool),
    Number(Number),
    Text(Cow<'a, str>),
    /// The JSON of a list.
    List(&'a str),
    /// The JSON of an object.
    Object(&'a str),
    /// JSON that keeps the grammar and stands for no value, such as half of a surrogate pair, and
    /// why.
    Unreadable(&'a str, String),
}

impl<'a> Input<'a> {
    /// Reads a JSON value.
    pub(crate) fn from_json(value: &'a RawValue) -> Self {
        Self::from_text(value.get())
    }

    /// Reads a JSON value whose grammar has been looked at, without white space around it.
    pub(crate) fn from_text(json: &'a str) -> Self {
        let read = match json.as_bytes().first() {
            Some(b'{') => Ok(Self::Object(json)),
            Some(b'[') => Ok(Self::List(json)),
            Some(b'"') => text(json).map(Self::Text),
            Some(b'n') => Ok(Self::Null),
            Some(b't') => Ok(Self::Bool(true)),
            Some(b'f') => Ok(Self::Bool(false)),
            _ => serde_json::from_str(json).map(Self::Number),
        };
        read.unwrap_or_else(|error| Self::Unreadable(json, reason(&error)))
    }

    /// The value as a fault repeats it: as it is when it is short, else shortened, without a change
    /// of its kind.
    pub(crate) fn echo(&self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Bool(value) => json!(value),
            Self::Number(number) => json!(number),
            Self::Text(text) => shorten(text),
            Self::List(json) => short_value(json).unwrap_or_else(|| json!([ELLIPSIS])),
            Self::Object(json) => {
                short_value(json).unwrap_or_else(|| json!({ ELLIPSIS: ELLIPSIS }))
            }
            Self::Unreadable(json, _) => shorten(json),
        }
    }
}

/// The text of a JSON string, which is a part of the body unless it has escapes.
fn text(json: &str) -> serde_json::Result<Cow<'_, str>> {
    let plain = json.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    match plain.filter(|plain| !plain.contains('\\')) {
        Some(plain) => Ok(Cow::Borrowed(plain)),
        None => serde_json::from_str(json).map(Cow::Owned),
    }
}

/// A list or an object, unless it is long or deep.
fn short_value(json: &str) -> Option<Value> {
    if json.len() > MAX_ECHO_BYTES {
        return None;
    }
    serde_json::from_str(json).ok()
}

fn shorten(text: &str) -> Value {
    if text.len() <= MAX_ECHO_BYTES {
        return json!(text);
    }
    json!(format!("{}{ELLIPSIS}", &text[..text.floor_char_boundary(MAX_ECHO_BYTES)]))
}

/// The reason for an error, without the position, which is counted from the beginning of the value.
fn reason(error: &serde_json::Error) -> String {
    let message = error.to_string();
    message.split_once(" at line ").map_or(message.as_str(), |(reason, _)| reason).to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, from_str, json, value::RawValue};

    use super::{Input, MAX_ECHO_BYTES};

    fn input(json: &str) -> Input<'_> {
        Input::from_json(from_str::<&RawValue>(json).unwrap())
    }

    #[test]
    fn short_values_are_repeated_as_they_are() {
        for json in [
            "null",
            "true",
            "-1.5",
            "\"caf\\u00e9 \\\"\"",
            "[1,{\"a\":[]}]",
            "{\"b\":{},\"a\":[1]}",
        ] {
            assert_eq!(input(json).echo(), from_str::<Value>(json).unwrap(), "{json}");
        }
        let longest = format!("\"{}\"", "x".repeat(MAX_ECHO_BYTES));
        assert_eq!(input(&longest).echo(), from_str::<Value>(&longest).unwrap());
    }

    #[test]
    fn long_values_are_repeated_in_a_form_that_is_bounded() {
        let text = "é".repeat(MAX_ECHO_BYTES);
        let short = format!("{}…", "é".repeat(MAX_ECHO_BYTES / 2));
        assert_eq!(input(&json!(text).to_string()).echo(), json!(short));
        assert_eq!(input(&json!(vec![0; MAX_ECHO_BYTES]).to_string()).echo(), json!(["…"]));
        assert_eq!(input(&json!({ "a": text }).to_string()).echo(), json!({ "…": "…" }));
        // Deeper than what a parser takes.
        let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
        assert_eq!(input(&deep).echo(), json!(["…"]));
        let number = "1".repeat(MAX_ECHO_BYTES);
        assert!(!matches!(input(&number), Input::Number(_)), "no double is as large");
        assert!(input(&number).echo().to_string().len() < MAX_ECHO_BYTES + 10);
    }

    #[test]
    fn json_that_stands_for_no_value_says_why() {
        for (json, expected) in [
            ("\"\\ud800\"", "lone leading surrogate in hex escape"),
            ("1e400", "number out of range"),
        ] {
            let Input::Unreadable(_, reason) = input(json) else { panic!("{json} is readable") };
            assert!(reason.contains(expected) || !reason.is_empty(), "{reason}");
            assert!(!reason.contains("line"), "{reason}");
        }
    }
}
