//! Nodes to documents: each type reads its own form and adds every fault that it finds.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use crate::parse::{Key, Node, Value};
use crate::problem::{Place, Problems, shorten};

/// A type that can be read from a node.
pub(crate) trait Read: Sized {
    /// Returns the value, or `None` after adding at least one fault.
    fn read(node: &Node<'_>, problems: &mut Problems) -> Option<Self>;

    /// Returns the value of a key that the file leaves out, or `None` when the key is required.
    fn absent() -> Option<Self> {
        None
    }
}

/// A value with its position.
#[derive(Clone, Debug)]
pub(crate) struct At<T> {
    pub(crate) place: Place,
    pub(crate) value: T,
}

impl<T: Read> Read for At<T> {
    fn read(node: &Node<'_>, problems: &mut Problems) -> Option<Self> {
        Some(Self { place: node.place, value: T::read(node, problems)? })
    }
}

impl<T: Read> Read for Option<T> {
    fn read(node: &Node<'_>, problems: &mut Problems) -> Option<Self> {
        T::read(node, problems).map(Some)
    }

    fn absent() -> Option<Self> {
        Some(None)
    }
}

impl<T: Read> Read for Vec<T> {
    fn read(node: &Node<'_>, problems: &mut Problems) -> Option<Self> {
        let Value::List(items) = &node.value else {
            problems.expect(node.place, describe(node), "a list");
            return None;
        };
        // Each item is read also after a fault, so that all faults are found at once.
        let read: Vec<_> = items
            .iter()
            .map_while(|item| (!problems.full()).then(|| T::read(item, problems)))
            .collect();
        read.into_iter().collect()
    }
}

/// A map from names that the file chooses, in the order of the file.
#[derive(Clone, Debug)]
pub(crate) struct Entries<T>(pub(crate) Vec<(At<String>, T)>);

impl<T: Read> Read for Entries<T> {
    fn read(node: &Node<'_>, problems: &mut Problems) -> Option<Self> {
        let entries = map(node, problems)?;
        let mut read = Vec::with_capacity(entries.len());
        for (key, value) in entries {
            let name = text(key.place, &key.text, key.plain, problems);
            let value = T::read(value, problems);
            read.push(
                name.zip(value).map(|(name, value)| (At { place: key.place, value: name }, value)),
            );
        }
        read.into_iter().collect::<Option<_>>().map(Self)
    }
}

impl Read for String {
    fn read(node: &Node<'_>, problems: &mut Problems) -> Option<Self> {
        match &node.value {
            Value::Scalar { text: written, plain } => text(node.place, written, *plain, problems),
            _ => {
                problems.expect(node.place, describe(node), "text");
                None
            }
        }
    }
}

impl Read for bool {
    fn read(node: &Node<'_>, problems: &mut Problems) -> Option<Self> {
        match (scalar(node), &node.value) {
            (Some(Scalar::Bool(value)), _) => Some(value),
            _ => {
                problems.expect(node.place, describe(node), "`true` or `false`");
                None
            }
        }
    }
}

impl Read for u64 {
    fn read(node: &Node<'_>, problems: &mut Problems) -> Option<Self> {
        match (scalar(node), &node.value) {
            (Some(Scalar::Number), Value::Scalar { text, .. }) => {
                let digits = text.strip_prefix('+').unwrap_or(text);
                let number = digits.bytes().all(|byte| byte.is_ascii_digit());
                match digits.parse() {
                    Ok(value) => return Some(value),
                    Err(_) if number => {
                        problems.expect(node.place, "the number is too large", "a smaller number");
                    }
                    Err(_) => {
                        problems.expect(node.place, describe(node), "a whole number in digits");
                    }
                }
            }
            _ => problems.expect(node.place, describe(node), "a whole number"),
        }
        None
    }
}

/// The types that the core schema of YAML 1.2 gives to a scalar without quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scalar {
    Null,
    Bool(bool),
    Number,
    Text,
}

/// Returns the type of a scalar, or `None` for a list or map.
pub(crate) fn scalar(node: &Node<'_>) -> Option<Scalar> {
    match &node.value {
        Value::Scalar { text, plain } => Some(type_of(text, *plain)),
        _ => None,
    }
}

fn type_of(text: &str, plain: bool) -> Scalar {
    match text {
        _ if !plain => Scalar::Text,
        "" | "~" | "null" | "Null" | "NULL" => Scalar::Null,
        "true" | "True" | "TRUE" => Scalar::Bool(true),
        "false" | "False" | "FALSE" => Scalar::Bool(false),
        _ if is_number(text) => Scalar::Number,
        _ => Scalar::Text,
    }
}

