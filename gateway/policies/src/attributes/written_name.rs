//! Names of attributes that a caller wrote.

use std::fmt;

use crate::attribute::KNOWN_WORDS;

/// The name of an attribute that a caller wrote.
#[derive(Clone, Copy)]
pub(crate) enum WrittenName<'a> {
    /// A header, without the prefix, in any case.
    Header(&'a str),
    /// A word, or a parameter with its prefix.
    Word(&'a str),
}

impl WrittenName<'_> {
    /// Returns the bytes of the name as a file has it.
    pub(crate) fn bytes(&self) -> impl Iterator<Item = u8> {
        let (prefix, name, is_header) = match self {
            Self::Header(name) => ("header.", *name, true),
            Self::Word(name) => ("", *name, false),
        };
        let lower = move |byte: u8| if is_header { byte.to_ascii_lowercase() } else { byte };
        prefix.bytes().chain(name.bytes().map(lower))
    }

    /// Returns whether the name is a word with a meaning of its own, which no caller misspells.
    pub(crate) fn has_meaning(&self) -> bool {
        matches!(self, Self::Word(name) if KNOWN_WORDS.contains(name))
    }
}

impl fmt::Display for WrittenName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(name) => write!(f, "header.{}", name.to_ascii_lowercase()),
            Self::Word(name) => f.write_str(name),
        }
    }
}
