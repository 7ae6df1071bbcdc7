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
    /// Members in order.
    Map(Vec<Member>),
}

/// A member of a map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) name: String,
    /// The line of the name.
    pub(crate) line: usize,
    pub(crate) value: Yaml,
}

impl Yaml {
    /// Returns the value of a member.
    pub(crate) fn get(&self, name: &str) -> Option<&Self> {
        let mut members = self.members().iter();
        let member = members.find(|member| member.name == name && member.value != Self::Null);
        member.map(|member| &member.value)
    }

    /// Returns the text of a member.
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

    /// Returns whether the value of a member is true, in a form that YAML 1.1 or 1.2 has.
    pub(crate) fn is_true(&self, name: &str) -> bool {
        let text = self.text(name).unwrap_or_default();
        ["true", "yes", "on", "y"].iter().any(|word| text.eq_ignore_ascii_case(word))
    }

    /// Returns the items of a list.
    pub(crate) fn items(&self) -> &[Self] {
        match self {
            Self::List(items) => items,
            _ => &[],
        }
    }

    /// Returns the members of a map.
    pub(crate) fn members(&self) -> &[Member] {
        match self {
            Self::Map(members) => members,
            _ => &[],
        }
    }

    /// Returns the line on which a map begins.
    pub(crate) fn line(&self) -> Option<usize> {
        self.members().first().map(|member| member.line)
    }
}

enum Open {
    List(Vec<Yaml>),
    /// The members, and the name of the next one with its line.
    Map(Vec<Member>, Option<(String, usize)>),
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
                    *key = Some((text.into_owned(), line));
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
                Some(Open::Map(members, _)) => Yaml::Map(members),
                None => return Err(format!("line {line}: an end without a start")),
            },
            Event::Alias(..) => return Err(format!("line {line}: an alias; write the value out")),
            _ => continue,
        };
        match open.last_mut() {
            Some(Open::List(items)) => items.push(value),
            Some(Open::Map(members, name)) => {
                let (name, line) = name.take().unwrap_or_default();
                if members.iter().any(|known| known.name == name) {
                    return Err(format!("line {line}: the key `{name}` is repeated"));
                }
                members.push(Member { name, line, value });
            }
            None => root = value,
        }
    }
    Ok(root)
}
