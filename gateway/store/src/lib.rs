//! Decisions of the gateway: in Redis by the RATELIMIT commands, or in this process.
//!
//! A check is a request for units of a quota. The store sends it to Redis as one command, or decides
//! it in this process where there is no Redis, and while Redis does not answer.
//!
//! # Layout
//!
//! * `check`, `decision`, `error`, `millis`: the vocabulary of requests and answers.
//! * `options`: where and how decisions are made.
//! * `redis`: the commands, the connections, and the topologies of Redis.
//! * `local`: decisions of this process, by the limiter.
//! * `fallback`: decisions while Redis does not answer; `outage_log`: the log of that time.
//! * `deny_cache`: denials that are repeated without a call to Redis.
//! * `top_denied`: the identifiers that were denied most lately.
//! * `redis_error`: the kinds of errors of Redis, with advice for operators.
//! * `metrics`, `log_throttle`: what all parts count, and when they log.
//! * [`pem`]: certificates and keys in files.
//!
//! # What it does not do
//!
//! It knows neither HTTP nor the names and ranges of settings; it names a setting only in advice for
//! operators. Metrics and logs leave it through the facades `metrics` and `tracing`.

#![forbid(unsafe_code)]

mod check;
mod clock;
mod decision;
mod deny_cache;
mod error;
mod fallback;
mod local;
mod log_throttle;
mod metrics;
mod millis;
mod options;
mod outage_log;
pub mod pem;
mod redis;
mod redis_error;
mod top_denied;

use std::{str::Utf8Error, sync::Arc};

use limiter::{Algorithm, Instant};
use tokio::task::yield_now;

pub use self::{
    check::{Check, Quota, Refund},
    decision::{Decision, Refunded, Source},
    error::{Argument, StoreError},
    log_throttle::{LogThrottle, Sums},
    metrics::{count_decision, register_metrics},
    millis::Millis,
    options::{DenyCacheOptions, FailMode, LocalOptions, Location, StoreOptions, Thousandths},
    redis::{Redis, RedisOptions, RedisTls, SentinelTopology, TlsError, TlsOption, Topology},
    redis_error::LastFailure,
    top_denied::{DeniedIdentifier, MAX_DENIED_IDENTIFIERS, MAX_IDENTIFIER_BYTES},
};
use self::{
    clock::Clock,
    deny_cache::{DenyCache, Sent},
    fallback::Fallback,
    local::LocalStore,
    redis_error::RedisErrorKind,
    top_denied::TopDenied,
};

/// Checks that are sent to Redis at once, and decided in this process in one go. More of them would
/// keep other requests waiting, in this process and in Redis.
const CHECKS_AT_ONCE: usize = 250;

/// Put before the keys of callers. No identifier has such a key, whatever it is.
const CALLERS_PREFIX: &str = "caller:";

/// Tests that decisions can be made in Redis: the login, the module and the rights of the user, on
/// every server that has keys. `limits_callers` is whether requests of callers are counted, too.
/// Returns the number of servers, or `None` with `memory://`.
///
/// # Errors
///
/// When a server cannot be reached or does not serve a command: one line to be printed.
pub async fn check_connection(
    options: &StoreOptions,
    limits_callers: bool,
) -> Result<Option<usize>, String> {
    let Location::Redis(topology) = &options.location else { return Ok(None) };
    let prefix = &options.key_prefix;
    let callers_prefix = limits_callers.then(|| format!("{prefix}{CALLERS_PREFIX}"));
    redis::check_connection(topology, &options.redis, prefix, callers_prefix.as_deref())
        .await
        .map(Some)
}

/// Decides, by the settings.
#[derive(Debug)]
pub struct Store {
    /// Nothing with `memory://`: then the local store is all there is.
    redis: Option<Redis>,
    deny_cache: DenyCache,
    local: LocalStore,
    fallback: Arc<Fallback>,
    clock: Arc<Clock>,
    /// Whether checks are those of requests, which the log and the sketch count, rather than those
    /// of callers.
    serves_requests: bool,
    top_denied: TopDenied,
    room: (LocalOptions, DenyCacheOptions),
}

impl Store {
    /// Starts to connect in the background; Redis need not be there yet.
    ///
    /// # Errors
    ///
    /// When the options cannot be used to connect at all, such as a file without certificates.
    pub fn open(options: StoreOptions) -> Result<Self, TlsError> {
        let redis = match options.location {
            Location::Memory => None,
            Location::Redis(topology) => {
                Some(Redis::connect(topology, options.redis, options.key_prefix)?)
            }
        };
        Ok(Self {
            redis,
            deny_cache: DenyCache::new(options.deny_cache),
            local: LocalStore::new(options.local.max_keys),
            fallback: Arc::new(Fallback::new(options.fail_mode, options.local.share)),
            clock: Arc::new(Clock::start()),
            serves_requests: true,
            top_denied: TopDenied::new(),
            room: (options.local, options.deny_cache),
        })
    }

