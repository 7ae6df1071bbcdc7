//! The values of attributes in records.

use serde::{Serialize, Serializer};

use crate::digest::{is_digest, write_hex};

/// The value of an attribute in a record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum RecordedValue {
    /// Text, or the digest of a secret value.
    Text(String),
    /// The items of a claim that is a list, or their digests.
    List(Vec<String>),
    /// Bytes that are no text.
    Bytes {
        /// The bytes, which are written as hexadecimal digits.
        #[serde(serialize_with = "serialize_hex")]
        hex: Vec<u8>,
    },
}

impl RecordedValue {
    /// Returns the bytes that hexadecimal digits stand for, or `None` for another text.
    #[must_use]
    pub fn from_hex(digits: &str) -> Option<Self> {
        let digit = |byte: u8| char::from(byte).to_digit(16);
        let mut hex = Vec::with_capacity(digits.len() / 2);
        for pair in digits.as_bytes().chunks(2) {
            let [high, low] = *pair else { return None };
            hex.push((digit(high)? << 4 | digit(low)?) as u8);
        }
        Some(Self::Bytes { hex })
    }

    /// Returns true for the digest of a secret value, and for a list of digests.
    pub(crate) fn has_digests(&self) -> bool {
        match self {
            Self::Text(text) => is_digest(text),
            Self::List(items) => !items.is_empty() && items.iter().all(|item| is_digest(item)),
            Self::Bytes { .. } => false,
        }
    }

    /// Returns the value with these bytes.
    pub(crate) fn of_bytes(bytes: &[u8]) -> Self {
        match str::from_utf8(bytes) {
            Ok(text) => Self::Text(text.to_owned()),
            Err(_) => Self::Bytes { hex: bytes.to_vec() },
        }
    }
}

fn serialize_hex<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    let mut digits = String::with_capacity(2 * bytes.len());
    write_hex(bytes, &mut digits);
    serializer.serialize_str(&digits)
}
