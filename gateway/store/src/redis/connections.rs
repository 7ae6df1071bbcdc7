//! The connections to Redis, with a bound on the calls that wait and on their time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use redis::{Cmd, Pipeline, Value};
use tokio::{
    sync::{Notify, Semaphore, SemaphorePermit, watch},
    time::{Instant, timeout},
};

use super::{
    call_error::CallError,
    cluster::Cluster,
    commands::KeyedCommand,
    deadline::CallDeadline,
    dial::Dialer,
    node::Node,
    reconnect::LinkOptions,
    sentinel,
    task::Task,
    tls::TlsError,
    topology::{RedisOptions, Topology},
};
use crate::{error::StoreError, redis_error::RedisErrorKind};

/// Longest wait for the first connections. A start without Redis takes this much longer, so that a
/// start with Redis does not refuse its first requests.
const WARM_UP_TIMEOUT: Duration = Duration::from_millis(500);

/// The connections to one topology, which background tasks replace.
#[derive(Debug)]
pub(super) struct Connections {
    servers: Servers,
    links: Arc<LinkOptions>,
    /// One permit for each command that may wait for an answer. Further commands are refused at
    /// once, because they would only wait for their timeout.
    backlog: Semaphore,
    max_backlog: usize,
    /// Longest wait for the answers to a call, with all redirections.
    timeout: Duration,
}

#[derive(Debug)]
enum Servers {
    One {
        node: Node,
        /// Reads the address of the primary, where Sentinels name it.
        _sentinels: Option<Task>,
    },
    Many(Cluster),
}

impl Connections {
    /// Starts to connect. `probe` is a call that changes nothing.
    pub(super) fn open(
        topology: Topology,
        options: RedisOptions,
        probe: Cmd,
    ) -> Result<Self, TlsError> {
        let RedisOptions { max_connections, max_backlog, timeout, tls } = options;
        let tls = topology.uses_tls().then_some(tls);
        let links = Arc::new(LinkOptions {
            dialer: Dialer::new(tls, timeout)?,
            answer_timeout: timeout,
            probe,
            primaries_only: matches!(topology, Topology::Sentinel(_)),
            lost: Notify::new(),
            connections: AtomicU64::new(0),
        });
        let servers = match topology {
            Topology::Standalone(server) => {
                let name = server.addr().to_string();
                // The sender is dropped on purpose: the address of the server never changes.
                let (_, address) = watch::channel(Some(*server));
                let node = Node::start(name, address, Arc::clone(&links), max_connections);
                Servers::One { node, _sentinels: None }
            }
            Topology::Sentinel(sentinels) => {
                let name = sentinels.primary_name.clone();
                let (address, task) = sentinel::start(*sentinels, Arc::clone(&links));
                let node = Node::start(name, address, Arc::clone(&links), max_connections);
                Servers::One { node, _sentinels: Some(task) }
            }
            Topology::Cluster(seeds) => {
                Servers::Many(Cluster::connect(seeds, max_connections, Arc::clone(&links)))
            }
        };
        let backlog = Semaphore::new(max_backlog);
        Ok(Self { servers, links, backlog, max_backlog, timeout })
    }

    /// Returns the number of connections that were made. Each new one can lead to another server.
    pub(super) fn made(&self) -> u64 {
        self.links.connections.load(Ordering::Relaxed)
    }

    /// Returns whether the keys are in the slots of a cluster.
    pub(super) fn is_cluster(&self) -> bool {
        matches!(self.servers, Servers::Many(_))
    }

    /// Waits for the first connections, at most [`WARM_UP_TIMEOUT`].
    pub(super) async fn warm_up(&self) {
        let all = async {
            match &self.servers {
                Servers::One { node, .. } => node.wait_until_live().await,
                Servers::Many(cluster) => cluster.wait_until_live().await,
            }
        };
        let _ = timeout(WARM_UP_TIMEOUT, all).await;
    }

    /// Sends a command once. The command is never repeated, because Redis may have counted a command
    /// whose answer is missing.
    ///
    /// # Errors
    ///
    /// When the backlog is full, which is reported; or the error of the call, which the caller
    /// reports.
    pub(super) async fn call(
        &self,
        command: KeyedCommand,
    ) -> Result<Result<Value, CallError>, StoreError> {
        let _permit = self.enter(1)?;
        let deadline = Instant::now() + self.timeout;
        Ok(match &self.servers {
            Servers::One { node, .. } => {
                let deadline = CallDeadline { at: deadline, is_first_attempt: true };
                let answer = node.send(&command.command, deadline).await;
                answer.and_then(|value| value.extract_error().map_err(CallError::Redis))
            }
            // A redirected call has a larger future than one to a single server.
            Servers::Many(cluster) => Box::pin(cluster.send(command, deadline)).await,
        })
    }

    /// Sends a command as [`Self::call`] does, and reports all errors.
    pub(super) async fn send(&self, command: KeyedCommand) -> Result<Value, StoreError> {
        self.call(command).await?.map_err(CallError::report)
    }

    /// Sends commands in one pipeline to each server that has some of their keys, each command once.
    /// Answers in the order of the commands. All commands count against the backlog, which refuses
    /// them together.
    ///
    /// # Errors
    ///
    /// As [`Self::call`].
    pub(super) async fn call_all(
        &self,
        commands: Vec<KeyedCommand>,
    ) -> Result<Vec<Result<Value, CallError>>, StoreError> {
        let _permit = self.enter(commands.len())?;
        let deadline = Instant::now() + self.timeout;
        Ok(match &self.servers {
            Servers::One { node, .. } => send_all(node, commands, deadline).await,
            Servers::Many(cluster) => Box::pin(cluster.send_all(commands, deadline)).await,
        })
    }

    /// Takes `count` permits of the backlog. More commands than the backlog has permits take all of
    /// them, because they would otherwise be refused however fast Redis is.
    fn enter(&self, count: usize) -> Result<SemaphorePermit<'_>, StoreError> {
        let permits = u32::try_from(count.min(self.max_backlog)).unwrap_or(u32::MAX);
        let permit = self.backlog.try_acquire_many(permits);
        permit.map_err(|_| RedisErrorKind::Overloaded.report())
    }
}

/// Sends commands to one server in one pipeline.
async fn send_all(
    node: &Node,
    commands: Vec<KeyedCommand>,
    deadline: Instant,
) -> Vec<Result<Value, CallError>> {
    let count = commands.len();
    let mut pipeline = Pipeline::with_capacity(count);
    for KeyedCommand { command, .. } in commands {
        pipeline.add_command(command);
    }
    let deadline = CallDeadline { at: deadline, is_first_attempt: true };
    match node.send_all(&pipeline, deadline).await {
        Ok(answers) => {
            let answers = answers.into_iter().map(Value::extract_error);
            answers.map(|answer| answer.map_err(CallError::Redis)).collect()
        }
        Err(error) => vec![Err(error); count],
    }
}
