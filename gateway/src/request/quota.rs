//! The ranges of numbers in requests, and the schema of a quota.

use std::{borrow::Cow, ops::RangeInclusive};

use limiter::Algorithm;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serializer;

use crate::seconds::Seconds;

/// The range of a limit, a burst or an amount, in units.
pub(crate) const UNITS: RangeInclusive<u32> = 1..=1_000_000_000;

/// The range of a cost, in units; a cost of 0 takes nothing.
pub(crate) const COST: RangeInclusive<u32> = 0..=*UNITS.end();

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

    /// Returns an `enum`, which generators of clients and forms support better than constants.
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "The algorithm that counts grants against the limit.",
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
    /// The algorithm; `token_bucket` when left out.
    #[schemars(with = "AlgorithmName")]
    algorithm: Algorithm,
    /// Units per window; the service's DEFAULT_LIMIT when left out.
    #[schemars(range(min = *UNITS.start(), max = *UNITS.end()))]
    limit: u32,
    /// Seconds, with at most three decimals; the service's DEFAULT_WINDOW_SECONDS when left out.
    #[schemars(rename = "window_seconds", range(min = 0.001, max = 31_622_400))]
    window: Seconds,
    /// The capacity of a token bucket, which is the most units that can be taken at once; the limit
    /// when left out.
    #[schemars(range(min = *UNITS.start(), max = *UNITS.end()))]
    burst: Option<u32>,
}

/// Removes `required`: every field has a default, which a schema without the settings cannot have.
fn require_nothing(schema: &mut Schema) {
    schema.remove("required");
}
