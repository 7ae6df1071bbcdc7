//! The attributes that records have.

use crate::address::Grouping;
use crate::attribute::AttributeName;
use crate::attributes::{Attributes, Value};
use crate::digest::HashKey;
use crate::identity::{IdentityPart, PartValue, part_value};
use crate::recorded_value::RecordedValue;

/// An attribute that records have, with its name as a file writes it.
#[derive(Clone, Debug)]
pub(crate) struct RecordedAttribute {
    pub(crate) name: Box<str>,
    pub(crate) part: IdentityPart,
}

impl RecordedAttribute {
    /// Returns the attributes of records, in the order of their names.
    pub(crate) fn list<'n>(
        reads: impl Iterator<Item = &'n AttributeName>,
        is_secret: impl Fn(&AttributeName) -> bool,
    ) -> Box<[Self]> {
        let mut list: Vec<_> = reads.map(|name| Self::new(name, is_secret(name))).collect();
        list.sort_by(|a, b| a.name.cmp(&b.name));
        list.dedup_by(|a, b| a.name == b.name);
        list.into()
    }

    fn new(name: &AttributeName, secret: bool) -> Self {
        let attribute = match name {
            // The address has all groups. Each group has a digest of its own.
            AttributeName::ClientIp(_) if !secret => AttributeName::ClientIp(Grouping::default()),
            name => name.clone(),
        };
        Self { name: attribute.to_string().into(), part: IdentityPart { attribute, secret } }
    }

    /// Returns the value of the attribute. A value that cannot be read has no record: a policy that
    /// needs it answers the request with an error.
    pub(crate) fn value(
        &self,
        attributes: &Attributes<'_>,
        hash_key: Option<&HashKey>,
    ) -> Option<RecordedValue> {
        let Self { part, .. } = self;
        // A token that no policy has needed is not verified for a record.
        if matches!(part.attribute, AttributeName::Claim(_)) && !attributes.knows_claims() {
            return None;
        }
        match (attributes.value(&part.attribute).ok()?, part.secret) {
            (Value::Missing, _) => None,
            (Value::Secret(secret), _) => Some(secret.digests.clone()),
            (Value::Text(bytes), false) => Some(RecordedValue::of_bytes(&bytes)),
            (Value::Address(address), false) => Some(RecordedValue::Text(address.to_string())),
            (Value::List(items), false) => {
                let items = items.iter().map(|item| String::from_utf8_lossy(item).into_owned());
                Some(RecordedValue::List(items.collect()))
            }
            (Value::List(items), true) => {
                let key = hash_key?;
                Some(RecordedValue::List(items.iter().map(|item| key.digest(item)).collect()))
            }
            (Value::Text(_) | Value::Address(_), true) => {
                match part_value(part, attributes, Some(hash_key?)).ok()? {
                    PartValue::Text(digest) => Some(RecordedValue::of_bytes(&digest)),
                    PartValue::Missing | PartValue::Group(_) => None,
                }
            }
        }
    }
}