    /// A store for the limits of callers. It decides where this one does and as this one does, with
    /// keys and room of its own, so that no flood of identifiers makes it forget a caller.
    #[must_use]
    pub fn for_callers(&self) -> Self {
        let (local, deny_cache) = self.room;
        Self {
            redis: self.redis.as_ref().map(|redis| redis.with_more_prefix(CALLERS_PREFIX)),
            deny_cache: DenyCache::new(deny_cache),
            local: LocalStore::new(local.max_keys),
            fallback: Arc::clone(&self.fallback),
            clock: Arc::clone(&self.clock),
            serves_requests: false,
            top_denied: TopDenied::new(),
            room: self.room,
        }
    }

    /// Whether states are kept in Redis, rather than in this process.
    #[must_use]
    pub const fn is_redis(&self) -> bool {
        self.redis.is_some()
    }

    /// Whether checks are decided also while Redis cannot answer.
    #[must_use]
    pub fn decides_without_redis(&self) -> bool {
        self.fallback.decides()
    }

    /// The last failure of Redis since the start of the process, also when it is over.
    #[must_use]
    pub fn last_failure(&self) -> Option<LastFailure> {
        redis_error::last_failure().filter(|_| self.is_redis())
    }

    /// Waits for the first connections, but not for long.
    pub async fn warm_up(&self) {
        if let Some(redis) = &self.redis {
            redis.warm_up().await;
        }
    }

    /// Decides a check: takes its cost, or just looks when that is 0.
    pub async fn check(&self, check: &Check) -> Result<Decision, StoreError> {
        let decided = self.decide(check).await;
        self.record(check, &decided);
        decided
    }

    /// Decides checks, each as if alone, in their order, some hundreds of them at once.
    pub async fn check_all(&self, checks: &[Check]) -> Vec<Result<Decision, StoreError>> {
        let mut decided = Vec::with_capacity(checks.len());
        for some in checks.chunks(CHECKS_AT_ONCE) {
            if !decided.is_empty() {
                yield_now().await;
            }
            decided.extend(self.decide_all(some).await);
        }
        for (check, decided) in checks.iter().zip(&decided) {
            self.record(check, decided);
        }
        decided
    }

    /// The identifiers that this process denied most lately, at most `count`, most denied first.
    ///
    /// # Errors
    ///
    /// When there is a bug: see [`TopDenied::top`].
    pub fn top_denied(&self, count: usize) -> Result<Vec<DeniedIdentifier>, Utf8Error> {
        self.top_denied.top(count, self.clock.now())
    }

    async fn decide(&self, check: &Check) -> Result<Decision, StoreError> {
        let Some(redis) = &self.redis else {
            return self.local.check(check, self.clock.now());
        };
        let now = self.clock.now();
        if let Some(denial) = self.deny_cache.denial(check, now) {
            return Ok(denial);
        }
        let sent = self.deny_cache.sent(check, now);
        let answer = redis.check(check).await;
        self.conclude(check, sent, answer)
    }

    async fn decide_all(&self, checks: &[Check]) -> Vec<Result<Decision, StoreError>> {
        let now = self.clock.now();
        let Some(redis) = &self.redis else {
            return checks.iter().map(|check| self.local.check(check, now)).collect();
        };
        let denials: Vec<_> =
            checks.iter().map(|check| self.deny_cache.denial(check, now)).collect();
        let asked = checks.iter().zip(&denials).filter(|(_, denial)| denial.is_none());
        let asked: Vec<_> =
            asked.map(|(check, _)| (check, self.deny_cache.sent(check, now))).collect();
        let answers = redis.check_all(asked.iter().map(|(check, _)| *check)).await;
        let answers = asked.into_iter().zip(answers);
        let mut decided = answers.map(|((check, sent), answer)| self.conclude(check, sent, answer));
        let next = |denial: Option<Decision>| match denial {
            Some(denial) => Some(Ok(denial)),
            None => decided.next(),
        };
        denials.into_iter().map_while(next).collect()
    }

    /// What taking one unit would answer. Takes and writes nothing.
    pub async fn peek(&self, identifier: &str, quota: &Quota) -> Result<Decision, StoreError> {
        tracing::debug!(identifier, algorithm = quota.algorithm.name(), "peeking");
        let Some(redis) = &self.redis else {
            return self.local.peek(identifier, quota, self.clock.now());
        };
        let answer = redis.peek(identifier, quota).await;
        self.or_fallback(answer, |now| self.fallback.peek(identifier, quota, &self.local, now))
    }

