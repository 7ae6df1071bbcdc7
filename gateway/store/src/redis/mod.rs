//! Decisions by the RATELIMIT commands of Redis.

pub(crate) mod advice;
mod breaker;
mod call_error;
mod call_record;
mod calls;
mod cluster;
mod commands;
pub(crate) mod connection_check;
mod connections;
mod dated_call;
mod deadline;
mod dial;
mod driver;
mod leases;
mod lent_stream;
pub(crate) mod limits;
mod lookup;
mod node;
mod reconnect;
mod reply;
mod reservations;
mod sentinel;
mod slot_map;
mod slots;
mod span;
pub(crate) mod support;
mod task;
pub(crate) mod tls;
pub(crate) mod topology;
mod topology_refresh;
mod write_round;

use std::sync::Arc;

use limiter::{Algorithm, Instant};
use redis::{FromRedisValue, Value};

use self::{
    call_error::CallError,
    commands::KeyedCommand,
    connections::Connections,
    dated_call::DatedCall,
    tls::TlsError,
    topology::{RedisOptions, Topology},
};
use crate::{
    check::{Check, Refund},
    decision::{Decision, RefundOutcome, Source},
    error::{StoreError, cost_above_capacity},
    key::key,
    millis::Millis,
    quota_rule::{DatedQuota, QuotaRule},
    redis_error::{RedisErrorKind, explain},
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

    /// Returns the text before every key.
    pub(crate) fn key_prefix(&self) -> &str {
        &self.key_prefix
    }

    /// Returns the number of connections that were made.
    pub(crate) fn connections_made(&self) -> u64 {
        self.connections.made()
    }

    /// Waits for the first connections for a short time.
    pub(crate) async fn warm_up(&self) {
        self.connections.warm_up().await;
    }

    /// Sends a call.
    fn call<C: DatedCall>(&self, call: &C) -> impl Future<Output = Result<C::Answer, StoreError>> {
        dated_call::send(&self.connections, &self.key_prefix, call)
    }

    /// Sends calls, each as if alone, in one pipeline to each server. Answers in their order.
    fn call_all<C: DatedCall>(
        &self,
        calls: &[C],
    ) -> impl Future<Output = Vec<Result<C::Answer, StoreError>>> {
        dated_call::send_all(&self.connections, &self.key_prefix, calls)
    }

    /// Takes the cost of a check, all or none; takes nothing when the cost is 0.
    pub(crate) async fn check(&self, check: &Check) -> Result<Decision, StoreError> {
        self.call(&check).await
    }

    /// Decides checks, each as if alone. Answers in their order.
    pub(crate) async fn check_all(&self, checks: &[&Check]) -> Vec<Result<Decision, StoreError>> {
        self.call_all(checks).await
    }

    /// Returns the answer to a check of one unit. Takes and writes nothing.
    pub(crate) async fn peek(
        &self,
        identifier: &str,
        rule: &QuotaRule,
    ) -> Result<Decision, StoreError> {
        self.call(&Peek { identifier, rule }).await
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
        let command = commands::reset(key(&self.key_prefix, algorithm, identifier));
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

impl DatedCall for &Check {
    type Answer = Decision;
    type Quotas = DatedQuota;

    fn quotas(&self, now: impl Fn() -> Instant) -> Result<DatedQuota, StoreError> {
        self.quota.at(now)
    }

    fn command(&self, key_prefix: &str, dated: &DatedQuota) -> KeyedCommand {
        commands::check(key_prefix, self, &dated.quota)
    }

    fn answer(&self, reply: Value, dated: &DatedQuota) -> Result<Decision, StoreError> {
        decision(reply, dated, self.forced_cost())
    }
}

/// A look at one unit of a quota.
struct Peek<'a> {
    identifier: &'a str,
    rule: &'a QuotaRule,
}

impl DatedCall for Peek<'_> {
    type Answer = Decision;
    type Quotas = DatedQuota;

    fn quotas(&self, now: impl Fn() -> Instant) -> Result<DatedQuota, StoreError> {
        self.rule.at(now)
    }

    fn command(&self, key_prefix: &str, dated: &DatedQuota) -> KeyedCommand {
        commands::peek(key_prefix, self.identifier, &dated.quota)
    }

    fn answer(&self, reply: Value, dated: &DatedQuota) -> Result<Decision, StoreError> {
        decision(reply, dated, None)
    }
}

/// Reads a decision on a check, which has a `forced_cost` if it takes its cost in every case.
fn decision(
    reply: Value,
    dated: &DatedQuota,
    forced_cost: Option<u32>,
) -> Result<Decision, StoreError> {
    let (granted, capacity, remaining, retry_after, reset_after): Reply = read(reply)?;
    let unsigned =
        |value: i64| u64::try_from(value).map_err(|_| RedisErrorKind::Unexpected.report());
    // The module counts no more debt, and will again at the latest when all of it has gone.
    let retry_after = match retry_after {
        NEVER if forced_cost.is_some() => reset_after,
        NEVER => return Err(cost_above_capacity(unsigned(capacity)?)),
        retry_after => retry_after,
    };
    Ok(Decision {
        source: Source::Redis,
        allowed: granted >= forced_cost.map_or(1, i64::from),
        limit: dated.quota.limit().get(),
        window: Some(dated.window),
        capacity: unsigned(capacity)?,
        remaining: unsigned(remaining)?,
        retry_after: Millis(unsigned(retry_after)?),
        reset_after: Millis(unsigned(reset_after)?),
    })
}

/// Reads an answer in the form of MULTI: 1 or 0, and five integers for each quota.
fn read_multi(reply: Value, quotas: &[DatedQuota]) -> Result<(bool, Vec<Decision>), StoreError> {
    let mut replies = read::<Vec<Value>>(reply)?.into_iter();
    let mut next = || replies.next().ok_or_else(|| RedisErrorKind::Unexpected.report());
    let allowed: bool = read(next()?)?;
    let decisions = quotas.iter().map(|quota| decision(next()?, quota, None));
    Ok((allowed, decisions.collect::<Result<_, _>>()?))
}

fn read<T: FromRedisValue>(reply: Value) -> Result<T, StoreError> {
    redis::from_redis_value(reply).map_err(|error| explain(&error.into()))
}
