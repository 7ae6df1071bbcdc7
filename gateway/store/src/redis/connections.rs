//! The connections to Redis: where commands are sent, how many may wait, and for how long.

use std::{sync::Arc, time::Duration};

use redis::{Cmd, Pipeline, Value};
use tokio::{
    sync::{Notify, Semaphore, SemaphorePermit, watch},
    time::{Instant, timeout},
};

use super::{
    KeyedCommand,
    call_error::CallError,
    cluster::Cluster,
    deadline::CallDeadline,
    dial::Dialer,
    keeper::Upkeep,
    sentinel,
    server::Server,
    task::Task,
    tls::TlsError,
    topology::{RedisOptions, Topology},
};
use crate::{StoreError, redis_error::RedisErrorKind};

/// Longest wait for the first connections. A start without Redis takes this much longer, and a
/// start with Redis never refuses its first requests.
const WARM_UP: Duration = Duration::from_millis(500);

/// Connections that are kept up in the background.
#[derive(Debug)]
pub(super) struct Connections {
    servers: Servers,
    /// A permit for each command that may wait for an answer. What comes on top is refused at
    /// once, since it would only wait to time out.
    backlog: Semaphore,
    max_backlog: usize,
    /// Longest wait for all answers to a call, wherever it is sent on to.
    timeout: Duration,
}

#[derive(Debug)]
enum Servers {
    One {
        server: Server,
        /// Asks where the server is, if it is not always the same one.
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
        let upkeep = Arc::new(Upkeep {
            dialer: Dialer::new(tls, timeout, max_backlog)?,
            answer_timeout: timeout,
            probe,
            primaries_only: matches!(topology, Topology::Sentinel(_)),
            lost: Notify::new(),
        });
        let servers = match topology {
            Topology::Standalone(server) => {
                let node = server.addr().to_string();
                // The sender goes: the server stays where it is.
                let (_, whereabouts) = watch::channel(Some(*server));
                let server = Server::keep(node, whereabouts, upkeep, max_connections);
                Servers::One { server, _sentinels: None }
            }
            Topology::Sentinel(sentinels) => {
                let node = sentinels.primary_name.clone();
                let (whereabouts, task) = sentinel::follow(*sentinels, Arc::clone(&upkeep));
                let server = Server::keep(node, whereabouts, upkeep, max_connections);
                Servers::One { server, _sentinels: Some(task) }
            }
            Topology::Cluster(seeds) => {
                Servers::Many(Cluster::connect(seeds, max_connections, upkeep))
            }
        };
        Ok(Self { servers, backlog: Semaphore::new(max_backlog), max_backlog, timeout })
    }

    /// Waits for the first connections, but not for long.
    pub(super) async fn warm_up(&self) {
        let all = async {
            match &self.servers {
                Servers::One { server, .. } => server.wait_until_live().await,
                Servers::Many(cluster) => cluster.wait_until_live().await,
            }
        };
        let _ = timeout(WARM_UP, all).await;
    }

    /// Sends a command once. It is never repeated: one that timed out may have counted.
    pub(super) async fn send(&self, command: KeyedCommand) -> Result<Value, StoreError> {
        let mut answers = self.send_all(vec![command]).await;
        answers.pop().unwrap_or_else(|| Err(RedisErrorKind::Unexpected.report()))
    }

    /// Sends commands in one pipeline to each server that has keys of theirs, each of them once,
    /// and gives their answers in order. All count against the backlog, and are refused together
    /// when they do not fit into it.
    pub(super) async fn send_all(
        &self,
        commands: Vec<KeyedCommand>,
    ) -> Vec<Result<Value, StoreError>> {
        let count = commands.len();
        match self.call_all(commands).await {
            Ok(answers) => {
                let explained = |answer: Result<_, _>| answer.map_err(CallError::report);
                answers.into_iter().map(explained).collect()
            }
            Err(error) => vec![Err(error); count],
        }
    }

    /// Does what [`Self::send_all`] does, and leaves it to its caller to report errors.
    ///
    /// # Errors
    ///
    /// When the commands do not fit into the backlog.
    pub(super) async fn call_all(
        &self,
        commands: Vec<KeyedCommand>,
    ) -> Result<Vec<Result<Value, CallError>>, StoreError> {
        let Some(_waiting) = self.enter(commands.len()) else {
            return Err(RedisErrorKind::Overloaded.report());
        };
        let deadline = Instant::now() + self.timeout;
        Ok(match &self.servers {
            Servers::One { server, .. } => call_all(server, commands, deadline).await,
            Servers::Many(cluster) => cluster.call_all(commands, deadline).await,
        })
    }

    /// Takes so many places in the backlog, if there are. Commands that never fit take all of it:
    /// they would otherwise be refused however quick Redis is.
    fn enter(&self, count: usize) -> Option<SemaphorePermit<'_>> {
        let places = count.min(self.max_backlog);
        self.backlog.try_acquire_many(u32::try_from(places).ok()?).ok()
    }
}

async fn call_all(
    server: &Server,
    commands: Vec<KeyedCommand>,
    deadline: Instant,
) -> Vec<Result<Value, CallError>> {
    let count = commands.len();
    let mut pipeline = Pipeline::with_capacity(count);
    for KeyedCommand { command, .. } in commands {
        pipeline.add_command(command);
    }
    match server.call(&pipeline, CallDeadline { at: deadline, is_first_attempt: true }).await {
        Ok(answers) => {
            let answers = answers.into_iter().map(Value::extract_error);
            answers.map(|answer| answer.map_err(CallError::Redis)).collect()
        }
        Err(error) => vec![Err(error); count],
    }
}
