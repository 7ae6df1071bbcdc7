//! What a caller may take: the vocabulary that requests, headers and the store share.

use std::ops::RangeInclusive;

use schemars::{JsonSchema, Schema};
use serde::Serialize;

use crate::millis::Millis;

/// What a limit, a burst or an amount to give back may be, in units.
pub const UNITS: RangeInclusive<u32> = 1..=1_000_000_000;

/// What a cost may be, in units; 0 to only look.
pub const COST: RangeInclusive<u32> = 0..=*UNITS.end();

/// What a window may be: 1 ms to 366 days.
pub const WINDOW: RangeInclusive<Millis> = Millis(1)..=Millis(31_622_400_000);

/// How grants are counted against a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(transform = list_names)]
pub enum Algorithm {
    /// Units come back steadily, and up to the capacity can be taken at once.
    TokenBucket,
    /// Every grant counts for exactly one window.
    SlidingWindow,
}

/// Describes the algorithms as an `enum`, which generators of clients and forms know better than
/// one constant for each of them.
fn list_names(schema: &mut Schema) {
    schema.remove("oneOf");
    schema.insert("type".to_owned(), "string".into());
    schema.insert("enum".to_owned(), Algorithm::ALL.map(Algorithm::name).to_vec().into());
}

impl Algorithm {
    /// Every algorithm.
    pub const ALL: [Self; 2] = [Self::TokenBucket, Self::SlidingWindow];

    /// The name in JSON, in keys and in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::TokenBucket => "token_bucket",
            Self::SlidingWindow => "sliding_window",
        }
    }
}

/// Units per window, and how they are counted. Every part is within its range.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema)]
#[schemars(inline, transform = require_nothing)]
pub struct Quota {
    /// How grants are counted; `token_bucket` when left out.
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
