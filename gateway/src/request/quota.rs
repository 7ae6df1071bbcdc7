//! The ranges of numbers in requests, and the schema of a quota.

use std::{borrow::Cow, ops::RangeInclusive};

use calendar::Unit;
use limiter::{Algorithm, Units};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serializer;
use store::LimitKind;

use crate::seconds::Seconds;

/// The range of a limit, a burst or an amount, in units.
pub(crate) const UNITS: RangeInclusive<u32> = 1..=1_000_000_000;

/// The range of a cost, in units; a cost of 0 takes nothing.
pub(crate) const COST: RangeInclusive<u32> = 0..=*UNITS.end();

/// The cost or the amount of a request that leaves it out.
pub(crate) const DEFAULT_UNITS: Units = Units::MIN;

/// Returns the cost or the amount of a request that leaves it out, for `schemars(default)`.
pub(crate) const fn default_units() -> Option<u32> {
    Some(DEFAULT_UNITS.get())
}

/// Returns the algorithm of a request that leaves it out.
pub(crate) const fn default_algorithm() -> Algorithm {
    Algorithm::TokenBucket
}

/// The range of a day of a month.
pub(crate) const DAYS: RangeInclusive<u32> = 1..=31;

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

/// The name of a kind of limit in JSON, for `serde(serialize_with)` and `schemars(with)`.
#[derive(Debug)]
pub(crate) struct LimitKindName;

impl LimitKindName {
    /// Writes the name of a kind.
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
    pub(crate) fn serialize<S: Serializer>(
        kind: &LimitKind,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(kind.name())
    }
}

impl JsonSchema for LimitKindName {
    fn schema_name() -> Cow<'static, str> {
        "LimitKind".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "The algorithm of a quota, or `concurrency` for leases.",
            "type": "string",
            "enum": LimitKind::ALL.map(LimitKind::name),
        })
    }
}

/// The schema of the quota in a request.
#[derive(Debug, JsonSchema)]
#[schemars(inline, transform = require_nothing)]
#[expect(dead_code, reason = "describes the fields; their values are read into a QuotaRule")]
pub(crate) struct QuotaSchema {
    /// The algorithm; `token_bucket` when left out.
    #[schemars(with = "Option<AlgorithmName>")]
    algorithm: Option<Algorithm>,
    /// Units per window; the service's DEFAULT_LIMIT when left out.
    #[schemars(range(min = *UNITS.start(), max = *UNITS.end()))]
    limit: Option<u32>,
    /// The window in seconds, with at most three decimals; the service's DEFAULT_WINDOW_SECONDS when
    /// left out. Fixed windows of a length begin at multiples of the length since 1970.
    #[schemars(rename = "window_seconds", range(min = 0.001, max = 31_622_400))]
    window: Option<Seconds>,
    /// The capacity of a token bucket, which is the most units that can be taken at once; the limit
    /// when left out.
    #[schemars(range(min = *UNITS.start(), max = *UNITS.end()))]
    burst: Option<u32>,
    /// The resolution of a sliding window in seconds, with at most three decimals and at most the
    /// window. Units then count up to one resolution longer, and the memory is bounded by the window
    /// divided by the resolution, not by the limit.
    #[schemars(rename = "resolution_seconds", range(min = 0.001, max = 31_622_400))]
    resolution: Option<Seconds>,
    /// The unit of a fixed window of the calendar, in place of `window_seconds`.
    #[schemars(with = "Option<PeriodName>")]
    period: Option<Unit>,
    /// The time zone of a period by its IANA name, such as `Europe/Berlin`; UTC when left out.
    timezone: Option<String>,
    /// The start of a period: of a day a time such as `"06:00"`, of a week a day such as `"sunday"`,
    /// of a month a day from 1 to 31 (in shorter months the last day), of a year a date such as
    /// `"04-01"`. Midnight, Monday and the first day when left out.
    #[schemars(with = "Option<StartSchema>")]
    starts: Option<String>,
}

/// The name of a unit of the calendar, for `schemars(with)`.
#[derive(Debug)]
struct PeriodName;

impl JsonSchema for PeriodName {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Period".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "enum": Unit::ALL.map(Unit::name) })
    }
}

/// The start of a period.
#[derive(Debug, JsonSchema)]
#[schemars(inline)]
#[serde(untagged)]
#[expect(dead_code, reason = "describes the field; its value is read into a CalendarUnit")]
enum StartSchema {
    /// A time, a day of the week, or a date.
    Text(String),
    /// A day of the month.
    Day(#[schemars(range(min = *DAYS.start(), max = *DAYS.end()))] u32),
}

/// Removes `required`: every field has a default, which a schema without the settings cannot have.
fn require_nothing(schema: &mut Schema) {
    schema.remove("required");
}