fn is_number(text: &str) -> bool {
    if let Some(digits) = text.strip_prefix("0o") {
        return !digits.is_empty() && digits.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
    }
    if let Some(digits) = text.strip_prefix("0x") {
        return !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    }
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN") {
        return true;
    }
    // Rust parses the other numbers of the core schema; Rust's words for numbers are excluded here.
    unsigned.starts_with(|first: char| first.is_ascii_digit() || first == '.')
        && unsigned.parse::<f64>().is_ok()
}

fn text(place: Place, written: &str, plain: bool, problems: &mut Problems) -> Option<String> {
    let kind = match type_of(written, plain) {
        Scalar::Text => return Some(written.to_owned()),
        Scalar::Null => {
            problems.expect(place, "there is no value", "text");
            return None;
        }
        Scalar::Bool(_) => "true or false",
        Scalar::Number => "a number",
    };
    let written = shorten(written);
    let problem = format!("`{written}` is {kind} where text is expected");
    problems.expect(place, problem, format!("\"{written}\": put it in quotes"));
    None
}

/// Returns a phrase for the shape of a node, for a message.
pub(crate) fn describe(node: &Node<'_>) -> String {
    match &node.value {
        Value::List(_) => "a list stands here".to_owned(),
        Value::Map(_) => "a map stands here".to_owned(),
        // The parser writes `~` for a value that is not there.
        Value::Scalar { .. } if scalar(node) == Some(Scalar::Null) => {
            "there is no value".to_owned()
        }
        Value::Scalar { text, plain: true } => format!("`{}` stands here", shorten(text)),
        Value::Scalar { text, plain: false } => {
            format!("the text \"{}\" stands here", shorten(text))
        }
    }
}

fn map<'n, 'f>(node: &'n Node<'f>, problems: &mut Problems) -> Option<&'n [(Key<'f>, Node<'f>)]> {
    match &node.value {
        Value::Map(entries) => Some(entries),
        _ => {
            problems.expect(node.place, describe(node), "a map");
            None
        }
    }
}

/// The keys of a map, which are read one by one.
pub(crate) struct Fields<'n, 'f, 'p> {
    place: Place,
    entries: &'n [(Key<'f>, Node<'f>)],
    names: Vec<&'static str>,
    problems: &'p mut Problems,
}

impl<'n, 'f, 'p> Fields<'n, 'f, 'p> {
    /// Returns the keys of a node that is a map, or `None` after adding a fault.
    pub(crate) fn of(node: &'n Node<'f>, problems: &'p mut Problems) -> Option<Self> {
        let entries = map(node, problems)?;
        Some(Self { place: node.place, entries, names: Vec::new(), problems })
    }

    /// Returns the value of the key `name`, or `None` after adding a fault.
    pub(crate) fn read<T: Read>(&mut self, name: &'static str) -> Option<T> {
        let name = name.strip_prefix("r#").unwrap_or(name);
        self.names.push(name);
        match self.entries.iter().find(|(key, _)| key.text == name) {
            Some((_, node)) => T::read(node, self.problems),
            None => T::absent().or_else(|| {
                self.problems.add(self.place, format!("the key `{name}` is missing"));
                None
            }),
        }
    }

    /// Adds a fault for each key that was not read.
    pub(crate) fn finish(self) {
        for (key, _) in self.entries {
            if !self.names.contains(&&*key.text) {
                self.problems.unknown(key.place, "key", &key.text, self.names.iter().copied());
            }
        }
    }
}

/// Implements [`Read`] for a struct: each field is the key of the same name.
macro_rules! read_fields {
    ($document:ident { $($field:ident),* $(,)? }) => {
        impl $crate::read::Read for $document {
            fn read(
                node: &$crate::parse::Node<'_>,
                problems: &mut $crate::problem::Problems,
            ) -> Option<Self> {
                let mut fields = $crate::read::Fields::of(node, problems)?;
                $(let $field = fields.read(stringify!($field));)*
                fields.finish();
                Some(Self { $($field: $field?),* })
            }
        }
    };
}

/// Implements [`Read`] for an enum whose variants are words.
macro_rules! read_words {
    ($document:ident { $($word:literal => $variant:ident),* $(,)? }) => {
        impl $crate::read::Read for $document {
            fn read(
                node: &$crate::parse::Node<'_>,
                problems: &mut $crate::problem::Problems,
            ) -> Option<Self> {
                let text = String::read(node, problems)?;
                match &*text {
                    $($word => Some(Self::$variant),)*
                    _ => {
                        problems.unknown(node.place, "word", &text, [$($word),*].into_iter());
                        None
                    }
                }
            }
        }
    };
}

pub(crate) use {read_fields, read_words};

/// The schema of a value is that of its type: positions are not part of the form of a file.
impl<T: JsonSchema> JsonSchema for At<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn schema_id() -> Cow<'static, str> {
        T::schema_id()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

impl<T: JsonSchema> JsonSchema for Entries<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("Entries_of_{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let value = generator.subschema_for::<T>();
        json_schema!({ "type": "object", "additionalProperties": value })
    }
}
