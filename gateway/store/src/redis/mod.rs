//! Decisions by the RATELIMIT commands of Redis.

pub(super) mod advice;
mod breaker;
mod call_error;
pub(super) mod call_metrics;
mod cluster;
mod cluster_map;
mod connection_check;
mod connections;
mod deadline;
mod dial;
mod driver_activity;
mod follower;
mod keeper;
mod link;
mod lookup;
mod sentinel;
mod server;
mod slots;
mod span;
mod task;
mod tls;
mod topology;
mod write_batching;

use std::sync::Arc;

use limiter::Algorithm;
use redis::{Cmd, FromRedisValue, Value};

pub(super) use self::connection_check::check_connection;
use self::{call_error::CallError, connections::Connections};
pub use self::{
    tls::{TlsError, TlsOption},
    topology::{RedisOptions, RedisTls, SentinelTopology, Topology},
};
use super::{
    Decision, Refunded, Source, StoreError, key,
    redis_error::{RedisErrorKind, explain},
};
use crate::{
    check::{Check, Quota, Refund},
    millis::Millis,
};

/// Redis with the ratelimit module.
#[derive(Debug)]
pub struct Redis {
    key_prefix: String,
    connections: Arc<Connections>,
}

/// A command and the one key that it is about, which decides where it is sent in a cluster.
#[derive(Debug)]
struct KeyedCommand {
    key: String,
    command: Cmd,
}

/// The five integers that TB, SW and PEEK answer: granted, limit, remaining, and milliseconds
/// until a retry and until the whole quota is back.
type Reply = (i64, i64, i64, i64, i64);

impl Redis {
    /// Starts to connect in the background; Redis need not be there yet.
    ///
    /// # Errors
    ///
    /// When the options cannot be used to connect at all, such as a file without certificates.
    pub fn connect(
        topology: Topology,
        options: RedisOptions,
        key_prefix: String,
    ) -> Result<Self, TlsError> {
        let connections = Connections::open(topology, options, probe(&key_prefix).command)?;
        Ok(Self { key_prefix, connections: Arc::new(connections) })
    }

    /// The same servers by the same connections, with keys of its own.
    pub(super) fn with_more_prefix(&self, more: &str) -> Self {
        let key_prefix = format!("{}{more}", self.key_prefix);
        Self { key_prefix, connections: Arc::clone(&self.connections) }
    }

    /// Waits for the first connections, but not for long.
    pub async fn warm_up(&self) {
        self.connections.warm_up().await;
    }

    /// Takes what a check asks for, all or none; just looks when its cost is 0.
    pub async fn check(&self, check: &Check) -> Result<Decision, StoreError> {
        self.decide(self.check_command(check), &check.quota).await
    }

    /// Decides checks, each as if alone, and answers in their order.
    pub async fn check_all<'c>(
        &self,
        checks: impl Iterator<Item = &'c Check> + Clone,
    ) -> Vec<Result<Decision, StoreError>> {
        let commands: Vec<_> = checks.clone().map(|check| self.check_command(check)).collect();
        if commands.is_empty() {
            return Vec::new();
        }
        let answers = self.connections.send_all(commands).await;
        let decide = |(answer, check): (Result<Value, _>, &Check)| decision(answer?, &check.quota);
        answers.into_iter().zip(checks).map(decide).collect()
    }

    /// What taking one unit would answer. Takes and writes nothing.
    pub async fn peek(&self, identifier: &str, quota: &Quota) -> Result<Decision, StoreError> {
        self.decide(self.peek_command(identifier, quota), quota).await
    }

    /// Gives back units, as many of them as were used.
    pub async fn refund(&self, units: &Refund) -> Result<Refunded, StoreError> {
        let key = key(&self.key_prefix, units.algorithm, &units.identifier);
        let mut command = redis::cmd("RATELIMIT.REFUND");
        command.arg(&key).arg(units.amount);
        let units = read(self.connections.send(KeyedCommand { key, command }).await?)?;
        Ok(Refunded { source: Source::Redis, units })
    }

    /// Forgets what `identifier` used with one algorithm. Answers whether there was anything.
    pub async fn reset(&self, identifier: &str, algorithm: Algorithm) -> Result<bool, StoreError> {
        let key = key(&self.key_prefix, algorithm, identifier);
        let mut command = redis::cmd("RATELIMIT.RESET");
        command.arg(&key);
        let removed: u64 = read(self.connections.send(KeyedCommand { key, command }).await?)?;
        Ok(removed > 0)
    }

    /// Checks that Redis answers and has the module, on the way that decisions take.
    pub async fn probe(&self) -> Result<(), StoreError> {
        let probe = probe(&self.key_prefix);
        let answer = self.connections.call_all(vec![probe]).await?.pop();
        match answer.ok_or_else(|| RedisErrorKind::Unexpected.report())? {
            Ok(reply) => read::<Reply>(reply).map(drop),
            // The module has looked at the key, which then is of another program.
            Err(CallError::Redis(error)) if error.code() == Some("WRONGTYPE") => Ok(()),
            Err(error) => Err(error.report()),
        }
    }

    fn check_command(&self, check: &Check) -> KeyedCommand {
        let Check { identifier, quota, cost } = check;
        if *cost == 0 {
            return self.peek_command(identifier, quota);
        }
        let key = key(&self.key_prefix, quota.algorithm, identifier);
        let mut command = redis::cmd(quota.algorithm.facts().command);
        command.arg(&key);
        append_quota(&mut command, quota);
        command.arg("COST").arg(*cost);
        KeyedCommand { key, command }
    }

    fn peek_command(&self, identifier: &str, quota: &Quota) -> KeyedCommand {
        let key = key(&self.key_prefix, quota.algorithm, identifier);
        let mut command = redis::cmd("RATELIMIT.PEEK");
        command.arg(&key).arg(quota.algorithm.word());
        append_quota(&mut command, quota);
        KeyedCommand { key, command }
    }

    async fn decide(&self, command: KeyedCommand, quota: &Quota) -> Result<Decision, StoreError> {
        decision(self.connections.send(command).await?, quota)
    }
}

/// A call that changes nothing and needs what decisions need. Its key is that of an identifier of
/// no bytes: no caller has it, and who may use the keys of callers may use it.
fn probe(key_prefix: &str) -> KeyedCommand {
    let key = key(key_prefix, Algorithm::TokenBucket, "");
    let mut command = redis::cmd("RATELIMIT.PEEK");
    command.arg(&key).arg("TB").arg(1).arg(1);
    KeyedCommand { key, command }
}

fn append_quota(command: &mut Cmd, quota: &Quota) {
    command.arg(quota.limit).arg(quota.window.to_string());
    if let Some(burst) = quota.burst {
        command.arg("BURST").arg(burst);
    }
}

fn decision(reply: Value, quota: &Quota) -> Result<Decision, StoreError> {
    let (granted, limit, remaining, retry_after, reset_after): Reply = read(reply)?;
    let unsigned =
        |value: i64| u64::try_from(value).map_err(|_| RedisErrorKind::Unexpected.report());
    Ok(Decision {
        source: Source::Redis,
        allowed: granted > 0,
        rate: quota.limit,
        limit: unsigned(limit)?,
        remaining: unsigned(remaining)?,
        retry_after: Millis(unsigned(retry_after)?),
        reset_after: Millis(unsigned(reset_after)?),
    })
}

fn read<T: FromRedisValue>(reply: Value) -> Result<T, StoreError> {
    redis::from_redis_value(reply).map_err(|error| explain(&error.into()))
}
