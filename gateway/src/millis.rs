//! The one unit of time, and how it is written.

use std::{borrow::Cow, fmt};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};

/// Milliseconds. Clients and Redis read them as seconds with at most three decimals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Millis(pub u64);

impl Millis {
    /// Whole seconds; every part of one counts as one, so that nobody comes back too early.
    #[must_use]
    pub const fn whole_seconds(self) -> u64 {
        self.0.div_ceil(1000)
    }
}

impl fmt::Display for Millis {
    /// Seconds without needless zeros: `60`, `0.6`, `0.025`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, millis) = (self.0 / 1000, self.0 % 1000);
        if millis == 0 {
            return write!(f, "{seconds}");
        }
        let decimals = format!("{millis:03}");
        write!(f, "{seconds}.{}", decimals.trim_end_matches('0'))
    }
}

impl Serialize for Millis {
    /// A JSON number, exact for times below 285,000 years.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.is_multiple_of(1000) {
            serializer.serialize_u64(self.0 / 1000)
        } else {
            serializer.serialize_f64(self.0 as f64 / 1000.0)
        }
    }
}

impl JsonSchema for Millis {
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
    use super::Millis;

    #[test]
    fn is_written_in_seconds_without_needless_zeros() {
        for (millis, written) in [
            (0, "0"),
            (1, "0.001"),
            (25, "0.025"),
            (600, "0.6"),
            (1_000, "1"),
            (59_999, "59.999"),
            (60_000, "60"),
            (31_622_400_000, "31622400"),
        ] {
            assert_eq!(Millis(millis).to_string(), written);
            assert_eq!(serde_json::to_string(&Millis(millis)).unwrap(), written);
        }
    }

    #[test]
    fn rounds_up_to_whole_seconds() {
        for (millis, seconds) in [(0, 0), (1, 1), (999, 1), (1_000, 1), (1_001, 2)] {
            assert_eq!(Millis(millis).whole_seconds(), seconds);
        }
    }
}
