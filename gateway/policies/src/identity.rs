//! Identities and keys: different lists of values never have the same key.
//!
//! A key is PREFIX + `policy:LIMIT:KIND:{POLICY|ID}`. Everything between the braces is what Redis
//! Cluster hashes, so that all limits of one identity are in one slot.

use std::borrow::Cow;
use std::fmt::Write;

use sha2::{Digest, Sha256};
use smallvec::SmallVec;

use crate::address::Network;
use crate::attribute::AttributeName;
use crate::attributes::{Attributes, RequestError, Value};
use crate::digest::{HashKey, write_digest};
use crate::kind::Kind;

/// The most bytes of an identity that is written out; a longer one becomes a digest.
pub const MAX_ID_BYTES: usize = 200;

/// The most bytes of nearly all identities.
const MOST_ID_BYTES: usize = 48;

/// An attribute whose value is a part of an identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityPart {
    /// The attribute.
    pub attribute: AttributeName,
    /// True if the value is secret.
    pub secret: bool,
}

/// The value of a part in one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PartValue<'v> {
    Missing,
    Text(Cow<'v, [u8]>),
    Group(Network),
}

impl PartValue<'_> {
    /// Returns the value as patterns match it and as explanations contain it.
    pub(crate) fn text(&self) -> Option<Cow<'_, [u8]>> {
        match self {
            Self::Missing => None,
            Self::Text(text) => Some(Cow::Borrowed(text)),
            Self::Group(network) => Some(network.to_string().into_bytes().into()),
        }
    }
}

/// The values of an identity in one request, and the text of all of them.
#[derive(Clone, Debug)]
pub(crate) struct Identity<'v> {
    pub(crate) values: SmallVec<[PartValue<'v>; 4]>,
    /// The escaped values, joined. Only keys need a digest of this text.
    pub(crate) written: String,
}

impl<'v> Identity<'v> {
    /// Returns the identity of a request.
    pub(crate) fn of(
        parts: &[IdentityPart],
        attributes: &'v Attributes<'_>,
        hash_key: Option<&HashKey>,
    ) -> Result<Self, RequestError> {
        let mut values = SmallVec::with_capacity(parts.len());
        for part in parts {
            values.push(part_value(part, attributes, hash_key)?);
        }
        let written = write_values(&values);
        Ok(Self { values, written })
    }

    /// Returns the position of the first value that is missing.
    pub(crate) fn missing(&self) -> Option<usize> {
        self.values.iter().position(|value| *value == PartValue::Missing)
    }

    /// Returns the key of a limit.
    pub(crate) fn key(&self, prefix: &str, policy: &str, limit: &str, kind: Kind) -> String {
        let kind = kind.key_word();
        let length = prefix.len() + policy.len() + limit.len() + kind.len() + 12;
        let mut key = String::with_capacity(length + self.written.len().min(MAX_ID_BYTES));
        for part in [prefix, "policy:", limit, ":", kind, ":{", policy, "|"] {
            key.push_str(part);
        }
        self.write_id(&mut key);
        key.push('}');
        key
    }

    /// Writes the values, or a digest of them when they are long.
    pub(crate) fn write_id(&self, text: &mut String) {
        if self.written.len() <= MAX_ID_BYTES {
            text.push_str(&self.written);
        } else {
            text.push('~');
            write_digest(&Sha256::digest(self.written.as_bytes()), text);
        }
    }
}

/// Returns the ID of one value, for the key of a limit that is in no file.
#[must_use]
pub fn id_of(value: &[u8]) -> String {
    let values = SmallVec::from_iter([PartValue::Text(Cow::Borrowed(value))]);
    let written = write_values(&values);
    let mut id = String::with_capacity(written.len().min(MAX_ID_BYTES));
    Identity { values, written }.write_id(&mut id);
    id
}

/// Returns the value of a part in a request.
pub(crate) fn part_value<'v>(
    part: &IdentityPart,
    attributes: &'v Attributes<'_>,
    hash_key: Option<&HashKey>,
) -> Result<PartValue<'v>, RequestError> {
    Ok(match attributes.value(&part.attribute)? {
        // A list names no one identity.
        Value::Missing | Value::List(_) => PartValue::Missing,
        Value::Secret(secret) => secret.identity().map_or(PartValue::Missing, |digest| {
            PartValue::Text(digest.as_bytes().to_vec().into())
        }),
        Value::Text(text) => match hash_key {
            Some(key) if part.secret => PartValue::Text(key.digest(&text).into_bytes().into()),
            _ => PartValue::Text(text),
        },
        Value::Address(address) => {
            let group = match &part.attribute {
                AttributeName::ClientIp(grouping) => grouping.group(address),
                _ => Network::of(address, u8::MAX),
            };
            match hash_key {
                Some(key) if part.secret => {
                    PartValue::Text(key.digest(group.to_string().as_bytes()).into_bytes().into())
                }
                _ => PartValue::Group(group),
            }
        }
    })
}

