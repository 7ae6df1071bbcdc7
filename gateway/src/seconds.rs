//! Times in JSON.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};
use store::Millis;

/// Adds a number of thousandths in its shortest form, such as `12`, `0.6` or `0.025`.
pub(crate) fn push_thousandths(text: &mut Vec<u8>, thousandths: u64) {
    text.extend_from_slice(itoa::Buffer::new().format(thousandths / 1_000).as_bytes());
    let mut rest = thousandths % 1_000;
    if rest > 0 {
        text.push(b'.');
    }
    let mut place = 100;
    while rest > 0 {
        text.push(b'0' + (rest / place) as u8);
        rest %= place;
        place /= 10;
    }
}

/// A time that JSON has as a number of seconds with at most three decimals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seconds(pub(crate) Millis);

impl Serialize for Seconds {
    /// A JSON number, exact for times below 139,000 years.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Millis(millis) = self.0;
        if millis.is_multiple_of(1000) {
            serializer.serialize_u64(millis / 1000)
        } else {
            serializer.serialize_f64(millis as f64 / 1000.0)
        }
    }
}

impl JsonSchema for Seconds {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Seconds".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "number", "minimum": 0 })
    }
}

#[cfg(test)]
mod tests {
    use store::Millis;

    use super::Seconds;

    #[test]
    fn json_has_seconds_without_needless_zeros() {
        for (millis, text) in [
            (0, "0"),
            (1, "0.001"),
            (25, "0.025"),
            (600, "0.6"),
            (1_000, "1"),
            (59_999, "59.999"),
            (60_000, "60"),
            (31_622_400_000, "31622400"),
        ] {
            assert_eq!(serde_json::to_string(&Seconds(Millis(millis))).unwrap(), text);
        }
    }
}
