//! Decisions by the RATELIMIT commands of Redis.

pub(crate) mod advice;
mod breaker;
mod call_error;
mod call_record;
mod cluster;
mod commands;
pub(crate) mod connection_check;
mod connections;
mod deadline;
mod dial;
mod driver_activity;
mod leases;
mod lookup;
mod node;
mod reconnect;
mod reservations;
mod sentinel;
mod slot_map;
mod slots;
mod span;
mod task;
pub(crate) mod tls;
pub(crate) mod topology;
mod topology_refresh;
mod write_batching;

use std::sync::Arc;

use limiter::{Algorithm, Instant, Quota};
use redis::{FromRedisValue, Value};

use self::{
    call_error::CallError,
    commands::KeyedCommand,
    connections::Connections,
    tls::TlsError,
    topology::{RedisOptions, Topology},
};
use crate::{
    check::{Check, Refund},
    clock::system_time,
    decision::{Decision, RefundOutcome, Source},
    error::StoreError,
    millis::Millis,
    quota_rule::{DatedQuota, QuotaRule},
    redis_error::{RedisErrorKind, explain, missing_answer},
};

/// Redis with the ratelimit module.
#[derive(Debug)]
pub(crate) struct Redis {
    key_prefix: String,
    connections: Arc<Connections>,
}

/// The five integers in the answer of TB, SW and PEEK: granted, capacity, remaining, and the
/// milliseconds until a retry and until the whole quota is available.
type Reply = (i64, i64, i64, i64, i64);

/// The wait of a call that can never be granted.
const NEVER: i64 = -1;

impl Redis {
    /// Starts to connect in the background, also while Redis does not run.
    ///
    /// # Errors
    ///
    /// When the options cannot be used to connect at all, such as a file without certificates.
    pub(crate) fn connect(
        topology: Topology,
        options: RedisOptions,
        key_prefix: String,
    ) -> Result<Self, TlsError> {
        let probe = commands::probe(&key_prefix).command;
        let connections = Connections::open(topology, options, probe)?;
        Ok(Self { key_prefix, connections: Arc::new(connections) })
    }

    /// Returns the same connections with another prefix of keys: this one and `more`.
    pub(crate) fn with_more_prefix(&self, more: &str) -> Self {
        let key_prefix = format!("{}{more}", self.key_prefix);
        Self { key_prefix, connections: Arc::clone(&self.connections) }
    }

    /// Waits for the first connections for a short time.
    pub(crate) async fn warm_up(&self) {
        self.connections.warm_up().await;
    }

    /// Takes the cost of a check, all or none; takes nothing when the cost is 0.
    pub(crate) async fn check(&self, check: &Check) -> Result<Decision, StoreError> {
        let command = |quota: &Quota| commands::check(&self.key_prefix, check, quota);
        self.decide(&check.quota, check.force, command).await
    }

    /// Decides checks, each as if alone. Answers in their order.
    pub(crate) async fn check_all(&self, checks: &[&Check]) -> Vec<Result<Decision, StoreError>> {
        if checks.is_empty() {
            return Vec::new();
        }
        let calls = checks.iter().map(|check| (*check, check.quota.at(system_time)));
        let mut decisions = self.call_all(calls.collect()).await;
        let is_outside = |(place, decision): (usize, &Result<Decision, CheckError>)| match decision
        {
            Err(CheckError::Outside(time)) => Some((place, *time)),
            _ => None,
        };
        let outside: Vec<_> = decisions.iter().enumerate().filter_map(is_outside).collect();
        if !outside.is_empty() {
            let again = outside.iter().map(|(place, time)| {
                let check = checks[*place];
                (check, check.quota.at(|| *time))
            });
            let again = self.call_all(again.collect()).await;
            for ((place, _), decision) in outside.into_iter().zip(again) {
                decisions[place] = decision;
            }
        }
        decisions.into_iter().map(|decision| decision.map_err(CheckError::report)).collect()
    }

    /// Sends each check with its quota, all in one pipeline, and answers in their order.
    async fn call_all(
        &self,
        calls: Vec<(&Check, Result<DatedQuota, StoreError>)>,
    ) -> Vec<Result<Decision, CheckError>> {
        let commands = calls.iter().filter_map(|(check, dated)| {
            let quota = &dated.as_ref().ok()?.quota;
            Some(commands::check(&self.key_prefix, check, quota))
        });
        let mut replies = match self.connections.call_all(commands.collect()).await {
            Ok(replies) => replies.into_iter(),
            Err(error) => return vec![Err(CheckError::Undecided(error)); calls.len()],
        };
        let decide = |(check, dated): (&Check, Result<DatedQuota, StoreError>)| {
            let dated = dated?;
            let reply = replies.next().ok_or_else(missing_answer)?;
            Ok(decision(reply?, &dated, check.force)?)
        };
        calls.into_iter().map(decide).collect()
    }

