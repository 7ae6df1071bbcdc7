//! JSON, without the inside of values: the fields of an object, or the items of a list.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::input::Input;

/// Every field that any request has. All others are skipped.
const NAMES: [&str; 25] = [
    "identifier",
    "algorithm",
    "limit",
    "window_seconds",
    "burst",
    "cost",
    "amount",
    "checks",
    "count",
    "resolution_seconds",
    "period",
    "timezone",
    "starts",
    "force",
    "lease",
    "release",
    "ttl_seconds",
    "fence",
    "reservation",
    "limits",
    "actual",
    "attributes",
    "policy",
    "token",
    "name",
];

/// A field of a request: its name and its value.
pub(crate) type Member<'a> = (&'static str, Input<'a>);

/// Returns the name of a field, if any request has it.
pub(crate) fn known_name(name: &str) -> Option<&'static str> {
    NAMES.into_iter().find(|known| *known == name)
}

/// Reads the fields of an object in their order; `None` for a value of another kind.
///
/// # Errors
///
/// When `json` is not valid.
pub(crate) fn members(json: &str) -> serde_json::Result<Option<Vec<Member<'_>>>> {
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let members = deserializer.deserialize_any(MembersVisitor)?;
    deserializer.end()?;
    Ok(members)
}

/// Reads the first `most` items of a list. Returns them and the number of all items.
///
/// # Errors
///
/// When `json` is not a valid list.
pub(crate) fn items(json: &str, most: usize) -> serde_json::Result<(Vec<&RawValue>, usize)> {
    serde_json::Deserializer::from_str(json).deserialize_seq(ItemsVisitor { most })
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Option<Vec<Member<'de>>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some(name) = map.next_key_seed(NameSeed)? {
            match name {
                Some(name) => members.push((name, Input::from_json(map.next_value()?))),
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(Some(members))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }
}

/// Reads the name of a field, and keeps it if it is known.
struct NameSeed;

impl<'de> DeserializeSeed<'de> for NameSeed {
    type Value = Option<&'static str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for NameSeed {
    type Value = Option<&'static str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a field")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Self::Value, E> {
        Ok(known_name(name))
    }
}

struct ItemsVisitor {
    most: usize,
}

impl<'de> Visitor<'de> for ItemsVisitor {
    type Value = (Vec<&'de RawValue>, usize);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        let mut count = 0;
        while count < self.most {
            let Some(item) = list.next_element()? else { return Ok((items, count)) };
            items.push(item);
            count += 1;
        }
        while list.next_element::<IgnoredAny>()?.is_some() {
            count += 1;
        }
        Ok((items, count))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{items, members};

    /// The fields with their values.
    fn read(json: &str) -> Option<Vec<(&'static str, Value)>> {
        let read = members(json).unwrap();
        read.map(|members| members.iter().map(|(name, value)| (*name, value.echo())).collect())
    }

    #[test]
    fn the_fields_of_a_request_are_read_and_all_others_are_skipped() {
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        let json =
            format!(r#" {{"limit": 1, "other": {deep}, "c\u006fst": {{"a": [2]}}, "limit":"3"}} "#);
        let expected = [("limit", json!(1)), ("cost", json!({ "a": [2] })), ("limit", json!("3"))];
        assert_eq!(read(&json), Some(expected.into()));
    }

    #[test]
    fn a_value_of_another_kind_has_no_fields() {
        for json in ["[1, [2]]", "1", "-1", "1.5", "null", "true", "\"text\"", "\"t\\u00e9xt\""] {
            assert_eq!(read(json), None, "{json}");
        }
    }

    #[test]
    fn what_is_not_json_is_an_error() {
        for json in
            ["", "{", "{\"a\":}", "{\"other\": [1,]}", "{} x", "[1 2]", "nul", "{\"limit\":01}"]
        {
            assert!(members(json).is_err(), "{json}");
        }
    }

    #[test]
    fn items_are_counted_beyond_those_that_are_kept() {
        for (json, most, expected) in [
            ("[]", 2, (0, 0)),
            ("[1]", 2, (1, 1)),
            ("[1,2]", 2, (2, 2)),
            ("[1,{},[3],4]", 2, (2, 4)),
        ] {
            let (items, count) = items(json, most).unwrap();
            assert_eq!((items.len(), count), expected, "{json}");
        }
    }
}
