//! What a caller may take: the vocabulary that requests, headers and the store share.

use std::{borrow::Cow, ops::RangeInclusive};

pub use limiter::Algorithm;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serializer;

use crate::millis::Millis;

/// What a limit, a burst or an amount to give back may be, in units.
pub const UNITS: RangeInclusive<u32> = 1..=1_000_000_000;

/// What a cost may be, in units; 0 to only look.
pub const COST: RangeInclusive<u32> = 0..=*UNITS.end();

/// What a window may be: 1 ms to 366 days.
pub const WINDOW: RangeInclusive<Millis> = Millis(1)..=Millis(31_622_400_000);

/// The name of an algorithm in JSON, for `serde(serialize_with)` and `schemars(with)`.
#[derive(Debug)]
pub(crate) struct AlgorithmName;

impl AlgorithmName {
    /// Writes the name of an algorithm.
    pub(crate) fn serialize<S: Serializer>(
        algorithm: &Algorithm,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(algorithm.name())
    }
}

impl JsonSchema for AlgorithmName {
    fn schema_name() -> Cow<'static, str> {
        "Algorithm".into()
    }

    /// An `enum`, which generators of clients and forms know better than one constant for each name.
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "How grants are counted against a limit.",
            "type": "string",
            "enum": Algorithm::ALL.map(Algorithm::name),
        })
    }
}

/// Units per window, and how they are counted. Every part is within its range.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema)]
#[schemars(inline, transform = require_nothing)]
pub struct Quota {
    /// How grants are counted; `token_bucket` when left out.
    #[schemars(with = "AlgorithmName")]
    pub algorithm: Algorithm,
    /// Units per window; the service's DEFAULT_LIMIT when left out.
    #[schemars(range(min = *UNITS.start(), max = *UNITS.end()))]
    pub limit: u32,
    /// Seconds, with at most three decimals; the service's DEFAULT_WINDOW_SECONDS when left out.
    #[schemars(rename = "window_seconds", range(min = 0.001, max = 31_622_400))]
    pub window: Millis,
    /// Most units that can be taken at once, for a token bucket only; the limit when left out.
    #[schemars(range(min = *UNITS.start(), max = *UNITS.end()))]
    pub burst: Option<u32>,
}

/// Who asks for how many units of what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What is limited.
    pub identifier: String,
    /// What it may take.
    pub quota: Quota,
    /// Units asked for, at most the capacity; 0 to only look whether there is one.
    pub cost: u32,
}

/// Units that were taken and are given back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refund {
    /// What is limited.
    pub identifier: String,
    /// How its grants are counted.
    pub algorithm: Algorithm,
    /// Most units to give back.
    pub amount: u32,
}

impl Quota {
    /// Most units that can be taken at once.
    #[must_use]
    pub fn capacity(&self) -> u32 {
        self.burst.unwrap_or(self.limit)
    }
}

/// Every part of a quota has a default, which a schema without the settings cannot name.
fn require_nothing(schema: &mut Schema) {
    schema.remove("required");
}
