//! The options of a store.

use std::time::Duration;

use crate::redis::topology::{RedisOptions, Topology};

/// The options of a store.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// The place of the states.
    pub location: Location,
    /// The options of connections, if the states are in Redis.
    pub redis: RedisOptions,
    /// The prefix of every key.
    pub key_prefix: String,
    /// The answer to checks while Redis does not answer.
    pub fail_mode: FailMode,
    /// The options of decisions of this process.
    pub local: LocalOptions,
    /// The options of the deny cache.
    pub deny_cache: DenyCacheOptions,
}

/// The place of the states.
#[derive(Debug, Clone)]
pub enum Location {
    /// The memory of this process.
    Memory,
    /// Redis.
    Redis(Topology),
}

/// The answer to checks while Redis does not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailMode {
    /// An error: status 503.
    Closed,
    /// A grant for every cost.
    Open,
    /// A decision of this process alone.
    Local,
}

impl FailMode {
    /// Returns the name in settings.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::Local => "local",
        }
    }
}

/// Parts of a thousand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thousandths(pub u32);

/// The options of decisions of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LocalOptions {
    /// Share of every limit that this process grants while Redis does not answer: 1 to 1000.
    pub share: Thousandths,
    /// Most states of each algorithm.
    pub max_keys: usize,
}

/// The options of the deny cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DenyCacheOptions {
    /// Most denials; 0 for none.
    pub size: usize,
    /// Longest time for which a denial is repeated.
    pub max_age: Duration,
}
