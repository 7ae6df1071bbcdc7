//! Where decisions are made, and what happens when they cannot be made there.

mod outage;
mod redis;

use std::time::Duration;

use ::redis::RedisError;

use self::outage::Outage;
pub use self::redis::{Redis, RedisOptions, RedisTls, Topology};
use crate::{
    millis::Millis,
    quota::{Algorithm, Check, Quota},
};

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

/// Parts of a thousand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thousandths(pub u32);

/// What this process decides by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LocalOptions {
    /// Share of every limit that is granted while Redis cannot answer: 1 to 1000.
    pub share: Thousandths,
    /// Most quotas that are kept.
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

/// Who made a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Redis, for this request.
    Redis,
    /// This process, by itself.
    Local,
    /// Redis, for an earlier request that this one cannot fare better than.
    Cache,
    /// Nobody: everything is allowed while Redis cannot answer.
    Open,
}

impl Source {
    /// Every source.
    pub const ALL: [Self; 4] = [Self::Redis, Self::Local, Self::Cache, Self::Open];

    /// The name in headers and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Redis => "redis",
            Self::Local => "local",
            Self::Cache => "cache",
            Self::Open => "open",
        }
    }
}

/// The names in logs and metrics of what can be wrong with Redis.
pub(crate) fn error_kinds() -> impl Iterator<Item = &'static str> {
    Outage::ALL.into_iter().map(Outage::kind)
}

/// Decides, by the settings.
#[derive(Debug)]
pub struct Store {
    redis: Redis,
}

impl Store {
    /// Starts to connect in the background; Redis need not be there yet.
    ///
    /// # Errors
    ///
    /// When the options cannot be used to connect at all, such as TLS without any certificate.
    pub fn open(options: StoreOptions) -> Result<Self, RedisError> {
        let Location::Redis(topology) = options.location else {
            return Err(RedisError::from((
                ::redis::ErrorKind::InvalidClientConfig,
                "memory:// is not there yet",
            )));
        };
        let redis = Redis::connect(topology, options.redis, options.key_prefix)?;
        Ok(Self { redis })
    }

    /// Waits for the first connections, but not for long.
    pub async fn warm_up(&self) {
        self.redis.warm_up().await;
    }

    /// Decides a check: takes its cost, or just looks when that is 0.
    pub async fn check(&self, check: &Check) -> Result<Decision, StoreError> {
        self.redis.take(check).await
    }

    /// What taking one unit would answer. Takes and writes nothing.
    pub async fn peek(&self, identifier: &str, quota: &Quota) -> Result<Decision, StoreError> {
        self.redis.peek(identifier, quota).await
    }

    /// Forgets what `identifier` used with one algorithm. Answers whether there was anything.
    pub async fn reset(&self, identifier: &str, algorithm: Algorithm) -> Result<bool, StoreError> {
        self.redis.reset(identifier, algorithm).await
    }

    /// Checks that decisions can be made where they should be made.
    pub async fn probe(&self) -> Result<(), StoreError> {
        self.redis.probe().await
    }
}

/// What the store answered about an identifier and a quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// Who decided.
    pub source: Source,
    /// Whether all of the cost was taken, or could be when only peeking.
    pub allowed: bool,
    /// Most units that can be taken at once.
    pub limit: u64,
    /// Whole units left, at most `limit`.
    pub remaining: u64,
    /// Time until the same call would be allowed; 0 when it was.
    pub retry_after: Millis,
    /// Time until the whole quota is back.
    pub reset_after: Millis,
}

/// Why the store gave no decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreError {
    /// Redis did not answer, or not with a decision. The reason is in the log.
    Unavailable {
        /// Whether Redis answered at all.
        connected: bool,
    },
    /// As many calls wait for Redis as may. One more was not sent, and none should be decided in
    /// another way: the caller is to come back.
    Overloaded,
    /// Redis has a stricter rule for an argument than this service.
    Refused {
        /// The argument that breaks it.
        argument: Argument,
        /// A sentence that names the argument and the rule.
        rule: String,
    },
}

/// An argument of the RATELIMIT commands that callers choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Argument {
    /// Units per window.
    Limit,
    /// The window.
    Window,
    /// Most units at once.
    Capacity,
    /// Units asked for.
    Cost,
}

impl Argument {
    /// The argument that an error of the module names.
    fn from_name(name: &str) -> Option<Self> {
        match name {
            "limit" => Some(Self::Limit),
            "window" => Some(Self::Window),
            "capacity" => Some(Self::Capacity),
            "cost" => Some(Self::Cost),
            _ => None,
        }
    }
}

/// The key that holds the state of an identifier.
///
/// The identifier is its hash tag: both keys of an identifier live in one cluster slot, unless it
/// starts with a closing brace.
fn key(prefix: &str, algorithm: Algorithm, identifier: &str) -> String {
    format!("{prefix}{}:{{{identifier}}}", algorithm.name())
}

#[cfg(test)]
mod tests {
    use super::key;
    use crate::quota::Algorithm;

    #[test]
    fn keys_hold_the_identifier_in_braces() {
        assert_eq!(key("", Algorithm::TokenBucket, "a/b"), "token_bucket:{a/b}");
        assert_eq!(key("app:", Algorithm::SlidingWindow, "x"), "app:sliding_window:{x}");
    }
}
