//! The names and values of attributes in the JSON of a check by policy, of which an end user can have
//! written any byte.

use std::{borrow::Cow, collections::HashSet, fmt};

use serde::de::{DeserializeSeed, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::{field_error::BrokenRule, input::Input};

/// The most bytes of the name of an attribute in an error.
const MAX_NAME_BYTES: usize = 64;

/// The prefixes of names that an end user can write, as parameters and headers.
pub(super) const END_USER_NAMES: [&str; 2] = ["query.", "header."];

/// The name and the value of an attribute. `None` is null: the request has no such attribute.
pub(super) type Attribute<'a> = (Cow<'a, str>, Option<Cow<'a, [u8]>>);

/// Reads the attributes of a check: an object of texts, numbers and booleans.
pub(super) fn attributes<'a>(value: &Input<'a>) -> Result<Vec<Attribute<'a>>, BrokenRule> {
    let json = match value {
        Input::Object(json) => *json,
        _ => return Err(BrokenRule::new("dict_type", "Input should be a valid dictionary")),
    };
    let mut other: Option<usize> = None;
    let read =
        serde_json::Deserializer::from_str(json).deserialize_map(AttributesVisitor(&mut other));
    // The grammar was checked when the whole body was read.
    let read =
        read.map_err(|_| BrokenRule::new("dict_type", "Input should be a valid dictionary"))?;
    if let Some(name) = repeated(&read) {
        return Err(broken_attribute(name, "occurs more than once"));
    }
    match other.and_then(|place| read.get(place)) {
        Some((name, _)) => Err(broken_attribute(name, "must be text, a number or a boolean")),
        None => Ok(read),
    }
}

/// The most names that are compared with each other: a set costs more than so few comparisons.
const FEW_NAMES: usize = 8;

/// Returns the first name that occurs more than once, unless an end user can have written it: the
/// policies refuse such a name where they read it.
fn repeated<'r>(attributes: &'r [Attribute<'_>]) -> Option<&'r str> {
    let by_caller = |name: &&str| !END_USER_NAMES.iter().any(|prefix| name.starts_with(prefix));
    let mut names = attributes.iter().map(|(name, _)| &**name).filter(by_caller);
    if attributes.len() <= FEW_NAMES {
        let is_repeated = |name: &&str| names.clone().filter(|other| other == name).count() > 1;
        return names.clone().find(is_repeated);
    }
    let mut known = HashSet::with_capacity(attributes.len());
    names.find(|name| !known.insert(*name))
}

/// Returns the error of an attribute. The answer does not repeat the value, which can be a secret.
fn broken_attribute(name: &str, rule: &str) -> BrokenRule {
    let name = &name[..name.floor_char_boundary(MAX_NAME_BYTES)];
    BrokenRule::new("value_error", format!("Value error, the attribute `{name}` {rule}"))
}

/// Returns the value of an attribute; `None` for a list or an object.
fn scalar(value: &RawValue) -> Option<Option<Cow<'_, [u8]>>> {
    let json = value.get();
    Some(match json.as_bytes().first()? {
        b'{' | b'[' => return None,
        b'n' => None,
        b'"' => Some(string_bytes(json)?),
        b't' | b'f' => Some(Cow::Borrowed(json.as_bytes())),
        _ => Some(number_text(json)),
    })
}

/// Returns the bytes of a JSON string.
pub(super) fn string_bytes(json: &str) -> Option<Cow<'_, [u8]>> {
    let plain = json.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    match plain.filter(|plain| !plain.contains('\\')) {
        Some(plain) => Some(Cow::Borrowed(plain.as_bytes())),
        None => {
            let bytes = serde_json::Deserializer::from_str(json).deserialize_bytes(BytesVisitor);
            bytes.ok().map(Cow::Owned)
        }
    }
}

/// Returns a JSON number without an exponent.
fn number_text(json: &str) -> Cow<'_, [u8]> {
    if json.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-') {
        return Cow::Borrowed(json.as_bytes());
    }
    // A number that is too large for a double is the largest one.
    let number = json.parse::<f64>().unwrap_or(0.0).clamp(f64::MIN, f64::MAX);
    Cow::Owned(number.to_string().into_bytes())
}

/// Reads the names and values, and stores the place of the first list or object among them.
struct AttributesVisitor<'o>(&'o mut Option<usize>);

impl<'de> Visitor<'de> for AttributesVisitor<'_> {
    type Value = Vec<Attribute<'de>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut attributes = Vec::new();
        while let Some(name) = map.next_key_seed(NameSeed)? {
            let value: &'de RawValue = map.next_value()?;
            let value = scalar(value).unwrap_or_else(|| {
                self.0.get_or_insert(attributes.len());
                None
            });
            attributes.push((name, value));
        }
        Ok(attributes)
    }
}

/// Reads the name of an attribute. A name that is no UTF-8 becomes one that no policy reads.
struct NameSeed;

impl<'de> DeserializeSeed<'de> for NameSeed {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_bytes(self)
    }
}

impl<'de> Visitor<'de> for NameSeed {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of an attribute")
    }

    fn visit_borrowed_bytes<E>(self, name: &'de [u8]) -> Result<Self::Value, E> {
        Ok(String::from_utf8_lossy(name))
    }

    fn visit_bytes<E>(self, name: &[u8]) -> Result<Self::Value, E> {
        Ok(Cow::Owned(String::from_utf8_lossy(name).into_owned()))
    }
}

struct BytesVisitor;

impl Visitor<'_> for BytesVisitor {
    type Value = Vec<u8>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Self::Value, E> {
        Ok(bytes.to_vec())
    }
}
