//! The store: the deny cache, Redis, and the fallback, in this order.

mod leased_limits;
mod leases;
mod limits;
mod reservations;

use std::{str::Utf8Error, sync::Arc};

use limiter::{Algorithm, Instant};
use tokio::task::yield_now;

use crate::{
    check::{Check, Refund},
    clock::{CallTime, Clock, system_time},
    decision::{Decision, RefundOutcome},
    deny_cache::{DenyCache, Ticket},
    error::StoreError,
    fallback::Fallback,
    lease_keys::LeaseKeys,
    limit_kind::LimitKind,
    local::LocalStore,
    metrics,
    options::{DenyCacheOptions, LocalOptions, Location, StoreOptions},
    quota_rule::QuotaRule,
    redis::{
        Redis, connection_check,
        support::{LimitNeed, Unserved},
        tls::TlsError,
    },
    redis_error::{self, LastFailure, error_kinds},
    reservation_keys::ReservationKeys,
    top_denied::{Denied, DeniedIdentifier, TopDenied},
};

/// Checks that are sent to Redis in one pipeline, or decided in this process in one go. More of them
/// would delay other requests, in this process and in Redis.
const CHECKS_AT_ONCE: usize = 250;

/// The prefix of the keys of callers, which no key of an identifier begins with.
const CALLERS_PREFIX: &str = "caller:";

/// Tests that decisions can be made in Redis: the login, the module and the rights of the user, on
/// every server that has keys. `limits_callers` is true if the requests of callers are limited as
/// well. Returns the number of servers, or `None` with `memory://`.
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
    let callers_prefix = callers_prefix.as_deref();
    let servers = connection_check::run(topology, &options.redis, prefix, callers_prefix).await?;
    Ok(Some(servers))
}

/// Describes the metrics of the store and registers each with 0, after the recorder of the process
/// is installed and before the first store is opened. `max_backlog` is the most calls that may wait
/// for Redis.
pub fn register_metrics(max_backlog: usize) {
    metrics::register(max_backlog, error_kinds());
}

/// Makes decisions by its options.
#[derive(Debug)]
pub struct Store {
    /// `None` with `memory://`, where the local store makes all decisions.
    redis: Option<Redis>,
    deny_cache: DenyCache,
    /// The states of identifiers.
    local: LocalStore,
    /// The states of limits that have keys of their own.
    limits: LocalStore,
    /// The leases of `memory://`.
    leases: LeaseKeys,
    /// The reservations of `memory://`.
    reservations: ReservationKeys,
    fallback: Arc<Fallback>,
    clock: Arc<Clock>,
    /// True if the checks are those of requests, which the log and the sketch count. The checks of
    /// callers are not counted.
    serves_requests: bool,
    top_denied: TopDenied,
    memory: (LocalOptions, DenyCacheOptions),
}