    /// Returns the answer to a check of one unit. Takes and writes nothing.
    pub(crate) async fn peek(
        &self,
        identifier: &str,
        rule: &QuotaRule,
    ) -> Result<Decision, StoreError> {
        let command = |quota: &Quota| commands::peek(&self.key_prefix, identifier, quota);
        self.decide(rule, false, command).await
    }

    /// Sends a command with the quota of now. If the time of the server is outside its window, the
    /// server has done nothing, and the command is sent once more with the quota of that time.
    async fn decide(
        &self,
        rule: &QuotaRule,
        force: bool,
        command: impl Fn(&Quota) -> KeyedCommand,
    ) -> Result<Decision, StoreError> {
        let dated = rule.at(system_time)?;
        match self.connections.call(command(&dated.quota)).await? {
            Ok(reply) => decision(reply, &dated, force),
            Err(error) => match error.server_time() {
                Some(time) => {
                    let dated = rule.at(|| time)?;
                    let reply = self.connections.send(command(&dated.quota)).await?;
                    decision(reply, &dated, force)
                }
                None => Err(error.report()),
            },
        }
    }

    /// Gives back units, at most those that count.
    pub(crate) async fn refund(&self, refund: &Refund) -> Result<RefundOutcome, StoreError> {
        let command = commands::refund(&self.key_prefix, refund);
        let units = read(self.connections.send(command).await?)?;
        Ok(RefundOutcome { source: Source::Redis, units })
    }

    /// Deletes the state of `identifier` for one algorithm. Returns whether there was any.
    pub(crate) async fn reset(
        &self,
        identifier: &str,
        algorithm: Algorithm,
    ) -> Result<bool, StoreError> {
        let command = commands::reset(&self.key_prefix, identifier, algorithm);
        let removed: u64 = read(self.connections.send(command).await?)?;
        Ok(removed > 0)
    }

    /// Tests that Redis answers and has the module, with the connections and rights of decisions.
    pub(crate) async fn probe(&self) -> Result<(), StoreError> {
        match self.connections.call(commands::probe(&self.key_prefix)).await? {
            Ok(reply) => read::<Reply>(reply).map(drop),
            // The module has read the key, which another program has written.
            Err(CallError::Redis(error)) if error.code() == Some("WRONGTYPE") => Ok(()),
            Err(error) => Err(error.report()),
        }
    }
}

/// The reason why a check of a pipeline has no decision.
#[derive(Debug, Clone)]
enum CheckError {
    /// The time of the server, which is outside the window of the check.
    Outside(Instant),
    /// The error of the call, which is not reported yet.
    Call(CallError),
    Undecided(StoreError),
}

impl From<CallError> for CheckError {
    fn from(error: CallError) -> Self {
        error.server_time().map_or(Self::Call(error), Self::Outside)
    }
}

impl From<StoreError> for CheckError {
    fn from(error: StoreError) -> Self {
        Self::Undecided(error)
    }
}

impl CheckError {
    fn report(self) -> StoreError {
        match self {
            // The clock of the server has moved on once more.
            Self::Outside(_) => RedisErrorKind::Unexpected.report(),
            Self::Call(error) => error.report(),
            Self::Undecided(error) => error,
        }
    }
}

fn decision(reply: Value, dated: &DatedQuota, force: bool) -> Result<Decision, StoreError> {
    let (granted, capacity, remaining, retry_after, reset_after): Reply = read(reply)?;
    let unsigned =
        |value: i64| u64::try_from(value).map_err(|_| RedisErrorKind::Unexpected.report());
    // The module counts no more debt, and will again at the latest when all of it has gone.
    let retry_after = if force && retry_after == NEVER { reset_after } else { retry_after };
    Ok(Decision {
        source: Source::Redis,
        allowed: granted > 0,
        limit: dated.quota.limit().get(),
        window: Some(dated.window),
        capacity: unsigned(capacity)?,
        remaining: unsigned(remaining)?,
        retry_after: Millis(unsigned(retry_after)?),
        reset_after: Millis(unsigned(reset_after)?),
    })
}

fn read<T: FromRedisValue>(reply: Value) -> Result<T, StoreError> {
    redis::from_redis_value(reply).map_err(|error| explain(&error.into()))
}