    /// Gives back units that were taken and not used after all, as many of them as count.
    pub async fn refund(&self, units: &Refund) -> Result<Refunded, StoreError> {
        let Refund { identifier, algorithm, amount } = units;
        tracing::debug!(identifier, algorithm = algorithm.name(), amount, "refunding");
        let Some(redis) = &self.redis else {
            return Ok(self.local.refund(units, self.clock.now()));
        };
        let answer = redis.refund(units).await;
        self.deny_cache.release(&units.identifier);
        self.or_fallback(answer, |now| self.fallback.refund(units, &self.local, now))
    }

    /// Forgets what `identifier` used with one algorithm, in Redis and in this process. Answers
    /// whether there was anything. No fail mode stands in for Redis here.
    pub async fn reset(&self, identifier: &str, algorithm: Algorithm) -> Result<bool, StoreError> {
        tracing::debug!(identifier, algorithm = algorithm.name(), "resetting");
        let answer = match &self.redis {
            None => Ok(self.local.reset(identifier, algorithm, self.clock.now())),
            Some(redis) => {
                let answer = redis.reset(identifier, algorithm).await;
                self.deny_cache.release(identifier);
                self.local.reset(identifier, algorithm, self.clock.now());
                self.or_fallback(answer, |_| None)
            }
        };
        if answer.is_ok() {
            self.top_denied.forget(identifier, algorithm);
        }
        answer
    }

    /// Logs a decision with its identifier, and counts a denial of it.
    fn record(&self, check: &Check, decided: &Result<Decision, StoreError>) {
        let Ok(decision) = decided else { return };
        if !self.serves_requests {
            return;
        }
        let Check { identifier, quota, cost } = check;
        let (algorithm, Decision { allowed, source, .. }) = (quota.algorithm, *decision);
        tracing::debug!(
            identifier,
            algorithm = algorithm.name(),
            cost,
            allowed,
            source = source.name(),
            "decided"
        );
        if !allowed && *cost > 0 {
            self.top_denied.count(identifier, algorithm, self.clock.now());
        }
    }

    /// Checks that decisions can be made where they should be made.
    pub async fn probe(&self) -> Result<(), StoreError> {
        match &self.redis {
            Some(redis) => redis.probe().await,
            None => Ok(()),
        }
    }

    /// The decision on a check that was sent to Redis.
    fn conclude(
        &self,
        check: &Check,
        sent: Sent,
        answer: Result<Decision, StoreError>,
    ) -> Result<Decision, StoreError> {
        let fallback = |now| {
            let instead = self.fallback.check(check, &self.local, now);
            if let Some(Ok(decision)) = &instead
                && self.serves_requests
            {
                self.fallback.log().count_check(decision);
            }
            instead
        };
        let decision = self.or_fallback(answer, fallback)?;
        self.deny_cache.remember(check, sent, &decision, self.clock.now());
        Ok(decision)
    }

    /// The answer of Redis, or what stands in for it when Redis gave none.
    fn or_fallback<T>(
        &self,
        answer: Result<T, StoreError>,
        fallback: impl FnOnce(Instant) -> Option<Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let now = self.clock.now();
        match answer {
            Err(StoreError::Unavailable { .. }) => {
                let instead = fallback(now).unwrap_or(answer);
                // Also where the limit of a caller cannot be counted: its request goes no further.
                if matches!(instead, Err(StoreError::Unavailable { .. })) {
                    self.fallback.log().count_refusal();
                }
                self.fallback.log().redis_failed(std::time::Instant::now());
                instead
            }
            // What was refused was decided as well; what was shed was not.
            Err(StoreError::Overloaded) => answer,
            Ok(_) | Err(StoreError::Refused { .. }) => {
                self.fallback.log().redis_decided();
                answer
            }
        }
    }
}

/// The names in logs and metrics of what can be wrong with Redis.
pub fn error_kinds() -> impl Iterator<Item = &'static str> {
    RedisErrorKind::ALL.into_iter().map(RedisErrorKind::name)
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
    use limiter::Algorithm;

    use super::key;

    #[test]
    fn keys_hold_the_identifier_in_braces() {
        assert_eq!(key("", Algorithm::TokenBucket, "a/b"), "token_bucket:{a/b}");
        assert_eq!(key("app:", Algorithm::SlidingWindow, "x"), "app:sliding_window:{x}");
    }
}
