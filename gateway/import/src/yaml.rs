//! YAML as text, lists and maps.

use granit_parser::{Event, Parser, ScalarStyle};

/// The most lists and maps within each other.
const MAX_DEPTH: usize = 64;

/// A value of YAML.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Yaml {
    /// No value.
    Null,
    /// A scalar as written.
    Text(String),
    /// Items in order.
    List(Vec<Yaml>),
    /// Entries in order.
    Map(Vec<(String, Yaml)>),
}

impl Yaml {
    /// Returns the value of a key.
    pub(crate) fn get(&self, name: &str) -> Option<&Self> {
        let Self::Map(entries) = self else { return None };
        entries.iter().find(|(key, value)| key == name && *value != Self::Null).map(|(_, v)| v)
    }

    /// Returns the text of a key.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.get(name)?.as_text()
    }

    /// Returns the text of a scalar.
    pub(crate) fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Returns whether the value of a key is true.
    pub(crate) fn is_true(&self, name: &str) -> bool {
        self.text(name) == Some("true")
    }

    /// Returns the items of a list.
    pub(crate) fn items(&self) -> &[Self] {
        match self {
            Self::List(items) => items,
            _ => &[],
        }
    }

    /// Returns the keys of a map.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &str> {
        let entries: &[_] = match self {
            Self::Map(entries) => entries,
            _ => &[],
        };
        entries.iter().map(|(key, _)| key.as_str())
    }
}

enum Open {
    List(Vec<Yaml>),
    Map(Vec<(String, Yaml)>, Option<String>),
}

/// Returns the value of a document, or the fault of the text.
pub(crate) fn parse(text: &str) -> Result<Yaml, String> {
    let (mut open, mut root) = (Vec::new(), Yaml::Null);
    let mut documents = 0;
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| format!("not valid YAML: {error}"))?;
        let line = span.start.line();
        let value = match event {
            Event::DocumentStart(..) => {
                documents += 1;
                if documents > 1 {
                    return Err(format!("line {line}: a second document; convert each by itself"));
                }
                continue;
            }
            Event::Scalar(text, style, ..) => {
                if let Some(Open::Map(_, key @ None)) = open.last_mut() {
                    *key = Some(text.into_owned());
                    continue;
                }
                let plain = matches!(style, ScalarStyle::Plain);
                if plain && matches!(&*text, "" | "~" | "null") {
                    Yaml::Null
                } else {
                    Yaml::Text(text.into_owned())
                }
            }
            Event::SequenceStart(..) | Event::MappingStart(..) => {
                if open.len() >= MAX_DEPTH || matches!(open.last(), Some(Open::Map(_, None))) {
                    return Err(format!("line {line}: a list or map that no configuration has"));
                }
                open.push(match event {
                    Event::SequenceStart(..) => Open::List(Vec::new()),
                    _ => Open::Map(Vec::new(), None),
                });
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => match open.pop() {
                Some(Open::List(items)) => Yaml::List(items),
                Some(Open::Map(entries, _)) => Yaml::Map(entries),
                None => return Err(format!("line {line}: an end without a start")),
            },
            Event::Alias(..) => return Err(format!("line {line}: an alias; write the value out")),
            _ => continue,
        };
        match open.last_mut() {
            Some(Open::List(items)) => items.push(value),
            Some(Open::Map(entries, key)) => {
                let key = key.take().unwrap_or_default();
                if entries.iter().any(|(known, _)| *known == key) {
                    return Err(format!("line {line}: the key `{key}` is repeated"));
                }
                entries.push((key, value));
            }
            None => root = value,
        }
    }
    Ok(root)
}
