//! What the settings say about where and how decisions are made.

use std::time::Duration;

use super::redis::{RedisOptions, Topology};

/// Where states are, and what happens when they cannot be reached.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// Where states are kept.
    pub location: Location,
    /// How Redis is used, if that is where they are.
    pub redis: RedisOptions,
    /// Put before every key.
    pub key_prefix: String,
    /// What a check gets while Redis cannot answer.
    pub fail_mode: FailMode,
    /// What this process decides by itself.
    pub local: LocalOptions,
    /// What is remembered of denials.
    pub deny_cache: DenyCacheOptions,
}

/// Where states are kept.
#[derive(Debug, Clone)]
pub enum Location {
    /// In this process, and gone with it.
    Memory,
    /// In Redis.
    Redis(Topology),
}

/// What a check gets while Redis cannot answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailMode {
    /// An error: status 503.
    Closed,
    /// A grant, whatever it asks for.
    Open,
    /// A decision of this process alone.
    Local,
}

impl FailMode {
    /// The word in the settings.
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

/// What this process decides by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LocalOptions {
    /// Share of every limit that is granted while Redis cannot answer: 1 to 1000.
    pub share: Thousandths,
    /// Most quotas of each algorithm that are kept.
    pub max_keys: usize,
}

/// What is remembered of denials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DenyCacheOptions {
    /// Most denials; 0 for none.
    pub size: usize,
    /// How long each is remembered at most.
    pub max_age: Duration,
}
