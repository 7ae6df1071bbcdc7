//! Values of a request before they are read as fields.
//!
//! A JSON value is one token. Nothing is allocated for the inside of a list or of an object, because no
//! field needs most of what a client can send. An error repeats a bounded part of a value for the same
//! reason.

use std::borrow::Cow;

use serde_json::{Number, Value, json, value::RawValue};

/// Maximum size of the JSON of a value that an error repeats as a whole.
const MAX_ECHO_BYTES: usize = 512;

/// Replaces the rest of a value that an error does not repeat.
const ELLIPSIS: &str = "…";

/// The fields with values of end users, such as cookies and tokens. Errors do not repeat these values:
/// callers log errors, and can return them to another end user.
const PRIVATE_FIELDS: [&str; 3] = ["attributes", "token", "release"];

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
    /// Valid JSON without a value, such as half of a surrogate pair, and the reason.
    Unreadable(&'a str, String),
}

impl<'a> Input<'a> {
    /// Reads a JSON value.
    pub(crate) fn from_json(value: &'a RawValue) -> Self {
        Self::from_text(value.get())
    }

    /// Reads valid JSON without white space around it.
    pub(crate) fn from_text(json: &'a str) -> Self {
        let read = match json.as_bytes().first() {
            Some(b'{') => Ok(Self::Object(json)),
            Some(b'[') => Ok(Self::List(json)),
            Some(b'"') => text(json).map(Self::Text),
            Some(b'n') => Ok(Self::Null),
            Some(b't') => Ok(Self::Bool(true)),
            Some(b'f') => Ok(Self::Bool(false)),
            _ => match whole(json) {
                Some(whole) => Ok(Self::Number(whole.into())),
                None => serde_json::from_str(json).map(Self::Number),
            },
        };
        read.unwrap_or_else(|error| Self::Unreadable(json, reason(&error)))
    }

    /// Returns the value for an error: unchanged when it is short, else shortened, of the same kind.
    pub(crate) fn echo(&self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Bool(value) => json!(value),
            Self::Number(number) => json!(number),
            Self::Text(text) => shorten(text),
            Self::List(json) => short_value(json).unwrap_or_else(|| json!([ELLIPSIS])),
            Self::Object(json) => short_value(json).unwrap_or_else(cut_object),
            Self::Unreadable(json, _) => shorten(json),
        }
    }
}

/// Returns a JSON number that is a short integer, as most are. The parser reads all others.
fn whole(json: &str) -> Option<u64> {
    /// The most digits of any number of 64 bits.
    const DIGITS: usize = 19;
    let is_short =
        (1..=DIGITS).contains(&json.len()) && json.bytes().all(|byte| byte.is_ascii_digit());
    is_short.then(|| json.bytes().fold(0, |whole, digit| 10 * whole + u64::from(digit - b'0')))
}

/// Returns the text of a JSON string, as a part of the body unless the string has escapes.
fn text(json: &str) -> serde_json::Result<Cow<'_, str>> {
    let plain = json.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    match plain.filter(|plain| !plain.contains('\\')) {
        Some(plain) => Ok(Cow::Borrowed(plain)),
        None => serde_json::from_str(json).map(Cow::Owned),
    }
}

/// Returns an object, of which nothing is repeated, for an error.
pub(crate) fn cut_object() -> Value {
    json!({ ELLIPSIS: ELLIPSIS })
}

/// Returns the value of a field for an error, or a mark in place of the value of one of
/// [`PRIVATE_FIELDS`].
pub(crate) fn echo_of(name: &str, value: &Input<'_>) -> Value {
    match value {
        Input::Null => Value::Null,
        _ if PRIVATE_FIELDS.contains(&name) => json!(ELLIPSIS),
        value => value.echo(),
    }
}

/// Returns a list or an object, unless it is long or deep.
fn short_value(json: &str) -> Option<Value> {
    if json.len() > MAX_ECHO_BYTES {
        return None;
    }
    let mut value = serde_json::from_str(json).ok()?;
    hide_private(&mut value);
    Some(value)
}

/// Replaces the values of all [`PRIVATE_FIELDS`] in a value. The parser has bounded its depth.
fn hide_private(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(hide_private),
        Value::Object(members) => {
            for (name, member) in members {
                if PRIVATE_FIELDS.contains(&name.as_str()) && !member.is_null() {
                    *member = json!(ELLIPSIS);
                } else {
                    hide_private(member);
                }
            }
        }
        _ => {}
    }
}

fn shorten(text: &str) -> Value {
    if text.len() <= MAX_ECHO_BYTES {
        return json!(text);
    }
    json!(format!("{}{ELLIPSIS}", &text[..text.floor_char_boundary(MAX_ECHO_BYTES)]))
}

/// Returns the reason for an error, without the position, which counts from the start of the value.
fn reason(error: &serde_json::Error) -> String {
    let message = error.to_string();
    message.split_once(" at line ").map_or(message.as_str(), |(reason, _)| reason).to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, from_str, json, value::RawValue};

    use super::{Input, MAX_ECHO_BYTES, echo_of};

    #[test]
    fn a_number_is_that_of_the_parser() {
        for json in [
            "0",
            "9",
            "1000000",
            "9999999999999999999",
            "10000000000000000000",
            "18446744073709551615",
            "18446744073709551616",
            "-1",
            "1.0",
            "1e3",
        ] {
            assert_eq!(Input::from_text(json), Input::Number(from_str(json).unwrap()), "{json}");
        }
    }

    fn input(json: &str) -> Input<'_> {
        Input::from_json(from_str::<&RawValue>(json).unwrap())
    }

    #[test]
    fn short_values_are_repeated_unchanged() {
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
    fn long_values_are_shortened() {
        let text = "é".repeat(MAX_ECHO_BYTES);
        let short = format!("{}…", "é".repeat(MAX_ECHO_BYTES / 2));
        assert_eq!(input(&json!(text).to_string()).echo(), json!(short));
        assert_eq!(input(&json!(vec![0; MAX_ECHO_BYTES]).to_string()).echo(), json!(["…"]));
        assert_eq!(input(&json!({ "a": text }).to_string()).echo(), json!({ "…": "…" }));
        // Deeper than the maximum of the parser.
        let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
        assert_eq!(input(&deep).echo(), json!(["…"]));
        let number = "1".repeat(MAX_ECHO_BYTES);
        assert!(!matches!(input(&number), Input::Number(_)), "no double is as large");
        assert!(input(&number).echo().to_string().len() < MAX_ECHO_BYTES + 10);
    }

    #[test]
    fn values_of_end_users_are_not_repeated() {
        for (json, expected) in [
            (r#"{"token":"t","limit":1}"#, json!({ "token": "…", "limit": 1 })),
            (r#"[[{"attributes":{"header.cookie":"c"}}]]"#, json!([[{ "attributes": "…" }]])),
            (r#"{"a":{"token":["t"],"b":null}}"#, json!({ "a": { "token": "…", "b": null } })),
            (r#"{"token":null,"attributes":"c"}"#, json!({ "token": null, "attributes": "…" })),
        ] {
            assert_eq!(input(json).echo(), expected, "{json}");
        }
        let one = input("1");
        for (name, expected) in
            [("token", json!("…")), ("attributes", json!("…")), ("limit", json!(1))]
        {
            assert_eq!(echo_of(name, &one), expected, "{name}");
        }
    }

    #[test]
    fn json_without_a_value_has_a_reason() {
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
