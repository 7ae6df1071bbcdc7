//! Decisions by the RATELIMIT commands of a Redis server.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use redis::{Client, Cmd, ConnectionInfo, FromRedisValue, ProtocolVersion, RedisError};
use tokio::{sync::Semaphore, time::timeout};

use super::{
    Decision, StoreError, key,
    link::{Link, LiveLink},
    outage::{Outage, explain},
};
use crate::{
    millis::Millis,
    quota::{Algorithm, Quota},
};

/// More connections than this make nothing faster: each carries many commands at once, and Redis
/// runs one command at a time.
const MAX_LINKS: usize = 4;

/// Most commands that may wait for an answer on one connection. What comes on top is refused at
/// once, since it would only wait to time out.
const MAX_IN_FLIGHT_PER_LINK: usize = 1024;

/// Longest wait for the first connections. A start without Redis takes this much longer, and a
/// start with Redis never refuses its first requests.
const WARM_UP: Duration = Duration::from_millis(500);

/// Where Redis is, and how it is used.
#[derive(Debug, Clone)]
pub struct RedisOptions {
    /// Address, database and credentials.
    pub connection: ConnectionInfo,
    /// Most connections to open, at least 1.
    pub max_connections: usize,
    /// Longest wait for an answer.
    pub timeout: Duration,
    /// Put before every key.
    pub key_prefix: String,
}

/// A Redis server with the ratelimit module.
#[derive(Debug)]
pub struct Redis {
    key_prefix: String,
    links: Vec<Link>,
    /// Which link has the next turn.
    turn: AtomicUsize,
    in_flight: Semaphore,
}

/// The five integers that TB, SW and PEEK answer: granted, limit, remaining, and milliseconds
/// until a retry and until the whole quota is back.
type Reply = (i64, i64, i64, i64, i64);

impl Redis {
    /// Starts to connect in the background; Redis need not be there yet.
    ///
    /// # Errors
    ///
    /// When the options cannot be used to connect at all, such as TLS without any certificate.
    pub fn connect(options: RedisOptions) -> Result<Self, RedisError> {
        // Fails only when there is a provider already, which does as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        // Only RESP3 connections tell when they are closed while idle.
        let login =
            options.connection.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        let client = Client::open(options.connection.set_redis_settings(login))?;
        let count = options.max_connections.min(MAX_LINKS);
        let keep =
            |number| Link::keep(number, client.clone(), options.timeout, MAX_IN_FLIGHT_PER_LINK);
        let links = (1..=count).map(keep).collect();
        Ok(Self {
            key_prefix: options.key_prefix,
            links,
            turn: AtomicUsize::new(0),
            in_flight: Semaphore::new(count * MAX_IN_FLIGHT_PER_LINK),
        })
    }

    /// Waits for the first connections, but not for long.
    pub async fn warm_up(&self) {
        let all = async {
            for link in &self.links {
                link.wait_until_live().await;
            }
        };
        let _ = timeout(WARM_UP, all).await;
    }

    /// Takes `cost` units from the quota of `identifier`, all or none.
    pub async fn take(
        &self,
        identifier: &str,
        quota: &Quota,
        cost: u32,
    ) -> Result<Decision, StoreError> {
        let mut command = redis::cmd(match quota.algorithm {
            Algorithm::TokenBucket => "RATELIMIT.TB",
            Algorithm::SlidingWindow => "RATELIMIT.SW",
        });
        command.arg(key(&self.key_prefix, quota.algorithm, identifier));
        append_quota(&mut command, quota);
        command.arg("COST").arg(cost);
        self.run(&command).await.and_then(decision)
    }

    /// What taking one unit would answer. Takes and writes nothing.
    pub async fn peek(&self, identifier: &str, quota: &Quota) -> Result<Decision, StoreError> {
        let mut command = redis::cmd("RATELIMIT.PEEK");
        command.arg(key(&self.key_prefix, quota.algorithm, identifier)).arg(
            match quota.algorithm {
                Algorithm::TokenBucket => "TB",
                Algorithm::SlidingWindow => "SW",
            },
        );
        append_quota(&mut command, quota);
        self.run(&command).await.and_then(decision)
    }

    /// Forgets what `identifier` used with one algorithm. Answers whether there was anything.
    pub async fn reset(&self, identifier: &str, algorithm: Algorithm) -> Result<bool, StoreError> {
        let mut command = redis::cmd("RATELIMIT.RESET");
        command.arg(key(&self.key_prefix, algorithm, identifier));
        let removed: u64 = self.run(&command).await?;
        Ok(removed > 0)
    }

    /// Checks that Redis answers and has the module, on the way that decisions take.
    pub async fn probe(&self) -> Result<(), StoreError> {
        let mut command = redis::cmd("RATELIMIT.PEEK");
        command.arg(format!("{}health", self.key_prefix)).arg("TB").arg(1).arg(1);
        self.run::<Reply>(&command).await.map(drop)
    }

    /// Sends a command once. It is never repeated: one that timed out may have counted.
    async fn run<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, StoreError> {
        let Ok(_permit) = self.in_flight.try_acquire() else {
            return Err(Outage::Overloaded.report());
        };
        let mut link = self.next_link().ok_or_else(|| Outage::Disconnected.report())?;
        command.query_async(&mut link.connection).await.map_err(|error| {
            if error.is_timeout() || error.is_unrecoverable_error() {
                link.give_up();
            }
            explain(&error)
        })
    }

    /// The next live link in turn.
    fn next_link(&self) -> Option<LiveLink> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % self.links.len();
        let (before, from) = self.links.split_at(turn);
        from.iter().chain(before).find_map(Link::live)
    }
}

fn append_quota(command: &mut Cmd, quota: &Quota) {
    command.arg(quota.limit).arg(quota.window.to_string());
    if let Some(burst) = quota.burst {
        command.arg("BURST").arg(burst);
    }
}

fn decision(reply: Reply) -> Result<Decision, StoreError> {
    let unsigned = |value: i64| u64::try_from(value).map_err(|_| Outage::Unexpected.report());
    let (granted, limit, remaining, retry_after, reset_after) = reply;
    Ok(Decision {
        allowed: granted > 0,
        limit: unsigned(limit)?,
        remaining: unsigned(remaining)?,
        retry_after: Millis(unsigned(retry_after)?),
        reset_after: Millis(unsigned(reset_after)?),
    })
}
