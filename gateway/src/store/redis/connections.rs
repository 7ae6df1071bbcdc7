//! The connections to Redis: which one a command takes, and how many commands may wait.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use redis::{Client, Pipeline, ProtocolVersion, RedisError, Value};
use tokio::{sync::Semaphore, time::timeout};

use super::{
    KeyedCommand, RedisOptions, Topology,
    link::{Link, LiveLink},
};
use crate::{
    store::{
        StoreError,
        outage::{Outage, explain},
    },
    telemetry::{RedisCall, RedisNode},
};

/// More connections than this make nothing faster: each carries many commands at once, and Redis
/// runs one command at a time.
const MAX_LINKS: usize = 4;

/// Longest wait for the first connections. A start without Redis takes this much longer, and a
/// start with Redis never refuses its first requests.
const WARM_UP: Duration = Duration::from_millis(500);

/// Connections that are kept up in the background.
#[derive(Debug)]
pub(super) struct Connections {
    links: Vec<Link>,
    /// Which link has the next turn.
    turn: AtomicUsize,
    /// A permit for each command that may wait for an answer. What comes on top is refused at
    /// once, since it would only wait to time out.
    backlog: Semaphore,
}

impl Connections {
    pub(super) fn open(topology: Topology, options: RedisOptions) -> Result<Self, RedisError> {
        // Fails only when there is a provider already, which does as well.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let Topology::Standalone(connection) = topology;
        // Only RESP3 connections tell when they are closed while idle.
        let login = connection.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        let client = Client::open(connection.set_redis_settings(login))?;
        let node = RedisNode::new(&client.get_connection_info().addr().to_string());
        let count = options.max_connections.min(MAX_LINKS);
        let keep = |number| {
            Link::keep(number, client.clone(), options.timeout, options.max_backlog, node.clone())
        };
        Ok(Self {
            links: (1..=count).map(keep).collect(),
            turn: AtomicUsize::new(0),
            backlog: Semaphore::new(options.max_backlog),
        })
    }

    /// Waits for the first connections, but not for long.
    pub(super) async fn warm_up(&self) {
        let all = async {
            for link in &self.links {
                link.wait_until_live().await;
            }
        };
        let _ = timeout(WARM_UP, all).await;
    }

    /// Sends a command once. It is never repeated: one that timed out may have counted.
    pub(super) async fn send(&self, command: KeyedCommand) -> Result<Value, StoreError> {
        let Ok(_permit) = self.backlog.try_acquire() else {
            return Err(Outage::Overloaded.report());
        };
        let mut link = self.next_link().ok_or_else(|| Outage::Disconnected.report())?;
        let _call = RedisCall::start(1);
        let answer = command.command.query_async(&mut link.connection).await;
        answer.map_err(|error| link.fault(&error))
    }

    /// Sends commands in one pipeline, each of them once, and gives their answers in order. All
    /// count against the backlog, and are refused together when they do not fit into it.
    pub(super) async fn send_all(
        &self,
        commands: Vec<KeyedCommand>,
    ) -> Vec<Result<Value, StoreError>> {
        let count = commands.len();
        let permits = u32::try_from(count).map(|count| self.backlog.try_acquire_many(count));
        let Ok(Ok(_permits)) = permits else {
            return vec![Err(Outage::Overloaded.report()); count];
        };
        let Some(mut link) = self.next_link() else {
            return vec![Err(Outage::Disconnected.report()); count];
        };
        let _call = RedisCall::start(count);
        let mut pipeline = Pipeline::with_capacity(count);
        for KeyedCommand { command, .. } in commands {
            pipeline.add_command(command);
        }
        match link.connection.send_packed_commands(&pipeline, 0, count).await {
            Ok(answers) => {
                let answer = |value: Value| value.extract_error().map_err(|error| explain(&error));
                answers.into_iter().map(answer).collect()
            }
            Err(error) => vec![Err(link.fault(&error)); count],
        }
    }

    /// The next live link in turn.
    fn next_link(&self) -> Option<LiveLink> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % self.links.len();
        let (before, from) = self.links.split_at(turn);
        from.iter().chain(before).find_map(Link::live)
    }
}
