//! The answers to calls.

use crate::time::Duration;

/// The answer to one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Units that this call took; for a peek, units that it would have taken.
    pub granted: u32,
    /// The most units that can be taken at once: a bucket's capacity or a log's limit.
    pub capacity: u32,
    /// Whole units that could still be taken after this call.
    pub remaining: u32,
    /// How long to wait until what was not granted would be.
    pub retry_after: RetryAfter,
    /// Time until the whole quota is back if nothing else happens; zero when it is whole.
    pub reset_after: Duration,
}

/// How long a caller has to wait. "Not now" and "never" are different answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryAfter {
    /// Everything that was asked for was granted.
    Granted,
    /// The missing units would be granted after this time, and not a microsecond earlier: the same
    /// call if nothing was granted, and of a call that takes any number of units the first one.
    Wait(Duration),
    /// More units are missing than can ever be there at once.
    Never,
}

/// The answer to a call that gives units back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refund {
    /// Units actually given back: at most what was used.
    pub refunded: u32,
    /// Time until the whole quota is back; zero when this refund made it whole, and when there was
    /// nothing to give back.
    pub reset_after: Duration,
}

impl Refund {
    /// The answer when nothing was given back.
    pub(crate) const NOTHING: Self = Self { refunded: 0, reset_after: Duration::ZERO };
}
