//! The ranges of the numbers in requests, and the schema of a quota.

use std::{borrow::Cow, ops::RangeInclusive};

use limiter::Algorithm;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serializer;
use store::Millis;

use crate::seconds::Seconds;

/// What a limit, a burst or an amount to give back may be, in units.
pub(crate) const UNITS: RangeInclusive<u32> = 1..=1_000_000_000;

/// What a cost may be, in units; 0 to only look.
pub(crate) const COST: RangeInclusive<u32> = 0..=*UNITS.end();

/// What a window may be: 1 ms to 366 days.
pub(crate) const WINDOW: RangeInclusive<Millis> = Millis(1)..=Millis(31_622_400_000);

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

/// The schema of the quota in a request.
#[derive(Debug, JsonSchema)]
#[schemars(inline, transform = require_nothing)]
#[expect(dead_code, reason = "describes the fields; their values are read into store::Quota")]
pub(crate) struct QuotaSchema {
    /// How grants are counted; `token_bucket` when left out.
    #[schemars(with = "AlgorithmName")]
    algorithm: Algorithm,
    /// Units per window; the service's DEFAULT_LIMIT when left out.
    #[schemars(range(min = *UNITS.start(), max = *UNITS.end()))]
    limit: u32,
    /// Seconds, with at most three decimals; the service's DEFAULT_WINDOW_SECONDS when left out.
    #[schemars(rename = "window_seconds", range(min = 0.001, max = 31_622_400))]
    window: Seconds,
    /// Most units that can be taken at once, for a token bucket only; the limit when left out.
    #[schemars(range(min = *UNITS.start(), max = *UNITS.end()))]
    burst: Option<u32>,
}

/// Every part of a quota has a default, which a schema without the settings cannot name.
fn require_nothing(schema: &mut Schema) {
    schema.remove("required");
}