/// Writes the values of an identity so that each list of values has a text of its own.
fn write_values(values: &[PartValue<'_>]) -> String {
    let mut written = String::with_capacity(MOST_ID_BYTES);
    for (index, value) in values.iter().enumerate() {
        if index > 0 {
            written.push('|');
        }
        match value {
            PartValue::Missing => written.push('-'),
            PartValue::Text(text) if **text == *b"-" => written.push_str("%2D"),
            PartValue::Text(text) => escape(text, &mut written),
            PartValue::Group(network) => {
                let _ = write!(written, "{network}");
            }
        }
    }
    written
}

/// Returns whether a text can be the ID in a key.
pub(crate) fn is_id(text: &str) -> bool {
    let is_written = |byte: u8| byte.is_ascii_alphanumeric() || b"._-:/@~%|".contains(&byte);
    text.len() <= MAX_ID_BYTES && text.bytes().all(is_written)
}

/// Writes a value: every byte but letters, digits and `._-:/@~` becomes `%` and two digits. A `~`
/// at the beginning of all values is escaped too, because there it marks a digest.
pub(crate) fn escape(value: &[u8], written: &mut String) {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"._-:/@~".contains(byte);
    if let Ok(text) = str::from_utf8(value)
        && value.iter().all(plain)
        && !(written.is_empty() && text.starts_with('~'))
    {
        written.push_str(text);
        return;
    }
    for byte in value {
        if plain(byte) && !(*byte == b'~' && written.is_empty()) {
            written.push(char::from(*byte));
        } else {
            let _ = write!(written, "%{byte:02X}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity<'v>(values: &[Option<&'v [u8]>]) -> Identity<'v> {
        let values: SmallVec<[PartValue<'_>; 4]> = values
            .iter()
            .map(|value| value.map_or(PartValue::Missing, |text| PartValue::Text(Cow::from(text))))
            .collect();
        let written = write_values(&values);
        Identity { values, written }
    }

    fn key(values: &[Option<&[u8]>]) -> String {
        identity(values).key("p:", "api", "rate", Kind::TokenBucket)
    }

    #[test]
    fn a_key_is_written_as_the_contract_says() {
        for (values, expected) in [
            (vec![], "p:policy:rate:tb:{api|}"),
            (vec![Some("alice")], "p:policy:rate:tb:{api|alice}"),
            (vec![Some("a b"), Some("c")], "p:policy:rate:tb:{api|a%20b|c}"),
            (vec![None, Some("")], "p:policy:rate:tb:{api|-|}"),
            (vec![Some("}"), Some("{|%")], "p:policy:rate:tb:{api|%7D|%7B%7C%25}"),
            (vec![Some("-")], "p:policy:rate:tb:{api|%2D}"),
            (vec![Some("~a")], "p:policy:rate:tb:{api|%7Ea}"),
            (vec![Some("a"), Some("~a")], "p:policy:rate:tb:{api|a|~a}"),
            (vec![Some("x@y.z:/-_")], "p:policy:rate:tb:{api|x@y.z:/-_}"),
        ] {
            let values: Vec<_> = values.iter().map(|value| value.map(str::as_bytes)).collect();
            assert_eq!(key(&values), expected);
        }
        assert_eq!(key(&[Some(b"\xff")]), "p:policy:rate:tb:{api|%FF}");
    }

    #[test]
    fn a_long_identity_becomes_a_digest() {
        let longest = "a".repeat(MAX_ID_BYTES);
        assert_eq!(key(&[Some(longest.as_bytes())]), format!("p:policy:rate:tb:{{api|{longest}}}"));
        let longer = "a".repeat(MAX_ID_BYTES + 1);
        let digest = "fdc52cc4b0ed2bb3ad95e53d3cae5f3b";
        let digested = key(&[Some(longer.as_bytes())]);
        assert_eq!(digested.len(), "p:policy:rate:tb:{api|~}".len() + digest.len(), "{digested}");
        assert!(digested.starts_with("p:policy:rate:tb:{api|~"));
        // A value that looks like a digest is another identity.
        let forged = digested.trim_start_matches("p:policy:rate:tb:{api|").trim_end_matches('}');
        assert_ne!(key(&[Some(forged.as_bytes())]), digested);
    }

    proptest::proptest! {
        #[test]
        fn different_lists_of_values_never_share_a_key(
            a in proptest::collection::vec(proptest::option::of("[-~|%a{}]{0,3}"), 1..4),
            b in proptest::collection::vec(proptest::option::of("[-~|%a{}]{0,3}"), 1..4),
        ) {
            let bytes = |list: &[Option<String>]| -> String {
                let list: Vec<_> = list.iter().map(|v| v.as_deref().map(str::as_bytes)).collect();
                key(&list)
            };
            proptest::prop_assert_eq!(bytes(&a) == bytes(&b), a == b);
            let key = bytes(&a);
            let tag = &key[key.find('{').unwrap() + 1..key.len() - 1];
            let braces = tag.contains(['{', '}']);
            proptest::prop_assert!(!tag.is_empty() && !braces);
        }
    }
}
