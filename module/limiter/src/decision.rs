//! The answers to calls.

use crate::time::Duration;

/// The answer to one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The units that this call took; for a peek, the units that it would have taken.
    pub granted: u32,
    /// The most units that can be taken at once: a bucket's capacity or a log's limit.
    pub capacity: u32,
    /// The whole units that can be taken after this call.
    pub remaining: u32,
    /// The wait until the missing units would be granted.
    pub retry_after: RetryAfter,
    /// The time until the whole quota is back without further calls; zero if it is whole.
    pub reset_after: Duration,
}

/// The wait of a caller. "Not now" and "never" are different answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryAfter {
    /// All requested units were granted.
    Granted,
    /// The missing units would be granted after this time, and not a microsecond earlier: all units
    /// of the call if none was granted, or the first unit if the call takes any number of units.
    Wait(Duration),
    /// More units are missing than can ever be available at once.
    Never,
}

/// The answer to a call that gives units back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refund {
    /// The units that were given back: at most the used units.
    pub refunded: u32,
    /// The time until the whole quota is back; zero if it is whole after this refund, and if no
    /// units were given back.
    pub reset_after: Duration,
}

impl Refund {
    /// The answer if no units were given back.
    pub(crate) const NOTHING: Self = Self { refunded: 0, reset_after: Duration::ZERO };
}
