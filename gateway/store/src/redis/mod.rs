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
mod lookup;
mod node;
mod reconnect;
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

use limiter::{Algorithm, Quota};
use redis::{FromRedisValue, Value};

use self::{
    call_error::CallError,
    connections::Connections,
    tls::TlsError,
    topology::{RedisOptions, Topology},
};
use crate::{
    check::{Check, Refund},
    decision::{Decision, RefundOutcome, Source},
    error::StoreError,
    millis::Millis,
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
        let reply = self.connections.send(commands::check(&self.key_prefix, check)).await?;
        decision(reply, &check.quota)
    }

    /// Decides checks, each as if alone. Answers in their order.
    pub(crate) async fn check_all(&self, checks: &[&Check]) -> Vec<Result<Decision, StoreError>> {
        if checks.is_empty() {
            return Vec::new();
        }
        let mut commands = Vec::with_capacity(checks.len());
        for check in checks {
            commands.push(commands::check(&self.key_prefix, check));
        }
        let mut replies = self.connections.send_all(commands).await.into_iter();
        let mut decisions = Vec::with_capacity(checks.len());
        for check in checks {
            let reply = replies.next().unwrap_or_else(|| Err(missing_answer()));
            decisions.push(reply.and_then(|reply| decision(reply, &check.quota)));
        }
        decisions
    }

    /// Returns the answer to a check of one unit. Takes and writes nothing.
    pub(crate) async fn peek(
        &self,
        identifier: &str,
        quota: &Quota,
    ) -> Result<Decision, StoreError> {
        let command = commands::peek(&self.key_prefix, identifier, quota);
        decision(self.connections.send(command).await?, quota)
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

fn decision(reply: Value, quota: &Quota) -> Result<Decision, StoreError> {
    let (granted, capacity, remaining, retry_after, reset_after): Reply = read(reply)?;
    let unsigned =
        |value: i64| u64::try_from(value).map_err(|_| RedisErrorKind::Unexpected.report());
    Ok(Decision {
        source: Source::Redis,
        allowed: granted > 0,
        limit: quota.limit().get(),
        capacity: unsigned(capacity)?,
        remaining: unsigned(remaining)?,
        retry_after: Millis(unsigned(retry_after)?),
        reset_after: Millis(unsigned(reset_after)?),
    })
}

fn read<T: FromRedisValue>(reply: Value) -> Result<T, StoreError> {
    redis::from_redis_value(reply).map_err(|error| explain(&error.into()))
}