impl Store {
    /// Starts to connect in the background, also while Redis does not run.
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
            limits: LocalStore::new(options.local.max_keys),
            leases: LeaseKeys::new(options.local.max_keys),
            reservations: ReservationKeys::new(options.local.max_keys),
            fallback: Arc::new(Fallback::new(options.fail_mode, options.local.share)),
            clock: Arc::new(Clock::start()),
            serves_requests: true,
            top_denied: TopDenied::new(),
            memory: (options.local, options.deny_cache),
        })
    }

    /// Returns a store for the limits of callers. It shares the connections and the fail mode of this
    /// store. Its keys and its memory are its own, so that no flood of identifiers evicts a caller.
    #[must_use]
    pub fn for_callers(&self) -> Self {
        let (local, deny_cache) = self.memory;
        Self {
            redis: self.redis.as_ref().map(|redis| redis.with_more_prefix(CALLERS_PREFIX)),
            deny_cache: DenyCache::new(deny_cache),
            local: LocalStore::new(local.max_keys),
            limits: LocalStore::new(local.max_keys),
            leases: LeaseKeys::new(local.max_keys),
            reservations: ReservationKeys::new(local.max_keys),
            fallback: Arc::clone(&self.fallback),
            clock: Arc::clone(&self.clock),
            serves_requests: false,
            top_denied: TopDenied::new(),
            memory: self.memory,
        }
    }

    /// Returns whether states are in Redis, rather than in this process.
    #[must_use]
    pub const fn is_redis(&self) -> bool {
        self.redis.is_some()
    }

    /// Returns whether checks are decided also while Redis does not answer.
    #[must_use]
    pub fn decides_without_redis(&self) -> bool {
        self.fallback.decides()
    }

    /// Returns the text before every key in Redis; empty without Redis.
    #[must_use]
    pub fn key_prefix(&self) -> &str {
        self.redis.as_ref().map_or("", Redis::key_prefix)
    }

    /// Returns the last failure of Redis since the start of the process, also when Redis works again.
    #[must_use]
    pub fn last_failure(&self) -> Option<LastFailure> {
        redis_error::last_failure().filter(|_| self.is_redis())
    }

    /// Returns the number of connections to Redis that were made since the start of the process. A new
    /// connection can lead to another server, with other settings. Without Redis the number is 0.
    #[must_use]
    pub fn connections_made(&self) -> u64 {
        self.redis.as_ref().map_or(0, Redis::connections_made)
    }

    /// Waits for the first connections for a short time.
    pub async fn warm_up(&self) {
        if let Some(redis) = &self.redis {
            redis.warm_up().await;
        }
    }

    /// Decides a check. Takes its cost; with a cost of 0, takes nothing.
    pub async fn check(&self, check: &Check) -> Result<Decision, StoreError> {
        let now = self.clock.now();
        let Some(redis) = &self.redis else {
            return self.record(check, self.check_locally(check), now);
        };
        if let Some(denial) = self.deny_cache.denial(check, now) {
            return self.record(check, Ok(denial), now);
        }
        let ticket = self.deny_cache.ticket(check, now);
        // A decision of this process needs no room for a call.
        let answer = Box::pin(redis.check(check)).await;
        self.conclude(check, ticket, answer, self.clock.now())
    }

    /// Decides checks, each as if alone, in their order, some hundreds of them at once.
    pub async fn check_all(&self, checks: &[Check]) -> Vec<Result<Decision, StoreError>> {
        let mut decisions = Vec::with_capacity(checks.len());
        for chunk in checks.chunks(CHECKS_AT_ONCE) {
            if !decisions.is_empty() {
                yield_now().await;
            }
            self.check_chunk(chunk, &mut decisions).await;
        }
        decisions
    }

    /// Decides checks at once, and adds the decisions in their order.
    async fn check_chunk(
        &self,
        checks: &[Check],
        decisions: &mut Vec<Result<Decision, StoreError>>,
    ) {
        let now = self.clock.now();
        let Some(redis) = &self.redis else {
            for check in checks {
                decisions.push(self.record(check, self.check_locally(check), now));
            }
            return;
        };
        let mut denials = Vec::with_capacity(checks.len());
        let mut calls = Vec::with_capacity(checks.len());
        let mut tickets = Vec::with_capacity(checks.len());
        for check in checks {
            let denial = self.deny_cache.denial(check, now);
            if denial.is_none() {
                calls.push(check);
                tickets.push(self.deny_cache.ticket(check, now));
            }
            denials.push(denial);
        }
        let mut answers = tickets.into_iter().zip(redis.check_all(&calls).await);
        let now = self.clock.now();
        for (check, denial) in checks.iter().zip(denials) {
            decisions.push(match denial {
                Some(denial) => self.record(check, Ok(denial), now),
                None => match answers.next() {
                    Some((ticket, answer)) => self.conclude(check, ticket, answer, now),
                    None => Err(redis_error::missing_answer()),
                },
            });
        }
    }

    /// Returns the identifiers that this process denied most often lately, at most `count`, the most
    /// denied first.
    ///
    /// # Errors
    ///
    /// When there is a bug: see [`TopDenied::top`].
    pub fn top_denied(&self, count: usize) -> Result<Vec<DeniedIdentifier>, Utf8Error> {
        self.top_denied.top(count, self.clock.now(), self.key_prefix())
    }

    /// Returns the answer to a check of one unit. Takes and writes nothing.
    pub async fn peek(&self, identifier: &str, quota: &QuotaRule) -> Result<Decision, StoreError> {
        let algorithm = quota.algorithm();
        tracing::debug!(identifier, algorithm = algorithm.name(), "peeking");
        let Some(redis) = &self.redis else {
            return self.local.peek(identifier, quota, self.local_time(algorithm));
        };
        let answer = redis.peek(identifier, quota).await;
        let now = self.local_time(algorithm);
        self.or_fallback(answer, || self.fallback.peek(identifier, quota, &self.local, now))
    }

    /// Gives back units that were taken and not used, at most those that count.
    pub async fn refund(&self, refund: &Refund) -> Result<RefundOutcome, StoreError> {
        let Refund { identifier, algorithm, amount } = refund;
        tracing::debug!(
            identifier,
            algorithm = algorithm.name(),
            amount = amount.get(),
            "refunding"
        );
        let Some(redis) = &self.redis else {
            return Ok(self.local.refund(refund, self.local_time(*algorithm)));
        };
        let answer = redis.refund(refund).await;
        self.deny_cache.release(&refund.identifier);
        let now = self.local_time(*algorithm);
        self.or_fallback(answer, || self.fallback.refund(refund, &self.local, now))
    }

    /// Deletes the state of `identifier` for one algorithm, in Redis and in this process. Returns
    /// whether there was any. No fail mode replaces the answer of Redis.
    pub async fn reset(&self, identifier: &str, algorithm: Algorithm) -> Result<bool, StoreError> {
        tracing::debug!(identifier, algorithm = algorithm.name(), "resetting");
        let answer = match &self.redis {
            None => Ok(self.local.reset(identifier, algorithm, self.local_time(algorithm))),
            Some(redis) => {
                let answer = redis.reset(identifier, algorithm).await;
                self.deny_cache.release(identifier);
                self.local.reset(identifier, algorithm, self.local_time(algorithm));
                self.or_fallback(answer, || None)
            }
        };
        if answer.is_ok() {
            self.top_denied.forget(Denied::Identifier(identifier), LimitKind::Quota(algorithm));
        }
        answer
    }

    /// Tests that Redis can make decisions, where states are in Redis.
    pub async fn probe(&self) -> Result<(), StoreError> {
        match &self.redis {
            Some(redis) => redis.probe().await,
            None => Ok(()),
        }
    }

    /// Returns an error if Redis does not serve a limit. Takes and writes nothing.
    ///
    /// # Errors
    ///
    /// When Redis refuses the limit or lacks a command, and when Redis does not answer.
    pub async fn serve(&self, need: LimitNeed<'_>) -> Result<(), Unserved> {
        match &self.redis {
            Some(redis) => redis.serve(need).await,
            None => Ok(()),
        }
    }

    /// Returns the time of the decisions of this process by an algorithm.
    fn local_time(&self, algorithm: Algorithm) -> Instant {
        match algorithm {
            Algorithm::FixedWindow => system_time(),
            Algorithm::TokenBucket | Algorithm::SlidingWindow => self.clock.now(),
        }
    }

    /// Returns the times of the decisions of this process on one call.
    fn call_time(&self) -> CallTime {
        CallTime { now: self.clock.now(), system: system_time() }
    }

    fn check_locally(&self, check: &Check) -> Result<Decision, StoreError> {
        self.local.check(check, self.local_time(check.quota.algorithm()))
    }

    /// Returns the decision on a check that was sent to Redis and answered at `now`.
    fn conclude(
        &self,
        check: &Check,
        ticket: Ticket,
        answer: Result<Decision, StoreError>,
        now: Instant,
    ) -> Result<Decision, StoreError> {
        let decision = self.or_fallback(answer, || {
            let time = self.local_time(check.quota.algorithm());
            let replacement = self.fallback.check(check, &self.local, time);
            if let Some(Ok(decision)) = &replacement
                && self.serves_requests
            {
                self.fallback.log().count_check(decision.allowed);
            }
            replacement
        });
        if check.force {
            // The debt makes the waits of former denials too short, also if the answer was lost.
            self.deny_cache.release(&check.identifier);
        }
        if let Ok(decision) = &decision {
            self.deny_cache.remember(check, ticket, decision, now);
        }
        self.record(check, decision, now)
    }

    /// Returns the answer of Redis, or its replacement when Redis gave none.
    fn or_fallback<T>(
        &self,
        answer: Result<T, StoreError>,
        fallback: impl FnOnce() -> Option<Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        match answer {
            Err(StoreError::Unavailable { .. }) => {
                let replacement = fallback().unwrap_or(answer);
                // A caller whose limit is unknown gets status 503, too.
                if matches!(replacement, Err(StoreError::Unavailable { .. })) {
                    self.fallback.log().count_refusal();
                }
                self.fallback.log().redis_failed(std::time::Instant::now());
                replacement
            }
            Err(StoreError::Overloaded | StoreError::Internal) => answer,
            // A refusal of the module is an answer of Redis, as a decision is.
            Ok(_) | Err(StoreError::Refused { .. }) => {
                self.fallback.log().redis_decided();
                answer
            }
        }
    }

    /// Logs a decision with its identifier, counts a denial of the identifier, and returns the
    /// decision.
    fn record(
        &self,
        check: &Check,
        decision: Result<Decision, StoreError>,
        now: Instant,
    ) -> Result<Decision, StoreError> {
        let Ok(Decision { allowed, source, .. }) = decision else { return decision };
        if self.serves_requests {
            let Check { identifier, quota, cost, .. } = check;
            let (algorithm, source) = (quota.algorithm(), source.name());
            let name = algorithm.name();
            tracing::debug!(identifier, algorithm = name, cost, allowed, source, "decided");
            if !allowed && *cost > 0 {
                self.top_denied.count(
                    Denied::Identifier(identifier),
                    LimitKind::Quota(algorithm),
                    now,
                );
            }
        }
        decision
    }
}
